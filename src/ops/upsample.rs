//! What upsamples logits without storing them: the parts that [`Segment`](crate::Segment), [`Overlay`](crate::Overlay) and
//! [`SoftMask`](crate::SoftMask) are recorded in.

use wgpu::BufferBinding;

use crate::bands;
use crate::dispatch::Bound;
use crate::kernel::{Access, Binding, Kernel, Params, PipelineKey, Scores, Specialisation};
use crate::ops::resize::{Geometry, Rows, within};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, Logits};

/// The entry points of `shaders/upsample.wgsl` with what an operator puts behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// Where neither axis shrinks.
    pub upscale: &'static Kernel,
    /// The same for adapters that pay for an access whatever its width.
    pub wide: Option<WideKernels>,
    /// For any scale.
    pub resize: &'static Kernel,
}

/// The entry points of `shaders/upsample_wide.wgsl` and `shaders/upsample_by_four.wgsl`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WideKernels {
    /// Where neither axis shrinks.
    pub upscale: &'static Kernel,
    /// Where both grow to exactly four times their size, centre on centre.
    pub by_four: &'static Kernel,
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

/// The row of an `upscale_wide`, which walks twice more for each of its 16 groups.
pub(crate) const fn upscale_wide(
    name: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
    specialisations: Specialisations,
) -> Kernel {
    Kernel { name, source, entry: "upscale_wide", class_walks: 33, bindings, specialisations }
}

/// The row of an `upscale_by_four`, which walks twice more for each of its 16 groups.
pub(crate) const fn upscale_by_four(
    name: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
    specialisations: Specialisations,
) -> Kernel {
    Kernel { name, source, entry: "upscale_by_four", class_walks: 33, bindings, specialisations }
}

/// Whether invocations own as many pixels as [`WideKernels`] have them: what pays for accesses, not for registers.
fn has_wide_blocks(gpu: &Gpu, classes: u32) -> bool {
    gpu.access().for_classes(classes).is_adjacent()
}

/// Whether an `upscale_by_four` finds these scores: what it would compute for 64 pixels takes drivers too long to compile
/// otherwise.
pub(crate) const fn in_strips(scores: Scores) -> bool {
    !scores.margin
}

/// The same of an `upscale_wide`, which owns 32 pixels where it finds scores.
pub(crate) const fn in_wide_blocks(scores: Scores) -> bool {
    !scores.entropy
}

/// Groups of four pixels that an invocation of `upscale_wide` owns in each of its rows: two blocks or one, `PAIRED` in
/// the shader.
const fn wide_groups(taps: u32, scores: Scores) -> u32 {
    if taps == 3 && !scores.confidence { 4 } else { 2 }
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
/// they are read one at a time, but by [`WideKernels`].
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

    /// Whether one of these kernels, in this specialisation, is the choice of [`push`](Self::push) for any geometry.
    pub fn ask_for(&self, gpu: &Gpu, (kernel, specialisation): PipelineKey, classes: u32) -> bool {
        let Some(wide) = self.wide else { return true };
        if kernel == wide.upscale || kernel == wide.by_four {
            return has_wide_blocks(gpu, classes);
        }
        kernel != self.upscale || !has_wide_blocks(gpu, classes) || !in_wide_blocks(specialisation.scores)
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
        let (row_groups, rows) = (params.row_groups, params.out_height);
        let wide = self.wide.filter(|_| has_wide_blocks(gpu, params.classes));
        let access = Access::choose(gpu, params.has_rows_in_fours());
        let (kernel, taps, access, invocations) = match (geometry.taps(), wide) {
            (Some(_), Some(wide)) if geometry.is_by_four() && in_strips(specialisation.scores) => {
                // A strip of four rows starts in the middle between two rows of the logits.
                let strips = (params.out_row + rows + 1) / 4 - (params.out_row + 2) / 4 + 1;
                (wide.by_four, RESIZE_TAPS, access, row_groups.div_ceil(4) * strips)
            }
            (Some(taps), Some(wide)) if in_wide_blocks(specialisation.scores) => {
                let across = row_groups.div_ceil(wide_groups(taps, specialisation.scores));
                (wide.upscale, taps, access, across * rows.div_ceil(4))
            }
            (Some(taps), _) => (self.upscale, taps, Access::Scalar, row_groups * rows.div_ceil(4)),
            (None, _) => (self.resize, RESIZE_TAPS, Access::Scalar, row_groups * rows),
        };
        let specialisation = Specialisation { access, taps, ..specialisation };
        dispatch.push(gpu, (kernel, specialisation), params, resources, (invocations, images))
    }
}
