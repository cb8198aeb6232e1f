//! Operators from a tensor to a tensor.

use seghead::{Activation, Axis, CrossEntropy, Error, Gpu, Interpolate, Logits, Resize, Sigmoid, Softmax, reference};
use seghead::{Argmax, Input, Labels};

use crate::found::Found;
use crate::inputs::{CLASSES, samples};

/// Probabilities differ by no more.
const CLOSE: f64 = 1e-5;

pub const CONVENTIONS: [Resize; 3] = [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric];

pub async fn check(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    for classes in CLASSES {
        for sample in samples(classes)? {
            let (shape, values, name) = (&sample.shape, &sample.values, sample.name());
            for axis in [Axis::Class, Axis::Height, Axis::Width] {
                let got = Softmax::new().axis(axis).run(gpu, shape, values).await?;
                found.close(
                    &format!("softmax {axis:?} {name}"),
                    &got,
                    &reference::softmax(shape, values, axis),
                    |_| CLOSE,
                );
                let got = Softmax::new().axis(axis).log(true).run(gpu, shape, values).await?;
                let expected = reference::log_softmax(shape, values, axis);
                found.close(&format!("log-softmax {axis:?} {name}"), &got, &expected, |i| {
                    CLOSE * (1.0 + expected[i].abs())
                });
            }
            let got = Sigmoid::new().run(gpu, shape, values).await?;
            found.close(&format!("sigmoid {name}"), &got, &reference::sigmoid(values), |_| CLOSE);
            for (convention, activation) in
                CONVENTIONS.into_iter().zip([Activation::None, Activation::Sigmoid, Activation::Softmax])
            {
                let [height, width] = [3 * shape.height() + 1, 2 * shape.width()];
                let operator = Interpolate::new(height, width).resize(convention).activation(activation);
                let got = operator.run(gpu, shape, values).await?;
                let upsampled = reference::upsample(shape, values, height, width, convention);
                let expected = match activation {
                    Activation::None => upsampled,
                    Activation::Sigmoid => reference::sigmoid(&upsampled),
                    Activation::Softmax => reference::softmax(&operator.output(shape)?, &upsampled, Axis::Class),
                };
                found.close(&format!("interpolate {convention:?} {activation:?} {name}"), &got, &expected, |_| CLOSE);
            }
        }
    }
    let halves = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555]; // 1, −2, 2⁻²⁴, 65504, −0, ⅓
    let values = [1.0, -2.0, 2f64.powi(-24), 65504.0, 0.0, 0.333_251_953_125];
    let shape = Logits::chw(2, 1, 3)?;
    let got = Softmax::new().run(gpu, &shape, Input::f16(&halves)).await?;
    found.close("softmax of halves", &got, &reference::softmax(&shape, &values, Axis::Class), |_| CLOSE);
    Ok(())
}

/// NaN and infinities, of which compilers may assume that there are none.
pub async fn check_special_values(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1.0];
    let all = special.iter().flat_map(|&a| special.iter().flat_map(move |&b| special.map(move |c| [a, b, c])));
    let pixels: Vec<_> = all.collect();
    let shape = Logits::chw(3, 8, pixels.len() as u32 / 8)?;
    let values: Vec<f32> = (0..3).flat_map(|class| pixels.iter().map(move |pixel| pixel[class])).collect();
    let (classes_last, interleaved) = (Logits::hwc(8, shape.width(), 3)?, pixels.concat());
    for (shape, values) in [(shape, values), (classes_last, interleaved)] {
        let got = Softmax::new().run(gpu, &shape, &values).await?;
        found.close("softmax", &got, &reference::softmax(&shape, &values, Axis::Class), |_| CLOSE);
        let got = Sigmoid::new().run(gpu, &shape, &values).await?;
        found.close("sigmoid", &got, &reference::sigmoid(&values), |_| CLOSE);
        let segmentation = Argmax::new().confidence(true).run(gpu, &shape, &values).await?;
        let labels: Vec<u32> = segmentation.labels.iter().collect();
        found.equal("argmax", &labels, &reference::argmax(&shape, &values), |_| false);
        let confidence = segmentation.confidence.unwrap_or_default();
        found.close("confidence", &confidence, &reference::scores(&shape, &values).confidence, |_| CLOSE);
        let targets: Vec<i64> = (0..i64::from(shape.pixels())).map(|i| i % 3).collect();
        let loss = CrossEntropy::new().per_pixel(true).run(gpu, &shape, &values, &targets).await?;
        let expected = reference::cross_entropy(&shape, &values, &targets, None, None, 0.0).per_pixel;
        let tolerance = |i: usize| CLOSE * (1.0 + expected[i].abs());
        // Beyond f32 a loss is infinite.
        let expected: Vec<f64> = expected.iter().map(|&loss| f64::from(loss as f32)).collect();
        found.close("cross-entropy", &loss.per_pixel.unwrap_or_default(), &expected, tolerance);
    }
    let ties = Argmax::new().run(gpu, &Logits::chw(3, 1, 1)?, &[1.0, 1.0, 1.0]).await?;
    found.equal("ties", &[ties.labels], &[Labels::U8(vec![0])], |_| false);
    Ok(())
}
