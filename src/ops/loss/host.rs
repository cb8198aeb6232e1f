//! The one-shot functions of the losses: from logits and targets on the host to what the losses of the bands add up to.

use wgpu::{Buffer, BufferBinding};

use super::partials::{NONE, PartialSums, RECORD, block_sums};
use super::{Loss, LossRecord, Reduction};
use crate::bands::Band;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::Params;
use crate::{Dispatch, Error, Gpu, Input, Logits};

/// A loss, with its targets, as it goes through the GPU band by band.
pub(crate) trait HostLoss {
    /// Bands of the logits that fit the GPU with all that goes with them.
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error>;

    /// The buffers beside the logits that a band of this shape takes.
    fn uploads(&self, shape: &Logits) -> Vec<(&'static str, u64)>;

    /// Bytes of the single losses of a band of this shape, if they were asked for.
    fn losses(&self, shape: &Logits) -> Option<u64>;

    /// Brings what a band of the logits needs into the slot where they are, writes `results`, and leaves its partial
    /// sums.
    fn push(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &Slot,
        of_band: (&Logits, &Band),
        results: Results<'_>,
    ) -> Result<PartialSums, Error>;

    /// Takes the single losses of a band of the logits. Bands come in their order.
    fn take(&mut self, of_band: (&Logits, &Band), losses: &[f32]) -> Result<(), Error>;

    /// What is wrong with the label of a pixel, counted over all images, which the kernel found to be no class.
    fn invalid(&self, position: usize) -> Error;
}

/// Where a loss writes what was asked for beside its partial sums.
pub(crate) struct Results<'a> {
    pub gradient: Option<BufferBinding<'a>>,
    pub losses: Option<BufferBinding<'a>>,
}

/// Runs a loss of logits as they lie on the host; of the result the single losses are left to the caller.
pub(crate) async fn run(
    gpu: &Gpu,
    waiting: Waiting,
    (logits, input): (&Logits, &mut Input<'_>),
    (reduction, gradient): (Reduction, bool),
    loss: &mut impl HostLoss,
) -> Result<Loss, Error> {
    let bands = loss.bands(gpu, logits)?;
    let mut sizes = Sizes { outputs: vec![("partial sums", 0)], ..Sizes::default() };
    let (mut most, mut most_of_gradient) = (None, 0);
    for band in &bands {
        let shape = band.shape(logits)?;
        sizes.logits = sizes.logits.max(shape.bytes());
        sizes.outputs[0].1 = sizes.outputs[0].1.max(block_sums(&shape) * RECORD);
        most = most.max(loss.losses(&shape));
        most_of_gradient = most_of_gradient.max(shape.output().bytes());
        let buffers = loss.uploads(&shape);
        sizes.uploads.resize(buffers.len(), ("", 0));
        for (most, (what, bytes)) in sizes.uploads.iter_mut().zip(buffers) {
            *most = (what, bytes.max(most.1));
        }
    }
    sizes.outputs.extend(gradient.then_some(("gradient", most_of_gradient)));
    sizes.outputs.extend(most.map(|bytes| ("losses", bytes)));
    let count = bands.len();
    let result = logits.resized(logits.images(), logits.height(), logits.width())?;
    let gradient = gradient.then(|| vec![0.0; result.len() as usize]);
    let mut losses = Losses { gpu, loss, logits: *logits, bands, result, gradient, sum: 0.0, weight: 0.0, valid: 0 };
    host::stream(gpu, waiting, logits, input, (count, sizes), &mut losses).await?;
    let Losses { gradient, sum, weight, valid, .. } = losses;
    let pixels = logits.map().pixels() as u64;
    Ok(Loss { gradient, ..Loss::new(reduction.of(sum, weight) as f32, pixels, pixels - valid) })
}

/// The one-shot function on its way. The GPU sums up some neighbouring partial sums, and these sums are added here, in
/// an order that does not depend on the bands.
struct Losses<'a, T> {
    gpu: &'a Gpu,
    loss: &'a mut T,
    logits: Logits,
    bands: Vec<Band>,
    /// The shape of the gradient.
    result: Logits,
    gradient: Option<Vec<f32>>,
    sum: f64,
    weight: f64,
    valid: u64,
}

impl<T: HostLoss> Bands for Losses<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (gpu, band) = (self.gpu, &self.bands[i]);
        let shape = band.shape(&self.logits)?;
        let mut bytes = vec![block_sums(&shape) * RECORD];
        bytes.extend(self.gradient.is_some().then(|| shape.output().bytes()));
        bytes.extend(self.loss.losses(&shape));
        let mut buffers = slot.outputs[1..].iter().map(Buffer::as_entire_buffer_binding);
        let gradient = self.gradient.as_ref().and_then(|_| buffers.next());
        let results = Results { gradient, losses: buffers.next() };
        let mut dispatch = Dispatch::new();
        let sums = self.loss.push(gpu, &mut dispatch, slot, (&self.logits, band), results)?;
        sums.add(gpu, &mut dispatch, Params::new(&shape), &slot.outputs[0])?;
        Ok((dispatch, bytes))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let first = self.bands[i].position(&self.logits);
        for sum in numbers::<LossRecord>(outputs[0]).iter() {
            if sum.first_invalid != NONE {
                return Err(self.loss.invalid(first + sum.first_invalid as usize));
            }
            self.sum += f64::from(sum.loss);
            self.weight += f64::from(sum.weight);
            self.valid += u64::from(sum.valid);
        }
        let mut rest = outputs[1..].iter();
        let band = &self.bands[i];
        if let Some(gradient) = &mut self.gradient {
            let padded = rest.next().map(|bytes| numbers::<f32>(bytes)).unwrap_or_default();
            host::take_band(&self.result, band, &band.shape(&self.logits)?, (&padded, gradient));
        }
        match rest.next() {
            Some(losses) => self.loss.take((&self.logits, band), &numbers(losses)),
            None => Ok(()),
        }
    }
}
