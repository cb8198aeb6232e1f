use wgpu::{Buffer, BufferBinding};

use crate::bands::{self, Band};
use crate::dispatch::{Bound, constants, scratch};
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::{Access, Kernel, Params, Specialisation, WORKGROUP, binding};
use crate::map::MapPart;
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map};

const SOURCE: &str = include_str!("../../shaders/cross_entropy.wgsl");

/// From logits to partial sums, and to losses per pixel.
pub(crate) static PIXELS: Kernel = Kernel {
    name: "cross-entropy pixels",
    source: SOURCE,
    entry: "pixels",
    // For each of GROUPS groups: a fifth for the statistics, two more where a logit is special, one to smooth.
    class_walks: 13,
    bindings: &[binding::LOGITS, binding::TARGET, binding::CLASS_WEIGHTS, binding::LOSS, binding::PARTIALS_OUT],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for bits in 0..8 {
                    all.push(Specialisation {
                        labels,
                        class_weights: bits & 1 != 0,
                        label_smoothing: bits & 2 != 0,
                        per_pixel: bits & 4 != 0,
                        ..Specialisation::new(access, element, classes)
                    });
                }
            }
        }
        all
    },
};

/// From many partial sums to fewer.
pub(crate) static PARTIALS: Kernel = Kernel {
    name: "cross-entropy partials",
    source: SOURCE,
    entry: "partials",
    class_walks: 1,
    bindings: &[binding::PARTIALS_OUT, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

/// From the last partial sums to the record.
pub(crate) static FINISH: Kernel = Kernel {
    name: "cross-entropy finish",
    source: SOURCE,
    entry: "finish",
    class_walks: 1,
    bindings: &[binding::RECORD, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

const REDUCTION: Specialisation = Specialisation::new(Access::Vec4, ElementType::F32, 0);

/// Groups of four pixels that an invocation of [`PIXELS`] owns, `GROUPS` in `shaders/cross_entropy.wgsl`.
const GROUPS: u32 = 4;

/// Partial sums that an invocation of [`PARTIALS`] adds, `FAN` in `shaders/cross_entropy.wgsl`.
const FAN: u32 = 64;

/// Bytes of a [`LossRecord`], and of a partial sum.
const RECORD: u64 = size_of::<LossRecord>() as u64;

/// What [`LossRecord::first_invalid`] holds where every target is valid, `NONE` in `shaders/cross_entropy.wgsl`.
const NONE: u32 = u32::MAX;

/// How the losses of the pixels become one number.
///
/// ```
/// use seghead::{CrossEntropy, Reduction};
/// let summed = CrossEntropy::new().reduction(Reduction::Sum);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum over the sum of their targets' class weights; NaN where that is 0, as when all are ignored.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// A map of target labels on the GPU, with the geometry of [`Logits::map`].
///
/// ```
/// # fn app(buffer: &seghead::wgpu::Buffer) {
/// use seghead::{LabelType, Targets};
/// let targets = Targets::new(buffer.as_entire_buffer_binding(), LabelType::U8);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    buffer: BufferBinding<'a>,
    label_type: LabelType,
}

impl<'a> Targets<'a> {
    /// Labels of `label_type` in `buffer`. A negative label is its two's complement in 32 bits.
    pub fn new(buffer: BufferBinding<'a>, label_type: LabelType) -> Self {
        Self { buffer, label_type }
    }
}

/// What a [`CrossEntropy`] dispatch leaves on the GPU, 16 bytes.
///
/// ```
/// use seghead::LossRecord;
/// assert_eq!(size_of::<LossRecord>(), 16);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LossRecord {
    /// The reduced loss; NaN where a target is invalid.
    pub loss: f32,
    /// Sum of the class weights of the targets that were not ignored, the denominator of the mean.
    pub weight: f32,
    /// Number of pixels that were not ignored.
    pub valid: u32,
    /// Index of the first pixel, among all of the batch, whose target is neither a class nor the ignore index;
    /// `u32::MAX` where there is none.
    pub first_invalid: u32,
}

/// What [`CrossEntropy`] returns on the host.
///
/// ```
/// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 3)?;
/// let data = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// let loss = CrossEntropy::new().ignore_index(Some(255)).run_blocking(&gpu, &logits, &data, &[0u8, 255, 1])?;
/// assert!((loss.value - 2f32.ln()).abs() < 1e-6);
/// assert_eq!((loss.pixels, loss.ignored), (3, 1));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Loss {
    /// The reduced loss.
    pub value: f32,
    /// Number of pixels, ignored ones included.
    pub pixels: u64,
    /// Number of pixels whose target was the ignore index.
    pub ignored: u64,
    /// The loss of every pixel, N × H × W, 0 where it is ignored, if it was asked for.
    pub per_pixel: Option<Vec<f32>>,
}

/// Cross-entropy straight from logits: what multi-class networks are trained with. It contains the log-softmax, so
/// that its input is never a softmax.
///
/// Per pixel `log Σ exp(x) − x[t]` in a form that neither overflows nor loses small probabilities, with the options of
/// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html). The
/// twin is [`reference::cross_entropy`](crate::reference::cross_entropy). Sums are taken on the GPU in an order that
/// depends on the shape alone: the same input gives the same bits on the same adapter.
///
/// ```
/// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(3, 1, 1)?;
/// let loss = CrossEntropy::new().run_blocking(&gpu, &logits, &[1.0, 2.0, 3.0], &[2i64])?;
/// assert!((loss.value - 0.407606).abs() < 1e-5);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    ignore_index: Option<i64>,
    class_weights: Option<Vec<f32>>,
    label_smoothing: f32,
    reduction: Reduction,
    per_pixel: bool,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            ignore_index: Some(-100),
            class_weights: None,
            label_smoothing: 0.0,
            reduction: Reduction::Mean,
            per_pixel: false,
        }
    }
}

