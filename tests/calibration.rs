//! Reliability tables against their twin: all but the confidences is counts, so they are equal, whatever the geometry
//! of the maps, the labels and the way that they are split; and so are the confidences, each pixel's rounded first.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Calibration, CalibrationRecord, Error, Gpu, LabelType, Logits, Map, Outputs, Readback, ReliabilityBin,
    ReliabilityTable, Segment, Targets, reference,
};

/// Maps, packed, N × H × W.
#[derive(Clone)]
struct Case {
    map: Map,
    bins: u32,
    ignore_index: Option<i64>,
    types: [LabelType; 2],
    labels: Vec<u32>,
    targets: Vec<u32>,
    confidence: Vec<f32>,
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

/// The content of a buffer of labels; in its padding lies what would be right.
fn label_bytes(map: &Map, label_type: LabelType, labels: &[u32]) -> Vec<u8> {
    let laid = lay(map, labels, 1);
    match label_type {
        LabelType::U8 => laid.iter().map(|&label| label as u8).collect(),
        LabelType::U32 => bytemuck::cast_slice(&laid).to_vec(),
    }
}

const GUARD: u8 = 0xa5;

fn guarded(gpu: &Gpu, bytes: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let out = buffer(gpu, bytes, usage);
    gpu.queue().write_buffer(&out, 0, &vec![GUARD; bytes as usize]);
    out
}

impl Case {
    fn operator(&self) -> Calibration {
        Calibration::new().bins(self.bins).ignore_index(self.ignore_index)
    }

    /// The contents of the buffers of labels, confidences and targets.
    fn inputs(&self) -> [Vec<u8>; 3] {
        let [labels, targets] = self.types;
        // Which of them lies in the padding must not matter.
        let fill = if self.confidence.len().is_multiple_of(2) { f32::NAN } else { 0.75 };
        [
            label_bytes(&self.map, labels, &self.labels),
            bytemuck::cast_slice(&lay(&self.map, &self.confidence, fill)).to_vec(),
            label_bytes(&self.map, targets, &self.targets),
        ]
    }

