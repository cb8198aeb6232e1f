use wgpu::BufferBinding;

use super::loss::{self, Against};
use crate::host::Waiting;
use crate::{Activation, Dispatch, Error, Gpu, Input, Logits, Loss, LossBuffers, Reduction, Targets};

mod host;
mod pixels;
mod score;

pub(crate) use pixels::{LABEL_GRADIENT, LABEL_SUMS, SOFT_GRADIENT, SOFT_SUMS};
pub(crate) use score::{FOLD, SCORE};

/// Losses of how far a predicted region and that of the target overlap: Dice, Jaccard, Tversky. They do not depend on
/// how large the region is, so that small objects count as much as large ones; often added to a cross-entropy.
///
/// With the probabilities p and the targets t of a region, `I = Σ p · t`, `P = Σ p` and `T = Σ t`, the loss is one less
///
/// | | | as in |
/// |---|---|---|
/// | [`dice`](Self::dice) | `(2 · I + s) / (P + T + s)` | [pytorch-unet](https://github.com/milesial/Pytorch-UNet/blob/master/utils/dice_score.py), `DiceLoss` of [segmentation_models.pytorch](https://smp.readthedocs.io/en/latest/losses.html) |
/// | [`jaccard`](Self::jaccard) | `(I + s) / (P + T − I + s)` | `JaccardLoss` there |
/// | [`tversky`](Self::tversky) | `(I + s) / (I + α · (P − I) + β · (T − I) + s)` | [Salehi, Erdogmus and Gholipour 2017](https://arxiv.org/abs/1706.05721), `TverskyLoss` there |
///
/// with the smoothing s. A region is a class of an image by default, as for `dice_coeff` of pytorch-unet;
/// [`per_image`](Self::per_image) and [`per_class`](Self::per_class) take more of them together:
///
/// | `per_image` | `per_class` | sums go over | as in |
/// |---|---|---|---|
/// | true | true | H, W | `dice_coeff` |
/// | false | true | N, H, W | segmentation_models.pytorch, which then leaves out classes without targets; `dice_coeff` of each channel with `reduce_batch_first` |
/// | true | false | C, H, W | |
/// | false | false | N, C, H, W | `dice_loss`, which pytorch-unet trains with |
///
/// A region with nothing in it, neither predicted nor in the target, has the loss 0; without smoothing it is NaN. The
/// gradient is that with respect to the logits. A NaN changes the regions that it belongs to alone, but for the softmax
/// every class of its pixel belongs to. The twin is [`reference::region_loss`](crate::reference::region_loss). Sums are
/// taken in an order that depends on the shape alone: the same input gives the same bits on the same adapter.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, RegionLoss};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 2)?;
/// // Both pixels are as likely of class 0 as of class 1: I = ½, P = 1, T = 1 of either.
/// let loss = RegionLoss::dice().gradient(true).run_blocking(&gpu, &logits, &[0.0; 4], &[0u8, 1])?;
/// assert!((loss.value - 0.5).abs() < 1e-5);
/// assert!((loss.gradient.unwrap()[0] + 0.125).abs() < 1e-5);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RegionLoss {
    overlap: Overlap,
    activation: Option<Activation>,
    smoothing: f32,
    per_image: bool,
    per_class: bool,
    ignore_index: Option<i64>,
    reduction: Reduction,
    gradient: bool,
}

/// What a score `(hits · I + s) / (of_hits · I + of_predicted · P + of_truth · T + s)` has of the sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Overlap {
    pub hits: f32,
    pub of_hits: f32,
    pub of_predicted: f32,
    pub of_truth: f32,
}

impl RegionLoss {
    /// The Dice loss with the smoothing of pytorch-unet, 10⁻⁶.
    pub fn dice() -> Self {
        Self::new(Overlap { hits: 2.0, of_hits: 0.0, of_predicted: 1.0, of_truth: 1.0 })
    }

    /// The Jaccard loss, one less the intersection over the union.
    pub fn jaccard() -> Self {
        Self::new(Overlap { hits: 1.0, of_hits: -1.0, of_predicted: 1.0, of_truth: 1.0 })
    }

    /// The Tversky loss: `alpha` is the weight of what is predicted and should not be, `beta` that of what is missed.
    /// With ½ and ½ it is Dice, with twice the smoothing; with 1 and 1 it is Jaccard. Not negative, either of them.
    pub fn tversky(alpha: f32, beta: f32) -> Self {
        Self::new(Overlap { hits: 1.0, of_hits: 1.0 - alpha - beta, of_predicted: alpha, of_truth: beta })
    }

    fn new(overlap: Overlap) -> Self {
        Self {
            overlap,
            activation: None,
            smoothing: 1e-6,
            per_image: true,
            per_class: true,
            ignore_index: None,
            reduction: Reduction::Mean,
            gradient: false,
        }
    }

