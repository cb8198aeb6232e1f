//! The one-shot functions: from logits and targets on the host to their loss.

use wgpu::Buffer;

use super::CrossEntropy;
use super::targets::HostTargets;
use crate::bands::Band;
use crate::dispatch::Bound;
use crate::host::{Slot, Waiting};
use crate::kernel::binding;
use crate::ops::loss::{self, HostLoss, PartialSums, Results, total_weight};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, Reduction};

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
        let weight = match self.reduction {
            Reduction::Mean if self.gradient => targets.weight(logits, self.class_weights.as_deref()),
            _ => 1.0,
        };
        let mut losses = Losses { operator: self, targets, total: total_weight(gpu, weight)?, per_pixel };
        let asked = (self.reduction, self.gradient);
        let loss = loss::run(gpu, waiting, (logits, input), asked, &mut losses).await?;
        Ok(Loss { per_pixel: losses.per_pixel, ..loss })
    }
}

struct Losses<'a, T> {
    operator: &'a CrossEntropy,
    targets: T,
    /// What the gradient is divided by.
    total: Buffer,
    per_pixel: Option<Vec<f32>>,
}

impl<T: HostTargets> HostLoss for Losses<'_, T> {
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        // The gradient is f32, whatever the logits are.
        let largest = if self.operator.gradient { logits.output() } else { *logits };
        self.targets.bands(gpu, &largest, if self.per_pixel.is_some() { 32 } else { 0 })
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
        results: Results<'_>,
    ) -> Result<PartialSums, Error> {
        let targets = self.targets.upload(gpu, dispatch, slot, (whole, band))?;
        let (input, shape) = (slot.logits.as_entire_buffer_binding(), band.shape(whole)?);
        if let Some(gradient) = results.gradient {
            let total = Bound::whole(gpu, binding::TOTAL, &self.total)?;
            let inputs = (input.clone(), targets.clone(), gradient, total);
            self.operator.push_gradient(gpu, dispatch, &shape, inputs, None)?;
        }
        self.operator.push_pixels(gpu, dispatch, &shape, (input, targets, results.losses), None)
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