impl CrossEntropy {
    /// The operator with PyTorch's defaults: the mean, ignore index −100, no weights, no smoothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pixels with this target count for nothing, even where it is the index of a class.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// A weight per class, C of them.
    pub fn class_weights(self, class_weights: Option<Vec<f32>>) -> Self {
        Self { class_weights, ..self }
    }

    /// The share of the target that goes to all classes alike, in 0..=1.
    pub fn label_smoothing(self, label_smoothing: f32) -> Self {
        Self { label_smoothing, ..self }
    }

    /// Mean or sum.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether [`run`](Self::run) returns the loss of every pixel too. A dispatch writes it if it has a buffer for it.
    pub fn per_pixel(self, per_pixel: bool) -> Self {
        Self { per_pixel, ..self }
    }

    fn check(&self, logits: &Logits) -> Result<(), Error> {
        if let Some(weights) = &self.class_weights {
            host::check_length("class weights", logits.classes().into(), weights.len())?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let found = self.label_smoothing;
            return Err(Error::Value { what: "label smoothing", expected: "a number in 0..=1", found });
        }
        Ok(())
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`; writes a
    /// [`LossRecord`] to `record` and, if given, the loss of every pixel to `losses`, f32 with the geometry of
    /// [`Logits::map`].
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Length`] and [`Error::Value`] for options that do not; [`Error::Limit`] for a tensor that
    /// this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: Targets<'_>,
        record: BufferBinding<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<Dispatch, Error> {
        let record = Bound::new(gpu, binding::RECORD, record, RECORD)?;
        // The record must be none of the inputs, although only the last kernel writes it.
        let mut dispatch = Dispatch::new();
        let (mut sums, mut count) =
            self.push_pixels(gpu, &mut dispatch, logits, (input, targets, losses), Some(&record))?;
        let params = Params { reduction: u32::from(self.reduction == Reduction::Mean), ..Params::new(logits) };
        while count > FAN {
            let fewer = count.div_ceil(FAN);
            let added = scratch(gpu, "partial sums", u64::from(fewer) * RECORD)?;
            push_partials(gpu, &mut dispatch, params, (&sums, count), &added)?;
            (sums, count) = (added, fewer);
        }
        let buffers = [
            Bound::new(gpu, binding::PARTIALS_IN, sums.as_entire_buffer_binding(), u64::from(count) * RECORD)?,
            record,
        ];
        dispatch.push(gpu, (&FINISH, REDUCTION), Params { partials: count, ..params }, &buffers, (1, 1))?;
        Ok(dispatch)
    }

