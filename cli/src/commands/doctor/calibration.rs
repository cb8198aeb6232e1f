//! Cases of [`Calibration`].

use seghead::{Calibration, CalibrationRecord, Error, LabelType, Logits, Map, Segment, Targets, reference};

use super::bench::Bench;
use super::data::{Random, map_bytes};
use super::findings::{Subject, U};
use super::{Case, Cases};

const CLEAR: &[&str] = &["calibration clear"];
const BOTH: &[&str] = &["calibration clear", "calibration count"];

const CLASSES: u32 = 3;
const IGNORED: u32 = 255;

pub fn cases() -> Cases {
    let types = [LabelType::U8, LabelType::U32];
    types.into_iter().flat_map(|labels| types.map(|targets| case(labels, targets))).collect()
}

/// Packed ones, padded ones, batches, rows shorter than a group and longer than the 256 pixels that an invocation
/// walks.
fn maps() -> Result<Vec<Map>, Error> {
    let packed = [(1, 1, 1), (2, 3, 5), (1, 130, 3), (3, 17, 31), (2, 5, 300), (1, 2, 7_001)];
    let packed = packed.into_iter().map(|(n, h, w)| Ok(Logits::nchw(n, 1, h, w)?.map()));
    let padded = [(2, 3, 5), (1, 7, 300), (1, 64, 80)];
    let padded = padded.into_iter().map(|(n, h, w)| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1)?));
    packed.chain(padded).collect()
}

/// Mostly near 1, or noise with what is at the edges of bins and beside them, counts as 0 or 1, or is NaN.
fn confidences(map: &Map, noise: bool, bins: u32, random: &mut Random) -> Vec<f32> {
    let special = [f32::INFINITY, f32::NEG_INFINITY, 1.5, -0.5, -0.0, 1e-40, 1.0, f32::from_bits(0xff80_0001)];
    let mut confidence = || {
        let uniform = random.below(1 << 24) as f32 / (1 << 24) as f32;
        match random.below(16) {
            _ if !noise => 1.0 - uniform / 20.0,
            0 => special[random.below(8) as usize],
            1..4 => {
                let edge = random.below(bins + 1) as f32 / bins as f32;
                [edge, edge.next_up(), edge.next_down()][random.below(3) as usize]
            }
            _ => uniform,
        }
    };
    (0..map.pixels()).map(|_| confidence()).collect()
}

/// Labels, and targets that are them in three of four pixels and are ignored in some.
fn labels(map: &Map, random: &mut Random) -> (Vec<u32>, Vec<u32>) {
    let pixel = |_| {
        let label = random.below(CLASSES);
        let target = [random.below(CLASSES), label, label, label][random.below(4) as usize];
        (label, if random.below(9) == 0 { IGNORED } else { target })
    };
    (0..map.pixels()).map(pixel).unzip()
}

/// The content of a buffer of labels; in the padding is what would be right.
fn label_bytes(map: &Map, label_type: LabelType, labels: &[u32]) -> Vec<u8> {
    match label_type {
        LabelType::U8 => map_bytes(map, &labels.iter().map(|&label| label as u8).collect::<Vec<_>>(), 0),
        LabelType::U32 => map_bytes(map, labels, 0),
    }
}

fn case(label_type: LabelType, target_type: LabelType) -> Case {
    Case::new(BOTH, format!("{label_type:?} labels, {target_type:?} targets"), move |context, findings| {
        let gpu = &context.gpu;
        let mut random = Random::new(1);
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for (map, noise) in maps()?.into_iter().flat_map(|map| [(map, false), (map, true)]) {
            let bins = if noise { [1, 10, 255][random.below(3) as usize] } else { 15 };
            let operator = Calibration::new().bins(bins).ignore_index(Some(IGNORED.into()));
            let confidence = confidences(&map, noise, bins, &mut random);
            let (labels, targets) = labels(&map, &mut random);
            let label_buffer = bench.input(&label_bytes(&map, label_type, &labels));
            let target_buffer = bench.input(&label_bytes(&map, target_type, &targets));
            let scores = bench.input(&map_bytes(&map, &confidence, 0.5));
            let records = bench.output(operator.bytes(&map));
            let dispatch = operator.dispatch(
                gpu,
                &map,
                (label_buffer.as_entire_buffer_binding(), label_type),
                scores.as_entire_buffer_binding(),
                Targets::new(target_buffer.as_entire_buffer_binding(), target_type),
                records.as_entire_buffer_binding(),
            )?;
            bench.record(&dispatch, &[&records])?;
            works.push((map, bins, (labels, confidence, targets), dispatch));
        }
        let mut results = bench.run()?;
        for (map, bins, (labels, confidence, targets), dispatch) in &works {
            let records: Vec<CalibrationRecord> = bytemuck::pod_collect_to_vec(&results.bytes());
            let name = format!("{} × {} × {}, {bins} bins", map.images(), map.height(), map.width());
            let [clear, both] = [CLEAR, BOTH].map(|kernels| Subject::new(dispatch, kernels, &name));
            let of_image = map.height() as usize * map.width() as usize;
            let images = confidence.chunks_exact(of_image).zip(labels.chunks_exact(of_image));
            let images = images.zip(targets.chunks_exact(of_image));
            let expected: Vec<_> = images
                .flat_map(|((confidence, labels), targets)| {
                    reference::calibration(*bins, confidence, labels, targets, Some(IGNORED))
                })
                .collect();
            let (mut counts, mut means) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
            for (record, totals) in records.iter().zip(&expected) {
                if totals.pixels == 0 {
                    let CalibrationRecord { pixels, right, confidence_sum: [low, high] } = *record;
                    findings.compare_exactly(&clear, "word", &[pixels, right, low, high], &[0; 4], |_| false);
                    continue;
                }
                counts.0.extend([record.pixels, record.right]);
                counts.1.extend([totals.pixels as u32, totals.right as u32]);
                let [low, high] = record.confidence_sum;
                let mean =
                    ((u64::from(high) << 32) | u64::from(low)) as f64 / f64::from(1 << 24) / totals.pixels as f64;
                means.0.push(mean as f32);
                means.1.push(totals.confidence_sum / totals.pixels as f64);
            }
            findings.compare_exactly(&both, "number", &counts.0, &counts.1, |_| false);
            // Half a unit of 2⁻²⁴, and as much for what the mean is rounded to here.
            findings.compare(&both, "mean confidence", &means.0, &means.1, |_| U);
        }
        Ok(())
    })
}
