//! Cases of [`Interpolate`].

use seghead::{Activation, Axis, ElementType, Error, Interpolate, reference};

use super::bench::Bench;
use super::findings::{FLUSHED, Findings, Subject, U};
use super::resizing::{Scale, Task, tasks};
use super::{Case, Cases, Context};

const KERNELS: &[&str] = &["interpolate"];

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for element_type in [ElementType::F32, ElementType::F16] {
        for activation in [Activation::None, Activation::Sigmoid, Activation::Softmax] {
            cases.push(Case::new(KERNELS, format!("{element_type:?}, {activation:?}"), move |context, findings| {
                let mut all = tasks(Scale::Two, element_type)?;
                all.extend(tasks(Scale::Down, element_type)?);
                check(context, findings, all, activation)
            }));
        }
    }
    cases
}

fn check(context: &Context, findings: &mut Findings, tasks: Vec<Task>, activation: Activation) -> Result<(), Error> {
    let gpu = &context.gpu;
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for task in tasks {
        let shape = &task.sample.shape;
        let operator = Interpolate::new(task.size.0, task.size.1).resize(task.resize).activation(activation);
        let (input, output) = (bench.input(&task.sample.bytes()), bench.output(operator.output(shape)?.bytes()));
        let (from, to) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
        let dispatch = operator.dispatch(gpu, shape, from, to)?;
        bench.record(&dispatch, &[&output])?;
        works.push((task, dispatch));
    }
    let mut results = bench.run()?;
    for (task, dispatch) in &works {
        let got: Vec<f32> = bytemuck::pod_collect_to_vec(&results.bytes());
        let subject = Subject::new(dispatch, KERNELS, &task.sample.name);
        let (upsampled, errors) = task.upsampled();
        match activation {
            Activation::None => {
                let expected: Vec<f64> = upsampled.iter().map(|&x| f64::from(x as f32)).collect();
                findings.compare(&subject, "logit", &got, &expected, |i| errors[i] + FLUSHED);
            }
            Activation::Sigmoid => {
                let expected = reference::sigmoid(&upsampled);
                // As in sigmoid.rs; an error of the logit is a relative one of the probability.
                let of_exp = |i: usize| 11.0 + 4.0 * upsampled[i].abs().min(200.0);
                let tolerance = |i: usize| expected[i] * (of_exp(i) * U + errors[i].exp_m1()) + FLUSHED;
                findings.compare(&subject, "probability", &got, &expected, tolerance);
            }
            Activation::Softmax => {
                let expected = reference::softmax(&task.full()?, &upsampled, Axis::Class);
                let classes = f64::from(task.sample.shape.classes());
                // As in softmax.rs; the errors of two logits are a relative one of the probability.
                let plane = expected.len() / task.sample.shape.classes() as usize;
                let mut largest = vec![0f64; expected.len()];
                for pixel in 0..plane {
                    let (first, step) = task.first(pixel);
                    let of_pixel = || (0..task.sample.shape.classes() as usize).map(|class| first + class * step);
                    let error = of_pixel().map(|i| errors[i]).fold(0.0, f64::max);
                    of_pixel().for_each(|i| largest[i] = error);
                }
                let of_exp = |i: usize| 17.0 + 5.0 * (-expected[i].ln()).min(200.0) + classes;
                let tolerance = |i: usize| {
                    let relative = of_exp(i) * U + (2.0 * largest[i]).exp_m1();
                    (expected[i] * relative + FLUSHED).min(1.0)
                };
                findings.compare(&subject, "probability", &got, &expected, tolerance);
            }
        }
    }
    Ok(())
}
