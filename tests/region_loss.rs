//! Dice, Jaccard and Tversky: the f64 twin on awkward shapes with all options, its gradient against differences, special
//! values, regions, empty ones, bands and windows, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{
    Activation, ElementType, Error, Gpu, Input, LabelType, Logits, LossBuffers, LossRecord, Reduction, RegionLoss,
    Targets, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Sigmoid, Activation::Softmax];

/// What an operator is tested on.
struct Case {
    shape: Logits,
    operator: RegionLoss,
    data: Vec<f32>,
    truth: Truth,
}

#[derive(Clone)]
enum Truth {
    Labels(Vec<i64>, LabelType, Option<i64>),
    Soft(Vec<f32>),
}

/// What a dispatch has written.
#[derive(Debug)]
struct Found {
    record: LossRecord,
    losses: Vec<f32>,
    gradient: Vec<f32>,
}

fn soft(random: &mut Random, shape: &Logits) -> Truth {
    Truth::Soft(
        (0..elements(shape)).map(|_| [0.0, 1.0, random.below(101) as f32 / 100.0][random.below(3) as usize]).collect(),
    )
}

/// Labels of either type, of all classes and often of a few, some ignored.
fn labels(random: &mut Random, shape: &Logits, label_type: LabelType) -> Truth {
    let ignored = if label_type == LabelType::U8 { 255 } else { -3 };
    let few = random.below(2) == 0;
    let classes = shape.classes().max(2);
    let label = |random: &mut Random| match random.below(7) {
        0 => ignored,
        _ if few => i64::from(random.below(2) * (classes - 1)),
        _ => random.below(classes).into(),
    };
    Truth::Labels((0..shape.map().pixels()).map(|_| label(random)).collect(), label_type, Some(ignored))
}

impl Case {
    fn new(random: &mut Random, shape: Logits, i: u32) -> Self {
        let activation = ACTIVATIONS[random.below(3) as usize];
        let overlap = match random.below(3) {
            0 => RegionLoss::dice(),
            1 => RegionLoss::jaccard(),
            _ => RegionLoss::tversky(random.below(100) as f32 / 100.0, random.below(100) as f32 / 100.0),
        };
        let smoothing = [1e-6, 1.0, 0.25][random.below(3) as usize];
        let reduction = [Reduction::Mean, Reduction::Sum][random.below(2) as usize];
        let truth = match i % 3 {
            0 => soft(random, &shape),
            1 => labels(random, &shape, LabelType::U8),
            _ => labels(random, &shape, LabelType::U32),
        };
        let ignored = if let Truth::Labels(.., ignored) = &truth { *ignored } else { None };
        let operator = overlap
            .activation(activation)
            .smoothing(smoothing)
            .reduction(reduction)
            .per_image(random.below(2) == 0)
            .per_class(random.below(2) == 0)
            .ignore_index(ignored);
        let data = match activation {
            // Probabilities as they are.
            Activation::None => (0..elements(&shape)).map(|_| random.below(257) as f32 / 256.0).collect(),
            _ => random.logits(&shape).iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
        };
        Self { shape, operator, data, truth }
    }

    fn reference(&self) -> reference::RegionLosses {
        let plain = packed(&self.shape);
        match &self.truth {
            Truth::Soft(targets) => reference::region_loss(&self.operator, &plain, &self.data, targets, None),
            Truth::Labels(labels, _, ignored) => {
                let one_hot = reference::one_hot(&plain, labels);
                let ignored: Vec<bool> = labels.iter().map(|&label| Some(label) == *ignored).collect();
                reference::region_loss(&self.operator, &plain, &self.data, &one_hot, Some(&ignored))
            }
        }
    }

    /// Buffers for the results, and the work that writes them.
    fn dispatch(&self, gpu: &Gpu) -> Result<(seghead::Dispatch, [wgpu::Buffer; 3]), Error> {
        let shape = &self.shape;
        let input = upload_laid(gpu, shape, &self.data);
        let sizes = [16, self.operator.bytes(shape), shape.output().bytes()];
        let written = sizes.map(|size| guarded(gpu, size));
        let [record, losses, gradient] = written.each_ref().map(wgpu::Buffer::as_entire_buffer_binding);
        let buffers = LossBuffers::new(record).losses(losses).gradient(gradient);
        let input = input.as_entire_buffer_binding();
        let work = match &self.truth {
            Truth::Soft(targets) => {
                let targets = upload_laid(gpu, &shape.output(), targets);
                self.operator.dispatch_soft(gpu, shape, input, targets.as_entire_buffer_binding(), buffers)?
            }
            Truth::Labels(labels, label_type, _) => {
                let targets = upload_labels(gpu, shape, labels, *label_type);
                let targets = Targets::new(targets.as_entire_buffer_binding(), *label_type);
                self.operator.dispatch(gpu, shape, input, targets, buffers)?
            }
        };
        Ok((work, written))
    }

