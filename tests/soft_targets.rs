//! Cross-entropy against soft targets: the f64 twin on awkward shapes with all options, what PyTorch makes of special
//! values, bands and windows, one-hot targets against labels, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{Axis, CrossEntropy, ElementType, Error, Gpu, Input, Logits, LossRecord, Reduction, reference};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const MAX: f32 = f32::MAX;
const TINY: f32 = f32::from_bits(1);

/// Logits that f16 has as well.
fn logits(random: &mut Random, shape: &Logits) -> Vec<f32> {
    (0..elements(shape)).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect()
}

/// Probabilities, N × C × H × W.
fn probabilities(random: &mut Random, shape: &Logits) -> Vec<f32> {
    let shape = packed(shape);
    let p = reference::softmax(&shape, &random.logits(&shape), Axis::Class);
    p.into_iter().map(|p| p as f32).collect()
}

/// Numbers that are no probabilities, which PyTorch takes as well.
fn numbers(random: &mut Random, shape: &Logits) -> Vec<f32> {
    (0..elements(shape)).map(|_| random.below(300) as f32 / 100.0 - 1.0).collect()
}

fn weights(random: &mut Random, classes: u32) -> Vec<f32> {
    (0..classes).map(|_| random.below(100) as f32 / 50.0).collect()
}

/// The error that the loss of every pixel may have. With d = maximum − x, each of the C products w p' d has six
/// roundings and their sum C. log S has the relative error of S, (8 + C) U (see tests/oracle.rs), and the larger of
/// 2⁻²¹ = 8 U and 3 ulp of its own, at most 6 U ln C; Σ w p' has C + 6 roundings. Two more for the last sum.
fn tolerances(
    shape: &Logits,
    data: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    smoothing: f64,
    losses: &[f64],
) -> Vec<f64> {
    let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
    let c = classes as f64;
    let of_pixel = |(i, loss): (usize, &f64)| {
        let at = |c: usize| (i / plane * classes + c) * plane + i % plane;
        let maximum = (0..classes).map(|c| f64::from(data[at(c)])).filter(|x| x.is_finite()).fold(-1e39, f64::max);
        let (mut distances, mut shares) = (0.0, 0.0);
        for c in 0..classes {
            let target = f64::from(targets[at(c)]).abs();
            let share = ((1.0 - smoothing) * target + smoothing / classes as f64)
                * weights.map_or(1.0, |weights| f64::from(weights[c]));
            shares += share;
            distances += share * (maximum - f64::from(data[at(c)]));
        }
        let of_log = 8.0 + c + 8.0 + 6.0 * c.ln();
        ((c + 6.0) * distances + (of_log + c.ln() * (c + 6.0)) * shares + 2.0 * loss.abs()) * U
    };
    losses.iter().enumerate().map(of_pixel).collect()
}

fn dispatch(
    gpu: &Gpu,
    operator: &CrossEntropy,
    shape: &Logits,
    (input, targets): (&wgpu::Buffer, &wgpu::Buffer),
    record: &wgpu::Buffer,
    losses: Option<&wgpu::Buffer>,
) -> Result<seghead::Dispatch, Error> {
    operator.dispatch_soft(
        gpu,
        shape,
        input.as_entire_buffer_binding(),
        targets.as_entire_buffer_binding(),
        record.as_entire_buffer_binding(),
        losses.map(wgpu::Buffer::as_entire_buffer_binding),
    )
}

/// The losses of all pixels, and the record.
fn run(gpu: &Gpu, operator: &CrossEntropy, shape: &Logits, data: &[f32], targets: &[f32]) -> (Vec<f32>, LossRecord) {
    let map = shape.map();
    let inputs = (&upload_laid(gpu, shape, data), &upload_laid(gpu, &shape.output(), targets));
    let (record, losses) = (output(gpu, 16), output(gpu, map.bytes(32)));
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch(gpu, operator, shape, inputs, &record, Some(&losses)).unwrap(), &[&losses, &record]);
    let mut read = recorder.finish();
    let losses = unpad_map(&map, &read.next().unwrap());
    (losses, bytemuck::pod_read_unaligned(&read.next().unwrap()))
}

