//! Infinities, NaN, subnormals, signed zeros and huge numbers: what PyTorch makes of them, in all memory layouts, on a
//! device with all that the adapter has (`gpu`) and on one at default limits, which read memory in different ways.
//!
//! The error bounds are those of `tests/oracle.rs`, with two additions. A result below the smallest normal f32 may be
//! flushed to zero: [`FLUSHED`]. A distance to the maximum counts for at most 200: there exp is flushed anyway.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::Features;
use seghead::{
    Argmax, Axis, CrossEntropy, Gpu, LabelType, Logits, LossRecord, Outputs, Reduction, Resize, Segment, Sigmoid,
    Softmax, Targets, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const TINY: f32 = f32::from_bits(1);
/// Negative, with a payload, signalling.
const OTHER_NAN: f32 = f32::from_bits(0xff80_0001);

/// 1e-38 is subnormal; 19³ pixels are no multiple of four.
#[rustfmt::skip]
const VALUES: [f32; 19] = [
    INF, -INF, NAN, OTHER_NAN, 0.0, -0.0, TINY, -TINY, 1e-38, -1e-38, f32::MAX, f32::MIN, 88.0, -88.0, 104.0, -104.0,
    200.0, -1.5, 1.25,
];

const CLASSES: [u32; 5] = [2, 3, 24, 25, 30];

const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// The classes that hold the special values.
fn places(classes: u32) -> [usize; 3] {
    let last = classes as usize - 1;
    [0, last / 2, last]
}

/// All triples of [`VALUES`] as pixels, the other classes by turns ordinary and −Inf for more pixels than an invocation
/// owns. The first layout is read one element at a time, the others four.
fn tensors(classes: u32) -> [(Logits, Vec<f32>); 3] {
    let odd = Logits::chw(classes, 19, 19 * 19).unwrap();
    let even = Logits::chw(classes, 2, 3428).unwrap();
    [odd, odd.padded().unwrap(), even].map(|shape| (shape, triples(&shape)))
}

/// Pixel `i` holds the triple `i`, in base 19.
fn triples(shape: &Logits) -> Vec<f32> {
    let plane = shape.pixels() as usize;
    let mut random = Random::new(shape.classes().into());
    let mut data = random.logits(shape);
    for i in 0..plane {
        (0..shape.classes() as usize).filter(|_| i / 64 % 2 == 1).for_each(|c| data[c * plane + i] = -INF);
        for (place, divisor) in places(shape.classes()).into_iter().zip([1, 19, 361]) {
            data[place * plane + i] = VALUES[i / divisor % 19];
        }
    }
    data
}

fn on_devices(check: impl Fn(&Gpu, u32)) {
    for classes in CLASSES {
        check(gpu(), classes);
        check(default_limits_gpu(), classes);
        for features in [gpu().device().features(), Features::empty()] {
            let [.., (shape, _)] = tensors(classes);
            check(&binding_halves(&shape, features), classes);
        }
    }
}

/// A device that binds `shape` in halves; what cannot be read in fours is brought together.
fn binding_halves(shape: &Logits, features: Features) -> Gpu {
    let limits = binding_limits(shape.bytes() * 3 / 4);
    let gpu = watched_gpu_with(features & Features::SHADER_INT64, limits);
    let (input, labels) = (output(&gpu, shape.bytes()), output(&gpu, shape.map().bytes(8)));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding());
    let dispatch = Argmax::new().dispatch(&gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap();
    assert!(dispatch.kernels()[0].specialisation.contains("halves"), "{:?}", dispatch.kernels());
    gpu
}

/// The logits of pixel `i`.
fn pixel<T: Copy>(shape: &Logits, data: &[T], i: usize) -> Vec<T> {
    data.iter().skip(i).step_by(shape.pixels() as usize).copied().collect()
}

fn run_softmax(gpu: &Gpu, shape: &Logits, data: &[f32], operator: Softmax) -> Vec<f32> {
    let (input, out) = (upload(gpu, shape, data), output(gpu, shape.bytes()));
    let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    recorder.record(&operator.dispatch(gpu, shape, from, to).unwrap(), &[&out]);
    unpad_tensor(shape, &recorder.finish().next().unwrap())
}

fn run_sigmoid(gpu: &Gpu, shape: &Logits, data: &[f32]) -> Vec<f32> {
    let (input, out) = (upload(gpu, shape, data), output(gpu, shape.bytes()));
    let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    recorder.record(&Sigmoid::new().dispatch(gpu, shape, from, to).unwrap(), &[&out]);
    unpad_tensor(shape, &recorder.finish().next().unwrap())
}

fn run_argmax(gpu: &Gpu, shape: &Logits, data: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let map = shape.map();
    let (input, labels, confidence) = (upload(gpu, shape, data), output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    let dispatch = Argmax::new().dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap();
    recorder.record(&dispatch, &[&labels, &confidence]);
    let mut read = recorder.finish();
    let labels = unpad_map::<u8>(&map, &read.next().unwrap()).into_iter().map(u32::from).collect();
    (labels, unpad_map(&map, &read.next().unwrap()))
}

fn run_segment(gpu: &Gpu, shape: &Logits, data: &[f32], segment: Segment) -> (Vec<u32>, Vec<f32>) {
    let map = segment.map(shape).unwrap();
    let (input, labels, confidence) = (upload(gpu, shape, data), output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    let dispatch = segment.dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap();
    recorder.record(&dispatch, &[&labels, &confidence]);
    let mut read = recorder.finish();
    let labels = unpad_map::<u8>(&map, &read.next().unwrap()).into_iter().map(u32::from).collect();
    (labels, unpad_map(&map, &read.next().unwrap()))
}

/// The losses of all pixels, and the record.
fn run_loss(
    gpu: &Gpu,
    operator: &CrossEntropy,
    shape: &Logits,
    data: &[f32],
    targets: &[u8],
) -> (Vec<f32>, LossRecord) {
    let map = shape.map();
    let (input, target) = (upload(gpu, shape, data), upload_u8(gpu, &map, targets));
    let (record, losses) = (output(gpu, 16), output(gpu, map.bytes(32)));
    let dispatch = operator
        .dispatch(
            gpu,
            shape,
            input.as_entire_buffer_binding(),
            Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
            record.as_entire_buffer_binding(),
            Some(losses.as_entire_buffer_binding()),
        )
        .unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &[&losses, &record]);
    let mut read = recorder.finish();
    let losses = unpad_map(&map, &read.next().unwrap());
    (losses, bytemuck::pod_read_unaligned(&read.next().unwrap()))
}

#[test]
fn softmax() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let (got, expected) =
                (run_softmax(gpu, &shape, &data, Softmax::new()), reference::softmax(&shape, &data, Axis::Class));
            let plane = shape.pixels() as usize;
            let largest: Vec<f32> =
                (0..plane).map(|i| pixel(&shape, &data, i).into_iter().fold(-INF, f32::max)).collect();
            let tolerance = |i: usize| {
                let distance = (f64::from(largest[i % plane]) - f64::from(data[i])).min(200.0);
                expected[i] * (6.0 + 5.0 * distance + 8.0 + f64::from(classes) + 3.0) * U + FLUSHED
            };
            assert_close(&format!("{shape:?}"), &got, &expected, tolerance);
            for (i, got) in got.iter().enumerate().filter(|&(i, _)| data[i] == -INF && expected[i] == 0.0) {
                assert_eq!(got.to_bits(), 0, "{shape:?}[{i}]: −Inf beside finite logits is exactly +0");
            }
        }
    });
}

