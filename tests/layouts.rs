//! Where the elements of logits may lie, and what they may be: halves, crops, rows apart. Every operator makes of them
//! what it makes of the same numbers packed in f32, bit for bit, and writes nothing beside its results.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use half::f16;
use seghead::wgpu::{Buffer, BufferUsages};
use seghead::{
    Argmax, Axis, CrossEntropy, Error, Gpu, Input, LabelType, Labels, Logits, Outputs, Segment, Sigmoid, Softmax,
    Targets, reference,
};

/// All 65 536 halves, each alone in its pixel and beside others.
#[test]
fn every_half() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let values: Vec<f32> = all.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
    for gpu in [gpu(), default_limits_gpu()] {
        // Pixels in fours and not, the second class from the middle of a word on.
        for shape in [
            Logits::chw(1, 256, 256).unwrap(),
            Logits::chw(2, 128, 256).unwrap(),
            Logits::hwc(128, 256, 2).unwrap(),
            Logits::chw(13, 71, 71).unwrap(),
        ] {
            let count = elements(&shape);
            let (halves, values) = (&all[all.len() - count..], &values[all.len() - count..]);
            let same = |of_halves: Vec<f32>, of_values: Vec<f32>| {
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                let first = of_halves.iter().zip(&of_values).position(|pair| !same(pair));
                assert!(first.is_none(), "{shape:?} at {first:?}");
            };
            let sigmoid = Sigmoid::new();
            same(
                sigmoid.run_blocking(gpu, &shape, Input::f16(halves)).unwrap(),
                sigmoid.run_blocking(gpu, &shape, values).unwrap(),
            );
            let softmax = Softmax::new().log(true);
            same(
                softmax.run_blocking(gpu, &shape, Input::f16(halves)).unwrap(),
                softmax.run_blocking(gpu, &shape, values).unwrap(),
            );
            // The labels tell whether the halves keep their order: subnormal ones, too.
            let labels = Argmax::new().run_blocking(gpu, &shape, Input::f16(halves)).unwrap().labels;
            let expected = reference::argmax(&shape, values);
            assert!(labels.iter().eq(expected), "{shape:?}");
        }
    }
}

/// Shapes whose elements do not follow one another, or are halves, and the packed ones that they stand for.
fn shapes() -> Vec<(Logits, Logits)> {
    let mut shapes = Vec::new();
    for classes in [1, 3, 25] {
        for (images, height, width) in [(1, 9, 13), (2, 8, 16), (1, 1, 7), (3, 5, 4)] {
            let chw = Logits::nchw(images, classes, height + 5, width + 6).unwrap();
            let hwc = Logits::nhwc(images, height + 5, width + 6, classes).unwrap();
            for (whole, last) in [(chw, false), (hwc, true), (chw.padded().unwrap(), false)] {
                let mut crop = |top, left, height, width| {
                    let packed = match last {
                        true => Logits::nhwc(images, height, width, classes),
                        false => Logits::nchw(images, classes, height, width),
                    };
                    shapes.push((whole.crop(top, left, height, width).unwrap(), packed.unwrap()));
                };
                crop(2, 3, height, width);
                crop(4, 4, height, width);
                crop(0, 0, height, width + 6); // rows that follow one another
                crop(5, 6, 1, width);
                let twice = whole.crop(1, 1, height + 1, width).unwrap().crop(1, 2, height, width - 3).unwrap();
                assert_eq!(twice, whole.crop(2, 3, height, width - 3).unwrap());
                crop(2, 3, height, width - 3);
            }
            let mut apart = |packed: Logits, row| shapes.push((packed.with_row_stride(row).unwrap(), packed));
            let row = width * classes;
            apart(Logits::nchw(images, classes, height, width).unwrap(), width + 3);
            apart(Logits::nchw(images, classes, height, width).unwrap(), 64);
            apart(Logits::nhwc(images, height, width, classes).unwrap(), row + 5);
        }
    }
    shapes.into_iter().flat_map(|(shape, packed)| [(shape, packed), (shape.f16(), packed)]).collect()
}

struct Case {
    shape: Logits,
    /// The rectangle alone.
    packed: Logits,
    /// All of the buffer, as f32.
    data: Vec<f32>,
    /// The elements of the rectangle.
    values: Vec<f32>,
    input: Buffer,
}

fn cases(gpu: &Gpu) -> Vec<Case> {
    let mut random = Random::new(11);
    let case = |(shape, packed): (Logits, Logits)| {
        let halves: Vec<f16> = (0..shape.len()).map(|_| f16::from_f32(random.logit())).collect();
        let data: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let input = if shape.element_type() == seghead::ElementType::F16 {
            let mut halves = halves.clone();
            halves.resize(halves.len().next_multiple_of(2), f16::NAN);
            upload_bytes(gpu, bytemuck::cast_slice(&halves))
        } else {
            upload_bytes(gpu, bytemuck::cast_slice(&data))
        };
        let values = reference::packed(&shape, &data).into_iter().map(|x| x as f32).collect();
        Case { shape, packed, data, values, input }
    };
    shapes().into_iter().map(case).collect()
}

