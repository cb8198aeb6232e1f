//! Tensors of a dispatch that cannot be bound at once: their parts, bound where they are, or brought together in a
//! buffer of the dispatch's own by the kernel in `shaders/copy.wgsl`.

use wgpu::BufferBinding;

use crate::bands::{self, Band, Halves};
use crate::dispatch::{Bound, scratch};
use crate::kernel::{Access, Binding, Kernel, Params, Specialisation, binding};
use crate::{Dispatch, Error, Gpu, Logits};

pub(crate) static COPY: Kernel = Kernel {
    name: "copy",
    source: include_str!("../shaders/copy.wgsl"),
    entry: "copy",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// What a kernel binds of a tensor whose images it takes whole or in halves.
pub(crate) struct Planes<'a> {
    pub near: Bound<'a>,
    /// A placeholder where the image is whole.
    pub far: Bound<'a>,
    /// All planes, as they are seen from the near binding.
    pub image: Logits,
    pub halves: Option<Halves>,
}

impl<'a> Planes<'a> {
    /// What is bound one by one, for kernels that need no other planes than those that they write: all, or either half.
    pub fn halves(self) -> [Option<(Bound<'a>, Logits)>; 2] {
        match self.halves {
            None => [Some((self.near, self.image)), None],
            Some(Halves { near, far, .. }) => {
                let far_bound = self.far.with_binding(self.near.binding());
                [Some((self.near, near.1)), Some((far_bound, far.1))]
            }
        }
    }
}

/// Where the bands of a tensor are bound.
pub(crate) struct Window<'a> {
    buffer: BufferBinding<'a>,
    logits: Logits,
    /// Where the planes of a band are too far apart to be bound: what they are brought together in.
    together: Option<wgpu::Buffer>,
    /// Whether bands are images that are bound in halves.
    halves: bool,
}

impl<'a> Window<'a> {
    /// For `bands` of the tensor `logits` in `buffer`.
    pub fn new(gpu: &Gpu, buffer: BufferBinding<'a>, logits: &Logits, bands: &[Band]) -> Result<Self, Error> {
        let mut together = None;
        if !bands.iter().all(|band| band.is_in_place(gpu, logits)) {
            let mut most = 0;
            for band in bands {
                most = most.max(band.shape_together(logits)?.bytes());
            }
            together = Some(scratch(gpu, "logits of a band", most)?);
        }
        Ok(Self { buffer, logits: *logits, together, halves: false })
    }

    /// For images of `logits` that are bound in halves ([`bands::in_halves`]).
    pub fn of_halves(buffer: BufferBinding<'a>, logits: &Logits) -> Self {
        Self { buffer, logits: *logits, together: None, halves: true }
    }

    /// For a kernel that takes images in halves where they are too big, with its bands.
    pub fn of_planes(gpu: &Gpu, buffer: BufferBinding<'a>, logits: &Logits) -> Result<(Self, Vec<Band>), Error> {
        if let Some(images) = bands::in_halves(gpu, &[logits]) {
            return Ok((Self::of_halves(buffer, logits), images));
        }
        let bands = bands::for_dispatch(gpu, logits)?;
        Ok((Self::new(gpu, buffer, logits, &bands)?, bands))
    }

    /// The same as [`read`](Self::read) for a kernel that takes images in halves.
    pub fn read_planes<'s>(&'s self, gpu: &'s Gpu, dispatch: &mut Dispatch, band: &Band) -> Result<Planes<'s>, Error> {
        self.planes(gpu, band, [binding::LOGITS, binding::FAR_LOGITS], || self.read(gpu, dispatch, band))
    }

    /// The same as [`write`](Self::write) for a kernel that takes images in halves.
    pub fn write_planes<'s>(&'s self, gpu: &'s Gpu, band: &Band) -> Result<Planes<'s>, Error> {
        self.planes(gpu, band, [binding::OUTPUT, binding::FAR_OUTPUT], || self.write(gpu, band))
    }