    /// Leaves the partial sums of all pixels, and returns them with their number.
    fn push_pixels(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (input, targets, losses): (BufferBinding<'_>, Targets<'_>, Option<BufferBinding<'_>>),
        record: Option<&Bound<'_>>,
    ) -> Result<(Buffer, u32), Error> {
        self.check(logits)?;
        let map = logits.map();
        let bands = bands::for_dispatch(gpu, logits)?;
        let window = Window::new(gpu, input, logits, &bands)?;
        let weights = match &self.class_weights {
            Some(weights) => Some(constants(gpu, "class weights", bytemuck::cast_slice(weights))?),
            None => None,
        };
        let weights = match &weights {
            Some(weights) => Bound::whole(gpu, binding::CLASS_WEIGHTS, weights)?,
            None => Bound::placeholder(gpu, binding::CLASS_WEIGHTS),
        };

        // An index beyond 32 bits matches no label on the GPU; a negative one is compared in two's complement.
        let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
        let ignore_index = self.ignore_index.filter(in_32_bits).map(|index| index as u32);

        let mut partials = Vec::with_capacity(bands.len());
        let mut total = 0;
        for band in &bands {
            partials.push(total);
            let groups = Params::new(&band.of(logits)).groups;
            total += u64::from(partials_of_image(groups)) * u64::from(band.images);
        }
        let count = u32::try_from(total).map_err(|_| Error::Limit {
            what: "partial sums of a loss",
            needed: total,
            limit: u32::MAX.into(),
        })?;
        let sums = scratch(gpu, "partial sums", total * RECORD)?;
        let per_pixel = losses.is_some();
        for (band, first_partial) in bands.iter().zip(partials) {
            let (input, part) = window.read(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let losses = match &losses {
                Some(losses) => Bound::part(gpu, binding::LOSS, losses.clone(), map.bytes(32), groups.bytes(32))?,
                None => Bound::placeholder(gpu, binding::LOSS),
            };
            let bits = targets.label_type.bits();
            let targets_of_band =
                Bound::part(gpu, binding::TARGET, targets.buffer.clone(), map.bytes(bits), groups.bytes(bits))?;
            if let Some(record) = record {
                for other in [&input, &targets_of_band, &losses] {
                    record.check_apart(other)?;
                }
            }
            let params = Params::new(&part);
            let params = Params {
                map_offset: groups.offset(),
                first_pixel: band.image * logits.pixels() + band.pixel,
                pixels: logits.pixels(),
                partials: partials_of_image(params.groups),
                has_ignore_index: u32::from(ignore_index.is_some()),
                ignore_index: ignore_index.unwrap_or(0),
                label_smoothing: self.label_smoothing,
                ..params
            };
            let access = Access::choose(gpu, params.reads_in_fours());
            let specialisation = Specialisation {
                labels: targets.label_type,
                class_weights: self.class_weights.is_some(),
                label_smoothing: self.label_smoothing != 0.0,
                per_pixel,
                ..Specialisation::new(access, part.element_type(), logits.classes())
            };
            // A workgroup leaves 2 KiB of them: every band has a range that can be bound.
            let sums = sums.as_entire_buffer_binding();
            let last_partial = first_partial + u64::from(params.partials) * u64::from(part.images());
            let range = first_partial * RECORD..last_partial * RECORD;
            let out = Bound::part(gpu, binding::PARTIALS_OUT, sums, total * RECORD, range)?;
            let buffers = [input, targets_of_band, weights.clone(), losses, out];
            dispatch.push(gpu, (&PIXELS, specialisation), params, &buffers, (params.partials, part.images()))?;
        }
        Ok((sums, count))
    }

    /// Loss of `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type. Somebody else polls
    /// the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`; [`Error::Label`] for a target that is neither a class nor
    /// the ignore index, found on the GPU; [`Error::Value`] for options out of range; what the device reports.
    pub async fn run<'a, L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: &[L],
    ) -> Result<Loss, Error> {
        self.run_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking<'a, L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: &[L],
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_with<'a, L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: &[L],
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        self.check(logits)?;
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let pixels = logits.map().pixels();
        host::check_length("targets", pixels as u64, targets.len())?;
        let codes = TargetCodes::new(logits.classes(), self.ignore_index);
        let label_bits = codes.label_type.bits();
        // With as many bits again for the sums as for a label.
        let map_bits = label_bits + if self.per_pixel { 32 } else { 0 };
        let bands = bands::for_host(gpu, &logits, map_bits.into())?;
        let mut sizes = Sizes { outputs: vec![("partial sums", 0)], ..Sizes::default() };
        let (mut target_bytes, mut map_bytes) = (0, 0);
        for band in &bands {
            let shape = band.shape(&logits)?;
            sizes.logits = sizes.logits.max(shape.bytes());
            sizes.outputs[0].1 = sizes.outputs[0].1.max(block_sums(&shape) * RECORD);
            target_bytes = shape.map().bytes(label_bits).max(target_bytes);
            map_bytes = shape.map().bytes(32).max(map_bytes);
        }
        sizes.uploads.push(("target", target_bytes));
        sizes.outputs.extend(self.per_pixel.then_some(("losses", map_bytes)));
        let operator = Self { ignore_index: codes.ignore_index, ..self.clone() };
        let per_pixel = self.per_pixel.then(|| Vec::with_capacity(pixels));
        let count = bands.len();
        let mut losses =
            Losses { gpu, operator, codes, logits, targets, bands, per_pixel, sum: 0.0, weight: 0.0, valid: 0 };
        host::stream(gpu, waiting, &logits, &mut input, (count, sizes), &mut losses).await?;
        let Losses { sum, weight, valid, per_pixel, .. } = losses;
        let value = match self.reduction {
            Reduction::Sum => sum,
            // IEEE has NaN for 0 / 0, but an infinity for other quotients by 0.
            Reduction::Mean if weight == 0.0 => f64::NAN,
            Reduction::Mean => sum / weight,
        };
        let pixels = pixels as u64;
        Ok(Loss { value: value as f32, pixels, ignored: pixels - valid, per_pixel })
    }
}

/// Adds `count` partial sums, [`FAN`] neighbours at a time.
fn push_partials(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    params: Params,
    (sums, count): (&Buffer, u32),
    to: &Buffer,
) -> Result<(), Error> {
    // Partial sums can be more than a binding takes; those of this many are a range that can be bound.
    const STEP: u64 = FAN as u64 * 16;
    let limit = gpu.limits().max_storage_buffer_binding_size / RECORD;
    let most = if u64::from(count) <= limit { count.into() } else { (limit - limit % STEP).max(STEP) };
    for first in (0..u64::from(count)).step_by(most as usize) {
        let last = u64::from(count).min(first + most);
        let sums = sums.as_entire_buffer_binding();
        let from =
            Bound::part(gpu, binding::PARTIALS_IN, sums, u64::from(count) * RECORD, first * RECORD..last * RECORD)?;
        let fan = u64::from(FAN);
        let range = first / fan * RECORD..last.div_ceil(fan) * RECORD;
        let needed = u64::from(count.div_ceil(FAN)) * RECORD;
        let to = Bound::part(gpu, binding::PARTIALS_OUT, to.as_entire_buffer_binding(), needed, range)?;
        let count = (last - first) as u32;
        let params = Params { partials: count, ..params };
        dispatch.push(gpu, (&PARTIALS, REDUCTION), params, &[from, to], (count.div_ceil(FAN), 1))?;
    }
    Ok(())
}

/// Invocations, and partial sums, for the groups of an image.
fn partials_of_image(groups: u32) -> u32 {
    groups.div_ceil(GROUPS * WORKGROUP) * WORKGROUP
}

/// The one-shot function on its way. The GPU sums up every [`FAN`] partial sums, and these sums are added here, in an
/// order that does not depend on the bands.
struct Losses<'a, L> {
    gpu: &'a Gpu,
    operator: CrossEntropy,
    codes: TargetCodes,
    logits: Logits,
    targets: &'a [L],
    bands: Vec<Band>,
    per_pixel: Option<Vec<f32>>,
    sum: f64,
    weight: f64,
    valid: u64,
}

