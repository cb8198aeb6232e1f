use wgpu::{Buffer, BufferBinding};

use super::loss::{PartialSums, RECORD, SoftTargets, Written, partials_of_image, total_weight};
use crate::bands;
use crate::dispatch::{Bound, constants};
use crate::host::{Waiting, check_length, logits_of};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, Reduction};

mod host;

pub(crate) static ELEMENTS: Kernel = Kernel {
    name: "binary cross-entropy elements",
    source: concat!(
        include_str!("../../shaders/prelude/partials.wgsl"),
        include_str!("../../shaders/binary_cross_entropy.wgsl")
    ),
    entry: "elements",
    // For each of GROUPS groups.
    class_walks: 4,
    bindings: &[
        binding::LOGITS,
        binding::LOSSES,
        binding::TARGET,
        binding::POS_WEIGHT,
        binding::PARTIALS_OUT,
        binding::TOTAL,
    ],
    specialisations: |_| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for pos_weight in [false, true] {
                let plain = Specialisation { pos_weight, ..Specialisation::new(access, element, 0) };
                let per_element = Specialisation { per_element: true, ..plain };
                all.extend([plain, per_element, Specialisation { gradient: true, ..plain }]);
            }
        }
        all
    },
};

/// Binary cross-entropy straight from logits: what binary and multi-label networks are trained with. It contains the
/// sigmoid, so that its input is never a sigmoid.
///
/// Per element, with its logit x, its target z, in general a probability, and the weight p of positive targets of its
/// class, `(1 − z) · x + (1 + (p − 1) · z) · (log(1 + e^−|x|) + max(−x, 0))` as in
/// [`torch.nn.BCEWithLogitsLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html). It
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BinaryCrossEntropy {
    pos_weight: Option<Vec<f32>>,
    reduction: Reduction,
    per_element: bool,
    gradient: bool,
}

impl BinaryCrossEntropy {
    /// The operator with PyTorch's defaults: the mean, no weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// A weight of positive targets per class, C of them: above 1 it is for recall, below for precision.
    pub fn pos_weight(self, pos_weight: Option<Vec<f32>>) -> Self {
        Self { pos_weight, ..self }
    }

    /// Mean or sum, over all N × C × H × W elements.
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
    /// Per element it is `(1 − z) · σ(x) − p · z · σ(−x)` with the sigmoid σ, over the number of elements for the mean;
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

    fn check(&self, logits: &Logits) -> Result<(), Error> {
        match &self.pos_weight {
            Some(weights) => check_length("pos weight", logits.classes().into(), weights.len() as u64),
            None => Ok(()),
        }
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
        let written = losses.map_or(Written::Nothing, Written::Losses);
        self.dispatch_written(gpu, logits, (input, targets, written), record)
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
        let total = self.total(gpu, logits)?;
        self.dispatch_written(gpu, logits, (input, targets, Written::Gradient(gradient, &total)), record)
    }

    fn dispatch_written(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        inputs: (BufferBinding<'_>, BufferBinding<'_>, Written<'_>),
        record: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        // The record must be none of the inputs, although only the last kernel writes it.
        let record = Bound::new(gpu, binding::RECORD, record, RECORD)?;
        let mut dispatch = Dispatch::new();
        let sums = self.push_elements(gpu, &mut dispatch, logits, inputs, Some(&record))?;
        sums.finish(gpu, &mut dispatch, (logits, self.reduction), record)?;
        Ok(dispatch)
    }

    /// What the gradient is divided by.
    fn total(&self, gpu: &Gpu, logits: &Logits) -> Result<Buffer, Error> {
        total_weight(gpu, logits.map().pixels() as f64 * f64::from(logits.classes()))
    }

    /// Leaves the partial sums of all elements, and returns them.
    fn push_elements(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (input, targets, written): (BufferBinding<'_>, BufferBinding<'_>, Written<'_>),
        record: Option<&Bound<'_>>,
    ) -> Result<PartialSums, Error> {
        self.check(logits)?;
        let output = logits.output();
        let bands = bands::for_dispatch(gpu, &output)?;
        let input = Window::new(gpu, input, logits, &bands)?;
        let targets = Window::new(gpu, targets, &output, &bands)?;
        let (per_element, gradient) = (matches!(written, Written::Losses(_)), matches!(written, Written::Gradient(..)));
        let (written, total) = match written {
            Written::Nothing => (None, Bound::placeholder(gpu, binding::TOTAL)),
            Written::Losses(losses) => (Some((losses, binding::LOSSES)), Bound::placeholder(gpu, binding::TOTAL)),
            Written::Gradient(gradient, total) => {
                (Some((gradient, binding::GRADIENT)), Bound::whole(gpu, binding::TOTAL, total)?)
            }
        };
        let written = match written {
            Some((buffer, binding)) => Some((Window::new(gpu, buffer, &output, &bands)?, binding)),
            None => None,
        };
        let weights = match &self.pos_weight {
            Some(weights) => Some(constants(gpu, "pos weight", bytemuck::cast_slice(weights))?),
            None => None,
        };
        let weights = match &weights {
            Some(weights) => Bound::whole(gpu, binding::POS_WEIGHT, weights)?,
            None => Bound::placeholder(gpu, binding::POS_WEIGHT),
        };
        let sums = PartialSums::new(gpu, logits, &bands)?;
        for (i, band) in bands.iter().enumerate() {
            let (input, from) = input.read(gpu, dispatch, band)?;
            let (targets, to) = targets.read_as(gpu, dispatch, binding::TARGET, band)?;
            let results = match &written {
                Some((window, binding)) => window.write_as(gpu, *binding, band)?.0,
                None => Bound::placeholder(gpu, binding::LOSSES),
            };
            if let Some(record) = record {
                for other in [&input, &targets, &results] {
                    record.check_apart(other)?;
                }
            }
            let params = Params::new(&from).with_output(&to);
            let reduction = u32::from(self.reduction == Reduction::Mean);
            let params = Params { partials: partials_of_image(params.groups), reduction, ..params };
            let writes = written.is_some() && to.is_cropped();
            let in_fours = params.reads_in_fours() && params.writes_in_fours(writes);
            let specialisation = Specialisation {
                pos_weight: self.pos_weight.is_some(),
                per_element,
                gradient,
                ..Specialisation::new(Access::choose(gpu, in_fours), from.element_type(), 0)
            };
            let buffers = [input, results, targets, weights.clone(), sums.of_band(gpu, i)?, total.clone()];
            let invocations = (params.partials, from.images());
            dispatch.push(gpu, (&ELEMENTS, specialisation), params, &buffers, invocations)?;
            if let Some((window, _)) = &written {
                window.finish(gpu, dispatch, band)?;
            }
        }
        Ok(sums)
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
        self.check(logits)?;
        let (mut input, targets) = (data.into(), targets.into());
        let logits = logits_of(logits, &input)?;
        check_length("targets", logits.len().into(), targets.elements())?;
        self.run_against(gpu, &logits, &mut input, SoftTargets(targets), waiting).await
    }
}
