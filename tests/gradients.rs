//! Gradients of the losses with respect to the logits: the f64 twins against central differences, and the kernels against
//! the twins on awkward shapes with all options; special values as PyTorch has them; bands and windows; errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Axis, BinaryCrossEntropy, CrossEntropy, Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, LossRecord,
    Reduction, Targets, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Which loss, and against what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Labels(LabelType),
    Soft,
    Binary,
}

const KINDS: [Kind; 4] = [Kind::Labels(LabelType::U8), Kind::Labels(LabelType::U32), Kind::Soft, Kind::Binary];

/// A loss with its options; the weights are those of classes, of [`Kind::Binary`] of positive targets, and backwards those of
/// classes.
#[derive(Clone, Debug)]
struct Loss {
    kind: Kind,
    weights: Option<Vec<f32>>,
    smoothing: f32,
    reduction: Reduction,
}

/// What a loss is taken against, N × H × W labels, or N × C × H × W numbers.
#[derive(Clone, Debug, Default)]
struct Truth {
    labels: Vec<i64>,
    numbers: Vec<f32>,
}

impl Loss {
    fn new(kind: Kind) -> Self {
        Self { kind, weights: None, smoothing: 0.0, reduction: Reduction::Mean }
    }

    /// The label that is ignored.
    fn ignored(&self) -> i64 {
        if self.kind == Kind::Labels(LabelType::U8) { 255 } else { -100 }
    }

    fn cross_entropy(&self) -> CrossEntropy {
        CrossEntropy::new()
            .ignore_index(Some(self.ignored()))
            .class_weights(self.weights.clone())
            .label_smoothing(self.smoothing)
            .reduction(self.reduction)
            .gradient(true)
    }

    fn binary(&self) -> BinaryCrossEntropy {
        let operator = BinaryCrossEntropy::new().pos_weight(self.weights.clone()).class_weights(self.backwards());
        operator.reduction(self.reduction).gradient(true)
    }

    fn backwards(&self) -> Option<Vec<f32>> {
        self.weights.as_ref().map(|weights| weights.iter().rev().copied().collect())
    }

    /// Targets for a tensor of this shape.
    fn truth(&self, random: &mut Random, shape: &Logits) -> Truth {
        let classes = shape.classes();
        let label = |random: &mut Random| match random.below(5) {
            0 => self.ignored(),
            _ => random.below(classes).into(),
        };
        match self.kind {
            Kind::Labels(_) => {
                Truth { labels: (0..shape.map().pixels()).map(|_| label(random)).collect(), ..Truth::default() }
            }
            Kind::Soft => {
                let p = reference::softmax(&packed(shape), &random.logits(shape), Axis::Class);
                Truth {
                    numbers: p.into_iter().map(|p| (p * 256.0).round() as f32 / 256.0).collect(),
                    ..Truth::default()
                }
            }
            Kind::Binary => {
                let number = |random: &mut Random| random.below(5) as f32 / 4.0;
                Truth { numbers: (0..elements(shape)).map(|_| number(random)).collect(), ..Truth::default() }
            }
        }
    }

    /// The reduced loss of packed logits.
    fn value(&self, shape: &Logits, data: &[f64], truth: &Truth) -> f64 {
        let (w, e) = (self.weights.as_deref(), f64::from(self.smoothing));
        let losses = match self.kind {
            Kind::Labels(_) => reference::cross_entropy(shape, data, &truth.labels, Some(self.ignored()), w, e),
            Kind::Soft => reference::cross_entropy_soft(shape, data, &truth.numbers, w, e),
            Kind::Binary => {
                let losses =
                    reference::binary_cross_entropy(shape, data, &truth.numbers, self.backwards().as_deref(), w);
                let sum: f64 = losses.iter().sum();
                return if self.reduction == Reduction::Mean { sum / losses.len() as f64 } else { sum };
            }
        };
        if self.reduction == Reduction::Mean { losses.mean() } else { losses.sum() }
    }

    /// The twin's gradient.
    fn twin<T: Copy + Into<f64>>(&self, shape: &Logits, data: &[T], truth: &Truth) -> Vec<f64> {
        let (w, e, r) = (self.weights.as_deref(), f64::from(self.smoothing), self.reduction);
        match self.kind {
            Kind::Labels(_) => {
                reference::cross_entropy_gradient(shape, data, &truth.labels, Some(self.ignored()), w, e, r)
            }
            Kind::Soft => reference::cross_entropy_soft_gradient(shape, data, &truth.numbers, w, e, r),
            Kind::Binary => {
                let backwards = self.backwards();
                reference::binary_cross_entropy_gradient(shape, data, &truth.numbers, backwards.as_deref(), w, r)
            }
        }
    }

