//! `seghead argmax`: the class of every pixel at the resolution of the logits.

use serde_json::json;

use super::{add_labels, open_gpu, print, tell_written};
use crate::args::{Argmax, Common};
use crate::error::Error;
use crate::files::output::Outputs;
use crate::files::scores::write_scores;
use crate::input::Input;
use crate::progress::Progress;

pub fn run(args: &Argmax, common: &Common) -> Result<(), Error> {
    let progress = Progress::start("computing", common);
    let input = Input::read(&args.logits, common)?;
    let gpu = open_gpu(common)?;
    let argmax = seghead::Argmax::new().confidence(args.confidence.is_some());
    let found = argmax.run_blocking(&gpu, &input.logits, &input.data).map_err(|error| input.error(error))?;
    let shape = input.map_shape(input.logits.height(), input.logits.width());
    let mut outputs = Outputs::new();
    let mut written = vec![args.output.as_str()];
    add_labels(&mut outputs, &args.output, &shape, &found.labels)?;
    if let (Some(path), Some(confidence)) = (&args.confidence, &found.confidence) {
        write_scores(&mut outputs, path, &shape, confidence, (0.0, 1.0))?;
        written.push(path);
    }
    outputs.commit()?;
    drop(progress);
    tell_written(common, &written);
    print(common, &json!({ "labels": args.output, "shape": shape, "adapter": gpu.adapter_info().name }), "")
}
