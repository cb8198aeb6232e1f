//! From logits and targets on the GPU to partial sums, to single losses, and to the gradient.

use wgpu::BufferBinding;

use super::FocalLoss;
use crate::bands::{self, Band};
use crate::dispatch::Bound;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::cross_entropy::Against;
use crate::ops::loss::{PartialSums, ignore_index_in_32_bits, partials_of_image};
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Reduction};

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

impl FocalLoss {
    /// Leaves the partial sums of all pixels, and returns them.
    pub(super) fn push_losses(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (inputs, losses): ((BufferBinding<'_>, Against<'_>), Option<BufferBinding<'_>>),
        record: Option<&Bound<'_>>,
    ) -> Result<PartialSums, Error> {
        let binary = matches!(inputs.1, Against::Soft(_));
        self.check(binary)?;
        let bands = bands::for_dispatch(gpu, &logits.output())?;
        let (map, single) = (logits.map(), losses.is_some());
        let window = match &losses {
            Some(losses) if binary => Some(Window::new(gpu, losses.clone(), &logits.output(), &bands)?),
            _ => None,
        };
        let sums = PartialSums::new(gpu, logits, &bands)?;
        let mut i = 0;
        self.each_band(gpu, dispatch, (logits, &bands), inputs, |dispatch, band, [input, targets], params, key| {
            let mut in_fours = key.access != Access::Scalar;
            let written = match (&losses, &window) {
                (_, Some(window)) => {
                    let (written, part) = window.write_as(gpu, binding::LOSSES, band)?;
                    in_fours = params.reads_in_fours() && params.writes_in_fours(part.is_cropped());
                    written
                }
                (Some(losses), None) => {
                    let groups = MapPart::of(&map, band);
                    Bound::part(gpu, binding::LOSS, losses.clone(), map.bytes(32), groups.bytes(32))?
                }
                (None, None) => Bound::placeholder(gpu, if binary { binding::LOSSES } else { binding::LOSS }),
            };
            if let Some(record) = record {
                for other in [&input, &targets, &written] {
                    record.check_apart(other)?;
                }
            }
            let params = Params { partials: partials_of_image(params.groups), ..params };
            let (kernel, key) = match binary {
                true => (&ELEMENTS, Specialisation { per_element: single, ..key }),
                false => (&PIXELS, Specialisation { per_pixel: single, ..key }),
            };
            let key = Specialisation { access: Access::choose(gpu, in_fours), ..key };
            let buffers = [input, targets, written, sums.of_band(gpu, i)?];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.partials, band.images))?;
            i += 1;
            window.as_ref().map_or(Ok(()), |window| window.finish(gpu, dispatch, band))
        })?;
        Ok(sums)
    }

    /// Writes the gradient, where `total` has the weight of the mean.
    pub(super) fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (inputs, total): ((BufferBinding<'_>, Against<'_>), Bound<'_>),
        (to, record): (BufferBinding<'_>, Option<&Bound<'_>>),
    ) -> Result<(), Error> {
        let binary = matches!(inputs.1, Against::Soft(_));
        let bands = bands::for_dispatch(gpu, &logits.output())?;
        let gradient = Window::new(gpu, to, &logits.output(), &bands)?;
        self.each_band(gpu, dispatch, (logits, &bands), inputs, |dispatch, band, [input, targets], params, key| {
            let (out, part) = gradient.write_as(gpu, binding::GRADIENT, band)?;
            if let Some(record) = record {
                record.check_apart(&out)?;
            }
            let params = params.with_output(&part);
            let in_fours = params.reads_in_fours() && params.writes_in_fours(part.is_cropped());
            let key = Specialisation { access: Access::choose(gpu, in_fours), ..key };
            let kernel = if binary { &ELEMENT_GRADIENT } else { &PIXEL_GRADIENT };
            let buffers = [input, targets, total.clone(), out];
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.groups, band.images))?;
            gradient.finish(gpu, dispatch, band)
        })
    }

    /// Calls `push` for every band with logits and targets as they are bound, and the parameters and the specialisation
    /// of a kernel that reads them.
    fn each_band(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (logits, bands): (&Logits, &[Band]),
        (input, against): (BufferBinding<'_>, Against<'_>),
        mut push: impl FnMut(&mut Dispatch, &Band, [Bound<'_>; 2], Params, Specialisation) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (map, binary) = (logits.map(), matches!(against, Against::Soft(_)));
        let input = Window::new(gpu, input, logits, bands)?;
        let targets = against.source(gpu, logits, bands)?;
        let ignore_index = ignore_index_in_32_bits(self.ignore_index);
        for band in bands {
            let (input, part) = input.read(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let (targets, params) = targets.read(gpu, dispatch, band, (&map, &groups), Params::new(&part))?;
            let params = Params {
                map_offset: groups.offset(),
                first_pixel: band.image * logits.pixels() + band.pixel,
                pixels: logits.pixels(),
                has_ignore_index: u32::from(ignore_index.is_some()),
                ignore_index: ignore_index.unwrap_or(0),
                reduction: u32::from(self.reduction == Reduction::Mean),
                gamma: self.gamma,
                // Of independent labels, a negative one is none.
                alpha: self.alpha.unwrap_or(if binary { -1.0 } else { 1.0 }),
                ..params
            };
            let (labels, in_fours) = match &against {
                Against::Labels(targets) => (targets.label_type(), params.reads_in_fours()),
                Against::Soft(_) => (LabelType::U8, params.reads_in_fours() && params.writes_in_fours(false)),
            };
            let access = Access::choose(gpu, in_fours);
            let key = Specialisation { labels, ..Specialisation::new(access, part.element_type(), 0) };
            push(dispatch, band, [input, targets], params, key)?;
        }
        Ok(())
    }
}
