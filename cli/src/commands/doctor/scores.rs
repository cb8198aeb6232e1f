//! The outputs of argmax and segment: labels and scores, with the bounds of their errors.
//!
//! U = 2⁻²⁴ is the rounding error of one operation; WGSL allows exp(d) an error of 3 + 2 |d| ulp, an ulp being at most
//! 2 U, and log an absolute error of 2⁻²¹ near 1. A sum of C terms exp(d), d ≤ 0, has the relative error C U, and that
//! of its terms, 8 U, since exp(d) (6 + 5 |d|) < 8; division adds 3 U.

use seghead::wgpu::Buffer;
use seghead::{Error, LabelType, Map, Outputs, reference};

use super::bench::{Bench, Results};
use super::findings::{FLUSHED, Findings, Subject, U};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    Confidence,
    Margin,
    Entropy,
}

impl Score {
    /// Every combination.
    pub fn combinations() -> impl Iterator<Item = Vec<Self>> {
        let all = [Self::Confidence, Self::Margin, Self::Entropy];
        (0..8).map(move |bits| all.into_iter().filter(|&score| bits & (1 << score as u32) != 0).collect())
    }

    /// Compares with the reference where the logits of pixel `i` have the error `of_logit(i)`.
    fn compare(
        self,
        findings: &mut Findings,
        subject: &Subject<'_>,
        (got, expected): (&[f32], &reference::Scores),
        classes: u32,
        of_logit: impl Fn(usize) -> f64,
    ) -> bool {
        let c = f64::from(classes);
        // The error of the terms, of C additions and of at most C rescalings; probabilities change by at most half the
        // error of the logits.
        let of_sum = (8.0 + 4.0 * c + 3.0) * U;
        match self {
            Self::Confidence => {
                let expected = &expected.confidence;
                let tolerance = |i: usize| expected[i] * of_sum + 2.0 * of_logit(i) + FLUSHED;
                findings.compare(subject, "confidence", got, expected, tolerance)
            }
            // The difference 1 − exp(d) has an absolute error of 8 U.
            Self::Margin => {
                let tolerance = |i| of_sum + 8.0 * U + 2.0 * of_logit(i);
                findings.compare(subject, "margin", got, &expected.margin, tolerance)
            }
            // ln S has 2⁻²¹ and the relative error of S. So has T / S, whose terms |d| exp(d) add up to at most S ln C.
            // The derivative with respect to a logit is p (ln p + H), in all at most 2 ln C.
            Self::Entropy => {
                let of_entropy = (2.0 + c.ln()) * of_sum + 2f64.powi(-21);
                let tolerance = |i| of_entropy + 2.0 * (1.0 + c.ln()) * of_logit(i);
                findings.compare(subject, "entropy", got, &expected.entropy, tolerance)
            }
        }
    }
}

/// The buffers of labels and scores.
pub struct Maps {
    map: Map,
    label_type: LabelType,
    labels: Buffer,
    scores: Vec<(Score, Buffer)>,
}

impl Maps {
    pub fn new(bench: &Bench<'_>, map: Map, label_type: LabelType, scores: &[Score]) -> Self {
        Self {
            map,
            label_type,
            labels: bench.output(map.bytes(label_type.bits())),
            scores: scores.iter().map(|&score| (score, bench.output(map.bytes(32)))).collect(),
        }
    }

    pub fn outputs(&self) -> Outputs<'_> {
        let labels = Outputs::labels(self.labels.as_entire_buffer_binding());
        self.scores.iter().fold(labels, |outputs, (score, buffer)| match score {
            Score::Confidence => outputs.confidence(buffer.as_entire_buffer_binding()),
            Score::Margin => outputs.margin(buffer.as_entire_buffer_binding()),
            Score::Entropy => outputs.entropy(buffer.as_entire_buffer_binding()),
        })
    }

    pub fn record(&self, bench: &mut Bench<'_>, dispatch: &seghead::Dispatch) -> Result<(), Error> {
        let buffers: Vec<_> =
            std::iter::once(&self.labels).chain(self.scores.iter().map(|(_, buffer)| buffer)).collect();
        bench.record(dispatch, &buffers)
    }

    /// Compares what was read back. A label need not be that of the reference where `tolerated(pixel, label)`.
    pub fn compare(
        &self,
        findings: &mut Findings,
        subject: &Subject<'_>,
        results: &mut Results,
        (labels, scores): (&[u32], &reference::Scores),
        classes: u32,
        (of_logit, tolerated): (impl Fn(usize) -> f64, impl Fn(usize, u32) -> bool),
    ) {
        let got = results.labels(&self.map, self.label_type);
        findings.compare_exactly(subject, "label", &got, labels, |i| tolerated(i, got[i]));
        for (score, _) in &self.scores {
            let got = self.map.unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&results.bytes()));
            score.compare(findings, subject, (&got, scores), classes, &of_logit);
        }
    }
}
