//! Cases of [`CrossEntropy`].

use seghead::{CrossEntropy, Error, LabelType, Logits, LossRecord, Reduction, Targets, reference};

use super::bench::Bench;
use super::data::{CLASSES, Random, Reading, Sample, map_bytes};
use super::findings::{Findings, Subject, U};
use super::{Case, Cases, Context, guarded};

const PIXELS: &[&str] = &["cross-entropy pixels"];
const SUMS: &[&str] = &["cross-entropy pixels", "loss partials"];
const RECORD: &[&str] = &["cross-entropy pixels", "loss partials", "loss finish"];
const FINISH: &[&str] = &["loss finish"];

/// What is compiled into a kernel.
#[derive(Clone, Copy, Debug)]
struct Options {
    label_type: LabelType,
    weights: bool,
    smoothing: bool,
    per_pixel: bool,
}

pub fn cases() -> Cases {
    let mut cases = vec![Case::new(RECORD, "sums".to_owned(), sums)];
    for reading in Reading::all() {
        for options in Options::all() {
            cases.push(Case::new(PIXELS, format!("{reading}, {options:?}"), move |context, findings| {
                check(context, findings, &reading.samples(false)?, options)
            }));
        }
    }
    for reading in Reading::in_halves() {
        cases.push(Case::new(PIXELS, format!("{reading}, in halves"), move |context, findings| {
            let (samples, bytes) = reading.halved_samples(false)?;
            let small = context.binding(bytes)?;
            Options::all().try_for_each(|options| guarded(&small.gpu, || check(&small, findings, &samples, options)))
        }));
    }
    cases
}

impl Options {
    fn all() -> impl Iterator<Item = Self> {
        [LabelType::U8, LabelType::U32].into_iter().flat_map(|label_type| {
            (0..8).map(move |bits| Self {
                label_type,
                weights: bits & 1 != 0,
                smoothing: bits & 2 != 0,
                per_pixel: bits & 4 != 0,
            })
        })
    }
}

/// Targets of a sample, every fifth ignored.
struct Truth {
    ignored: i64,
    targets: Vec<i64>,
    /// The pixel whose target is no class.
    invalid: Option<usize>,
}

impl Truth {
    fn new(sample: &Sample, label_type: LabelType, invalid: bool) -> Self {
        let (pixels, classes) = (sample.shape.map().pixels(), sample.shape.classes() as usize);
        let ignored = if label_type == LabelType::U8 { 255 } else { -100 };
        // Often the classes that hold special values.
        let class = |i: usize| [0, classes / 2, classes - 1, i % classes][i / 7 % 4] as i64;
        let mut targets: Vec<i64> = (0..pixels).map(|i| if i % 5 == 4 { ignored } else { class(i) }).collect();
        let invalid = invalid.then(|| pixels - pixels / 5 * 5).filter(|&i| targets[i] != ignored);
        if let Some(i) = invalid {
            targets[i] = classes as i64;
        }
        Self { ignored, targets, invalid }
    }

    fn bytes(&self, shape: &Logits, label_type: LabelType) -> Vec<u8> {
        let map = shape.map();
        match label_type {
            LabelType::U8 => map_bytes(&map, &self.targets.iter().map(|&t| t as u8).collect::<Vec<_>>(), 77),
            LabelType::U32 => map_bytes(&map, &self.targets.iter().map(|&t| t as u32).collect::<Vec<_>>(), u32::MAX),
        }
    }

    /// As the reference takes them, which knows no invalid ones.
    fn valid(&self) -> Vec<i64> {
        let mut targets = self.targets.clone();
        if let Some(i) = self.invalid {
            targets[i] = self.ignored;
        }
        targets
    }
}

