//! Smoothing over the frames of a video: the twin on awkward shapes, frame by frame and over many, special values, what
//! follows in the chain, windows, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferUsages};
use seghead::{
    Activation, Argmax, Dispatch, Error, Gpu, LabelType, Logits, MultiLabel, Outputs, Softmax, TemporalSmoothing,
    reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const LEAST: f64 = f32::MIN_POSITIVE as f64;
const ACTIVATIONS: [Activation; 2] = [Activation::Softmax, Activation::Sigmoid];

fn smoothing(ratio: f32, activation: Activation, probabilities: bool) -> TemporalSmoothing {
    TemporalSmoothing::new(ratio).activation(activation).probabilities(probabilities)
}

fn dispatch(
    gpu: &Gpu,
    operator: &TemporalSmoothing,
    shape: &Logits,
    [input, state, out]: [&Buffer; 3],
) -> Result<Dispatch, Error> {
    let [input, state, out] = [input, state, out].map(Buffer::as_entire_buffer_binding);
    operator.dispatch(gpu, shape, input, state, out)
}

const USAGE: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// A new state: zeros.
fn new_state(gpu: &Gpu, shape: &Logits) -> Buffer {
    buffer(gpu, TemporalSmoothing::state_bytes(shape), USAGE)
}

/// The numbers of a state, N × C × H × W.
fn unpad_state(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    shape.map().unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes))
}

/// A state with these numbers and NaN in its padding.
fn upload_state(gpu: &Gpu, shape: &Logits, values: &[f32]) -> Buffer {
    let map = shape.map();
    let (stride, width) = (map.row_stride() as usize, map.width() as usize);
    let mut padded = Vec::new();
    for plane in values.chunks_exact(shape.pixels() as usize) {
        let start = padded.len();
        padded.resize(start + map.image_stride() as usize, NAN);
        for (row, values) in plane.chunks_exact(width).enumerate() {
            padded[start + row * stride..][..width].copy_from_slice(values);
        }
    }
    let state = new_state(gpu, shape);
    gpu.queue().write_buffer(&state, 0, bytemuck::cast_slice(&padded));
    state
}

/// A buffer for a tensor, of which every byte is known before.
fn guarded(gpu: &Gpu, shape: &Logits) -> Buffer {
    let out = buffer(gpu, shape.output().bytes(), USAGE);
    gpu.queue().write_buffer(&out, 0, &vec![0xa5; out.size() as usize]);
    out
}

/// The packed elements of a result, N × C × H × W; what lies outside a rectangle is as it was.
fn unlaid(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    let mut all: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
    let values = places(shape).map(|at| f32::from_bits(all[at])).collect();
    if shape.offset() > 0 || shape.row_stride() != shape.width() * shape.pixel_stride() {
        places(shape).for_each(|at| all[at] = 0xa5a5_a5a5);
        assert!(all.iter().all(|&word| word == 0xa5a5_a5a5), "{shape:?}: written outside");
    }
    values
}

/// As f16 has them.
fn rounded(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect()
}

/// Frames of different temper: of ordinary logits, of ties, and of a network that is very sure.
fn frame(random: &mut Random, shape: &Logits, i: usize) -> Vec<f32> {
    match i % 4 {
        0 | 3 => rounded(random.logits(shape)),
        1 => random.ties(shape),
        _ => rounded(random.logits(shape).into_iter().map(|x| 6.0 * x).collect()),
    }
}

/// What rounding in f32 makes of a frame at the most.
struct Bounds {
    /// Of s, N × C × H × W.
    s: Vec<f64>,
    /// Of its logit.
    logit: Vec<f64>,
    /// How much of the error of the state is left in s.
    weight: Vec<f64>,
}

