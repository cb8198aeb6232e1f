//! Every operator against its f64 twin in a browser, through the same functions that native programs call.

#![cfg(target_family = "wasm")]

mod compile;
mod counts;
mod found;
mod inputs;
mod losses;
mod maps;
mod pictures;
mod tensors;

use js_sys::{Array, Object, Reflect};
use seghead::{Gpu, GpuOptions};
use wasm_bindgen::prelude::*;

use crate::found::Found;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
}

#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}

/// The GPU that checks run on.
#[wasm_bindgen]
pub struct Checks {
    gpu: Gpu,
}

#[wasm_bindgen]
impl Checks {
    /// Opens a device as any program does, with [`Gpu::headless`].
    pub async fn open() -> Result<Checks, JsError> {
        Ok(Self { gpu: Gpu::headless(&GpuOptions::default()).await? })
    }

    /// The names of all checks.
    pub fn names() -> Array {
        let names =
            ["tensors", "special values", "maps", "losses", "counts", "pictures", "unrolled kernels", "kernels"];
        names.iter().map(|&name| JsValue::from(name)).collect()
    }

    /// Runs one: how many numbers it has compared, and what is wrong, a line each.
    pub async fn run(&self, name: String) -> Result<Object, JsError> {
        let (gpu, mut found) = (&self.gpu, Found::default());
        match name.as_str() {
            "tensors" => tensors::check(gpu, &mut found).await?,
            "special values" => tensors::check_special_values(gpu, &mut found).await?,
            "maps" => maps::check(gpu, &mut found).await?,
            "losses" => losses::check(gpu, &mut found).await?,
            "counts" => counts::check(gpu, &mut found).await?,
            "pictures" => pictures::check(gpu, &mut found).await?,
            "unrolled kernels" => compile::check(gpu, &mut found, 3).await,
            "kernels" => compile::check(gpu, &mut found, 30).await,
            other => return Err(JsError::new(&format!("no check {other:?}"))),
        }
        let result = Object::new();
        let failures: Array = found.failures.iter().map(JsValue::from).collect();
        for (name, value) in [("compared", JsValue::from(found.compared as f64)), ("failures", failures.into())] {
            // Fails for what is no object.
            let _ = Reflect::set(&result, &name.into(), &value);
        }
        Ok(result)
    }
}
