//! Cross-entropy of upsampled logits, its gradient and its confusion matrix, against the f64 twins and against the
//! operators that store the upsampled logits.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer};
use seghead::{
    Confusion, ConfusionMatrix, CrossEntropy, Error, Gpu, LabelType, Logits, LossBuffers, LossRecord, Outputs,
    Reduction, Resize, Segment, Targets, UpsampledCrossEntropy, reference,
};

const IGNORED: i64 = 255;
const CONVENTIONS: [Resize; 3] = [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric];

/// Logits and labels at another resolution.
struct Case {
    shape: Logits,
    size: (u32, u32),
    resize: Resize,
    label_type: LabelType,
    weights: Option<Vec<f32>>,
    smoothing: f32,
    reduction: Reduction,
    /// N × C × H × W.
    data: Vec<f32>,
    /// N × height × width.
    labels: Vec<i64>,
}

impl Case {
    /// Options that differ from one `variant` to the next.
    fn new(shape: Logits, size: (u32, u32), resize: Resize, variant: u64) -> Self {
        let mut random = Random::new(variant);
        let classes = shape.classes();
        let weight = |random: &mut Random| (1 + random.below(32)) as f32 / 16.0;
        let pixels = (shape.images() * size.0 * size.1) as usize;
        // The first pixel counts, so that there is a mean.
        let mut label = |i| if i > 0 && random.below(6) == 0 { IGNORED } else { random.below(classes).into() };
        let labels = (0..pixels).map(&mut label).collect();
        Self {
            shape,
            size,
            resize,
            label_type: if variant.is_multiple_of(2) { LabelType::U8 } else { LabelType::U32 },
            weights: (variant % 3 == 1).then(|| (0..classes).map(|_| weight(&mut random)).collect()),
            smoothing: if variant % 4 == 2 { 0.1 } else { 0.0 },
            reduction: if variant % 5 < 3 { Reduction::Mean } else { Reduction::Sum },
            data: (0..elements(&shape)).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect(),
            labels,
        }
    }

    fn name(&self) -> String {
        let Self { shape, size, resize, label_type, weights, smoothing, reduction, .. } = self;
        format!("{shape:?} to {size:?} {resize:?} {label_type:?} {} {smoothing} {reduction:?}", weights.is_some())
    }

    fn loss(&self) -> CrossEntropy {
        CrossEntropy::new()
            .ignore_index(Some(IGNORED))
            .class_weights(self.weights.clone())
            .label_smoothing(self.smoothing)
            .reduction(self.reduction)
    }

    fn operator(&self) -> UpsampledCrossEntropy {
        self.loss().upsampled(self.size.0, self.size.1).resize(self.resize)
    }

    /// The upsampled logits, packed N × C × height × width, and their shape.
    fn upsampled(&self) -> (Logits, Vec<f64>) {
        let plain = packed(&self.shape);
        let full = Logits::nchw(plain.images(), plain.classes(), self.size.0, self.size.1).unwrap();
        (full, reference::upsample(&plain, &self.data, self.size.0, self.size.1, self.resize))
    }

    fn twin(&self) -> reference::Losses {
        let (full, upsampled) = self.upsampled();
        let smoothing = self.smoothing.into();
        reference::cross_entropy(&full, &upsampled, &self.labels, Some(IGNORED), self.weights.as_deref(), smoothing)
    }

    fn value(&self, losses: &reference::Losses) -> f64 {
        if self.reduction == Reduction::Mean { losses.mean() } else { losses.sum() }
    }

    /// The twin's gradient with respect to the upsampled logits, and what that is taken back to.
    fn twin_gradient(&self) -> (Vec<f64>, Vec<f64>) {
        let (full, upsampled) = self.upsampled();
        let (weights, smoothing) = (self.weights.as_deref(), self.smoothing.into());
        let (labels, ignored) = (&self.labels, Some(IGNORED));
        let gradient =
            reference::cross_entropy_gradient(&full, &upsampled, labels, ignored, weights, smoothing, self.reduction);
        let back = self.back(&gradient);
        (gradient, back)
    }

    fn back(&self, gradient: &[f64]) -> Vec<f64> {
        reference::upsample_gradient(&packed(&self.shape), gradient, self.size.0, self.size.1, self.resize)
    }

    /// The error that an upsampled logit may have: up to 25 products of rounded weights, at rounded positions.
    fn of_logit(&self) -> f64 {
        200.0 * U * f64::from(self.data.iter().filter(|x| x.is_finite()).fold(0f32, |largest, x| largest.max(x.abs())))
    }