/// From the errors that Vulkan allows: exp(x) 3 + 2 |x| ulp, a quotient 2.5 ulp, a logarithm 3 ulp, between 0.5 and 2
/// 2⁻²¹; an ulp is 2 U at most. What is below the smallest normal number may be 0. `error` is that of `before`.
fn bounds(
    shape: &Logits,
    data: &[f32],
    before: &[f64],
    (activation, ratio): (Activation, f32),
    error: &[f64],
) -> Bounds {
    let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
    let packed = packed(shape);
    let exact = reference::temporal_smoothing(&packed, data, before, activation, ratio.into());
    let unsmoothed = reference::temporal_smoothing(&packed, data, before, activation, 0.0);
    let zeros = vec![0.0; data.len()];
    let mut found = Bounds { s: zeros.clone(), logit: zeros.clone(), weight: zeros };
    // Of w, and of a term exp(−d) of the sum, relative to 1 + R: distances are to the maximum, which is left out.
    let of_entropy = |distances: &[f64], outcomes: usize| {
        let steps = 10.0 * outcomes as f64 + 10.0;
        let sum = |power: i32| distances.iter().map(|d| (-d).exp() * d.min(200.0).powi(power)).sum::<f64>();
        let (rest, moment, second) = (sum(0), sum(1), sum(2));
        // A term has its own error and those of the rescalings, whose distances sum to its own.
        let of_rest = U * (steps * rest + 5.0 * moment);
        let of_moment = U * ((steps + 4.0) * moment + 5.0 * second);
        let mut of_logarithm = 20.0 * U * rest;
        if rest > 0.999 {
            of_logarithm += 6.0 * U * rest.ln_1p() + U + if rest < 1.001 { 2f64.powi(-21) } else { 0.0 };
        }
        let (all, entropy) = (1.0 + rest, rest.ln_1p() + moment / (1.0 + rest));
        let of_sum = of_rest / all + U;
        let of_entropy = (of_rest + of_moment + moment * (of_sum + 8.0 * U)) / all + of_logarithm + U * entropy;
        let blend = f64::from(ratio) / (outcomes.max(2) as f64).ln();
        (blend * entropy, blend * (of_entropy + 3.0 * U * entropy) + 2f64.powi(-100), of_sum)
    };
    let logarithm = |s: f64, error: f64| {
        (s + error).max(LEAST).ln() - (s - error).max(LEAST).ln() + 6.0 * U * s.max(LEAST).ln().abs() + 2f64.powi(-21)
    };
    for pixel in 0..shape.images() as usize * plane {
        let at = |c: usize| (pixel / plane * classes + c) * plane + pixel % plane;
        let x: Vec<f64> = (0..classes).map(|c| data[at(c)].into()).collect();
        let maximum = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut distances: Vec<f64> = x.iter().map(|x| maximum - x).collect();
        distances.sort_by(f64::total_cmp);
        let of_pixel = of_entropy(&distances[1..], classes);
        for (c, &x) in x.iter().enumerate() {
            let i = at(c);
            let (distance, (weight, of_weight, of_sum)) = match activation {
                Activation::Sigmoid => (x.abs(), of_entropy(&[x.abs()], 2)),
                _ => (maximum - x, of_pixel),
            };
            let past = before[i] >= LEAST && before[i].is_finite();
            let (weight, of_weight) = if past { (weight, of_weight) } else { (0.0, 0.0) };
            let step = |p: f64, before: f64, of_before: f64| {
                let of_p = p * ((16.0 + 5.0 * distance.min(200.0)) * U + of_sum) + LEAST;
                let way = if past { (before - p).abs() } else { 0.0 };
                of_p + (of_weight + 4.0 * U * weight) * way + U * (p + way) + weight * of_before + LEAST
            };
            let (p, s) = (unsmoothed.probabilities[i], exact.probabilities[i]);
            found.s[i] = step(p, before[i], error[i]);
            found.weight[i] = weight;
            found.logit[i] = logarithm(s, found.s[i]);
            if activation == Activation::Sigmoid {
                let (q, opposite) = (1.0 / (1.0 + x.exp()), 1.0 - before[i]);
                let t = if past { q + weight * (opposite - q) } else { q };
                found.logit[i] += logarithm(t, step(q, opposite, error[i] + U));
                found.logit[i] += U * exact.logits[i].abs();
            }
        }
    }
    found
}

/// Compares what a frame has left with the twin.
#[track_caller]
fn check(
    what: &str,
    shape: &Logits,
    data: &[f32],
    before: &[f32],
    operator: (Activation, f32, bool),
    (state, out): (&[f32], &[f32]),
) {
    let (activation, ratio, probabilities) = operator;
    let before: Vec<f64> = before.iter().map(|&s| s.into()).collect();
    let expected = reference::temporal_smoothing(&packed(shape), data, &before, activation, ratio.into());
    let bounds = bounds(shape, data, &before, (activation, ratio), &vec![0.0; data.len()]);
    let what = format!("{what} {shape:?} {operator:?}");
    assert_close(&format!("state of {what}"), state, &expected.state, |i| bounds.s[i]);
    assert!(state.iter().all(|s| s.is_nan() || *s >= f32::MIN_POSITIVE), "{what}");
    match probabilities {
        true => assert_close(&what, out, &expected.probabilities, |i| bounds.s[i]),
        false => assert_close(&what, out, &expected.logits, |i| bounds.logit[i]),
    }
}

