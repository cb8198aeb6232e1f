//! Cases of [`Argmax`].

use seghead::{Argmax, LabelType, reference};

use super::bench::Bench;
use super::data::Reading;
use super::findings::Subject;
use super::scores::{Maps, Score};
use super::{Case, Cases};

const KERNELS: &[&str] = &["argmax"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for reading in Reading::all() {
        for label_type in [LabelType::U8, LabelType::U32] {
            for scores in Score::combinations() {
                cases.push(case(reading, label_type, scores));
            }
        }
    }
    cases
}

fn case(reading: Reading, label_type: LabelType, scores: Vec<Score>) -> Case {
    Case::new(KERNELS, format!("{reading}, {label_type:?}, {scores:?}"), move |context, findings| {
        let gpu = &context.gpu;
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for sample in reading.samples(false)? {
            let input = bench.input(&sample.bytes());
            let maps = Maps::new(&bench, sample.shape.map(), label_type, &scores);
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
            maps.compare(findings, &subject, &mut results, (&labels, &scores), reading.classes, exact);
        }
        Ok(())
    })
}
