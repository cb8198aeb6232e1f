//! Binary cross-entropy of labels: the bits of that of the tensor they stand for, but for pixels that are ignored; the twin
//! over those that count; labels that are no class; bands and windows.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use seghead::wgpu::{Buffer, Limits};
use seghead::{
    BinaryCrossEntropy, Error, Gpu, LabelType, Logits, LossBuffers, LossRecord, Reduction, Targets, reference,
};

/// What a dispatch leaves: the losses of all elements, the gradient, both N × C × H × W, and the record.
struct Found {
    losses: Vec<f32>,
    gradient: Vec<f32>,
    record: LossRecord,
}

enum Truth<'a> {
    Labels(&'a [i64], LabelType),
    Tensor(&'a [f32]),
}

fn dispatch(
    gpu: &Gpu,
    operator: &BinaryCrossEntropy,
    shape: &Logits,
    data: &[f32],
    truth: &Truth,
) -> Result<Found, Error> {
    let input = upload_laid(gpu, shape, data);
    let input = || input.as_entire_buffer_binding();
    let bytes = shape.output().bytes();
    let [record, losses, record_of_gradient, gradient] = [16, bytes, 16, bytes].map(|bytes| output(gpu, bytes));
    let of = Buffer::as_entire_buffer_binding;
    let works = match truth {
        Truth::Labels(labels, label_type) => {
            let labels = upload_labels(gpu, shape, labels, *label_type);
            let targets = || Targets::new(of(&labels), *label_type);
            let single = LossBuffers::new(of(&record)).losses(of(&losses));
            let both = LossBuffers::new(of(&record_of_gradient)).gradient(of(&gradient));
            [
                operator.dispatch_labels(gpu, shape, input(), targets(), single)?,
                operator.dispatch_labels(gpu, shape, input(), targets(), both)?,
            ]
        }
        Truth::Tensor(numbers) => {
            let targets = upload_laid(gpu, &shape.output(), numbers);
            [
                operator.dispatch(gpu, shape, input(), of(&targets), of(&record), Some(of(&losses)))?,
                operator.dispatch_gradient(
                    gpu,
                    shape,
                    input(),
                    of(&targets),
                    of(&record_of_gradient),
                    of(&gradient),
                )?,
            ]
        }
    };
    let mut recorder = Recorder::new(gpu);
    recorder.record(&works[0], &[&record, &losses]);
    recorder.record(&works[1], &[&record_of_gradient, &gradient]);
    let mut read = recorder.finish();
    let tensor = |read: &mut dyn Iterator<Item = Vec<u8>>| -> (LossRecord, Vec<f32>) {
        let record = bytemuck::pod_read_unaligned(&read.next().unwrap());
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&read.next().unwrap());
        (record, places(shape).map(|at| all[at]).collect())
    };
    let (record, losses) = tensor(&mut read);
    let (again, gradient) = tensor(&mut read);
    assert_eq!(bytemuck::bytes_of(&record), bytemuck::bytes_of(&again));
    Ok(Found { losses, gradient, record })
}

fn weights(random: &mut Random, classes: u32) -> Option<Vec<f32>> {
    (random.below(2) == 0).then(|| (0..classes).map(|_| random.below(100) as f32 / 20.0).collect())
}

fn labels(random: &mut Random, shape: &Logits) -> Vec<i64> {
    (0..shape.map().pixels()).map(|_| random.below(shape.classes().max(2)).into()).collect()
}

fn ones(shape: &Logits, labels: &[i64]) -> Vec<f32> {
    reference::one_hot(&packed(shape), labels).into_iter().map(|x| x as f32).collect()
}

#[test]
fn as_of_the_tensor_they_stand_for() {
    for classes in [1, 2, 3, 25] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(classes.into());
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let (data, labels) = (random.logits(&packed(&shape)), labels(&mut random, &shape));
                let label_type = [LabelType::U8, LabelType::U32][i % 2];
                let operator = BinaryCrossEntropy::new()
                    .ignore_index((i % 3 == 0).then_some(-100))
                    .class_weights(weights(&mut random, classes))
                    .pos_weight(weights(&mut random, classes))
                    .reduction(if i % 5 < 3 { Reduction::Mean } else { Reduction::Sum });
                let found = dispatch(gpu, &operator, &shape, &data, &Truth::Labels(&labels, label_type)).unwrap();
                let expected = dispatch(gpu, &operator, &shape, &data, &Truth::Tensor(&ones(&shape, &labels))).unwrap();
                assert_eq!(bits(&found.losses), bits(&expected.losses), "{shape:?}");
                assert_eq!(bits(&found.gradient), bits(&expected.gradient), "{shape:?}");
                assert_eq!(found.record, expected.record, "{shape:?}");
            }
        }
    }
}

