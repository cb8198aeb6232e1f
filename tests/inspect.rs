//! The inspection against its twin: all numbers are counts, so they are equal, in all layouts, bands and windows; and
//! every finding on data that asks for it and on data that does not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use half::f16;
use seghead::wgpu::{self, BufferUsages};
use seghead::{Axis, Error, Finding, Gpu, Input, Inspect, Inspection, Logits, Roughness, reference};

/// Pixel counts on both sides of groups of four, batches, larger and thin images, both orders of the classes.
fn shapes(classes: u32) -> Vec<Logits> {
    let nchw = |n, h, w| Logits::nchw(n, classes, h, w).unwrap();
    let nhwc = |n, h, w| Logits::nhwc(n, h, w, classes).unwrap();
    let mut shapes: Vec<_> = [1, 2, 3, 4, 5, 7, 8, 13, 64, 70].map(|width| nchw(1, 1, width)).to_vec();
    shapes.extend([nchw(2, 3, 5), nchw(3, 4, 4), nchw(1, 9, 1), nchw(1, 33, 61), nchw(2, 17, 31), nchw(1, 20, 44)]);
    shapes.extend([nhwc(1, 1, 1), nhwc(1, 1, 6), nhwc(2, 3, 5), nhwc(1, 4, 8), nhwc(2, 13, 17)]);
    shapes
}

const SPECIAL: [f32; 9] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, 1e-40, -1e-40, f32::from_bits(0xffc0_0001)];

/// Tensors of several kinds: logits, their softmax along every axis and its logarithm, numbers in 0..=1, constants;
/// every other with special values.
fn data(shape: &Logits, kind: usize, random: &mut Random) -> Vec<f32> {
    let logits = random.logits(shape);
    let to_f32 = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<_>>();
    let mut data = match kind / 2 % 7 {
        0 => logits,
        1 => to_f32(reference::softmax(shape, &logits, Axis::Class)),
        2 => to_f32(reference::softmax(shape, &logits, Axis::Height)),
        3 => to_f32(reference::softmax(shape, &logits, Axis::Width)),
        4 => to_f32(reference::log_softmax(shape, &logits, Axis::Class)),
        5 => to_f32(reference::sigmoid(&logits)),
        _ => vec![random.logit(); logits.len()],
    };
    if kind % 2 == 1 {
        for x in &mut data {
            if random.below(23) == 0 {
                *x = SPECIAL[random.below(9) as usize];
            }
        }
    }
    data
}

/// As f16 has it: the bits, and the numbers.
fn halves(data: &[f32]) -> (Vec<u16>, Vec<f32>) {
    data.iter().map(|&x| f16::from_f32(x)).map(|half| (half.to_bits(), half.to_f32())).unzip()
}

/// Compares all that was counted; a minimum of NaN with NaN, and −0 with 0.
#[track_caller]
fn assert_same(what: &str, got: &Inspection, expected: &Inspection) {
    assert_counts(what, got, expected);
    assert_eq!(got.roughness, expected.roughness, "{what}");
}

#[track_caller]
fn assert_counts(what: &str, got: &Inspection, expected: &Inspection) {
    for axis in [Axis::Class, Axis::Height, Axis::Width] {
        assert_eq!(got.sums(axis), expected.sums(axis), "{what}, {axis:?}");
    }
    assert_eq!(got.exponential_ones, expected.exponential_ones, "{what}");
    assert_eq!(got.classes.len(), expected.classes.len(), "{what}");
    for (c, (got, expected)) in got.classes.iter().zip(&expected.classes).enumerate() {
        let same = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan();
        let ranges = same(got.minimum, expected.minimum) && same(got.maximum, expected.maximum);
        assert!(ranges, "{what}, class {c}: {got:?}, expected {expected:?}");
        let counts = |values: &seghead::ClassValues| {
            let seghead::ClassValues { nan, positive_infinity, negative_infinity, negative, unit, count, .. } = *values;
            [nan, positive_infinity, negative_infinity, negative, unit, count]
        };
        assert_eq!(counts(got), counts(expected), "{what}, class {c}");
    }
}

