//! Statistics of classes against their twin: all but the mean confidence is integers, so they are equal, whatever the
//! geometry of the map, the labels and the way that it is split; and so is the confidence, each pixel's rounded first.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    BoundingBox, ClassRecord, ClassStatistics, Error, Gpu, LabelType, Logits, Map, Outputs, Readback, Segment,
    reference,
};

/// A map, packed, N × H × W.
#[derive(Clone)]
struct Case {
    map: Map,
    classes: u32,
    label_type: LabelType,
    labels: Vec<u32>,
    confidence: Option<Vec<f32>>,
}

/// `values` with the geometry of `map`, `fill` in its padding.
fn lay<T: Copy>(map: &Map, values: &[T], fill: T) -> Vec<T> {
    let mut all = vec![fill; map.images() as usize * map.image_stride() as usize];
    for (row, values) in values.chunks_exact(map.width() as usize).enumerate() {
        let (image, row) = (row / map.height() as usize, row % map.height() as usize);
        let start = image * map.image_stride() as usize + row * map.row_stride() as usize;
        all[start..start + values.len()].copy_from_slice(values);
    }
    all
}

impl Case {
    fn operator(&self) -> ClassStatistics {
        ClassStatistics::new(self.classes)
    }

    /// The content of a buffer with the labels; in the padding are those of a class.
    fn label_bytes(&self) -> Vec<u8> {
        let laid = lay(&self.map, &self.labels, self.classes - 1);
        match self.label_type {
            LabelType::U8 => laid.iter().map(|&label| label as u8).collect(),
            LabelType::U32 => bytemuck::cast_slice(&laid).to_vec(),
        }
    }

