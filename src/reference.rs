//! The f64 twins of the kernels: short, naive, the written specification that the tests hold the kernels to.
//!
//! Data are packed N × C × H × W, or N × H × W × C where the [`Logits`] say so; for a crop they are all of the tensor
//! that it is taken from. Results are packed, maps N × H × W. Nothing here is fast, and nothing uses the GPU.
//!
//! ```
//! use seghead::{Axis, Logits, reference};
//! let logits = Logits::chw(2, 1, 2)?;
//! let p = reference::softmax(&logits, &[0.0, 1.0, 0.0, 3.0], Axis::Class);
//! assert_eq!(p[0] + p[2], 1.0);
//! assert_eq!(reference::argmax(&logits, &p), [0, 1]);
//! # Ok::<(), seghead::Error>(())
//! ```

use std::cell::Cell;
use std::cmp::Ordering;

use crate::inspection::{no_sums, tolerance};
use crate::ops::inspect::{SAMPLE, sample_rectangle};
use crate::ops::region_loss::Overlap;
use crate::{
    Activation, Axis, AxisSums, BoundaryPixels, BoundingBox, ClassValues, Inspection, Logits, Map, Overlay, Reduction,
    RegionLoss, Resize, Roughness, SoftMask,
};

/// Where class `c` of pixel `pixel`, counted over all images, lies in the data.
fn index(logits: &Logits, pixel: usize, c: usize) -> usize {
    let (width, plane) = (logits.width() as usize, logits.pixels() as usize);
    let (image, row, column) = (pixel / plane, pixel % plane / width, pixel % width);
    let (classes, height) = (logits.classes() as usize, logits.height() as usize);
    if logits.is_cropped() {
        return logits.offset() as usize
            + image * logits.image_stride() as usize
            + c * logits.plane_stride() as usize
            + row * logits.row_stride() as usize
            + column * logits.pixel_stride() as usize;
    }
    match logits.is_classes_last() {
        true => ((image * height + row) * width + column) * classes + c,
        false => ((image * classes + c) * height + row) * width + column,
    }
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

/// What `f` makes of the elements along `axis`, together; the result is packed.
fn along<T: Copy + Into<f64>>(logits: &Logits, data: &[T], axis: Axis, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let (classes, height, width) = (logits.classes() as usize, logits.height() as usize, logits.width() as usize);
    let Ok(packed) = logits.resized(logits.images(), logits.height(), logits.width()) else { return Vec::new() };
    let mut result = vec![0.0; logits.map().pixels() * classes];
    for pixel in 0..logits.map().pixels() {
        for c in 0..classes {
            let (row, column) = (pixel / width % height, pixel % width);
            // The first of them stands for all.
            let elements: Vec<(usize, usize)> = match axis {
                Axis::Class if c == 0 => (0..classes).map(|c| (pixel, c)).collect(),
                Axis::Height if row == 0 => (0..height).map(|row| (pixel + row * width, c)).collect(),
                Axis::Width if column == 0 => (0..width).map(|column| (pixel + column, c)).collect(),
                _ => continue,
            };
            let values: Vec<f64> = elements.iter().map(|&(pixel, c)| data[index(logits, pixel, c)].into()).collect();
            elements.iter().zip(f(&values)).for_each(|(&(pixel, c), y)| result[index(&packed, pixel, c)] = y);
        }
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

/// The elements of `logits` in the order of their dimensions, packed: of a crop, the rectangle alone.
///
/// ```
/// use seghead::{Logits, reference};
/// let crop = Logits::chw(1, 2, 3)?.crop(0, 1, 2, 2)?;
/// assert_eq!(reference::packed(&crop, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), [1.0, 2.0, 4.0, 5.0]);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn packed<T: Copy + Into<f64>>(logits: &Logits, data: &[T]) -> Vec<f64> {
    along(logits, data, Axis::Width, <[f64]>::to_vec)
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

/// The gradient of the mean or the sum of [`cross_entropy`] with respect to the logits, packed, in their order:
/// `(1 − ε) · w[t] · (p[c] − [c = t])  +  ε / C · Σ_k w[k] · (p[c] − [c = k])` with the [`softmax`] p, over the sum of
/// the weights for the mean. It is 0 where a pixel is ignored, else NaN where the weights sum to 0.
///
/// ```
/// use seghead::{Logits, Reduction, reference};
/// let logits = Logits::chw(2, 1, 1)?;
/// let gradient = reference::cross_entropy_gradient(&logits, &[0.0, 0.0], &[1], None, None, 0.0, Reduction::Mean);
/// assert_eq!(gradient, [0.5, -0.5]);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// # Panics
///
/// As [`cross_entropy`].
pub fn cross_entropy_gradient<T: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[i64],
    ignore_index: Option<i64>,
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
    reduction: Reduction,
) -> Vec<f64> {
    let losses = cross_entropy(logits, data, targets, ignore_index, class_weights, label_smoothing);
    let scale = gradient_scale(losses.weight, reduction);
    let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
    let of_pixel = |(x, &target): (Vec<f64>, &i64)| {
        let (p, target) = (softmax_of(&x), (Some(target) != ignore_index).then_some(target as usize));
        let share = |k: usize| {
            let of_target = if Some(k) == target { 1.0 - label_smoothing } else { 0.0 };
            weight_of(k) * (of_target + label_smoothing / x.len() as f64)
        };
        let of_class = |c: usize| {
            let of_share = |k: usize| share(k) * (p[c] - f64::from(u8::from(c == k)));
            target.map_or(0.0, |_| scale * (0..p.len()).map(of_share).sum::<f64>())
        };
        (0..p.len()).map(of_class).collect()
    };
    packed_pixels(logits, pixels(logits, data).zip(targets).map(of_pixel))
}

/// What the gradient of a sum is multiplied by.
fn gradient_scale(weight: f64, reduction: Reduction) -> f64 {
    match reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean if weight == 0.0 => f64::NAN,
        Reduction::Mean => 1.0 / weight,
    }
}

/// The C values of every pixel, packed in the order of the logits.
fn packed_pixels(logits: &Logits, values: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
    let Ok(packed) = logits.resized(logits.images(), logits.height(), logits.width()) else { return Vec::new() };
    let mut result = vec![0.0; logits.map().pixels() * logits.classes() as usize];
    for (pixel, values) in values.enumerate() {
        values.into_iter().enumerate().for_each(|(c, y)| result[index(&packed, pixel, c)] = y);
    }
    result
}

/// Bilinear interpolation to `height × width`, N × C × height × width: what [`Segment`](crate::Segment) never stores.
///
/// As [`torch.nn.functional.interpolate`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html)
/// with `mode="bilinear"`, from the [`taps`] along either axis.
pub fn upsample<T: Copy + Into<f64>>(logits: &Logits, data: &[T], height: u32, width: u32, resize: Resize) -> Vec<f64> {
    let (classes, size) = (logits.classes() as usize, (height as usize, width as usize));
    let (in_height, in_width) = (logits.height() as usize, logits.width() as usize);
    let mut result = vec![0.0; logits.images() as usize * classes * size.0 * size.1];
    let Ok(full) = logits.resized(logits.images(), height, width) else { return result };
    for pixel in 0..full.map().pixels() {
        let (image, y, x) = (pixel / (size.0 * size.1), pixel / size.1 % size.0, pixel % size.1);
        let (top, bottom, fy) = taps(resize, y as u32, logits.height(), height);
        let (left, right, fx) = taps(resize, x as u32, logits.width(), width);
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

/// The gradient of anything with respect to `logits`, N × C × H × W packed in their order, from `gradient`, that with
/// respect to what [`upsample`] makes of them, N × C × height × width in the same order: every pixel of that adds to its
/// four taps what it has, times the weight that it reads them with.
///
/// After [`cross_entropy_gradient`] it is the twin of [`UpsampledCrossEntropy`](crate::UpsampledCrossEntropy).
///
/// ```
/// use seghead::{Logits, Resize, reference};
/// let logits = Logits::chw(1, 1, 2)?;
/// let gradient = reference::upsample_gradient(&logits, &[1.0, 1.0, 0.0, 0.0], 1, 4, Resize::HalfPixel);
/// assert_eq!(gradient, [1.75, 0.25]);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn upsample_gradient(logits: &Logits, gradient: &[f64], height: u32, width: u32, resize: Resize) -> Vec<f64> {
    let (classes, size) = (logits.classes() as usize, (height as usize, width as usize));
    let (in_height, in_width) = (logits.height() as usize, logits.width() as usize);
    let images = logits.images();
    let shapes = (logits.resized(images, height, width), logits.resized(images, logits.height(), logits.width()));
    let (Ok(full), Ok(packed)) = shapes else { return Vec::new() };
    let mut result = vec![0.0; packed.map().pixels() * classes];
    for pixel in 0..full.map().pixels() {
        let (image, y, x) = (pixel / (size.0 * size.1), pixel / size.1 % size.0, pixel % size.1);
        let (top, bottom, fy) = taps(resize, y as u32, logits.height(), height);
        let (left, right, fx) = taps(resize, x as u32, logits.width(), width);
        for (row, wy) in [(top, 1.0 - fy), (bottom, fy)] {
            for (column, wx) in [(left, 1.0 - fx), (right, fx)] {
                for c in 0..classes {
                    let tap = index(&packed, (image * in_height + row) * in_width + column, c);
                    result[tap] += wy * wx * gradient[index(&full, pixel, c)];
                }
            }
        }
    }
    result
}

/// Where position `x` of an axis of `output` elements reads one of `input`: the element before it, the one behind it, and
/// the weight of the latter in 0..1. Positions below 0 are moved to 0, an element behind the last one to the last one.
///
/// ```
/// use seghead::{Resize, reference};
/// assert_eq!(reference::taps(Resize::HalfPixel, 2, 2, 4), (0, 1, 0.75));
/// assert_eq!(reference::taps(Resize::HalfPixel, 3, 2, 4), (1, 1, 0.25));
/// ```
pub fn taps(resize: Resize, x: u32, input: u32, output: u32) -> (usize, usize, f64) {
    let (x, input_size, output_size) = (f64::from(x), f64::from(input), f64::from(output));
    let position = match resize {
        Resize::HalfPixel => (x + 0.5) * input_size / output_size - 0.5,
        Resize::AlignCorners if output > 1 => x * (input_size - 1.0) / (output_size - 1.0),
        Resize::AlignCorners => 0.0,
        Resize::Asymmetric => x * input_size / output_size,
    };
    let position = position.max(0.0);
    let index = position.floor() as usize;
    // As in PyTorch, an axis that keeps its size is copied: beside a NaN, 0 · NaN would not be.
    let next = index + usize::from(input != output);
    (index, next.min(input as usize - 1), position - position.floor())
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

/// The pixels that an [`Overlay`] writes, `height × width` of red, green, blue and alpha, over as many of a photo or over
/// nothing.
///
/// ```
/// use seghead::{Logits, Overlay, Palette, reference};
/// let operator = Overlay::new(Palette::new(vec![[255, 0, 0], [0, 0, 255]])).alpha(1.0);
/// let pixels = reference::overlay(&operator, &Logits::chw(2, 1, 1)?, &[0.0, 1.0], None, 1, 2)?;
/// assert_eq!(pixels, [[0, 0, 255, 255]; 2]);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// # Errors
///
/// As [`segment`].
pub fn overlay<T: Copy + Into<f64>>(
    operator: &Overlay,
    logits: &Logits,
    data: &[T],
    photo: Option<&[[u8; 4]]>,
    height: u32,
    width: u32,
) -> Result<Vec<[u8; 4]>, crate::Error> {
    let (resize, activation, outline) = operator.options();
    let (labels, scores) = segment(logits, data, height, width, resize)?;
    let upsampled = upsample(logits, data, height, width, resize);
    let full = logits.resized(logits.images(), height, width)?;
    let size = (height as usize, width as usize);
    let reach = outline as usize;
    let pixel = |pixel: usize| {
        let class = labels[pixel];
        let score = match activation {
            Activation::Sigmoid => sigmoid(&[upsampled[index(&full, pixel, class as usize)]])[0],
            _ => scores.confidence[pixel],
        };
        let (row, column) = (pixel / size.1, pixel % size.1);
        let near = |at: usize, size: usize| at.saturating_sub(reach)..(at + reach + 1).min(size);
        let other = |y: usize| near(column, size.1).any(|x| labels[y * size.1 + x] != class);
        let on_outline = near(row, size.0).any(other);
        operator.pixel(photo.map(|photo| photo[pixel]), class, score, on_outline)
    };
    Ok((0..size.0 * size.1).map(pixel).collect())
}

/// The probabilities that a [`SoftMask`] rounds to 1 / 255, N × height × width.
///
/// ```
/// use seghead::{Activation, Logits, SoftMask, reference};
/// let operator = SoftMask::new(1, 1, 1);
/// assert_eq!(reference::soft_mask(&operator, &Logits::chw(2, 1, 1)?, &[0.0, 0.0])?, [0.5]);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// # Errors
///
/// As [`segment`].
pub fn soft_mask<T: Copy + Into<f64>>(
    operator: &SoftMask,
    logits: &Logits,
    data: &[T],
) -> Result<Vec<f64>, crate::Error> {
    let (height, width, resize) = operator.geometry();
    let full = logits.resized(logits.images(), height, width)?;
    let upsampled = upsample(logits, data, height, width, resize);
    let p = match operator.kind() {
        (Activation::Sigmoid, _) => sigmoid(&upsampled),
        _ => softmax(&full, &upsampled, Axis::Class),
    };
    let classes = argmax(&full, &upsampled).into_iter().map(|best| operator.kind().1.unwrap_or(best));
    Ok(classes.enumerate().map(|(pixel, class)| p[index(&full, pixel, class as usize)]).collect())
}

/// The `k` classes with the largest values of every pixel, best first, and their probabilities, N × k × H × W each: the
/// smaller class first of equals, and NaN larger than everything, as in [`argmax`].
///
/// ```
/// use seghead::{Logits, reference};
/// let (labels, p) = reference::top_k(&Logits::chw(3, 1, 1)?, &[0.0, 2.0, 2.0], 2);
/// assert_eq!(labels, [1, 2]);
/// assert_eq!(p[0], p[1]);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// # Panics
///
/// Where there are fewer classes than `k`.
pub fn top_k<T: Copy + Into<f64>>(logits: &Logits, data: &[T], k: u32) -> (Vec<u32>, Vec<f64>) {
    let (k, plane) = (k as usize, logits.pixels() as usize);
    let count = logits.map().pixels() * k;
    let (mut labels, mut probabilities) = (vec![0; count], vec![0.0; count]);
    for (pixel, x) in pixels(logits, data).enumerate() {
        let p = softmax_of(&x);
        let mut classes: Vec<usize> = (0..x.len()).collect();
        // A stable sort. Only values that are no NaN are compared with one another.
        classes.sort_by(|&a, &b| {
            let nan_first = x[b].is_nan().cmp(&x[a].is_nan());
            nan_first.then(x[b].partial_cmp(&x[a]).unwrap_or(Ordering::Equal))
        });
        for (j, &class) in classes[..k].iter().enumerate() {
            let at = (pixel / plane * k + j) * plane + pixel % plane;
            labels[at] = class as u32;
            probabilities[at] = p[class];
        }
    }
    (labels, probabilities)
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
    // Of a crop they are packed, as all results are.
    let packed = logits.resized(logits.images(), logits.height(), logits.width()).unwrap_or(*logits);
    let per_pixel: Vec<f64> = pixels(&packed, &log_p).zip(pixels(logits, targets)).map(loss).collect();
    Losses { weight: per_pixel.len() as f64, per_pixel }
}

/// The gradient of the mean or the sum of [`cross_entropy_soft`] with respect to the logits, packed, in their order:
/// `q[c] · Σ_k w[k] · p'[k] − w[c] · p'[c]` with the [`softmax`] q, over the number of pixels for the mean.
///
/// ```
/// use seghead::{Logits, Reduction, reference};
/// let (logits, targets) = (Logits::chw(2, 1, 1)?, [0.25, 0.75]);
/// let gradient = reference::cross_entropy_soft_gradient(&logits, &[0.0, 0.0], &targets, None, 0.0, Reduction::Mean);
/// assert_eq!(gradient, [0.25, -0.25]);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn cross_entropy_soft_gradient<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[P],
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
    reduction: Reduction,
) -> Vec<f64> {
    let scale = gradient_scale(logits.map().pixels() as f64, reduction);
    let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
    let of_pixel = |(x, targets): (Vec<f64>, Vec<f64>)| {
        let (q, classes) = (softmax_of(&x), x.len() as f64);
        let share = |k: usize| weight_of(k) * ((1.0 - label_smoothing) * targets[k] + label_smoothing / classes);
        let all: f64 = (0..x.len()).map(share).sum();
        (0..x.len()).map(|c| scale * (q[c] * all - share(c))).collect()
    };
    packed_pixels(logits, pixels(logits, data).zip(pixels(logits, targets)).map(of_pixel))
}

/// What [`Inspect`](crate::Inspect) counts, by the same rules: sums along every axis, in f64, and neighbours in the same
/// sample, whose differences are f32. The type of the elements in `logits` says how far from 1 a sum may be.
///
/// ```
/// use seghead::{Axis, Logits, reference};
/// let found = reference::inspect(&Logits::chw(2, 1, 2)?, &[0.25f32, 0.5, 0.75, 0.5]);
/// assert_eq!((found.sums(Axis::Class).ones, found.sums(Axis::Width).ones), (2, 0));
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn inspect<T: Copy + Into<f64>>(logits: &Logits, data: &[T]) -> Inspection {
    let tolerance = f64::from(tolerance(logits.element_type()));
    let is_one = |sum: f64| (sum - 1.0).abs() <= tolerance;
    let classes = logits.classes() as usize;
    let values_of = |c: usize| {
        let mut found = ClassValues::none();
        for pixel in 0..logits.map().pixels() {
            let x: f64 = data[index(logits, pixel, c)].into();
            found.count += 1;
            found.nan += u64::from(x.is_nan());
            found.positive_infinity += u64::from(x == f64::INFINITY);
            found.negative_infinity += u64::from(x == f64::NEG_INFINITY);
            if x.is_finite() {
                found.minimum = found.minimum.min(x as f32);
                found.maximum = found.maximum.max(x as f32);
                found.negative += u64::from(x < 0.0);
                found.unit += u64::from((0.0..=1.0).contains(&x));
            }
        }
        found
    };
    let sums = [Axis::Class, Axis::Height, Axis::Width].map(|axis| {
        let found = Cell::new(AxisSums { count: 0, ..no_sums(logits, axis) });
        along(logits, data, axis, |values| {
            let (mut sums, sum) = (found.get(), values.iter().sum::<f64>());
            sums.count += 1;
            sums.finite += u64::from(sum.is_finite());
            sums.ones += u64::from(is_one(sum));
            found.set(sums);
            values.to_vec()
        });
        found.get()
    });
    let logarithms = |x: &Vec<f64>| x.iter().all(|&x| x <= 0.0) && is_one(x.iter().map(|x| x.exp()).sum());
    let exponential_ones = pixels(logits, data).filter(logarithms).count() as u64;

    let mut roughness = Roughness::default();
    let [top, left, height, width] = sample_rectangle(logits, SAMPLE).map(|size| size as usize);
    for (y, x) in (top..top + height - 1).flat_map(|y| (left..left + width - 1).map(move |x| (y, x))) {
        for c in 0..classes - 1 {
            let at =
                |y: usize, x: usize, c: usize| data[index(logits, y * logits.width() as usize + x, c)].into() as f32;
            let neighbours = [at(y, x, c + 1), at(y + 1, x, c), at(y, x + 1, c)];
            let [along_classes, along_height, along_width] = neighbours.map(|other| (other - at(y, x, c)).abs());
            if neighbours.iter().all(|other| other.is_finite()) && at(y, x, c).is_finite() {
                roughness.class += u64::from(along_classes > along_height.max(along_width));
                roughness.height += u64::from(along_height > along_classes.max(along_width));
                roughness.width += u64::from(along_width > along_classes.max(along_height));
            }
        }
    }
    let classes = (0..classes).map(values_of).collect();
    Inspection { logits: *logits, classes, sums, exponential_ones, roughness }
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
    let mut present = vec![false; logits.map().pixels() * classes];
    for (pixel, values) in pixels(logits, data).enumerate() {
        for (c, x) in values.into_iter().enumerate() {
            let t = f64::from(thresholds[c]);
            present[(pixel / plane * classes + c) * plane + pixel % plane] = x >= (t / (1.0 - t)).ln();
        }
    }
    present
}

/// Binary cross-entropy of logits and targets, N × C × H × W in the order of `data`, as in
/// [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html): the loss of every
/// element, packed, `w · ((1 − z) · x + (1 + (p − 1) · z) · (log(1 + e^−|x|) + max(−x, 0)))` with its target z, the
/// weight w of its class and the `pos_weight` p of its class, 1 without. [`BinaryCrossEntropy`](crate::BinaryCrossEntropy)
/// returns their mean or their sum; the targets of labels are those of [`one_hot`].
///
/// ```
/// use seghead::{Logits, reference};
/// let (logits, data, targets) = (Logits::chw(2, 1, 1)?, [0.0, 0.0], [1.0, 0.0]);
/// let losses = reference::binary_cross_entropy(&logits, &data, &targets, Some(&[1.0, 2.0]), Some(&[3.0, 1.0]));
/// assert!((losses[0] - 3.0 * 2f64.ln()).abs() < 1e-15);
/// assert!((losses[1] - 2.0 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn binary_cross_entropy<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[P],
    class_weights: Option<&[f32]>,
    pos_weight: Option<&[f32]>,
) -> Vec<f64> {
    let (classes, pixels) = (logits.classes() as usize, logits.map().pixels());
    let Ok(packed) = logits.resized(logits.images(), logits.height(), logits.width()) else { return Vec::new() };
    let mut losses = vec![0.0; pixels * classes];
    for pixel in 0..pixels {
        for c in 0..classes {
            let at = index(logits, pixel, c);
            let (x, z): (f64, f64) = (data[at].into(), targets[at].into());
            // Without p no product of 0 and a target, which may be infinite.
            let weight = pos_weight.map_or(1.0, |p| 1.0 + (f64::from(p[c]) - 1.0) * z);
            let softplus = (-x.abs()).exp().ln_1p() + (-x).max(0.0);
            let of_class = class_weights.map_or(1.0, |w| f64::from(w[c]));
            losses[index(&packed, pixel, c)] = of_class * ((1.0 - z) * x + weight * softplus);
        }
    }
    losses
}

/// The gradient of the mean or the sum of [`binary_cross_entropy`] with respect to the logits, packed, in their order:
/// `w · ((1 − z) · σ(x) − p · z · σ(−x))`, over the number of elements for the mean. Where the target is infinite it is as
/// PyTorch computes it, σ(x) − z, or with p `(p · z + 1 − z) · σ(x) − p · z`.
///
/// ```
/// use seghead::{Logits, Reduction, reference};
/// let (logits, targets) = (Logits::chw(1, 1, 2)?, [1.0, 0.0]);
/// let gradient = reference::binary_cross_entropy_gradient(&logits, &[0.0, 0.0], &targets, None, None, Reduction::Sum);
/// assert_eq!(gradient, [-0.5, 0.5]);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn binary_cross_entropy_gradient<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[P],
    class_weights: Option<&[f32]>,
    pos_weight: Option<&[f32]>,
    reduction: Reduction,
) -> Vec<f64> {
    let scale = gradient_scale(logits.map().pixels() as f64 * f64::from(logits.classes()), reduction);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let of_pixel = |(x, z): (Vec<f64>, Vec<f64>)| {
        let of_class = |c: usize| {
            let (x, z, p) = (x[c], z[c], pos_weight.map(|weights| f64::from(weights[c])));
            class_weights.map_or(scale, |w| scale * f64::from(w[c]))
                * match p {
                    None if z.is_infinite() => sigmoid(x) - z,
                    Some(p) if z.is_infinite() => (p * z + 1.0 - z) * sigmoid(x) - p * z,
                    _ => (1.0 - z) * sigmoid(x) - p.unwrap_or(1.0) * z * sigmoid(-x),
                }
        };
        (0..x.len()).map(of_class).collect()
    };
    packed_pixels(logits, pixels(logits, data).zip(pixels(logits, targets)).map(of_pixel))
}

