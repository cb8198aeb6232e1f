//! The one-shot functions where a device is so small that everything is split into bands: bit for bit what a device
//! without such limits returns.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::{
    Argmax, Axis, CrossEntropy, Error, Gpu, Logits, Reduction, Resize, Segment, Sigmoid, Softmax, reference, wgpu,
};

/// Devices that bind at most `bytes` bytes of a buffer of at most twice that, as WebGPU's defaults have it.
fn small(bytes: u64) -> [Gpu; 2] {
    limited(bytes, 2 * bytes)
}

fn limited(max_storage_buffer_binding_size: u64, max_buffer_size: u64) -> [Gpu; 2] {
    either_transfer(wgpu::Limits {
        max_storage_buffer_binding_size,
        max_uniform_buffer_binding_size: max_storage_buffer_binding_size,
        max_buffer_size,
        ..wgpu::Limits::defaults()
    })
}

/// Two sizes that split every shape below, and the bits of both against the device at default limits.
const SIZES: [u64; 2] = [4096, 16384];

/// Batches, odd sizes, one row, one column; 3 and 30 classes, the two kinds of kernels.
fn shapes() -> Vec<Logits> {
    let shapes = [(1, 3, 37, 53), (3, 3, 16, 40), (2, 30, 9, 17), (1, 30, 1, 1025), (1, 3, 2051, 1)];
    let classes_first = shapes.into_iter().map(|(n, c, h, w)| Logits::nchw(n, c, h, w).unwrap());
    let classes_last = [(2, 37, 53, 3), (1, 19, 23, 30)].map(|(n, h, w, c)| Logits::nhwc(n, h, w, c).unwrap());
    classes_first.chain(classes_last).collect()
}

fn on_small(check: impl Fn(&Gpu, &Logits, &[f32])) {
    for bytes in SIZES {
        for gpu in small(bytes) {
            for shape in shapes() {
                assert!(shape.bytes() > bytes, "{shape:?} is not split");
                check(&gpu, &shape, &Random::new(bytes).logits(&shape));
            }
        }
    }
}

#[test]
fn softmax() {
    on_small(|gpu, shape, data| {
        for axis in [Axis::Class, Axis::Height, Axis::Width] {
            let operator = Softmax::new().axis(axis);
            // Four columns, or one row, that must stay together may be more than the device binds.
            let together = match axis {
                Axis::Class => 0,
                Axis::Height => 16 * shape.height(),
                Axis::Width => 4 * shape.width(),
            };
            let limit = gpu.device().limits().max_storage_buffer_binding_size;
            if u64::from(together) > limit {
                let error = operator.run_blocking(gpu, shape, data).unwrap_err();
                assert!(matches!(error, Error::Limit { .. }), "{error}");
                continue;
            }
            let got = operator.run_blocking(gpu, shape, data).unwrap();
            let expected = operator.run_blocking(default_limits_gpu(), shape, data).unwrap();
            assert_eq!(bits(&got), bits(&expected), "{axis:?} {shape:?}");
        }
    });
}

#[test]
fn sigmoid() {
    on_small(|gpu, shape, data| {
        let expected = Sigmoid::new().run_blocking(default_limits_gpu(), shape, data).unwrap();
        let got = Sigmoid::new().run_blocking(gpu, shape, data).unwrap();
        assert_eq!(bits(&got), bits(&expected), "{shape:?}");
    });
}

#[test]
fn argmax() {
    on_small(|gpu, shape, data| {
        let operator = Argmax::new().confidence(true);
        let expected = operator.run_blocking(default_limits_gpu(), shape, data).unwrap();
        assert_eq!(operator.run_blocking(gpu, shape, data).unwrap(), expected, "{shape:?}");
    });
}

/// A single class on a device that binds whole buffers: labels, confidence and losses are then as large as the logits,
/// and two of them are larger than a buffer.
#[test]
fn one_class() {
    let shape = Logits::chw(1, 50, 50).unwrap();
    let data = Random::new(1).logits(&shape);
    let (argmax, segment) = (Argmax::new().confidence(true), Segment::new(100, 100).confidence(true));
    let loss = CrossEntropy::new().per_pixel(true);
    for bytes in SIZES {
        let run = |gpu: &Gpu| {
            (
                argmax.run_blocking(gpu, &shape, &data).unwrap(),
                segment.run_blocking(gpu, &shape, &data).unwrap(),
                loss.run_blocking(gpu, &shape, &data, &[0u8; 2500]).unwrap().per_pixel,
            )
        };
        let expected = run(default_limits_gpu());
        for gpu in limited(bytes, bytes) {
            assert_eq!(run(&gpu), expected);
        }
    }
}

