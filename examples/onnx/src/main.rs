//! From a photo to an overlay: tract runs the network on the CPU, `seghead` makes the labels of its logits on the GPU.
//!
//! ```sh
//! cargo run --release -p seghead-onnx -- photo.jpg -o overlay.png
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use image::{ImageReader, RgbImage, imageops};
use seghead::{Blend, Gpu, GpuOptions, Logits, Segment};
use tract_onnx::prelude::*;

#[cfg(test)]
mod tests;

const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/sample/photo.png");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/sample/model.onnx");

/// What the network was trained with: ImageNet's mean and standard deviation of red, green and blue in 0..=1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The colours of the classes but the first, the background: cat, person, cup.
const COLOURS: [[u8; 3]; 3] = [[246, 190, 40], [60, 150, 255], [235, 70, 140]];

/// Segments a photo with an ONNX network and paints the classes over it.
#[derive(Parser)]
struct Args {
    /// Photo, PNG or JPEG [default: the sample's]
    #[arg(default_value = PHOTO, hide_default_value = true)]
    photo: PathBuf,
    /// Overlay to write, PNG
    #[arg(short, long, default_value = "overlay.png")]
    output: PathBuf,
    /// Network from an image 1 × 3 × H × W to logits 1 × C × h × w [default: the sample's]
    #[arg(short, long, default_value = MODEL, hide_default_value = true)]
    model: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The chain of causes in one line; some of tract's have several.
fn message(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run(args: &Args) -> Result<()> {
    let mut photo = read(&args.photo).with_context(|| args.photo.display().to_string())?;
    let (logits, data) = infer(&args.model, &photo).with_context(|| args.model.display().to_string())?;
    let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    // Labels at the photo's size; upsampled logits never exist.
    let found = Segment::new(photo.height(), photo.width()).run_blocking(&gpu, &logits, &data)?;
    for (pixel, label) in photo.pixels_mut().zip(found.labels.iter()) {
        if let Some(class) = label.checked_sub(1) {
            let colour = COLOURS[class as usize % COLOURS.len()];
            pixel.0 = Blend::Straight.mix(pixel.0, colour, 128);
        }
    }
    photo.save_with_format(&args.output, image::ImageFormat::Png).with_context(|| args.output.display().to_string())?;
    println!("{}", args.output.display());
    Ok(())
}

fn read(path: &Path) -> Result<RgbImage> {
    Ok(ImageReader::open(path)?.with_guessed_format()?.decode()?.into_rgb8())
}

/// The network's logits of `photo`.
fn infer(model: &Path, photo: &RgbImage) -> Result<(Logits, Vec<f32>)> {
    let network = tract_onnx::onnx().model_for_path(model)?.into_optimized()?;
    let input = network.input_fact(0)?.clone();
    let Some(&[1, 3, height, width]) = input.shape.as_concrete() else {
        bail!("expected an input of 1 × 3 × H × W, found {input:?}");
    };
    let outputs = network.into_runnable()?.run(tvec!(preprocess(photo, height, width)?.into()))?;
    let output = outputs.first().context("no output")?;
    let &[1, classes, height, width] = output.shape() else {
        bail!("expected an output of 1 × C × h × w, found {output:?}");
    };
    let logits = Logits::chw(classes as u32, height as u32, width as u32)?;
    Ok((logits, output.to_plain_array_view::<f32>()?.iter().copied().collect()))
}

/// The photo as the network wants it, 1 × 3 × height × width.
fn preprocess(photo: &RgbImage, height: usize, width: usize) -> Result<Tensor> {
    let photo = imageops::resize(photo, width as u32, height as u32, imageops::FilterType::Triangle);
    let plane = |c: usize| photo.pixels().map(move |pixel| (f32::from(pixel.0[c]) / 255.0 - MEAN[c]) / DEVIATION[c]);
    Tensor::from_shape(&[1, 3, height, width], &(0..3).flat_map(plane).collect::<Vec<f32>>())
}
