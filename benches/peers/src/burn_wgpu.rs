//! burn with its wgpu backend, on the adapter that wgpu chooses.

use burn::backend::Wgpu;
use burn::backend::wgpu::WgpuDevice;
use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Request;

pub fn answer(request: &Request) -> Option<Vec<f64>> {
    let device = WgpuDevice::default();
    let [classes, height, width] = request.shape;
    let data = TensorData::new(request.logits(), [1, classes, height, width]);
    let x = Tensor::<Wgpu, 4>::from_data(data, &device);
    let targets: Vec<i32> = request.targets().into_iter().map(|target| target as i32).collect();
    let targets = Tensor::<Wgpu, 4, Int>::from_data(TensorData::new(targets, [1, 1, height, width]), &device);
    let upsampled = || interpolate(x.clone(), request.size, InterpolateOptions::new(InterpolateMode::Bilinear));
    let ran = |work: &dyn Fn()| {
        Some(request.measure(|| {
            work();
            <Wgpu as Backend>::sync(&device).expect("the device has finished");
        }))
    };
    match request.operator.as_str() {
        "softmax" => ran(&|| drop(softmax(x.clone(), 1))),
        "log-softmax" => ran(&|| drop(log_softmax(x.clone(), 1))),
        "softmax-height" => ran(&|| drop(softmax(x.clone(), 2))),
        "softmax-width" => ran(&|| drop(softmax(x.clone(), 3))),
        "sigmoid" => ran(&|| drop(sigmoid(x.clone()))),
        "argmax" => ran(&|| drop(x.clone().argmax(1))),
        "argmax-confidence" => ran(&|| drop(softmax(x.clone(), 1).max_dim_with_indices(1))),
        "cross-entropy" => ran(&|| drop(log_softmax(x.clone(), 1).gather(1, targets.clone()).mean().neg())),
        "segment" => ran(&|| drop(upsampled().argmax(1))),
        "segment-confidence" => ran(&|| drop(softmax(upsampled(), 1).max_dim_with_indices(1))),
        _ => None,
    }
}
