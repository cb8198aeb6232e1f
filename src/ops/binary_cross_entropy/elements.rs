//! From logits and targets on the GPU to partial sums, and to the losses of the elements or the gradient.

use wgpu::{Buffer, BufferBinding};

use super::BinaryCrossEntropy;
use crate::dispatch::{Bound, bound_or_placeholder, constants};
use crate::kernel::{Access, Binding, Kernel, Specialisation, binding};
use crate::ops::loss::{Asked, HostTargets, Inputs, OfBand, Output, PartialSums, PixelLoss};
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Reduction};

macro_rules! source {
    ($targets:literal) => {
        concat!(
            include_str!("../../../shaders/prelude/partials.wgsl"),
            include_str!($targets),
            include_str!("../../../shaders/binary_cross_entropy.wgsl")
        )
    };
}

const BINDINGS: &[Binding] = &[
    binding::LOGITS,
    binding::LOSSES,
    binding::TARGET,
    binding::ELEMENT_WEIGHTS,
    binding::PARTIALS_OUT,
    binding::TOTAL,
];

/// Against a tensor …
pub(crate) static ELEMENTS: Kernel = Kernel {
    name: "binary cross-entropy elements",
    source: source!("../../../shaders/prelude/truth_soft.wgsl"),
    entry: "elements",
    // For each of GROUPS groups.
    class_walks: 4,
    bindings: BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8]),
};

/// … and against labels.
pub(crate) static LABEL_ELEMENTS: Kernel = Kernel {
    name: "binary cross-entropy label elements",
    source: source!("../../../shaders/prelude/truth_labels.wgsl"),
    entry: "elements",
    class_walks: 4,
    bindings: BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8, LabelType::U32]),
};

fn specialisations(labels: &[LabelType]) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for (access, element) in Access::inputs() {
        for &labels in labels {
            for bits in 0..4 {
                let plain = Specialisation {
                    labels,
                    class_weights: bits & 1 != 0,
                    pos_weight: bits & 2 != 0,
                    ..Specialisation::new(access, element, 0)
                };
                let per_element = Specialisation { per_element: true, ..plain };
                all.extend([plain, per_element, Specialisation { gradient: true, ..plain }]);
            }
        }
    }
    all
}

/// What is written beside the partial sums.
enum Written<'a> {
    Losses(Option<BufferBinding<'a>>),
    /// Divided by what a record holds.
    Gradient(BufferBinding<'a>, Bound<'a>),
}

impl PixelLoss for BinaryCrossEntropy {
    fn asked(&self) -> Asked {
        Asked { reduction: self.reduction, single: self.per_element, gradient: self.gradient }
    }

    fn ignore_index(&self) -> Option<i64> {
        self.ignore_index
    }

    fn per_element(&self, _: bool) -> bool {
        true
    }

    fn total(&self, logits: &Logits, targets: &impl HostTargets) -> f64 {
        targets.weight(logits, None) * f64::from(logits.classes())
    }

    fn total_of_shape(&self, logits: &Logits, soft: bool) -> Option<f64> {
        let known = soft || self.ignore_index.is_none() || self.reduction == Reduction::Sum;
        known.then(|| logits.map().pixels() as f64 * f64::from(logits.classes()))
    }

    fn push_losses(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<PartialSums, Error> {
        self.push_elements(gpu, dispatch, inputs, Written::Losses(losses))
    }

    fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        to: (BufferBinding<'_>, Bound<'_>),
    ) -> Result<(), Error> {
        self.push_both(gpu, dispatch, inputs, to).map(|_| ())
    }

    fn push_both(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        (gradient, total): (BufferBinding<'_>, Bound<'_>),
    ) -> Result<PartialSums, Error> {
        self.push_elements(gpu, dispatch, inputs, Written::Gradient(gradient, total))
    }
}

impl BinaryCrossEntropy {
    fn push_elements(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        written: Written<'_>,
    ) -> Result<PartialSums, Error> {
        let bands = inputs.bands(gpu, true)?;
        let sums = PartialSums::new(gpu, &inputs.logits, &bands)?;
        let weights = self.weights(gpu, inputs.logits.classes())?;
        let weights = bound_or_placeholder(gpu, binding::ELEMENT_WEIGHTS, weights.as_ref())?;
        let none = Bound::placeholder(gpu, binding::TOTAL);
        let (output, total, per_element, gradient) = match written {
            Written::Losses(None) => (Output::Nothing(binding::LOSSES), none, false, false),
            Written::Losses(Some(losses)) => (Output::Tensor(losses, binding::LOSSES), none, true, false),
            Written::Gradient(gradient, total) => (Output::Tensor(gradient, binding::GRADIENT), total, false, true),
        };
        let kernel = if inputs.is_soft() { &ELEMENTS } else { &LABEL_ELEMENTS };
        inputs.each_band(gpu, dispatch, (&bands, false), (self, output), |dispatch, i, band| {
            let OfBand { input, targets, written, params, key, images, .. } = band;
            let (class_weights, pos_weight) = (self.class_weights.is_some(), self.pos_weight.is_some());
            let key = Specialisation { class_weights, pos_weight, per_element, gradient, ..key };
            let buffers = [input, written, targets, weights.clone(), sums.of_band(gpu, i)?, total.clone()];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.partials, images))
        })?;
        Ok(sums)
    }

    /// The weight of every class and that of its positive targets, if either was given.
    fn weights(&self, gpu: &Gpu, classes: u32) -> Result<Option<Buffer>, Error> {
        if self.class_weights.is_none() && self.pos_weight.is_none() {
            return Ok(None);
        }
        let of = |weights: &Option<Vec<f32>>, c: usize| weights.as_ref().map_or(1.0, |weights| weights[c]);
        let pairs: Vec<_> =
            (0..classes as usize).map(|c| [of(&self.class_weights, c), of(&self.pos_weight, c)]).collect();
        constants(gpu, binding::ELEMENT_WEIGHTS.what, bytemuck::cast_slice(&pairs)).map(Some)
    }
}
