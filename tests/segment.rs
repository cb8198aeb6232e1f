//! What upsampled labels are where an adapter pays for accesses: kernels that own wide blocks of pixels and read taps four at
//! a time. Against the f64 twin, in every layout and however the work is split, the same bits.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashSet;

use common::*;
use half::f16;
use seghead::{
    Access, ElementType, Gpu, GpuOptions, LabelType, Logits, Outputs, Resize, Segment, SpecialisedKernel, reference,
    wgpu,
};

/// Sizes of logits and results: to exactly four times, three, twice, a little more, and along the axes by different
/// factors; rows that are multiples of four elements, and not.
const SIZES: [((u32, u32), (u32, u32)); 27] = [
    ((1, 1), (4, 4)),
    ((1, 4), (4, 16)),
    ((2, 3), (8, 12)),
    ((3, 8), (12, 32)),
    ((5, 7), (20, 28)),
    ((9, 12), (36, 48)),
    ((8, 20), (32, 80)),
    ((4, 1), (16, 4)),
    ((1, 5), (4, 19)),
    ((4, 8), (13, 25)),
    ((6, 8), (18, 24)),
    ((8, 12), (39, 38)),
    ((7, 8), (200, 31)),
    ((5, 4), (27, 100)),
    ((5, 9), (16, 33)),
    ((6, 8), (12, 16)),
    ((10, 16), (16, 25)),
    ((9, 12), (15, 23)),
    ((5, 11), (9, 20)),
    ((8, 16), (9, 17)),
    ((12, 20), (16, 27)),
    ((7, 9), (9, 11)),
    ((8, 8), (8, 8)),
    ((4, 12), (40, 13)),
    ((20, 4), (21, 40)),
    ((20, 3), (21, 30)),
    ((4, 12), (6, 90)),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scores {
    None,
    Confidence,
    Margin,
}

#[derive(Clone)]
struct Work {
    kernel: SpecialisedKernel,
    labels: Vec<u32>,
    /// Confidence and margin, as far as they were asked for.
    scores: Vec<Vec<f32>>,
}

/// `data`, all that a buffer of `shape` holds, segmented.
fn run(gpu: &Gpu, shape: &Logits, data: &[f32], segment: Segment, bits: LabelType, scores: Scores) -> Work {
    let input = match shape.element_type() {
        ElementType::F32 => upload_bytes(gpu, bytemuck::cast_slice(data)),
        ElementType::F16 => {
            let mut halves: Vec<f16> = data.iter().map(|&x| f16::from_f32(x)).collect();
            halves.resize(halves.len().next_multiple_of(2), f16::NAN);
            upload_bytes(gpu, bytemuck::cast_slice(&halves))
        }
    };
    let segment = segment.label_type(bits);
    let map = segment.map(shape).unwrap();
    let labels = output(gpu, map.bytes(bits.bits()));
    let maps = [(); 2].map(|()| output(gpu, map.bytes(32)));
    let mut outputs = Outputs::labels(labels.as_entire_buffer_binding());
    if scores != Scores::None {
        outputs = outputs.confidence(maps[0].as_entire_buffer_binding());
    }
    if scores == Scores::Margin {
        outputs = outputs.margin(maps[1].as_entire_buffer_binding());
    }
    let dispatch = segment.dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &[&labels, &maps[0], &maps[1]]);
    let read: Vec<_> = recorder.finish().collect();
    let labels = match bits {
        LabelType::U8 => unpad_map::<u8>(&map, &read[0]).into_iter().map(u32::from).collect(),
        LabelType::U32 => unpad_map::<u32>(&map, &read[0]),
    };
    let scores = read[1..][..scores as usize].iter().map(|bytes| unpad_map(&map, bytes)).collect();
    Work { kernel: dispatch.kernels().pop().unwrap(), labels, scores }
}

/// Logits for all that a buffer of `shape` holds, which halves hold exactly.
fn halves(shape: &Logits, random: &mut Random) -> Vec<f32> {
    (0..shape.len()).map(|_| f16::from_f32(random.logit()).to_f32()).collect()
}

/// Every specialisation that the adapter takes, against the twin.
#[test]
fn wide_blocks() {
    let gpu = gpu();
    let mut ran = HashSet::new();
    for (i, ((h, w), (height, width))) in SIZES.into_iter().enumerate() {
        for (j, scores) in [Scores::None, Scores::Confidence, Scores::Margin].into_iter().enumerate() {
            for k in 0..8 {
                let by_four = (height, width) == (4 * h, 4 * w);
                let resize = match (k % 4, by_four) {
                    (2, _) => Resize::AlignCorners,
                    (3, false) => Resize::Asymmetric,
                    _ => Resize::HalfPixel,
                };
                let label_type = if k < 4 { LabelType::U32 } else { LabelType::U8 };
                let classes = [1, 2, 5, 33][(i + k) % 4];
                let mut random = Random::new((i * 100 + j * 10 + k) as u64);
                let shape = Logits::nchw(1 + i as u32 % 2, classes, h, w).unwrap();
                let shape = if (i / 2 + j + k) % 2 == 0 { shape } else { shape.f16() };
                let data = halves(&shape, &mut random);
                let work = run(gpu, &shape, &data, Segment::new(height, width).resize(resize), label_type, scores);
                ran.insert(work.kernel.clone());
                let name = work.kernel.kernel;
                let four = by_four && resize == Resize::HalfPixel && scores != Scores::Margin;
                match (gpu.access(), four) {
                    (Access::Words64, true) => assert_eq!(name, "segment upscale by four"),
                    (Access::Words64, false) => assert_eq!(name, "segment upscale wide"),
                    _ => assert_eq!(name, "segment upscale"),
                }
                compare(&shape, &data, (height, width, resize), &work);
            }
        }
    }
    if gpu.access() == Access::Words64 {
        let all = gpu.kernels(5).into_iter().filter(|one| {
            let wide = ["segment upscale wide", "segment upscale by four"].contains(&one.kernel);
            wide && !ran.contains(one)
        });
        assert_eq!(all.collect::<Vec<_>>(), [], "never run");
    }
}

