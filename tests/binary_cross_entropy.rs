//! Binary cross-entropy: the f64 twin on awkward shapes with all options, special values, small losses, cross-entropy
//! of two classes, bands and windows, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{
    BinaryCrossEntropy, CrossEntropy, ElementType, Error, Gpu, Input, Logits, LossRecord, Reduction, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const MAX: f32 = f32::MAX;
const TINY: f32 = f32::from_bits(1);

/// Where the packed elements, N × C × H × W, lie in a buffer of this shape.
fn places(shape: &Logits) -> impl Iterator<Item = usize> {
    let shape = *shape;
    (0..elements(&shape) as u32).map(move |i| {
        let (x, row) = (i % shape.width(), i / shape.width());
        let (y, plane) = (row % shape.height(), row / shape.height());
        let (c, image) = (plane % shape.classes(), plane / shape.classes());
        let at = shape.offset() + image * shape.image_stride() + c * shape.plane_stride();
        (at + y * shape.row_stride() + x * shape.pixel_stride()) as usize
    })
}

fn class_of(shape: &Logits, i: usize) -> usize {
    i / shape.pixels() as usize % shape.classes() as usize
}

fn halves(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect()
}

/// A buffer of this shape with these elements, N × C × H × W, and NaN where there are none.
fn upload_laid(gpu: &Gpu, shape: &Logits, data: &[f32]) -> wgpu::Buffer {
    let mut laid = vec![NAN; shape.len() as usize];
    places(shape).zip(data).for_each(|(at, &x)| laid[at] = x);
    match shape.element_type() {
        ElementType::F32 => upload_bytes(gpu, bytemuck::cast_slice(&laid)),
        ElementType::F16 => {
            let mut bits = halves(&laid);
            bits.resize(bits.len().next_multiple_of(2), 0);
            upload_bytes(gpu, bytemuck::cast_slice(&bits))
        }
    }
}

/// The elements of a tensor of this shape, N × C × H × W. Around a rectangle, nothing may have been written.
fn take(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    let mut all: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    let taken = places(shape).map(|at| std::mem::take(&mut all[at])).collect();
    if shape.row_stride() != shape.width() * shape.pixel_stride() {
        assert!(all.iter().all(|x| x.to_bits() == 0), "{shape:?}");
    }
    taken
}

/// Logits that f16 has as well, some of them far from 0.
fn logits(random: &mut Random, shape: &Logits) -> Vec<f32> {
    let logit = |random: &mut Random| random.logit() * if random.below(8) == 0 { 16.0 } else { 1.0 };
    (0..elements(shape)).map(|_| half::f16::from_f32(logit(random)).to_f32()).collect()
}

/// 0, 1 or what is between; with `any`, what is not, too, which PyTorch takes as well.
fn targets(random: &mut Random, shape: &Logits, any: bool) -> Vec<f32> {
    let target = |random: &mut Random| match random.below(3) {
        0 => random.below(2) as f32,
        1 if any => random.below(300) as f32 / 100.0 - 1.0,
        _ => random.below(101) as f32 / 100.0,
    };
    (0..elements(shape)).map(|_| target(random)).collect()
}

fn weights(random: &mut Random, classes: u32) -> Vec<f32> {
    (0..classes).map(|_| random.below(100) as f32 / 20.0).collect()
}

/// The error that the loss of an element may have. With L = log(1 + t) and t = e^−|x|, WGSL has t within 3 + 2 |x| ulp
/// of 2 U at most, which L has at most too; a division of 2.5 ulp, the roundings of 2 + t and 2 s, those of the series,
/// whose terms behind the first are below 1/27, and what it lacks make 9 U. w has a rounding each of p − 1, the product
/// and the sum, w L one more; (1 − z) x and p z x have two, the sum one. Numbers below the smallest normal may be
/// flushed to zero. The twin loses the difference of terms as large as x in f64.
fn tolerance(x: f32, z: f32, p: f32) -> f64 {
    let (x, z, p) = (f64::from(x), f64::from(z), f64::from(p));
    let softplus = (-x.abs()).exp().ln_1p();
    let (slope, weight) = ((p - 1.0) * z, 1.0 + (p - 1.0) * z);
    let linear = if x < 0.0 { p * z * x } else { (1.0 - z) * x };
    let size = (weight * softplus).abs() + linear.abs();
    let of_softplus = (16.0 + 4.0 * x.abs()) * weight.abs() + 2.0 * slope.abs() + weight.abs();
    let flushed = f64::from(f32::MIN_POSITIVE) * (4.0 + weight.abs() + p.abs() * (1.0 + x.abs()));
    let of_twin = f64::EPSILON * 2.0 * x.abs() * (1.0 + z.abs() + weight.abs());
    (of_softplus * softplus + 2.0 * linear.abs() + size) * U + flushed + of_twin
}