    /// Records the counting, into what has guards on both sides, and its read-back.
    fn record(&self, gpu: &Gpu, recorder: &mut Recorder<'_>) -> Result<(), Error> {
        let [labels, confidence, targets] = self.inputs().map(|bytes| upload_bytes(gpu, &bytes));
        let bytes = self.operator().bytes(&self.map);
        let records = guarded(gpu, bytes + 512);
        let binding = BufferBinding { buffer: &records, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let dispatch = self.operator().dispatch(
            gpu,
            &self.map,
            (labels.as_entire_buffer_binding(), self.types[0]),
            confidence.as_entire_buffer_binding(),
            Targets::new(targets.as_entire_buffer_binding(), self.types[1]),
            binding,
        )?;
        recorder.record(&dispatch, &[&records]);
        Ok(())
    }

    /// The records among `bytes`, what [`record`](Self::record) reads back.
    fn records(&self, bytes: &[u8]) -> Vec<CalibrationRecord> {
        let end = 256 + self.operator().bytes(&self.map) as usize;
        assert!(bytes[..256].iter().chain(&bytes[end..]).all(|&byte| byte == GUARD), "written beside the records");
        bytemuck::pod_collect_to_vec(&bytes[256..end])
    }

    fn check(&self, what: &str, bytes: &[u8]) {
        let records = self.records(bytes);
        let of_image = self.map.height() as usize * self.map.width() as usize;
        let ignored = self.ignore_index.map(|index| index as u32);
        let mut sum = ReliabilityTable::new(self.bins).unwrap();
        for (image, found) in records.chunks_exact(self.bins as usize + 1).enumerate() {
            let range = image * of_image..(image + 1) * of_image;
            let (confidence, labels) = (&self.confidence[range.clone()], &self.labels[range.clone()]);
            let targets = &self.targets[range];
            let expected = reference::calibration(self.bins, confidence, labels, targets, ignored);
            assert_eq!(found.len(), expected.len(), "{what}");
            // As the sums of units, which are integers.
            let rounded: Vec<f32> = confidence.iter().map(|&c| if c.is_nan() { c } else { units(c) as f32 }).collect();
            for (k, (record, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("{what}, image {image}, bin {k}: {record:?}, expected {expected:?}");
                assert_eq!(u64::from(record.pixels), expected.pixels, "{what}");
                assert_eq!(u64::from(record.right), expected.right, "{what}");
                let of_bin = |c: f32, units: f32| in_bin(c, k as u32, self.bins).then_some(units as u64);
                let counted = (0..of_image).filter(|&i| Some(targets[i]) != ignored);
                let sum: u64 = counted.filter_map(|i| of_bin(confidence[i], rounded[i])).sum();
                assert_eq!(number(record.confidence_sum), sum, "{what}");
                let bound = expected.pixels as f64 * (0.5 + f64::EPSILON * f64::from(1 << 24));
                assert!((sum as f64 - expected.confidence_sum * 16_777_216.0).abs() <= bound, "{what}");
            }
            // The table of an image, and what it comes to.
            let table = self.operator().table(found).unwrap();
            assert_eq!(table.nan(), expected[self.bins as usize].pixels, "{what}");
            let gaps = expected[..self.bins as usize].iter().filter(|bin| bin.pixels != 0).map(|bin| {
                let pixels = bin.pixels as f64;
                (pixels, (bin.right as f64 / pixels - bin.confidence_sum / pixels).abs())
            });
            let all: f64 = gaps.clone().map(|(pixels, _)| pixels).sum();
            let mean = gaps.clone().map(|(pixels, gap)| pixels / all * gap).sum::<f64>();
            let worst = gaps.map(|(_, gap)| gap).fold(f64::NAN, f64::max);
            let close = |got: f64, expected: f64| (got - expected).abs() <= 1e-7 || got.is_nan() && all == 0.0;
            assert!(close(table.expected_calibration_error(), mean), "{what}: {mean}");
            assert!(close(table.maximum_calibration_error(), worst), "{what}: {worst}");
            sum.add(&table).unwrap();
        }
        assert_eq!(self.operator().table(&records).unwrap(), sum, "{what}");
    }
}

/// A confidence in 2⁻²⁴.
fn units(confidence: f32) -> u32 {
    (f64::from(confidence).clamp(0.0, 1.0) * 16_777_216.0).round_ties_even() as u32
}

fn in_bin(confidence: f32, k: u32, bins: u32) -> bool {
    let edge = |k: u32| k as f32 / bins as f32;
    (k == 0 || confidence > edge(k)) && (k + 1 == bins || confidence <= edge(k + 1)) && k < bins
}

fn number([low, high]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
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

/// An edge of the bins, or a neighbour of one.
fn near_an_edge(bins: u32, random: &mut Random) -> f32 {
    let edge = random.below(bins + 1) as f32 / bins as f32;
    [edge, edge.next_up(), edge.next_down()][random.below(3) as usize]
}

const SPECIAL: [f32; 10] =
    [f32::INFINITY, f32::NEG_INFINITY, -0.5, 1.5, -0.0, 0.0, 1.0, 1e-40, 2.980_232_2e-8, 8.940_697e-8];

/// Confidences of a kind: mostly sure, 0..1, at the edges, with special values, with NaN as well, all 1.
fn confidence(bins: u32, kind: u32, random: &mut Random) -> f32 {
    let uniform = (random.bits() as f64 / u64::MAX as f64) as f32;
    match kind {
        0 if random.below(20) != 0 => 1.0 - uniform / 200.0,
        2 => near_an_edge(bins, random),
        3 | 4 if random.below(5) == 0 => SPECIAL[random.below(10) as usize],
        4 if random.below(20) == 0 => f32::from_bits([0x7fc0_0000, 0xff80_0001][random.below(2) as usize]),
        5 => 1.0,
        _ => uniform,
    }
}

fn random_case(map: Map, kind: u32, random: &mut Random) -> Case {
    let types = [0; 2].map(|_| [LabelType::U8, LabelType::U32][random.below(2) as usize]);
    let bins = [1, 2, 3, 5, 10, 15, 100, 255][random.below(8) as usize];
    let ignore_index = [None, Some(255), Some(1), Some(-100)][random.below(4) as usize];
    let void = if types[1] == LabelType::U8 { 255 } else { [255, -100i32 as u32][random.below(2) as usize] };
    let share = [2, 20][random.below(2) as usize];
    let (mut labels, mut targets, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..map.pixels() {
        let label = random.below(3);
        let target = if random.below(share) == 0 { [void, 0, 1][random.below(3) as usize] } else { label };
        labels.push(label);
        targets.push(target);
        scores.push(confidence(bins, kind, random));
    }
    Case { map, bins, ignore_index, types, labels, targets, confidence: scores }
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
                let Case { bins, types, ignore_index, .. } = &case;
                cases.push((format!("{i}: {map:?}, {bins} bins, {types:?}, {ignore_index:?}, kind {kind}"), case));
            }
        }
        for ((what, case), bytes) in cases.iter().zip(recorder.finish()) {
            case.check(what, &bytes);
        }
    }
}

/// Every edge of many numbers of bins, with what is just above and below it.
#[test]
fn edges_of_bins() {
    let mut recorder = Recorder::new(gpu());
    let mut cases = Vec::new();
    for bins in (1..=40).chain([99, 100, 1000, 4095, 65_535, 65_536]) {
        let step = (bins / 500).max(1);
        let edges = (0..=bins).filter(|k| k % step == 0 || k + 9 > bins).map(|k| k as f32 / bins as f32);
        let confidence: Vec<f32> = edges.flat_map(|edge| [edge.next_down(), edge, edge.next_up()]).collect();
        let map = Logits::chw(1, 1, confidence.len() as u32).unwrap().map();
        let labels = vec![3; confidence.len()];
        let types = [LabelType::U8, LabelType::U32];
        let case = Case { map, bins, ignore_index: None, types, targets: labels.clone(), labels, confidence };
        case.record(gpu(), &mut recorder).unwrap();
        cases.push(case);
    }
    for (case, bytes) in cases.iter().zip(recorder.finish()) {
        let records = case.records(&bytes);
        let mut expected = vec![(0, 0); case.bins as usize + 1];
        for &c in &case.confidence {
            // The bin by a search of the edges.
            let edges = (1..case.bins).collect::<Vec<_>>();
            let (pixels, sum) = &mut expected[edges.partition_point(|&k| c > k as f32 / case.bins as f32)];
            *pixels += 1;
            *sum += u64::from(units(c));
        }
        for (k, (record, &(pixels, sum))) in records.iter().zip(&expected).enumerate() {
            let what = format!("bin {k} of {}", case.bins);
            assert_eq!((record.pixels, record.right, number(record.confidence_sum)), (pixels, pixels, sum), "{what}");
        }
    }
}

/// Counted by hand.
#[test]
fn known_numbers() {
    let map = Segment::new(3, 5).map(&Logits::chw(1, 1, 1).unwrap()).unwrap();
    let (v, nan) = (255, f32::NAN);
    #[rustfmt::skip]
    let labels = vec![
        0, 2, 2, 2, 1,
        0, 2, 2, 1, 1,
        0, 0, 0, 0, 1,
    ];
    #[rustfmt::skip]
    let targets = vec![
        v, 2, 2, 2, v,
        0, 2, 1, 1, 1,
        0, 0, 7, 2, 1,
    ];
    #[rustfmt::skip]
    let confidence = vec![
        0.9, 0.5, 0.75, 1.0, nan,
        1.0, 0.25, 0.5, nan, 0.5,
        0.0, 0.75, 0.875, 0.625, -1.0,
    ];
    let types = [LabelType::U8, LabelType::U8];
    let case = Case { map, bins: 4, ignore_index: Some(255), types, labels, targets, confidence };
    let mut recorder = Recorder::new(gpu());
    case.record(gpu(), &mut recorder).unwrap();
    let records = case.records(&recorder.finish().next().unwrap());
    let of = |pixels, right, sum: f64| CalibrationRecord {
        pixels,
        right,
        confidence_sum: [(sum * f64::from(1 << 24)) as u32, 0],
    };
    // (…, ¼]: 0.25, 0, −1; (¼, ½]: 0.5 three times, one of them wrong; (½, ¾]: 0.75 twice, 0.625 wrong; (¾, 1]: 1
    // twice, 0.875 wrong; NaN once, and once where the target is void.
    assert_eq!(records, [of(3, 3, 0.25), of(3, 2, 1.5), of(3, 2, 2.125), of(3, 2, 2.875), of(1, 1, 0.0)]);
    let table = case.operator().table(&records).unwrap();
    let gaps = [1.0 - 0.25 / 3.0, (2.0 - 1.5) / 3.0, (2.125 - 2.0) / 3.0, (2.875 - 2.0) / 3.0];
    assert!((table.expected_calibration_error() - gaps.iter().sum::<f64>() / 4.0).abs() < 1e-15);
    assert!((table.maximum_calibration_error() - gaps[0]).abs() < 1e-15);
    assert_eq!((table.pixels(), table.nan(), table.accuracy()), (12, 1, Some(0.75)));
    assert_eq!(table.mean_confidence(), Some(6.75 / 12.0));
    assert_eq!(table.edges(1), [0.25, 0.5]);
    assert_eq!(table.edges(3), [0.75, 1.0]);
}

/// The example of torchmetrics 1 for `multiclass_calibration_error`, none of whose confidences is on an edge.
#[test]
fn as_torchmetrics() {
    let map = Logits::chw(1, 1, 4).unwrap().map();
    let types = [LabelType::U8, LabelType::U8];
    let (labels, targets, confidence) = (vec![2, 0, 2, 0], vec![0, 1, 2, 0], vec![0.55, 0.55, 0.6, 0.9]);
    let case = Case { map, bins: 3, ignore_index: None, types, labels, targets, confidence };
    let mut recorder = Recorder::new(gpu());
    case.record(gpu(), &mut recorder).unwrap();
    let table = case.operator().table(&case.records(&recorder.finish().next().unwrap())).unwrap();
    assert!((table.expected_calibration_error() - 0.2).abs() < 1e-7);
    assert!((table.maximum_calibration_error() - 0.2333).abs() < 5e-5);
}

/// Sums beyond 32 bits, from many invocations that carry over, and a low word that is full or has just passed that.
#[test]
fn sums_beyond_32_bits() {
    let types = [LabelType::U8, LabelType::U8];
    for (width, less) in [(256, true), (256, false), (300_001, false)] {
        let map = Logits::chw(1, 1, width).unwrap().map();
        let labels = vec![0; width as usize];
        let mut confidence = vec![1.0; width as usize];
        confidence[77] -= if less { f32::EPSILON / 2.0 } else { 0.0 };
        let case = Case { map, bins: 7, ignore_index: None, types, targets: labels.clone(), labels, confidence };
        let mut recorder = Recorder::new(gpu());
        case.record(gpu(), &mut recorder).unwrap();
        let records = case.records(&recorder.finish().next().unwrap());
        let sum = (u64::from(width) << 24) - u64::from(less);
        assert_eq!(number(records[6].confidence_sum), sum);
        assert_eq!((records[6].pixels, records[6].right), (width, width));
    }
}

/// Bit for bit what a device writes that can bind everything.
#[test]
fn small_bindings() {
    let packed = |n, h, w| Logits::nchw(n, 1, h, w).unwrap().map();
    let padded = |n, h, w| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1).unwrap()).unwrap();
    let maps = [packed(1, 64, 80), packed(1, 61, 83), packed(9, 5, 9), packed(3, 61, 61), packed(1, 1, 9999)];
    let maps = [maps.as_slice(), &[padded(2, 71, 101), padded(40, 3, 5), packed(3, 5000, 1)]].concat();
    for bytes in [2048, 4096, 16384] {
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
            for kind in 0..5 {
                let case = Case { bins: 2, ..random_case(*map, kind, &mut random) };
                case.record(&small, &mut split).unwrap();
                case.record(gpu(), &mut whole).unwrap();
                cases.push(case);
            }
        }
        for ((case, split), whole) in cases.iter().zip(split.finish()).zip(whole.finish()) {
            let what = format!("{bytes}: {:?}, {:?}", case.map, case.types);
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
    let types = [LabelType::U8, LabelType::U32];
    let frame = |kind| {
        let case = random_case(map, kind, &mut random);
        let targets = case.targets.iter().map(|&target| target.min(255)).collect();
        Case { bins: 15, ignore_index: Some(255), types, targets, ..case }
    };
    let frames: Vec<_> = [1, 0, 4, 1, 5, 2].map(frame).to_vec();
    let input = |bits| buffer(gpu, map.bytes(bits), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let inputs = [8, 32, 32].map(input);
    let operator = frames[0].operator();
    let records = guarded(gpu, operator.bytes(&map));
    let [labels, confidence, targets] = inputs.each_ref().map(|input| input.as_entire_buffer_binding());
    let (labels, targets) = ((labels, types[0]), Targets::new(targets, types[1]));
    let to = records.as_entire_buffer_binding();
    let dispatch = operator.dispatch(gpu, &map, labels, confidence, targets, to).unwrap();
    let names: Vec<_> = dispatch.kernels().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["calibration clear", "calibration count (u8, u32 targets)"]);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut readbacks = Vec::new();
    for frame in &frames {
        for (bytes, input) in frame.inputs().iter().zip(&inputs) {
            let next = buffer(gpu, input.size(), BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
            gpu.queue().write_buffer(&next, 0, bytes);
            encoder.copy_buffer_to_buffer(&next, 0, input, 0, input.size());
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

/// Behind `Segment` in one submission, from the buffers that it writes.
#[test]
fn of_a_segmentation() {
    let gpu = gpu();
    let shape = Logits::nchw(2, 6, 12, 17).unwrap();
    let mut random = Random::new(4);
    let input = upload(gpu, &shape, &random.logits(&shape));
    let segment = Segment::new(70, 99);
    let map = segment.map(&shape).unwrap();
    let (labels, confidence) = (output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());
    let segmented = segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
    let expected: Vec<_> = (0..map.pixels()).map(|_| random.below(6)).collect();
    let types = [LabelType::U8, LabelType::U8];
    let targets = upload_bytes(gpu, &label_bytes(&map, types[1], &expected));
    let operator = Calibration::new();
    let records = output(gpu, operator.bytes(&map));
    let dispatch = operator
        .dispatch(
            gpu,
            &map,
            (labels.as_entire_buffer_binding(), types[0]),
            confidence.as_entire_buffer_binding(),
            Targets::new(targets.as_entire_buffer_binding(), types[1]),
            records.as_entire_buffer_binding(),
        )
        .unwrap();
    let mut recorder = Recorder::new(gpu);
    recorder.record(&segmented, &[&labels, &confidence]);
    recorder.record(&dispatch, &[&records]);
    let read: Vec<_> = recorder.finish().collect();
    let labels = unpad_map::<u8>(&map, &read[0]).into_iter().map(u32::from).collect();
    let confidence = unpad_map(&map, &read[1]);
    let case = Case { map, bins: 15, ignore_index: None, types, labels, targets: expected, confidence };
    let guard = [GUARD; 256];
    case.check("segmentation", &[&guard[..], &read[2], &guard].concat());
}

/// Tables that are put together from others.
#[test]
fn tables_add_up() {
    let bin = |pixels, right, confidence_sum| ReliabilityBin { pixels, right, confidence_sum };
    let empty = ReliabilityTable::new(3).unwrap();
    assert!(empty.expected_calibration_error().is_nan() && empty.maximum_calibration_error().is_nan());
    assert_eq!((empty.accuracy(), empty.mean_confidence(), empty.pixels()), (None, None, 0));
    let one = ReliabilityTable::from_bins(vec![bin(1, 0, 5), bin(0, 0, 0), bin(2, 2, 7)], 3).unwrap();
    let mut sum = one.clone();
    sum.add(&empty).unwrap();
    assert_eq!(sum, one);
    sum.add(&one).unwrap();
    assert_eq!(sum, ReliabilityTable::from_bins(vec![bin(2, 0, 10), bin(0, 0, 0), bin(4, 4, 14)], 6).unwrap());
    let refused = |result: Result<(), Error>, expected: &str| assert_eq!(result.unwrap_err().to_string(), expected);
    let other = ReliabilityTable::new(4).unwrap();
    refused(sum.add(&other), "bins of a reliability table: expected 3 elements, found 4");
    refused(ReliabilityTable::new(0).map(drop), "bins: expected at least 1, found 0");
    // All that 64 bits count, and one more.
    let mut full = ReliabilityTable::from_bins(vec![bin(u64::MAX - 1, 0, u128::MAX)], 1).unwrap();
    let limit = format!("pixels of a reliability table: {0} needed, but the limit is {0}", u64::MAX);
    refused(full.add(&ReliabilityTable::from_bins(vec![bin(0, 0, 0)], 1).unwrap()), &limit);
    refused(ReliabilityTable::from_bins(vec![bin(u64::MAX, 0, 0); 2], 0).map(drop), &limit);
    // Records of anything but whole images.
    let record = CalibrationRecord { pixels: 1, right: 1, confidence_sum: [0, 1] };
    let operator = Calibration::new().bins(2);
    refused(operator.table(&[record; 4]).map(drop), "calibration records: expected 6 elements, found 4");
    let table = operator.table(&[record; 6]).unwrap();
    assert_eq!((table.bins(), table.nan()), (&[bin(2, 2, 1 << 33); 2][..], 2));
}

#[test]
fn misuse() {
    let gpu = watched_gpu(wgpu::Limits { min_storage_buffer_offset_alignment: 256, ..wgpu::Limits::defaults() });
    let map = Logits::nchw(2, 1, 9, 13).unwrap().map();
    let operator = Calibration::new();
    let storage = |bytes| buffer(&gpu, bytes, BufferUsages::STORAGE);
    let (labels, targets, wide) = (storage(map.bytes(8)), storage(map.bytes(8)), storage(map.bytes(32)));
    let (records, small) = (storage(operator.bytes(&map)), storage(4));
    let (large, other) = (storage(1 << 22), buffer(&gpu, 4096, BufferUsages::COPY_DST));
    let u8s = LabelType::U8;
    let run = |operator: Calibration, [labels, confidence, targets, records]: [&Buffer; 4], types: [LabelType; 2]| {
        let [labels, confidence, targets, records] =
            [labels, confidence, targets, records].map(Buffer::as_entire_buffer_binding);
        let targets = Targets::new(targets, types[1]);
        operator.dispatch(&gpu, &map, (labels, types[0]), confidence, targets, records).map(drop)
    };
    run(operator, [&labels, &wide, &targets, &records], [u8s; 2]).unwrap();
    run(operator, [&wide, &wide, &wide, &records], [LabelType::U32; 2]).unwrap();
    run(operator.bins(65_536), [&labels, &wide, &targets, &large], [u8s; 2]).unwrap();
    let refused = |result: Result<(), Error>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    let fitting = [&labels, &wide, &targets, &records];
    refused(run(operator.bins(0), fitting, [u8s; 2]), "bins: expected at least 1, found 0");
    refused(run(operator.bins(65_537), fitting, [u8s; 2]), "bins: 65537 needed, but the limit is 65536");
    refused(operator.bins(0).table(&[]).map(drop), "bins: expected at least 1, found 0");
    let too_small =
        |what, needed, found| format!("buffer of {what}: {needed} bytes needed from offset 0, found {found}");
    refused(run(operator, [&small, &wide, &targets, &records], [u8s; 2]), &too_small("labels", 240, 4));
    refused(run(operator, [&labels, &labels, &targets, &records], [u8s; 2]), &too_small("confidence", 960, 240));
    refused(run(operator, fitting, [u8s, LabelType::U32]), &too_small("target", 960, 240));
    refused(run(operator, fitting, [LabelType::U32, u8s]), &too_small("labels", 960, 240));
    refused(run(operator, [&labels, &wide, &targets, &small], [u8s; 2]), &too_small("calibration records", 512, 4));
    let found = |what| format!("buffer of {what}: expected usage BufferUsages(STORAGE), found BufferUsages(COPY_DST)");
    refused(run(operator, [&other, &wide, &targets, &records], [u8s; 2]), &found("labels"));
    refused(run(operator, [&labels, &other, &targets, &records], [u8s; 2]), &found("confidence"));
    refused(run(operator, [&labels, &wide, &other, &records], [u8s; 2]), &found("target"));
    refused(run(operator, [&labels, &wide, &targets, &other], [u8s; 2]), &found("calibration records"));
    let same =
        |other| format!("calibration records and {other}: expected separate buffers or textures, found the same one");
    refused(run(operator, [&large, &wide, &targets, &large], [u8s; 2]), &same("labels"));
    refused(run(operator, [&labels, &large, &targets, &large], [u8s; 2]), &same("confidence"));
    refused(run(operator, [&labels, &wide, &large, &large], [u8s; 2]), &same("target"));
}

/// Labels that 8 bits hold and others, targets that are no class and such that are ignored, in parts on a device of small
/// bindings.
#[test]
fn labels_on_the_host() {
    let small = wgpu::Limits {
        max_storage_buffer_binding_size: 16384,
        max_uniform_buffer_binding_size: 16384,
        ..wgpu::Limits::defaults()
    };
    let mut random = Random::new(11);
    for gpu in [wgpu::Limits::defaults(), small].map(watched_gpu) {
        for (pixels, classes) in [(0, 3), (1, 3), (7, 254), (9_001, 21), (5_000, 255), (5_000, 1000)] {
            for (bins, ignored) in [(15, None), (10, Some(-1i64)), (1, Some(255)), (100, Some(2))] {
                let labels: Vec<u32> = (0..pixels).map(|_| random.below(classes)).collect();
                let confidence: Vec<f32> =
                    (0..pixels).map(|i| [random.below(101) as f32 / 100.0, f32::NAN][i % 97 / 96]).collect();
                let target = |label: &u32| match random.below(8) {
                    0 => [-5i64, 255, 254, 1 << 40][random.below(4) as usize],
                    1 => ignored.unwrap_or(0),
                    2 => random.below(classes).into(),
                    _ => (*label).into(),
                };
                let targets: Vec<i64> = labels.iter().map(target).collect();
                let operator = Calibration::new().bins(bins).ignore_index(ignored);
                let found = operator.run_blocking(&gpu, &labels, &confidence, &targets).unwrap();
                // 32 bits for the twin: what is no class becomes what no label is.
                let code = |&target: &i64| match Some(target) == ignored {
                    true => u32::MAX,
                    false => u32::try_from(target).unwrap_or(u32::MAX - 1),
                };
                let codes: Vec<u32> = targets.iter().map(code).collect();
                let mut expected =
                    reference::calibration(bins, &confidence, &labels, &codes, ignored.map(|_| u32::MAX));
                let nan = expected.pop().unwrap();
                assert_eq!(found.nan(), nan.pixels, "{pixels}, {classes}, {bins}, {ignored:?}");
                for (found, expected) in found.bins().iter().zip(&expected) {
                    assert_eq!((found.pixels, found.right), (expected.pixels, expected.right), "{pixels}, {ignored:?}");
                    let sum = found.confidence_sum as f64 / f64::from(1 << 24);
                    assert!((sum - expected.confidence_sum).abs() <= expected.pixels as f64 / f64::from(1 << 25));
                }
            }
        }
        let refused = |labels: &[i64], confidence: &[f32], expected: &str| {
            let error = Calibration::new().run_blocking(&gpu, labels, confidence, &[0i64; 2]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        refused(&[0; 3], &[0.0; 2], "labels: expected 2 elements, found 3");
        refused(&[0; 2], &[0.0; 3], "confidence: expected 2 elements, found 3");
        refused(&[0, -1], &[0.0; 2], "prediction[1]: expected a class below 4294967294, found label -1");
    }
}
