use crate::Error;

/// What the score of a class is where it is 0 / 0, as the intersection over union is for a class that neither occurs nor
/// is predicted, and so what it adds to a mean over the classes.
///
/// It is the main reason why tools disagree on the mean IoU of the same labels:
///
/// | tool | a class that neither occurs nor is predicted | here |
/// |---|---|---|
/// | Cityscapes scripts, `evalPixelLevelSemanticLabeling` | NaN, left out of the average | `Skip` |
/// | MMSegmentation, `IoUMetric` | NaN, left out by `nanmean`; the number of `nan_to_num` if that is given | `Skip`; `Zero`, `One` |
/// | torchmetrics, `MulticlassJaccardIndex`, macro | has weight 0 | `Skip` |
/// | scikit-learn, `jaccard_score`, macro | is no label by itself; 0 where `labels` names it, or `zero_division` | `Skip`; `Zero`, `One` |
/// | FCN (Long, Shelhamer, Darrell), `score.py` | NaN, left out by `nanmean` | `Skip` |
/// | torchvision, `references/segmentation` | NaN, which makes the mean NaN | none: look for a class that is absent |
///
/// ```
/// use seghead::{Absent, Confusion};
/// let confusion = Confusion::from_counts(3, vec![3, 1, 0, 0, 4, 0, 0, 0, 0])?;
/// assert_eq!(confusion.iou(2), None);
/// assert_eq!(confusion.mean_iou(Absent::Skip), (0.75 + 0.8) / 2.0);
/// assert_eq!(confusion.mean_iou(Absent::Zero), (0.75 + 0.8) / 3.0);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Absent {
    /// Nothing: the class is left out of the mean.
    #[default]
    Skip,
    /// 0.
    Zero,
    /// 1.
    One,
}

impl Absent {
    /// The mean of the scores of classes; NaN where all are left out.
    pub(crate) fn mean(self, scores: impl Iterator<Item = Option<f64>>) -> f64 {
        let instead = match self {
            Self::Skip => None,
            Self::Zero => Some(0.0),
            Self::One => Some(1.0),
        };
        let scores = scores.filter_map(|score| score.or(instead));
        let (sum, count) = scores.fold((0.0, 0u32), |(sum, count), score| (sum + score, count + 1));
        if count == 0 { f64::NAN } else { sum / f64::from(count) }
    }
}

/// How many pixels of each class were taken for each class, C × C, and the scores that follow from that.
///
/// Counts are integers of 64 bits: matrices of parts of a data set [`merge`](Self::merge) into exactly that of the whole,
/// in any order, and with it all scores. A score is the one of all pixels that were counted, not a mean over images.
///
/// Of class c let t be the pixels whose target it is, p those that were predicted to be it, and i those that are both:
///
/// | score | of class c | 0 / 0 where the class |
/// |---|---|---|
/// | [`iou`](Self::iou), the Jaccard index | i / (t + p − i) | neither occurs nor is predicted |
/// | [`dice`](Self::dice), F1 | 2 i / (t + p) | neither occurs nor is predicted |
/// | [`recall`](Self::recall), the accuracy of a class | i / t | does not occur |
/// | [`precision`](Self::precision) | i / p | is not predicted |
///
/// Made by [`ConfusionMatrix`](crate::ConfusionMatrix).
///
/// ```
/// use seghead::{Absent, Confusion};
/// let mut confusion = Confusion::new(2);
/// confusion.add(0, 0, 6)?; // target, prediction, pixels
/// confusion.add(0, 1, 2)?;
/// confusion.add(1, 1, 4)?;
/// assert_eq!(confusion.pixel_accuracy(), 10.0 / 12.0);
/// assert_eq!(confusion.iou(0), Some(0.75));
/// assert_eq!(confusion.mean_accuracy(Absent::Skip), (0.75 + 1.0) / 2.0);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: u32,
    counts: Vec<u64>,
    ignored: u64,
}

impl Confusion {
    /// That of no pixels, in 8 · C² bytes.
    pub fn new(classes: u32) -> Self {
        Self { classes, counts: vec![0; classes as usize * classes as usize], ignored: 0 }
    }

