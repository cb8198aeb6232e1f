//! Losses that are sums over pixels or elements: what is common to their dispatches and one-shot functions.

use wgpu::{Buffer, BufferBinding};

use super::against::{Against, ignore_index_in_32_bits};
use super::host::{self, HostLoss, Results};
use super::host_targets::HostTargets;
use super::partials::{PartialSums, RECORD, partials_of_image, total_weight};
use super::{Loss, LossBuffers, Reduction};
use crate::bands::{self, Band};
use crate::dispatch::Bound;
use crate::host::{Slot, Waiting, take_band};
use crate::kernel::{Access, Binding, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::window::{Planes, Window};
use crate::{Dispatch, Error, Gpu, Input, LabelType, Logits};

/// A loss whose kernels leave partial sums of pixels or elements.
pub(crate) trait PixelLoss {
    fn asked(&self) -> Asked;

    fn ignore_index(&self) -> Option<i64>;

    /// Whether the single losses against such targets are those of elements, not of pixels.
    fn per_element(&self, soft: bool) -> bool;

    /// What the mean is divided by, as the targets tell it.
    fn total(&self, logits: &Logits, targets: &impl HostTargets) -> f64;

    /// The same, where the shape alone tells it.
    fn total_of_shape(&self, _logits: &Logits, _soft: bool) -> Option<f64> {
        None
    }

    /// Leaves partial sums, and writes the single losses where they are wanted.
    fn push_losses(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<PartialSums, Error>;

    /// Writes the gradient; `total` is a record with what the mean is divided by.
    fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        to: (BufferBinding<'_>, Bound<'_>),
    ) -> Result<(), Error>;

    /// Leaves partial sums, and writes the gradient.
    fn push_both(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        to: (BufferBinding<'_>, Bound<'_>),
    ) -> Result<PartialSums, Error> {
        self.push_gradient(gpu, dispatch, inputs, to)?;
        self.push_losses(gpu, dispatch, inputs, None)
    }
}

/// How a loss is reduced, and whether the one-shot functions return the single losses and the gradient too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub reduction: Reduction,
    pub single: bool,
    pub gradient: bool,
}

/// What a loss reads.
#[derive(Clone)]
pub(crate) struct Inputs<'a> {
    pub logits: Logits,
    pub input: BufferBinding<'a>,
    pub against: Against<'a>,
    /// The record that the dispatch writes in the end, which no buffer that it reads may be.
    pub record: Option<Bound<'a>>,
}

/// What a kernel writes beside its partial sums.
pub(crate) enum Output<'a> {
    Nothing(Binding),
    /// A number for every pixel.
    Map(BufferBinding<'a>, Binding),
    /// A number for every element.
    Tensor(BufferBinding<'a>, Binding),
}

/// What a kernel binds of a band, with its parameters and what is specialised for all losses alike.
pub(crate) struct OfBand<'a> {
    pub input: Bound<'a>,
    /// The far half of an image that is bound in halves.
    pub far: Bound<'a>,
    pub targets: Bound<'a>,
    pub written: Bound<'a>,
    pub params: Params,
    pub key: Specialisation,
    pub images: u32,
}

