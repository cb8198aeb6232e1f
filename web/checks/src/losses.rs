//! Losses and their gradients.

use seghead::{
    BinaryCrossEntropy, CrossEntropy, Error, FocalLoss, Gpu, Logits, Loss, LossSum, Reduction, RegionLoss, Resize,
    reference,
};

use crate::found::Found;
use crate::inputs::{CLASSES, Random, samples};

/// Losses and gradients differ by no more, relative to what they are.
const CLOSE: f64 = 2e-5;

const IGNORED: i64 = 255;

pub async fn check(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    for classes in CLASSES {
        let mut random = Random::new(classes.into());
        for sample in samples(classes)? {
            let (shape, values, name) = (&sample.shape, &sample.values, sample.name());
            let pixels = shape.images() * shape.pixels();
            let target = |random: &mut Random| match random.below(8) {
                0 => IGNORED,
                _ => random.below(classes).into(),
            };
            let targets: Vec<i64> = (0..pixels).map(|_| target(&mut random)).collect();
            let soft: Vec<f32> = (0..shape.len()).map(|_| random.unit()).collect();
            let weights: Vec<f32> = (0..classes).map(|_| 0.5 + random.unit()).collect();

            let operator = CrossEntropy::new().ignore_index(Some(IGNORED)).class_weights(Some(weights.clone()));
            let operator = operator.label_smoothing(0.1).per_pixel(true).gradient(true);
            let got = operator.run(gpu, shape, values, &targets).await?;
            let options = (Some(IGNORED), Some(weights.as_slice()), 0.1);
            let losses = reference::cross_entropy(shape, values, &targets, options.0, options.1, options.2);
            let gradient = reference::cross_entropy_gradient(
                shape,
                values,
                &targets,
                options.0,
                options.1,
                options.2,
                Reduction::Mean,
            );
            compare(found, &format!("cross-entropy {name}"), &got, losses.mean(), &gradient);
            let per_pixel = got.per_pixel.unwrap_or_default();
            let what = format!("cross-entropy of pixels {name}");
            found.close(&what, &per_pixel, &losses.per_pixel, |i| CLOSE * (1.0 + losses.per_pixel[i]));

            let got = CrossEntropy::new().gradient(true).run_soft(gpu, shape, values, &soft).await?;
            let losses = reference::cross_entropy_soft(shape, values, &soft, None, 0.0);
            let gradient = reference::cross_entropy_soft_gradient(shape, values, &soft, None, 0.0, Reduction::Mean);
            compare(found, &format!("soft cross-entropy {name}"), &got, losses.mean(), &gradient);

            let operator = BinaryCrossEntropy::new().pos_weight(Some(weights.clone())).gradient(true);
            let got = operator.run(gpu, shape, values, &soft).await?;
            let losses = reference::binary_cross_entropy(shape, values, &soft, None, Some(&weights));
            let gradient =
                reference::binary_cross_entropy_gradient(shape, values, &soft, None, Some(&weights), Reduction::Mean);
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            compare(found, &format!("binary cross-entropy {name}"), &got, mean, &gradient);

            let operator = FocalLoss::new().gamma(2.0).ignore_index(Some(IGNORED)).gradient(true);
            let got = operator.run(gpu, shape, values, &targets).await?;
            let losses = reference::focal_loss(shape, values, &targets, Some(IGNORED), 2.0, 1.0);
            compare_focal(found, &format!("focal {name}"), &got, &losses);
            let got = FocalLoss::new().gamma(2.0).alpha(Some(0.25)).gradient(true);
            let got = got.run_binary(gpu, shape, values, &soft).await?;
            let losses = reference::binary_focal_loss(shape, values, &soft, 2.0, Some(0.25));
            compare_focal(found, &format!("binary focal {name}"), &got, &losses);

            upsampled(gpu, found, (shape, values), &name).await?;

            // With one class labels are 0 and 1.
            let labels: Vec<i64> =
                targets.iter().map(|&label| if classes == 1 { label.min(1) } else { label }).collect();
            let ignored: Vec<bool> = targets.iter().map(|&target| target == IGNORED).collect();
            let labels: Vec<i64> = labels.iter().zip(&ignored).map(|(&l, &i)| if i { IGNORED } else { l }).collect();
            let truth = reference::one_hot(shape, &labels);

            let kept: Vec<i64> = labels.iter().map(|&label| if label == IGNORED { 0 } else { label }).collect();
            let ones = reference::one_hot(shape, &kept);
            let operator = BinaryCrossEntropy::new().class_weights(Some(weights.clone())).gradient(true);
            let got = operator.run_labels(gpu, shape, values, &kept).await?;
            let w = Some(weights.as_slice());
            let losses = reference::binary_cross_entropy(shape, values, &ones, w, None);
            let of_binary = reference::binary_cross_entropy_gradient(shape, values, &ones, w, None, Reduction::Mean);
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            compare(found, &format!("binary cross-entropy of labels {name}"), &got, mean, &of_binary);

            let dice = RegionLoss::dice();
            let sum = LossSum::new(0.5, operator).add(2.0, dice.clone()).gradient(true);
            let got = sum.run(gpu, shape, values, &kept).await?;
            let of_dice = reference::region_loss(&dice, shape, values, &ones, None);
            let gradient: Vec<f64> = of_binary.iter().zip(&of_dice.gradient).map(|(a, b)| 0.5 * a + 2.0 * b).collect();
            compare(found, &format!("sum of losses {name}"), &got, 0.5 * mean + 2.0 * of_dice.value, &gradient);
            for (kind, operator) in [
                ("Dice", RegionLoss::dice()),
                ("Jaccard", RegionLoss::jaccard()),
                ("Tversky", RegionLoss::tversky(0.3, 0.7)),
            ] {
                let operator = operator.ignore_index(Some(IGNORED)).gradient(true);
                let got = operator.run(gpu, shape, values, &labels).await?;
                let losses = reference::region_loss(&operator, shape, values, &truth, Some(&ignored));
                compare(found, &format!("{kind} {name}"), &got, losses.value, &losses.gradient);
            }
        }
    }
    Ok(())
}