/// The record of a dispatch, read back.
fn dispatched(gpu: &Gpu, shape: &Logits, input: &wgpu::Buffer) -> Result<Inspection, Error> {
    let bytes = Inspect::new().record_bytes(shape);
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let record = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&record, 0, &vec![0xa5; bytes as usize]);
    let (from, to) = (input.as_entire_buffer_binding(), record.as_entire_buffer_binding());
    let dispatch = Inspect::new().dispatch(gpu, shape, from, to)?;
    let mut recorder = Recorder::new(gpu);
    // Twice: it clears what is there.
    recorder.record(&dispatch, &[]);
    recorder.record(&dispatch, &[&record]);
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&recorder.finish().last().unwrap());
    Inspection::from_record(shape, &words)
}

#[test]
fn numbers() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [1, 2, 3, 5, 24, 25, 60] {
            let mut random = Random::new(classes.into());
            for (i, shape) in shapes(classes).into_iter().enumerate() {
                // All kinds on some shapes, some on all.
                let kinds = if i % 5 == 1 { 0..14 } else { 3 * i..3 * i + 2 };
                for kind in kinds {
                    let data = data(&shape, kind, &mut random);
                    let what = format!("{shape:?} kind {kind}");
                    let expected = reference::inspect(&shape, &data);
                    let got = Inspect::new().run_blocking(gpu, &shape, &data).unwrap();
                    assert_same(&what, &got, &expected);
                    assert_eq!(got.logits, shape);
                    let (bits, numbers) = halves(&data);
                    let expected = reference::inspect(&shape.f16(), &numbers);
                    let got = Inspect::new().run_blocking(gpu, &shape, Input::f16(&bits)).unwrap();
                    assert_same(&what, &got, &expected);
                }
            }
        }
    }
}

#[test]
fn padded_planes() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [1, 3, 26] {
            let mut random = Random::new(classes.into());
            for (kind, packed) in shapes(classes).into_iter().enumerate() {
                let data = data(&packed, kind, &mut random);
                let expected = reference::inspect(&packed, &data);
                let shape = packed.padded().unwrap();
                let got = dispatched(gpu, &shape, &upload(gpu, &shape, &data)).unwrap();
                assert_same(&format!("{shape:?}"), &got, &expected);
            }
        }
    }
}

/// Rectangles and rows that are apart, and the packed elements of each in `data`, all elements of the buffer.
fn parts() -> Vec<Logits> {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    vec![
        nchw(2, 3, 40, 50).crop(3, 7, 30, 41).unwrap(),
        nchw(1, 30, 40, 48).crop(4, 8, 33, 40).unwrap(),
        nchw(2, 3, 40, 50).crop(5, 0, 30, 50).unwrap(),
        nhwc(2, 30, 31, 5).crop(2, 9, 21, 17).unwrap(),
        nchw(1, 3, 33, 50).with_row_stride(64).unwrap(),
        nhwc(1, 33, 20, 7).with_row_stride(150).unwrap(),
        nchw(1, 1, 9, 9).crop(4, 4, 1, 1).unwrap(),
        nchw(1, 2, 1, 90).crop(0, 3, 1, 33).unwrap(),
    ]
}

fn packed_elements(shape: &Logits, data: &[f32]) -> (Logits, Vec<f32>) {
    let last = shape.pixel_stride() > 1 || shape.plane_stride() == 1;
    let (n, c, h, w) = (shape.images(), shape.classes(), shape.height(), shape.width());
    let packed = if last { Logits::nhwc(n, h, w, c) } else { Logits::nchw(n, c, h, w) }.unwrap();
    let mut values = vec![0.0; (n * c * h * w) as usize];
    for (image, class, row, column) in (0..n)
        .flat_map(|i| (0..c).flat_map(move |class| (0..h).flat_map(move |y| (0..w).map(move |x| (i, class, y, x)))))
    {
        let at = |shape: &Logits| {
            let strides = (shape.image_stride(), shape.plane_stride(), shape.row_stride(), shape.pixel_stride());
            (shape.offset() + image * strides.0 + class * strides.1 + row * strides.2 + column * strides.3) as usize
        };
        values[at(&packed)] = data[at(shape)];
    }
    (packed, values)
}

