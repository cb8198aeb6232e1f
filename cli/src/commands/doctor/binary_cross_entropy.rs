//! Cases of [`BinaryCrossEntropy`].

use seghead::{BinaryCrossEntropy, LossRecord, Reduction, reference};

use super::bench::Bench;
use super::data::{Random, Reading, SPECIAL, Sample};
use super::findings::{FLUSHED, Subject, U};
use super::{Case, Cases};

const ELEMENTS: &[&str] = &["binary cross-entropy elements"];
const RECORD: &[&str] = &["binary cross-entropy elements", "loss partials", "loss finish"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    // Classes do not meet: one count is enough.
    for reading in Reading::of(5) {
        for weighted in [false, true] {
            cases.push(case(reading, weighted, false));
            cases.push(case(reading, weighted, true));
        }
    }
    cases
}

fn case(reading: Reading, weighted: bool, per_element: bool) -> Case {
    let what = format!("{reading}, pos weight: {weighted}, per element: {per_element}");
    Case::new(ELEMENTS, what, move |context, findings| {
        let gpu = &context.gpu;
        let pos_weight: Option<Vec<f32>> = weighted.then(|| (0..reading.classes).map(|c| 0.5 + c as f32).collect());
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for (i, sample) in reading.samples(true)?.into_iter().enumerate() {
            let mut random = Random::new(7);
            let targets = Sample::new("", sample.shape.output(), &mut |_, _| random.below(5) as f32 / 4.0);
            let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
            let operator = BinaryCrossEntropy::new().pos_weight(pos_weight.clone()).reduction(reduction);
            let (input, target) = (bench.input(&sample.bytes()), bench.input(&targets.bytes()));
            let (record, losses) = (bench.output(16), bench.output(sample.shape.output().bytes()));
            let dispatch = operator.dispatch(
                gpu,
                &sample.shape,
                input.as_entire_buffer_binding(),
                target.as_entire_buffer_binding(),
                record.as_entire_buffer_binding(),
                per_element.then(|| losses.as_entire_buffer_binding()),
            )?;
            let written = [&record, &losses];
            bench.record(&dispatch, if per_element { &written } else { &written[..1] })?;
            works.push((sample, targets, reduction, dispatch));
        }
        let mut results = bench.run()?;
        for (sample, targets, reduction, dispatch) in &works {
            let shape = &sample.shape;
            let losses = reference::binary_cross_entropy(shape, &sample.data, &targets.data, pos_weight.as_deref());
            // What f32 cannot hold is an infinity there.
            let expected: Vec<f64> = losses.iter().map(|&x| f64::from(x as f32)).collect();
            // An exponential of 3 + 2 |x| ulp and 26 roundings of a sum of positive terms, none larger than the loss; a
            // distance counts for at most 200, behind which the exponential is 0.
            let of_exp = |i: usize| 6.0 + 4.0 * f64::from(sample.values[i].abs()).min(200.0);
            let largest = pos_weight.iter().flatten().fold(1f64, |m, &p| m.max(p.into()));
            let tolerance = |i: usize| expected[i] * (of_exp(i) + 26.0) * U + FLUSHED * (4.0 + 200.0 * largest);
            let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
            let mut right = true;
            if per_element {
                let bytes = results.bytes();
                let subject = Subject::new(dispatch, ELEMENTS, &sample.name);
                right = findings.compare(&subject, "loss", &sample.unpack(&bytes), &expected, tolerance);
                let outside = sample.written_outside(&bytes);
                right &= findings
                    .conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
            }
            let count = expected.len();
            let subject = Subject::new(dispatch, RECORD, &sample.name);
            if !right || sample.name.contains(SPECIAL) {
                continue;
            }
            let sum: f64 = expected.iter().sum();
            // The elements of a pixel are added first, then at most 4 + 64 + 64 sums.
            let of_sum = (0..count).map(tolerance).sum::<f64>() + (134.0 + f64::from(reading.classes)) * U * sum;
            let by = if *reduction == Reduction::Mean { count as f64 } else { 1.0 };
            let bound = of_sum / by + 4.0 * U * sum / by;
            findings.compare(&subject, "reduced loss", &[record.loss], &[sum / by], |_| bound);
        }
        Ok(())
    })
}
