//! `seghead segment`: labels and confidence at full resolution.

use serde_json::json;

use super::{add_labels, add_scores, number, open_gpu, planned, print, tell_written};
use crate::args::{Activation, Common, Rectangle, Resize, Segment, check_alpha};
use crate::error::Error;
use crate::files::output::{Content, Outputs};
use crate::files::palette::voc;
use crate::files::picture::{Picture, read_picture, write_picture};
use crate::files::tensor::write_tensor;
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;
use crate::summary::summarise;

pub fn run(args: &Segment, common: &Common) -> Result<(), Error> {
    check_alpha(args.alpha)?;
    let inputs: Vec<_> = [Some(&args.logits), args.image.as_ref()].into_iter().flatten().map(String::as_str).collect();
    let mut outputs = planned(&args.scores);
    outputs.extend(args.labels.as_deref().map(|path| (path, Content::Map)));
    outputs.extend(args.overlay.as_deref().map(|path| (path, Content::Picture)));
    outputs.extend(args.all_scores.as_deref().map(|path| (path, Content::Array)));
    Outputs::check(&inputs, &outputs)?;
    let progress = Progress::start("segmenting", common);
    let mut input = Input::open(&args.logits, common)?;
    let photo = args.image.as_deref().map(read_picture).transpose()?;
    let logits = match args.crop {
        Some(Rectangle { width, height, left, top }) => {
            let crop = input.logits.crop(top, left, height, width);
            crop.map_err(|source| Error::Content { path: args.logits.clone(), source })?
        }
        None => input.logits,
    };
    let (width, height) = match (&photo, args.size) {
        (Some(photo), _) => (photo.width as u32, photo.height as u32),
        (None, Some(size)) => size,
        (None, None) => (logits.width(), logits.height()),
    };
    if args.overlay.is_some() && input.logits.images() != 1 {
        let message = format!("{}: expected one image for --overlay, found {}", args.logits, input.logits.images());
        return Err(Error::Usage(message));
    }
    let resize = match args.resize {
        Resize::HalfPixel => seghead::Resize::HalfPixel,
        Resize::AlignCorners => seghead::Resize::AlignCorners,
        Resize::Asymmetric => seghead::Resize::Asymmetric,
    };
    let segment = seghead::Segment::new(height, width)
        .resize(resize)
        .confidence(true)
        .margin(args.scores.margin.is_some())
        .entropy(args.scores.entropy.is_some());
    let gpu = open_gpu(common)?;
    let found = segment.run_blocking(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    let all_scores = match &args.all_scores {
        Some(_) => {
            let scores =
                seghead::Interpolate::new(height, width).resize(resize).activation(activation(args.activation));
            let scores = scores.run_blocking(&gpu, &logits, input.reader());
            Some(scores.map_err(|error| input.error(error))?)
        }
        None => None,
    };
    let warnings = lint::warn(&gpu, &mut input, Check::Everything, common);

    let shape = input.map_shape(height, width);
    let mut outputs = Outputs::new();
    let mut written = Vec::new();
    if let Some(path) = &args.labels {
        add_labels(&mut outputs, path, &shape, &found.labels)?;
        written.push(path.as_str());
    }
    written.extend(add_scores(&mut outputs, &args.scores, &shape, &found, logits.classes())?);
    if let (Some(path), Some(photo)) = (&args.overlay, &photo) {
        write_picture(&mut outputs, path, &overlay(photo, found.labels.iter(), args.alpha))?;
        written.push(path);
    }
    if let (Some(path), Some(scores)) = (&args.all_scores, &all_scores) {
        write_tensor(&mut outputs, path, &input.tensor_shape(height, width), scores)?;
        written.push(path);
    }
    outputs.commit()?;
    drop(progress);
    if !written.is_empty() {
        tell_written(common, &written);
    }

    let summary = summarise(logits.classes(), &found);
    let mut text = String::from("class     pixels   share  confidence\n");
    for class in summary.iter().filter(|class| class.pixels > 0) {
        let (share, confidence) = (100.0 * class.share, class.confidence);
        text += &format!("{:5} {:10} {share:6.2}%  {confidence:10.4}\n", class.class, class.pixels);
    }
    let classes: Vec<_> = summary
        .iter()
        .map(|class| {
            let confidence = number(class.confidence);
            json!({ "class": class.class, "pixels": class.pixels, "share": class.share, "confidence": confidence })
        })
        .collect();
    print(
        common,
        &json!({ "shape": shape, "classes": classes, "warnings": warnings, "adapter": gpu.adapter_info().name }),
        &text,
    )
}

fn activation(activation: Activation) -> seghead::Activation {
    match activation {
        Activation::Softmax => seghead::Activation::Softmax,
        Activation::Sigmoid => seghead::Activation::Sigmoid,
        Activation::None => seghead::Activation::None,
    }
}

/// The photo with the colour of each pixel's class over it: `alpha` of the colour, the rest of the photo, in sRGB
/// values.
pub fn overlay(photo: &Picture, labels: impl Iterator<Item = u32>, alpha: f32) -> Picture {
    let blend =
        |(photo, colour): (u8, u8)| (f32::from(photo) * (1.0 - alpha) + f32::from(colour) * alpha).round() as u8;
    let pixels = photo.rgb.chunks_exact(3).zip(labels);
    let rgb = pixels.flat_map(|(pixel, label)| {
        let colour = voc(label);
        [(pixel[0], colour[0]), (pixel[1], colour[1]), (pixel[2], colour[2])].map(blend)
    });
    Picture { width: photo.width, height: photo.height, rgb: rgb.collect() }
}
