//! What [`Inspect`](crate::Inspect) counts, and what it makes of it.

use std::fmt;

use crate::{Axis, ElementType, Error, Logits, host};

/// The words of a record in front of those of the classes, `HEADER` in `shaders/inspect.wgsl`.
pub(crate) const HEADER: usize = 12;

/// The words of a class, `CLASS_WORDS` in `shaders/inspect.wgsl`.
pub(crate) const CLASS_WORDS: usize = 7;

/// The word of an axis in the record.
pub(crate) fn axis_word(axis: Axis) -> u32 {
    match axis {
        Axis::Class => 0,
        Axis::Height => 3,
        Axis::Width => 6,
    }
}

/// How far from 1 a sum of probabilities may be: 1e-3 for f32, 1e-2 for f16.
///
/// A probability has at most half an ulp of its type and so has the sum of exact ones: 2⁻¹¹ with f16. The rest is for
/// how they were computed.
pub(crate) fn tolerance(element_type: ElementType) -> f32 {
    match element_type {
        ElementType::F32 => 1e-3,
        ElementType::F16 => 1e-2,
    }
}

/// The values of one class, or of all.
///
/// ```
/// use seghead::{Logits, reference};
/// let found = reference::inspect(&Logits::chw(1, 1, 3)?, &[0.5f32, -2.0, f32::NAN]);
/// let class = &found.classes[0];
/// assert_eq!((class.minimum, class.maximum, class.nan, class.negative), (-2.0, 0.5, 1, 1));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClassValues {
    /// The smallest finite value, NaN where there is none.
    pub minimum: f32,
    /// The largest finite value, NaN where there is none.
    pub maximum: f32,
    /// Number of NaN.
    pub nan: u64,
    /// Number of +Inf.
    pub positive_infinity: u64,
    /// Number of −Inf.
    pub negative_infinity: u64,
    /// Number of finite values below 0.
    pub negative: u64,
    /// Number of values in 0..=1.
    pub unit: u64,
    /// Number of all values.
    pub count: u64,
}

impl ClassValues {
    /// Of no values yet.
    pub(crate) fn none() -> Self {
        Self {
            minimum: f32::NAN,
            maximum: f32::NAN,
            nan: 0,
            positive_infinity: 0,
            negative_infinity: 0,
            negative: 0,
            unit: 0,
            count: 0,
        }
    }

    /// Number of finite values.
    pub fn finite(&self) -> u64 {
        self.count - self.nan - self.positive_infinity - self.negative_infinity
    }

    /// Whether these are several values, all of them finite and the same.
    pub fn is_constant(&self) -> bool {
        self.count >= 2 && self.finite() == self.count && self.minimum == self.maximum
    }

    fn with(mut self, other: &Self) -> Self {
        // The other one where this is NaN.
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
        self.nan += other.nan;
        self.positive_infinity += other.positive_infinity;
        self.negative_infinity += other.negative_infinity;
        self.negative += other.negative;
        self.unit += other.unit;
        self.count += other.count;
        self
    }
}

/// How many sums of the elements along an axis are 1, within 1e-3 for f32 and 1e-2 for f16.
///
/// ```
/// use seghead::{Axis, Logits, reference};
/// let found = reference::inspect(&Logits::chw(2, 1, 3)?, &[0.25f32, 0.5, 1.0, 0.75, 0.5, 1.0]);
/// let sums = found.sums(Axis::Class);
/// assert_eq!((sums.length, sums.count, sums.ones), (2, 3, 2));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AxisSums {
    /// Elements along the axis.
    pub length: u32,
    /// Number of all sums along it.
    pub count: u64,
    /// Number of those without a NaN or an infinity among the elements.
    pub finite: u64,
    /// Number of those that are 1.
    pub ones: u64,
}

impl AxisSums {
    /// Whether nearly all sums are 1, 99.9 %, and more than one element is in each.
    fn is_one(&self) -> bool {
        self.length >= 2 && nearly_all(self.ones, self.finite)
    }
}

/// At least 99.9 %, and more than none.
fn nearly_all(part: u64, all: u64) -> bool {
    all > 0 && u128::from(part) * 1000 >= u128::from(all) * 999
}

