//! Cases of [`UpsampledCrossEntropy`](seghead::UpsampledCrossEntropy).

use seghead::wgpu::Buffer;
use seghead::{
    CrossEntropy, Dispatch, ElementType, Error, LabelType, LossBuffers, LossRecord, Map, Reduction, Targets,
    UpsampledCrossEntropy, reference,
};

use super::bench::Bench;
use super::data::{Random, map_bytes};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::resizing::{Accuracy, Scale, Task, tasks};
use super::{Case, Cases, Context};

const UPSCALE: &[&str] = &["upsampled cross-entropy upscale"];
const RESIZE: &[&str] = &["upsampled cross-entropy resize"];
const UPSCALE_GRADIENT: &[&str] = &["upsampled cross-entropy upscale", "upsampled cross-entropy gradient"];
const RESIZE_GRADIENT: &[&str] = &["upsampled cross-entropy resize", "upsampled cross-entropy gradient"];

const IGNORED: i64 = 255;
const SMOOTHING: f32 = 0.1;

/// What is compiled into a kernel, but for the types.
#[derive(Clone, Copy, Debug)]
struct Options {
    weighted: bool,
    gradient: bool,
    counts: bool,
}

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for scale in [Scale::Three, Scale::Two, Scale::One, Scale::Down] {
        for element_type in [ElementType::F32, ElementType::F16] {
            for label_type in [LabelType::U8, LabelType::U32] {
                for bits in 0..8 {
                    let options = Options { weighted: bits & 1 != 0, gradient: bits & 2 != 0, counts: bits & 4 != 0 };
                    let kernels = match (matches!(scale, Scale::Down), options.gradient) {
                        (false, false) => UPSCALE,
                        (true, false) => RESIZE,
                        (false, true) => UPSCALE_GRADIENT,
                        (true, true) => RESIZE_GRADIENT,
                    };
                    let what = format!("{scale:?}, {element_type:?}, {label_type:?}, {options:?}");
                    cases.push(Case::new(kernels, what, move |context, findings| {
                        let tasks = tasks(scale, element_type)?;
                        check(context, findings, kernels, (tasks, label_type, options))
                    }));
                }
            }
        }
    }
    cases
}

/// What is trained, with the buffers that it fills.
struct Work {
    task: Task,
    labels: Vec<i64>,
    weights: Option<Vec<f32>>,
    smoothing: f32,
    map: Map,
    operator: UpsampledCrossEntropy,
    dispatch: Dispatch,
}

fn check(
    context: &Context,
    findings: &mut Findings,
    kernels: &[&str],
    (tasks, label_type, options): (Vec<Task>, LabelType, Options),
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut random = Random::new(5);
    let mut works = Vec::new();
    for task in tasks {
        let (shape, classes) = (&task.sample.shape, task.sample.shape.classes());
        let weights: Option<Vec<f32>> =
            options.weighted.then(|| (0..classes).map(|c| 0.5 + c as f32 % 7.0 / 4.0).collect());
        let smoothing = if options.weighted { SMOOTHING } else { 0.0 };
        let operator = CrossEntropy::new()
            .ignore_index(Some(IGNORED))
            .class_weights(weights.clone())
            .label_smoothing(smoothing)
            .reduction(Reduction::Sum)
            .upsampled(task.size.0, task.size.1)
            .resize(task.resize);
        let map = operator.map(shape)?;
        let label = |_| if random.below(6) == 0 { IGNORED } else { random.below(classes).into() };
        let labels: Vec<i64> = (0..map.pixels()).map(label).collect();
        let bytes = match label_type {
            LabelType::U8 => map_bytes(&map, &labels.iter().map(|&label| label as u8).collect::<Vec<_>>(), 0),
            LabelType::U32 => map_bytes(&map, &labels.iter().map(|&label| label as u32).collect::<Vec<_>>(), 0),
        };
        let (input, targets) = (bench.input(&task.sample.bytes()), bench.input(&bytes));
        let record = bench.output(size_of::<LossRecord>() as u64);
        let (losses, gradient) = (bench.output(map.bytes(32)), bench.output(shape.output().bytes()));
        let counts = bench.output(operator.confusion_matrix(shape).bytes(&map));
        let whole = Buffer::as_entire_buffer_binding;
        let buffers = LossBuffers::new(whole(&record));
        let buffers = match options.gradient {
            true => buffers.gradient(whole(&gradient)),
            false => buffers.losses(whole(&losses)),
        };
        let confusion = options.counts.then(|| whole(&counts));
        let targets = Targets::new(whole(&targets), label_type);
        let dispatch = operator.dispatch(gpu, shape, whole(&input), targets, buffers, confusion)?;
        bench.record(&dispatch, &[&record, if options.gradient { &gradient } else { &losses }, &counts])?;
        works.push(Work { task, labels, weights, smoothing, map, operator, dispatch });
    }
    let mut results = bench.run()?;
    for work in &works {
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        let subject = Subject::new(&work.dispatch, kernels, &work.task.sample.name);
        let valid = work.labels.iter().filter(|&&label| label != IGNORED).count() as u32;
        findings.compare_exactly(&subject, "valid", &[record.valid], &[valid], |_| false);
        work.compare(findings, &subject, &results.bytes(), options.gradient)?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&results.bytes());
        if options.counts {
            work.compare_counts(findings, &subject, &words)?;
        }
    }
    Ok(())
}

