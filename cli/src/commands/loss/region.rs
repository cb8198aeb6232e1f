//! `seghead loss dice`, `jaccard` and `tversky`.

use super::super::{open_gpu, tell_written};
use super::{check_shape, print_report, reduction};
use crate::args::{Activation, Common, Dice, Jaccard, Reduction, Region, RegionLoss, Tversky};
use crate::error::Error;
use crate::files::labels::{Targets, read_targets};
use crate::files::output::{Content, Outputs};
use crate::files::tensor::write_tensor;
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
    let written = [args.output.as_deref(), args.grad.as_deref()];
    let planned: Vec<_> = written.iter().flatten().map(|&path| (path, Content::Array)).collect();
    Outputs::check(&[&args.logits, &args.target], &planned)?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    if matches!(targets, Targets::Soft(_)) && args.ignore_index.is_some() {
        let message = format!("{}: expected labels for --ignore-index, found soft targets (floats)", args.target);
        return Err(Error::Usage(message));
    }
    check_shape(&input, &args.target, &targets)?;
    let logits = input.logits;
    let activation = args.activation.unwrap_or(match logits.classes() {
        1 => Activation::Sigmoid,
        _ => Activation::Softmax,
    });
    let (per_image, per_class) = match args.region {
        Region::ClassOfImage => (true, true),
        Region::Class => (false, true),
        Region::Image => (true, false),
        Region::Batch => (false, false),
    };
    let operator = operator
        .activation(activation.into())
        .smoothing(args.smooth)
        .per_image(per_image)
        .per_class(per_class)
        .ignore_index(args.ignore_index)
        .reduction(reduction(args.reduction))
        .gradient(args.grad.is_some());
    let gpu = open_gpu(common)?;
    let loss = match targets {
        Targets::Labels(labels) => operator.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Soft(targets) => operator.run_soft_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| match error {
        seghead::Error::Label { label, .. } => {
            Error::Usage(format!("{}: {error}; --ignore-index {label} leaves such pixels out", args.target))
        }
        error => input.error(error),
    })?;
    let check = match activation {
        Activation::Softmax => Check::Softmax,
        Activation::Sigmoid => Check::Sigmoid,
        Activation::None => Check::Finite,
    };
    let warnings = lint::warn(&gpu, &mut input, check, common);

    let single = args.reduction == Reduction::None;
    let mut outputs = Outputs::new();
    if let Some(path) = &args.output {
        let images = (input.shape.len() == 4 && per_image).then_some(logits.images() as usize);
        let shape: Vec<_> = images.into_iter().chain(per_class.then_some(logits.classes() as usize)).collect();
        match loss.per_region.as_deref() {
            Some(losses) if single => write_tensor(&mut outputs, path, &shape, losses)?,
            _ => write_tensor(&mut outputs, path, &[], &[loss.value])?,
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