/// What there is of a class in an image of labels.
///
/// ```
/// use seghead::reference::ClassTotals;
/// let totals = ClassTotals { pixels: 2, row_sum: 10, column_sum: 7, ..ClassTotals::default() };
/// assert_eq!(totals.row_sum as f64 / totals.pixels as f64, 5.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassTotals {
    /// Number of pixels.
    pub pixels: u64,
    /// Σ of their rows.
    pub row_sum: u64,
    /// Σ of their columns.
    pub column_sum: u64,
    /// Σ of their confidences, what is outside 0..=1 taken as the nearer end; NaN where one of them is.
    pub confidence_sum: f64,
    /// The smallest rectangle that has them all.
    pub bounding_box: Option<BoundingBox>,
}

/// What there is of each of `classes` classes in every image, N × C, of labels and confidences that are packed,
/// N × H × W; the size is that of `map`. Other labels count for nothing.
///
/// ```
/// use seghead::{BoundingBox, Logits, reference};
/// let map = Logits::chw(2, 2, 3)?.map();
/// let found = reference::class_statistics(&map, 2, &[0, 1, 1, 255, 0, 1], None);
/// assert_eq!((found[1].pixels, found[1].row_sum, found[1].column_sum), (3, 1, 5));
/// assert_eq!(found[1].bounding_box, Some(BoundingBox { top: 0, left: 1, height: 2, width: 2 }));
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn class_statistics(map: &Map, classes: u32, labels: &[u32], confidence: Option<&[f32]>) -> Vec<ClassTotals> {
    let (width, height) = (map.width() as usize, map.height() as usize);
    let mut all = vec![ClassTotals::default(); map.images() as usize * classes as usize];
    for (i, &label) in labels.iter().enumerate().filter(|&(_, &label)| label < classes) {
        let (image, row, column) = (i / (width * height), i / width % height, i % width);
        let totals = &mut all[image * classes as usize + label as usize];
        totals.pixels += 1;
        totals.row_sum += row as u64;
        totals.column_sum += column as u64;
        totals.confidence_sum += confidence.map_or(0.0, |confidence| f64::from(confidence[i]).clamp(0.0, 1.0));
        let (row, column) = (row as u32, column as u32);
        let BoundingBox { top, left, height, width } =
            totals.bounding_box.unwrap_or(BoundingBox { top: row, left: column, height: 1, width: 1 });
        let (bottom, right) = (row.max(top + height - 1), column.max(left + width - 1));
        let (top, left) = (row.min(top), column.min(left));
        totals.bounding_box = Some(BoundingBox { top, left, height: bottom - top + 1, width: right - left + 1 });
    }
    all
}