#[test]
fn log_softmax() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let got = run_softmax(gpu, &shape, &data, Softmax::new().log(true));
            let expected = reference::log_softmax(&shape, &data, Axis::Class);
            // Differences of huge logits overflow in f32 where they do not in f64.
            let expected: Vec<f64> = expected.into_iter().map(|y| f64::from(y as f32)).collect();
            let tolerance = |i: usize| (8.0 + f64::from(classes) - 3.0 * expected[i]) * U + 2f64.powi(-21);
            assert_close(&format!("{shape:?}"), &got, &expected, tolerance);
        }
    });
}

/// The classes of every pixel as a column, and as a row, of a single class: the same numbers along another axis.
#[test]
fn softmax_along_columns_and_rows() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let of_classes = run_softmax(gpu, &shape, &data, Softmax::new());
            let plane = shape.pixels();
            let columns = Logits::chw(1, classes, plane).unwrap();
            let got = run_softmax(gpu, &columns, &data, Softmax::new().axis(Axis::Height));
            let scalar_both_times = plane % 4 != 0 && shape.plane_stride() == plane;
            if scalar_both_times || plane % 4 == 0 {
                assert_eq!(bits(&got), bits(&of_classes), "{shape:?}");
            }

            let rows = Logits::chw(1, plane, classes).unwrap();
            let transposed: Vec<f32> = (0..plane as usize).flat_map(|i| pixel(&shape, &data, i)).collect();
            let got = run_softmax(gpu, &rows, &transposed, Softmax::new().axis(Axis::Width));
            let expected = reference::softmax(&rows, &transposed, Axis::Width);
            let tolerance = |i: usize| {
                let row = &transposed[i / classes as usize * classes as usize..][..classes as usize];
                let largest = row.iter().copied().fold(-INF, f32::max);
                let distance = (f64::from(largest) - f64::from(transposed[i])).min(200.0);
                expected[i] * (6.0 + 5.0 * distance + 8.0 + f64::from(classes) + 3.0) * U + FLUSHED
            };
            assert_close(&format!("{rows:?}"), &got, &expected, tolerance);
            for (i, got) in got.iter().enumerate().filter(|&(i, _)| transposed[i] == -INF && expected[i] == 0.0) {
                assert_eq!(got.to_bits(), 0, "{rows:?}[{i}]: −Inf beside finite logits is exactly +0");
            }
        }
    });
}

