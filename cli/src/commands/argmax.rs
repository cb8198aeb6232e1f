//! `seghead argmax`: the class of every pixel at the resolution of the logits.

use serde_json::json;

use super::{add_labels, add_scores, open_gpu, planned, print, tell_written};
use crate::args::{Argmax, Common};
use crate::error::Error;
use crate::files::output::{Content, Outputs};
use crate::input::Input;
use crate::progress::Progress;

pub fn run(args: &Argmax, common: &Common) -> Result<(), Error> {
    Outputs::check(&[&args.logits], &[vec![(args.output.as_str(), Content::Map)], planned(&args.scores)].concat())?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(&args.logits, common)?;
    let gpu = open_gpu(common)?;
    let scores = &args.scores;
    let argmax = seghead::Argmax::new()
        .confidence(scores.confidence.is_some())
        .margin(scores.margin.is_some())
        .entropy(scores.entropy.is_some());
    let logits = input.logits;
    let found = argmax.run_blocking(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    let shape = input.map_shape(logits.height(), logits.width());
    let mut outputs = Outputs::new();
    let mut written = vec![args.output.as_str()];
    add_labels(&mut outputs, &args.output, &shape, &found.labels)?;
    written.extend(add_scores(&mut outputs, scores, &shape, &found, logits.classes())?);
    outputs.commit()?;
    drop(progress);
    tell_written(common, &written);
    print(common, &json!({ "labels": args.output, "shape": shape, "adapter": gpu.adapter_info().name }), "")
}
