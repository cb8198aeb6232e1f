use wgpu::BufferBinding;

use super::loss::{Against, HostLabels, RECORD, REDUCTION, SoftTargets, with_labels, with_soft_targets};
use crate::dispatch::{Bound, bound_or_placeholder, scratch};
use crate::host::Waiting;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::window::Window;
use crate::{
    BinaryCrossEntropy, CrossEntropy, Dispatch, ElementType, Error, FocalLoss, Gpu, Input, Logits, Loss, LossBuffers,
    RegionLoss, Targets, bands,
};

const SOURCE: &str =
    concat!(include_str!("../../shaders/prelude/partials.wgsl"), include_str!("../../shaders/loss_sum.wgsl"));

/// The record of the sum.
pub(crate) static ADD_RECORD: Kernel = Kernel {
    name: "loss sum record",
    source: SOURCE,
    entry: "add_record",
    class_walks: 1,
    bindings: &[binding::TERM_LOSSES, binding::RECORD, binding::RECORD_IN],
    specialisations: |_| vec![REDUCTION],
};

/// The gradient of the first loss, weighted …
pub(crate) static SCALE: Kernel = Kernel {
    name: "loss sum scale",
    source: SOURCE,
    entry: "scale",
    class_walks: 1,
    bindings: &[binding::OUTPUT],
    specialisations,
};

/// … and those of the others, added to it.
pub(crate) static ADD: Kernel = Kernel {
    name: "loss sum add",
    source: SOURCE,
    entry: "add",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations,
};

fn specialisations(_: u32) -> Vec<Specialisation> {
    Access::ALL.map(|access| Specialisation::new(access, ElementType::F32, 0)).to_vec()
}

/// A weighted sum of losses of the same logits and targets, as networks are often trained with, such as ½ of a binary
/// cross-entropy and ½ of a Dice loss.
///
/// Each loss is as its operator has it, with its own options; those that are about what is returned,
/// [`per_pixel`](CrossEntropy::per_pixel) and [`gradient`](CrossEntropy::gradient), do not count here. Against labels
/// [`FocalLoss`] is that of several classes, and against a tensor that of independent labels.
///
/// ```
/// use seghead::{BinaryCrossEntropy, Gpu, GpuOptions, Logits, LossSum, RegionLoss};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let operator = LossSum::new(0.5, BinaryCrossEntropy::new()).add(0.5, RegionLoss::dice()).gradient(true);
/// let loss = operator.run_blocking(&gpu, &Logits::chw(1, 1, 2)?, &[0.0, 0.0], &[1u8, 0])?;
/// assert_eq!(loss.per_term.map(|losses| losses.len()), Some(2));
/// assert!((loss.value - 0.5 * 2f32.ln() - 0.25).abs() < 1e-5);
/// // ½ · (σ(x) − z) / 2 of the one, and −½ · ½ · ¼ · (1 of the pixel, −1 … of the other) of Dice
/// assert_eq!(loss.gradient.map(|gradient| gradient[0] < 0.0 && gradient[1] > 0.0), Some(true));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LossSum {
    terms: Vec<(f32, LossTerm)>,
    gradient: bool,
}

/// A loss that a [`LossSum`] takes.
///
/// ```
/// use seghead::{CrossEntropy, FocalLoss, LossSum, LossTerm};
/// let extra: Option<LossTerm> = Some(FocalLoss::new().into());
/// let sum = LossSum::new(1.0, CrossEntropy::new());
/// let sum = extra.into_iter().fold(sum, |sum, loss| sum.add(0.1, loss));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LossTerm {
    /// Cross-entropy of the softmax.
    CrossEntropy(CrossEntropy),
    /// Binary cross-entropy of every element.
    BinaryCrossEntropy(BinaryCrossEntropy),
    /// Dice, Jaccard or Tversky.
    Region(RegionLoss),
    /// Focal loss.
    Focal(FocalLoss),
}

impl From<CrossEntropy> for LossTerm {
    fn from(loss: CrossEntropy) -> Self {
        Self::CrossEntropy(loss)
    }
}

