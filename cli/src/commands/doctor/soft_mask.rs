//! Cases of [`SoftMask`].

use seghead::{Activation, ElementType, Error, SoftMask, reference};

use super::bench::Bench;
use super::findings::{Findings, Subject, U};
use super::resizing::{Scale, Task, tasks};
use super::{Case, Cases, Context};

const KERNELS: &[&str] = &["soft mask upscale", "soft mask resize"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for scale in [Scale::Three, Scale::Two, Scale::One, Scale::Down] {
        for element_type in [ElementType::F32, ElementType::F16] {
            for activation in [Activation::Softmax, Activation::Sigmoid] {
                let what = format!("{scale:?}, {element_type:?}, {activation:?}");
                cases.push(Case::new(KERNELS, what, move |context, findings| {
                    check(context, findings, tasks(scale, element_type)?, activation)
                }));
            }
        }
    }
    cases
}

fn check(context: &Context, findings: &mut Findings, tasks: Vec<Task>, activation: Activation) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for task in &tasks {
        let (shape, (height, width)) = (&task.sample.shape, task.size);
        let input = bench.input(&task.sample.bytes());
        let operators = [SoftMask::new(height, width, shape.classes() - 1), SoftMask::of_best(height, width)];
        for operator in operators.map(|one| one.activation(activation).resize(task.resize)) {
            let map = operator.map(shape)?;
            let mask = bench.output(map.bytes(8));
            let (from, to) = (input.as_entire_buffer_binding(), mask.as_entire_buffer_binding());
            let dispatch = operator.dispatch(gpu, shape, from, to)?;
            bench.record(&dispatch, &[&mask])?;
            works.push((task, operator, map, dispatch));
        }
    }
    let mut results = bench.run()?;
    for (task, operator, map, dispatch) in &works {
        let (shape, classes) = (&task.sample.shape, task.sample.shape.classes() as usize);
        let got: Vec<f32> = map.unpad(&results.bytes()).into_iter().map(f32::from).collect();
        let p = reference::soft_mask(operator, shape, &task.sample.data)?;
        let expected: Vec<f64> = p.iter().map(|p| if p.is_nan() { 0.0 } else { 255.0 * p }).collect();
        let (_, errors) = task.upsampled();
        // Half a level for the rounding, and as the confidence of segment.
        let tolerance = |i: usize| {
            let (first, step) = task.first(i);
            let of_logit = errors.iter().skip(first).step_by(step).take(classes).copied().fold(0.0, f64::max);
            0.5 + 255.0 * ((20.0 + 4.0 * classes as f64) * U + 2.0 * of_logit)
        };
        let subject = Subject::new(dispatch, KERNELS, &task.sample.name);
        findings.compare(&subject, "mask", &got, &expected, tolerance);
    }
    Ok(())
}
