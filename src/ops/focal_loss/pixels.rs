//! From logits and targets on the GPU to partial sums, to single losses, and to the gradient.

use wgpu::BufferBinding;

use super::FocalLoss;
use crate::dispatch::Bound;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::ops::loss::{Asked, HostTargets, Inputs, OfBand, Output, PartialSums, PixelLoss};
use crate::{Dispatch, Error, Gpu, LabelType, Logits};

const SOURCE: &str =
    concat!(include_str!("../../../shaders/prelude/partials.wgsl"), include_str!("../../../shaders/focal_loss.wgsl"));

/// Against labels, with a softmax.
pub(crate) static PIXELS: Kernel = Kernel {
    name: "focal pixels",
    source: SOURCE,
    entry: "pixels",
    // For each of GROUPS groups: a fifth for the statistics, two more where a logit is special, one for the others.
    class_walks: 13,
    bindings: &[binding::LOGITS, binding::TARGET, binding::LOSS, binding::PARTIALS_OUT],
    specialisations: |_| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for per_pixel in [false, true] {
                    all.push(Specialisation { labels, per_pixel, ..Specialisation::new(access, element, 0) });
                }
            }
        }
        all
    },
};

/// Of every element, with a sigmoid.
pub(crate) static ELEMENTS: Kernel = Kernel {
    name: "focal elements",
    source: SOURCE,
    entry: "elements",
    // For each of GROUPS groups.
    class_walks: 4,
    bindings: &[binding::LOGITS, binding::TARGET, binding::LOSSES, binding::PARTIALS_OUT],
    specialisations: |_| {
        let both = |(access, element)| {
            [false, true].map(|per_element| Specialisation { per_element, ..Specialisation::new(access, element, 0) })
        };
        Access::inputs().flat_map(both).collect()
    },
};

/// The gradient against labels, …
pub(crate) static PIXEL_GRADIENT: Kernel = Kernel {
    name: "focal pixel gradient",
    source: SOURCE,
    entry: "pixel_gradient",
    class_walks: 5,
    bindings: &[binding::LOGITS, binding::TARGET, binding::TOTAL, binding::GRADIENT],
    specialisations: |_| {
        let both = |(access, element)| {
            [LabelType::U8, LabelType::U32]
                .map(|labels| Specialisation { labels, ..Specialisation::new(access, element, 0) })
        };
        Access::inputs().flat_map(both).collect()
    },
};

/// … and that of every element.
pub(crate) static ELEMENT_GRADIENT: Kernel = Kernel {
    name: "focal element gradient",
    source: SOURCE,
    entry: "element_gradient",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::TARGET, binding::TOTAL, binding::GRADIENT],
    specialisations: |_| Specialisation::of_inputs(0),
};

impl PixelLoss for FocalLoss {
    fn asked(&self) -> Asked {
        Asked { reduction: self.reduction, single: self.single, gradient: self.gradient }
    }

    fn ignore_index(&self) -> Option<i64> {
        self.ignore_index
    }

    fn per_element(&self, soft: bool) -> bool {
        soft
    }

    fn total(&self, logits: &Logits, targets: &impl HostTargets) -> f64 {
        let elements = if targets.is_soft() { logits.classes() } else { 1 };
        targets.weight(logits, None) * f64::from(elements)
    }

    fn push_losses(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        inputs: &Inputs<'_>,
        losses: Option<BufferBinding<'_>>,
    ) -> Result<PartialSums, Error> {
        let (soft, single) = (inputs.is_soft(), losses.is_some());
        let bands = inputs.bands(gpu, false)?;
        let sums = PartialSums::new(gpu, &inputs.logits, &bands)?;
        let output = match losses {
            Some(losses) if soft => Output::Tensor(losses, binding::LOSSES),
            Some(losses) => Output::Map(losses, binding::LOSS),
            None => Output::Nothing(if soft { binding::LOSSES } else { binding::LOSS }),
        };
        inputs.each_band(gpu, dispatch, (&bands, false), (self, output), |dispatch, i, band| {
            let OfBand { input, targets, written, params, key, images, .. } = band;
            let params = self.params(params, soft);
            let (kernel, key) = match soft {
                true => (&ELEMENTS, Specialisation { per_element: single, ..key }),
                false => (&PIXELS, Specialisation { per_pixel: single, ..key }),
            };
            let buffers = [input, targets, written, sums.of_band(gpu, i)?];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.partials, images))
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
        let soft = inputs.is_soft();
        let bands = inputs.bands(gpu, true)?;
        let kernel = if soft { &ELEMENT_GRADIENT } else { &PIXEL_GRADIENT };
        let output = Output::Tensor(gradient, binding::GRADIENT);
        inputs.each_band(gpu, dispatch, (&bands, false), (self, output), |dispatch, _, band| {
            let OfBand { input, targets, written, params, key, images, .. } = band;
            let params = self.params(params, soft);
            let buffers = [input, targets, total.clone(), written];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.groups, images))
        })
    }
}

impl FocalLoss {
    fn params(&self, params: Params, soft: bool) -> Params {
        // Of independent labels, a negative one is none.
        Params { gamma: self.gamma, alpha: self.alpha.unwrap_or(if soft { -1.0 } else { 1.0 }), ..params }
    }
}