#[test]
fn sigmoid() {
    // One class is enough: classes do not meet.
    for gpu in [gpu(), default_limits_gpu()] {
        for pixels in 1..=VALUES.len() as u32 {
            let shape = Logits::chw(1, 1, pixels).unwrap();
            let data = &VALUES[VALUES.len() - pixels as usize..];
            let (got, expected) = (run_sigmoid(gpu, &shape, data), reference::sigmoid(data));
            let tolerance =
                |i: usize| expected[i] * (6.0 + 4.0 * f64::from(data[i].abs()).min(200.0) + 5.0) * U + FLUSHED;
            assert_close(&format!("{shape:?}"), &got, &expected, tolerance);
        }
        let got = run_sigmoid(gpu, &Logits::chw(6, 1, 1).unwrap(), &[-INF, INF, NAN, OTHER_NAN, 0.0, -0.0]);
        assert_eq!(bits(&got[..2]), bits(&[0.0, 1.0]));
        assert!(got[2].is_nan() && got[3].is_nan());
        assert_eq!(got[4..6], [0.5; 2]);
    }
}

#[test]
fn argmax() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let (labels, confidence) = run_argmax(gpu, &shape, &data);
            let expected = reference::argmax(&shape, &data);
            for i in 0..labels.len() {
                assert_eq!(labels[i], expected[i], "{shape:?}[{i}]: {:?}", pixel(&shape, &data, i));
            }
            let expected = reference::scores(&shape, &data).confidence;
            let tolerance = |i: usize| expected[i] * (8.0 + 4.0 * f64::from(classes) + 3.0) * U + FLUSHED;
            assert_close(&format!("{shape:?}"), &confidence, &expected, tolerance);
        }
    });
}