/// Along which axis neighbours differ most: one vote for every element of a sample that has finite neighbours along all
/// three, unless two differ alike. Images are smooth, their classes are not.
///
/// ```
/// use seghead::{Logits, reference};
/// // The classes are 5 apart, the columns 1, the rows 2.
/// let found = reference::inspect(&Logits::chw(2, 2, 2)?, &[0f32, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0]);
/// assert_eq!((found.roughness.class, found.roughness.height, found.roughness.width), (1, 0, 0));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Roughness {
    /// Votes for the class axis.
    pub class: u64,
    /// Votes for the height.
    pub height: u64,
    /// Votes for the width.
    pub width: u64,
}

/// What [`Inspect`](crate::Inspect) counts in a tensor.
///
/// ```
/// use seghead::{Finding, Gpu, GpuOptions, Inspect, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let found = Inspect::new().run_blocking(&gpu, &Logits::chw(2, 1, 2)?, &[0.2, 0.6, 0.8, 0.4])?;
/// assert!(matches!(found.findings()[..], [Finding::Probabilities { .. }]));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The shape and layout that were assumed.
    pub logits: Logits,
    /// The values of every class, in all images.
    pub classes: Vec<ClassValues>,
    /// Sums along the axes class, height and width; see [`sums`](Self::sums).
    pub(crate) sums: [AxisSums; 3],
    /// How many sums of the exponentials of a pixel's classes are 1, where none of these is above 0.
    pub exponential_ones: u64,
    /// Votes on the layout, of a sample: a rectangle of some 2¹⁸ elements in the middle of the first image.
    pub roughness: Roughness,
}

impl Inspection {
    /// From the record that an [`Inspect`](crate::Inspect) dispatch for `logits` left on the GPU, read back.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a record of another length.
    pub fn from_record(logits: &Logits, record: &[u32]) -> Result<Self, Error> {
        let words = HEADER + logits.classes() as usize * CLASS_WORDS;
        host::check_length("inspection record", words as u64, record.len() as u64)?;
        let (header, classes) = record.split_at(HEADER);
        let sums = [Axis::Class, Axis::Height, Axis::Width].map(|axis| {
            let word = axis_word(axis) as usize;
            let (finite, ones) = (header[word].into(), header[word + 1].into());
            AxisSums { finite, ones, ..no_sums(logits, axis) }
        });
        let [class, height, width] = [header[9], header[10], header[11]].map(u64::from);
        let count = u64::from(logits.images()) * u64::from(logits.pixels());
        let classes = classes.chunks_exact(CLASS_WORDS).map(|words| ClassValues {
            minimum: value(!words[1]),
            maximum: value(words[0]),
            nan: words[2].into(),
            positive_infinity: words[3].into(),
            negative_infinity: words[4].into(),
            negative: words[5].into(),
            unit: words[6].into(),
            count,
        });
        Ok(Self {
            logits: *logits,
            classes: classes.collect(),
            sums,
            exponential_ones: header[2].into(),
            roughness: Roughness { class, height, width },
        })
    }

    /// Sums of the elements along `axis`.
    pub fn sums(&self, axis: Axis) -> AxisSums {
        match axis {
            Axis::Class => self.sums[0],
            Axis::Height => self.sums[1],
            Axis::Width => self.sums[2],
        }
    }

    /// The values of all classes together.
    pub fn total(&self) -> ClassValues {
        self.classes.iter().fold(ClassValues::none(), ClassValues::with)
    }