    fn dispatch(
        &self,
        gpu: &Gpu,
        shape: &Logits,
        [input, targets, record, gradient]: [BufferBinding<'_>; 4],
    ) -> Result<Dispatch, Error> {
        match self.kind {
            Kind::Labels(label_type) => {
                let targets = Targets::new(targets, label_type);
                self.cross_entropy().dispatch_gradient(gpu, shape, input, targets, record, gradient)
            }
            Kind::Soft => self.cross_entropy().dispatch_soft_gradient(gpu, shape, input, targets, record, gradient),
            Kind::Binary => self.binary().dispatch_gradient(gpu, shape, input, targets, record, gradient),
        }
    }

    /// The targets in a buffer.
    fn upload(&self, gpu: &Gpu, shape: &Logits, truth: &Truth) -> Buffer {
        let map = shape.map();
        let (width, height) = (map.width() as usize, map.height() as usize);
        let padded = |of: &dyn Fn(i64) -> u32, filler: u32| {
            let mut all = vec![filler; (map.images() * map.image_stride()) as usize];
            for (i, &label) in truth.labels.iter().enumerate() {
                let (image, row) = (i / (width * height), i / width % height);
                all[image * map.image_stride() as usize + row * map.row_stride() as usize + i % width] = of(label);
            }
            all
        };
        match self.kind {
            Kind::Labels(LabelType::U8) => {
                let all: Vec<u8> = padded(&|label| label as u32, 77).into_iter().map(|label| label as u8).collect();
                upload_bytes(gpu, &all)
            }
            Kind::Labels(LabelType::U32) => {
                upload_bytes(gpu, bytemuck::cast_slice(&padded(&|label| label as u32, 12345)))
            }
            Kind::Soft | Kind::Binary => upload_laid(gpu, &shape.output(), &truth.numbers),
        }
    }

    /// The loss on the host path, of data and numbers in the order of the logits.
    fn run(&self, gpu: &Gpu, shape: &Logits, data: Input<'_>, truth: &Truth, single: bool) -> seghead::Loss {
        let cross_entropy = self.cross_entropy().per_pixel(single);
        match self.kind {
            Kind::Labels(_) => cross_entropy.run_blocking(gpu, shape, data, &truth.labels),
            Kind::Soft => cross_entropy.run_soft_blocking(gpu, shape, data, &truth.numbers),
            Kind::Binary => self.binary().per_element(single).run_blocking(gpu, shape, data, &truth.numbers),
        }
        .unwrap()
    }

    /// The error that each element of the gradient may have, of packed N × C × H × W data. An exponential is within 3 + 2 |d|
    /// ulp of 2 U and its argument rounded, so that it has 6 + 5 |d| roundings; a probability has those, what the sum has of
    /// them, those of adding C classes, and some for the division and the weights. The terms that are subtracted have a few each, but for Σ w p′
    /// of C + 6. The sum of the weights that it is divided by goes through at most 4 + 64 + 64 additions.
    fn tolerances(&self, shape: &Logits, data: &[f32], truth: &Truth) -> Vec<f64> {
        let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
        let (c, e) = (classes as f64, f64::from(self.smoothing));
        let weight = |k: usize| self.weights.as_ref().map_or(1.0, |weights| f64::from(weights[k]).abs());
        let mut all = vec![0.0; data.len()];
        let scale = match (self.kind, self.reduction) {
            (_, Reduction::Sum) => 1.0,
            (Kind::Labels(_), _) => {
                let counted = truth.labels.iter().filter(|&&label| label != self.ignored());
                1.0 / counted.map(|&label| weight(label as usize)).sum::<f64>()
            }
            (Kind::Soft, _) => 1.0 / shape.map().pixels() as f64,
            (Kind::Binary, _) => 1.0 / data.len() as f64,
        };
        for pixel in 0..shape.map().pixels() {
            let at = |k: usize| (pixel / plane * classes + k) * plane + pixel % plane;
            let x: Vec<f64> = (0..classes).map(|k| f64::from(data[at(k)])).collect();
            let share = |k: usize| match self.kind {
                Kind::Labels(_) => {
                    let target = if truth.labels[pixel] == k as i64 { 1.0 - e } else { 0.0 };
                    weight(k) * (target + e / c)
                }
                Kind::Soft => weight(k) * ((1.0 - e) * f64::from(truth.numbers[at(k)]).abs() + e / c),
                Kind::Binary => 0.0,
            };
            let total: f64 = (0..classes).map(share).sum();
            let p = reference::softmax(&Logits::chw(shape.classes(), 1, 1).unwrap(), &x, Axis::Class);
            // Behind 104 the exponential is 0.
            let maximum = x.iter().filter(|x| x.is_finite()).copied().fold(-1e39, f64::max);
            let of_exp = |k: usize| 6.0 + 5.0 * (maximum - x[k]).abs().min(104.0);
            let of_sum: f64 = (0..classes).map(|k| p[k] * of_exp(k)).sum();
            for k in 0..classes {
                let size = match self.kind {
                    Kind::Binary => {
                        let (x, z) = (x[k], f64::from(truth.numbers[at(k)]));
                        let (near, far) = (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()));
                        let roundings = 20.0 + 5.0 * x.abs().min(104.0);
                        weight(classes - 1 - k) * (((1.0 - z) * near).abs() + (weight(k) * z * far).abs()) * roundings
                    }
                    _ => total * p[k] * (of_exp(k) + of_sum + 2.0 * c + 30.0) + share(k) * 20.0,
                };
                let of_labels = self.weights.is_some() && matches!(self.kind, Kind::Labels(_));
                let size = size + if of_labels { 140.0 * (total * p[k] + share(k)) } else { 0.0 };
                all[at(k)] = scale * (size * U + f64::from(f32::MIN_POSITIVE) * (total + 4.0 + weight(k)))
                    + f64::from(f32::MIN_POSITIVE);
            }
        }
        all
    }
}