/// Pixels that are ignored have neither loss nor gradient, even where their logits are NaN, and the mean is that over the
/// elements of the others.
#[test]
fn ignored_pixels() {
    for classes in [1, 4, 25] {
        let mut random = Random::new(u64::from(classes) + 100);
        for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
            let (label_type, ignored) = [(LabelType::U8, 255), (LabelType::U32, -1), (LabelType::U8, 0)][i % 3];
            let labels: Vec<i64> = labels(&mut random, &shape)
                .into_iter()
                .map(|label| if random.below(3) == 0 { ignored } else { label })
                .collect();
            let plain = packed(&shape);
            let (plane, c) = (shape.pixels() as usize, classes as usize);
            let is_ignored = |i: usize| labels[i / (plane * c) * plane + i % plane] == ignored;
            let data: Vec<f32> = random
                .logits(&plain)
                .into_iter()
                .enumerate()
                .map(|(i, x)| if is_ignored(i) { f32::NAN } else { half::f16::from_f32(x).to_f32() })
                .collect();
            let (of_classes, positive) = (weights(&mut random, classes), weights(&mut random, classes));
            let reduction = [Reduction::Mean, Reduction::Sum][i / 3 % 2];
            let operator = BinaryCrossEntropy::new()
                .ignore_index(Some(ignored))
                .class_weights(of_classes.clone())
                .pos_weight(positive.clone())
                .reduction(reduction);
            let found = dispatch(gpu(), &operator, &shape, &data, &Truth::Labels(&labels, label_type)).unwrap();

            let counted = labels.iter().filter(|&&label| label != ignored).count();
            let scale = if reduction == Reduction::Mean { 1.0 / (counted * c) as f64 } else { 1.0 };
            let (w, p) = (of_classes.as_deref(), positive.as_deref());
            let (numbers, sum) = (ones(&shape, &labels), Reduction::Sum);
            let kept = |(i, x): (usize, f64)| if is_ignored(i) { 0.0 } else { x };
            let losses = reference::binary_cross_entropy(&plain, &data, &numbers, w, p);
            let losses: Vec<f64> = losses.into_iter().enumerate().map(kept).collect();
            let gradient = reference::binary_cross_entropy_gradient(&plain, &data, &numbers, w, p, sum);
            let gradient: Vec<f64> = gradient.into_iter().enumerate().map(kept).map(|x| x * scale).collect();
            let what = format!("{shape:?} {operator:?}");
            assert_close(&what, &found.losses, &losses, |i| 1e-5 * losses[i].abs() + 1e-6);
            let of_gradient = |i: usize| if gradient[i] == 0.0 { 0.0 } else { scale * 25.0 * 1e-6 };
            if counted > 0 {
                assert_close(&what, &found.gradient, &gradient, of_gradient);
            } else {
                assert!(found.gradient.iter().all(|&x| x == 0.0), "{what}");
            }
            let record = found.record;
            let expected = (counted, (counted * c) as f32, u32::MAX);
            assert_eq!((record.valid as usize, record.weight, record.first_invalid), expected, "{what}");
            let value = losses.iter().sum::<f64>() * scale;
            assert_eq!(record.loss.is_nan(), value.is_nan(), "{what}");
            if !value.is_nan() {
                assert_close(&what, &[record.loss], &[value], |_| 1e-5 * value.abs());
            }
        }
    }
}

/// Losses and gradient in one dispatch are those of two.
#[test]
fn losses_and_gradient() {
    let shape = Logits::nchw(2, 3, 5, 8).unwrap();
    let mut random = Random::new(5);
    let (data, labels) = (random.logits(&shape), labels(&mut random, &shape));
    for ignore_index in [None, Some(1)] {
        let operator = BinaryCrossEntropy::new().ignore_index(ignore_index);
        let expected = dispatch(gpu(), &operator, &shape, &data, &Truth::Labels(&labels, LabelType::U8)).unwrap();
        let [input, targets] = [upload(gpu(), &shape, &data), upload_labels(gpu(), &shape, &labels, LabelType::U8)];
        let [record, losses, gradient] = [16, shape.bytes(), shape.bytes()].map(|bytes| output(gpu(), bytes));
        let of = Buffer::as_entire_buffer_binding;
        let buffers = LossBuffers::new(of(&record)).losses(of(&losses)).gradient(of(&gradient));
        let targets = Targets::new(of(&targets), LabelType::U8);
        let work = operator.dispatch_labels(gpu(), &shape, of(&input), targets, buffers).unwrap();
        let mut recorder = Recorder::new(gpu());
        recorder.record(&work, &[&losses, &gradient]);
        let found: Vec<Vec<f32>> = recorder.finish().map(|bytes| bytemuck::pod_collect_to_vec(&bytes)).collect();
        assert_eq!(bits(&found[0]), bits(&expected.losses), "{ignore_index:?}");
        assert_eq!(bits(&found[1]), bits(&expected.gradient), "{ignore_index:?}");
    }
}

