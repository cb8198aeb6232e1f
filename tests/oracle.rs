//! Every operator against its f64 twin: all class counts up to 40 and 150, all pixel counts up to 70 and some odd large
//! ones, packed and padded planes, batches, on a device with all that the adapter has and on one at default limits.
//!
//! The error bounds. U = 2⁻²⁴ is the rounding error of one operation; WGSL allows exp(d) an error of 3 + 2 |d| ulp, an
//! ulp being at most 2 U, and log an absolute error of 2⁻²¹ near 1. With d = x − maximum ≤ 0:
//! * a term exp(d) of a softmax has the relative error (2 (3 + 2 |d|) + |d|) U, the last part from rounding d itself;
//! * the sum of C positive terms adds at most C U, and the error of its terms, which weigh exp(d): 8 U covers them,
//!   since exp(d) (6 + 5 |d|) < 8;
//! * division and multiplication add 3 U (WGSL: 2.5 ulp).

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::{
    Argmax, Axis, CrossEntropy, Gpu, LabelType, Logits, LossRecord, Outputs, Reduction, Resize, Segment, Sigmoid,
    Softmax, Targets, reference, wgpu,
};

fn class_counts() -> impl Iterator<Item = u32> {
    (1..=40).chain([150])
}

/// Shapes with `classes`: every pixel count up to 70 as one row, then batches and larger images, odd ones among them.
fn shapes(classes: u32) -> Vec<Logits> {
    let rows = (1..=70).map(|width| (1, 1, width));
    let more = [(2, 3, 5), (3, 4, 4), (1, 33, 61), (2, 17, 31), (1, 64, 80)];
    let packed = rows.chain(more).map(|(images, height, width)| Logits::nchw(images, classes, height, width).unwrap());
    let mut shapes: Vec<_> = packed.flat_map(|shape| [shape, shape.padded().unwrap()]).collect();
    let last = [(1, 1, 1), (1, 1, 6), (2, 3, 5), (1, 4, 8), (2, 13, 17)];
    shapes.extend(last.map(|(images, height, width)| Logits::nhwc(images, height, width, classes).unwrap()));
    shapes
}

/// Runs `check` for all class counts, half of them on each device and the interesting ones on both.
fn on_devices(check: impl Fn(&Gpu, u32)) {
    for classes in class_counts() {
        let both = [1, 2, 3, 4, 5, 19, 21, 24, 25, 26, 29, 30, 40, 150].contains(&classes);
        if both || classes % 2 == 0 {
            check(gpu(), classes);
        }
        if both || classes % 2 == 1 {
            check(default_limits_gpu(), classes);
        }
    }
}

/// A number that options are chosen by: of the case where all combinations are wanted, else of the class count alone.
/// Every combination of options is a pipeline per class count, and compiling them is what these tests wait for.
fn variety(classes: u32, case: usize) -> usize {
    if [1, 3, 24, 25, 150].contains(&classes) { case } else { classes as usize }
}

#[derive(Clone, Copy, Debug)]
enum Score {
    Confidence,
    Margin,
    Entropy,
}

impl Score {
    const ALL: [Self; 3] = [Self::Confidence, Self::Margin, Self::Entropy];

    /// Compares a map of scores whose logits have an error of `of_logit`.
    fn check(self, what: &str, got: &[f32], expected: &reference::Scores, classes: u32, of_logit: f64) {
        let c = f64::from(classes);
        // The sum has the error of its C terms and of at most C rescalings, 4 C + 11 U; probabilities change by at most
        // half the error of the logits.
        let of_sum = (8.0 + 4.0 * c + 3.0) * U;
        match self {
            Self::Confidence => {
                let tolerance = |i: usize| expected.confidence[i] * (of_sum + 2.0 * of_logit);
                assert_close(what, got, &expected.confidence, tolerance);
            }
            // The difference 1 − exp(d) has an absolute error of 8 U.
            Self::Margin => assert_close(what, got, &expected.margin, |_| of_sum + 8.0 * U + 2.0 * of_logit),
            // ln S has 2⁻²¹ and the relative error of S. So has T / S, whose terms |d| exp(d) add up to at most
            // S · ln C. The derivative with respect to a logit is p (ln p + H), in all at most 2 ln C.
            Self::Entropy => {
                let tolerance = (2.0 + c.ln()) * of_sum + 2f64.powi(-21) + 2.0 * (1.0 + c.ln()) * of_logit;
                assert_close(what, got, &expected.entropy, |_| tolerance);
            }
        }
    }
}