#[test]
fn oracle() {
    for classes in [1, 2, 3, 4, 5, 8, 19, 21, 24, 25, 26, 29, 30, 31, 40, 150] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(u64::from(classes));
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let data = logits(&mut random, &shape);
                let targets =
                    if i % 4 == 3 { numbers(&mut random, &shape) } else { probabilities(&mut random, &shape) };
                // Every combination is a pipeline per class count, and compiling them is what takes the time.
                let v = if [3, 25].contains(&classes) { i } else { classes as usize };
                let weights = (v % 3 == 1).then(|| weights(&mut random, classes));
                let smoothing = if v % 4 == 2 { 0.1 } else { 0.0 };
                let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
                // An ignore index does not apply.
                let operator = CrossEntropy::new()
                    .ignore_index(Some(0))
                    .class_weights(weights.clone())
                    .label_smoothing(smoothing)
                    .reduction(reduction);
                let per_pixel = !v.is_multiple_of(7);
                let inputs = (&upload_laid(gpu, &shape, &data), &upload_laid(gpu, &shape.output(), &targets));
                let (record, losses) = (output(gpu, 16), output(gpu, shape.map().bytes(32)));
                let work = dispatch(gpu, &operator, &shape, inputs, &record, per_pixel.then_some(&losses)).unwrap();
                let read = if per_pixel { vec![&record, &losses] } else { vec![&record] };
                recorder.record(&work, &read);
                cases.push((shape, data, targets, weights, f64::from(smoothing), reduction, per_pixel));
            }
            let mut results = recorder.finish();
            for (shape, data, targets, weights, smoothing, reduction, per_pixel) in cases {
                let (what, plain, w) = (format!("{shape:?}"), packed(&shape), weights.as_deref());
                let expected = reference::cross_entropy_soft(&plain, &data, &targets, w, smoothing);
                let tolerance = tolerances(&plain, &data, &targets, w, smoothing, &expected.per_pixel);
                let record: LossRecord = bytemuck::pod_read_unaligned(&results.next().unwrap());
                if per_pixel {
                    let losses: Vec<f32> = unpad_map(&shape.map(), &results.next().unwrap());
                    assert_close(&what, &losses, &expected.per_pixel, |i| tolerance[i]);
                }
                let pixels = expected.per_pixel.len();
                let found = (record.valid as usize, record.weight as usize, record.first_invalid);
                assert_eq!(found, (pixels, pixels, u32::MAX), "{what}");
                // Sums go through at most 4 + 64 + 64 additions.
                let size: f64 = expected.per_pixel.iter().map(|loss| loss.abs()).sum();
                let of_sum = tolerance.iter().sum::<f64>() + 132.0 * U * size;
                match reduction {
                    Reduction::Sum => assert_close(&what, &[record.loss], &[expected.sum()], |_| of_sum),
                    Reduction::Mean => {
                        let of_mean = of_sum / pixels as f64 + 4.0 * U * expected.mean().abs();
                        assert_close(&what, &[record.loss], &[expected.mean()], |_| of_mean);
                    }
                }
            }
        }
    }
}

