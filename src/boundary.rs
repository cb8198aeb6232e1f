use crate::{Absent, Error};

/// The boundary pixels of a class in two maps, predictions and targets, and how many of either are near those of the
/// other.
///
/// ```
/// use seghead::BoundaryPixels;
/// let pixels = BoundaryPixels { predicted: 8, predicted_matched: 6, expected: 10, expected_matched: 5 };
/// assert_eq!((pixels.precision(), pixels.recall()), (Some(0.75), Some(0.5)));
/// assert_eq!(pixels.f1(), Some(2.0 * 0.75 * 0.5 / (0.75 + 0.5)));
///
/// // A class that one of the maps does not have, and one that both do not have.
/// assert_eq!(BoundaryPixels { predicted: 3, ..Default::default() }.f1(), Some(0.0));
/// assert_eq!(BoundaryPixels::default().f1(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoundaryPixels {
    /// Boundary pixels of the predictions.
    pub predicted: u64,
    /// Those of them that have a boundary pixel of the targets near them.
    pub predicted_matched: u64,
    /// Boundary pixels of the targets.
    pub expected: u64,
    /// Those of them that have a boundary pixel of the predictions near them.
    pub expected_matched: u64,
}

impl BoundaryPixels {
    /// The share of the predicted boundary that is near the true one, in 0..=1; none where nothing is predicted.
    pub fn precision(&self) -> Option<f64> {
        quotient(self.predicted_matched, self.predicted)
    }

    /// The share of the true boundary that is near the predicted one, in 0..=1; none where there is none.
    pub fn recall(&self) -> Option<f64> {
        quotient(self.expected_matched, self.expected)
    }

    /// The boundary F1 score, the harmonic mean of precision and recall, 2 P R / (P + R), in 0..=1: 0 where both are 0
    /// and where only one of the maps has a boundary, none where neither has.
    pub fn f1(&self) -> Option<f64> {
        let (precision, recall) = match (self.precision(), self.recall()) {
            (None, None) => return None,
            (precision, recall) => (precision.unwrap_or(0.0), recall.unwrap_or(0.0)),
        };
        let sum = precision + recall;
        Some(if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 })
    }

    /// Each of the numbers.
    fn numbers(&mut self) -> [&mut u64; 4] {
        [&mut self.predicted, &mut self.predicted_matched, &mut self.expected, &mut self.expected_matched]
    }
}

fn quotient(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// The boundary pixels of every class, of an image or of many: what [`BoundaryScore`](crate::BoundaryScore) counts.
///
/// Counts are integers: tables of parts of a data set [`add`](Self::add) up to exactly that of the whole, in any order.
/// Csurka et al., and MATLAB's `evaluateSemanticSegmentation` after them, score each image and take the mean over the
/// images instead, so that large and small images count alike: for that, keep a table for every image.
///
/// ```
/// use seghead::{Absent, BoundaryPixels, BoundaryTable};
/// let pixels = |[predicted, predicted_matched, expected, expected_matched]: [u64; 4]| BoundaryPixels {
///     predicted,
///     predicted_matched,
///     expected,
///     expected_matched,
/// };
/// let mut table = BoundaryTable::from_classes(vec![pixels([4, 4, 4, 4]), pixels([4, 2, 2, 1]), pixels([0; 4])]);
/// assert_eq!(table.mean_f1(Absent::Skip), (1.0 + 0.5) / 2.0);
/// table.add(&table.clone())?;
/// assert_eq!(table.classes()[1], pixels([8, 4, 4, 2]));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundaryTable {
    classes: Vec<BoundaryPixels>,
}

impl BoundaryTable {
    /// That of no pixels.
    pub fn new(classes: u32) -> Self {
        Self { classes: vec![BoundaryPixels::default(); classes as usize] }
    }

    /// That of these classes.
    pub fn from_classes(classes: Vec<BoundaryPixels>) -> Self {
        Self { classes }
    }

    /// Every class, in their order.
    pub fn classes(&self) -> &[BoundaryPixels] {
        &self.classes
    }

    /// Adds the pixels of another table, exactly.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] for one of another number of classes, [`Error::Limit`] where 64 bits do not count all pixels;
    /// nothing is added then.
    pub fn add(&mut self, other: &Self) -> Result<(), Error> {
        let [expected, found] = [&*self, other].map(|table| table.classes.len() as u32);
        if expected != found {
            return Err(Error::Classes { what: "boundary table", expected, found });
        }
        let mut sums = self.classes.clone();
        for (sum, mut more) in sums.iter_mut().zip(other.classes.iter().copied()) {
            for (sum, more) in sum.numbers().into_iter().zip(more.numbers()) {
                let what = "boundary pixels of a class";
                let limit = u64::MAX;
                *sum = sum.checked_add(*more).ok_or(Error::Limit { what, needed: limit, limit })?;
            }
        }
        self.classes = sums;
        Ok(())
    }

    /// The mean boundary F1 score of the classes, in 0..=1; NaN where all are left out.
    pub fn mean_f1(&self, absent: Absent) -> f64 {
        absent.mean(self.classes.iter().map(BoundaryPixels::f1))
    }
}
