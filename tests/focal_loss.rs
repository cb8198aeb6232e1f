//! Focal loss: the f64 twins on awkward shapes, their gradients against differences, what it is without focusing, special
//! values, bands and windows, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{
    BinaryCrossEntropy, CrossEntropy, Error, FocalLoss, Gpu, Input, LabelType, Logits, LossBuffers, LossRecord,
    Reduction, Targets, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const IGNORED: i64 = 255;

#[derive(Clone)]
struct Case {
    shape: Logits,
    gamma: f32,
    alpha: Option<f32>,
    reduction: Reduction,
    data: Vec<f32>,
    truth: Truth,
}

#[derive(Clone)]
enum Truth {
    Labels(Vec<i64>, LabelType),
    Binary(Vec<f32>),
}

struct Found {
    record: LossRecord,
    losses: Vec<f32>,
    gradient: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, shape: Logits, i: u32) -> Self {
        let truth = match i % 3 {
            0 => Truth::Binary((0..elements(&shape)).map(|_| [0.0, 1.0, 0.25][random.below(3) as usize]).collect()),
            i => {
                let label = |random: &mut Random| match random.below(7) {
                    0 => IGNORED,
                    _ => random.below(shape.classes()).into(),
                };
                let labels = (0..shape.map().pixels()).map(|_| label(random)).collect();
                Truth::Labels(labels, if i == 1 { LabelType::U8 } else { LabelType::U32 })
            }
        };
        Self {
            gamma: [2.0, 0.0, 1.0, 0.5, 3.7][random.below(5) as usize],
            alpha: [None, Some(0.25), Some(1.0)][random.below(3) as usize],
            reduction: [Reduction::Mean, Reduction::Sum][random.below(2) as usize],
            data: random.logits(&shape).iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
            shape,
            truth,
        }
    }

    fn operator(&self) -> FocalLoss {
        let operator = FocalLoss::new().gamma(self.gamma).alpha(self.alpha).reduction(self.reduction);
        operator.ignore_index(Some(IGNORED)).single(true).gradient(true)
    }

    fn reference(&self) -> reference::FocalLosses {
        let (plain, gamma, alpha) = (packed(&self.shape), self.gamma.into(), self.alpha.map(f64::from));
        match &self.truth {
            Truth::Labels(labels, _) => {
                reference::focal_loss(&plain, &self.data, labels, Some(IGNORED), gamma, alpha.unwrap_or(1.0))
            }
            Truth::Binary(targets) => reference::binary_focal_loss(&plain, &self.data, targets, gamma, alpha),
        }
    }

    fn dispatch(&self, gpu: &Gpu) -> Result<(seghead::Dispatch, [wgpu::Buffer; 3]), Error> {
        let shape = &self.shape;
        let input = upload_laid(gpu, shape, &self.data);
        let input = input.as_entire_buffer_binding();
        let single = match self.truth {
            Truth::Labels(..) => shape.map().bytes(32),
            Truth::Binary(_) => shape.output().bytes(),
        };
        let written = [16, single, shape.output().bytes()].map(|size| guarded(gpu, size));
        let [record, losses, gradient] = written.each_ref().map(wgpu::Buffer::as_entire_buffer_binding);
        let buffers = LossBuffers::new(record).losses(losses).gradient(gradient);
        let work = match &self.truth {
            Truth::Labels(labels, label_type) => {
                let targets = upload_labels(gpu, shape, labels, *label_type);
                let targets = Targets::new(targets.as_entire_buffer_binding(), *label_type);
                self.operator().dispatch(gpu, shape, input, targets, buffers)?
            }
            Truth::Binary(targets) => {
                let targets = upload_laid(gpu, &shape.output(), targets);
                self.operator().dispatch_binary(gpu, shape, input, targets.as_entire_buffer_binding(), buffers)?
            }
        };
        Ok((work, written))
    }

    fn found(&self, results: &mut impl Iterator<Item = Vec<u8>>) -> Found {
        let record = bytemuck::pod_read_unaligned(&results.next().unwrap());
        let losses = results.next().unwrap();
        let losses = match self.truth {
            Truth::Labels(..) => unpad_map(&self.shape.map(), &losses),
            Truth::Binary(_) => take_guarded(&self.shape.output(), &losses),
        };
        Found { record, losses, gradient: take_guarded(&self.shape.output(), &results.next().unwrap()) }
    }

    fn run(&self, gpu: &Gpu) -> Result<Found, Error> {
        let (work, written) = self.dispatch(gpu)?;
        let mut recorder = Recorder::new(gpu);
        recorder.record(&work, &written.each_ref());
        Ok(self.found(&mut recorder.finish()))
    }

    fn run_blocking(&self, gpu: &Gpu) -> Result<seghead::Loss, Error> {
        let data = lay(&self.shape, &self.data);
        match &self.truth {
            Truth::Labels(labels, _) => self.operator().run_blocking(gpu, &self.shape, &data, labels),
            Truth::Binary(targets) => {
                self.operator().run_binary_blocking(gpu, &self.shape, &data, &lay(&self.shape.output(), targets))
            }
        }
    }

    /// Exponentials within 3 + 2 · 40 ulp, sums of C of them, a power of 2^(γ · log₂ q) whose exponent is below 40 γ and
    /// within 3 ulp or 2⁻²¹, and the roundings of a few products.
    fn check(&self, what: &str, expected: &reference::FocalLosses, found: &Found) {
        let what = format!("{what}: {:?} γ {} α {:?} {:?}", self.shape, self.gamma, self.alpha, self.reduction);
        let classes = f64::from(self.shape.classes());
        let relative = (200.0 + 2.0 * classes + 200.0 * f64::from(self.gamma)) * U;
        let tolerance = |i: usize| expected.losses[i].abs() * relative + 2e-9;
        assert_close(&what, &found.losses, &expected.losses, tolerance);
        let sum: f64 = expected.losses.iter().sum();
        let divisor = if self.reduction == Reduction::Mean { expected.weight } else { 1.0 };
        let of_sum = (0..expected.losses.len()).map(tolerance).sum::<f64>() + (140.0 + classes) * U * sum.abs();
        let reduced = if divisor == 0.0 { f64::NAN } else { sum / divisor };
        assert_close(&what, &[found.record.loss], &[reduced], |_| of_sum / divisor + 6.0 * U * reduced.abs());
        assert_eq!(f64::from(found.record.weight), expected.weight, "{what}");
        let gradient: Vec<f64> = expected.gradient.iter().map(|x| x / divisor).collect();
        assert_close(&what, &found.gradient, &gradient, |i| gradient[i].abs() * relative * 3.0 + 4.0 * U / divisor);
    }
}