/// What torch.nn.CrossEntropyLoss returns: PyTorch 2.15, float32, reduction="none".
#[test]
fn rules() {
    type Case = ([f32; 3], [f32; 3], Option<[f32; 3]>, f32, f32);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        // logits, targets, class weights, label smoothing, loss
        ([0.0, 1.0, 2.0], [0.2, 0.3, 0.5], None, 0.0, 1.107_606),
        ([-INF, 1.0, 2.0], [0.0, 0.5, 0.5], None, 0.0, NAN),
        ([-INF, 1.0, 2.0], [-0.0, 0.5, 0.5], None, 0.0, NAN),
        ([-INF, 1.0, 2.0], [0.1, 0.4, 0.5], None, 0.0, INF),
        ([-INF, 1.0, 2.0], [-0.1, 0.6, 0.5], None, 0.0, -INF),
        ([-INF, 1.0, 2.0], [0.0, 0.5, 0.5], None, 0.1, INF),
        ([-INF, 1.0, 2.0], [TINY, 0.5, 0.5], None, 0.0, INF),
        ([-INF, 5.0, -INF], [0.0, 1.0, 0.0], None, 0.0, NAN),
        ([-INF, -INF, -INF], [0.0, 1.0, 0.0], None, 0.0, NAN),
        ([1.0, INF, 2.0], [0.0, 1.0, 0.0], None, 0.0, NAN),
        ([1.0, NAN, 2.0], [1.0, 0.0, 0.0], None, 0.0, NAN),
        ([0.0, 1.0, 2.0], [0.0, NAN, 0.0], None, 0.0, NAN),
        ([0.0, 1.0, 2.0], [0.0, INF, 0.0], None, 0.0, INF),
        ([0.0, 1.0, 2.0], [0.0, -INF, 0.0], None, 0.0, -INF),
        ([0.0, 1.0, 2.0], [INF, -INF, 0.0], None, 0.0, NAN),
        ([0.0, 1.0, 2.0], [INF, 0.0, 0.0], None, 1.0, NAN),
        ([0.0, -1000.0, -1000.0], [INF, 0.0, 0.0], None, 0.0, NAN),
        ([MAX, -MAX, 0.0], [0.0, 1.0, 0.0], None, 0.0, INF),
        ([MAX, -MAX, 0.0], [0.0, 0.0, 1.0], None, 0.0, NAN),
        ([MAX, -MAX, 0.0], [1.0, 0.0, 0.0], None, 0.0, NAN),
        ([MAX, -MAX, 0.0], [0.5, 0.0, 0.5], None, 0.0, NAN),
        ([-INF, 1.0, 2.0], [0.1, 0.4, 0.5], Some([0.0, 1.0, 1.0]), 0.0, NAN),
        ([-INF, 1.0, 2.0], [0.1, 0.4, 0.5], Some([2.0, 1.0, 1.0]), 0.0, INF),
        ([0.0, -200.0, -1000.0], [0.0, 0.0, 1.0], None, 0.0, 1000.0),
        ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0], None, 0.0, 0.0),
        ([0.0, 1.0, 2.0], [2.0, 3.0, -1.0], Some([0.5, 2.0, 3.0]), 0.25, 7.659_637),
    ];
    for &(logits, targets, weights, smoothing, expected) in cases {
        for classes in [3usize, 24, 30] {
            // Classes that no logit and no target speaks for, which smoothing would count.
            if classes > 3 && smoothing != 0.0 && expected.is_finite() {
                continue;
            }
            let mut weights = weights.map(|weights| weights.to_vec());
            weights.iter_mut().for_each(|weights| weights.resize(classes, 1.0));
            let operator = CrossEntropy::new().class_weights(weights).label_smoothing(smoothing);
            // A group of four, the last pixel special, then one alone.
            let pixels = 5;
            let shape = Logits::chw(classes as u32, 1, pixels as u32).unwrap();
            let (mut data, mut p) = (vec![0.0; classes * pixels], vec![0.25; classes * pixels]);
            for c in 0..classes {
                data[c * pixels + 3] = if c < 3 { logits[c] } else { -1000.0 };
                p[c * pixels + 3] = if c < 3 { targets[c] } else { 0.0 };
            }
            for gpu in [gpu(), default_limits_gpu()] {
                for shape in [shape, shape.padded().unwrap()] {
                    let (losses, record) = run(gpu, &operator, &shape, &data, &p);
                    let what = format!("{logits:?} {targets:?} {classes} classes: {}", losses[3]);
                    let close = |a: f32, b: f32| {
                        a == b || a.is_nan() && b.is_nan() || b.is_finite() && (a - b).abs() <= 1e-6 * b.abs()
                    };
                    assert!(close(losses[3], expected), "{what}, expected {expected}");
                    assert!(close(record.loss, losses.iter().sum::<f32>() / 5.0), "{what}: {record:?}");
                    assert!([0, 1, 2, 4].iter().all(|&i| losses[i].is_finite() && losses[i] == losses[0]), "{what}");
                }
            }
        }
    }
}

