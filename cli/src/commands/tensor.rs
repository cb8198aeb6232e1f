//! `seghead softmax` and `seghead sigmoid`: from a tensor to a tensor of the same shape.

use seghead::{Gpu, Logits};
use serde_json::json;

use super::{open_gpu, print, tell_written};
use crate::args::{Axis, Common, Sigmoid, Softmax};
use crate::error::Error;
use crate::files::output::{Content, Outputs};
use crate::files::tensor::write_tensor;
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;

pub fn softmax(args: &Softmax, common: &Common) -> Result<(), Error> {
    let axis = match args.axis {
        Axis::Class => seghead::Axis::Class,
        Axis::Height => seghead::Axis::Height,
        Axis::Width => seghead::Axis::Width,
    };
    let operator = seghead::Softmax::new().axis(axis).log(args.log);
    // Over another axis on purpose: that sums are 1 is no surprise then.
    let check = if axis == seghead::Axis::Class { Check::Softmax } else { Check::Finite };
    run(&args.logits, &args.output, check, common, |gpu, logits, input| operator.run_blocking(gpu, logits, input))
}

pub fn sigmoid(args: &Sigmoid, common: &Common) -> Result<(), Error> {
    run(&args.logits, &args.output, Check::Sigmoid, common, |gpu, logits, input| {
        seghead::Sigmoid::new().run_blocking(gpu, logits, input)
    })
}

fn run(
    path: &str,
    output: &str,
    check: Check,
    common: &Common,
    operator: impl FnOnce(&Gpu, &Logits, seghead::Input<'_>) -> Result<Vec<f32>, seghead::Error>,
) -> Result<(), Error> {
    Outputs::check(&[path], &[(output, Content::Array)])?;
    let progress = Progress::start("computing", common);
    let mut input = Input::open(path, common)?;
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let result = operator(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    let warnings = lint::warn(&gpu, &mut input, check, common);
    let mut outputs = Outputs::new();
    write_tensor(&mut outputs, output, &input.shape, &result)?;
    outputs.commit()?;
    drop(progress);
    tell_written(common, &[output]);
    let adapter = &gpu.adapter_info().name;
    print(common, &json!({ "output": output, "shape": input.shape, "warnings": warnings, "adapter": adapter }), "")
}