/// Three frames of each shape, each held to what the state before it, as the kernel left it, should become.
#[test]
fn oracle() {
    for gpu in [gpu(), default_limits_gpu()] {
        for (activation, classes) in ACTIVATIONS.into_iter().flat_map(|a| [1, 2, 3, 8, 9, 30].map(|c| (a, c))) {
            let mut random = Random::new(u64::from(classes));
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let (ratio, probabilities) = ([1.0, 0.0, 0.5, 0.9][i % 4], i / 4 % 2 == 0);
                let operator = smoothing(ratio, activation, probabilities);
                let state = new_state(gpu, &shape);
                let frames: Vec<_> = (0..3).map(|j| frame(&mut random, &shape, i + j)).collect();
                for data in &frames {
                    let (input, out) = (upload_laid(gpu, &shape, data), guarded(gpu, &shape));
                    let work = dispatch(gpu, &operator, &shape, [&input, &state, &out]).unwrap();
                    recorder.record(&work, &[&state, &out]);
                }
                cases.push((shape, frames, (activation, ratio, probabilities)));
            }
            let mut results = recorder.finish();
            for (shape, frames, operator) in cases {
                let mut before = vec![0.0; elements(&shape)];
                for (i, data) in frames.iter().enumerate() {
                    let state = unpad_state(&shape, &results.next().unwrap());
                    let out = unlaid(&shape, &results.next().unwrap());
                    check(&format!("frame {i}"), &shape, data, &before, operator, (&state, &out));
                    before = state;
                }
            }
        }
    }
}

/// Ten frames in one encoder, against a twin that keeps a state of its own: errors add up as the state is kept.
#[test]
fn ten_frames() {
    for (activation, shape) in ACTIVATIONS
        .into_iter()
        .flat_map(|a| [Logits::chw(5, 7, 9).unwrap(), Logits::nhwc(2, 4, 5, 30).unwrap()].map(|shape| (a, shape)))
    {
        let (gpu, ratio, mut random) = (gpu(), 0.8, Random::new(10));
        let (state, mut recorder) = (new_state(gpu, &shape), Recorder::new(gpu));
        let frames: Vec<_> = (0..10).map(|i| frame(&mut random, &shape, i)).collect();
        for (i, data) in frames.iter().enumerate() {
            let (input, out) = (upload_laid(gpu, &shape, data), guarded(gpu, &shape));
            let operator = smoothing(ratio, activation, i % 2 == 0);
            recorder.record(&dispatch(gpu, &operator, &shape, [&input, &state, &out]).unwrap(), &[&out]);
        }
        let (mut before, mut error) = (vec![0.0; elements(&shape)], vec![0.0; elements(&shape)]);
        for (i, (data, bytes)) in frames.iter().zip(recorder.finish()).enumerate() {
            let expected = reference::temporal_smoothing(&packed(&shape), data, &before, activation, ratio.into());
            let bounds = bounds(&shape, data, &before, (activation, ratio), &error);
            let out = unlaid(&shape, &bytes);
            match i % 2 {
                0 => assert_close("probabilities", &out, &expected.probabilities, |i| bounds.s[i]),
                _ => assert_close("logits", &out, &expected.logits, |i| bounds.logit[i]),
            }
            (before, error) = (expected.state, bounds.s);
        }
    }
}

/// The uncertainty is the entropy that the twin of the scores has: from a state of 1, s = p + u · (1 − p).
#[test]
fn uncertainty() {
    for classes in [2, 3, 21] {
        let shape = Logits::chw(classes, 4, 5).unwrap();
        let data = Random::new(1).logits(&shape);
        let (entropy, p) =
            (reference::scores(&shape, &data).entropy, reference::softmax(&shape, &data, seghead::Axis::Class));
        let ones = vec![1.0; data.len()];
        let s = reference::temporal_smoothing(&shape, &data, &ones, Activation::Softmax, 1.0).probabilities;
        for i in 0..data.len() {
            let u = entropy[i % 20] / f64::from(classes).ln();
            assert!((s[i] - (p[i] + u * (1.0 - p[i]))).abs() < 1e-14, "{classes} [{i}]");
        }
        let s = reference::temporal_smoothing(&shape, &data, &ones, Activation::Sigmoid, 1.0).probabilities;
        for (p, s) in reference::sigmoid(&data).into_iter().zip(s) {
            let u = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2());
            assert!((s - (p + u * (1.0 - p))).abs() < 1e-14, "{p}");
        }
    }
}