/// All triples of special logits against special targets: log p rounded to f32, as PyTorch has it, then the formula.
#[test]
fn special_values() {
    #[rustfmt::skip]
    const LOGITS: [f32; 13] = [INF, -INF, NAN, 0.0, -0.0, TINY, 1e-38, MAX, -MAX, 104.0, -104.0, -1.5, 1.25];
    const TARGETS: [f32; 9] = [0.0, 1.0, 0.5, -0.25, -0.0, TINY, INF, -INF, NAN];
    for classes in [3usize, 24, 25, 30] {
        let plane = 13 * 13 * 13;
        let shape = Logits::chw(classes as u32, 13, 169).unwrap();
        let mut random = Random::new(classes as u64);
        let (mut data, mut targets) = (random.logits(&shape), probabilities(&mut random, &shape));
        for i in 0..plane {
            for (c, divisor) in [0, classes / 2, classes - 1].into_iter().zip([1, 13, 169]) {
                data[c * plane + i] = LOGITS[i / divisor % 13];
                // Special ones in a third of the classes.
                let special = if random.below(3) == 0 { 9 } else { 3 };
                targets[c * plane + i] = TARGETS[random.below(special) as usize];
            }
        }
        let log_p = reference::log_softmax(&shape, &data, Axis::Class);
        for smoothing in [0.0f32, 0.1] {
            let mut expected = vec![0f64; plane];
            let mut tolerance = vec![0f64; plane];
            for i in 0..plane {
                let (mut size, mut largest) = (0.0, 0f64);
                for c in 0..classes {
                    let (log_p, target) = (f64::from(log_p[c * plane + i] as f32), f64::from(targets[c * plane + i]));
                    let e = f64::from(smoothing);
                    let share = (1.0 - e) * target + e / classes as f64;
                    expected[i] -= log_p * share;
                    if log_p.is_finite() && share.is_finite() {
                        size += (log_p.abs() + 1.0) * share.abs();
                        largest = largest.max(log_p.abs());
                    }
                }
                // A product of numbers, or a target, below the smallest normal may be flushed to zero.
                let flushed = 1e3 * classes as f64 * f64::from(f32::MIN_POSITIVE);
                tolerance[i] = (3.0 * classes as f64 + 60.0) * U * size + flushed;
                if largest > 1e37 && (size > 1e38 || expected[i].is_finite()) {
                    // Whether a sum overflows on the way depends on the order of the additions.
                    tolerance[i] = f64::INFINITY;
                }
            }
            let operator = CrossEntropy::new().label_smoothing(smoothing);
            for gpu in [gpu(), default_limits_gpu()] {
                for shape in [shape, shape.padded().unwrap()] {
                    let (mut losses, _) = run(gpu, &operator, &shape, &data, &targets);
                    let mut expected = expected.clone();
                    let skipped = (0..plane).filter(|&i| tolerance[i].is_infinite()).collect::<Vec<_>>();
                    assert!(skipped.len() < plane / 3, "{}", skipped.len());
                    skipped.into_iter().for_each(|i| (losses[i], expected[i]) = (0.0, 0.0));
                    assert_close(&format!("{shape:?} ε = {smoothing}"), &losses, &expected, |i| tolerance[i]);
                    let finite = expected.iter().filter(|x| x.is_finite() && **x != 0.0).count();
                    let infinite = expected.iter().filter(|x| x.is_infinite()).count();
                    assert!(finite > 50 && infinite > 50, "{finite} {infinite}");
                }
            }
        }
    }
}

