//! Cases of [`BoundaryScore`].

use seghead::{BoundaryScore, Error, LabelType, Logits, Map, Segment, Targets, reference};

use super::bench::Bench;
use super::data::{Random, map_bytes};
use super::findings::Subject;
use super::{Case, Cases};

const CLEAR: &[&str] = &["boundary score clear"];
const ALL: &[&str] = &["boundary score clear", "boundary score mark", "boundary score count"];

const CLASSES: u32 = 5;
const IGNORED: u32 = 255;

pub fn cases() -> Cases {
    let types = [LabelType::U8, LabelType::U32];
    types.into_iter().flat_map(|labels| types.map(|targets| case(labels, targets))).collect()
}

/// Packed ones of every width modulo four, padded ones, batches, heights that are whole blocks of rows and not.
fn maps() -> Result<Vec<Map>, Error> {
    let packed = [(1, 1, 1), (2, 3, 5), (1, 130, 3), (3, 17, 31), (2, 8, 40), (1, 24, 66)];
    let packed = packed.into_iter().map(|(n, h, w)| Ok(Logits::nchw(n, 1, h, w)?.map()));
    let padded = [(2, 3, 5), (1, 7, 90), (1, 64, 80)];
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
    Case::new(ALL, format!("{label_type:?} against {target_type:?}"), move |context, findings| {
        let gpu = &context.gpu;
        let mut random = Random::new(1);
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for (map, noise) in maps()?.into_iter().flat_map(|map| [(map, false), (map, true)]) {
            let tolerance = [0, 1, 3, 6, 20][random.below(5) as usize];
            let operator = BoundaryScore::new(CLASSES, tolerance).ignore_index(Some(IGNORED.into()));
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
            works.push((map, tolerance, predictions, targets, dispatch));
        }
        let mut results = bench.run()?;
        for (map, tolerance, predictions, targets, dispatch) in &works {
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&results.bytes());
            let width = map.width() as usize;
            let of_image = map.height() as usize * width;
            let mut expected = Vec::new();
            for (predictions, targets) in predictions.chunks(of_image).zip(targets.chunks(of_image)) {
                let targets: Vec<_> = targets.iter().map(|&label| label.into()).collect();
                let ignored = Some(IGNORED.into());
                let found = reference::boundary_score(CLASSES, *tolerance, ignored, width, predictions, &targets);
                for class in &found.classes {
                    let predicted = [class.predicted, class.predicted_matched];
                    expected.extend(predicted.map(|pixels| pixels as u32));
                    expected.extend([class.expected, class.expected_matched].map(|pixels| pixels as u32));
                }
                expected.extend([found.invalid_targets, found.invalid_predictions].map(|pixels| pixels as u32));
                let first = [found.first_invalid_target, found.first_invalid_prediction];
                expected.extend(first.map(|first| first.map_or(u32::MAX, |first| first as u32)));
            }
            let name = format!("{} × {} × {}, {tolerance} px", map.images(), map.height(), map.width());
            let [clear, all] = [CLEAR, ALL].map(|kernels| Subject::new(dispatch, kernels, &name));
            // A word that no pixel adds to is as it was cleared.
            let untouched = |i: usize| matches!(expected[i], 0 | u32::MAX);
            findings.compare_exactly(&clear, "word", &words, &expected, |i| !untouched(i));
            findings.compare_exactly(&all, "word", &words, &expected, |_| false);
        }
        Ok(())
    })
}