fn run(gpu: &Gpu, operator: &TemporalSmoothing, shape: &Logits, state: &Buffer, data: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (input, out) = (upload_laid(gpu, shape, data), guarded(gpu, shape));
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch(gpu, operator, shape, [&input, state, &out]).unwrap(), &[state, &out]);
    let mut read = recorder.finish();
    (unpad_state(shape, &read.next().unwrap()), unlaid(shape, &read.next().unwrap()))
}

/// A state of zeros has no past: nothing of what was before is left, to the last bit.
#[test]
fn the_first_frame_and_one_after_a_reset() {
    for (activation, probabilities) in ACTIVATIONS.into_iter().flat_map(|a| [false, true].map(|p| (a, p))) {
        let gpu = gpu();
        let shape = Logits::nchw(2, 3, 5, 7).unwrap();
        let mut random = Random::new(3);
        let (first, second) = (random.logits(&shape), random.logits(&shape));
        let operator = smoothing(1.0, activation, probabilities);
        let state = new_state(gpu, &shape);
        let fresh = run(gpu, &operator, &shape, &state, &first);
        let unsmoothed = run(gpu, &smoothing(0.0, activation, probabilities), &shape, &new_state(gpu, &shape), &first);
        assert_eq!(fresh, unsmoothed);
        assert_ne!(run(gpu, &operator, &shape, &state, &second).0, fresh.0);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.clear_buffer(&state, 0, None);
        gpu.queue().submit([encoder.finish()]);
        assert_eq!(run(gpu, &operator, &shape, &state, &first), fresh);
        // Ratio 0 looks at no past either.
        let none = smoothing(0.0, activation, probabilities);
        run(gpu, &none, &shape, &state, &second);
        assert_eq!(run(gpu, &none, &shape, &state, &first), fresh);
    }
}

/// Pixels of which the first and the last class hold every pair of special values, beside −1.5.
fn special_frame(classes: u32) -> (Logits, Vec<f32>) {
    #[rustfmt::skip]
    let values = [
        INF, -INF, NAN, -NAN, f32::from_bits(0xff80_0001), 0.0, -0.0, 1e-38, -1e-38, f32::from_bits(1), f32::MAX,
        f32::MIN, 88.0, -88.0, 104.0, -104.0, 200.0, -200.0, 16.0, -17.0, 1.25,
    ];
    let n = values.len();
    let shape = Logits::chw(classes, n as u32, n as u32).unwrap();
    let value = |i: usize| match i / (n * n) {
        0 => values[i % n],
        c if c + 1 == classes as usize => values[i / n % n],
        c => [-1.5, -INF][(c + i) % 2],
    };
    (shape, (0..elements(&shape)).map(value).collect())
}

/// A frame with special values between two ordinary ones, and over a state with everything that is no past.
#[test]
fn special_values() {
    for (activation, classes) in ACTIVATIONS.into_iter().flat_map(|a| [1, 2, 3, 30].map(|c| (a, c))) {
        for gpu in [gpu(), default_limits_gpu()] {
            let (shape, special) = special_frame(classes);
            let mut random = Random::new(4);
            let frames = [random.logits(&shape), special.clone(), special, random.logits(&shape)];
            for (ratio, probabilities) in [(0.7, false), (1.0, true)] {
                let operator = smoothing(ratio, activation, probabilities);
                let state = new_state(gpu, &shape);
                let mut before = vec![0.0; elements(&shape)];
                for (i, data) in frames.iter().enumerate() {
                    let (left, out) = run(gpu, &operator, &shape, &state, data);
                    let what = format!("frame {i}");
                    check(&what, &shape, data, &before, (activation, ratio, probabilities), (&left, &out));
                    before = left;
                }
                assert!(before.iter().all(|s| s.is_finite()));
                #[rustfmt::skip]
                let values = [
                    NAN, -NAN, INF, -INF, 0.0, -0.0, -0.5, 1e-39, -1e-39, f32::MIN_POSITIVE, -f32::MIN_POSITIVE,
                    f32::MIN_POSITIVE.next_down(), 0.25, 1.0, 1e-30,
                ];
                let before: Vec<f32> = (0..elements(&shape)).map(|i| values[i % values.len()]).collect();
                let state = upload_state(gpu, &shape, &before);
                let (left, out) = run(gpu, &operator, &shape, &state, &frames[3]);
                check("odd state", &shape, &frames[3], &before, (activation, ratio, probabilities), (&left, &out));
            }
        }
    }
}