/// What [`confusion_matrix`] counts.
///
/// ```
/// use seghead::reference::ConfusionTotals;
/// assert_eq!(ConfusionTotals::default().first_invalid_target, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfusionTotals {
    /// Pixels of each class, C × C: of target t that were predicted to be p, at t · C + p.
    pub counts: Vec<u64>,
    /// Pixels whose target is the ignore index.
    pub ignored: u64,
    /// Of the others, pixels whose target is no class.
    pub invalid_targets: u64,
    /// Of the others, pixels whose prediction is none.
    pub invalid_predictions: u64,
    /// The first of the pixels whose target is no class.
    pub first_invalid_target: Option<usize>,
    /// The first of those whose prediction is none.
    pub first_invalid_prediction: Option<usize>,
}

/// How many pixels of one image of each of `classes` classes were predicted to be of each.
///
/// ```
/// use seghead::reference;
/// let found = reference::confusion_matrix(2, Some(-1), &[0, 1, 1, 7], &[0, 0, -1, 5]);
/// assert_eq!((found.counts, found.ignored), (vec![1, 1, 0, 0], 1));
/// assert_eq!(found.first_invalid_target, Some(3));
/// ```
pub fn confusion_matrix(
    classes: u32,
    ignore_index: Option<i64>,
    predictions: &[u32],
    targets: &[i64],
) -> ConfusionTotals {
    let mut found = ConfusionTotals { counts: vec![0; (classes * classes) as usize], ..ConfusionTotals::default() };
    for (i, (&prediction, &target)) in predictions.iter().zip(targets).enumerate() {
        if Some(target) == ignore_index {
            found.ignored += 1;
        } else if !(0..i64::from(classes)).contains(&target) {
            found.invalid_targets += 1;
            found.first_invalid_target.get_or_insert(i);
        } else if prediction >= classes {
            found.invalid_predictions += 1;
            found.first_invalid_prediction.get_or_insert(i);
        } else {
            found.counts[target as usize * classes as usize + prediction as usize] += 1;
        }
    }
    found
}