    fn weight_of(&self, label: i64) -> f64 {
        let classes = f64::from(self.shape.classes());
        let of = |c: usize| self.weights.as_ref().map_or(1.0, |weights| f64::from(weights[c]));
        let e = f64::from(self.smoothing);
        let all: f64 = (0..self.shape.classes() as usize).map(of).sum();
        if label == IGNORED { 0.0 } else { (1.0 - e) * of(label as usize) + e / classes * all }
    }

    /// The errors that the losses may have: two logits, the logarithm of a sum of C exponentials, each within 6 + 5 |d|
    /// roundings, and the weights.
    fn tolerances(&self, losses: &reference::Losses) -> Vec<f64> {
        let rounding = 2.0 * self.of_logit() + (2.0 * f64::from(self.shape.classes()) + 60.0) * U;
        let tolerance = |(&label, loss): (&i64, &f64)| self.weight_of(label) * rounding + 20.0 * U * loss.abs();
        self.labels.iter().zip(&losses.per_pixel).map(tolerance).collect()
    }

    /// Those of the gradient: a probability times what its logit and the sum are off by, taken back, and the adding up.
    fn gradient_tolerances(&self, full: &[f64]) -> Vec<f64> {
        let (classes, plane) = (self.shape.classes() as usize, (self.size.0 * self.size.1) as usize);
        let scale = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => 1.0 / self.twin().weight,
        };
        let rounding = 2.0 * self.of_logit() + (2.0 * classes as f64 + 250.0) * U;
        let of = |i: usize| {
            let label = self.labels[i / (classes * plane) * plane + i % plane];
            scale * self.weight_of(label) * (rounding * 1.5 + f64::from(f32::MIN_POSITIVE))
        };
        let tolerance = self.back(&(0..full.len()).map(of).collect::<Vec<_>>());
        let sizes = self.back(&full.iter().map(|g| g.abs()).collect::<Vec<_>>());
        let readers = 4.0 + 4.0 * self.labels.len() as f64 / f64::from(self.shape.pixels());
        tolerance.iter().zip(sizes).map(|(tolerance, size)| tolerance + readers * U * size).collect()
    }

    fn upload_labels(&self, gpu: &Gpu) -> Buffer {
        let map = self.operator().map(&self.shape).unwrap();
        let (width, height) = (map.width() as usize, map.height() as usize);
        // What lies in the padding is a class.
        let mut all = vec![0u32; (map.images() * map.image_stride()) as usize];
        for (i, &label) in self.labels.iter().enumerate() {
            let (image, row) = (i / (width * height), i / width % height);
            all[image * map.image_stride() as usize + row * map.row_stride() as usize + i % width] = label as u32;
        }
        match self.label_type {
            LabelType::U8 => upload_bytes(gpu, &all.iter().map(|&label| label as u8).collect::<Vec<_>>()),
            LabelType::U32 => upload_bytes(gpu, bytemuck::cast_slice(&all)),
        }
    }

    /// Everything that a dispatch writes: with the gradient or without.
    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>, gradient: bool) {
        let (operator, map) = (self.operator(), self.operator().map(&self.shape).unwrap());
        let (input, labels) = (upload_laid(gpu, &self.shape, &self.data), self.upload_labels(gpu));
        let (record, losses) = (output(gpu, 16), output(gpu, map.bytes(32)));
        let counts = output(gpu, operator.confusion_matrix(&self.shape).bytes(&map));
        let to = guarded(gpu, self.shape.output().bytes());
        let mut buffers = LossBuffers::new(whole(&record)).losses(whole(&losses));
        if gradient {
            buffers = buffers.gradient(whole(&to));
        }
        let targets = Targets::new(whole(&labels), self.label_type);
        let dispatch =
            operator.dispatch(gpu, &self.shape, whole(&input), targets, buffers, Some(whole(&counts))).unwrap();
        recorder.record(&dispatch, &[&record, &losses, &counts, &to]);
    }

    fn take(&self, results: &mut impl Iterator<Item = Vec<u8>>) -> Found {
        let (operator, map) = (self.operator(), self.operator().map(&self.shape).unwrap());
        let record = bytemuck::pod_read_unaligned(&results.next().unwrap());
        let losses = map.unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&results.next().unwrap()));
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&results.next().unwrap());
        let mut confusion = Confusion::new(self.shape.classes());
        for record in operator.confusion_matrix(&self.shape).records(&words).unwrap() {
            confusion.merge(&record.confusion).unwrap();
        }
        let gradient = take_guarded(&self.shape.output(), &results.next().unwrap());
        Found { record, losses, confusion, gradient }
    }

    fn run(&self, gpu: &Gpu, gradient: bool) -> Found {
        let mut recorder = Recorder::new(gpu);
        self.record(gpu, &mut recorder, gradient);
        self.take(&mut recorder.finish())
    }

    /// The confusion matrix from labels that are stored.
    fn stored_confusion(&self, gpu: &Gpu) -> Confusion {
        let segment = Segment::new(self.size.0, self.size.1).resize(self.resize).label_type(LabelType::U32);
        let map = segment.map(&self.shape).unwrap();
        let matrix = ConfusionMatrix::new(self.shape.classes()).ignore_index(Some(IGNORED));
        let (input, targets) = (upload_laid(gpu, &self.shape, &self.data), self.upload_labels(gpu));
        let (labels, records) = (output(gpu, map.bytes(32)), output(gpu, matrix.bytes(&map)));
        let mut recorder = Recorder::new(gpu);
        recorder
            .record(&segment.dispatch(gpu, &self.shape, whole(&input), Outputs::labels(whole(&labels))).unwrap(), &[]);
        let targets = Targets::new(whole(&targets), self.label_type);
        let counted = matrix.dispatch(gpu, &map, (whole(&labels), LabelType::U32), targets, whole(&records)).unwrap();
        recorder.record(&counted, &[&records]);
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
        let mut confusion = Confusion::new(self.shape.classes());
        matrix.records(&words).unwrap().iter().for_each(|record| confusion.merge(&record.confusion).unwrap());
        confusion
    }
}

