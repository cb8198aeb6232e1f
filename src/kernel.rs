//! The table of kernels, and what is compiled and passed into each.

use crate::{ops, window};

mod listing;
mod params;
mod pipeline;
mod specialisation;
#[cfg(test)]
mod tests;

pub use listing::SpecialisedKernel;
pub(crate) use params::Params;
pub(crate) use pipeline::{Pipeline, PipelineKey};
pub use specialisation::{Access, LabelType};
pub(crate) use specialisation::{Scores, Specialisation};

/// A compute shader's entry point and the buffers that it binds. Each operator has its rows in `src/ops/<op>.rs`.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub name: &'static str,
    /// WGSL, to be put behind the preludes of [`Specialisation::source`].
    pub source: &'static str,
    pub entry: &'static str,
    /// How often an invocation walks through the classes at the most, special values included.
    pub class_walks: u32,
    /// The bindings behind `params`, which is binding 0 of every kernel.
    pub bindings: &'static [Binding],
    /// Every specialisation that operators ask for with this many classes, so that tests meet them all.
    pub specialisations: fn(classes: u32) -> Vec<Specialisation>,
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// One binding of a kernel: its number, what it holds, what it is, and whether the kernel writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub index: u32,
    pub what: &'static str,
    pub resource: Resource,
    pub written: bool,
}

/// What a binding binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A storage buffer.
    Buffer,
    /// A 2D texture: of any format that is read as floats, or if it is written a storage texture of `rgba8unorm`.
    Texture,
}

/// The numbers of the bindings, the same in all kernels.
pub(crate) mod binding {
    use super::{Binding, Resource};

    const fn read(index: u32, what: &'static str) -> Binding {
        Binding { index, what, resource: Resource::Buffer, written: false }
    }

    const fn write(index: u32, what: &'static str) -> Binding {
        Binding { written: true, ..read(index, what) }
    }

    const fn texture(binding: Binding) -> Binding {
        Binding { resource: Resource::Texture, ..binding }
    }

    pub const PARAMS: Binding = read(0, "params");
    pub const LOGITS: Binding = read(1, "logits");
    pub const FAR_LOGITS: Binding = read(7, "logits");
    pub const OUTPUT: Binding = write(2, "output");
    pub const FAR_OUTPUT: Binding = write(6, "output");
    pub const LOSSES: Binding = write(2, "losses");
    pub const GRADIENT: Binding = write(2, "gradient");
    pub const LABELS: Binding = write(3, "labels");
    pub const TARGET: Binding = read(3, "target");
    pub const CONFIDENCE: Binding = write(4, "confidence");
    pub const MARGIN: Binding = write(5, "margin");
    pub const ENTROPY: Binding = write(8, "entropy");
    pub const PROBABILITIES: Binding = write(4, "probabilities");
    pub const CLASS_WEIGHTS: Binding = read(4, "class weights");
    pub const ELEMENT_WEIGHTS: Binding = read(4, "class weights and pos weights");
    pub const LOSS: Binding = write(5, "loss");
    pub const PARTIALS_OUT: Binding = write(6, "partial sums");
    pub const RECORD: Binding = write(6, "loss record");
    pub const PARTIALS_IN: Binding = read(7, "partial sums");
    pub const TOTAL: Binding = read(7, "total weight");
    pub const MAXIMUM_OUT: Binding = write(3, "maximum");
    pub const MAXIMUM_IN: Binding = read(3, "maximum");
    pub const SCALE_OUT: Binding = write(4, "scale");
    pub const SCALE_IN: Binding = read(4, "scale");
    pub const INSPECTION: Binding = write(6, "inspection record");
    pub const LABELS_IN: Binding = read(3, "labels");
    pub const CONFIDENCE_IN: Binding = read(4, "confidence");
    pub const CLASS_RECORDS: Binding = write(6, "class records");
    pub const PREDICTIONS: Binding = read(3, "predictions");
    pub const TARGET_LABELS: Binding = read(4, "target");
    pub const CONFUSION: Binding = write(6, "confusion matrix");
    pub const COUNTS: Binding = write(8, "confusion matrix");
    pub const STATISTICS_OUT: Binding = write(5, "softmax statistics");
    pub const STATISTICS_IN: Binding = read(5, "softmax statistics");
    pub const MASKS: Binding = write(3, "masks");
    pub const THRESHOLDS: Binding = read(4, "thresholds");
    pub const COLOURS: Binding = read(2, "colours");
    pub const CLASSES_OUT: Binding = write(3, "classes");
    pub const CLASSES_IN: Binding = read(3, "classes");
    pub const PHOTO: Binding = texture(read(6, "photo"));
    pub const OVERLAY: Binding = texture(write(7, "overlay"));
    pub const MASK: Binding = write(3, "mask");
    pub const STATE: Binding = write(5, "state");
    pub const WEIGHT_OUT: Binding = write(6, "weight of the past");
    pub const WEIGHT_IN: Binding = read(6, "weight of the past");
    pub const REGION_LOSSES: Binding = write(2, "losses of regions");
    pub const REGION_MAXIMUM: Binding = read(4, "maximum");
    pub const REGION_SCALE: Binding = read(5, "scale");
    pub const CHUNK_SUMS: Binding = write(6, "sums of chunks");
    pub const COEFFICIENTS_IN: Binding = read(7, "coefficients of regions");
    pub const COEFFICIENTS_OUT: Binding = write(4, "coefficients of regions");
    pub const TERM_LOSSES: Binding = write(3, "losses of the terms");
    pub const RECORD_IN: Binding = read(7, "loss record of a term");
    pub const SUMS_IN: Binding = read(7, "sums of regions");
    pub const SUMS_OUT: Binding = write(8, "sums of regions");
    pub const TARGETS_IN: Binding = read(5, "target");
    pub const CALIBRATION_RECORDS: Binding = write(6, "calibration records");
    pub const BIN_EDGES: Binding = read(7, "edges of bins");
    pub const BOUNDARIES_OUT: Binding = write(5, "boundaries");
    pub const BOUNDARIES_IN: Binding = read(7, "boundaries");
    pub const BOUNDARY_RECORDS: Binding = write(6, "boundary records");
}