fn check(context: &Context, findings: &mut Findings, samples: &[Sample], options: Options) -> Result<(), Error> {
    let gpu = &context.gpu;
    let Options { label_type, weights, smoothing, per_pixel } = options;
    let smoothing = if smoothing { 0.1 } else { 0.0 };
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let classes = sample.shape.classes();
        let mut random = Random::new(5);
        let weights: Option<Vec<f32>> =
            weights.then(|| (0..classes).map(|_| 0.5 + random.below(150) as f32 / 100.0).collect());
        let truth = Truth::new(sample, label_type, i == 1);
        let reduction = if i % 2 == 0 { Reduction::Mean } else { Reduction::Sum };
        let operator = CrossEntropy::new()
            .ignore_index(Some(truth.ignored))
            .class_weights(weights.clone())
            .label_smoothing(smoothing)
            .reduction(reduction);
        let (input, target) = (bench.input(&sample.bytes()), bench.input(&truth.bytes(&sample.shape, label_type)));
        let (record, losses) = (bench.output(16), bench.output(sample.shape.map().bytes(32)));
        let dispatch = operator.dispatch(
            gpu,
            &sample.shape,
            input.as_entire_buffer_binding(),
            Targets::new(target.as_entire_buffer_binding(), label_type),
            record.as_entire_buffer_binding(),
            per_pixel.then(|| losses.as_entire_buffer_binding()),
        )?;
        let written = [&record, &losses];
        bench.record(&dispatch, if per_pixel { &written } else { &written[..1] })?;
        works.push((sample, truth, weights, reduction, dispatch));
    }
    let mut results = bench.run()?;
    for (sample, truth, weights, reduction, dispatch) in &works {
        let (shape, classes) = (&sample.shape, f64::from(sample.shape.classes()));
        let subject = Subject::new(dispatch, RECORD, &sample.name);
        let of_pixels = Subject::new(dispatch, PIXELS, &sample.name);
        let targets = truth.valid();
        let (w, e) = (weights.as_deref(), f64::from(smoothing));
        let reference = reference::cross_entropy(shape, &sample.data, &targets, Some(truth.ignored), w, e);

        // (maximum − x) is rounded, log Σ has the error of the sum and 2⁻²¹, a weight of at most 2 scales both, and the
        // smoothing adds C such terms.
        let (mut tolerances, mut overflows) = (Vec::new(), Vec::new());
        for i in 0..targets.len() {
            let finite = sample.pixel(i).filter(|x| x.is_finite()).map(f64::from);
            let (low, high) = finite.fold((0f64, 0f64), |(low, high), x| (low.min(x), high.max(x)));
            let spread = high - low;
            let of_loss = 2.0 * ((2.0 * spread + 12.0 + classes) * U + 2f64.powi(-20));
            let of_smoothing = if smoothing == 0.0 { 0.0 } else { 2.0 * classes * (spread + 40.0) * U };
            tolerances.push(of_loss + of_smoothing);
            // Whether products and sums of losses overflow on the way depends on their order.
            overflows.push(spread > 1e38 && (smoothing != 0.0 || weights.is_some()));
        }
        // What f32 cannot hold is an infinity there.
        let mut expected: Vec<f64> = reference.per_pixel.iter().map(|&x| f64::from(x as f32)).collect();
        if let Some(i) = truth.invalid {
            expected[i] = f64::NAN;
        }
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        if per_pixel {
            let mut losses = shape.map().unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(&results.bytes()));
            for i in (0..losses.len()).filter(|&i| overflows[i]) {
                (losses[i], expected[i]) = (0.0, 0.0);
            }
            if !findings.compare(&of_pixels, "loss", &losses, &expected, |i| tolerances[i]) {
                continue;
            }
        }
        let counted = truth.targets.iter().filter(|&&target| target != truth.ignored).count();
        let invalid = truth.invalid.map_or(u32::MAX, |i| i as u32);
        let (found, right) = ([record.valid, record.first_invalid], [counted as u32, invalid]);
        findings.compare_exactly(&subject, "valid pixels, first invalid", &found, &right, |_| false);
        // The sum of special losses is special whatever the order, unless some of them overflow.
        let sum: f64 = expected.iter().sum();
        if overflows.contains(&true) || sum.is_infinite() {
            continue;
        }
        // Sums go through at most 4 + 64 + 8 + 128 additions.
        let of_sum = tolerances.iter().sum::<f64>() + 204.0 * U * sum;
        let (right, tolerance) = match reduction {
            Reduction::Sum => (sum, of_sum),
            Reduction::Mean => (sum / reference.weight, of_sum / reference.weight + 140.0 * U * reference.mean()),
        };
        findings.compare(&subject, "reduced loss", &[record.loss], &[right], |_| tolerance);
    }
    Ok(())
}

/// More pixels than a workgroup sums up, by way of the host, which adds the last sums itself, and by way of the record.
fn sums(context: &Context, findings: &mut Findings) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut random = Random::new(6);
    let sample = Sample::new("", Logits::chw(CLASSES[0], 131, 137)?, &mut |_, _| random.logit());
    let truth = Truth::new(&sample, LabelType::U8, false);
    let operator = CrossEntropy::new().ignore_index(Some(truth.ignored));
    let losses = reference::cross_entropy(&sample.shape, &sample.data, &truth.targets, Some(truth.ignored), None, 0.0);
    let (sum, counted) = (losses.sum(), losses.weight);
    // Every logit is below 20: see above.
    let tolerance = counted * 2.0 * ((2.0 * 40.0 + 12.0 + 3.0) * U + 2f64.powi(-20)) + 204.0 * U * sum;
    let by_host =
        operator.clone().reduction(Reduction::Sum).run_blocking(gpu, &sample.shape, &sample.data, &truth.targets)?;

    let mut bench = Bench::new(gpu);
    let (input, target) = (bench.input(&sample.bytes()), bench.input(&truth.bytes(&sample.shape, LabelType::U8)));
    let record = bench.output(16);
    let mut dispatches = Vec::new();
    for (reduction, divisor) in [(Reduction::Sum, 1.0), (Reduction::Mean, counted)] {
        let dispatch = operator.clone().reduction(reduction).dispatch(
            gpu,
            &sample.shape,
            input.as_entire_buffer_binding(),
            Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
            record.as_entire_buffer_binding(),
            None,
        )?;
        bench.record(&dispatch, &[&record])?;
        dispatches.push((dispatch, divisor));
    }
    let mut results = bench.run()?;
    let subject = Subject::new(&dispatches[0].0, SUMS, &sample.name);
    let right = findings.compare(&subject, "sum of the losses", &[by_host.value], &[sum], |_| tolerance);
    for (dispatch, divisor) in &dispatches {
        // Where the sums are right, nothing but the last kernel is left.
        let subject = Subject::new(dispatch, if right { FINISH } else { RECORD }, &sample.name);
        let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
        let (reduced, tolerance) = (sum / divisor, tolerance / divisor + 4.0 * U * sum / divisor);
        findings.compare_exactly(&subject, "valid pixels", &[record.valid], &[counted as u32], |_| false);
        findings.compare(&subject, "reduced loss", &[record.loss], &[reduced], |_| tolerance);
    }
    Ok(())
}