    /// Records the statistics, behind what nobody may write to, and their read-back.
    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>) -> Result<(), Error> {
        let labels = upload_bytes(gpu, &self.label_bytes());
        let confidence = self.confidence.as_ref().map(|confidence| {
            // Which of them lies in the padding must not matter.
            let laid = lay(&self.map, confidence, if confidence.len() % 2 == 0 { f32::NAN } else { 0.75 });
            upload_bytes(gpu, bytemuck::cast_slice(&laid))
        });
        let bytes = self.operator().bytes(&self.map);
        let records = guarded(gpu, bytes + 512);
        let binding = BufferBinding { buffer: &records, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let from = labels.as_entire_buffer_binding();
        let confidence = confidence.as_ref().map(Buffer::as_entire_buffer_binding);
        let dispatch = self.operator().dispatch(gpu, &self.map, from, self.label_type, confidence, binding)?;
        recorder.record(&dispatch, &[&records]);
        Ok(())
    }

    /// The records among `bytes`, what [`record`](Self::record) reads back.
    fn records(&self, bytes: &[u8]) -> Vec<ClassRecord> {
        let end = 256 + self.operator().bytes(&self.map) as usize;
        assert!(bytes[..256].iter().chain(&bytes[end..]).all(|&byte| byte == GUARD), "written beside the records");
        bytemuck::pod_collect_to_vec(&bytes[256..end])
    }

    fn check(&self, what: &str, bytes: &[u8]) {
        let records = self.records(bytes);
        let confidence = self.confidence.as_deref();
        let expected = reference::class_statistics(&self.map, self.classes, &self.labels, confidence);
        assert_eq!(records.len(), expected.len(), "{what}");
        let units = self.units();
        for (i, (record, expected)) in records.iter().zip(&expected).enumerate() {
            let what = format!("{what}, record {i}: {record:?}, expected {expected:?}");
            assert_eq!(u64::from(record.pixels), expected.pixels, "{what}");
            assert_eq!(number(record.row_sum), expected.row_sum, "{what}");
            assert_eq!(number(record.column_sum), expected.column_sum, "{what}");
            assert_eq!(record.bounding_box().ok(), expected.bounding_box, "{what}");
            assert_eq!(number(record.confidence_sum), units[i].0, "{what}");
            assert_eq!(record.nan, if confidence.is_some() { units[i].1 } else { u32::MAX }, "{what}");
            let pixels = expected.pixels as f64;
            if expected.pixels == 0 {
                assert!(matches!(record.bounding_box(), Err(Error::NoPixels { what: "bounding box" })), "{what}");
                assert!(matches!(record.centroid(), Err(Error::NoPixels { what: "centroid" })), "{what}");
                let mean = record.mean_confidence();
                assert!(matches!(mean, Err(Error::NoPixels { what: "mean confidence" })), "{what}");
                continue;
            }
            let centroid = [expected.row_sum as f64 / pixels, expected.column_sum as f64 / pixels];
            assert_eq!(record.centroid().unwrap(), centroid, "{what}");
            match record.mean_confidence() {
                Ok(mean) if expected.confidence_sum.is_nan() => assert!(mean.is_nan(), "{what}"),
                Ok(mean) => {
                    // Half a unit, and what the additions in f64 may lose.
                    let bound = 0.5 / (1 << 24) as f64 + pixels * f64::EPSILON;
                    assert!((mean - expected.confidence_sum / pixels).abs() <= bound, "{what}: {mean}");
                    assert!(confidence.is_some(), "{what}");
                }
                Err(Error::LeftOut { what: "mean confidence", needed: "confidence" }) => {
                    assert!(confidence.is_none(), "{what}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    /// Of every record the confidences in 2⁻²⁴, and how many are NaN.
    fn units(&self) -> Vec<(u64, u32)> {
        let mut all = vec![(0, 0); self.map.images() as usize * self.classes as usize];
        let of_image = self.map.height() as usize * self.map.width() as usize;
        for (i, &c) in self.confidence.iter().flatten().enumerate().filter(|&(i, _)| self.labels[i] < self.classes) {
            let (units, nan) = &mut all[i / of_image * self.classes as usize + self.labels[i] as usize];
            *nan += u32::from(c.is_nan());
            *units += (f64::from(c).clamp(0.0, 1.0) * 16_777_216.0).round_ties_even() as u64;
        }
        all
    }
}

fn number([low, high]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

const GUARD: u8 = 0xa5;

fn guarded(gpu: &Gpu, bytes: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let out = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&out, 0, &vec![GUARD; bytes as usize]);
    out
}

/// Packed maps, of odd widths too, and such with padded rows; rows shorter than a group, and longer than the 256 pixels
/// that an invocation walks; batches.
fn maps() -> Vec<Map> {
    let packed = |n, h, w| Logits::nchw(n, 1, h, w).unwrap().map();
    let padded = |n, h, w| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1).unwrap()).unwrap();
    let mut maps: Vec<_> = awkward_shapes(1).iter().map(Logits::map).collect();
    for (height, width) in [(1, 1), (9, 1), (300, 1), (130, 3), (7, 255), (5, 256), (4, 257), (3, 1030), (61, 59)] {
        maps.extend([packed(1, height, width), padded(1, height, width), packed(3, height, width)]);
    }
    maps.push(padded(2, 33, 301));
    maps
}

/// Labels of a kind, some of which are no class: noise, rectangles, stripes, one class, void.
fn labels(map: &Map, classes: u32, void: u32, kind: u32, random: &mut Random) -> Vec<u32> {
    let label = |i: u32| if i < classes { i } else { void - (i - classes).min(void - classes) };
    let (width, height) = (map.width(), map.height());
    let (of_rows, of_columns) = (1 + random.below(9), 1 + random.below(40));
    let at = |i: u32| (i / width / height, i / width % height, i % width);
    (0..map.pixels() as u32)
        .map(|i| {
            let (image, y, x) = at(i);
            match kind {
                0 => label(random.below(classes + 2)),
                1 => label((image + y / of_rows * 7 + (x + y % 3) / of_columns * 5) % (classes + 1)),
                2 => label(x % (classes + 1)),
                3 => label(y % classes),
                4 => classes - 1,
                _ => void,
            }
        })
        .collect()
}

const SPECIAL: [f32; 10] =
    [f32::INFINITY, f32::NEG_INFINITY, -0.5, 1.5, -0.0, 0.0, 1.0, 1e-40, 2.9802322e-8, 8.940697e-8];

/// Confidences of a kind: 0..1, with special values, with NaN as well, all 1.
fn confidence(map: &Map, kind: u32, random: &mut Random) -> Vec<f32> {
    let value = |random: &mut Random| {
        let uniform = (random.bits() as f64 / u64::MAX as f64) as f32;
        match kind {
            1 | 2 if random.below(5) == 0 => SPECIAL[random.below(10) as usize],
            2 if random.below(70) == 0 => f32::from_bits([0x7fc0_0000, 0xff80_0001][random.below(2) as usize]),
            3 => 1.0,
            _ => uniform,
        }
    };
    (0..map.pixels()).map(|_| value(random)).collect()
}

fn random_case(map: Map, i: u32, random: &mut Random) -> Case {
    let label_type = if random.below(2) == 0 { LabelType::U8 } else { LabelType::U32 };
    let (classes, void) = match label_type {
        LabelType::U8 => ([1, 2, 5, 21, 255, 256][random.below(6) as usize], 255),
        LabelType::U32 => ([1, 3, 21, 300][random.below(4) as usize], u32::MAX),
    };
    // Of 256 classes every u8 is one.
    let labels = labels(&map, classes.min(void), void, i % 6, random);
    let kind = random.below(5);
    let confidence = (kind < 4).then(|| confidence(&map, kind, random));
    Case { map, classes, label_type, labels, confidence }
}

#[test]
fn agrees_with_the_twin() {
    for gpu in [gpu(), default_limits_gpu()] {
        let mut random = Random::new(1);
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, map) in maps().into_iter().enumerate() {
            for kind in 0..6 {
                let case = random_case(map, kind, &mut random);
                case.record(gpu, &mut recorder).unwrap();
                cases.push((format!("{i}: {map:?}, {:?}, kind {kind}", case.label_type), case));
            }
        }
        for ((what, case), bytes) in cases.iter().zip(recorder.finish()) {
            case.check(what, &bytes);
        }
    }
}

#[test]
fn known_numbers() {
    let map = Segment::new(3, 5).map(&Logits::chw(1, 1, 1).unwrap()).unwrap();
    let (v, nan) = (255, f32::NAN);
    #[rustfmt::skip]
    let labels = vec![
        v, 2, 2, 2, v,
        0, 2, 2, v, 1,
        0, 0, 0, 0, 1,
    ];
    #[rustfmt::skip]
    let confidence = vec![
        nan, 0.5, 0.75, 1.0, nan,
        1.0, 0.25, 0.5, nan, 0.5,
        1.0, 1.0, 1.0, 1.0, nan,
    ];
    let case = Case { map, classes: 4, label_type: LabelType::U8, labels, confidence: Some(confidence) };
    let mut recorder = Recorder::new(gpu());
    case.record(gpu(), &mut recorder).unwrap();
    let records = case.records(&recorder.finish().next().unwrap());
    let numbers = |class: &ClassRecord| (class.pixels, class.bounding_box().unwrap(), class.centroid().unwrap());
    let boxed = |top, left, height, width| BoundingBox { top, left, height, width };
    assert_eq!(numbers(&records[0]), (5, boxed(1, 0, 2, 4), [9.0 / 5.0, 6.0 / 5.0]));
    assert_eq!(numbers(&records[1]), (2, boxed(1, 4, 2, 1), [1.5, 4.0]));
    assert_eq!(numbers(&records[2]), (5, boxed(0, 1, 2, 3), [2.0 / 5.0, 9.0 / 5.0]));
    assert_eq!(records[0].mean_confidence().unwrap(), 1.0);
    assert!(records[1].mean_confidence().unwrap().is_nan() && records[1].nan == 1);
    assert_eq!(records[2].mean_confidence().unwrap(), 0.6);
    assert!(matches!(records[3].centroid(), Err(Error::NoPixels { .. })));
}

/// Sums beyond 32 bits, from many invocations that carry over.
#[test]
fn sums_beyond_32_bits() {
    let mut random = Random::new(2);
    let mut recorder = Recorder::new(gpu());
    let mut cases = Vec::new();
    for (height, width) in [(3, 100_000), (2, 140_001), (100_000, 3), (70_001, 4)] {
        let map = Logits::chw(1, height, width).unwrap().map();
        for kind in [1, 4] {
            let labels = labels(&map, 2, 255, kind, &mut random);
            let confidence = (kind == 4).then(|| vec![1.0; map.pixels()]);
            let case = Case { map, classes: 2, label_type: LabelType::U8, labels, confidence };
            case.record(gpu(), &mut recorder).unwrap();
            cases.push(case);
        }
    }
    let mut beyond = 0;
    for (case, bytes) in cases.iter().zip(recorder.finish()) {
        case.check(&format!("{:?}", case.map), &bytes);
        let records = case.records(&bytes);
        let sums = records.iter().flat_map(|record| [record.row_sum, record.column_sum]);
        beyond += sums.filter(|sum| sum[1] > 0).count();
    }
    assert!(beyond >= 4, "{beyond} sums beyond 32 bits");
}

/// A low word that is full, and one that has just passed that.
#[test]
fn sums_at_32_bits() {
    let map = Logits::chw(1, 4, 64).unwrap().map();
    for one_less in [true, false] {
        let mut confidence = vec![1.0; map.pixels()];
        confidence[77] -= if one_less { f32::EPSILON / 2.0 } else { 0.0 };
        let (labels, confidence) = (vec![0; map.pixels()], Some(confidence));
        let case = Case { map, classes: 1, label_type: LabelType::U8, labels, confidence };
        let mut recorder = Recorder::new(gpu());
        case.record(gpu(), &mut recorder).unwrap();
        let bytes = recorder.finish().next().unwrap();
        case.check("256 confidences", &bytes);
        assert_eq!(case.records(&bytes)[0].confidence_sum, if one_less { [u32::MAX, 0] } else { [0, 1] });
    }
}

/// Columns beyond 24 bits, of which a single run passes 32.
#[test]
fn a_row_of_many_pixels() {
    let gpu = gpu();
    let (first, width) = ((1u32 << 24) + 99, (1 << 24) + 1203);
    let map = Logits::chw(1, 1, width).unwrap().map();
    let mut labels = vec![255; map.bytes(8) as usize];
    labels[first as usize..width as usize].fill(0);
    let labels = upload_bytes(gpu, &labels);
    let operator = ClassStatistics::new(1);
    let records = output(gpu, operator.bytes(&map));
    let (from, to) = (labels.as_entire_buffer_binding(), records.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, &map, from, LabelType::U8, None, to).unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &[&records]);
    let record = bytemuck::pod_collect_to_vec::<u8, ClassRecord>(&recorder.finish().next().unwrap())[0];
    assert_eq!(record.pixels, width - first);
    assert_eq!(number(record.column_sum), (first..width).map(u64::from).sum());
    let boxed = BoundingBox { top: 0, left: first, height: 1, width: width - first };
    assert_eq!(record.bounding_box().unwrap(), boxed);
}

/// Bit for bit what a device writes that can bind everything.
#[test]
fn small_bindings() {
    let packed = |n, h, w| Logits::nchw(n, 1, h, w).unwrap().map();
    let padded = |n, h, w| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1).unwrap()).unwrap();
    let maps = [packed(1, 64, 80), packed(1, 61, 83), packed(9, 5, 9), packed(3, 61, 61), packed(1, 1, 9999)];
    let maps =
        [maps.as_slice(), &[padded(2, 71, 101), padded(40, 3, 5), packed(25, 13, 17), packed(3, 5000, 1)]].concat();
    for bytes in [1024, 4096, 16384] {
        let small = watched_gpu(wgpu::Limits {
            max_storage_buffer_binding_size: bytes,
            max_uniform_buffer_binding_size: bytes,
            min_storage_buffer_offset_alignment: 256,
            ..wgpu::Limits::defaults()
        });
        let mut random = Random::new(bytes);
        let (mut split, mut whole) = (Recorder::new(&small), Recorder::new(gpu()));
        let mut cases = Vec::new();
        for map in &maps {
            for kind in 0..4 {
                let (label_type, scored) = ([LabelType::U8, LabelType::U32][kind % 2], kind >= 2);
                let void = if label_type == LabelType::U8 { 255 } else { u32::MAX };
                let classes = if map.images() > 9 { 2 } else { 7 };
                let classes = if bytes == 1024 { 1 } else { classes };
                let labels = labels(map, classes, void, random.below(2), &mut random);
                let confidence = scored.then(|| confidence(map, 2, &mut random));
                let case = Case { map: *map, classes, label_type, labels, confidence };
                match case.record(&small, &mut split) {
                    // A stretch of 32-bit numbers does not fit there, nor do the records of many images.
                    Err(Error::Limit { needed: 2048, limit: 1024, .. }) if scored || kind == 1 => continue,
                    Err(Error::Limit { needed, limit: 1024, .. }) if needed == 48 * u64::from(map.images()) => continue,
                    result => result.unwrap(),
                }
                case.record(gpu(), &mut whole).unwrap();
                cases.push(case);
            }
        }
        assert!(cases.len() >= if bytes == 1024 { 7 } else { 4 * maps.len() }, "{bytes}: {} cases", cases.len());
        for ((case, split), whole) in cases.iter().zip(split.finish()).zip(whole.finish()) {
            let what = format!("{bytes}: {:?}, {:?}", case.map, case.label_type);
            case.check(&what, &split);
            assert_eq!(case.records(&split), case.records(&whole), "{what}");
        }
    }
}