#[test]
fn oracle() {
    for classes in [1, 2, 3, 9, 25] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(u64::from(classes));
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let case = Case::new(&mut random, shape, i as u32);
                let (work, written) = case.dispatch(gpu).unwrap();
                recorder.record(&work, &written.each_ref());
                cases.push(case);
            }
            let mut results = recorder.finish();
            for case in cases {
                let found = case.found(&mut results);
                case.check("dispatch", &case.reference(), &found);
                assert_eq!(found.record.first_invalid, u32::MAX);
            }
        }
    }
}

/// The gradients of the twins are what their losses change by.
#[test]
fn gradients_of_the_twins() {
    for i in 0..60 {
        let mut random = Random::new(i);
        let shape = Logits::nchw(2, 1 + random.below(4), 3, 2).unwrap();
        let case = Case::new(&mut random, shape, i as u32);
        let data: Vec<f64> = case.data.iter().map(|&x| x.into()).collect();
        let (gamma, alpha) = (case.gamma.into(), case.alpha.map(f64::from));
        let of = |data: &[f64]| match &case.truth {
            Truth::Labels(labels, _) => {
                reference::focal_loss(&shape, data, labels, Some(IGNORED), gamma, alpha.unwrap_or(1.0))
            }
            Truth::Binary(targets) => reference::binary_focal_loss(&shape, data, targets, gamma, alpha),
        };
        let step = 1e-5;
        for (at, by) in of(&data).gradient.into_iter().enumerate() {
            let value = |step: f64| {
                let mut data = data.clone();
                data[at] += step;
                of(&data).losses.iter().sum::<f64>()
            };
            let difference = (value(step) - value(-step)) / (2.0 * step);
            assert!((difference - by).abs() < 1e-7 * (1.0 + by.abs()), "{i} {at}: {by} {difference}");
        }
    }
}

