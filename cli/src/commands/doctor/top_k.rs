//! Cases of [`TopK`].

use seghead::{LabelType, TopK, reference};

use super::bench::Bench;
use super::data::{CLASSES, Reading};
use super::findings::{FLUSHED, Subject, U};
use super::{Case, Cases};

const KERNELS: &[&str] = &["top-k"];

/// As many as there can be.
const LARGEST: u32 = 8;

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    // The class count is no part of the specialisation.
    for reading in Reading::of(CLASSES[1]) {
        for label_type in [LabelType::U8, LabelType::U32] {
            for probabilities in [false, true] {
                cases.extend((1..=LARGEST).map(|k| case(reading, label_type, probabilities, k)));
            }
        }
    }
    cases
}

fn case(reading: Reading, label_type: LabelType, probabilities: bool, k: u32) -> Case {
    let what = format!("{reading}, {label_type:?}, probabilities: {probabilities}, k = {k}");
    Case::new(KERNELS, what, move |context, findings| {
        let gpu = &context.gpu;
        let mut bench = Bench::new(gpu);
        let mut samples = reading.samples(false)?;
        if k <= CLASSES[0] {
            samples.extend(Reading { classes: CLASSES[0], ..reading }.samples(false)?);
        }
        let mut works = Vec::new();
        for sample in samples {
            let operator = TopK::new(k).label_type(label_type);
            let map = operator.map(&sample.shape)?;
            let input = bench.input(&sample.bytes());
            let (labels, values) = (bench.output(map.bytes(label_type.bits())), bench.output(map.bytes(32)));
            let dispatch = operator.dispatch(
                gpu,
                &sample.shape,
                input.as_entire_buffer_binding(),
                labels.as_entire_buffer_binding(),
                probabilities.then(|| values.as_entire_buffer_binding()),
            )?;
            let written = [&labels, &values];
            bench.record(&dispatch, if probabilities { &written } else { &written[..1] })?;
            works.push((sample, map, dispatch));
        }
        let mut results = bench.run()?;
        for (sample, map, dispatch) in &works {
            let subject = Subject::new(dispatch, KERNELS, &sample.name);
            let (labels, expected) = reference::top_k(&sample.shape, &sample.data, k);
            findings.compare_exactly(&subject, "label", &results.labels(map, label_type), &labels, |_| false);
            if probabilities {
                let got = map.unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&results.bytes()));
                // A term exp(d) has 3 + 2 |d| ulp and what d has, and −log p is |d| and a little more; the sum with its
                // rescalings has 8 U and 4 U a class, the quotient 4 U.
                let classes = f64::from(sample.shape.classes());
                let distance = |i: usize| (-expected[i].ln()).min(200.0);
                let tolerance = |i: usize| expected[i] * (18.0 + 5.0 * distance(i) + 4.0 * classes) * U + FLUSHED;
                findings.compare(&subject, "probability", &got, &expected, tolerance);
            }
        }
        Ok(())
    })
}
