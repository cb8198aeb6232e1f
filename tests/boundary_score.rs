//! Boundary scores against their twin: all is integers, so they are equal, whatever the geometry of the maps, the types of
//! the labels and the way that they are split; and by hand.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Absent, BoundaryPixels, BoundaryRecord, BoundaryScore, BoundaryTable, Error, Gpu, LabelType, Logits, Map, Outputs,
    Segment, Targets, reference,
};

/// Maps, packed, N × H × W.
#[derive(Clone)]
struct Case {
    map: Map,
    classes: u32,
    tolerance: u32,
    ignore_index: Option<i64>,
    types: [LabelType; 2],
    predictions: Vec<u32>,
    targets: Vec<i64>,
}

/// The content of a buffer with the labels; in the padding is a class that makes a boundary with any other.
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
    fn operator(&self) -> BoundaryScore {
        BoundaryScore::new(self.classes, self.tolerance).ignore_index(self.ignore_index)
    }

    /// Records the counting, behind what nobody may write to, and the read-back.
    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>) -> Result<(), Error> {
        let [label_type, target_type] = self.types;
        let predictions = upload_bytes(gpu, &label_bytes(&self.map, label_type, self.predictions.iter().copied()));
        let targets = self.targets.iter().map(|&label| label as u32);
        let targets = upload_bytes(gpu, &label_bytes(&self.map, target_type, targets));
        let bytes = self.operator().bytes(&self.map);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let records = buffer(gpu, bytes + 512, usage);
        gpu.queue().write_buffer(&records, 0, &vec![GUARD; bytes as usize + 512]);
        let to = BufferBinding { buffer: &records, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let predictions = (predictions.as_entire_buffer_binding(), label_type);
        let targets = Targets::new(targets.as_entire_buffer_binding(), target_type);
        let dispatch = self.operator().dispatch(gpu, &self.map, predictions, targets, to)?;
        // Twice, so that what is left of the first time does not count.
        recorder.record(&dispatch, &[]);
        recorder.record(&dispatch, &[&records]);
        Ok(())
    }

    /// The records among `bytes`, what [`record`](Self::record) reads back.
    fn records(&self, bytes: &[u8]) -> Vec<BoundaryRecord> {
        let end = 256 + self.operator().bytes(&self.map) as usize;
        assert!(bytes[..256].iter().chain(&bytes[end..]).all(|&byte| byte == GUARD), "written beside the records");
        self.operator().records(&bytemuck::pod_collect_to_vec::<u8, u32>(&bytes[256..end])).unwrap()
    }

    fn check(&self, what: &str, bytes: &[u8]) {
        let width = self.map.width() as usize;
        let pixels = self.map.height() as usize * width;
        let records = self.records(bytes);
        assert_eq!(records.len(), self.map.images() as usize, "{what}");
        for (i, record) in records.iter().enumerate() {
            let what = format!("{what}, image {i}");
            let of_image = i * pixels..(i + 1) * pixels;
            let (predictions, targets) = (&self.predictions[of_image.clone()], &self.targets[of_image]);
            let Self { classes, tolerance, ignore_index, .. } = *self;
            let expected = reference::boundary_score(classes, tolerance, ignore_index, width, predictions, targets);
            assert_eq!(record.table.classes(), expected.classes, "{what}");
            let invalid = [record.invalid_targets, record.invalid_predictions].map(u64::from);
            assert_eq!(invalid, [expected.invalid_targets, expected.invalid_predictions], "{what}");
            let first = [record.first_invalid_target, record.first_invalid_prediction];
            let first = first.map(|first| first.map(|first| first as usize));
            assert_eq!(first, [expected.first_invalid_target, expected.first_invalid_prediction], "{what}");
        }
    }
}

const GUARD: u8 = 0xa5;

fn packed_map(n: u32, h: u32, w: u32) -> Map {
    Logits::nchw(n, 1, h, w).unwrap().map()
}

