//! What is resized, and to what, for the operators that interpolate.

use seghead::{ElementType, Error, Logits, Resize, reference};

use super::data::{CLASSES, Random, SPECIAL_PIXELS, Sample, Special};
use super::findings::{FLUSHED, U};

/// How much larger the result is, which decides the kernel and how many taps a block of pixels has.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// Exactly, along both axes, centre on centre.
    Four,
    Three,
    Two,
    One,
    /// Smaller along an axis.
    Down,
}

/// A tensor and what it becomes.
pub struct Task {
    pub sample: Sample,
    pub size: (u32, u32),
    pub resize: Resize,
    pub accuracy: Accuracy,
}

/// How well the interpolated logits are known.
#[derive(Clone, Copy, PartialEq)]
pub enum Accuracy {
    /// They are the logits.
    Exact,
    /// Positions are exact in f32.
    ExactPositions,
    Rounded,
}

pub fn tasks(scale: Scale, element_type: ElementType) -> Result<Vec<Task>, Error> {
    let mut random = Random::new(7);
    let few = CLASSES[0];
    let image = (Logits::nchw(2, few, 5, 7)?, "");
    let crop = (Logits::chw(CLASSES[1], 9, 12)?.crop(2, 3, 5, 7)?, ", of 9×12");
    let last = (Logits::nhwc(2, 5, 7, few)?, "");
    let fours = (Logits::nchw(2, few, 5, 8)?, "");
    let special = (Logits::chw(few, 20, 40)?, ", special values");
    let single = (Logits::nchw(SPECIAL_PIXELS, few, 1, 1)?, ", special values");
    let mut sample = |(shape, note): (Logits, &str), size: (u32, u32), of_special: bool| {
        let mut special = Special::new(element_type, shape.classes());
        let shape = shape.with_element_type(element_type);
        let mut value =
            |pixel: usize, class: usize| if of_special { special.value(pixel, class) } else { random.logit() };
        Sample::new(&format!("to {}×{}{note}", size.0, size.1), shape, &mut value)
    };
    let mut tasks = Vec::new();
    let mut add = |shape, size, resize, accuracy| {
        let sample = sample(shape, size, accuracy != Accuracy::Rounded);
        tasks.push(Task { sample, size, resize, accuracy });
    };
    use Accuracy::{Exact, ExactPositions, Rounded};
    use Resize::{AlignCorners, Asymmetric, HalfPixel};
    match scale {
        Scale::Four => {
            add(image, (20, 28), HalfPixel, Rounded);
            add(fours, (20, 32), HalfPixel, Rounded);
            add(crop, (20, 28), HalfPixel, Rounded);
            add(last, (20, 28), HalfPixel, Rounded);
            add(special, (80, 160), HalfPixel, ExactPositions);
            add(single, (4, 4), HalfPixel, ExactPositions);
        }
        Scale::Three => {
            add(image, (17, 25), HalfPixel, Rounded);
            add(fours, (17, 29), HalfPixel, Rounded);
            add(crop, (20, 28), AlignCorners, Rounded);
            add(last, (16, 23), Asymmetric, Rounded);
            add(special, (77, 157), AlignCorners, ExactPositions);
            add(single, (4, 8), HalfPixel, ExactPositions);
        }
        Scale::Two => {
            add(image, (9, 13), HalfPixel, Rounded);
            add(fours, (9, 15), HalfPixel, Rounded);
            add(crop, (11, 17), AlignCorners, Rounded);
            add(last, (10, 14), Asymmetric, Rounded);
            add(special, (40, 80), HalfPixel, ExactPositions);
        }
        Scale::One => {
            add(image, (6, 9), HalfPixel, Rounded);
            add(fours, (6, 10), HalfPixel, Rounded);
            add(crop, (5, 7), AlignCorners, Rounded);
            add(last, (6, 7), Asymmetric, Rounded);
            add(special, (20, 40), HalfPixel, Exact);
            add(single, (1, 1), HalfPixel, Exact);
        }
        Scale::Down => {
            add(image, (3, 5), HalfPixel, Rounded);
            add(crop, (11, 6), AlignCorners, Rounded);
            add(last, (4, 14), Asymmetric, Rounded);
            add(special, (10, 40), HalfPixel, ExactPositions);
            add(special, (40, 20), HalfPixel, ExactPositions);
        }
    }
    Ok(tasks)
}

impl Task {
    /// The shape of the whole interpolated tensor.
    pub fn full(&self) -> Result<Logits, Error> {
        let (shape, (height, width)) = (&self.sample.shape, self.size);
        match shape.pixel_stride() > 1 {
            true => Logits::nhwc(shape.images(), height, width, shape.classes()),
            false => Logits::nchw(shape.images(), shape.classes(), height, width),
        }
    }

    /// The interpolated logits, and the error that each may have.
    ///
    /// One is the sum of up to 25 products, each rounded, with weights rounded as well: that is an error of
    /// 50 U Σ weight · |x| and 25 flushed products. Where positions are rounded, too, which are at most 4, weights that
    /// should vanish do not, and the largest logit counts.
    pub fn upsampled(&self) -> (Vec<f64>, Vec<f64>) {
        let (Sample { shape, data, values, .. }, (height, width)) = (&self.sample, self.size);
        let upsampled = reference::upsample(shape, data, height, width, self.resize);
        let errors = match self.accuracy {
            Accuracy::Exact => vec![0.0; upsampled.len()],
            Accuracy::ExactPositions => {
                let sizes: Vec<f32> = data.iter().map(|x| x.abs()).collect();
                let sizes = reference::upsample(shape, &sizes, height, width, self.resize);
                let error = |x: f64| if x.is_finite() { 50.0 * U * x + 25.0 * FLUSHED } else { 0.0 };
                sizes.into_iter().map(error).collect()
            }
            Accuracy::Rounded => {
                let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                vec![200.0 * U * f64::from(largest); upsampled.len()]
            }
        };
        (upsampled, errors)
    }

    /// Where class 0 of a pixel is in the interpolated tensor, and how far the next one is.
    pub fn first(&self, pixel: usize) -> (usize, usize) {
        let (classes, plane) = (self.sample.shape.classes() as usize, self.size.0 as usize * self.size.1 as usize);
        match self.sample.shape.pixel_stride() > 1 {
            true => (pixel * classes, 1),
            false => (pixel / plane * classes * plane + pixel % plane, plane),
        }
    }
}
