//! The k best classes against their f64 twin: class counts up to 40 and 150, all pixel counts up to 70, every memory
//! layout, ties, special values, and devices that bind little.
//!
//! The error bound of a probability exp(d) / S with d = x − maximum, as `tests/oracle.rs` derives it: the exponential
//! has (6 + 5 |d|) U, the sum with its rescalings 8 U + 4 C U, the quotient 4 U. A result below the smallest normal f32
//! may be flushed to zero, and a distance counts for at most 200: there exp is flushed anyway.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Argmax, ElementType, Error, Gpu, Input, LabelType, Labels, Logits, Map, Outputs, TopClasses, TopK, reference,
};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// What one dispatch is to find.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Logits,
    k: u32,
    labels: LabelType,
    probabilities: bool,
}

impl Case {
    fn operator(&self) -> TopK {
        TopK::new(self.k).label_type(self.labels)
    }

    fn map(&self) -> Map {
        self.operator().map(&self.shape).unwrap()
    }

    /// Buffers for the labels and the probabilities.
    fn buffers(&self, gpu: &Gpu) -> Vec<Buffer> {
        let bits = if self.probabilities { vec![self.labels.bits(), 32] } else { vec![self.labels.bits()] };
        bits.into_iter().map(|bits| output(gpu, self.map().bytes(bits))).collect()
    }

    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>, input: &Buffer) {
        let buffers = self.buffers(gpu);
        let (labels, probabilities) = (buffers[0].as_entire_buffer_binding(), buffers.get(1));
        let probabilities = probabilities.map(Buffer::as_entire_buffer_binding);
        let input = input.as_entire_buffer_binding();
        let dispatch = self.operator().dispatch(gpu, &self.shape, input, labels, probabilities).unwrap();
        recorder.record(&dispatch, &buffers.iter().collect::<Vec<_>>());
    }

    /// Compares the next results with the twin of `data`, packed, N × C × H × W or with the classes last.
    fn check(&self, results: &mut impl Iterator<Item = Vec<u8>>, packed: &Logits, data: &[f32]) {
        let (shape, k) = (&self.shape, self.k as usize);
        let bytes = results.next().unwrap();
        let labels: Vec<u32> = match self.labels {
            LabelType::U8 => unpad_map::<u8>(&self.map(), &bytes).into_iter().map(u32::from).collect(),
            LabelType::U32 => unpad_map(&self.map(), &bytes),
        };
        let (expected_labels, expected) = reference::top_k(packed, data, self.k);
        for (i, (got, expected)) in labels.iter().zip(&expected_labels).enumerate() {
            assert_eq!(got, expected, "{self:?}[{i}]");
        }
        assert_eq!(labels.len(), expected_labels.len());
        if !self.probabilities {
            return;
        }
        let got: Vec<f32> = unpad_map(&self.map(), &results.next().unwrap());
        let (plane, classes) = (shape.pixels() as usize, shape.classes() as usize);
        let logit = |i: usize, label: u32| {
            let (image, pixel, label) = (i / (plane * k), i % plane, label as usize);
            match packed.pixel_stride() > 1 {
                true => data[(image * plane + pixel) * classes + label],
                false => data[(image * classes + label) * plane + pixel],
            }
        };
        let tolerance = |i: usize| {
            // The best class of the pixel is in the first of its maps.
            let best = i / (plane * k) * (plane * k) + i % plane;
            let (x, maximum) = (logit(i, expected_labels[i]), logit(best, expected_labels[best]));
            let distance = (f64::from(maximum) - f64::from(x)).min(200.0);
            expected[i] * (18.0 + 5.0 * distance + 4.0 * classes as f64) * U + FLUSHED
        };
        assert_close(&format!("{self:?}"), &got, &expected, tolerance);
        for (i, p) in got.iter().enumerate().filter(|&(i, _)| logit(i, expected_labels[i]) == -INF) {
            assert!(p.is_nan() || p.to_bits() == 0, "{self:?}[{i}]: −Inf beside finite logits is exactly +0");
        }
    }
}

