//! The temperature that makes a network's probabilities as likely as they can be.

use crate::{CrossEntropy, Error, Gpu, Logits};

/// Searches the temperature T by which logits are to be divided so that the cross-entropy of their softmax is least:
/// temperature scaling, section 4.2 of Guo et al., [On Calibration of Modern Neural
/// Networks](https://arxiv.org/abs/1706.04599), 2017. It changes how sure a network is of its labels, and no label.
///
/// The loss is convex in 1 / T, so it has one minimum, which a golden-section search over log T closes in on: about 20
/// evaluations with the default range and tolerance.
///
/// ```
/// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits, TemperatureScaling};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// // Four pixels, in which the network is very sure of class 0, and right in three of them.
/// let (logits, targets) = ([4.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0], [0u8, 0, 0, 1]);
/// let (shape, loss) = (Logits::chw(2, 2, 2)?, CrossEntropy::new());
/// let best = TemperatureScaling::new().fit_blocking(&gpu, &loss, &shape, &logits, &targets)?;
/// // At which its confidence is ¾: 4 / T = ln 3.
/// assert!((best.temperature - 4.0 / 3f32.ln()).abs() < 4e-3 * best.temperature);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemperatureScaling {
    range: [f32; 2],
    tolerance: f32,
}

/// What [`TemperatureScaling`] finds.
///
/// ```
/// use seghead::FittedTemperature;
/// let fitted = FittedTemperature { temperature: 1.5, loss: 0.25 };
/// let logits = [3.0f32, 0.0].map(|x| x / fitted.temperature);
/// assert_eq!(logits, [2.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedTemperature {
    /// What logits are to be divided by: above 1 where the network is too sure.
    pub temperature: f32,
    /// The loss of the logits divided by it.
    pub loss: f64,
}

impl Default for TemperatureScaling {
    fn default() -> Self {
        Self { range: [0.05, 20.0], tolerance: 1e-3 }
    }
}

/// The golden section, what is left of an interval with each evaluation.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl TemperatureScaling {
    /// The search in 0.05..=20, to within a thousandth of the temperature.
    pub fn new() -> Self {
        Self::default()
    }

    /// The smallest and the largest temperature, above 0. Where the loss falls up to one of them, that end is found: a
    /// network that is always right, say, has no best temperature and gets the smallest.
    pub fn range(self, smallest: f32, largest: f32) -> Self {
        Self { range: [smallest, largest], ..self }
    }

    /// How close to the minimum the search comes, relative to the temperature, in 1e-6..=1. The losses limit it too:
    /// those of f32, exact to about 1e-7 of themselves, tell temperatures apart that differ by about a thousandth.
    pub fn tolerance(self, tolerance: f32) -> Self {
        Self { tolerance, ..self }
    }

    /// The best temperature for `loss`, a function of it with a single minimum: the cross-entropy, over as many images
    /// as there are, of logits divided by it.
    ///
    /// ```
    /// use seghead::TemperatureScaling;
    /// let best = TemperatureScaling::new().fit(|t| Ok(f64::from(t.ln() - 0.5).powi(2)))?;
    /// assert!((best.temperature - 0.5f32.exp()).abs() < 2e-3);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for a range or a tolerance that is none, and for a loss that is not finite; what `loss`
    /// returns.
    pub fn fit(&self, mut loss: impl FnMut(f32) -> Result<f64, Error>) -> Result<FittedTemperature, Error> {
        let mut search = self.search()?;
        while let Some(temperature) = search.next() {
            search.put(temperature, loss(temperature)?)?;
        }
        search.best()
    }

    /// The best temperature for `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type, with
    /// the options of `cross_entropy`. Every evaluation is a pass of the GPU over logits that were divided on the host,
    /// which needs memory for a second copy of them. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit) and [`CrossEntropy::run`].
    pub async fn fit_logits<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        cross_entropy: &CrossEntropy,
        logits: &Logits,
        data: &[f32],
        targets: &[L],
    ) -> Result<FittedTemperature, Error> {
        let mut scaled = vec![0.0; data.len()];
        let mut search = self.search()?;
        while let Some(temperature) = search.next() {
            scaled.iter_mut().zip(data).for_each(|(scaled, x)| *scaled = x / temperature);
            search.put(temperature, cross_entropy.run(gpu, logits, &scaled, targets).await?.value.into())?;
        }
        search.best()
    }

    /// [`fit_logits`](Self::fit_logits) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`fit_logits`](Self::fit_logits).
    #[cfg(not(target_family = "wasm"))]
    pub fn fit_blocking<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        cross_entropy: &CrossEntropy,
        logits: &Logits,
        data: &[f32],
        targets: &[L],
    ) -> Result<FittedTemperature, Error> {
        let mut scaled = vec![0.0; data.len()];
        self.fit(|temperature| {
            scaled.iter_mut().zip(data).for_each(|(scaled, x)| *scaled = x / temperature);
            Ok(cross_entropy.run_blocking(gpu, logits, &scaled, targets)?.value.into())
        })
    }

    fn search(&self) -> Result<Search, Error> {
        self.check()?;
        let [low, high] = self.range.map(|t| f64::from(t).ln());
        let inside = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
        let tolerance = self.tolerance.into();
        Ok(Search { low, high, inside, tolerance, ends: [None; 2], found: [None; 2] })
    }

    fn check(&self) -> Result<(), Error> {
        let [smallest, largest] = self.range;
        if !(smallest.is_normal() && smallest > 0.0) {
            let (what, expected) = ("smallest temperature", "a number above 0");
            return Err(Error::Value { what, expected, found: smallest });
        }
        if !(largest.is_finite() && largest >= smallest) {
            let (what, expected) = ("largest temperature", "a finite number, at least the smallest");
            return Err(Error::Value { what, expected, found: largest });
        }
        match self.tolerance {
            1e-6..=1.0 => Ok(()),
            found => {
                Err(Error::Value { what: "tolerance of the temperature", expected: "a number in 1e-6..=1", found })
            }
        }
    }
}