#[test]
fn cross_entropy() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let plane = shape.pixels() as usize;
            // Mostly the special classes, and every fifth pixel ignored.
            let target = |i: usize| if i.is_multiple_of(5) { 255 } else { places(classes)[i / 7 % 3] as u8 };
            let targets: Vec<u8> = (0..plane).map(target).collect();
            let wide: Vec<i64> = targets.iter().map(|&t| t.into()).collect();
            for smoothing in [0.0, 0.1] {
                let operator = CrossEntropy::new().ignore_index(Some(255)).label_smoothing(smoothing);
                let (mut got, record) = run_loss(gpu, &operator, &shape, &data, &targets);
                assert_eq!((record.valid, record.first_invalid), (plane as u32 - plane.div_ceil(5) as u32, u32::MAX));
                let smoothing = f64::from(smoothing);
                let losses = reference::cross_entropy(&shape, &data, &wide, Some(255), None, smoothing);
                // What f32 cannot hold is an infinity there.
                let mut expected: Vec<f64> = losses.per_pixel.iter().map(|&x| f64::from(x as f32)).collect();
                let mut tolerance = Vec::new();
                for i in 0..plane {
                    let logits = pixel(&shape, &data, i);
                    let finite = logits.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x));
                    let (low, high) = finite.fold((0f64, 0f64), |(low, high), x| (low.min(x), high.max(x)));
                    let of_loss = (2.0 * (high - low) + 12.0 + f64::from(classes)) * U + (2f64).powi(-20);
                    let of_smoothing =
                        if smoothing == 0.0 { 0.0 } else { f64::from(classes) * (high - low + 40.0) * U };
                    tolerance.push(of_loss + of_smoothing);
                    if smoothing != 0.0 && high - low > 1e38 {
                        // Whether a sum of losses overflows on the way depends on the order of the additions.
                        (got[i], expected[i]) = (0.0, 0.0);
                    }
                }
                assert_close(&format!("{shape:?} ε = {smoothing}"), &got, &expected, |i| tolerance[i]);
            }
        }
    });
}

/// As PyTorch has it, written out.
#[test]
fn rules() {
    #[rustfmt::skip]
    let cases: &[(&[f32; 3], u32, f32)] = &[
        // logits, label, the largest probability
        (&[1.0, NAN, 2.0], 1, NAN),
        (&[NAN, 1.0, OTHER_NAN], 0, NAN),
        (&[INF, 1.0, OTHER_NAN], 2, NAN),
        (&[1.0, INF, 2.0], 1, NAN),
        (&[-INF, INF, INF], 1, NAN),
        (&[-INF, -INF, -INF], 0, NAN),
        (&[-INF, 7.0, -INF], 1, 1.0),
        (&[-INF, -INF, f32::MIN], 2, 1.0),
        (&[f32::MIN, f32::MAX, f32::MIN], 1, 1.0),
        (&[-0.0, 0.0, -1.0e9], 0, 0.5),
        (&[0.0, -0.0, -1.0e9], 0, 0.5),
        (&[-TINY, -0.0, -1.0e9], 1, 0.5),
        (&[0.0, TINY, -1.0e9], 1, 0.5),
        (&[TINY, f32::from_bits(2), -1.0e9], 1, 0.5),
        (&[1e-38, TINY, -1.0e9], 0, 0.5),
        (&[-1e-38, -TINY, -1.0e9], 1, 0.5),
        (&[f32::MIN_POSITIVE, 1e-38, -1.0e9], 0, 0.5),
        (&[3.0, 3.0, -200.0], 0, 0.5),
    ];
    let shape = Logits::chw(3, 1, cases.len() as u32).unwrap();
    let data: Vec<f32> = (0..3).flat_map(|c| cases.iter().map(move |case| case.0[c])).collect();
    for gpu in [gpu(), default_limits_gpu()] {
        for shape in [shape, shape.padded().unwrap()] {
            let (softmax, (labels, confidence)) =
                (run_softmax(gpu, &shape, &data, Softmax::new()), run_argmax(gpu, &shape, &data));
            for (i, &(logits, label, probability)) in cases.iter().enumerate() {
                let softmax = pixel(&shape, &softmax, i);
                assert_eq!(labels[i], label, "{logits:?}");
                if probability.is_nan() {
                    assert!(softmax.iter().all(|p| p.is_nan()) && confidence[i].is_nan(), "{logits:?}");
                    continue;
                }
                assert!((confidence[i] - probability).abs() < 1e-6, "{logits:?}");
                for c in 0..3 {
                    match logits[c] {
                        x if x == -INF => assert_eq!(softmax[c].to_bits(), 0, "{logits:?}"),
                        _ => assert!(softmax[c] <= probability + 1e-6, "{logits:?}"),
                    }
                }
            }
        }
    }
}

