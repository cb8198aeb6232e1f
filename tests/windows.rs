//! Dispatches for tensors that the device cannot bind at once: bit for bit what a device without such limits writes,
//! in all layouts, and nothing beside it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferUsages};
use seghead::{
    Argmax, Axis, CrossEntropy, Dispatch, Error, Gpu, LabelType, Logits, LossRecord, Outputs, Reduction, Resize,
    Segment, Sigmoid, Softmax, Targets,
};

/// A device that binds little of its large buffers; its bindings start at multiples of 256 bytes.
fn small(bytes: u64) -> Gpu {
    watched_gpu(binding_limits(bytes))
}

/// With the last two some images are bound in halves.
const SIZES: [u64; 4] = [4096, 16384, 49152, 98304];

/// [`beyond_a_binding`], a batch of single classes, and a rectangle of whole rows.
fn shapes() -> Vec<Logits> {
    let more = [Logits::nchw(5, 1, 33, 37).unwrap(), Logits::nchw(2, 3, 40, 50).unwrap().crop(5, 0, 30, 50).unwrap()];
    let more = more.into_iter().flat_map(|shape| [shape, shape.f16()]);
    beyond_a_binding().into_iter().chain(more).collect()
}

/// Random elements for all that a buffer of `shape` holds.
fn upload_all(gpu: &Gpu, shape: &Logits, seed: u64) -> Buffer {
    let mut random = Random::new(seed);
    let values: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
    match shape.element_type() {
        seghead::ElementType::F32 => upload_bytes(gpu, bytemuck::cast_slice(&values)),
        seghead::ElementType::F16 => {
            let mut halves: Vec<u16> = values.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect();
            halves.resize(halves.len().next_multiple_of(2), 0);
            upload_bytes(gpu, bytemuck::cast_slice(&halves))
        }
    }
}

/// A buffer of which every byte is known before.
fn guarded(gpu: &Gpu, bytes: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let out = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&out, 0, &vec![0xa5; bytes as usize]);
    out
}

fn recorded(gpu: &Gpu, dispatch: &Dispatch, outputs: &[&Buffer]) -> Vec<Vec<u8>> {
    let mut recorder = Recorder::new(gpu);
    recorder.record(dispatch, outputs);
    recorder.finish().collect()
}

/// Compares what `run` reads back on a small device and on one at default limits. The smaller devices may say that rows
/// do not fit.
fn agree(run: impl Fn(&Gpu, &Logits) -> Result<Vec<Vec<u8>>, Error>) {
    agree_on(&SIZES, run);
}

fn agree_on(sizes: &[u64], run: impl Fn(&Gpu, &Logits) -> Result<Vec<Vec<u8>>, Error>) {
    for &bytes in sizes {
        let gpu = small(bytes);
        let mut refused = 0;
        for shape in shapes() {
            let got = match run(&gpu, &shape) {
                Ok(got) => got,
                Err(Error::Limit { needed, limit, .. }) if bytes < 49152 && needed > limit => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{bytes} {shape:?}: {error}"),
            };
            let expected = run(default_limits_gpu(), &shape).unwrap();
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let first = got.iter().zip(expected).position(|(a, b)| a != b);
                assert!(
                    first.is_none() && got.len() == expected.len(),
                    "{bytes} {shape:?}: output {i}, byte {first:?}"
                );
            }
        }
        assert!(refused <= shapes().len() / 2, "{refused} of {} refused", shapes().len());
    }
}

/// All bytes of what a tensor was written into, but for the padding between the planes, which is the operator's.
fn tensor(shape: &Logits, bytes: Vec<u8>) -> Vec<u8> {
    let between_rows = shape.offset() > 0 || shape.row_stride() != shape.width() * shape.pixel_stride();
    if between_rows { bytes } else { bytemuck::cast_slice(&unpad_tensor(shape, &bytes)).to_vec() }
}

#[test]
fn softmax() {
    for axis in [Axis::Class, Axis::Height, Axis::Width] {
        for log in [false, true] {
            agree(|gpu, shape| {
                let (input, out) = (upload_all(gpu, shape, 1), guarded(gpu, shape.output().bytes()));
                let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
                let work = Softmax::new().axis(axis).log(log).dispatch(gpu, shape, from, to)?;
                Ok(vec![tensor(shape, recorded(gpu, &work, &[&out]).remove(0))])
            });
        }
    }
}

#[test]
fn sigmoid() {
    agree(|gpu, shape| {
        let (input, out) = (upload_all(gpu, shape, 2), guarded(gpu, shape.output().bytes()));
        let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
        let work = Sigmoid::new().dispatch(gpu, shape, from, to)?;
        Ok(vec![tensor(shape, recorded(gpu, &work, &[&out]).remove(0))])
    });
}

/// The pixels of a map; its padding may hold anything.
fn pixels_of(map: &seghead::Map, bits: u32, bytes: &[u8]) -> Vec<u8> {
    if bits == 8 { unpad_map::<u8>(map, bytes) } else { bytemuck::cast_slice(&unpad_map::<u32>(map, bytes)).to_vec() }
}