fn compare(shape: &Logits, data: &[f32], (height, width, resize): (u32, u32, Resize), work: &Work) {
    let classes = shape.classes();
    let what = format!("{shape:?} to {height} × {width} {resize:?}, {}", work.kernel);
    let upsampled = reference::upsample(shape, data, height, width, resize);
    let full = Logits::nchw(shape.images(), classes, height, width).unwrap();
    let expected = reference::argmax(&full, &upsampled);
    // As in oracle.rs: products and sums, and rounded weights at distances up to 8.
    let of_logit = 400.0 * U * data.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
    let plane = full.pixels() as usize;
    let at = |i: usize, c: u32| upsampled[(i / plane * classes as usize + c as usize) * plane + i % plane];
    assert_eq!(work.labels.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in work.labels.iter().zip(&expected).enumerate() {
        assert!(got < classes, "{what}: label {got}");
        assert!(at(i, expected) - at(i, got) <= 2.0 * of_logit, "{what}[{i}]: {got}, expected {expected}");
    }
    let expected = reference::scores(&full, &upsampled);
    let of_sum = (11.0 + 4.0 * f64::from(classes)) * U;
    for (got, expected) in work.scores.iter().zip([expected.confidence, expected.margin]) {
        assert_close(&what, got, &expected, |_| of_sum + 8.0 * U + 2.0 * of_logit);
    }
}

/// The same picture in another layout: what surrounds it is NaN.
fn laid(shape: &Logits, picture: &[f32]) -> Vec<f32> {
    let mut data = vec![f32::NAN; shape.len() as usize];
    places(shape).zip(picture).for_each(|(place, &x)| data[place] = x);
    data
}

/// Without special values, and with some here and there.
fn pictures(elements: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random::new(seed);
    let plain: Vec<f32> = (0..elements).map(|_| f16::from_f32(random.logit()).to_f32()).collect();
    let mut pictures = vec![plain.clone()];
    for _ in 0..6 {
        let mut special = plain.clone();
        for _ in 0..elements.div_ceil(150) {
            let value = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 65504.0][random.below(4) as usize];
            special[random.below(elements as u32) as usize] = value;
        }
        pictures.push(special);
    }
    pictures
}

/// Read four at a time or one by one, with the classes last, out of a larger tensor: the same bits.
#[test]
fn layouts() {
    for gpu in [gpu(), default_limits_gpu()] {
        for (i, ((h, w), (height, width))) in SIZES.into_iter().enumerate() {
            let nchw = |h, w| Logits::nchw(2, 3, h, w).unwrap();
            let shapes = [
                nchw(h, w),
                nchw(h, w).padded().unwrap(),
                nchw(h, w).with_row_stride(w.next_multiple_of(4) + 4).unwrap(),
                nchw(h, w).with_row_stride(w + 3).unwrap(),
                nchw(h + 2, w + 5).crop(1, 3, h, w).unwrap(),
                nchw(h + 2, w.next_multiple_of(4) + 8).crop(1, 4, h, w).unwrap(),
                nchw(h + 2, w.next_multiple_of(4) + 8).crop(1, 3, h, w).unwrap(),
                Logits::nhwc(2, h, w, 3).unwrap(),
            ];
            for picture in pictures(elements(&shapes[0]), i as u64) {
                let mut first: Option<Work> = None;
                let shapes = shapes.into_iter().flat_map(|shape| [shape, shape.f16()]);
                // Without scores too: larger blocks, the same labels.
                for (shape, scores) in shapes.flat_map(|shape| [(shape, Scores::Confidence), (shape, Scores::None)]) {
                    let data = laid(&shape, &picture);
                    let work = run(gpu, &shape, &data, Segment::new(height, width), LabelType::U8, scores);
                    let first = first.get_or_insert_with(|| work.clone());
                    let what = format!("{shape:?} to {height} × {width}: {}, {}", work.kernel, first.kernel);
                    assert_eq!(work.labels, first.labels, "{what}");
                    let equal = work.scores.iter().zip(&first.scores).all(|(a, b)| bits(a) == bits(b));
                    assert!(equal, "{what}");
                }
            }
        }
    }
}

