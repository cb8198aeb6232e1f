//! The one-shot functions: from logits and targets on the host to their loss.

use wgpu::Buffer;

use super::BinaryCrossEntropy;
use crate::bands::{self, Band};
use crate::host::{self, Slot, Waiting};
use crate::ops::loss::{self, HostLoss, PartialSums, Results, SoftTargets, Written};
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
        let total = self.total(gpu, logits)?;
        let mut losses = Losses { operator: self, targets, total, result, per_element };
        let asked = (self.reduction, self.gradient);
        let loss = loss::run(gpu, waiting, (logits, input), asked, &mut losses).await?;
        Ok(Loss { per_element: losses.per_element, ..loss })
    }
}

struct Losses<'a> {
    operator: &'a BinaryCrossEntropy,
    targets: SoftTargets<'a>,
    /// What the gradient is divided by.
    total: Buffer,
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
        results: Results<'_>,
    ) -> Result<PartialSums, Error> {
        let targets = self.targets.upload_band(gpu, dispatch, slot, (whole, band))?;
        let (input, shape) = (slot.logits.as_entire_buffer_binding(), band.shape(whole)?);
        let Some(gradient) = results.gradient else {
            let written = results.losses.map_or(Written::Nothing, Written::Losses);
            return self.operator.push_elements(gpu, dispatch, &shape, (input, targets, written), None);
        };
        if let Some(losses) = results.losses {
            let inputs = (input.clone(), targets.clone(), Written::Losses(losses));
            self.operator.push_elements(gpu, dispatch, &shape, inputs, None)?;
        }
        let written = Written::Gradient(gradient, &self.total);
        self.operator.push_elements(gpu, dispatch, &shape, (input, targets, written), None)
    }

    fn take(&mut self, (whole, band): (&Logits, &Band), losses: &[f32]) -> Result<(), Error> {
        if let Some(per_element) = &mut self.per_element {
            host::take_band(&self.result, band, &band.shape(whole)?, (losses, per_element));
        }
        Ok(())
    }

    fn label(&self, _: usize) -> i64 {
        // No kernel finds one among numbers.
        -1
    }
}
