use wgpu::BufferBinding;

use crate::dispatch::Bound;
use crate::host::{Waiting, check_length, logits_of};
use crate::kernel::binding;
use crate::ops::loss::{HostLabels, HostTargets, RECORD};
use crate::ops::resize::{Geometry, Resize};
use crate::{
    ConfusionMatrix, CrossEntropy, Dispatch, Error, Gpu, Input, Logits, Loss, LossBuffers, Map, Segment, Targets,
};

mod host;
mod pixels;

pub(crate) use pixels::{GRADIENT, RESIZE, UPSCALE};

/// Cross-entropy of low-resolution logits at the resolution of the labels: bilinear upsampling, the loss and, if asked
/// for, counts for a confusion matrix in one pass. The upsampled logits never exist, nor does their gradient.
///
/// Equal to `cross_entropy(interpolate(logits, size, mode="bilinear"), target)` in PyTorch, with all options of
/// [`CrossEntropy`] against labels, and to its gradient with respect to the logits. Scales down too. Where nothing is
/// scaled, it is [`CrossEntropy`]. The twins are [`reference::upsample`](crate::reference::upsample) followed by
/// [`reference::cross_entropy`](crate::reference::cross_entropy), and
/// [`reference::cross_entropy_gradient`](crate::reference::cross_entropy_gradient) followed by
/// [`reference::upsample_gradient`](crate::reference::upsample_gradient).
///
/// For the gradient 8 bytes of every pixel of the labels are kept, whatever the number of classes, and the logits are
/// interpolated once more: what that rounds differently is an error of their size, about 10⁻⁷ of the largest logit, in the
/// exponents of the softmax. So logits that are all far from 0 have a gradient some times less exact than PyTorch's f32. All sums are taken in
/// an order that depends on the shape alone: the same input gives the same bits on the same adapter.
///
/// ```
/// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let operator = CrossEntropy::new().gradient(true).upsampled(1, 4).confusion(true);
/// let loss = operator.run_blocking(&gpu, &Logits::chw(2, 1, 2)?, &[0.0, 4.0, 0.0, 0.0], &[0u8, 1, 0, 0])?;
/// // log(1 + exp(x)) of the upsampled logits 0, 1, −3 and −4.
/// assert!((loss.value - (0.693147 + 1.313262 + 0.048587 + 0.018150) / 4.0).abs() < 1e-5);
/// assert_eq!(loss.confusion.unwrap().counts(), [3, 0, 1, 0]); // targets × predictions
/// assert_eq!(loss.gradient.unwrap().len(), 4); // as the logits
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct UpsampledCrossEntropy {
    loss: CrossEntropy,
    height: u32,
    width: u32,
    resize: Resize,
    confusion: bool,
}

impl UpsampledCrossEntropy {
    /// `loss` for labels of `height × width` pixels; the same as [`CrossEntropy::upsampled`].
    pub fn new(loss: CrossEntropy, height: u32, width: u32) -> Self {
        Self { loss, height, width, resize: Resize::HalfPixel, confusion: false }
    }

    /// With this convention for positions.
    pub fn resize(self, resize: Resize) -> Self {
        Self { resize, ..self }
    }

    /// Whether [`run`](Self::run) returns the confusion matrix too, as [`Loss::confusion`]: of the class with the largest
    /// upsampled logit, as [`Segment`] has it. A dispatch counts if it has a buffer for it.
    pub fn confusion(self, confusion: bool) -> Self {
        Self { confusion, ..self }
    }

    /// The geometry of the labels, and of losses per pixel, on the GPU; rows start at multiples of four pixels.
    ///
    /// ```
    /// use seghead::{CrossEntropy, Logits};
    /// let map = CrossEntropy::new().upsampled(10, 30).map(&Logits::chw(21, 5, 15)?)?;
    /// assert_eq!((map.width(), map.row_stride(), map.bytes(8)), (30, 32, 320));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a size of zero, [`Error::Limit`] for one that 32 bits do not count.
    pub fn map(&self, logits: &Logits) -> Result<Map, Error> {
        Segment::new(self.height, self.width).map(logits)
    }