/// Runs `check` for all class counts, half of them on each device and the interesting ones on both.
fn on_devices(check: impl Fn(&Gpu, u32)) {
    for classes in (1..=40).chain([150, 300]) {
        let both = [1, 2, 3, 7, 8, 9, 21, 24, 25, 150].contains(&classes);
        if both || classes % 2 == 0 {
            check(gpu(), classes);
        }
        if both || classes % 2 == 1 {
            check(default_limits_gpu(), classes);
        }
    }
}

/// Every pixel count up to 70 as one row, then batches and larger images, odd ones among them; packed, padded, and with
/// the classes last.
fn shapes(classes: u32) -> Vec<Logits> {
    let rows = (1..=70).map(|width| (1, 1, width));
    let more = [(2, 3, 5), (3, 4, 4), (1, 33, 61), (2, 17, 31), (1, 64, 80)];
    let packed = rows.chain(more).map(|(images, height, width)| Logits::nchw(images, classes, height, width).unwrap());
    let mut shapes: Vec<_> = packed.flat_map(|shape| [shape, shape.padded().unwrap()]).collect();
    let last = [(1, 1, 1), (1, 1, 6), (2, 3, 5), (1, 4, 8), (2, 13, 17)];
    shapes.extend(last.map(|(images, height, width)| Logits::nhwc(images, height, width, classes).unwrap()));
    shapes
}

#[test]
fn agrees_with_the_twin() {
    on_devices(|gpu, classes| {
        let mut random = Random::new(classes.into());
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for shape in shapes(classes) {
            let data = if random.below(3) == 0 { random.ties(&shape) } else { random.logits(&shape) };
            let wide = classes > 256 || random.below(3) == 0;
            let labels = if wide { LabelType::U32 } else { LabelType::U8 };
            let k = 1 + random.below(classes.min(8));
            let case = Case { shape, k, labels, probabilities: random.below(4) > 0 };
            case.record(gpu, &mut recorder, &upload(gpu, &shape, &data));
            cases.push((case, data));
        }
        let mut results = recorder.finish();
        for (case, data) in cases {
            case.check(&mut results, &case.shape, &data);
        }
    });
}

/// Every k with every kind of access, type of labels and kind of output, over the same logits.
#[test]
fn every_k() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [8, 9, 40] {
            let fours = Logits::nchw(2, classes, 6, 10).unwrap();
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for shape in [fours, Logits::nchw(2, classes, 3, 7).unwrap(), Logits::nhwc(1, 5, 9, classes).unwrap()] {
                let data = Random::new(9).logits(&shape);
                let input = upload(gpu, &shape, &data);
                for k in 1..=8 {
                    for labels in [LabelType::U8, LabelType::U32] {
                        for probabilities in [false, true] {
                            let case = Case { shape, k, labels, probabilities };
                            case.record(gpu, &mut recorder, &input);
                            cases.push((case, data.clone()));
                        }
                    }
                }
            }
            let mut results = recorder.finish();
            for (case, data) in cases {
                case.check(&mut results, &case.shape, &data);
            }
        }
    }
}

/// Rectangles, rows that are apart, both orders of the classes, halves.
fn layouts() -> Vec<Logits> {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    let shapes = [
        nchw(1, 3, 64, 80),
        nchw(1, 3, 37, 53),
        nchw(1, 3, 37, 53).padded().unwrap(),
        nchw(1, 30, 41, 28),
        nchw(7, 30, 5, 9),
        nchw(3, 9, 61, 60),
        nchw(4, 8, 12, 20),
        nchw(5, 1, 33, 37),
        nhwc(1, 37, 53, 3),
        nhwc(2, 19, 23, 30),
        nchw(2, 3, 40, 50).crop(3, 7, 30, 41).unwrap(),
        nchw(1, 30, 40, 48).crop(4, 8, 33, 40).unwrap(),
        nchw(2, 9, 40, 50).crop(5, 0, 30, 50).unwrap(),
        nhwc(2, 30, 31, 5).crop(2, 9, 21, 17).unwrap(),
        nchw(1, 3, 33, 50).with_row_stride(64).unwrap(),
    ];
    shapes.into_iter().flat_map(|shape| [shape, shape.f16()]).collect()
}