impl From<BinaryCrossEntropy> for LossTerm {
    fn from(loss: BinaryCrossEntropy) -> Self {
        Self::BinaryCrossEntropy(loss)
    }
}

impl From<RegionLoss> for LossTerm {
    fn from(loss: RegionLoss) -> Self {
        Self::Region(loss)
    }
}

impl From<FocalLoss> for LossTerm {
    fn from(loss: FocalLoss) -> Self {
        Self::Focal(loss)
    }
}

impl LossTerm {
    /// What labels must be below, and the one that is ignored.
    fn labels(&self, classes: u32) -> (u32, Option<i64>) {
        match self {
            Self::CrossEntropy(loss) => loss.labels(classes),
            Self::BinaryCrossEntropy(loss) => loss.labels(classes),
            Self::Region(loss) => loss.labels(classes),
            Self::Focal(loss) => loss.labels(classes),
        }
    }

    fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        inputs: (BufferBinding<'_>, Against<'_>),
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        match self {
            Self::CrossEntropy(loss) => loss.dispatch_against(gpu, logits, inputs, buffers),
            Self::BinaryCrossEntropy(loss) => loss.dispatch_against(gpu, logits, inputs, buffers),
            Self::Region(loss) => loss.dispatch_against(gpu, logits, inputs, buffers),
            Self::Focal(loss) => loss.dispatch_against(gpu, logits, inputs, buffers),
        }
    }

    async fn run(
        &self,
        gpu: &Gpu,
        inputs: (&Logits, &mut Input<'_>),
        targets: impl super::loss::HostTargets,
        (gradient, waiting): (bool, Waiting),
    ) -> Result<Loss, Error> {
        match self {
            Self::CrossEntropy(loss) => {
                let loss = loss.clone().per_pixel(false).gradient(gradient);
                loss.run_against(gpu, inputs, targets, waiting).await
            }
            Self::BinaryCrossEntropy(loss) => {
                let loss = loss.clone().per_element(false).gradient(gradient);
                loss.run_against(gpu, inputs, targets, waiting).await
            }
            Self::Region(loss) => loss.clone().gradient(gradient).run_against(gpu, inputs, targets, waiting).await,
            Self::Focal(loss) => {
                let loss = loss.clone().single(false).gradient(gradient);
                loss.run_against(gpu, inputs, targets, waiting).await
            }
        }
    }
}

impl LossSum {
    /// `weight` times `loss`.
    pub fn new(weight: f32, loss: impl Into<LossTerm>) -> Self {
        Self { terms: vec![(weight, loss.into())], gradient: false }
    }

    /// And `weight`, a finite number, times `loss`.
    pub fn add(mut self, weight: f32, loss: impl Into<LossTerm>) -> Self {
        self.terms.push((weight, loss.into()));
        self
    }

    /// Whether [`run`](Self::run) returns the gradient of the sum with respect to the logits too, as [`Loss::gradient`]. A
    /// dispatch writes it if it has a buffer for it.
    pub fn gradient(self, gradient: bool) -> Self {
        Self { gradient, ..self }
    }

    /// Bytes of the single losses that a [`dispatch`](Self::dispatch) writes if it is asked for them, f32, in the order of
    /// the terms and before they are weighted.
    ///
    /// ```
    /// use seghead::{CrossEntropy, LossSum, RegionLoss};
    /// assert_eq!(LossSum::new(1.0, CrossEntropy::new()).add(0.5, RegionLoss::dice()).bytes(), 8);
    /// ```
    pub fn bytes(&self) -> u64 {
        self.terms.len() as u64 * 4
    }

