//! `seghead argmax`: the class of every pixel at the resolution of the logits, or its K best classes.

use serde_json::json;

use super::{add_labels, add_scores, open_gpu, planned, print, tell_written};
use crate::args::{Argmax, Common};
use crate::error::Error;
use crate::files::output::{Content, Outputs};
use crate::files::palette::Colours;
use crate::files::tensor::write_tensor;
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn run(args: &Argmax, common: &Common) -> Result<(), Error> {
    match args.top_k {
        Some(k) => top_k(args, k, common),
        None => best(args, common),
    }
}

fn best(args: &Argmax, common: &Common) -> Result<(), Error> {
    let palette = args.palette.palette.as_deref();
    let colours = Colours::new(palette)?;
    let inputs: Vec<_> = [Some(args.logits.as_str()), Colours::path(palette)].into_iter().flatten().collect();
    Outputs::check(&inputs, &[vec![(args.output.as_str(), Content::Map)], planned(&args.scores)].concat())?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    colours.check(input.logits.classes())?;
    let gpu = open_gpu(common)?;
    let scores = &args.scores;
    let argmax = seghead::Argmax::new()
        .confidence(scores.confidence.is_some())
        .margin(scores.margin.is_some())
        .entropy(scores.entropy.is_some());
    let logits = input.logits;
    let found = argmax.run_blocking(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    // Scores are of a softmax.
    let check = if planned(scores).is_empty() { Check::Labels } else { Check::Softmax };
    let warnings = lint::warn(&gpu, &mut input, check, common);
    let shape = input.map_shape(logits.height(), logits.width());
    let mut outputs = Outputs::new();
    let mut written = vec![args.output.as_str()];
    add_labels(&mut outputs, &args.output, &shape, &found.labels, &colours)?;
    written.extend(add_scores(&mut outputs, scores, &shape, &found, logits.classes())?);
    outputs.commit()?;
    drop(progress);
    tell_written(common, &written);
    let adapter = &gpu.adapter_info().name;
    print(common, &json!({ "labels": args.output, "shape": shape, "warnings": warnings, "adapter": adapter }), "")
}

fn top_k(args: &Argmax, k: u32, common: &Common) -> Result<(), Error> {
    let paths = [Some(&args.output), args.probabilities.as_ref()];
    let paths: Vec<_> = paths.into_iter().flatten().map(String::as_str).collect();
    let planned: Vec<_> = paths.iter().map(|&path| (path, Content::Array)).collect();
    Outputs::check(&[&args.logits], &planned)?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let operator = seghead::TopK::new(k).probabilities(args.probabilities.is_some());
    let found = operator.run_blocking(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    let check = if args.probabilities.is_some() { Check::Softmax } else { Check::Labels };
    let warnings = lint::warn(&gpu, &mut input, check, common);
    let mut shape = input.map_shape(input.logits.height(), input.logits.width());
    // K×H×W or N×K×H×W.
    shape.insert(shape.len() - 2, k as usize);
    let mut outputs = Outputs::new();
    add_labels(&mut outputs, &args.output, &shape, &found.labels, &Colours::new(None)?)?;
    if let (Some(path), Some(probabilities)) = (&args.probabilities, &found.probabilities) {
        write_tensor(&mut outputs, path, &shape, probabilities)?;
    }
    outputs.commit()?;
    drop(progress);
    tell_written(common, &paths);
    let adapter = &gpu.adapter_info().name;
    print(common, &json!({ "labels": args.output, "shape": shape, "warnings": warnings, "adapter": adapter }), "")
}
