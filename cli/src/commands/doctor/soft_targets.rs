//! Cases of [`CrossEntropy`] against soft targets.

use seghead::{CrossEntropy, Error, LossRecord, Reduction, reference};

use super::bench::Bench;
use super::data::{Random, Reading, Sample};
use super::findings::{Findings, Subject, U};
use super::{Case, Cases, Context};

const PIXELS: &[&str] = &["cross-entropy soft pixels"];
const RECORD: &[&str] = &["cross-entropy soft pixels", "loss partials", "loss finish"];

/// What is compiled into the kernel.
#[derive(Clone, Copy, Debug)]
struct Options {
    weights: bool,
    smoothing: bool,
    per_pixel: bool,
}

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for reading in Reading::all() {
        for bits in 0..8 {
            let options = Options { weights: bits & 1 != 0, smoothing: bits & 2 != 0, per_pixel: bits & 4 != 0 };
            cases.push(Case::new(PIXELS, format!("{reading}, {options:?}"), move |context, findings| {
                check(context, findings, reading.samples(false)?, options)
            }));
        }
    }
    cases
}

fn check(context: &Context, findings: &mut Findings, samples: Vec<Sample>, options: Options) -> Result<(), Error> {
    let gpu = &context.gpu;
    let smoothing = if options.smoothing { 0.1 } else { 0.0 };
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (i, sample) in samples.into_iter().enumerate() {
        let mut random = Random::new(9);
        // Not all of them in 0..=1, and some 0, which makes the loss NaN where the logit is −Inf.
        let mut target = |_: usize, class: usize| (random.below(4 + class as u32 % 3) as f32 - 1.0) / 4.0;
        let targets = Sample::new("", sample.shape.output(), &mut target);
        let weights: Option<Vec<f32>> =
            options.weights.then(|| (0..sample.shape.classes()).map(|c| 0.5 + c as f32 % 7.0 / 4.0).collect());
        let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
        let operator =
            CrossEntropy::new().class_weights(weights.clone()).label_smoothing(smoothing).reduction(reduction);
        let (input, target) = (bench.input(&sample.bytes()), bench.input(&targets.bytes()));
        let (record, losses) = (bench.output(16), bench.output(sample.shape.map().bytes(32)));
        let dispatch = operator.dispatch_soft(
            gpu,
            &sample.shape,
            input.as_entire_buffer_binding(),
            target.as_entire_buffer_binding(),
            record.as_entire_buffer_binding(),
            options.per_pixel.then(|| losses.as_entire_buffer_binding()),
        )?;
        let written = [&record, &losses];
        bench.record(&dispatch, if options.per_pixel { &written } else { &written[..1] })?;
        works.push((sample, targets, weights, reduction, dispatch));
    }
    let mut results = bench.run()?;
    for (sample, targets, weights, reduction, dispatch) in &works {
        let shape = &sample.shape;
        let (w, e) = (weights.as_deref(), f64::from(smoothing));
        let losses = reference::cross_entropy_soft(shape, &sample.data, &targets.data, w, e);
        // What f32 cannot hold is an infinity there.
        let mut expected: Vec<f64> = losses.per_pixel.iter().map(|&x| f64::from(x as f32)).collect();
        // With d = maximum − x, each of the C products w p' d has six roundings and their sum C. log Σ exp(−d) has the
        // relative error of the sum, (8 + C) U, and the larger of 2⁻²¹ = 8 U and 3 ulp of its own, at most 6 U ln C;
        // Σ w p' has C + 6 roundings. Two more for the last sum.
        let c = f64::from(shape.classes());
        let (mut tolerances, mut overflows) = (Vec::new(), Vec::new());
        for (i, loss) in expected.iter().enumerate() {
            let finite = sample.pixel(i).filter(|x| x.is_finite()).map(f64::from);
            let (low, high) = finite.fold((0f64, 0f64), |(low, high), x| (low.min(x), high.max(x)));
            let share = |(class, target): (usize, f32)| {
                let weight = w.map_or(1.0, |weights| f64::from(weights[class]));
                ((1.0 - e) * f64::from(target).abs() + e / c) * weight
            };
            let shares: f64 = targets.pixel(i).enumerate().map(share).sum();
            let of_log = 8.0 + c + 8.0 + 6.0 * c.ln();
            let of_sums = (c + 6.0) * (high - low) + of_log + c.ln() * (c + 6.0);
            tolerances.push((of_sums * shares + 2.0 * loss.abs()) * U);
            // Whether products of huge distances overflow depends on their order.
            overflows.push(high - low > 1e37);
        }
        let subject = Subject::new(dispatch, RECORD, &sample.name);
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        if options.per_pixel {
            let mut got = shape.map().unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&results.bytes()));
            for i in (0..got.len()).filter(|&i| overflows[i]) {
                (got[i], expected[i]) = (0.0, 0.0);
            }
            let of_pixels = Subject::new(dispatch, PIXELS, &sample.name);
            if !findings.compare(&of_pixels, "loss", &got, &expected, |i| tolerances[i]) {
                continue;
            }
        }
        let pixels = expected.len();
        let (found, right) = ([record.valid, record.first_invalid], [pixels as u32, u32::MAX]);
        findings.compare_exactly(&subject, "valid pixels, first invalid", &found, &right, |_| false);
        let sum: f64 = expected.iter().sum();
        if overflows.contains(&true) || sum.is_infinite() {
            continue;
        }
        // Sums go through at most 4 + 64 + 64 additions.
        let size: f64 = expected.iter().map(|loss| loss.abs()).sum();
        let of_sum = tolerances.iter().sum::<f64>() + 132.0 * U * size;
        let count = if *reduction == Reduction::Mean { pixels as f64 } else { 1.0 };
        let (right, tolerance) = (sum / count, of_sum / count + 4.0 * U * (sum / count).abs());
        findings.compare(&subject, "reduced loss", &[record.loss], &[right], |_| tolerance);
    }
    Ok(())
}
