//! Weighted sums of losses: what the losses by themselves add up to, in value and gradient, on awkward shapes and where
//! tensors are bound in parts; the one-shot functions; errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{Buffer, BufferUsages, Limits};
use seghead::{
    BinaryCrossEntropy, CrossEntropy, ElementType, Error, FocalLoss, Gpu, Input, LabelType, Logits, LossBuffers,
    LossRecord, LossSum, LossTerm, Reduction, RegionLoss, Targets,
};

/// Labels, N × H × W, or numbers, N × C × H × W.
enum Truth {
    Labels(Vec<i64>, LabelType),
    Tensor(Vec<f32>),
}

const IGNORED: i64 = 255;

fn truth(random: &mut Random, shape: &Logits, soft: bool) -> Truth {
    if soft {
        return Truth::Tensor((0..elements(shape)).map(|_| random.below(5) as f32 / 4.0).collect());
    }
    let label = |random: &mut Random| match random.below(4) {
        0 => IGNORED,
        _ => random.below(shape.classes()).into(),
    };
    let label_type = [LabelType::U8, LabelType::U32][random.below(2) as usize];
    Truth::Labels((0..shape.map().pixels()).map(|_| label(random)).collect(), label_type)
}

fn terms(random: &mut Random) -> Vec<(f32, LossTerm)> {
    let ignored = Some(IGNORED);
    let term = |random: &mut Random| -> LossTerm {
        match random.below(4) {
            0 => CrossEntropy::new().ignore_index(ignored).label_smoothing(0.1).into(),
            1 => BinaryCrossEntropy::new().ignore_index(ignored).reduction(Reduction::Sum).into(),
            2 => RegionLoss::dice().ignore_index(ignored).smoothing(1.0).into(),
            _ => FocalLoss::new().ignore_index(ignored).gamma(1.5).into(),
        }
    };
    (0..1 + random.below(4)).map(|_| (random.below(9) as f32 / 4.0 - 0.75, term(random))).collect()
}

fn sum_of(terms: &[(f32, LossTerm)]) -> LossSum {
    let (weight, first) = terms[0].clone();
    terms[1..].iter().cloned().fold(LossSum::new(weight, first), |sum, (weight, loss)| sum.add(weight, loss))
}

#[derive(Debug)]
struct Found {
    record: LossRecord,
    losses: Vec<f32>,
    /// N × C × H × W
    gradient: Vec<f32>,
}

fn dispatch(gpu: &Gpu, sum: &LossSum, shape: &Logits, data: &[f32], truth: &Truth) -> Result<Found, Error> {
    let input = upload_laid(gpu, shape, data);
    let [record, losses] = [16, sum.bytes()].map(|bytes| output(gpu, bytes));
    let gradient = guarded(gpu, shape.output().bytes());
    let of = Buffer::as_entire_buffer_binding;
    let buffers = LossBuffers::new(of(&record)).losses(of(&losses)).gradient(of(&gradient));
    let work = match truth {
        Truth::Labels(labels, label_type) => {
            let labels = upload_labels(gpu, shape, labels, *label_type);
            sum.dispatch(gpu, shape, of(&input), Targets::new(of(&labels), *label_type), buffers)?
        }
        Truth::Tensor(numbers) => {
            let targets = upload_laid(gpu, &shape.output(), numbers);
            sum.dispatch_soft(gpu, shape, of(&input), of(&targets), buffers)?
        }
    };
    let mut recorder = Recorder::new(gpu);
    recorder.record(&work, &[&record, &losses, &gradient]);
    let mut read = recorder.finish();
    Ok(Found {
        record: bytemuck::pod_read_unaligned(&read.next().unwrap()),
        losses: bytemuck::pod_collect_to_vec(&read.next().unwrap()),
        gradient: take_guarded(shape, &read.next().unwrap()),
    })
}

