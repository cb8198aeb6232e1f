//! What must hold for any logits.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::OnceLock;

use common::*;
use proptest::prelude::*;
use seghead::{
    Activation, Argmax, Axis, CrossEntropy, Error, Gpu, Input, Interpolate, Labels, Logits, Outputs, Segment, Softmax,
    reference, wgpu,
};

/// Two class counts for each kind of kernel, batches, and images of any size; the seed of their logits.
fn tensors() -> impl Strategy<Value = (Logits, u64)> {
    let sizes = (1u32..=3, prop::sample::select(vec![2u32, 5, 25, 31]), 1u32..=9, 1u32..=9, any::<u64>());
    sizes.prop_map(|(n, c, h, w, seed)| (Logits::nchw(n, c, h, w).unwrap(), seed))
}

/// Multiples of 2⁻¹⁰ in −32..32, so that adding an integer below 2⁸ is exact.
fn logits(shape: &Logits, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..elements(shape)).map(|_| random.below(64 << 10) as f32 / 1024.0 - 32.0).collect()
}

/// Index of class `c` of pixel `i`, pixels counted over all images.
fn at(shape: &Logits, i: usize, c: usize) -> usize {
    let plane = shape.pixels() as usize;
    (i / plane * shape.classes() as usize + c) * plane + i % plane
}

fn narrow(labels: Labels) -> Vec<u8> {
    match labels {
        Labels::U8(labels) => labels,
        Labels::U32(_) => panic!("at most 256 classes have labels of 8 bits"),
    }
}

/// Devices that bind so little that tensors are split in different places.
fn small_gpu(i: usize) -> &'static Gpu {
    const BYTES: [u64; 5] = [1024, 2304, 4096, 10_240, 36_864];
    static GPUS: [OnceLock<Gpu>; BYTES.len()] = [const { OnceLock::new() }; BYTES.len()];
    GPUS[i].get_or_init(|| {
        watched_gpu(wgpu::Limits {
            max_storage_buffer_binding_size: BYTES[i],
            max_uniform_buffer_binding_size: BYTES[i],
            ..wgpu::Limits::defaults()
        })
    })
}

/// What operators return on the host, as bits; nothing where a device is too small for four pixels or a row.
fn results(gpu: &Gpu, shape: &Logits, data: &[f32], axis: Axis, size: (u32, u32)) -> [Option<Vec<u32>>; 5] {
    let scores = |found: seghead::Segmentation| {
        let labels = found.labels.iter().collect::<Vec<_>>();
        [labels, bits(&found.confidence.unwrap()), bits(&found.entropy.unwrap())].concat()
    };
    let targets: Vec<u8> = (0..shape.map().pixels()).map(|i| (i * 7 % shape.classes() as usize) as u8).collect();
    let segment = Segment::new(size.0, size.1).confidence(true).entropy(true);
    let interpolate = Interpolate::new(size.0, size.1).activation(Activation::Softmax);
    let loss = CrossEntropy::new().per_pixel(true).run_blocking(gpu, shape, data, &targets);
    [
        fitting(Softmax::new().axis(axis).run_blocking(gpu, shape, data)).map(|p| bits(&p)),
        fitting(Argmax::new().confidence(true).entropy(true).run_blocking(gpu, shape, data)).map(scores),
        fitting(segment.run_blocking(gpu, shape, data)).map(scores),
        fitting(interpolate.run_blocking(gpu, shape, data)).map(|p| bits(&p)),
        fitting(loss).map(|loss| bits(&loss.per_pixel.unwrap())),
    ]
}

/// A storage buffer with these bytes that can be read back.
fn upload_readable(gpu: &Gpu, bytes: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = buffer(gpu, bytes.len() as u64, usage);
    gpu.queue().write_buffer(&buffer, 0, bytes);
    buffer
}

