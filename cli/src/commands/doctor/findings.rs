//! What was compared and what differed.

use std::collections::{BTreeMap, BTreeSet};

use seghead::{Dispatch, SpecialisedKernel};

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// A result below the smallest normal f32 may be flushed to zero.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// What the cases have found, of all kernels.
#[derive(Default)]
pub struct Findings {
    /// The kernels whose results were compared.
    pub ran: BTreeSet<SpecialisedKernel>,
    pub tallies: BTreeMap<&'static str, Tally>,
    pub failures: Vec<Failure>,
}

/// What was compared of one kernel.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub values: u64,
    /// The largest difference from the reference, where 1 is the largest that is allowed.
    pub worst: f64,
}

/// Something that is wrong.
pub struct Failure {
    /// The kernels one of which must be to blame.
    pub suspects: Vec<&'static str>,
    /// One line: kernels and specialisation, shape, what differs.
    pub message: String,
}

/// Results to be compared: of which kernels, from which tensor.
pub struct Subject<'a> {
    kernels: Vec<SpecialisedKernel>,
    sample: &'a str,
}

impl<'a> Subject<'a> {
    /// What `dispatch` makes of a sample, as far as the kernels with one of `names` are concerned.
    pub fn new(dispatch: &Dispatch, names: &[&str], sample: &'a str) -> Self {
        let mut kernels = dispatch.kernels();
        kernels.retain(|one| names.contains(&one.kernel));
        kernels.sort();
        kernels.dedup();
        Self { kernels, sample }
    }
}

impl Findings {
    /// Compares numbers with those of the reference, element by element, within `tolerance(index)`: NaN only where it
    /// has NaN, an infinity only where it has the same. Whether all agree.
    pub fn compare(
        &mut self,
        subject: &Subject<'_>,
        what: &str,
        got: &[f32],
        expected: &[f64],
        tolerance: impl Fn(usize) -> f64,
    ) -> bool {
        let mut worst = 0f64;
        let mut first = None;
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let value = f64::from(got);
            let error = if expected.is_nan() && got.is_nan() || value == expected {
                0.0
            } else if expected.is_finite() && got.is_finite() {
                (value - expected).abs() / tolerance(i)
            } else {
                f64::INFINITY
            };
            worst = worst.max(error);
            if error > 1.0 && first.is_none() {
                let within = if expected.is_finite() { format!(" within {:.1e}", tolerance(i)) } else { String::new() };
                first = Some(format!("{what} [{i}] is {got:e}, expected {expected:.8e}{within}"));
            }
        }
        self.count(subject, got.len(), worst);
        if first.is_none() && got.len() != expected.len() {
            first = Some(format!("{} of {what}, expected {}", got.len(), expected.len()));
        }
        self.conclude(subject, first)
    }

    /// Compares integers, which must be equal but where `tolerated(index)` says that they need not be.
    pub fn compare_exactly(
        &mut self,
        subject: &Subject<'_>,
        what: &str,
        got: &[u32],
        expected: &[u32],
        tolerated: impl Fn(usize) -> bool,
    ) -> bool {
        let differs = |i: &usize| got.get(*i) != expected.get(*i) && !tolerated(*i);
        let first = (0..expected.len()).find(differs);
        self.count(subject, expected.len(), if first.is_some() { f64::INFINITY } else { 0.0 });
        let found = |i: usize| got.get(i).map_or("missing".to_owned(), u32::to_string);
        self.conclude(subject, first.map(|i| format!("{what} [{i}] is {}, expected {}", found(i), expected[i])))
    }

    /// Notes something else that is wrong, or that nothing is.
    pub fn conclude(&mut self, subject: &Subject<'_>, wrong: Option<String>) -> bool {
        let Some(wrong) = wrong else { return true };
        let names: Vec<_> = subject.kernels.iter().map(ToString::to_string).collect();
        let message = format!("{}: {}: {wrong}", names.join(" or "), subject.sample);
        self.failures.push(Failure { suspects: subject.kernels.iter().map(|one| one.kernel).collect(), message });
        false
    }

    fn count(&mut self, subject: &Subject<'_>, values: usize, worst: f64) {
        for one in &subject.kernels {
            self.ran.insert(one.clone());
            let tally = self.tallies.entry(one.kernel).or_default();
            tally.values += values as u64;
            tally.worst = tally.worst.max(worst);
        }
    }

    /// Adds what another has found.
    pub fn add(&mut self, other: Self) {
        self.ran.extend(other.ran);
        for (kernel, tally) in other.tallies {
            let sum = self.tallies.entry(kernel).or_default();
            sum.values += tally.values;
            sum.worst = sum.worst.max(tally.worst);
        }
        self.failures.extend(other.failures);
    }

    /// Leaves out what is explained by the failure of a kernel that others work with: every failure one of whose
    /// suspects is among fewer elsewhere. Those with the fewest come first.
    pub fn explain(&mut self) {
        let mut fewest = BTreeMap::new();
        for failure in &self.failures {
            let count = failure.suspects.len();
            for &kernel in &failure.suspects {
                fewest.entry(kernel).and_modify(|fewest: &mut usize| *fewest = count.min(*fewest)).or_insert(count);
            }
        }
        self.failures.retain(|failure| failure.suspects.iter().all(|kernel| fewest[kernel] == failure.suspects.len()));
        self.failures.sort_by_key(|failure| failure.suspects.len());
    }
}