    /// That of `counts`, C × C, a row for each target.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for another number of counts, [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn from_counts(classes: u32, counts: Vec<u64>) -> Result<Self, Error> {
        let expected = u64::from(classes) * u64::from(classes);
        if counts.len() as u64 != expected {
            let found = counts.len() as u64;
            return Err(Error::Length { what: "counts of a confusion matrix", expected, found });
        }
        let confusion = Self { classes, counts, ignored: 0 };
        confusion.check(0)?;
        Ok(confusion)
    }

    /// With so many pixels that were ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn with_ignored(self, ignored: u64) -> Result<Self, Error> {
        let confusion = Self { ignored, ..self };
        confusion.check(0)?;
        Ok(confusion)
    }

    /// Adds `pixels` of class `target` that were predicted to be of class `prediction`.
    ///
    /// # Errors
    ///
    /// [`Error::Class`] for one that is not there, [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn add(&mut self, target: u32, prediction: u32, pixels: u64) -> Result<(), Error> {
        let classes = self.classes;
        if let Some(class) = [target, prediction].into_iter().find(|&class| class >= classes) {
            return Err(Error::Class { class, classes });
        }
        self.check(pixels)?;
        self.counts[target as usize * classes as usize + prediction as usize] += pixels;
        Ok(())
    }

    /// Adds the pixels of another matrix.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] for one of other classes, [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if self.classes != other.classes {
            let what = "confusion matrix";
            return Err(Error::Classes { what, expected: self.classes, found: other.classes });
        }
        self.check(other.pixels_in_all())?;
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.ignored += other.ignored;
        Ok(())
    }

    /// Refuses more pixels than 64 bits count, so that no sum of counts can wrap.
    fn check(&self, more: u64) -> Result<(), Error> {
        let counts = self.counts.iter().chain([&self.ignored, &more]);
        let (what, limit) = ("pixels of a confusion matrix", u64::MAX);
        match counts.map(|&count| u128::from(count)).sum::<u128>() <= u128::from(limit) {
            true => Ok(()),
            false => Err(Error::Limit { what, needed: u64::MAX, limit }),
        }
    }

    /// Pixels that were counted or ignored.
    fn pixels_in_all(&self) -> u64 {
        self.counted() + self.ignored
    }

    /// Number of classes, C.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// All counts, C × C: those of the pixels of target t that were predicted to be p are at t · C + p.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Pixels that were counted.
    pub fn counted(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Pixels whose target was the ignore index.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Pixels whose target is this class, t; 0 for one that is not there.
    pub fn pixels(&self, class: u32) -> u64 {
        let classes = self.classes as usize;
        self.counts.chunks_exact(classes.max(1)).nth(class as usize).map_or(0, |row| row.iter().sum())
    }

    /// Pixels that were predicted to be of this class, p; 0 for one that is not there.
    pub fn predicted(&self, class: u32) -> u64 {
        if class >= self.classes {
            return 0;
        }
        self.counts.iter().skip(class as usize).step_by(self.classes as usize).sum()
    }

    /// Pixels of this class that were predicted to be of it, i; 0 for one that is not there.
    pub fn intersection(&self, class: u32) -> u64 {
        if class >= self.classes {
            return 0;
        }
        self.counts[class as usize * self.classes as usize + class as usize]
    }

    /// Intersection over union of a class, in 0..=1, or `None` where the class neither occurs nor is predicted.
    pub fn iou(&self, class: u32) -> Option<f64> {
        let (i, t, p) = (self.intersection(class), self.pixels(class), self.predicted(class));
        // t and p share the pixels of i, so that the union is no more than all pixels.
        quotient(i, t - i + p)
    }

    /// Dice coefficient or F1 score of a class, in 0..=1, or `None` where the class neither occurs nor is predicted.
    pub fn dice(&self, class: u32) -> Option<f64> {
        let (i, t, p) = (self.intersection(class), self.pixels(class), self.predicted(class));
        // Sums of up to 2⁶⁴ pixels each, which 65 bits hold.
        let (twice, sum) = (2 * u128::from(i), u128::from(t) + u128::from(p));
        (sum > 0).then(|| twice as f64 / sum as f64)
    }

    /// Of the pixels that were predicted to be of a class, the share that is, in 0..=1, or `None` where there are none.
    pub fn precision(&self, class: u32) -> Option<f64> {
        quotient(self.intersection(class), self.predicted(class))
    }

    /// Of the pixels of a class, the share that was predicted to be of it, in 0..=1, or `None` where there are none.
    pub fn recall(&self, class: u32) -> Option<f64> {
        quotient(self.intersection(class), self.pixels(class))
    }

    /// The share of the pixels whose class was predicted, in 0..=1; NaN where none were counted.
    pub fn pixel_accuracy(&self) -> f64 {
        let right = (0..self.classes).map(|class| self.intersection(class)).sum();
        quotient(right, self.counted()).unwrap_or(f64::NAN)
    }

    /// The mean recall of the classes, in 0..=1; NaN where all are left out.
    pub fn mean_accuracy(&self, absent: Absent) -> f64 {
        self.mean(absent, Self::recall)
    }

    /// The mean precision of the classes, in 0..=1; NaN where all are left out.
    pub fn mean_precision(&self, absent: Absent) -> f64 {
        self.mean(absent, Self::precision)
    }

    /// The mean intersection over union of the classes, in 0..=1; NaN where all are left out.
    pub fn mean_iou(&self, absent: Absent) -> f64 {
        self.mean(absent, Self::iou)
    }

    /// The mean Dice coefficient of the classes, in 0..=1; NaN where all are left out.
    pub fn mean_dice(&self, absent: Absent) -> f64 {
        self.mean(absent, Self::dice)
    }

    /// The mean intersection over union of the classes, each with the share of the pixels that it has as its weight, in
    /// 0..=1; NaN where no pixels were counted. A class that does not occur has no weight, whatever its score.
    pub fn frequency_weighted_iou(&self) -> f64 {
        let counted = self.counted();
        if counted == 0 {
            return f64::NAN;
        }
        let weighted = |class| self.pixels(class) as f64 * self.iou(class).unwrap_or(0.0);
        (0..self.classes).map(weighted).sum::<f64>() / counted as f64
    }

    fn mean(&self, absent: Absent, score: impl Fn(&Self, u32) -> Option<f64>) -> f64 {
        absent.mean((0..self.classes).map(|class| score(self, class)))
    }
}

fn quotient(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}