fn padded_map(n: u32, h: u32, w: u32) -> Map {
    Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1).unwrap()).unwrap()
}

/// Packed maps, of every width modulo four, and such with padded rows; heights that are whole blocks of rows and not;
/// batches.
fn maps() -> Vec<Map> {
    let mut maps: Vec<_> = awkward_shapes(1).iter().map(Logits::map).collect();
    for (height, width) in [(1, 1), (9, 1), (70, 1), (8, 8), (40, 3), (7, 65), (17, 66), (16, 67), (61, 59)] {
        maps.extend([packed_map(1, height, width), padded_map(1, height, width), packed_map(3, height, width)]);
    }
    maps.push(padded_map(2, 33, 101));
    maps
}

/// Labels of a kind: noise, rectangles, stripes, one class, dots; some are no class, where there is a number for that.
fn labels(map: &Map, classes: u32, void: u32, kind: u32, random: &mut Random) -> Vec<u32> {
    // The first number that is no class, too.
    let label = |i: u32| if i == classes { void } else { i.min(classes).min(void) };
    let (of_rows, of_columns) = (1 + random.below(9), 1 + random.below(40));
    let (right, down) = (random.below(5), random.below(5));
    let (width, height) = (map.width(), map.height());
    let at = |i: u32| (i / width / height, i / width % height + down, i % width + right);
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
                6 => label((y / 6 + x / 7) % classes),
                // Mostly one class, now and then something else.
                _ => label(if random.below(50) == 0 { random.below(classes + 2) } else { 0 }),
            }
        })
        .collect()
}

fn random_case(map: Map, kind: u32, random: &mut Random) -> Case {
    let types = [(); 2].map(|()| if random.below(2) == 0 { LabelType::U8 } else { LabelType::U32 });
    let classes = match types {
        [LabelType::U32, LabelType::U32] => [1, 3, 21, 300][random.below(4) as usize],
        [LabelType::U32, LabelType::U8] => [1, 3, 21, 256][random.below(4) as usize],
        _ => [1, 2, 5, 21, 255][random.below(5) as usize],
    };
    let tolerance = [0, 1, 2, 3, 4, 5, 7, 10, 31, 255][random.below(10) as usize];
    let void = |label_type| if label_type == LabelType::U8 { 255 } else { u32::MAX };
    let [voids, target_void] = types.map(void);
    let predictions = labels(&map, classes.min(voids), voids, kind, random);
    let other = if random.below(2) == 0 { kind } else { random.below(8) };
    let codes = labels(&map, classes.min(target_void), target_void, other, random);
    // The last number of 32 bits is −1.
    let targets = codes.into_iter().map(|code| if code == u32::MAX { -1 } else { code.into() }).collect();
    let ignored = [-1, 255, i64::from(classes / 2), i64::MAX, i64::from(i32::MIN) - 1];
    let ignore_index = (random.below(4) > 0).then(|| ignored[random.below(5) as usize]);
    // Labels of 8 bits are never negative.
    let ignore_index = ignore_index.filter(|&index| types[1] == LabelType::U32 || index >= 0);
    Case { map, classes, tolerance, ignore_index, types, predictions, targets }
}

fn words(case: &Case) -> String {
    let Case { map, types, classes, tolerance, ignore_index, .. } = case;
    format!("{map:?}, {types:?}, {classes} classes, {tolerance} px, {ignore_index:?}")
}

#[test]
fn agrees_with_the_twin() {
    for gpu in [gpu(), default_limits_gpu()] {
        let mut random = Random::new(1);
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for map in maps() {
            for kind in 0..8 {
                let case = random_case(map, kind, &mut random);
                case.record(gpu, &mut recorder).unwrap();
                cases.push((format!("{}, kind {kind}", words(&case)), case));
            }
        }
        for ((what, case), bytes) in cases.iter().zip(recorder.finish()) {
            case.check(what, &bytes);
        }
    }
}