    fn found(&self, results: &mut impl Iterator<Item = Vec<u8>>) -> Found {
        let record = bytemuck::pod_read_unaligned(&results.next().unwrap());
        let losses = bytemuck::pod_collect_to_vec(&results.next().unwrap());
        Found { record, losses, gradient: take_guarded(&self.shape.output(), &results.next().unwrap()) }
    }

    fn run(&self, gpu: &Gpu) -> Result<Found, Error> {
        let (work, written) = self.dispatch(gpu)?;
        let mut recorder = Recorder::new(gpu);
        recorder.record(&work, &written.each_ref());
        Ok(self.found(&mut recorder.finish()))
    }

    /// The one-shot function.
    fn run_blocking(&self, gpu: &Gpu) -> Result<seghead::Loss, Error> {
        let operator = self.operator.clone().gradient(true);
        let data = lay(&self.shape, &self.data);
        match &self.truth {
            Truth::Soft(targets) => {
                operator.run_soft_blocking(gpu, &self.shape, &data, &lay(&self.shape.output(), targets))
            }
            Truth::Labels(labels, ..) => operator.run_blocking(gpu, &self.shape, &data, labels),
        }
    }

    fn check(&self, what: &str, expected: &reference::RegionLosses, found: &Found) {
        let what = format!("{what}: {:?} {:?}", self.shape, self.operator);
        // Of a region: probabilities are within (3 + 2 · 40 + C + 4) ulp of at most 2 U, sums of positive terms go
        // through at most 16 + 2 + 32 + 64 + 64 + N + C additions; the loss is a quotient of such sums, where the
        // numerator P + T − 2 I may be as small as the loss is.
        let classes = f64::from(self.shape.classes());
        let of_sums = (2.0 * (87.0 + classes) + 180.0 + classes) * U;
        let of_loss = |loss: f64| of_sums * (1.0 + loss.abs());
        let most = of_loss(1.0) * expected.per_region.len() as f64;
        assert_close(&what, &found.losses, &expected.per_region, |i| of_loss(expected.per_region[i]));
        assert_close(&what, &[found.record.loss], &[expected.value], |_| most);
        assert_eq!(found.record.weight as usize, expected.per_region.len(), "{what}");
        let largest = expected.gradient.iter().fold(0f64, |m, x| if x.is_finite() { m.max(x.abs()) } else { m });
        let by = |i: usize| of_sums * (expected.gradient[i].abs() + largest) + f64::from(f32::MIN_POSITIVE);
        assert_close(&what, &found.gradient, &expected.gradient, by);
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
                let counted = match &case.truth {
                    Truth::Soft(_) => case.shape.map().pixels(),
                    Truth::Labels(labels, _, ignored) => {
                        labels.iter().filter(|&&label| Some(label) != *ignored).count()
                    }
                };
                assert_eq!((found.record.valid as usize, found.record.first_invalid), (counted, u32::MAX));
            }
        }
    }
}

/// Several chunks, more than are folded at once, images together and apart.
#[test]
fn large() {
    let shapes = [Logits::nchw(2, 3, 300, 500), Logits::nhwc(3, 67, 81, 6), Logits::nchw(70, 2, 3, 5)];
    for (i, shape) in shapes.map(Result::unwrap).into_iter().enumerate() {
        for round in 0..4 {
            let mut random = Random::new(17 * round + i as u64);
            let case = Case::new(&mut random, shape, round as u32);
            case.check("large", &case.reference(), &case.run(gpu()).unwrap());
            let loss = case.run_blocking(gpu()).unwrap();
            let record = LossRecord {
                loss: loss.value,
                weight: case.operator.bytes(&case.shape) as f32 / 4.0,
                valid: 0,
                first_invalid: 0,
            };
            let plain = case.shape.output();
            let gradient = loss.gradient.unwrap();
            let gradient = places(&plain).map(|at| gradient[at]).collect();
            let found = Found { record, losses: loss.per_region.unwrap(), gradient };
            case.check("host", &case.reference(), &found);
        }
    }
}