const GUARD: u32 = 0xa5a5_a5a5;

fn guarded(gpu: &Gpu, bytes: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let out = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&out, 0, &vec![0xa5; bytes as usize]);
    out
}

/// Checks that the elements of `shape` in `found` are `expected`, packed, and all others as they were.
#[track_caller]
fn assert_inside(shape: &Logits, found: &[f32], expected: &[f32]) {
    let places: Vec<usize> = {
        let numbers: Vec<f32> = (0..shape.len()).map(|i| i as f32).collect();
        reference::packed(shape, &numbers).into_iter().map(|place| place as usize).collect()
    };
    let mut rest = found.to_vec();
    for (&place, expected) in places.iter().zip(expected) {
        assert_eq!(rest[place].to_bits(), expected.to_bits(), "{shape:?} at {place}");
        rest[place] = f32::from_bits(GUARD);
    }
    let first = rest.iter().position(|x| x.to_bits() != GUARD);
    assert!(first.is_none(), "{shape:?}: element {first:?} is not of the result, but was written");
}

#[test]
fn tensors() {
    for gpu in [gpu(), default_limits_gpu()] {
        for axis in [None, Some(Axis::Class), Some(Axis::Height), Some(Axis::Width)] {
            let cases = cases(gpu);
            let mut recorder = Recorder::new(gpu);
            for case in &cases {
                let out = guarded(gpu, case.shape.output().bytes());
                let (from, to) = (case.input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
                let work = match axis {
                    Some(axis) => Softmax::new().axis(axis).dispatch(gpu, &case.shape, from, to),
                    None => Sigmoid::new().dispatch(gpu, &case.shape, from, to),
                };
                recorder.record(&work.unwrap(), &[&out]);
            }
            for (case, bytes) in cases.iter().zip(recorder.finish()) {
                let found: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                let Case { shape, packed, data, values, .. } = case;
                let run = |shape: &Logits, data: &[f32]| match axis {
                    Some(axis) => Softmax::new().axis(axis).run_blocking(gpu, shape, data).unwrap(),
                    None => Sigmoid::new().run_blocking(gpu, shape, data).unwrap(),
                };
                let expected = run(packed, values);
                assert_inside(&shape.output(), &found, &expected);
                assert_eq!(bits(&run(shape, data)), bits(&expected), "{axis:?} {shape:?} on the host");
            }
        }
    }
}

#[test]
fn maps() {
    for gpu in [gpu(), default_limits_gpu()] {
        let cases = cases(gpu);
        let mut recorder = Recorder::new(gpu);
        let segment = Segment::new(17, 21);
        for case in &cases {
            let shape = &case.shape;
            let maps = [shape.map(), segment.map(shape).unwrap()];
            let buffers = maps.map(|map| [output(gpu, map.bytes(8)), output(gpu, map.bytes(32))]);
            let outputs = |i: usize| {
                let [labels, scores]: &[Buffer; 2] = &buffers[i];
                Outputs::labels(labels.as_entire_buffer_binding()).confidence(scores.as_entire_buffer_binding())
            };
            let input = || case.input.as_entire_buffer_binding();
            let work = Argmax::new().dispatch(gpu, shape, input(), outputs(0)).unwrap();
            recorder.record(&work, &[&buffers[0][0], &buffers[0][1]]);
            let work = segment.dispatch(gpu, shape, input(), outputs(1)).unwrap();
            recorder.record(&work, &[&buffers[1][0], &buffers[1][1]]);
        }
        let mut results = recorder.finish();
        for Case { shape, packed, data, values, .. } in &cases {
            let (argmax, with_scores) = (Argmax::new().confidence(true), segment.confidence(true));
            for (map, of_packed, of_crop) in [
                (shape.map(), argmax.run_blocking(gpu, packed, values), argmax.run_blocking(gpu, shape, data)),
                (
                    segment.map(shape).unwrap(),
                    with_scores.run_blocking(gpu, packed, values),
                    with_scores.run_blocking(gpu, shape, data),
                ),
            ] {
                let (expected, of_crop) = (of_packed.unwrap(), of_crop.unwrap());
                assert_eq!(of_crop, expected, "{shape:?} on the host");
                let labels = unpad_map::<u8>(&map, &results.next().unwrap());
                assert_eq!(Labels::U8(labels), expected.labels, "{shape:?}");
                let scores = unpad_map::<f32>(&map, &results.next().unwrap());
                assert_eq!(bits(&scores), bits(&expected.confidence.unwrap()), "{shape:?}");
            }
        }
    }
}

#[test]
fn losses() {
    for gpu in [gpu(), default_limits_gpu()] {
        let cases = cases(gpu);
        let mut random = Random::new(12);
        let mut recorder = Recorder::new(gpu);
        let mut all_targets = Vec::new();
        for case in &cases {
            let (shape, map) = (&case.shape, case.shape.map());
            let targets: Vec<u8> = (0..map.pixels()).map(|_| random.below(shape.classes()) as u8).collect();
            let mut padded = vec![255u8; map.bytes(8) as usize];
            for (i, &target) in targets.iter().enumerate() {
                let (image, rest) = (i / shape.pixels() as usize, i % shape.pixels() as usize);
                let (row, column) = (rest / shape.width() as usize, rest % shape.width() as usize);
                padded[image * map.image_stride() as usize + row * map.row_stride() as usize + column] = target;
            }
            let (target, record) = (upload_bytes(gpu, &padded), output(gpu, 16));
            let losses = output(gpu, map.bytes(32));
            let work = CrossEntropy::new()
                .dispatch(
                    gpu,
                    shape,
                    case.input.as_entire_buffer_binding(),
                    Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
                    record.as_entire_buffer_binding(),
                    Some(losses.as_entire_buffer_binding()),
                )
                .unwrap();
            recorder.record(&work, &[&losses]);
            all_targets.push(targets);
        }
        for ((case, targets), bytes) in cases.iter().zip(all_targets).zip(recorder.finish()) {
            let operator = CrossEntropy::new().per_pixel(true);
            let expected = operator.run_blocking(gpu, &case.packed, &case.values, &targets).unwrap();
            let found = unpad_map::<f32>(&case.shape.map(), &bytes);
            assert_eq!(bits(&found), bits(expected.per_pixel.as_ref().unwrap()), "{:?}", case.shape);
            assert_eq!(operator.run_blocking(gpu, &case.shape, &case.data, &targets).unwrap(), expected);
        }
    }
}

/// Hundreds of thousands of short rows: the row of a group must be exact.
#[test]
fn many_rows() {
    for (width, gap, height) in [(5, 2, 300_001), (33, 4, 60_001), (4, 1, 500_009)] {
        let whole = Logits::chw(1, height, width + gap).unwrap();
        let data: Vec<f32> =
            (0..whole.len()).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 2e6 - 4.0).collect();
        let rows = whole.crop(0, 0, height, width).unwrap();
        let (input, out) = (upload_bytes(gpu(), bytemuck::cast_slice(&data)), guarded(gpu(), rows.bytes()));
        let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
        let mut recorder = Recorder::new(gpu());
        recorder.record(&Sigmoid::new().dispatch(gpu(), &rows, from, to).unwrap(), &[&out]);
        let found: Vec<f32> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
        let values: Vec<f32> = reference::packed(&rows, &data).into_iter().map(|x| x as f32).collect();
        let packed = Logits::chw(1, height, width).unwrap();
        assert_inside(&rows, &found, &Sigmoid::new().run_blocking(gpu(), &packed, &values).unwrap());
    }
}