/// The losses by themselves, which [`sum_of`] adds up.
fn check(what: &str, found: &Found, terms: &[(f32, LossTerm)], single: &[Found]) {
    let weight = |i: usize| f64::from(terms[i].0);
    let count = terms.len() as f64;
    let value = |i: usize| f64::from(single[i].record.loss);
    let value_of = |f: &dyn Fn(f64) -> f64| (0..terms.len()).map(|i| f(weight(i) * value(i))).sum::<f64>();
    let size = value_of(&f64::abs);
    assert_close(what, &[found.record.loss], &[value_of(&|x| x)], |_| 2.0 * count * U * size);
    let losses: Vec<f32> = single.iter().map(|single| single.record.loss).collect();
    assert_eq!(bits(&found.losses), bits(&losses), "{what}");
    assert_eq!((found.record.valid, found.record.first_invalid), (single[0].record.valid, u32::MAX), "{what}");
    assert_eq!(found.record.weight, terms.iter().map(|(weight, _)| weight).sum::<f32>(), "{what}");
    let at = |k: usize, i: usize| weight(i) * f64::from(single[i].gradient[k]);
    let sums: Vec<f64> = (0..found.gradient.len()).map(|k| (0..terms.len()).map(|i| at(k, i)).sum()).collect();
    let sizes: Vec<f64> = (0..sums.len()).map(|k| (0..terms.len()).map(|i| at(k, i).abs()).sum()).collect();
    assert_close(what, &found.gradient, &sums, |k| 2.0 * count * U * sizes[k] + count * f64::from(f32::MIN_POSITIVE));
}

#[test]
fn what_the_losses_add_up_to() {
    let mut counts = [0; 5];
    for classes in [2, 3, 25] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(classes.into());
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let (data, terms) = (random.logits(&packed(&shape)), terms(&mut random));
                let truth = truth(&mut random, &shape, i % 2 == 0);
                // A mean over none but ignored pixels is NaN, and so is the sum.
                if matches!(&truth, Truth::Labels(labels, _) if labels.iter().all(|&label| label == IGNORED)) {
                    continue;
                }
                counts[terms.len()] += 1;
                let found = dispatch(gpu, &sum_of(&terms), &shape, &data, &truth).unwrap();
                let single: Vec<_> = terms
                    .iter()
                    .map(|term| dispatch(gpu, &LossSum::new(1.0, term.1.clone()), &shape, &data, &truth).unwrap())
                    .collect();
                check(&format!("{shape:?} {terms:?}"), &found, &terms, &single);
            }
        }
    }
    assert!(counts[1..].iter().all(|&count| count > 20), "{counts:?}");
}

/// A sum of one loss, with the weight 1, is that loss, bit for bit.
#[test]
fn a_single_loss() {
    let shape = Logits::nchw(2, 3, 17, 23).unwrap();
    let mut random = Random::new(4);
    let data = random.logits(&shape);
    let Truth::Labels(labels, _) = truth(&mut random, &shape, false) else { panic!() };
    let numbers: Vec<f32> = (0..elements(&shape)).map(|_| random.below(5) as f32 / 4.0).collect();
    let (cross, binary, dice, focal) = (
        CrossEntropy::new().ignore_index(Some(IGNORED)).gradient(true),
        BinaryCrossEntropy::new().ignore_index(Some(IGNORED)).gradient(true),
        RegionLoss::jaccard().ignore_index(Some(IGNORED)).gradient(true),
        FocalLoss::new().ignore_index(Some(IGNORED)).gradient(true),
    );
    let singles: [(LossTerm, [seghead::Loss; 2]); 4] = [
        (
            cross.clone().into(),
            [
                cross.run_blocking(gpu(), &shape, &data, &labels).unwrap(),
                cross.run_soft_blocking(gpu(), &shape, &data, &numbers).unwrap(),
            ],
        ),
        (
            binary.clone().into(),
            [
                binary.run_labels_blocking(gpu(), &shape, &data, &labels).unwrap(),
                binary.run_blocking(gpu(), &shape, &data, &numbers).unwrap(),
            ],
        ),
        (
            dice.clone().into(),
            [
                dice.run_blocking(gpu(), &shape, &data, &labels).unwrap(),
                dice.run_soft_blocking(gpu(), &shape, &data, &numbers).unwrap(),
            ],
        ),
        (
            focal.clone().into(),
            [
                focal.run_blocking(gpu(), &shape, &data, &labels).unwrap(),
                focal.run_binary_blocking(gpu(), &shape, &data, &numbers).unwrap(),
            ],
        ),
    ];
    for (term, expected) in singles {
        let sum = LossSum::new(1.0, term).gradient(true);
        let found = [
            sum.run_blocking(gpu(), &shape, &data, &labels).unwrap(),
            sum.run_soft_blocking(gpu(), &shape, &data, &numbers).unwrap(),
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(found.value.to_bits(), expected.value.to_bits());
            assert_eq!(found.per_term, Some(vec![expected.value]));
            assert_eq!(found.gradient, expected.gradient);
            assert_eq!((found.pixels, found.ignored), (expected.pixels, expected.ignored));
        }
    }
}