/// The loss at another resolution, with its gradient and its counts.
async fn upsampled(gpu: &Gpu, found: &mut Found, (shape, values): (&Logits, &[f32]), name: &str) -> Result<(), Error> {
    for (height, width) in [(4 * shape.height(), 4 * shape.width()), (shape.height(), shape.width().div_ceil(2))] {
        let full = match shape.plane_stride() {
            1 => Logits::nhwc(shape.images(), height, width, shape.classes())?,
            _ => Logits::nchw(shape.images(), shape.classes(), height, width)?,
        };
        let mut random = Random::new(height.into());
        let target = |_| if random.below(8) == 0 { IGNORED } else { random.below(shape.classes()).into() };
        let targets: Vec<i64> = (0..full.images() * full.pixels()).map(target).collect();
        let loss = CrossEntropy::new().ignore_index(Some(IGNORED)).gradient(true);
        let got = loss.upsampled(height, width).confusion(true).run(gpu, shape, values, &targets).await?;
        let logits = reference::upsample(shape, values, height, width, Resize::HalfPixel);
        let losses = reference::cross_entropy(&full, &logits, &targets, Some(IGNORED), None, 0.0);
        let ignored = Some(IGNORED);
        let gradient = reference::cross_entropy_gradient(&full, &logits, &targets, ignored, None, 0.0, Reduction::Mean);
        let gradient = reference::upsample_gradient(shape, &gradient, height, width, Resize::HalfPixel);
        let what = format!("cross-entropy at {height} × {width} {name}");
        compare(found, &what, &got, losses.mean(), &gradient);
        let counted = got.confusion.map_or(0, |confusion| confusion.counted());
        let expected = targets.iter().filter(|&&target| target != IGNORED).count() as u64;
        found.equal(&format!("pixels of {what}"), &[counted], &[expected], |_| false);
    }
    Ok(())
}

fn compare_focal(found: &mut Found, what: &str, got: &Loss, expected: &reference::FocalLosses) {
    let mean = expected.losses.iter().sum::<f64>() / expected.weight;
    let gradient: Vec<f64> = expected.gradient.iter().map(|x| x / expected.weight).collect();
    compare(found, what, got, mean, &gradient);
}

fn compare(found: &mut Found, what: &str, got: &Loss, value: f64, gradient: &[f64]) {
    found.close(what, &[got.value], &[value], |_| CLOSE * (1.0 + value.abs()));
    let largest = gradient.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let what = format!("gradient of {what}");
    // With one class there is none.
    let tolerance = CLOSE * largest.max(1e-3);
    found.close(&what, got.gradient.as_deref().unwrap_or_default(), gradient, |_| tolerance);
}
