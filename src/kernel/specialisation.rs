use super::{Kernel, UNROLLED_CLASSES, WORKGROUP, binding};
use crate::{Activation, ElementType, Error, Gpu};

/// Which scores of the best class are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scores {
    pub confidence: bool,
    pub margin: bool,
    pub entropy: bool,
}

impl Scores {
    pub const NONE: Self = Self { confidence: false, margin: false, entropy: false };

    /// Bits of all maps of a pixel, with its label.
    pub fn bits(self, label_type: LabelType) -> u64 {
        let scores = u64::from(self.confidence) + u64::from(self.margin) + u64::from(self.entropy);
        u64::from(label_type.bits()) + 32 * scores
    }

    /// What is compiled: the margin with the confidence, the entropy with both. Every combination would be twice as many
    /// pipelines, and what was not asked for costs a store into a placeholder.
    pub fn levels() -> [Self; 4] {
        let [confidence, margin, entropy] = [1, 2, 3];
        [0, confidence, margin, entropy].map(|level| Self {
            confidence: level >= confidence,
            margin: level >= margin,
            entropy: level >= entropy,
        })
    }

    /// The least of [`levels`](Self::levels) that has these.
    pub fn level(self) -> Self {
        let Self { confidence, margin, entropy } = self;
        Self { confidence: confidence || margin || entropy, margin: margin || entropy, entropy }
    }
}

/// How many elements of a tensor a kernel reads or writes at once; [`Gpu::access`] says which a device takes.
///
/// ```
/// use seghead::{Access, Gpu, GpuOptions};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// assert_ne!(gpu.access(), Access::Scalar);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// One element: for groups that do not start at a multiple of four elements.
    Scalar,
    /// Four elements.
    Vec4,
    /// Four elements as words of 64 bits: lavapipe makes a loop over its lanes of every access, and one of 64 bits costs
    /// it as much as one of 32.
    Words64,
}

impl Access {
    pub(crate) const ALL: [Self; 3] = [Self::Scalar, Self::Vec4, Self::Words64];

    /// Every way of reading logits.
    pub(crate) fn inputs() -> impl Iterator<Item = (Self, ElementType)> {
        Self::ALL.into_iter().flat_map(|access| [ElementType::F32, ElementType::F16].map(|element| (access, element)))
    }

    /// For groups that start at multiples of four elements, or anywhere.
    pub(crate) fn choose(gpu: &Gpu, in_fours: bool) -> Self {
        if in_fours { gpu.access() } else { Self::Scalar }
    }

    /// For groups of four, on a device: what `SEGHEAD_ACCESS` asks for, `vec4` or, with integers of 64 bits, `words64`;
    /// or else what is fast there. All else in which kernels differ between adapters follows from it.
    pub(crate) fn of_device(software: bool, features: wgpu::Features) -> Self {
        let integers = features.contains(wgpu::Features::SHADER_INT64);
        match std::env::var("SEGHEAD_ACCESS").as_deref() {
            Ok("vec4") => Self::Vec4,
            Ok("words64") if integers => Self::Words64,
            _ if software && integers => Self::Words64,
            _ => Self::Vec4,
        }
    }

    /// The one for kernels that walk through the classes of several neighbouring groups together, and of each again where
    /// a logit is special: 35 times at the most. With very many classes they own single groups, for llvmpipe ends loops
    /// early ([`Gpu::loop_iterations`]).
    pub(crate) fn for_classes(self, classes: u32) -> Self {
        const MOST: u32 = 65_535 / 35;
        if self.is_adjacent() && classes > MOST { Self::Vec4 } else { self }
    }

    /// Whether an invocation that owns several groups owns neighbours, `ADJACENT` in the shaders.
    pub(crate) fn is_adjacent(self) -> bool {
        self == Self::Words64
    }