/// The one-shot functions, from slices and from readers, which are read again for each loss.
#[test]
fn one_shot() {
    for shape in [Logits::nchw(2, 3, 37, 53).unwrap(), Logits::nhwc(2, 17, 23, 5).unwrap()] {
        let mut random = Random::new(6);
        let plain = packed(&shape);
        for round in 0..6 {
            let (data, terms) = (random.logits(&plain), terms(&mut random));
            let truth = truth(&mut random, &shape, round % 2 == 0);
            let (laid, sum) = (lay(&shape, &data), sum_of(&terms).gradient(true));
            let read = |values: Vec<f32>| {
                Input::reader(ElementType::F32, values.len() as u64, move |first: u64, bytes: &mut [u8]| {
                    let first = first as usize * 4;
                    bytes.copy_from_slice(&bytemuck::cast_slice(&values)[first..first + bytes.len()]);
                    Ok(())
                })
            };
            let expected = dispatch(gpu(), &sum, &shape, &data, &truth).unwrap();
            let found = match &truth {
                Truth::Labels(labels, _) => [
                    sum.run_blocking(gpu(), &shape, &laid, labels).unwrap(),
                    sum.run_blocking(gpu(), &shape, read(laid.clone()), labels).unwrap(),
                ],
                Truth::Tensor(numbers) => {
                    let numbers = lay(&shape, numbers);
                    [
                        sum.run_soft_blocking(gpu(), &shape, &laid, &numbers).unwrap(),
                        sum.run_soft_blocking(gpu(), &shape, read(laid.clone()), read(numbers)).unwrap(),
                    ]
                }
            };
            for found in found {
                let what = format!("{shape:?} {terms:?}");
                let size: f32 = terms.iter().zip(&expected.losses).map(|((w, _), x)| (w * x).abs()).sum();
                assert!((found.value - expected.record.loss).abs() <= 1e-5 * size, "{what}");
                let single = found.per_term.unwrap();
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs();
                assert!(single.iter().zip(&expected.losses).all(near), "{what} {single:?} {:?}", expected.losses);
                let gradient = found.gradient.unwrap();
                let gradient: Vec<f64> = places(&shape).map(|at| gradient[at].into()).collect();
                let largest = gradient.iter().fold(0f64, |m, x| m.max(x.abs()));
                assert_close(&what, &expected.gradient, &gradient, |i| 1e-5 * gradient[i].abs() + 1e-6 * largest);
                assert_eq!(found.ignored + u64::from(expected.record.valid), found.pixels);
            }
        }
    }
}

