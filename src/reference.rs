//! The f64 twins of the kernels: short, naive, the written specification that the tests hold the kernels to.
//!
//! Data are packed N × C × H × W, or N × H × W × C where the [`Logits`] say so, maps N × H × W. Nothing here is fast, and nothing uses the GPU.
//!
//! ```
//! use seghead::{Axis, Logits, reference};
//! let logits = Logits::chw(2, 1, 2)?;
//! let p = reference::softmax(&logits, &[0.0, 1.0, 0.0, 3.0], Axis::Class);
//! assert_eq!(p[0] + p[2], 1.0);
//! assert_eq!(reference::argmax(&logits, &p), [0, 1]);
//! # Ok::<(), seghead::Error>(())
//! ```

use crate::{Axis, Logits, Resize};

/// Where class `c` of pixel `pixel`, counted over all images, lies in packed data.
fn index(logits: &Logits, pixel: usize, c: usize) -> usize {
    let (classes, plane) = (logits.classes() as usize, logits.pixels() as usize);
    if logits.is_classes_last() { pixel * classes + c } else { (pixel / plane * classes + c) * plane + pixel % plane }
}

/// The C values of every pixel, pixels in the order of a map.
fn pixels<T: Copy + Into<f64>>(logits: &Logits, data: &[T]) -> impl Iterator<Item = Vec<f64>> {
    let values = |pixel| (0..logits.classes() as usize).map(|c| data[index(logits, pixel, c)].into()).collect();
    (0..logits.map().pixels()).map(values)
}

/// The largest value; NaN where one is NaN, as in PyTorch and unlike [`f64::max`].
fn maximum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m })
}

fn softmax_of(values: &[f64]) -> Vec<f64> {
    let maximum = maximum(values);
    let exponentials: Vec<f64> = values.iter().map(|x| (x - maximum).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

/// Replaces the elements along `axis`, together, by what `f` makes of them.
fn along<T: Copy + Into<f64>>(logits: &Logits, data: &[T], axis: Axis, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let (height, width) = (logits.height() as usize, logits.width() as usize);
    let (classes, class_stride) = (logits.classes() as usize, index(logits, 0, 1));
    let pixel_stride = if logits.is_classes_last() { classes } else { 1 };
    let (count, stride) = match axis {
        Axis::Class => (classes, class_stride),
        Axis::Height => (height, width * pixel_stride),
        Axis::Width => (width, pixel_stride),
    };
    let mut result = vec![0.0; data.len()];
    for first in (0..data.len()).filter(|i| i / stride % count == 0) {
        let indices = || (0..count).map(|k| first + k * stride);
        let values: Vec<f64> = indices().map(|i| data[i].into()).collect();
        indices().zip(f(&values)).for_each(|(i, value)| result[i] = value);
    }
    result
}

/// Softmax, N × C × H × W: `exp(x − max) / Σ exp(x − max)` over the elements along `axis`.
pub fn softmax<T: Copy + Into<f64>>(logits: &Logits, data: &[T], axis: Axis) -> Vec<f64> {
    along(logits, data, axis, softmax_of)
}

/// The logarithm of [`softmax`]: `(x − max) − log Σ exp(x − max)`.
pub fn log_softmax<T: Copy + Into<f64>>(logits: &Logits, data: &[T], axis: Axis) -> Vec<f64> {
    along(logits, data, axis, |values| {
        let maximum = maximum(values);
        let log_sum = values.iter().map(|x| (x - maximum).exp()).sum::<f64>().ln();
        values.iter().map(|x| (x - maximum) - log_sum).collect()
    })
}

/// Sigmoid of every element: `1 / (1 + exp(−x))`.
pub fn sigmoid<T: Copy + Into<f64>>(data: &[T]) -> Vec<f64> {
    data.iter().map(|&x| 1.0 / (1.0 + (-x.into()).exp())).collect()
}

/// The class with the largest value of every pixel, N × H × W: the first of equals, the first NaN if there is one.
pub fn argmax<T: Copy + Into<f64>>(logits: &Logits, data: &[T]) -> Vec<u32> {
    let label = |values: Vec<f64>| {
        let mut best = 0;
        for (c, x) in values.iter().enumerate() {
            if !values[best].is_nan() && (*x > values[best] || x.is_nan()) {
                best = c;
            }
        }
        best as u32
    };
    pixels(logits, data).map(label).collect()
}

/// How sure the softmax is of the class that [`argmax`] takes, N × H × W each.
///
/// ```
/// use seghead::{Logits, reference};
/// let scores = reference::scores(&Logits::chw(2, 1, 1)?, &[0.0, 0.0]);
/// assert_eq!((scores.confidence[0], scores.margin[0]), (0.5, 0.0));
/// assert!((scores.entropy[0] - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The largest probability.
    pub confidence: Vec<f64>,
    /// The largest probability less the second largest, or itself where there is one class.
    pub margin: Vec<f64>,
    /// −Σ p ln p, where 0 ln 0 is 0.
    pub entropy: Vec<f64>,
}

/// The scores of every pixel, see [`Scores`].
pub fn scores<T: Copy + Into<f64>>(logits: &Logits, data: &[T]) -> Scores {
    let mut scores = Scores::default();
    for values in pixels(logits, data) {
        let mut p = softmax_of(&values);
        p.sort_by(|a, b| b.total_cmp(a));
        scores.confidence.push(p[0]);
        scores.margin.push(p[0] - p.get(1).copied().unwrap_or(0.0));
        scores.entropy.push(-p.iter().map(|&p| if p == 0.0 { 0.0 } else { p * p.ln() }).sum::<f64>());
    }
    scores
}

/// The losses of [`cross_entropy`] or [`cross_entropy_soft`], with what reductions need.
///
/// ```
/// use seghead::{Logits, reference};
/// let logits = Logits::chw(2, 1, 1)?;
/// let losses = reference::cross_entropy(&logits, &[0.0, 0.0], &[1], None, None, 0.0);
/// assert!((losses.mean() - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// The loss of every pixel, N × H × W, 0 where it is ignored.
    pub per_pixel: Vec<f64>,
    /// The sum of the class weights of all targets that are not ignored; of soft targets, the number of pixels.
    pub weight: f64,
}

