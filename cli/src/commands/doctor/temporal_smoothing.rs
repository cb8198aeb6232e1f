//! Cases of [`TemporalSmoothing`].

use seghead::reference::{self, Smoothed};
use seghead::{Activation, Error, TemporalSmoothing};

use super::bench::Bench;
use super::data::{CLASSES, Random, Reading, Sample};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context};

const SOFTMAX: &[&str] = &["temporal smoothing statistics", "temporal smoothing apply"];
const SIGMOID: &[&str] = &["temporal smoothing sigmoid"];

/// How much of the past an uncertain pixel keeps.
const RATIO: f32 = 0.9;

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    // The class count is no part of the specialisation.
    for reading in Reading::of(CLASSES[1]) {
        for (activation, kernels) in [(Activation::Softmax, SOFTMAX), (Activation::Sigmoid, SIGMOID)] {
            for probabilities in [false, true] {
                let what = format!("{reading}, {activation:?}, probabilities: {probabilities}");
                let operator = TemporalSmoothing::new(RATIO).activation(activation).probabilities(probabilities);
                let of = OfFrame { kernels, activation, probabilities };
                cases.push(Case::new(kernels, what, move |context, findings| {
                    check(context, findings, &of, operator, reading)
                }));
            }
        }
    }
    cases
}

struct OfFrame {
    kernels: &'static [&'static str],
    activation: Activation,
    probabilities: bool,
}

/// Two frames: an ordinary one, which gives the other a past.
fn check(
    context: &Context,
    findings: &mut Findings,
    of: &OfFrame,
    operator: TemporalSmoothing,
    reading: Reading,
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let (mut bench, mut random) = (Bench::new(gpu), Random::new(9));
    let mut works = Vec::new();
    let few = Reading { classes: CLASSES[0], ..reading };
    for sample in reading.samples(true)?.into_iter().chain(few.samples(true)?) {
        let state = bench.zeroed(TemporalSmoothing::state_bytes(&sample.shape));
        let mut frames = Vec::new();
        for frame in [Sample::new("first frame", sample.shape, &mut |_, _| random.logit()), sample] {
            let (input, output) = (bench.input(&frame.bytes()), bench.output(frame.shape.output().bytes()));
            let [from, kept, to] = [&input, &state, &output].map(|buffer| buffer.as_entire_buffer_binding());
            let dispatch = operator.dispatch(gpu, &frame.shape, from, kept, to)?;
            bench.record(&dispatch, &[&state, &output])?;
            frames.push((frame, dispatch));
        }
        works.push(frames);
    }
    let mut results = bench.run()?;
    for frames in &works {
        let mut before = vec![0.0; frames[0].0.values.len()];
        for (frame, dispatch) in frames {
            let subject = Subject::new(dispatch, of.kernels, &frame.name);
            let (state, bytes) = (bytemuck::pod_collect_to_vec::<u8, f32>(&results.bytes()), results.bytes());
            let (state, got) = (frame.shape.map().unpad(&state), frame.unpack(&bytes));
            let expected =
                reference::temporal_smoothing(&frame.shape, &frame.data, &before, of.activation, RATIO.into());
            let tolerances = tolerances(frame, of.activation, &before, &expected);
            findings.compare(&subject, "state", &state, &expected.state, |i| tolerances.state[i]);
            match of.probabilities {
                true => {
                    findings.compare(&subject, "probability", &got, &expected.probabilities, |i| {
                        tolerances.probabilities[i]
                    });
                }
                false => {
                    findings.compare(&subject, "logit", &got, &expected.logits, |i| tolerances.logits[i]);
                }
            }
            let outside = frame.written_outside(&bytes);
            findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
            before = state;
        }
    }
    Ok(())
}

