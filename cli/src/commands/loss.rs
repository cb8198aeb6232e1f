//! `seghead loss`: how far logits are from target labels.

use serde_json::json;

use super::{number, open_gpu, print_result, tell_written};
use crate::args::{Common, CrossEntropy, Loss, Reduction};
use crate::error::Error;
use crate::files::labels::read_labels;
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
    let input = Input::read(&args.logits, common)?;
    let target = read_labels(&args.target)?;
    let shape = input.map_shape(input.logits.height(), input.logits.width());
    // One image without N is as good as a batch of one.
    let batched = |shape: &[usize]| if shape.len() == 2 { [&[1], shape].concat() } else { shape.to_vec() };
    if batched(&target.shape) != batched(&shape) {
        let message = format!(
            "{}: expected labels of shape {shape:?} for the logits of {}, found {:?}",
            args.target, args.logits, target.shape
        );
        return Err(Error::Usage(message));
    }
    let class_weights = args.class_weights.as_deref().map(read_vector).transpose()?;
    let operator = seghead::CrossEntropy::new()
        .ignore_index(Some(args.ignore_index))
        .class_weights(class_weights)
        .label_smoothing(args.label_smoothing)
        .reduction(if args.reduction == Reduction::Mean { seghead::Reduction::Mean } else { seghead::Reduction::Sum })
        .per_pixel(args.reduction == Reduction::None);
    let gpu = open_gpu(common)?;
    let loss =
        operator.run_blocking(&gpu, &input.logits, &input.data, &target.values).map_err(|error| match error {
            source @ seghead::Error::Label { .. } => Error::Content { path: args.target.clone(), source },
            error => input.error(error),
        })?;
    let warnings = lint::warn(&gpu, &input, Check::Everything, common);
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