    /// What is conspicuous, the most serious first; nothing for ordinary logits.
    ///
    /// Sums say something only where the axis has at least two elements, nearly all of them (99.9 %) are 1 and nearly
    /// all values are in 0..=1. Constant tensors are called that and nothing else.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let total = self.total();
        let (nan, positive_infinity, negative_infinity) = (total.nan, total.positive_infinity, total.negative_infinity);
        if total.finite() != total.count {
            let classes = self.which(|class| class.finite() != class.count);
            findings.push(Finding::NotFinite { nan, positive_infinity, negative_infinity, classes });
        }
        if !total.is_constant() {
            findings.extend(self.activation(&total));
        }
        findings.extend(self.layout());
        let constant = self.which(ClassValues::is_constant);
        if !constant.is_empty() {
            let value = total.is_constant().then_some(total.minimum);
            findings.push(Finding::Constant { value, classes: constant, of: self.logits.classes() });
        }
        if self.logits.classes() == 1 {
            findings.push(Finding::OneClass);
        }
        findings
    }

    /// Whether an activation was applied already, and along which axis.
    fn activation(&self, total: &ClassValues) -> Vec<Finding> {
        let class = self.sums(Axis::Class);
        if total.minimum >= 0.0 || nearly_all(total.unit, total.finite()) {
            if !nearly_all(total.unit, total.finite()) {
                return Vec::new();
            }
            if class.is_one() {
                return vec![Finding::Probabilities { ones: class.ones, count: class.finite }];
            }
            let classes_last = self.logits.is_classes_last();
            let axes = [Axis::Width, Axis::Height].into_iter().filter(|&axis| self.sums(axis).is_one());
            let wrong: Vec<_> = axes
                .map(|axis| {
                    let AxisSums { ones, finite, .. } = self.sums(axis);
                    Finding::WrongAxis { axis, classes_last, ones, count: finite }
                })
                .collect();
            if wrong.is_empty() && total.unit == total.finite() && total.count >= FEW {
                return vec![Finding::SigmoidOutputs { minimum: total.minimum, maximum: total.maximum }];
            }
            return wrong;
        }
        let logarithms = class.length >= 2 && nearly_all(self.exponential_ones, class.count);
        if logarithms && total.maximum <= 0.0 {
            return vec![Finding::LogProbabilities { ones: self.exponential_ones, count: class.count }];
        }
        Vec::new()
    }

    /// Another layout, where neighbours along the assumed classes are alike and those along another axis are not.
    fn layout(&self) -> Option<Finding> {
        let Roughness { class, height, width } = self.roughness;
        let last = self.logits.is_classes_last();
        // The axis that has the classes in the other layout, and its votes.
        let (size, votes) = if last { (self.logits.height(), height) } else { (self.logits.width(), width) };
        let all = class + height + width;
        // The dimension of the classes is the smallest as a rule. A third of the votes is what noise has.
        let clear = all >= 100 && votes * 5 >= all * 4 && size < self.logits.classes();
        clear.then_some(Finding::Layout { classes_last: !last, votes, of: all })
    }

    fn which(&self, condition: impl Fn(&ClassValues) -> bool) -> Vec<u32> {
        (0..).zip(&self.classes).filter(|(_, class)| condition(class)).map(|(index, _)| index).collect()
    }
}

/// Fewer values than this may be in 0..=1 by chance.
const FEW: u64 = 16;

/// How many sums there are along an axis.
pub(crate) fn no_sums(logits: &Logits, axis: Axis) -> AxisSums {
    let length = match axis {
        Axis::Class => logits.classes(),
        Axis::Height => logits.height(),
        Axis::Width => logits.width(),
    };
    let elements = u64::from(logits.images()) * u64::from(logits.classes()) * u64::from(logits.pixels());
    AxisSums { length, count: elements / u64::from(length), finite: 0, ones: 0 }
}

/// The value of a key, see `shaders/inspect.wgsl`; NaN for those of no value, 0 and its complement.
fn value(key: u32) -> f32 {
    if key == 0 || key == u32::MAX {
        return f32::NAN;
    }
    let signed = (key ^ 0x8000_0000) as i32;
    let magnitude = f32::from_bits(signed.unsigned_abs());
    if signed < 0 { -magnitude } else { magnitude }
}

/// Adds the record of one part of a tensor to that of others.
pub(crate) fn merge(record: &mut [u32], part: &[u32]) {
    for (i, (word, &other)) in record.iter_mut().zip(part).enumerate() {
        let is_key = i >= HEADER && (i - HEADER) % CLASS_WORDS < 2;
        *word = if is_key { other.max(*word) } else { word.wrapping_add(other) };
    }
}

