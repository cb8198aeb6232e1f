//! What the page in `web/page/` calls: the library on the visitor's GPU, drawn to its canvases.

#![cfg(target_family = "wasm")]

mod objects;
mod painter;
mod pixel;
mod scene;
mod tensor;
mod view;

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
}

/// A panic ends in a bare trap; this says in the console what it was.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
