use std::ops::Range;

use wgpu::BufferBinding;

use crate::bands::{self, Band, MAP_CHUNK};
use crate::dispatch::{Bound, constants};
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, Input, Logits};

const SOURCE: &str = include_str!("../../shaders/multi_label.wgsl");

/// Masks of one byte.
pub(crate) static BYTES: Kernel = Kernel {
    name: "multi-label bytes",
    source: SOURCE,
    entry: "bytes",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::MASKS, binding::THRESHOLDS],
    specialisations: Specialisation::of_inputs,
};

/// Masks of one bit.
pub(crate) static BITS: Kernel = Kernel {
    name: "multi-label bits",
    source: SOURCE,
    entry: "bits",
    // One, and a step more for every 32 classes.
    class_walks: 2,
    bindings: &[binding::LOGITS, binding::MASKS, binding::THRESHOLDS],
    specialisations: Specialisation::of_inputs,
};

/// How [`MultiLabel`] writes which classes are present.
///
/// ```
/// use seghead::{Logits, MaskFormat};
/// let logits = Logits::chw(40, 3, 5)?;
/// assert_eq!((MaskFormat::Bytes.planes(40), MaskFormat::Bits.planes(40)), (40, 2));
/// assert_eq!(MaskFormat::Bytes.bytes(&logits), 40 * 16); // maps start at multiples of four pixels
/// assert_eq!(MaskFormat::Bits.bytes(&logits), 2 * 16 * 4);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaskFormat {
    /// A plane of bytes for every class, 1 where it is present, else 0: N × C × map.
    #[default]
    Bytes,
    /// A plane of 32-bit words for every 32 classes, class c in bit c % 32 of word c / 32: N × ⌈C / 32⌉ × map. Bits
    /// behind the last class are 0.
    Bits,
}

impl MaskFormat {
    /// Planes of an image with `classes` classes.
    pub fn planes(self, classes: u32) -> u32 {
        classes.div_ceil(self.classes_of_plane())
    }

    /// Bits of a pixel of one plane: 8 or 32.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bytes => 8,
            Self::Bits => 32,
        }
    }

    /// Size of a buffer for the masks of these logits, in bytes: planes one after another, each with the geometry of an
    /// image of [`Logits::map`].
    pub fn bytes(self, logits: &Logits) -> u64 {
        logits.map().bytes(self.bits()) * u64::from(self.planes(logits.classes()))
    }

    fn classes_of_plane(self) -> u32 {
        match self {
            Self::Bytes => 1,
            Self::Bits => 32,
        }
    }

    fn kernel(self) -> &'static Kernel {
        match self {
            Self::Bytes => &BYTES,
            Self::Bits => &BITS,
        }
    }
}

/// What [`MultiLabel`] returns on the host, as its [`MaskFormat`] says; pixels are packed.
///
/// ```
/// use seghead::Masks;
/// let masks = Masks::Bits(vec![0b101, 0b000]);
/// assert!(matches!(&masks, Masks::Bits(words) if words[0] & (1 << 2) != 0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Masks {
    /// 0 or 1, N × C × H × W.
    Bytes(Vec<u8>),
    /// Class c in bit c % 32 of word c / 32, N × ⌈C / 32⌉ × H × W.
    Bits(Vec<u32>),
}

/// Which classes are present in every pixel: those whose sigmoid is at least a threshold. For networks whose classes do
/// not exclude one another, and with a single class for the foreground mask of a binary network.
///
/// `sigmoid(x) ≥ t`, decided as in exact arithmetic for every logit x and threshold t: as `x ≥ ln(t / (1 − t))`,
/// without an exponential. [`torch.sigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.sigmoid.html) rounds
/// first, so `torch.sigmoid(x) >= t` may differ where the two are neighbours. A threshold of 0 is reached by every
/// logit, −Inf too, and one of 1 by +Inf alone; NaN reaches none. The twin is
/// [`reference::multi_label`](crate::reference::multi_label).
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Masks, MultiLabel};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 3)?;
/// let found = MultiLabel::new().run_blocking(&gpu, &logits, &[-1.0, 0.0, 3.0, 1.5, -0.1, 0.1])?;
/// assert_eq!(found, Masks::Bytes(vec![0, 1, 1, 1, 0, 1]));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MultiLabel {
    thresholds: Vec<f32>,
    format: MaskFormat,
}

impl Default for MultiLabel {
    fn default() -> Self {
        Self { thresholds: vec![0.5], format: MaskFormat::default() }
    }
}

