//! Every operator against its f64 twin in a browser.

#![cfg(target_family = "wasm")]
