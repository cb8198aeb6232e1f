use wgpu::{Buffer, BufferBinding, BufferUsages};

use crate::dispatch::{Bound, constants, scratch};
use crate::host::{self, Waiting, numbers};
use crate::kernel::{Access, Kernel, Params, Specialisation, WORKGROUP, binding};
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Map, Readback};

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
        for access in Access::ALL {
            for labels in [LabelType::U8, LabelType::U32] {
                for bits in 0..8 {
                    all.push(Specialisation {
                        labels,
                        class_weights: bits & 1 != 0,
                        label_smoothing: bits & 2 != 0,
                        per_pixel: bits & 4 != 0,
                        ..Specialisation::new(access, classes)
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

const REDUCTION: Specialisation = Specialisation::new(Access::Vec4, 0);

/// Groups of four pixels that an invocation of [`PIXELS`] owns, `GROUPS` in `shaders/cross_entropy.wgsl`.
const GROUPS: u32 = 4;

/// Partial sums that an invocation of [`PARTIALS`] adds, `FAN` in `shaders/cross_entropy.wgsl`.
const FAN: u32 = 64;

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
        self.check(logits)?;
        let map = logits.map();
        let specialisation = Specialisation {
            labels: targets.label_type,
            class_weights: self.class_weights.is_some(),
            label_smoothing: self.label_smoothing != 0.0,
            per_pixel: losses.is_some(),
            ..Specialisation::new(Access::choose(gpu, logits.plane_stride()), logits.classes())
        };
        let input = Bound::new(gpu, binding::LOGITS, input, logits.bytes())?;
        let weights = match &self.class_weights {
            Some(weights) => Some(constants(gpu, "class weights", bytemuck::cast_slice(weights))?),
            None => None,
        };
        let weights = match &weights {
            Some(weights) => Bound::whole(gpu, binding::CLASS_WEIGHTS, weights)?,
            None => Bound::placeholder(gpu, binding::CLASS_WEIGHTS),
        };
        let losses = match losses {
            Some(losses) => Bound::new(gpu, binding::LOSS, losses, map.bytes(32))?,
            None => Bound::placeholder(gpu, binding::LOSS),
        };
        let target_bytes = map.bytes(targets.label_type.bits());
        let targets = Bound::new(gpu, binding::TARGET, targets.buffer, target_bytes)?;
        let record_bytes = size_of::<LossRecord>() as u64;
        let record = Bound::new(gpu, binding::RECORD, record, record_bytes)?;

        // An index beyond 32 bits matches no label on the GPU; a negative one is compared in two's complement.
        let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
        let ignore_index = self.ignore_index.filter(in_32_bits).map(|index| index as u32);

        let per_image = logits.pixels().div_ceil(4 * GROUPS * WORKGROUP) * WORKGROUP;
        let partials = u64::from(per_image) * u64::from(logits.images());
        let mut count = u32::try_from(partials).map_err(|_| Error::Limit {
            what: "partial sums of a loss",
            needed: partials,
            limit: u32::MAX.into(),
        })?;
        let mut sums = scratch(gpu, "partial sums", u64::from(count) * record_bytes)?;
        let params = Params {
            partials: per_image,
            reduction: u32::from(self.reduction == Reduction::Mean),
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            label_smoothing: self.label_smoothing,
            ..Params::new(logits)
        };
        let mut dispatch = Dispatch::new();
        // Checked with the first kernel, although only the last one writes it: the record must be none of its inputs.
        for other in [&input, &targets, &losses] {
            record.check_apart(other)?;
        }
        let buffers = [input, targets, weights, losses, Bound::whole(gpu, binding::PARTIALS_OUT, &sums)?];
        dispatch.push(gpu, (&PIXELS, specialisation), params, &buffers, (per_image, logits.images()))?;
        while count > FAN {
            let fewer = count.div_ceil(FAN);
            let added = scratch(gpu, "partial sums", u64::from(fewer) * record_bytes)?;
            let buffers =
                [Bound::whole(gpu, binding::PARTIALS_IN, &sums)?, Bound::whole(gpu, binding::PARTIALS_OUT, &added)?];
            let params = Params { partials: count, ..params };
            dispatch.push(gpu, (&PARTIALS, REDUCTION), params, &buffers, (fewer, 1))?;
            (sums, count) = (added, fewer);
        }
        let buffers = [Bound::whole(gpu, binding::PARTIALS_IN, &sums)?, record];
        dispatch.push(gpu, (&FINISH, REDUCTION), Params { partials: count, ..params }, &buffers, (1, 1))?;
        Ok(dispatch)
    }

    /// Loss of `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type. Somebody else polls
    /// the device, as for [`Readback`].
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`; [`Error::Label`] for a target that is neither a class nor
    /// the ignore index, found on the GPU; [`Error::Value`] for options out of range; what the device reports.
    pub async fn run<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: &[f32],
        targets: &[L],
    ) -> Result<Loss, Error> {
        self.run_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: &[f32],
        targets: &[L],
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_with<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: &[f32],
        targets: &[L],
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        self.check(logits)?;
        host::check_length("logits", host::packed_elements(logits), data.len())?;
        host::check_length("targets", logits.map().pixels() as u64, targets.len())?;
        let codes = TargetCodes::new(logits.classes(), self.ignore_index);
        let bands = host::bands(gpu, logits, 2)?;
        let most = |bytes: fn(&Logits) -> u64| bands.iter().map(|band| bytes(&band.logits)).max().unwrap_or(0);
        let map_bytes = most(|logits| logits.map().bytes(32));
        let (read, write) =
            (BufferUsages::STORAGE | BufferUsages::COPY_DST, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let input = host::create_buffer(gpu, "logits", most(Logits::bytes), read)?;
        let target = host::create_buffer(gpu, "target", map_bytes * u64::from(codes.label_type.bits()) / 32, read)?;
        let record = host::create_buffer(gpu, "loss", size_of::<LossRecord>() as u64, write)?;
        let losses = if self.per_pixel { Some(host::create_buffer(gpu, "losses", map_bytes, write)?) } else { None };
        let losses_bytes = losses.as_ref().map_or(0, Buffer::size);
        let mut readback = Readback::new(gpu, record.size() + losses_bytes)?;

        // Every band is summed on the GPU; only the sums of the bands are added here.
        let operator = Self { ignore_index: codes.ignore_index, reduction: Reduction::Sum, ..self.clone() };
        let (mut sum, mut weight, mut valid) = (0.0, 0.0, 0);
        let mut per_pixel = losses.as_ref().map(|_| Vec::with_capacity(targets.len()));
        for band in &bands {
            let map = band.logits.map();
            let first = band.position(logits);
            let prepare = || {
                host::upload(gpu, &input, logits, band, data);
                codes.upload(gpu, &target, &map, &targets[first..first + map.pixels()]);
                operator.dispatch(
                    gpu,
                    &band.logits,
                    input.as_entire_buffer_binding(),
                    Targets::new(target.as_entire_buffer_binding(), codes.label_type),
                    record.as_entire_buffer_binding(),
                    losses.as_ref().map(Buffer::as_entire_buffer_binding),
                )
            };
            let dispatch = host::checked(gpu, prepare).await?;
            let mut outputs = vec![(&record, record.size())];
            outputs.extend(losses.as_ref().map(|losses| (losses, map.bytes(32))));
            let found: LossRecord = host::submit_and_read(gpu, waiting, &mut readback, &dispatch, &outputs, |bytes| {
                if let Some(per_pixel) = &mut per_pixel {
                    map.unpad_into(&numbers(bytes[1]), per_pixel);
                }
                bytemuck::pod_read_unaligned(bytes[0])
            })
            .await?;
            if found.first_invalid != NONE {
                let position = first + found.first_invalid as usize;
                let label = targets[position].into();
                return Err(Error::Label { position: position as u64, label, classes: logits.classes() });
            }
            sum += f64::from(found.loss);
            weight += f64::from(found.weight);
            valid += u64::from(found.valid);
        }
        let value = match self.reduction {
            Reduction::Sum => sum,
            // IEEE has NaN for 0 / 0, but an infinity for other quotients by 0.
            Reduction::Mean if weight == 0.0 => f64::NAN,
            Reduction::Mean => sum / weight,
        };
        let pixels = targets.len() as u64;
        Ok(Loss { value: value as f32, pixels, ignored: pixels - valid, per_pixel })
    }
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