impl Work {
    /// Losses of the pixels, or the gradient.
    ///
    /// A loss is off by the errors of two upsampled logits, by 2 C + 60 roundings of the logarithm of a sum of C exponentials,
    /// as for [`CrossEntropy`], and by some of what it is made of; with smoothing, by the errors of all. So is a probability, as
    /// a share of itself. Of the gradient with respect to the upsampled logits the errors are taken back as it is.
    fn compare(
        &self,
        findings: &mut Findings,
        subject: &Subject<'_>,
        bytes: &[u8],
        gradient: bool,
    ) -> Result<(), Error> {
        let (task, shape, (height, width)) = (&self.task, &self.task.sample.shape, self.task.size);
        let (full, classes) = (task.full()?, shape.classes() as usize);
        let (upsampled, errors) = task.upsampled();
        let (weights, smoothing) = (self.weights.as_deref(), f64::from(self.smoothing));
        let twin = reference::cross_entropy(&full, &upsampled, &self.labels, Some(IGNORED), weights, smoothing);
        let rounding = (2.0 * classes as f64 + 60.0) * U;
        let of_pixel = |pixel: usize| {
            let (first, step) = task.first(pixel);
            let of_logits = errors.iter().skip(first).step_by(step).take(classes).copied().fold(0.0, f64::max);
            (2.0 * 3.0 * (2.0 * of_logits + rounding), first, step)
        };
        if !gradient {
            let tolerance = |i: usize| of_pixel(i).0 + 60.0 * U * twin.per_pixel[i].abs() + FLUSHED;
            let mut found = self.map.unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes));
            // What f32 cannot hold is an infinity there, and whether a product overflows on the way depends on its order.
            let mut expected = twin.per_pixel.clone();
            for (found, expected) in
                found.iter_mut().zip(&mut expected).filter(|(_, x)| x.is_finite() && x.abs() > 1e36)
            {
                (*found, *expected) = if *found > 1e36 { (0.0, 0.0) } else { (*found, *expected) };
            }
            findings.compare(subject, "loss", &found, &expected, tolerance);
            return Ok(());
        }
        let sum = Reduction::Sum;
        let of_upsampled =
            reference::cross_entropy_gradient(&full, &upsampled, &self.labels, Some(IGNORED), weights, smoothing, sum);
        let mut off = vec![0.0; upsampled.len()];
        for pixel in 0..self.map.pixels() {
            let (error, first, step) = of_pixel(pixel);
            // Where the logits are large, so is their error, and a probability may be anything.
            let error = (2.0 * error + 600.0 * U).min(4.0);
            off.iter_mut().skip(first).step_by(step).take(classes).for_each(|off| *off = error + FLUSHED);
        }
        let back = |gradient: &[f64]| reference::upsample_gradient(shape, gradient, height, width, task.resize);
        let (expected, tolerances) = (back(&of_upsampled), back(&off));
        let exact = task.accuracy != Accuracy::Rounded;
        let sizes = back(&of_upsampled.iter().map(|g| g.abs()).collect::<Vec<_>>());
        let readers = 4.0 + 4.0 * f64::from(height * width) / f64::from(shape.pixels());
        let rounded = if exact { 0.0 } else { 100.0 * U };
        let tolerance = |i: usize| tolerances[i] + (readers * U + rounded) * (sizes[i] + 1.0);
        let right = findings.compare(subject, "gradient", &task.sample.unpack(bytes), &expected, tolerance);
        let outside = task.sample.written_outside(bytes);
        if right {
            findings.conclude(subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
        }
        Ok(())
    }

    /// Every class is taken as often as by the reference, but for pixels where two logits are as near as their errors.
    fn compare_counts(&self, findings: &mut Findings, subject: &Subject<'_>, words: &[u32]) -> Result<(), Error> {
        let (task, shape) = (&self.task, &self.task.sample.shape);
        let (full, classes) = (task.full()?, shape.classes());
        let (upsampled, errors) = task.upsampled();
        let labels = reference::argmax(&full, &upsampled);
        let unsure = |pixel: usize| {
            let (first, step) = task.first(pixel);
            let of = |list: &[f64]| {
                list.iter().skip(first).step_by(step).take(classes as usize).copied().collect::<Vec<_>>()
            };
            let (x, error) = (of(&upsampled), of(&errors).into_iter().fold(0.0, f64::max));
            let best = x[labels[pixel] as usize];
            best.is_finite() && x.iter().filter(|&&x| best - x <= 2.0 * error).count() > 1
        };
        let of_image = self.map.pixels() / self.map.images() as usize;
        let mut expected = Vec::new();
        let mut slack = Vec::new();
        for (image, targets) in self.labels.chunks(of_image).enumerate() {
            let first = image * of_image;
            let found = reference::confusion_matrix(classes, Some(IGNORED), &labels[first..first + of_image], targets);
            let near = (first..first + of_image).filter(|&pixel| unsure(pixel)).count() as u32;
            expected.extend(found.counts.iter().map(|&count| count as u32));
            expected.extend([found.ignored, found.invalid_targets, found.invalid_predictions].map(|n| n as u32));
            expected.extend([u32::MAX; 2]);
            slack.resize(slack.len() + (classes * classes) as usize, near);
            slack.resize(expected.len(), 0);
        }
        let tolerated = |i: usize| words.get(i).is_some_and(|word| word.abs_diff(expected[i]) <= slack[i]);
        findings.compare_exactly(subject, "word", words, &expected, tolerated);
        // The operator reads what it has written.
        self.operator.confusion_matrix(shape).records(words).map(|_| ())
    }
}