/// Dispatches for tensors that the device cannot bind at once.
#[test]
fn windows() {
    let small = watched_gpu(Limits {
        max_storage_buffer_binding_size: 65536,
        max_uniform_buffer_binding_size: 65536,
        min_storage_buffer_offset_alignment: 256,
        ..Limits::defaults()
    });
    for shape in beyond_a_binding() {
        let mut random = Random::new(8);
        let data = random.logits(&packed(&shape));
        let truth = truth(&mut random, &shape, true);
        let sum = LossSum::new(0.5, BinaryCrossEntropy::new()).add(-2.0, CrossEntropy::new());
        let found = dispatch(&small, &sum, &shape, &data, &truth).unwrap();
        let expected = dispatch(default_limits_gpu(), &sum, &shape, &data, &truth).unwrap();
        let gradient: Vec<f64> = expected.gradient.iter().map(|&x| x.into()).collect();
        let largest = gradient.iter().fold(0f64, |m, x| m.max(x.abs()));
        assert_close(&format!("{shape:?}"), &found.gradient, &gradient, |_| 1e-5 * largest);
    }
}

#[test]
fn errors() {
    let gpu = &watched_gpu(Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let sum = LossSum::new(0.5, BinaryCrossEntropy::new()).add(0.5, RegionLoss::dice());
    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, record, losses, gradient) = (storage(192), storage(64), storage(16), storage(8), storage(192));
    let of = Buffer::as_entire_buffer_binding;
    let run = |sum: &LossSum, [input, targets, record, losses, gradient]: [&Buffer; 5]| {
        let buffers = LossBuffers::new(of(record)).losses(of(losses)).gradient(of(gradient));
        let targets = Targets::new(of(targets), LabelType::U8);
        sum.dispatch(gpu, &shape, of(input), targets, buffers).map(|_| ())
    };
    run(&sum, [&input, &targets, &record, &losses, &gradient]).unwrap();
    let refused = |buffers, expected: Error| {
        assert_eq!(run(&sum, buffers).unwrap_err().to_string(), expected.to_string());
    };
    let aliased = |written, other| Error::Aliased { written, other };
    refused([&input, &targets, &record, &losses, &input], aliased("gradient", "logits"));
    refused([&input, &targets, &record, &targets, &gradient], aliased("losses of the terms", "target"));
    refused([&input, &targets, &record, &input, &gradient], aliased("losses of the terms", "logits"));
    refused([&input, &targets, &record, &gradient, &gradient], aliased("losses of the terms", "gradient"));
    refused([&input, &targets, &input, &losses, &gradient], aliased("loss record", "logits"));
    refused([&input, &targets, &losses, &losses, &gradient], {
        Error::BufferTooSmall { what: "loss record", offset: 0, needed: 16, found: 8 }
    });
    let small = Error::BufferTooSmall { what: "losses of the terms", offset: 0, needed: 8, found: 4 };
    refused([&input, &targets, &record, &storage(4), &gradient], small);

    for found in [f32::NAN, f32::INFINITY] {
        let sum = sum.clone().add(found, FocalLoss::new());
        let is = |error: Error| assert!(matches!(error, Error::Value { what: "weight of a loss", .. }), "{error}");
        is(run(&sum, [&input, &targets, &record, &losses, &gradient]).unwrap_err());
        is(sum.run_blocking(gpu, &shape, &[0.0; 48], &[0u8; 16]).unwrap_err());
    }
    let error = sum.run_blocking(gpu, &shape, &[0.0; 48], &[0u8; 15]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "targets", expected: 16, found: 15 }), "{error}");
    let mut labels = [0u8; 16];
    labels[9] = 3;
    let error = sum.run_blocking(gpu, &shape, &[0.0; 48], &labels).unwrap_err();
    assert!(matches!(error, Error::Label { position: 9, label: 3, classes: 3 }), "{error}");
    // Only the second of them takes 3 for a class that there is not.
    let labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
    let lenient = LossSum::new(1.0, CrossEntropy::new().ignore_index(Some(3))).add(1.0, RegionLoss::dice());
    let found = dispatch(gpu, &lenient, &shape, &[0.0; 48], &Truth::Labels(labels, LabelType::U8)).unwrap();
    assert!(found.record.loss.is_nan() && found.record.first_invalid == 9, "{found:?}");
    assert!(found.losses[0].is_finite() && found.losses[1].is_nan(), "{found:?}");
}
