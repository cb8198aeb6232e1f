//! From logits and targets on the GPU to partial sums, and to losses per pixel or the gradient.

use wgpu::BufferBinding;

use super::CrossEntropy;
use crate::bands::{self, Band};
use crate::dispatch::{Bound, constants};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::{PartialSums, partials_of_image};
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Map, Reduction};

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

    /// The type of the labels.
    pub(crate) fn label_type(&self) -> LabelType {
        self.label_type
    }
}

/// What the losses of a dispatch are taken against.
#[derive(Clone)]
pub(in crate::ops) enum Against<'a> {
    Labels(Targets<'a>),
    /// f32, where the logits are.
    Soft(BufferBinding<'a>),
}

impl<'a> Against<'a> {
    pub fn source(&self, gpu: &Gpu, logits: &Logits, bands: &[Band]) -> Result<Source<'a>, Error> {
        Ok(match self {
            Self::Labels(targets) => Source::Labels(targets.clone()),
            Self::Soft(targets) => Source::Soft(Window::new(gpu, targets.clone(), &logits.output(), bands)?),
        })
    }
}

/// Where the targets of the bands come from.
pub(in crate::ops) enum Source<'a> {
    Labels(Targets<'a>),
    Soft(Window<'a>),
}

impl Source<'_> {
    /// The targets of `band`, whose pixels are `groups` of `map`, and the parameters of a kernel that reads them beside
    /// the logits.
    pub fn read(
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

/// What a kernel makes of the logits.
enum Step<'a> {
    /// Partial sums, and losses per pixel where they are wanted.
    Losses(&'a PartialSums, Option<BufferBinding<'a>>),
    /// The gradient, from what it is divided by.
    Gradient(Window<'a>, Bound<'a>),
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
        let largest = if matches!(against, Against::Soft(_)) { logits.output() } else { *logits };
        let bands = bands::for_dispatch(gpu, &largest)?;
        let sums = PartialSums::new(gpu, logits, &bands)?;
        let step = Step::Losses(&sums, losses);
        self.push_step(gpu, dispatch, (logits, &bands), (input, against, step), record)?;
        Ok(sums)
    }

    /// Writes the gradient; what it is divided by is read where the mean is asked for.
    pub(super) fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        (input, against, gradient, total): (BufferBinding<'_>, Against<'_>, BufferBinding<'_>, Bound<'_>),
        record: Option<&Bound<'_>>,
    ) -> Result<(), Error> {
        let bands = bands::for_dispatch(gpu, &logits.output())?;
        let step = Step::Gradient(Window::new(gpu, gradient, &logits.output(), &bands)?, total);
        self.push_step(gpu, dispatch, (logits, &bands), (input, against, step), record)
    }

    fn push_step(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (logits, bands): (&Logits, &[Band]),
        (input, against, step): (BufferBinding<'_>, Against<'_>, Step<'_>),
        record: Option<&Bound<'_>>,
    ) -> Result<(), Error> {
        self.check(logits)?;
        let map = logits.map();
        let window = Window::new(gpu, input, logits, bands)?;
        let targets = against.source(gpu, logits, bands)?;
        let weights = match &self.class_weights {
            Some(weights) => Some(constants(gpu, "class weights", bytemuck::cast_slice(weights))?),
            None => None,
        };
        let weights = match &weights {
            Some(weights) => Bound::whole(gpu, binding::CLASS_WEIGHTS, weights)?,
            None => Bound::placeholder(gpu, binding::CLASS_WEIGHTS),
        };
        for (i, band) in bands.iter().enumerate() {
            let (input, part) = window.read(gpu, dispatch, band)?;
            let groups = MapPart::of(&map, band);
            let params = Params::new(&part);
            let (targets_of_band, params) = targets.read(gpu, dispatch, band, (&map, &groups), params)?;
            let (written, params, cropped) = match &step {
                Step::Losses(_, Some(losses)) => {
                    let losses = Bound::part(gpu, binding::LOSS, losses.clone(), map.bytes(32), groups.bytes(32))?;
                    (losses, params, false)
                }
                Step::Losses(..) => (Bound::placeholder(gpu, binding::LOSS), params, false),
                Step::Gradient(gradient, _) => {
                    let (gradient, to) = gradient.write_as(gpu, binding::GRADIENT, band)?;
                    (gradient, params.with_output(&to), to.is_cropped())
                }
            };
            let mut buffers = vec![input, targets_of_band, written];
            if let Some(record) = record {
                buffers.iter().try_for_each(|other| record.check_apart(other))?;
            }
            let params = self.params_of(logits, band, &groups, params);
            let (gradient, per_pixel) = match &step {
                Step::Losses(_, losses) => (false, losses.is_some()),
                Step::Gradient(..) => (true, false),
            };
            // Beside labels nothing else is read or written than maps.
            let alone = matches!(targets, Source::Labels(_)) && !gradient;
            let in_fours = params.reads_in_fours() && (alone || params.writes_in_fours(cropped));
            let access = Access::choose_for_classes(gpu, in_fours, params.classes);
            let (kernel, labels) = targets.kernel(gradient);
            let specialisation = Specialisation {
                labels,
                class_weights: self.class_weights.is_some(),
                label_smoothing: self.label_smoothing != 0.0,
                per_pixel,
                ..Specialisation::new(access, part.element_type(), params.classes)
            };
            buffers.push(weights.clone());
            let invocations = match &step {
                Step::Losses(sums, _) => {
                    buffers.push(sums.of_band(gpu, i)?);
                    params.partials
                }
                Step::Gradient(_, total) => {
                    buffers.push(total.clone());
                    params.groups
                }
            };
            dispatch.push(gpu, (kernel, specialisation), params, &buffers, (invocations, part.images()))?;
            if let Step::Gradient(gradient, _) = &step {
                gradient.finish(gpu, dispatch, band)?;
            }
        }
        Ok(())
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
            reduction: u32::from(self.reduction == Reduction::Mean),
            ..params
        }
    }
}