/// −Inf is impossible in a frame without a past, and NaN stays where it is.
#[test]
fn nan_stays_in_its_pixel() {
    let shape = Logits::chw(3, 1, 4).unwrap();
    let data = [1.0, NAN, 3.0, 0.5, -INF, 1.0, 2.0, 0.5, 0.0, 0.0, INF, 0.5];
    let p = run(gpu(), &smoothing(0.5, Activation::Softmax, true), &shape, &new_state(gpu(), &shape), &data).1;
    assert_eq!(p[4].to_bits(), 0);
    let nan: Vec<_> = p.iter().map(|p| p.is_nan()).collect();
    assert_eq!(nan, [false, true, true, false].repeat(3));
    let p = run(gpu(), &smoothing(0.5, Activation::Sigmoid, true), &shape, &new_state(gpu(), &shape), &data).1;
    assert!((0..12).all(|i| p[i].is_nan() == (i == 1)), "{p:?}");
    assert_eq!((p[4].to_bits(), p[10]), (0, 1.0));
}

/// What a sure network rules out is of the past alone, however little of it is left: single numbers of the formula.
#[test]
fn small_entropies() {
    let shape = Logits::chw(2, 1, 7).unwrap();
    let gaps = [4.0f32, 8.0, 12.0, 16.0, 20.0, 40.0, 80.0];
    let data: Vec<f32> = gaps.into_iter().chain([0.0; 7]).collect();
    let before = [0.0625f32; 7].into_iter().chain([0.9375; 7]).collect::<Vec<_>>();
    for activation in ACTIVATIONS {
        let state = upload_state(gpu(), &shape, &before);
        let (left, out) = run(gpu(), &smoothing(1.0, activation, false), &shape, &state, &data);
        for (i, gap) in gaps.into_iter().map(f64::from).enumerate() {
            let e = (-gap).exp();
            let u = (e.ln_1p() + gap * e / (1.0 + e)) / 2f64.ln();
            let q = e / (1.0 + e);
            let expected = q + u * (0.9375 - q);
            // The exponential, twice, and some tens of other roundings.
            let tolerance = (10.0 * gap + 60.0) * U;
            if activation == Activation::Softmax {
                let found = f64::from(left[7 + i]);
                assert!((found - expected).abs() < tolerance * expected, "{gap}: {found} {expected}");
            }
            // Of the softmax the second class; of the sigmoid of the first what it is short of 1.
            let (found, logit) = match activation {
                Activation::Softmax => (f64::from(out[7 + i]), expected.ln()),
                _ => (f64::from(out[i]), -(expected / (1.0 - expected)).ln()),
            };
            let of_logarithms = 12.0 * U * logit.abs() + 2f64.powi(-20);
            assert!((found - logit).abs() < tolerance + of_logarithms, "{gap}: {found} {logit}");
        }
    }
}