impl<L: Copy + Into<i64>> Bands for Losses<'_, L> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (gpu, band) = (self.gpu, &self.bands[i]);
        let shape = band.shape(&self.logits)?;
        let first = band.position(&self.logits);
        self.codes.upload(gpu, &slot.uploads[0], &shape.map(), &self.targets[first..first + band.pixels()]);
        let targets = Targets::new(slot.uploads[0].as_entire_buffer_binding(), self.codes.label_type);
        let losses = slot.outputs.get(1).map(Buffer::as_entire_buffer_binding);
        let mut bytes = vec![block_sums(&shape) * RECORD];
        bytes.extend(losses.as_ref().map(|_| shape.map().bytes(32)));

        let mut dispatch = Dispatch::new();
        let input = (slot.logits.as_entire_buffer_binding(), targets, losses);
        let (sums, count) = self.operator.push_pixels(gpu, &mut dispatch, &shape, input, None)?;
        push_partials(gpu, &mut dispatch, Params::new(&shape), (&sums, count), &slot.outputs[0])?;
        Ok((dispatch, bytes))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let first = self.bands[i].position(&self.logits);
        for sum in numbers::<LossRecord>(outputs[0]).iter() {
            if sum.first_invalid != NONE {
                let position = first + sum.first_invalid as usize;
                let label = self.targets[position].into();
                return Err(Error::Label { position: position as u64, label, classes: self.logits.classes() });
            }
            self.sum += f64::from(sum.loss);
            self.weight += f64::from(sum.weight);
            self.valid += u64::from(sum.valid);
        }
        if let Some(per_pixel) = &mut self.per_pixel {
            self.bands[i].shape(&self.logits)?.map().unpad_into(&numbers(outputs[1]), per_pixel);
        }
        Ok(())
    }
}