    fn params_source(self) -> &'static str {
        match self {
            Self::Vec4 => include_str!("../../shaders/prelude/params_stored.wgsl"),
            Self::Scalar | Self::Words64 => include_str!("../../shaders/prelude/params_copied.wgsl"),
        }
    }

    fn load_source(self, element_type: ElementType) -> &'static str {
        match (self, element_type) {
            (Self::Scalar, ElementType::F32) => include_str!("../../shaders/prelude/load_scalar.wgsl"),
            (Self::Vec4, ElementType::F32) => include_str!("../../shaders/prelude/load_vec4.wgsl"),
            (Self::Words64, ElementType::F32) => include_str!("../../shaders/prelude/load_words64.wgsl"),
            (Self::Scalar, ElementType::F16) => include_str!("../../shaders/prelude/load_scalar_f16.wgsl"),
            (Self::Vec4, ElementType::F16) => include_str!("../../shaders/prelude/load_vec4_f16.wgsl"),
            (Self::Words64, ElementType::F16) => include_str!("../../shaders/prelude/load_words64_f16.wgsl"),
        }
    }

    fn store_source(self) -> &'static str {
        match self {
            Self::Scalar => include_str!("../../shaders/prelude/store_scalar.wgsl"),
            Self::Vec4 => include_str!("../../shaders/prelude/store_vec4.wgsl"),
            Self::Words64 => include_str!("../../shaders/prelude/store_words64.wgsl"),
        }
    }

    /// The load functions once more, of the far half of an image that has two bindings.
    fn far_load_source(self, element_type: ElementType) -> String {
        let near = self.load_source(element_type);
        let near = near.replace("@binding(1)", &format!("@binding({})", binding::FAR_LOGITS.index));
        near.replace("logits", "far_logits").replace("fn load", "fn far_half_load")
    }

    /// The same of the store functions.
    fn far_store_source(self) -> String {
        let near = self.store_source();
        let near = near.replace("@binding(2)", &format!("@binding({})", binding::FAR_OUTPUT.index));
        let near = near.replace("output[", "far_output[").replace("output:", "far_output:");
        near.replace("fn store", "fn far_half_store").replace("fn load", "fn far_half_load")
    }

    fn load_targets_source(self) -> &'static str {
        match self {
            Self::Scalar => include_str!("../../shaders/prelude/load_targets_scalar.wgsl"),
            Self::Vec4 => include_str!("../../shaders/prelude/load_targets_vec4.wgsl"),
            Self::Words64 => include_str!("../../shaders/prelude/load_targets_words64.wgsl"),
        }
    }
}

/// The integer type of labels on the GPU.
///
/// ```
/// use seghead::LabelType;
/// assert_eq!(LabelType::for_classes(21), LabelType::U8);
/// assert_eq!(LabelType::for_classes(1000).bits(), 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// 8 bits, four pixels to a 32-bit word, the first pixel in the lowest byte.
    U8,
    /// 32 bits, one pixel to a word.
    U32,
}

impl LabelType {
    /// The smallest type that tells `classes` classes apart.
    pub fn for_classes(classes: u32) -> Self {
        if classes <= 256 { Self::U8 } else { Self::U32 }
    }

    /// Bits of one label.
    pub fn bits(self) -> u32 {
        match self {
            Self::U8 => 8,
            Self::U32 => 32,
        }
    }

    pub(crate) fn check(self, classes: u32) -> Result<(), Error> {
        match self {
            Self::U8 if classes > 256 => Err(Error::LabelType { bits: 8, limit: 256, classes }),
            _ => Ok(()),
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::U8 => include_str!("../../shaders/prelude/labels_u8.wgsl"),
            Self::U32 => include_str!("../../shaders/prelude/labels_u32.wgsl"),
        }
    }

    fn target_source(self) -> &'static str {
        match self {
            Self::U8 => include_str!("../../shaders/prelude/target_labels_u8.wgsl"),
            Self::U32 => include_str!("../../shaders/prelude/target_labels_u32.wgsl"),
        }
    }
}

/// What is compiled into a pipeline: part of the key that pipelines are cached under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Specialisation {
    pub access: Access,
    pub element_type: ElementType,
    pub labels: LabelType,
    /// The type of the labels that those are held against.
    pub target_labels: LabelType,
    /// The class count, or 0 where the shader reads it from its parameters.
    pub classes: u32,
    pub scores: Scores,
    pub class_weights: bool,
    pub label_smoothing: bool,
    /// Whether a loss is also written per pixel.
    pub per_pixel: bool,
    /// Whether positive targets have a weight of their class.
    pub pos_weight: bool,
    /// Whether a loss is also written per element.
    pub per_element: bool,
    /// Whether a gradient is written instead, or what it is made of.
    pub gradient: bool,
    /// Whether pixels are counted into a confusion matrix.
    pub counts: bool,
    /// Whether a softmax becomes its logarithm.
    pub log: bool,
    /// Whether an image is bound in two halves, as it is too large for one binding.
    pub halves: bool,
    /// What becomes of logits that are written.
    pub activation: Activation,
    /// Taps per axis that a block of 4 × 4 upsampled pixels reads.
    pub taps: u32,
    /// How many classes of a pixel are kept, best first.
    pub top_k: u32,
    /// Whether probabilities are written: those of the classes that are kept too, or instead of logits.
    pub probabilities: bool,
    /// Whether the logit of one class of every pixel is wanted.
    pub chosen_class: bool,
    /// Whether colours are mixed in linear light. Software adapters walk both ways of a branch, so it is no parameter.
    pub linear_light: bool,
    /// Whether a photo is decoded to linear light when it is read.
    pub decoded_photo: bool,
}

impl Specialisation {
    pub const fn new(access: Access, element_type: ElementType, classes: u32) -> Self {
        Self {
            access,
            element_type,
            labels: LabelType::U8,
            target_labels: LabelType::U8,
            classes: if classes <= UNROLLED_CLASSES { classes } else { 0 },
            scores: Scores::NONE,
            class_weights: false,
            label_smoothing: false,
            per_pixel: false,
            pos_weight: false,
            per_element: false,
            gradient: false,
            counts: false,
            log: false,
            halves: false,
            activation: Activation::None,
            taps: 4,
            top_k: 1,
            probabilities: false,
            chosen_class: false,
            linear_light: false,
            decoded_photo: false,
        }
    }

