//! The partial sums that the kernels of the pixels leave, and what adds them up.

use wgpu::Buffer;

use super::{LossRecord, SOURCE};
use crate::dispatch::{Bound, scratch};
use crate::kernel::{Access, Kernel, Params, Specialisation, WORKGROUP, binding};
use crate::{Dispatch, ElementType, Error, Gpu, Logits};

/// From many partial sums to fewer.
pub(crate) static PARTIALS: Kernel = Kernel {
    name: "cross-entropy partials",
    source: SOURCE,
    entry: "partials",
    class_walks: 1,
    bindings: &[binding::PARTIALS_OUT, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

/// From the last partial sums to the record.
pub(crate) static FINISH: Kernel = Kernel {
    name: "cross-entropy finish",
    source: SOURCE,
    entry: "finish",
    class_walks: 1,
    bindings: &[binding::RECORD, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

const REDUCTION: Specialisation = Specialisation::new(Access::Vec4, ElementType::F32, 0);

/// Groups of four pixels that an invocation sums up, `GROUPS` in `shaders/prelude/partials.wgsl`.
const GROUPS: u32 = 4;

/// Partial sums that an invocation of [`PARTIALS`] adds, `FAN` in `shaders/cross_entropy.wgsl`.
const FAN: u32 = 64;

/// Bytes of a [`LossRecord`], and of a partial sum.
pub(super) const RECORD: u64 = size_of::<LossRecord>() as u64;

/// What [`LossRecord::first_invalid`] holds where every target is valid, `NONE` in `shaders/prelude/partials.wgsl`.
pub(super) const NONE: u32 = u32::MAX;

/// Adds up `count` partial sums into `record`, as `params` say.
pub(super) fn finish(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    params: Params,
    (mut sums, mut count): (Buffer, u32),
    record: Bound<'_>,
) -> Result<(), Error> {
    while count > FAN {
        let fewer = count.div_ceil(FAN);
        let added = scratch(gpu, "partial sums", u64::from(fewer) * RECORD)?;
        push_partials(gpu, dispatch, params, (&sums, count), &added)?;
        (sums, count) = (added, fewer);
    }
    let sums = sums.as_entire_buffer_binding();
    let sums = Bound::new(gpu, binding::PARTIALS_IN, sums, u64::from(count) * RECORD)?;
    dispatch.push(gpu, (&FINISH, REDUCTION), Params { partials: count, ..params }, &[sums, record], (1, 1))
}

/// Adds `count` partial sums, [`FAN`] neighbours at a time.
pub(super) fn push_partials(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    params: Params,
    (sums, count): (&Buffer, u32),
    to: &Buffer,
) -> Result<(), Error> {
    // Partial sums can be more than a binding takes; those of this many are a range that can be bound.
    const STEP: u64 = FAN as u64 * 16;
    let limit = gpu.limits().max_storage_buffer_binding_size / RECORD;
    let most = if u64::from(count) <= limit { count.into() } else { (limit - limit % STEP).max(STEP) };
    for first in (0..u64::from(count)).step_by(most as usize) {
        let last = u64::from(count).min(first + most);
        let sums = sums.as_entire_buffer_binding();
        let from =
            Bound::part(gpu, binding::PARTIALS_IN, sums, u64::from(count) * RECORD, first * RECORD..last * RECORD)?;
        let fan = u64::from(FAN);
        let range = first / fan * RECORD..last.div_ceil(fan) * RECORD;
        let needed = u64::from(count.div_ceil(FAN)) * RECORD;
        let to = Bound::part(gpu, binding::PARTIALS_OUT, to.as_entire_buffer_binding(), needed, range)?;
        let count = (last - first) as u32;
        let params = Params { partials: count, ..params };
        dispatch.push(gpu, (&PARTIALS, REDUCTION), params, &[from, to], (count.div_ceil(FAN), 1))?;
    }
    Ok(())
}

/// Invocations, and partial sums, for the groups of an image.
pub(super) fn partials_of_image(groups: u32) -> u32 {
    groups.div_ceil(GROUPS * WORKGROUP) * WORKGROUP
}

/// Sums that [`PARTIALS`] leaves of a band.
pub(super) fn block_sums(shape: &Logits) -> u64 {
    let partials = u64::from(partials_of_image(Params::new(shape).groups)) * u64::from(shape.images());
    partials.div_ceil(FAN.into())
}
