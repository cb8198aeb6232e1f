//! The one-shot functions: from logits and labels on the host to the loss, its gradient and the confusion matrix.

use wgpu::Buffer;

use super::UpsampledCrossEntropy;
use super::pixels::{Buffers, STATISTICS, Written};
use crate::bands::{self, BAND_BYTES, Band};
use crate::dispatch::Bound;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::{Params, binding};
use crate::map::MapPart;
use crate::ops::loss::{FAN, HostLabels, HostTargets, NONE, PartialSums, RECORD, total_weight};
use crate::ops::resize::{Geometry, SourceRows, within};
use crate::{Confusion, Dispatch, Error, Gpu, Input, Logits, Loss, LossRecord, Map, Reduction, Targets};

impl UpsampledCrossEntropy {
    /// The loss of logits as they lie on the host.
    pub(super) async fn run_against<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: &mut Input<'_>,
        targets: HostLabels<'_, L>,
        waiting: Waiting,
    ) -> Result<Loss, Error> {
        let geometry = self.geometry(logits)?;
        let parts = self.host_parts(gpu, logits, &geometry, targets.label_type().bits())?;
        let pixels = self.map(logits)?.pixels();
        let weight = match self.loss.reduction {
            Reduction::Mean if self.loss.gradient => targets.weight(logits, self.loss.class_weights.as_deref()),
            _ => 1.0,
        };
        let result = logits.resized(logits.images(), logits.height(), logits.width())?.output();
        let mut losses = Losses {
            operator: self,
            gpu,
            logits: *logits,
            geometry,
            targets,
            total: total_weight(gpu, weight)?,
            weights: self.weights(gpu, logits)?,
            result,
            gradient: self.loss.gradient.then(|| vec![0.0; result.len() as usize]),
            per_pixel: self.loss.per_pixel.then(|| Vec::with_capacity(pixels)),
            confusion: self.confusion.then(|| Confusion::new(logits.classes())),
            record: Record::default(),
            parts,
        };
        let sizes = losses.sizes()?;
        host::stream(gpu, waiting, logits, input, (losses.parts.len(), sizes), &mut losses).await?;
        let Losses { gradient, per_pixel, confusion, record: Record { loss, weight, valid }, .. } = losses;
        let value = self.loss.reduction.of(loss, weight) as f32;
        let pixels = pixels as u64;
        Ok(Loss { per_pixel, confusion, gradient, ..Loss::new(value, pixels, pixels - valid) })
    }

    /// What goes through the GPU at a time: with a gradient, rows of logits with all pixels that read them.
    fn host_parts(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        geometry: &Geometry,
        label_bits: u32,
    ) -> Result<Vec<SourceRows>, Error> {
        let bits = if self.loss.gradient { STATISTICS } else { label_bits.max(32) };
        let of_records = match self.confusion {
            true => self.confusion_matrix(logits).bytes(&Map::with_padded_rows(1, 1, 1)?),
            false => 0,
        };
        let fit = |part: &SourceRows, limit: u64| {
            let images = part.read.band.images;
            within(part.read.band.shape(logits)?.output().bytes(), limit)?;
            within(u64::from(images).saturating_mul(of_records), limit)?;
            within(Self::partials(geometry, &part.read) * RECORD, limit)?;
            within(Map::with_padded_rows(images, part.read.rows, self.width)?.bytes(bits), limit)
        };
        // One row must fit the device, but may be more than a band has otherwise.
        let split = |limit: u64| match self.loss.gradient {
            true => geometry.split_source(logits, |part| fit(part, limit)),
            false => {
                let parts = geometry.split(logits, |rows| fit(&SourceRows::of(*rows), limit))?;
                Ok(parts.into_iter().map(SourceRows::of).collect())
            }
        };
        let device = bands::binding_limit(gpu);
        match split(BAND_BYTES.min(device)) {
            Err(Error::Limit { .. }) => split(device),
            parts => parts,
        }
    }
}

/// What the parts add up to.
#[derive(Default)]
struct Record {
    loss: f64,
    weight: f64,
    valid: u64,
}