/// Sums that [`PARTIALS`] leaves of a band.
fn block_sums(shape: &Logits) -> u64 {
    let partials = u64::from(partials_of_image(Params::new(shape).groups)) * u64::from(shape.images());
    partials.div_ceil(FAN.into())
}

/// How labels of any integer type are written for the GPU: classes as they are, and a code each for the ignore index
/// and for everything else, which the kernel finds.
struct TargetCodes {
    label_type: LabelType,
    classes: u32,
    ignored: Option<i64>,
    /// The code of the ignore index.
    ignore_index: Option<i64>,
}

impl TargetCodes {
    fn new(classes: u32, ignored: Option<i64>) -> Self {
        let label_type = if classes <= 254 { LabelType::U8 } else { LabelType::U32 };
        let code = match label_type {
            LabelType::U8 => i64::from(u8::MAX),
            LabelType::U32 => i64::from(u32::MAX),
        };
        Self { label_type, classes, ignored, ignore_index: Some(code) }
    }

    /// In the lowest bits: the class, all ones for the ignore index, one less for an invalid label.
    fn code(&self, label: i64) -> u32 {
        if Some(label) == self.ignored {
            return u32::MAX;
        }
        match u32::try_from(label) {
            Ok(class) if class < self.classes => class,
            _ => u32::MAX - 1,
        }
    }

    fn upload<L: Copy + Into<i64>>(&self, gpu: &Gpu, buffer: &Buffer, map: &Map, targets: &[L]) {
        let (pixels, stride) = (map.pixels() / map.images() as usize, map.image_stride() as usize);
        match self.label_type {
            LabelType::U8 => {
                let mut codes = vec![0u8; stride * map.images() as usize];
                for (padded, image) in codes.chunks_exact_mut(stride).zip(targets.chunks_exact(pixels)) {
                    padded.iter_mut().zip(image).for_each(|(code, &label)| *code = self.code(label.into()) as u8);
                }
                gpu.queue().write_buffer(buffer, 0, &codes);
            }
            LabelType::U32 => {
                let mut codes = vec![0u32; stride * map.images() as usize];
                for (padded, image) in codes.chunks_exact_mut(stride).zip(targets.chunks_exact(pixels)) {
                    padded.iter_mut().zip(image).for_each(|(code, &label)| *code = self.code(label.into()));
                }
                gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&codes));
            }
        }
    }
}