/// A boundary pixel in either map and nothing else, as far apart as is still near, and a step further: every offset.
#[test]
fn every_offset() {
    let gpu = gpu();
    for tolerance in [0, 1, 2, 3, 5, 6] {
        let reach = tolerance as i32 + 1;
        let size = 2 * reach as u32 + 6;
        let map = packed_map(1, size, size);
        let centre = (size as i32 / 2, size as i32 / 2);
        let dot = |(row, column): (i32, i32)| (row * size as i32 + column) as usize;
        let mut recorder = Recorder::new(gpu);
        let mut cases = Vec::new();
        for (down, right) in (-reach..=reach).flat_map(|down| (-reach..=reach).map(move |right| (down, right))) {
            let (mut predictions, mut targets) = (vec![0; map.pixels()], vec![0; map.pixels()]);
            predictions[dot(centre)] = 1;
            targets[dot((centre.0 + down, centre.1 + right))] = 1;
            let types = [LabelType::U8; 2];
            let case = Case { map, classes: 2, tolerance, ignore_index: None, types, predictions, targets };
            case.record(gpu, &mut recorder).unwrap();
            cases.push((down, right, case));
        }
        for ((down, right, case), bytes) in cases.iter().zip(recorder.finish()) {
            let near = u64::from(down * down + right * right <= (tolerance * tolerance) as i32);
            let found = case.records(&bytes)[0].table.classes()[1];
            let expected =
                BoundaryPixels { predicted: 1, predicted_matched: near, expected: 1, expected_matched: near };
            assert_eq!(found, expected, "{down}, {right} within {tolerance}");
        }
    }
}

