//! Confusion matrices against their twin: all is integers, so they are equal, whatever the geometry of the maps, the types
//! of the labels and the way that they are split; and the scores against the definitions by sets of pixels.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Absent, Confusion, ConfusionMatrix, ConfusionRecord, Error, Gpu, Input, LabelType, Logits, Map, Outputs, Readback,
    Resize, Segment, Targets, reference,
};

/// Maps, packed, N × H × W.
#[derive(Clone)]
struct Case {
    map: Map,
    classes: u32,
    ignore_index: Option<i64>,
    types: [LabelType; 2],
    predictions: Vec<u32>,
    targets: Vec<i64>,
}

/// The content of a buffer with the labels; in the padding are those of a class.
fn label_bytes(map: &Map, label_type: LabelType, labels: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut all = vec![0u32; map.images() as usize * map.image_stride() as usize];
    for (i, label) in labels.enumerate() {
        let (width, height) = (map.width() as usize, map.height() as usize);
        let (image, row, column) = (i / width / height, i / width % height, i % width);
        all[image * map.image_stride() as usize + row * map.row_stride() as usize + column] = label;
    }
    match label_type {
        LabelType::U8 => all.iter().map(|&label| label as u8).collect(),
        LabelType::U32 => bytemuck::cast_slice(&all).to_vec(),
    }
}

impl Case {
    fn operator(&self) -> ConfusionMatrix {
        ConfusionMatrix::new(self.classes).ignore_index(self.ignore_index)
    }

    /// Records the counting, behind what nobody may write to, and the read-back.
    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>) -> Result<(), Error> {
        let [label_type, target_type] = self.types;
        let predictions = upload_bytes(gpu, &label_bytes(&self.map, label_type, self.predictions.iter().copied()));
        let targets = self.targets.iter().map(|&label| label as u32);
        let targets = upload_bytes(gpu, &label_bytes(&self.map, target_type, targets));
        let bytes = self.operator().bytes(&self.map);
        let records = guarded(gpu, bytes + 512);
        let to = BufferBinding { buffer: &records, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let predictions = (predictions.as_entire_buffer_binding(), label_type);
        let targets = Targets::new(targets.as_entire_buffer_binding(), target_type);
        let dispatch = self.operator().dispatch(gpu, &self.map, predictions, targets, to)?;
        recorder.record(&dispatch, &[&records]);
        Ok(())
    }

    /// The records among `bytes`, what [`record`](Self::record) reads back.
    fn records(&self, bytes: &[u8]) -> Vec<ConfusionRecord> {
        let end = 256 + self.operator().bytes(&self.map) as usize;
        assert!(bytes[..256].iter().chain(&bytes[end..]).all(|&byte| byte == GUARD), "written beside the records");
        self.operator().records(&bytemuck::pod_collect_to_vec::<u8, u32>(&bytes[256..end])).unwrap()
    }

    fn check(&self, what: &str, bytes: &[u8]) {
        let pixels = self.map.height() as usize * self.map.width() as usize;
        let records = self.records(bytes);
        assert_eq!(records.len(), self.map.images() as usize, "{what}");
        for (i, record) in records.iter().enumerate() {
            let what = format!("{what}, image {i}");
            let of_image = i * pixels..(i + 1) * pixels;
            let (predictions, targets) = (&self.predictions[of_image.clone()], &self.targets[of_image]);
            let expected = reference::confusion_matrix(self.classes, self.ignore_index, predictions, targets);
            assert_eq!(record.confusion.counts(), expected.counts, "{what}");
            assert_eq!(record.confusion.ignored(), expected.ignored, "{what}");
            let invalid = [record.invalid_targets, record.invalid_predictions].map(u64::from);
            assert_eq!(invalid, [expected.invalid_targets, expected.invalid_predictions], "{what}");
            let first =
                [record.first_invalid_target, record.first_invalid_prediction].map(|first| first.map(u64::from));
            let expected = [expected.first_invalid_target, expected.first_invalid_prediction];
            assert_eq!(first, expected.map(|first| first.map(|first| first as u64)), "{what}");
            let all = record.confusion.counted() + record.confusion.ignored() + invalid[0] + invalid[1];
            assert_eq!(all, pixels as u64, "{what}");
        }
    }
}