/// As PyTorch has it, written out; the losses of three classes.
#[test]
fn loss_rules() {
    #[rustfmt::skip]
    let cases: &[([f32; 3], u8, f32)] = &[
        ([-INF, 1.0, 2.0], 0, INF),
        ([1.0, NAN, 2.0], 0, NAN),
        ([1.0, OTHER_NAN, 2.0], 1, NAN),
        ([1.0, INF, 2.0], 0, NAN),
        ([1.0, INF, 2.0], 1, NAN),
        ([-INF, -INF, -INF], 1, NAN),
        ([-INF, 5.0, -INF], 1, 0.0),
        ([f32::MAX, f32::MIN, 0.0], 1, INF),
        ([f32::MAX, f32::MIN, 0.0], 2, f32::MAX),
        ([f32::MAX, f32::MIN, 0.0], 0, 0.0),
        ([NAN, INF, -INF], 255, 0.0),
        ([0.0, -200.0, -1000.0], 2, 1000.0),
    ];
    let shape = Logits::chw(3, 1, cases.len() as u32).unwrap();
    let data: Vec<f32> = (0..3).flat_map(|c| cases.iter().map(move |case| case.0[c])).collect();
    let targets: Vec<u8> = cases.iter().map(|case| case.1).collect();
    let operator = CrossEntropy::new().ignore_index(Some(255));
    for gpu in [gpu(), default_limits_gpu()] {
        let (got, record) = run_loss(gpu, &operator, &shape, &data, &targets);
        assert!(record.loss.is_nan() && record.valid == 11 && record.weight == 11.0, "{record:?}");
        for (&got, &(logits, target, loss)) in got.iter().zip(cases) {
            assert!(got == loss || got.is_nan() && loss.is_nan(), "{logits:?} at {target}: {got}, expected {loss}");
        }
        // An ignored pixel with NaN logits adds nothing to a reduction.
        let shape = Logits::chw(2, 1, 5).unwrap();
        let data = [0.0, NAN, 0.0, INF, 0.0, 0.0, 0.0, 0.0, -INF, 0.0];
        let (got, record) = run_loss(gpu, &operator, &shape, &data, &[0, 255, 1, 255, 255]);
        assert_eq!((got[1], got[3], got[4], record.valid, record.weight), (0.0, 0.0, 0.0, 2, 2.0));
        assert!(got[0] == got[2] && record.loss == got[0], "the mean of two equal losses: {got:?} {record:?}");
    }
}

/// One pixel of a group of four is special: the others, and the groups beside it, have the bits of a run without.
#[test]
fn neighbours() {
    const PIXELS: usize = 12;
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [3u32, 24, 30] {
            for pixels in [PIXELS as u32, PIXELS as u32 - 1] {
                let shape = Logits::chw(classes, 1, pixels).unwrap();
                let plain = Random::new(7).logits(&shape);
                let targets: Vec<u8> = (0..pixels).map(|i| (i % classes) as u8).collect();
                let loss = CrossEntropy::new();
                let results = |data: &[f32]| {
                    let (softmax, sigmoid) =
                        (run_softmax(gpu, &shape, data, Softmax::new()), run_sigmoid(gpu, &shape, data));
                    let (labels, confidence) = run_argmax(gpu, &shape, data);
                    let labels = labels.into_iter().map(|label| label as f32).collect();
                    [softmax, sigmoid, labels, confidence, run_loss(gpu, &loss, &shape, data, &targets).0]
                };
                let ordinary = results(&plain);
                for (i, value) in [INF, -INF, NAN, OTHER_NAN, f32::MAX, f32::MIN, TINY].into_iter().enumerate() {
                    let special = if pixels == PIXELS as u32 { 4 + i % 4 } else { 8 + i % 3 };
                    let mut data = plain.clone();
                    data[i % classes as usize * pixels as usize + special] = value;
                    for (which, (got, ordinary)) in results(&data).iter().zip(&ordinary).enumerate() {
                        for at in (0..got.len()).filter(|at| at % pixels as usize != special) {
                            let (got, ordinary) = (got[at], ordinary[at]);
                            // Losses here are below 40, everything else is at most 1.
                            let same = got.to_bits() == ordinary.to_bits();
                            assert!(same, "{value} in {special} of {shape:?}, {which} {at}: {got} {ordinary}");
                        }
                    }
                }
            }
        }
    }
}

