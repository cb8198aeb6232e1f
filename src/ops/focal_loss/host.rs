//! The one-shot functions: from logits and targets on the host to their loss, and in another pass to the gradient.

use wgpu::Buffer;

use super::FocalLoss;
use crate::bands::Band;
use crate::dispatch::{Bound, constants};
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::binding;
use crate::ops::cross_entropy::HostTargets;
use crate::ops::loss::{self, HostLoss, PartialSums, Results};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, LossRecord};

impl FocalLoss {
    /// The loss of logits as they lie on the host, of independent labels if it is `binary`.
    pub(super) async fn run_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: &mut Input<'_>,
        (targets, binary): (impl HostTargets, bool),
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        let result = logits.resized(logits.images(), logits.height(), logits.width())?;
        let single = self.single.then(|| match binary {
            true => vec![0.0; result.len() as usize],
            false => Vec::with_capacity(logits.map().pixels()),
        });
        let mut losses = Losses { operator: self, targets, result, binary, single };
        let loss = loss::run(gpu, waiting, (logits, input), (self.reduction, false), &mut losses).await?;
        let Losses { targets, single, .. } = losses;
        let (per_pixel, per_element) = if binary { (None, single) } else { (single, None) };
        let mut gradient = None;
        if self.gradient {
            let weight = if binary { result.len() as f32 } else { (loss.pixels - loss.ignored) as f32 };
            gradient = Some(self.gradient_of(gpu, (logits, input), targets, (result, weight), waiting).await?);
        }
        Ok(Loss { per_pixel, per_element, gradient, ..loss })
    }

    /// The gradient, with the weight that the mean is divided by.
    async fn gradient_of(
        &self,
        gpu: &Gpu,
        (logits, input): (&Logits, &mut Input<'_>),
        targets: impl HostTargets,
        (result, weight): (Logits, f32),
        waiting: Waiting,
    ) -> Result<Vec<f32>, Error> {
        let record = LossRecord { loss: 0.0, weight, valid: 0, first_invalid: u32::MAX };
        let total = constants(gpu, "total weight", bytemuck::bytes_of(&record))?;
        let bands = targets.bands(gpu, &logits.output(), 0)?;
        let uploads = |shape: &Logits| targets.buffers(shape);
        let output = ("gradient", |shape: &Logits| Ok(shape.output().bytes()));
        let sizes = Sizes::of_bands(logits, &bands, uploads, output)?;
        let (count, values) = (bands.len(), vec![0.0; result.len() as usize]);
        let mut gradient = Gradient { operator: self, gpu, logits: *logits, targets, bands, total, result, values };
        host::stream(gpu, waiting, logits, input, (count, sizes), &mut gradient).await?;
        Ok(gradient.values)
    }
}

struct Losses<'a, T> {
    operator: &'a FocalLoss,
    targets: T,
    /// The shape of the losses of elements.
    result: Logits,
    binary: bool,
    single: Option<Vec<f32>>,
}

impl<T: HostTargets> HostLoss for Losses<'_, T> {
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        let map_bits = if self.single.is_some() && !self.binary { 32 } else { 0 };
        self.targets.bands(gpu, &logits.output(), map_bits)
    }

    fn uploads(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        self.targets.buffers(shape)
    }

    fn losses(&self, shape: &Logits) -> Option<u64> {
        let bytes = || if self.binary { shape.output().bytes() } else { shape.map().bytes(32) };
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
        let targets = self.targets.upload(gpu, dispatch, slot, (whole, band))?;
        let inputs = ((slot.logits.as_entire_buffer_binding(), targets), results.losses);
        self.operator.push_losses(gpu, dispatch, &band.shape(whole)?, inputs, None)
    }

    fn take(&mut self, (whole, band): (&Logits, &Band), losses: &[f32]) -> Result<(), Error> {
        let shape = band.shape(whole)?;
        match &mut self.single {
            Some(single) if self.binary => host::take_band(&self.result, band, &shape, (losses, single)),
            Some(single) => shape.map().unpad_into(losses, single),
            None => {}
        }
        Ok(())
    }

    fn label(&self, position: usize) -> i64 {
        self.targets.label(position)
    }
}

struct Gradient<'a, T> {
    operator: &'a FocalLoss,
    gpu: &'a Gpu,
    logits: Logits,
    targets: T,
    bands: Vec<Band>,
    /// A record with the weight.
    total: Buffer,
    /// The shape of `values`.
    result: Logits,
    values: Vec<f32>,
}

impl<T: HostTargets> Bands for Gradient<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (band, shape) = self.band(i)?;
        let mut dispatch = Dispatch::new();
        let targets = self.targets.upload(self.gpu, &mut dispatch, slot, (&self.logits, &band))?;
        let inputs = (slot.logits.as_entire_buffer_binding(), targets);
        let total = Bound::whole(self.gpu, binding::TOTAL, &self.total)?;
        let to = (slot.outputs[0].as_entire_buffer_binding(), None);
        self.operator.push_gradient(self.gpu, &mut dispatch, &shape, (inputs, total), to)?;
        Ok((dispatch, vec![shape.output().bytes()]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let (band, shape) = self.band(i)?;
        host::take_band(&self.result, &band, &shape, (&numbers(outputs[0]), &mut self.values));
        Ok(())
    }
}