#[test]
fn cross_entropy() {
    on_small(|gpu, shape, data| {
        let mut random = Random::new(3);
        let targets: Vec<i64> = (0..shape.map().pixels())
            .map(|_| if random.below(4) == 0 { -100 } else { random.below(shape.classes()).into() })
            .collect();
        for (per_pixel, reduction) in [(true, Reduction::Sum), (true, Reduction::Mean), (false, Reduction::Mean)] {
            let operator = CrossEntropy::new().per_pixel(per_pixel).reduction(reduction);
            let expected = operator.run_blocking(default_limits_gpu(), shape, data, &targets).unwrap();
            let got = operator.run_blocking(gpu, shape, data, &targets).unwrap();
            assert_eq!(got.per_pixel.as_deref().map(bits), expected.per_pixel.as_deref().map(bits), "{shape:?}");
            assert_eq!((got.pixels, got.ignored), (expected.pixels, expected.ignored));
            let twin = reference::cross_entropy(shape, data, &targets, Some(-100), None, 0.0);
            let value = if reduction == Reduction::Sum { twin.sum() } else { twin.mean() };
            // All losses are positive. A loss of about 1 and more has a relative error of at most 60 U and the 2⁻²⁰
            // of its logarithm, the additions on the GPU 132 U; the mean of the losses is above 1.
            let tolerance = value * ((60.0 + 132.0 + 2.0) * U + (2f64).powi(-20));
            assert!((f64::from(got.value) - value).abs() <= tolerance, "{shape:?}: {} {value}", got.value);
        }
        // A wrong label in the last band.
        let position = targets.len() - 2;
        let mut wrong = targets.clone();
        wrong[position] = 5_000_000_000;
        let error = CrossEntropy::new().run_blocking(gpu, shape, data, &wrong).unwrap_err();
        let classes = shape.classes();
        assert!(
            matches!(error, Error::Label { position: p, label: 5_000_000_000, classes: c }
                if p == position as u64 && c == classes),
            "{error}"
        );
    });
}

