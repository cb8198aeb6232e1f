//! Soft masks of one class, in buffers and in textures, against the reference.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, TextureFormat, TextureUsages};
use seghead::{Activation, ElementType, Error, Gpu, Logits, Resize, SoftMask, reference};

/// Rounded to what halves hold where the shape has them.
fn logits(shape: &Logits, seed: u64) -> Vec<f32> {
    let data = Random::new(seed).logits(shape);
    match shape.element_type() {
        ElementType::F16 => data.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
        _ => data,
    }
}

fn run(gpu: &Gpu, operator: &SoftMask, shape: &Logits, data: &[f32]) -> Vec<u8> {
    let map = operator.map(shape).unwrap();
    let (input, mask) = (upload_laid(gpu, shape, data), output(gpu, map.bytes(8)));
    let (from, to) = (input.as_entire_buffer_binding(), mask.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, shape, from, to).unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &[&mask]);
    unpad_map(&map, &recorder.finish().next().unwrap())
}

/// Half a level, and what f32 makes of the probability: logits below 20, so that a difference of interpolated ones is
/// within 300 U, the exponential as much of itself, and the sum of up to 30 of them again.
#[track_caller]
fn assert_mask(what: &str, got: &[u8], p: &[f64]) {
    assert_eq!(got.len(), p.len(), "{what}");
    for (i, (&got, &p)) in got.iter().zip(p).enumerate() {
        let expected = if p.is_nan() { 0.0 } else { 255.0 * p };
        let tolerance = 0.5 + 255.0 * 700.0 * U;
        assert!((f64::from(got) - expected).abs() <= tolerance, "{what}[{i}]: {got}, expected {expected}");
    }
}

fn operators(classes: u32, height: u32, width: u32) -> Vec<SoftMask> {
    let mut all = vec![SoftMask::of_best(height, width)];
    all.extend([0, classes / 2, classes - 1].map(|class| SoftMask::new(height, width, class)));
    all.into_iter().flat_map(|one| [one, one.activation(Activation::Sigmoid)]).collect()
}

#[test]
fn awkward_sizes() {
    let gpu = default_limits_gpu();
    for classes in [1, 2, 5, 30] {
        let nchw = |n, h, w| Logits::nchw(n, classes, h, w).unwrap();
        let shapes = [
            (nchw(1, 1, 1), (1, 1)),
            (nchw(1, 3, 5), (17, 13)),
            (nchw(2, 4, 4), (16, 19)),
            (nchw(1, 6, 7).f16(), (6, 7)),
            (nchw(1, 9, 8), (5, 4)),
            (Logits::nhwc(2, 5, 6, classes).unwrap(), (8, 9)),
            (nchw(2, 9, 9).crop(1, 2, 5, 6).unwrap(), (11, 12)),
        ];
        for (seed, (shape, (height, width))) in (0..).zip(shapes) {
            let data = logits(&shape, seed);
            for resize in [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric] {
                for operator in operators(classes, height, width) {
                    let operator = operator.resize(resize);
                    let got = run(gpu, &operator, &shape, &data);
                    let expected = reference::soft_mask(&operator, &packed(&shape), &data).unwrap();
                    assert_mask(&format!("{operator:?} {shape:?}"), &got, &expected);
                }
            }
        }
    }
}

#[test]
fn special_values() {
    let gpu = default_limits_gpu();
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 200.0, -200.0] {
        let shape = Logits::chw(3, 6, 6).unwrap();
        let mut data = logits(&shape, 4);
        data[36 + 14] = special;
        for operator in operators(3, 23, 24) {
            let got = run(gpu, &operator, &shape, &data);
            let expected = reference::soft_mask(&operator, &shape, &data).unwrap();
            assert_mask(&format!("{special} {operator:?}"), &got, &expected);
        }
    }
}