/// What a dispatch writes.
struct Found {
    record: LossRecord,
    losses: Vec<f32>,
    confusion: Confusion,
    gradient: Vec<f32>,
}

fn whole(buffer: &Buffer) -> wgpu::BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

/// Sizes that grow, stay and shrink, along one axis or both, in all memory layouts.
fn shapes(classes: u32) -> Vec<(Logits, (u32, u32))> {
    let nchw = |n, h, w| Logits::nchw(n, classes, h, w).unwrap();
    let nhwc = |n, h, w| Logits::nhwc(n, h, w, classes).unwrap();
    vec![
        (nchw(1, 1, 1), (1, 1)),
        (nchw(1, 1, 1), (5, 7)),
        (nchw(1, 5, 7), (1, 1)),
        (nchw(2, 5, 7), (5, 7)),
        (nchw(2, 5, 7), (20, 28)),
        (nchw(1, 4, 6), (17, 25)),
        (nchw(1, 7, 5), (9, 6)),
        (nchw(3, 3, 4), (6, 9)),
        (nchw(2, 9, 13), (5, 7)),
        (nchw(1, 16, 18), (3, 2)),
        (nchw(1, 9, 4), (3, 13)),
        (nchw(1, 2, 11), (13, 4)),
        (nchw(1, 3, 2), (9, 70)),
        (nchw(1, 67, 5), (131, 9)),
        (nchw(1, 130, 3), (70, 3)),
        (nchw(2, 3, 5).padded().unwrap(), (10, 11)),
        (nhwc(2, 5, 7), (13, 21)),
        (nhwc(1, 6, 5), (4, 3)),
        (nchw(2, 9, 13).crop(2, 3, 6, 7).unwrap(), (13, 15)),
        (nhwc(2, 7, 8).crop(1, 1, 5, 6).unwrap(), (15, 18)),
        (nchw(1, 7, 10).with_row_stride(12).unwrap(), (14, 31)),
        (nchw(1, 3, 7).f16(), (6, 21)),
        (nhwc(2, 3, 5).f16(), (9, 11)),
        (nchw(2, 9, 13).crop(2, 3, 6, 7).unwrap().f16(), (4, 5)),
    ]
}

#[test]
fn oracle() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [1, 3, 21, 26] {
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, (shape, size)) in shapes(classes).into_iter().enumerate() {
                for (j, resize) in CONVENTIONS.into_iter().enumerate() {
                    let case = Case::new(shape, size, resize, (i * 3 + j) as u64 + u64::from(classes));
                    case.record(gpu, &mut recorder, false);
                    case.record(gpu, &mut recorder, true);
                    cases.push(case);
                }
            }
            let mut results = recorder.finish();
            for case in cases {
                let (what, twin) = (case.name(), case.twin());
                let tolerances = case.tolerances(&twin);
                let total: f64 = tolerances.iter().sum();
                let pixels = case.labels.len() as f64;
                for gradient in [false, true] {
                    let found = case.take(&mut results);
                    assert_close(&what, &found.losses, &twin.per_pixel, |i| tolerances[i]);
                    let valid = case.labels.iter().filter(|&&label| label != IGNORED).count();
                    let record = found.record;
                    assert_eq!((record.valid as usize, record.first_invalid), (valid, u32::MAX), "{what}");
                    let near = |_| twin.weight * U * 140.0;
                    assert_close(&format!("weight of {what}"), &[record.weight], &[twin.weight], near);
                    let sum = total + twin.per_pixel.iter().map(|loss| loss.abs()).sum::<f64>() * 140.0 * U;
                    let by = if case.reduction == Reduction::Mean { twin.weight } else { 1.0 };
                    assert_close(&what, &[record.loss], &[case.value(&twin)], |_| 1.1 * sum / by + U);
                    let counted = found.confusion.counted() + found.confusion.ignored();
                    assert_eq!((counted as f64, found.confusion.counted() as usize), (pixels, valid), "{what}");
                    if gradient {
                        let (full, expected) = case.twin_gradient();
                        let tolerances = case.gradient_tolerances(&full);
                        assert_close(&format!("gradient of {what}"), &found.gradient, &expected, |i| tolerances[i]);
                    } else {
                        assert!(found.gradient.iter().all(|x| x.to_bits() == GUARD), "{what}");
                    }
                }
            }
        }
    }
}

