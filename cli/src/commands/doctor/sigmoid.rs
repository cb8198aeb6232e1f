//! Cases of [`Sigmoid`].

use seghead::{Sigmoid, reference};

use super::bench::Bench;
use super::data::Reading;
use super::findings::{FLUSHED, Subject, U};
use super::{Case, Cases};

const KERNELS: &[&str] = &["sigmoid", "sigmoid rows"];

pub fn cases() -> Cases {
    // Classes do not meet: one count is enough.
    Reading::of(5).map(case).collect()
}

fn case(reading: Reading) -> Case {
    Case::new(KERNELS, format!("{reading}"), move |context, findings| {
        let gpu = &context.gpu;
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for sample in reading.samples(true)? {
            let (input, output) = (bench.input(&sample.bytes()), bench.output(sample.shape.output().bytes()));
            let (from, to) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
            let dispatch = Sigmoid::new().dispatch(gpu, &sample.shape, from, to)?;
            bench.record(&dispatch, &[&output])?;
            works.push((sample, dispatch));
        }
        let mut results = bench.run()?;
        for (sample, dispatch) in &works {
            let subject = Subject::new(dispatch, KERNELS, &sample.name);
            let bytes = results.bytes();
            let expected = reference::sigmoid(&sample.values);
            // An exponential, of 3 + 2 |x| ulp, which enters at most once, the sum and the quotient.
            let of_exp = |i: usize| 6.0 + 4.0 * f64::from(sample.values[i].abs()).min(200.0);
            let tolerance = |i: usize| expected[i] * (of_exp(i) + 5.0) * U + FLUSHED;
            findings.compare(&subject, "probability", &sample.unpack(&bytes), &expected, tolerance);
            let outside = sample.written_outside(&bytes);
            findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
        }
        Ok(())
    })
}