fn outputs_for<'a>(labels: &'a wgpu::Buffer, scores: &[Score], buffers: &'a [wgpu::Buffer]) -> Outputs<'a> {
    let outputs = Outputs::labels(labels.as_entire_buffer_binding());
    scores.iter().zip(buffers).fold(outputs, |outputs, (score, buffer)| match score {
        Score::Confidence => outputs.confidence(buffer.as_entire_buffer_binding()),
        Score::Margin => outputs.margin(buffer.as_entire_buffer_binding()),
        Score::Entropy => outputs.entropy(buffer.as_entire_buffer_binding()),
    })
}

/// Compares softmax and log-softmax along `axis` with the reference, packed and padded, in one submission.
fn check_softmax(gpu: &Gpu, shapes: Vec<Logits>, axis: Axis, seed: u64) {
    let mut random = Random::new(seed);
    let mut recorder = Recorder::new(gpu);
    let mut cases = Vec::new();
    for shape in shapes {
        let data = random.logits(&shape);
        let input = upload(gpu, &shape, &data);
        for log in [false, true] {
            let out = output(gpu, shape.bytes());
            let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
            let operator = Softmax::new().axis(axis).log(log);
            recorder.record(&operator.dispatch(gpu, &shape, from, to).unwrap(), &[&out]);
        }
        cases.push((shape, data));
    }
    let mut results = recorder.finish();
    for (shape, data) in cases {
        let what = format!("{axis:?} {shape:?}");
        let count = f64::from(match axis {
            Axis::Class => shape.classes(),
            Axis::Height => shape.height(),
            Axis::Width => shape.width(),
        });
        let expected = reference::softmax(&shape, &data, axis);
        let expected_log = reference::log_softmax(&shape, &data, axis);
        // −log p is the distance to the maximum and a little more.
        let tolerance = |i: usize| expected[i] * (6.0 - 5.0 * expected_log[i] + 8.0 + count + 3.0) * U;
        assert_close(&what, &unpad_tensor(&shape, &results.next().unwrap()), &expected, tolerance);
        // The distance and the last difference are rounded, and log Σ has the error of the sum and 2⁻²¹.
        let tolerance = |i: usize| (8.0 + count - 3.0 * expected_log[i]) * U + 2f64.powi(-21);
        assert_close(&what, &unpad_tensor(&shape, &results.next().unwrap()), &expected_log, tolerance);
    }
}

#[test]
fn softmax_over_classes() {
    on_devices(|gpu, classes| check_softmax(gpu, shapes(classes), Axis::Class, classes.into()));
}

#[test]
fn softmax_over_height_and_width() {
    for axis in [Axis::Height, Axis::Width] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut shapes = Vec::new();
            // Lengths on both sides of groups of four, blocks of five and the choice of kernel.
            for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 24, 25, 26, 29, 30, 31, 64, 150, 333] {
                for (images, classes, other) in [(1, 1, 1), (2, 3, 4), (1, 2, 7), (2, 5, 12)] {
                    let (height, width) = if axis == Axis::Height { (length, other) } else { (other, length) };
                    let shape = Logits::nchw(images, classes, height, width).unwrap();
                    shapes.extend([shape, shape.padded().unwrap()]);
                    shapes.push(Logits::nhwc(images, height, width, classes).unwrap());
                }
            }
            check_softmax(gpu, shapes, axis, 50);
        }
    }
}

#[test]
fn sigmoid() {
    on_devices(|gpu, classes| {
        let mut random = Random::new(100 + u64::from(classes));
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for shape in shapes(classes) {
            let data = random.logits(&shape);
            let (input, out) = (upload(gpu, &shape, &data), output(gpu, shape.bytes()));
            let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
            recorder.record(&Sigmoid::new().dispatch(gpu, &shape, from, to).unwrap(), &[&out]);
            cases.push((shape, data));
        }
        for ((shape, data), bytes) in cases.into_iter().zip(recorder.finish()) {
            let expected = reference::sigmoid(&data);
            // One exponential, the sum and the quotient; the exponential enters at most once.
            let tolerance = |i: usize| expected[i] * (6.0 + 4.0 * f64::from(data[i].abs()) + 5.0) * U;
            assert_close(&format!("{shape:?}"), &unpad_tensor(&shape, &bytes), &expected, tolerance);
        }
    });
}

