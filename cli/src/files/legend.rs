//! What the colours of a picture mean, in writing below it.

use super::picture::Picture;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use seghead::Blend;

/// One colour of a picture.
#[derive(Debug)]
pub struct Entry {
    pub colour: [u8; 3],
    pub name: String,
    /// Of all pixels, in 0..=1.
    pub share: f64,
}

const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [32; 3];
const FRAME: [u8; 3] = [112; 3];

/// The longest name that is written out; one that is longer would leave room for few columns.
const LONGEST: usize = 28;

/// Makes the picture higher by a legend: the entries row by row, in as many columns as the width allows. Names that are
/// too long are cut, and characters that the font lacks become replacement characters.
pub fn append(picture: &mut Picture, entries: &[Entry]) {
    if entries.is_empty() || picture.width == 0 {
        return;
    }
    let layout = Layout::new(picture.width, entries);
    let top = picture.height;
    picture.height += layout.height();
    picture.rgb.resize(3 * picture.width * picture.height, PAPER[0]);
    let mut canvas = Canvas { picture, scale: layout.scale };
    for (i, (entry, text)) in entries.iter().zip(&layout.texts).enumerate() {
        let left = layout.margin + i % layout.columns * (layout.column + layout.gap);
        let top = top + layout.margin + i / layout.columns * layout.line;
        let swatch = (left, top + (layout.text - layout.swatch) / 2);
        canvas.fill(swatch, layout.swatch, FRAME);
        let (frame, (x, y)) = (layout.scale, swatch);
        canvas.fill((x + frame, y + frame), layout.swatch - 2 * frame, entry.colour);
        canvas.write((left + layout.swatch + layout.space, top), text, layout.font);
    }
}

/// Where things are, in pixels.
struct Layout {
    font: RasterHeight,
    /// How many pixels one of the font becomes, along each side.
    scale: usize,
    /// The height of the text.
    text: usize,
    line: usize,
    swatch: usize,
    /// Between swatch and text.
    space: usize,
    margin: usize,
    /// Between columns.
    gap: usize,
    columns: usize,
    column: usize,
    rows: usize,
    texts: Vec<String>,
}

impl Layout {
    fn new(width: usize, entries: &[Entry]) -> Self {
        // Large pictures are looked at from afar.
        let (font, scale) = match width {
            ..1440 => (RasterHeight::Size16, 1),
            _ => (RasterHeight::Size32, (width / 1920).max(1)),
        };
        let (text, character) = (font.val() * scale, get_raster_width(FontWeight::Regular, font) * scale);
        let (line, swatch, space, gap) = (text * 5 / 4, text * 3 / 4, text * 3 / 8, text);
        let margin = (text / 2).min(width / 16);
        let inner = width - 2 * margin;
        let room = inner.saturating_sub(swatch + space) / character;
        let texts: Vec<_> = entries.iter().map(|entry| label(entry, room)).collect();
        let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let column = swatch + space + longest * character;
        let columns = ((inner + gap) / (column + gap)).clamp(1, entries.len());
        let rows = entries.len().div_ceil(columns);
        Self { font, scale, text, line, swatch, space, margin, gap, columns, column, rows, texts }
    }

    fn height(&self) -> usize {
        2 * self.margin + self.rows * self.line
    }
}

/// The name and the share, in at most `room` characters if that leaves some of the name.
fn label(entry: &Entry, room: usize) -> String {
    let share = percent(entry.share);
    let room = room.saturating_sub(share.len() + 1).clamp(2, LONGEST);
    let name: Vec<char> = entry.name.chars().collect();
    if name.len() <= room {
        return format!("{} {share}", entry.name);
    }
    let start: String = name[..room - 1].iter().collect();
    format!("{}. {share}", start.trim_end())
}

/// Whole percents, but neither none for some nor all for most.
fn percent(share: f64) -> String {
    match 100.0 * share {
        some if 0.0 < some && some < 0.5 => "<1%".to_owned(),
        most if (99.5..100.0).contains(&most) => ">99%".to_owned(),
        percent => format!("{:.0}%", percent.round()),
    }
}

/// Draws on a picture; what is outside it is left out.
struct Canvas<'a> {
    picture: &'a mut Picture,
    /// How many pixels one of the font becomes, along each side.
    scale: usize,
}