fn dispatch(
    gpu: &Gpu,
    operator: &BinaryCrossEntropy,
    shape: &Logits,
    (input, targets): (&wgpu::Buffer, &wgpu::Buffer),
    record: &wgpu::Buffer,
    losses: Option<&wgpu::Buffer>,
) -> Result<seghead::Dispatch, Error> {
    operator.dispatch(
        gpu,
        shape,
        input.as_entire_buffer_binding(),
        targets.as_entire_buffer_binding(),
        record.as_entire_buffer_binding(),
        losses.map(wgpu::Buffer::as_entire_buffer_binding),
    )
}

/// The losses of all elements, N × C × H × W, and the record.
fn run(
    gpu: &Gpu,
    operator: &BinaryCrossEntropy,
    shape: &Logits,
    data: &[f32],
    targets: &[f32],
) -> Result<(Vec<f32>, LossRecord), Error> {
    let inputs = (&upload_laid(gpu, shape, data), &upload_laid(gpu, &shape.output(), targets));
    let (record, losses) = (output(gpu, 16), output(gpu, shape.output().bytes()));
    let work = dispatch(gpu, operator, shape, inputs, &record, Some(&losses))?;
    let mut recorder = Recorder::new(gpu);
    recorder.record(&work, &[&losses, &record]);
    let mut read = recorder.finish();
    let losses = take(&shape.output(), &read.next().unwrap());
    Ok((losses, bytemuck::pod_read_unaligned(&read.next().unwrap())))
}

#[test]
fn oracle() {
    for classes in [1, 2, 3, 8, 25] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(u64::from(classes));
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let data = logits(&mut random, &shape);
                let targets = targets(&mut random, &shape, i % 4 == 3);
                let weights = (i % 3 != 1).then(|| weights(&mut random, classes));
                let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
                let per_element = !i.is_multiple_of(5);
                let of_classes = (i % 4 > 1).then(|| self::weights(&mut random, classes));
                let operator = BinaryCrossEntropy::new()
                    .pos_weight(weights.clone())
                    .class_weights(of_classes.clone())
                    .reduction(reduction);
                let inputs = (&upload_laid(gpu, &shape, &data), &upload_laid(gpu, &shape.output(), &targets));
                let (record, losses) = (output(gpu, 16), output(gpu, shape.output().bytes()));
                let work = dispatch(gpu, &operator, &shape, inputs, &record, per_element.then_some(&losses)).unwrap();
                let read = if per_element { vec![&record, &losses] } else { vec![&record] };
                recorder.record(&work, &read);
                cases.push((shape, data, targets, (weights, of_classes), reduction, per_element));
            }
            let mut results = recorder.finish();
            for (shape, data, targets, (weights, of_classes), reduction, per_element) in cases {
                let (what, plain) = (format!("{shape:?}"), packed(&shape));
                let expected =
                    reference::binary_cross_entropy(&plain, &data, &targets, of_classes.as_deref(), weights.as_deref());
                let weight = |weights: &Option<Vec<f32>>, i: usize| {
                    weights.as_ref().map_or(1.0, |weights| weights[class_of(&plain, i)])
                };
                let tolerance = |i: usize| {
                    let of_class = f64::from(weight(&of_classes, i));
                    of_class * tolerance(data[i], targets[i], weight(&weights, i)) + U * expected[i].abs()
                };
                let tolerance: Vec<_> = (0..data.len()).map(tolerance).collect();
                let record: LossRecord = bytemuck::pod_read_unaligned(&results.next().unwrap());
                if per_element {
                    let losses = take(&shape.output(), &results.next().unwrap());
                    assert_close(&what, &losses, &expected, |i| tolerance[i]);
                }
                let found = (record.valid as usize, record.weight as usize, record.first_invalid);
                assert_eq!(found, (shape.map().pixels(), expected.len(), u32::MAX), "{what}");
                // Sums go through at most C + 6 + 64 + 64 additions.
                let size: f64 = expected.iter().map(|loss| loss.abs()).sum();
                let of_sum = tolerance.iter().sum::<f64>() + (134.0 + f64::from(classes)) * U * size;
                let (sum, count) = (expected.iter().sum::<f64>(), expected.len() as f64);
                match reduction {
                    Reduction::Sum => assert_close(&what, &[record.loss], &[sum], |_| of_sum),
                    Reduction::Mean => {
                        // The division is within 2.5 ulp.
                        let of_mean = of_sum / count + 6.0 * U * (sum / count).abs();
                        assert_close(&what, &[record.loss], &[sum / count], |_| of_mean);
                    }
                }
            }
        }
    }
}

