//! Whether the browser's own compiler takes every kernel in every specialisation: another one than that of native wgpu.

use seghead::{Gpu, wgpu};

use crate::found::Found;

pub async fn check(gpu: &Gpu, found: &mut Found, classes: u32) {
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
    gpu.compile(classes);
    let error = scope.pop().await;
    found.compared += gpu.kernels(classes).len();
    found.failures.extend(error.map(|error| error.to_string()));
}