#[test]
fn known_numbers() {
    let map = padded_map(1, 4, 6);
    let (v, w) = (255, 200);
    #[rustfmt::skip]
    let targets = vec![
        0, 0, 0, 1, 1, 1,
        0, 0, 0, 1, 1, 1,
        0, 0, v, v, 1, 1,
        0, 0, 2, 2, 2, w,
    ];
    #[rustfmt::skip]
    let predictions = vec![
        0, 0, 1, 1, 1, 1,
        0, 0, 1, 1, 1, 1,
        0, 0, 2, 1, 1, 9,
        0, 0, 0, 2, 2, 2,
    ];
    let types = [LabelType::U8; 2];
    let case = Case { map, classes: 4, tolerance: 1, ignore_index: Some(255), types, predictions, targets };
    let mut recorder = Recorder::new(gpu());
    case.record(gpu(), &mut recorder).unwrap();
    let record = &case.records(&recorder.finish().next().unwrap())[0];
    let pixels = |[predicted, predicted_matched, expected, expected_matched]: [u64; 4]| BoundaryPixels {
        predicted,
        predicted_matched,
        expected,
        expected_matched,
    };
    // Predicted are of class 0 two pixels above and one below, of class 1 two above and the one of the third row that
    // is beside neither void nor what is no class, of class 2 two pixels below; void beside them makes none.
    let expected = [[3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [0, 0, 0, 0]];
    assert_eq!(record.table.classes(), expected.map(pixels));
    assert_eq!((record.invalid_targets, record.first_invalid_target), (1, Some(23)));
    assert_eq!((record.invalid_predictions, record.first_invalid_prediction), (1, Some(17)));
}

/// An image of several thousand rows and columns, whose boundaries meet only where they are as far apart as is near.
#[test]
fn far_from_the_corner() {
    let gpu = gpu();
    let map = packed_map(1, 1203, 2049);
    let place = |(row, column): (usize, usize)| row * 2049 + column;
    let mut bytes = [vec![0u8; map.bytes(8) as usize], vec![0u8; map.bytes(8) as usize]];
    bytes[0][place((1200, 2040))] = 1;
    bytes[1][place((1176, 2033))] = 1;
    let [predictions, targets] = bytes.map(|bytes| upload_bytes(gpu, &bytes));
    for (tolerance, near) in [(25, 1), (24, 0)] {
        let operator = BoundaryScore::new(2, tolerance);
        let records = output(gpu, operator.bytes(&map));
        let from = (predictions.as_entire_buffer_binding(), LabelType::U8);
        let against = Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
        let dispatch = operator.dispatch(gpu, &map, from, against, records.as_entire_buffer_binding()).unwrap();
        let mut recorder = Recorder::new(gpu);
        recorder.record(&dispatch, &[&records]);
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
        let [around, dot] = [0, 1].map(|class| operator.records(&words).unwrap()[0].table.classes()[class]);
        assert_eq!((around.predicted, around.expected), (4, 4));
        assert_eq!((dot.predicted, dot.predicted_matched, dot.expected_matched), (1, near, near));
    }
}

/// Bit for bit what a device counts that can bind everything; and what cannot be bound is refused.
#[test]
fn small_bindings() {
    let maps = [packed_map(1, 31, 40), packed_map(9, 5, 9), packed_map(3, 23, 21), padded_map(10, 3, 5)];
    let small = watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: 16384,
        max_uniform_buffer_binding_size: 16384,
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    });
    let mut random = Random::new(2);
    let mut recorder = Recorder::new(&small);
    let mut cases = Vec::new();
    for map in maps.iter().chain(&[padded_map(2, 71, 101), packed_map(70, 13, 11)]) {
        for kind in 0..8 {
            let mut case = random_case(*map, kind, &mut random);
            let of_image = u64::from(map.image_stride()) * u64::from(case.types[0].bits() / 8) * 2;
            while case.operator().bytes(map) > 16384 {
                case = random_case(*map, kind, &mut random);
            }
            match case.record(&small, &mut recorder) {
                Ok(()) => cases.push(case),
                Err(error) => assert!(of_image > 16384 / 4 && matches!(error, Error::Limit { .. }), "{error}"),
            }
        }
    }
    assert!(cases.len() > 35, "{}", cases.len());
    for (case, found) in cases.iter().zip(recorder.finish()) {
        case.check(&words(case), &found);
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
    let codes = targets.iter().map(|&label| label as u32);
    let target_buffer = upload_bytes(gpu, &label_bytes(&map, LabelType::U32, codes));
    let operator = BoundaryScore::new(6, 3).ignore_index(Some(255));
    let records = output(gpu, operator.bytes(&map));
    let from = (labelled.as_entire_buffer_binding(), LabelType::U8);
    let against = Targets::new(target_buffer.as_entire_buffer_binding(), LabelType::U32);
    let dispatch = operator.dispatch(gpu, &map, from, against, records.as_entire_buffer_binding()).unwrap();
    let names: Vec<_> = dispatch.kernels().iter().map(ToString::to_string).collect();
    let expected = ["boundary score clear", "boundary score mark (u8, u32 targets)", "boundary score count (u8)"];
    assert_eq!(names, expected);
    let mut recorder = Recorder::new(gpu);
    recorder.record(&segmented, &[&labelled]);
    recorder.record(&dispatch, &[&records]);
    let read: Vec<_> = recorder.finish().collect();
    let predictions = unpad_map::<u8>(&map, &read[0]).into_iter().map(u32::from).collect();
    let types = [LabelType::U8, LabelType::U32];
    let case = Case { map, classes: 6, tolerance: 3, ignore_index: Some(255), types, predictions, targets };
    let guard = [GUARD; 256];
    case.check("segmentation", &[&guard[..], &read[1], &guard].concat());
}