    /// The operator that says how many bytes the records of a [`dispatch`](Self::dispatch) take, and reads them.
    ///
    /// ```
    /// use seghead::{CrossEntropy, Logits};
    /// let (operator, logits) = (CrossEntropy::new().upsampled(512, 512), Logits::chw(21, 128, 128)?);
    /// let bytes = operator.confusion_matrix(&logits).bytes(&operator.map(&logits)?);
    /// assert_eq!(bytes, (21 * 21 + 5) * 4);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn confusion_matrix(&self, logits: &Logits) -> ConfusionMatrix {
        ConfusionMatrix::new(logits.classes()).ignore_index(self.loss.ignore_index)
    }

    fn geometry(&self, logits: &Logits) -> Result<Geometry, Error> {
        Geometry::new(self.resize, logits, self.height, self.width)
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets` with the geometry of
    /// [`map`](Self::map); writes `buffers`: a [`LossRecord`](crate::LossRecord), if given the losses of the pixels, f32 with the same
    /// geometry, and if given the gradient, f32 with the sizes and strides of `logits`, [`Logits::output`]. `confusion`, if
    /// given, gets the records of [`confusion_matrix`](Self::confusion_matrix).
    ///
    /// The gradient of a logit that a pixel reads whose target is neither a class nor the ignore index is NaN. Losses and
    /// gradient together take the pass over the pixels twice.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Length`] and [`Error::Value`] for options that do not; [`Error::Empty`] for a size of zero;
    /// [`Error::Limit`] for sizes that this device cannot bind: with a gradient, the 8 bytes of all pixels in a buffer,
    /// and of those that read a row of logits in a binding.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: Targets<'_>,
        buffers: LossBuffers<'_>,
        confusion: Option<BufferBinding<'_>>,
    ) -> Result<Dispatch, Error> {
        self.loss.check(logits)?;
        let map = self.map(logits)?;
        let LossBuffers { record: total, losses, gradient } = buffers;
        // The record must be none of the inputs, although only the last kernels write and read it.
        let record = Bound::new(gpu, binding::RECORD, total.clone(), RECORD)?;
        let mut dispatch = Dispatch::new();
        let counts = match confusion {
            Some(records) => Some(self.confusion_matrix(logits).push_clear(gpu, &mut dispatch, &map, records)?),
            None => None,
        };
        let mut written = vec![record.clone()];
        if let Some((counts, _)) = &counts {
            record.check_apart(counts)?;
            written.push(counts.clone());
        }
        for (binding, buffer, bytes) in
            [(binding::LOSS, &losses, map.bytes(32)), (binding::GRADIENT, &gradient, logits.output().bytes())]
        {
            if let Some(buffer) = buffer {
                let buffer = Bound::all(gpu, binding, buffer.clone(), bytes)?;
                written.iter().try_for_each(|other| buffer.check_apart(other))?;
                written.push(buffer);
            }
        }
        let statistics = match &gradient {
            Some(_) => Some(self.statistics(gpu, &map)?),
            None => None,
        };
        let inputs = (input.clone(), targets.clone());
        let written = match &statistics {
            Some(statistics) => pixels::Written::Statistics(statistics.as_entire_buffer_binding()),
            None => pixels::Written::Losses(losses.clone()),
        };
        let sums = self.push_pixels(gpu, &mut dispatch, logits, (inputs.clone(), written, counts), &record)?;
        if let (Some(_), Some(losses)) = (&statistics, losses) {
            let written = pixels::Written::Losses(Some(losses));
            self.push_pixels(gpu, &mut dispatch, logits, (inputs.clone(), written, None), &record)?;
        }
        sums.finish(gpu, &mut dispatch, (logits, self.loss.reduction), record.clone())?;
        if let (Some(statistics), Some(gradient)) = (&statistics, gradient) {
            let total = Bound::new(gpu, binding::TOTAL, total, RECORD)?;
            self.push_gradient(gpu, &mut dispatch, logits, (inputs, statistics, total), (gradient, &record))?;
        }
        Ok(dispatch)
    }

    /// Loss of `data`, N × C × H × W, against `targets`, N × height × width labels of any integer type. The gradient, if
    /// the [`CrossEntropy`] was asked for it, has the shape of `data`, the losses of the pixels that of `targets`. What is
    /// too big for the GPU goes through it in bands. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`, or not of this size; [`Error::Label`] for a target that is
    /// neither a class nor the ignore index, found on the GPU; [`Error::Value`] for options out of range;
    /// [`Error::Empty`] for a size of zero; [`Error::Limit`] for sizes beyond 32 bits, or with a gradient for rows of
    /// logits that more pixels read than the device binds; what the device reports.
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
    #[cfg(not(target_family = "wasm"))]
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
        self.loss.check(logits)?;
        let mut input = data.into();
        let logits = logits_of(logits, &input)?;
        check_length("targets", self.map(&logits)?.pixels() as u64, targets.len() as u64)?;
        let targets = HostLabels::new(targets, logits.classes(), self.loss.ignore_index);
        let loss = self.loss.clone().ignore_index(targets.ignore_index());
        Self { loss, ..self.clone() }.run_against(gpu, &logits, &mut input, targets, waiting).await
    }
}