/// The gradient of the f64 twins is the derivative of their loss: central differences, up, down and both.
#[test]
fn twins_are_derivatives() {
    for (i, (shape, size)) in shapes(3).into_iter().enumerate().filter(|(_, (shape, _))| shape.pixels() <= 48) {
        for (j, resize) in CONVENTIONS.into_iter().enumerate() {
            let case = Case::new(packed(&shape), size, resize, (7 * i + j) as u64);
            let (_, expected) = case.twin_gradient();
            let (full, (height, width)) = (case.upsampled().0, size);
            let value = |data: &[f64]| {
                let upsampled = reference::upsample(&case.shape, data, height, width, resize);
                let (weights, smoothing) = (case.weights.as_deref(), case.smoothing.into());
                let ignored = Some(IGNORED);
                let losses = reference::cross_entropy(&full, &upsampled, &case.labels, ignored, weights, smoothing);
                case.value(&losses)
            };
            let data: Vec<f64> = case.data.iter().map(|&x| x.into()).collect();
            for i in (0..data.len()).step_by(1 + data.len() / 40) {
                let at = |step: f64| {
                    let mut data = data.clone();
                    data[i] += step;
                    value(&data)
                };
                let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!((difference - expected[i]).abs() < 1e-6, "{}[{i}]: {difference} {}", case.name(), expected[i]);
            }
        }
    }
}

/// Softmax and target add up to the same over the classes, so does every gradient.
#[test]
fn the_gradient_adds_up_to_0_over_the_classes() {
    for (i, resize) in CONVENTIONS.into_iter().enumerate() {
        let case = Case::new(Logits::nchw(2, 21, 9, 11).unwrap(), (37, 52), resize, 3 * i as u64);
        let gradient = case.run(gpu(), true).gradient;
        let (classes, plane) = (21, 99);
        for pixel in 0..2 * plane {
            let at = |c: usize| f64::from(gradient[(pixel / plane * classes + c) * plane + pixel % plane]);
            let sum: f64 = (0..classes).map(at).sum();
            let size: f64 = (0..classes).map(|c| at(c).abs()).sum();
            assert!(sum.abs() <= 1e-4 * size, "{pixel}: {sum} of {size}");
        }
    }
}

/// Where nothing is scaled, it is the cross-entropy of these pixels.
#[test]
fn at_scale_1_it_is_cross_entropy() {
    let gpu = gpu();
    for variant in 0..12 {
        let shape = Logits::nchw(2, 21, 13, 18).unwrap();
        let case = Case::new(shape, (13, 18), CONVENTIONS[variant as usize % 3], variant);
        let loss = case.loss().gradient(true).per_pixel(true);
        let plain = loss.run_blocking(gpu, &shape, &case.data, &case.labels).unwrap();
        let upsampled = loss.upsampled(13, 18).resize(case.resize);
        let found = upsampled.run_blocking(gpu, &shape, &case.data, &case.labels).unwrap();
        let close = |what: &str, found: &[f32], plain: &[f32]| {
            let plain: Vec<f64> = plain.iter().map(|&x| x.into()).collect();
            let largest = plain.iter().fold(0f64, |largest, x| largest.max(x.abs()));
            assert_close(what, found, &plain, |_| 100.0 * U * largest);
        };
        close("value", &[found.value], &[plain.value]);
        close("losses", &found.per_pixel.unwrap(), &plain.per_pixel.unwrap());
        close("gradient", &found.gradient.unwrap(), &plain.gradient.unwrap());
        assert_eq!((found.pixels, found.ignored), (plain.pixels, plain.ignored));
    }
}

