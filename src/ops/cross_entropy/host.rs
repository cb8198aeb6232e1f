//! The one-shot functions: from logits and targets on the host to their loss.

use wgpu::Buffer;

use super::CrossEntropy;
use super::targets::HostTargets;
use crate::bands::Band;
use crate::host::{Slot, Waiting};
use crate::ops::loss::{self, HostLoss, PartialSums};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss};

impl CrossEntropy {
    /// The loss of logits as they lie on the host.
    pub(super) async fn run_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: &mut Input<'_>,
        targets: impl HostTargets,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        let per_pixel = self.per_pixel.then(|| Vec::with_capacity(logits.map().pixels()));
        let mut losses = Losses { operator: self, targets, per_pixel };
        let loss = loss::run(gpu, waiting, (logits, input), self.reduction, &mut losses).await?;
        Ok(Loss { per_pixel: losses.per_pixel, ..loss })
    }
}

struct Losses<'a, T> {
    operator: &'a CrossEntropy,
    targets: T,
    per_pixel: Option<Vec<f32>>,
}

impl<T: HostTargets> HostLoss for Losses<'_, T> {
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        self.targets.bands(gpu, logits, if self.per_pixel.is_some() { 32 } else { 0 })
    }

    fn uploads(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        self.targets.buffers(shape)
    }

    fn losses(&self, shape: &Logits) -> Option<u64> {
        self.per_pixel.as_ref().map(|_| shape.map().bytes(32))
    }

    fn push(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &Slot,
        (whole, band): (&Logits, &Band),
    ) -> Result<PartialSums, Error> {
        let targets = self.targets.upload(gpu, dispatch, slot, (whole, band))?;
        let losses = slot.outputs.get(1).map(Buffer::as_entire_buffer_binding);
        let input = (slot.logits.as_entire_buffer_binding(), targets, losses);
        self.operator.push_pixels(gpu, dispatch, &band.shape(whole)?, input, None)
    }

    fn take(&mut self, (whole, band): (&Logits, &Band), losses: &[f32]) -> Result<(), Error> {
        if let Some(per_pixel) = &mut self.per_pixel {
            band.shape(whole)?.map().unpad_into(losses, per_pixel);
        }
        Ok(())
    }

    fn label(&self, position: usize) -> i64 {
        self.targets.label(position)
    }
}
