//! Targets on the host, and how they come to the GPU.

use wgpu::{Buffer, BufferBinding};

use super::against::{Against, Targets};
use crate::bands::{self, Band};
use crate::dispatch::Bound;
use crate::host::{self, Slot, check_length, logits_of};
use crate::kernel::binding;
use crate::ops::label_codes::Codes;
use crate::{Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map, window};

/// Targets of the one-shot functions.
pub(crate) trait HostTargets {
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

    /// Whether they are a tensor like the logits.
    fn is_soft(&self) -> bool;

    /// The code of labels that are ignored, of soft targets none.
    fn ignore_index(&self) -> Option<i64>;

    /// The sum of the class weights, or 1, of the pixels that are not ignored; of soft targets the number of pixels.
    fn weight(&self, logits: &Logits, class_weights: Option<&[f32]>) -> f64;

    /// What is wrong with the label of a pixel, counted over all images, which the kernel found to be no class.
    fn invalid(&self, position: usize) -> Error;
}

/// Labels of any integer type, which are written for the GPU as [`Codes`].
pub(crate) struct HostLabels<'a, L> {
    targets: &'a [L],
    codes: Codes,
    ignored: Option<i64>,
}

impl<'a, L: Copy + Into<i64>> HostLabels<'a, L> {
    /// Labels that must be below `classes`.
    pub fn new(targets: &'a [L], classes: u32, ignored: Option<i64>) -> Self {
        Self { targets, codes: Codes::new(classes), ignored }
    }

    /// The type of the codes.
    pub fn label_type(&self) -> LabelType {
        self.codes.label_type
    }

    /// Writes the codes of the pixels of `map`, the first of which is `first` among all targets.
    pub fn write(&self, gpu: &Gpu, buffer: &Buffer, map: &Map, first: usize) -> Result<(), Error> {
        self.codes.write(gpu, buffer, map, &self.targets[first..first + map.pixels()], self.ignored)
    }
}

impl<L: Copy + Into<i64>> HostTargets for HostLabels<'_, L> {
    fn bands(&self, gpu: &Gpu, logits: &Logits, map_bits: u32) -> Result<Vec<Band>, Error> {
        // With as many bits again for the sums as for a label.
        bands::for_host(gpu, logits, (self.label_type().bits() + map_bits).into())
    }

    fn buffers(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        vec![("target", shape.map().bytes(self.label_type().bits()))]
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
        self.write(gpu, buffer, &band.shape(whole)?.map(), first)?;
        Ok(Against::Labels(Targets::new(buffer.as_entire_buffer_binding(), self.label_type())))
    }

    fn is_soft(&self) -> bool {
        false
    }

    fn ignore_index(&self) -> Option<i64> {
        Some(self.codes.ignored())
    }

    fn weight(&self, _: &Logits, class_weights: Option<&[f32]>) -> f64 {
        let mut pixels = vec![0u64; self.codes.classes as usize];
        for &label in self.targets {
            // Codes of what is no class are beyond the classes.
            if let Some(count) = pixels.get_mut(self.codes.of(label.into(), self.ignored) as usize) {
                *count += 1;
            }
        }
        let weight_of = |c: usize| class_weights.map_or(1.0, |weights| f64::from(weights[c]));
        // Without 0 · Inf for a class that is not there.
        let present = pixels.iter().enumerate().filter(|(_, count)| **count != 0);
        present.map(|(c, &count)| weight_of(c) * count as f64).sum()
    }

    fn invalid(&self, position: usize) -> Error {
        Error::Label { position: position as u64, label: self.targets[position].into(), classes: self.codes.classes }
    }
}

/// What a one-shot function takes of logits and as many labels as they have pixels.
pub(crate) fn with_labels<'a, 'b, L: Copy + Into<i64>>(
    logits: &Logits,
    data: impl Into<Input<'a>>,
    targets: &'b [L],
    (classes, ignored): (u32, Option<i64>),
) -> Result<(Logits, Input<'a>, HostLabels<'b, L>), Error> {
    let input = data.into();
    let logits = logits_of(logits, &input)?;
    check_length("targets", logits.map().pixels() as u64, targets.len() as u64)?;
    Ok((logits, input, HostLabels::new(targets, classes, ignored)))
}

/// What a one-shot function takes of logits and soft targets like them.
pub(crate) fn with_soft_targets<'a, 'b>(
    logits: &Logits,
    data: impl Into<Input<'a>>,
    targets: impl Into<Input<'b>>,
) -> Result<(Logits, Input<'a>, SoftTargets<'b>), Error> {
    let (input, targets) = (data.into(), targets.into());
    let logits = logits_of(logits, &input)?;
    check_length("targets", logits.len().into(), targets.elements())?;
    Ok((logits, input, SoftTargets(targets)))
}

/// Soft targets, which are read as the logits are. Kernels take them as f32.
pub(crate) struct SoftTargets<'a>(pub Input<'a>);

impl SoftTargets<'_> {
    /// The buffers that those of a band of this shape take: the first of the uploads of a slot.
    pub fn buffers_of(&self, shape: &Logits) -> Vec<(&'static str, u64)> {
        let shape = shape.with_element_type(self.0.element_type());
        let mut buffers = vec![("target", shape.bytes())];
        if shape.element_type() != ElementType::F32 {
            buffers.push(("target as f32", shape.output().bytes()));
        }
        buffers
    }

    /// Brings those of a band of the logits `whole` into the buffers of a slot.
    pub fn upload_band<'b>(
        &mut self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        slot: &'b Slot,
        (whole, band): (&Logits, &Band),
    ) -> Result<BufferBinding<'b>, Error> {
        let whole = whole.with_element_type(self.0.element_type());
        let shape = band.shape(&whole)?;
        host::upload(gpu, &slot.uploads[0], &mut self.0, (&whole, band), &shape)?;
        let buffer = |i: usize| -> BufferBinding<'b> { slot.uploads[i].as_entire_buffer_binding() };
        if shape.element_type() == ElementType::F32 {
            return Ok(buffer(0));
        }
        let from = Bound::new(gpu, binding::LOGITS, buffer(0), shape.bytes())?;
        let to = Bound::new(gpu, binding::OUTPUT, buffer(1), shape.output().bytes())?;
        window::copy(gpu, dispatch, (from, shape), (to, shape.output()))?;
        Ok(buffer(1))
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

    fn is_soft(&self) -> bool {
        true
    }

    fn ignore_index(&self) -> Option<i64> {
        None
    }

    fn weight(&self, logits: &Logits, _: Option<&[f32]>) -> f64 {
        logits.map().pixels() as f64
    }

    fn invalid(&self, position: usize) -> Error {
        // No kernel finds one among numbers.
        Error::Label { position: position as u64, label: -1, classes: 0 }
    }
}