#[test]
fn labels_that_are_no_class() {
    let shape = Logits::nchw(2, 3, 5, 7).unwrap();
    let data = Random::new(1).logits(&shape);
    for (label, ignore_index) in [(3, Some(255)), (255, Some(-100)), (-100, None), (-1, Some(-100))] {
        let operator = BinaryCrossEntropy::new().ignore_index(ignore_index);
        let mut labels = vec![2i64; 70];
        labels[50] = label;
        labels[61] = label;
        let error = operator.run_labels_blocking(gpu(), &shape, &data, &labels).unwrap_err();
        let expected = Error::Label { position: 50, label, classes: 3 };
        assert_eq!(error.to_string(), expected.to_string());
        let found = dispatch(gpu(), &operator, &shape, &data, &Truth::Labels(&labels, LabelType::U32)).unwrap();
        assert_eq!(found.record.first_invalid, 50);
        assert!(found.record.loss.is_nan());
        let nan: Vec<usize> = (0..210).filter(|&i| found.gradient[i].is_nan()).collect();
        let wrong = [50, 61].map(|pixel| (0..3).map(move |c| 105 + c * 35 + pixel - 35));
        let mut wrong: Vec<usize> = wrong.into_iter().flatten().collect();
        wrong.sort_unstable();
        assert_eq!(nan, wrong);
    }
    // Of a single class the labels are 0 and 1.
    let one = Logits::chw(1, 1, 2).unwrap();
    let error = BinaryCrossEntropy::new().run_labels_blocking(gpu(), &one, &[0.0; 2], &[1i64, 2]).unwrap_err();
    assert_eq!(error.to_string(), Error::Label { position: 1, label: 2, classes: 2 }.to_string());
}

/// The one-shot functions in small bands and in one: the same bits, which are those of a dispatch.
#[test]
fn bands() {
    let shapes = [
        Logits::nchw(2, 3, 37, 53).unwrap(),
        Logits::nchw(3, 1, 40, 61).unwrap(),
        Logits::nhwc(2, 37, 53, 30).unwrap(),
    ];
    for bytes in [16384u64, 65536] {
        let small = watched_gpu(Limits {
            max_storage_buffer_binding_size: bytes,
            max_uniform_buffer_binding_size: bytes,
            max_buffer_size: 2 * bytes,
            ..Limits::defaults()
        });
        for shape in shapes {
            let mut random = Random::new(bytes);
            let (plain, ignored) = (packed(&shape), 200);
            let labels: Vec<i64> = labels(&mut random, &shape)
                .into_iter()
                .map(|x| if random.below(4) == 0 { ignored } else { x })
                .collect();
            let data: Vec<f32> = random.logits(&plain);
            let laid = lay(&shape, &data);
            for (per_element, gradient, reduction) in
                [(true, true, Reduction::Mean), (false, true, Reduction::Mean), (true, false, Reduction::Sum)]
            {
                let operator = BinaryCrossEntropy::new()
                    .ignore_index(Some(ignored))
                    .class_weights(weights(&mut random, shape.classes()))
                    .pos_weight(weights(&mut random, shape.classes()))
                    .reduction(reduction)
                    .per_element(per_element)
                    .gradient(gradient);
                let expected =
                    dispatch(gpu(), &operator, &shape, &data, &Truth::Labels(&labels, LabelType::U8)).unwrap();
                for gpu in [&small, default_limits_gpu()] {
                    let found = operator.run_labels_blocking(gpu, &shape, &laid, &labels).unwrap();
                    let what = format!("{bytes} {shape:?}");
                    let place = |values: &[f32]| -> Vec<f32> { places(&shape).map(|at| values[at]).collect() };
                    let losses = found.per_element.as_deref().map(|losses| bits(&place(losses)));
                    assert_eq!(losses, per_element.then(|| bits(&expected.losses)), "{what}");
                    let derivatives = found.gradient.as_deref().map(|gradient| bits(&place(gradient)));
                    assert_eq!(derivatives, gradient.then(|| bits(&expected.gradient)), "{what}");
                    assert_eq!(found.ignored, labels.iter().filter(|&&label| label == ignored).count() as u64);
                    assert!((found.value - expected.record.loss).abs() <= 1e-5 * expected.record.loss, "{what}");
                }
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
        let (data, mut labels) = (random.logits(&packed(&shape)), labels(&mut random, &shape));
        labels.iter_mut().step_by(7).for_each(|label| *label = 255);
        let operator =
            BinaryCrossEntropy::new().ignore_index(Some(255)).pos_weight(weights(&mut random, shape.classes()));
        let found = dispatch(&small, &operator, &shape, &data, &Truth::Labels(&labels, LabelType::U32)).unwrap();
        let truth = Truth::Labels(&labels, LabelType::U32);
        let expected = dispatch(default_limits_gpu(), &operator, &shape, &data, &truth).unwrap();
        assert_eq!(bits(&found.losses), bits(&expected.losses), "{shape:?}");
        assert_eq!(bits(&found.gradient), bits(&expected.gradient), "{shape:?}");
        assert_eq!((found.record.valid, found.record.weight), (expected.record.valid, expected.record.weight));
        assert!((found.record.loss - expected.record.loss).abs() <= 1e-4 * expected.record.loss, "{shape:?}");
        // A label that is no class has its place among all pixels.
        let last = labels.len() - 2;
        labels[last] = 254;
        let found = dispatch(&small, &operator, &shape, &data, &Truth::Labels(&labels, LabelType::U32)).unwrap();
        assert_eq!(found.record.first_invalid as usize, last, "{shape:?}");
    }
}