/// A buffer of `shape` full of random elements, and those of them that are its pixels, N × C × H × W.
fn random_all(gpu: &Gpu, shape: &Logits, seed: u64) -> (Buffer, Logits, Vec<f32>) {
    let mut random = Random::new(seed);
    let mut values: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
    let buffer = match shape.element_type() {
        ElementType::F32 => upload_bytes(gpu, bytemuck::cast_slice(&values)),
        ElementType::F16 => {
            let mut halves: Vec<half::f16> = values.iter().map(|&x| half::f16::from_f32(x)).collect();
            values = halves.iter().map(|x| x.to_f32()).collect();
            halves.resize(halves.len().next_multiple_of(2), half::f16::ZERO);
            let bits: Vec<u16> = halves.iter().map(|x| x.to_bits()).collect();
            upload_bytes(gpu, bytemuck::cast_slice(&bits))
        }
    };
    let (images, classes) = (shape.images(), shape.classes());
    let packed = Logits::nchw(images, classes, shape.height(), shape.width()).unwrap();
    let mut data = Vec::new();
    for image in 0..images {
        for class in 0..classes {
            for row in 0..shape.height() {
                for column in 0..shape.width() {
                    let at = shape.offset()
                        + image * shape.image_stride()
                        + class * shape.plane_stride()
                        + row * shape.row_stride()
                        + column * shape.pixel_stride();
                    data.push(values[at as usize]);
                }
            }
        }
    }
    (buffer, packed, data)
}

#[test]
fn every_layout() {
    for gpu in [gpu(), default_limits_gpu()] {
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, shape) in layouts().into_iter().enumerate() {
            let k = shape.classes().min(1 + i as u32 % 8);
            let (input, packed, data) = random_all(gpu, &shape, i as u64);
            let case = Case { shape, k, labels: LabelType::U8, probabilities: true };
            case.record(gpu, &mut recorder, &input);
            cases.push((case, packed, data));
        }
        let mut results = recorder.finish();
        for (case, packed, data) in cases {
            case.check(&mut results, &packed, &data);
        }
    }
}

/// The second NaN is negative, signalling and has a payload; 1e-38 is subnormal.
#[rustfmt::skip]
const VALUES: [f32; 19] = [
    INF, -INF, NAN, f32::from_bits(0xff80_0001), 0.0, -0.0, f32::from_bits(1), -f32::from_bits(1), 1e-38, -1e-38,
    f32::MAX, f32::MIN, 88.0, -88.0, 104.0, -104.0, 200.0, -1.5, 1.25,
];

/// All triples of [`VALUES`] as pixels, other classes ordinary in even pixels and −Inf in odd ones.
fn triples(shape: &Logits) -> Vec<f32> {
    let (plane, classes) = (shape.pixels() as usize, shape.classes() as usize);
    let mut data = Random::new(shape.classes().into()).logits(shape);
    for i in 0..plane {
        (0..classes).filter(|_| i % 2 == 1).for_each(|c| data[c * plane + i] = -INF);
        for (place, divisor) in [0, (classes - 1) / 2, classes - 1].into_iter().zip([1, 19, 361]) {
            data[place * plane + i] = VALUES[i / divisor % 19];
        }
    }
    data
}