#[test]
fn argmax() {
    on_devices(|gpu, classes| {
        let mut random = Random::new(200 + u64::from(classes));
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, shape) in shapes(classes).into_iter().enumerate() {
            let data = if i % 3 == 0 { random.ties(&shape) } else { random.logits(&shape) };
            let v = variety(classes, i);
            let label_type = if v.is_multiple_of(5) { LabelType::U32 } else { LabelType::U8 };
            let scores: Vec<Score> =
                Score::ALL.into_iter().filter(|&score| (v % 8) & (1 << score as usize) != 0).collect();
            let input = upload(gpu, &shape, &data);
            let labels = output(gpu, shape.map().bytes(label_type.bits()));
            let buffers: Vec<_> = scores.iter().map(|_| output(gpu, shape.map().bytes(32))).collect();
            let outputs = outputs_for(&labels, &scores, &buffers);
            let read: Vec<_> = std::iter::once(&labels).chain(&buffers).collect();
            let argmax = Argmax::new().label_type(label_type);
            let dispatch = argmax.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
            recorder.record(&dispatch, &read);
            cases.push((shape, data, label_type, scores));
        }
        let mut results = recorder.finish();
        for (shape, data, label_type, scores) in cases {
            let bytes = results.next().unwrap();
            let labels = match label_type {
                LabelType::U8 => unpad_map::<u8>(&shape.map(), &bytes).into_iter().map(u32::from).collect(),
                LabelType::U32 => unpad_map::<u32>(&shape.map(), &bytes),
            };
            assert_eq!(labels, reference::argmax(&shape, &data), "{shape:?}");
            let expected = reference::scores(&shape, &data);
            for score in scores {
                let got = unpad_map::<f32>(&shape.map(), &results.next().unwrap());
                score.check(&format!("{shape:?}"), &got, &expected, classes, 0.0);
            }
        }
    });
}

#[test]
fn cross_entropy() {
    on_devices(|gpu, classes| {
        let mut random = Random::new(300 + u64::from(classes));
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, shape) in shapes(classes).into_iter().enumerate() {
            let data = random.logits(&shape);
            let map = shape.map();
            let targets: Vec<u8> = (0..map.pixels())
                .map(|_| if random.below(5) == 0 { 255 } else { random.below(classes) as u8 })
                .collect();
            let v = variety(classes, i);
            let weights: Option<Vec<f32>> =
                (v % 3 == 1).then(|| (0..classes).map(|_| random.below(100) as f32 / 50.0).collect());
            let smoothing = if v % 4 == 2 { 0.1 } else { 0.0 };
            let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
            let operator = CrossEntropy::new()
                .ignore_index(Some(255))
                .class_weights(weights.clone())
                .label_smoothing(smoothing)
                .reduction(reduction);
            let input = upload(gpu, &shape, &data);
            let (target, label_type) = if v.is_multiple_of(5) {
                let mut wide = Vec::new();
                for image in targets.chunks_exact(shape.pixels() as usize) {
                    wide.extend(image.iter().map(|&target| u32::from(target)));
                    wide.resize(wide.len().next_multiple_of(map.image_stride() as usize), 0xffff_ffff);
                }
                (upload_bytes(gpu, bytemuck::cast_slice(&wide)), LabelType::U32)
            } else {
                (upload_u8(gpu, &map, &targets), LabelType::U8)
            };
            let (record, losses) = (output(gpu, 16), output(gpu, map.bytes(32)));
            let per_pixel = !v.is_multiple_of(7);
            let dispatch = operator
                .dispatch(
                    gpu,
                    &shape,
                    input.as_entire_buffer_binding(),
                    Targets::new(target.as_entire_buffer_binding(), label_type),
                    record.as_entire_buffer_binding(),
                    per_pixel.then(|| losses.as_entire_buffer_binding()),
                )
                .unwrap();
            let read = if per_pixel { vec![&record, &losses] } else { vec![&record] };
            recorder.record(&dispatch, &read);
            cases.push((shape, data, targets, weights, smoothing, reduction, per_pixel));
        }
        let mut results = recorder.finish();
        for (shape, data, targets, weights, smoothing, reduction, per_pixel) in cases {
            let targets: Vec<i64> = targets.into_iter().map(i64::from).collect();
            let (w, e) = (weights.as_deref(), f64::from(smoothing));
            let expected = reference::cross_entropy(&shape, &data, &targets, Some(255), w, e);
            // (maximum − x) is rounded once, log Σ has the error of the sum and 2⁻²¹, a weight of at most 2 scales
            // both, and the smoothing adds C such terms.
            let largest = data.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
            let of_pixel = 2.0 * ((2.0 * largest + 8.0 + f64::from(classes) + 4.0) * U + 2.0 * (2f64).powi(-21));
            let of_pixel = if smoothing == 0.0 { of_pixel } else { of_pixel + f64::from(classes) * 40.0 * U };
            let record: LossRecord = bytemuck::pod_read_unaligned(&results.next().unwrap());
            if per_pixel {
                let losses = unpad_map::<f32>(&shape.map(), &results.next().unwrap());
                assert_close(&format!("{shape:?}"), &losses, &expected.per_pixel, |_| of_pixel);
            }
            let counted = targets.iter().filter(|&&target| target != 255).count();
            assert_eq!((record.valid as usize, record.first_invalid), (counted, u32::MAX), "{shape:?}");
            // Sums go through at most 4 + 64 + 64 additions.
            let of_sum = counted as f64 * of_pixel + 132.0 * U * expected.sum();
            let value = [f64::from(record.loss)].map(|loss| loss as f32);
            match reduction {
                Reduction::Sum => assert_close(&format!("{shape:?}"), &value, &[expected.sum()], |_| of_sum),
                Reduction::Mean => {
                    let of_mean = of_sum / expected.weight + 140.0 * U * expected.mean();
                    assert_close(&format!("{shape:?}"), &value, &[expected.mean()], |_| of_mean);
                }
            }
        }
    });
}

