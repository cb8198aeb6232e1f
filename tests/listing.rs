//! The lists of kernels: what a dispatch runs is in the table, under the name that it has there.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use seghead::{Access, Argmax, Gpu, Logits, Outputs, Sigmoid, Softmax, SpecialisedKernel};

fn names(kernels: &[SpecialisedKernel]) -> Vec<String> {
    kernels.iter().map(ToString::to_string).collect()
}

fn argmax(gpu: &Gpu, shape: Logits) -> Vec<SpecialisedKernel> {
    let (input, labels) = (output(gpu, shape.bytes()), output(gpu, shape.map().bytes(8)));
    let confidence = output(gpu, shape.map().bytes(32));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    Argmax::new().dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap().kernels()
}

#[test]
fn a_dispatch_names_its_kernels() {
    let gpu = default_limits_gpu();
    assert_eq!(gpu.access(), Access::Vec4);
    let in_fours = argmax(gpu, Logits::chw(5, 1, 8).unwrap());
    assert_eq!(names(&in_fours), ["argmax (vec4, f32, u8, 5 classes, confidence)"]);
    let anywhere = argmax(gpu, Logits::chw(30, 1, 7).unwrap().f16());
    assert_eq!(names(&anywhere), ["argmax (scalar, f16, u8, confidence)"]);

    let shape = Logits::chw(30, 1, 8).unwrap();
    let (input, out) = (output(gpu, shape.bytes()), output(gpu, shape.bytes()));
    let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    let softmax = Softmax::new().log(true).dispatch(gpu, &shape, from.clone(), to.clone()).unwrap();
    assert_eq!(names(&softmax.kernels()), ["softmax statistics (vec4, f32, log)", "softmax apply (vec4, f32, log)"]);
    let sigmoid = Sigmoid::new().dispatch(gpu, &shape, from, to).unwrap().kernels();
    for (classes, kernels) in [(5, in_fours), (30, anywhere), (30, softmax.kernels()), (7, sigmoid)] {
        assert!(kernels.iter().all(|one| gpu.kernels(classes).contains(one)), "{kernels:?}");
    }
}

#[test]
fn the_table_is_that_of_the_device() {
    for gpu in [gpu(), default_limits_gpu()] {
        let taken = format!("{:?}", gpu.access()).to_lowercase();
        let all = gpu.kernels(30);
        let of_argmax = all.iter().filter(|one| one.kernel == "argmax");
        let (fours, scalar): (Vec<_>, Vec<_>) = of_argmax.partition(|one| one.specialisation.starts_with(&taken));
        // Whole images and images in halves.
        assert_eq!(fours.len(), 2 * scalar.len());
        assert!(scalar.iter().all(|one| one.specialisation.starts_with("scalar")), "{scalar:?}");
        assert!(all.iter().any(|one| one.to_string() == "loss finish"));
    }
}
