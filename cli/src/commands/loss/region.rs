//! `seghead loss dice`, `jaccard` and `tversky`.

use super::super::open_gpu;
use super::{Files, check_shape, label_error, reduction, report};
use crate::args::{Activation, Common, Dice, Jaccard, Reduction, Region, RegionLoss, Tversky};
use crate::error::Error;
use crate::files::labels::{Targets, read_targets};
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn dice(args: &Dice, common: &Common) -> Result<(), Error> {
    run(seghead::RegionLoss::dice(), &args.region, common)
}

pub fn jaccard(args: &Jaccard, common: &Common) -> Result<(), Error> {
    run(seghead::RegionLoss::jaccard(), &args.region, common)
}

pub fn tversky(args: &Tversky, common: &Common) -> Result<(), Error> {
    run(seghead::RegionLoss::tversky(args.alpha, args.beta), &args.region, common)
}

fn run(operator: seghead::RegionLoss, args: &RegionLoss, common: &Common) -> Result<(), Error> {
    let files = Files { result: args.output.as_deref(), gradient: args.grad.as_deref() };
    files.check(&[&args.logits, &args.target])?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    if matches!(targets, Targets::Soft(_)) && args.ignore_index.is_some() {
        let message = format!("{}: expected labels for --ignore-index, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    check_shape(&input, &args.target, &targets)?;
    let logits = input.logits;
    let operator = with_options(operator, args, logits.classes());
    let gpu = open_gpu(common)?;
    let loss = match targets {
        Targets::Labels(labels) => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Soft(targets) => operator.run_soft_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| label_error(&input, &args.target, error))?;
    let check = match activation(args, logits.classes()) {
        Activation::Softmax => Check::Softmax,
        Activation::Sigmoid => Check::Sigmoid,
        Activation::None => Check::Finite,
    };
    let warnings = lint::warn(&gpu, &mut input, check, common);

    let (per_image, per_class) = regions(args.region);
    let images = (input.shape.len() == 4 && per_image).then_some(logits.images() as usize);
    let shape: Vec<_> = images.into_iter().chain(per_class.then_some(logits.classes() as usize)).collect();
    let single = loss.per_region.as_deref().filter(|_| args.reduction == Reduction::None);
    report(common, progress, (files, &input.shape), (&loss, single.map(|losses| (&shape[..], losses))), warnings)
}

fn activation(args: &RegionLoss, classes: u32) -> Activation {
    args.activation.unwrap_or(if classes == 1 { Activation::Sigmoid } else { Activation::Softmax })
}

/// Whether images, and classes, are regions of their own.
fn regions(region: Region) -> (bool, bool) {
    match region {
        Region::ClassOfImage => (true, true),
        Region::Class => (false, true),
        Region::Image => (true, false),
        Region::Batch => (false, false),
    }
}

/// The loss with its options, for so many classes.
pub fn with_options(operator: seghead::RegionLoss, args: &RegionLoss, classes: u32) -> seghead::RegionLoss {
    let (per_image, per_class) = regions(args.region);
    operator
        .activation(activation(args, classes).into())
        .smoothing(args.smooth)
        .per_image(per_image)
        .per_class(per_class)
        .ignore_index(args.ignore_index)
        .reduction(reduction(args.reduction))
        .gradient(args.grad.is_some())
}