/// One dispatch, recorded for every frame of a submission.
#[test]
fn frames_start_from_nothing() {
    let gpu = gpu();
    let map = Logits::nchw(2, 1, 23, 37).unwrap().map();
    let mut random = Random::new(3);
    let frame = |kind| {
        let labels = labels(&map, 5, 255, kind, &mut random);
        Case { map, classes: 5, label_type: LabelType::U8, labels, confidence: None }
    };
    let frames: Vec<_> = [1, 0, 4, 1, 5, 5, 2, 0, 3, 1].map(frame).to_vec();
    let labels = buffer(gpu, map.bytes(8), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let operator = frames[0].operator();
    let records = guarded(gpu, operator.bytes(&map));
    let (from, to) = (labels.as_entire_buffer_binding(), records.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, &map, from, LabelType::U8, None, to).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut readbacks = Vec::new();
    for frame in &frames {
        let bytes = frame.label_bytes();
        let next = buffer(gpu, map.bytes(8), BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
        gpu.queue().write_buffer(&next, 0, &bytes);
        encoder.copy_buffer_to_buffer(&next, 0, &labels, 0, map.bytes(8));
        dispatch.record(&mut encoder);
        let readback = Readback::new(gpu, operator.bytes(&map)).unwrap();
        readback.record(&mut encoder, records.as_entire_buffer_binding()).unwrap();
        readbacks.push(readback);
    }
    gpu.queue().submit([encoder.finish()]);
    for (i, (frame, readback)) in frames.iter().zip(&mut readbacks).enumerate() {
        let guard = [GUARD; 256];
        let bytes = readback.read_blocking(gpu, <[u8]>::to_vec).unwrap();
        frame.check(&format!("frame {i}"), &[&guard[..], &bytes, &guard].concat());
    }
}

/// Behind `Segment` in one submission, from the buffers that it writes.
#[test]
fn of_a_segmentation() {
    let gpu = gpu();
    let shape = Logits::nchw(2, 6, 12, 17).unwrap();
    let input = upload(gpu, &shape, &Random::new(4).logits(&shape));
    let segment = Segment::new(70, 99);
    let map = segment.map(&shape).unwrap();
    let (labels, confidence) = (output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    let segmented = segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
    let operator = ClassStatistics::new(6);
    let records = output(gpu, operator.bytes(&map));
    let (from, to) = (labels.as_entire_buffer_binding(), records.as_entire_buffer_binding());
    let scores = Some(confidence.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, &map, from, LabelType::U8, scores, to).unwrap();
    let names: Vec<_> = dispatch.kernels().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["class statistics clear (confidence)", "class statistics count (u8, confidence)"]);
    let mut recorder = Recorder::new(gpu);
    recorder.record(&segmented, &[&labels, &confidence]);
    recorder.record(&dispatch, &[&records]);
    let read: Vec<_> = recorder.finish().collect();
    let labels = unpad_map::<u8>(&map, &read[0]).into_iter().map(u32::from).collect();
    let confidence = Some(unpad_map(&map, &read[1]));
    let guard = [GUARD; 256];
    let case = Case { map, classes: 6, label_type: LabelType::U8, labels, confidence };
    case.check("segmentation", &[&guard[..], &read[2], &guard].concat());
}

#[test]
fn misuse() {
    let gpu = watched_gpu(wgpu::Limits { min_storage_buffer_offset_alignment: 256, ..wgpu::Limits::defaults() });
    let map = Logits::nchw(2, 1, 9, 13).unwrap().map();
    let operator = ClassStatistics::new(3);
    let storage = |bytes| buffer(&gpu, bytes, BufferUsages::STORAGE);
    let (labels, wide) = (storage(map.bytes(8)), storage(map.bytes(32)));
    let (records, small, other) =
        (storage(operator.bytes(&map)), storage(4), buffer(&gpu, 4096, BufferUsages::COPY_DST));
    let large = storage(4096);
    assert_eq!(operator.bytes(&map), 2 * 3 * 48);
    let run =
        |operator: ClassStatistics, labels: &Buffer, label_type, confidence: Option<&Buffer>, records: &Buffer| {
            let confidence = confidence.map(Buffer::as_entire_buffer_binding);
            let (labels, records) = (labels.as_entire_buffer_binding(), records.as_entire_buffer_binding());
            operator.dispatch(&gpu, &map, labels, label_type, confidence, records).map(drop)
        };
    let u8s = LabelType::U8;
    run(operator, &labels, u8s, Some(&wide), &records).unwrap();
    run(operator, &wide, LabelType::U32, Some(&wide), &records).unwrap();
    let refused = |result: Result<(), Error>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    refused(run(ClassStatistics::new(0), &labels, u8s, None, &records), "classes: expected at least 1, found 0");
    refused(
        run(ClassStatistics::new(257), &labels, u8s, None, &large),
        "labels of 8 bits: expected at most 256 classes, found 257",
    );
    let too_small =
        |what, needed, found| format!("buffer of {what}: {needed} bytes needed from offset 0, found {found}");
    refused(run(operator, &small, u8s, None, &records), &too_small("labels", 240, 4));
    refused(run(operator, &labels, LabelType::U32, None, &records), &too_small("labels", 960, 240));
    refused(run(operator, &labels, u8s, Some(&labels), &records), &too_small("confidence", 960, 240));
    refused(run(operator, &labels, u8s, None, &small), &too_small("class records", 288, 4));
    let found = |what| format!("buffer of {what}: expected usage BufferUsages(STORAGE), found BufferUsages(COPY_DST)");
    refused(run(operator, &other, u8s, None, &records), &found("labels"));
    refused(run(operator, &labels, u8s, Some(&other), &records), &found("confidence"));
    refused(run(operator, &labels, u8s, None, &other), &found("class records"));
    let same = |other| format!("class records and {other}: expected separate buffers or textures, found the same one");
    refused(run(operator, &large, u8s, None, &large), &same("labels"));
    refused(run(operator, &labels, u8s, Some(&large), &large), &same("confidence"));
    let at = |buffer, offset| BufferBinding { buffer, offset, size: None };
    for (labels_at, confidence_at, records_at) in [(4, 0, 0), (0, 4, 0), (0, 0, 4)] {
        let labels = at(&large, labels_at);
        let result =
            operator.dispatch(&gpu, &map, labels, u8s, Some(at(&wide, confidence_at)), at(&records, records_at));
        assert!(matches!(result, Err(Error::Misaligned { offset: 4, alignment: 256, .. })), "{result:?}");
    }
    // Records that no binding holds.
    let limit = gpu.device().limits().max_storage_buffer_binding_size;
    let classes = (limit / 48 / 2) as u32 + 1;
    let result = run(ClassStatistics::new(classes), &wide, LabelType::U32, None, &large);
    assert!(matches!(result, Err(Error::BufferTooSmall { what: "class records", .. })), "{result:?}");
}
