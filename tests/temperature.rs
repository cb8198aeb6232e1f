//! The temperature of temperature scaling, against where the derivative of the loss is 0 in f64.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use seghead::{CrossEntropy, Error, FittedTemperature, Logits, Reduction, TemperatureScaling, reference};

/// Where the mean cross-entropy of data / T is least: by bisection on 1 / T of its derivative there, the mean of
/// Σ p x − x[target].
fn exact(shape: &Logits, data: &[f32], targets: &[i64], ignored: i64) -> f64 {
    let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
    let derivative = |beta: f64| -> f64 {
        let of_pixel = |i: usize| {
            let x: Vec<f64> =
                (0..classes).map(|c| f64::from(data[(i / plane * classes + c) * plane + i % plane])).collect();
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = x.iter().map(|x| (beta * (x - largest)).exp()).collect();
            let mean = e.iter().zip(&x).map(|(e, x)| e * x).sum::<f64>() / e.iter().sum::<f64>();
            mean - x[targets[i] as usize]
        };
        (0..targets.len()).filter(|&i| targets[i] != ignored).map(of_pixel).sum()
    };
    let (mut low, mut high) = (1e-3, 1e3);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if derivative(middle) < 0.0 { low = middle } else { high = middle }
    }
    2.0 / (low + high)
}

/// Targets as often as a softmax of data / T says, some of them ignored.
fn sampled(shape: &Logits, data: &[f32], temperature: f64, random: &mut Random) -> Vec<i64> {
    let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
    let scaled: Vec<f64> = data.iter().map(|&x| f64::from(x) / temperature).collect();
    let p = reference::softmax(shape, &scaled, seghead::Axis::Class);
    let target = |i: usize| {
        let mut left = random.bits() as f64 / u64::MAX as f64;
        let at = |c: usize| p[(i / plane * classes + c) * plane + i % plane];
        let class = (0..classes - 1).find(|&c| {
            left -= at(c);
            left < 0.0
        });
        if random.below(7) == 0 { 255 } else { class.unwrap_or(classes - 1) as i64 }
    };
    (0..shape.images() as usize * plane).map(target).collect()
}

#[test]
fn finds_where_the_loss_is_least() {
    let mut random = Random::new(1);
    for (shape, temperature) in [
        (Logits::nchw(2, 3, 31, 17).unwrap(), 0.4),
        (Logits::nchw(1, 5, 40, 50).unwrap(), 1.0),
        (Logits::nchw(1, 30, 23, 37).unwrap(), 2.5),
        (Logits::nchw(3, 2, 33, 29).unwrap(), 7.0),
    ] {
        let data = random.logits(&shape);
        let targets = sampled(&shape, &data, temperature, &mut random);
        let expected = exact(&shape, &data, &targets, 255);
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let cross_entropy = CrossEntropy::new().ignore_index(Some(255)).reduction(reduction);
            let scaling = TemperatureScaling::new();
            let found = scaling.fit_blocking(gpu(), &cross_entropy, &shape, &data, &targets).unwrap();
            let error = (f64::from(found.temperature) / expected - 1.0).abs();
            assert!(error < 3e-3, "{shape:?}: {found:?}, expected {expected}");
            // About what the targets were made with.
            assert!((expected / temperature - 1.0).abs() < 0.15, "{shape:?}: {expected}, made with {temperature}");
            let scaled: Vec<f32> = data.iter().map(|x| x / found.temperature).collect();
            let there = cross_entropy.run_blocking(gpu(), &shape, &scaled, &targets).unwrap();
            assert_eq!(found.loss, f64::from(there.value));
            let before = cross_entropy.run_blocking(gpu(), &shape, &data, &targets).unwrap();
            assert!(found.loss <= f64::from(before.value) * (1.0 + 1e-6));
        }
    }
}

/// In exact arithmetic as close as was asked for, in as few evaluations as a golden section takes.
#[test]
fn as_close_as_asked() {
    for tolerance in [1e-2, 1e-4, 1e-6] {
        for best in [0.051f64, 0.3, 1.0, 1.7, 19.9] {
            let mut evaluations = 0;
            let scaling = TemperatureScaling::new().tolerance(tolerance);
            let found = scaling.fit(|t| {
                evaluations += 1;
                Ok(f64::from(t) / best + best / f64::from(t))
            });
            let error = (f64::from(found.unwrap().temperature) / best).ln().abs();
            assert!(error <= f64::from(tolerance) + 1e-6, "{best} to within {tolerance}: off by {error}");
            let limit = ((400f64.ln() / f64::from(tolerance)).ln() / 1.618f64.ln()).ceil() as u32 + 4;
            assert!(evaluations <= limit, "{evaluations} evaluations for {tolerance}, expected {limit} at most");
        }
    }
}

#[test]
fn ends_of_the_range() {
    let scaling = TemperatureScaling::new().range(0.5, 4.0);
    let falling = scaling.fit(|t| Ok(-f64::from(t))).unwrap();
    assert_eq!(falling, FittedTemperature { temperature: 4.0, loss: -4.0 });
    let rising = scaling.fit(|t| Ok(t.into())).unwrap();
    assert_eq!(rising, FittedTemperature { temperature: 0.5, loss: 0.5 });
    let one = TemperatureScaling::new().range(1.0, 1.0).fit(|t| Ok(t.into())).unwrap();
    assert_eq!(one.temperature, 1.0);
    // A network that is always right.
    let (shape, data, targets) = (Logits::chw(2, 1, 3).unwrap(), [5.0, 6.0, -3.0, 0.0, 0.0, 3.0], [0u8, 0, 1]);
    let cross_entropy = CrossEntropy::new();
    let found = TemperatureScaling::new().fit_blocking(gpu(), &cross_entropy, &shape, &data, &targets).unwrap();
    assert_eq!(found.temperature, 0.05);
}

#[test]
fn misuse() {
    let refused = |result: Result<FittedTemperature, Error>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    let fit = |scaling: TemperatureScaling| scaling.fit(|t| Ok(t.into()));
    let scaling = TemperatureScaling::new();
    refused(fit(scaling.range(0.0, 1.0)), "smallest temperature: expected a number above 0, found 0");
    refused(fit(scaling.range(f32::NAN, 1.0)), "smallest temperature: expected a number above 0, found NaN");
    let largest =
        |found| format!("largest temperature: expected a finite number, at least the smallest, found {found}");
    refused(fit(scaling.range(2.0, 1.0)), &largest("1"));
    refused(fit(scaling.range(2.0, f32::INFINITY)), &largest("inf"));
    let tolerance = |found| format!("tolerance of the temperature: expected a number in 1e-6..=1, found {found}");
    refused(fit(scaling.tolerance(0.0)), &tolerance("0"));
    refused(fit(scaling.tolerance(f32::NAN)), &tolerance("NaN"));
    let loss = |found| format!("loss at a temperature: expected a finite number, found {found}");
    refused(scaling.fit(|_| Ok(f64::NAN)), &loss("NaN"));
    // All pixels are ignored; a slice is too short.
    let (shape, cross_entropy) = (Logits::chw(2, 1, 2).unwrap(), CrossEntropy::new().ignore_index(Some(255)));
    let ignored = scaling.fit_blocking(gpu(), &cross_entropy, &shape, &[0.0; 4], &[255u8, 255]);
    refused(ignored, &loss("NaN"));
    let short = scaling.fit_blocking(gpu(), &cross_entropy, &shape, &[0.0; 3], &[0u8, 1]);
    assert!(matches!(short, Err(Error::Length { expected: 4, found: 3, .. })), "{short:?}");
}
