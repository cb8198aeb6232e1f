//! Cases of [`BinaryCrossEntropy`].

use seghead::{BinaryCrossEntropy, LabelType, LossBuffers, LossRecord, Reduction, Targets, reference};

use super::bench::Bench;
use super::data::{Random, Reading, SPECIAL, Sample, map_bytes};
use super::findings::{FLUSHED, Subject, U};
use super::{Case, Cases};

const ELEMENTS: &[&str] = &["binary cross-entropy elements"];
const LABEL_ELEMENTS: &[&str] = &["binary cross-entropy label elements"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    // Classes do not meet: one count is enough.
    for reading in Reading::of(5) {
        for labels in [None, Some(LabelType::U8), Some(LabelType::U32)] {
            for bits in 0..8 {
                cases.push(case(reading, labels, [bits & 1 != 0, bits & 2 != 0], bits & 4 != 0));
            }
        }
    }
    cases
}

fn case(reading: Reading, labels: Option<LabelType>, weighted: [bool; 2], per_element: bool) -> Case {
    let what = format!(
        "{reading}, labels: {labels:?}, class weights and pos weights: {weighted:?}, per element: {per_element}"
    );
    let kernels = if labels.is_some() { LABEL_ELEMENTS } else { ELEMENTS };
    Case::new(kernels, what, move |context, findings| {
        let gpu = &context.gpu;
        let [class_weights, pos_weight] = [(weighted[0], 0.75), (weighted[1], 0.5)].map(|(weighted, first)| {
            weighted.then(|| (0..reading.classes).map(|c| first + c as f32).collect::<Vec<f32>>())
        });
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for (i, sample) in reading.samples(true)?.into_iter().enumerate() {
            let mut random = Random::new(7);
            let pixels = sample.shape.map().pixels();
            let label: Vec<u32> = (0..pixels).map(|_| random.below(reading.classes)).collect();
            let targets = Sample::new("", sample.shape.output(), &mut |pixel, class| match labels {
                Some(_) => f32::from(u8::from(label[pixel] == class as u32)),
                None => random.below(5) as f32 / 4.0,
            });
            let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
            let operator = BinaryCrossEntropy::new()
                .class_weights(class_weights.clone())
                .pos_weight(pos_weight.clone())
                .reduction(reduction);
            let input = bench.input(&sample.bytes());
            let (record, losses) = (bench.output(16), bench.output(sample.shape.output().bytes()));
            let (from, to) = (input.as_entire_buffer_binding(), record.as_entire_buffer_binding());
            let losses_to = per_element.then(|| losses.as_entire_buffer_binding());
            let dispatch = match labels {
                None => {
                    let target = bench.input(&targets.bytes());
                    let target = target.as_entire_buffer_binding();
                    operator.dispatch(gpu, &sample.shape, from, target, to, losses_to)?
                }
                Some(label_type) => {
                    let map = sample.shape.map();
                    let target = bench.input(&match label_type {
                        LabelType::U8 => map_bytes(&map, &label.iter().map(|&x| x as u8).collect::<Vec<_>>(), 77),
                        LabelType::U32 => map_bytes(&map, &label, 77),
                    });
                    let target = Targets::new(target.as_entire_buffer_binding(), label_type);
                    let mut buffers = LossBuffers::new(to);
                    if let Some(losses) = losses_to {
                        buffers = buffers.losses(losses);
                    }
                    operator.dispatch_labels(gpu, &sample.shape, from, target, buffers)?
                }
            };
            let written = [&record, &losses];
            bench.record(&dispatch, if per_element { &written } else { &written[..1] })?;
            works.push((sample, targets, reduction, dispatch));
        }
        let mut results = bench.run()?;
        for (sample, targets, reduction, dispatch) in &works {
            let shape = &sample.shape;
            let (w, p) = (class_weights.as_deref(), pos_weight.as_deref());
            let losses = reference::binary_cross_entropy(shape, &sample.data, &targets.data, w, p);
            // What f32 cannot hold is an infinity there.
            let expected: Vec<f64> = losses.iter().map(|&x| f64::from(x as f32)).collect();
            // An exponential of 3 + 2 |x| ulp and 27 roundings of a sum of positive terms, none larger than the loss; a
            // distance counts for at most 200, behind which the exponential is 0.
            let of_exp = |i: usize| 6.0 + 4.0 * f64::from(sample.values[i].abs()).min(200.0);
            let largest = |weights: &Option<Vec<f32>>| weights.iter().flatten().fold(1f64, |m, &p| m.max(p.into()));
            let largest = largest(&class_weights) * largest(&pos_weight);
            let tolerance = |i: usize| expected[i] * (of_exp(i) + 27.0) * U + FLUSHED * 204.0 * largest;
            let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
            let mut right = true;
            if per_element {
                let bytes = results.bytes();
                let subject = Subject::new(dispatch, kernels, &sample.name);
                right = findings.compare(&subject, "loss", &sample.unpack(&bytes), &expected, tolerance);
                let outside = sample.written_outside(&bytes);
                right &= findings
                    .conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
            }
            let count = expected.len();
            let subject = Subject::new(dispatch, &[kernels, &["loss partials", "loss finish"]].concat(), &sample.name);
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