/// The one-shot function on its way. The GPU sums up some neighbouring partial sums, and these sums are added here.
struct Losses<'a, L> {
    operator: &'a UpsampledCrossEntropy,
    gpu: &'a Gpu,
    logits: Logits,
    geometry: Geometry,
    targets: HostLabels<'a, L>,
    /// What the gradient is divided by.
    total: Buffer,
    weights: Option<Buffer>,
    /// The shape of the gradient.
    result: Logits,
    gradient: Option<Vec<f32>>,
    per_pixel: Option<Vec<f32>>,
    confusion: Option<Confusion>,
    record: Record,
    parts: Vec<SourceRows>,
}

impl<L: Copy + Into<i64>> Losses<'_, L> {
    /// The geometry of the pixels of a part.
    fn map(&self, part: &SourceRows) -> Result<Map, Error> {
        Map::with_padded_rows(part.read.band.images, part.read.rows, self.operator.width)
    }

    /// Index of the first pixel of a part among all.
    fn position(&self, part: &SourceRows) -> usize {
        let (height, width) = (self.operator.height as usize, self.operator.width as usize);
        (part.read.band.image as usize * height + part.read.row as usize) * width
    }

    fn uploads(&self, part: &SourceRows) -> Result<Vec<(&'static str, u64)>, Error> {
        let map = self.map(part)?;
        let mut uploads = vec![("target", map.bytes(self.targets.label_type().bits()))];
        uploads.extend(self.gradient.is_some().then(|| (binding::STATISTICS_OUT.what, map.bytes(STATISTICS))));
        Ok(uploads)
    }

    fn outputs(&self, part: &SourceRows) -> Result<Vec<(&'static str, u64)>, Error> {
        let map = self.map(part)?;
        let sums = UpsampledCrossEntropy::partials(&self.geometry, &part.read).div_ceil(FAN.into());
        let mut outputs = vec![("partial sums", sums * RECORD)];
        if self.gradient.is_some() {
            outputs.push(("gradient", part.band.shape(&self.result)?.bytes()));
        }
        outputs.extend(self.per_pixel.is_some().then(|| ("losses", map.bytes(32))));
        if self.confusion.is_some() {
            outputs.push(("confusion matrix", self.operator.confusion_matrix(&self.logits).bytes(&map)));
        }
        Ok(outputs)
    }

    fn sizes(&self) -> Result<Sizes, Error> {
        let mut sizes = Sizes::default();
        let raise = |most: &mut Vec<(&'static str, u64)>, buffers: Vec<(&'static str, u64)>| {
            most.resize(buffers.len(), ("", 0));
            most.iter_mut().zip(buffers).for_each(|(most, (what, bytes))| *most = (what, bytes.max(most.1)));
        };
        for part in &self.parts {
            sizes.logits = sizes.logits.max(part.read.band.shape(&self.logits)?.bytes());
            raise(&mut sizes.uploads, self.uploads(part)?);
            raise(&mut sizes.outputs, self.outputs(part)?);
        }
        Ok(sizes)
    }

    /// The pixels of a part, their losses or what the gradient is made of.
    fn push_pixels<'b>(
        &'b self,
        dispatch: &mut Dispatch,
        part: &SourceRows,
        (slot, written, counts): (&'b Slot, Written<'b>, Option<(Bound<'b>, u32)>),
    ) -> Result<PartialSums, Error> {
        let (gpu, operator, map) = (self.gpu, self.operator, self.map(part)?);
        let shape = part.read.band.shape(&self.logits)?;
        let gradient = matches!(written, Written::Statistics(_));
        let targets = Targets::new(slot.uploads[0].as_entire_buffer_binding(), self.targets.label_type());
        let buffers = Buffers { targets, written, weights: self.weights.as_ref() };
        let buffers = buffers.bind(gpu, &map, &MapPart::whole(&map))?;
        let sums =
            PartialSums::of_parts(gpu, [UpsampledCrossEntropy::partials(&self.geometry, &part.read)].into_iter())?;
        let input = Bound::new(gpu, binding::LOGITS, slot.logits.as_entire_buffer_binding(), shape.bytes())?;
        let params = Params {
            map_groups: map.image_stride() / 4,
            pixels: operator.height * operator.width,
            own_row: part.before,
            ..self.geometry.params(&self.logits, &part.read, &shape)
        };
        let kind = (&self.geometry, params, (self.targets.label_type(), gradient));
        let counts = counts.map(|(counts, words)| (counts, words, 0));
        operator.push_part(gpu, dispatch, kind, (input, &shape), (buffers, sums.of_band(gpu, 0)?, counts))?;
        Ok(sums)
    }

    /// The gradient of a part.
    fn push_gradient(
        &self,
        dispatch: &mut Dispatch,
        part: &SourceRows,
        (slot, gradient): (&Slot, &Buffer),
    ) -> Result<(), Error> {
        let (gpu, map) = (self.gpu, self.map(part)?);
        let (shape, to) = (part.read.band.shape(&self.logits)?, part.band.shape(&self.result)?);
        let targets = Targets::new(slot.uploads[0].as_entire_buffer_binding(), self.targets.label_type());
        let written = Written::Statistics(slot.uploads[1].as_entire_buffer_binding());
        let buffers = Buffers { targets, written, weights: self.weights.as_ref() };
        let buffers = buffers.bind(gpu, &map, &MapPart::whole(&map))?;
        let input = Bound::new(gpu, binding::LOGITS, slot.logits.as_entire_buffer_binding(), shape.bytes())?;
        let output = Bound::new(gpu, binding::GRADIENT, gradient.as_entire_buffer_binding(), to.bytes())?;
        let total = Bound::whole(gpu, binding::TOTAL, &self.total)?;
        let kind = (&self.geometry, &self.logits, part, (map.image_stride() / 4, 0), self.targets.label_type());
        let tensors = ((input, &shape), (output, &to));
        self.operator.push_gradient_part(gpu, dispatch, kind, tensors, (buffers, total))
    }
}

