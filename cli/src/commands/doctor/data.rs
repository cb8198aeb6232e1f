//! What the kernels are fed: small tensors of awkward shapes, in all memory layouts, with ordinary numbers, with many
//! equal ones, and with those that are special.

use std::fmt;

use half::f16;
use seghead::{ElementType, Error, Logits, Map};

/// A class count that is a constant of the shaders, whose loops unroll, and one that is not. The first is small, since
/// the more there is to unroll the longer a driver takes to compile it.
pub const CLASSES: [u32; 2] = [3, 30];

/// What lies in a buffer where no element is, before a kernel runs. As a number it is a NaN, which spreads where it is
/// used.
pub const GUARD: u32 = 0x7fc0_a5a5;

/// A way of reading logits that is a specialisation.
#[derive(Clone, Copy)]
pub struct Reading {
    pub classes: u32,
    pub element_type: ElementType,
    /// Whether groups of four are read at once.
    pub in_fours: bool,
}

impl Reading {
    /// Every way of reading `classes` classes.
    pub fn of(classes: u32) -> impl Iterator<Item = Self> {
        [ElementType::F32, ElementType::F16]
            .into_iter()
            .flat_map(move |element_type| [false, true].map(|in_fours| Self { classes, element_type, in_fours }))
    }

    /// Every way of reading, with each of [`CLASSES`].
    pub fn all() -> impl Iterator<Item = Self> {
        CLASSES.into_iter().flat_map(Self::of)
    }

    /// Every way of reading images that are bound in halves, which is in fours.
    pub fn in_halves() -> impl Iterator<Item = Self> {
        Self::all().filter(|reading| reading.in_fours)
    }

    /// Tensors whose images are bound in halves on a device that binds no more than so many bytes, and those bytes; with
    /// `written`, the same of a tensor of f32 of the same shape.
    pub fn halved_samples(self, written: bool) -> Result<(Vec<Sample>, u64), Error> {
        let c = self.classes;
        let mut random = Random::new(u64::from(c));
        let mut special = Special::new(self.element_type, c);
        let pixels = SPECIAL_PIXELS + 2;
        let sample = |note: &str, shape: Logits, value: &mut dyn FnMut(usize, usize) -> f32| {
            Sample::new(note, shape.with_element_type(self.element_type), value)
        };
        let mut logit = |_: usize, _: usize| random.logit();
        let samples = vec![
            sample("in halves", Logits::nchw(2, c, 4, 184)?, &mut logit),
            sample("equal numbers, of 8×96, in halves", Logits::nchw(2, c, 8, 96)?.crop(1, 4, 7, 88)?, &mut tie),
            sample("special values, in halves", Logits::chw(c, 1, pixels)?, &mut |pixel, class| {
                special.value(pixel, class)
            }),
        ];
        let size = if written { 4 } else { u64::from(self.element_type.bits() / 8) };
        Ok((samples, u64::from(c * pixels) * size * 19 / 20))
    }

    /// Tensors that are read like this; with `written`, so is a tensor of the same shape that is written.
    pub fn samples(self, written: bool) -> Result<Vec<Sample>, Error> {
        let c = self.classes;
        let mut random = Random::new(u64::from(c) + u64::from(self.element_type.bits()));
        let sample = |note: &str, shape: Logits, value: &mut dyn FnMut(usize, usize) -> f32| {
            Sample::new(note, shape.with_element_type(self.element_type), value)
        };
        let mut logit = |_: usize, _: usize| random.logit();
        let mut special = Special::new(self.element_type, c);
        let mut special = |pixel: usize, class: usize| special.value(pixel, class);
        if self.in_fours {
            let width = if written { 8 } else { 10 };
            return Ok(vec![
                sample("", Logits::chw(c, 4, 12)?, &mut logit),
                sample("equal numbers, padded", Logits::nchw(2, c, 3, 7)?.padded()?, &mut tie),
                sample("of 6×16", Logits::nchw(2, c, 6, 16)?.crop(1, 4, 4, width)?, &mut logit),
                sample(SPECIAL, Logits::chw(c, 1, SPECIAL_PIXELS + 2)?, &mut special),
            ]);
        }
        Ok(vec![
            sample("", Logits::chw(c, 3, 7)?, &mut logit),
            sample("equal numbers, of 5×9", Logits::nchw(2, c, 5, 9)?.crop(1, 2, 3, 6)?, &mut tie),
            sample("", Logits::nhwc(2, 3, 5, c)?, &mut logit),
            sample(SPECIAL, Logits::chw(c, 1, SPECIAL_PIXELS + 1)?, &mut special),
            sample(SPECIAL, Logits::hwc(1, SPECIAL_PIXELS + 1, c)?, &mut special),
        ])
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { classes, element_type, in_fours } = self;
        write!(f, "{classes} classes, {element_type:?}, read {}", if *in_fours { "in fours" } else { "one by one" })
    }
}