/// A device with all features of the adapter, and bindings that are too small for the whole.
fn small() -> Gpu {
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default())).unwrap()[0];
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SHADER_INT64,
        required_limits: wgpu::Limits {
            max_storage_buffer_binding_size: 8192,
            max_uniform_buffer_binding_size: 8192,
            min_storage_buffer_offset_alignment: 256,
            ..wgpu::Limits::defaults()
        },
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    device.on_uncaptured_error(std::sync::Arc::new(|error| panic!("uncaptured: {error}")));
    Gpu::from_wgpu(device, queue)
}

/// In parts of rows, where a binding is too small for all: the same bits.
#[test]
fn parts() {
    let small = small();
    assert_eq!(small.access(), gpu().access());
    let sizes = [
        ((20, 24), (80, 96)),
        ((33, 17), (132, 68)),
        ((20, 24), (61, 73)),
        ((21, 30), (35, 50)),
        ((24, 28), (27, 30)),
        ((5, 160), (20, 640)), // a part has fewer rows than a block
        ((5, 160), (16, 520)), // so has this
    ];
    for (i, ((h, w), (height, width))) in sizes.into_iter().enumerate() {
        for scores in [Scores::None, Scores::Confidence] {
            for (images, f16) in [(1, false), (2, true)] {
                let shape = Logits::nchw(images, 3, h, w).unwrap();
                let shape = if f16 { shape.f16() } else { shape };
                let mut pictures = pictures(elements(&shape), 50 + i as u64);
                // Half a block does not know what is special in the other half; of a strip both read the same.
                let by_four = gpu().access() == Access::Words64 && (height, width) == (4 * h, 4 * w);
                if h == 5 && !by_four {
                    pictures.truncate(1);
                }
                for picture in pictures {
                    let data = laid(&shape, &picture);
                    let segment = Segment::new(height, width);
                    let [split, whole] =
                        [&small, gpu()].map(|gpu| run(gpu, &shape, &data, segment, LabelType::U8, scores));
                    let what = format!("{shape:?} to {height} × {width}: {}", whole.kernel);
                    assert_eq!(split.labels, whole.labels, "{what}");
                    let equal = split.scores.iter().zip(&whole.scores).all(|(a, b)| bits(a) == bits(b));
                    assert!(equal, "{what}");
                }
            }
        }
    }
}

/// Logits as large as f32 has, which must not overflow on the way.
#[test]
fn huge_logits() {
    for ((h, w), (height, width)) in SIZES {
        let shape = Logits::chw(3, h, w).unwrap();
        let mut random = Random::new(9);
        let data: Vec<f32> = (0..shape.len())
            .map(|_| [f32::MAX, f32::MIN, 1.7e38, -1.7e38, 2e38, -3e38, 1.0][random.below(7) as usize])
            .collect();
        let segment = Segment::new(height, width);
        let Work { labels, kernel, .. } = run(gpu(), &shape, &data, segment, LabelType::U8, Scores::None);
        let upsampled = reference::upsample(&shape, &data, height, width, Resize::HalfPixel);
        let plane = labels.len();
        for (i, &label) in labels.iter().enumerate() {
            let best = (0..3).map(|c| upsampled[c * plane + i]).fold(f64::MIN, f64::max);
            let found = upsampled[label as usize * plane + i];
            assert!(best - found <= 400.0 * U * f64::from(f32::MAX), "{kernel} {i}: {found:e}, expected {best:e}");
        }
    }
}

/// Kernels for wide blocks walk through the classes often, which adapters that end loops early allow for few classes; for
/// more there are others.
#[test]
fn very_many_classes() {
    for classes in [1985, 1986, 2300, 2621, 2622] {
        let shape = Logits::chw(classes, 1, 2).unwrap();
        let data = Random::new(14).logits(&shape);
        for (height, width) in [(4, 8), (3, 5)] {
            let found = Segment::new(height, width).run_blocking(gpu(), &shape, &data).unwrap();
            let expected = reference::segment(&shape, &data, height, width, Resize::HalfPixel).unwrap().0;
            assert!(found.labels.iter().eq(expected), "{classes} classes to {height}×{width}");
        }
    }
}

/// Along an axis that keeps its size PyTorch copies: a special value is none of its neighbours'.
#[test]
fn axes_that_keep_their_size() {
    let shape = Logits::chw(2, 2, 2).unwrap();
    let data = [0.0, f32::NAN, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    // torch.nn.functional.interpolate(x, size, mode="bilinear").argmax(1)
    let sizes: [((u32, u32), &[u32]); 3] =
        [((2, 2), &[1, 0, 1, 1]), ((2, 4), &[0, 0, 0, 0, 1, 1, 1, 1]), ((4, 2), &[1, 0, 1, 0, 1, 0, 1, 1])];
    for ((height, width), expected) in sizes {
        let found = Segment::new(height, width).run_blocking(gpu(), &shape, &data).unwrap();
        assert_eq!(found.labels.iter().collect::<Vec<_>>(), expected, "{height}×{width}");
    }
}
