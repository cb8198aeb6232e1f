//! The one-shot functions: from logits and targets on the host to what the losses of the bands add up to.

use wgpu::Buffer;

use super::partials::{NONE, RECORD, block_sums, push_partials};
use super::targets::HostTargets;
use super::{CrossEntropy, Loss, LossRecord, Reduction};
use crate::bands::Band;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::Params;
use crate::{Dispatch, Error, Gpu, Input, Logits};

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
        let pixels = logits.map().pixels();
        let bands = targets.bands(gpu, logits, if self.per_pixel { 32 } else { 0 })?;
        let mut sizes = Sizes { outputs: vec![("partial sums", 0)], ..Sizes::default() };
        let mut map_bytes = 0;
        for band in &bands {
            let shape = band.shape(logits)?;
            sizes.logits = sizes.logits.max(shape.bytes());
            sizes.outputs[0].1 = sizes.outputs[0].1.max(block_sums(&shape) * RECORD);
            map_bytes = shape.map().bytes(32).max(map_bytes);
            let buffers = targets.buffers(&shape);
            sizes.uploads.resize(buffers.len(), ("", 0));
            for (most, (what, bytes)) in sizes.uploads.iter_mut().zip(buffers) {
                *most = (what, bytes.max(most.1));
            }
        }
        sizes.outputs.extend(self.per_pixel.then_some(("losses", map_bytes)));
        let per_pixel = self.per_pixel.then(|| Vec::with_capacity(pixels));
        let count = bands.len();
        let mut losses =
            Losses { gpu, operator: self, logits: *logits, targets, bands, per_pixel, sum: 0.0, weight: 0.0, valid: 0 };
        host::stream(gpu, waiting, logits, input, (count, sizes), &mut losses).await?;
        let Losses { sum, weight, valid, per_pixel, .. } = losses;
        let value = match self.reduction {
            Reduction::Sum => sum,
            // IEEE has NaN for 0 / 0, but an infinity for other quotients by 0.
            Reduction::Mean if weight == 0.0 => f64::NAN,
            Reduction::Mean => sum / weight,
        };
        let pixels = pixels as u64;
        Ok(Loss { value: value as f32, pixels, ignored: pixels - valid, per_pixel })
    }
}

/// The one-shot function on its way. The GPU sums up every [`FAN`] partial sums, and these sums are added here, in an
/// order that does not depend on the bands.
struct Losses<'a, T> {
    gpu: &'a Gpu,
    operator: &'a CrossEntropy,
    logits: Logits,
    targets: T,
    bands: Vec<Band>,
    per_pixel: Option<Vec<f32>>,
    sum: f64,
    weight: f64,
    valid: u64,
}

impl<T: HostTargets> Bands for Losses<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (gpu, band) = (self.gpu, &self.bands[i]);
        let shape = band.shape(&self.logits)?;
        let losses = slot.outputs.get(1).map(Buffer::as_entire_buffer_binding);
        let mut bytes = vec![block_sums(&shape) * RECORD];
        bytes.extend(losses.as_ref().map(|_| shape.map().bytes(32)));

        let mut dispatch = Dispatch::new();
        let targets = self.targets.upload(gpu, &mut dispatch, slot, (&self.logits, band))?;
        let input = (slot.logits.as_entire_buffer_binding(), targets, losses);
        let (sums, count) = self.operator.push_pixels(gpu, &mut dispatch, &shape, input, None)?;
        push_partials(gpu, &mut dispatch, Params::new(&shape), (&sums, count), &slot.outputs[0])?;
        Ok((dispatch, bytes))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let first = self.bands[i].position(&self.logits);
        for sum in numbers::<LossRecord>(outputs[0]).iter() {
            if sum.first_invalid != NONE {
                let position = first + sum.first_invalid as usize;
                let label = self.targets.label(position);
                return Err(Error::Label { position: position as u64, label, classes: self.logits.classes() });
            }
            self.sum += f64::from(sum.loss);
            self.weight += f64::from(sum.weight);
            self.valid += u64::from(sum.valid);
        }
        if let Some(per_pixel) = &mut self.per_pixel {
            self.bands[i].shape(&self.logits)?.map().unpad_into(&numbers(outputs[1]), per_pixel);
        }
        Ok(())
    }
}
