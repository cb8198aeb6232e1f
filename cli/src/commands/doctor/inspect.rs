//! Cases of [`Inspect`].

use seghead::{Axis, Error, Inspect, Inspection, reference};

use super::bench::Bench;
use super::data::{CLASSES, Reading, SPECIAL, Sample};
use super::findings::{Findings, Subject};
use super::{Case, Cases, Context};

const CLEAR: &[&str] = &["inspect clear"];
const OF_CLASSES: &[&str] = &["inspect classes"];
const SUMS: &[&str] = &["inspect sums"];
const ROWS: &[&str] = &["inspect rows"];
const NEIGHBOURS: &[&str] = &["inspect neighbours"];
const ALL: &[&str] = &["inspect clear", "inspect classes", "inspect sums", "inspect rows", "inspect neighbours"];

pub fn cases() -> Cases {
    // The class count is no part of the specialisation.
    let case = |reading: Reading| {
        Case::new(ALL, format!("{reading}"), move |context: &Context, findings: &mut Findings| {
            check(context, findings, reading)
        })
    };
    Reading::of(CLASSES[0]).map(case).collect()
}

fn check(context: &Context, findings: &mut Findings, reading: Reading) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    let samples = reading.samples(true)?;
    // The same shapes with what sums to 1.
    let likely = |sample: &Sample| {
        let p = reference::softmax(&sample.shape, &sample.data, Axis::Class);
        let mut p = p.into_iter();
        let note = if sample.name.contains(SPECIAL) { "softmax of special values" } else { "softmax" };
        Sample::new(note, sample.shape, &mut |_, _| p.next().unwrap_or(0.0) as f32)
    };
    let softmax: Vec<_> = samples.iter().map(likely).collect();
    for sample in samples.into_iter().chain(softmax) {
        let input = bench.input(&sample.bytes());
        let bytes = Inspect::new().record_bytes(&sample.shape);
        let (zeroed, guarded) = (bench.zeroed(bytes), bench.output(bytes));
        let mut dispatches = Vec::new();
        for record in [&zeroed, &guarded] {
            let (from, to) = (input.as_entire_buffer_binding(), record.as_entire_buffer_binding());
            let dispatch = Inspect::new().dispatch(gpu, &sample.shape, from, to)?;
            bench.record(&dispatch, &[record])?;
            dispatches.push(dispatch);
        }
        works.push((sample, dispatches));
    }
    let mut results = bench.run()?;
    for (sample, dispatches) in &works {
        let shape = &sample.shape;
        let mut next = || Inspection::from_record(shape, &bytemuck::pod_collect_to_vec::<u8, u32>(&results.bytes()));
        let (zeroed, guarded) = (next()?, next()?);
        let expected = reference::inspect(shape, &sample.data);
        let dispatch = &dispatches[0];
        let mut compare = |kernels: &[&str], what: &str, numbers: &dyn Fn(&Inspection) -> Vec<u32>| {
            let subject = Subject::new(dispatch, kernels, &sample.name);
            // A record that was 0 before needs no clearing.
            let right = findings.compare_exactly(&subject, what, &numbers(&zeroed), &numbers(&expected), |_| false);
            if right {
                let subject = Subject::new(dispatch, CLEAR, &sample.name);
                findings.compare_exactly(&subject, what, &numbers(&guarded), &numbers(&expected), |_| false);
            }
        };
        compare(OF_CLASSES, "number of the classes", &of_classes);
        compare(SUMS, "sum along classes", &|found| of_axis(found, Axis::Class));
        compare(SUMS, "exponential sum", &|found| vec![found.exponential_ones as u32]);
        compare(SUMS, "sum along columns", &|found| of_axis(found, Axis::Height));
        let classes_last = shape.pixel_stride() > 1;
        compare(if classes_last { SUMS } else { ROWS }, "sum along rows", &|found| of_axis(found, Axis::Width));
        // An adapter may flush differences of subnormal numbers.
        if !sample.name.contains(SPECIAL) {
            compare(NEIGHBOURS, "vote", &|found| {
                [found.roughness.class, found.roughness.height, found.roughness.width]
                    .map(|votes| votes as u32)
                    .to_vec()
            });
        }
    }
    Ok(())
}

fn of_classes(found: &Inspection) -> Vec<u32> {
    // −0 is 0, and one NaN as good as the other.
    let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { (x + 0.0).to_bits() };
    let numbers = |class: &seghead::ClassValues| {
        let counts = [class.nan, class.positive_infinity, class.negative_infinity, class.negative, class.unit];
        let [nan, positive_infinity, negative_infinity, negative, unit] = counts.map(|count| count as u32);
        [bits(class.minimum), bits(class.maximum), nan, positive_infinity, negative_infinity, negative, unit]
    };
    found.classes.iter().flat_map(numbers).collect()
}

fn of_axis(found: &Inspection, axis: Axis) -> Vec<u32> {
    let sums = found.sums(axis);
    vec![sums.length, sums.count as u32, sums.finite as u32, sums.ones as u32]
}
