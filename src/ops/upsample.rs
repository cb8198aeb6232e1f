//! What upsamples logits without storing them: the parts that [`Segment`](crate::Segment), [`Overlay`](crate::Overlay) and
//! [`SoftMask`](crate::SoftMask) are recorded in.

use wgpu::BufferBinding;

use crate::bands;
use crate::dispatch::Bound;
use crate::kernel::{Access, Binding, Kernel, Params, Specialisation};
use crate::ops::resize::{Geometry, Rows, within};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, Logits};

/// The two entry points of `shaders/upsample.wgsl` with what an operator puts behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// Where neither axis shrinks.
    pub upscale: &'static Kernel,
    /// For any scale.
    pub resize: &'static Kernel,
}

/// Every number of taps of `upscale`.
pub(crate) const UPSCALE_TAPS: [u32; 3] = [3, 4, 5];

/// The taps of `resize`, which does not use the constant.
pub(crate) const RESIZE_TAPS: u32 = 3;

type Specialisations = fn(u32) -> Vec<Specialisation>;

/// The row of an `upscale`. It walks through the classes once, and where a tap is special twice more for each of the four
/// rows of a block.
pub(crate) const fn upscale(
    name: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
    specialisations: Specialisations,
) -> Kernel {
    Kernel { name, source, entry: "upscale", class_walks: 9, bindings, specialisations }
}

/// The row of a `resize`.
pub(crate) const fn resize(
    name: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
    specialisations: Specialisations,
) -> Kernel {
    Kernel { name, source, entry: "resize", class_walks: 3, bindings, specialisations }
}

/// Unrolling the classes gains nothing here: the taps of a class are work enough. Taps start anywhere in a row, so
/// they are read one at a time.
pub(crate) const fn any_classes(element_type: ElementType) -> Specialisation {
    Specialisation::new(Access::Scalar, element_type, 0)
}

impl Kernels {
    /// Makes the work for all of the result: `part` gets each part of it with its parameters and logits, and adds what
    /// is to be done. `bytes` tells what of the result is bound with a part, and `chunk` how much more that may be because
    /// of where bindings can start.
    pub fn dispatch(
        gpu: &Gpu,
        geometry: &Geometry,
        logits: &Logits,
        input: BufferBinding<'_>,
        (bytes, chunk): (impl Fn(&Rows) -> Result<u64, Error>, u64),
        mut part: impl FnMut(&mut Dispatch, &Rows, Params, (Bound<'_>, &Logits)) -> Result<(), Error>,
    ) -> Result<Dispatch, Error> {
        let parts = Self::parts(gpu, geometry, logits, (bytes, chunk))?;
        let bands: Vec<_> = parts.iter().map(|part| part.band).collect();
        let window = Window::new(gpu, input, logits, &bands)?;
        let mut dispatch = Dispatch::new();
        for rows in &parts {
            let (input, shape) = window.read(gpu, &mut dispatch, &rows.band)?;
            part(&mut dispatch, rows, geometry.params(logits, rows, &shape), (input, &shape))?;
        }
        Ok(dispatch)
    }

    /// The parts of the result that can be bound, see [`dispatch`](Self::dispatch).
    pub fn parts(
        gpu: &Gpu,
        geometry: &Geometry,
        logits: &Logits,
        (bytes, chunk): (impl Fn(&Rows) -> Result<u64, Error>, u64),
    ) -> Result<Vec<Rows>, Error> {
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let all = geometry.all(logits);
        if logits.bytes() <= limit && bytes(&all)? <= limit {
            return Ok(vec![all]);
        }
        geometry.split(logits, |part| {
            bands::check_readable(gpu, logits, &part.band)?;
            within(bytes(part)?, limit.saturating_sub(chunk))
        })
    }

    /// Appends the kernel that `geometry` asks for, on `images` images.
    pub fn push(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (geometry, params): (&Geometry, Params),
        specialisation: Specialisation,
        resources: &[Bound<'_>],
        images: u32,
    ) -> Result<(), Error> {
        let (kernel, taps, invocations) = match geometry.taps() {
            Some(taps) => (self.upscale, taps, params.row_groups * params.out_height.div_ceil(4)),
            None => (self.resize, RESIZE_TAPS, params.row_groups * params.out_height),
        };
        let specialisation = Specialisation { taps, ..specialisation };
        dispatch.push(gpu, (kernel, specialisation), params, resources, (invocations, images))
    }
}