impl Inputs<'_> {
    pub fn is_soft(&self) -> bool {
        matches!(self.against, Against::Soft(_))
    }

    /// The bands that can be bound, with soft targets or a tensor that is written.
    pub fn bands(&self, gpu: &Gpu, tensor: bool) -> Result<Vec<Band>, Error> {
        bands::for_dispatch(gpu, &if tensor || self.is_soft() { self.logits.output() } else { self.logits })
    }

    /// The bands of a kernel that takes images in halves where they are too big, and whether they are.
    pub fn bands_in_halves(&self, gpu: &Gpu) -> Result<(Vec<Band>, bool), Error> {
        let halves = if self.is_soft() { None } else { bands::in_halves(gpu, &[&self.logits]) };
        match halves {
            Some(images) => Ok((images, true)),
            None => Ok((self.bands(gpu, false)?, false)),
        }
    }

    /// Calls `push` for every band; with `halves`, each is an image that is bound in two.
    pub fn each_band(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (bands, halves): (&[Band], bool),
        (loss, output): (&impl PixelLoss, Output<'_>),
        mut push: impl FnMut(&mut Dispatch, usize, OfBand<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let logits = &self.logits;
        let map = logits.map();
        let ignore_index = ignore_index_in_32_bits(loss.ignore_index());
        let window = match halves {
            true => Window::of_halves(self.input.clone(), logits),
            false => Window::new(gpu, self.input.clone(), logits, bands)?,
        };
        let targets = self.against.source(gpu, logits, bands)?;
        let tensor = match &output {
            Output::Tensor(buffer, _) => Some(Window::new(gpu, buffer.clone(), &logits.output(), bands)?),
            _ => None,
        };
        let labels = match &self.against {
            Against::Labels(targets) => targets.label_type(),
            Against::Soft(_) => LabelType::U8,
        };
        for (i, band) in bands.iter().enumerate() {
            let Planes { near: input, far, image: part, halves } = window.read_planes(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let (targets, params) = targets.read(gpu, dispatch, band, (&map, &groups), Params::new(&part))?;
            let mut params = Params {
                map_offset: groups.offset(),
                first_pixel: band.image * logits.pixels() + band.pixel,
                pixels: logits.pixels(),
                partials: partials_of_image(params.groups),
                has_ignore_index: u32::from(ignore_index.is_some()),
                ignore_index: ignore_index.unwrap_or(0),
                reduction: u32::from(loss.asked().reduction == Reduction::Mean),
                ..params.with_halves(halves.as_ref())
            };
            let mut cropped = false;
            let written = match (&output, &tensor) {
                (Output::Tensor(_, binding), Some(tensor)) => {
                    let (written, to) = tensor.write_as(gpu, *binding, band)?;
                    (params, cropped) = (params.with_output(&to), to.is_cropped());
                    written
                }
                (Output::Map(buffer, binding), _) => {
                    Bound::part(gpu, *binding, buffer.clone(), map.bytes(32), groups.bytes(32))?
                }
                (Output::Nothing(binding) | Output::Tensor(_, binding), _) => Bound::placeholder(gpu, *binding),
            };
            if let Some(record) = &self.record {
                [&input, &targets, &written].into_iter().try_for_each(|other| record.check_apart(other))?;
            }
            // Beside labels nothing else may be read or written than maps.
            let maps = !self.is_soft() && tensor.is_none();
            let in_fours = params.reads_in_fours() && (maps || params.writes_in_fours(cropped));
            let access = Access::choose(gpu, in_fours);
            let key = Specialisation::new(access, part.element_type(), 0);
            let key = Specialisation { labels, halves: halves.is_some(), ..key };
            push(dispatch, i, OfBand { input, far, targets, written, params, key, images: band.images })?;
            if let Some(tensor) = &tensor {
                tensor.finish(gpu, dispatch, band)?;
            }
        }
        Ok(())
    }
}

/// Makes the work of a loss ready to be recorded.
pub(crate) fn dispatch(
    loss: &impl PixelLoss,
    gpu: &Gpu,
    logits: &Logits,
    (input, against): (BufferBinding<'_>, Against<'_>),
    buffers: LossBuffers<'_>,
) -> Result<Dispatch, Error> {
    let LossBuffers { record: to, losses, gradient } = buffers;
    // The record must be none of the inputs, although only the last kernels write and read it.
    let record = Bound::new(gpu, binding::RECORD, to.clone(), RECORD)?;
    let inputs = Inputs { logits: *logits, input, against, record: Some(record.clone()) };
    let reduction = (logits, loss.asked().reduction);
    let mut dispatch = Dispatch::new();
    match (gradient, loss.total_of_shape(logits, inputs.is_soft()), losses) {
        (Some(gradient), Some(total), None) => {
            let total = total_weight(gpu, total)?;
            let to = (gradient, Bound::whole(gpu, binding::TOTAL, &total)?);
            loss.push_both(gpu, &mut dispatch, &inputs, to)?.finish(gpu, &mut dispatch, reduction, record)?;
        }
        (gradient, _, losses) => {
            let sums = loss.push_losses(gpu, &mut dispatch, &inputs, losses)?;
            sums.finish(gpu, &mut dispatch, reduction, record)?;
            if let Some(gradient) = gradient {
                let total = Bound::new(gpu, binding::TOTAL, to, RECORD)?;
                loss.push_gradient(gpu, &mut dispatch, &inputs, (gradient, total))?;
            }
        }
    }
    Ok(dispatch)
}

/// The loss of logits as they lie on the host.
pub(crate) async fn run(
    loss: &impl PixelLoss,
    gpu: &Gpu,
    (logits, input): (&Logits, &mut Input<'_>),
    targets: impl HostTargets,
    waiting: Waiting,
) -> Result<Loss, Error> {
    let Asked { reduction, single, gradient } = loss.asked();
    let per_element = loss.per_element(targets.is_soft());
    let result = logits.resized(logits.images(), logits.height(), logits.width())?;
    let single = single.then(|| match per_element {
        true => vec![0.0; result.len() as usize],
        false => Vec::with_capacity(logits.map().pixels()),
    });
    let total = if gradient && reduction == Reduction::Mean { loss.total(logits, &targets) } else { 1.0 };
    let mut losses = Losses { loss, targets, total: total_weight(gpu, total)?, result, per_element, single };
    let found = host::run(gpu, waiting, (logits, input), (reduction, gradient), &mut losses).await?;
    let (per_pixel, per_element) = if per_element { (None, losses.single) } else { (losses.single, None) };
    Ok(Loss { per_pixel, per_element, ..found })
}

struct Losses<'a, L, T> {
    loss: &'a L,
    targets: T,
    /// A record with what the gradient is divided by.
    total: Buffer,
    /// The shape of losses of elements.
    result: Logits,
    per_element: bool,
    single: Option<Vec<f32>>,
}

impl<L: PixelLoss, T: HostTargets> HostLoss for Losses<'_, L, T> {
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        // The tensors that are written are f32, whatever the logits are.
        let single = self.single.is_some();
        let tensor = self.loss.asked().gradient || single && self.per_element;
        let map_bits = if single && !self.per_element { 32 } else { 0 };
        self.targets.bands(gpu, &if tensor { logits.output() } else { *logits }, map_bits)
    }

    fn uploads(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        self.targets.buffers(shape)
    }

    fn losses(&self, shape: &Logits) -> Option<u64> {
        let bytes = || if self.per_element { shape.output().bytes() } else { shape.map().bytes(32) };
        self.single.as_ref().map(|_| bytes())
    }

    fn push(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &Slot,
        (whole, band): (&Logits, &Band),
        results: Results<'_>,
    ) -> Result<PartialSums, Error> {
        let against = self.targets.upload(gpu, dispatch, slot, (whole, band))?;
        let input = slot.logits.as_entire_buffer_binding();
        let inputs = Inputs { logits: band.shape(whole)?, input, against, record: None };
        let Some(gradient) = results.gradient else {
            return self.loss.push_losses(gpu, dispatch, &inputs, results.losses);
        };
        let to = (gradient, Bound::whole(gpu, binding::TOTAL, &self.total)?);
        if results.losses.is_none() {
            return self.loss.push_both(gpu, dispatch, &inputs, to);
        }
        self.loss.push_gradient(gpu, dispatch, &inputs, to)?;
        self.loss.push_losses(gpu, dispatch, &inputs, results.losses)
    }

    fn take(&mut self, (whole, band): (&Logits, &Band), losses: &[f32]) -> Result<(), Error> {
        let shape = band.shape(whole)?;
        match &mut self.single {
            Some(single) if self.per_element => take_band(&self.result, band, &shape, (losses, single)),
            Some(single) => shape.map().unpad_into(losses, single),
            None => {}
        }
        Ok(())
    }

    fn invalid(&self, position: usize) -> Error {
        self.targets.invalid(position)
    }
}
