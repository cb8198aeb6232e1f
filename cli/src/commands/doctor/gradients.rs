//! Cases of the gradients of [`CrossEntropy`] and [`BinaryCrossEntropy`].

use seghead::{
    BinaryCrossEntropy, CrossEntropy, Dispatch, Error, LabelType, LossBuffers, Reduction, Targets, reference,
};

use super::bench::Bench;
use super::data::{CLASSES, Random, Reading, Sample, map_bytes};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context};

const GRADIENTS: &[&str] = &["cross-entropy gradients"];
const SOFT_GRADIENTS: &[&str] = &["cross-entropy soft gradients"];
const ELEMENTS: &[&str] = &["binary cross-entropy elements"];
const LABEL_ELEMENTS: &[&str] = &["binary cross-entropy label elements"];

/// What is compiled into a kernel, but for how it reads.
#[derive(Clone, Copy, Debug)]
struct Options {
    against: Against,
    weights: bool,
    /// Of binary losses, class weights instead.
    smoothing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Against {
    Labels(LabelType),
    Soft,
    Binary,
    BinaryLabels(LabelType),
}

impl Against {
    fn is_binary(self) -> bool {
        matches!(self, Self::Binary | Self::BinaryLabels(_))
    }

    fn kernels(self) -> &'static [&'static str] {
        match self {
            Self::Labels(_) => GRADIENTS,
            Self::Soft => SOFT_GRADIENTS,
            Self::Binary => ELEMENTS,
            Self::BinaryLabels(_) => LABEL_ELEMENTS,
        }
    }
}

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    let (labels, binary) = (Against::Labels, Against::BinaryLabels);
    let of_labels = [LabelType::U8, LabelType::U32].into_iter().flat_map(|of| [labels(of), binary(of)]);
    for against in of_labels.chain([Against::Soft, Against::Binary]) {
        for reading in Reading::all() {
            for bits in 0..4 {
                let options = Options { against, weights: bits & 1 != 0, smoothing: bits & 2 != 0 };
                // Classes do not meet in binary losses: one count is enough.
                if against.is_binary() && reading.classes != CLASSES[0] {
                    continue;
                }
                let what = format!("gradient, {reading}, {options:?}");
                cases.push(Case::new(against.kernels(), what, move |context, findings| {
                    check(context, findings, reading.samples(true)?, options)
                }));
            }
        }
    }
    cases
}

/// What a sample is trained with.
struct Work {
    sample: Sample,
    labels: Vec<i64>,
    numbers: Sample,
    weights: Option<Vec<f32>>,
    /// Class weights of binary losses.
    of_classes: Option<Vec<f32>>,
    reduction: Reduction,
}

const IGNORED: i64 = 255;

impl Work {
    fn new(sample: Sample, options: Options, i: usize) -> Self {
        let (classes, pixels) = (sample.shape.classes(), sample.shape.map().pixels());
        let mut random = Random::new(11);
        let label = |i: usize| if i % 5 == 4 { IGNORED } else { (i as u32 / 2 % classes).into() };
        let numbers = Sample::new("", sample.shape.output(), &mut |_, _| random.below(5) as f32 / 4.0);
        Self {
            labels: (0..pixels).map(label).collect(),
            numbers,
            weights: options.weights.then(|| (0..classes).map(|c| 0.5 + c as f32 % 7.0 / 4.0).collect()),
            of_classes: (options.smoothing && options.against.is_binary())
                .then(|| (0..classes).map(|c| 2.0 - c as f32 % 3.0 / 2.0).collect()),
            reduction: if i.is_multiple_of(2) { Reduction::Mean } else { Reduction::Sum },
            sample,
        }
    }

    fn cross_entropy(&self, smoothing: f32) -> CrossEntropy {
        CrossEntropy::new()
            .ignore_index(Some(IGNORED))
            .class_weights(self.weights.clone())
            .label_smoothing(smoothing)
            .reduction(self.reduction)
    }

    fn binary(&self) -> BinaryCrossEntropy {
        BinaryCrossEntropy::new()
            .ignore_index(Some(IGNORED))
            .class_weights(self.of_classes.clone())
            .pos_weight(self.weights.clone())
            .reduction(self.reduction)
    }

    fn target_bytes(&self, against: Against) -> Vec<u8> {
        let map = self.sample.shape.map();
        match against {
            Against::Labels(LabelType::U8) | Against::BinaryLabels(LabelType::U8) => {
                map_bytes(&map, &self.labels.iter().map(|&label| label as u8).collect::<Vec<_>>(), 77)
            }
            Against::Labels(LabelType::U32) | Against::BinaryLabels(LabelType::U32) => {
                map_bytes(&map, &self.labels.iter().map(|&label| label as u32).collect::<Vec<_>>(), u32::MAX)
            }
            Against::Soft | Against::Binary => self.numbers.bytes(),
        }
    }