#[test]
fn crops() {
    let mut random = Random::new(11);
    for (kind, shape) in parts().into_iter().enumerate() {
        // Softmax within the rectangle, something else around it.
        let mut all: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
        let positions: Vec<f32> = (0..shape.len()).map(|i| i as f32).collect();
        let (packed, positions) = packed_elements(&shape, &positions);
        let inside = data(&packed, kind, &mut random);
        for (position, &x) in positions.iter().zip(&inside) {
            all[*position as usize] = x;
        }
        let what = format!("{shape:?}");
        let expected = reference::inspect(&packed, &inside);
        assert_same(&what, &Inspect::new().run_blocking(gpu(), &shape, &all).unwrap(), &expected);
        let input = upload_bytes(gpu(), bytemuck::cast_slice(&all));
        assert_same(&what, &dispatched(gpu(), &shape, &input).unwrap(), &expected);
        let (mut bits, numbers) = halves(&all);
        let expected = reference::inspect(&packed.f16(), &packed_elements(&shape, &numbers).1);
        assert_same(&what, &Inspect::new().run_blocking(gpu(), &shape, Input::f16(&bits)).unwrap(), &expected);
        bits.resize(bits.len().next_multiple_of(2), 0);
        let input = upload_bytes(gpu(), bytemuck::cast_slice(&bits));
        assert_same(&what, &dispatched(gpu(), &shape.f16(), &input).unwrap(), &expected);
    }
}

fn small(binding: u64, buffer: u64) -> Gpu {
    watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: binding,
        max_uniform_buffer_binding_size: binding,
        max_buffer_size: buffer,
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    })
}

/// On a device that binds little, the sample for the votes is smaller, or there is none; all else is the same.
#[test]
fn bands_and_windows() {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    let mut shapes = vec![nchw(1, 3, 37, 53), nchw(3, 3, 16, 40), nchw(2, 30, 9, 17), nchw(1, 30, 1, 1025)];
    shapes.extend([nchw(1, 3, 251, 1), nchw(7, 30, 5, 9), nhwc(2, 37, 53, 3), nhwc(1, 19, 23, 30)]);
    shapes.extend(parts());
    for binding in [4096, 16384] {
        let (bands, windows) = (small(binding, 2 * binding), small(binding, 1 << 20));
        let mut refused = 0;
        for (i, shape) in shapes.iter().enumerate() {
            for kind in [2 * (i % 7) + 1, 2, 4, 6] {
                let mut random = Random::new(kind as u64);
                let all: Vec<f32> = match shape.offset() > 0 || shape.len() as usize != elements(shape) {
                    true => (0..shape.len()).map(|_| random.logit()).collect(),
                    false => data(shape, kind, &mut random),
                };
                let (packed, values) = packed_elements(shape, &all);
                let expected = reference::inspect(&packed, &values);
                let runs = [
                    Inspect::new().run_blocking(&bands, shape, &all),
                    dispatched(&windows, shape, &upload_bytes(&windows, bytemuck::cast_slice(&all))),
                ];
                for (run, got) in runs.into_iter().enumerate() {
                    match got {
                        Ok(got) => {
                            assert_counts(&format!("{binding} run {run} {shape:?} kind {kind}"), &got, &expected)
                        }
                        Err(Error::Limit { needed, limit, .. }) if binding == 4096 && needed > limit => refused += 1,
                        Err(error) => panic!("{binding} run {run} {shape:?}: {error}"),
                    }
                }
            }
        }
        assert!(refused <= shapes.len() * 2, "{refused} refused");
    }
}

/// More than a band at default limits: three passes, and the sample from the middle.
#[test]
fn large() {
    let mut random = Random::new(8);
    let planes = Logits::chw(3, 1700, 1801).unwrap();
    let pixels = Logits::hwc(1700, 1801, 3).unwrap();
    for shape in [planes, pixels] {
        // Multiples of 2⁻¹³, so that sums in f32 are exact, and none is as far from 1 as it may be.
        let values = data(&shape, if shape == planes { 7 } else { 3 }, &mut random);
        let values: Vec<f32> = values.into_iter().map(|x| (x * 8192.0).round() / 8192.0).collect();
        let expected = reference::inspect(&shape, &values);
        let mut asked = 0;
        let read = |first: u64, bytes: &mut [u8]| {
            asked += bytes.len();
            bytes.copy_from_slice(&bytemuck::cast_slice(&values)[first as usize * 4..first as usize * 4 + bytes.len()]);
            Ok(())
        };
        let input = Input::reader(seghead::ElementType::F32, values.len() as u64, read);
        let got = Inspect::new().run_blocking(gpu(), &shape, input).unwrap();
        assert_same(&format!("{shape:?}"), &got, &expected);
        assert!(asked < values.len() * 4 * 16 / 5, "{asked}");
        let votes = got.roughness.class + got.roughness.height + got.roughness.width;
        assert!(votes > 50_000, "{votes}");
    }
}

