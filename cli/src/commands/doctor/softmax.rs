//! Cases of [`Softmax`].

use seghead::{Axis, Error, Logits, Softmax, reference};

use super::bench::Bench;
use super::data::{CLASSES, Random, Reading, Sample, Special};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context, guarded};

const PLANES: &[&str] = &["softmax registers", "softmax statistics", "softmax apply", "softmax cached"];
const ROWS: &[&str] = &["softmax rows"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for log in [false, true] {
        for reading in Reading::all() {
            let what = format!("{reading}, log: {log}");
            cases.push(Case::new(PLANES, what, move |context, findings| {
                check(context, findings, PLANES, planes(reading)?, log)
            }));
        }
        for reading in Reading::in_halves() {
            let what = format!("{reading}, log: {log}, in halves");
            cases.push(Case::new(PLANES, what, move |context, findings| {
                let (samples, bytes) = reading.halved_samples(true)?;
                let small = context.binding(bytes)?;
                let samples = samples.into_iter().map(|sample| (sample, Axis::Class)).collect();
                guarded(&small.gpu, || check(&small, findings, PLANES, samples, log))
            }));
        }
        for reading in Reading::of(CLASSES[0]) {
            let what = format!("{reading} along rows, log: {log}");
            cases.push(Case::new(ROWS, what, move |context, findings| {
                check(context, findings, ROWS, rows(reading)?, log)
            }));
        }
    }
    cases
}

/// Over classes, and over as many rows as there are classes.
fn planes(reading: Reading) -> Result<Vec<(Sample, Axis)>, Error> {
    let mut samples: Vec<_> = reading.samples(true)?.into_iter().map(|sample| (sample, Axis::Class)).collect();
    let mut random = Random::new(3);
    let width = if reading.in_fours { 8 } else { 7 };
    let columns = Logits::nchw(2, 3, reading.classes, width)?.with_element_type(reading.element_type);
    samples.push((Sample::new("along columns", columns, &mut |_, _| random.logit()), Axis::Height));
    Ok(samples)
}

/// Along rows, longer and shorter ones, also of a crop.
fn rows(reading: Reading) -> Result<Vec<(Sample, Axis)>, Error> {
    let mut random = Random::new(4);
    // Whether rows start at multiples of four elements and end there.
    let (short, long, left) = if reading.in_fours { (8, 28, 4) } else { (5, 30, 3) };
    let shapes = [
        (Logits::nchw(2, 3, 7, long)?, "along rows"),
        (Logits::nchw(2, 3, 5, 16)?.crop(1, left, 3, short)?, "of 5×16, along rows"),
    ];
    let mut samples: Vec<_> = shapes
        .into_iter()
        .map(|(shape, note)| {
            Sample::new(note, shape.with_element_type(reading.element_type), &mut |_, _| random.logit())
        })
        .collect();
    for width in [short, long] {
        // Each row has what a pixel has otherwise.
        let shape = Logits::chw(1, super::data::SPECIAL_PIXELS, width)?.with_element_type(reading.element_type);
        let mut special = Special::new(reading.element_type, width);
        let width = width as usize;
        samples.push(Sample::new("special values, along rows", shape, &mut |pixel, _| {
            special.value(pixel / width, pixel % width)
        }));
    }
    Ok(samples.into_iter().map(|sample| (sample, Axis::Width)).collect())
}

fn check(
    context: &Context,
    findings: &mut Findings,
    kernels: &[&str],
    samples: Vec<(Sample, Axis)>,
    log: bool,
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for (sample, axis) in samples {
        let (input, output) = (bench.input(&sample.bytes()), bench.output(sample.shape.output().bytes()));
        let (from, to) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
        let dispatch = Softmax::new().axis(axis).log(log).dispatch(gpu, &sample.shape, from, to)?;
        bench.record(&dispatch, &[&output])?;
        works.push((sample, axis, dispatch));
    }
    let mut results = bench.run()?;
    for (sample, axis, dispatch) in &works {
        let subject = Subject::new(dispatch, kernels, &sample.name);
        let bytes = results.bytes();
        let got = sample.unpack(&bytes);
        let count = f64::from(match axis {
            Axis::Class => sample.shape.classes(),
            Axis::Height => sample.shape.height(),
            Axis::Width => sample.shape.width(),
        });
        let logarithms = reference::log_softmax(&sample.shape, &sample.data, *axis);
        if log {
            // Differences of huge logits overflow in f32 where they do not in f64.
            let expected: Vec<f64> = logarithms.iter().map(|&y| f64::from(y as f32)).collect();
            // The distance to the maximum and the last difference are rounded, and log Σ has the error of the sum,
            // 8 U and U an addition, and 2⁻²¹.
            let tolerance = |i: usize| (8.0 + count - 3.0 * expected[i]) * U + 2f64.powi(-21);
            findings.compare(&subject, "logarithm", &got, &expected, tolerance);
        } else {
            let expected = reference::softmax(&sample.shape, &sample.data, *axis);
            // A term exp(d) has 3 + 2 |d| ulp and what d has, and −log p is |d| and a little more; beyond 200 it is
            // flushed. The sum has 8 U and U an addition, the quotient 3 U.
            let distance = |i: usize| (-logarithms[i]).min(200.0);
            let tolerance = |i: usize| expected[i] * (6.0 + 5.0 * distance(i) + 8.0 + count + 3.0) * U + FLUSHED;
            findings.compare(&subject, "probability", &got, &expected, tolerance);
            let first = (0..got.len())
                .find(|&i| sample.values[i] == f32::NEG_INFINITY && expected[i] == 0.0 && got[i].to_bits() != 0);
            let inexact = |i: usize| format!("probability [{i}] of −Inf is {:e}, expected exactly 0", got[i]);
            findings.conclude(&subject, first.map(inexact));
        }
        let outside = sample.written_outside(&bytes);
        findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
    }
    Ok(())
}