/// What [`boundary_score`] counts.
///
/// ```
/// use seghead::reference::BoundaryTotals;
/// assert_eq!(BoundaryTotals::default().first_invalid_target, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundaryTotals {
    /// The boundary pixels of every class.
    pub classes: Vec<BoundaryPixels>,
    /// Pixels whose target is neither the ignore index nor a class.
    pub invalid_targets: u64,
    /// Pixels whose target is a class, but whose prediction is none.
    pub invalid_predictions: u64,
    /// The first of the pixels whose target is no class.
    pub first_invalid_target: Option<usize>,
    /// The first of those whose prediction is none.
    pub first_invalid_prediction: Option<usize>,
}

/// The boundary pixels of each of `classes` classes in two maps of one image with rows of `width` pixels, and how many
/// of them have one of the same class in the other map no more than `tolerance` pixels away.
///
/// ```
/// use seghead::reference;
/// let (predictions, targets) = ([0, 0, 1, 1, 1], [0, 1, 1, 1, -1]);
/// let found = reference::boundary_score(2, 1, Some(-1), 5, &predictions, &targets);
/// assert_eq!((found.classes[1].predicted, found.classes[1].predicted_matched), (1, 1));
/// let found = reference::boundary_score(2, 0, Some(-1), 5, &predictions, &targets);
/// assert_eq!((found.classes[1].predicted, found.classes[1].predicted_matched), (1, 0));
/// ```
pub fn boundary_score(
    classes: u32,
    tolerance: u32,
    ignore_index: Option<i64>,
    width: usize,
    predictions: &[u32],
    targets: &[i64],
) -> BoundaryTotals {
    let mut found = BoundaryTotals { classes: vec![BoundaryPixels::default(); classes as usize], ..Default::default() };
    let (mut predicted, mut expected) = (vec![None; targets.len()], vec![None; targets.len()]);
    for (i, (&prediction, &target)) in predictions.iter().zip(targets).enumerate() {
        if Some(target) == ignore_index {
            continue;
        }
        if !(0..i64::from(classes)).contains(&target) {
            found.invalid_targets += 1;
            found.first_invalid_target.get_or_insert(i);
            continue;
        }
        expected[i] = Some(target as u32);
        if prediction < classes {
            predicted[i] = Some(prediction);
        } else {
            found.invalid_predictions += 1;
            found.first_invalid_prediction.get_or_insert(i);
        }
    }
    let boundary = |map: &[Option<u32>]| -> Vec<(usize, usize, u32)> {
        let rows: Vec<_> = map.chunks(width).collect();
        let at = |row: usize, column: usize| *rows.get(row)?.get(column)?;
        let places = (0..rows.len()).flat_map(|row| (0..width).map(move |column| (row, column)));
        let on_it = |(row, column): (usize, usize)| {
            let own = at(row, column)?;
            // Before the first one these wrap, which is beyond the last, too.
            let (up, left) = (row.wrapping_sub(1), column.wrapping_sub(1));
            let neighbours = [at(up, column), at(row + 1, column), at(row, left), at(row, column + 1)];
            neighbours.into_iter().flatten().any(|class| class != own).then_some((row, column, own))
        };
        places.filter_map(on_it).collect()
    };
    let (predicted, expected) = (boundary(&predicted), boundary(&expected));
    let is_near = |&(row, column, class): &(usize, usize, u32), others: &[(usize, usize, u32)]| {
        others.iter().any(|&(other_row, other_column, other)| {
            let (y, x) = (row.abs_diff(other_row) as u64, column.abs_diff(other_column) as u64);
            other == class && x * x + y * y <= u64::from(tolerance) * u64::from(tolerance)
        })
    };
    for pixel in &predicted {
        let counts = &mut found.classes[pixel.2 as usize];
        counts.predicted += 1;
        counts.predicted_matched += u64::from(is_near(pixel, &expected));
    }
    for pixel in &expected {
        let counts = &mut found.classes[pixel.2 as usize];
        counts.expected += 1;
        counts.expected_matched += u64::from(is_near(pixel, &predicted));
    }
    found
}

