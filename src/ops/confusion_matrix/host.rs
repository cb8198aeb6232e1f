//! The one-shot functions: from labels, or from logits and labels, on the host to their confusion matrix.

use wgpu::BufferUsages;

use super::ConfusionMatrix;
use crate::bands::{self, BAND_BYTES, Band};
use crate::host::{self, Bands, Sizes, Slot, Waiting, check_length, checked, create_buffer, numbers};
use crate::ops::label_codes::Codes;
use crate::ops::segment::HostParts;
use crate::{Confusion, Dispatch, Error, Gpu, Input, LabelType, Logits, Map, Outputs, Readback, Segment, Targets};

impl ConfusionMatrix {
    pub(super) async fn run_with<P: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        predictions: &[P],
        targets: &[T],
        waiting: Waiting,
    ) -> Result<Confusion, Error> {
        check_length("predictions", targets.len() as u64, predictions.len() as u64)?;
        let codes = Codes::new(self.classes);
        // A part is a map of a single row.
        let most = (BAND_BYTES.min(bands::binding_limit(gpu)) * 8 / u64::from(codes.label_type.bits())) as usize;
        let most = (most - most % 4).min(predictions.len().max(1));
        let map = |pixels: usize| Map::packed(1, 1, pixels as u32);
        let [of_labels, of_records] = [map(most).bytes(codes.label_type.bits()), self.bytes(&map(most))];
        let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let predictions_buffer = create_buffer(gpu, "predictions", of_labels, input)?;
        let targets_buffer = create_buffer(gpu, "target", of_labels, input)?;
        let output = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let records = create_buffer(gpu, "confusion matrix", of_records, output)?;
        let mut readback = Readback::new(gpu, of_records)?;
        let mut sum = Confusion::new(self.classes);
        for (i, (predictions, targets)) in predictions.chunks(most).zip(targets.chunks(most)).enumerate() {
            let map = map(predictions.len());
            let submit = || {
                codes.write(gpu, &predictions_buffer, &map, predictions, None)?;
                codes.write(gpu, &targets_buffer, &map, targets, self.ignore_index)?;
                let dispatch = self.ignore_index(codes.ignore_index(self.ignore_index)).dispatch(
                    gpu,
                    &map,
                    (predictions_buffer.as_entire_buffer_binding(), codes.label_type),
                    Targets::new(targets_buffer.as_entire_buffer_binding(), codes.label_type),
                    records.as_entire_buffer_binding(),
                )?;
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                dispatch.record(&mut encoder);
                readback.record(&mut encoder, records.as_entire_buffer_binding())?;
                gpu.queue().submit([encoder.finish()]);
                Ok(())
            };
            checked(gpu, submit).await?;
            let found = |bytes: &[u8]| self.records(&numbers(bytes));
            let found = match waiting {
                #[cfg(not(target_family = "wasm"))]
                Waiting::Block => readback.read_blocking(gpu, found)??,
                Waiting::Async => readback.read(found).await??,
            };
            for record in found {
                let position = |first: u32| (i * most + first as usize) as u64;
                let classes = self.classes;
                if let Some(first) = record.first_invalid_target {
                    let label = targets[first as usize].into();
                    return Err(Error::Label { position: position(first), label, classes });
                }
                if let Some(first) = record.first_invalid_prediction {
                    let label = predictions[first as usize].into();
                    return Err(Error::Prediction { position: position(first), label, classes });
                }
                sum.merge(&record.confusion)?;
            }
        }
        Ok(sum)
    }

    pub(super) async fn run_logits_with<T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        (logits, mut input): (&Logits, Input<'_>),
        segment: &Segment,
        targets: &[T],
        waiting: Waiting,
    ) -> Result<Confusion, Error> {
        let logits = host::logits_of(logits, &input)?;
        if logits.classes() != self.classes {
            return Err(Error::Classes { what: "logits", expected: self.classes, found: logits.classes() });
        }
        check_length("targets", segment.map(&logits)?.pixels() as u64, targets.len() as u64)?;
        let (codes, labels) = (Codes::new(self.classes), segment.label_type_for(&logits));
        let bits = labels.bits().max(codes.label_type.bits());
        let parts = HostParts::new(gpu, segment, &logits, (bits.into(), self.words().saturating_mul(4)))?;
        let most = |bytes: &dyn Fn(&Map) -> u64| parts.parts.iter().map(|part| bytes(&part.map)).max().unwrap_or(0);
        let sizes = Sizes {
            logits: parts.parts.iter().map(|part| part.shape.bytes()).max().unwrap_or(0),
            uploads: vec![
                ("target", most(&|map| map.bytes(codes.label_type.bits()))),
                ("labels", most(&|map| map.bytes(labels.bits()))),
            ],
            outputs: vec![("confusion matrix", most(&|map| self.bytes(map)))],
        };
        let count = parts.parts.len();
        let sum = Confusion::new(self.classes);
        let mut counts = Counts { operator: self, gpu, targets, codes, labels, parts, sum };
        host::stream(gpu, waiting, &logits, &mut input, (count, sizes), &mut counts).await?;
        Ok(counts.sum)
    }
}

/// Logits on their way to counts.
struct Counts<'a, T> {
    operator: &'a ConfusionMatrix,
    gpu: &'a Gpu,
    targets: &'a [T],
    codes: Codes,
    labels: LabelType,
    parts: HostParts,
    sum: Confusion,
}

impl<T: Copy + Into<i64>> Bands for Counts<'_, T> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.parts.parts[i].band, self.parts.parts[i].shape))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let (gpu, map) = (self.gpu, &self.parts.parts[i].map);
        let [targets, labels] = [0, 1].map(|which| slot.uploads[which].as_entire_buffer_binding());
        let first = self.parts.position(i);
        let of_part = &self.targets[first..first + map.pixels()];
        self.codes.write(gpu, &slot.uploads[0], map, of_part, self.operator.ignore_index)?;
        let outputs = Outputs::labels(labels.clone());
        let mut dispatch = self.parts.dispatch(gpu, i, slot.logits.as_entire_buffer_binding(), &outputs)?;
        let operator = self.operator.ignore_index(self.codes.ignore_index(self.operator.ignore_index));
        let targets = Targets::new(targets, self.codes.label_type);
        let records = slot.outputs[0].as_entire_buffer_binding();
        operator.push(gpu, &mut dispatch, map, (labels, self.labels), targets, records)?;
        Ok((dispatch, vec![self.operator.bytes(map)]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let of_image = self.parts.parts[i].map.pixels() / self.parts.parts[i].map.images() as usize;
        for (image, record) in self.operator.records(&numbers(outputs[0]))?.iter().enumerate() {
            if let Some(first) = record.first_invalid_target {
                let position = self.parts.position(i) + image * of_image + first as usize;
                let (label, classes) = (self.targets[position].into(), self.operator.classes);
                return Err(Error::Label { position: position as u64, label, classes });
            }
            self.sum.merge(&record.confusion)?;
        }
        Ok(())
    }
}
