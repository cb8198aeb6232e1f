//! What checks find.

use std::fmt::Debug;

#[derive(Default)]
pub struct Found {
    pub compared: usize,
    pub failures: Vec<String>,
}

impl Found {
    /// Compares numbers, NaN being equal to NaN.
    pub fn close(&mut self, what: &str, got: &[f32], expected: &[f64], tolerance: impl Fn(usize) -> f64) {
        let same = |i: usize| {
            let (got, expected) = (f64::from(got[i]), expected[i]);
            got == expected || got.is_nan() && expected.is_nan() || (got - expected).abs() <= tolerance(i)
        };
        self.compare(what, got, expected, same);
    }

    /// Compares what is to be the same but where it is `tolerated`.
    pub fn equal<T: Debug + PartialEq>(
        &mut self,
        what: &str,
        got: &[T],
        expected: &[T],
        tolerated: impl Fn(usize) -> bool,
    ) {
        self.compare(what, got, expected, |i| got[i] == expected[i] || tolerated(i));
    }

    fn compare<T: Debug, U: Debug>(&mut self, what: &str, got: &[T], expected: &[U], same: impl Fn(usize) -> bool) {
        self.compared += expected.len();
        if got.len() != expected.len() {
            self.failures.push(format!("{what}: expected {} values, got {}", expected.len(), got.len()));
            return;
        }
        let wrong: Vec<_> = (0..got.len()).filter(|&i| !same(i)).collect();
        if let Some(&first) = wrong.first() {
            let (got, expected) = (&got[first], &expected[first]);
            let line = format!("{what}: {} wrong, the first at {first}: {got:?} for {expected:?}", wrong.len());
            self.failures.push(line);
        }
    }
}