/// Logits that f16 has as well.
fn logits(random: &mut Random, shape: &Logits) -> Vec<f32> {
    (0..elements(shape)).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect()
}

/// Weights whose sums are exact, so that they do not depend on their order.
fn weights(random: &mut Random, classes: u32) -> Vec<f32> {
    (0..classes).map(|_| (1 + random.below(32)) as f32 / 16.0).collect()
}

/// The elements of a tensor of this shape, N × C × H × W. Between rows that are apart, nothing may have been written.
fn take(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    let mut all: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    let taken = places(shape).map(|at| std::mem::take(&mut all[at])).collect();
    if shape.row_stride() != shape.width() * shape.pixel_stride() {
        assert!(all.iter().all(|x| x.to_bits() == 0), "{shape:?}");
    }
    taken
}

/// The gradient, N × C × H × W, and the record, of a dispatch.
fn dispatched(
    gpu: &Gpu,
    loss: &Loss,
    shape: &Logits,
    data: &[f32],
    truth: &Truth,
) -> Result<(Vec<f32>, LossRecord), Error> {
    let (input, targets) = (upload_laid(gpu, shape, data), loss.upload(gpu, shape, truth));
    let (record, gradient) = (output(gpu, 16), output(gpu, shape.output().bytes()));
    let buffers = [&input, &targets, &record, &gradient].map(Buffer::as_entire_buffer_binding);
    let work = loss.dispatch(gpu, shape, buffers)?;
    let mut recorder = Recorder::new(gpu);
    recorder.record(&work, &[&gradient, &record]);
    let mut read = recorder.finish();
    let gradient = take(&shape.output(), &read.next().unwrap());
    Ok((gradient, bytemuck::pod_read_unaligned(&read.next().unwrap())))
}