#[test]
fn argmax() {
    for label_type in [LabelType::U8, LabelType::U32] {
        agree(|gpu, shape| {
            let (map, bits) = (shape.map(), label_type.bits());
            let (labels, margin) = (guarded(gpu, map.bytes(bits)), guarded(gpu, map.bytes(32)));
            let (confidence, entropy) = (guarded(gpu, map.bytes(32)), guarded(gpu, map.bytes(32)));
            let outputs = Outputs::labels(labels.as_entire_buffer_binding())
                .confidence(confidence.as_entire_buffer_binding())
                .margin(margin.as_entire_buffer_binding())
                .entropy(entropy.as_entire_buffer_binding());
            let input = upload_all(gpu, shape, 3);
            let argmax = Argmax::new().label_type(label_type);
            let work = argmax.dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs)?;
            let read = recorded(gpu, &work, &[&labels, &confidence, &margin, &entropy]);
            let bits = [bits, 32, 32, 32];
            Ok(read.iter().zip(bits).map(|(bytes, bits)| pixels_of(&map, bits, bytes)).collect())
        });
    }
}

#[test]
fn segment() {
    for (height, width, resize) in [
        (80, 120, Resize::HalfPixel),
        (41, 61, Resize::AlignCorners),
        (31, 7, Resize::Asymmetric),
        (150, 33, Resize::HalfPixel),
    ] {
        agree(|gpu, shape| {
            let segment = Segment::new(height, width).resize(resize);
            let map = segment.map(shape).unwrap();
            let (labels, confidence) = (guarded(gpu, map.bytes(8)), guarded(gpu, map.bytes(32)));
            let outputs =
                Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
            let input = upload_all(gpu, shape, 4);
            let work = segment.dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs)?;
            let read = recorded(gpu, &work, &[&labels, &confidence]);
            Ok(vec![pixels_of(&map, 8, &read[0]), pixels_of(&map, 32, &read[1])])
        });
    }
}

/// The losses of all pixels, and the position of a wrong label; sums are those of the same numbers in another order.
#[test]
fn cross_entropy() {
    for weights in [false, true] {
        // The partial sums alone take bindings of 16 KiB.
        agree_on(&SIZES[1..], |gpu, shape| {
            let (map, classes) = (shape.map(), shape.classes());
            let mut random = Random::new(5);
            // Wrong labels are late ones, several rows from the start.
            let all = map.bytes(8);
            let wrong = |i: u64| u32::from(i > all * 2 / 3);
            let targets: Vec<u8> = (0..all).map(|i| random.below(classes + wrong(i)) as u8).collect();
            let (target, losses) = (upload_bytes(gpu, &targets), guarded(gpu, map.bytes(32)));
            let record = guarded(gpu, 16);
            let weights = weights.then(|| (0..classes).map(|c| 0.5 + c as f32).collect());
            let operator = CrossEntropy::new().ignore_index(Some(classes.into())).class_weights(weights);
            let dispatch = |operator: &CrossEntropy| {
                let input = upload_all(gpu, shape, 5);
                operator.dispatch(
                    gpu,
                    shape,
                    input.as_entire_buffer_binding(),
                    Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
                    record.as_entire_buffer_binding(),
                    Some(losses.as_entire_buffer_binding()),
                )
            };
            let read = recorded(gpu, &dispatch(&operator.clone().reduction(Reduction::Sum))?, &[&losses, &record]);
            let losses_of_pixels: Vec<f32> = unpad_map(&map, &read[0]);
            let sum: f64 = losses_of_pixels.iter().map(|&loss| f64::from(loss)).sum();
            let found: LossRecord = bytemuck::pod_read_unaligned(&read[1]);
            assert!((f64::from(found.loss) - sum).abs() <= 200.0 * U * sum, "{shape:?}: {} {sum}", found.loss);
            let counted = unpad_map::<u8>(&map, &targets).iter().filter(|&&t| u32::from(t) != classes).count();
            assert_eq!(found.valid as usize, counted, "{shape:?}");
            // Without an ignore index those labels are wrong, and the first of them is found.
            let wrong = recorded(gpu, &dispatch(&operator.ignore_index(None))?, &[&record]);
            let found: LossRecord = bytemuck::pod_read_unaligned(&wrong[0]);
            let first = unpad_map::<u8>(&map, &targets).iter().position(|&t| u32::from(t) == classes);
            assert_eq!(Some(found.first_invalid as usize), first, "{shape:?}");
            Ok(vec![pixels_of(&map, 32, &read[0])])
        });
    }
}

/// Outputs that overlap as a whole are refused, also where the parts that are bound at a time do not.
#[test]
fn overlapping_outputs() {
    let gpu = small(4096);
    let shape = Logits::chw(3, 64, 64).unwrap();
    let map = shape.map();
    let input = buffer(&gpu, shape.bytes(), BufferUsages::STORAGE);
    let out = buffer(&gpu, 1 << 16, BufferUsages::STORAGE);
    let at = |offset, size| wgpu::BufferBinding { buffer: &out, offset, size: wgpu::BufferSize::new(size) };
    let outputs = Outputs::labels(at(0, map.bytes(8))).confidence(at(2048, map.bytes(32)));
    let result = Argmax::new().dispatch(&gpu, &shape, input.as_entire_buffer_binding(), outputs);
    assert!(matches!(result, Err(Error::Aliased { .. })));
}