#[test]
fn segment() {
    // images, classes, height, width; then the result: up, down, mixed, the same, axes of very different scale
    #[rustfmt::skip]
    let cases = [
        ((1, 3, 20, 30), (80, 120)),
        ((2, 3, 37, 53), (61, 99)),
        ((1, 3, 64, 48), (17, 90)),
        ((3, 10, 9, 11), (31, 7)),
        ((1, 3, 37, 53), (37, 53)),
        ((1, 3, 30, 40), (211, 41)),
        ((1, 3, 40, 30), (43, 231)),
        ((1, 10, 5, 16), (9, 700)),
    ];
    let mut differences = Vec::new();
    for (bytes, gpu) in SIZES.into_iter().flat_map(|bytes| small(bytes).map(|gpu| (bytes, gpu))) {
        for ((n, c, h, w), (height, width)) in cases {
            let shape = Logits::nchw(n, c, h, w).unwrap();
            let data = Random::new(bytes + u64::from(height)).logits(&shape);
            for resize in [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric] {
                let operator = Segment::new(height, width).resize(resize).confidence(true);
                let expected = operator.run_blocking(default_limits_gpu(), &shape, &data).unwrap();
                let got = operator.run_blocking(&gpu, &shape, &data).unwrap();
                let what = format!("{bytes} bytes, {shape:?} to {height} × {width}, {resize:?}");
                let labels = got.labels.iter().zip(expected.labels.iter()).filter(|(a, b)| a != b).count();
                let (got, expected) = (bits(&got.confidence.unwrap()), bits(&expected.confidence.unwrap()));
                assert_eq!(got.len(), expected.len(), "{what}");
                let confidences = got.iter().zip(&expected).filter(|(a, b)| a != b).count();
                if labels + confidences != 0 {
                    differences.push(format!("{what}: {labels} labels and {confidences} of {}", got.len()));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Where an axis shrinks, a row of the result reads two rows of logits: 2 · 1320 bytes here.
#[test]
fn two_rows_are_enough() {
    let shape = Logits::chw(30, 9, 11).unwrap();
    let data = Random::new(9).logits(&shape);
    let operator = Segment::new(31, 7);
    let expected = operator.run_blocking(default_limits_gpu(), &shape, &data).unwrap();
    for gpu in small(4096) {
        assert_eq!(operator.run_blocking(&gpu, &shape, &data).unwrap(), expected);
    }
}

/// What the operators split, they split no further than four pixels, or one row.
#[test]
fn too_small() {
    let [_, gpu] = small(4096);
    let limit = |error: Error, expected_needed: u64| {
        let Error::Limit { needed, limit, .. } = error else { panic!("{error}") };
        assert_eq!((needed, limit), (expected_needed, 4096), "{error}");
    };
    let shape = Logits::chw(300, 1, 1).unwrap(); // 300 · 4 pixels · 4 bytes
    let data = vec![0.0; 300];
    limit(Softmax::new().run_blocking(&gpu, &Logits::chw(300, 1, 5).unwrap(), &[0.0; 1500]).unwrap_err(), 4800);
    limit(Argmax::new().run_blocking(&gpu, &shape, &data).unwrap_err(), 4800);
    limit(CrossEntropy::new().run_blocking(&gpu, &shape, &data, &[0u8]).unwrap_err(), 4800);
    // Two rows of logits, 3 · 2 · 200 · 4 bytes.
    let shape = Logits::chw(3, 200, 200).unwrap();
    let error = Segment::new(400, 400).run_blocking(&gpu, &shape, &vec![0.0; 120_000]).unwrap_err();
    assert!(matches!(error, Error::Limit { needed: 4800.., limit: ..=4096, .. }), "{error}");
}

/// A device that allows few workgroups in one dimension, so that the grid goes on in the second.
#[test]
fn few_workgroups() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    let shape = Logits::chw(3, 70, 110).unwrap(); // 1925 groups of pixels are 16 workgroups
    let data = Random::new(5).logits(&shape);
    let targets: Vec<u8> = (0..7700).map(|i| (i % 3) as u8).collect();
    let run = |gpu: &Gpu| {
        (
            bits(&Softmax::new().run_blocking(gpu, &shape, &data).unwrap()),
            bits(&Sigmoid::new().run_blocking(gpu, &shape, &data).unwrap()),
            Argmax::new().run_blocking(gpu, &shape, &data).unwrap(),
            Segment::new(140, 150).run_blocking(gpu, &shape, &data).unwrap(),
            CrossEntropy::new().per_pixel(true).run_blocking(gpu, &shape, &data, &targets).unwrap(),
        )
    };
    assert_eq!(run(&few), run(default_limits_gpu()));
}

/// The limit of a binding below half of that of a buffer.
#[test]
fn small_bindings_of_large_buffers() {
    let shape = Logits::chw(3, 37, 53).unwrap();
    let data = Random::new(2).logits(&shape);
    let run = |gpu: &Gpu| {
        (
            bits(&Softmax::new().run_blocking(gpu, &shape, &data).unwrap()),
            Argmax::new().run_blocking(gpu, &shape, &data).unwrap(),
            Segment::new(74, 106).run_blocking(gpu, &shape, &data).unwrap(),
        )
    };
    for gpu in limited(4096, 1 << 20) {
        assert_eq!(run(&gpu), run(default_limits_gpu()));
    }
}

/// More images than the grid has workgroups in one dimension.
#[test]
fn more_images_than_workgroups() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    let shape = Logits::nchw(7, 3, 3, 5).unwrap();
    let data = Random::new(6).logits(&shape);
    let targets: Vec<u8> = (0..105).map(|i| (i % 3) as u8).collect();
    let run = |gpu: &Gpu| {
        (
            bits(&Softmax::new().run_blocking(gpu, &shape, &data).unwrap()),
            bits(&Sigmoid::new().run_blocking(gpu, &shape, &data).unwrap()),
            Argmax::new().run_blocking(gpu, &shape, &data).unwrap(),
            CrossEntropy::new().per_pixel(true).run_blocking(gpu, &shape, &data, &targets).unwrap().per_pixel,
        )
    };
    assert_eq!(run(&few), run(default_limits_gpu()));
}

#[test]
fn more_images_than_workgroups_segment() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    let shape = Logits::nchw(7, 3, 3, 5).unwrap();
    let data = Random::new(6).logits(&shape);
    let run = |gpu: &Gpu| Segment::new(6, 10).run_blocking(gpu, &shape, &data).unwrap();
    assert_eq!(run(&few), run(default_limits_gpu()));
}

/// 40 images of 128 partial sums each: 5120, 80, 2.
#[test]
fn two_rounds_of_partial_sums() {
    let shape = Logits::nchw(40, 3, 1, 5).unwrap();
    let data = Random::new(10).logits(&shape);
    let mut targets: Vec<i64> = (0..200).map(|i| if i % 7 == 0 { -100 } else { i % 3 }).collect();
    for gpu in [gpu(), default_limits_gpu()] {
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let loss = CrossEntropy::new().reduction(reduction).run_blocking(gpu, &shape, &data, &targets).unwrap();
            let twin = reference::cross_entropy(&shape, &data, &targets, Some(-100), None, 0.0);
            let value = if reduction == Reduction::Sum { twin.sum() } else { twin.mean() };
            assert!((f64::from(loss.value) - value).abs() <= value * 1e-5, "{} {value}", loss.value);
            assert_eq!((loss.pixels, loss.ignored), (200, 29));
        }
    }
    targets[198] = 3;
    let error = CrossEntropy::new().run_blocking(gpu(), &shape, &data, &targets).unwrap_err();
    assert!(matches!(error, Error::Label { position: 198, label: 3, classes: 3 }), "{error}");
}

/// Σ w[t] is 0, the loss is not: NaN, as 0 / 0 is.
#[test]
fn mean_over_no_weight() {
    let shape = Logits::chw(2, 1, 3).unwrap();
    let operator = CrossEntropy::new().class_weights(Some(vec![0.0, 1.0])).label_smoothing(0.1);
    let loss =
        |reduction| operator.clone().reduction(reduction).run_blocking(gpu(), &shape, &[1.0; 6], &[0u8; 3]).unwrap();
    assert!(loss(Reduction::Mean).value.is_nan());
    assert!(loss(Reduction::Sum).value > 0.0);
}

/// Bands read the same taps as the whole image: blocks with special values take the exact path in both.
#[test]
fn segment_with_special_values() {
    for (bytes, gpu) in SIZES.into_iter().flat_map(|bytes| small(bytes).map(|gpu| (bytes, gpu))) {
        for ((c, h, w), (height, width)) in
            [((3, 37, 53), (80, 120)), ((3, 37, 53), (37, 53)), ((3, 20, 30), (45, 90)), ((3, 64, 48), (17, 90))]
        {
            let shape = Logits::chw(c, h, w).unwrap();
            let mut random = Random::new(bytes);
            let mut data = random.logits(&shape);
            for x in &mut data {
                match random.below(60) {
                    0 => *x = f32::INFINITY,
                    1 => *x = f32::NEG_INFINITY,
                    2 => *x = f32::NAN,
                    _ => {}
                }
            }
            let operator = Segment::new(height, width).confidence(true);
            let (got, expected) = (
                operator.run_blocking(&gpu, &shape, &data).unwrap(),
                operator.run_blocking(default_limits_gpu(), &shape, &data).unwrap(),
            );
            assert_eq!(got.labels, expected.labels);
            let (got, expected) = (got.confidence.unwrap(), expected.confidence.unwrap());
            for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{bytes} {shape:?} {height} {width} [{i}] {a} {b}"
                );
            }
        }
    }
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [4681, 4682, 7281, 7282, 21845, 21846, 32769, 65535, 65536, 262_145] {
        // The best class is the last one, and a NaN sends its group through the longest path.
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let mut data = Random::new(7).ties(&shape);
        let last = 3 * (classes as usize - 1);
        (data[last], data[last + 1], data[last + 2]) = (5.0, f32::NAN, 4.0);
        let refused = |error: Error| {
            assert!(classes > 4681 && matches!(error, Error::Limit { .. }), "{classes} classes: {error}");
        };
        let close = |(got, expected): (f32, f64)| (f64::from(got) - expected).abs() <= 1e-3 * expected.abs();
        match Argmax::new().run_blocking(gpu(), &shape, &data) {
            Ok(found) => assert!(found.labels.iter().all(|label| label == classes - 1), "{classes} classes"),
            Err(error) => refused(error),
        }
        match Segment::new(1, 3).run_blocking(gpu(), &shape, &data) {
            Ok(found) => assert!(found.labels.iter().all(|label| label == classes - 1), "{classes} classes"),
            Err(error) => refused(error),
        }
        match Softmax::new().run_blocking(gpu(), &shape, &data) {
            Ok(p) => {
                let expected = reference::softmax(&shape, &data, Axis::Class);
                assert!(close((p[last], expected[last])) && p[last + 1].is_nan(), "{classes} classes");
            }
            Err(error) => refused(error),
        }
        let targets = [i64::from(classes) - 1, -100, 0];
        match CrossEntropy::new().label_smoothing(0.1).run_blocking(gpu(), &shape, &data, &targets) {
            Ok(loss) => {
                let expected = reference::cross_entropy(&shape, &data, &targets, Some(-100), None, 0.1).mean();
                assert!(close((loss.value, expected)), "{classes} classes: {} {expected}", loss.value);
            }
            Err(error) => refused(error),
        }
        let rows = Logits::chw(1, 3, classes).unwrap();
        match Softmax::new().axis(Axis::Width).run_blocking(gpu(), &rows, &data) {
            Ok(p) => {
                let expected = reference::softmax(&rows, &data, Axis::Width);
                assert!(p.into_iter().zip(expected).all(|(got, expected)| got.is_nan() || close((got, expected))));
            }
            Err(error) => refused(error),
        }
    }
}
