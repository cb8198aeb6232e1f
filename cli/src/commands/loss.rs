//! `seghead loss`: how far logits are from targets.

use serde_json::json;

mod focal;
mod region;
mod sum;

use super::{number, open_gpu, print_result, tell_written};
use crate::args::{Bce, Common, CrossEntropy, Loss, Reduction};
use crate::error::Error;
use crate::files::labels::{LabelMap, Targets, read_targets};
use crate::files::output::{Content, Outputs};
use crate::files::tensor::{read_vector, write_tensor};
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &Loss, common: &Common) -> Result<(), Error> {
    match args {
        Loss::CrossEntropy(args) => cross_entropy(args, common),
        Loss::Bce(args) => bce(args, common),
        Loss::Dice(args) => region::dice(args, common),
        Loss::Jaccard(args) => region::jaccard(args, common),
        Loss::Tversky(args) => region::tversky(args, common),
        Loss::Focal(args) => focal::run(args, common),
        Loss::Sum(args) => sum::run(args, common),
    }
}

fn cross_entropy(args: &CrossEntropy, common: &Common) -> Result<(), Error> {
    let outputs = Files { result: args.output.as_deref(), gradient: args.grad.as_deref() };
    outputs.check(&[&args.logits, &args.target, args.class_weights.as_deref().unwrap_or_default()])?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    if matches!(targets, Targets::Soft(_)) && args.ignore_index.is_some() {
        let message = format!("{}: expected labels for --ignore-index, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    let (size, resize) = match (&targets, args.resize) {
        (Targets::Labels(labels), Some(resize)) => (check_upsampled(&input, &args.target, labels)?, Some(resize)),
        (Targets::Soft(_), Some(_)) => {
            let message = format!("{}: expected labels for --resize, found soft targets (floats)", args.target);
            return Err(Error::Usage(message));
        }
        (targets, None) => {
            check_shape(&input, &args.target, targets).map_err(|error| hint(error, &input, targets))?;
            ((input.logits.height(), input.logits.width()), None)
        }
    };
    let operator = cross_entropy_operator(args)?;
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let loss = match (targets, resize) {
        (Targets::Labels(labels), Some(resize)) => {
            let operator = operator.upsampled(size.0, size.1).resize(resize.into());
            operator.run_blocking(&gpu, &logits, input.reader(), &labels.values)
        }
        (Targets::Labels(labels), None) => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        (Targets::Soft(targets), _) => {
            operator.run_soft_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32())
        }
    };
    let loss = loss.map_err(|error| label_error(&input, &args.target, error))?;
    let shape = input.map_shape(size.0, size.1);
    let warnings = lint::warn(&gpu, &mut input, Check::Softmax, common);
    let single = loss.per_pixel.as_deref().map(|losses| (&shape[..], losses));
    report(common, progress, (outputs, &input.shape), (&loss, single), warnings)
}

fn cross_entropy_operator(args: &CrossEntropy) -> Result<seghead::CrossEntropy, Error> {
    let class_weights = args.class_weights.as_deref().map(read_vector).transpose()?;
    Ok(seghead::CrossEntropy::new()
        .ignore_index(args.ignore_index.or(Some(-100)))
        .class_weights(class_weights)
        .label_smoothing(args.label_smoothing)
        .reduction(reduction(args.reduction))
        .per_pixel(args.reduction == Reduction::None)
        .gradient(args.grad.is_some()))
}

fn bce_operator(args: &Bce) -> Result<seghead::BinaryCrossEntropy, Error> {
    Ok(seghead::BinaryCrossEntropy::new()
        .ignore_index(args.ignore_index.or(Some(-100)))
        .class_weights(args.class_weights.as_deref().map(read_vector).transpose()?)
        .pos_weight(args.pos_weight.as_deref().map(read_vector).transpose()?)
        .reduction(reduction(args.reduction))
        .per_element(args.reduction == Reduction::None)
        .gradient(args.grad.is_some()))
}

fn bce(args: &Bce, common: &Common) -> Result<(), Error> {
    let outputs = Files { result: args.output.as_deref(), gradient: args.grad.as_deref() };
    let weights = [&args.class_weights, &args.pos_weight].map(|weights| weights.as_deref().unwrap_or_default());
    outputs.check(&[&args.logits, &args.target, weights[0], weights[1]])?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    check_shape(&input, &args.target, &targets)?;
    if matches!(targets, Targets::Soft(_)) && args.ignore_index.is_some() {
        let message = format!("{}: expected labels for --ignore-index, found a tensor of floats", args.target);
        return Err(Error::Usage(message));
    }
    let operator = bce_operator(args)?;
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let loss = match targets {
        Targets::Labels(labels) => operator.run_labels_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Soft(targets) => operator.run_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| label_error(&input, &args.target, error))?;
    let warnings = lint::warn(&gpu, &mut input, Check::Sigmoid, common);
    let single = loss.per_element.as_deref().map(|losses| (&input.shape[..], losses));
    report(common, progress, (outputs, &input.shape), (&loss, single), warnings)
}

/// The files to write.
#[derive(Clone, Copy)]
struct Files<'a> {
    result: Option<&'a str>,
    gradient: Option<&'a str>,
}

impl<'a> Files<'a> {
    fn paths(self) -> impl Iterator<Item = &'a str> {
        self.result.into_iter().chain(self.gradient)
    }

    /// Refuses a file that would be written over an input, or that has no place there.
    fn check(self, inputs: &[&str]) -> Result<(), Error> {
        let planned: Vec<_> = self.paths().map(|path| (path, Content::Array)).collect();
        Ok(Outputs::check(inputs, &planned)?)
    }
}