#[test]
fn labels_on_the_host() {
    let mut random = Random::new(5);
    let small = wgpu::Limits {
        max_storage_buffer_binding_size: 16384,
        max_uniform_buffer_binding_size: 16384,
        ..wgpu::Limits::defaults()
    };
    for gpu in [wgpu::Limits::defaults(), small].map(watched_gpu) {
        for (images, height, width) in [(0, 3, 3), (1, 1, 1), (5, 17, 23), (40, 9, 50)] {
            for (classes, ignore_index) in [(3, None), (254, Some(-100)), (255, Some(0)), (5, Some(255))] {
                let (tolerance, of_image) = (random.below(4), height * width);
                let map = packed_map(images.max(1), height, width);
                let mut part = || labels(&map, classes, 0, [0, 1, 6][random.below(3) as usize], &mut random);
                let [predictions, targets] = [part(), part()].map(|labels| {
                    let classes = labels.into_iter().map(|label| label.min(classes - 1));
                    classes.take((images * of_image) as usize).collect::<Vec<_>>()
                });
                let operator = BoundaryScore::new(classes, tolerance).ignore_index(ignore_index);
                let found = operator.run_blocking(&gpu, [height, width], &predictions, &targets).unwrap();
                let mut expected = BoundaryTable::new(classes);
                let of_images = predictions.chunks(of_image as usize).zip(targets.chunks(of_image as usize));
                for (predictions, targets) in of_images {
                    let targets: Vec<_> = targets.iter().map(|&target| target.into()).collect();
                    let width = width as usize;
                    let totals =
                        reference::boundary_score(classes, tolerance, ignore_index, width, predictions, &targets);
                    expected.add(&BoundaryTable::from_classes(totals.classes)).unwrap();
                }
                assert_eq!(found, expected, "{images} × {height} × {width}, {classes}, {ignore_index:?}");
            }
        }
        let operator = BoundaryScore::new(3, 2).ignore_index(Some(-1));
        let (mut predictions, mut targets) = (vec![0i32; 600], vec![0i32; 600]);
        predictions[401] = 3;
        let run = |predictions: &[i32], targets: &[i32]| {
            operator.run_blocking(&gpu, [10, 20], predictions, targets).map_err(|error| error.to_string())
        };
        let error = run(&predictions, &targets).unwrap_err();
        assert_eq!(error, "prediction[401]: expected a class below 3, found label 3");
        targets[401] = -1;
        assert_eq!(run(&predictions, &targets), Ok(BoundaryTable::new(3)));
        targets[599] = -2;
        let error = run(&predictions, &targets).unwrap_err();
        assert_eq!(error, "target[599]: expected a class below 3 or the ignore index, found label -2");
        assert_eq!(run(&predictions[1..], &targets).unwrap_err(), "predictions: expected 600 elements, found 599");
        let error = run(&predictions[..599], &targets[..599]).unwrap_err();
        assert_eq!(error, "targets: expected 600 elements, found 599");
        let error = operator.run_blocking(&gpu, [0, 20], &predictions, &targets).unwrap_err().to_string();
        assert_eq!(error, "height: expected at least 1, found 0");
    }
}

#[test]
fn scores() {
    let pixels = |[predicted, predicted_matched, expected, expected_matched]: [u64; 4]| BoundaryPixels {
        predicted,
        predicted_matched,
        expected,
        expected_matched,
    };
    let table = [[4, 3, 6, 3], [5, 0, 5, 0], [0, 0, 3, 0], [2, 0, 0, 0], [0; 4]].map(pixels);
    let mut table = BoundaryTable::from_classes(table.to_vec());
    let f1 = |table: &BoundaryTable| table.classes().iter().map(BoundaryPixels::f1).collect::<Vec<_>>();
    let some = 2.0 * 0.75 * 0.5 / 1.25;
    assert_eq!(f1(&table), [Some(some), Some(0.0), Some(0.0), Some(0.0), None]);
    assert_eq!((table.classes()[2].precision(), table.classes()[2].recall()), (None, Some(0.0)));
    assert_eq!(table.mean_f1(Absent::Skip), some / 4.0);
    assert_eq!(table.mean_f1(Absent::Zero), some / 5.0);
    assert_eq!(table.mean_f1(Absent::One), (some + 1.0) / 5.0);
    assert!(BoundaryTable::new(3).mean_f1(Absent::Skip).is_nan());
    let error = table.add(&BoundaryTable::new(4)).unwrap_err().to_string();
    assert_eq!(error, "boundary table: expected 5 classes, found 4");
    let before = table.clone();
    let more = [[1, 1, 1, 1], [u64::MAX, 0, 0, 0], [0; 4], [0; 4], [0; 4]].map(pixels);
    let more = BoundaryTable::from_classes(more.to_vec());
    assert!(matches!(table.add(&more), Err(Error::Limit { .. })));
    assert_eq!(table, before);
    table.add(&before).unwrap();
    assert_eq!(f1(&table), f1(&before));
    assert_eq!(table.classes()[0], pixels([8, 6, 12, 6]));
    assert_eq!(BoundaryScore::of_diagonal([360, 480]), 5);
    assert_eq!(BoundaryScore::of_diagonal([1, 1]), 0);
}