/// The twins are the derivatives of the losses: central differences, in f64.
#[test]
fn twins_are_derivatives() {
    for shape in [Logits::nchw(2, 3, 2, 3).unwrap(), Logits::nhwc(1, 3, 2, 5).unwrap(), Logits::chw(1, 2, 2).unwrap()] {
        for kind in KINDS {
            for bits in 0..8 {
                let mut random = Random::new(bits);
                let smoothing = if bits & 2 == 0 || kind == Kind::Binary { 0.0 } else { 0.25 };
                let loss = Loss {
                    weights: (bits & 1 != 0).then(|| weights(&mut random, shape.classes())),
                    smoothing,
                    reduction: if bits & 4 == 0 { Reduction::Mean } else { Reduction::Sum },
                    ..Loss::new(kind)
                };
                let truth = loss.truth(&mut random, &shape);
                let data: Vec<f64> = random.logits(&shape).into_iter().map(f64::from).collect();
                let gradient = loss.twin(&shape, &data, &truth);
                for i in 0..data.len() {
                    let at = |step: f64| {
                        let mut data = data.clone();
                        data[i] += step;
                        loss.value(&shape, &data, &truth)
                    };
                    let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
                    assert!((difference - gradient[i]).abs() < 1e-6, "{loss:?}[{i}]: {difference} {}", gradient[i]);
                }
            }
        }
    }
}

#[test]
fn oracle() {
    for classes in [1, 3, 21, 24, 25] {
        for gpu in [gpu(), default_limits_gpu()] {
            for kind in KINDS {
                let mut random = Random::new(u64::from(classes));
                let mut recorder = Recorder::new(gpu);
                let mut cases = Vec::new();
                for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                    // Every combination is a pipeline per class count, and compiling them is what takes the time.
                    let v = if [3, 25].contains(&classes) { i } else { classes as usize };
                    let loss = Loss {
                        weights: (v % 3 != 1).then(|| weights(&mut random, classes)),
                        smoothing: if v % 4 == 2 && kind != Kind::Binary { 0.1 } else { 0.0 },
                        reduction: if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum },
                        ..Loss::new(kind)
                    };
                    let (data, truth) = (logits(&mut random, &shape), loss.truth(&mut random, &shape));
                    let (input, targets) = (upload_laid(gpu, &shape, &data), loss.upload(gpu, &shape, &truth));
                    let (record, gradient) = (output(gpu, 16), output(gpu, shape.output().bytes()));
                    let buffers = [&input, &targets, &record, &gradient].map(Buffer::as_entire_buffer_binding);
                    recorder.record(&loss.dispatch(gpu, &shape, buffers).unwrap(), &[&gradient, &record]);
                    cases.push((shape, loss, data, truth));
                }
                let mut results = recorder.finish();
                for (shape, loss, data, truth) in cases {
                    let (what, plain) = (format!("{shape:?} {loss:?}"), packed(&shape));
                    let expected = loss.twin(&plain, &data, &truth);
                    let tolerance = loss.tolerances(&plain, &data, &truth);
                    let gradient = take(&shape.output(), &results.next().unwrap());
                    assert_close(&what, &gradient, &expected, |i| tolerance[i]);
                    // The loss itself is held to its twin elsewhere; here that it is the same beside the gradient.
                    let record: LossRecord = bytemuck::pod_read_unaligned(&results.next().unwrap());
                    let data: Vec<f64> = data.into_iter().map(f64::from).collect();
                    let value = loss.value(&plain, &data, &truth);
                    assert_close(&what, &[record.loss], &[value], |_| 1e-4 * value.abs() + 1e-6);
                    let ignored = truth.labels.iter().filter(|&&label| label == loss.ignored()).count();
                    let valid = plain.map().pixels() - ignored;
                    assert_eq!((record.valid as usize, record.first_invalid), (valid, u32::MAX), "{what}");
                }
            }
        }
    }
}

