//! From the sums of chunks to losses of regions, and to what the gradient is made of.

use wgpu::Buffer;

use super::pixels::{Pixels, lanes_of, rows};
use super::{LossBuffers, Overlap, RegionLoss};
use crate::dispatch::{Bound, scratch};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::ops::loss::{Against, PartialSums, RECORD};
use crate::{Dispatch, ElementType, Error, Gpu, Logits, Reduction};

const SOURCE: &str = concat!(
    include_str!("../../../shaders/prelude/partials.wgsl"),
    include_str!("../../../shaders/prelude/region_sums.wgsl"),
    include_str!("../../../shaders/region_score.wgsl")
);

/// From many sums to fewer.
pub(crate) static FOLD: Kernel = Kernel {
    name: "region fold",
    source: SOURCE,
    entry: "fold",
    class_walks: 1,
    bindings: &[binding::SUMS_IN, binding::SUMS_OUT],
    specialisations: |_| vec![PLAIN],
};

/// From the sums of the regions to their losses.
pub(crate) static SCORE: Kernel = Kernel {
    name: "region score",
    source: SOURCE,
    entry: "score",
    class_walks: 2,
    bindings: &[binding::REGION_LOSSES, binding::COEFFICIENTS_OUT, binding::PARTIALS_OUT, binding::SUMS_IN],
    specialisations: |_| [false, true].map(|per_pixel| Specialisation { per_pixel, ..PLAIN }).to_vec(),
};

const PLAIN: Specialisation = Specialisation::new(Access::Vec4, ElementType::F32, 0);

/// Rows that an invocation of [`FOLD`] adds where it is not lanes.
const FAN: u32 = 64;

/// Bytes of the sums of a class, `Sums` in `shaders/prelude/region_sums.wgsl`.
pub(super) const SUMS: u64 = 20;

/// Sums, images × rows × C.
pub(super) struct Sums<'a> {
    pub buffer: &'a Buffer,
    pub images: u32,
    pub rows: u32,
}

impl Sums<'_> {
    /// Adds `fan` neighbouring rows of every image, into as many sums from `first` on in `to`.
    pub fn fold(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        classes: u32,
        fan: u32,
        (to, first): (&Buffer, u32),
    ) -> Result<(), Error> {
        let params = Params { classes, partials: self.rows, lanes: fan, first_region: first, ..Params::default() };
        let buffers = [Bound::whole(gpu, binding::SUMS_IN, self.buffer)?, Bound::whole(gpu, binding::SUMS_OUT, to)?];
        dispatch.push(gpu, (&FOLD, PLAIN), params, &buffers, (self.rows.div_ceil(fan) * classes, self.images))
    }
}

impl RegionLoss {
    pub(in crate::ops) fn dispatch_against(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        inputs: (wgpu::BufferBinding<'_>, Against<'_>),
        buffers: LossBuffers<'_>,
    ) -> Result<Dispatch, Error> {
        self.check()?;
        let record = Bound::new(gpu, binding::RECORD, buffers.record, RECORD)?;
        let losses = match buffers.losses {
            Some(losses) => Some(Bound::new(gpu, binding::REGION_LOSSES, losses, self.bytes(logits))?),
            None => None,
        };
        let written: Vec<_> = std::iter::once(&record).chain(&losses).collect();
        if let Some(losses) = &losses {
            record.check_apart(losses)?;
        }
        let mut dispatch = Dispatch::new();
        let (lanes, classes) = (lanes_of(logits), logits.classes());
        let pixels = Pixels::new(self, gpu, logits, inputs, lanes)?;
        let rows = rows(gpu, logits, lanes)?;
        let bytes = u64::from(logits.images()) * u64::from(rows) * u64::from(classes) * SUMS;
        let sums = scratch(gpu, "sums of regions", bytes)?;
        pixels.push_sums(gpu, &mut dispatch, &sums, &written)?;
        let coefficients =
            self.push_score(gpu, &mut dispatch, (logits, sums, rows), (record.clone(), losses.clone()))?;
        if let Some(gradient) = buffers.gradient {
            let stride = if self.per_image { classes } else { 0 };
            pixels.push_gradient(gpu, &mut dispatch, (&coefficients, 0, stride), gradient, &written)?;
        }
        Ok(dispatch)
    }

    /// From the sums of all chunks to the record and the losses; returns the coefficients of the gradient.
    fn push_score(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (logits, mut sums, mut rows): (&Logits, Buffer, u32),
        (record, losses): (Bound<'_>, Option<Bound<'_>>),
    ) -> Result<Buffer, Error> {
        let classes = logits.classes();
        let mut images = logits.images();
        loop {
            if rows == 1 && !self.per_image {
                (images, rows) = (1, images);
            }
            if rows == 1 {
                break;
            }
            let fewer = rows.div_ceil(FAN);
            let added = scratch(gpu, "sums of regions", u64::from(images) * u64::from(fewer * classes) * SUMS)?;
            Sums { buffer: &sums, images, rows }.fold(gpu, dispatch, classes, FAN, (&added, 0))?;
            (sums, rows) = (added, fewer);
        }
        let coefficients = scratch(
            gpu,
            "coefficients of regions",
            u64::from(images) * u64::from(classes) * size_of::<[f32; 2]>() as u64,
        )?;
        let (_, of_image) = self.counts(logits);
        let regions = images * of_image;
        let partials = PartialSums::of(gpu, regions)?;
        let Overlap { hits, of_hits, of_predicted, of_truth } = self.overlap;
        let params = Params {
            classes,
            partials: regions,
            reduction: u32::from(self.reduction == Reduction::Mean),
            region_classes: classes / of_image,
            smoothing: self.smoothing,
            hits,
            of_hits,
            of_predicted,
            of_truth,
            nan: f32::NAN,
            ..Params::default()
        };
        let per_pixel = losses.is_some();
        let buffers = [
            losses.unwrap_or_else(|| Bound::placeholder(gpu, binding::REGION_LOSSES)),
            Bound::whole(gpu, binding::COEFFICIENTS_OUT, &coefficients)?,
            partials.of_band(gpu, 0)?,
            Bound::whole(gpu, binding::SUMS_IN, &sums)?,
        ];
        dispatch.push(gpu, (&SCORE, Specialisation { per_pixel, ..PLAIN }), params, &buffers, (regions, 1))?;
        partials.finish(gpu, dispatch, (logits, self.reduction), record)?;
        Ok(coefficients)
    }

    /// The loss of a region with these sums, and its derivative by a probability with the target t, as A and B of
    /// A · t + B: `score` in `shaders/region_score.wgsl` in f64.
    pub(super) fn score(&self, [intersection, predicted, truth]: [f64; 3]) -> (f64, [f64; 2]) {
        let Overlap { hits, of_hits, of_predicted, of_truth } = self.overlap;
        let [k, a, b, c] = [hits, of_hits, of_predicted, of_truth].map(f64::from);
        let smoothing = f64::from(self.smoothing);
        let hits = k * intersection;
        let all = a * intersection + b * predicted + c * truth;
        let empty = all == 0.0;
        let all = if empty { hits } else { all };
        let bottom = all + smoothing;
        if bottom == 0.0 {
            return (f64::NAN, [f64::NAN; 2]);
        }
        let loss = (all - hits) / bottom;
        let score = (hits + smoothing) / bottom;
        (loss, if empty { [0.0; 2] } else { [(score * a - k) / bottom, score * b / bottom] })
    }
}