/// A NaN just outside the rectangle is nothing to the pixels inside, also not with the weight 0.
#[test]
fn what_was_cut_off_bleeds_into_nothing() {
    let whole = Logits::chw(3, 12, 14).unwrap();
    let picture = whole.crop(3, 2, 6, 9).unwrap();
    let inside = Random::new(5).logits(&whole);
    let mut data = vec![f32::NAN; inside.len()];
    for c in 0..3 {
        for row in 3..9 {
            for column in 2..11 {
                let at = (c * 12 + row) * 14 + column;
                data[at] = inside[at];
            }
        }
    }
    for (height, width) in [(6, 9), (24, 36), (13, 40), (3, 4)] {
        let segment = Segment::new(height, width).confidence(true);
        let found = segment.run_blocking(gpu(), &picture, &data).unwrap();
        assert_eq!(found, segment.run_blocking(gpu(), &picture, &inside).unwrap());
        assert!(found.confidence.unwrap().iter().all(|p| p.is_finite()));
    }
}

#[test]
fn shapes_that_are_refused() {
    let whole = Logits::chw(3, 12, 14).unwrap();
    for found in [[0, 0, 13, 14], [0, 0, 12, 15], [12, 0, 1, 1], [6, 6, 7, 8], [0, u32::MAX, 1, 2]] {
        let [top, left, height, width] = found;
        let error = whole.crop(top, left, height, width).unwrap_err();
        assert!(matches!(error, Error::Rectangle { height: 12, width: 14, found: f } if f == found), "{error}");
        assert!(error.to_string().contains("12 × 14") && !error.to_string().contains('\n'));
    }
    assert!(matches!(whole.crop(0, 0, 0, 4), Err(Error::Empty { what: "height" })));
    assert!(matches!(whole.with_row_stride(13), Err(Error::Stride { row: 14, found: 13 })));
    assert!(matches!(whole.with_row_stride(u32::MAX), Err(Error::Limit { .. })));
    assert_eq!(whole.crop(0, 0, 12, 14).unwrap(), whole);
    assert_eq!(whole.with_row_stride(14).unwrap(), whole);
    // The rows of a map are padded: of single columns to four times as many pixels.
    let columns = Logits::chw(1, 1 << 30, 2).unwrap();
    assert!(matches!(columns.crop(0, 0, 1 << 30, 1), Err(Error::Limit { .. })));
}
