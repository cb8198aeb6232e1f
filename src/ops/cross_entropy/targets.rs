//! Targets on the host, and how they come to the GPU.

use wgpu::Buffer;

use super::Targets;
use super::pixels::Against;
use crate::bands::{self, Band};
use crate::host::Slot;
use crate::ops::loss::SoftTargets;
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Map};

/// Targets of the one-shot functions.
pub(in crate::ops) trait HostTargets {
    /// Bands of the logits that fit the GPU with their targets, and with that many bits of results for every pixel.
    fn bands(&self, gpu: &Gpu, logits: &Logits, map_bits: u32) -> Result<Vec<Band>, Error>;

    /// The buffers that the targets of a band of this shape take.
    fn buffers(&self, shape: &Logits) -> Vec<(&'static str, u64)>;

    /// Brings the targets of a band of the logits into the buffers of a slot.
    fn upload<'b>(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &'b Slot,
        of_band: (&Logits, &Band),
    ) -> Result<Against<'b>, Error>;

    /// The denominator of the mean.
    fn weight(&self, logits: &Logits, class_weights: Option<&[f32]>) -> f64;

    /// The label of a pixel, counted over all images, which the kernel found to be no class.
    fn label(&self, position: usize) -> i64;
}

/// Labels of any integer type, which are written for the GPU as codes: classes as they are, and a code each for the
/// ignore index and for everything else, which the kernel finds.
pub(in crate::ops) struct HostLabels<'a, L> {
    targets: &'a [L],
    label_type: LabelType,
    classes: u32,
    ignored: Option<i64>,
}

impl<'a, L: Copy + Into<i64>> HostLabels<'a, L> {
    pub fn new(targets: &'a [L], classes: u32, ignored: Option<i64>) -> Self {
        let label_type = if classes <= 254 { LabelType::U8 } else { LabelType::U32 };
        Self { targets, label_type, classes, ignored }
    }

    /// The code of the ignore index.
    pub fn ignore_index(&self) -> i64 {
        match self.label_type {
            LabelType::U8 => u8::MAX.into(),
            LabelType::U32 => u32::MAX.into(),
        }
    }

    /// In the lowest bits: the class, all ones for the ignore index, one less for an invalid label.
    fn code(&self, label: i64) -> u32 {
        if Some(label) == self.ignored {
            return u32::MAX;
        }
        match u32::try_from(label) {
            Ok(class) if class < self.classes => class,
            _ => u32::MAX - 1,
        }
    }

    /// The type of the codes.
    pub fn label_type(&self) -> LabelType {
        self.label_type
    }

    /// Writes the codes of the pixels of `map`, the first of which is `first` among all targets.
    pub fn write(&self, gpu: &Gpu, buffer: &Buffer, map: &Map, first: usize) {
        let codes = self.targets[first..first + map.pixels()].iter().map(|&label| self.code(label.into()));
        match self.label_type {
            LabelType::U8 => gpu.queue().write_buffer(buffer, 0, &map.pad(codes.map(|code| code as u8))),
            LabelType::U32 => gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&map.pad(codes))),
        }
    }
}

impl<L: Copy + Into<i64>> HostTargets for HostLabels<'_, L> {
    fn bands(&self, gpu: &Gpu, logits: &Logits, map_bits: u32) -> Result<Vec<Band>, Error> {
        // With as many bits again for the sums as for a label.
        bands::for_host(gpu, logits, (self.label_type.bits() + map_bits).into())
    }

    fn buffers(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        vec![("target", shape.map().bytes(self.label_type.bits()))]
    }

    fn upload<'b>(
        &mut self,
        gpu: &Gpu,
        _: &mut Dispatch,
        slot: &'b Slot,
        (whole, band): (&Logits, &Band),
    ) -> Result<Against<'b>, Error> {
        let first = band.position(whole);
        let buffer = &slot.uploads[0];
        self.write(gpu, buffer, &band.shape(whole)?.map(), first);
        Ok(Against::Labels(Targets::new(buffer.as_entire_buffer_binding(), self.label_type)))
    }

    fn weight(&self, logits: &Logits, class_weights: Option<&[f32]>) -> f64 {
        let mut pixels = vec![0u64; logits.classes() as usize];
        for &label in self.targets {
            // Codes of what is no class are beyond the classes.
            if let Some(count) = pixels.get_mut(self.code(label.into()) as usize) {
                *count += 1;
            }
        }
        let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
        // Without 0 · Inf for a class that is not there.
        let present = pixels.iter().enumerate().filter(|(_, count)| **count != 0);
        present.map(|(c, &count)| weight_of(c) * count as f64).sum()
    }

    fn label(&self, position: usize) -> i64 {
        self.targets[position].into()
    }
}

impl HostTargets for SoftTargets<'_> {
    fn bands(&self, gpu: &Gpu, logits: &Logits, map_bits: u32) -> Result<Vec<Band>, Error> {
        // 8 for the sums, as beside labels.
        bands::for_host(gpu, &logits.output(), (8 + map_bits).into())
    }

    fn buffers(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        self.buffers_of(shape)
    }

    fn upload<'b>(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &'b Slot,
        of_band: (&Logits, &Band),
    ) -> Result<Against<'b>, Error> {
        Ok(Against::Soft(self.upload_band(gpu, dispatch, slot, of_band)?))
    }

    fn weight(&self, logits: &Logits, _: Option<&[f32]>) -> f64 {
        logits.map().pixels() as f64
    }

    fn label(&self, _: usize) -> i64 {
        // No kernel finds one among probabilities.
        -1
    }
}
