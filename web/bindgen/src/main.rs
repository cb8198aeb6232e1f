//! `seghead-web-bindgen FILE.wasm DIR`: writes the wasm file, and the JavaScript module that loads it, into the folder.
//!
//! It stands in for the command `wasm-bindgen`, which must have the very version of the library that the wasm file was
//! compiled with: as a member of this workspace it has, by `Cargo.lock`.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [input, folder] = arguments.as_slice() else {
        eprintln!("seghead-web-bindgen: expected FILE.wasm DIR, found {arguments:?}");
        return ExitCode::FAILURE;
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).typescript(false).omit_default_module_path(false);
    bindgen.remove_name_section(true).remove_producers_section(true);
    match bindgen.web(true).and_then(|bindgen| bindgen.generate(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seghead-web-bindgen: {input}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
