//! From logits and targets on the GPU to partial sums, and to losses per pixel or the gradient.

use wgpu::{Buffer, BufferBinding};

use super::CrossEntropy;
use crate::bands::{self, Band};
use crate::dispatch::{Bound, constants, scratch};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::{PartialSums, RECORD, Written, partials_of_image, total_weight};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, LabelType, Logits, Map, Reduction};

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

/// The denominators of a mean against labels, from these alone.
pub(crate) static WEIGHTS: Kernel = Kernel {
    name: "cross-entropy weights",
    source: GRADIENT_SOURCE,
    entry: "weights",
    class_walks: 1,
    bindings: &[binding::TARGET, binding::CLASS_WEIGHTS, binding::PARTIALS_OUT],
    specialisations: |_| {
        let mut all = Vec::new();
        for labels in [LabelType::U8, LabelType::U32] {
            for class_weights in [false, true] {
                let plain = Specialisation::new(Access::Vec4, ElementType::F32, 0);
                all.push(Specialisation { labels, class_weights, ..plain });
            }
        }
        all
    },
};

/// Against labels, with the gradient.
pub(crate) static GRADIENTS: Kernel = Kernel {
    name: "cross-entropy gradients",
    source: GRADIENT_SOURCE,
    entry: "gradients",
    // For each of GROUPS groups: a fifth for the statistics, two more where a logit is special, one for the gradient and
    // one to smooth; one for all of them.
    class_walks: 18,
    bindings: &[
        binding::LOGITS,
        binding::GRADIENT,
        binding::TARGET,
        binding::CLASS_WEIGHTS,
        binding::PARTIALS_OUT,
        binding::TOTAL,
    ],
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

/// Against soft targets, with the gradient.
pub(crate) static SOFT_GRADIENTS: Kernel = Kernel {
    name: "cross-entropy soft gradients",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/soft_cross_entropy.wgsl"),
        include_str!("../../../shaders/soft_cross_entropy_gradient.wgsl")
    ),
    entry: "soft_gradients",
    // For each of GROUPS groups: a fifth for the statistics, one for the sums, five more where a value is special, one
    // for the gradient.
    class_walks: 29,
    bindings: &[
        binding::LOGITS,
        binding::GRADIENT,
        binding::TARGET,
        binding::CLASS_WEIGHTS,
        binding::PARTIALS_OUT,
        binding::TOTAL,
    ],
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

const GRADIENT_SOURCE: &str = concat!(
    include_str!("../../../shaders/prelude/partials.wgsl"),
    include_str!("../../../shaders/cross_entropy.wgsl"),
    include_str!("../../../shaders/cross_entropy_gradient.wgsl")
);

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
    buffer: BufferBinding<'a>,
    label_type: LabelType,
}

impl<'a> Targets<'a> {
    /// Labels of `label_type` in `buffer`. A negative label is its two's complement in 32 bits.
    pub fn new(buffer: BufferBinding<'a>, label_type: LabelType) -> Self {
        Self { buffer, label_type }
    }
}

/// What the losses of a dispatch are taken against.
#[derive(Clone)]
pub(super) enum Against<'a> {
    Labels(Targets<'a>),
    /// f32, where the logits are.
    Soft(BufferBinding<'a>),
}

impl<'a> Against<'a> {
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
            Self::Labels(targets) => Ok((targets.read(gpu, map, groups)?, params)),
            Self::Soft(window) => {
                let (targets, part) = window.read_as(gpu, dispatch, binding::TARGET, band)?;
                Ok((targets, params.with_output(&part)))
            }
        }
    }

    /// The kernel, with the gradient or without, and the labels that it reads.
    fn kernel(&self, gradient: bool) -> (&'static Kernel, LabelType) {
        match (self, gradient) {
            (Self::Labels(targets), false) => (&PIXELS, targets.label_type),
            (Self::Labels(targets), true) => (&GRADIENTS, targets.label_type),
            (Self::Soft(_), false) => (&SOFT_PIXELS, LabelType::U8),
            (Self::Soft(_), true) => (&SOFT_GRADIENTS, LabelType::U8),
        }
    }
}

impl Targets<'_> {
    /// Those of some pixels.
    fn read(&self, gpu: &Gpu, map: &Map, groups: &MapPart) -> Result<Bound<'_>, Error> {
        let (buffer, bits) = (self.buffer.clone(), self.label_type.bits());
        Bound::part(gpu, binding::TARGET, buffer, map.bytes(bits), groups.bytes(bits))
    }
}

