//! Cases of [`ClassStatistics`].

use seghead::{BoundingBox, ClassRecord, ClassStatistics, Error, LabelType, Logits, Map, Segment, reference};

use super::bench::Bench;
use super::data::{Random, map_bytes};
use super::findings::{Findings, Subject, U};
use super::{Case, Cases};

const CLEAR: &[&str] = &["class statistics clear"];
const BOTH: &[&str] = &["class statistics clear", "class statistics count"];

/// The last one has no pixel.
const CLASSES: u32 = 6;

pub fn cases() -> Cases {
    let label_types = [LabelType::U8, LabelType::U32].into_iter();
    label_types.flat_map(|label_type| [false, true].map(|confidence| case(label_type, confidence))).collect()
}

/// Packed ones, padded ones, batches, rows shorter than a group and longer than the 256 pixels that an invocation walks,
/// with columns beyond 16 bits.
fn maps() -> Result<Vec<Map>, Error> {
    let packed = [(1, 1, 1), (2, 3, 5), (1, 130, 3), (3, 17, 31), (2, 5, 300), (1, 2, 70_001)];
    let packed = packed.into_iter().map(|(n, h, w)| Ok(Logits::nchw(n, 1, h, w)?.map()));
    let padded = [(2, 3, 5), (1, 7, 300), (1, 64, 80)];
    let padded = padded.into_iter().map(|(n, h, w)| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1)?));
    packed.chain(padded).collect()
}

/// Noise, or rectangles; some labels are no class.
fn labels(map: &Map, noise: bool, random: &mut Random) -> Vec<u32> {
    let (width, height) = (map.width() as usize, map.height() as usize);
    let label = |i: usize| {
        let (row, column) = (i / width % height, i % width);
        let label = if noise { random.below(CLASSES) } else { ((row / 7 * 4 + column / 19) % 6) as u32 };
        if label == CLASSES - 1 { 255 } else { label }
    };
    (0..map.pixels()).map(label).collect()
}

/// 0..=1, and some that count as 0 or 1; on images of noise, NaN as well.
fn confidences(map: &Map, noise: bool, random: &mut Random) -> Vec<f32> {
    let special = [f32::INFINITY, f32::NEG_INFINITY, 1.5, -0.5, -0.0, 1e-40, 1.0, f32::from_bits(0xff80_0001)];
    let kinds = if noise { 8 } else { 7 };
    let mut confidence = || match random.below(16) {
        0 => special[random.below(kinds) as usize],
        _ => random.below(1 << 24) as f32 / (1 << 24) as f32,
    };
    (0..map.pixels()).map(|_| confidence()).collect()
}

fn case(label_type: LabelType, has_confidence: bool) -> Case {
    Case::new(BOTH, format!("{label_type:?}, confidence: {has_confidence}"), move |context, findings| {
        let gpu = &context.gpu;
        let mut random = Random::new(1);
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        let operator = ClassStatistics::new(CLASSES);
        for (map, noise) in maps()?.into_iter().flat_map(|map| [(map, false), (map, true)]) {
            let labels = labels(&map, noise, &mut random);
            let confidence = has_confidence.then(|| confidences(&map, noise, &mut random));
            // In the padding is a class, which must not count.
            let bytes = match label_type {
                LabelType::U8 => map_bytes(&map, &labels.iter().map(|&label| label as u8).collect::<Vec<_>>(), 0),
                LabelType::U32 => map_bytes(&map, &labels, 0),
            };
            let input = bench.input(&bytes);
            let scores = confidence.as_ref().map(|values| bench.input(&map_bytes(&map, values, f32::NAN)));
            let records = bench.output(operator.bytes(&map));
            let (from, to) = (input.as_entire_buffer_binding(), records.as_entire_buffer_binding());
            let scores = scores.as_ref().map(|buffer| buffer.as_entire_buffer_binding());
            let dispatch = operator.dispatch(gpu, &map, from, label_type, scores, to)?;
            bench.record(&dispatch, &[&records])?;
            works.push((map, labels, confidence, dispatch));
        }
        let mut results = bench.run()?;
        for (map, labels, confidence, dispatch) in &works {
            let records: Vec<ClassRecord> = bytemuck::pod_collect_to_vec(&results.bytes());
            let expected = reference::class_statistics(map, CLASSES, labels, confidence.as_deref());
            let name = format!("{} × {} × {}", map.images(), map.height(), map.width());
            let subjects = [CLEAR, BOTH].map(|kernels| Subject::new(dispatch, kernels, &name));
            compare(findings, &subjects, &records, &expected, has_confidence);
        }
        Ok(())
    })
}

fn compare(
    findings: &mut Findings,
    [clear, both]: &[Subject<'_>; 2],
    records: &[ClassRecord],
    expected: &[reference::ClassTotals],
    has_confidence: bool,
) {
    let none = if has_confidence { 0 } else { u32::MAX };
    let empty = ClassRecord {
        pixels: 0,
        nan: none,
        row_sum: [0; 2],
        column_sum: [0; 2],
        confidence_sum: [0; 2],
        first: [u32::MAX; 2],
        last: [0; 2],
    };
    let words = |sum: u64| [sum as u32, (sum >> 32) as u32];
    let (mut integers, mut means) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (record, totals) in records.iter().zip(expected) {
        let Some(BoundingBox { top, left, height, width }) = totals.bounding_box else {
            let got: &[u32] = bytemuck::cast_slice(std::slice::from_ref(record));
            findings.compare_exactly(clear, "word", got, bytemuck::cast_slice(&[empty]), |_| false);
            continue;
        };
        let ([a, b], [c, d]) = (record.row_sum, record.column_sum);
        let ([e, f], [g, h]) = (record.first, record.last);
        integers.0.extend([record.pixels, a, b, c, d, e, f, g, h]);
        let ([a, b], [c, d]) = (words(totals.row_sum), words(totals.column_sum));
        integers.1.extend([totals.pixels as u32, a, b, c, d, top, left, top + height - 1, left + width - 1]);
        if has_confidence {
            means.0.push(record.mean_confidence().map_or(f32::INFINITY, |mean| mean as f32));
            means.1.push(totals.confidence_sum / totals.pixels as f64);
        }
    }
    findings.compare_exactly(both, "number", &integers.0, &integers.1, |_| false);
    if has_confidence {
        // Half a unit of 2⁻²⁴, and as much for what the mean is rounded to here.
        findings.compare(both, "mean confidence", &means.0, &means.1, |_| U);
    }
}