impl<L: Copy + Into<i64>> Bands for Losses<'_, L> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        let band = self.parts[i].read.band;
        Ok((band, band.shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (gpu, part) = (self.gpu, self.parts[i]);
        let map = self.map(&part)?;
        self.targets.write(gpu, &slot.uploads[0], &map, self.position(&part))?;
        let mut dispatch = Dispatch::new();
        let mut outputs = slot.outputs[1..].iter();
        let gradient = self.gradient.as_ref().and_then(|_| outputs.next());
        let losses = self.per_pixel.as_ref().and_then(|_| outputs.next()).map(Buffer::as_entire_buffer_binding);
        let counts = match outputs.next().map(Buffer::as_entire_buffer_binding) {
            Some(records) => {
                let operator = self.operator.confusion_matrix(&self.logits);
                Some(operator.push_clear(gpu, &mut dispatch, &map, records)?)
            }
            None => None,
        };
        let sums = match gradient {
            Some(gradient) => {
                let statistics = Written::Statistics(slot.uploads[1].as_entire_buffer_binding());
                let sums = self.push_pixels(&mut dispatch, &part, (slot, statistics, counts))?;
                if losses.is_some() {
                    self.push_pixels(&mut dispatch, &part, (slot, Written::Losses(losses), None))?;
                }
                self.push_gradient(&mut dispatch, &part, (slot, gradient))?;
                sums
            }
            None => self.push_pixels(&mut dispatch, &part, (slot, Written::Losses(losses), counts))?,
        };
        sums.add(gpu, &mut dispatch, Params::new(&self.logits), &slot.outputs[0])?;
        Ok((dispatch, self.outputs(&part)?.into_iter().map(|(_, bytes)| bytes).collect()))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let part = self.parts[i];
        let (map, position) = (self.map(&part)?, self.position(&part));
        for sum in numbers::<LossRecord>(outputs[0]).iter() {
            if sum.first_invalid != NONE {
                let position = position + sum.first_invalid as usize;
                return Err(self.targets.invalid(position));
            }
            self.record.loss += f64::from(sum.loss);
            self.record.weight += f64::from(sum.weight);
            self.record.valid += u64::from(sum.valid);
        }
        let mut rest = outputs[1..].iter();
        let mut next = || *rest.next().unwrap_or(&&[][..]);
        if let Some(gradient) = &mut self.gradient {
            let shape = part.band.shape(&self.result)?;
            host::take_band(&self.result, &part.band, &shape, (&numbers(next()), gradient));
        }
        if let Some(per_pixel) = &mut self.per_pixel {
            // Without the rows that belong to the part before.
            let before = part.before as usize * map.row_stride() as usize;
            let own = Map::with_padded_rows(map.images(), map.height() - part.before, map.width())?;
            own.unpad_into(&numbers::<f32>(next())[before..], per_pixel);
        }
        if let Some(confusion) = &mut self.confusion {
            for record in self.operator.confusion_matrix(&self.logits).records(&numbers(next()))? {
                confusion.merge(&record.confusion)?;
            }
        }
        Ok(())
    }
}