impl Losses {
    /// Σ loss.
    pub fn sum(&self) -> f64 {
        self.per_pixel.iter().sum()
    }

    /// Σ loss / Σ weight, NaN where the weights sum to 0.
    pub fn mean(&self) -> f64 {
        if self.weight == 0.0 { f64::NAN } else { self.sum() / self.weight }
    }
}

/// Cross-entropy of logits and target classes, N × H × W, as in
/// [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html):
/// `(1 − ε) · w[t] · −log p[t]  +  ε / C · Σ_c w[c] · −log p[c]` with `−log p[c] = log Σ exp(x) − x[c]`.
///
/// # Panics
///
/// Where a target is neither a class nor the ignore index.
pub fn cross_entropy<T: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[i64],
    ignore_index: Option<i64>,
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
) -> Losses {
    let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
    let mut weight = 0.0;
    let loss = |(x, &target): (Vec<f64>, &i64)| {
        if Some(target) == ignore_index {
            return 0.0;
        }
        let target = target as usize;
        weight += weight_of(target);
        let maximum = maximum(&x);
        let log_sum = x.iter().map(|x| (x - maximum).exp()).sum::<f64>().ln();
        let nll = |c: usize| weight_of(c) * ((maximum - x[c]) + log_sum);
        let mut loss = nll(target);
        if label_smoothing != 0.0 {
            let all: f64 = (0..x.len()).map(nll).sum();
            loss = (1.0 - label_smoothing) * loss + label_smoothing / x.len() as f64 * all;
        }
        loss
    };
    let per_pixel = pixels(logits, data).zip(targets).map(loss).collect();
    Losses { per_pixel, weight }
}

/// Bilinear interpolation to `height × width`, N × C × height × width: what [`Segment`](crate::Segment) never stores.
///
/// As [`torch.nn.functional.interpolate`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html)
/// with `mode="bilinear"`: positions below 0 are moved to 0, a tap behind the last one to the last one.
pub fn upsample<T: Copy + Into<f64>>(logits: &Logits, data: &[T], height: u32, width: u32, resize: Resize) -> Vec<f64> {
    let source = |x: u32, input: u32, output: u32| {
        let (x, input_size, output_size) = (f64::from(x), f64::from(input), f64::from(output));
        let position = match resize {
            Resize::HalfPixel => (x + 0.5) * input_size / output_size - 0.5,
            Resize::AlignCorners if output > 1 => x * (input_size - 1.0) / (output_size - 1.0),
            Resize::AlignCorners => 0.0,
            Resize::Asymmetric => x * input_size / output_size,
        };
        let position = position.max(0.0);
        let index = position.floor() as usize;
        (index, (index + 1).min(input as usize - 1), position - position.floor())
    };
    let (classes, size) = (logits.classes() as usize, (height as usize, width as usize));
    let (in_height, in_width) = (logits.height() as usize, logits.width() as usize);
    let mut result = vec![0.0; logits.images() as usize * classes * size.0 * size.1];
    let Ok(full) = logits.resized(logits.images(), height, width) else { return result };
    for pixel in 0..full.map().pixels() {
        let (image, y, x) = (pixel / (size.0 * size.1), pixel / size.1 % size.0, pixel % size.1);
        let (top, bottom, fy) = source(y as u32, logits.height(), height);
        let (left, right, fx) = source(x as u32, logits.width(), width);
        for c in 0..classes {
            let at = |row: usize, column: usize| -> f64 {
                data[index(logits, (image * in_height + row) * in_width + column, c)].into()
            };
            let upper = (1.0 - fx) * at(top, left) + fx * at(top, right);
            let lower = (1.0 - fx) * at(bottom, left) + fx * at(bottom, right);
            result[index(&full, pixel, c)] = (1.0 - fy) * upper + fy * lower;
        }
    }
    result
}

