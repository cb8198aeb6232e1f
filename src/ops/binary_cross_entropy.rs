use wgpu::BufferBinding;

use super::loss::{self, Against, HostTargets};
use crate::host::{Waiting, check_length};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, LossBuffers, Reduction, Targets};

mod elements;

pub(crate) use elements::{ELEMENTS, LABEL_ELEMENTS};

/// Binary cross-entropy straight from logits: what binary and multi-label networks are trained with. It contains the
/// sigmoid, so that its input is never a sigmoid.
///
/// Per element, with its logit x, its target z, in general a probability, and the weights w of its class and p of
/// positive targets of it, `w · ((1 − z) · x + (1 + (p − 1) · z) · (log(1 + e^−|x|) + max(−x, 0)))` as in
/// [`torch.nn.BCEWithLogitsLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html). Targets
/// are a tensor like the logits, or labels, of which z is 1 for the class that is the label and 0 for the others, and of
/// a single class the label itself: [`run_labels`](Self::run_labels), [`dispatch_labels`](Self::dispatch_labels). It
/// neither overflows on the way nor loses small losses: that of a confident prediction keeps its relative accuracy,
/// where the same formula term by term in f32 rounds it to 0 (x = −20, z = 0). The twin is
/// [`reference::binary_cross_entropy`](crate::reference::binary_cross_entropy). Sums are taken on the GPU in an order
/// that depends on the shape alone: the same input gives the same bits on the same adapter.
///
/// ```
/// use seghead::{BinaryCrossEntropy, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let (logits, targets) = ([0.0, 2.0, -3.0, 0.0], [1.0, 1.0, 0.0, 0.5]);
/// let loss = BinaryCrossEntropy::new().run_blocking(&gpu, &Logits::chw(2, 1, 2)?, &logits, &targets)?;
/// assert!((loss.value - 0.390452).abs() < 1e-5);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryCrossEntropy {
    class_weights: Option<Vec<f32>>,
    pos_weight: Option<Vec<f32>>,
    ignore_index: Option<i64>,
    reduction: Reduction,
    per_element: bool,
    gradient: bool,
}

impl Default for BinaryCrossEntropy {
    fn default() -> Self {
        Self {
            class_weights: None,
            pos_weight: None,
            ignore_index: Some(-100),
            reduction: Reduction::Mean,
            per_element: false,
            gradient: false,
        }
    }
}

