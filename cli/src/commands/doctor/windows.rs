//! Cases of tensors that are too large to be bound: on a device of the same adapter that binds little.

use seghead::{Error, Gpu, Logits, Softmax};

use super::bench::Bench;
use super::data::{CLASSES, Random, Reading, Sample};
use super::findings::{Findings, Subject, U};
use super::{Case, Cases, Context, guarded};

const COPY: &[&str] = &["copy"];

/// Bytes of a binding.
const SMALL: u64 = 8192;

pub fn cases() -> Cases {
    vec![Case::new(COPY, format!("bindings of {SMALL} bytes"), check)]
}

/// A softmax through bindings that are too small for a plane of each class at once, against one that needs no windows:
/// what the kernels make of the parts is the same, so that nothing but the copies can differ.
fn check(context: &Context, findings: &mut Findings) -> Result<(), Error> {
    let small = context.binding(SMALL)?.gpu;
    for reading in Reading::of(CLASSES[0]) {
        let mut random = Random::new(8);
        let (height, width) = if reading.in_fours { (40, 64) } else { (41, 61) };
        let shape = Logits::chw(reading.classes, height, width)?.with_element_type(reading.element_type);
        let sample = Sample::new("", shape, &mut |_, _| random.logit());
        let run = |gpu: &Gpu| {
            let mut bench = Bench::new(gpu);
            let (input, output) = (bench.input(&sample.bytes()), bench.output(shape.output().bytes()));
            let (from, to) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
            let dispatch = Softmax::new().dispatch(gpu, &shape, from, to)?;
            bench.record(&dispatch, &[&output])?;
            Ok((dispatch, sample.unpack(&bench.run()?.bytes())))
        };
        let ((dispatch, got), (_, expected)) = (guarded(&small, || run(&small))?, run(&context.gpu)?);
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        // Twice the error of a probability of logits below 20; see softmax.rs.
        let tolerance = |i: usize| 2.0 * expected[i] * (6.0 + 5.0 * 40.0 + 8.0 + 3.0 + 3.0) * U;
        let subject = Subject::new(&dispatch, COPY, &sample.name);
        findings.compare(&subject, "probability", &got, &expected, tolerance);
    }
    Ok(())
}
