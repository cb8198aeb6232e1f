//! What the losses share: how they are reduced, what they return, and the one-shot path.

mod against;
mod host;
mod host_targets;
mod partials;
mod pixels;

pub use against::Targets;
pub(crate) use against::{Against, ignore_index_in_32_bits};
pub(crate) use host_targets::{HostLabels, HostTargets, SoftTargets, with_labels, with_soft_targets};
pub(crate) use partials::{
    FAN, FINISH, NONE, PARTIALS, PartialSums, RECORD, REDUCTION, WORKGROUP_MEMORY, total_weight,
};
pub(crate) use pixels::{Asked, Inputs, OfBand, Output, PixelLoss, dispatch, run};

use wgpu::BufferBinding;

use crate::Confusion;

/// How losses become one number.
///
/// ```
/// use seghead::{CrossEntropy, Reduction};
/// let summed = CrossEntropy::new().reduction(Reduction::Sum);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum over the sum of their targets' class weights; NaN where that is 0, as when all are ignored. Against
    /// soft targets, their sum over the number of pixels; of [`BinaryCrossEntropy`](crate::BinaryCrossEntropy), over
    /// that of elements.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// What losses with this sum are reduced to.
    pub(crate) fn of(self, sum: f64, weight: f64) -> f64 {
        match self {
            Self::Sum => sum,
            // IEEE has NaN for 0 / 0, but an infinity for other quotients by 0.
            Self::Mean if weight == 0.0 => f64::NAN,
            Self::Mean => sum / weight,
        }
    }
}

/// What a dispatch of a loss leaves on the GPU, 16 bytes.
///
/// ```
/// use seghead::LossRecord;
/// assert_eq!(size_of::<LossRecord>(), 16);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LossRecord {
    /// The reduced loss; NaN where a target is invalid.
    pub loss: f32,
    /// Sum of the class weights of the targets that were not ignored, the denominator of the mean; of soft targets, the
    /// number of pixels; of [`BinaryCrossEntropy`](crate::BinaryCrossEntropy), that of elements.
    pub weight: f32,
    /// Number of pixels that were not ignored.
    pub valid: u32,
    /// Index of the first pixel, among all of the batch, whose target is neither a class nor the ignore index;
    /// `u32::MAX` where there is none.
    pub first_invalid: u32,
}

/// What a loss returns on the host.
///
/// ```
/// use seghead::{CrossEntropy, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 3)?;
/// let data = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// let loss = CrossEntropy::new().ignore_index(Some(255)).run_blocking(&gpu, &logits, &data, &[0u8, 255, 1])?;
/// assert!((loss.value - 2f32.ln()).abs() < 1e-6);
/// assert_eq!((loss.pixels, loss.ignored), (3, 1));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Loss {
    /// The reduced loss.
    pub value: f32,
    /// Number of pixels, ignored ones included.
    pub pixels: u64,
    /// Number of pixels whose target was the ignore index.
    pub ignored: u64,
    /// The loss of every pixel, N × H × W, 0 where it is ignored, if [`CrossEntropy`](crate::CrossEntropy) was asked
    /// for it.
    pub per_pixel: Option<Vec<f32>>,
    /// The loss of every element, in the order of the logits, if [`BinaryCrossEntropy`](crate::BinaryCrossEntropy) was
    /// asked for it.
    pub per_element: Option<Vec<f32>>,
    /// The losses of the regions, N × C, or those of N or C or 1 where they are taken together, of
    /// [`RegionLoss`](crate::RegionLoss).
    pub per_region: Option<Vec<f32>>,
    /// The losses that were added up, before they are weighted, of a [`LossSum`](crate::LossSum).
    pub per_term: Option<Vec<f32>>,
    /// How many pixels of each class were predicted to be of each class, if
    /// [`UpsampledCrossEntropy`](crate::UpsampledCrossEntropy) was asked for it.
    pub confusion: Option<Confusion>,
    /// The gradient of [`value`](Self::value) with respect to the logits, in their order, if it was asked for.
    pub gradient: Option<Vec<f32>>,
}

impl Loss {
    /// One of which nothing else was asked for.
    pub(crate) fn new(value: f32, pixels: u64, ignored: u64) -> Self {
        Self {
            value,
            pixels,
            ignored,
            per_pixel: None,
            per_element: None,
            per_region: None,
            per_term: None,
            confusion: None,
            gradient: None,
        }
    }
}

/// What a dispatch of a loss writes.
///
/// ```
/// # fn app(record: &seghead::wgpu::Buffer, gradient: &seghead::wgpu::Buffer) {
/// use seghead::LossBuffers;
/// let buffers = LossBuffers::new(record.as_entire_buffer_binding()).gradient(gradient.as_entire_buffer_binding());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LossBuffers<'a> {
    pub(crate) record: BufferBinding<'a>,
    pub(crate) losses: Option<BufferBinding<'a>>,
    pub(crate) gradient: Option<BufferBinding<'a>>,
}

impl<'a> LossBuffers<'a> {
    /// A [`LossRecord`], 16 bytes.
    pub fn new(record: BufferBinding<'a>) -> Self {
        Self { record, losses: None, gradient: None }
    }

    /// And the losses before they are reduced: of regions [`RegionLoss::bytes`](crate::RegionLoss::bytes), of a sum
    /// [`LossSum::bytes`](crate::LossSum::bytes), else a map or a tensor of f32.
    pub fn losses(self, losses: BufferBinding<'a>) -> Self {
        Self { losses: Some(losses), ..self }
    }

    /// And the gradient of the reduced loss, f32 where the logits are, [`Logits::output`](crate::Logits::output).
    pub fn gradient(self, gradient: BufferBinding<'a>) -> Self {
        Self { gradient: Some(gradient), ..self }
    }
}