#[test]
fn special_values() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [1, 2, 3, 8, 24, 25, 30] {
            // Read one element at a time, and four.
            let odd = Logits::chw(classes, 19, 19 * 19).unwrap();
            for shape in [odd, odd.padded().unwrap(), Logits::chw(classes, 2, 3428).unwrap()] {
                let data = triples(&shape);
                let input = upload(gpu, &shape, &data);
                let mut recorder = Recorder::new(gpu);
                let ks: Vec<_> = [1, 2, 3, 5, 8].into_iter().filter(|&k| k <= classes).collect();
                let case = |&k: &u32| Case { shape, k, labels: LabelType::U8, probabilities: true };
                ks.iter().for_each(|k| case(k).record(gpu, &mut recorder, &input));
                let mut results = recorder.finish();
                ks.iter().for_each(|k| case(k).check(&mut results, &shape, &data));
            }
        }
    }
}

#[test]
fn ties_nan_and_infinities_by_hand() {
    for gpu in [gpu(), default_limits_gpu()] {
        let found = |x: [f32; 5]| {
            let top = TopK::new(3).probabilities(true);
            let found = top.run_blocking(gpu, &Logits::chw(5, 1, 1).unwrap(), &x).unwrap();
            (found.labels.iter().collect::<Vec<_>>(), found.probabilities.unwrap())
        };
        let labels = |x| found(x).0;
        assert_eq!(labels([1.0; 5]), [0, 1, 2]);
        assert_eq!(labels([0.0, -0.0, 0.0, -0.0, -1.0]), [0, 1, 2]);
        assert_eq!(labels([-0.0, 0.0, -1.0, 1.0, 1.0]), [3, 4, 0]);
        assert_eq!(labels([-INF; 5]), [0, 1, 2]);
        assert_eq!(labels([1.0, INF, NAN, 2.0, NAN]), [2, 4, 1]);
        assert_eq!(labels([0.0, 1e-45, -1e-45, 1e-40, 0.0]), [3, 1, 0]);
        let (order, p) = found([-INF, 0.0, -INF, -INF, 0.0]);
        assert_eq!((order, bits(&p)), (vec![1, 4, 0], bits(&[0.5, 0.5, 0.0])));
        for undefined in [[NAN, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, INF, 0.0, 0.0], [-INF; 5]] {
            assert!(found(undefined).1.iter().all(|p| p.is_nan()), "{undefined:?}");
        }
    }
}

/// One class is what argmax finds.
#[test]
fn one_is_argmax() {
    let mut random = Random::new(17);
    for classes in [1, 3, 24, 25, 150, 300] {
        let shape = Logits::nchw(2, classes, 13, 17).unwrap();
        for data in [random.logits(&shape), random.ties(&shape)] {
            let argmax = Argmax::new().confidence(true).run_blocking(gpu(), &shape, &data).unwrap();
            let top = TopK::new(1).probabilities(true).run_blocking(gpu(), &shape, &data).unwrap();
            assert_eq!(top.labels, argmax.labels);
            let confidence: Vec<f64> = argmax.confidence.unwrap().into_iter().map(f64::from).collect();
            // Both have at most the error of the sum and of the quotient.
            let tolerance = |i: usize| confidence[i] * 2.0 * (12.0 + 4.0 * f64::from(classes)) * U;
            assert_close("confidence", &top.probabilities.unwrap(), &confidence, tolerance);
        }
    }
}

fn limited(max_storage_buffer_binding_size: u64, max_buffer_size: u64) -> Gpu {
    watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size,
        max_uniform_buffer_binding_size: max_storage_buffer_binding_size,
        max_buffer_size,
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    })
}

const GUARD: u64 = 256;

