//! Masks of the classes that are present: the twin on awkward shapes, cut-offs to the last bit, bands, windows, errors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages};
use seghead::{ElementType, Error, Gpu, Input, Logits, MaskFormat, Masks, MultiLabel, reference};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const OTHER_NAN: f32 = f32::from_bits(0xff80_0001);
const TINY: f32 = f32::from_bits(1);
const FORMATS: [MaskFormat; 2] = [MaskFormat::Bytes, MaskFormat::Bits];

/// Logits that f16 has as well, N × C × H × W.
fn logits(random: &mut Random, shape: &Logits) -> Vec<f32> {
    (0..elements(shape)).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect()
}

fn thresholds(random: &mut Random, classes: u32) -> Vec<f32> {
    (0..classes).map(|_| random.below(1001) as f32 / 1000.0).collect()
}

/// The twin in a format.
fn expected(shape: &Logits, data: &[f32], thresholds: &[f32], format: MaskFormat) -> Masks {
    let classes = shape.classes() as usize;
    let packed = Logits::nchw(shape.images(), shape.classes(), shape.height(), shape.width()).unwrap();
    let each = if thresholds.len() == 1 { vec![thresholds[0]; classes] } else { thresholds.to_vec() };
    masks_of(&packed, &reference::multi_label(&packed, data, &each), format)
}

fn masks_of(packed: &Logits, present: &[bool], format: MaskFormat) -> Masks {
    if format == MaskFormat::Bytes {
        return Masks::Bytes(present.iter().map(|&present| present.into()).collect());
    }
    let (classes, plane) = (packed.classes() as usize, packed.pixels() as usize);
    let words = classes.div_ceil(32);
    let mut masks = vec![0u32; packed.images() as usize * words * plane];
    for (i, _) in present.iter().enumerate().filter(|(_, present)| **present) {
        let (pixel, c, image) = (i % plane, i / plane % classes, i / plane / classes);
        masks[(image * words + c / 32) * plane + pixel] |= 1 << (c % 32);
    }
    Masks::Bits(masks)
}

/// The pixels of a buffer of masks.
fn unpad(shape: &Logits, bytes: &[u8], format: MaskFormat) -> Masks {
    let map = shape.map();
    let plane = map.bytes(format.bits()) as usize / map.images() as usize;
    assert_eq!(bytes.len(), plane * (shape.images() * format.planes(shape.classes())) as usize);
    let (stride, width, height) = (map.row_stride() as usize, map.width() as usize, map.height() as usize);
    match format {
        MaskFormat::Bytes => {
            let of_plane = |plane: &[u8]| plane.chunks(stride).take(height).flat_map(|r| r[..width].to_vec()).collect();
            Masks::Bytes(bytes.chunks(plane).flat_map(|plane| -> Vec<u8> { of_plane(plane) }).collect())
        }
        MaskFormat::Bits => {
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
            let of_plane =
                |plane: &[u32]| plane.chunks(stride).take(height).flat_map(|r| r[..width].to_vec()).collect();
            Masks::Bits(words.chunks(plane / 4).flat_map(|plane| -> Vec<u32> { of_plane(plane) }).collect())
        }
    }
}

fn dispatch(
    gpu: &Gpu,
    operator: &MultiLabel,
    shape: &Logits,
    input: &wgpu::Buffer,
    masks: &wgpu::Buffer,
) -> Result<seghead::Dispatch, Error> {
    operator.dispatch(gpu, shape, input.as_entire_buffer_binding(), masks.as_entire_buffer_binding())
}

#[test]
fn oracle() {
    for classes in [1, 2, 3, 4, 5, 8, 21, 24, 25, 31, 32, 33, 40, 63, 64, 65, 150] {
        for gpu in [gpu(), default_limits_gpu()] {
            let mut random = Random::new(u64::from(classes));
            let mut recorder = Recorder::new(gpu);
            let mut cases = Vec::new();
            for (i, shape) in awkward_shapes(classes).into_iter().enumerate() {
                let data = logits(&mut random, &shape);
                let thresholds = match i % 3 {
                    0 => vec![0.5],
                    1 => vec![random.below(1001) as f32 / 1000.0],
                    _ => thresholds(&mut random, classes),
                };
                let input = upload_laid(gpu, &shape, &data);
                for format in FORMATS {
                    let operator = MultiLabel::new().thresholds(thresholds.clone()).format(format);
                    let masks = output(gpu, format.bytes(&shape));
                    recorder.record(&dispatch(gpu, &operator, &shape, &input, &masks).unwrap(), &[&masks]);
                    cases.push((shape, expected(&shape, &data, &thresholds, format), format));
                }
            }
            let results = recorder.finish();
            for ((shape, expected, format), bytes) in cases.into_iter().zip(results) {
                assert_eq!(unpad(&shape, &bytes, format), expected, "{shape:?}");
            }
        }
    }
}

