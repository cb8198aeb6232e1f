//! Cases of [`Argmax`].

use seghead::{Argmax, Error, LabelType, reference};

use super::bench::Bench;
use super::data::{Reading, Sample};
use super::findings::{Findings, Subject};
use super::scores::{Maps, Score};
use super::{Case, Cases, Context, guarded};

const KERNELS: &[&str] = &["argmax"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for reading in Reading::all() {
        for label_type in [LabelType::U8, LabelType::U32] {
            for scores in Score::combinations() {
                let what = format!("{reading}, {label_type:?}, {scores:?}");
                cases.push(Case::new(KERNELS, what, move |context, findings| {
                    check(context, findings, &reading.samples(false)?, label_type, &scores)
                }));
            }
        }
    }
    for reading in Reading::in_halves() {
        cases.push(Case::new(KERNELS, format!("{reading}, in halves"), move |context, findings| {
            let (samples, bytes) = reading.halved_samples(false)?;
            let small = context.binding(bytes)?;
            for label_type in [LabelType::U8, LabelType::U32] {
                for scores in Score::combinations() {
                    guarded(&small.gpu, || check(&small, findings, &samples, label_type, &scores))?;
                }
            }
            Ok(())
        }));
    }
    cases
}

fn check(
    context: &Context,
    findings: &mut Findings,
    samples: &[Sample],
    label_type: LabelType,
    scores: &[Score],
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for sample in samples {
        let input = bench.input(&sample.bytes());
        let maps = Maps::new(&bench, sample.shape.map(), label_type, scores);
        let argmax = Argmax::new().label_type(label_type);
        let dispatch = argmax.dispatch(gpu, &sample.shape, input.as_entire_buffer_binding(), maps.outputs())?;
        maps.record(&mut bench, &dispatch)?;
        works.push((sample, maps, dispatch));
    }
    let mut results = bench.run()?;
    for (sample, maps, dispatch) in &works {
        let subject = Subject::new(dispatch, KERNELS, &sample.name);
        let labels = reference::argmax(&sample.shape, &sample.data);
        let scores = reference::scores(&sample.shape, &sample.data);
        let exact = (|_: usize| 0.0, |_: usize, _: u32| false);
        let classes = sample.shape.classes();
        maps.compare(findings, &subject, &mut results, (&labels, &scores), classes, exact);
    }
    Ok(())
}
