use wgpu::BufferBinding;

use super::loss::{self, Against, HostTargets};
use crate::host::{Waiting, check_length};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, LossBuffers, Reduction, Targets, UpsampledCrossEntropy};

mod pixels;

pub(crate) use pixels::{GRADIENTS, PIXELS, SOFT_GRADIENTS, SOFT_PIXELS};

/// Cross-entropy straight from logits: what multi-class networks are trained with. It contains the log-softmax, so
/// that its input is never a softmax.
///
/// Per pixel `log Σ exp(x) − x[t]` in a form that neither overflows nor loses small probabilities, with the options of
/// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html). The
/// twin is [`reference::cross_entropy`](crate::reference::cross_entropy). Soft targets, a probability for every class,
/// have functions of their own: [`run_soft`](Self::run_soft) and [`dispatch_soft`](Self::dispatch_soft). Sums are
/// taken on the GPU in an order that depends on the shape alone: the same input gives the same bits on the same
/// adapter.
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
    pub(in crate::ops) ignore_index: Option<i64>,
    pub(in crate::ops) class_weights: Option<Vec<f32>>,
    pub(in crate::ops) label_smoothing: f32,
    pub(in crate::ops) reduction: Reduction,
    pub(in crate::ops) per_pixel: bool,
    pub(in crate::ops) gradient: bool,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            ignore_index: Some(-100),
            class_weights: None,
            label_smoothing: 0.0,
            reduction: Reduction::Mean,
            per_pixel: false,
            gradient: false,
        }
    }
}

impl CrossEntropy {
    /// The operator with PyTorch's defaults: the mean, ignore index −100, no weights, no smoothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pixels with this target count for nothing, even where it is the index of a class. Does not apply to soft
    /// targets.
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

    /// Whether [`run`](Self::run) returns the gradient of the reduced loss with respect to the logits too, as
    /// [`Loss::gradient`]. Dispatches that write it are made by [`dispatch_gradient`](Self::dispatch_gradient) and
    /// [`dispatch_soft_gradient`](Self::dispatch_soft_gradient).
    ///
    /// Without options it is `(softmax(x)[c] − [c = t]) / N` with N pixels; the twins are
    /// [`reference::cross_entropy_gradient`](crate::reference::cross_entropy_gradient) and
    /// [`reference::cross_entropy_soft_gradient`](crate::reference::cross_entropy_soft_gradient). It is as PyTorch has
    /// it, but that pixels that are ignored have 0 even where their logits are NaN; of a mean over none but ignored
    /// pixels, which is NaN, the gradient is 0.
    ///
    /// ```
    /// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let operator = CrossEntropy::new().gradient(true);
    /// let loss = operator.run_blocking(&gpu, &Logits::chw(2, 1, 1)?, &[0.0, 0.0], &[1u8])?;
    /// assert_eq!(loss.gradient, Some(vec![0.5, -0.5]));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn gradient(self, gradient: bool) -> Self {
        Self { gradient, ..self }
    }

    /// The loss of these logits at the resolution of the labels, `height × width`, to which they are upsampled without
    /// being stored.
    pub fn upsampled(self, height: u32, width: u32) -> UpsampledCrossEntropy {
        UpsampledCrossEntropy::new(self, height, width)
    }

    pub(in crate::ops) fn check(&self, logits: &Logits) -> Result<(), Error> {
        if let Some(weights) = &self.class_weights {
            check_length("class weights", logits.classes().into(), weights.len() as u64)?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let found = self.label_smoothing;
            return Err(Error::Value { what: "label smoothing", expected: "a number in 0..=1", found });
        }
        Ok(())
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`; writes a
    /// [`LossRecord`](crate::LossRecord) to `record` and, if given, the loss of every pixel to `losses`, f32 with the geometry of
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
        self.dispatch_against(
            gpu,
            logits,
            (input, Against::Labels(targets)),
            LossBuffers { record, losses, gradient: None },
        )
    }

    /// [`dispatch`](Self::dispatch) against soft targets: `targets` is a tensor of f32 with the sizes and strides of
    /// `logits`, [`Logits::output`], that holds a number for every class of every pixel, in general probabilities. No
    /// pixel is ignored, and the mean is that over the N × H × W pixels, whatever the class weights.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_soft(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: BufferBinding<'_>,
        record: BufferBinding<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(
            gpu,
            logits,
            (input, Against::Soft(targets)),
            LossBuffers { record, losses, gradient: None },
        )
    }

    /// [`dispatch`](Self::dispatch) that writes the gradient of the reduced loss with respect to the logits too: to
    /// `gradient`, a tensor of f32 with the sizes and strides of `logits`, [`Logits::output`]. It is a step after the loss,
    /// which leaves what the mean is divided by. The gradient of a pixel whose target is
    /// neither a class nor the ignore index is NaN.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_gradient(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: Targets<'_>,
        record: BufferBinding<'_>,
        gradient: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(
            gpu,
            logits,
            (input, Against::Labels(targets)),
            LossBuffers::new(record).gradient(gradient),
        )
    }

    /// [`dispatch_soft`](Self::dispatch_soft) that writes the gradient as
    /// [`dispatch_gradient`](Self::dispatch_gradient) does.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_soft_gradient(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: BufferBinding<'_>,
        record: BufferBinding<'_>,
        gradient: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(gpu, logits, (input, Against::Soft(targets)), LossBuffers::new(record).gradient(gradient))
    }

    /// What labels must be below, and the one that is ignored.
    pub(super) fn labels(&self, classes: u32) -> (u32, Option<i64>) {
        (classes, self.ignore_index)
    }

    pub(super) fn dispatch_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        (input, against): (BufferBinding<'_>, Against<'_>),
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.check(logits)?;
        loss::dispatch(self, gpu, logits, (input, against), buffers)
    }

    /// The loss of logits as they lie on the host.
    pub(super) async fn run_against(
        &self,
        gpu: &Gpu,
        (logits, input): (&Logits, &mut Input<'_>),
        targets: impl HostTargets,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        self.check(logits)?;
        let operator = Self { ignore_index: targets.ignore_index(), ..self.clone() };
        loss::run(&operator, gpu, (logits, input), targets, waiting).await
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
        let (logits, mut input, targets) = loss::with_labels(logits, data, targets, self.labels(logits.classes()))?;
        self.run_against(gpu, (&logits, &mut input), targets, waiting).await
    }

    /// Loss of `data` against soft targets: `targets` has a number for every class of every pixel, in the order of
    /// `data`, f32 or f16 like it or not. As for [`dispatch_soft`](Self::dispatch_soft), no pixel is ignored, and the
    /// mean is that over the pixels. The twin is
    /// [`reference::cross_entropy_soft`](crate::reference::cross_entropy_soft).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`; [`Error::Value`] for options out of range; what the device
    /// reports.
    pub async fn run_soft<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        self.run_soft_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run_soft`](Self::run_soft) that waits for the device itself.
    ///
    /// ```
    /// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let (logits, teacher) = ([0.0, 1.0, 2.0], [0.2, 0.3, 0.5]);
    /// let loss = CrossEntropy::new().run_soft_blocking(&gpu, &Logits::chw(3, 1, 1)?, &logits, &teacher)?;
    /// assert!((loss.value - 1.107606).abs() < 1e-5);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run_soft`](Self::run_soft).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_soft_blocking<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_soft_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_soft_with<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        let (logits, mut input, targets) = loss::with_soft_targets(logits, data, targets)?;
        self.run_against(gpu, (&logits, &mut input), targets, waiting).await
    }
}