/// A device that cannot bind all of the logits, or of the mask.
#[test]
fn in_parts() {
    let gpu = watched_gpu(wgpu::Limits { max_storage_buffer_binding_size: 16 << 10, ..wgpu::Limits::defaults() });
    for (shape, size) in
        [(Logits::nchw(2, 6, 40, 50).unwrap(), (83, 97)), (Logits::chw(3, 20, 20).unwrap(), (200, 130))]
    {
        let data = logits(&shape, 5);
        for operator in operators(shape.classes(), size.0, size.1) {
            let got = run(&gpu, &operator, &shape, &data);
            let expected = reference::soft_mask(&operator, &shape, &data).unwrap();
            assert_mask(&format!("{operator:?}"), &got, &expected);
        }
    }
}

/// The texture has the bytes of the buffer, whatever its width; ten frames, each of other logits.
#[test]
fn textures() {
    let gpu = watched_gpu(wgpu::Limits::defaults());
    for (width, height) in [(1, 1), (13, 7), (256, 3), (257, 2)] {
        let shape = Logits::chw(4, 3, 5).unwrap();
        let usage = TextureUsages::COPY_DST | TextureUsages::COPY_SRC;
        let mask = texture(&gpu, [width, height], TextureFormat::R8Unorm, usage);
        let input = upload(&gpu, &shape, &logits(&shape, 0));
        let operator = SoftMask::new(height, width, 2);
        let dispatch = operator.dispatch_to_texture(&gpu, &shape, input.as_entire_buffer_binding(), &mask).unwrap();
        for frame in 0..10 {
            let data = logits(&shape, frame);
            gpu.queue().write_buffer(&input, 0, bytemuck::cast_slice(&data));
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue().submit([encoder.finish()]);
            assert_eq!(read_texture(&gpu, &mask, 1), run(&gpu, &operator, &shape, &data), "{width}, frame {frame}");
        }
    }
}

#[test]
fn bad_use() {
    let [gpu, other] = two_gpus();
    let shape = Logits::chw(3, 4, 4).unwrap();
    let (input, out) = (upload(&gpu, &shape, &[0.0; 48]), output(&gpu, 64));
    let from = || input.as_entire_buffer_binding();
    let error = |operator: SoftMask| {
        operator.dispatch(&gpu, &shape, from(), out.as_entire_buffer_binding()).unwrap_err().to_string()
    };
    assert_eq!(error(SoftMask::new(8, 8, 3)), "class: expected one below 3, found 3");
    let found = error(SoftMask::new(8, 8, 0).activation(Activation::None));
    assert_eq!(found, "activation of soft mask: expected softmax or sigmoid, found none");
    assert_eq!(error(SoftMask::new(8, 9, 0)), "buffer of mask: 96 bytes needed from offset 0, found 64");
    assert_eq!(error(SoftMask::new(0, 9, 0)), "height: expected at least 1, found 0");

    let to = |of: &Gpu, size, format, usage, shape: &Logits| {
        let mask = texture(of, size, format, usage);
        SoftMask::new(8, 8, 0).dispatch_to_texture(&gpu, shape, from(), &mask).map(drop)
    };
    let (r8, copy) = (TextureFormat::R8Unorm, TextureUsages::COPY_DST);
    to(&gpu, [8, 8], r8, copy, &shape).unwrap();
    let found = to(&gpu, [8, 8], r8, TextureUsages::TEXTURE_BINDING, &shape).unwrap_err();
    assert!(matches!(found, Error::TextureUsage { what: "mask", .. }), "{found}");
    let found = to(&gpu, [8, 8], TextureFormat::Rgba8Unorm, copy, &shape).unwrap_err();
    assert!(matches!(found, Error::TextureFormat { what: "mask", .. }), "{found}");
    let found = to(&gpu, [8, 9], r8, copy, &shape).unwrap_err();
    assert!(matches!(found, Error::TextureSize { expected: [8, 8], found: [8, 9], .. }), "{found}");
    let found = to(&gpu, [8, 8], r8, copy, &Logits::nchw(2, 3, 2, 2).unwrap()).unwrap_err();
    assert!(matches!(found, Error::Limit { needed: 2, limit: 1, .. }), "{found}");
    let found = to(&other, [8, 8], r8, copy, &shape).unwrap_err();
    assert!(matches!(found, Error::OtherDevice { .. }) && found.to_string().lines().count() == 1, "{found}");
}