/// Labels of a frame in the chain are those of the smoothed probabilities, masks too.
#[test]
fn chain() {
    let (gpu, ratio) = (gpu(), 0.9);
    let shape = Logits::nchw(2, 5, 9, 11).unwrap();
    let mut random = Random::new(6);
    let frames: Vec<_> = (0..4).map(|_| random.logits(&shape)).collect();
    for activation in ACTIVATIONS {
        let (state, mut recorder) = (new_state(gpu, &shape), Recorder::new(gpu));
        for data in &frames {
            let (input, logits) = (upload(gpu, &shape, data), output(gpu, shape.bytes()));
            let work = dispatch(gpu, &smoothing(ratio, activation, false), &shape, [&input, &state, &logits]).unwrap();
            recorder.record(&work, &[]);
            let (from, found) = (logits.as_entire_buffer_binding(), output(gpu, 5 * shape.map().bytes(8)));
            let next = match activation {
                Activation::Sigmoid => {
                    MultiLabel::new().dispatch(gpu, &shape, from.clone(), found.as_entire_buffer_binding())
                }
                _ => {
                    let labels = Outputs::labels(found.as_entire_buffer_binding());
                    Argmax::new().label_type(LabelType::U8).dispatch(gpu, &shape, from.clone(), labels)
                }
            };
            recorder.record(&next.unwrap(), &[&found]);
            // A softmax gives the probabilities back.
            let p = output(gpu, shape.bytes());
            let softmax = Softmax::new().dispatch(gpu, &shape, from, p.as_entire_buffer_binding()).unwrap();
            recorder.record(&softmax, &[&p]);
        }
        let (mut before, mut changed, mut results) = (vec![0.0; elements(&shape)], 0, recorder.finish());
        for data in &frames {
            let s = reference::temporal_smoothing(&shape, data, &before, activation, ratio.into());
            let (found, p) = (results.next().unwrap(), unpad_tensor(&shape, &results.next().unwrap()));
            let plane = shape.map().image_stride() as usize;
            for (pixel, i) in (0..2 * 99).map(|pixel| (pixel, pixel / 99 * 5 * 99 + pixel % 99)) {
                let classes = (0..5).map(|c| s.probabilities[i + c * 99]);
                if activation == Activation::Sigmoid {
                    for (c, s) in classes.enumerate().filter(|(_, s)| (s - 0.5).abs() > 1e-5) {
                        let at = (pixel / 99 * 5 + c) * plane + pixel % 99;
                        assert_eq!(found[at] == 1, s > 0.5, "pixel {pixel} class {c}");
                        changed += u32::from((s > 0.5) != (data[i + c * 99] > 0.0));
                    }
                    continue;
                }
                let classes: Vec<f64> = classes.collect();
                let label = (0..5).max_by(|&a, &b| classes[a].total_cmp(&classes[b])).unwrap();
                let clear = (0..5).all(|c| c == label || classes[c] < classes[label] - 1e-5);
                assert!(!clear || usize::from(found[pixel / 99 * plane + pixel % 99]) == label, "pixel {pixel}");
                changed += u32::from((0..5).any(|c| data[i + c * 99] > data[i + label * 99]));
                for (c, s) in classes.iter().enumerate() {
                    assert!((f64::from(p[i + c * 99]) - s).abs() < 1e-5, "pixel {pixel} class {c}");
                }
            }
            before = s.state;
        }
        assert!(changed > 20, "smoothing has changed {changed}");
    }
}

/// With the same frame again and again, s comes to p as fast as the formula says: s − p shrinks by ratio · u.
#[test]
fn convergence() {
    let shape = Logits::chw(3, 1, 5).unwrap();
    let data = Random::new(7).logits(&shape);
    for activation in ACTIVATIONS {
        let gpu = gpu();
        let start: Vec<f32> = (0..15).map(|i| (1 + i) as f32 / 16.0).collect();
        let (state, input) = (upload_state(gpu, &shape, &start), upload(gpu, &shape, &data));
        let out = output(gpu, shape.bytes());
        let work = dispatch(gpu, &smoothing(1.0, activation, true), &shape, [&input, &state, &out]).unwrap();
        let mut recorder = Recorder::new(gpu);
        (0..60).for_each(|_| recorder.record(&work, &[&out]));
        let zeros = vec![0.0; 15];
        let p = reference::temporal_smoothing(&shape, &data, &zeros, activation, 1.0).probabilities;
        let first: Vec<f64> = start.iter().map(|&s| s.into()).collect();
        let bounds = bounds(&shape, &data, &first, (activation, 1.0), &zeros);
        for (frame, bytes) in recorder.finish().enumerate() {
            let s = unpad_tensor(&shape, &bytes);
            for i in 0..15 {
                let left = bounds.weight[i].powi(frame as i32 + 1) * (first[i] - p[i]).abs();
                // The errors of all frames, of which a share is kept.
                let within = left + bounds.s[i] / (1.0 - bounds.weight[i]);
                assert!((f64::from(s[i]) - p[i]).abs() <= within, "frame {frame} [{i}]: {} {}", s[i], p[i]);
            }
        }
    }
}