/// What rounding makes of a frame at the most.
fn tolerances(frame: &Sample, activation: Activation, before: &[f32], exact: &Smoothed) -> Smoothed {
    let shape = &frame.shape;
    let (classes, plane) = (shape.classes() as usize, shape.pixels() as usize);
    let mut found = exact.clone();
    for pixel in 0..shape.images() as usize * plane {
        let x: Vec<f64> = frame.pixel(pixel).map(f64::from).collect();
        let of_pixel = Weight::of(&x);
        for (c, &x) in x.iter().enumerate() {
            let in_state = (pixel / plane * classes + c) * plane + pixel % plane;
            let at = if shape.pixel_stride() > 1 { pixel * classes + c } else { in_state };
            let weight = match activation {
                Activation::Sigmoid => Weight::of(&[x, 0.0]),
                _ => of_pixel,
            };
            // Of p and 1 − p in f64, without loss.
            let (p, q) = match activation {
                Activation::Sigmoid => (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp())),
                _ => ((x - weight.maximum).exp() / weight.sum, 0.0),
            };
            let before = f64::from(before[in_state]);
            let error = |p: f64, before: f64| {
                // A term exp(d) has 3 + 2 |d| ulp and what d has, and −log p is |d| and a little more; beyond 200 it is
                // flushed. The sum has the error of the entropy, and the quotients have 6 U.
                let of_p = p * (20.0 + 5.0 * (-p.ln()).min(200.0)) * U + p * weight.of_sum + FLUSHED;
                let way = if before.is_finite() { (before - p).abs() } else { 0.0 };
                of_p + (weight.error + 6.0 * weight.weight * U) * way + (p + way) * U + FLUSHED
            };
            let of_s = if p > 0.0 { error(p, before) } else { error(f64::MIN_POSITIVE, before) };
            (found.state[in_state], found.probabilities[at]) = (of_s, of_s);
            // A logarithm has 3 ulp, or 2⁻²¹ where it is small.
            let logarithm = |s: f64, error: f64| {
                let [low, high, s] = [s - error, s + error, s].map(|s| s.max(FLUSHED).ln());
                high - low + 6.0 * U * s.abs() + 2f64.powi(-21)
            };
            found.logits[at] = logarithm(exact.probabilities[at], of_s);
            if activation == Activation::Sigmoid {
                let opposite = exact.probabilities[at] * (-exact.logits[at]).exp();
                let of_opposite = error(q.max(f64::MIN_POSITIVE), 1.0 - before) + weight.weight * U;
                found.logits[at] += logarithm(opposite, of_opposite) + U * exact.logits[at].abs();
            }
        }
    }
    found
}

/// How much of the past counts, and what rounding makes of that.
#[derive(Clone, Copy)]
struct Weight {
    maximum: f64,
    sum: f64,
    weight: f64,
    error: f64,
    /// Of the sum, relative to it.
    of_sum: f64,
}

impl Weight {
    /// Of the classes of a pixel. With distances d to the maximum, the entropy is made of terms exp(−d) and d · exp(−d)
    /// of all others; each has 6 U and 5 d U of its own and of the rescalings, whose distances sum to d, and 9 U a class.
    fn of(x: &[f64]) -> Self {
        let maximum = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let steps = 40.0 + 10.0 * x.len() as f64;
        let (mut rest, mut moment, mut error, mut of_rest) = (-1.0, 0.0, 0.0, 0.0);
        for d in x.iter().map(|x| (maximum - x).min(200.0)) {
            let (e, own) = ((-d).exp(), (steps + 5.0 * d) * U);
            rest += e;
            moment += d * e;
            // The maximum itself, which is not among them, is a little more than is needed.
            error += if d > 0.0 { e * (1.0 + d) * own } else { 0.0 };
            of_rest += if d > 0.0 { e * own } else { 0.0 };
        }
        let ties = x.iter().filter(|&&x| x == maximum).count() as f64 - 1.0;
        error += ties * steps * U;
        of_rest += ties * steps * U;
        let sum = 1.0 + rest;
        let entropy = rest.max(0.0).ln_1p() + moment / sum;
        let of_logarithm = if rest > 0.999 { 2f64.powi(-21) + 6.0 * U * entropy } else { 0.0 };
        let blend = f64::from(RATIO) / (x.len().max(2) as f64).ln();
        let error = blend * (error * (1.0 + entropy) + of_logarithm + 3.0 * U * entropy) + FLUSHED;
        Self { maximum, sum, weight: blend * entropy, error, of_sum: of_rest / sum + U }
    }
}