/// The pixels of a bin of confidences.
///
/// ```
/// use seghead::reference::BinTotals;
/// let totals = BinTotals { pixels: 2, right: 1, confidence_sum: 1.5 };
/// assert_eq!(totals.confidence_sum / totals.pixels as f64, 0.75);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BinTotals {
    /// Number of pixels.
    pub pixels: u64,
    /// Number of those whose label is their target.
    pub right: u64,
    /// Σ of their confidences, what is outside 0..=1 taken as the nearer end; 0 of those that are NaN.
    pub confidence_sum: f64,
}

/// What there is in each of `bins` bins of confidences, and of the pixels whose confidence is NaN behind them; targets
/// equal to `ignored` count for nothing. A confidence is in the first bin that it is not above the upper edge of,
/// (k + 1) / B as f32.
///
/// ```
/// use seghead::reference;
/// let found = reference::calibration(2, &[0.5, 0.75, f32::NAN, 1.0], &[0, 1, 1, 1], &[0, 0, 1, 255], Some(255));
/// assert_eq!(found.iter().map(|bin| (bin.pixels, bin.right)).collect::<Vec<_>>(), [(1, 1), (1, 0), (1, 1)]);
/// ```
pub fn calibration(
    bins: u32,
    confidence: &[f32],
    labels: &[u32],
    targets: &[u32],
    ignored: Option<u32>,
) -> Vec<BinTotals> {
    let mut all = vec![BinTotals::default(); bins as usize + 1];
    let is_above = |confidence: f32, k: u32| confidence > (f64::from(k) / f64::from(bins)) as f32;
    for ((&confidence, label), target) in confidence.iter().zip(labels).zip(targets) {
        if Some(*target) == ignored {
            continue;
        }
        let bin = (1..bins).filter(|&k| is_above(confidence, k)).count();
        let totals = &mut all[if confidence.is_nan() { bins as usize } else { bin }];
        totals.pixels += 1;
        totals.right += u64::from(label == target);
        totals.confidence_sum += if confidence.is_nan() { 0.0 } else { f64::from(confidence).clamp(0.0, 1.0) };
    }
    all
}

