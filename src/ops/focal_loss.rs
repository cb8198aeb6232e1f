use wgpu::BufferBinding;

use super::loss::{self, Against, HostTargets};
use crate::host::Waiting;
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, LossBuffers, Reduction, Targets};

mod pixels;

pub(crate) use pixels::{ELEMENT_GRADIENT, ELEMENTS, PIXEL_GRADIENT, PIXELS};

/// Focal loss straight from logits ([Lin et al. 2017](https://arxiv.org/abs/1708.02002)): a cross-entropy that counts
/// less the surer a prediction is of its target, for classes that are rare.
///
/// Of several classes, per pixel with the softmax p and the target class t, `−α · (1 − p[t])^γ · log p[t]`:
/// [`run`](Self::run), [`dispatch`](Self::dispatch). Of independent labels, per element with the sigmoid p and its target
/// z, as
/// [`torchvision.ops.sigmoid_focal_loss`](https://docs.pytorch.org/vision/stable/generated/torchvision.ops.sigmoid_focal_loss.html),
/// `(α · z + (1 − α) · (1 − z)) · (1 − p_z)^γ` times the binary cross-entropy with `p_z = p · z + (1 − p) · (1 − z)`:
/// [`run_binary`](Self::run_binary), [`dispatch_binary`](Self::dispatch_binary). γ is 2 by default, and there is no α;
/// torchvision's is 0.25. The mean is that over the pixels that are not ignored, or over the elements.
///
/// The twins are [`reference::focal_loss`](crate::reference::focal_loss) and
/// [`reference::binary_focal_loss`](crate::reference::binary_focal_loss). Sums are taken in an order that depends on the
/// shape alone: the same input gives the same bits on the same adapter.
///
/// ```
/// use seghead::{FocalLoss, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let loss = FocalLoss::new().run_blocking(&gpu, &Logits::chw(2, 1, 1)?, &[0.0, 0.0], &[1u8])?;
/// assert!((loss.value - 0.25 * 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FocalLoss {
    gamma: f32,
    alpha: Option<f32>,
    ignore_index: Option<i64>,
    reduction: Reduction,
    single: bool,
    gradient: bool,
}

impl Default for FocalLoss {
    fn default() -> Self {
        Self {
            gamma: 2.0,
            alpha: None,
            ignore_index: Some(-100),
            reduction: Reduction::Mean,
            single: false,
            gradient: false,
        }
    }
}

impl FocalLoss {
    /// The operator with γ = 2, without α: the mean, ignore index −100.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much less a sure prediction counts, at least 0; with 0 it is the cross-entropy.
    pub fn gamma(self, gamma: f32) -> Self {
        Self { gamma, ..self }
    }

    /// Of several classes a factor, at least 0; of independent labels the weight of positive targets, in 0..=1, beside
    /// 1 − α of negative ones.
    pub fn alpha(self, alpha: Option<f32>) -> Self {
        Self { alpha, ..self }
    }

    /// Pixels with this target count for nothing, even where it is the index of a class. Does not apply to independent
    /// labels.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// Mean or sum.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether [`run`](Self::run) returns the loss of every pixel too, as [`Loss::per_pixel`], and
    /// [`run_binary`](Self::run_binary) that of every element, as [`Loss::per_element`].
    pub fn single(self, single: bool) -> Self {
        Self { single, ..self }
    }

    /// Whether they return the gradient too, as [`Loss::gradient`].
    pub fn gradient(self, gradient: bool) -> Self {
        Self { gradient, ..self }
    }

    fn check(&self, binary: bool) -> Result<(), Error> {
        if !(0.0..f32::INFINITY).contains(&self.gamma) {
            return Err(Error::Value { what: "gamma", expected: "a finite number of at least 0", found: self.gamma });
        }
        match self.alpha {
            Some(found) if binary && !(0.0..=1.0).contains(&found) => {
                Err(Error::Value { what: "alpha", expected: "a number in 0..=1", found })
            }
            Some(found) if !(0.0..f32::INFINITY).contains(&found) => {
                Err(Error::Value { what: "alpha", expected: "a finite number of at least 0", found })
            }
            _ => Ok(()),
        }
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`; writes `buffers`, the
    /// losses those of the pixels, f32 with the geometry of [`Logits::map`].
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

    /// [`dispatch`](Self::dispatch) of independent labels: `targets` is a tensor of f32 with the sizes and strides of
    /// `logits`, [`Logits::output`], as the losses are.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_binary(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        targets: BufferBinding<'_>,
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_against(gpu, logits, (input, Against::Soft(targets)), buffers)
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
        self.check(matches!(against, Against::Soft(_)))?;
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
        self.check(targets.is_soft())?;
        let operator = Self { ignore_index: targets.ignore_index(), ..self.clone() };
        loss::run(&operator, gpu, (logits, input), targets, waiting).await
    }

    /// Loss of `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type. Somebody else polls the
    /// device, as for [`Readback`](crate::Readback).
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

    /// Loss of `data` of independent labels: `targets` has a number for every element, in the order of `data`, f32 or
    /// f16 like it or not.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`; [`Error::Value`] for options out of range; what the device
    /// reports.
    pub async fn run_binary<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        self.run_binary_with(gpu, logits, data, targets, Waiting::Async).await
    }

    /// [`run_binary`](Self::run_binary) that waits for the device itself.
    ///
    /// ```
    /// use seghead::{FocalLoss, Gpu, GpuOptions, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let loss = FocalLoss::new().alpha(Some(0.25));
    /// let loss = loss.run_binary_blocking(&gpu, &Logits::chw(1, 1, 2)?, &[0.0, 0.0], &[0.0, 1.0])?;
    /// assert!((loss.value - 0.125 * 2f32.ln()).abs() < 1e-6);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run_binary`](Self::run_binary).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_binary_blocking<'a, 'b>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        targets: impl Into<Input<'b>>,
    ) -> Result<Loss, Error> {
        pollster::block_on(self.run_binary_with(gpu, logits, data, targets, Waiting::Block))
    }

    async fn run_binary_with<'a, 'b>(
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