/// A pixel near a tie changes its label with every frame; smoothed it does so less often, and never where one frame
/// alone is against all others.
#[test]
fn flicker() {
    let gpu = gpu();
    let shape = Logits::chw(2, 1, 64).unwrap();
    let mut random = Random::new(8);
    let frames: Vec<Vec<f32>> =
        (0..24).map(|_| (0..128).map(|i| if i < 64 { 0.15 } else { 0.0 } + 0.08 * random.logit()).collect()).collect();
    let flips = |ratio: f32| {
        let (state, mut recorder) = (new_state(gpu, &shape), Recorder::new(gpu));
        for data in &frames {
            let (input, logits, labels) = (upload(gpu, &shape, data), output(gpu, shape.bytes()), output(gpu, 64));
            let smoothing = smoothing(ratio, Activation::Softmax, false);
            recorder.record(&dispatch(gpu, &smoothing, &shape, [&input, &state, &logits]).unwrap(), &[]);
            let outputs = Outputs::labels(labels.as_entire_buffer_binding());
            let argmax = Argmax::new().dispatch(gpu, &shape, logits.as_entire_buffer_binding(), outputs).unwrap();
            recorder.record(&argmax, &[&labels]);
        }
        let labels: Vec<_> = recorder.finish().collect();
        let differ = |pair: &[Vec<u8>]| pair[0].iter().zip(&pair[1]).filter(|(a, b)| a != b).count();
        labels.windows(2).map(differ).sum::<usize>()
    };
    let (without, half, most) = (flips(0.0), flips(0.5), flips(0.9));
    assert!(most * 3 < without && most < half && half < without && most > 0, "{without} {half} {most}");
}

/// A device that binds little of its large buffers.
fn small(bytes: u64) -> Gpu {
    watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: bytes,
        max_uniform_buffer_binding_size: bytes,
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    })
}

/// Two frames on a device with such limits leave the bits that one without leaves, and nothing beside them.
#[test]
fn windows() {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    // The logits can be bound at once with 16 KiB, and the state cannot.
    let state_is_larger = nchw(3, 64, 3, 7);
    assert!(state_is_larger.bytes() <= 16384 && TemporalSmoothing::state_bytes(&state_is_larger) > 16384);
    let mut shapes = beyond_a_binding();
    shapes.extend([
        nchw(5, 1, 33, 37),
        nchw(2, 3, 40, 50).crop(5, 0, 30, 50).unwrap(),
        state_is_larger,
        nchw(1, 21, 10, 6).crop(0, 0, 10, 5).unwrap(),
        nchw(40, 30, 1, 1),
        // Rows of whole groups, apart or of a rectangle.
        nchw(1, 3, 33, 52).with_row_stride(64).unwrap(),
        nchw(2, 30, 20, 24).crop(3, 5, 11, 16).unwrap(),
    ]);
    for bytes in [4096, 16384, 65536] {
        let limited = small(bytes);
        let (mut refused, mut split) = (0, 0);
        for (i, shape) in shapes.iter().enumerate() {
            let mut random = Random::new(bytes + i as u64);
            let frames: Vec<_> = (0..2).map(|_| rounded(random.logits(shape))).collect();
            let before: Vec<f32> = (0..elements(shape)).map(|_| random.below(100) as f32 / 100.0).collect();
            for activation in ACTIVATIONS {
                let operator = smoothing(0.75, activation, i % 2 == 0);
                let run = |gpu: &Gpu| -> Result<(usize, Vec<Vec<u32>>), Error> {
                    let (state, mut recorder) = (upload_state(gpu, shape, &before), Recorder::new(gpu));
                    let mut steps = 0;
                    for data in &frames {
                        let (input, out) = (upload_laid(gpu, shape, data), guarded(gpu, shape));
                        let work = dispatch(gpu, &operator, shape, [&input, &state, &out])?;
                        steps = work.kernels().len();
                        recorder.record(&work, &[&state, &out]);
                    }
                    let read = recorder.finish().enumerate().map(|(i, bytes)| match i % 2 {
                        0 => bits(&unpad_state(shape, &bytes)),
                        _ => bits(&unlaid(shape, &bytes)),
                    });
                    Ok((steps, read.collect()))
                };
                match run(&limited) {
                    Ok((steps, found)) => {
                        split += u32::from(steps > 2);
                        assert_eq!(found, run(default_limits_gpu()).unwrap().1, "{bytes} {shape:?} {activation:?}");
                    }
                    Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => {
                        assert!(bytes < 16384 || *shape != state_is_larger, "{needed} {limit}");
                        refused += 1;
                    }
                    Err(error) => panic!("{bytes} {shape:?}: {error}"),
                }
            }
        }
        assert!(refused <= shapes.len() && (split > 10 || bytes == 65536), "{bytes}: {refused} refused, {split} split");
    }
}