    fn check(&self) -> Result<(), Error> {
        match self.terms.iter().find(|(weight, _)| !weight.is_finite()) {
            Some(&(found, _)) => Err(Error::Value { what: "weight of a loss", expected: "a finite number", found }),
            None => Ok(()),
        }
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and `targets`; writes `buffers`, the losses
    /// those of the terms. Of the [`LossRecord`](crate::LossRecord), `weight` is the sum of the weights and `valid` that of
    /// the first loss. With a gradient, every loss but the first takes a tensor of the size of the logits for its own,
    /// one for all of them.
    ///
    /// # Errors
    ///
    /// Those of the losses; [`Error::Value`] for a weight that is not finite.
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

    /// [`dispatch`](Self::dispatch) against a tensor of f32 with the sizes and strides of `logits`, [`Logits::output`], that
    /// holds a number for every class of every pixel.
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

    fn dispatch_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        (input, against): (BufferBinding<'_>, Against<'_>),
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.check()?;
        let LossBuffers { record, losses, gradient } = buffers;
        let sum = Bound::new(gpu, binding::RECORD, record.clone(), RECORD)?;
        let losses = match losses {
            Some(losses) => {
                let losses = Bound::new(gpu, binding::TERM_LOSSES, losses, self.bytes())?;
                for other in tensors(gpu, logits, (&input, &against), gradient.as_ref())? {
                    losses.check_apart(&other)?;
                }
                losses
            }
            None => Bound::placeholder(gpu, binding::TERM_LOSSES),
        };
        let several = self.terms.len() > 1;
        let of_term = if several { Some(scratch(gpu, "loss record of a term", RECORD)?) } else { None };
        let gradient_of_term = match &gradient {
            Some(_) if several => Some(scratch(gpu, "gradient of a term", logits.output().bytes())?),
            _ => None,
        };
        let mut dispatch = Dispatch::new();
        for (i, (weight, term)) in self.terms.iter().enumerate() {
            let (own, own_gradient) = match (&of_term, &gradient_of_term) {
                (Some(record), gradient) if i > 0 => {
                    let gradient = gradient.as_ref().map(wgpu::Buffer::as_entire_buffer_binding);
                    (record.as_entire_buffer_binding(), gradient)
                }
                _ => (record.clone(), gradient.clone()),
            };
            let buffers = LossBuffers { record: own, losses: None, gradient: own_gradient };
            dispatch.append(term.dispatch(gpu, logits, (input.clone(), against.clone()), buffers)?);
            if let Some(to) = &gradient {
                let from = gradient_of_term.as_ref().filter(|_| i > 0);
                push_weighted(gpu, &mut dispatch, logits, *weight, from, to.clone())?;
            }
            let added = bound_or_placeholder(gpu, binding::RECORD_IN, of_term.as_ref().filter(|_| i > 0))?;
            let params = Params { chosen_class: i as u32, weight: *weight, ..Params::default() };
            dispatch.push(gpu, (&ADD_RECORD, REDUCTION), params, &[losses.clone(), sum.clone(), added], (1, 1))?;
        }
        Ok(dispatch)
    }

    /// Weighted sum of the losses of `data`, N × C × H × W, against `targets`, N × H × W labels of any integer type. Somebody
    /// else polls the device, as for [`Readback`](crate::Readback). The logits are read once for each loss, and what the
    /// losses are is returned as [`Loss::per_term`].
    ///
    /// # Errors
    ///
    /// Those of the losses; [`Error::Value`] for a weight that is not finite.
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
        self.check()?;
        let (logits, mut input, _) = with_labels(logits, data, targets, (1, None))?;
        let mut sum = Sum::new(self.gradient);
        for (weight, term) in &self.terms {
            let (classes, ignored) = term.labels(logits.classes());
            let targets = HostLabels::new(targets, classes, ignored);
            sum.add(*weight, term.run(gpu, (&logits, &mut input), targets, (self.gradient, waiting)).await?);
        }
        Ok(sum.loss())
    }

    /// Weighted sum of the losses of `data` against a tensor: `targets` has a number for every class of every pixel, in the
    /// order of `data`, f32 or f16 like it or not.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
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
    /// use seghead::{BinaryCrossEntropy, FocalLoss, Gpu, GpuOptions, Logits, LossSum};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let sum = LossSum::new(1.0, BinaryCrossEntropy::new()).add(2.0, FocalLoss::new());
    /// let loss = sum.run_soft_blocking(&gpu, &Logits::chw(2, 1, 1)?, &[0.0, 0.0], &[1.0, 0.5])?;
    /// assert!((loss.value - 1.5 * 2f32.ln()).abs() < 1e-5);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
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
        self.check()?;
        let (logits, mut input, SoftTargets(mut targets)) = with_soft_targets(logits, data, targets)?;
        let mut sum = Sum::new(self.gradient);
        for (weight, term) in &self.terms {
            let targets = SoftTargets(targets.again());
            sum.add(*weight, term.run(gpu, (&logits, &mut input), targets, (self.gradient, waiting)).await?);
        }
        Ok(sum.loss())
    }
}

