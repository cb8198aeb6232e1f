//! What [`Calibration`](crate::Calibration) counts, and the errors that follow from it.

use crate::Error;

/// Confidences are added up in units of 1 / SCALE.
const SCALE: f64 = (1 << 24) as f64;

/// The upper edge of bin k − 1 of `bins`, and what bin k is above: k / B, the nearest f32.
pub(crate) fn edge(k: u32, bins: u32) -> f32 {
    k as f32 / bins as f32
}

/// The pixels of one bin of confidences.
///
/// ```
/// use seghead::ReliabilityBin;
/// let bin = ReliabilityBin { pixels: 4, right: 2, confidence_sum: 3 << 24 };
/// assert_eq!((bin.accuracy(), bin.mean_confidence(), bin.gap()), (Some(0.5), Some(0.75), Some(-0.25)));
/// assert_eq!(ReliabilityBin::default().accuracy(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReliabilityBin {
    /// Number of pixels.
    pub pixels: u64,
    /// Number of those that are right.
    pub right: u64,
    /// Σ of the pixels' confidences, each rounded to a multiple of 2⁻²⁴, in that unit.
    pub confidence_sum: u128,
}

impl ReliabilityBin {
    /// The share of the pixels that are right; none of no pixels.
    pub fn accuracy(&self) -> Option<f64> {
        self.mean(self.right as f64)
    }

    /// The mean confidence of the pixels, within 2⁻²⁵ of that of the f32 confidences; none of no pixels.
    pub fn mean_confidence(&self) -> Option<f64> {
        self.mean(self.confidence_sum as f64 / SCALE)
    }

    /// The accuracy less the mean confidence, below 0 where the network is too sure; none of no pixels.
    pub fn gap(&self) -> Option<f64> {
        Some(self.accuracy()? - self.mean_confidence()?)
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.pixels != 0).then(|| sum / self.pixels as f64)
    }
}

/// How often the pixels of each bin of confidences are right, of an image or of many: what a reliability diagram shows.
///
/// Which confidences are in which bin is told at [`Calibration`](crate::Calibration).
///
/// ```
/// use seghead::{ReliabilityBin, ReliabilityTable};
/// let bin = |pixels, right, confidence_sum| ReliabilityBin { pixels, right, confidence_sum };
/// // 6 pixels of confidence 0.5, a third of them right, and 2 of confidence 0.75, both of them right.
/// let mut table = ReliabilityTable::from_bins(vec![bin(6, 2, 3 << 24), bin(2, 2, 3 << 23)], 0)?;
/// assert_eq!(table.edges(0), [0.0, 0.5]);
/// assert!((table.expected_calibration_error() - (6.0 / 8.0 * (1.0 / 6.0) + 2.0 / 8.0 * 0.25)).abs() < 1e-15);
/// assert_eq!(table.maximum_calibration_error(), 0.25);
///
/// // That of more images is the sum.
/// table.add(&ReliabilityTable::from_bins(vec![bin(0, 0, 0), bin(2, 1, 3 << 23)], 1)?)?;
/// assert_eq!((table.pixels(), table.nan(), table.bins()[1]), (10, 1, bin(4, 3, 3 << 24)));
/// assert_eq!(table.accuracy(), Some(0.5));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReliabilityTable {
    bins: Vec<ReliabilityBin>,
    nan: u64,
}

impl ReliabilityTable {
    /// That of no pixels, with `bins` bins.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for no bins.
    pub fn new(bins: u32) -> Result<Self, Error> {
        Self::from_bins(vec![ReliabilityBin::default(); bins as usize], 0)
    }