/// A device that allows few workgroups in one dimension: the grid goes on in the second, images in the next dispatch.
#[test]
fn few_workgroups() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    for shape in [Logits::chw(9, 40, 70).unwrap(), Logits::nchw(7, 40, 3, 5).unwrap()] {
        let mut random = Random::new(5);
        let data = random.logits(&shape);
        let before: Vec<f32> = (0..data.len()).map(|_| random.below(100) as f32 / 100.0).collect();
        for activation in ACTIVATIONS {
            let state = upload_state(&few, &shape, &before);
            let (left, out) = run(&few, &smoothing(0.5, activation, false), &shape, &state, &data);
            check("few workgroups", &shape, &data, &before, (activation, 0.5, false), (&left, &out));
        }
    }
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 3, 5).unwrap();
    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, state, out) = (storage(180), storage(192), storage(180));
    assert_eq!(TemporalSmoothing::state_bytes(&shape), 192);
    let with =
        |operator: &TemporalSmoothing, buffers: [&Buffer; 3]| dispatch(gpu, operator, &shape, buffers).map(|_| ());
    let all = [&input, &state, &out];
    for ratio in [-0.1, 1.1, NAN, INF, -f32::MIN_POSITIVE] {
        let error = with(&TemporalSmoothing::new(ratio), all).unwrap_err();
        assert!(matches!(error, Error::Value { what: "ratio", .. }), "{error}");
    }
    for ratio in [0.0, -0.0, 1.0] {
        with(&TemporalSmoothing::new(ratio), all).unwrap();
    }
    let error = with(&smoothing(0.5, Activation::None, false), all).unwrap_err();
    assert!(matches!(error, Error::NoActivation { what: "temporal smoothing" }), "{error}");
    assert_eq!(error.to_string(), "activation of temporal smoothing: expected softmax or sigmoid, found none");

    for operator in ACTIVATIONS.map(|activation| smoothing(0.5, activation, false)) {
        let few = [(0, storage(176), 180, 176), (1, storage(188), 192, 188), (2, storage(176), 180, 176)];
        for (at, small, of, there) in &few {
            let mut buffers = all;
            buffers[*at] = small;
            let error = with(&operator, buffers).unwrap_err();
            let name = ["logits", "state", "output"][*at];
            let Error::BufferTooSmall { what, needed, found, .. } = error else { panic!("{error}") };
            assert_eq!((what, needed, found), (name, *of, *there));
        }
        for at in 0..3 {
            let (mut buffers, uniform) = (all, buffer(gpu, 192, BufferUsages::UNIFORM));
            buffers[at] = &uniform;
            assert!(matches!(with(&operator, buffers).unwrap_err(), Error::Usage { .. }));
        }
        let shared = storage(1024);
        for (buffers, written, other) in [
            ([&shared, &shared, &out], "state", "logits"),
            ([&shared, &state, &shared], "output", "logits"),
            ([&input, &shared, &shared], "output", "state"),
        ] {
            let error = with(&operator, buffers).unwrap_err();
            let Error::Aliased { written: found, other: found_other } = error else { panic!("{error}") };
            assert_eq!([found, found_other], [written, other]);
        }
        let at = |offset| wgpu::BufferBinding { buffer: &shared, offset, size: None };
        let [from, whole] = [&input, &state].map(Buffer::as_entire_buffer_binding);
        let error = operator.dispatch(gpu, &shape, from.clone(), at(4), out.as_entire_buffer_binding()).unwrap_err();
        assert!(matches!(error, Error::Misaligned { what: "state", offset: 4, .. }), "{error}");
        // State and output may be ranges of one buffer, apart from one another.
        assert!(operator.dispatch(gpu, &shape, from.clone(), at(0), at(256)).is_ok());
        assert!(operator.dispatch(gpu, &shape, from, whole, at(512)).is_ok());
    }
}

/// Buffers that overlap as a whole are refused, also where they are brought together band by band.
#[test]
fn overlapping_buffers() {
    let gpu = small(4096);
    let shape = Logits::chw(3, 64, 64).unwrap();
    let [input, shared, other] = [1 << 17; 3].map(|bytes| buffer(&gpu, bytes, BufferUsages::STORAGE));
    for operator in ACTIVATIONS.map(|activation| smoothing(0.5, activation, false)) {
        assert!(dispatch(&gpu, &operator, &shape, [&input, &shared, &other]).unwrap().kernels().len() > 10);
        for buffers in [[&shared, &shared, &other], [&shared, &other, &shared], [&input, &shared, &shared]] {
            let error = dispatch(&gpu, &operator, &shape, buffers).unwrap_err();
            assert!(matches!(error, Error::Aliased { .. }), "{error}");
        }
    }
}