/// What a sample with special values is called.
pub const SPECIAL: &str = "special values";

/// Few different values, so that many pixels have several classes on top. None is 0, which argmax looks at twice.
fn tie(pixel: usize, class: usize) -> f32 {
    [-1.5, 1.0, 2.5][(pixel * 7 + class * 5 + pixel * class) % 3]
}

/// A tensor.
pub struct Sample {
    /// N×C×H×W, and what else there is to say.
    pub name: String,
    pub shape: Logits,
    /// The elements without padding, as exactly as their type holds them.
    pub values: Vec<f32>,
    /// The same as the reference takes them: of a crop, all of the tensor that it is taken from.
    pub data: Vec<f32>,
}

impl Sample {
    /// With `value(pixel, class)`, pixels counted over all images.
    pub fn new(note: &str, shape: Logits, value: &mut dyn FnMut(usize, usize) -> f32) -> Self {
        let rounded = |x: f32| match shape.element_type() {
            ElementType::F32 => x,
            ElementType::F16 => f16::from_f32(x).to_f32(),
        };
        let values: Vec<f32> = places(&shape).map(|(_, pixel, class)| rounded(value(pixel, class))).collect();
        let sizes = [shape.images(), shape.classes(), shape.height(), shape.width()].map(|size| size.to_string());
        let last = if shape.pixel_stride() > 1 { ", classes last" } else { "" };
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        let name = format!("{}{last}{note}", sizes.join("×"));
        let mut sample = Self { name, shape, values, data: Vec::new() };
        sample.data = if sample.is_cropped() { sample.laid() } else { sample.values.clone() };
        sample
    }

    /// Whether something else lies between the rows.
    fn is_cropped(&self) -> bool {
        self.shape.row_stride() > self.shape.width() * self.shape.pixel_stride()
    }

    /// All that lies in a buffer with this tensor.
    fn laid(&self) -> Vec<f32> {
        let mut all = vec![f32::from_bits(GUARD); self.shape.len() as usize];
        places(&self.shape).zip(&self.values).for_each(|((element, ..), &x)| all[element] = x);
        all
    }

    /// The content of a buffer with this tensor.
    pub fn bytes(&self) -> Vec<u8> {
        let all = self.laid();
        match self.shape.element_type() {
            ElementType::F32 => bytemuck::cast_slice(&all).to_vec(),
            ElementType::F16 => {
                let mut halves: Vec<f16> = all.into_iter().map(f16::from_f32).collect();
                // In whole words.
                halves.resize(halves.len().next_multiple_of(2), f16::NAN);
                bytemuck::cast_slice(&halves).to_vec()
            }
        }
    }

    /// The elements of a result that lies where this tensor does, in the order of [`values`](Self::values).
    pub fn unpack(&self, bytes: &[u8]) -> Vec<f32> {
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
        places(&self.shape).map(|(element, ..)| all[element]).collect()
    }

    /// The first element of a result that is outside the rectangle of a crop and was written nevertheless.
    pub fn written_outside(&self, bytes: &[u8]) -> Option<usize> {
        if !self.is_cropped() {
            return None;
        }
        let mut all: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
        places(&self.shape).for_each(|(element, ..)| all[element] = GUARD);
        all.iter().position(|&bits| bits != GUARD)
    }

