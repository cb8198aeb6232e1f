//! From logits and targets on the GPU to partial sums, and to losses per pixel or the gradient.

use wgpu::{Buffer, BufferBinding};

use super::CrossEntropy;
use crate::dispatch::{Bound, bound_or_placeholder, constants};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::ops::loss::{Asked, HostTargets, Inputs, OfBand, Output, PartialSums, PixelLoss};
use crate::{Dispatch, Error, Gpu, LabelType, Logits};

/// Against labels.
pub(crate) static PIXELS: Kernel = Kernel {
    name: "cross-entropy pixels",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/cross_entropy.wgsl")
    ),
    entry: "pixels",
    // For each of GROUPS groups: a fifth for the statistics, and where a logit is special once more and two; one to smooth.
    class_walks: 15,
    bindings: &[
        binding::LOGITS,
        binding::FAR_LOGITS,
        binding::TARGET,
        binding::CLASS_WEIGHTS,
        binding::LOSS,
        binding::PARTIALS_OUT,
    ],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for bits in 0..8 {
                    let one = Specialisation {
                        labels,
                        class_weights: bits & 1 != 0,
                        label_smoothing: bits & 2 != 0,
                        per_pixel: bits & 4 != 0,
                        ..Specialisation::new(access, element, classes)
                    };
                    all.extend(one.with_halves());
                }
            }
        }
        all
    },
};

/// Against soft targets.
pub(crate) static SOFT_PIXELS: Kernel = Kernel {
    name: "cross-entropy soft pixels",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/soft_cross_entropy.wgsl")
    ),
    entry: "soft_pixels",
    // For each of GROUPS groups: a fifth for the statistics, one for the sums, three more where a value is special.
    class_walks: 17,
    bindings: &[binding::LOGITS, binding::TARGET, binding::CLASS_WEIGHTS, binding::LOSS, binding::PARTIALS_OUT],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for bits in 0..8 {
                all.push(Specialisation {
                    class_weights: bits & 1 != 0,
                    label_smoothing: bits & 2 != 0,
                    per_pixel: bits & 4 != 0,
                    ..Specialisation::new(access, element, classes)
                });
            }
        }
        all
    },
};

/// The gradient against labels.
pub(crate) static GRADIENTS: Kernel = Kernel {
    name: "cross-entropy gradients",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/cross_entropy.wgsl"),
        include_str!("../../../shaders/cross_entropy_gradient.wgsl")
    ),
    entry: "gradients",
    // A fifth for the statistics, two more where a logit is special, one for the gradient and one to smooth.
    class_walks: 5,
    bindings: &[binding::LOGITS, binding::GRADIENT, binding::TARGET, binding::CLASS_WEIGHTS, binding::TOTAL],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for bits in 0..4 {
                    all.push(Specialisation {
                        labels,
                        class_weights: bits & 1 != 0,
                        label_smoothing: bits & 2 != 0,
                        ..Specialisation::new(access, element, classes)
                    });
                }
            }
        }
        all
    },
};

/// The gradient against soft targets.
pub(crate) static SOFT_GRADIENTS: Kernel = Kernel {
    name: "cross-entropy soft gradients",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/soft_cross_entropy.wgsl"),
        include_str!("../../../shaders/soft_cross_entropy_gradient.wgsl")
    ),
    entry: "soft_gradients",
    // One for the weights, a fifth for the statistics, two more where a value is special, one for the gradient.
    class_walks: 5,
    bindings: &[binding::LOGITS, binding::GRADIENT, binding::TARGET, binding::CLASS_WEIGHTS, binding::TOTAL],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for bits in 0..4 {
                all.push(Specialisation {
                    class_weights: bits & 1 != 0,
                    label_smoothing: bits & 2 != 0,
                    ..Specialisation::new(access, element, classes)
                });
            }
        }
        all
    },
};

impl PixelLoss for CrossEntropy {
    fn asked(&self) -> Asked {
        Asked { reduction: self.reduction, single: self.per_pixel, gradient: self.gradient }
    }

    fn ignore_index(&self) -> Option<i64> {
        self.ignore_index
    }

    fn per_element(&self, _: bool) -> bool {
        false
    }

    fn total(&self, logits: &Logits, targets: &impl HostTargets) -> f64 {
        targets.weight(logits, self.class_weights.as_deref())
    }

    fn push_losses(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<PartialSums, Error> {
        let (bands, halves) = inputs.bands_in_halves(gpu)?;
        let sums = PartialSums::new(gpu, &inputs.logits, &bands)?;
        let weights = self.weights(gpu)?;
        let weights = bound_or_placeholder(gpu, binding::CLASS_WEIGHTS, weights.as_ref())?;
        let per_pixel = losses.is_some();
        let output = losses.map_or(Output::Nothing(binding::LOSS), |losses| Output::Map(losses, binding::LOSS));
        inputs.each_band(gpu, dispatch, (&bands, halves), (self, output), |dispatch, i, band| {
            let OfBand { input, far, targets, written, params, key, images } = band;
            let params = Params { label_smoothing: self.label_smoothing, ..params };
            let key = Specialisation { per_pixel, ..self.specialised(key, params.classes) };
            let sums = sums.of_band(gpu, i)?;
            let count = (params.partials, images);
            if inputs.is_soft() {
                let buffers = [input, targets, written, weights.clone(), sums];
                return dispatch.push(gpu, (&SOFT_PIXELS, key), params, &buffers, count);
            }
            let buffers = [input, far, targets, written, weights.clone(), sums];
            dispatch.push(gpu, (&PIXELS, key), params, &buffers, count)
        })?;
        Ok(sums)
    }

    fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        (gradient, total): (BufferBinding<'_>, Bound<'_>),
    ) -> Result<(), Error> {
        let bands = inputs.bands(gpu, true)?;
        let weights = self.weights(gpu)?;
        let weights = bound_or_placeholder(gpu, binding::CLASS_WEIGHTS, weights.as_ref())?;
        let kernel = if inputs.is_soft() { &SOFT_GRADIENTS } else { &GRADIENTS };
        let output = Output::Tensor(gradient, binding::GRADIENT);
        inputs.each_band(gpu, dispatch, (&bands, false), (self, output), |dispatch, _, band| {
            let OfBand { input, targets, written, params, key, images, .. } = band;
            let params = Params { label_smoothing: self.label_smoothing, ..params };
            let key = self.specialised(key, params.classes);
            let buffers = [input, targets, written, weights.clone(), total.clone()];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.groups, images))
        })
    }
}

impl CrossEntropy {
    fn weights(&self, gpu: &Gpu) -> Result<Option<Buffer>, Error> {
        let weights = self.class_weights.as_ref();
        weights.map(|weights| constants(gpu, "class weights", bytemuck::cast_slice(weights))).transpose()
    }

    fn specialised(&self, key: Specialisation, classes: u32) -> Specialisation {
        Specialisation {
            labels: key.labels,
            halves: key.halves,
            class_weights: self.class_weights.is_some(),
            label_smoothing: self.label_smoothing != 0.0,
            ..Specialisation::new(key.access.for_classes(classes), key.element_type, classes)
        }
    }
}