/// A target of 1 for one class is that class as a label, whatever the options; but for the mean, which counts weights.
#[test]
fn one_hot() {
    for classes in [1u32, 3, 24, 30] {
        let shape = Logits::nchw(2, classes, 13, 19).unwrap();
        let mut random = Random::new(u64::from(classes));
        let data = random.logits(&shape);
        let labels: Vec<u8> = (0..shape.map().pixels()).map(|_| random.below(classes) as u8).collect();
        let mut targets = vec![0.0; data.len()];
        let plane = shape.pixels() as usize;
        for (i, &label) in labels.iter().enumerate() {
            targets[(i / plane * classes as usize + usize::from(label)) * plane + i % plane] = 1.0;
        }
        for (weighted, smoothing) in [(false, 0.0), (true, 0.0), (false, 0.2), (true, 0.2)] {
            let weights = weighted.then(|| weights(&mut random, classes));
            let sum = CrossEntropy::new()
                .class_weights(weights.clone())
                .label_smoothing(smoothing)
                .per_pixel(true)
                .reduction(Reduction::Sum);
            let hard = sum.run_blocking(gpu(), &shape, &data, &labels).unwrap();
            let soft = sum.run_soft_blocking(gpu(), &shape, &data, &targets).unwrap();
            let (hard_losses, soft_losses) = (hard.per_pixel.unwrap(), soft.per_pixel.unwrap());
            let expected: Vec<f64> = hard_losses.iter().map(|&loss| f64::from(loss)).collect();
            let w = weights.as_deref();
            let tolerance = tolerances(&shape, &data, &targets, w, f64::from(smoothing), &expected);
            assert_close("one-hot", &soft_losses, &expected, |i| 2.0 * tolerance[i]);
            let of_sum = 2.0 * tolerance.iter().sum::<f64>() + 264.0 * U * f64::from(hard.value);
            assert_close("sum", &[soft.value], &[f64::from(hard.value)], |_| of_sum);
            assert_eq!((soft.pixels, soft.ignored), (hard.pixels, 0));
            let mean =
                sum.clone().reduction(Reduction::Mean).run_soft_blocking(gpu(), &shape, &data, &targets).unwrap();
            let pixels = labels.len() as f32;
            assert!((mean.value - soft.value / pixels).abs() <= 1e-6 * mean.value, "{mean:?}");
        }
    }
}

/// The numbers that PyTorch 2.15 returns for a batch.
#[test]
fn as_pytorch() {
    let shape = Logits::nchw(2, 3, 2, 2).unwrap();
    let data: Vec<f32> = (0..24).map(|i| (i as f32 * 0.37) % 1.9).collect();
    let targets: Vec<f32> = (0..24).map(|i| (i as f32 * 0.21) % 1.1).collect();
    for (reduction, weighted, smoothing, expected) in [
        (Reduction::Mean, false, 0.0, 1.362_430_1),
        (Reduction::Mean, false, 0.1, 1.348_201_5),
        (Reduction::Mean, true, 0.0, 1.158_103_6),
        (Reduction::Mean, true, 0.1, 1.144_888_6),
        (Reduction::Sum, false, 0.0, 10.899_441),
        (Reduction::Sum, false, 0.1, 10.785_612),
        (Reduction::Sum, true, 0.0, 9.264_829),
        (Reduction::Sum, true, 0.1, 9.159_109),
    ] {
        let weights = weighted.then(|| vec![0.5, 2.0, 0.0]);
        let operator =
            CrossEntropy::new().class_weights(weights.clone()).label_smoothing(smoothing).reduction(reduction);
        let loss = operator.run_soft_blocking(gpu(), &shape, &data, &targets).unwrap();
        assert!((loss.value - expected).abs() < 2e-6 * expected, "{} {expected}", loss.value);
        let twin = reference::cross_entropy_soft(&shape, &data, &targets, weights.as_deref(), f64::from(smoothing));
        let twin = if reduction == Reduction::Sum { twin.sum() } else { twin.mean() };
        assert!((twin - f64::from(expected)).abs() < 1e-6 * twin, "{twin} {expected}");
    }
}

/// A device that binds at most `binding` bytes of a buffer of at most `buffer`.
fn limited(binding: u64, buffer: u64) -> Gpu {
    watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: binding,
        max_uniform_buffer_binding_size: binding,
        max_buffer_size: buffer,
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    })
}

/// The bits of losses, of 0 those of +0: which zero the loss of a single class is, drivers decide for each way of reading.
fn bits_but_for_zero(losses: &[f32]) -> Vec<u32> {
    losses.iter().map(|&loss| if loss == 0.0 { 0 } else { loss.to_bits() }).collect()
}