#[test]
fn misuse() {
    let gpu = watched_gpu(wgpu::Limits { min_storage_buffer_offset_alignment: 256, ..wgpu::Limits::defaults() });
    let map = packed_map(2, 9, 13);
    let operator = BoundaryScore::new(3, 2);
    let storage = |bytes| buffer(&gpu, bytes, BufferUsages::STORAGE);
    let (labels, wide, records) = (storage(map.bytes(8)), storage(map.bytes(32)), storage(operator.bytes(&map)));
    let (small, large, other) = (storage(4), storage(4096), buffer(&gpu, 4096, BufferUsages::COPY_DST));
    assert_eq!(operator.bytes(&map), 2 * 4 * 16);
    let (u8s, u32s) = (LabelType::U8, LabelType::U32);
    let run = |operator: BoundaryScore,
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
    refused(run(BoundaryScore::new(0, 2), (&labels, u8s), (&labels, u8s), &records), empty);
    let too_many = "labels of 8 bits: expected at most 255 classes, found 256";
    refused(run(BoundaryScore::new(256, 2), (&labels, u8s), (&labels, u8s), &large), too_many);
    let too_far = run(BoundaryScore::new(3, 256), (&labels, u8s), (&labels, u8s), &records);
    refused(too_far, "pixels of tolerance: 256 needed, but the limit is 255");
    let too_small =
        |what, needed, found| format!("buffer of {what}: {needed} bytes needed from offset 0, found {found}");
    refused(run(operator, (&small, u8s), (&labels, u8s), &records), &too_small("predictions", 240, 4));
    refused(run(operator, (&labels, u32s), (&labels, u8s), &records), &too_small("predictions", 960, 240));
    refused(run(operator, (&labels, u8s), (&labels, u32s), &records), &too_small("target", 960, 240));
    refused(run(operator, (&labels, u8s), (&labels, u8s), &small), &too_small("boundary records", 128, 4));
    let found = |what| format!("buffer of {what}: expected usage BufferUsages(STORAGE), found BufferUsages(COPY_DST)");
    refused(run(operator, (&other, u8s), (&labels, u8s), &records), &found("predictions"));
    refused(run(operator, (&labels, u8s), (&other, u8s), &records), &found("target"));
    refused(run(operator, (&labels, u8s), (&labels, u8s), &other), &found("boundary records"));
    let same =
        |other| format!("boundary records and {other}: expected separate buffers or textures, found the same one");
    refused(run(operator, (&large, u8s), (&labels, u8s), &large), &same("predictions"));
    refused(run(operator, (&labels, u8s), (&large, u8s), &large), &same("target"));
    let result = run(BoundaryScore::new(u32::MAX, 2), (&wide, u32s), (&labels, u8s), &large);
    assert!(matches!(result, Err(Error::BufferTooSmall { what: "boundary records", .. })), "{result:?}");
    let records = operator.records(&[0; 15]).unwrap_err().to_string();
    assert_eq!(records, "words of boundary records: expected 16 elements, found 15");
    assert!(matches!(BoundaryScore::new(0, 2).records(&[0; 4]), Err(Error::Length { .. })));
}