/// Compares with the twin. `exact` where an upsampled logit is a logit: then subnormals are ordered, too.
fn check_segment(gpu: &Gpu, shape: &Logits, data: &[f32], segment: Segment, (height, width): (u32, u32), exact: bool) {
    let (labels, confidence) = run_segment(gpu, shape, data, segment);
    let classes = shape.classes() as usize;
    let full = Logits::nchw(shape.images(), shape.classes(), height, width).unwrap();
    let upsampled = reference::upsample(shape, data, height, width, Resize::HalfPixel);
    let (expected, expected_scores) = reference::segment(shape, data, height, width, Resize::HalfPixel).unwrap();
    // All positions here are exact in f32, so an upsampled logit has the errors of at most 25 products and their sum,
    // each at most U times Σ weight · |x|, and 25 flushed products.
    let sizes: Vec<f32> = data.iter().map(|x| x.abs()).collect();
    let sizes = reference::upsample(shape, &sizes, height, width, Resize::HalfPixel);
    let plane = full.pixels() as usize;
    let mut of_logits = vec![0f64; labels.len()];
    for (i, &expected) in expected.iter().enumerate() {
        let at = |c: usize| (i / plane * classes + c) * plane + i % plane;
        let (top, chosen) = (upsampled[at(expected as usize)], upsampled[at(labels[i] as usize)]);
        let what = || format!("{shape:?} to {height} × {width} [{i}]: {}, expected {expected}", labels[i]);
        if exact || !top.is_finite() {
            assert_eq!(
                labels[i],
                expected,
                "{} {:?}",
                what(),
                (0..classes).map(|c| upsampled[at(c)]).collect::<Vec<_>>()
            );
        } else {
            let size = (0..classes).map(|c| sizes[at(c)]).filter(|x| x.is_finite()).fold(0.0, f64::max);
            of_logits[i] = 50.0 * U * size + 25.0 * FLUSHED;
            assert!(top - chosen <= 2.0 * of_logits[i], "{}: {top} {chosen}", what());
        }
    }
    let tolerance = |i: usize| {
        (expected_scores.confidence[i] * (8.0 + 4.0 * f64::from(shape.classes()) + 3.0) * U + 2.0 * of_logits[i])
            .min(1.0)
    };
    assert_close(&format!("{shape:?} to {height} × {width}"), &confidence, &expected_scores.confidence, tolerance);
}

/// Every pixel an image of its own, so that all its taps are the same: upsampling changes nothing.
#[test]
fn segment_of_single_pixels() {
    for classes in [3u32, 30] {
        let map = tensors(classes)[0].clone();
        let shape = Logits::nchw(map.0.pixels(), classes, 1, 1).unwrap();
        let data: Vec<f32> = (0..map.0.pixels() as usize).flat_map(|i| pixel(&map.0, &map.1, i)).collect();
        for gpu in [gpu(), default_limits_gpu()] {
            for shape in [shape, shape.padded().unwrap()] {
                for factor in [1, 2, 3, 4] {
                    let segment = Segment::new(factor, factor);
                    check_segment(gpu, &shape, &data, segment, (factor, factor), factor == 1);
                }
            }
        }
    }
}

#[test]
fn segment_of_images() {
    for (shape, data) in tensors(3) {
        for gpu in [gpu(), default_limits_gpu()] {
            for factor in [1, 2, 4] {
                let (height, width) = (shape.height() * factor, shape.width() * factor);
                check_segment(gpu, &shape, &data, Segment::new(height, width), (height, width), factor == 1);
            }
        }
    }
}