/// The gradient of the twin is what its loss changes by.
#[test]
fn gradient_of_the_twin() {
    for i in 0..60 {
        let mut random = Random::new(i);
        let shape = Logits::nchw(2, 1 + random.below(4), 3, 2).unwrap();
        let case = Case::new(&mut random, shape, i as u32);
        let found = case.reference();
        let (targets, ignored) = match &case.truth {
            Truth::Soft(targets) => (targets.iter().map(|&t| f64::from(t)).collect(), None),
            Truth::Labels(labels, _, ignored) => {
                let ignored: Vec<bool> = labels.iter().map(|&label| Some(label) == *ignored).collect();
                (reference::one_hot(&shape, labels), Some(ignored))
            }
        };
        let data: Vec<f64> = case.data.iter().map(|&x| x.into()).collect();
        let value = |at: usize, step: f64| {
            let mut data = data.clone();
            data[at] += step;
            reference::region_loss(&case.operator, &shape, &data, &targets, ignored.as_deref()).value
        };
        let step = 1e-5;
        for (at, &by) in found.gradient.iter().enumerate() {
            let difference = (value(at, step) - value(at, -step)) / (2.0 * step);
            assert!(
                (difference - by).abs() < 1e-7 * (1.0 + by.abs()),
                "{i} {at}: {by} {difference} {:?}",
                case.operator
            );
        }
    }
}

fn dice_of(activation: Activation) -> RegionLoss {
    RegionLoss::dice().activation(activation).smoothing(0.5)
}

/// The definitions of pytorch-unet: `dice_coeff` of images and classes by default, `dice_loss` of everything.
#[test]
fn as_pytorch_unet() {
    let shape = Logits::nchw(2, 1, 1, 2).unwrap();
    let (x, t) = ([0.0f32, 2.0, -1.0, 0.5], [1.0f32, 1.0, 0.0, 0.0]);
    let p = x.map(|x| 1.0 / (1.0 + (-x).exp()));
    let score = |i: f32, sets: f32| (2.0 * i + 1e-6) / (sets + 1e-6);
    let coefficient = (score(p[0] + p[1], p[0] + p[1] + 2.0) + score(0.0, p[2] + p[3])) / 2.0;
    let loss = RegionLoss::dice().run_soft_blocking(gpu(), &shape, &x, &t).unwrap();
    assert!((loss.value - (1.0 - coefficient)).abs() < 1e-6, "{loss:?}");
    assert_eq!((loss.pixels, loss.ignored, loss.per_pixel, loss.gradient), (4, 0, None, None));
    // The labels 0 and 1 of a single class.
    let labelled = RegionLoss::dice().run_blocking(gpu(), &shape, &x, &[1u8, 1, 0, 0]).unwrap();
    assert_eq!(labelled.value, loss.value);
    let whole = RegionLoss::dice().per_image(false).per_class(false);
    let loss = whole.run_soft_blocking(gpu(), &shape, &x, &t).unwrap();
    let expected = 1.0 - score(p[0] + p[1], p.iter().sum::<f32>() + 2.0);
    assert!((loss.value - expected).abs() < 1e-6, "{loss:?} {expected}");
    assert_eq!(loss.per_region.unwrap().len(), 1);
}

#[test]
fn tversky_is_dice_and_jaccard() {
    let shape = Logits::nchw(2, 4, 9, 13).unwrap();
    let mut random = Random::new(2);
    let (data, labels) = (random.logits(&shape), (0..234).map(|_| random.below(4) as u8).collect::<Vec<_>>());
    let of = |loss: RegionLoss| loss.gradient(true).run_blocking(gpu(), &shape, &data, &labels).unwrap();
    let pairs = [
        (RegionLoss::dice().smoothing(1.0), RegionLoss::tversky(0.5, 0.5).smoothing(0.5)),
        (RegionLoss::jaccard().smoothing(1.0), RegionLoss::tversky(1.0, 1.0).smoothing(1.0)),
    ];
    for (a, b) in pairs {
        let (a, b) = (of(a), of(b));
        assert!((a.value - b.value).abs() < 1e-6, "{} {}", a.value, b.value);
        let same = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-7;
        assert!(a.gradient.unwrap().iter().zip(&b.gradient.unwrap()).all(same));
    }
}

