//! The partial sums that the kernels of a loss leave, and what adds them up.

use wgpu::Buffer;

use super::{LossRecord, Reduction};
use crate::bands::Band;
use crate::dispatch::{Bound, constants, scratch};
use crate::kernel::{Access, Kernel, Params, Specialisation, WORKGROUP, binding};
use crate::{Dispatch, ElementType, Error, Gpu, Logits};

const SOURCE: &str =
    concat!(include_str!("../../../shaders/prelude/partials.wgsl"), include_str!("../../../shaders/loss.wgsl"));

/// From many partial sums to fewer.
pub(crate) static PARTIALS: Kernel = Kernel {
    name: "loss partials",
    source: SOURCE,
    entry: "partials",
    class_walks: 1,
    bindings: &[binding::PARTIALS_OUT, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

/// From the last partial sums to the record, by a single workgroup.
pub(crate) static FINISH: Kernel = Kernel {
    name: "loss finish",
    source: SOURCE,
    entry: "finish",
    class_walks: 1,
    bindings: &[binding::RECORD, binding::PARTIALS_IN],
    specialisations: |_| vec![REDUCTION],
};

/// How kernels over records are specialised.
pub(crate) const REDUCTION: Specialisation = Specialisation::new(Access::Vec4, ElementType::F32, 0);

/// Groups of four pixels that an invocation sums up, `GROUPS` in `shaders/prelude/partials.wgsl`.
const GROUPS: u32 = 4;

/// Partial sums that an invocation of [`PARTIALS`] adds, `FAN` in `shaders/loss.wgsl`.
pub(crate) const FAN: u32 = 64;

/// Partial sums that [`FINISH`] adds at the most: a workgroup takes them in turns, and every device can bind them.
const FINISHED: u32 = FAN * 16;

/// Bytes of a [`LossRecord`], and of a partial sum.
pub(crate) const RECORD: u64 = size_of::<LossRecord>() as u64;

/// Bytes that the workgroup of [`FINISH`] shares: a partial sum of each invocation. No other kernel shares any.
pub(crate) const WORKGROUP_MEMORY: u32 = WORKGROUP * RECORD as u32;

/// What [`LossRecord::first_invalid`] holds where every target is valid, `NONE` in `shaders/prelude/partials.wgsl`.
pub(crate) const NONE: u32 = u32::MAX;

/// The partial sums of all bands of a dispatch, one band after another.
pub(crate) struct PartialSums {
    buffer: Buffer,
    /// Where those of each band begin, and in the end their number.
    starts: Vec<u32>,
}

impl PartialSums {
    /// For a kernel over every one of these bands of `logits`.
    pub fn new(gpu: &Gpu, logits: &Logits, bands: &[Band]) -> Result<Self, Error> {
        let of_band = |band: &Band| {
            let groups = Params::new(&band.of(logits)).groups;
            u64::from(partials_of_image(groups)) * u64::from(band.images)
        };
        Self::of_parts(gpu, bands.iter().map(of_band))
    }

    /// For kernels that leave so many of them each: multiples of 16, so that all have a range that can be bound.
    pub fn of_parts(gpu: &Gpu, counts: impl Iterator<Item = u64>) -> Result<Self, Error> {
        let mut starts = vec![0];
        let mut total = 0;
        for count in counts {
            total += count;
            let limit = u32::MAX;
            let what = "partial sums of a loss";
            starts.push(u32::try_from(total).map_err(|_| Error::Limit { what, needed: total, limit: limit.into() })?);
        }
        Ok(Self { buffer: scratch(gpu, "partial sums", total * RECORD)?, starts })
    }

    /// For a kernel that leaves `count` of them.
    pub fn of(gpu: &Gpu, count: u32) -> Result<Self, Error> {
        let buffer = scratch(gpu, "partial sums", u64::from(count) * RECORD)?;
        Ok(Self { buffer, starts: vec![0, count] })
    }

    fn count(&self) -> u32 {
        self.starts[self.starts.len() - 1]
    }

    /// Where the kernel of band `i` writes. A workgroup leaves 2 KiB: every band has a range that can be bound.
    pub fn of_band(&self, gpu: &Gpu, i: usize) -> Result<Bound<'_>, Error> {
        let range = u64::from(self.starts[i]) * RECORD..u64::from(self.starts[i + 1]) * RECORD;
        let needed = u64::from(self.count()) * RECORD;
        Bound::part(gpu, binding::PARTIALS_OUT, self.buffer.as_entire_buffer_binding(), needed, range)
    }

    /// Adds them, [`FAN`] neighbours at a time, into as many sums in `to`.
    pub fn add(&self, gpu: &Gpu, dispatch: &mut Dispatch, params: Params, to: &Buffer) -> Result<(), Error> {
        push_partials(gpu, dispatch, params, (&self.buffer, self.count()), to)
    }

    /// Adds them all up into `record`.
    pub fn finish(
        self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (logits, reduction): (&Logits, Reduction),
        record: Bound<'_>,
    ) -> Result<(), Error> {
        let params = Params { reduction: u32::from(reduction == Reduction::Mean), ..Params::new(logits) };
        let mut count = self.count();
        let mut sums = self.buffer;
        while count > FINISHED {
            let fewer = count.div_ceil(FAN);
            let added = scratch(gpu, "partial sums", u64::from(fewer) * RECORD)?;
            push_partials(gpu, dispatch, params, (&sums, count), &added)?;
            (sums, count) = (added, fewer);
        }
        let sums = sums.as_entire_buffer_binding();
        let sums = Bound::new(gpu, binding::PARTIALS_IN, sums, u64::from(count) * RECORD)?;
        dispatch.push(gpu, (&FINISH, REDUCTION), Params { partials: count, ..params }, &[sums, record], (1, 1))
    }
}

/// Adds `count` partial sums, [`FAN`] neighbours at a time.
fn push_partials(
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

/// The total weight of a mean, where it is known: what a gradient is divided by. A kernel reads it where it would read what
/// [`PartialSums::finish`] leaves.
pub(crate) fn total_weight(gpu: &Gpu, weight: f64) -> Result<Buffer, Error> {
    let total = LossRecord { loss: 0.0, weight: weight as f32, valid: 0, first_invalid: NONE };
    constants(gpu, binding::TOTAL.what, bytemuck::bytes_of(&total))
}

/// Invocations, and partial sums, for the groups of an image.
pub(crate) fn partials_of_image(groups: u32) -> u32 {
    groups.div_ceil(GROUPS * WORKGROUP) * WORKGROUP
}

/// Sums that [`PARTIALS`] leaves of a band.
pub(crate) fn block_sums(shape: &Logits) -> u64 {
    let partials = u64::from(partials_of_image(Params::new(shape).groups)) * u64::from(shape.images());
    partials.div_ceil(FAN.into())
}