    /// What makes probabilities of the logits; by default softmax, and sigmoid of a single class.
    /// [`Activation::None`] takes them for probabilities as they are.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// What is added to numerator and denominator, at least 0: 10⁻⁶ by default, often 1.
    pub fn smoothing(self, smoothing: f32) -> Self {
        Self { smoothing, ..self }
    }

    /// Whether every image has regions of its own, or all images of the batch have them together.
    pub fn per_image(self, per_image: bool) -> Self {
        Self { per_image, ..self }
    }

    /// Whether every class is a region, or all of them are one.
    pub fn per_class(self, per_class: bool) -> Self {
        Self { per_class, ..self }
    }

    /// Pixels with this label count for nothing, neither as predicted nor as target; none by default. Does not apply to
    /// targets that are a tensor.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// Mean or sum, over the regions.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether [`run`](Self::run) returns the gradient too, as [`Loss::gradient`]; logits and targets are read twice
    /// then. A dispatch writes it if it has a buffer for it.
    pub fn gradient(self, gradient: bool) -> Self {
        Self { gradient, ..self }
    }

    /// How the score is made of the sums, the smoothing, and the activation for so many classes.
    pub(crate) fn options(&self, classes: u32) -> (Overlap, f32, Activation) {
        let default = if classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
        (self.overlap, self.smoothing, self.activation.unwrap_or(default))
    }

    /// Whether images, and classes, are regions of their own.
    pub(crate) fn regions(&self) -> (bool, bool) {
        (self.per_image, self.per_class)
    }

    /// How the losses of the regions are reduced.
    pub(crate) fn reduces_to(&self) -> Reduction {
        self.reduction
    }

    /// Regions of a tensor: of the images, and of the classes of each of them.
    fn counts(&self, logits: &Logits) -> (u32, u32) {
        let images = if self.per_image { logits.images() } else { 1 };
        (images, if self.per_class { logits.classes() } else { 1 })
    }

    /// Bytes of the losses of all regions that a [`dispatch`](Self::dispatch) writes if it is asked for them, f32.
    ///
    /// ```
    /// use seghead::{Logits, RegionLoss};
    /// let logits = Logits::nchw(2, 21, 33, 33)?;
    /// assert_eq!(RegionLoss::dice().bytes(&logits), 2 * 21 * 4);
    /// assert_eq!(RegionLoss::dice().per_image(false).bytes(&logits), 21 * 4);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn bytes(&self, logits: &Logits) -> u64 {
        let (images, classes) = self.counts(logits);
        u64::from(images) * u64::from(classes) * 4
    }

    /// What labels must be below, and the one that is ignored.
    pub(super) fn labels(&self, classes: u32) -> (u32, Option<i64>) {
        (classes.max(2), self.ignore_index)
    }

    fn check(&self) -> Result<(), Error> {
        let Overlap { of_predicted, of_truth, .. } = self.overlap;
        let numbers = [("smoothing", self.smoothing), ("alpha", of_predicted), ("beta", of_truth)];
        match numbers.into_iter().find(|(_, number)| !(0.0..f32::INFINITY).contains(number)) {
            Some((what, found)) => Err(Error::Value { what, expected: "a finite number of at least 0", found }),
            None => Ok(()),
        }
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`, labels of the C classes,
    /// or of a single class 0 and 1; writes `buffers`.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Value`] for options out of range; [`Error::Limit`] for a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: Targets<'_>,
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(gpu, logits, (input, Against::Labels(targets)), buffers)
    }

    /// [`dispatch`](Self::dispatch) against a tensor of f32 with the sizes and strides of `logits`,
    /// [`Logits::output`], that holds a number for every class of every pixel, in general 0, 1 or between.
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
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(gpu, logits, (input, Against::Soft(targets)), buffers)
    }

    /// Loss of `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type: of the C classes, or of a
    /// single class 0 and 1. Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`; [`Error::Label`] for a target that is neither a class nor the
    /// ignore index, found on the GPU; [`Error::Value`] for options out of range; what the device reports.
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

    /// Loss of `data` against a tensor: `targets` has a number for every class of every pixel, in the order of `data`,
    /// f32 or f16 like it or not.
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
    /// use seghead::{Activation, Gpu, GpuOptions, Logits, RegionLoss};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let loss = RegionLoss::tversky(0.3, 0.7).activation(Activation::Sigmoid);
    /// // I = 1, P = 2, T = 2: 1 / (1 + 0.3 + 0.7)
    /// let loss = loss.run_soft_blocking(&gpu, &Logits::chw(1, 1, 4)?, &[0.0; 4], &[1.0, 0.0, 0.5, 0.5])?;
    /// assert!((loss.value - 0.5).abs() < 1e-5);
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