    /// The logits of a pixel.
    pub fn pixel(&self, pixel: usize) -> impl Iterator<Item = f32> + '_ {
        let (classes, plane) = (self.shape.classes() as usize, self.shape.pixels() as usize);
        let (first, step) = match self.shape.pixel_stride() > 1 {
            true => (pixel * classes, 1),
            false => (pixel / plane * classes * plane + pixel % plane, plane),
        };
        self.values.iter().skip(first).step_by(step).take(classes).copied()
    }
}

/// Every element of a tensor in packed order: where it lies, its pixel among those of all images, its class.
fn places(shape: &Logits) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let shape = *shape;
    let (classes, width) = (shape.classes() as usize, shape.width() as usize);
    let plane = shape.pixels() as usize;
    let classes_last = shape.pixel_stride() > 1;
    (0..shape.images() as usize * classes * plane).map(move |i| {
        let (image, class, in_plane) = match classes_last {
            true => (i / (classes * plane), i % classes, i / classes % plane),
            false => (i / (classes * plane), i / plane % classes, i % plane),
        };
        let element = shape.offset() as usize
            + image * shape.image_stride() as usize
            + class * shape.plane_stride() as usize
            + in_plane / width * shape.row_stride() as usize
            + in_plane % width * shape.pixel_stride() as usize;
        (element, image * plane + in_plane, class)
    })
}

/// The content of a buffer with a map, `fill` where it has no pixel.
pub fn map_bytes<T: bytemuck::Pod>(map: &Map, values: &[T], fill: T) -> Vec<u8> {
    let mut all = vec![fill; map.images() as usize * map.image_stride() as usize];
    let (height, width) = (map.height() as usize, map.width() as usize);
    for (row, values) in values.chunks_exact(width).enumerate() {
        let start = row / height * map.image_stride() as usize + row % height * map.row_stride() as usize;
        all[start..start + width].copy_from_slice(values);
    }
    bytemuck::cast_slice(&all).to_vec()
}

const VALUES: usize = 19;

/// Pixels with every pair of special values, twice.
pub const SPECIAL_PIXELS: u32 = 2 * (VALUES * VALUES) as u32;

/// Logits of which the first, the last and often the middle class hold special values, every pair of them beside
/// ordinary numbers and beside −Inf.
pub struct Special {
    values: [f32; VALUES],
    classes: usize,
    random: Random,
}

impl Special {
    pub fn new(element_type: ElementType, classes: u32) -> Self {
        // Negative, with a payload, signalling.
        let other_nan = f32::from_bits(0xff80_0001);
        let (smallest, subnormal, largest) = match element_type {
            ElementType::F32 => (f32::from_bits(1), 1e-38, f32::MAX),
            ElementType::F16 => (f16::from_bits(1).to_f32(), 5e-5, f16::MAX.to_f32()),
        };
        #[rustfmt::skip]
        let values = [
            f32::INFINITY, f32::NEG_INFINITY, f32::NAN, other_nan, 0.0, -0.0, smallest, -smallest, subnormal, -subnormal,
            largest, -largest, 88.0, -88.0, 104.0, -104.0, 200.0, -1.5, 1.25,
        ];
        Self { values, classes: classes as usize, random: Random::new(classes.into()) }
    }

    pub fn value(&mut self, pixel: usize, class: usize) -> f32 {
        let (first, last) = (pixel % VALUES, pixel / VALUES % VALUES);
        let ordinary = self.random.logit();
        if class == 0 {
            return self.values[first];
        }
        if class + 1 == self.classes {
            return self.values[last];
        }
        if class == self.classes / 2 && pixel.is_multiple_of(3) {
            return self.values[(first * 7 + last * 3) % VALUES];
        }
        if pixel / (VALUES * VALUES) == 1 { f32::NEG_INFINITY } else { ordinary }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a seed gives the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..n
    pub fn below(&mut self, n: u32) -> u32 {
        (self.bits() % u64::from(n)) as u32
    }

    /// About N(0, 3²), as logits are: the sum of twelve uniform numbers.
    pub fn logit(&mut self) -> f32 {
        let uniform: f64 = (0..12).map(|_| self.bits() as f64 / u64::MAX as f64).sum();
        (3.0 * (uniform - 6.0)) as f32
    }
}