/// What a small device returns in bands is bit for bit what a large one does; the sums too, where bands begin at
/// multiples of 2048 pixels.
#[test]
fn bands() {
    let shapes = [
        Logits::chw(3, 37, 53).unwrap(),
        Logits::nchw(3, 3, 16, 40).unwrap(),
        Logits::nchw(2, 30, 9, 17).unwrap(),
        Logits::nhwc(2, 37, 53, 3).unwrap(),
        Logits::chw(1, 50, 50).unwrap(),
        Logits::chw(3, 90, 110).unwrap(),
        Logits::nchw(2, 3, 80, 90).unwrap().crop(3, 7, 61, 70).unwrap(),
    ];
    for bytes in [4096u64, 16384, 65536] {
        let gpu = limited(bytes, 2 * bytes);
        for shape in shapes {
            let mut random = Random::new(bytes);
            // Packed, or where it is a rectangle the whole tensor.
            let data: Vec<f32> = (0..shape.len()).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect();
            let targets: Vec<f32> =
                (0..shape.len()).map(|_| half::f16::from_f32(random.below(100) as f32 / 64.0).to_f32()).collect();
            for (per_pixel, reduction) in [(true, Reduction::Mean), (false, Reduction::Sum)] {
                let operator = CrossEntropy::new().per_pixel(per_pixel).reduction(reduction).label_smoothing(0.1);
                let expected = operator.run_soft_blocking(default_limits_gpu(), &shape, &data, &targets).unwrap();
                let check = |got: seghead::Loss| {
                    let what = format!("{bytes} {shape:?}");
                    let (losses, right) = (got.per_pixel.as_deref(), expected.per_pixel.as_deref());
                    assert!(losses.map(bits_but_for_zero) == right.map(bits_but_for_zero), "{what}");
                    assert_eq!((got.pixels, got.ignored), (expected.pixels, 0), "{what}");
                    // 2048 pixels of 3 classes are 24 KiB.
                    if bytes == 65536 && shape.classes() <= 3 {
                        assert_eq!(got.value.to_bits(), expected.value.to_bits(), "{what}");
                    }
                    assert!((got.value - expected.value).abs() <= 264.0 * U as f32 * expected.value, "{what}");
                };
                check(operator.run_soft_blocking(&gpu, &shape, &data, &targets).unwrap());
                let read = |first: u64, bytes: &mut [u8]| {
                    let first = first as usize * 4;
                    bytes.copy_from_slice(&bytemuck::cast_slice(&targets)[first..first + bytes.len()]);
                    Ok(())
                };
                let reader = Input::reader(ElementType::F32, targets.len() as u64, read);
                check(operator.run_soft_blocking(&gpu, &shape, &data, reader).unwrap());
                // Halves on either side: the values are the same.
                let (data_bits, target_bits) = (halves(&data), halves(&targets));
                check(operator.run_soft_blocking(&gpu, &shape, &data, Input::f16(&target_bits)).unwrap());
                check(operator.run_soft_blocking(&gpu, &shape, Input::f16(&data_bits), &targets).unwrap());
                let (data, targets) = (Input::f16(&data_bits), Input::f16(&target_bits));
                check(operator.run_soft_blocking(&gpu, &shape, data, targets).unwrap());
            }
        }
    }
}