/// The labels and the scores of logits upsampled to `height × width`, N × height × width each.
///
/// # Errors
///
/// [`Error::Empty`](crate::Error::Empty) and [`Error::Limit`](crate::Error::Limit) for sizes that
/// [`Logits::nchw`] refuses.
pub fn segment<T: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    height: u32,
    width: u32,
    resize: Resize,
) -> Result<(Vec<u32>, Scores), crate::Error> {
    let full = logits.resized(logits.images(), height, width)?;
    let upsampled = upsample(logits, data, height, width, resize);
    Ok((argmax(&full, &upsampled), scores(&full, &upsampled)))
}

/// Cross-entropy of logits and soft targets, N × C × H × W in the order of `data`, as in
/// [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html) with class probabilities:
/// `−Σ_c w[c] · p'[c] · log p[c]` with `p' = (1 − ε) · target + ε / C` and log p the [`log_softmax`]. Every pixel weighs 1.
///
/// ```
/// use seghead::{Logits, reference};
/// let logits = Logits::chw(2, 1, 1)?;
/// let losses = reference::cross_entropy_soft(&logits, &[0.0, 0.0], &[0.25, 0.75], None, 0.0);
/// assert!((losses.mean() - 2f64.ln()).abs() < 1e-15);
/// // A class that is impossible for the network and for the target: 0 · −Inf is NaN, as in PyTorch.
/// let losses = reference::cross_entropy_soft(&logits, &[0.0, f64::NEG_INFINITY], &[1.0, 0.0], None, 0.0);
/// assert!(losses.sum().is_nan());
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn cross_entropy_soft<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[P],
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
) -> Losses {
    let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
    let loss = |(log_p, targets): (Vec<f64>, Vec<f64>)| {
        let classes = log_p.len() as f64;
        let term = |(c, (log_p, target)): (usize, (f64, f64))| {
            log_p * ((1.0 - label_smoothing) * target + label_smoothing / classes) * weight_of(c)
        };
        -log_p.into_iter().zip(targets).enumerate().map(term).sum::<f64>()
    };
    let log_p = log_softmax(logits, data, Axis::Class);
    let per_pixel: Vec<f64> = pixels(logits, &log_p).zip(pixels(logits, targets)).map(loss).collect();
    Losses { weight: per_pixel.len() as f64, per_pixel }
}

/// Which classes are present in every pixel, N × C × H × W whatever the order of the logits: `sigmoid(x) ≥ t` with the
/// threshold t of the class, in exact arithmetic, that is `x ≥ ln(t / (1 − t))`. NaN is not present.
///
/// ```
/// use seghead::{Logits, reference};
/// let logits = Logits::chw(2, 1, 2)?;
/// let present = reference::multi_label(&logits, &[0.0, -0.1, 1.0, f64::NAN], &[0.5, 0.7]);
/// assert_eq!(present, [true, false, true, false]); // sigmoid(1) is 0.73
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn multi_label<T: Copy + Into<f64>>(logits: &Logits, data: &[T], thresholds: &[f32]) -> Vec<bool> {
    let (classes, plane) = (logits.classes() as usize, logits.pixels() as usize);
    let mut present = vec![false; data.len()];
    for (pixel, values) in pixels(logits, data).enumerate() {
        for (c, x) in values.into_iter().enumerate() {
            let t = f64::from(thresholds[c]);
            present[(pixel / plane * classes + c) * plane + pixel % plane] = x >= (t / (1.0 - t)).ln();
        }
    }
    present
}