/// What [`temporal_smoothing`] makes of a frame.
///
/// ```
/// use seghead::{Activation, Logits, reference};
/// let (shape, x) = (Logits::chw(2, 1, 1)?, [0.0, 0.0]);
/// let frame = reference::temporal_smoothing(&shape, &x, &[1.0, 0.0], Activation::Softmax, 1.0);
/// assert_eq!(frame.probabilities, [1.0, 0.5]); // a class with a past and one without
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Smoothed {
    /// What the next frame takes, N × C × H × W whatever the order of the logits: s, at least 2⁻¹²⁶.
    pub state: Vec<f64>,
    /// s, as the logits lie.
    pub probabilities: Vec<f64>,
    /// The logits of s, as the logits lie.
    pub logits: Vec<f64>,
}

/// One frame of [`TemporalSmoothing`](crate::TemporalSmoothing): `s = p + ratio · u · (s′ − p)` with the softmax or the
/// sigmoid p, its uncertainty u, and s′ in `state`, N × C × H × W whatever the order of the logits. Where that is below
/// 2⁻¹²⁶ or not finite, s = p.
pub fn temporal_smoothing<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    state: &[P],
    activation: Activation,
    ratio: f64,
) -> Smoothed {
    let (classes, plane) = (logits.classes() as usize, logits.pixels() as usize);
    let Ok(packed) = logits.resized(logits.images(), logits.height(), logits.width()) else {
        return Smoothed::default();
    };
    let least = f64::from(f32::MIN_POSITIVE);
    let kept = |s: f64| if s < least { least } else { s };
    let zeros = vec![0.0; logits.map().pixels() * classes];
    let mut result = Smoothed { state: zeros.clone(), probabilities: zeros.clone(), logits: zeros };
    for (pixel, x) in pixels(logits, data).enumerate() {
        let (softmax, of_pixel) = (softmax_of(&x), entropy_of(&x) / (classes.max(2) as f64).ln());
        for (c, &x) in x.iter().enumerate() {
            // With each probability the one of its opposite.
            let (p, q, u) = match activation {
                Activation::Sigmoid => {
                    (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()), entropy_of(&[x, 0.0]) / 2f64.ln())
                }
                _ => (softmax[c], 1.0 - softmax[c], of_pixel),
            };
            let at = (pixel / plane * classes + c) * plane + pixel % plane;
            let before: f64 = state[at].into();
            let weight = if before >= least && before.is_finite() { ratio * u } else { 0.0 };
            let mix = |p: f64, before: f64| if weight == 0.0 { p } else { p + weight * (before - p) };
            let (s, opposite) = (mix(p, before), mix(q, 1.0 - before));
            result.state[at] = kept(s);
            let at = index(&packed, pixel, c);
            result.probabilities[at] = s;
            result.logits[at] = match activation {
                Activation::Sigmoid => kept(s).ln() - kept(opposite).ln(),
                _ => kept(s).ln(),
            };
        }
    }
    result
}