/// Single losses are not reduced, but asked for beside a sum.
fn reduction(reduction: Reduction) -> seghead::Reduction {
    if reduction == Reduction::Mean { seghead::Reduction::Mean } else { seghead::Reduction::Sum }
}

/// Losses that are not reduced, with their shape.
type Single<'a> = (&'a [usize], &'a [f32]);

/// Writes and prints a loss: the single ones, with their shape, where they were asked for, else what they are reduced
/// to; and writes its gradient, which has the shape of the logits.
fn report(
    common: &Common,
    progress: Progress,
    (files, logits_shape): (Files<'_>, &[usize]),
    (loss, single): (&seghead::Loss, Option<Single<'_>>),
    warnings: Vec<String>,
) -> Result<(), Error> {
    let mut outputs = Outputs::new();
    if let Some(path) = files.result {
        let (shape, losses) = single.unwrap_or((&[], std::slice::from_ref(&loss.value)));
        write_tensor(&mut outputs, path, shape, losses)?;
    }
    if let (Some(path), Some(gradient)) = (files.gradient, &loss.gradient) {
        write_tensor(&mut outputs, path, logits_shape, gradient)?;
    }
    outputs.commit()?;
    drop(progress);
    tell_written(common, &files.paths().collect::<Vec<_>>());
    let mut report = json!({ "pixels": loss.pixels, "ignored": loss.ignored, "warnings": warnings });
    if let Some(terms) = &loss.per_term {
        report["terms"] = terms.iter().map(|&term| number(term.into())).collect();
    }
    let mut text = String::new();
    if single.is_none() {
        report["loss"] = number(loss.value.into());
        text = format!("{}\n", loss.value);
    }
    print_result(common, &report, &text)
}

/// An error of the library about logits and targets, with the name of the file.
fn label_error(input: &Input, target: &str, error: seghead::Error) -> Error {
    match error {
        seghead::Error::Label { label, .. } => {
            Error::Usage(format!("{target}: {error}; --ignore-index {label} leaves such pixels out"))
        }
        error => input.error(error),
    }
}

/// Refuses targets that do not go with the logits.
fn check_shape(input: &Input, target: &str, targets: &Targets) -> Result<(), Error> {
    let map_shape = input.map_shape(input.logits.height(), input.logits.width());
    let (what, expected, found, rank) = match targets {
        Targets::Labels(labels) => ("labels", &map_shape, &labels.shape, 3),
        Targets::Soft(targets) => ("soft targets", &input.shape, &targets.shape, 4),
    };
    // One image without N is as good as a batch of one.
    let batched = |shape: &[usize]| if shape.len() < rank { [&[1], shape].concat() } else { shape.to_vec() };
    if batched(found) == batched(expected) {
        return Ok(());
    }
    let message =
        format!("{target}: expected {what} of shape {expected:?} for the logits of {}, found {found:?}", input.path);
    Err(Error::Usage(message))
}

/// The size of labels that logits can be upsampled to: of as many images.
fn check_upsampled(input: &Input, target: &str, labels: &LabelMap) -> Result<(u32, u32), Error> {
    let (images, size) = labels.shape.split_at(labels.shape.len().saturating_sub(2));
    let found: usize = images.iter().product();
    match (size.iter().map(|&side| u32::try_from(side)).collect::<Result<Vec<_>, _>>().as_deref(), found) {
        (Ok(&[height, width]), found) if found == input.logits.images() as usize => Ok((height, width)),
        _ => {
            let (expected, found) = (input.map_shape(0, 0).len(), &labels.shape);
            let images = input.logits.images();
            let message = format!(
                "{target}: expected labels of {images} images in at most {expected} dimensions for the logits of {}, found {found:?}",
                input.path
            );
            Err(Error::Usage(message))
        }
    }
}

/// An error about labels of another size names the option that takes them.
fn hint(error: Error, input: &Input, targets: &Targets) -> Error {
    match (error, targets) {
        (Error::Usage(message), Targets::Labels(labels)) if check_upsampled(input, "", labels).is_ok() => {
            Error::Usage(format!("{message}; --resize half-pixel upsamples the logits to that size"))
        }
        (error, _) => error,
    }
}

/// Refuses labels that are no class, or of a single class neither 0 nor 1.
fn check_labels(target: &str, labels: &LabelMap, logits: seghead::Logits) -> Result<(), Error> {
    let limit = i64::from(logits.classes().max(2));
    match labels.values.iter().position(|label| !(0..limit).contains(label)) {
        None => Ok(()),
        Some(position) => {
            let label = labels.values[position];
            let message = format!("{target}: target[{position}]: expected a label below {limit}, found label {label}");
            Err(Error::Usage(message))
        }
    }
}

/// The targets that labels stand for, element by element in the order of the logits: of a single class the labels, else
/// 1 for the class that is the label.
fn one_hot(labels: &LabelMap, logits: seghead::Logits) -> seghead::Input<'_> {
    let (image_stride, plane_stride) = (u64::from(logits.image_stride()), u64::from(logits.plane_stride()));
    let (pixel_stride, pixels) = (u64::from(logits.pixel_stride()), u64::from(logits.pixels()));
    let positive = i64::from(logits.classes() == 1);
    seghead::Input::reader(seghead::ElementType::F32, logits.len().into(), move |first, bytes| {
        for (element, value) in (first..).zip(bytes.chunks_exact_mut(4)) {
            let class = element / plane_stride % u64::from(logits.classes());
            let pixel = element % image_stride / pixel_stride % pixels;
            let label = labels.values[(element / image_stride * pixels + pixel) as usize];
            let target = if label == class as i64 + positive { 1.0f32 } else { 0.0 };
            value.copy_from_slice(&target.to_ne_bytes());
        }
        Ok(())
    })
}