/// The tensors and maps of the losses, bound to be compared with what else is written.
fn tensors<'a>(
    gpu: &Gpu,
    logits: &Logits,
    (input, against): (&BufferBinding<'a>, &Against<'a>),
    gradient: Option<&BufferBinding<'a>>,
) -> Result<Vec<Bound<'a>>, Error> {
    let of_output = logits.output().bytes();
    let (targets, of_targets) = match against {
        Against::Labels(targets) => (&targets.buffer, logits.map().bytes(targets.label_type().bits())),
        Against::Soft(targets) => (targets, of_output),
    };
    let all = [(binding::LOGITS, input, logits.bytes()), (binding::TARGET, targets, of_targets)];
    let all = all.into_iter().chain(gradient.map(|gradient| (binding::GRADIENT, gradient, of_output)));
    all.map(|(binding, buffer, bytes)| Bound::all(gpu, binding, buffer.clone(), bytes)).collect()
}

/// Multiplies what lies at `to` by `weight`, or adds `weight` times `from` to it.
fn push_weighted(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    logits: &Logits,
    weight: f32,
    from: Option<&wgpu::Buffer>,
    to: BufferBinding<'_>,
) -> Result<(), Error> {
    let shape = logits.output();
    let bands = bands::for_dispatch(gpu, &shape)?;
    let to = Window::new(gpu, to, &shape, &bands)?;
    let from = match from {
        Some(from) => Some(Window::new(gpu, from.as_entire_buffer_binding(), &shape, &bands)?),
        None => None,
    };
    for band in &bands {
        let (output, part) = to.read_as(gpu, dispatch, binding::OUTPUT, band)?;
        let (added, read) = match &from {
            Some(from) => {
                let (added, read) = from.read(gpu, dispatch, band)?;
                (Some(added), read)
            }
            None => (None, part),
        };
        let params = Params { weight, ..Params::new(&read).with_output(&part) };
        let in_fours = params.reads_in_fours() && params.writes_in_fours(part.is_cropped());
        let key = Specialisation::new(Access::choose(gpu, in_fours), ElementType::F32, 0);
        let kernel = if added.is_some() { &ADD } else { &SCALE };
        let buffers: Vec<_> = added.into_iter().chain([output]).collect();
        dispatch.push(gpu, (kernel, key), params, &buffers, (params.groups, part.images()))?;
        to.finish(gpu, dispatch, band)?;
    }
    Ok(())
}

/// What the losses add up to on the host.
struct Sum {
    value: f64,
    per_term: Vec<f32>,
    gradient: Option<Vec<f64>>,
    /// The first of them.
    first: Option<Loss>,
}

impl Sum {
    fn new(gradient: bool) -> Self {
        Self { value: 0.0, per_term: Vec::new(), gradient: gradient.then(Vec::new), first: None }
    }

    fn add(&mut self, weight: f32, mut loss: Loss) {
        let weight = f64::from(weight);
        self.value += weight * f64::from(loss.value);
        self.per_term.push(loss.value);
        if let (Some(sum), Some(gradient)) = (&mut self.gradient, loss.gradient.take()) {
            sum.resize(gradient.len(), 0.0);
            sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += weight * f64::from(x));
        }
        self.first.get_or_insert(loss);
    }

    fn loss(self) -> Loss {
        let (pixels, ignored) = self.first.map_or((0, 0), |first| (first.pixels, first.ignored));
        let gradient = self.gradient.map(|gradient| gradient.into_iter().map(|x| x as f32).collect());
        Loss { per_term: Some(self.per_term), gradient, ..Loss::new(self.value as f32, pixels, ignored) }
    }
}