/// The entropy of a softmax, −Σ p ln p, which `1 + R` would round away where all but one of the classes are unlikely: R
/// is what the exponentials of the others sum to.
fn entropy_of(values: &[f64]) -> f64 {
    let maximum = maximum(values);
    let first = values.iter().position(|&x| x == maximum);
    let (mut rest, mut moment) = (0.0, 0.0);
    for (c, x) in values.iter().enumerate() {
        let e = (x - maximum).exp();
        if Some(c) != first && e != 0.0 {
            rest += e;
            moment += (x - maximum) * e;
        }
    }
    f64::ln_1p(rest) - moment / (1.0 + rest)
}

/// What a [`RegionLoss`] makes of logits and targets, see [`region_loss`].
#[derive(Clone, Debug, PartialEq)]
pub struct RegionLosses {
    /// The losses of the regions, N × C, or of N or C or 1 where they are taken together.
    pub per_region: Vec<f64>,
    /// Their mean or sum.
    pub value: f64,
    /// The derivatives of `value` by the logits, N × C × H × W, packed.
    pub gradient: Vec<f64>,
}

/// The loss of logits and targets, a number for every class of every pixel in the order of `data`, and its gradient.
/// Pixels that are `ignored`, N × H × W, count for nothing. Targets of labels come from [`one_hot`].
///
/// ```
/// use seghead::{Logits, RegionLoss, reference};
/// let logits = Logits::chw(2, 1, 2)?;
/// let targets = reference::one_hot(&logits, &[0, 1]);
/// let losses = reference::region_loss(&RegionLoss::dice(), &logits, &[0.0; 4], &targets, None);
/// assert!((losses.value - 0.5).abs() < 1e-6);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn region_loss<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    operator: &RegionLoss,
    logits: &Logits,
    data: &[T],
    targets: &[P],
    ignored: Option<&[bool]>,
) -> RegionLosses {
    let (classes, plane) = (logits.classes() as usize, logits.pixels() as usize);
    let (Overlap { hits, of_hits, of_predicted, of_truth }, smoothing, activation) = operator.options(logits.classes());
    let [k, a, b, c] = [hits, of_hits, of_predicted, of_truth].map(f64::from);
    let smoothing = f64::from(smoothing);
    let packed_logits = logits.resized(logits.images(), logits.height(), logits.width()).unwrap_or(*logits);
    let x = packed(logits, data);
    let probabilities: Vec<f64> = match activation {
        Activation::None => x.clone(),
        Activation::Sigmoid => sigmoid(&x),
        Activation::Softmax => softmax(logits, data, Axis::Class),
    };
    let truth = packed(logits, targets);

    // Of every element: its place, its pixel among all, its region.
    let (per_image, per_class) = operator.regions();
    let (images, of_image) =
        (if per_image { logits.images() as usize } else { 1 }, if per_class { classes } else { 1 });
    let region = |pixel: usize, class: usize| pixel / plane % images * of_image + class % of_image;
    let counted = |pixel: usize| !ignored.is_some_and(|ignored| ignored[pixel]);
    let all_pixels = || (0..logits.map().pixels()).filter(|&pixel| counted(pixel));
    let mut sums = vec![[0.0; 3]; images * of_image];
    for pixel in all_pixels() {
        for class in 0..classes {
            let at = index(&packed_logits, pixel, class);
            let (p, t) = (probabilities[at], truth[at]);
            let [intersection, predicted, truths] = &mut sums[region(pixel, class)];
            (*intersection, *predicted, *truths) = (*intersection + p * t, *predicted + p, *truths + t);
        }
    }
    // Numerator and denominator, which are equal where the region is empty.
    let parts = |&[intersection, predicted, truths]: &[f64; 3]| {
        let all = a * intersection + b * predicted + c * truths;
        let empty = all == 0.0;
        (k * intersection + smoothing, if empty { k * intersection } else { all } + smoothing, empty)
    };
    let per_region: Vec<f64> = sums
        .iter()
        .map(parts)
        .map(|(top, bottom, _)| if bottom == 0.0 { f64::NAN } else { 1.0 - top / bottom })
        .collect();
    let divisor = if operator.reduces_to() == Reduction::Mean { per_region.len() as f64 } else { 1.0 };
    let value = per_region.iter().sum::<f64>() / divisor;

    // (u / v)' = (u' v − u v') / v²
    let by_probability = |pixel: usize, class: usize| {
        let t = truth[index(&packed_logits, pixel, class)];
        match parts(&sums[region(pixel, class)]) {
            (_, 0.0, _) => f64::NAN,
            (.., true) => 0.0,
            (top, bottom, _) => -(k * t * bottom - top * (a * t + b)) / (bottom * bottom) / divisor,
        }
    };
    let mut gradient = vec![0.0; probabilities.len()];
    for pixel in all_pixels() {
        let p = |class: usize| probabilities[index(&packed_logits, pixel, class)];
        let mean: f64 = (0..classes).map(|class| p(class) * by_probability(pixel, class)).sum();
        for class in 0..classes {
            let by = by_probability(pixel, class);
            gradient[index(&packed_logits, pixel, class)] = match activation {
                Activation::None => by,
                // 1 − p without cancellation.
                Activation::Sigmoid => by * p(class) * sigmoid(&[-x[index(&packed_logits, pixel, class)]])[0],
                Activation::Softmax => p(class) * (by - mean),
            };
        }
    }
    RegionLosses { per_region, value, gradient }
}