/// Thresholds with the bits of the smallest f32 that reaches them, computed with 60 decimal digits: that logit and
/// those beside it, in every lane of a group and as every class. 0.5 has subnormals and zeros beside it.
#[test]
fn cut_offs() {
    let cases = [
        (f32::from_bits(1), 0xc2ce_8ecfu32),
        (f32::MIN_POSITIVE, 0xc2ae_ac4f),
        (0.001, 0xc0dd_0422),
        (0.1, 0xc00c_9f53),
        (0.25, 0xbf8c_9f53),
        (0.3, 0xbf58_e882),
        (f32::from_bits(0x3eff_ffff), 0xb400_0000),
        (f32::from_bits(0x3f00_0001), 0x3480_0001),
        (0.7, 0x3f58_e883),
        (0.75, 0x3f8c_9f54),
        (0.9, 0x400c_9f53),
        (0.99, 0x4093_0b3b),
        (f32::from_bits(0x3f7f_ffff), 0x4185_1592),
    ];
    let mut rules: Vec<(f32, f32, bool)> = Vec::new();
    for (threshold, bits) in cases {
        let first = f32::from_bits(bits);
        rules.extend([
            (threshold, first, true),
            (threshold, first.next_up(), true),
            (threshold, first.next_down(), false),
        ]);
        rules.extend([(threshold, INF, true), (threshold, f32::MAX, true), (threshold, f32::MIN, false)]);
    }
    #[rustfmt::skip]
    rules.extend([
        (0.5, 0.0, true), (0.5, -0.0, true), (0.5, TINY, true), (0.5, -TINY, false), (0.5, 1e-38, true),
        (0.5, -1e-38, false), (0.5, f32::MIN_POSITIVE, true), (0.5, -f32::MIN_POSITIVE, false),
        (0.0, -INF, true), (0.0, f32::MIN, true), (0.0, 0.0, true), (0.0, INF, true), (-0.0, -INF, true),
        (1.0, INF, true), (1.0, f32::MAX, false), (1.0, 100.0, false), (1.0, -INF, false),
        (TINY, -INF, false), (0.5, -INF, false),
    ]);
    for threshold in [0.0, TINY, 0.3, 0.5, 0.9, 1.0] {
        rules.extend([(threshold, NAN, false), (threshold, OTHER_NAN, false), (threshold, -NAN, false)]);
    }
    for classes in [1usize, 3, 24, 33] {
        // Pixel i is about rule i, in all classes; the threshold of all classes is that of the rule.
        for &(threshold, x, present) in &rules {
            let shape = Logits::chw(classes as u32, 1, 5).unwrap();
            let mut data = vec![-200.0; classes * 5];
            for i in [1, 3, 4] {
                (0..classes).for_each(|c| data[c * 5 + i] = x);
            }
            let others = threshold == 0.0;
            let pixel = |i: usize| if [1, 3, 4].contains(&i) { present } else { others };
            let wanted: Vec<bool> = (0..classes * 5).map(|i| pixel(i % 5)).collect();
            for format in FORMATS {
                let operator = MultiLabel::new().threshold(threshold).format(format);
                let expected = masks_of(&shape, &wanted, format);
                for gpu in [gpu(), default_limits_gpu()] {
                    let found = operator.run_blocking(gpu, &shape, &data).unwrap();
                    assert_eq!(found, expected, "{x:e} reaches {threshold:e}: {present}");
                }
            }
        }
    }
    // The twin agrees but within the rounding errors of f64 around 0.5.
    for &(threshold, x, present) in rules.iter().filter(|rule| rule.0 < 0.499 || rule.0 > 0.501 || rule.0 == 0.5) {
        let shape = Logits::chw(1, 1, 1).unwrap();
        assert_eq!(reference::multi_label(&shape, &[x], &[threshold]), [present], "{x:e} {threshold:e}");
    }
}

/// Subnormal halves, infinities and NaN.
#[test]
fn special_halves() {
    let bits: [u16; 10] = [0x0001, 0x8001, 0x03ff, 0x83ff, 0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe00];
    let present = [1, 0, 1, 0, 1, 1, 1, 0, 0, 0];
    for gpu in [gpu(), default_limits_gpu()] {
        for shape in [Logits::chw(1, 1, 10).unwrap(), Logits::chw(10, 1, 1).unwrap(), Logits::hwc(1, 2, 5).unwrap()] {
            let found = MultiLabel::new().run_blocking(gpu, &shape, Input::f16(&bits)).unwrap();
            let mut expected = present.to_vec();
            if shape.width() == 2 {
                // Planes of two pixels, whose classes are neighbours in the input.
                expected = (0..10).map(|i| present[i % 2 * 5 + i / 2]).collect();
            }
            assert_eq!(found, Masks::Bytes(expected), "{shape:?}");
        }
    }
}