    /// Every way of reading logits, with nothing else compiled in.
    pub fn of_inputs(classes: u32) -> Vec<Self> {
        Access::inputs().map(|(access, element)| Self::new(access, element, classes)).collect()
    }

    /// For either way of binding an image: whole, or in halves, which is read in fours.
    pub fn with_halves(self) -> impl Iterator<Item = Self> {
        let halves = (self.access != Access::Scalar && self.classes != 1).then_some(Self { halves: true, ..self });
        std::iter::once(self).chain(halves)
    }

    /// What is compiled into a kernel as numbers, one `const` line each.
    fn constants(&self) -> String {
        let Self { classes, class_weights, label_smoothing, per_pixel, log, taps, top_k, probabilities, .. } = *self;
        let Self {
            pos_weight, per_element, gradient, counts, halves, chosen_class, linear_light, decoded_photo, ..
        } = *self;
        let Scores { confidence, margin, entropy } = self.scores;
        let adjacent = self.access.is_adjacent();
        let activation = self.activation as u32;
        let element_bytes = self.element_type.size();
        format!(
            "const WORKGROUP: u32 = {WORKGROUP}u;\n\
             const CLASSES: u32 = {classes}u;\n\
             const ADJACENT: bool = {adjacent};\n\
             const ELEMENT_BYTES: u32 = {element_bytes}u;\n\
             const CONFIDENCE: bool = {confidence};\n\
             const MARGIN: bool = {margin};\n\
             const ENTROPY: bool = {entropy};\n\
             const CLASS_WEIGHTS: bool = {class_weights};\n\
             const LABEL_SMOOTHING: bool = {label_smoothing};\n\
             const PER_PIXEL: bool = {per_pixel};\n\
             const POS_WEIGHT: bool = {pos_weight};\n\
             const PER_ELEMENT: bool = {per_element};\n\
             const GRADIENT: bool = {gradient};\n\
             const COUNTS: bool = {counts};\n\
             const LOG: bool = {log};\n\
             const HALVES: bool = {halves};\n\
             const ACTIVATION: u32 = {activation}u;\n\
             const TAPS: u32 = {taps}u;\n\
             const TOP_K: u32 = {top_k}u;\n\
             const PROBABILITIES: bool = {probabilities};\n\
             const CHOSEN_CLASS: bool = {chosen_class};\n\
             const LINEAR_LIGHT: bool = {linear_light};\n\
             const DECODED_PHOTO: bool = {decoded_photo};\n"
        )
    }

    /// The specialisation in words: how it reads, the types of elements and labels, and every constant that is neither
    /// false nor 0.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!("{:?}", self.access).to_lowercase(),
            format!("{:?}", self.element_type).to_lowercase(),
            format!("u{}", self.labels.bits()),
            format!("u{} targets", self.target_labels.bits()),
        ];
        let constants = self.constants();
        let constants = constants.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(':'));
        for (name, rest) in constants {
            let name = name.to_lowercase().replace('_', " ");
            let value = rest.rsplit(' ').next().unwrap_or_default();
            match value.trim_end_matches([';', 'u']) {
                "false" | "0" => {}
                // These follow from the access and the element type.
                _ if name == "adjacent" || name == "element bytes" => {}
                "true" => words.push(name),
                _ if name == "activation" => words.push(format!("{:?}", self.activation).to_lowercase()),
                number if name == "top k" => words.push(format!("top {number}")),
                number => words.push(format!("{number} {name}")),
            }
        }
        words
    }

    /// The whole WGSL text of `kernel` specialised like this.
    pub fn source(&self, kernel: &Kernel) -> String {
        let constants = self.constants();
        let (common, params) = (include_str!("../../shaders/prelude/common.wgsl"), self.access.params_source());
        let statistics = include_str!("../../shaders/prelude/statistics.wgsl");
        let best = include_str!("../../shaders/prelude/best.wgsl");
        let activation = include_str!("../../shaders/prelude/activation.wgsl");
        let resize = include_str!("../../shaders/prelude/resize.wgsl");
        let touch = include_str!("../../shaders/prelude/touch.wgsl");
        let (load, store) = (self.access.load_source(self.element_type), self.access.store_source());
        let planes = match self.halves {
            false => include_str!("../../shaders/prelude/planes_of_one.wgsl").to_owned(),
            true => {
                let far = self.access.far_load_source(self.element_type) + &self.access.far_store_source();
                far + include_str!("../../shaders/prelude/planes_of_two.wgsl")
            }
        };
        let (targets, labels) = (self.access.load_targets_source(), self.labels.source());
        let target_labels = self.target_labels.target_source();
        let shared = [targets, labels, target_labels, touch, statistics, activation, best, resize].concat();
        [&constants, common, params, load, store, &planes, &shared, kernel.source].concat()
    }
}