/// The bytes of all maps, which lie between two guards that stay as they are.
fn dispatched(gpu: &Gpu, case: &Case, seed: u64) -> Result<Vec<Vec<u8>>, Error> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let sizes = if case.probabilities { vec![case.labels.bits(), 32] } else { vec![case.labels.bits()] };
    let guarded = |&bits: &u32| {
        let bytes = 2 * GUARD + case.map().bytes(bits);
        let guarded = buffer(gpu, bytes, usage);
        gpu.queue().write_buffer(&guarded, 0, &vec![0xa5; bytes as usize]);
        guarded
    };
    let outputs: Vec<Buffer> = sizes.iter().map(guarded).collect();
    let between = |buffer| BufferBinding { buffer, offset: GUARD, size: None };
    let input = random_all(gpu, &case.shape, seed).0;
    let (input, probabilities) = (input.as_entire_buffer_binding(), outputs.get(1).map(between));
    let dispatch = case.operator().dispatch(gpu, &case.shape, input, between(&outputs[0]), probabilities)?;
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &outputs.iter().collect::<Vec<_>>());
    let unguarded = |(bytes, bits): (Vec<u8>, u32)| {
        let (front, rest) = bytes.split_at(GUARD as usize);
        let (maps, back) = rest.split_at(rest.len() - GUARD as usize);
        assert!(front.iter().chain(back).all(|&byte| byte == 0xa5), "{case:?}: something beside the maps is written");
        // The padding of a map may hold anything.
        match bits {
            8 => unpad_map::<u8>(&case.map(), maps),
            _ => bytemuck::cast_slice(&unpad_map::<u32>(&case.map(), maps)).to_vec(),
        }
    };
    Ok(recorder.finish().zip(sizes).map(unguarded).collect())
}

/// Tensors and maps that the device cannot bind at once: bit for bit what one at default limits writes.
#[test]
fn windows() {
    for bytes in [4096, 16384, 65536] {
        let gpu = limited(bytes, 1 << 28);
        for shape in layouts() {
            // Where argmax has a row that does not fit, so have the k best; no other reason is one.
            let input = buffer(&gpu, shape.bytes(), BufferUsages::STORAGE);
            let map = buffer(&gpu, shape.map().bytes(32), BufferUsages::STORAGE);
            let outputs = Outputs::labels(map.as_entire_buffer_binding());
            let argmax = Argmax::new().dispatch(&gpu, &shape, input.as_entire_buffer_binding(), outputs);
            for (i, k) in [1, 2, 3, 8].into_iter().filter(|&k| k <= shape.classes()).enumerate() {
                let labels = if i % 2 == 0 { LabelType::U8 } else { LabelType::U32 };
                for probabilities in [false, true] {
                    let case = Case { shape, k, labels, probabilities };
                    match dispatched(&gpu, &case, bytes) {
                        Ok(got) => {
                            let expected = dispatched(default_limits_gpu(), &case, bytes).unwrap();
                            assert!(got == expected, "{bytes} {case:?}");
                        }
                        Err(error) => {
                            assert!(bytes < 65536 && matches!(error, Error::Limit { .. }), "{bytes} {case:?}: {error}");
                            assert!(argmax.is_err(), "{bytes} {case:?}: {error}");
                        }
                    }
                }
            }
        }
    }
}

/// Bands of the one-shot functions, and limits of the grid: bit for bit what a device at default limits returns.
#[test]
fn bands() {
    let run = |gpu: &Gpu, shape: &Logits, data: &[f32], k: u32| -> TopClasses {
        TopK::new(k).probabilities(k != 2).run_blocking(gpu, shape, data).unwrap()
    };
    let few = wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() };
    let small = [limited(4096, 8192), limited(4096, 4096), limited(16384, 1 << 20), watched_gpu(few)];
    let first = [(1, 3, 37, 53), (3, 3, 16, 40), (2, 30, 9, 17), (1, 30, 1, 1025), (1, 3, 2051, 1), (7, 9, 3, 5)];
    let first = first.into_iter().map(|(n, c, h, w)| Logits::nchw(n, c, h, w).unwrap());
    let last = [(2, 37, 53, 3), (1, 19, 23, 30)].map(|(n, h, w, c)| Logits::nhwc(n, h, w, c).unwrap());
    for shape in first.chain(last) {
        let data = Random::new(5).logits(&shape);
        for k in [1, 2, 3, 8].into_iter().filter(|&k| k <= shape.classes()) {
            let expected = run(default_limits_gpu(), &shape, &data, k);
            let (labels, p) = reference::top_k(&shape, &data, k);
            assert!(expected.labels.iter().eq(labels), "{shape:?} {k}");
            assert_eq!(expected.probabilities.as_ref().map(Vec::len), (k != 2).then_some(p.len()));
            for gpu in &small {
                let got = run(gpu, &shape, &data, k);
                assert!(got == expected, "{shape:?} {k}");
            }
        }
    }
}

