//! Cases of [`RegionLoss`].

use seghead::{
    Activation, Error, LabelType, Logits, LossBuffers, LossRecord, Reduction, RegionLoss, Targets, reference,
};

use super::bench::Bench;
use super::data::{Random, Reading, SPECIAL, Sample, map_bytes};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context};

const LABEL_LOSSES: &[&str] = &["softmax statistics", "region label sums", "region fold", "region score"];
const SOFT_LOSSES: &[&str] = &["softmax statistics", "region soft sums", "region fold", "region score"];
const LABEL_GRADIENT: &[&str] =
    &["softmax statistics", "region label sums", "region fold", "region score", "region label gradient"];
const SOFT_GRADIENT: &[&str] =
    &["softmax statistics", "region soft sums", "region fold", "region score", "region soft gradient"];
const RECORD: &[&str] = &["region score", "loss finish"];

/// What the losses are taken against; the type of labels.
type Against = Option<LabelType>;

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for against in [None, Some(LabelType::U8), Some(LabelType::U32)] {
        let kernels = if against.is_some() { LABEL_GRADIENT } else { SOFT_GRADIENT };
        for activation in [Activation::None, Activation::Sigmoid, Activation::Softmax] {
            // The class count is compiled into none of them.
            for reading in Reading::of(5) {
                let what = format!("{reading}, {activation:?}, against {against:?}");
                cases.push(Case::new(kernels, what, move |context, findings| {
                    let mut samples = reading.samples(true)?;
                    if activation == Activation::None {
                        // Probabilities as they are, of which no sum overflows or is near 0.
                        samples.retain(|sample| !sample.name.contains(SPECIAL));
                        let mut random = Random::new(10);
                        let mut probability = |_: usize, _: usize| random.below(257) as f32 / 256.0;
                        samples = samples.iter().map(|one| Sample::new("", one.shape, &mut probability)).collect();
                    }
                    check(context, findings, samples, (activation, against))
                }));
            }
            let what = format!("several chunks, {activation:?}, against {against:?}");
            cases.push(Case::new(kernels, what, move |context, findings| {
                let mut random = Random::new(9);
                let sample = Sample::new("", Logits::nchw(2, 5, 45, 47)?, &mut |_, _| match activation {
                    Activation::None => random.below(257) as f32 / 256.0,
                    _ => random.logit(),
                });
                check(context, findings, vec![sample], (activation, against))
            }));
        }
    }
    cases
}

fn check(
    context: &Context,
    findings: &mut Findings,
    samples: Vec<Sample>,
    (activation, against): (Activation, Against),
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (i, sample) in samples.into_iter().enumerate() {
        let shape = &sample.shape;
        let mut random = Random::new(i as u64);
        let targets = Sample::new("", shape.output(), &mut |_, _| random.below(5) as f32 / 4.0);
        let ignored = if against == Some(LabelType::U8) { 255 } else { -100 };
        let labels: Vec<i64> = (0..shape.map().pixels())
            .map(|_| i64::from(random.below(6)))
            .map(|l| if l == 5 { ignored } else { l })
            .collect();
        let operator = [RegionLoss::dice(), RegionLoss::jaccard(), RegionLoss::tversky(0.25, 0.5)][i % 3]
            .clone()
            .activation(activation)
            .smoothing(0.5)
            .per_image(i % 2 == 0)
            .per_class(i != 1)
            .ignore_index(against.map(|_| ignored))
            .reduction(if i < 2 { Reduction::Mean } else { Reduction::Sum });
        let input = bench.input(&sample.bytes());
        let (record, losses) = (bench.output(16), bench.output(operator.bytes(shape)));
        let gradient = bench.output(shape.output().bytes());
        // What is compiled for no losses is another kernel.
        let with_losses = i % 4 != 3;
        let mut buffers =
            LossBuffers::new(record.as_entire_buffer_binding()).gradient(gradient.as_entire_buffer_binding());
        if with_losses {
            buffers = buffers.losses(losses.as_entire_buffer_binding());
        }
        let input = input.as_entire_buffer_binding();
        let dispatch = match against {
            None => {
                let targets = bench.input(&targets.bytes());
                operator.dispatch_soft(gpu, shape, input, targets.as_entire_buffer_binding(), buffers)?
            }
            Some(label_type) => {
                let map = shape.map();
                let bytes = match label_type {
                    LabelType::U8 => map_bytes(&map, &labels.iter().map(|&l| l as u8).collect::<Vec<_>>(), 77),
                    LabelType::U32 => map_bytes(&map, &labels.iter().map(|&l| l as u32).collect::<Vec<_>>(), u32::MAX),
                };
                let targets = bench.input(&bytes);
                let targets = Targets::new(targets.as_entire_buffer_binding(), label_type);
                operator.dispatch(gpu, shape, input, targets, buffers)?
            }
        };
        let all = [&record, &gradient, &losses];
        bench.record(&dispatch, if with_losses { &all } else { &all[..2] })?;
        works.push((sample, targets, labels, ignored, operator, with_losses, dispatch));
    }
    let mut results = bench.run()?;
    let (of_losses, of_gradient) = match against {
        Some(_) => (LABEL_LOSSES, LABEL_GRADIENT),
        None => (SOFT_LOSSES, SOFT_GRADIENT),
    };
    for (sample, targets, labels, ignored, operator, with_losses, dispatch) in &works {
        let shape = &sample.shape;
        let expected = match against {
            None => reference::region_loss(operator, shape, &sample.data, &targets.data, None),
            Some(_) => {
                let out: Vec<bool> = labels.iter().map(|label| label == ignored).collect();
                let hot = reference::one_hot(shape, labels);
                reference::region_loss(operator, shape, &sample.data, &hot, Some(&out))
            }
        };
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        let gradient = results.bytes();
        let regions = expected.per_region.len();
        // A probability p = e^−d · s has an error of p · (3 + 2 d) ulp, 3 ulp at the most, and that of a sum of 5; sums go
        // through at most 16 + 2 + 32 + 2 · 5 additions, and a quotient of two has the errors of both.
        let of_sums = (2.0 * (16.0 + 60.0) + 8.0) * U;
        let mut right = true;
        if *with_losses {
            let losses: Vec<f32> = bytemuck::pod_collect_to_vec(&results.bytes());
            let subject = Subject::new(dispatch, of_losses, &sample.name);
            let tolerance = |i: usize| of_sums * (1.0 + expected.per_region[i].abs());
            right = findings.compare(&subject, "loss of a region", &losses, &expected.per_region, tolerance);
        }
        if right {
            let subject = Subject::new(dispatch, RECORD, &sample.name);
            let bound = of_sums * expected.per_region.iter().map(|loss| 1.0 + loss.abs()).sum::<f64>();
            findings.compare(&subject, "reduced loss", &[record.loss], &[expected.value], |_| bound);
            let counted = labels.iter().filter(|label| against.is_none() || *label != ignored).count();
            let (found, right) = ([record.valid, record.weight as u32], [counted as u32, regions as u32]);
            findings.compare_exactly(&subject, "pixels that count, regions", &found, &right, |_| false);
        }
        let subject = Subject::new(dispatch, of_gradient, &sample.name);
        let largest = expected.gradient.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
        // Packed in the order of the dimensions, both of them.
        let tolerance = |i: usize| of_sums * (expected.gradient[i].abs() + largest) + FLUSHED;
        findings.compare(&subject, "gradient", &sample.unpack(&gradient), &expected.gradient, tolerance);
        let outside = sample.written_outside(&gradient);
        findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
    }
    Ok(())
}