/// With γ = 0 there is nothing but cross-entropy, and binary cross-entropy.
#[test]
fn without_focusing() {
    let shape = Logits::nchw(2, 3, 31, 43).unwrap();
    let mut random = Random::new(5);
    let data = random.logits(&shape);
    let labels: Vec<u8> = (0..2 * 31 * 43).map(|_| random.below(3) as u8).collect();
    let targets: Vec<f32> = data.iter().map(|_| random.below(5) as f32 / 4.0).collect();
    let focal = FocalLoss::new().gamma(0.0);
    let (found, expected) = (
        focal.run_blocking(gpu(), &shape, &data, &labels).unwrap(),
        CrossEntropy::new().run_blocking(gpu(), &shape, &data, &labels).unwrap(),
    );
    assert!((found.value - expected.value).abs() < 1e-6 * expected.value, "{found:?} {expected:?}");
    assert_eq!((found.per_pixel, found.per_element, found.gradient), (None, None, None));
    let (found, expected) = (
        focal.run_binary_blocking(gpu(), &shape, &data, &targets).unwrap(),
        BinaryCrossEntropy::new().run_blocking(gpu(), &shape, &data, &targets).unwrap(),
    );
    assert!((found.value - expected.value).abs() < 1e-6 * expected.value, "{found:?} {expected:?}");
}

/// A loss that is nearly 0 keeps its relative accuracy.
#[test]
fn sure_predictions() {
    let shape = Logits::chw(2, 1, 60).unwrap();
    let sure: Vec<f32> = (0..60).map(|i| i as f32 / 2.0).collect();
    let data = [sure, vec![0.0; 60]].concat();
    for gamma in [0.5, 1.0, 2.0] {
        let truth = Truth::Labels(vec![0; 60], LabelType::U8);
        let case = Case { shape, gamma, alpha: None, reduction: Reduction::Sum, data: data.clone(), truth };
        let (found, expected) = (case.run(gpu()).unwrap(), case.reference());
        let relative = (300.0 + 400.0 * f64::from(gamma)) * U;
        let within = |x: f64| x.abs() * relative + f64::from(f32::MIN_POSITIVE);
        assert_close("losses", &found.losses, &expected.losses, |i| within(expected.losses[i]));
        assert_close("gradient", &found.gradient, &expected.gradient, |i| within(expected.gradient[i]) * 4.0);
    }
}

#[test]
fn special_values() {
    const SPECIAL: [f32; 9] = [NAN, INF, -INF, f32::MAX, -f32::MAX, 0.0, 1e-40, 104.0, -104.0];
    let shape = Logits::chw(3, 9, 9).unwrap();
    for gamma in [0.0, 0.5, 2.0] {
        let mut random = Random::new(3);
        let mut data = random.logits(&shape);
        for i in 0..81 {
            (data[i], data[81 + i]) = (SPECIAL[i % 9], SPECIAL[i / 9]);
        }
        for truth in [
            Truth::Labels((0..81).map(|i| i * 7 % 3).collect(), LabelType::U8),
            Truth::Labels(vec![0; 81], LabelType::U8),
            Truth::Binary((0..243).map(|i| [0.0, 1.0, 0.5][i * 5 % 7 % 3]).collect()),
        ] {
            let case = Case { shape, gamma, alpha: None, reduction: Reduction::Sum, data: data.clone(), truth };
            let mut expected = case.reference();
            // What f32 does not have is infinite.
            for x in expected.losses.iter_mut().filter(|x| x.abs() > f64::from(f32::MAX)) {
                *x = f64::INFINITY;
            }
            for gpu in [gpu(), default_limits_gpu()] {
                let found = case.run(gpu).unwrap();
                let near = |x: f64| 1e-3 * x.abs() + 1e-6;
                assert_close("losses", &found.losses, &expected.losses, |i| near(expected.losses[i]));
                assert_close("gradient", &found.gradient, &expected.gradient, |i| near(expected.gradient[i]));
            }
        }
    }
}

