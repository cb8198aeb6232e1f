//! Targets that are tensors like the logits, from the host to the GPU.

use wgpu::BufferBinding;

use crate::bands::Band;
use crate::dispatch::Bound;
use crate::host::{self, Slot};
use crate::kernel::binding;
use crate::{Dispatch, ElementType, Error, Gpu, Input, Logits, window};

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

/// An ignore index as kernels compare it: one beyond 32 bits matches no label on the GPU; a negative one is compared in
/// two's complement.
pub(crate) fn ignore_index_in_32_bits(index: Option<i64>) -> Option<u32> {
    let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
    index.filter(in_32_bits).map(|index| index as u32)
}