    /// That of these bins, in the order of their confidences, and of so many pixels whose confidence is NaN.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for no bins, [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn from_bins(bins: Vec<ReliabilityBin>, nan: u64) -> Result<Self, Error> {
        if bins.is_empty() {
            return Err(Error::Empty { what: "bins" });
        }
        let table = Self { bins, nan };
        table.check(0)?;
        Ok(table)
    }

    /// Adds the pixels of another table, exactly.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for one with another number of bins, [`Error::Limit`] where 64 bits do not count all pixels.
    pub fn add(&mut self, other: &Self) -> Result<(), Error> {
        let (expected, found) = (self.bins.len() as u64, other.bins.len() as u64);
        if expected != found {
            return Err(Error::Length { what: "bins of a reliability table", expected, found });
        }
        self.check(other.count())?;
        for (sum, bin) in self.bins.iter_mut().zip(&other.bins) {
            sum.pixels += bin.pixels;
            // Fewer than the pixels in a table of a kernel; in one of the caller's there may be anything.
            sum.right = sum.right.saturating_add(bin.right);
            sum.confidence_sum = sum.confidence_sum.saturating_add(bin.confidence_sum);
        }
        self.nan += other.nan;
        Ok(())
    }

    /// Refuses more pixels than 64 bits count, so that no sum of them can wrap.
    fn check(&self, more: u128) -> Result<(), Error> {
        let limit = u64::MAX;
        match u64::try_from(self.count() + more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Limit { what: "pixels of a reliability table", needed: u64::MAX, limit }),
        }
    }

    /// Pixels in the bins and those of NaN.
    fn count(&self) -> u128 {
        self.bins.iter().map(|bin| u128::from(bin.pixels)).sum::<u128>() + u128::from(self.nan)
    }

    /// The B bins, in the order of their confidences.
    pub fn bins(&self) -> &[ReliabilityBin] {
        &self.bins
    }

    /// What confidences are in a bin: those above the first, or equal to it if it is 0, and not above the second.
    pub fn edges(&self, bin: u32) -> [f32; 2] {
        let bins = self.bins.len() as u32;
        [edge(bin, bins), edge(bin.saturating_add(1), bins)]
    }

    /// Number of pixels in all bins.
    pub fn pixels(&self) -> u64 {
        self.bins.iter().map(|bin| bin.pixels).sum()
    }

    /// Number of pixels whose confidence is NaN, which are in no bin.
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// The share of the pixels in all bins that are right; none of no pixels.
    pub fn accuracy(&self) -> Option<f64> {
        self.whole().accuracy()
    }

    /// The mean confidence of the pixels in all bins; none of no pixels.
    pub fn mean_confidence(&self) -> Option<f64> {
        self.whole().mean_confidence()
    }

    /// All bins as one.
    fn whole(&self) -> ReliabilityBin {
        self.bins.iter().fold(ReliabilityBin::default(), |sum, bin| ReliabilityBin {
            pixels: sum.pixels + bin.pixels,
            right: sum.right.saturating_add(bin.right),
            confidence_sum: sum.confidence_sum.saturating_add(bin.confidence_sum),
        })
    }

    /// The expected calibration error: the mean of |accuracy − mean confidence| over the bins, each weighed by its
    /// pixels, equation 3 of [Guo et al., 2017](https://arxiv.org/abs/1706.04599). NaN of no pixels, and where a
    /// confidence is NaN nothing is known of that pixel: it is left out.
    pub fn expected_calibration_error(&self) -> f64 {
        let pixels = self.pixels() as f64;
        let of_bin = |bin: &ReliabilityBin| bin.gap().map_or(0.0, |gap| bin.pixels as f64 / pixels * gap.abs());
        if pixels == 0.0 { f64::NAN } else { self.bins.iter().map(of_bin).sum() }
    }

    /// The maximum calibration error: the largest |accuracy − mean confidence| of a bin with pixels, equation 5 of
    /// [Guo et al., 2017](https://arxiv.org/abs/1706.04599). NaN of no pixels.
    pub fn maximum_calibration_error(&self) -> f64 {
        self.bins.iter().filter_map(ReliabilityBin::gap).map(f64::abs).fold(f64::NAN, f64::max)
    }
}
