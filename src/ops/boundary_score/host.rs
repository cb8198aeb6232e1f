//! The one-shot function: from two maps of labels on the host to the boundary pixels of each class.

use wgpu::BufferUsages;

use super::BoundaryScore;
use crate::bands::{self, BAND_BYTES};
use crate::host::{Waiting, check_length, checked, create_buffer, numbers};
use crate::ops::label_codes::Codes;
use crate::{BoundaryTable, Error, Gpu, Logits, Map, Readback, Targets};

impl BoundaryScore {
    pub(super) async fn run_with<P: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        [height, width]: [u32; 2],
        predictions: &[P],
        targets: &[T],
        waiting: Waiting,
    ) -> Result<BoundaryTable, Error> {
        // Checks the size, too.
        let of_image = Logits::chw(1, height, width)?.map().pixels();
        check_length("predictions", targets.len() as u64, predictions.len() as u64)?;
        check_length("targets", targets.len().next_multiple_of(of_image) as u64, targets.len() as u64)?;
        let codes = Codes::new(self.classes);
        let bits = codes.label_type.bits();
        let operator = self.ignore_index(codes.ignore_index(self.ignore_index));
        operator.check(codes.label_type)?;
        let map = |images: usize| Map::packed(images as u32, height, width);
        // Images that go through at a time.
        let bytes = map(1).bytes(bits).max(self.bytes(&map(1)));
        let most = BAND_BYTES.min(bands::binding_limit(gpu)) / bytes;
        let most = most.clamp(1, (targets.len() / of_image).max(1) as u64) as usize;
        let [of_labels, of_records] = [map(most).bytes(bits), self.bytes(&map(most))];
        let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let predictions_buffer = create_buffer(gpu, "predictions", of_labels, input)?;
        let targets_buffer = create_buffer(gpu, "target", of_labels, input)?;
        let output = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let records = create_buffer(gpu, "boundary records", of_records, output)?;
        let mut readback = Readback::new(gpu, of_records)?;
        let mut sum = BoundaryTable::new(self.classes);
        let parts = predictions.chunks(most * of_image).zip(targets.chunks(most * of_image));
        for (i, (predictions, targets)) in parts.enumerate() {
            let map = map(targets.len() / of_image);
            let submit = || {
                codes.write(gpu, &predictions_buffer, &map, predictions, None)?;
                codes.write(gpu, &targets_buffer, &map, targets, self.ignore_index)?;
                let dispatch = operator.dispatch(
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
            let bytes = self.bytes(&map) as usize;
            let found = |all: &[u8]| self.records(&numbers(&all[..bytes]));
            let found = match waiting {
                #[cfg(not(target_family = "wasm"))]
                Waiting::Block => readback.read_blocking(gpu, found)??,
                Waiting::Async => readback.read(found).await??,
            };
            for (image, record) in found.iter().enumerate() {
                let at = |first: u32| image * of_image + first as usize;
                let position = |at: usize| (i * most * of_image + at) as u64;
                let classes = self.classes;
                if let Some(at) = record.first_invalid_target.map(at) {
                    return Err(Error::Label { position: position(at), label: targets[at].into(), classes });
                }
                if let Some(at) = record.first_invalid_prediction.map(at) {
                    return Err(Error::Prediction { position: position(at), label: predictions[at].into(), classes });
                }
                sum.add(&record.table)?;
            }
        }
        Ok(sum)
    }
}