#[test]
fn counts_as_segment_and_confusion_matrix() {
    for classes in [1, 2, 21, 26] {
        for (i, (shape, size)) in shapes(classes).into_iter().enumerate() {
            let case = Case::new(shape, size, CONVENTIONS[i % 3], 100 + i as u64);
            assert_eq!(case.run(gpu(), false).confusion, case.stored_confusion(gpu()), "{}", case.name());
        }
    }
    // Runs of equal labels, wide rows, and many images.
    for (shape, size) in [(Logits::nchw(3, 4, 8, 9).unwrap(), (64, 70)), (Logits::nchw(1, 4, 9, 9).unwrap(), (5, 600))]
    {
        let mut case = Case::new(shape, size, Resize::HalfPixel, 2);
        case.data.iter_mut().enumerate().for_each(|(i, x)| *x = (i / 3 % 5) as f32);
        case.labels.iter_mut().enumerate().for_each(|(i, label)| *label = [0, 1, 3, IGNORED][i / 13 % 4]);
        assert_eq!(case.run(gpu(), true).confusion, case.stored_confusion(gpu()), "{}", case.name());
    }
}

/// Every special value beside ordinary ones, in the taps of many pixels, as PyTorch has them.
#[test]
fn special_values() {
    let values =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 0.0, -0.0, 88.0, -104.0, 3.0, -1.5, f32::MAX, -f32::MAX];
    // Scales whose positions are exact.
    for (size, resize) in [
        ((24, 32), Resize::HalfPixel),
        ((12, 16), Resize::Asymmetric),
        ((6, 8), Resize::HalfPixel),
        ((6, 8), Resize::AlignCorners),
        ((3, 4), Resize::Asymmetric),
        ((3, 16), Resize::HalfPixel),
        ((11, 15), Resize::AlignCorners),
    ] {
        for variant in 0..24u64 {
            let mut case = Case::new(Logits::nchw(2, 3, 6, 8).unwrap(), size, resize, variant);
            let mut random = Random::new(variant);
            // Few: a NaN reaches all around it.
            for _ in 0..8 {
                let at = random.below(case.data.len() as u32) as usize;
                case.data[at] = values[random.below(10) as usize];
            }
            // One of them: between several so large the least error decides which class has the probability 1.
            let at = random.below(case.data.len() as u32) as usize;
            case.data[at] = values[random.below(12) as usize];
            if variant % 3 == 0 {
                // A class that is nowhere.
                case.data.iter_mut().skip(48).step_by(3 * 48).for_each(|x| *x = f32::NEG_INFINITY);
                (0..48).for_each(|i| case.data[48 + i] = f32::NEG_INFINITY);
            }
            let (found, twin) = (case.run(gpu(), true), case.twin());
            let large = |x: f64| x.abs() > 1e30;
            let close = |what: &str, i: usize, got: f32, expected: f64, tolerance: f64| {
                let what = format!("{what}[{i}] of {}: {got:e}, expected {expected:e}", case.name());
                if large(expected) || large(got.into()) {
                    // Differences of the largest numbers are infinite in f32.
                    let same = (got.is_infinite() || large(got.into()))
                        && large(expected)
                        && got.signum() == expected.signum() as f32;
                    assert!(same, "{what}");
                } else {
                    assert_eq!(got.is_nan(), expected.is_nan(), "{what}");
                    assert!(expected.is_nan() || (f64::from(got) - expected).abs() <= tolerance, "{what}");
                }
            };
            let zipped = found.losses.iter().zip(&twin.per_pixel).enumerate();
            zipped.for_each(|(i, (&got, &expected))| close("loss", i, got, expected, 1e-4));
            let (_, expected) = case.twin_gradient();
            let zipped = found.gradient.iter().zip(&expected).enumerate();
            zipped.for_each(|(i, (&got, &expected))| close("gradient", i, got, expected, 1e-3));
        }
    }
}

