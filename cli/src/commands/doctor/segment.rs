//! Cases of [`Segment`].

use seghead::{ElementType, Error, LabelType, Segment, reference};

use super::bench::Bench;
use super::findings::{Findings, Subject};
use super::resizing::{Scale, Task, tasks};
use super::scores::{Maps, Score};
use super::{Case, Cases, Context};

const UPSCALE: &[&str] = &["segment upscale", "segment upscale wide"];
const BY_FOUR: &[&str] = &["segment upscale", "segment upscale wide", "segment upscale by four"];
const RESIZE: &[&str] = &["segment resize"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for scale in [Scale::Four, Scale::Three, Scale::Two, Scale::One, Scale::Down] {
        let kernels = match scale {
            Scale::Four => BY_FOUR,
            Scale::Three | Scale::Two | Scale::One => UPSCALE,
            Scale::Down => RESIZE,
        };
        for element_type in [ElementType::F32, ElementType::F16] {
            for label_type in [LabelType::U8, LabelType::U32] {
                for scores in Score::combinations() {
                    let what = format!("{scale:?}, {element_type:?}, {label_type:?}, {scores:?}");
                    cases.push(Case::new(kernels, what, move |context, findings| {
                        let tasks = tasks(scale, element_type)?;
                        check(context, findings, kernels, tasks, (label_type, &scores))
                    }));
                }
            }
        }
    }
    cases
}

fn check(
    context: &Context,
    findings: &mut Findings,
    kernels: &[&str],
    tasks: Vec<Task>,
    (label_type, scores): (LabelType, &[Score]),
) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for task in tasks {
        let shape = &task.sample.shape;
        let segment = Segment::new(task.size.0, task.size.1).resize(task.resize).label_type(label_type);
        let input = bench.input(&task.sample.bytes());
        let maps = Maps::new(&bench, segment.map(shape)?, label_type, scores);
        let dispatch = segment.dispatch(gpu, shape, input.as_entire_buffer_binding(), maps.outputs())?;
        maps.record(&mut bench, &dispatch)?;
        works.push((task, maps, dispatch));
    }
    let mut results = bench.run()?;
    for (task, maps, dispatch) in &works {
        let (full, classes) = (task.full()?, task.sample.shape.classes());
        let (upsampled, errors) = task.upsampled();
        let labels = reference::argmax(&full, &upsampled);
        let scores = reference::scores(&full, &upsampled);
        let of_logit = |i: usize| {
            let (first, step) = task.first(i);
            errors.iter().skip(first).step_by(step).take(classes as usize).copied().fold(0.0, f64::max)
        };
        let tolerated = |i: usize, label: u32| {
            let (first, step) = task.first(i);
            let at = |class: u32| upsampled[first + class as usize * step];
            label < classes && at(labels[i]).is_finite() && at(labels[i]) - at(label) <= 2.0 * of_logit(i)
        };
        let subject = Subject::new(dispatch, kernels, &task.sample.name);
        maps.compare(findings, &subject, &mut results, (&labels, &scores), classes, (of_logit, tolerated));
    }
    Ok(())
}