#[test]
fn invalid_and_ignored_labels() {
    let shape = Logits::nchw(2, 3, 5, 7).unwrap();
    let mut random = Random::new(4);
    let data = random.logits(&shape);
    let case = |labels, reduction| {
        let truth = Truth::Labels(labels, LabelType::U8);
        Case { shape, gamma: 2.0, alpha: None, reduction, data: data.clone(), truth }
    };
    let mut labels = vec![1i64; 70];
    labels[36] = 3;
    let wrong = case(labels, Reduction::Mean);
    let found = wrong.run(gpu()).unwrap();
    assert!(found.record.loss.is_nan() && found.record.first_invalid == 36);
    assert!(found.losses[36].is_nan() && found.losses[35].is_finite());
    assert!((0..210).all(|i| found.gradient[i].is_nan() == (i >= 105 && i % 35 == 1)));
    let error = wrong.run_blocking(gpu()).unwrap_err();
    assert!(matches!(error, Error::Label { position: 36, label: 3, classes: 3 }), "{error}");

    let none = case(vec![IGNORED; 70], Reduction::Mean);
    let (found, loss) = (none.run(gpu()).unwrap(), none.run_blocking(gpu()).unwrap());
    assert!(found.record.loss.is_nan() && loss.value.is_nan() && loss.ignored == 70);
    assert!(found.gradient.iter().chain(&loss.gradient.unwrap()).all(|&x| x == 0.0));
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

/// The one-shot functions, whole and in small bands, and of halves: the same bits.
#[test]
fn bands() {
    let small = limited(65536, 131_072);
    let shapes = [
        Logits::nchw(2, 3, 64, 80),
        Logits::nhwc(2, 37, 59, 3),
        Logits::nchw(2, 3, 60, 70).unwrap().crop(3, 7, 47, 51),
    ];
    for (i, shape) in shapes.map(Result::unwrap).into_iter().enumerate() {
        for round in 0..3 {
            let case = Case::new(&mut Random::new(i as u64 + 3 * round), shape, round as u32);
            let loss = case.run_blocking(default_limits_gpu()).unwrap();
            let of = |loss: &seghead::Loss| {
                let single = loss.per_pixel.as_deref().or(loss.per_element.as_deref()).unwrap();
                [bits(single), bits(loss.gradient.as_deref().unwrap()), bits(&[loss.value])]
            };
            assert!(of(&case.run_blocking(&small).unwrap()) == of(&loss), "{shape:?}");
            let all = halves(&lay(&shape, &case.data));
            if let Truth::Labels(labels, _) = &case.truth {
                let same = case.operator().run_blocking(&small, &shape, Input::f16(&all), labels).unwrap();
                assert!(of(&same) == of(&loss), "{shape:?}");
            }
            // As the dispatch has it, which divides on the GPU; results are packed in the order of the logits.
            let found = case.run(gpu()).unwrap();
            let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * b.abs() + 1e-12;
            assert!(near(loss.value, found.record.loss), "{} {:?}", loss.value, found.record);
            if shape.pixel_stride() == 1 {
                assert!(loss.gradient.unwrap().iter().zip(&found.gradient).all(|(a, b)| near(*a, *b)), "{shape:?}");
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
        for (i, shape) in beyond_a_binding().into_iter().enumerate() {
            let case = Case::new(&mut Random::new(bytes + i as u64), shape, i as u32);
            match case.run(&small) {
                Ok(found) => case.check("windows", &case.reference(), &found),
                Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => refused += 1,
                Err(error) => panic!("{shape:?}: {error}"),
            }
        }
    }
    assert!(refused <= 6, "{refused} refused");
}

/// The first of the labels that are no class, where bands begin anywhere.
#[test]
fn invalid_labels_in_windows() {
    let small = limited(16384, 1 << 28);
    for shape in [Logits::chw(3, 64, 80).unwrap(), Logits::nchw(7, 30, 5, 9).unwrap()] {
        let mut labels = vec![0; shape.map().pixels()];
        let first = labels.len() - 40;
        (labels[first], labels[first + 30]) = (99, 99);
        let case = Case {
            shape,
            gamma: 2.0,
            alpha: None,
            reduction: Reduction::Mean,
            data: Random::new(2).logits(&shape),
            truth: Truth::Labels(labels, LabelType::U8),
        };
        assert_eq!(case.run(&small).unwrap().record.first_invalid as usize, first, "{shape:?}");
    }
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let operator = FocalLoss::new();
    let error = operator.run_blocking(gpu, &shape, &[0.0; 48], &[0u8; 15]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "targets", expected: 16, found: 15 }), "{error}");
    let error = operator.run_binary_blocking(gpu, &shape, &[0.0; 48], &[0.0; 16]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "targets", expected: 48, found: 16 }), "{error}");
    for wrong in [-1.0, NAN, INF] {
        for (operator, name) in
            [(FocalLoss::new().gamma(wrong), "gamma"), (FocalLoss::new().alpha(Some(wrong)), "alpha")]
        {
            let error = operator.run_blocking(gpu, &shape, &[0.0; 48], &[0u8; 16]).unwrap_err();
            assert!(matches!(error, Error::Value { what, .. } if what == name), "{error}");
            let error = operator.run_binary_blocking(gpu, &shape, &[0.0; 48], &[0.0; 48]).unwrap_err();
            assert!(matches!(error, Error::Value { what, .. } if what == name), "{error}");
        }
    }
    let error = FocalLoss::new().alpha(Some(1.5)).run_binary_blocking(gpu, &shape, &[0.0; 48], &[0.0; 48]);
    assert!(matches!(error, Err(Error::Value { what: "alpha", .. })));

    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, gradient, record, losses) =
        (storage(192), storage(192), storage(192), storage(16), storage(192));
    let attempt = |targets: &wgpu::Buffer, record: &wgpu::Buffer, losses: &wgpu::Buffer, gradient: &wgpu::Buffer| {
        let [input, targets, record] = [&input, targets, record].map(|buffer| buffer.as_entire_buffer_binding());
        let buffers = LossBuffers::new(record).losses(losses.as_entire_buffer_binding());
        let buffers = buffers.gradient(gradient.as_entire_buffer_binding());
        operator.dispatch_binary(gpu, &shape, input, targets, buffers).map(|_| ())
    };
    assert!(attempt(&targets, &record, &losses, &gradient).is_ok());
    let is = |found: Result<(), Error>, expected: Error| {
        assert_eq!(found.unwrap_err().to_string(), expected.to_string());
    };
    let small = |what, needed, found| Error::BufferTooSmall { what, offset: 0, needed, found };
    is(attempt(&storage(188), &record, &losses, &gradient), small("target", 192, 188));
    is(attempt(&targets, &storage(12), &losses, &gradient), small("loss record", 16, 12));
    is(attempt(&targets, &record, &storage(188), &gradient), small("losses", 192, 188));
    is(attempt(&targets, &record, &losses, &storage(188)), small("gradient", 192, 188));
    let aliased = |written, other| Error::Aliased { written, other };
    is(attempt(&targets, &targets, &losses, &gradient), aliased("loss record", "target"));
    is(attempt(&targets, &record, &input, &gradient), aliased("losses", "logits"));
    is(attempt(&targets, &record, &losses, &input), aliased("gradient", "logits"));
    is(attempt(&targets, &gradient, &losses, &gradient), aliased("loss record", "gradient"));
}