impl Canvas<'_> {
    /// A square.
    fn fill(&mut self, (left, top): (usize, usize), side: usize, colour: [u8; 3]) {
        let width = self.picture.width;
        for row in top..(top + side).min(self.picture.height) {
            for column in left.min(width)..(left + side).min(width) {
                let at = 3 * (row * width + column);
                self.picture.rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// A line of text.
    fn write(&mut self, (mut left, top): (usize, usize), text: &str, font: RasterHeight) {
        for character in text.chars() {
            let raster = |character| get_raster(character, FontWeight::Regular, font);
            let Some(glyph) = raster(character).or_else(|| raster(char::REPLACEMENT_CHARACTER)) else { continue };
            for (y, row) in glyph.rows().enumerate() {
                for (x, &intensity) in row.iter().enumerate() {
                    let ink = Blend::Straight.mix(PAPER, INK, intensity);
                    self.fill((left + x * self.scale, top + y * self.scale), self.scale, ink);
                }
            }
            left += glyph.width() * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        let share = 1.0 / names.len() as f64;
        names.iter().map(|&name| Entry { colour: [200, 0, 0], name: name.to_owned(), share }).collect()
    }

    fn photo(width: usize) -> Picture {
        Picture { width, height: 2, rgb: vec![7; 6 * width] }
    }

    #[test]
    fn the_picture_stays_and_everything_has_room() {
        let names: Vec<String> = (0..30).map(|class| format!("class {class}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for width in [120, 640, 1439, 1440, 4000] {
            for count in [1, 2, 7, 30] {
                let entries = entries(&names[..count]);
                let layout = Layout::new(width, &entries);
                assert!(layout.columns * layout.rows >= count && (layout.rows - 1) * layout.columns < count);
                let last = layout.margin + layout.columns * (layout.column + layout.gap) - layout.gap;
                assert!(last <= width, "{width}, {count}");
                let mut picture = photo(width);
                append(&mut picture, &entries);
                assert_eq!((picture.width, picture.height), (width, 2 + layout.height()));
                assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
                assert!(picture.rgb[..6 * width].iter().all(|&value| value == 7));
                let swatches = picture.rgb.chunks_exact(3).filter(|pixel| pixel == &[200, 0, 0]).count();
                assert_eq!(swatches, count * (layout.swatch - 2 * layout.scale).pow(2));
                // The margin at the right and the bottom is blank.
                let pixels: Vec<_> = picture.rgb.chunks_exact(3).skip(2 * width).collect();
                assert!(pixels.chunks_exact(width).all(|row| row[width - 2..] == [[255; 3]; 2]));
                assert!(pixels[pixels.len() - width..].iter().all(|pixel| pixel == &[255; 3]));
            }
        }
    }

    #[test]
    fn wherever_there_is_no_room_something_is_drawn() {
        for width in 1..60 {
            let mut picture = photo(width);
            append(
                &mut picture,
                &entries(&["background", "", "東京タワー and much more that is not worth reading", "\n"]),
            );
            assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
        }
        let mut empty = photo(9);
        append(&mut empty, &[]);
        assert_eq!(empty, photo(9));
    }

    #[test]
    fn labels_are_cut_but_not_their_shares() {
        let entry = |name: &str, share| Entry { colour: [0; 3], name: name.to_owned(), share };
        assert_eq!(label(&entry("background", 0.431), 80), "background 43%");
        assert_eq!(label(&entry("background", 0.431), 14), "background 43%");
        assert_eq!(label(&entry("background", 0.431), 13), "backgrou. 43%");
        assert_eq!(label(&entry("traffic light", 1.0), 13), "traffic. 100%");
        assert_eq!(label(&entry("background", 0.5), 0), "b. 50%");
        assert_eq!(label(&entry("日本語の名前です", 0.5), 9), "日本語の. 50%");
        assert_eq!(label(&entry(&"x".repeat(99), 0.5), 200).len(), LONGEST + 4);
    }

    #[test]
    fn shares_are_never_rounded_away() {
        let shares = [0.0, 1e-9, 0.004, 0.006, 0.126, 0.994, 0.995, 0.999_999, 1.0];
        let texts = ["0%", "<1%", "<1%", "1%", "13%", "99%", ">99%", ">99%", "100%"];
        assert_eq!(shares.map(percent), texts);
    }

    #[test]
    fn every_character_is_something() {
        let blank = |text: &str| {
            let mut picture = Picture { width: 40, height: 16, rgb: vec![255; 3 * 40 * 16] };
            Canvas { picture: &mut picture, scale: 1 }.write((0, 0), text, RasterHeight::Size16);
            picture.rgb.iter().all(|&value| value == 255)
        };
        for text in ["a", "é", "ß", "ł", "東", "\u{7}", "🐈"] {
            assert!(!blank(text), "{text}");
        }
        assert!(blank(" "));
    }
}