const GUARD: u8 = 0xa5;

fn guarded(gpu: &Gpu, bytes: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let out = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&out, 0, &vec![GUARD; bytes as usize]);
    out
}

fn packed_map(n: u32, h: u32, w: u32) -> Map {
    Logits::nchw(n, 1, h, w).unwrap().map()
}

fn padded_map(n: u32, h: u32, w: u32) -> Map {
    Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1).unwrap()).unwrap()
}

/// Packed maps, of odd widths too, and such with padded rows; rows shorter than a group, and longer than the 256 pixels
/// that an invocation walks; batches.
fn maps() -> Vec<Map> {
    let mut maps: Vec<_> = awkward_shapes(1).iter().map(Logits::map).collect();
    for (height, width) in [(1, 1), (9, 1), (300, 1), (130, 3), (7, 255), (5, 256), (4, 257), (3, 1030), (61, 59)] {
        maps.extend([packed_map(1, height, width), padded_map(1, height, width), packed_map(3, height, width)]);
    }
    maps.push(padded_map(2, 33, 301));
    maps
}

/// Labels of a kind: noise, rectangles, stripes, one class; some are no class, where there is a number for that.
fn labels(map: &Map, classes: u32, void: u32, kind: u32, random: &mut Random) -> Vec<u32> {
    // The first number that is no class, too.
    let label = |i: u32| if i == classes { void } else { i.min(classes).min(void) };
    let (of_rows, of_columns) = (1 + random.below(9), 1 + random.below(40));
    let (width, height) = (map.width(), map.height());
    let at = |i: u32| (i / width / height, i / width % height, i % width);
    let pixels = 0..map.pixels() as u32;
    pixels
        .map(|i| {
            let (image, y, x) = at(i);
            match kind {
                0 => label(random.below(classes + 2)),
                1 => label((image + y / of_rows * 7 + (x + y % 3) / of_columns * 5) % (classes + 1)),
                2 => label(x % (classes + 1)),
                3 => label(y % classes),
                4 => classes - 1,
                5 => void,
                // Mostly one class, now and then something else.
                _ => label(if random.below(50) == 0 { random.below(classes + 2) } else { 0 }),
            }
        })
        .collect()
}

fn random_case(map: Map, kind: u32, random: &mut Random) -> Case {
    let types = [(); 2].map(|()| if random.below(2) == 0 { LabelType::U8 } else { LabelType::U32 });
    let classes = match types {
        [LabelType::U32, LabelType::U32] => [1, 3, 21, 60][random.below(4) as usize],
        _ => [1, 2, 5, 21, 256][random.below(5) as usize],
    };
    let void = |label_type| if label_type == LabelType::U8 { 255 } else { u32::MAX };
    let [voids, target_void] = types.map(void);
    let predictions = labels(&map, classes.min(voids), voids, kind, random);
    let other = random.below(7);
    let codes = labels(&map, classes.min(target_void), target_void, other, random);
    // The last number of 32 bits is −1.
    let targets = codes.into_iter().map(|code| if code == u32::MAX { -1 } else { code.into() }).collect();
    let ignored = [-1, 255, i64::from(classes / 2), i64::MAX, i64::from(i32::MIN) - 1];
    let ignore_index = (random.below(4) > 0).then(|| ignored[random.below(5) as usize]);
    // Labels of 8 bits are never negative.
    let ignore_index = ignore_index.filter(|&index| types[1] == LabelType::U32 || index >= 0);
    Case { map, classes, ignore_index, types, predictions, targets }
}

#[test]
fn agrees_with_the_twin() {
    for gpu in [gpu(), default_limits_gpu()] {
        let mut random = Random::new(1);
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (i, map) in maps().into_iter().enumerate() {
            for kind in 0..7 {
                let case = random_case(map, kind, &mut random);
                case.record(gpu, &mut recorder).unwrap();
                let Case { types, classes, ignore_index, .. } = &case;
                cases.push((format!("{i}: {map:?}, {types:?}, {classes}, {ignore_index:?}, kind {kind}"), case));
            }
        }
        for ((what, case), bytes) in cases.iter().zip(recorder.finish()) {
            case.check(what, &bytes);
        }
    }
}

