//! The classes of a photo's pixels, in colour over it.

use super::{
    legend::{self, Entry},
    palette::Colours,
    picture::Picture,
};
use seghead::{Blend, Palette};

/// How an overlay is drawn.
#[derive(Debug)]
pub struct Look<'a> {
    pub colours: &'a Colours,
    pub blend: Blend,
    /// How much of a pixel is colour, in 255ths.
    pub alpha: u8,
    /// The width of an outline in pixels, inside each class; 0 for none.
    pub outline: usize,
    /// Classes that are not shown.
    pub hidden: &'a [u32],
    /// Whether the colours are explained below the photo.
    pub legend: bool,
}

/// What is to be shown over a photo, by the index of the pixel.
pub struct Classes<'a> {
    /// The class, if the pixel has one.
    pub class: &'a dyn Fn(usize) -> Option<u32>,
    /// Whether the class is uncertain, where that is to be shown.
    pub uncertain: Option<&'a dyn Fn(usize) -> bool>,
}

impl Classes<'_> {
    fn is_uncertain(&self, pixel: usize) -> bool {
        self.uncertain.is_some_and(|uncertain| uncertain(pixel))
    }
}

impl Look<'_> {
    /// The photo with the colour of every class over its pixels, and, with a legend, what the colours mean below it.
    pub fn draw(&self, photo: &Picture, classes: &Classes<'_>) -> Picture {
        let mut picture = self.blended(photo, classes);
        if self.legend {
            legend::append(&mut picture, &self.entries(photo, classes));
        }
        picture
    }

    /// The class of a pixel, if it has one that is shown.
    fn shown(&self, classes: &Classes<'_>, pixel: usize) -> Option<u32> {
        (classes.class)(pixel).filter(|class| !self.hidden.contains(class))
    }

    fn blended(&self, photo: &Picture, classes: &Classes<'_>) -> Picture {
        // There are only so many pairs of values, and mixing light takes time.
        let values = || 0..=u8::MAX;
        let mixed = |photo: u8, colour: u8| self.blend.mix([photo; 3], [colour; 3], self.alpha)[0];
        let table: Vec<u8> = values().flat_map(|photo| values().map(move |colour| mixed(photo, colour))).collect();
        let outlined = outlines(photo.width, photo.height, classes.class, self.outline);
        let mut rgb = photo.rgb.clone();
        for (pixel, rgb) in rgb.chunks_exact_mut(3).enumerate() {
            let Some(class) = self.shown(classes, pixel) else { continue };
            if outlined.as_ref().is_some_and(|outlined| outlined[pixel]) {
                rgb.copy_from_slice(&self.colours.of(class));
                continue;
            }
            let colour = if classes.is_uncertain(pixel) { Palette::UNCERTAIN } else { self.colours.of(class) };
            for (value, colour) in rgb.iter_mut().zip(colour) {
                *value = table[usize::from(*value) << 8 | usize::from(colour)];
            }
        }
        Picture { rgb, ..*photo }
    }

    /// Every class that occurs and is shown, in order, with its share of all pixels; those of uncertain pixels are counted apart.
    fn entries(&self, photo: &Picture, classes: &Classes<'_>) -> Vec<Entry> {
        let mut uncertain = Tally::default();
        let mut tallies: Vec<Tally> = Vec::new();
        for (pixel, rgb) in photo.rgb.chunks_exact(3).enumerate() {
            let Some(class) = self.shown(classes, pixel) else { continue };
            let class = class as usize;
            if class >= tallies.len() {
                tallies.resize(class + 1, Tally::default());
            }
            let is_uncertain = classes.is_uncertain(pixel);
            tallies[class].add(rgb, !is_uncertain);
            if is_uncertain {
                uncertain.add(rgb, true);
            }
        }
        let pixels = (photo.width * photo.height) as f64;
        let entry = |name, tally: &Tally, colour| Entry {
            colour: self.blend.mix(tally.mean(), colour, self.alpha),
            name,
            share: tally.counted as f64 / pixels,
        };
        let occurring = (0..).zip(&tallies).filter(|(_, tally)| tally.pixels > 0);
        let mut entries: Vec<_> =
            occurring.map(|(class, tally)| entry(self.colours.name(class), tally, self.colours.of(class))).collect();
        if classes.uncertain.is_some() {
            entries.push(entry("uncertain".to_owned(), &uncertain, Palette::UNCERTAIN));
        }
        entries
    }
}

/// Pixels, and what the photo is like there.
#[derive(Clone, Default)]
struct Tally {
    pixels: u64,
    /// Those that make up the share.
    counted: u64,
    sums: [u64; 3],
}

impl Tally {
    fn add(&mut self, rgb: &[u8], counted: bool) {
        self.pixels += 1;
        self.counted += u64::from(counted);
        for (sum, &value) in self.sums.iter_mut().zip(rgb) {
            *sum += u64::from(value);
        }
    }

    /// The mean colour, grey where there is no pixel.
    fn mean(&self) -> [u8; 3] {
        self.sums.map(|sum| sum.checked_div(self.pixels).map_or(128, |mean| mean as u8))
    }
}