impl MultiLabel {
    /// The operator with a threshold of 0.5 for all classes and masks of bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A threshold for all classes, in 0..=1.
    pub fn threshold(self, threshold: f32) -> Self {
        self.thresholds(vec![threshold])
    }

    /// A threshold per class, C of them, or a single one for all; in 0..=1.
    pub fn thresholds(self, thresholds: Vec<f32>) -> Self {
        Self { thresholds, ..self }
    }

    /// Masks of this format.
    pub fn format(self, format: MaskFormat) -> Self {
        Self { format, ..self }
    }

    /// What the kernel compares the keys of the logits with, C numbers.
    fn keys(&self, logits: &Logits) -> Result<Vec<i32>, Error> {
        let (classes, found) = (logits.classes(), self.thresholds.len() as u64);
        if found != 1 {
            host::check_length("thresholds", classes.into(), found)?;
        }
        if let Some(&found) = self.thresholds.iter().find(|threshold| !(0.0..=1.0).contains(*threshold)) {
            return Err(Error::Value { what: "threshold", expected: "a number in 0..=1", found });
        }
        Ok(self.thresholds.iter().map(|&threshold| key(logit(threshold))).cycle().take(classes as usize).collect())
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `masks`,
    /// [`MaskFormat::bytes`] of them.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Length`] and [`Error::Value`] for thresholds that do not; [`Error::Limit`] for a tensor that
    /// this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        masks: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let keys = self.keys(logits)?;
        let bands = bands::for_dispatch(gpu, logits)?;
        let window = Window::new(gpu, input, logits, &bands)?;
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let (input, part) = window.read(gpu, &mut dispatch, band)?;
            self.push_band(gpu, &mut dispatch, (logits, band), (input, part), &masks, &keys)?;
        }
        Ok(dispatch)
    }

    /// The masks of a band of `whole` whose logits are bound as `part`: at once, or where they are more than can be
    /// bound, image by image and as many classes at a time as can be.
    fn push_band(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (whole, band): (&Logits, &Band),
        (input, part): (Bound<'_>, Logits),
        masks: &BufferBinding<'_>,
        keys: &[i32],
    ) -> Result<(), Error> {
        let (map, bits, step) = (whole.map(), self.format.bits(), self.format.classes_of_plane());
        let planes = self.format.planes(whole.classes());
        let mut push = |images: Range<u32>, of_image: Range<u32>| {
            let of_images = Band { image: band.image + images.start, images: images.end - images.start, ..*band };
            let groups = MapPart::planes(&map, &of_images, planes, of_image.clone());
            let masks = Bound::part(gpu, binding::MASKS, masks.clone(), self.format.bytes(whole), groups.bytes(bits))?;
            let classes = of_image.start * step..whole.classes().min(of_image.end * step);
            let thresholds = &keys[classes.start as usize..classes.end as usize];
            let thresholds = constants(gpu, "thresholds", bytemuck::cast_slice(thresholds))?;
            let thresholds = Bound::whole(gpu, binding::THRESHOLDS, &thresholds)?;
            let from = part.part(images, 0, (part.height(), part.width()), classes);
            let params =
                Params { map_groups: map.image_stride() / 4, map_offset: groups.offset(), ..Params::new(&from) };
            let access = Access::choose(gpu, params.reads_in_fours());
            let specialisation = Specialisation::new(access, from.element_type(), from.classes());
            let buffers = [input.clone(), masks, thresholds];
            let invocations = (params.groups, from.images());
            dispatch.push(gpu, (self.format.kernel(), specialisation), params, &buffers, invocations)
        };
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let needed = |of_image: Range<u32>, images: u32| {
            let bytes = MapPart::planes(&map, &Band { images, ..*band }, planes, of_image).bytes(bits);
            bytes.end - bytes.start
        };
        if needed(0..planes, band.images) <= limit {
            return push(0..band.images, 0..planes);
        }
        // Where a binding may begin, up to a chunk of the map before the masks is bound with them.
        let plane = map.bytes(bits) / u64::from(map.images());
        let chunk = u64::from(MAP_CHUNK * bits / 2);
        let most = 1 + limit.saturating_sub(needed(0..1, 1) + chunk) / plane;
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(planes);
        for image in 0..band.images {
            for first in (0..planes).step_by(most as usize) {
                push(image..image + 1, first..planes.min(first.saturating_add(most)))?;
            }
        }
        Ok(())
    }

    /// Masks of `data`, N × C × H × W, packed, planes first whatever the order of the logits. Somebody else polls the
    /// device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`, or thresholds that are not as many as classes;
    /// [`Error::Value`] for a threshold out of range; what the device reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Masks, Error> {
        self.run_with(gpu, logits, data, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_blocking<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Masks, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<Masks, Error> {
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        self.keys(&logits)?;
        let planes = self.format.planes(logits.classes());
        let bands = bands::for_host(gpu, &logits, u64::from(planes) * u64::from(self.format.bits()))?;
        let mut sizes = Sizes { outputs: vec![("masks", 0)], ..Sizes::default() };
        for band in &bands {
            let shape = band.shape(&logits)?;
            sizes.logits = sizes.logits.max(shape.bytes());
            sizes.outputs[0].1 = sizes.outputs[0].1.max(self.format.bytes(&shape));
        }
        // A tensor of as many classes as there are planes.
        let result = Logits::nchw(logits.images(), planes, logits.height(), logits.width())?;
        let masks = match self.format {
            MaskFormat::Bytes => Masks::Bytes(vec![0; result.len() as usize]),
            MaskFormat::Bits => Masks::Bits(vec![0; result.len() as usize]),
        };
        let count = bands.len();
        let mut work = Planes { gpu, operator: self, logits, result, bands, masks };
        host::stream(gpu, waiting, &logits, &mut input, (count, sizes), &mut work).await?;
        Ok(work.masks)
    }
}

/// The smallest f32 whose sigmoid is at least `threshold`: ln(t / (1 − t)) rounded up.
fn logit(threshold: f32) -> f32 {
    let t = f64::from(threshold);
    // Neither form subtracts numbers that are nearly the same: the error is below 2⁻⁵⁰ of the logit.
    let logit = if t < 0.25 { t.ln() - (-t).ln_1p() } else { ((2.0 * t - 1.0) / (1.0 - t)).ln_1p() };
    let nearest = logit as f32;
    let below = if (logit - f64::from(nearest)).abs() <= logit.abs() * 2f64.powi(-50) {
        BARELY_ABOVE.contains(&threshold.to_bits())
    } else {
        f64::from(nearest) < logit
    };
    if below { nearest.next_up() } else { nearest }
}

/// The bits of the thresholds whose logit is above the nearest f32 by less than 2⁻⁴⁹ of it, where f64 may not tell: of
/// all f32 between 0 and 1, computed with 60 decimal digits.
#[rustfmt::skip]
const BARELY_ABOVE: [u32; 26] = [
    0x01d5_abc5, 0x0212_e5b3, 0x0531_43c8, 0x0bc6_82e6, 0x11d8_ab91, 0x1232_419f, 0x13cf_a209, 0x15d9_dac2,
    0x165a_e42e, 0x16f8_b667, 0x1a74_99e4, 0x1a9a_75b2, 0x1b76_79ff, 0x1bc5_db4c, 0x1e88_452d, 0x20f3_e599,
    0x22c0_96e2, 0x23ac_5bf1, 0x2505_a469, 0x277a_8e47, 0x2daa_38f5, 0x31c7_0b5f, 0x3261_68e8, 0x3b07_c8d5,
    0x3b9a_9ba6, 0x3ef6_edf8,
];

/// An integer that orders floats, as `keys` in `shaders/multi_label.wgsl`.
fn key(x: f32) -> i32 {
    let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
    if x.is_sign_negative() { -magnitude } else { magnitude }
}

/// The one-shot function on its way.
struct Planes<'a> {
    gpu: &'a Gpu,
    operator: &'a MultiLabel,
    logits: Logits,
    /// How the masks lie on the host.
    result: Logits,
    bands: Vec<Band>,
    masks: Masks,
}