#[test]
fn known_numbers() {
    let map = padded_map(1, 3, 5);
    let (v, w) = (255, 200);
    #[rustfmt::skip]
    let targets = vec![
        v, 2, 2, 2, v,
        0, 2, 2, w, 1,
        0, 0, 0, 0, 1,
    ];
    #[rustfmt::skip]
    let predictions = vec![
        2, 2, 2, 0, 9,
        0, 9, 2, 2, 1,
        0, 0, 1, 0, 3,
    ];
    let types = [LabelType::U8; 2];
    let case = Case { map, classes: 4, ignore_index: Some(255), types, predictions, targets };
    let mut recorder = Recorder::new(gpu());
    case.record(gpu(), &mut recorder).unwrap();
    let record = &case.records(&recorder.finish().next().unwrap())[0];
    #[rustfmt::skip]
    let expected = [
        4, 1, 0, 0,
        0, 1, 0, 1,
        1, 0, 3, 0,
        0, 0, 0, 0,
    ];
    assert_eq!(record.confusion.counts(), expected);
    assert_eq!((record.confusion.ignored(), record.confusion.counted()), (2, 11));
    assert_eq!((record.invalid_targets, record.first_invalid_target), (1, Some(8)));
    assert_eq!((record.invalid_predictions, record.first_invalid_prediction), (1, Some(6)));
    let confusion = &record.confusion;
    assert_eq!([0, 1, 2, 3, 4].map(|class| confusion.pixels(class)), [5, 2, 4, 0, 0]);
    assert_eq!([0, 1, 2, 3, 4].map(|class| confusion.predicted(class)), [5, 2, 3, 1, 0]);
    assert_eq!(confusion.pixel_accuracy(), 8.0 / 11.0);
    assert_eq!([0, 1, 2, 3].map(|class| confusion.iou(class).unwrap()), [4.0 / 6.0, 1.0 / 3.0, 3.0 / 4.0, 0.0]);
    assert_eq!([0, 1, 2, 3].map(|class| confusion.dice(class).unwrap()), [8.0 / 10.0, 2.0 / 4.0, 6.0 / 7.0, 0.0]);
    let recall = [0, 1, 2, 3].map(|class| confusion.recall(class));
    assert_eq!(recall, [Some(4.0 / 5.0), Some(0.5), Some(0.75), None]);
    let precision = [0, 1, 2, 3].map(|class| confusion.precision(class).unwrap());
    assert_eq!(precision, [4.0 / 5.0, 0.5, 1.0, 0.0]);
    let weighted = (5.0 * 4.0 / 6.0 + 2.0 / 3.0 + 4.0 * 0.75) / 11.0;
    assert!((confusion.frequency_weighted_iou() - weighted).abs() < 1e-15);
    assert_eq!(confusion.mean_accuracy(Absent::Skip), (0.8 + 0.5 + 0.75) / 3.0);
    assert_eq!(confusion.mean_accuracy(Absent::Zero), (0.8 + 0.5 + 0.75) / 4.0);
    assert_eq!(confusion.mean_accuracy(Absent::One), (0.8 + 0.5 + 0.75 + 1.0) / 4.0);
    assert_eq!(confusion.mean_precision(Absent::Skip), (0.8 + 0.5 + 1.0) / 4.0);
}

/// An image of more than 2²⁴ pixels, which end in the middle of a group, all in one word, and the last of another.
#[test]
fn many_pixels_of_a_word() {
    let gpu = gpu();
    let map = packed_map(1, 1, (1 << 24) + 1203);
    let mut bytes = vec![0u8; map.bytes(8) as usize];
    bytes[(1 << 24) + 1202] = 1;
    let labels = upload_bytes(gpu, &bytes);
    let operator = ConfusionMatrix::new(2);
    let records = output(gpu, operator.bytes(&map));
    let (from, targets) = ((labels.as_entire_buffer_binding(), LabelType::U8), labels.as_entire_buffer_binding());
    let targets = Targets::new(targets, LabelType::U8);
    let dispatch = operator.dispatch(gpu, &map, from, targets, records.as_entire_buffer_binding()).unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&dispatch, &[&records]);
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
    assert_eq!(operator.records(&words).unwrap()[0].confusion.counts(), [(1 << 24) + 1202, 0, 0, 1]);
}

