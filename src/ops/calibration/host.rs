//! The one-shot function: from labels, confidences and targets on the host to a reliability table.

use wgpu::BufferUsages;

use super::Calibration;
use crate::bands::{self, BAND_BYTES};
use crate::host::{Waiting, check_length, checked, create_buffer, numbers};
use crate::ops::label_codes::Codes;
use crate::{Error, Gpu, Map, Readback, ReliabilityTable, Targets};

impl Calibration {
    pub(super) async fn run_with<L: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        labels: &[L],
        confidence: &[f32],
        targets: &[T],
        waiting: Waiting,
    ) -> Result<ReliabilityTable, Error> {
        self.check()?;
        check_length("labels", targets.len() as u64, labels.len() as u64)?;
        check_length("confidence", targets.len() as u64, confidence.len() as u64)?;
        let codes = codes(labels)?;
        let operator = self.ignore_index(codes.ignore_index(self.ignore_index));
        // A part is a map of a single row.
        let most = (BAND_BYTES.min(bands::binding_limit(gpu)) / 4) as usize;
        let most = (most - most % 4).min(targets.len().max(1));
        let map = |pixels: usize| Map::packed(1, 1, pixels as u32);
        let (of_labels, of_records) = (map(most).bytes(codes.label_type.bits()), self.bytes(&map(most)));
        let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let label_buffer = create_buffer(gpu, "labels", of_labels, input)?;
        let target_buffer = create_buffer(gpu, "target", of_labels, input)?;
        let confidence_buffer = create_buffer(gpu, "confidence", map(most).bytes(32), input)?;
        let output = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let records = create_buffer(gpu, "calibration records", of_records, output)?;
        let mut readback = Readback::new(gpu, of_records)?;
        let mut sum = ReliabilityTable::new(self.bins)?;
        for ((labels, confidence), targets) in
            labels.chunks(most).zip(confidence.chunks(most)).zip(targets.chunks(most))
        {
            let map = map(targets.len());
            let submit = || {
                codes.write(gpu, &label_buffer, &map, labels, None)?;
                codes.write(gpu, &target_buffer, &map, targets, self.ignore_index)?;
                gpu.queue().write_buffer(&confidence_buffer, 0, bytemuck::cast_slice(confidence));
                let dispatch = operator.dispatch(
                    gpu,
                    &map,
                    (label_buffer.as_entire_buffer_binding(), codes.label_type),
                    confidence_buffer.as_entire_buffer_binding(),
                    Targets::new(target_buffer.as_entire_buffer_binding(), codes.label_type),
                    records.as_entire_buffer_binding(),
                )?;
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                dispatch.record(&mut encoder);
                readback.record(&mut encoder, records.as_entire_buffer_binding())?;
                gpu.queue().submit([encoder.finish()]);
                Ok(())
            };
            checked(gpu, submit).await?;
            let found = |bytes: &[u8]| self.table(&numbers(bytes));
            let found = match waiting {
                #[cfg(not(target_family = "wasm"))]
                Waiting::Block => readback.read_blocking(gpu, found)??,
                Waiting::Async => readback.read(found).await??,
            };
            sum.add(&found)?;
        }
        Ok(sum)
    }
}

/// How labels are written: in 8 bits where these allow it. A target that is no such class equals none of them then.
fn codes<L: Copy + Into<i64>>(labels: &[L]) -> Result<Codes, Error> {
    let beyond = |classes: u32| {
        labels.iter().position(|&label| u32::try_from(label.into()).map_or(true, |label| label >= classes))
    };
    let [narrow, wide] = [254, u32::MAX - 1];
    if beyond(narrow).is_none() {
        return Ok(Codes::new(narrow));
    }
    match beyond(wide) {
        None => Ok(Codes::new(wide)),
        Some(at) => Err(Error::Prediction { position: at as u64, label: labels[at].into(), classes: wide }),
    }
}
