//! The one-shot functions: from logits and targets on the host to their loss.

use wgpu::Buffer;

use super::BinaryCrossEntropy;
use crate::bands::{self, Band};
use crate::host::{self, Slot, Waiting};
use crate::ops::loss::{self, HostLoss, PartialSums, SoftTargets};
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss};

impl BinaryCrossEntropy {
    /// The loss of logits as they lie on the host.
    pub(super) async fn run_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: &mut Input<'_>,
        targets: SoftTargets<'_>,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        let result = logits.resized(logits.images(), logits.height(), logits.width())?;
        let per_element = self.per_element.then(|| vec![0.0; result.len() as usize]);
        let mut losses = Losses { operator: self, targets, result, per_element };
        let loss = loss::run(gpu, waiting, (logits, input), self.reduction, &mut losses).await?;
        Ok(Loss { per_element: losses.per_element, ..loss })
    }
}

struct Losses<'a> {
    operator: &'a BinaryCrossEntropy,
    targets: SoftTargets<'a>,
    /// The shape of `per_element`.
    result: Logits,
    per_element: Option<Vec<f32>>,
}

impl HostLoss for Losses<'_> {
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        // 8 bits a pixel for the sums, as for the other losses.
        bands::for_host(gpu, &logits.output(), 8)
    }

    fn uploads(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        self.targets.buffers_of(shape)
    }

    fn losses(&self, shape: &Logits) -> Option<u64> {
        self.per_element.as_ref().map(|_| shape.output().bytes())
    }

    fn push(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &Slot,
        (whole, band): (&Logits, &Band),
    ) -> Result<PartialSums, Error> {
        let targets = self.targets.upload_band(gpu, dispatch, slot, (whole, band))?;
        let losses = slot.outputs.get(1).map(Buffer::as_entire_buffer_binding);
        let inputs = (slot.logits.as_entire_buffer_binding(), targets, losses);
        self.operator.push_elements(gpu, dispatch, &band.shape(whole)?, inputs, None)
    }

    fn take(&mut self, (whole, band): (&Logits, &Band), losses: &[f32]) -> Result<(), Error> {
        if let Some(per_element) = &mut self.per_element {
            for (to, from, count) in host::runs(&self.result, band, &band.shape(whole)?) {
                let to = to as usize;
                per_element[to..to + count].copy_from_slice(&losses[from..from + count]);
            }
        }
        Ok(())
    }

    fn label(&self, _: usize) -> i64 {
        // No kernel finds one among numbers.
        -1
    }
}
