//! A confusion matrix as an array, and as a picture.

use super::{
    Error, npy,
    output::{Format, Outputs},
    picture::{Picture, write_picture},
    scores::viridis,
};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use seghead::{Blend, Confusion};

const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [32; 3];
/// Of a class without pixels.
const NOTHING: [u8; 3] = [226, 224, 220];

const FONT: RasterHeight = RasterHeight::Size16;

/// The longest name that is written out.
const LONGEST: usize = 18;

/// Writes the counts: to a `.npy` as uint64, C × C, a row for each target; to a `.png` as a picture of the share that
/// each prediction has of the pixels of a target, in the colours of viridis from 0 to all, and a number in percent where
/// there is room for it.
///
/// # Errors
///
/// [`Error::Ending`] for another ending, and those of [`Outputs::write`].
pub fn write_confusion(
    outputs: &mut Outputs,
    path: &str,
    confusion: &Confusion,
    name: impl Fn(u32) -> String,
) -> Result<(), Error> {
    match Format::of(path)? {
        Format::Npy => {
            let classes = confusion.classes() as usize;
            outputs.write(path, |writer| npy::write(writer, &[classes, classes], confusion.counts()))
        }
        Format::Png => write_picture(outputs, path, &draw(confusion, name)),
    }
}

/// The picture: targets from the top down, predictions from left to right.
pub fn draw(confusion: &Confusion, name: impl Fn(u32) -> String) -> Picture {
    let classes = confusion.classes();
    let (line, character) = (FONT.val(), get_raster_width(FontWeight::Regular, FONT));
    // Numbers of up to three digits have room in a cell, or names beside one, or nothing.
    let (cell, named) = match classes {
        ..=24 => (line * 5 / 2, true),
        25..=64 => (line, true),
        _ => (4, false),
    };
    let shorten = |text: String| match text.chars().count() {
        ..=LONGEST => text,
        _ => text.chars().take(LONGEST - 1).chain(['.']).collect(),
    };
    let names: Vec<_> = (0..classes).map(|class| shorten(name(class))).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let margin = line;
    let (left, top) = if named { (2 * margin + longest * character, 3 * margin + line) } else { (margin, 2 * margin) };
    let side = classes as usize * cell;
    let title = "rows: target, columns: prediction";
    let width = (left + side + margin).max(title.len() * character + 2 * margin);
    let height = top + side + margin;
    let mut canvas = Canvas(Picture { width, height, rgb: PAPER.repeat(width * height) });
    canvas.write((margin, margin / 2), title, INK);
    let colours = viridis();
    for target in 0..classes {
        let (pixels, y) = (confusion.pixels(target), top + target as usize * cell);
        let row = confusion.counts().chunks_exact(classes as usize).nth(target as usize).unwrap_or_default();
        for (prediction, &count) in row.iter().enumerate() {
            let x = left + prediction * cell;
            if pixels == 0 {
                canvas.fill((x, y), cell, NOTHING);
                continue;
            }
            let share = count as f64 / pixels as f64;
            canvas.fill((x, y), cell, colours[(share * 255.0).round() as usize]);
            let percent = (100.0 * share).round();
            if classes <= 24 && percent >= 1.0 {
                // Viridis is dark below the middle.
                let ink = if share < 0.6 { PAPER } else { INK };
                canvas.write_centred((x, y + (cell - line) / 2), cell, &percent.to_string(), ink);
            }
        }
        if named {
            let text = &names[target as usize];
            let x = left - margin / 2 - text.chars().count() * character;
            canvas.write((x, y + (cell - line) / 2), text, INK);
            if cell > line {
                canvas.write_centred((left + target as usize * cell, top - line - 4), cell, &target.to_string(), INK);
            }
        }
    }
    canvas.0
}

/// Draws on a picture; what is outside it is left out.
struct Canvas(Picture);

impl Canvas {
    fn mix(&mut self, (x, y): (usize, usize), ink: [u8; 3], alpha: u8) {
        let picture = &mut self.0;
        if x < picture.width && y < picture.height {
            let pixel = &mut picture.rgb[3 * (y * picture.width + x)..][..3];
            let mixed = Blend::Straight.mix([pixel[0], pixel[1], pixel[2]], ink, alpha);
            pixel.copy_from_slice(&mixed);
        }
    }

    /// A square.
    fn fill(&mut self, (left, top): (usize, usize), side: usize, colour: [u8; 3]) {
        for y in top..top + side {
            (left..left + side).for_each(|x| self.mix((x, y), colour, u8::MAX));
        }
    }

    /// A line of text.
    fn write(&mut self, (mut left, top): (usize, usize), text: &str, ink: [u8; 3]) {
        for character in text.chars() {
            let raster = |character| get_raster(character, FontWeight::Regular, FONT);
            let Some(glyph) = raster(character).or_else(|| raster(char::REPLACEMENT_CHARACTER)) else { continue };
            for (y, row) in glyph.rows().enumerate() {
                for (x, &intensity) in row.iter().enumerate() {
                    self.mix((left + x, top + y), ink, intensity);
                }
            }
            left += glyph.width();
        }
    }

    /// A line of text in the middle of `width` pixels.
    fn write_centred(&mut self, (left, top): (usize, usize), width: usize, text: &str, ink: [u8; 3]) {
        let length = text.chars().count() * get_raster_width(FontWeight::Regular, FONT);
        self.write((left + width.saturating_sub(length) / 2, top), text, ink);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_number_of_classes_has_a_picture() {
        for classes in [0, 1, 2, 24, 25, 64, 65, 150] {
            let mut confusion = Confusion::new(classes);
            for class in 0..classes.min(classes.saturating_sub(1)) {
                confusion.add(class, class, 3).unwrap();
                confusion.add(class, 0, 1).unwrap();
            }
            let picture = draw(&confusion, |class| format!("a class with a very long name {class}"));
            assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height, "{classes}");
            let has = |colour: [u8; 3]| picture.rgb.chunks_exact(3).any(|pixel| pixel == colour);
            // All of a class, and nothing of one.
            assert_eq!(has(viridis()[255]), classes > 1, "{classes}");
            assert_eq!(has(NOTHING), classes > 0, "{classes}");
        }
    }
}
