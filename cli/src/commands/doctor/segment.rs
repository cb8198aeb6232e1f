//! Cases of [`Segment`].

use seghead::{ElementType, Error, LabelType, Logits, Resize, Segment, reference};

use super::bench::Bench;
use super::data::{CLASSES, Random, SPECIAL_PIXELS, Sample, Special};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::scores::{Maps, Score};
use super::{Case, Cases, Context};

const UPSCALE: &[&str] = &["segment upscale"];
const RESIZE: &[&str] = &["segment resize"];

/// How much larger the result is, which decides the kernel and how many taps a block of pixels has.
#[derive(Clone, Copy, Debug)]
enum Scale {
    Three,
    Two,
    One,
    /// Smaller along an axis.
    Down,
}

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for scale in [Scale::Three, Scale::Two, Scale::One, Scale::Down] {
        let kernels = if matches!(scale, Scale::Down) { RESIZE } else { UPSCALE };
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

struct Task {
    sample: Sample,
    size: (u32, u32),
    resize: Resize,
    accuracy: Accuracy,
}

/// How well the interpolated logits are known.
#[derive(Clone, Copy, PartialEq)]
enum Accuracy {
    /// They are the logits.
    Exact,
    /// Positions are exact in f32.
    ExactPositions,
    Rounded,
}

fn tasks(scale: Scale, element_type: ElementType) -> Result<Vec<Task>, Error> {
    let mut random = Random::new(7);
    let few = CLASSES[0];
    let [image, crop, last, special, single] = [
        (Logits::nchw(2, few, 5, 7)?, "2 images of 5×7"),
        (Logits::chw(CLASSES[1], 9, 12)?.crop(2, 3, 5, 7)?, "5×7 of 9×12, 30 classes"),
        (Logits::nhwc(2, 5, 7, few)?, "2 images of 5×7, classes last"),
        (Logits::chw(few, 20, 38)?, "20×38 special values"),
        (Logits::nchw(SPECIAL_PIXELS, few, 1, 1)?, "images of a special pixel"),
    ];
    let mut sample = |(shape, name): (Logits, &str), size: (u32, u32), of_special: bool| {
        let mut special = Special::new(element_type, shape.classes());
        let shape = shape.with_element_type(element_type);
        let mut value =
            |pixel: usize, class: usize| if of_special { special.value(pixel, class) } else { random.logit() };
        Sample::new(format!("{name} to {}×{}", size.0, size.1), shape, &mut value)
    };
    let mut tasks = Vec::new();
    let mut add = |shape, size, resize, accuracy| {
        let sample = sample(shape, size, accuracy != Accuracy::Rounded);
        tasks.push(Task { sample, size, resize, accuracy });
    };
    use Accuracy::{Exact, ExactPositions, Rounded};
    use Resize::{AlignCorners, Asymmetric, HalfPixel};
    match scale {
        Scale::Three => {
            add(image, (17, 25), HalfPixel, Rounded);
            add(crop, (20, 28), AlignCorners, Rounded);
            add(last, (16, 23), Asymmetric, Rounded);
            add(special, (80, 152), HalfPixel, ExactPositions);
            add(single, (4, 4), HalfPixel, ExactPositions);
        }
        Scale::Two => {
            add(image, (9, 13), HalfPixel, Rounded);
            add(crop, (11, 17), AlignCorners, Rounded);
            add(last, (10, 14), Asymmetric, Rounded);
            add(special, (40, 76), HalfPixel, ExactPositions);
        }
        Scale::One => {
            add(image, (6, 9), HalfPixel, Rounded);
            add(crop, (5, 7), AlignCorners, Rounded);
            add(last, (6, 7), Asymmetric, Rounded);
            add(special, (20, 38), HalfPixel, Exact);
            add(single, (1, 1), HalfPixel, Exact);
        }
        Scale::Down => {
            add(image, (3, 5), HalfPixel, Rounded);
            add(crop, (11, 6), AlignCorners, Rounded);
            add(last, (4, 14), Asymmetric, Rounded);
            add(special, (10, 38), HalfPixel, ExactPositions);
            add(special, (40, 19), HalfPixel, ExactPositions);
        }
    }
    Ok(tasks)
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
        let Task { sample: Sample { shape, values, name }, size: (height, width), resize, accuracy } = task;
        let (height, width, classes) = (*height, *width, shape.classes());
        let (images, classes_last) = (shape.images(), shape.pixel_stride() > 1);
        let full = match classes_last {
            true => Logits::nhwc(images, height, width, classes)?,
            false => Logits::nchw(images, classes, height, width)?,
        };
        let upsampled = reference::upsample(shape, values, height, width, *resize);
        let labels = reference::argmax(&full, &upsampled);
        let scores = reference::scores(&full, &upsampled);

        // An interpolated logit is the sum of up to 25 products, each rounded, with weights rounded as well: that is an
        // error of 50 U Σ weight · |x| and 25 flushed products. Where positions are rounded, too, which are at most 4,
        // weights that should vanish do not, and the largest logit counts.
        let plane = full.pixels() as usize;
        let (count, step) = (classes as usize, if classes_last { 1 } else { plane });
        let first = |i: usize| if classes_last { i * count } else { i / plane * count * plane + i % plane };
        let sizes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
        let largest = sizes.iter().copied().filter(|x| x.is_finite()).fold(0.0, f32::max);
        let sizes = reference::upsample(shape, &sizes, height, width, *resize);
        let of_logit = |i: usize| {
            let sizes = sizes.iter().skip(first(i)).step_by(step).take(count);
            match accuracy {
                Accuracy::Exact => 0.0,
                Accuracy::ExactPositions => {
                    50.0 * U * sizes.copied().filter(|x| x.is_finite()).fold(0.0, f64::max) + 25.0 * FLUSHED
                }
                Accuracy::Rounded => 200.0 * U * f64::from(largest),
            }
        };
        let tolerated = |i: usize, label: u32| {
            let at = |class: u32| upsampled[first(i) + class as usize * step];
            label < classes && at(labels[i]).is_finite() && at(labels[i]) - at(label) <= 2.0 * of_logit(i)
        };
        let subject = Subject::new(dispatch, kernels, name);
        maps.compare(findings, &subject, &mut results, (&labels, &scores), classes, (of_logit, tolerated));
    }
    Ok(())
}