    fn planes<'s>(
        &'s self,
        gpu: &'s Gpu,
        band: &Band,
        [near, far]: [Binding; 2],
        whole: impl FnOnce() -> Result<(Bound<'s>, Logits), Error>,
    ) -> Result<Planes<'s>, Error> {
        let halves = if self.halves { Halves::of(gpu, &self.logits, band) } else { None };
        let Some(halves) = halves else {
            let (near, image) = whole()?;
            return Ok(Planes { near, far: Bound::placeholder(gpu, far), image, halves: None });
        };
        // The bindings may overlap, but no kernel writes behind the last near plane, nor in front of the first far one.
        let (first, end) = (self.buffer.offset, self.buffer.offset + self.logits.bytes());
        let (start, half) = halves.far;
        let between = first + start + u64::from(half.offset()) * half.element_type().size();
        let bind = |binding, (start, half): (u64, Logits)| self.bind(gpu, binding, &half, start);
        let near = bind(near, halves.near)?.using(first..between);
        let far = bind(far, halves.far)?.using(between..end);
        Ok(Planes { near, far, image: halves.image, halves: Some(halves) })
    }

    /// The logits of `band`, as they are bound and where; where they must be brought together, `dispatch` gets the work.
    pub fn read(&self, gpu: &Gpu, dispatch: &mut Dispatch, band: &Band) -> Result<(Bound<'_>, Logits), Error> {
        self.read_as(gpu, dispatch, binding::LOGITS, band)
    }

    /// The same of a tensor that a kernel reads through another binding.
    pub fn read_as(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        binding: Binding,
        band: &Band,
    ) -> Result<(Bound<'_>, Logits), Error> {
        let whole = &self.logits;
        let Some(together) = &self.together else { return self.in_place(gpu, binding, band) };
        let shape = band.shape_together(whole)?;
        self.each_window(gpu, binding::LOGITS, band, |input, part, first_class| {
            let to = shape.part(0..1, 0, (shape.height(), shape.width()), first_class..first_class + part.classes());
            let output = Bound::new(gpu, binding::OUTPUT, together.as_entire_buffer_binding(), shape.bytes())?;
            copy(gpu, dispatch, (input, part), (output, to))
        })?;
        Ok((Bound::new(gpu, binding, together.as_entire_buffer_binding(), shape.bytes())?, shape))
    }

    /// Where the results of `band` are written: what [`finish`](Self::finish) has to follow.
    pub fn write(&self, gpu: &Gpu, band: &Band) -> Result<(Bound<'_>, Logits), Error> {
        self.write_as(gpu, binding::OUTPUT, band)
    }

    /// The same of a tensor that goes by another name.
    pub fn write_as(&self, gpu: &Gpu, binding: Binding, band: &Band) -> Result<(Bound<'_>, Logits), Error> {
        let Some(together) = &self.together else { return self.in_place(gpu, binding, band) };
        let shape = band.shape_together(&self.logits)?;
        Ok((Bound::new(gpu, binding, together.as_entire_buffer_binding(), shape.bytes())?, shape))
    }

    /// Takes apart what was written together for `band`.
    pub fn finish(&self, gpu: &Gpu, dispatch: &mut Dispatch, band: &Band) -> Result<(), Error> {
        let Some(together) = &self.together else { return Ok(()) };
        let shape = band.shape_together(&self.logits)?;
        self.each_window(gpu, binding::OUTPUT, band, |output, part, first_class| {
            let from = shape.part(0..1, 0, (shape.height(), shape.width()), first_class..first_class + part.classes());
            let input = Bound::new(gpu, binding::LOGITS, together.as_entire_buffer_binding(), shape.bytes())?;
            copy(gpu, dispatch, (input, from), (output, part))
        })
    }

    /// Calls `copy` with as many classes of `band` at a time as can be bound, and the first of them.
    fn each_window(
        &self,
        gpu: &Gpu,
        binding: Binding,
        band: &Band,
        mut copy: impl FnMut(Bound<'_>, Logits, u32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let whole = &self.logits;
        let limit = gpu.limits().max_storage_buffer_binding_size - bands::alignment(gpu);
        let of = |classes| whole.part(band.image..band.image + 1, band.pixel, (band.height, band.width), classes);
        let needed = bands::extent(&of(0..1));
        if needed > limit {
            return Err(Error::Limit { what: "bytes between the first and the last pixel of a band", needed, limit });
        }
        let plane = u64::from(whole.plane_stride()) * whole.element_type().size();
        let most = u32::try_from(1 + (limit - needed) / plane).unwrap_or(u32::MAX).min(whole.classes());
        for first in (0..whole.classes()).step_by(most as usize) {
            let (bound, part) = self.part(gpu, binding, &of(first..whole.classes().min(first.saturating_add(most))))?;
            copy(bound, part, first)?;
        }
        Ok(())
    }

    /// Binds what holds `band`.
    fn in_place(&self, gpu: &Gpu, binding: Binding, band: &Band) -> Result<(Bound<'_>, Logits), Error> {
        match band.is_whole(&self.logits) {
            true => Ok((self.bind(gpu, binding, &self.logits, 0)?, self.logits)),
            false => self.part(gpu, binding, &band.of(&self.logits)),
        }
    }

    /// Binds what holds `part`.
    fn part(&self, gpu: &Gpu, binding: Binding, part: &Logits) -> Result<(Bound<'_>, Logits), Error> {
        let (start, part) = part.rebased(gpu.limits().min_storage_buffer_offset_alignment);
        Ok((self.bind(gpu, binding, &part, start)?, part))
    }

    /// Binds the bytes of `part` from `start` on.
    fn bind(&self, gpu: &Gpu, binding: Binding, part: &Logits, start: u64) -> Result<Bound<'_>, Error> {
        Bound::part(gpu, binding, self.buffer.clone(), self.logits.bytes(), start..start + part.bytes())
    }
}

/// Copies a tensor, or a part of one, to where another of the same sizes lies, as f32.
pub(crate) fn copy(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    (input, from): (Bound<'_>, Logits),
    (output, to): (Bound<'_>, Logits),
) -> Result<(), Error> {
    let params = Params::new(&from).with_output(&to);
    // Both sides can be read and written in fours, or none: a store of four reaches beyond the row only into padding.
    let in_fours = params.reads_in_fours() && params.writes_in_fours(true);
    let specialisation = Specialisation::new(Access::choose(gpu, in_fours), from.element_type(), 0);
    dispatch.push(gpu, (&COPY, specialisation), params, &[input, output], (params.groups, from.images()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ElementType;

    #[test]
    fn what_is_brought_together_has_the_rows_of_its_map() -> Result<(), Error> {
        let whole = Logits::chw(3, 10, 20)?.crop(1, 1, 7, 13)?.with_element_type(ElementType::F16);
        let band = Band { image: 0, pixel: 2 * 13, images: 1, height: 4, width: 13 };
        let shape = band.shape_together(&whole)?;
        assert_eq!((shape.row_stride(), shape.map().row_stride()), (16, 16));
        assert_eq!(shape.element_type(), ElementType::F32);
        Ok(())
    }
}