/// The targets that labels stand for, in the order of data that go with `logits`: 1 for the class that is the label, else
/// 0; of a single class, 1 for the label 1.
///
/// ```
/// use seghead::{Logits, reference};
/// assert_eq!(reference::one_hot(&Logits::chw(2, 1, 2)?, &[1, 0]), [0.0, 1.0, 1.0, 0.0]);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn one_hot(logits: &Logits, labels: &[i64]) -> Vec<f64> {
    let positive = i64::from(logits.classes() == 1);
    let mut targets = vec![0.0; logits.len() as usize];
    for (pixel, &label) in labels.iter().enumerate() {
        for class in 0..logits.classes() as usize {
            targets[index(logits, pixel, class)] = f64::from(u8::from(label == class as i64 + positive));
        }
    }
    targets
}

/// The losses of [`focal_loss`] or [`binary_focal_loss`] and the gradient of their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct FocalLosses {
    /// The loss of every pixel, N × H × W, 0 where it is ignored; or of every element, N × C × H × W.
    pub losses: Vec<f64>,
    /// The number of pixels that are not ignored, or of elements.
    pub weight: f64,
    /// The derivatives of the sum by the logits, N × C × H × W, packed.
    pub gradient: Vec<f64>,
}

/// Focal loss of logits and target classes, N × H × W: `−α · (1 − p[t])^γ · log p[t]` with the softmax p.
///
/// ```
/// use seghead::{Logits, reference};
/// let losses = reference::focal_loss(&Logits::chw(2, 1, 1)?, &[0.0, 0.0], &[1], None, 2.0, 1.0);
/// assert!((losses.losses[0] - 0.25 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// # Panics
///
/// Where a target is neither a class nor the ignore index.
pub fn focal_loss<T: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[i64],
    ignore_index: Option<i64>,
    gamma: f64,
    alpha: f64,
) -> FocalLosses {
    let packed = logits.resized(logits.images(), logits.height(), logits.width()).unwrap_or(*logits);
    let mut gradient = vec![0.0; logits.map().pixels() * logits.classes() as usize];
    let mut weight = 0.0;
    let loss = |(pixel, (x, &target)): (usize, (Vec<f64>, &i64))| {
        if Some(target) == ignore_index {
            return 0.0;
        }
        weight += 1.0;
        let target = target as usize;
        let p = softmax_of(&x);
        let maximum = maximum(&x);
        // 1 − p[t], and −log p[t], without cancellation.
        let others: f64 = (0..x.len()).filter(|&c| c != target).map(|c| (x[c] - maximum).exp()).sum();
        let e = (x[target] - maximum).exp();
        let q = others / (others + e);
        let nll = if others < e { (others / e).ln_1p() } else { (maximum - x[target]) + (others + e).ln() };
        let power = alpha * q.powf(gamma);
        let slope = if p[target] == 0.0 || gamma == 0.0 {
            0.0
        } else if q == 0.0 {
            gamma * p[target]
        } else {
            gamma * p[target] * nll / q
        };
        for (c, p) in p.iter().enumerate() {
            gradient[index(&packed, pixel, c)] = -power * (slope + 1.0) * if c == target { q } else { -p };
        }
        power * nll
    };
    let losses = pixels(logits, data).zip(targets).enumerate().map(loss).collect();
    FocalLosses { losses, weight, gradient }
}

/// Focal loss of every element, with a target each in the order of `data`, as `sigmoid_focal_loss` of torchvision: the
/// binary cross-entropy times `(p · (1 − z) + (1 − p) · z)^γ`, and with α times `α · z + (1 − α) · (1 − z)`.
///
/// ```
/// use seghead::{Logits, reference};
/// let losses = reference::binary_focal_loss(&Logits::chw(1, 1, 1)?, &[0.0], &[1.0], 2.0, Some(0.25));
/// assert!((losses.losses[0] - 0.0625 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
pub fn binary_focal_loss<T: Copy + Into<f64>, P: Copy + Into<f64>>(
    logits: &Logits,
    data: &[T],
    targets: &[P],
    gamma: f64,
    alpha: Option<f64>,
) -> FocalLosses {
    let element = |(x, z): (f64, f64)| {
        let (p, rest) = (sigmoid(&[x])[0], sigmoid(&[-x])[0]);
        let entropy = (1.0 - z) * x + (-x.abs()).exp().ln_1p() + (-x).max(0.0);
        let q = p * (1.0 - z) + rest * z;
        let power = q.powf(gamma) * alpha.map_or(1.0, |alpha| alpha * z + (1.0 - alpha) * (1.0 - z));
        let slope = if q == 0.0 { 0.0 } else { p * rest / q };
        let by_logit = power * (p - z + gamma * (1.0 - 2.0 * z) * slope * entropy);
        (power * entropy, if x.is_infinite() { f64::NAN } else { by_logit })
    };
    let elements = packed(logits, data).into_iter().zip(packed(logits, targets));
    let (losses, gradient): (Vec<_>, Vec<_>) = elements.map(element).unzip();
    FocalLosses { weight: losses.len() as f64, losses, gradient }
}
