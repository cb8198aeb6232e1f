//! `seghead loss sum`.

use clap::Parser;
use seghead::{LossTerm, RegionLoss};

use super::super::open_gpu;
use super::{Files, bce_operator, check_labels, check_shape, cross_entropy_operator, focal, label_error, one_hot};
use super::{region, report};
use crate::args::{Common, Dice, Jaccard, Loss, LossOfSum, LossSum, Reduction, Tversky};
use crate::error::{Error, first_paragraph};
use crate::files::labels::{Targets, read_targets};
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &LossSum, common: &Common) -> Result<(), Error> {
    let files = Files { result: args.output.as_deref(), gradient: args.grad.as_deref() };
    let terms = args.terms.iter().map(|term| Term::parse(term, args)).collect::<Result<Vec<_>, _>>()?;
    let mut inputs = vec![args.logits.as_str(), &args.target];
    inputs.extend(terms.iter().flat_map(Term::weight_files));
    files.check(&inputs)?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let targets = read_targets(&args.target)?;
    check_shape(&input, &args.target, &targets)?;
    let logits = input.logits;
    let binary = terms.iter().any(|term| term.is_binary_focal(logits.classes()));
    if binary && terms.iter().any(|term| term.options().2.is_some()) {
        let message = "--ignore-index: expected no focal loss with sigmoid beside it, found one in the sum";
        return Err(Error::Usage(message.to_owned()));
    }
    if binary || matches!(targets, Targets::Soft(_)) {
        terms.iter().try_for_each(|term| term.check_tensor(logits.classes()))?;
    }
    let mut sum: Option<seghead::LossSum> = None;
    for term in &terms {
        let loss = term.operator(logits.classes())?;
        sum = Some(match sum {
            Some(sum) => sum.add(term.weight, loss),
            None => seghead::LossSum::new(term.weight, loss),
        });
    }
    let Some(sum) = sum else { return Err(Error::Usage("--term: expected a loss, found none".to_owned())) };
    let sum = sum.gradient(args.grad.is_some());
    let gpu = open_gpu(common)?;
    let loss = match targets {
        Targets::Labels(labels) if binary => {
            check_labels(&args.target, &labels, logits)?;
            sum.run_soft_blocking(&gpu, &logits, input.reader(), one_hot(&labels, logits))
        }
        Targets::Labels(labels) => sum.run_blocking(&gpu, &logits, input.reader(), &labels.values),
        Targets::Soft(targets) => sum.run_soft_blocking(&gpu, &logits, input.reader(), &targets.data.into_f32()),
    };
    let loss = loss.map_err(|error| label_error(&input, &args.target, error))?;
    let warnings = lint::warn(&gpu, &mut input, Check::Finite, common);
    report(common, progress, (files, &input.shape), (&loss, None), warnings)
}

/// What a sum may be of.
const LOSSES: [&str; 6] = ["cross-entropy", "bce", "dice", "jaccard", "tversky", "focal"];

/// A loss of the sum as it was written.
struct Term<'a> {
    text: &'a str,
    weight: f32,
    loss: Loss,
}