/// Every kernel of the library.
pub(crate) static KERNELS: &[&Kernel] = &[
    &ops::argmax::ARGMAX,
    &ops::binary_cross_entropy::ELEMENTS,
    &ops::binary_cross_entropy::LABEL_ELEMENTS,
    &ops::boundary_score::CLEAR,
    &ops::boundary_score::MARK,
    &ops::boundary_score::COUNT,
    &ops::calibration::CLEAR,
    &ops::calibration::COUNT,
    &ops::class_statistics::CLEAR,
    &ops::class_statistics::COUNT,
    &ops::confusion_matrix::CLEAR,
    &ops::confusion_matrix::COUNT,
    &ops::cross_entropy::PIXELS,
    &ops::cross_entropy::SOFT_PIXELS,
    &ops::cross_entropy::GRADIENTS,
    &ops::cross_entropy::SOFT_GRADIENTS,
    &ops::focal_loss::PIXELS,
    &ops::focal_loss::ELEMENTS,
    &ops::focal_loss::PIXEL_GRADIENT,
    &ops::focal_loss::ELEMENT_GRADIENT,
    &ops::interpolate::INTERPOLATE,
    &ops::inspect::CLEAR,
    &ops::inspect::CLASSES,
    &ops::inspect::SUMS,
    &ops::inspect::ROWS,
    &ops::inspect::NEIGHBOURS,
    &ops::multi_label::BITS,
    &ops::multi_label::BYTES,
    &ops::loss::PARTIALS,
    &ops::loss::FINISH,
    &ops::loss_sum::ADD_RECORD,
    &ops::loss_sum::SCALE,
    &ops::loss_sum::ADD,
    &ops::overlay::UPSCALE,
    &ops::overlay::RESIZE,
    &ops::overlay::CLASSES_UPSCALE,
    &ops::overlay::CLASSES_RESIZE,
    &ops::overlay::PAINT,
    &ops::region_loss::LABEL_SUMS,
    &ops::region_loss::SOFT_SUMS,
    &ops::region_loss::LABEL_GRADIENT,
    &ops::region_loss::SOFT_GRADIENT,
    &ops::region_loss::FOLD,
    &ops::region_loss::SCORE,
    &ops::segment::UPSCALE,
    &ops::segment::WIDE,
    &ops::segment::BY_FOUR,
    &ops::segment::RESIZE,
    &ops::sigmoid::SIGMOID,
    &ops::sigmoid::ROWS,
    &ops::soft_mask::UPSCALE,
    &ops::soft_mask::RESIZE,
    &ops::softmax::REGISTERS,
    &ops::softmax::STATISTICS,
    &ops::softmax::APPLY,
    &ops::softmax::CACHED,
    &ops::softmax::ROWS,
    &ops::temporal_smoothing::SIGMOID,
    &ops::temporal_smoothing::STATISTICS,
    &ops::temporal_smoothing::APPLY,
    &ops::top_k::TOP_K,
    &ops::upsampled_cross_entropy::UPSCALE,
    &ops::upsampled_cross_entropy::RESIZE,
    &ops::upsampled_cross_entropy::GRADIENT,
    &window::COPY,
];

/// Invocations of a workgroup, in every kernel.
pub(crate) const WORKGROUP: u32 = 128;

/// Up to this many classes, the class count is a constant of the shader: loops unroll and values stay in registers.
/// Above, drivers take seconds to compile that, and another loop is faster anyway.
pub(crate) const UNROLLED_CLASSES: u32 = 24;
