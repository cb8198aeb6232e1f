//! `seghead loss`: how far logits are from target labels.

use serde_json::json;

use super::{number, open_gpu, print_result, tell_written};
use crate::args::{Common, CrossEntropy, Loss, Reduction};
use crate::error::Error;
use crate::files::labels::{Targets, read_targets};
use crate::files::output::{Content, Outputs};
use crate::files::tensor::{read_vector, write_tensor};
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &Loss, common: &Common) -> Result<(), Error> {
    match args {
        Loss::CrossEntropy(args) => cross_entropy(args, common),
    }
}

fn cross_entropy(args: &CrossEntropy, common: &Common) -> Result<(), Error> {
    let planned: Vec<_> = args.output.as_deref().map(|path| (path, Content::Array)).into_iter().collect();
    Outputs::check(&[&args.logits, &args.target], &planned)?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    let shape = input.map_shape(input.logits.height(), input.logits.width());
    check_shape(args, &input, &shape, &targets)?;
    let class_weights = args.class_weights.as_deref().map(read_vector).transpose()?;
    let operator = seghead::CrossEntropy::new()
        .ignore_index(args.ignore_index.or(Some(-100)))
        .class_weights(class_weights)
        .label_smoothing(args.label_smoothing)
        .reduction(if args.reduction == Reduction::Mean { seghead::Reduction::Mean } else { seghead::Reduction::Sum })
        .per_pixel(args.reduction == Reduction::None);
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let loss = match targets {
        Targets::Labels(labels) => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Soft(targets) => operator.run_soft_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| match error {
        source @ seghead::Error::Label { .. } => Error::Content { path: args.target.clone(), source },
        error => input.error(error),
    })?;
    let warnings = lint::warn(&gpu, &mut input, Check::Everything, common);
    if let Some(path) = &args.output {
        let mut outputs = Outputs::new();
        match &loss.per_pixel {
            Some(losses) => write_tensor(&mut outputs, path, &shape, losses)?,
            None => write_tensor(&mut outputs, path, &[], &[loss.value])?,
        }
        outputs.commit()?;
    }
    drop(progress);
    if let Some(path) = &args.output {
        tell_written(common, &[path]);
    }
    let mut report = json!({ "pixels": loss.pixels, "ignored": loss.ignored, "warnings": warnings });
    let mut text = String::new();
    if args.reduction != Reduction::None {
        report["loss"] = number(loss.value.into());
        text = format!("{}\n", loss.value);
    }
    print_result(common, &report, &text)
}

/// Refuses targets that do not go with the logits, whose maps have this shape.
fn check_shape(args: &CrossEntropy, input: &Input, map_shape: &[usize], targets: &Targets) -> Result<(), Error> {
    let (what, expected, found, rank) = match targets {
        Targets::Labels(labels) => ("labels", map_shape, &labels.shape, 3),
        Targets::Soft(targets) => ("soft targets", &input.shape[..], &targets.shape, 4),
    };
    if matches!(targets, Targets::Soft(_)) && args.ignore_index.is_some() {
        let message = format!("{}: expected labels for --ignore-index, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    // One image without N is as good as a batch of one.
    let batched = |shape: &[usize]| if shape.len() < rank { [&[1], shape].concat() } else { shape.to_vec() };
    if batched(found) == batched(expected) {
        return Ok(());
    }
    let message = format!(
        "{}: expected {what} of shape {expected:?} for the logits of {}, found {found:?}",
        args.target, args.logits
    );
    Err(Error::Usage(message))
}