impl CrossEntropy {
    /// Leaves the partial sums of all pixels, and returns them.
    pub(super) fn push_pixels(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (input, against, written): (BufferBinding<'_>, Against<'_>, Written<'_>),
        record: Option<&Bound<'_>>,
    ) -> Result<PartialSums, Error> {
        self.check(logits)?;
        let (map, output) = (logits.map(), logits.output());
        let (losses, gradient) = match written {
            Written::Nothing => (None, None),
            Written::Losses(losses) => (Some(losses), None),
            Written::Gradient(gradient, total) => (None, Some((gradient, Bound::whole(gpu, binding::TOTAL, total)?))),
        };
        // Of what is bound for a band, the largest is a tensor of f32 where there is one beside the logits.
        let alone = matches!(against, Against::Labels(_)) && gradient.is_none();
        let bands = bands::for_dispatch(gpu, if alone { logits } else { &output })?;
        let window = Window::new(gpu, input, logits, &bands)?;
        let targets = against.source(gpu, logits, &bands)?;
        let gradient = match gradient {
            Some((gradient, total)) => Some((Window::new(gpu, gradient, &output, &bands)?, total)),
            None => None,
        };
        let weights = self.class_weight_buffer(gpu)?;
        let weights = bound_weights(gpu, weights.as_ref())?;

        let sums = PartialSums::new(gpu, logits, &bands)?;
        let per_pixel = losses.is_some();
        for (i, band) in bands.iter().enumerate() {
            let (input, part) = window.read(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let params = Params::new(&part);
            let (targets_of_band, mut params) = targets.read(gpu, dispatch, band, (&map, &groups), params)?;
            let mut buffers = vec![input, targets_of_band];
            let mut cropped = false;
            match &gradient {
                Some((gradient, total)) => {
                    let (written, to) = gradient.write_as(gpu, binding::GRADIENT, band)?;
                    (params, cropped) = (params.with_output(&to), to.is_cropped());
                    buffers.extend([written, total.clone()]);
                }
                None => buffers.push(match &losses {
                    Some(losses) => Bound::part(gpu, binding::LOSS, losses.clone(), map.bytes(32), groups.bytes(32))?,
                    None => Bound::placeholder(gpu, binding::LOSS),
                }),
            }
            if let Some(record) = record {
                buffers.iter().try_for_each(|other| record.check_apart(other))?;
            }
            let params = self.params_of(logits, band, &groups, params);
            let in_fours = params.reads_in_fours() && (alone || params.writes_in_fours(cropped));
            let (kernel, labels) = targets.kernel(gradient.is_some());
            let specialisation = Specialisation {
                labels,
                class_weights: self.class_weights.is_some(),
                label_smoothing: self.label_smoothing != 0.0,
                per_pixel,
                ..Specialisation::new(Access::choose(gpu, in_fours), part.element_type(), params.classes)
            };
            buffers.extend([weights.clone(), sums.of_band(gpu, i)?]);
            dispatch.push(gpu, (kernel, specialisation), params, &buffers, (params.partials, part.images()))?;
            if let Some((gradient, _)) = &gradient {
                gradient.finish(gpu, dispatch, band)?;
            }
        }
        Ok(sums)
    }

    /// What the gradient is divided by, before any kernel that divides by it.
    pub(super) fn push_total(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        against: &Against<'_>,
    ) -> Result<Buffer, Error> {
        let targets = match (self.reduction, against) {
            (Reduction::Sum, _) => return total_weight(gpu, 1.0),
            (Reduction::Mean, Against::Soft(_)) => return total_weight(gpu, logits.map().pixels() as f64),
            (Reduction::Mean, Against::Labels(targets)) => targets,
        };
        self.check(logits)?;
        let (map, bands) = (logits.map(), bands::for_dispatch(gpu, logits)?);
        let weights = self.class_weight_buffer(gpu)?;
        let weights = bound_weights(gpu, weights.as_ref())?;
        let sums = PartialSums::new(gpu, logits, &bands)?;
        for (i, band) in bands.iter().enumerate() {
            let groups = MapPart::of(&map, band);
            let params = self.params_of(logits, band, &groups, Params::new(&band.of(logits)));
            let specialisation = Specialisation {
                labels: targets.label_type,
                class_weights: self.class_weights.is_some(),
                ..Specialisation::new(Access::Vec4, ElementType::F32, 0)
            };
            let buffers = [targets.read(gpu, &map, &groups)?, weights.clone(), sums.of_band(gpu, i)?];
            dispatch.push(gpu, (&WEIGHTS, specialisation), params, &buffers, (params.partials, band.images))?;
        }
        let total = scratch(gpu, "total weight", RECORD)?;
        sums.finish(gpu, dispatch, (logits, self.reduction), Bound::whole(gpu, binding::RECORD, &total)?)?;
        Ok(total)
    }

    /// The parameters of a kernel over the pixels of a band, which are `groups` of the map.
    fn params_of(&self, logits: &Logits, band: &Band, groups: &MapPart, params: Params) -> Params {
        // An index beyond 32 bits matches no label on the GPU; a negative one is compared in two's complement.
        let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
        let ignore_index = self.ignore_index.filter(in_32_bits).map(|index| index as u32);
        Params {
            map_offset: groups.offset(),
            first_pixel: band.image * logits.pixels() + band.pixel,
            pixels: logits.pixels(),
            partials: partials_of_image(params.groups),
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            label_smoothing: self.label_smoothing,
            ..params
        }
    }

    fn class_weight_buffer(&self, gpu: &Gpu) -> Result<Option<Buffer>, Error> {
        let buffer = |weights: &Vec<f32>| constants(gpu, "class weights", bytemuck::cast_slice(weights));
        self.class_weights.as_ref().map(buffer).transpose()
    }
}

fn bound_weights<'a>(gpu: &'a Gpu, weights: Option<&'a Buffer>) -> Result<Bound<'a>, Error> {
    match weights {
        Some(weights) => Bound::whole(gpu, binding::CLASS_WEIGHTS, weights),
        None => Ok(Bound::placeholder(gpu, binding::CLASS_WEIGHTS)),
    }
}