/// Something conspicuous in a tensor. Displayed in one line.
///
/// ```
/// use seghead::Finding;
/// assert_eq!(Finding::OneClass.to_string(), "one class: softmax is always 1, use sigmoid");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// Values that are not finite.
    NotFinite {
        /// Number of NaN.
        nan: u64,
        /// Number of +Inf.
        positive_infinity: u64,
        /// Number of −Inf.
        negative_infinity: u64,
        /// The classes that have such values.
        classes: Vec<u32>,
    },

    /// A softmax over the classes was applied already.
    Probabilities {
        /// Number of pixels whose classes sum to 1.
        ones: u64,
        /// Number of pixels without a NaN or an infinity.
        count: u64,
    },

    /// A log-softmax over the classes was applied already. Another one, and so a softmax or a cross-entropy, does no harm.
    LogProbabilities {
        /// Number of pixels whose classes' exponentials sum to 1.
        ones: u64,
        /// Number of pixels.
        count: u64,
    },

    /// A softmax over another axis than the classes was applied.
    WrongAxis {
        /// The axis.
        axis: Axis,
        /// Whether the classes were assumed to be last.
        classes_last: bool,
        /// Number of sums along it that are 1.
        ones: u64,
        /// Number of sums without a NaN or an infinity.
        count: u64,
    },

    /// All values are in 0..=1, but sum to 1 along no axis.
    SigmoidOutputs {
        /// The smallest.
        minimum: f32,
        /// The largest.
        maximum: f32,
    },

    /// The dimensions seem to be in the other order.
    Layout {
        /// Whether the classes seem to be last.
        classes_last: bool,
        /// Number of votes for that, see [`Roughness`].
        votes: u64,
        /// Number of all votes.
        of: u64,
    },

    /// Classes that have the same value in every pixel.
    Constant {
        /// The value, where it is that of all classes.
        value: Option<f32>,
        /// The classes.
        classes: Vec<u32>,
        /// Number of all classes.
        of: u32,
    },

    /// There is one class.
    OneClass,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { nan, positive_infinity, negative_infinity, classes } => {
                write!(f, "{nan} NaN, {positive_infinity} +Inf, {negative_infinity} −Inf: ")?;
                if *nan == 0 && *positive_infinity == 0 {
                    write!(f, "a mask, or a diverged network? In {}", list(classes))
                } else {
                    write!(f, "diverged network? In {}", list(classes))
                }
            }
            Self::Probabilities { .. } => {
                f.write_str("sums to 1 along the class axis: these are probabilities, softmax would be applied twice")
            }
            Self::LogProbabilities { .. } => {
                f.write_str("exponentials sum to 1 along the class axis: these are log-probabilities")
            }
            Self::WrongAxis { axis, classes_last, .. } => {
                let (axis, layout) = match (axis, classes_last) {
                    (Axis::Width, false) => ("last", Some("HWC")),
                    (Axis::Width, true) => ("width", None),
                    (Axis::Height, false) => ("height", None),
                    (Axis::Height, true) => ("height", Some("CHW")),
                    (Axis::Class, _) => ("class", None),
                };
                write!(f, "sums to 1 along the {axis} axis: softmax was taken over the wrong axis")?;
                layout.map_or(Ok(()), |layout| write!(f, " or the layout is {layout}"))
            }
            Self::SigmoidOutputs { .. } => f.write_str("all in 0..1 but no sum: sigmoid outputs?"),
            Self::Layout { classes_last, votes, of } => {
                let (axis, layout, options) =
                    if *classes_last { ("last", "HWC", "hwc") } else { ("first", "CHW", "chw") };
                let percent = 100 * u128::from(*votes) / u128::from(*of).max(1);
                write!(
                    f,
                    "neighbours differ most along the {axis} axis ({percent} %): the layout looks like {layout}, try \
                     --layout {options} (n{options} for a batch)"
                )
            }
            Self::Constant { value: Some(value), .. } => write!(f, "constant: every value is {value}"),
            Self::Constant { value: None, classes, of } => {
                write!(f, "constant: {}, {} of {of}: dead channels?", list(classes), classes.len())
            }
            Self::OneClass => f.write_str("one class: softmax is always 1, use sigmoid"),
        }
    }
}

/// "class 3", "classes 1, 2", or the first of a long list.
fn list(classes: &[u32]) -> String {
    const MOST: usize = 8;
    let mut names: Vec<_> = classes.iter().take(MOST).map(u32::to_string).collect();
    if classes.len() > MOST {
        names.push("…".to_owned());
    }
    format!("{} {}", if classes.len() == 1 { "class" } else { "classes" }, names.join(", "))
}
