//! The one-shot functions: from logits and targets on the host to the loss, band by band, and from there in another pass
//! over the bands to the gradient.

use wgpu::Buffer;

use super::RegionLoss;
use super::pixels::{Pixels, lanes_of, rows};
use super::score::SUMS;
use crate::bands::Band;
use crate::dispatch::constants;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::ops::loss::HostTargets;
use crate::{Dispatch, Error, Gpu, Input, Logits, Loss, Reduction};

/// `Sums` in `shaders/prelude/region_sums.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ClassSums {
    sums: [f32; 3],
    valid: u32,
    first_invalid: u32,
}

impl RegionLoss {
    /// The loss of logits as they lie on the host.
    pub(in crate::ops) async fn run_against(
        &self,
        gpu: &Gpu,
        (logits, input): (&Logits, &mut Input<'_>),
        mut targets: impl HostTargets,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        self.check()?;
        let operator = Self { ignore_index: targets.ignore_index(), ..self.clone() };
        let bands = targets.bands(gpu, &logits.output(), 0)?;
        let count = bands.len();
        let pass =
            Pass { operator: &operator, gpu, logits: *logits, lanes: lanes_of(logits), targets: &mut targets, bands };

        let classes = logits.classes() as usize;
        let sizes = pass.sizes("sums of regions", |shape| pass.sums_bytes(shape))?;
        let mut sums = SumsPass { pass, sums: vec![[0.0; 3]; logits.images() as usize * classes], valid: 0 };
        host::stream(gpu, waiting, logits, input, (count, sizes), &mut sums).await?;
        let SumsPass { pass, sums, valid } = sums;

        let (images, of_image) = self.counts(logits);
        let regions = images as usize * of_image as usize;
        let of_region = classes / of_image as usize;
        let mut totals = vec![[0.0; 3]; regions];
        for (i, sums) in sums.iter().enumerate() {
            let total = &mut totals[i / of_region % regions];
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let scores: Vec<_> = totals.into_iter().map(|sums| self.score(sums)).collect();
        let sum: f64 = scores.iter().map(|(loss, _)| loss).sum();
        let divisor = if self.reduction == Reduction::Mean { regions as f64 } else { 1.0 };
        let pixels = logits.map().pixels() as u64;
        let per_region = Some(scores.iter().map(|&(loss, _)| loss as f32).collect());

        let mut gradient = None;
        if self.gradient {
            let of_class = |i: usize| scores[i / of_region].1.map(|x| (x / divisor) as f32);
            let coefficients: Vec<_> = (0..images as usize * classes).map(of_class).collect();
            let coefficients = constants(gpu, "coefficients of regions", bytemuck::cast_slice(&coefficients))?;
            let sizes = pass.sizes("gradient", |shape| Ok(shape.output().bytes()))?;
            let result = logits.resized(logits.images(), logits.height(), logits.width())?;
            let values = vec![0.0; result.len() as usize];
            let mut of_logits = GradientPass { pass, coefficients, result, values };
            host::stream(gpu, waiting, logits, input, (count, sizes), &mut of_logits).await?;
            gradient = Some(of_logits.values);
        }
        Ok(Loss { per_region, gradient, ..Loss::new((sum / divisor) as f32, pixels, pixels - valid) })
    }
}

/// One way through the logits and targets.
struct Pass<'a, T> {
    operator: &'a RegionLoss,
    gpu: &'a Gpu,
    logits: Logits,
    lanes: u32,
    targets: &'a mut T,
    bands: Vec<Band>,
}

impl<T: HostTargets> Pass<'_, T> {
    /// What the bands take at the most, with an output of so many bytes.
    fn sizes(&self, what: &'static str, bytes: impl Fn(&Logits) -> Result<u64, Error>) -> Result<Sizes, Error> {
        Sizes::of_bands(&self.logits, &self.bands, |shape| self.targets.buffers(shape), (what, bytes))
    }

    fn sums_bytes(&self, shape: &Logits) -> Result<u64, Error> {
        let rows = u64::from(rows(self.gpu, shape, self.lanes)?);
        Ok(u64::from(shape.images()) * rows * u64::from(shape.classes()) * SUMS)
    }

    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    /// Brings the targets of a band to where its logits are.
    fn pixels<'b>(
        &'b mut self,
        dispatch: &mut Dispatch,
        slot: &'b Slot,
        (band, shape): (&Band, &Logits),
    ) -> Result<Pixels<'b>, Error> {
        let targets = self.targets.upload(self.gpu, dispatch, slot, (&self.logits, band))?;
        let inputs = (slot.logits.as_entire_buffer_binding(), targets);
        Pixels::new(self.operator, self.gpu, shape, inputs, self.lanes)
    }
}

/// Adds up the sums of chunks in an order that does not depend on the bands.
struct SumsPass<'a, T> {
    pass: Pass<'a, T>,
    /// N × C
    sums: Vec<[f64; 3]>,
    valid: u64,
}

impl<T: HostTargets> Bands for SumsPass<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        self.pass.band(i)
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (band, shape) = self.pass.band(i)?;
        let (gpu, bytes) = (self.pass.gpu, self.pass.sums_bytes(&shape)?);
        let mut dispatch = Dispatch::new();
        let pixels = self.pass.pixels(&mut dispatch, slot, (&band, &shape))?;
        pixels.push_sums(gpu, &mut dispatch, &slot.outputs[0], &[])?;
        Ok((dispatch, vec![bytes]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let Pass { logits, targets, bands, .. } = &self.pass;
        let (band, classes) = (&bands[i], logits.classes() as usize);
        let found = numbers::<ClassSums>(outputs[0]);
        let rows = found.len() / (band.images as usize * classes);
        for (at, sums) in found.iter().enumerate() {
            if sums.first_invalid != u32::MAX {
                return Err(targets.invalid(band.position(logits) + sums.first_invalid as usize));
            }
            let (image, class) = (band.image as usize + at / (rows * classes), at % classes);
            let total = &mut self.sums[image * classes + class];
            total.iter_mut().zip(sums.sums).for_each(|(total, sum)| *total += f64::from(sum));
            if class == 0 {
                self.valid += u64::from(sums.valid);
            }
        }
        Ok(())
    }
}

struct GradientPass<'a, T> {
    pass: Pass<'a, T>,
    /// N × C or C of A and B.
    coefficients: Buffer,
    /// The shape of `values`.
    result: Logits,
    values: Vec<f32>,
}

impl<T: HostTargets> Bands for GradientPass<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        self.pass.band(i)
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (band, shape) = self.pass.band(i)?;
        let stride = if self.pass.operator.per_image { shape.classes() } else { 0 };
        let gpu = self.pass.gpu;
        let mut dispatch = Dispatch::new();
        let pixels = self.pass.pixels(&mut dispatch, slot, (&band, &shape))?;
        let to = slot.outputs[0].as_entire_buffer_binding();
        pixels.push_gradient(gpu, &mut dispatch, (&self.coefficients, band.image, stride), to, &[])?;
        Ok((dispatch, vec![shape.output().bytes()]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let (band, shape) = self.pass.band(i)?;
        host::take_band(&self.result, &band, &shape, (&numbers(outputs[0]), &mut self.values));
        Ok(())
    }
}