/// A crop, halves and a reader on the host: what the same pixels, packed, return.
#[test]
fn inputs() {
    let whole = Logits::nchw(2, 9, 20, 24).unwrap();
    let crop = whole.crop(3, 5, 11, 13).unwrap();
    let mut random = Random::new(11);
    let halves: Vec<u16> = (0..whole.len()).map(|_| half::f16::from_f32(random.logit()).to_bits()).collect();
    let data: Vec<f32> = halves.iter().map(|&bits| half::f16::from_bits(bits).to_f32()).collect();
    let packed = Logits::nchw(2, 9, 11, 13).unwrap();
    let mut pixels = Vec::new();
    for plane in data.chunks_exact(20 * 24) {
        plane.chunks_exact(24).skip(3).take(11).for_each(|row| pixels.extend_from_slice(&row[5..18]));
    }
    let (labels, p) = reference::top_k(&packed, &pixels, 4);
    let small = limited(4096, 8192);
    for gpu in [gpu(), default_limits_gpu(), &small] {
        let operator = TopK::new(4).label_type(LabelType::U32).probabilities(true);
        let read = |first: u64, bytes: &mut [u8]| {
            let start = first as usize * 4;
            bytes.copy_from_slice(&bytemuck::cast_slice(&data)[start..start + bytes.len()]);
            Ok(())
        };
        let reader = Input::reader(ElementType::F32, data.len() as u64, read);
        for input in [Input::from(&data), Input::f16(&halves), reader] {
            let found = operator.run_blocking(gpu, &crop, input).unwrap();
            assert!(matches!(&found.labels, Labels::U32(_)) && found.labels.iter().eq(labels.iter().copied()));
            assert_close("p", &found.probabilities.unwrap(), &p, |i| p[i] * 1000.0 * U + FLUSHED);
        }
    }
}

/// Some adapters end the loops of a shader early: results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [7281, 7282, 65536] {
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let mut data = Random::new(7).logits(&shape);
        let last = data.len() - 3;
        data[last..].copy_from_slice(&[100.0, NAN, 99.0]);
        match TopK::new(8).run_blocking(gpu(), &shape, &data) {
            Ok(found) => assert!(found.labels.iter().eq(reference::top_k(&shape, &data, 8).0), "{classes} classes"),
            Err(error) => assert!(classes > 7281 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
        }
    }
}

#[test]
fn k_is_checked() {
    let gpu = gpu();
    for (k, classes, most) in [(0, 5, 5), (6, 5, 5), (9, 21, 8), (u32::MAX, 300, 8), (2, 1, 1)] {
        let shape = Logits::chw(classes, 1, 4).unwrap();
        let operator = TopK::new(k);
        let data = vec![0.0; 4 * classes as usize];
        let out = buffer(gpu, 4096, BufferUsages::STORAGE);
        let (input, labels) = (upload_bytes(gpu, &[0; 4800]), out.as_entire_buffer_binding());
        let errors = [
            operator.map(&shape).unwrap_err(),
            operator.dispatch(gpu, &shape, input.as_entire_buffer_binding(), labels, None).unwrap_err(),
            operator.run_blocking(gpu, &shape, &data).unwrap_err(),
        ];
        for error in errors {
            let Error::TopK { limit, classes: of, found } = error else { panic!("{error}") };
            assert_eq!((limit, of, found), (most, classes, k));
        }
    }
    let error = TopK::new(4).map(&Logits::chw(3, 1, 1).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "k of top-k: expected 1..=3 with 3 classes, found 4");
}