impl Bands for Planes<'_> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let shape = self.bands[i].shape(&self.logits)?;
        let [input, masks] = slot.tensors();
        let dispatch = self.operator.dispatch(self.gpu, &shape, input, masks)?;
        Ok((dispatch, vec![self.operator.format.bytes(&shape)]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let band = &self.bands[i];
        let runs = host::runs(&self.result, band, &band.shape(&self.result)?);
        match &mut self.masks {
            Masks::Bytes(masks) => copy_runs(&runs, outputs[0], masks),
            Masks::Bits(masks) => copy_runs(&runs, &numbers(outputs[0]), masks),
        }
        Ok(())
    }
}

/// Copies runs of a band's masks to where they belong.
fn copy_runs<T: Copy>(runs: &[(u64, usize, usize)], from: &[T], to: &mut [T]) {
    for &(start, first, count) in runs {
        let start = start as usize;
        to[start..start + count].copy_from_slice(&from[first..first + count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of f32 thresholds, and of the first f32 above ln(t / (1 − t)) in 60 decimal digits.
    #[test]
    fn logits_are_rounded_up() {
        for (threshold, expected) in [
            (0x0000_0001, 0xc2ce_8ecf),
            (0x0080_0000, 0xc2ae_ac4f),
            (0x3a83_126f, 0xc0dd_0422), // 0.001
            (0x3dcc_cccd, 0xc00c_9f53), // 0.1
            (0x3e80_0000, 0xbf8c_9f53), // 0.25
            (0x3e99_999a, 0xbf58_e882), // 0.3
            (0x3eff_ffff, 0xb400_0000),
            (0x3f00_0000, 0x0000_0000), // 0.5
            (0x3f00_0001, 0x3480_0001),
            (0x3f33_3333, 0x3f58_e883), // 0.7
            (0x3f40_0000, 0x3f8c_9f54), // 0.75
            (0x3f66_6666, 0x400c_9f53), // 0.9
            (0x3f7d_70a4, 0x4093_0b3b), // 0.99
            (0x3f7f_ffff, 0x4185_1592),
        ] {
            assert_eq!(logit(f32::from_bits(threshold)).to_bits(), expected, "{}", f32::from_bits(threshold));
        }
        // Those whose logit is within 2⁻⁴⁹ of an f32.
        #[rustfmt::skip]
        let close = [
            (0x01d5_abc5, 0xc2aa_e02c), (0x0212_e5b3, 0xc2aa_3d21), (0x0226_3f3b, 0xc2a9_fdc7),
            (0x0531_43c8, 0xc2a1_8b92), (0x0bc6_82e6, 0xc28f_4c06), (0x1177_4bdf, 0xc27f_376e),
            (0x11d8_ab91, 0xc27c_f907), (0x1232_419f, 0xc27a_fb15), (0x13cf_a209, 0xc272_0d86),
            (0x15d9_dac2, 0xc266_c52f), (0x165a_e42e, 0xc263_fa8a), (0x166e_30c7, 0xc263_a405),
            (0x16f8_b667, 0xc260_b1f8), (0x1a74_99e4, 0xc24d_5a8f), (0x1a9a_75b2, 0xc24c_6b81),
            (0x1aaa_2b1e, 0xc24c_0854), (0x1b76_79ff, 0xc247_c72c), (0x1bc5_db4c, 0xc245_e263),
            (0x1e88_452d, 0xc236_bd8b), (0x2042_8e11, 0xc22c_ff94), (0x206f_dc0f, 0xc22c_2937),
            (0x20f3_e599, 0xc229_5256), (0x226b_5068, 0xc221_25ad), (0x22c0_96e2, 0xc21f_2d0f),
            (0x23ac_5bf1, 0xc21a_1323), (0x2505_a469, 0xc212_c64f), (0x2710_ab4a, 0xc207_5dff),
            (0x277a_8e47, 0xc205_2b94), (0x288c_b123, 0xc1fe_5263), (0x28dd_a29d, 0xc1fa_afa7),
            (0x2a34_1308, 0xc1eb_b640), (0x2a77_cbd2, 0xc1e9_2874), (0x2daa_38f5, 0xc1c5_5884),
            (0x2de1_edfd, 0xc1c3_14b2), (0x2f94_761b, 0xc1b0_4263), (0x2fd6_bbb7, 0xc1ad_4e87),
            (0x31bc_f624, 0xc198_261c), (0x31c7_0b5f, 0xc197_bba4), (0x3261_68e8, 0xc191_3152),
            (0x32ad_c5eb, 0xc18d_ba96), (0x371a_7781, 0xc139_8759), (0x39d4_1d52, 0xc0f9_fe14),
            (0x3ad3_f64d, 0xc0cd_9d80), (0x3b07_c8d5, 0xc0c5_abb7), (0x3b9a_9ba6, 0xc0ab_402f),
            (0x3ef6_edf8, 0xbd91_300e), (0x3eff_ffff, 0xb400_0000), (0x3f04_8904, 0x3d91_300f),
        ];
        for (threshold, expected) in close {
            assert_eq!(logit(f32::from_bits(threshold)).to_bits(), expected, "{}", f32::from_bits(threshold));
        }
        assert_eq!((logit(0.0), logit(-0.0), logit(1.0)), (f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY));
    }

    #[test]
    fn keys_order_floats() {
        let floats =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -f32::from_bits(1), 0.0, f32::from_bits(1), 1.0, f32::INFINITY];
        assert!(floats.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert_eq!(key(-0.0), key(0.0));
    }
}