/// An ignored pixel has no part in the gradient, whatever it reads; a mean over none is NaN, its gradient is 0; over weights
/// that add up to 0 the gradient is NaN where a counted pixel reads.
#[test]
fn ignored_pixels() {
    let shape = Logits::chw(2, 2, 2).unwrap();
    let operator = CrossEntropy::new().ignore_index(Some(IGNORED)).gradient(true).per_pixel(true).upsampled(4, 4);
    let data = [f32::NAN, 1.0, 2.0, f32::INFINITY, 0.0, -1.0, 3.0, 0.5];
    let all = operator.run_blocking(gpu(), &shape, &data, &[IGNORED; 16]).unwrap();
    assert!(all.value.is_nan());
    assert_eq!((all.ignored, all.gradient), (16, Some(vec![0.0; 8])));
    assert_eq!(all.per_pixel, Some(vec![0.0; 16]));

    // A class may be what is ignored.
    let (shape, labels): (_, Vec<i64>) = (Logits::chw(3, 2, 2).unwrap(), (0..16).map(|i| i * 5 % 7 % 3).collect());
    let data: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32).collect();
    let loss = CrossEntropy::new().ignore_index(Some(1)).gradient(true).upsampled(4, 4);
    let found = loss.run_blocking(gpu(), &shape, &data, &labels).unwrap().gradient.unwrap();
    let (full, up) = (Logits::chw(3, 4, 4).unwrap(), reference::upsample(&shape, &data, 4, 4, Resize::HalfPixel));
    let twin = reference::cross_entropy_gradient(&full, &up, &labels, Some(1), None, 0.0, Reduction::Mean);
    assert_close("a class", &found, &reference::upsample_gradient(&shape, &twin, 4, 4, Resize::HalfPixel), |_| 1e-6);
    // On the GPU, where labels are as they are.
    let mut case = Case::new(shape, (4, 4), Resize::HalfPixel, 0);
    (case.data, case.labels, case.reduction) = (data, labels, Reduction::Mean);
    let operator = CrossEntropy::new().ignore_index(Some(1)).upsampled(4, 4);
    let (input, labels) = (upload_laid(gpu(), &shape, &case.data), case.upload_labels(gpu()));
    let (record, to) = (output(gpu(), 16), output(gpu(), shape.bytes()));
    let (targets, buffers) = (Targets::new(whole(&labels), case.label_type), LossBuffers::new(whole(&record)));
    let buffers = buffers.gradient(whole(&to));
    let dispatch = operator.dispatch(gpu(), &shape, whole(&input), targets, buffers, None).unwrap();
    let mut recorder = Recorder::new(gpu());
    recorder.record(&dispatch, &[&to]);
    let dispatched: Vec<f32> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
    assert_eq!(bits(&dispatched), bits(&found));

    let shape = Logits::chw(2, 2, 2).unwrap();
    // The upper right corner reads one pixel of the logits, three with weight 0.
    let mut labels = [IGNORED; 16];
    labels[3] = 1;
    let data = [0.5, 1.0, 2.0, 4.0, 0.0, -1.0, 3.0, 0.5];
    let loss = CrossEntropy::new().ignore_index(Some(IGNORED)).class_weights(Some(vec![1.0, 0.0])).gradient(true);
    let found = loss.upsampled(4, 4).run_blocking(gpu(), &shape, &data, &labels).unwrap();
    let nan: Vec<_> = found.gradient.unwrap().iter().map(|x| x.is_nan()).collect();
    let (full, up) = (Logits::chw(2, 4, 4).unwrap(), reference::upsample(&shape, &data, 4, 4, Resize::HalfPixel));
    let (weights, mean) = ([1.0, 0.0], Reduction::Mean);
    let twin = reference::cross_entropy_gradient(&full, &up, &labels, Some(IGNORED), Some(&weights), 0.0, mean);
    let twin = reference::upsample_gradient(&shape, &twin, 4, 4, Resize::HalfPixel);
    assert_eq!(nan, twin.iter().map(|x| x.is_nan()).collect::<Vec<_>>());
}

#[test]
fn labels_that_are_no_class() {
    let gpu = gpu();
    let (shape, size) = (Logits::nchw(2, 3, 4, 5).unwrap(), (9, 11));
    for (first, label_type) in [(3, LabelType::U8), (99 + 57, LabelType::U32)] {
        let mut case = Case::new(shape, size, Resize::HalfPixel, 6);
        case.label_type = label_type;
        case.labels[first] = 3;
        case.labels[190] = 200;
        let found = case.run(gpu, true);
        assert_eq!(found.record.first_invalid as usize, first);
        assert!(found.record.loss.is_nan());
        assert!(found.losses[first].is_nan());
        assert!(found.gradient.iter().any(|x| x.is_nan()));
        for gradient in [false, true] {
            let operator = case.loss().gradient(gradient).upsampled(9, 11);
            match operator.run_blocking(gpu, &shape, &case.data, &case.labels) {
                Err(Error::Label { position, label: 3, classes: 3 }) => assert_eq!(position as usize, first),
                other => panic!("{other:?}"),
            }
        }
        let words = {
            let (operator, map) = (case.operator(), case.operator().map(&shape).unwrap());
            let (input, labels, record) =
                (upload_laid(gpu, &shape, &case.data), case.upload_labels(gpu), output(gpu, 16));
            let counts = output(gpu, operator.confusion_matrix(&shape).bytes(&map));
            let (targets, buffers) = (Targets::new(whole(&labels), label_type), LossBuffers::new(whole(&record)));
            let dispatch =
                operator.dispatch(gpu, &shape, whole(&input), targets, buffers, Some(whole(&counts))).unwrap();
            let mut recorder = Recorder::new(gpu);
            // Twice: counts start from nothing.
            recorder.record(&dispatch, &[]);
            recorder.record(&dispatch, &[&counts]);
            bytemuck::pod_collect_to_vec::<u8, u32>(&recorder.finish().next().unwrap())
        };
        let records = case.operator().confusion_matrix(&shape).records(&words).unwrap();
        let invalid: Vec<_> =
            records.iter().map(|record| (record.invalid_targets, record.first_invalid_target)).collect();
        let expected = if first < 99 { [(1, Some(3)), (1, Some(91))] } else { [(0, None), (2, Some(57))] };
        assert_eq!(invalid, expected);
    }
}

