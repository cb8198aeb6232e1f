//! The images that were predicted worst, in numbers and, where their files are at hand, in pictures.

use std::path::Path;

use seghead::{Absent, Blend, Gpu, Segment};

use super::pairs::Pair;
use super::tally::Tally;
use crate::args::{Common, Eval};
use crate::commands::label;
use crate::error::Error;
use crate::files::labels::read_labels;
use crate::files::overlay::{Classes, Look};
use crate::files::palette::Colours;
use crate::files::picture::{Picture, read_picture};
use crate::input::Input;

/// How many images are shown.
const IMAGES: usize = 8;

/// The longest side of a picture on the page, in pixels.
const LONGEST: usize = 640;

/// Where the class is right, where it is wrong, and where there is no target.
const RIGHT: [u8; 3] = [214, 224, 214];
const WRONG: [u8; 3] = [204, 51, 17];
const NO_TARGET: [u8; 3] = [32; 3];

/// An image and its scores.
pub struct Worst {
    pub name: String,
    pub mean_iou: f64,
    pub pixel_accuracy: f64,
    pub pictures: Option<Pictures>,
}

/// What was predicted, what was expected, and where they differ.
pub struct Pictures {
    pub predicted: Picture,
    pub expected: Picture,
    pub errors: Picture,
}

/// The images with the lowest mean IoU, the worst first. One without a score, as it has no pixels that count, is none.
pub fn find(tally: &Tally, absent: Absent) -> Result<Vec<Worst>, seghead::Error> {
    let mut all = Vec::new();
    for (name, counts) in &tally.images {
        let mut confusion = seghead::Confusion::new(tally.settings.classes);
        counts.add_to(&mut confusion)?;
        if confusion.counted() > 0 {
            let (mean_iou, pixel_accuracy) = (confusion.mean_iou(absent), confusion.pixel_accuracy());
            all.push(Worst { name: name.clone(), mean_iou, pixel_accuracy, pictures: None });
        }
    }
    all.sort_by(|a, b| a.mean_iou.total_cmp(&b.mean_iou));
    all.truncate(IMAGES);
    Ok(all)
}

/// Draws a pair, the first image of it, over a photo of the same name if there is one of the size of the labels.
pub fn draw(args: &Eval, common: &Common, gpu: &Gpu, colours: &Colours, pair: &Pair) -> Result<Pictures, Error> {
    let mut input = Input::open(&pair.logits.path, common)?;
    let labels = read_labels(&pair.labels.path)?;
    let [.., height, width] = *labels.shape else { return Err(Error::Usage(pair.name.clone())) };
    let segment = Segment::new(height as u32, width as u32).resize(args.resize.into());
    let logits = input.logits;
    let found = segment.run_blocking(gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    let ignored = |pixel: usize| Some(labels.values[pixel]) == args.ignore_index;
    let target = |pixel: usize| u32::try_from(labels.values[pixel]).ok().filter(|_| !ignored(pixel));
    let predicted = |pixel: usize| label(&found.labels, pixel);
    let photo = photo(pair, (height, width));
    // Without a photo there is nothing but colour.
    let (under, alpha) = match photo {
        Some(photo) => (photo, 128),
        None => (Picture { width, height, rgb: vec![32; 3 * width * height] }, 255),
    };
    let look = Look { colours, blend: Blend::Straight, alpha, outline: 0, hidden: &[], legend: false };
    let over = |class: &dyn Fn(usize) -> Option<u32>| smaller(&look.draw(&under, &Classes { class, uncertain: None }));
    let colour = |pixel| match target(pixel) {
        None => NO_TARGET,
        Some(class) if Some(class) == predicted(pixel) => RIGHT,
        Some(_) => WRONG,
    };
    let errors = Picture { width, height, rgb: (0..width * height).flat_map(colour).collect() };
    Ok(Pictures { predicted: over(&predicted), expected: over(&target), errors: smaller(&errors) })
}

/// The photo that was segmented, where it lies beside the logits or the labels.
fn photo(pair: &Pair, (height, width): (usize, usize)) -> Option<Picture> {
    let paths = [&pair.logits, &pair.labels].into_iter().flat_map(|file| {
        let folder = Path::new(&file.path).with_file_name("");
        ["png", "jpg", "jpeg"].map(|ending| folder.join(format!("{}.{ending}", pair.name)))
    });
    let paths = paths.filter_map(|path| path.to_str().map(str::to_owned)).filter(|path| *path != pair.labels.path);
    paths.filter_map(|path| read_picture(&path).ok()).find(|photo| (photo.height, photo.width) == (height, width))
}

/// A picture of at most [`LONGEST`] pixels a side, of every so many pixels one.
fn smaller(picture: &Picture) -> Picture {
    let step = picture.width.max(picture.height).div_ceil(LONGEST).max(1);
    let (width, height) = (picture.width.div_ceil(step), picture.height.div_ceil(step));
    let at = |x: usize, y: usize| 3 * (y * step * picture.width + x * step);
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rgb = pixels.flat_map(|(x, y)| picture.rgb[at(x, y)..][..3].to_vec()).collect();
    Picture { width, height, rgb }
}
