//! Cases of [`ConfusionMatrix`].

use seghead::{ConfusionMatrix, Error, LabelType, Logits, Map, Segment, Targets, reference};

use super::bench::Bench;
use super::data::{Random, map_bytes};
use super::findings::Subject;
use super::{Case, Cases};

const CLEAR: &[&str] = &["confusion matrix clear"];
const BOTH: &[&str] = &["confusion matrix clear", "confusion matrix count"];

const CLASSES: u32 = 5;
const IGNORED: u32 = 255;

pub fn cases() -> Cases {
    let types = [LabelType::U8, LabelType::U32];
    types.into_iter().flat_map(|labels| types.map(|targets| case(labels, targets))).collect()
}

/// Packed ones, padded ones, batches, rows shorter than a group and longer than the 256 pixels that an invocation walks.
fn maps() -> Result<Vec<Map>, Error> {
    let packed = [(1, 1, 1), (2, 3, 5), (1, 130, 3), (3, 17, 31), (2, 5, 300), (1, 2, 70_001)];
    let packed = packed.into_iter().map(|(n, h, w)| Ok(Logits::nchw(n, 1, h, w)?.map()));
    let padded = [(2, 3, 5), (1, 7, 300), (1, 64, 80)];
    let padded = padded.into_iter().map(|(n, h, w)| Segment::new(h, w).map(&Logits::nchw(n, 1, 1, 1)?));
    packed.chain(padded).collect()
}

/// Noise, or rectangles; some labels are no class.
fn labels(map: &Map, noise: bool, random: &mut Random) -> Vec<u32> {
    let width = map.width() as usize;
    let (rows, columns) = (3 + random.below(9) as usize, 5 + random.below(40) as usize);
    let label = |i: usize| match noise {
        true => random.below(CLASSES + 2),
        false => ((i / width / rows * 4 + i % width / columns) % 7) as u32,
    };
    let void = |label| if label == CLASSES { IGNORED } else { label };
    (0..map.pixels()).map(label).map(void).collect()
}

fn bytes_of(map: &Map, label_type: LabelType, labels: &[u32]) -> Vec<u8> {
    // In the padding is a class, which must not count.
    match label_type {
        LabelType::U8 => map_bytes(map, &labels.iter().map(|&label| label as u8).collect::<Vec<_>>(), 0),
        LabelType::U32 => map_bytes(map, labels, 0),
    }
}

fn case(label_type: LabelType, target_type: LabelType) -> Case {
    Case::new(BOTH, format!("{label_type:?} against {target_type:?}"), move |context, findings| {
        let gpu = &context.gpu;
        let mut random = Random::new(1);
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        let operator = ConfusionMatrix::new(CLASSES).ignore_index(Some(IGNORED.into()));
        for (map, noise) in maps()?.into_iter().flat_map(|map| [(map, false), (map, true)]) {
            let [predictions, targets] = [(); 2].map(|()| labels(&map, noise, &mut random));
            let from = bench.input(&bytes_of(&map, label_type, &predictions));
            let against = bench.input(&bytes_of(&map, target_type, &targets));
            let records = bench.output(operator.bytes(&map));
            let dispatch = operator.dispatch(
                gpu,
                &map,
                (from.as_entire_buffer_binding(), label_type),
                Targets::new(against.as_entire_buffer_binding(), target_type),
                records.as_entire_buffer_binding(),
            )?;
            bench.record(&dispatch, &[&records])?;
            works.push((map, predictions, targets, dispatch));
        }
        let mut results = bench.run()?;
        for (map, predictions, targets, dispatch) in &works {
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&results.bytes());
            let of_image = map.pixels() / map.images() as usize;
            let mut expected = Vec::new();
            for (predictions, targets) in predictions.chunks(of_image).zip(targets.chunks(of_image)) {
                let targets: Vec<_> = targets.iter().map(|&label| label.into()).collect();
                let found = reference::confusion_matrix(CLASSES, Some(IGNORED.into()), predictions, &targets);
                expected.extend(found.counts.iter().map(|&count| count as u32));
                expected.extend([found.ignored, found.invalid_targets, found.invalid_predictions].map(|n| n as u32));
                let first = [found.first_invalid_target, found.first_invalid_prediction];
                expected.extend(first.map(|first| first.map_or(u32::MAX, |first| first as u32)));
            }
            let name = format!("{} × {} × {}", map.images(), map.height(), map.width());
            let [clear, both] = [CLEAR, BOTH].map(|kernels| Subject::new(dispatch, kernels, &name));
            // A word that no pixel adds to is as it was cleared.
            let untouched = |i: usize| matches!(expected[i], 0 | u32::MAX);
            findings.compare_exactly(&clear, "word", &words, &expected, |i| !untouched(i));
            findings.compare_exactly(&both, "word", &words, &expected, |_| false);
        }
        Ok(())
    })
}
