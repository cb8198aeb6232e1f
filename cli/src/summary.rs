//! What a segmentation looks like in numbers.

use seghead::Segmentation;

/// One class of a result.
pub struct ClassSummary {
    pub class: u32,
    pub pixels: u64,
    /// Share of all pixels, in 0..=1.
    pub share: f64,
    /// Mean confidence of its pixels in 0..=1, NaN where there are none.
    pub confidence: f64,
}

/// The summary of every class, in order.
pub fn summarise(classes: u32, result: &Segmentation) -> Vec<ClassSummary> {
    let mut pixels = vec![0u64; classes as usize];
    let mut sums = vec![0f64; classes as usize];
    for (i, label) in result.labels.iter().enumerate() {
        pixels[label as usize] += 1;
        if let Some(confidence) = &result.confidence {
            sums[label as usize] += f64::from(confidence[i]);
        }
    }
    let all = result.labels.len() as f64;
    let summary = |(class, (&pixels, sum)): (u32, (&u64, f64))| ClassSummary {
        class,
        pixels,
        share: pixels as f64 / all,
        confidence: if result.confidence.is_some() { sum / pixels as f64 } else { f64::NAN },
    };
    (0..classes).zip(pixels.iter().zip(sums)).map(summary).collect()
}

/// Intersection over union of every class between predicted and true labels, pixels of label `ignored` left out; NaN
/// for a class that is in neither.
pub fn intersection_over_union(
    classes: u32,
    predicted: impl Iterator<Item = u32>,
    truth: &[i64],
    ignored: i64,
) -> Vec<f64> {
    let mut intersections = vec![0u64; classes as usize];
    let mut unions = vec![0u64; classes as usize];
    for (predicted, &truth) in predicted.zip(truth).filter(|&(_, &truth)| truth != ignored) {
        unions[predicted as usize] += 1;
        if i64::from(predicted) == truth {
            intersections[predicted as usize] += 1;
        } else if let Some(union) = usize::try_from(truth).ok().and_then(|truth| unions.get_mut(truth)) {
            *union += 1;
        }
    }
    intersections.iter().zip(&unions).map(|(&intersection, &union)| intersection as f64 / union as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::intersection_over_union;

    #[test]
    fn intersections_and_unions_are_counted_by_hand() {
        let iou = intersection_over_union(3, [0, 0, 1, 1, 1].into_iter(), &[0, 1, 1, 1, 255], 255);
        assert_eq!(iou[..2], [1.0 / 2.0, 2.0 / 3.0]);
        assert!(iou[2].is_nan());
    }
}