/// A small gradient keeps its relative accuracy.
#[test]
fn small_gradients() {
    let shape = Logits::chw(1, 1, 340).unwrap();
    let data: Vec<f32> = (0..340).map(|i| (i / 2) as f32 / 2.03 * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let numbers: Vec<f32> = data.iter().map(|&x| if x.is_sign_negative() { 0.0 } else { 1.0 }).collect();
    let loss = Loss { reduction: Reduction::Sum, ..Loss::new(Kind::Binary) };
    let truth = Truth { numbers, ..Truth::default() };
    let expected = loss.twin(&shape, &data, &truth);
    for gpu in [gpu(), default_limits_gpu()] {
        let (gradient, _) = dispatched(gpu, &loss, &shape, &data, &truth).unwrap();
        let tolerance = |i: usize| (20.0 + 5.0 * f64::from(data[i].abs())) * U * expected[i].abs();
        assert_close("gradient", &gradient, &expected, tolerance);
    }
}

/// Every pair of special logits beside an ordinary one, and special targets: as the f64 formulas have them. They are
/// PyTorch's, but that ignored pixels are 0 whatever their logits.
#[test]
fn special_values() {
    const LOGITS: [f32; 12] = [INF, -INF, NAN, 0.0, -0.0, f32::MAX, f32::MIN, 104.0, -104.0, 1e-40, 1.25, -20.0];
    const NUMBERS: [f32; 8] = [0.0, 1.0, 0.25, -0.5, 3.0, INF, -INF, NAN];
    let side = LOGITS.len() * LOGITS.len();
    for classes in [3, 4, 26] {
        let shape = Logits::chw(classes, NUMBERS.len() as u32, side as u32).unwrap();
        let (plane, mut random) = (shape.pixels() as usize, Random::new(9));
        let data: Vec<f32> = (0..elements(&shape))
            .map(|i| match (i / plane, i % side) {
                (0, pair) => LOGITS[pair % LOGITS.len()],
                (1, pair) => LOGITS[pair / LOGITS.len()],
                _ => random.logit(),
            })
            .collect();
        for kind in KINDS {
            for weighted in [false, true] {
                let mut loss = Loss { reduction: Reduction::Sum, ..Loss::new(kind) };
                loss.weights = weighted.then(|| (0..classes).map(|c| [2.0, 0.0, 0.5][c as usize % 3]).collect());
                let mut truth = loss.truth(&mut random, &shape);
                for (i, number) in truth.numbers.iter_mut().enumerate() {
                    if kind == Kind::Binary || i / plane < 2 {
                        *number = NUMBERS[i % plane / side];
                    }
                }
                let expected = loss.twin(&shape, &data, &truth);
                // Where Inf · p depends on whether a small p is 0 in f32.
                let p = reference::softmax(&shape, &data, Axis::Class);
                let tolerance = loss.tolerances(&shape, &data, &truth);
                for gpu in [gpu(), default_limits_gpu()] {
                    for shape in [shape, Logits::hwc(NUMBERS.len() as u32, side as u32, classes).unwrap()] {
                        let (gradient, _) = dispatched(gpu, &loss, &shape, &data, &truth).unwrap();
                        for i in 0..gradient.len() {
                            let infinite = truth.numbers.iter().skip(i % plane).step_by(plane).any(|z| z.is_infinite());
                            if kind == Kind::Soft && infinite && p[i] > 0.0 && p[i] < 1e-37 {
                                continue;
                            }
                            let pixel: Vec<f32> = data.iter().skip(i % plane).step_by(plane).copied().collect();
                            let what = format!("{loss:?} {shape:?} pixel {pixel:?}");
                            // What is 0 beside a NaN is so exactly.
                            let tolerance = if tolerance[i].is_nan() { 0.0 } else { tolerance[i] };
                            assert_close(&what, &gradient[i..=i], &expected[i..=i], |_| tolerance);
                        }
                    }
                }
            }
        }
    }
}

/// Means over nothing, and targets that are no class.
#[test]
fn nothing_to_divide_by() {
    let shape = Logits::chw(3, 1, 5).unwrap();
    let data = Random::new(4).logits(&shape);
    for kind in &KINDS[..2] {
        let loss = Loss::new(*kind);
        let run = |loss: &Loss, labels: [i64; 5]| {
            let truth = Truth { labels: labels.to_vec(), ..Truth::default() };
            dispatched(gpu(), loss, &shape, &data, &truth).unwrap()
        };
        // PyTorch: the loss is NaN, the gradient 0.
        let (gradient, record) = run(&loss, [loss.ignored(); 5]);
        assert!(record.loss.is_nan() && bits(&gradient) == [0; 15], "{gradient:?}");
        // Weights that sum to 0: NaN but for what is ignored.
        let zero = Loss { weights: Some(vec![1.0, 0.0, 1.0]), ..loss.clone() };
        let (gradient, record) = run(&zero, [1, 1, loss.ignored(), 1, 1]);
        assert!(record.loss.is_nan());
        assert!(gradient.iter().enumerate().all(|(i, x)| if i % 5 == 2 { x.to_bits() == 0 } else { x.is_nan() }));
        let (gradient, _) = run(&Loss { reduction: Reduction::Sum, ..zero }, [1, 1, loss.ignored(), 1, 1]);
        assert!(gradient.iter().all(|&x| x == 0.0), "{gradient:?}");
        // A target that is no class.
        let (gradient, record) = run(&loss, [0, 1, 2, 3, loss.ignored()]);
        assert_eq!(record.first_invalid, 3);
        assert!(gradient.iter().enumerate().all(|(i, x)| x.is_nan() == (i % 5 == 3)), "{gradient:?}");
        let truth = Truth { labels: vec![0, 1, 2, 3, 0], ..Truth::default() };
        let error = loss.cross_entropy().run_blocking(gpu(), &shape, &data, &truth.labels).unwrap_err();
        assert!(matches!(error, Error::Label { position: 3, label: 3, classes: 3 }), "{error}");
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

/// The one-shot functions in small bands, from f32 and halves, with the single losses and without: the same bits.
#[test]
fn bands() {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    let shapes = [
        nchw(1, 3, 64, 80),
        nchw(2, 3, 37, 53),
        nchw(5, 30, 5, 9),
        nhwc(2, 37, 53, 3),
        nchw(2, 3, 60, 70).crop(3, 7, 47, 51).unwrap(),
        nhwc(1, 60, 70, 3).crop(3, 7, 47, 51).unwrap(),
    ];
    for bytes in [4096u64, 65536] {
        let gpu = limited(bytes, 2 * bytes);
        for shape in shapes {
            for (kind, reduction) in
                KINDS.into_iter().zip([Reduction::Mean, Reduction::Sum, Reduction::Mean, Reduction::Mean])
            {
                let mut random = Random::new(bytes);
                let loss = Loss { weights: Some(weights(&mut random, shape.classes())), reduction, ..Loss::new(kind) };
                // Packed, or where it is a rectangle the whole tensor.
                let data = logits(&mut random, &Logits::chw(1, 1, shape.len()).unwrap());
                let mut truth = loss.truth(&mut random, &shape);
                if kind == Kind::Soft || kind == Kind::Binary {
                    truth.numbers = (0..shape.len()).map(|_| random.below(65) as f32 / 64.0).collect();
                }
                let what = format!("{bytes} {shape:?} {loss:?}");
                let whole = loss.run(default_limits_gpu(), &shape, Input::from(&data), &truth, false);
                let expected = whole.gradient.unwrap();
                let size = if reduction == Reduction::Sum { 1.0 } else { 1.0 / f64::from(shape.len()) };
                let twin = loss.twin(&shape, &data, &truth);
                assert_close(&what, &expected, &twin, |i| 1e-4 * twin[i].abs() + 1e-4 * size);
                let halves = halves(&data);
                for single in [false, true] {
                    for input in [Input::from(&data), Input::f16(&halves)] {
                        let got = loss.run(&gpu, &shape, input, &truth, single);
                        assert_eq!(bits(&got.gradient.unwrap()), bits(&expected), "{what}");
                        assert!((got.value - whole.value).abs() <= 320.0 * U as f32 * whole.value, "{what}");
                        assert_eq!(got.per_pixel.is_some(), single && kind != Kind::Binary);
                        assert_eq!(got.per_element.is_some(), single && kind == Kind::Binary);
                    }
                }
            }
        }
    }
}

/// A reader is read once, and a loss without the option has no gradient.
#[test]
fn readers() {
    let shape = Logits::chw(3, 5, 7).unwrap();
    let mut random = Random::new(2);
    let data = random.logits(&shape);
    let loss = Loss::new(Kind::Labels(LabelType::U8));
    let truth = loss.truth(&mut random, &shape);
    let mut read = 0;
    let reader = Input::reader(ElementType::F32, data.len() as u64, |first, bytes: &mut [u8]| {
        read += bytes.len();
        bytes.copy_from_slice(&bytemuck::cast_slice(&data)[first as usize * 4..][..bytes.len()]);
        Ok(())
    });
    let got = loss.cross_entropy().run_blocking(gpu(), &shape, reader, &truth.labels).unwrap();
    assert_eq!(read, data.len() * 4);
    let operator = loss.cross_entropy().gradient(false);
    let without = operator.run_blocking(gpu(), &shape, &data, &truth.labels).unwrap();
    assert_eq!(without.gradient, None);
    let (with, without) = (got.value, without.value);
    assert!((with - without).abs() < 1e-6 * without, "{with} {without}");
}

/// Dispatches for tensors that the device cannot bind at once.
#[test]
fn windows() {
    let mut refused = 0;
    for bytes in [16384u64, 65536] {
        let small = limited(bytes, 1 << 28);
        for shape in beyond_a_binding() {
            for kind in KINDS {
                let mut random = Random::new(bytes);
                let loss = Loss { weights: Some(weights(&mut random, shape.classes())), ..Loss::new(kind) };
                let (data, truth) = (logits(&mut random, &shape), loss.truth(&mut random, &shape));
                let (gradient, record) = match dispatched(&small, &loss, &shape, &data, &truth) {
                    Ok(result) => result,
                    Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => {
                        refused += 1;
                        continue;
                    }
                    Err(error) => panic!("{shape:?}: {error}"),
                };
                let (expected, whole) = dispatched(default_limits_gpu(), &loss, &shape, &data, &truth).unwrap();
                assert_eq!(bits(&gradient), bits(&expected), "{bytes} {shape:?} {loss:?}");
                assert_eq!((record.valid, record.weight), (whole.valid, whole.weight), "{shape:?}");
                assert!((record.loss - whole.loss).abs() <= 320.0 * U as f32 * whole.loss, "{record:?} {whole:?}");
            }
        }
    }
    assert!(refused <= 24, "{refused} refused");
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, record, gradient) = (storage(192), storage(192), storage(16), storage(192));
    for kind in KINDS {
        let loss = Loss::new(kind);
        let try_with = |shape: &Logits, buffers: [&Buffer; 4]| {
            loss.dispatch(gpu, shape, buffers.map(Buffer::as_entire_buffer_binding)).map(|_| ())
        };
        let is = |buffers: [&Buffer; 4], expected: Error| {
            assert_eq!(try_with(&shape, buffers).unwrap_err().to_string(), expected.to_string(), "{kind:?}");
        };
        assert!(try_with(&shape, [&input, &targets, &record, &gradient]).is_ok());
        let small = |what, needed, found| Error::BufferTooSmall { what, offset: 0, needed, found };
        let aliased = |written, other| Error::Aliased { written, other };
        is([&input, &targets, &record, &storage(188)], small("gradient", 192, 188));
        is([&input, &targets, &storage(12), &gradient], small("loss record", 16, 12));
        is([&storage(188), &targets, &record, &gradient], small("logits", 192, 188));
        is([&input, &targets, &record, &input], aliased("gradient", "logits"));
        is([&input, &targets, &record, &targets], aliased("gradient", "target"));
        is([&input, &targets, &gradient, &gradient], aliased("loss record", "gradient"));
        is([&input, &targets, &targets, &gradient], aliased("loss record", "target"));
        let uniform = buffer(gpu, 192, BufferUsages::UNIFORM);
        let error = try_with(&shape, [&input, &targets, &record, &uniform]).unwrap_err();
        assert!(matches!(error, Error::Usage { what: "gradient", .. }), "{error}");
        // The gradient of f16 logits is f32.
        let error = try_with(&shape.f16(), [&storage(96), &targets, &record, &storage(96)]).unwrap_err();
        assert!(matches!(error, Error::BufferTooSmall { what: "gradient", needed: 192, found: 96, .. }), "{error}");
        let wrong = Loss { weights: Some(vec![1.0; 2]), ..loss.clone() };
        let buffers = [&input, &targets, &record, &gradient].map(Buffer::as_entire_buffer_binding);
        let error = wrong.dispatch(gpu, &shape, buffers).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 3, found: 2, .. }), "{error}");
    }
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for kind in [Kind::Labels(LabelType::U32), Kind::Soft] {
        for classes in [3855, 5041, 5042, 30000] {
            let shape = Logits::chw(classes, 1, 3).unwrap();
            let mut random = Random::new(7);
            let loss = Loss { smoothing: 0.1, reduction: Reduction::Sum, ..Loss::new(kind) };
            let (data, truth) = (logits(&mut random, &shape), loss.truth(&mut random, &shape));
            match dispatched(gpu(), &loss, &shape, &data, &truth) {
                Ok((gradient, _)) => {
                    let (expected, tolerance) =
                        (loss.twin(&shape, &data, &truth), loss.tolerances(&shape, &data, &truth));
                    assert_close(&format!("{kind:?} {classes}"), &gradient, &expected, |i| tolerance[i]);
                }
                Err(error) => assert!(classes > 3855 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
            }
        }
    }
}