/// Nothing predicted and nothing there: no loss and no gradient, and without smoothing nothing to divide by.
#[test]
fn empty_regions() {
    let shape = Logits::chw(2, 1, 5).unwrap();
    // Of the second class, sigmoids that are 0.
    let data = [1.0, 2.0, 0.0, -1.0, 0.5, -INF, -INF, -INF, -INF, -INF];
    for overlap in [RegionLoss::dice(), RegionLoss::jaccard(), RegionLoss::tversky(0.3, 0.7)] {
        for smoothing in [1e-6, 1.0, 0.0] {
            let operator = overlap.clone().activation(Activation::Sigmoid).smoothing(smoothing);
            let truth = Truth::Labels(vec![0, 0, 0, 0, 0], LabelType::U8, None);
            let case = Case { shape, operator, data: data.to_vec(), truth };
            let (found, loss) = (case.run(gpu()).unwrap(), case.run_blocking(gpu()).unwrap());
            case.check("empty", &case.reference(), &found);
            let losses = loss.per_region.unwrap();
            for (losses, gradient) in [(losses, loss.gradient.unwrap()), (found.losses, found.gradient)] {
                let right = |x: f32| if smoothing == 0.0 { x.is_nan() } else { x == 0.0 };
                assert!(losses[0].is_finite() && right(losses[1]), "{losses:?}");
                assert!(gradient[..5].iter().all(|x| x.is_finite()), "{gradient:?}");
                assert!(gradient[5..].iter().all(|&x| right(x)), "{gradient:?}");
            }
        }
    }
}

/// Where the denominator is 0 it is the numerator, as in pytorch-unet: the score is 1, and does not change.
#[test]
fn nothing_to_divide_by() {
    let shape = Logits::nchw(2, 1, 1, 4).unwrap();
    let data = vec![0.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.25, 0.5];
    let truth = Truth::Soft(vec![0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -0.5, 0.0]);
    let case = Case { shape, operator: dice_of(Activation::None), data, truth };
    let loss = case.run_blocking(gpu()).unwrap();
    case.check("nothing", &case.reference(), &case.run(gpu()).unwrap());
    assert_eq!((loss.per_region.unwrap(), loss.gradient.unwrap()), (vec![0.0; 2], vec![0.0; 8]));
}

/// A NaN makes the regions of its pixel NaN, those of its class alone under a sigmoid, and no others; infinities are
/// probabilities of 0 and 1, or of a softmax NaN.
#[test]
fn special_values() {
    let shape = Logits::nchw(2, 3, 3, 7).unwrap();
    for activation in ACTIVATIONS {
        for special in [NAN, INF, -INF, f32::MAX, -f32::MAX, f32::from_bits(1)] {
            for at in [0, 20, 21 + 5, 63, 125] {
                let mut random = Random::new(5);
                for truth in [soft(&mut random, &shape), labels(&mut random, &shape, LabelType::U8)] {
                    let ignored = if let Truth::Labels(.., ignored) = &truth { *ignored } else { None };
                    let mut data = random.logits(&shape);
                    if activation == Activation::None {
                        if special.is_infinite() || special.abs() == f32::MAX {
                            continue;
                        }
                        data.iter_mut().for_each(|x| *x = x.abs() / 30.0);
                    }
                    data[at] = special;
                    let operator = dice_of(activation).ignore_index(ignored);
                    let case = Case { shape, operator, data, truth };
                    let expected = case.reference();
                    for gpu in [gpu(), default_limits_gpu()] {
                        case.check("special", &expected, &case.run(gpu).unwrap());
                    }
                    let loss = case.run_blocking(gpu()).unwrap();
                    assert_eq!(loss.value.is_nan(), expected.value.is_nan());
                }
            }
        }
    }
}

/// What an ignored pixel holds changes nothing.
#[test]
fn ignored_pixels() {
    let shape = Logits::nchw(2, 3, 5, 7).unwrap();
    let mut random = Random::new(8);
    let truth = labels(&mut random, &shape, LabelType::U8);
    let Truth::Labels(labels, _, Some(ignored)) = &truth else { panic!() };
    let out: Vec<usize> = (0..70).filter(|&pixel| labels[pixel] == *ignored).collect();
    assert!(out.len() > 3);
    for activation in ACTIVATIONS {
        let data: Vec<f32> = random.logits(&shape).iter().map(|x| x.abs() / 30.0).collect();
        let case = |data| {
            let operator = dice_of(activation).ignore_index(Some(*ignored));
            Case { shape, operator, data, truth: truth.clone() }
        };
        let mut other = data.clone();
        for &pixel in &out {
            let at = pixel / 35 * 105 + pixel % 35;
            [(at, NAN), (at + 35, INF), (at + 70, -1e30)].into_iter().for_each(|(at, x)| other[at] = x);
        }
        let [before, after] = [data, other].map(|data| case(data).run(gpu()).unwrap());
        assert_eq!(bits(&before.gradient), bits(&after.gradient));
        assert_eq!((before.record, before.losses), (after.record, after.losses));
        assert_eq!(before.record.valid as usize, 70 - out.len());
    }
}