#[test]
fn few_workgroups() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    for shape in [Logits::nchw(7, 3, 30, 170).unwrap(), Logits::nhwc(2, 170, 130, 5).unwrap()] {
        let values = data(&shape, 1, &mut Random::new(5));
        let got = Inspect::new().run_blocking(&few, &shape, &values).unwrap();
        assert_same(&format!("{shape:?}"), &got, &reference::inspect(&shape, &values));
    }
}

/// Right or refused with any number of classes and any length of an axis: some adapters end loops early.
#[test]
fn very_long_axes() {
    for length in [5000, 16_383, 32_767, 32_768, 65_535, 65_536, 200_000] {
        let mut refused = 0;
        for shape in
            [Logits::chw(length, 1, 3), Logits::chw(1, length, 3), Logits::chw(2, 1, length)].map(Result::unwrap)
        {
            let values = data(&shape, 5, &mut Random::new(length.into()));
            match Inspect::new().run_blocking(gpu(), &shape, &values) {
                Ok(got) => assert_counts(&format!("{shape:?}"), &got, &reference::inspect(&shape, &values)),
                Err(error) => {
                    assert!(length > 32_767 && matches!(error, Error::Limit { .. }), "{shape:?}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused < 3 || length > 65_535, "{length}");
    }
}

#[test]
fn errors() {
    let shape = Logits::chw(2, 2, 2).unwrap();
    let error = Inspect::new().run_blocking(gpu(), &shape, &[0.0; 7]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "logits", expected: 8, found: 7 }));
    let error = Inspection::from_record(&shape, &[0; 25]).unwrap_err();
    assert!(matches!(error, Error::Length { expected: 26, found: 25, .. }));
    let input = upload(gpu(), &shape, &[0.0; 8]);
    let record = output(gpu(), 26 * 4 - 4);
    let work =
        Inspect::new().dispatch(gpu(), &shape, input.as_entire_buffer_binding(), record.as_entire_buffer_binding());
    assert!(matches!(work, Err(Error::BufferTooSmall { .. })));
}

fn found(shape: &Logits, data: &[f32]) -> Vec<Finding> {
    Inspect::new().run_blocking(gpu(), shape, data).unwrap().findings()
}

fn lines(shape: &Logits, data: &[f32]) -> Vec<String> {
    found(shape, data).iter().map(Finding::to_string).collect()
}

fn softmax(shape: &Logits, data: &[f32], axis: Axis) -> Vec<f32> {
    reference::softmax(shape, data, axis).into_iter().map(|x| x as f32).collect()
}

const PROBABILITIES: &str = "sums to 1 along the class axis: these are probabilities, softmax would be applied twice";

/// Two layouts of the same size, large enough for all that wants many values.
fn both() -> [Logits; 2] {
    [Logits::chw(5, 20, 31).unwrap(), Logits::hwc(20, 31, 5).unwrap()]
}

#[test]
fn ordinary_logits_are_nothing() {
    for shape in both().into_iter().chain([Logits::chw(3, 1, 1).unwrap(), Logits::chw(2, 1, 3).unwrap()]) {
        for seed in 0..5 {
            let data = Random::new(seed).logits(&shape);
            assert_eq!(found(&shape, &data), [], "{shape:?}");
            // Above 0 everywhere, and below.
            assert_eq!(found(&shape, &data.iter().map(|x| x.abs() + 1.5).collect::<Vec<_>>()), [], "{shape:?}");
            assert_eq!(found(&shape, &data.iter().map(|x| -x.abs() - 1.5).collect::<Vec<_>>()), [], "{shape:?}");
        }
    }
}

#[test]
fn probabilities() {
    for shape in both() {
        let data = softmax(&shape, &Random::new(1).logits(&shape), Axis::Class);
        assert_eq!(lines(&shape, &data), [PROBABILITIES]);
        // As halves: sums are off by some 1e-4, more than f32 may be with more classes.
        let (bits, _) = halves(&data);
        let findings = Inspect::new().run_blocking(gpu(), &shape, Input::f16(&bits)).unwrap().findings();
        assert!(matches!(findings[..], [Finding::Probabilities { count: 620, .. }]));
        // One of 620 is 0.16 %: too many that do not fit.
        let mut wrong = data.clone();
        wrong[0] = 0.9 - 0.8 * wrong[0];
        assert!(matches!(found(&shape, &wrong)[..], [Finding::SigmoidOutputs { .. }]));
        // Logits that sum to 1.
        let sums: Vec<f32> = Random::new(2).logits(&shape);
        let class = |i: usize| if shape.plane_stride() == 1 { i % 5 } else { i / 620 };
        let pixel = |i: usize| if shape.plane_stride() == 1 { i / 5 } else { i % 620 };
        let logit = |i: usize| if class(i) < 4 { sums[pixel(i)] * [1.0, -2.0, 3.0, -1.0][class(i)] } else { 1.0 };
        let mut summing: Vec<f32> = (0..3100).map(logit).collect();
        for (i, x) in summing.iter_mut().enumerate().filter(|(i, _)| class(*i) == 4) {
            *x = 1.0 - sums[pixel(i)];
        }
        let inspection = Inspect::new().run_blocking(gpu(), &shape, &summing).unwrap();
        assert_eq!((inspection.sums(Axis::Class).ones, inspection.findings().len()), (620, 0));
    }
    // A single NaN leaves the others probabilities.
    let shape = Logits::chw(5, 20, 31).unwrap();
    let mut data = softmax(&shape, &Random::new(1).logits(&shape), Axis::Class);
    data[7] = f32::NAN;
    assert_eq!(lines(&shape, &data), ["1 NaN, 0 +Inf, 0 −Inf: diverged network? In class 0", PROBABILITIES]);
}

#[test]
fn wrong_axes() {
    let [chw, hwc] = both();
    let softmaxed = |shape: &Logits, axis| softmax(shape, &Random::new(3).logits(shape), axis);
    let wrong = "softmax was taken over the wrong axis";
    let cases = [
        (chw, Axis::Width, format!("sums to 1 along the last axis: {wrong} or the layout is HWC")),
        (chw, Axis::Height, format!("sums to 1 along the height axis: {wrong}")),
        (hwc, Axis::Width, format!("sums to 1 along the width axis: {wrong}")),
        (hwc, Axis::Height, format!("sums to 1 along the height axis: {wrong} or the layout is CHW")),
    ];
    for (shape, axis, line) in cases {
        assert_eq!(lines(&shape, &softmaxed(&shape, axis)), [line]);
    }
    // Probabilities in the other layout.
    let data = softmaxed(&hwc, Axis::Class);
    assert!(lines(&Logits::chw(20, 31, 5).unwrap(), &data)[0].starts_with("sums to 1 along the last axis"));
    let data = softmaxed(&chw, Axis::Class);
    assert!(lines(&Logits::hwc(5, 20, 31).unwrap(), &data)[0].starts_with("sums to 1 along the height axis"));
}

#[test]
fn sigmoid_outputs() {
    for shape in both() {
        let data: Vec<f32> = reference::sigmoid(&Random::new(4).logits(&shape)).into_iter().map(|x| x as f32).collect();
        assert_eq!(lines(&shape, &data), ["all in 0..1 but no sum: sigmoid outputs?"]);
        let mut data = data;
        data[100] = 1.01;
        assert_eq!(found(&shape, &data), []);
        data[100] = -0.01;
        assert_eq!(found(&shape, &data), []);
    }
    // Few numbers may be there by chance.
    assert_eq!(found(&Logits::chw(3, 1, 3).unwrap(), &[0.5, 0.2, 0.7, 0.1, 0.9, 0.9, 0.3, 0.4, 0.2]), []);
}

#[test]
fn log_probabilities() {
    for shape in both() {
        let logits = Random::new(5).logits(&shape);
        let mut data: Vec<f32> =
            reference::log_softmax(&shape, &logits, Axis::Class).into_iter().map(|x| x as f32).collect();
        let line = "exponentials sum to 1 along the class axis: these are log-probabilities";
        assert_eq!(lines(&shape, &data), [line]);
        let (bits, _) = halves(&data);
        let findings = Inspect::new().run_blocking(gpu(), &shape, Input::f16(&bits)).unwrap().findings();
        assert!(matches!(findings[..], [Finding::LogProbabilities { .. }]));
        data[0] -= 1.0;
        data[11] += 0.01;
        data[205] -= 1.0;
        assert_eq!(found(&shape, &data), []);
    }
}

#[test]
fn special_values() {
    for shape in both() {
        let mut data = Random::new(6).logits(&shape);
        data[1] = f32::NEG_INFINITY;
        assert!(lines(&shape, &data)[0].starts_with("0 NaN, 0 +Inf, 1 −Inf: a mask, or a diverged network? In class "));
        data[2] = f32::NAN;
        data[3] = f32::NAN;
        data[4] = f32::INFINITY;
        let line = &lines(&shape, &data)[0];
        assert!(line.starts_with("2 NaN, 1 +Inf, 1 −Inf: diverged network? In class"), "{line}");
        let nothing = vec![f32::NAN; data.len()];
        let lines = lines(&shape, &nothing);
        assert_eq!(lines, ["3100 NaN, 0 +Inf, 0 −Inf: diverged network? In classes 0, 1, 2, 3, 4"]);
    }
}

#[test]
fn constants() {
    let shape = Logits::chw(12, 3, 4).unwrap();
    let mut data = Random::new(7).logits(&shape);
    data[24..36].fill(-3.0);
    assert_eq!(lines(&shape, &data), ["constant: class 2, 1 of 12: dead channels?"]);
    data[36..].iter_mut().enumerate().for_each(|(i, x)| *x = (i / 12) as f32);
    assert_eq!(lines(&shape, &data), ["constant: classes 2, 3, 4, 5, 6, 7, 8, 9, …, 10 of 12: dead channels?"]);
    // Uniform tensors are constant and nothing else, whatever they sum to.
    for (shape, value) in [
        (Logits::chw(4, 4, 4).unwrap(), 0.25),
        (Logits::hwc(4, 4, 4).unwrap(), 0.25),
        (Logits::chw(2, 9, 9).unwrap(), 1.0),
        (Logits::chw(2, 9, 9).unwrap(), 0.0),
        (Logits::chw(4, 9, 9).unwrap(), -(4f32.ln())),
    ] {
        let all = vec![value; elements(&shape)];
        assert_eq!(lines(&shape, &all), [format!("constant: every value is {value}")]);
    }
    // One pixel is no constant class.
    assert_eq!(found(&Logits::chw(3, 1, 1).unwrap(), &[1.0, -2.0, 3.0]), []);
}

#[test]
fn one_class() {
    let one = "one class: softmax is always 1, use sigmoid";
    let shape = Logits::chw(1, 9, 9).unwrap();
    assert_eq!(lines(&shape, &Random::new(8).logits(&shape)), [one]);
    assert_eq!(lines(&shape, &[1.0; 81]), ["constant: every value is 1", one]);
    let p: Vec<f32> = (0..81).map(|i| i as f32 / 80.0).collect();
    assert_eq!(lines(&shape, &p), ["all in 0..1 but no sum: sigmoid outputs?", one]);
    // Thin images: sums of one element say nothing.
    for shape in [Logits::chw(3, 1, 40), Logits::chw(3, 40, 1), Logits::hwc(40, 1, 3)].map(Result::unwrap) {
        let mut data = vec![1.0; 120];
        data[5] = 0.0;
        assert!(!lines(&shape, &data).iter().any(|line| line.contains("sums to 1")), "{shape:?}");
    }
    assert_eq!(lines(&Logits::chw(1, 1, 1).unwrap(), &[1.0]), [one]);
}

/// The logits of a network in the order of `shape`: each class smooth with an offset of its own.
fn smooth(shape: &Logits, noise: f32, random: &mut Random) -> Vec<f32> {
    let offsets: Vec<f32> = (0..shape.classes()).map(|_| random.logit()).collect();
    let frequencies: Vec<f32> = (0..shape.classes()).map(|_| 0.02 + 0.001 * random.below(50) as f32).collect();
    let (packed, _) = packed_elements(shape, &vec![0.0; shape.len() as usize]);
    let mut data = vec![0.0; elements(&packed)];
    for (c, y, x) in (0..shape.classes())
        .flat_map(|c| (0..shape.height()).flat_map(move |y| (0..shape.width()).map(move |x| (c, y, x))))
    {
        let f = frequencies[c as usize];
        let wave = 3.0 * ((y as f32 * f).sin() + (x as f32 * f * 1.3).cos());
        let at = c * packed.plane_stride() + y * packed.row_stride() + x * packed.pixel_stride();
        data[at as usize] = offsets[c as usize] + wave + noise * random.logit();
    }
    data
}

#[test]
fn layouts() {
    let mut random = Random::new(9);
    let hwc_line = "the layout looks like HWC, try --layout hwc (nhwc for a batch)";
    let chw_line = "the layout looks like CHW, try --layout chw (nchw for a batch)";
    for (c, h, w) in [(3, 40, 60), (19, 64, 128), (21, 65, 33), (10, 30, 300), (2, 50, 50)] {
        let (chw, hwc) = (Logits::chw(c, h, w).unwrap(), Logits::hwc(h, w, c).unwrap());
        let (as_chw, as_hwc) = (Logits::chw(h, w, c).unwrap(), Logits::hwc(c, h, w).unwrap());
        for noise in [0.0, 0.02] {
            let (planes, pixels) = (smooth(&chw, noise, &mut random), smooth(&hwc, noise, &mut random));
            assert_eq!(found(&chw, &planes), [], "{chw:?}");
            assert_eq!(found(&hwc, &pixels), [], "{hwc:?}");
            let line = &lines(&as_chw, &pixels)[..];
            assert!(line.len() == 1 && line[0].ends_with(hwc_line), "{as_chw:?}: {line:?}");
            let line = &lines(&as_hwc, &planes)[..];
            assert!(line.len() == 1 && line[0].ends_with(chw_line), "{as_hwc:?}: {line:?}");
            // What is probabilities in the wrong layout is both.
            let data = softmax(&hwc, &pixels, Axis::Class);
            let found = found(&as_chw, &data);
            assert!(matches!(found[0], Finding::WrongAxis { axis: Axis::Width, .. }), "{found:?}");
            assert!(
                found.iter().any(|finding| matches!(finding, Finding::Layout { classes_last: true, .. })) || c == 2
            );
        }
    }
}

/// Nothing is suggested for noise, for stripes in a tensor whose last axis is the longest, for few votes.
#[test]
fn no_layout() {
    for seed in 0..10 {
        for shape in [Logits::chw(40, 30, 20), Logits::hwc(20, 30, 40), Logits::chw(60, 60, 3)].map(Result::unwrap) {
            let inspection = Inspect::new().run_blocking(gpu(), &shape, &Random::new(seed).logits(&shape)).unwrap();
            let Roughness { class, height, width, .. } = inspection.roughness;
            for votes in [class, height, width] {
                assert!(votes * 4 > class + height + width && votes * 5 < 2 * (class + height + width));
            }
            assert_eq!(inspection.findings(), [], "{shape:?}");
        }
    }
    let shape = Logits::chw(5, 20, 31).unwrap();
    let stripes: Vec<f32> = (0..3100).map(|i| (i % 31 % 2 * 9) as f32 - i as f32 * 1e-3).collect();
    let inspection = Inspect::new().run_blocking(gpu(), &shape, &stripes).unwrap();
    assert_eq!((inspection.roughness.width, inspection.findings().len()), (4 * 19 * 30, 0));
    let few = Logits::chw(5, 5, 3).unwrap();
    let hwc = smooth(&Logits::hwc(5, 5, 3).unwrap(), 0.0, &mut Random::new(1));
    assert_eq!(found(&few, &hwc), []);
}
