//! Operators from a tensor to maps of pixels.

use seghead::{Argmax, Error, Gpu, Logits, MaskFormat, Masks, MultiLabel, Segment, Segmentation, TopK, reference};

use crate::found::Found;
use crate::inputs::{CLASSES, samples};
use crate::tensors::CONVENTIONS;

/// Scores differ by no more, in units of what they can be at most.
const CLOSE: f64 = 1e-5;

/// Labels are the same where the largest logit is farther from the next one.
const TIE: f64 = 1e-4;

pub async fn check(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    for classes in CLASSES {
        for sample in samples(classes)? {
            let (shape, values, name) = (&sample.shape, &sample.values, sample.name());
            let got = Argmax::new().confidence(true).margin(true).entropy(true).run(gpu, shape, values).await?;
            let expected = (reference::argmax(shape, values), reference::scores(shape, values));
            compare(found, &format!("argmax {name}"), &got, &expected, &nearest(shape, values));
            let sizes = [[shape.height() * 4, shape.width() * 4], [5, 3], [shape.height() * 2 + 1, shape.width() * 3]];
            for (convention, [height, width]) in CONVENTIONS.into_iter().zip(sizes) {
                let operator = Segment::new(height, width).resize(convention);
                let got = operator.confidence(true).margin(true).entropy(true).run(gpu, shape, values).await?;
                let expected = reference::segment(shape, values, height, width, convention)?;
                let upsampled = reference::upsample(shape, values, height, width, convention);
                let full = match shape.plane_stride() {
                    1 => Logits::nhwc(shape.images(), height, width, classes),
                    _ => Logits::nchw(shape.images(), classes, height, width),
                }?;
                let what = format!("segment {height} × {width} {convention:?} {name}");
                compare(found, &what, &got, &expected, &nearest(&full, &upsampled));
            }
            let k = classes.min(3);
            let got = TopK::new(k).probabilities(true).run(gpu, shape, values).await?;
            let (labels, probabilities) = reference::top_k(shape, values, k);
            let found_labels: Vec<u32> = got.labels.iter().collect();
            found.equal(&format!("top-{k} {name}"), &found_labels, &labels, |_| false);
            let what = format!("top-{k} probabilities {name}");
            found.close(&what, &got.probabilities.unwrap_or_default(), &probabilities, |_| CLOSE);
            for format in [MaskFormat::Bytes, MaskFormat::Bits] {
                let masks = MultiLabel::new().threshold(0.3).format(format).run(gpu, shape, values).await?;
                let present = reference::multi_label(shape, values, &vec![0.3; classes as usize]);
                found.equal(&format!("multi-label {format:?} {name}"), &unpacked(&masks, shape), &present, |_| false);
            }
        }
    }
    Ok(())
}

fn compare(
    found: &mut Found,
    what: &str,
    got: &Segmentation,
    (labels, scores): &(Vec<u32>, reference::Scores),
    nearest: &[f64],
) {
    let found_labels: Vec<u32> = got.labels.iter().collect();
    found.equal(what, &found_labels, labels, |i| nearest[i] <= TIE);
    let maps = [
        ("confidence", &got.confidence, &scores.confidence, 1.0),
        ("margin", &got.margin, &scores.margin, 1.0),
        ("entropy", &got.entropy, &scores.entropy, 5.0),
    ];
    for (score, got, expected, most) in maps {
        found.close(&format!("{what}: {score}"), got.as_deref().unwrap_or_default(), expected, |_| CLOSE * most);
    }
}

/// How far the largest logit of every pixel is from the second.
fn nearest<T: Copy + Into<f64>>(shape: &Logits, values: &[T]) -> Vec<f64> {
    let pixel = |i: u32| {
        let (image, pixel) = (i / shape.pixels(), i % shape.pixels());
        let first = image * shape.image_stride() + pixel * shape.pixel_stride();
        let of_class = |class| values[(first + class * shape.plane_stride()) as usize].into();
        let mut logits: Vec<f64> = (0..shape.classes()).map(of_class).collect();
        logits.sort_by(|a, b| b.total_cmp(a));
        logits[0] - logits.get(1).copied().unwrap_or(f64::NEG_INFINITY)
    };
    (0..shape.images() * shape.pixels()).map(pixel).collect()
}

/// N × C × H × W.
fn unpacked(masks: &Masks, shape: &Logits) -> Vec<bool> {
    let (classes, pixels) = (shape.classes() as usize, shape.pixels() as usize);
    match masks {
        Masks::Bytes(bytes) => bytes.iter().map(|&byte| byte != 0).collect(),
        Masks::Bits(words) => {
            let planes = classes.div_ceil(32);
            let bit = |image: usize, class: usize, pixel: usize| {
                words[(image * planes + class / 32) * pixels + pixel] >> (class % 32) & 1 != 0
            };
            let images = 0..shape.images() as usize;
            let of_image =
                |image| (0..classes).flat_map(move |class| (0..pixels).map(move |pixel| (image, class, pixel)));
            images.flat_map(of_image).map(|(image, class, pixel)| bit(image, class, pixel)).collect()
        }
        _ => Vec::new(),
    }
}
