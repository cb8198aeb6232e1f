//! Cases of [`Overlay`].

use seghead::wgpu::{TextureFormat, TextureUsages};
use seghead::{Activation, Blend, ElementType, Error, Overlay, Palette, reference};

use super::bench::Bench;
use super::data::Random;
use super::findings::{Findings, Subject, U};
use super::resizing::{Scale, Task, tasks};
use super::{Case, Cases, Context};

const ONE_STEP: &[&str] = &["overlay upscale", "overlay resize"];
const TWO_STEPS: &[&str] = &["overlay classes upscale", "overlay classes resize", "overlay paint"];

/// What is done beside choosing colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Outlined(TextureFormat, Blend),
}

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for scale in [Scale::Three, Scale::Two, Scale::One, Scale::Down] {
        for element_type in [ElementType::F32, ElementType::F16] {
            for activation in [Activation::Softmax, Activation::Sigmoid] {
                let rgba = TextureFormat::Rgba8Unorm;
                for style in [Style::Plain, Style::Outlined(rgba, Blend::Straight)] {
                    cases.push(case(scale, element_type, activation, style));
                }
            }
        }
    }
    for format in [TextureFormat::Bgra8Unorm, TextureFormat::Rgba8UnormSrgb] {
        for blend in [Blend::Straight, Blend::Linear] {
            cases.push(case(Scale::Three, ElementType::F32, Activation::Softmax, Style::Outlined(format, blend)));
        }
    }
    cases
}

fn case(scale: Scale, element_type: ElementType, activation: Activation, style: Style) -> Case {
    let kernels = if style == Style::Plain { ONE_STEP } else { TWO_STEPS };
    let what = format!("{scale:?}, {element_type:?}, {activation:?}, {style:?}");
    Case::new(kernels, what, move |context, findings| {
        check(context, findings, kernels, tasks(scale, element_type)?, (activation, style))
    })
}

fn check(
    context: &Context,
    findings: &mut Findings,
    kernels: &[&str],
    mut tasks: Vec<Task>,
    (activation, style): (Activation, Style),
) -> Result<(), Error> {
    const THRESHOLD: f32 = 0.7;
    tasks.retain(|task| task.sample.shape.images() == 1);
    let gpu = &context.gpu;
    let mut random = Random::new(8);
    let mut colour = || -> [u8; 4] { std::array::from_fn(|_| (random.logit().abs() * 50.0) as u8) };
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for task in tasks {
        let (shape, (height, width)) = (&task.sample.shape, task.size);
        let palette = Palette::new((0..shape.classes()).map(|_| colour()).map(|[r, g, b, _]| [r, g, b]).collect());
        let pixels: Vec<[u8; 4]> = (0..height * width).map(|_| colour()).collect();
        let plain = Overlay::new(palette).resize(task.resize).threshold(THRESHOLD).activation(activation).hidden([1]);
        let (operator, format) = match style {
            Style::Plain => (plain, TextureFormat::Rgba8Unorm),
            Style::Outlined(format, blend) => (plain.outline(2).blend(blend), format),
        };
        let photo = bench.texture([width, height], format, TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST);
        bench.write_texture(&photo, &pixels);
        let usage = TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC;
        let overlay = bench.texture([width, height], TextureFormat::Rgba8Unorm, usage);
        let input = bench.input(&task.sample.bytes());
        let dispatch = operator.dispatch(gpu, shape, input.as_entire_buffer_binding(), Some(&photo), &overlay)?;
        bench.record_texture(&dispatch, &overlay)?;
        works.push((task, operator, pixels, dispatch));
    }
    let mut results = bench.run()?;
    for (task, operator, photo, dispatch) in &works {
        let (shape, (height, width)) = (&task.sample.shape, task.size);
        let got = results.texture(width, height);
        let expected = reference::overlay(operator, shape, &task.sample.data, Some(photo), height, width)?;
        let unclear = unclear(task, activation, f64::from(THRESHOLD))?;
        let reach = if style == Style::Plain { 0 } else { 2 };
        let (height, width) = (height as usize, width as usize);
        let near = |at: usize, size: usize| at.saturating_sub(reach)..(at + reach + 1).min(size);
        let tolerated = |i: usize| {
            let (row, column) = (i / width, i % width);
            near(row, height).any(|y| near(column, width).any(|x| unclear[y * width + x]))
        };
        let subject = Subject::new(dispatch, kernels, &task.sample.name);
        let linear = matches!(style, Style::Outlined(_, Blend::Linear));
        for (channel, what) in ["red", "green", "blue", "alpha"].into_iter().enumerate() {
            let level = |pixel: &[u8; 4]| u32::from(pixel[channel]);
            let (got, expected): (Vec<_>, Vec<_>) =
                (got.iter().map(level).collect(), expected.iter().map(level).collect());
            // Mixed in linear light, a level may be rounded the other way.
            let close = |i: usize| linear && got[i].abs_diff(expected[i]) <= 1;
            findings.compare_exactly(&subject, what, &got, &expected, |i| close(i) || tolerated(i));
        }
    }
    Ok(())
}

/// Where the error of f32 may choose another class, or take a pixel over the threshold.
fn unclear(task: &Task, activation: Activation, threshold: f64) -> Result<Vec<bool>, Error> {
    let (upsampled, errors) = task.upsampled();
    let (full, classes) = (task.full()?, task.sample.shape.classes() as usize);
    let labels = reference::argmax(&full, &upsampled);
    let confidence = reference::scores(&full, &upsampled).confidence;
    let of_pixel = |i: usize| {
        let (first, step) = task.first(i);
        let places = (0..classes).map(|class| first + class * step);
        let error = places.clone().map(|at| errors[at]).fold(0.0, f64::max);
        let best = upsampled[first + labels[i] as usize * step];
        let tie =
            places.filter(|&at| best.is_finite() && best - upsampled[at] <= 2.0 * error).count() > 1 && error > 0.0;
        let score = match activation {
            Activation::Sigmoid => 1.0 / (1.0 + (-best).exp()),
            _ => confidence[i],
        };
        // As the confidence of segment: the error of the sum, and of the logits.
        let of_score = (20.0 + 4.0 * classes as f64) * U + 2.0 * error;
        tie || (score - threshold).abs() <= of_score
    };
    Ok((0..labels.len()).map(of_pixel).collect())
}