/// A special logit leaves the pixels alone that do not read it, though their block of 4 × 4 does.
#[test]
fn segment_neighbours() {
    let shape = Logits::chw(3, 6, 9).unwrap();
    let plain = Random::new(11).logits(&shape);
    for gpu in [gpu(), default_limits_gpu()] {
        for factor in [1, 2, 4] {
            let (height, width) = (6 * factor, 9 * factor);
            let segment = Segment::new(height, width);
            let (labels, confidence) = run_segment(gpu, &shape, &plain, segment);
            for value in [INF, -INF, NAN] {
                let mut data = plain.clone();
                data[54 + 2 * 9 + 5] = value;
                // Pixels that read it, with the weight 0 too, have no finite upsampled logit in this class.
                let upsampled = reference::upsample(&shape, &data, height, width, Resize::HalfPixel);
                let (got, got_confidence) = run_segment(gpu, &shape, &data, segment);
                let mut touched = 0;
                for i in 0..labels.len() {
                    if !upsampled[labels.len() + i].is_finite() {
                        touched += 1;
                        continue;
                    }
                    assert_eq!(got[i], labels[i], "{value} ×{factor} [{i}]");
                    // Interpolated in another order: 8 roundings of logits below 12.
                    assert!((got_confidence[i] - confidence[i]).abs() < 200.0 * U as f32, "{value} ×{factor} [{i}]");
                }
                assert!(touched > 0 && touched < labels.len() / 4, "{touched}");
            }
        }
    }
}

#[test]
fn margin_and_entropy() {
    on_devices(|gpu, classes| {
        for (shape, data) in tensors(classes) {
            let map = shape.map();
            let [input, labels] = [upload(gpu, &shape, &data), output(gpu, map.bytes(8))];
            let [margin, entropy] = [output(gpu, map.bytes(32)), output(gpu, map.bytes(32))];
            let outputs = Outputs::labels(labels.as_entire_buffer_binding())
                .margin(margin.as_entire_buffer_binding())
                .entropy(entropy.as_entire_buffer_binding());
            let dispatch = Argmax::new().dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
            let mut recorder = Recorder::new(gpu);
            recorder.record(&dispatch, &[&margin, &entropy]);
            let mut read = recorder.finish();
            let expected = reference::scores(&shape, &data);
            let tolerance =
                |_| (3.0 + f64::from(classes).ln()) * (19.0 + 4.0 * f64::from(classes)) * U + 2f64.powi(-21);
            let got: Vec<f32> = unpad_map(&map, &read.next().unwrap());
            assert_close(&format!("margin {shape:?}"), &got, &expected.margin, tolerance);
            let got: Vec<f32> = unpad_map(&map, &read.next().unwrap());
            assert_close(&format!("entropy {shape:?}"), &got, &expected.entropy, tolerance);
        }
    });
}

/// Special values in every class: above 24 classes they are walked five at a time.
#[test]
fn every_class() {
    for classes in [24u32, 25, 26, 31] {
        // A class has them in more pixels than an invocation owns, where no other class has any.
        const RUN: usize = 64;
        let shape = Logits::chw(classes, 1, classes * RUN as u32).unwrap();
        let (plane, c) = (shape.pixels() as usize, classes as usize);
        let mut data = Random::new(13).logits(&shape);
        (0..plane).for_each(|i| data[i / RUN * plane + i] = VALUES[i % VALUES.len()]);
        let halves = [gpu().device().features(), Features::empty()].map(|features| binding_halves(&shape, features));
        for gpu in [gpu(), default_limits_gpu()].into_iter().chain(&halves) {
            let (got, expected) =
                (run_softmax(gpu, &shape, &data, Softmax::new()), reference::softmax(&shape, &data, Axis::Class));
            // Distances up to 200, as above.
            let bound = (6.0 + 5.0 * 200.0 + 8.0 + f64::from(classes) + 3.0) * U;
            assert_close(&format!("{shape:?}"), &got, &expected, |i| expected[i] * bound + FLUSHED);
            let (labels, confidence) = run_argmax(gpu, &shape, &data);
            assert_eq!(labels, reference::argmax(&shape, &data), "{shape:?}");
            let expected = reference::scores(&shape, &data).confidence;
            assert_close(&format!("{shape:?}"), &confidence, &expected, |i| expected[i] * bound + FLUSHED);
            let targets: Vec<u8> = (0..plane).map(|i| ((i + 1) % c) as u8).collect();
            let wide: Vec<i64> = targets.iter().map(|&t| t.into()).collect();
            let losses = run_loss(gpu, &CrossEntropy::new(), &shape, &data, &targets).0;
            let expected = reference::cross_entropy(&shape, &data, &wide, None, None, 0.0).per_pixel;
            assert_close(&format!("{shape:?}"), &losses, &expected, |i| expected[i].abs() * 60.0 * U + 1e-5);
        }
    }
}