/// Bit for bit what a device counts that can bind everything.
#[test]
fn small_bindings() {
    let maps = [packed_map(1, 64, 80), packed_map(1, 61, 83), packed_map(9, 5, 9), packed_map(3, 61, 61)];
    let more = [packed_map(1, 1, 9999), padded_map(2, 71, 101), padded_map(10, 3, 5), packed_map(3, 5000, 1)];
    for bytes in [4096, 16384] {
        let small = watched_gpu(wgpu::Limits {
            max_storage_buffer_binding_size: bytes,
            max_uniform_buffer_binding_size: bytes,
            min_storage_buffer_offset_alignment: 256,
            ..wgpu::Limits::defaults()
        });
        let mut random = Random::new(bytes);
        let mut recorder = Recorder::new(&small);
        let mut cases = Vec::new();
        for map in maps.iter().chain(&more) {
            for kind in 0..7 {
                let mut case = random_case(*map, kind, &mut random);
                while case.operator().bytes(map) > bytes {
                    case = random_case(*map, kind, &mut random);
                }
                case.record(&small, &mut recorder).unwrap();
                cases.push(case);
            }
        }
        for (case, found) in cases.iter().zip(recorder.finish()) {
            case.check(&format!("{bytes}: {:?}, {:?}", case.map, case.types), &found);
        }
    }
}

