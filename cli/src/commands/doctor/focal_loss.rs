//! Cases of [`FocalLoss`].

use seghead::{Error, FocalLoss, LabelType, Logits, LossBuffers, LossRecord, Reduction, Targets, reference};

use super::bench::Bench;
use super::data::{Random, Reading, SPECIAL, Sample, map_bytes};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context};

const PIXELS: &[&str] = &["focal pixels"];
const ELEMENTS: &[&str] = &["focal elements"];
const PIXEL_GRADIENT: &[&str] = &["focal pixel gradient"];
const ELEMENT_GRADIENT: &[&str] = &["focal element gradient"];
const PIXEL_RECORD: &[&str] = &["focal pixels", "loss partials", "loss finish"];
const ELEMENT_RECORD: &[&str] = &["focal elements", "loss partials", "loss finish"];
const BOTH_PIXELS: &[&str] = &["focal pixels", "focal pixel gradient"];
const BOTH_ELEMENTS: &[&str] = &["focal elements", "focal element gradient"];

const IGNORED: i64 = 255;

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for against in [None, Some(LabelType::U8), Some(LabelType::U32)] {
        let kernels = if against.is_some() { BOTH_PIXELS } else { BOTH_ELEMENTS };
        // The class count is compiled into none of them.
        for reading in Reading::of(5) {
            for single in [false, true] {
                let what = format!("{reading}, against {against:?}, single losses: {single}");
                cases.push(Case::new(kernels, what, move |context, findings| {
                    check(context, findings, reading.samples(true)?, (against, single))
                }));
            }
        }
        cases.push(Case::new(kernels, format!("several chunks, against {against:?}"), move |context, findings| {
            let mut random = Random::new(9);
            let sample = Sample::new("", Logits::nchw(2, 5, 45, 47)?, &mut |_, _| random.logit());
            check(context, findings, vec![sample], (against, false))
        }));
    }
    cases
}

/// What a sample is held against.
struct Work {
    sample: Sample,
    targets: Sample,
    labels: Vec<i64>,
    gamma: f32,
    alpha: Option<f32>,
    reduction: Reduction,
}

impl Work {
    fn new(sample: Sample, i: usize) -> Self {
        let (classes, mut random) = (sample.shape.classes(), Random::new(i as u64));
        let label = |random: &mut Random| if random.below(6) == 5 { IGNORED } else { random.below(classes).into() };
        Self {
            targets: Sample::new("", sample.shape.output(), &mut |_, _| random.below(5) as f32 / 4.0),
            labels: (0..sample.shape.map().pixels()).map(|_| label(&mut random)).collect(),
            gamma: [2.0, 0.5, 0.0, 1.5][i % 4],
            alpha: [None, Some(0.25)][i % 2],
            reduction: if i < 2 { Reduction::Mean } else { Reduction::Sum },
            sample,
        }
    }

    fn reference(&self, against: Option<LabelType>) -> reference::FocalLosses {
        let (shape, data) = (&self.sample.shape, &self.sample.data);
        let (gamma, alpha) = (self.gamma.into(), self.alpha.map(f64::from));
        match against {
            Some(_) => reference::focal_loss(shape, data, &self.labels, Some(IGNORED), gamma, alpha.unwrap_or(1.0)),
            None => reference::binary_focal_loss(shape, data, &self.targets.data, gamma, alpha),
        }
    }
}

fn check(
    context: &Context,
    findings: &mut Findings,
    samples: Vec<Sample>,
    (against, single): (Option<LabelType>, bool),
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (i, sample) in samples.into_iter().enumerate() {
        let work = Work::new(sample, i);
        let (shape, map) = (&work.sample.shape, work.sample.shape.map());
        let operator =
            FocalLoss::new().gamma(work.gamma).alpha(work.alpha).ignore_index(Some(IGNORED)).reduction(work.reduction);
        let input = bench.input(&work.sample.bytes());
        let bytes = if against.is_some() { map.bytes(32) } else { shape.output().bytes() };
        let (record, losses) = (bench.output(16), bench.output(bytes));
        let gradient = bench.output(shape.output().bytes());
        let mut buffers =
            LossBuffers::new(record.as_entire_buffer_binding()).gradient(gradient.as_entire_buffer_binding());
        if single {
            buffers = buffers.losses(losses.as_entire_buffer_binding());
        }
        let input = input.as_entire_buffer_binding();
        let dispatch = match against {
            None => {
                let targets = bench.input(&work.targets.bytes());
                operator.dispatch_binary(gpu, shape, input, targets.as_entire_buffer_binding(), buffers)?
            }
            Some(label_type) => {
                let labels = &work.labels;
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
        bench.record(&dispatch, if single { &all } else { &all[..2] })?;
        works.push((work, dispatch));
    }
    let mut results = bench.run()?;
    let (of_losses, of_record, of_gradient) = match against {
        Some(_) => (PIXELS, PIXEL_RECORD, PIXEL_GRADIENT),
        None => (ELEMENTS, ELEMENT_RECORD, ELEMENT_GRADIENT),
    };
    for (work, dispatch) in &works {
        let (sample, gamma) = (&work.sample, f64::from(work.gamma));
        let expected = work.reference(against);
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        let gradient = results.bytes();
        // Exponentials within 3 + 2 · 200 ulp, a power of 2^(γ · log₂ q) where the logarithm is below 150 and within 3 ulp
        // or 2⁻²¹, and the roundings of some sums and products. What f32 cannot hold is an infinity there.
        let relative = (900.0 + 700.0 * gamma) * U;
        let losses: Vec<f64> = expected.losses.iter().map(|&x| f64::from(x as f32)).collect();
        let tolerance = |i: usize| losses[i].abs() * relative + 4.0 * U + FLUSHED;
        let mut right = true;
        if single {
            let bytes = results.bytes();
            let found = match against {
                Some(_) => sample.shape.map().unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)),
                None => sample.unpack(&bytes),
            };
            let subject = Subject::new(dispatch, of_losses, &sample.name);
            right = findings.compare(&subject, "loss", &found, &losses, tolerance);
        }
        let divisor = if work.reduction == Reduction::Mean { expected.weight } else { 1.0 };
        if right && !sample.name.contains(SPECIAL) {
            let subject = Subject::new(dispatch, of_record, &sample.name);
            let sum: f64 = losses.iter().sum();
            let bound = ((0..losses.len()).map(tolerance).sum::<f64>() + 140.0 * U * sum.abs()) / divisor;
            let reduced = sum / divisor;
            findings.compare(&subject, "reduced loss", &[record.loss], &[reduced], |_| bound + 6.0 * U * reduced.abs());
            findings.compare_exactly(&subject, "weight", &[record.weight as u32], &[expected.weight as u32], |_| false);
        }
        let subject = Subject::new(dispatch, of_gradient, &sample.name);
        let derivatives: Vec<f64> = expected.gradient.iter().map(|x| x / divisor).collect();
        let bound = |i: usize| derivatives[i].abs() * 3.0 * relative + (4.0 * U + FLUSHED) / divisor;
        findings.compare(&subject, "gradient", &sample.unpack(&gradient), &derivatives, bound);
        let outside = sample.written_outside(&gradient);
        findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
    }
    Ok(())
}