/// Where an axis shrinks another kernel reads the taps: factors of ½ and ¼, up along one axis and down along the other.
#[test]
fn resize_of_images() {
    for classes in [3u32, 30] {
        let shape = Logits::chw(classes, 2, 3428).unwrap();
        let data = triples(&shape);
        for gpu in [gpu(), default_limits_gpu()] {
            for (height, width) in [(2, 1714), (1, 857), (4, 1714), (1, 6856)] {
                check_segment(gpu, &shape, &data, Segment::new(height, width), (height, width), false);
            }
        }
    }
}

/// What a dispatch makes of targets that are no class, the first number behind the classes among them.
#[test]
fn invalid_targets() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [3u32, 30] {
            let shape = Logits::nchw(2, classes, 1, 5).unwrap();
            let data = Random::new(17).logits(&shape);
            for (wrong, reduction) in [(classes as u8, Reduction::Sum), (254, Reduction::Mean)] {
                let operator = CrossEntropy::new().ignore_index(Some(255)).reduction(reduction);
                let targets = [0, 1, 2, 255, 0, 1, 2, wrong, 0, wrong];
                let (losses, record) = run_loss(gpu, &operator, &shape, &data, &targets);
                assert!(record.loss.is_nan(), "{record:?}");
                assert_eq!((record.valid, record.first_invalid), (9, 7));
                let nan: Vec<usize> = (0..10).filter(|&i| losses[i].is_nan()).collect();
                assert_eq!(nan, [7, 9], "{losses:?}");
            }
        }
    }
}

/// Σ w[t] is 0 though the sum of the losses is not: NaN, not an infinity.
#[test]
fn mean_over_no_weight() {
    let shape = Logits::chw(2, 1, 3).unwrap();
    let operator = CrossEntropy::new().class_weights(Some(vec![0.0, 1.0])).label_smoothing(0.1);
    for gpu in [gpu(), default_limits_gpu()] {
        let record = |reduction| run_loss(gpu, &operator.clone().reduction(reduction), &shape, &[1.0; 6], &[0; 3]).1;
        let (sum, mean) = (record(Reduction::Sum), record(Reduction::Mean));
        assert!(sum.loss > 0.0 && sum.weight == 0.0 && mean.loss.is_nan(), "{sum:?} {mean:?}");
    }
}

/// Two logits of a million: ln 2 is below the rounding error of either.
#[test]
fn small_losses_of_large_logits() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [3u32, 30] {
            let shape = Logits::chw(classes, 1, 4).unwrap();
            let mut data = vec![0.0; elements(&shape)];
            data[..8].fill(1.0e6);
            let losses = run_loss(gpu, &CrossEntropy::new(), &shape, &data, &[0, 1, 0, 1]).0;
            assert_close("loss", &losses, &[2f64.ln(); 4], |_| 1e-5);
        }
    }
}

/// Thousands of small images: an invocation that writes beyond its own disturbs the next one.
#[test]
fn many_images() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [3u32, 25] {
            let shape = Logits::nchw(4000, classes, 1, 4).unwrap();
            let mut random = Random::new(19);
            let data = random.logits(&shape);
            let expected = reference::softmax(&shape, &data, Axis::Class);
            let bound = (6.0 + 5.0 * 40.0 + 8.0 + f64::from(classes) + 3.0) * U;
            assert_close("softmax", &run_softmax(gpu, &shape, &data, Softmax::new()), &expected, |i| {
                expected[i] * bound
            });
            // The last pixel is special, in a group that is not full.
            let shape = Logits::nchw(4000, classes, 1, 5).unwrap();
            let mut data = random.logits(&shape);
            data.iter_mut().skip(4).step_by(5 * classes as usize).for_each(|x| *x = NAN);
            let expected = reference::softmax(&shape, &data, Axis::Class);
            assert_close("softmax", &run_softmax(gpu, &shape, &data, Softmax::new()), &expected, |i| {
                expected[i] * bound
            });
        }
    }
}