/// Nothing where the device is too small, which is the only reason.
fn fitting<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(Error::Limit { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The same numbers with the classes last.
fn classes_last(shape: &Logits, data: &[f32]) -> (Logits, Vec<f32>) {
    let (n, c, h, w) = (shape.images(), shape.classes(), shape.height(), shape.width());
    let values = (0..shape.map().pixels()).flat_map(|i| (0..c as usize).map(move |class| data[at(shape, i, class)]));
    (Logits::nhwc(n, h, w, c).unwrap(), values.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn probabilities_sum_to_one((shape, seed) in tensors()) {
        let data = logits(&shape, seed);
        let p = Softmax::new().run_blocking(gpu(), &shape, &data).unwrap();
        for i in 0..shape.map().pixels() {
            let sum: f64 = (0..shape.classes() as usize).map(|c| f64::from(p[at(&shape, i, c)])).sum();
            // The terms and their sum have the same errors, all but the C roundings of the sum, one of 1 / Σ (at most
            // 5 U) and one of each product.
            let tolerance = (f64::from(shape.classes()) + 6.0) * U;
            prop_assert!((sum - 1.0).abs() <= tolerance, "{shape:?} pixel {i}: {sum}");
        }
    }

    #[test]
    fn softmax_ignores_a_constant((shape, seed) in tensors(), shifts in prop::collection::vec(-256i16..256, 243)) {
        let data = logits(&shape, seed);
        let mut shifted = data.clone();
        for i in 0..shape.map().pixels() {
            (0..shape.classes() as usize).for_each(|c| shifted[at(&shape, i, c)] += f32::from(shifts[i]));
        }
        // The sums are exact, see `tensors`, and so are the differences to the maximum: the bits are the same.
        let p = Softmax::new().run_blocking(gpu(), &shape, &data).unwrap();
        prop_assert_eq!(bits(&p), bits(&Softmax::new().run_blocking(gpu(), &shape, &shifted).unwrap()));
    }

    #[test]
    fn softmax_keeps_the_argmax((shape, seed) in tensors()) {
        let data = logits(&shape, seed);
        // Distinct logits differ by 2⁻¹⁰ at least, far more than exp rounds away; equal ones have equal probabilities.
        let p = Softmax::new().run_blocking(gpu(), &shape, &data).unwrap();
        let of_probabilities = Argmax::new().run_blocking(gpu(), &shape, &p).unwrap();
        prop_assert_eq!(of_probabilities, Argmax::new().run_blocking(gpu(), &shape, &data).unwrap());
        let expected: Vec<u8> = reference::argmax(&shape, &data).into_iter().map(|label| label as u8).collect();
        prop_assert_eq!(narrow(Argmax::new().run_blocking(gpu(), &shape, &data).unwrap().labels), expected);
    }

    #[test]
    fn loss_is_minus_log_of_the_probability((shape, seed) in tensors()) {
        let data = logits(&shape, seed);
        let mut random = Random::new(!seed);
        let targets: Vec<u8> = (0..shape.map().pixels()).map(|_| random.below(shape.classes()) as u8).collect();
        let loss = CrossEntropy::new().per_pixel(true).run_blocking(gpu(), &shape, &data, &targets).unwrap();
        let p = Softmax::new().run_blocking(gpu(), &shape, &data).unwrap();
        for (i, (&loss, &target)) in loss.per_pixel.unwrap().iter().zip(&targets).enumerate() {
            let expected = -f64::from(p[at(&shape, i, target.into())]).ln();
            // The relative error of a probability, (6 + 5 · 64 + 8 + C + 3) U, is the absolute one of its logarithm;
            // that of a loss as in tests/oracle.rs, for distances up to 64.
            let classes = f64::from(shape.classes());
            let tolerance = (337.0 + classes) * U + (128.0 + 12.0 + classes) * U + (2f64).powi(-20);
            prop_assert!((f64::from(loss) - expected).abs() <= tolerance, "{shape:?} pixel {i}: {loss} {expected}");
        }
    }

    #[test]
    fn segment_to_the_same_size_is_argmax((shape, seed) in tensors()) {
        let data = logits(&shape, seed);
        let argmax = Argmax::new().confidence(true).run_blocking(gpu(), &shape, &data).unwrap();
        let segment = Segment::new(shape.height(), shape.width()).confidence(true);
        let segment = segment.run_blocking(gpu(), &shape, &data).unwrap();
        prop_assert_eq!(argmax.labels, segment.labels);
        // Sums of C terms in different orders, rescaled or not: as in tests/oracle.rs, twice.
        let tolerance = 2.0 * (11.0 + 4.0 * f64::from(shape.classes())) * U;
        for (a, b) in argmax.confidence.unwrap().into_iter().zip(segment.confidence.unwrap()) {
            prop_assert!((f64::from(a) - f64::from(b)).abs() <= tolerance * f64::from(a), "{a} {b}");
        }
    }

    #[test]
    fn a_batch_is_its_images((shape, seed) in tensors()) {
        let data = logits(&shape, seed);
        let image = Logits::chw(shape.classes(), shape.height(), shape.width()).unwrap();
        let (argmax, segment) = (Argmax::new().confidence(true), Segment::new(11, 6).confidence(true));
        let mut softmax = Vec::new();
        let mut labels = [Vec::new(), Vec::new()];
        let mut confidence = [Vec::new(), Vec::new()];
        for data in data.chunks_exact(elements(&image)) {
            softmax.extend(Softmax::new().run_blocking(gpu(), &image, data).unwrap());
            let found =
                [argmax.run_blocking(gpu(), &image, data).unwrap(), segment.run_blocking(gpu(), &image, data).unwrap()];
            for (i, found) in found.into_iter().enumerate() {
                labels[i].extend(narrow(found.labels));
                confidence[i].extend(found.confidence.unwrap());
            }
        }
        prop_assert_eq!(bits(&softmax), bits(&Softmax::new().run_blocking(gpu(), &shape, &data).unwrap()));
        let found =
            [argmax.run_blocking(gpu(), &shape, &data).unwrap(), segment.run_blocking(gpu(), &shape, &data).unwrap()];
        for (i, found) in found.into_iter().enumerate() {
            prop_assert_eq!(&narrow(found.labels), &labels[i]);
            prop_assert_eq!(bits(&found.confidence.unwrap()), bits(&confidence[i]));
        }
    }

    #[test]
    fn tiling_is_invisible(
        (shape, seed) in tensors(),
        device in 0usize..5,
        axis in prop::sample::select(vec![Axis::Class, Axis::Height, Axis::Width]),
        size in (1u32..24, 1u32..24),
    ) {
        let data = logits(&shape, seed);
        let whole = results(gpu(), &shape, &data, axis, size);
        let split = results(small_gpu(device), &shape, &data, axis, size);
        for (i, (split, whole)) in split.into_iter().zip(whole).enumerate() {
            prop_assert!(split.is_none() || split == whole, "operator {i} on device {device}");
        }
    }

    /// Also of a dispatch that takes a buffer in parts: any order of the classes, any rectangle.
    #[test]
    fn windows_are_invisible(
        sizes in (1u32..=3, prop::sample::select(vec![1u32, 3, 5, 26]), 1u32..=40, 1u32..=40),
        (last, half, seed) in (any::<bool>(), any::<bool>(), any::<u64>()),
        rectangle in (0u32..4, 0u32..6, 0u32..4, 0u32..6),
        device in 0usize..5,
        axis in prop::sample::select(vec![Axis::Class, Axis::Height, Axis::Width]),
    ) {
        let ((n, c, h, w), (top, left, bottom, right)) = (sizes, rectangle);
        let (height, width) = (h + top + bottom, w + left + right);
        let whole = if last { Logits::nhwc(n, height, width, c) } else { Logits::nchw(n, c, height, width) };
        let shape = whole.unwrap().crop(top, left, h, w).unwrap();
        let shape = if half { shape.f16() } else { shape };
        let mut random = Random::new(seed);
        let values: Vec<f32> = (0..shape.len()).map(|_| random.below(64) as f32 / 2.0 - 16.0).collect();
        let bytes: Vec<u8> = if half {
            let halves = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes());
            halves.chain([0; 2]).take(shape.bytes() as usize).collect()
        } else {
            bytemuck::cast_slice(&values).to_vec()
        };
        let run = |gpu: &Gpu| -> Result<Vec<Vec<u8>>, Error> {
            let input = upload_bytes(gpu, &bytes);
            let (map, mut recorder) = (shape.map(), Recorder::new(gpu));
            let out = upload_readable(gpu, &vec![0; shape.output().bytes() as usize]);
            let (labels, scores) = (output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
            let outputs =
                Outputs::labels(labels.as_entire_buffer_binding()).entropy(scores.as_entire_buffer_binding());
            let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
            recorder.record(&Softmax::new().axis(axis).dispatch(gpu, &shape, from.clone(), to)?, &[&out]);
            recorder.record(&Argmax::new().dispatch(gpu, &shape, from, outputs)?, &[&labels, &scores]);
            let mut read: Vec<_> = recorder.finish().collect();
            read[1] = unpad_map::<u8>(&map, &read[1]);
            read[2] = bytemuck::cast_slice(&unpad_map::<u32>(&map, &read[2])).to_vec();
            Ok(read)
        };
        let expected = run(gpu()).unwrap();
        if let Some(got) = fitting(run(small_gpu(device))) {
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                prop_assert!(got == expected, "{shape:?} on device {device}: output {i}");
            }
        }
    }

    #[test]
    fn layouts_agree(
        (shape, seed) in tensors(),
        axis in prop::sample::select(vec![Axis::Class, Axis::Height]),
        size in (1u32..24, 1u32..24),
    ) {
        // Multiples of ½ in −32..32 are halves, too.
        let data: Vec<f32> = logits(&shape, seed).into_iter().map(|x| (2.0 * x).round() / 2.0).collect();
        let [softmax, argmax, segment, interpolate, loss] = results(gpu(), &shape, &data, axis, size);
        let (last, values) = classes_last(&shape, &data);
        let of_last = results(gpu(), &last, &values, axis, size);
        prop_assert_eq!(&of_last[1..3], &[argmax.clone(), segment]);
        prop_assert_eq!(&of_last[4], &loss);
        for (tensor, of_last, shape) in [
            (softmax, &of_last[0], shape),
            (interpolate, &of_last[3], Interpolate::new(size.0, size.1).output(&shape).unwrap()),
        ] {
            let tensor: Vec<f32> = tensor.unwrap().into_iter().map(f32::from_bits).collect();
            prop_assert_eq!(&Some(bits(&classes_last(&shape, &tensor).1)), of_last);
        }
        let halves: Vec<u16> = data.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect();
        let of_halves = Argmax::new().confidence(true).entropy(true).run_blocking(gpu(), &shape, Input::f16(&halves));
        let of_halves = of_halves.unwrap();
        let scores = [of_halves.confidence.unwrap(), of_halves.entropy.unwrap()].concat();
        let labels: Vec<u32> = of_halves.labels.iter().collect();
        prop_assert_eq!(Some([labels, bits(&scores)].concat()), argmax);
    }

    #[test]
    fn padding_changes_nothing((shape, seed) in tensors()) {
        let padded = shape.padded().unwrap();
        prop_assert!(layout(&shape, seed, 0.0) == layout(&padded, seed, 0.0), "{shape:?} {seed}");
    }

    #[test]
    fn the_contents_of_padding_change_nothing((shape, seed) in tensors()) {
        let padded = shape.padded().unwrap();
        prop_assert!(layout(&padded, seed, 0.0) == layout(&padded, seed, f32::NAN), "{shape:?} {seed}");
    }
}

/// Softmax, labels and confidence, by bits, of the same logits laid out as `shape` with this padding.
fn layout(shape: &Logits, seed: u64, padding: f32) -> (Vec<u32>, Vec<u8>, Vec<u32>) {
    let (map, mut recorder) = (shape.map(), Recorder::new(gpu()));
    let input = upload_padded_with(gpu(), shape, &logits(shape, seed), padding);
    let out = output(gpu(), shape.bytes());
    let (labels, confidence) = (output(gpu(), map.bytes(8)), output(gpu(), map.bytes(32)));
    let (input, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    recorder.record(&Softmax::new().dispatch(gpu(), shape, input.clone(), to).unwrap(), &[&out]);
    let argmax = Argmax::new().dispatch(gpu(), shape, input, outputs).unwrap();
    recorder.record(&argmax, &[&labels, &confidence]);
    let mut read = recorder.finish();
    let softmax = bits(&unpad_tensor(shape, &read.next().unwrap()));
    let labels = unpad_map::<u8>(&map, &read.next().unwrap());
    (softmax, labels, unpad_map::<u32>(&map, &read.next().unwrap()))
}
