//! `seghead loss focal`.

use super::super::open_gpu;
use super::{Files, check_labels, check_shape, label_error, one_hot, reduction, report};
use crate::args::{Common, Focal, FocalActivation, Reduction};
use crate::error::Error;
use crate::files::labels::{Targets, read_targets};
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &Focal, common: &Common) -> Result<(), Error> {
    let files = Files { result: args.output.as_deref(), gradient: args.grad.as_deref() };
    files.check(&[&args.logits, &args.target])?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    let logits = input.logits;
    let binary = is_binary(args, logits.classes());
    if binary && args.ignore_index.is_some() {
        return Err(Error::Usage("--ignore-index: expected --activation softmax, found sigmoid".to_owned()));
    }
    if !binary && matches!(targets, Targets::Soft(_)) {
        let message = format!("{}: expected labels, or --activation sigmoid, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    check_shape(&input, &args.target, &targets)?;
    let operator = operator(args);
    let gpu = open_gpu(common)?;
    let loss = match targets {
        Targets::Labels(labels) if !binary => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Labels(labels) => {
            check_labels(&args.target, &labels, logits)?;
            operator.run_binary_blocking(&gpu, &logits, input.reader(), one_hot(&labels, logits))
        }
        Targets::Soft(targets) => operator.run_binary_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| label_error(&input, &args.target, error))?;
    let check = if binary { Check::Sigmoid } else { Check::Softmax };
    let warnings = lint::warn(&gpu, &mut input, check, common);

    let shape = input.map_shape(logits.height(), logits.width());
    let of_pixels = loss.per_pixel.as_deref().map(|losses| (&shape[..], losses));
    let single = of_pixels.or(loss.per_element.as_deref().map(|losses| (&input.shape[..], losses)));
    report(common, progress, (files, &input.shape), (&loss, single), warnings)
}

/// Whether the labels are independent.
pub fn is_binary(args: &Focal, classes: u32) -> bool {
    args.activation.map_or(classes == 1, |activation| activation == FocalActivation::Sigmoid)
}

pub fn operator(args: &Focal) -> seghead::FocalLoss {
    seghead::FocalLoss::new()
        .gamma(args.gamma)
        .alpha(args.alpha)
        .ignore_index(args.ignore_index.or(Some(-100)))
        .reduction(reduction(args.reduction))
        .single(args.reduction == Reduction::None)
        .gradient(args.grad.is_some())
}