impl<'a> Term<'a> {
    fn parse(text: &'a str, args: &LossSum) -> Result<Self, Error> {
        let Some((weight, rest)) = text.split_once('*') else {
            let message = format!("--term '{text}': expected a weight and a loss, such as 0.5*dice, found no *");
            return Err(Error::Usage(message));
        };
        let Some(weight) = weight.trim().parse().ok().filter(|weight: &f32| weight.is_finite()) else {
            let message = format!("--term '{text}': expected a finite number before *, found '{}'", weight.trim());
            return Err(Error::Usage(message));
        };
        let name = rest.split_whitespace().next().unwrap_or_default();
        if !LOSSES.contains(&name) {
            let losses = LOSSES.join(", ");
            return Err(Error::Usage(format!("--term '{text}': expected one of {losses} behind *, found '{name}'")));
        }
        // Its options are those of the loss by itself, which has its files in front of them.
        let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        words.splice(1..1, [args.logits.clone(), args.target.clone()]);
        if let Some(index) = args.ignore_index.filter(|_| !rest.contains("--ignore-index")) {
            words.push(format!("--ignore-index={index}"));
        }
        let loss = LossOfSum::try_parse_from(words)
            .map_err(|error| Error::Usage(format!("--term '{text}': {}", first_paragraph(&error))))?
            .loss;
        let term = Self { text, weight, loss };
        let (reduction, files, _) = term.options();
        if reduction == Reduction::None {
            return Err(term.refuse("expected --reduction mean or sum, found none"));
        }
        if matches!(&term.loss, Loss::CrossEntropy(args) if args.resize.is_some()) {
            return Err(term.refuse("expected labels of the size of the logits, found --resize"));
        }
        if files.into_iter().flatten().next().is_some() {
            return Err(term.refuse("expected -o and --grad beside the terms, found one in it"));
        }
        Ok(term)
    }

    fn refuse(&self, message: &str) -> Error {
        Error::Usage(format!("--term '{}': {message}", self.text))
    }

    /// How the loss is reduced, the files that it writes, and the label that it ignores.
    fn options(&self) -> (Reduction, [Option<&str>; 2], Option<i64>) {
        let (reduction, output, grad, ignore_index) = match &self.loss {
            Loss::CrossEntropy(args) => (args.reduction, &args.output, &args.grad, args.ignore_index),
            Loss::Bce(args) => (args.reduction, &args.output, &args.grad, args.ignore_index),
            Loss::Focal(args) => (args.reduction, &args.output, &args.grad, args.ignore_index),
            Loss::Dice(Dice { region: args })
            | Loss::Jaccard(Jaccard { region: args })
            | Loss::Tversky(Tversky { region: args, .. }) => {
                (args.reduction, &args.output, &args.grad, args.ignore_index)
            }
            Loss::Sum(args) => (Reduction::Mean, &args.output, &args.grad, args.ignore_index),
        };
        (reduction, [output.as_deref(), grad.as_deref()], ignore_index)
    }

    /// The files of weights, or what there is instead of them.
    fn weight_files(&self) -> impl Iterator<Item = &str> {
        let weights = match &self.loss {
            Loss::CrossEntropy(args) => [&args.class_weights, &None],
            Loss::Bce(args) => [&args.class_weights, &args.pos_weight],
            _ => [&None, &None],
        };
        weights.into_iter().filter_map(|weights| weights.as_deref())
    }

    /// Whether it is a focal loss of independent labels.
    fn is_binary_focal(&self, classes: u32) -> bool {
        matches!(&self.loss, Loss::Focal(args) if focal::is_binary(args, classes))
    }

    /// Refuses what goes with labels only where the targets are, or are made, a tensor.
    fn check_tensor(&self, classes: u32) -> Result<(), Error> {
        if self.options().2.is_some() {
            return Err(self.refuse("expected labels for --ignore-index, found targets that are a tensor"));
        }
        if matches!(self.loss, Loss::Focal(_)) && !self.is_binary_focal(classes) {
            return Err(self.refuse("expected labels, or --activation sigmoid, found targets that are a tensor"));
        }
        Ok(())
    }

    fn operator(&self, classes: u32) -> Result<LossTerm, Error> {
        Ok(match &self.loss {
            Loss::CrossEntropy(args) => cross_entropy_operator(args)?.into(),
            Loss::Bce(args) => bce_operator(args)?.into(),
            Loss::Focal(args) => focal::operator(args).into(),
            Loss::Dice(args) => region::with_options(RegionLoss::dice(), &args.region, classes).into(),
            Loss::Jaccard(args) => region::with_options(RegionLoss::jaccard(), &args.region, classes).into(),
            Loss::Tversky(args) => {
                region::with_options(RegionLoss::tversky(args.alpha, args.beta), &args.region, classes).into()
            }
            Loss::Sum(_) => return Err(self.refuse("expected a single loss, found a sum")),
        })
    }
}