/// A label that is no class is found, and everything of its image is NaN.
#[test]
fn invalid_labels() {
    let shape = Logits::nchw(2, 3, 5, 7).unwrap();
    for (label_type, label) in [(LabelType::U8, 3i64), (LabelType::U8, 254), (LabelType::U32, -1)] {
        let mut values = vec![1i64; 70];
        (values[36], values[60]) = (label, label);
        let truth = Truth::Labels(values, label_type, Some(255));
        let operator = dice_of(Activation::Softmax).ignore_index(Some(255));
        let case = Case { shape, operator, data: Random::new(1).logits(&shape), truth };
        let found = case.run(gpu()).unwrap();
        assert_eq!(found.record.first_invalid, 36);
        assert!(found.record.loss.is_nan());
        assert!(found.losses[..3].iter().all(|x| x.is_finite()) && found.losses[3..].iter().all(|x| x.is_nan()));
        assert!(found.gradient[..105].iter().all(|x| x.is_finite()));
        let error = case.run_blocking(gpu()).unwrap_err();
        assert!(matches!(error, Error::Label { position: 36, label: found, classes: 3 } if found == label), "{error}");
    }
    // Of a single class there are two labels.
    let one = Logits::chw(1, 1, 3).unwrap();
    let error = RegionLoss::dice().run_blocking(gpu(), &one, &[0.0; 3], &[0u8, 1, 2]).unwrap_err();
    assert!(matches!(error, Error::Label { position: 2, label: 2, classes: 2 }), "{error}");
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

/// The one-shot functions in small bands, from slices, halves and readers: the same bits.
#[test]
fn bands() {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let shapes = [
        nchw(1, 3, 64, 80),
        nchw(2, 3, 37, 59),
        // Twice 2048 pixels, and some whose sums are taken in another way than those of an image of their own.
        nchw(6, 3, 60, 73),
        nchw(5, 30, 5, 9),
        Logits::nhwc(2, 37, 59, 3).unwrap(),
        nchw(2, 3, 60, 70).crop(3, 7, 47, 51).unwrap(),
    ];
    // 2048 pixels of 3 classes are 24 KiB.
    for bytes in [32768u64, 65536] {
        let gpu = limited(bytes, 2 * bytes);
        for (i, shape) in shapes.into_iter().enumerate() {
            let mut random = Random::new(bytes + i as u64);
            let data: Vec<f32> = (0..shape.len()).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect();
            let targets: Vec<f32> = (0..shape.len()).map(|_| random.below(65) as f32 / 64.0).collect();
            let labels: Vec<u8> = (0..shape.map().pixels()).map(|_| random.below(3) as u8).collect();
            for activation in [Activation::Sigmoid, Activation::Softmax] {
                let operator = RegionLoss::jaccard().activation(activation).gradient(true).per_image(i != 1);
                let operator = operator.ignore_index(Some(2));
                let same = |got: seghead::Loss, expected: &seghead::Loss| {
                    let what = format!("{bytes} {shape:?} {activation:?}");
                    let of = |loss: &seghead::Loss| {
                        let all =
                            [loss.gradient.as_deref().unwrap(), loss.per_region.as_deref().unwrap(), &[loss.value]];
                        (all.map(bits), loss.pixels, loss.ignored)
                    };
                    assert!(of(&got) == of(expected), "{what}");
                };
                let expected = operator.run_blocking(default_limits_gpu(), &shape, &data, &labels).unwrap();
                same(operator.run_blocking(&gpu, &shape, &data, &labels).unwrap(), &expected);
                let expected = operator.run_soft_blocking(default_limits_gpu(), &shape, &data, &targets).unwrap();
                same(operator.run_soft_blocking(&gpu, &shape, &data, &targets).unwrap(), &expected);
                let (data_bits, target_bits) = (halves(&data), halves(&targets));
                let (from, against) = (Input::f16(&data_bits), Input::f16(&target_bits));
                same(operator.run_soft_blocking(&gpu, &shape, from, against).unwrap(), &expected);
                let read = |first: u64, bytes: &mut [u8]| {
                    let first = first as usize * 4;
                    bytes.copy_from_slice(&bytemuck::cast_slice(&targets)[first..first + bytes.len()]);
                    Ok(())
                };
                let reader = Input::reader(ElementType::F32, targets.len() as u64, read);
                same(operator.run_soft_blocking(&gpu, &shape, &data, reader).unwrap(), &expected);
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
            operator: RegionLoss::dice(),
            data: Random::new(2).logits(&shape),
            truth: Truth::Labels(labels, LabelType::U8, None),
        };
        assert_eq!(case.run(&small).unwrap().record.first_invalid as usize, first, "{shape:?}");
    }
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let operator = RegionLoss::dice();
    for found in [0usize, 15, 17, 48] {
        let error = operator.run_blocking(gpu, &shape, &[0.0; 48], &vec![0u8; found]).unwrap_err();
        let n = found as u64;
        assert!(matches!(error, Error::Length { what: "targets", expected: 16, found } if found == n), "{error}");
        let error = operator.run_blocking(gpu, &shape, &vec![0.0; found + 1], &[0u8; 16]).unwrap_err();
        assert!(matches!(error, Error::Length { what: "logits", expected: 48, .. }), "{error}");
        let error = operator.run_soft_blocking(gpu, &shape, &[0.0; 48], &vec![0.0; found + 1]).unwrap_err();
        assert!(matches!(error, Error::Length { what: "targets", expected: 48, .. }), "{error}");
    }
    for wrong in [-1.0, NAN, INF] {
        let operators = [
            (RegionLoss::dice().smoothing(wrong), "smoothing"),
            (RegionLoss::tversky(wrong, 0.5), "alpha"),
            (RegionLoss::tversky(0.5, wrong), "beta"),
        ];
        for (operator, name) in operators {
            let error = operator.run_blocking(gpu, &shape, &[0.0; 48], &[0u8; 16]).unwrap_err();
            assert!(matches!(error, Error::Value { what, .. } if what == name), "{error}");
        }
    }

    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, gradient) = (storage(192), storage(192), storage(192));
    let (record, losses) = (storage(16), storage(12));
    let attempt = |targets: &wgpu::Buffer, record: &wgpu::Buffer, losses: &wgpu::Buffer, gradient: &wgpu::Buffer| {
        let [input, targets, record] = [&input, targets, record].map(|buffer| buffer.as_entire_buffer_binding());
        let buffers = LossBuffers::new(record).losses(losses.as_entire_buffer_binding());
        let buffers = buffers.gradient(gradient.as_entire_buffer_binding());
        operator.dispatch_soft(gpu, &shape, input, targets, buffers).map(|_| ())
    };
    assert!(attempt(&targets, &record, &losses, &gradient).is_ok());
    let is = |found: Result<(), Error>, expected: Error| {
        assert_eq!(found.unwrap_err().to_string(), expected.to_string());
    };
    let small = |what, needed, found| Error::BufferTooSmall { what, offset: 0, needed, found };
    is(attempt(&storage(188), &record, &losses, &gradient), small("target", 192, 188));
    is(attempt(&targets, &storage(12), &losses, &gradient), small("loss record", 16, 12));
    is(attempt(&targets, &record, &storage(8), &gradient), small("losses of regions", 12, 8));
    is(attempt(&targets, &record, &losses, &storage(188)), small("gradient", 192, 188));
    let aliased = |written, other| Error::Aliased { written, other };
    is(attempt(&targets, &targets, &losses, &gradient), aliased("loss record", "target"));
    is(attempt(&targets, &record, &input, &gradient), aliased("losses of regions", "logits"));
    is(attempt(&targets, &record, &losses, &targets), aliased("gradient", "target"));
    is(attempt(&targets, &record, &losses, &input), aliased("gradient", "logits"));
    is(attempt(&targets, &losses, &losses, &gradient), small("loss record", 16, 12));
    is(attempt(&targets, &record, &record, &gradient), aliased("loss record", "losses of regions"));
    is(attempt(&targets, &gradient, &losses, &gradient), aliased("loss record", "gradient"));
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [3855, 16384, 65536] {
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let truth = Truth::Labels(vec![0, i64::from(classes) - 1, 7], LabelType::U32, None);
        let operator = dice_of(Activation::Sigmoid).per_class(false);
        let case = Case { shape, operator, data: Random::new(7).logits(&shape), truth };
        match case.run_blocking(gpu()) {
            Ok(loss) => assert!((f64::from(loss.value) - case.reference().value).abs() < 1e-4, "{classes}"),
            Err(error) => assert!(classes > 16383 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
        }
    }
}
