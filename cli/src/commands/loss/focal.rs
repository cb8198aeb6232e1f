//! `seghead loss focal`.

use super::super::{open_gpu, tell_written};
use super::{check_labels, check_shape, one_hot, print_report, reduction};
use crate::args::{Common, Focal, FocalActivation, Reduction};
use crate::error::Error;
use crate::files::labels::{Targets, read_targets};
use crate::files::output::{Content, Outputs};
use crate::files::tensor::write_tensor;
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &Focal, common: &Common) -> Result<(), Error> {
    let written = [args.output.as_deref(), args.grad.as_deref()];
    let planned: Vec<_> = written.iter().flatten().map(|&path| (path, Content::Array)).collect();
    Outputs::check(&[&args.logits, &args.target], &planned)?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    let logits = input.logits;
    let binary = match args.activation {
        Some(activation) => activation == FocalActivation::Sigmoid,
        None => logits.classes() == 1,
    };
    if binary && args.ignore_index.is_some() {
        return Err(Error::Usage("--ignore-index: expected --activation softmax, found sigmoid".to_owned()));
    }
    if !binary && matches!(targets, Targets::Soft(_)) {
        let message = format!("{}: expected labels, or --activation sigmoid, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    check_shape(&input, &args.target, &targets)?;
    let single = args.reduction == Reduction::None;
    let operator = seghead::FocalLoss::new()
        .gamma(args.gamma)
        .alpha(args.alpha)
        .ignore_index(args.ignore_index.or(Some(-100)))
        .reduction(reduction(args.reduction))
        .single(single)
        .gradient(args.grad.is_some());
    let gpu = open_gpu(common)?;
    let loss = match targets {
        Targets::Labels(labels) if !binary => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Labels(labels) => {
            check_labels(&args.target, &labels, logits)?;
            operator.run_binary_blocking(&gpu, &logits, input.reader(), one_hot(&labels, logits))
        }
        Targets::Soft(targets) => operator.run_binary_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| match error {
        seghead::Error::Label { label, .. } => {
            Error::Usage(format!("{}: {error}; --ignore-index {label} leaves such pixels out", args.target))
        }
        error => input.error(error),
    })?;
    let check = if binary { Check::Sigmoid } else { Check::Softmax };
    let warnings = lint::warn(&gpu, &mut input, check, common);

    let mut outputs = Outputs::new();
    if let Some(path) = &args.output {
        match (&loss.per_pixel, &loss.per_element) {
            (Some(losses), _) => {
                write_tensor(&mut outputs, path, &input.map_shape(logits.height(), logits.width()), losses)?;
            }
            (_, Some(losses)) => write_tensor(&mut outputs, path, &input.shape, losses)?,
            (None, None) => write_tensor(&mut outputs, path, &[], &[loss.value])?,
        }
    }
    if let (Some(path), Some(gradient)) = (&args.grad, &loss.gradient) {
        write_tensor(&mut outputs, path, &input.shape, gradient)?;
    }
    outputs.commit()?;
    drop(progress);
    let paths: Vec<_> = written.into_iter().flatten().collect();
    if !paths.is_empty() {
        tell_written(common, &paths);
    }
    print_report(common, &loss, single, warnings)
}