/// Dispatches for tensors that the device cannot bind at once.
#[test]
fn windows() {
    let mut refused = 0;
    for bytes in [16384u64, 65536] {
        let small = limited(bytes, 1 << 28);
        for shape in beyond_a_binding() {
            let mut random = Random::new(bytes);
            let data = logits(&mut random, &shape);
            let targets = probabilities(&mut random, &shape);
            let weights = Some(weights(&mut random, shape.classes()));
            let operator = CrossEntropy::new().class_weights(weights).reduction(Reduction::Sum);
            let result = |gpu: &Gpu| -> Result<_, Error> {
                let inputs = (&upload_laid(gpu, &shape, &data), &upload_laid(gpu, &shape.output(), &targets));
                let (record, losses) = (output(gpu, 16), output(gpu, shape.map().bytes(32)));
                let work = dispatch(gpu, &operator, &shape, inputs, &record, Some(&losses))?;
                let mut recorder = Recorder::new(gpu);
                recorder.record(&work, &[&losses, &record]);
                let read: Vec<_> = recorder.finish().collect();
                let record: LossRecord = bytemuck::pod_read_unaligned(&read[1]);
                Ok((unpad_map::<f32>(&shape.map(), &read[0]), record))
            };
            let (losses, record) = match result(&small) {
                Ok(result) => result,
                Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{shape:?}: {error}"),
            };
            let (expected, whole) = result(default_limits_gpu()).unwrap();
            assert_eq!(bits(&losses), bits(&expected), "{bytes} {shape:?}");
            assert_eq!((record.valid, record.weight), (whole.valid, whole.weight), "{shape:?}");
            assert!((record.loss - whole.loss).abs() <= 264.0 * U as f32 * whole.loss, "{record:?} {whole:?}");
        }
    }
    assert!(refused <= 6, "{refused} refused");
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let operator = CrossEntropy::new();
    for found in [0usize, 16, 47, 49] {
        let error = operator.run_soft_blocking(gpu, &shape, &[0.0; 48], &vec![0.0; found]).unwrap_err();
        let n = found as u64;
        assert!(matches!(error, Error::Length { what: "targets", expected: 48, found } if found == n), "{error}");
        let error = operator.run_soft_blocking(gpu, &shape, &vec![0.0; found], &[0.0; 48]).unwrap_err();
        assert!(matches!(error, Error::Length { what: "logits", expected: 48, found } if found == n), "{error}");
    }
    let smoothing = operator.clone().label_smoothing(1.5).run_soft_blocking(gpu, &shape, &[0.0; 48], &[0.0; 48]);
    assert!(matches!(smoothing, Err(Error::Value { what: "label smoothing", found: 1.5, .. })));
    let weights = operator.clone().class_weights(Some(vec![1.0; 4]));
    let weights = weights.run_soft_blocking(gpu, &shape, &[0.0; 48], &[0.0; 48]);
    assert!(matches!(weights, Err(Error::Length { what: "class weights", expected: 3, found: 4 })));

    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, record, losses) = (storage(192), storage(192), storage(16), storage(64));
    let try_with = |targets: &wgpu::Buffer, record: &wgpu::Buffer, losses: &wgpu::Buffer| {
        dispatch(gpu, &operator, &shape, (&input, targets), record, Some(losses)).map(|_| ()).unwrap_err()
    };
    let is = |error: Error, expected: Error| assert_eq!(error.to_string(), expected.to_string());
    let small = Error::BufferTooSmall { what: "target", offset: 0, needed: 192, found: 188 };
    is(try_with(&storage(188), &record, &losses), small);
    is(
        try_with(&record, &record, &losses),
        Error::BufferTooSmall { what: "target", offset: 0, needed: 192, found: 16 },
    );
    is(try_with(&targets, &targets, &losses), Error::Aliased { written: "loss record", other: "target" });
    is(try_with(&targets, &record, &targets), Error::Aliased { written: "loss", other: "target" });
    is(try_with(&targets, &input, &losses), Error::Aliased { written: "loss record", other: "logits" });
    // The same tensor may be the logits and the targets.
    assert!(dispatch(gpu, &operator, &shape, (&input, &input), &record, Some(&losses)).is_ok());
    let uniform = buffer(gpu, 192, BufferUsages::UNIFORM);
    assert!(matches!(try_with(&uniform, &record, &losses), Error::Usage { what: "target", .. }));
    // Soft targets of f16 logits are f32.
    let halves = dispatch(gpu, &operator, &shape.f16(), (&input, &storage(96)), &record, None);
    assert!(matches!(halves, Err(Error::BufferTooSmall { what: "target", needed: 192, found: 96, .. })));
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [3855, 3856, 13107, 16384, 65536] {
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let mut random = Random::new(7);
        let mut data = random.ties(&shape);
        let last = 3 * (classes as usize - 1);
        (data[last], data[last + 1], data[last + 2]) = (5.0, -INF, 4.0);
        let targets = probabilities(&mut random, &shape);
        match CrossEntropy::new().per_pixel(true).run_soft_blocking(gpu(), &shape, &data, &targets) {
            Ok(loss) => {
                let expected = reference::cross_entropy_soft(&shape, &data, &targets, None, 0.0).per_pixel;
                assert_close(&format!("{classes}"), &loss.per_pixel.unwrap(), &expected, |i| 1e-3 * expected[i]);
            }
            Err(error) => assert!(classes > 3855 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
        }
    }
}
