//! Devices with the limits that the library asks for, and no others.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{
    Activation, Argmax, Axis, BinaryCrossEntropy, CrossEntropy, Gpu, GpuOptions, Inspect, Interpolate, Labels, Logits,
    MaskFormat, MultiLabel, Outputs, Segment, Sigmoid, Softmax, SpecialisedKernel, TopK, reference,
};

/// Every operator does on the least device what it does on another, with the same bits.
#[test]
fn required_limits_are_enough() {
    let least = watched_gpu(Gpu::required_limits());
    for (classes, seed) in [(3, 1), (30, 2)] {
        let shape = Logits::nchw(2, classes, 9, 13).unwrap();
        let data = Random::new(seed).logits(&shape);
        let labels: Vec<u8> = (0..2 * 9 * 13).map(|i| (i % classes) as u8).collect();
        let probabilities: Vec<f32> = data.iter().map(|x| x.abs() / 40.0).collect();
        let [one, other] = [&least, default_limits_gpu()].map(|gpu| {
            let mut bits = Vec::new();
            for axis in [Axis::Class, Axis::Height, Axis::Width] {
                bits.push(Softmax::new().axis(axis).run_blocking(gpu, &shape, &data).unwrap());
            }
            bits.push(Sigmoid::new().run_blocking(gpu, &shape, &data).unwrap());
            let interpolate = Interpolate::new(20, 17).activation(Activation::Softmax);
            bits.push(interpolate.run_blocking(gpu, &shape, &data).unwrap());
            let operator = CrossEntropy::new().per_pixel(true).class_weights(Some(vec![0.5; classes as usize]));
            let operator = operator.gradient(true);
            let loss = operator.run_blocking(gpu, &shape, &data, &labels).unwrap();
            bits.extend([vec![loss.value], loss.per_pixel.unwrap(), loss.gradient.unwrap()]);
            let loss = operator.run_soft_blocking(gpu, &shape, &data, &probabilities).unwrap();
            bits.extend([vec![loss.value], loss.gradient.unwrap()]);
            let operator = BinaryCrossEntropy::new().gradient(true);
            let loss = operator.run_blocking(gpu, &shape, &data, &probabilities).unwrap();
            bits.extend([vec![loss.value], loss.gradient.unwrap()]);
            let bits: Vec<_> = bits.into_iter().map(|numbers| common::bits(&numbers)).collect();
            let argmax = Argmax::new().confidence(true).margin(true).entropy(true);
            let segment = Segment::new(27, 31).confidence(true).margin(true).entropy(true);
            let segmentations =
                [argmax.run_blocking(gpu, &shape, &data).unwrap(), segment.run_blocking(gpu, &shape, &data).unwrap()];
            let top = TopK::new(3).probabilities(true).run_blocking(gpu, &shape, &data).unwrap();
            let masks = [MaskFormat::Bits, MaskFormat::Bytes]
                .map(|format| MultiLabel::new().format(format).run_blocking(gpu, &shape, &data).unwrap());
            let inspection = Inspect::new().run_blocking(gpu, &shape, &data).unwrap();
            // Its roughness is that of a sample, which is as large as the device allows.
            let sums = [Axis::Class, Axis::Height, Axis::Width].map(|axis| inspection.sums(axis));
            let inspection = (&inspection.classes, sums);
            (bits, segmentations, format!("{top:?} {masks:?} {inspection:?}"))
        });
        // Not assert_eq: the message would be long.
        let equal = [one.0 == other.0, one.1 == other.1, one.2 == other.2];
        assert_eq!(equal, [true; 3], "{classes} classes: floats, segmentations, the rest");
        let expected = reference::argmax(&shape, &data).into_iter().map(|label| label as u8).collect();
        assert_eq!(one.1[0].labels, Labels::U8(expected));
    }
}

/// Bindings of logits in all steps of a dispatch for argmax.
fn bindings(gpu: &Gpu, shape: &Logits) -> usize {
    let (input, labels) =
        (buffer(gpu, shape.bytes(), BufferUsages::STORAGE), buffer(gpu, shape.map().bytes(8), BufferUsages::STORAGE));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding());
    let kernels = Argmax::new().dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap().kernels();
    let of_step = |one: &SpecialisedKernel| if one.specialisation.contains("halves") { 2 } else { 1 };
    kernels.iter().map(of_step).sum()
}

#[test]
fn recommended_limits_bind_the_logits_whole() {
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default())).unwrap()[0];
    let small = Logits::chw(3, 57, 60).unwrap();
    let buffers = wgpu::Limits { max_buffer_size: 1 << 20, ..Gpu::required_limits() };
    assert!(bindings(&watched_gpu(buffers), &small) > 1, "40 KiB in bindings of 16");
    assert_eq!(bindings(&watched_gpu(Gpu::recommended_limits(adapter, &small)), &small), 1);

    // 135 MiB: more than WebGPU's defaults, if the adapter has more.
    let large = Logits::chw(21, 1300, 1300).unwrap();
    let limits = Gpu::recommended_limits(adapter, &large);
    let has = adapter.limits();
    let binding = large.bytes().min(has.max_storage_buffer_binding_size);
    assert_eq!(limits.max_storage_buffer_binding_size, binding);
    assert!(limits.check_limits(&has));
    let one_binding = bindings(&watched_gpu(limits), &large) == 1;
    assert_eq!(
        one_binding,
        binding == large.bytes(),
        "bindings of {} on this adapter",
        has.max_storage_buffer_binding_size
    );
}
