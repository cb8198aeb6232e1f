//! From logits and targets on the GPU to partial sums, and to losses per pixel.

use wgpu::BufferBinding;

use super::CrossEntropy;
use crate::bands::{self, Band};
use crate::dispatch::{Bound, constants};
use crate::kernel::{Access, Kernel, Params, PipelineKey, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::{PartialSums, partials_of_image};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, LabelType, Logits, Map};

/// Against labels.
pub(crate) static PIXELS: Kernel = Kernel {
    name: "cross-entropy pixels",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/cross_entropy.wgsl")
    ),
    entry: "pixels",
    // For each of GROUPS groups: a fifth for the statistics, two more where a logit is special, one to smooth.
    class_walks: 13,
    bindings: &[binding::LOGITS, binding::TARGET, binding::CLASS_WEIGHTS, binding::LOSS, binding::PARTIALS_OUT],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for bits in 0..8 {
                    all.push(Specialisation {
                        labels,
                        class_weights: bits & 1 != 0,
                        label_smoothing: bits & 2 != 0,
                        per_pixel: bits & 4 != 0,
                        ..Specialisation::new(access, element, classes)
                    });
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

/// A map of target labels on the GPU, with the geometry of [`Logits::map`].
///
/// ```
/// # fn app(buffer: &seghead::wgpu::Buffer) {
/// use seghead::{LabelType, Targets};
/// let targets = Targets::new(buffer.as_entire_buffer_binding(), LabelType::U8);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    pub(crate) buffer: BufferBinding<'a>,
    pub(crate) label_type: LabelType,
}

impl<'a> Targets<'a> {
    /// Labels of `label_type` in `buffer`. A negative label is its two's complement in 32 bits.
    pub fn new(buffer: BufferBinding<'a>, label_type: LabelType) -> Self {
        Self { buffer, label_type }
    }
}

/// What the losses of a dispatch are taken against.
pub(super) enum Against<'a> {
    Labels(Targets<'a>),
    /// f32, where the logits are.
    Soft(BufferBinding<'a>),
}

impl<'a> Against<'a> {
    /// Bands that the logits can be taken in with them.
    fn bands(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        match self {
            Self::Labels(_) => bands::for_dispatch(gpu, logits),
            Self::Soft(_) => bands::for_dispatch(gpu, &logits.output()),
        }
    }

    fn source(&self, gpu: &Gpu, logits: &Logits, bands: &[Band]) -> Result<Source<'a>, Error> {
        Ok(match self {
            Self::Labels(targets) => Source::Labels(targets.clone()),
            Self::Soft(targets) => Source::Soft(Window::new(gpu, targets.clone(), &logits.output(), bands)?),
        })
    }
}

/// Where the targets of the bands come from.
enum Source<'a> {
    Labels(Targets<'a>),
    Soft(Window<'a>),
}

impl Source<'_> {
    /// The targets of `band`, whose pixels are `groups` of `map`, and the parameters of a kernel that reads them beside
    /// the logits.
    fn read(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        band: &Band,
        (map, groups): (&Map, &MapPart),
        params: Params,
    ) -> Result<(Bound<'_>, Params), Error> {
        match self {
            Self::Labels(targets) => {
                let (buffer, bits) = (targets.buffer.clone(), targets.label_type.bits());
                Ok((Bound::part(gpu, binding::TARGET, buffer, map.bytes(bits), groups.bytes(bits))?, params))
            }
            Self::Soft(window) => {
                let (targets, part) = window.read_as(gpu, dispatch, binding::TARGET, band)?;
                Ok((targets, params.with_output(&part)))
            }
        }
    }

    /// The kernel, and how it reads logits and targets.
    fn kernel(&self, gpu: &Gpu, params: &Params, element_type: ElementType) -> PipelineKey {
        let specialise = |in_fours| Specialisation::new(Access::choose(gpu, in_fours), element_type, params.classes);
        match self {
            Self::Labels(targets) => {
                let labels = targets.label_type;
                (&PIXELS, Specialisation { labels, ..specialise(params.reads_in_fours()) })
            }
            Self::Soft(_) => (&SOFT_PIXELS, specialise(params.reads_in_fours() && params.writes_in_fours(false))),
        }
    }
}

impl CrossEntropy {
    /// Leaves the partial sums of all pixels, and returns them.
    pub(super) fn push_pixels(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (input, against, losses): (BufferBinding<'_>, Against<'_>, Option<BufferBinding<'_>>),
        record: Option<&Bound<'_>>,
    ) -> Result<PartialSums, Error> {
        self.check(logits)?;
        let map = logits.map();
        let bands = against.bands(gpu, logits)?;
        let window = Window::new(gpu, input, logits, &bands)?;
        let targets = against.source(gpu, logits, &bands)?;
        let weights = match &self.class_weights {
            Some(weights) => Some(constants(gpu, "class weights", bytemuck::cast_slice(weights))?),
            None => None,
        };
        let weights = match &weights {
            Some(weights) => Bound::whole(gpu, binding::CLASS_WEIGHTS, weights)?,
            None => Bound::placeholder(gpu, binding::CLASS_WEIGHTS),
        };

        // An index beyond 32 bits matches no label on the GPU; a negative one is compared in two's complement.
        let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
        let ignore_index = self.ignore_index.filter(in_32_bits).map(|index| index as u32);

        let sums = PartialSums::new(gpu, logits, &bands)?;
        let per_pixel = losses.is_some();
        for (i, band) in bands.iter().enumerate() {
            let (input, part) = window.read(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let losses = match &losses {
                Some(losses) => Bound::part(gpu, binding::LOSS, losses.clone(), map.bytes(32), groups.bytes(32))?,
                None => Bound::placeholder(gpu, binding::LOSS),
            };
            let params = Params::new(&part);
            let (targets_of_band, params) = targets.read(gpu, dispatch, band, (&map, &groups), params)?;
            if let Some(record) = record {
                for other in [&input, &targets_of_band, &losses] {
                    record.check_apart(other)?;
                }
            }
            let params = Params {
                map_offset: groups.offset(),
                first_pixel: band.image * logits.pixels() + band.pixel,
                pixels: logits.pixels(),
                partials: partials_of_image(params.groups),
                has_ignore_index: u32::from(ignore_index.is_some()),
                ignore_index: ignore_index.unwrap_or(0),
                label_smoothing: self.label_smoothing,
                ..params
            };
            let (kernel, specialisation) = targets.kernel(gpu, &params, part.element_type());
            let specialisation = Specialisation {
                class_weights: self.class_weights.is_some(),
                label_smoothing: self.label_smoothing != 0.0,
                per_pixel,
                ..specialisation
            };
            let buffers = [input, targets_of_band, weights.clone(), losses, sums.of_band(gpu, i)?];
            dispatch.push(gpu, (kernel, specialisation), params, &buffers, (params.partials, part.images()))?;
        }
        Ok(sums)
    }
}