/// The loss of a prediction that is right keeps its relative accuracy, however small it is: log(1 + e^−|x|).
#[test]
fn small_losses() {
    let shape = Logits::chw(1, 1, 700).unwrap();
    // From e⁻⁸⁷ on numbers are below the smallest normal.
    let data: Vec<f32> = (0..700).map(|i| (i / 2) as f32 / 4.03 * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let targets: Vec<f32> = data.iter().map(|&x| if x.is_sign_negative() { 0.0 } else { 1.0 }).collect();
    let expected: Vec<f64> = data.iter().map(|&x| (-f64::from(x).abs()).exp().ln_1p()).collect();
    for gpu in [gpu(), default_limits_gpu()] {
        for shape in [shape, shape.padded().unwrap()] {
            let (losses, _) = run(gpu, &BinaryCrossEntropy::new(), &shape, &data, &targets).unwrap();
            let tolerance = |i: usize| (17.0 + 4.0 * f64::from(data[i].abs())) * U * expected[i];
            assert_close("losses", &losses, &expected, tolerance);
        }
    }
}

/// All special logits against all special targets, with weights and without: the formula in f64.
#[test]
fn special_values() {
    #[rustfmt::skip]
    const LOGITS: [f32; 16] =
        [INF, -INF, NAN, 0.0, -0.0, TINY, -TINY, 1e-38, MAX, -MAX, 104.0, -104.0, -1.5, 1.25, 20.0, -20.0];
    const TARGETS: [f32; 11] = [0.0, 1.0, 0.5, -0.25, -0.0, TINY, 1.5, 3.0, INF, -INF, NAN];
    const WEIGHTS: [f32; 5] = [1.0, 2.0, 0.0, 0.5, -1.0];
    let (classes, plane) = (WEIGHTS.len(), LOGITS.len() * TARGETS.len());
    let shape = Logits::chw(classes as u32, 16, 11).unwrap();
    let data: Vec<f32> = (0..classes * plane).map(|i| LOGITS[i % LOGITS.len()]).collect();
    let targets: Vec<f32> = (0..classes * plane).map(|i| TARGETS[i % plane / LOGITS.len()]).collect();
    for weights in [None, Some(WEIGHTS.to_vec())] {
        let operator = BinaryCrossEntropy::new().pos_weight(weights.clone());
        let mut expected = reference::binary_cross_entropy(&shape, &data, &targets, None, weights.as_deref());
        // What f32 does not have is infinite.
        for x in expected.iter_mut().filter(|x| x.abs() > f64::from(MAX)) {
            *x = x.signum() * f64::INFINITY;
        }
        // Where Inf · x depends on whether x, or e^−|x|, is 0 in f32.
        let skipped = |i: usize| {
            let x = data[i].abs();
            targets[i].is_infinite() && x.is_finite() && (x > 80.0 || x > 0.0 && x < 1e-30)
        };
        let weight = |i: usize| weights.as_ref().map_or(1.0, |weights| weights[class_of(&shape, i)]);
        for gpu in [gpu(), default_limits_gpu()] {
            for shape in [shape, Logits::hwc(16, 11, classes as u32).unwrap()] {
                let (losses, record) = run(gpu, &operator, &shape, &data, &targets).unwrap();
                assert!(record.loss.is_nan(), "{record:?}");
                for i in (0..losses.len()).filter(|&i| !skipped(i)) {
                    let what = format!("x {} z {} p {}", data[i], targets[i], weight(i));
                    assert_close(&what, &losses[i..=i], &expected[i..=i], |_| {
                        tolerance(data[i], targets[i], weight(i))
                    });
                }
            }
        }
        let count = |f: fn(&&f64) -> bool| expected.iter().filter(f).count();
        let found = [count(|x| x.is_nan()), count(|x| x.is_infinite()), count(|x| x.is_finite())];
        assert!(found.iter().all(|&count| count > 60), "{found:?}");
    }
}

/// A special value changes no other element.
#[test]
fn special_neighbours() {
    for special in [NAN, INF, -INF] {
        let shape = Logits::nchw(2, 3, 3, 5).unwrap();
        let mut random = Random::new(3);
        let (data, targets) = (logits(&mut random, &shape), targets(&mut random, &shape, false));
        let (before, _) = run(gpu(), &BinaryCrossEntropy::new(), &shape, &data, &targets).unwrap();
        for at in [0, 7, 44, 89] {
            let mut data = data.clone();
            data[at] = special;
            let (mut after, _) = run(gpu(), &BinaryCrossEntropy::new(), &shape, &data, &targets).unwrap();
            assert!(!after[at].is_finite());
            after[at] = before[at];
            assert_eq!(bits(&after), bits(&before));
        }
    }
}

/// The sigmoid is a softmax of two classes, of which one has the logit 0.
#[test]
fn as_cross_entropy_of_two_classes() {
    let (shape, pair) = (Logits::chw(1, 31, 43).unwrap(), Logits::chw(2, 31, 43).unwrap());
    let mut random = Random::new(5);
    let data = random.logits(&shape);
    let labels: Vec<u8> = data.iter().map(|_| random.below(2) as u8).collect();
    let targets: Vec<f32> = labels.iter().map(|&label| label.into()).collect();
    let both = [vec![0.0; data.len()], data.clone()].concat();
    let loss = BinaryCrossEntropy::new().run_blocking(gpu(), &shape, &data, &targets).unwrap();
    let cross = CrossEntropy::new().run_blocking(gpu(), &pair, &both, &labels).unwrap();
    assert!((loss.value - cross.value).abs() < 1e-6 * cross.value, "{loss:?} {cross:?}");
    assert_eq!((loss.pixels, loss.ignored, loss.per_pixel, loss.per_element), (31 * 43, 0, None, None));
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
            let mut random = Random::new(bytes);
            // Packed, or where it is a rectangle the whole tensor.
            let whole = Logits::chw(1, 1, shape.len()).unwrap();
            let data = logits(&mut random, &whole);
            let targets: Vec<f32> = (0..shape.len()).map(|_| random.below(65) as f32 / 64.0).collect();
            let weights = weights(&mut random, shape.classes());
            for (per_element, reduction) in [(true, Reduction::Mean), (false, Reduction::Sum)] {
                let operator = BinaryCrossEntropy::new()
                    .per_element(per_element)
                    .reduction(reduction)
                    .pos_weight(Some(weights.clone()));
                let expected = operator.run_blocking(default_limits_gpu(), &shape, &data, &targets).unwrap();
                if let Some(losses) = &expected.per_element {
                    let twin = reference::binary_cross_entropy(&shape, &data, &targets, None, Some(&weights));
                    assert_close("twin", losses, &twin, |i| 1e-4 * twin[i].abs() + 1e-10);
                }
                let check = |got: seghead::Loss| {
                    let what = format!("{bytes} {shape:?}");
                    let of = |loss: &seghead::Loss| loss.per_element.as_deref().map(bits);
                    assert_eq!(of(&got), of(&expected), "{what}");
                    assert_eq!((got.pixels, got.ignored), (expected.pixels, 0), "{what}");
                    assert_eq!(got.per_pixel, None);
                    // 2048 pixels of 3 classes are 24 KiB.
                    if bytes == 65536 && shape.classes() <= 3 {
                        assert_eq!(got.value.to_bits(), expected.value.to_bits(), "{what}");
                    }
                    assert!((got.value - expected.value).abs() <= 320.0 * U as f32 * expected.value, "{what}");
                };
                check(operator.run_blocking(&gpu, &shape, &data, &targets).unwrap());
                let read = |first: u64, bytes: &mut [u8]| {
                    let first = first as usize * 4;
                    bytes.copy_from_slice(&bytemuck::cast_slice(&targets)[first..first + bytes.len()]);
                    Ok(())
                };
                let reader = Input::reader(ElementType::F32, targets.len() as u64, read);
                check(operator.run_blocking(&gpu, &shape, &data, reader).unwrap());
                // Halves on either side: the values are the same.
                let (data_bits, target_bits) = (halves(&data), halves(&targets));
                check(operator.run_blocking(&gpu, &shape, &data, Input::f16(&target_bits)).unwrap());
                check(operator.run_blocking(&gpu, &shape, Input::f16(&data_bits), &targets).unwrap());
                let (data, targets) = (Input::f16(&data_bits), Input::f16(&target_bits));
                check(operator.run_blocking(&gpu, &shape, data, targets).unwrap());
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
            let targets = targets(&mut random, &shape, false);
            let weights = Some(weights(&mut random, shape.classes()));
            let operator = BinaryCrossEntropy::new().pos_weight(weights).reduction(Reduction::Sum);
            let (losses, record) = match run(&small, &operator, &shape, &data, &targets) {
                Ok(result) => result,
                Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{shape:?}: {error}"),
            };
            let (expected, whole) = run(default_limits_gpu(), &operator, &shape, &data, &targets).unwrap();
            assert_eq!(bits(&losses), bits(&expected), "{bytes} {shape:?}");
            assert_eq!((record.valid, record.weight), (whole.valid, whole.weight), "{shape:?}");
            assert!((record.loss - whole.loss).abs() <= 320.0 * U as f32 * whole.loss, "{record:?} {whole:?}");
        }
    }
    assert!(refused <= 6, "{refused} refused");
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let operator = BinaryCrossEntropy::new();
    for found in [0usize, 16, 47, 49] {
        let error = operator.run_blocking(gpu, &shape, &[0.0; 48], &vec![0.0; found]).unwrap_err();
        let n = found as u64;
        assert!(matches!(error, Error::Length { what: "targets", expected: 48, found } if found == n), "{error}");
        let error = operator.run_blocking(gpu, &shape, &vec![0.0; found], &[0.0; 48]).unwrap_err();
        assert!(matches!(error, Error::Length { what: "logits", expected: 48, found } if found == n), "{error}");
    }

    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, targets, record, losses) = (storage(192), storage(192), storage(16), storage(192));
    for found in [0usize, 1, 2, 4] {
        let weights = Some(vec![1.0; found]);
        let of_classes = operator.clone().class_weights(weights.clone());
        for (operator, named) in [(operator.clone().pos_weight(weights), "pos weight"), (of_classes, "class weights")] {
            let n = found as u64;
            let is = |error: Error| {
                let right = matches!(error, Error::Length { what, expected: 3, found } if found == n && what == named);
                assert!(right, "{error}");
            };
            is(operator.run_blocking(gpu, &shape, &[0.0; 48], &[0.0; 48]).unwrap_err());
            is(operator.run_labels_blocking(gpu, &shape, &[0.0; 48], &[0u8; 16]).unwrap_err());
            is(dispatch(gpu, &operator, &shape, (&input, &targets), &record, None).map(|_| ()).unwrap_err());
        }
    }
    let try_with = |targets: &wgpu::Buffer, record: &wgpu::Buffer, losses: &wgpu::Buffer| {
        dispatch(gpu, &operator, &shape, (&input, targets), record, Some(losses)).map(|_| ()).unwrap_err()
    };
    let is = |error: Error, expected: Error| assert_eq!(error.to_string(), expected.to_string());
    let small = |what, needed, found| Error::BufferTooSmall { what, offset: 0, needed, found };
    is(try_with(&storage(188), &record, &losses), small("target", 192, 188));
    is(try_with(&targets, &storage(12), &losses), small("loss record", 16, 12));
    is(try_with(&targets, &record, &storage(188)), small("losses", 192, 188));
    is(try_with(&targets, &targets, &losses), Error::Aliased { written: "loss record", other: "target" });
    is(try_with(&targets, &record, &targets), Error::Aliased { written: "losses", other: "target" });
    is(try_with(&targets, &record, &input), Error::Aliased { written: "losses", other: "logits" });
    is(try_with(&targets, &losses, &losses), Error::Aliased { written: "loss record", other: "losses" });
    // The same tensor may be the logits and the targets.
    assert!(dispatch(gpu, &operator, &shape, (&input, &input), &record, Some(&losses)).is_ok());
    let uniform = buffer(gpu, 192, BufferUsages::UNIFORM);
    assert!(matches!(try_with(&uniform, &record, &losses), Error::Usage { what: "target", .. }));
    // Targets and losses of f16 logits are f32.
    let halves = dispatch(gpu, &operator, &shape.f16(), (&input, &storage(96)), &record, None);
    assert!(matches!(halves, Err(Error::BufferTooSmall { what: "target", needed: 192, found: 96, .. })));
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [3855, 16383, 16384, 65536] {
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let mut random = Random::new(7);
        let (data, targets) = (logits(&mut random, &shape), targets(&mut random, &shape, false));
        match BinaryCrossEntropy::new().reduction(Reduction::Sum).run_blocking(gpu(), &shape, &data, &targets) {
            Ok(loss) => {
                let sum: f64 = reference::binary_cross_entropy(&shape, &data, &targets, None, None).iter().sum();
                assert!((f64::from(loss.value) - sum).abs() < 1e-3 * sum, "{classes}: {loss:?} {sum}");
            }
            Err(error) => assert!(classes > 16383 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
        }
    }
}