/// A golden-section search over log T on its way, which asks for the loss at one temperature after another.
struct Search {
    low: f64,
    high: f64,
    /// Two points inside, of which the next interval keeps one.
    inside: [f64; 2],
    tolerance: f64,
    /// What was found at the ends of the whole range, and inside.
    ends: [Option<FittedTemperature>; 2],
    found: [Option<FittedTemperature>; 2],
}

impl Search {
    /// The temperature whose loss is wanted next.
    fn next(&mut self) -> Option<f32> {
        if let [Some(at_a), Some(at_b)] = self.found {
            if self.high - self.low <= self.tolerance {
                return None;
            }
            let [a, b] = self.inside;
            if at_a.loss <= at_b.loss {
                self.high = b;
                self.inside = [b - GOLDEN * (b - self.low), a];
                self.found = [None, Some(at_a)];
            } else {
                self.low = a;
                self.inside = [b, a + GOLDEN * (self.high - a)];
                self.found = [Some(at_b), None];
            }
        }
        let places = [self.low, self.high, self.inside[0], self.inside[1]];
        let wanted = self.ends.iter().chain(&self.found).position(Option::is_none);
        wanted.map(|i| places[i].exp() as f32)
    }

    /// Takes the loss at the temperature that was asked for.
    fn put(&mut self, temperature: f32, loss: f64) -> Result<(), Error> {
        if !loss.is_finite() {
            let (what, expected) = ("loss at a temperature", "a finite number");
            return Err(Error::Value { what, expected, found: loss as f32 });
        }
        let wanted = self.ends.iter_mut().chain(&mut self.found).find(|found| found.is_none());
        wanted.into_iter().for_each(|found| *found = Some(FittedTemperature { temperature, loss }));
        Ok(())
    }

    /// The best of what was found, the first of equals.
    fn best(self) -> Result<FittedTemperature, Error> {
        let better = |x: FittedTemperature, y: FittedTemperature| if y.loss < x.loss { y } else { x };
        let all = self.ends.into_iter().chain(self.found).flatten();
        all.reduce(better).ok_or(Error::Empty { what: "losses" })
    }
}