/// A binary network: the plane is the foreground mask.
#[test]
fn foreground() {
    let shape = Logits::chw(1, 2, 3).unwrap();
    let data = [3.0, -1.0, 0.0, -0.5, 0.9, 7.0];
    let run = |format| MultiLabel::new().threshold(0.7).format(format).run_blocking(gpu(), &shape, &data).unwrap();
    assert_eq!(run(MaskFormat::Bytes), Masks::Bytes(vec![1, 0, 0, 0, 1, 1]));
    assert_eq!(run(MaskFormat::Bits), Masks::Bits(vec![1, 0, 0, 0, 1, 1]));
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

fn large_shapes() -> Vec<Logits> {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    vec![
        nchw(1, 3, 64, 80),
        nchw(1, 3, 37, 53),
        nchw(1, 40, 41, 28),
        nchw(7, 30, 5, 9),
        nchw(3, 3, 61, 60),
        nchw(5, 1, 33, 37),
        nhwc(1, 37, 53, 3),
        nhwc(2, 19, 23, 70),
        // Planes of one pixel: masks are as large as the logits.
        nchw(5, 300, 1, 1),
        nchw(9, 170, 1, 2),
        nchw(2, 3, 40, 50).crop(3, 7, 30, 41).unwrap(),
        nchw(1, 30, 40, 48).crop(4, 8, 33, 40).unwrap(),
        nhwc(2, 30, 31, 5).crop(2, 9, 21, 17).unwrap(),
        // Columns: the rows of the masks are four times as long.
        nchw(2, 35, 20, 2).crop(0, 1, 20, 1).unwrap(),
        nchw(1, 3, 33, 50).with_row_stride(64).unwrap(),
    ]
}

#[test]
fn bands() {
    for bytes in [4096, 16384] {
        let gpu = limited(bytes, 2 * bytes);
        let mut refused = 0;
        for shape in large_shapes() {
            let mut random = Random::new(bytes);
            let data: Vec<f32> = (0..shape.len()).map(|_| half::f16::from_f32(random.logit()).to_f32()).collect();
            let thresholds = thresholds(&mut random, shape.classes());
            for format in FORMATS {
                let operator = MultiLabel::new().thresholds(thresholds.clone()).format(format);
                let packed: Vec<f32> = places(&shape).map(|at| data[at]).collect();
                let expected = expected(&shape, &packed, &thresholds, format);
                assert_eq!(operator.run_blocking(default_limits_gpu(), &shape, &data).unwrap(), expected, "{shape:?}");
                let bits = halves(&data);
                let read = |first: u64, bytes: &mut [u8]| {
                    let first = first as usize * 4;
                    bytes.copy_from_slice(&bytemuck::cast_slice(&data)[first..first + bytes.len()]);
                    Ok(())
                };
                let reader = Input::reader(ElementType::F32, data.len() as u64, read);
                for input in [Input::from(&data), Input::f16(&bits), reader] {
                    match operator.run_blocking(&gpu, &shape, input) {
                        Ok(found) => assert_eq!(found, expected, "{bytes} {shape:?}"),
                        // Four pixels of 300 classes.
                        Err(Error::Limit { needed: 4800, limit: 4096, .. }) => refused += 1,
                        Err(error) => panic!("{bytes} {shape:?}: {error}"),
                    }
                }
            }
        }
        assert!(refused <= 4, "{refused} refused");
    }
}

/// Dispatches that cannot be bound at once write the same masks, and nothing behind them.
#[test]
fn windows() {
    for bytes in [4096, 16384, 65536] {
        let small = limited(bytes, 1 << 28);
        let mut refused = 0;
        for shape in large_shapes().into_iter().flat_map(|shape| [shape, shape.f16()]) {
            let mut random = Random::new(bytes);
            let data = logits(&mut random, &shape);
            let thresholds = thresholds(&mut random, shape.classes());
            for format in FORMATS {
                let operator = MultiLabel::new().thresholds(thresholds.clone()).format(format);
                let size = format.bytes(&shape);
                let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
                let masks = buffer(&small, size + 1024, usage);
                small.queue().write_buffer(&masks, 0, &vec![0xa5; size as usize + 1024]);
                let input = upload_laid(&small, &shape, &data);
                let work = match dispatch(&small, &operator, &shape, &input, &masks) {
                    Ok(work) => work,
                    Err(Error::Limit { needed, limit, .. }) if bytes < 65536 && needed > limit => {
                        refused += 1;
                        continue;
                    }
                    Err(error) => panic!("{bytes} {shape:?}: {error}"),
                };
                let mut recorder = Recorder::new(&small);
                recorder.record(&work, &[&masks]);
                let read = recorder.finish().next().unwrap();
                let (found, behind) = read.split_at(size as usize);
                let expected = expected(&shape, &data, &thresholds, format);
                assert_eq!(unpad(&shape, found, format), expected, "{bytes} {shape:?} {format:?}");
                assert!(behind.iter().all(|&byte| byte == 0xa5), "{bytes} {shape:?} {format:?}");
            }
        }
        let most = if bytes == 4096 { large_shapes().len() } else { 4 };
        assert!(refused <= most, "{bytes}: {refused} refused");
    }
}

/// A device that allows few workgroups in one dimension: the grid goes on in the second, images in the next dispatch.
#[test]
fn few_workgroups() {
    let few = watched_gpu(wgpu::Limits { max_compute_workgroups_per_dimension: 5, ..wgpu::Limits::defaults() });
    for shape in [Logits::chw(3, 70, 110).unwrap(), Logits::nchw(7, 40, 3, 5).unwrap()] {
        let data = Random::new(5).logits(&shape);
        for format in FORMATS {
            let operator = MultiLabel::new().threshold(0.4).format(format);
            assert_eq!(operator.run_blocking(&few, &shape, &data).unwrap(), expected(&shape, &data, &[0.4], format));
        }
    }
}

/// Some adapters end the loops of a shader early. With any number of classes results are right or refused.
#[test]
fn very_many_classes() {
    for classes in [32767, 32768, 65535, 65536, 262_145] {
        let shape = Logits::chw(classes, 1, 3).unwrap();
        let data = Random::new(7).ties(&shape);
        for format in FORMATS {
            match MultiLabel::new().format(format).run_blocking(gpu(), &shape, &data) {
                Ok(found) => assert!(found == expected(&shape, &data, &[0.5], format), "{classes} {format:?}"),
                Err(error) => assert!(classes > 32767 && matches!(error, Error::Limit { .. }), "{classes}: {error}"),
            }
        }
    }
}

#[test]
fn errors() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let data = [0.0; 48];
    for threshold in [-0.1, 1.1, NAN, INF, -INF, -TINY] {
        let error = MultiLabel::new().thresholds(vec![0.5, threshold, 0.5]).run_blocking(gpu, &shape, &data);
        let Err(Error::Value { what: "threshold", found, .. }) = error else { panic!("{error:?}") };
        assert!(found.to_bits() == threshold.to_bits());
    }
    for count in [0usize, 2, 4] {
        let error = MultiLabel::new().thresholds(vec![0.5; count]).run_blocking(gpu, &shape, &data).unwrap_err();
        let n = count as u64;
        assert!(matches!(error, Error::Length { what: "thresholds", expected: 3, found } if found == n), "{error}");
    }
    let error = MultiLabel::new().run_blocking(gpu, &shape, &[0.0; 47]).unwrap_err();
    assert!(matches!(error, Error::Length { what: "logits", expected: 48, found: 47 }), "{error}");

    let storage = |bytes| buffer(gpu, bytes, BufferUsages::STORAGE);
    let (input, masks) = (storage(192), storage(48));
    let try_with = |operator: &MultiLabel, input: &wgpu::Buffer, masks: &wgpu::Buffer| {
        dispatch(gpu, operator, &shape, input, masks).map(|_| ())
    };
    let operator = MultiLabel::new();
    assert!(try_with(&operator, &input, &masks).is_ok());
    let error = try_with(&operator, &input, &storage(44)).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "masks", needed: 48, found: 44, .. }), "{error}");
    let error = try_with(&operator.clone().format(MaskFormat::Bits), &input, &masks).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "masks", needed: 64, found: 48, .. }), "{error}");
    let error = try_with(&operator, &storage(188), &masks).unwrap_err();
    assert!(matches!(error, Error::BufferTooSmall { what: "logits", needed: 192, found: 188, .. }), "{error}");
    let error = try_with(&operator, &input, &input).unwrap_err();
    assert!(matches!(error, Error::Aliased { written: "masks", other: "logits" }), "{error}");
    let error = try_with(&operator, &input, &buffer(gpu, 48, BufferUsages::UNIFORM)).unwrap_err();
    assert!(matches!(error, Error::Usage { what: "masks", .. }), "{error}");
    let error = try_with(&operator.thresholds(vec![0.5; 2]), &input, &masks).unwrap_err();
    assert!(matches!(error, Error::Length { what: "thresholds", expected: 3, found: 2 }), "{error}");
}