#[test]
fn segment() {
    const SIZES: [(u32, u32, u32, u32); 16] = [
        (3, 20, 30, 21),
        (20, 3, 21, 30),
        (1, 1, 1, 1),
        (1, 1, 7, 5),
        (3, 5, 12, 20),
        (7, 9, 28, 36),
        (9, 12, 36, 48),
        (8, 8, 13, 29),
        (5, 7, 5, 7),
        (6, 5, 17, 14),
        (4, 3, 41, 33),
        (10, 11, 16, 18),
        (16, 16, 7, 5),
        (13, 9, 26, 6),
        (2, 31, 9, 125),
        (20, 30, 81, 119),
    ];
    on_devices(|gpu, classes| {
        let mut random = Random::new(400 + u64::from(classes));
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, (h, w, height, width)) in SIZES.into_iter().enumerate() {
            for (j, resize) in [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric].into_iter().enumerate() {
                let shape = Logits::nchw(1 + i as u32 % 2, classes, h, w).unwrap();
                let shape = match j {
                    0 => shape.padded().unwrap(),
                    1 => shape,
                    _ => Logits::nhwc(shape.images(), h, w, classes).unwrap(),
                };
                let data = random.logits(&shape);
                let label_type = if (i + j) % 5 == 0 { LabelType::U32 } else { LabelType::U8 };
                let scores: Vec<Score> =
                    Score::ALL.into_iter().filter(|&score| ((i + 3 * j) % 8) & (1 << score as usize) != 0).collect();
                let operator = Segment::new(height, width).resize(resize).label_type(label_type);
                let map = operator.map(&shape).unwrap();
                let input = upload(gpu, &shape, &data);
                let labels = output(gpu, map.bytes(label_type.bits()));
                let buffers: Vec<_> = scores.iter().map(|_| output(gpu, map.bytes(32))).collect();
                let outputs = outputs_for(&labels, &scores, &buffers);
                let read: Vec<_> = std::iter::once(&labels).chain(&buffers).collect();
                let dispatch = operator.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
                recorder.record(&dispatch, &read);
                cases.push((shape, data, map, resize, label_type, scores));
            }
        }
        let mut results = recorder.finish();
        for (shape, data, map, resize, label_type, scores) in cases {
            let what = format!("{shape:?} to {map:?} {resize:?}");
            let bytes = results.next().unwrap();
            let labels: Vec<u32> = match label_type {
                LabelType::U8 => unpad_map::<u8>(&map, &bytes).into_iter().map(u32::from).collect(),
                LabelType::U32 => unpad_map::<u32>(&map, &bytes),
            };
            let (height, width) = (map.height(), map.width());
            let (images, classes_last) = (shape.images(), shape.pixel_stride() > 1);
            let full = match classes_last {
                true => Logits::nhwc(images, height, width, classes).unwrap(),
                false => Logits::nchw(images, classes, height, width).unwrap(),
            };
            let upsampled = reference::upsample(&shape, &data, height, width, resize);
            let expected = reference::argmax(&full, &upsampled);
            // An interpolated logit is a sum of up to 25 products whose weights, of at most 1, are rounded at
            // distances up to 4: that is an error of 2 · 25 · 4 U times the largest logit at the very most.
            let largest = data.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
            let of_logit = 200.0 * U * largest;
            let plane = full.pixels() as usize;
            let at = |i: usize, c: u32| match classes_last {
                true => upsampled[i * classes as usize + c as usize],
                false => upsampled[(i / plane * classes as usize + c as usize) * plane + i % plane],
            };
            let mut differing = 0;
            for (i, (&got, &expected)) in labels.iter().zip(&expected).enumerate() {
                assert!(got < classes, "{what}: label {got}");
                assert!(at(i, expected) - at(i, got) <= 2.0 * of_logit, "{what}[{i}]: {got}, expected {expected}");
                differing += usize::from(got != expected);
            }
            assert!(differing * 50 <= labels.len(), "{what}: {differing} of {} labels differ", labels.len());
            let expected = reference::scores(&full, &upsampled);
            for score in scores {
                let got = unpad_map::<f32>(&map, &results.next().unwrap());
                score.check(&what, &got, &expected, classes, of_logit);
            }
        }
    });
}