/// One dispatch, recorded for every frame of a submission.
#[test]
fn frames_start_from_nothing() {
    let gpu = gpu();
    let map = packed_map(2, 23, 37);
    let mut random = Random::new(3);
    let types = [LabelType::U8; 2];
    let frames: Vec<_> = [1, 0, 4, 1, 5, 5, 2, 0, 3, 1]
        .into_iter()
        .map(|kind| {
            let predictions = labels(&map, 5, 255, kind, &mut random);
            let targets = labels(&map, 5, 255, 1, &mut random).into_iter().map(i64::from).collect();
            Case { map, classes: 5, ignore_index: Some(255), types, predictions, targets }
        })
        .collect();
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let [predictions, targets] = [(); 2].map(|()| buffer(gpu, map.bytes(8), usage));
    let operator = frames[0].operator();
    let records = guarded(gpu, operator.bytes(&map));
    let from = (predictions.as_entire_buffer_binding(), LabelType::U8);
    let against = Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
    let dispatch = operator.dispatch(gpu, &map, from, against, records.as_entire_buffer_binding()).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut readbacks = Vec::new();
    for frame in &frames {
        let of_targets = frame.targets.iter().map(|&label| label as u32);
        let predicted = label_bytes(&map, LabelType::U8, frame.predictions.iter().copied());
        for (bytes, to) in [(predicted, &predictions), (label_bytes(&map, LabelType::U8, of_targets), &targets)] {
            let next = buffer(gpu, map.bytes(8), BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
            gpu.queue().write_buffer(&next, 0, &bytes);
            encoder.copy_buffer_to_buffer(&next, 0, to, 0, map.bytes(8));
        }
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

/// Behind `Segment` in one submission, from the buffer that it writes.
#[test]
fn of_a_segmentation() {
    let gpu = gpu();
    let shape = Logits::nchw(2, 6, 12, 17).unwrap();
    let mut random = Random::new(4);
    let input = upload(gpu, &shape, &random.logits(&shape));
    let segment = Segment::new(70, 99);
    let map = segment.map(&shape).unwrap();
    let labelled = output(gpu, map.bytes(8));
    let outputs = Outputs::labels(labelled.as_entire_buffer_binding());
    let segmented = segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
    let targets: Vec<_> = labels(&map, 6, 255, 1, &mut random).into_iter().map(i64::from).collect();
    let target_buffer =
        upload_bytes(gpu, &label_bytes(&map, LabelType::U32, targets.iter().map(|&label| label as u32)));
    let operator = ConfusionMatrix::new(6).ignore_index(Some(255));
    let records = output(gpu, operator.bytes(&map));
    let from = (labelled.as_entire_buffer_binding(), LabelType::U8);
    let against = Targets::new(target_buffer.as_entire_buffer_binding(), LabelType::U32);
    let dispatch = operator.dispatch(gpu, &map, from, against, records.as_entire_buffer_binding()).unwrap();
    let names: Vec<_> = dispatch.kernels().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["confusion matrix clear", "confusion matrix count (u8, u32 targets)"]);
    let mut recorder = Recorder::new(gpu);
    recorder.record(&segmented, &[&labelled]);
    recorder.record(&dispatch, &[&records]);
    let read: Vec<_> = recorder.finish().collect();
    let predictions = unpad_map::<u8>(&map, &read[0]).into_iter().map(u32::from).collect();
    let types = [LabelType::U8, LabelType::U32];
    let case = Case { map, classes: 6, ignore_index: Some(255), types, predictions, targets };
    let guard = [GUARD; 256];
    case.check("segmentation", &[&guard[..], &read[1], &guard].concat());
}

/// The one-shot functions take what goes through a device of small bindings in parts.
fn one_shot_gpus() -> [Gpu; 2] {
    let small = wgpu::Limits {
        max_storage_buffer_binding_size: 16384,
        max_uniform_buffer_binding_size: 16384,
        ..wgpu::Limits::defaults()
    };
    [wgpu::Limits::defaults(), small].map(watched_gpu)
}

#[test]
fn labels_on_the_host() {
    let mut random = Random::new(5);
    for gpu in one_shot_gpus() {
        for (pixels, classes) in
            [(0, 3), (1, 3), (7, 1), (50_001, 21), (20_000, 60), (9_000, 254), (9_000, 255), (9_000, 256)]
        {
            if gpu.device().limits().max_storage_buffer_binding_size < 4 * (classes * classes + 5) {
                continue;
            }
            let classes = classes as u32;
            for ignore_index in [None, Some(-100), Some(255), Some(0), Some(i64::MAX)] {
                let other = ignore_index.unwrap_or(0);
                let predictions: Vec<u32> = (0..pixels).map(|_| random.below(classes)).collect();
                let noise = |random: &mut Random| {
                    if random.below(9) == 0 { other } else { random.below(classes).into() }
                };
                let targets: Vec<i64> = (0..pixels).map(|_| noise(&mut random)).collect();
                let operator = ConfusionMatrix::new(classes).ignore_index(ignore_index);
                let found = operator.run_blocking(&gpu, &predictions, &targets).unwrap();
                let expected = reference::confusion_matrix(classes, ignore_index, &predictions, &targets);
                assert_eq!(found.counts(), expected.counts, "{pixels}, {classes}, {ignore_index:?}");
                assert_eq!(found.ignored(), expected.ignored, "{pixels}, {classes}, {ignore_index:?}");
            }
        }
    }
}

#[test]
fn labels_that_are_no_class() {
    for gpu in one_shot_gpus() {
        let operator = ConfusionMatrix::new(3).ignore_index(Some(-1));
        let (mut predictions, mut targets) = (vec![0i32; 40_000], vec![0i32; 40_000]);
        predictions[20_001] = 3;
        let error = operator.run_blocking(&gpu, &predictions, &targets).unwrap_err().to_string();
        assert_eq!(error, "prediction[20001]: expected a class below 3, found label 3");
        targets[20_001] = -1;
        assert_eq!(operator.run_blocking(&gpu, &predictions, &targets).unwrap().ignored(), 1);
        targets[33_333] = -2;
        targets[33_334] = 254;
        let error = operator.run_blocking(&gpu, &predictions, &targets).unwrap_err().to_string();
        assert_eq!(error, "target[33333]: expected a class below 3 or the ignore index, found label -2");
        let error = operator.run_blocking(&gpu, &predictions[1..], &targets).unwrap_err().to_string();
        assert_eq!(error, "predictions: expected 40000 elements, found 39999");
        for classes in [254, 255, 256] {
            let operator = ConfusionMatrix::new(classes).ignore_index(Some(0));
            let error = operator.run_blocking(&gpu, &[classes - 1, 1], &[classes - 1, classes]);
            assert!(matches!(error, Err(Error::Label { position: 1, .. }) | Err(Error::Limit { .. })), "{error:?}");
        }
        let error = ConfusionMatrix::new(0).run_blocking(&gpu, &[0u8], &[0u8]).unwrap_err().to_string();
        assert_eq!(error, "classes: expected at least 1, found 0");
        let error = ConfusionMatrix::new(u32::MAX).run_blocking(&gpu, &[0u8], &[0u8]).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
}

#[test]
fn from_logits() {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let mut random = Random::new(6);
    let shapes = [
        nchw(1, 3, 9, 13),
        nchw(5, 4, 7, 6),
        nchw(2, 21, 16, 16),
        Logits::nhwc(2, 7, 9, 5).unwrap(),
        nchw(1, 30, 5, 5),
        // The counts of all images are more than their logits.
        nchw(6, 30, 2, 2),
    ];
    for gpu in one_shot_gpus() {
        for (shape, half) in shapes.iter().flat_map(|shape| [(shape, false), (shape, true)]) {
            for (height, width) in [(shape.height(), shape.width()), (45, 52), (61, 33), (5, 70), (3, 4)] {
                for resize in [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric] {
                    let what = format!("{shape:?}, {half}, {height} × {width}, {resize:?}");
                    let segment = Segment::new(height, width).resize(resize);
                    let (values, classes) = (random.logits(shape), shape.classes());
                    let bits = halves(&values);
                    let input = || if half { Input::f16(&bits) } else { Input::from(&values) };
                    let labelled = segment.run_blocking(&gpu, shape, input()).unwrap().labels;
                    let predictions: Vec<_> = labelled.iter().collect();
                    let map = segment.map(shape).unwrap();
                    let targets: Vec<_> = labels(&map, classes, 255, 1, &mut random);
                    let targets: Vec<i64> = targets.into_iter().map(i64::from).collect();
                    let operator = ConfusionMatrix::new(classes).ignore_index(Some(255));
                    let found = operator.run_logits_blocking(&gpu, shape, input(), &segment, &targets).unwrap();
                    let expected = reference::confusion_matrix(classes, Some(255), &predictions, &targets);
                    assert_eq!(found.counts(), expected.counts, "{what}");
                    assert_eq!(found.ignored(), expected.ignored, "{what}");
                    let mut wrong = targets.clone();
                    let at = wrong.len() - 1 - random.below(wrong.len() as u32 / 2) as usize;
                    wrong[at] = -7;
                    match operator.run_logits_blocking(&gpu, shape, input(), &segment, &wrong) {
                        Err(Error::Label { position, label: -7, .. }) => assert_eq!(position, at as u64, "{what}"),
                        other => panic!("{what}: {other:?}"),
                    }
                }
            }
        }
    }
    let (gpu, shape) = (gpu(), nchw(1, 3, 2, 2));
    let refused = |classes, targets: &[u8], segment: Segment| {
        let result = ConfusionMatrix::new(classes).run_logits_blocking(gpu, &shape, &[0.0; 12], &segment, targets);
        result.unwrap_err().to_string()
    };
    assert_eq!(refused(4, &[0; 4], Segment::new(2, 2)), "logits: expected 4 classes, found 3");
    assert_eq!(refused(3, &[0; 5], Segment::new(2, 2)), "targets: expected 4 elements, found 5");
    assert_eq!(refused(3, &[], Segment::new(0, 2)), "height: expected at least 1, found 0");
}

/// Scores by sets of pixels, as they are defined.
#[test]
fn scores_are_those_of_sets() {
    use std::collections::HashSet;
    let mut random = Random::new(7);
    for case in 0..200 {
        let (pixels, classes) = (1 + random.below(40), 1 + random.below(6));
        let few = 1 + random.below(classes);
        let label = |random: &mut Random| random.below(few);
        let predictions: Vec<_> = (0..pixels).map(|_| label(&mut random)).collect();
        let targets: Vec<_> = (0..pixels).map(|_| label(&mut random)).collect();
        let mut confusion = Confusion::new(classes);
        for (&target, &prediction) in targets.iter().zip(&predictions) {
            confusion.add(target, prediction, 1).unwrap();
        }
        let set = |labels: &[u32], class| -> HashSet<usize> {
            labels.iter().enumerate().filter(|&(_, &label)| label == class).map(|(i, _)| i).collect()
        };
        let of = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
        let mut scores = Vec::new();
        for class in 0..classes {
            let (t, p) = (set(&targets, class), set(&predictions, class));
            let (both, either) = (t.intersection(&p).count(), t.union(&p).count());
            let expected = [of(both, either), of(2 * both, t.len() + p.len()), of(both, p.len()), of(both, t.len())];
            let found =
                [confusion.iou(class), confusion.dice(class), confusion.precision(class), confusion.recall(class)];
            assert_eq!(found, expected, "case {case}, class {class}");
            scores.push((expected, t.len()));
        }
        let mean = |which: usize, instead: Option<f64>| {
            let values: Vec<_> = scores.iter().filter_map(|(scores, _)| scores[which].or(instead)).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        for (absent, instead) in [(Absent::Skip, None), (Absent::Zero, Some(0.0)), (Absent::One, Some(1.0))] {
            let found = [
                confusion.mean_iou(absent),
                confusion.mean_dice(absent),
                confusion.mean_precision(absent),
                confusion.mean_accuracy(absent),
            ];
            for (which, found) in found.into_iter().enumerate() {
                assert_eq!(found, mean(which, instead), "case {case}, {absent:?}, {which}");
            }
        }
        let weighted: f64 = scores.iter().map(|(scores, pixels)| scores[0].unwrap_or(0.0) * *pixels as f64).sum();
        assert!((confusion.frequency_weighted_iou() - weighted / f64::from(pixels)).abs() < 1e-12, "case {case}");
        let right = targets.iter().zip(&predictions).filter(|(a, b)| a == b).count();
        assert_eq!(confusion.pixel_accuracy(), right as f64 / f64::from(pixels));
    }
}

#[test]
fn no_pixels() {
    let none = Confusion::new(3);
    for score in [none.pixel_accuracy(), none.frequency_weighted_iou(), none.mean_iou(Absent::Skip)] {
        assert!(score.is_nan());
    }
    assert_eq!((none.mean_iou(Absent::Zero), none.mean_dice(Absent::One)), (0.0, 1.0));
    assert_eq!((none.iou(0), none.recall(7), none.precision(u32::MAX)), (None, None, None));
}

#[test]
fn parts_merge_into_the_whole() {
    let mut random = Random::new(8);
    let mut parts = Vec::new();
    for _ in 0..9 {
        let counts = (0..16).map(|_| random.bits() >> 10).collect();
        parts.push(Confusion::from_counts(4, counts).unwrap().with_ignored(random.bits() >> 10).unwrap());
    }
    let merged = |order: &mut dyn Iterator<Item = &Confusion>| {
        let mut all = Confusion::new(4);
        order.for_each(|part| all.merge(part).unwrap());
        all
    };
    let all = merged(&mut parts.iter());
    assert_eq!(all, merged(&mut parts.iter().rev()));
    let sum = |i: usize| parts.iter().map(|part| part.counts()[i]).sum::<u64>();
    assert!(all.counts().iter().enumerate().all(|(i, &count)| count == sum(i)));
    assert_eq!(all.ignored(), parts.iter().map(Confusion::ignored).sum::<u64>());

    let error = Confusion::new(3).merge(&all).unwrap_err().to_string();
    assert_eq!(error, "confusion matrix: expected 3 classes, found 4");
    let mut full = Confusion::from_counts(1, vec![u64::MAX - 1]).unwrap();
    assert!(matches!(full.add(0, 0, 2), Err(Error::Limit { .. })));
    assert!(matches!(full.clone().with_ignored(2), Err(Error::Limit { .. })));
    assert!(matches!(full.merge(&Confusion::from_counts(1, vec![2]).unwrap()), Err(Error::Limit { .. })));
    full.add(0, 0, 1).unwrap();
    assert_eq!((full.iou(0), full.dice(0), full.counted()), (Some(1.0), Some(1.0), u64::MAX));
    assert!(matches!(full.add(0, 1, 0), Err(Error::Class { class: 1, classes: 1 })));
    assert!(matches!(Confusion::from_counts(2, vec![0; 3]), Err(Error::Length { expected: 4, found: 3, .. })));
    assert!(matches!(Confusion::from_counts(2, vec![u64::MAX; 4]), Err(Error::Limit { .. })));
}

#[test]
fn misuse() {
    let gpu = watched_gpu(wgpu::Limits { min_storage_buffer_offset_alignment: 256, ..wgpu::Limits::defaults() });
    let map = packed_map(2, 9, 13);
    let operator = ConfusionMatrix::new(3);
    let storage = |bytes| buffer(&gpu, bytes, BufferUsages::STORAGE);
    let (labels, wide, records) = (storage(map.bytes(8)), storage(map.bytes(32)), storage(operator.bytes(&map)));
    let (small, large, other) = (storage(4), storage(4096), buffer(&gpu, 4096, BufferUsages::COPY_DST));
    assert_eq!(operator.bytes(&map), 2 * 14 * 4);
    let (u8s, u32s) = (LabelType::U8, LabelType::U32);
    let run = |operator: ConfusionMatrix,
               (labels, label_type): (&Buffer, _),
               (targets, target_type): (&Buffer, _),
               to: &Buffer| {
        let from = (labels.as_entire_buffer_binding(), label_type);
        let targets = Targets::new(targets.as_entire_buffer_binding(), target_type);
        operator.dispatch(&gpu, &map, from, targets, to.as_entire_buffer_binding()).map(drop)
    };
    run(operator, (&labels, u8s), (&wide, u32s), &records).unwrap();
    run(operator, (&labels, u8s), (&labels, u8s), &records).unwrap();
    let refused = |result: Result<(), Error>, expected: &str| assert_eq!(result.unwrap_err().to_string(), expected);
    let empty = "classes: expected at least 1, found 0";
    refused(run(ConfusionMatrix::new(0), (&labels, u8s), (&labels, u8s), &records), empty);
    let too_many = "labels of 8 bits: expected at most 256 classes, found 257";
    refused(run(ConfusionMatrix::new(257), (&labels, u8s), (&labels, u8s), &large), too_many);
    let too_small =
        |what, needed, found| format!("buffer of {what}: {needed} bytes needed from offset 0, found {found}");
    refused(run(operator, (&small, u8s), (&labels, u8s), &records), &too_small("predictions", 240, 4));
    refused(run(operator, (&labels, u32s), (&labels, u8s), &records), &too_small("predictions", 960, 240));
    refused(run(operator, (&labels, u8s), (&labels, u32s), &records), &too_small("target", 960, 240));
    refused(run(operator, (&labels, u8s), (&labels, u8s), &small), &too_small("confusion matrix", 112, 4));
    let found = |what| format!("buffer of {what}: expected usage BufferUsages(STORAGE), found BufferUsages(COPY_DST)");
    refused(run(operator, (&other, u8s), (&labels, u8s), &records), &found("predictions"));
    refused(run(operator, (&labels, u8s), (&other, u8s), &records), &found("target"));
    refused(run(operator, (&labels, u8s), (&labels, u8s), &other), &found("confusion matrix"));
    let same =
        |other| format!("confusion matrix and {other}: expected separate buffers or textures, found the same one");
    refused(run(operator, (&large, u8s), (&labels, u8s), &large), &same("predictions"));
    refused(run(operator, (&labels, u8s), (&large, u8s), &large), &same("target"));
    let result = run(ConfusionMatrix::new(u32::MAX), (&wide, u32s), (&labels, u8s), &large);
    assert!(matches!(result, Err(Error::BufferTooSmall { what: "confusion matrix", .. })), "{result:?}");
    let records = operator.records(&[0; 15]).unwrap_err().to_string();
    assert_eq!(records, "words of confusion matrices: expected 28 elements, found 15");
    assert!(matches!(ConfusionMatrix::new(0).records(&[0; 5]), Err(Error::Length { .. })));
}