/// What cannot be bound at once, or is more than the host path has on the GPU, gives the same bits.
#[test]
fn in_parts() {
    let limits = wgpu::Limits { max_buffer_size: 1 << 28, ..Gpu::required_limits() };
    let small = application_gpu(limits);
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    for (i, (shape, size)) in [
        (nchw(1, 3, 64, 80), (256, 100)),
        (nchw(1, 20, 41, 28), (50, 60)),
        (nchw(7, 20, 15, 9), (20, 36)),
        (nchw(2, 3, 40, 50).crop(3, 7, 30, 41).unwrap(), (61, 83)),
        (Logits::nhwc(2, 19, 23, 30).unwrap(), (40, 9)),
        (nchw(1, 3, 61, 60).f16(), (30, 240)),
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case::new(shape, size, CONVENTIONS[i % 3], 30 + i as u64);
        let (parts, whole) = (case.run(&small, true), case.run(gpu(), true));
        let what = case.name();
        assert_eq!(bits(&parts.losses), bits(&whole.losses), "{what}");
        assert_eq!(bits(&parts.gradient), bits(&whole.gradient), "{what}");
        assert_eq!(parts.confusion, whole.confusion, "{what}");
        assert_eq!(bytemuck::bytes_of(&parts.record), bytemuck::bytes_of(&whole.record), "{what}");

        let shape = packed(&case.shape);
        for gradient in [false, true] {
            let operator = case.loss().gradient(gradient).per_pixel(true).upsampled(size.0, size.1);
            let operator = operator.resize(case.resize).confusion(true);
            let [parts, whole] =
                [&small, gpu()].map(|gpu| operator.run_blocking(gpu, &shape, &case.data, &case.labels).unwrap());
            assert_eq!(parts.confusion, whole.confusion, "{what}");
            assert_eq!((parts.ignored, parts.pixels), (whole.ignored, whole.pixels), "{what}");
            // Blocks of pixels start elsewhere where a gradient needs the rows before.
            let near = |found: &[f32], expected: &[f32]| {
                let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
                let largest = expected.iter().fold(0f64, |largest, x| largest.max(x.abs()));
                assert_close(&what, found, &expected, |_| 300.0 * U * largest);
            };
            near(&[parts.value], &[whole.value]);
            near(&parts.per_pixel.unwrap(), &whole.per_pixel.unwrap());
            assert_eq!(parts.gradient.is_some(), gradient);
            near(&parts.gradient.unwrap_or_default(), &whole.gradient.unwrap_or_default());
        }
    }
}

/// The one-shot functions, of f32 and f16, in the order of the logits, with more classes than 8 bits hold.
#[test]
fn on_the_host() {
    let gpu = gpu();
    for (shape, size) in [
        (Logits::nchw(2, 3, 5, 7).unwrap(), (13, 20)),
        (Logits::nhwc(2, 5, 7, 4).unwrap(), (3, 9)),
        (Logits::chw(300, 4, 4).unwrap(), (9, 9)),
    ] {
        let plain = packed(&shape);
        let case = Case::new(plain, size, Resize::HalfPixel, 4);
        let (twin, (full, gradient)) = (case.twin(), case.twin_gradient());
        let (of_losses, of_gradient) = (case.tolerances(&twin), case.gradient_tolerances(&full));
        let places: Vec<usize> = places(&shape).collect();
        let data = lay(&shape, &case.data);
        let half = halves(&data);
        let operator = case.loss().gradient(true).per_pixel(true).upsampled(size.0, size.1).confusion(true);
        let inputs = [seghead::Input::from(&data[..]), seghead::Input::f16(&half)];
        for input in inputs {
            let found = operator.run_blocking(gpu, &shape, input, &case.labels).unwrap();
            assert_close("losses", &found.per_pixel.unwrap(), &twin.per_pixel, |i| of_losses[i]);
            let found_gradient = found.gradient.unwrap();
            let found_gradient: Vec<f32> = places.iter().map(|&at| found_gradient[at]).collect();
            assert_close("gradient", &found_gradient, &gradient, |i| of_gradient[i]);
            assert!((f64::from(found.value) - case.value(&twin)).abs() < 1e-4 * (1.0 + case.value(&twin).abs()));
            let mut case = Case::new(plain, size, Resize::HalfPixel, 4);
            case.label_type = LabelType::U32;
            assert_eq!(found.confusion, Some(case.stored_confusion(gpu)));
        }
    }
}