/// The pixels that have one of another class within the square of 2·reach + 1 pixels a side around them, as far as that
/// is inside the picture; none are looked for where reach is 0. Pixels without a class count as one more.
fn outlines(width: usize, height: usize, class: &dyn Fn(usize) -> Option<u32>, reach: usize) -> Option<Vec<bool>> {
    if reach == 0 {
        return None;
    }
    // First along the rows: what has another class to its left or right.
    let mut outlined = vec![false; width * height];
    for (row, outlined) in outlined.chunks_exact_mut(width).enumerate() {
        for border in 1..width {
            let right = row * width + border;
            if class(right - 1) != class(right) {
                outlined[border.saturating_sub(reach)..(border + reach).min(width)].fill(true);
            }
        }
    }
    // A square is of one class where each of its rows is, and neighbouring rows agree. Two neighbours that do not spoil
    // every square that holds both: those around the pixels up to `reach` rows from the border between them.
    let rows = outlined.clone();
    for border in 1..height {
        for column in 0..width {
            let below = border * width + column;
            let above = below - width;
            if rows[above] != rows[below] || class(above) != class(below) {
                for row in border.saturating_sub(reach)..(border + reach).min(height) {
                    outlined[row * width + column] = true;
                }
            }
        }
    }
    Some(outlined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn look(colours: &Colours) -> Look<'_> {
        Look { colours, blend: Blend::Straight, alpha: 128, outline: 0, hidden: &[], legend: false }
    }

    /// As the definition says, pixel by pixel.
    fn naive(width: usize, height: usize, classes: &[Option<u32>], reach: usize) -> Vec<bool> {
        let around = |at: usize, size: usize| at.saturating_sub(reach)..(at + reach + 1).min(size);
        (0..width * height)
            .map(|pixel| {
                let (row, column) = (pixel / width, pixel % width);
                around(row, height).any(|y| around(column, width).any(|x| classes[y * width + x] != classes[pixel]))
            })
            .collect()
    }

    #[test]
    fn outlines_are_those_of_the_definition() {
        let mut seed = 7_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 16
        };
        for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (16, 33), (40, 21)] {
            for sparse in [2, 5, 40, 4000] {
                let classes: Vec<Option<u32>> = (0..width * height)
                    .map(|_| Some(if random() % sparse == 0 { random() % 3 } else { 0 }).filter(|&class| class < 2))
                    .collect();
                for reach in [1, 2, 3, 16] {
                    let found = outlines(width, height, &|pixel| classes[pixel], reach).unwrap();
                    assert_eq!(found, naive(width, height, &classes, reach), "{width}×{height}, {reach}");
                }
            }
        }
        assert!(outlines(3, 3, &|pixel| Some(pixel as u32), 0).is_none());
    }

    #[test]
    fn an_outline_is_opaque_and_as_wide_on_either_side() {
        let colours = Colours::new(Some("voc")).unwrap();
        let photo = Picture { width: 10, height: 1, rgb: vec![100; 30] };
        let class = |pixel: usize| Some(if pixel < 5 { 1 } else { 2 });
        // All are uncertain, which an outline does not show.
        let classes = Classes { class: &class, uncertain: Some(&|_| true) };
        let drawn = Look { outline: 2, ..look(&colours) }.draw(&photo, &classes);
        let veil = Blend::Straight.mix([100; 3], Palette::UNCERTAIN, 128);
        let (red, green) = ([128, 0, 0], [0, 128, 0]);
        assert_eq!(drawn.rgb, [veil, veil, veil, red, red, green, green, veil, veil, veil].concat());
    }

    #[test]
    fn photo_colour_and_doubt() {
        let colours = Colours::new(Some("voc")).unwrap();
        let photo = Picture { width: 3, height: 1, rgb: vec![0, 100, 255, 0, 100, 255, 0, 100, 255] };
        let class = |pixel: usize| [None, Some(1), Some(15)][pixel];
        let classes = Classes { class: &class, uncertain: Some(&|pixel| pixel != 1) };
        for blend in [Blend::Straight, Blend::Linear] {
            let drawn = Look { blend, alpha: 77, ..look(&colours) }.draw(&photo, &classes);
            let mixed = |colour| blend.mix([0, 100, 255], colour, 77);
            assert_eq!(drawn.rgb, [[0, 100, 255], mixed([128, 0, 0]), mixed(Palette::UNCERTAIN)].concat(), "{blend:?}");
        }
    }

    #[test]
    fn the_uncertain_colour_is_in_no_palette() {
        for name in seghead::Palette::NAMES {
            assert!(!Palette::by_name(name).unwrap().colours().contains(&Palette::UNCERTAIN), "{name}");
        }
    }

    #[test]
    fn entries_are_what_occurs() {
        let colours = Colours::new(Some("voc")).unwrap();
        let photo = Picture { width: 4, height: 1, rgb: [[0; 3], [200; 3], [100; 3], [50; 3]].concat() };
        let class = |pixel: usize| [Some(15), Some(0), Some(15), Some(8)][pixel];
        let entries = |uncertain| look(&colours).entries(&photo, &Classes { class: &class, uncertain });
        let told = |entries: Vec<Entry>| -> Vec<(String, f64)> {
            entries.into_iter().map(|entry| (entry.name, entry.share)).collect()
        };
        let named = |shares: &[(&str, f64)]| -> Vec<(String, f64)> {
            shares.iter().map(|&(name, share)| (name.to_owned(), share)).collect()
        };
        assert_eq!(told(entries(None)), named(&[("background", 0.25), ("cat", 0.25), ("person", 0.5)]));
        let doubt = |pixel| pixel > 1;
        let doubted = entries(Some(&doubt));
        // A swatch is as the class looks on average.
        assert_eq!(doubted[2].colour, Blend::Straight.mix([50; 3], [192, 128, 128], 128));
        let shares = [("background", 0.25), ("cat", 0.0), ("person", 0.25), ("uncertain", 0.5)];
        assert_eq!(told(doubted), named(&shares));
    }
}