    fn reference(&self, against: Against, smoothing: f64) -> Vec<f64> {
        let (shape, data, numbers) = (&self.sample.shape, &self.sample.data, &self.numbers.data);
        let (w, r) = (self.weights.as_deref(), self.reduction);
        let of_classes = self.of_classes.as_deref();
        match against {
            Against::Labels(_) => {
                reference::cross_entropy_gradient(shape, data, &self.labels, Some(IGNORED), w, smoothing, r)
            }
            Against::Soft => reference::cross_entropy_soft_gradient(shape, data, numbers, w, smoothing, r),
            Against::Binary => reference::binary_cross_entropy_gradient(shape, data, numbers, of_classes, w, r),
            Against::BinaryLabels(_) => {
                let numbers = reference::one_hot(shape, &self.labels);
                let of = |r| reference::binary_cross_entropy_gradient(shape, data, &numbers, of_classes, w, r);
                let counted = |pixel: usize, _| if self.labels[pixel] == IGNORED { 0.0 } else { 1.0 };
                let counted = Sample::new("", shape.output(), &mut { counted }).values;
                let elements: f64 = counted.iter().copied().map(f64::from).sum();
                let by = if r == Reduction::Mean { elements } else { 1.0 };
                let kept = |(x, counts): (f64, f32)| if counts == 0.0 { 0.0 } else { x / by };
                of(Reduction::Sum).into_iter().zip(counted).map(kept).collect()
            }
        }
    }
}

fn check(context: &Context, findings: &mut Findings, samples: Vec<Sample>, options: Options) -> Result<(), Error> {
    let gpu = &context.gpu;
    let (against, smoothing) = (options.against, if options.smoothing { 0.1f32 } else { 0.0 });
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (i, sample) in samples.into_iter().enumerate() {
        let work = Work::new(sample, options, i);
        let shape = &work.sample.shape;
        let (input, target) = (bench.input(&work.sample.bytes()), bench.input(&work.target_bytes(against)));
        let (record, gradient) = (bench.output(16), bench.output(shape.output().bytes()));
        let (input, target) = (input.as_entire_buffer_binding(), target.as_entire_buffer_binding());
        let (to, of) = (record.as_entire_buffer_binding(), gradient.as_entire_buffer_binding());
        let operator = work.cross_entropy(smoothing);
        let dispatch = match against {
            Against::Labels(label_type) => {
                operator.dispatch_gradient(gpu, shape, input, Targets::new(target, label_type), to, of)?
            }
            Against::Soft => operator.dispatch_soft_gradient(gpu, shape, input, target, to, of)?,
            Against::Binary => work.binary().dispatch_gradient(gpu, shape, input, target, to, of)?,
            Against::BinaryLabels(label_type) => {
                let (targets, buffers) = (Targets::new(target, label_type), LossBuffers::new(to).gradient(of));
                work.binary().dispatch_labels(gpu, shape, input, targets, buffers)?
            }
        };
        bench.record(&dispatch, &[&gradient])?;
        works.push((work, dispatch));
    }
    let mut results = bench.run()?;
    for (work, dispatch) in &works {
        let expected = work.reference(against, smoothing.into());
        compare(findings, (work, dispatch), against, &results.bytes(), &expected);
    }
    Ok(())
}

/// An exponential of d is within 6 + 5 |d| roundings, which e^d makes at most 6 of the largest one; so a probability is
/// within these, 6 + 5 ln C of the sum over C classes and C for adding it, and some for the division and the weights.
/// What it is multiplied by and what is taken off is at most the weights of a pixel. A sum of weights goes through at most
/// 4 + 64 + 64 additions.
fn compare(
    findings: &mut Findings,
    (work, dispatch): (&Work, &Dispatch),
    against: Against,
    bytes: &[u8],
    expected: &[f64],
) {
    let shape = &work.sample.shape;
    let subject = Subject::new(dispatch, against.kernels(), &work.sample.name);
    let (classes, count) = (f64::from(shape.classes()), shape.map().pixels() as f64);
    let scale = match (work.reduction, against) {
        (Reduction::Sum, _) => 1.0,
        // Four of five are counted, at half the weight at the least.
        (_, Against::Labels(_)) => 2.0 / (0.8 * count).floor().max(1.0),
        (_, Against::Soft) => 1.0 / count,
        (_, Against::Binary) => 1.0 / (count * classes),
        (_, Against::BinaryLabels(_)) => 1.0 / ((0.8 * count).floor().max(1.0) * classes),
    };
    let largest = |weights: &Option<Vec<f32>>| if weights.is_some() { 2.25 } else { 1.0 };
    let largest = largest(&work.weights) * largest(&work.of_classes);
    let of_pixel = match against {
        Against::Labels(_) => 1.0,
        Against::Soft => classes,
        Against::Binary | Against::BinaryLabels(_) => 2.0,
    };
    let size = scale * largest * of_pixel;
    let roundings = 2.0 * classes + 5.0 * classes.ln() + 50.0 + if scale == 1.0 { 0.0 } else { 140.0 };
    let tolerance = |_: usize| size * (roundings * U + FLUSHED);
    let right = findings.compare(&subject, "gradient", &work.sample.unpack(bytes), expected, tolerance);
    let outside = work.sample.written_outside(bytes);
    if right {
        findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
    }
}