#[test]
fn buffers_are_checked() {
    let gpu = gpu();
    let shape = Logits::nchw(2, 5, 3, 3).unwrap(); // maps of 12 pixels, 6 of them
    let operator = TopK::new(3);
    let input = upload_bytes(gpu, &[0; 360]);
    let out = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let run = |operator: TopK, labels: &Buffer, p: Option<&Buffer>| {
        let p = p.map(Buffer::as_entire_buffer_binding);
        operator.dispatch(gpu, &shape, input.as_entire_buffer_binding(), labels.as_entire_buffer_binding(), p)
    };
    assert!(run(operator, &out(72), Some(&out(288))).is_ok());
    let error = run(operator, &out(68), None).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "labels", needed: 72, found: 68, .. }), "{error}");
    let error = run(operator.label_type(LabelType::U32), &out(284), None).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "labels", needed: 288, found: 284, .. }), "{error}");
    let error = run(operator, &out(72), Some(&out(284))).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "probabilities", needed: 288, .. }), "{error}");
    let both = out(288);
    let error = run(operator, &both, Some(&both)).unwrap_err();
    assert!(matches!(error, Error::Aliased { .. }), "{error}");
    let unusable = buffer(gpu, 288, BufferUsages::COPY_DST);
    let error = run(operator, &unusable, None).unwrap_err();
    assert!(matches!(error, Error::Usage { what: "labels", .. }), "{error}");

    let many = Logits::chw(257, 1, 1).unwrap();
    let narrow = TopK::new(2).label_type(LabelType::U8);
    let error = narrow.run_blocking(gpu, &many, &[0.0; 257]).unwrap_err();
    assert!(matches!(error, Error::LabelType { bits: 8, limit: 256, classes: 257 }), "{error}");
    let error = operator.run_blocking(gpu, &shape, &[0.0; 89]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "logits", expected: 90, found: 89 }), "{error}");
    // 2³¹ pixels of a map can be counted, 16 of them cannot.
    let huge = Logits::nchw(1, 2, 1 << 15, 1 << 15).unwrap().crop(0, 0, 1, 1).unwrap();
    assert!(TopK::new(2).map(&huge).is_ok());
    let rows_of_four = Logits::nchw(1, 2, 1 << 29, 1).unwrap().with_row_stride(2).unwrap();
    let error = TopK::new(2).map(&rows_of_four).unwrap_err();
    assert!(matches!(error, Error::Limit { what: "pixels of the result", needed: 0x1_0000_0000, .. }), "{error}");
}

/// The maps of a crop have padded rows; argmax writes the same into the first map.
#[test]
fn maps_of_a_crop() {
    let shape = Logits::nchw(2, 5, 8, 9).unwrap().crop(1, 2, 5, 6).unwrap();
    let (one, maps) = (shape.map(), TopK::new(3).map(&shape).unwrap());
    assert_eq!((maps.row_stride(), maps.image_stride()), (one.row_stride(), one.image_stride()));
    assert_eq!((maps.images(), maps.height(), maps.width()), (6, 5, 6));
    let gpu = gpu();
    let (input, ..) = random_all(gpu, &shape, 3);
    let (first, all) = (output(gpu, one.bytes(8)), output(gpu, maps.bytes(8)));
    let from = || input.as_entire_buffer_binding();
    let outputs = Outputs::labels(first.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    recorder.record(&Argmax::new().dispatch(gpu, &shape, from(), outputs).unwrap(), &[&first]);
    let work = TopK::new(3).dispatch(gpu, &shape, from(), all.as_entire_buffer_binding(), None).unwrap();
    recorder.record(&work, &[&all]);
    let read: Vec<_> = recorder.finish().collect();
    let first: Vec<u8> = unpad_map(&one, &read[0]);
    let all: Vec<u8> = unpad_map(&maps, &read[1]);
    assert_eq!([&all[..30], &all[90..120]].concat(), first);
}

#[test]
fn futures_are_send() {
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    let shape = Logits::chw(2, 1, 1).unwrap();
    let data = [0.0, 1.0];
    drop(sendable(TopK::new(1).run(gpu(), &shape, &data)));
}