impl BinaryCrossEntropy {
    /// The operator with PyTorch's defaults: the mean, no weights; ignore index −100 of labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// A weight per class, C of them: `weight` in PyTorch, of the shape (C, 1, 1). The mean is still that over the elements.
    ///
    /// ```
    /// use seghead::{BinaryCrossEntropy, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let operator = BinaryCrossEntropy::new().class_weights(Some(vec![1.0, 3.0]));
    /// let loss = operator.run_blocking(&gpu, &Logits::chw(2, 1, 1)?, &[0.0, 0.0], &[1.0, 0.0])?;
    /// assert!((loss.value - 2.0 * 2f32.ln()).abs() < 1e-6);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn class_weights(self, class_weights: Option<Vec<f32>>) -> Self {
        Self { class_weights, ..self }
    }

    /// Pixels with this label count for nothing, and the mean is that over the elements of the others. Does not apply to
    /// targets that are a tensor.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// A weight of positive targets per class, C of them: above 1 it is for recall, below for precision.
    pub fn pos_weight(self, pos_weight: Option<Vec<f32>>) -> Self {
        Self { pos_weight, ..self }
    }

    /// Mean or sum, over all N × C × H × W elements but those of pixels that are ignored.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether [`run`](Self::run) returns the loss of every element too, as [`Loss::per_element`]. A dispatch writes it
    /// if it has a buffer for it.
    pub fn per_element(self, per_element: bool) -> Self {
        Self { per_element, ..self }
    }

    /// Whether [`run`](Self::run) returns the gradient of the reduced loss with respect to the logits too, as
    /// [`Loss::gradient`]. A dispatch that writes it is made by [`dispatch_gradient`](Self::dispatch_gradient).
    ///
    /// Per element it is `w · ((1 − z) · σ(x) − p · z · σ(−x))` with the sigmoid σ, over the number of elements for the mean;
    /// the twin is [`reference::binary_cross_entropy_gradient`](crate::reference::binary_cross_entropy_gradient).
    ///
    /// ```
    /// use seghead::{BinaryCrossEntropy, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let operator = BinaryCrossEntropy::new().gradient(true);
    /// let loss = operator.run_blocking(&gpu, &Logits::chw(1, 1, 2)?, &[0.0, 0.0], &[1.0, 0.0])?;
    /// assert_eq!(loss.gradient, Some(vec![-0.25, 0.25]));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn gradient(self, gradient: bool) -> Self {
        Self { gradient, ..self }
    }

    /// What labels must be below, and the one that is ignored.
    pub(super) fn labels(&self, classes: u32) -> (u32, Option<i64>) {
        (classes.max(2), self.ignore_index)
    }

    fn check(&self, logits: &Logits) -> Result<(), Error> {
        let weights = [("class weights", &self.class_weights), ("pos weight", &self.pos_weight)];
        weights.into_iter().try_for_each(|(what, weights)| match weights {
            Some(weights) => check_length(what, logits.classes().into(), weights.len() as u64),
            None => Ok(()),
        })
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`, f32 with the sizes and
    /// strides of `logits`, [`Logits::output`]; writes a [`LossRecord`](crate::LossRecord) to `record` and, if given,
    /// the loss of every element to `losses`, which lie as the targets do.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Length`] for weights that do not; [`Error::Limit`] for a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: BufferBinding<'_>,
        record: BufferBinding<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<Dispatch, Error> {
        let buffers = LossBuffers { record, losses, gradient: None };
        self.dispatch_against(gpu, logits, (input, Against::Soft(targets)), buffers)
    }

    /// [`dispatch`](Self::dispatch) that writes the gradient of the reduced loss with respect to the logits too, in one
    /// pass: to `gradient`, f32, which lies as the targets do.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_gradient(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: BufferBinding<'_>,
        record: BufferBinding<'_>,
        gradient: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let buffers = LossBuffers::new(record).gradient(gradient);
        self.dispatch_against(gpu, logits, (input, Against::Soft(targets)), buffers)
    }

    /// [`dispatch`](Self::dispatch) against `targets` that are labels: of the C classes, or of a single class 0 and 1.
    /// Losses and gradient are tensors of f32 with the sizes and strides of `logits`, [`Logits::output`]. Where pixels may
    /// be ignored, the gradient of a mean is a step after the loss. That of a pixel whose target is neither a class nor the
    /// ignore index is NaN.
    ///
    /// ```
    /// use seghead::wgpu::{Buffer, CommandEncoder};
    /// use seghead::{BinaryCrossEntropy, Error, Gpu, LabelType, Logits, LossBuffers, Targets};
    /// fn step(gpu: &Gpu, [input, labels, record, gradient]: [&Buffer; 4], encoder: &mut CommandEncoder) -> Result<(), Error> {
    ///     let logits = Logits::chw(1, 480, 640)?;
    ///     let targets = Targets::new(labels.as_entire_buffer_binding(), LabelType::U8);
    ///     let buffers = LossBuffers::new(record.as_entire_buffer_binding()).gradient(gradient.as_entire_buffer_binding());
    ///     let operator = BinaryCrossEntropy::new().ignore_index(Some(255));
    ///     operator.dispatch_labels(gpu, &logits, input.as_entire_buffer_binding(), targets, buffers)?.record(encoder);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_labels(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: Targets<'_>,
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(gpu, logits, (input, Against::Labels(targets)), buffers)
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

    /// Loss of `data`, N × C × H × W, against `targets`, as many numbers in the same order; f32 or f16 either of them.
    /// Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`, or weights that are not as many as classes; what the device
    /// reports.
    pub async fn run<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        self.run_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_blocking<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_with<'a, 'b>(
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

    /// Loss of `data` against `targets`, N × H × W labels of any integer type: of the C classes, or of a single class 0 and
    /// 1.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`Error::Label`] for a target that is neither a class nor the ignore index, found on the
    /// GPU.
    pub async fn run_labels<'a, L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: &[L],
    ) -> Result<Loss, Error> {
        self.run_labels_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run_labels`](Self::run_labels) that waits for the device itself.
    ///
    /// ```
    /// use seghead::{BinaryCrossEntropy, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let operator = BinaryCrossEntropy::new().ignore_index(Some(255));
    /// let loss = operator.run_labels_blocking(&gpu, &Logits::chw(1, 1, 3)?, &[2.0, 0.0, 9.0], &[1u8, 0, 255])?;
    /// assert!((loss.value - 0.410037).abs() < 1e-5);
    /// assert_eq!(loss.ignored, 1);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run_labels`](Self::run_labels).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_labels_blocking<'a, L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: &[L],
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_labels_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_labels_with<'a, L: Copy + Into<i64>>(
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
}