#[test]
fn errors() {
    let gpu = gpu();
    let shape = Logits::chw(3, 4, 5).unwrap();
    let (data, labels) = (vec![0.0; 60], vec![0u8; 99]);
    let operator = CrossEntropy::new().gradient(true).upsampled(9, 11);
    let run = |operator: &UpsampledCrossEntropy| operator.run_blocking(gpu, &shape, &data, &labels);
    assert!(run(&operator).is_ok());
    let other = CrossEntropy::new().upsampled(9, 12);
    assert!(matches!(run(&other), Err(Error::Length { what: "targets", expected: 108, found: 99 })));
    let found = operator.run_blocking(gpu, &shape, &data[1..], &labels);
    assert!(matches!(found, Err(Error::Length { what: "logits", expected: 60, found: 59 })));
    assert!(matches!(run(&CrossEntropy::new().upsampled(0, 11)), Err(Error::Empty { what: "height" })));
    let weights = CrossEntropy::new().class_weights(Some(vec![1.0])).upsampled(9, 11);
    assert!(matches!(run(&weights), Err(Error::Length { what: "class weights", expected: 3, found: 1 })));
    let smoothed = CrossEntropy::new().label_smoothing(1.5).upsampled(9, 11);
    assert!(matches!(run(&smoothed), Err(Error::Value { what: "label smoothing", .. })));
    // On llvmpipe an invocation cannot walk all pixels that read one of so few logits.
    let (huge, few) = (CrossEntropy::new().gradient(true).upsampled(512, 512), Logits::chw(3, 2, 2).unwrap());
    let found = huge.run_blocking(gpu, &few, &[0.0; 12], &vec![0u8; 512 * 512]);
    match gpu.adapter_info().name.contains("llvmpipe") {
        true => assert!(matches!(found, Err(Error::Limit { limit: 65_535, .. })), "{found:?}"),
        false => assert!(found.is_ok(), "{found:?}"),
    }

    let map = operator.map(&shape).unwrap();
    let (input, targets) = (upload_bytes(gpu, &[0; 240]), upload_bytes(gpu, &vec![0; map.bytes(8) as usize]));
    let (record, losses, gradient) = (output(gpu, 16), output(gpu, map.bytes(32)), output(gpu, 240));
    let counts = output(gpu, operator.confusion_matrix(&shape).bytes(&map));
    let dispatch = |input: &Buffer, record: &Buffer, losses: &Buffer, gradient: &Buffer, counts: &Buffer| {
        let buffers = LossBuffers::new(whole(record)).losses(whole(losses)).gradient(whole(gradient));
        let targets = Targets::new(whole(&targets), LabelType::U8);
        operator.dispatch(gpu, &shape, whole(input), targets, buffers, Some(whole(counts)))
    };
    assert!(dispatch(&input, &record, &losses, &gradient, &counts).is_ok());
    let found = dispatch(&input, &record, &losses, &record, &counts);
    assert!(matches!(found, Err(Error::BufferTooSmall { what: "gradient", needed: 240, found: 16, .. })), "{found:?}");
    let found = dispatch(&input, &record, &gradient, &gradient, &counts);
    assert!(matches!(found, Err(Error::BufferTooSmall { what: "loss", .. })), "{found:?}");
    let found = dispatch(&input, &record, &losses, &gradient, &record);
    assert!(matches!(found, Err(Error::BufferTooSmall { what: "confusion matrix", .. })), "{found:?}");
    for (i, found) in [
        dispatch(&input, &losses, &losses, &gradient, &counts),
        dispatch(&input, &gradient, &losses, &gradient, &counts),
        dispatch(&input, &counts, &losses, &gradient, &counts),
        dispatch(&input, &record, &losses, &counts, &losses),
        dispatch(&gradient, &record, &losses, &gradient, &counts),
        dispatch(&input, &record, &losses, &losses, &counts),
    ]
    .into_iter()
    .enumerate()
    {
        let aliased = matches!(found, Err(Error::Aliased { .. } | Error::BufferTooSmall { .. }));
        assert!(aliased, "{i}: {:?}", found.map(|dispatch| dispatch.kernels()));
    }
}
