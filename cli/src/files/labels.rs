//! Label maps: the class of each pixel.

use super::{
    Error,
    location::has_ending,
    npy,
    output::{Format, Outputs},
    palette::Colours,
    picture::encode,
    tensor::{self, Purpose, Tensor, TensorData},
};
use png::{BitDepth, ColorType, Decoder, DecodingError};
use std::io::{self, BufRead, BufReader, Cursor, Seek, Write};

/// The classes of the pixels of one image or of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// `[H, W]`, or `[N, H, W]` for a batch; no dimension is zero.
    pub shape: Vec<usize>,
    /// One class for each pixel, in C order. Negative values are as they are in the file.
    pub values: Vec<i64>,
}

/// Classes to be written.
#[derive(Debug, Clone, Copy)]
pub enum LabelValues<'a> {
    /// Classes up to 255.
    U8(&'a [u8]),
    /// Classes up to 65535.
    U16(&'a [u16]),
}

/// Reads labels from an array of any integer type (`x.npy`, `FILE.npz:NAME`, `FILE.safetensors:NAME`), or from a `.png`
/// that is grey, whose values are the classes, or paletted, whose indices are.
///
/// # Errors
///
/// [`Error`] for a path or file that is none of these or is damaged; [`Error::Element`] for floats,
/// [`Error::Rank`] for other than two or three dimensions, [`Error::Empty`] if one of them is zero.
pub fn read_labels(path: &str) -> Result<LabelMap, Error> {
    if has_ending(path, ".png") {
        let (file, length) = tensor::open_file(path)?;
        return read_png(BufReader::new(file), length, path);
    }
    let array = tensor::read(path, Purpose::Labels).map_err(|error| match error {
        Error::Ending { path, .. } => Error::Ending { path, expected: ENDINGS },
        other => other,
    })?;
    match array.data {
        TensorData::Int(values) => Ok(LabelMap { shape: array.shape, values }),
        TensorData::F32(_) | TensorData::F16(_) => {
            Err(Error::Format { path: path.to_owned(), expected: "labels", found: "floats".to_owned() })
        }
    }
}

/// What a loss is taken against.
#[derive(Debug)]
pub enum Targets {
    /// The class of each pixel.
    Labels(LabelMap),
    /// A probability for every class of each pixel, shaped like logits.
    Soft(Tensor),
}

/// Reads labels as [`read_labels`] does, or from an array of floats soft targets.
///
/// # Errors
///
/// As [`read_labels`], or of floats as [`tensor::read_logits`].
pub fn read_targets(path: &str) -> Result<Targets, Error> {
    if has_ending(path, ".png") {
        return Ok(Targets::Labels(read_labels(path)?));
    }
    let array = tensor::read(path, Purpose::Targets).map_err(|error| match error {
        Error::Ending { path, .. } => Error::Ending { path, expected: ENDINGS },
        other => other,
    })?;
    Ok(match array.data {
        TensorData::Int(values) => Targets::Labels(LabelMap { shape: array.shape, values }),
        TensorData::F32(_) | TensorData::F16(_) => Targets::Soft(array),
    })
}

/// The endings of a file name that labels can be read from.
const ENDINGS: &str = ".npy, .png, .npz, .npz:NAME, .safetensors or .safetensors:NAME";

/// Writes labels: to a `.npy` as they are, to a `.png` as indices into a palette of `colours`, or in 16-bit grey.
/// `shape` is `[H, W]` or `[N, H, W]`; a `.png` holds one image, so N must be 1 there.
///
/// # Errors
///
/// [`Error::Ending`] for another ending, [`Error::Batch`] for more than one image in a `.png`, [`Error::Length`] if the
/// values are not as many as the shape has, and those of [`Outputs::write`].
pub fn write_labels(
    outputs: &mut Outputs,
    path: &str,
    shape: &[usize],
    labels: LabelValues<'_>,
    colours: &Colours,
) -> Result<(), Error> {
    let count = match labels {
        LabelValues::U8(values) => values.len(),
        LabelValues::U16(values) => values.len(),
    };
    tensor::check_length(path, shape, count)?;
    match Format::of(path)? {
        Format::Npy => outputs.write(path, |writer| match labels {
            LabelValues::U8(values) => npy::write(writer, shape, values),
            LabelValues::U16(values) => npy::write(writer, shape, values),
        }),
        Format::Png => {
            let (height, width) = one_image(path, shape)?;
            outputs.write(path, |writer| write_png(writer, width, height, labels, colours))
        }
    }
}

/// The height and width of what is to be one image.
///
/// # Errors
///
/// [`Error::Batch`] if it is several.
pub(super) fn one_image(path: &str, shape: &[usize]) -> Result<(usize, usize), Error> {
    match *shape {
        [height, width] | [1, height, width] => Ok((height, width)),
        _ => Err(Error::Batch { path: path.to_owned(), shape: shape.to_vec() }),
    }
}

fn write_png(
    writer: &mut dyn Write,
    width: usize,
    height: usize,
    labels: LabelValues<'_>,
    colours: &Colours,
) -> io::Result<()> {
    match labels {
        LabelValues::U8(values) => encode(writer, width, height, values, |encoder| {
            encoder.set_color(ColorType::Indexed);
            encoder.set_palette(colours.table());
        }),
        LabelValues::U16(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            encode(writer, width, height, &bytes, |encoder| {
                encoder.set_color(ColorType::Grayscale);
                encoder.set_depth(BitDepth::Sixteen);
            })
        }
    }
}

/// A PNG of labels from memory; `name` stands for the path in errors.
pub fn decode_png(bytes: &[u8], name: &str) -> Result<LabelMap, Error> {
    read_png(Cursor::new(bytes), Some(bytes.len() as u64), name)
}

fn read_png(file: impl BufRead + Seek, length: Option<u64>, path: &str) -> Result<LabelMap, Error> {
    let failed = |error| match error {
        // The decoder reports the end of the file as an input error, but it is the content that is at fault.
        DecodingError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            Error::Read { path: path.to_owned(), source }
        }
        other => Error::Format { path: path.to_owned(), expected: "a PNG", found: format!("a damaged one ({other})") },
    };
    let mut reader = Decoder::new(file).read_info().map_err(failed)?;
    let (width, height) = reader.info().size();
    let (colour, depth) = reader.output_color_type();
    if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) {
        let found = format!("{}-bit {}", depth as u8, colour_name(colour));
        let hint = "the classes cannot be told from colours; save them as indices";
        return Err(Error::Element { path: path.to_owned(), expected: "a grey or paletted PNG", found, hint });
    }

    let too_large = |bytes| Error::OutOfMemory { path: path.to_owned(), bytes };
    let size = reader.output_buffer_size().ok_or_else(|| too_large(u64::MAX))?;
    // Nothing is compressed to less than a 1032nd, so a header that claims more is not to be believed.
    if length.is_some_and(|length| (size as u64) / 1032 > length) {
        let found = format!("a damaged one (too short for {width}x{height} pixels)");
        return Err(Error::Format { path: path.to_owned(), expected: "a PNG", found });
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| too_large(size as u64))?;
    bytes.resize(size, 0);
    let line = reader.next_frame(&mut bytes).map_err(failed)?.line_size;

    let (width, height) = (width as usize, height as usize);
    let mut values = Vec::new();
    values.try_reserve_exact(width * height).map_err(|_| too_large(8 * (width as u64) * (height as u64)))?;
    for row in bytes.chunks_exact(line) {
        match depth {
            BitDepth::Sixteen => {
                values.extend(row.chunks_exact(2).map(|pair| i64::from(u16::from_be_bytes([pair[0], pair[1]]))));
            }
            BitDepth::Eight => values.extend(row.iter().map(|&value| i64::from(value))),
            BitDepth::Four | BitDepth::Two | BitDepth::One => values.extend(unpack(row, depth as u8).take(width)),
        }
    }
    Ok(LabelMap { shape: vec![height, width], values })
}

/// The values of a row of less than eight bits each, the first in the highest bits.
fn unpack(row: &[u8], bits: u8) -> impl Iterator<Item = i64> {
    let mask = (1 << bits) - 1;
    row.iter().flat_map(move |byte| (0..8 / bits).rev().map(move |place| i64::from((byte >> (place * bits)) & mask)))
}

fn colour_name(colour: ColorType) -> &'static str {
    match colour {
        ColorType::Grayscale => "grey",
        ColorType::Indexed => "paletted",
        ColorType::GrayscaleAlpha => "grey with alpha",
        ColorType::Rgb => "RGB",
        ColorType::Rgba => "RGBA",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use tempfile::{TempDir, tempdir};

    fn at(folder: &TempDir, name: &str) -> String {
        folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn voc() -> Colours {
        Colours::new(None).unwrap()
    }

    fn png(colour: ColorType, depth: BitDepth, width: usize, height: usize, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, width, height, data, |encoder| {
            encoder.set_color(colour);
            encoder.set_depth(depth);
            if colour == ColorType::Indexed {
                encoder.set_palette((0..48).collect::<Vec<u8>>());
            }
        })
        .unwrap();
        bytes
    }

    fn read_back(bytes: &[u8]) -> Result<LabelMap, Error> {
        let folder = tempdir().unwrap();
        fs::write(at(&folder, "x.png"), bytes).unwrap();
        read_labels(&at(&folder, "x.png"))
    }

    fn round_trip(name: &str, shape: &[usize], labels: LabelValues<'_>) -> LabelMap {
        let folder = tempdir().unwrap();
        let mut outputs = Outputs::new();
        write_labels(&mut outputs, &at(&folder, name), shape, labels, &voc()).unwrap();
        outputs.commit().unwrap();
        read_labels(&at(&folder, name)).unwrap()
    }

    #[test]
    fn grey_values_are_not_scaled() {
        use BitDepth::{Eight, Four, One, Sixteen, Two};
        for (depth, bytes, expected) in [
            (One, &[0b1010_0000, 0b0110_0000][..], [1, 0, 1, 0, 1, 1]),
            (Two, &[0b1101_1000, 0b0010_0100], [3, 1, 2, 0, 2, 1]),
            (Four, &[0x1f, 0x70, 0x23, 0x40], [1, 15, 7, 2, 3, 4]),
            (Eight, &[1, 255, 7, 2, 3, 4], [1, 255, 7, 2, 3, 4]),
            (Sixteen, &[1, 0, 255, 255, 0, 7, 0, 2, 0, 3, 0, 4], [256, 65535, 7, 2, 3, 4]),
        ] {
            let labels = read_back(&png(ColorType::Grayscale, depth, 3, 2, bytes)).unwrap();
            assert_eq!((labels.shape, labels.values), (vec![2, 3], expected.to_vec()), "{depth:?}");
        }
    }

    #[test]
    fn palettes_give_indices() {
        let labels = read_back(&png(ColorType::Indexed, BitDepth::Four, 3, 1, &[0x1f, 0x70])).unwrap();
        assert_eq!((labels.shape, labels.values), (vec![1, 3], vec![1, 15, 7]));
    }

    #[test]
    fn colours_are_refused() {
        for (colour, samples, name) in [
            (ColorType::Rgb, 3, "8-bit RGB;"),
            (ColorType::Rgba, 4, "8-bit RGBA;"),
            (ColorType::GrayscaleAlpha, 2, "8-bit grey with alpha;"),
        ] {
            let error = read_back(&png(colour, BitDepth::Eight, 2, 1, &vec![0; 2 * samples])).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("expected a grey or paletted PNG, found"), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn damaged_pictures() {
        let noise: Vec<u8> = (0..60_u32).map(|i| (i * i * 37 % 251) as u8).collect();
        let whole = png(ColorType::Grayscale, BitDepth::Eight, 10, 6, &noise);
        let data_end = whole.windows(4).position(|bytes| bytes == b"IEND").unwrap() - 4;
        for end in 0..data_end {
            let error = read_back(&whole[..end]).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{end}: {error}");
        }
        let mut huge = whole.clone();
        huge[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(read_back(&huge).unwrap_err().exit_code(), 2);
        // The same with a checksum that fits.
        let mut crc = !0_u32;
        for &byte in &huge[12..29] {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
        }
        huge[29..33].copy_from_slice(&(!crc).to_be_bytes());
        let text = read_back(&huge).unwrap_err().to_string();
        assert!(text.contains("too short for 65535x2147483647 pixels"), "{text}");
    }

    #[test]
    fn written_and_read_back() {
        let bytes: Vec<u8> = vec![0, 1, 2, 254, 255, 15];
        let expected: Vec<i64> = bytes.iter().map(|&value| value.into()).collect();
        for (name, shape, read) in [
            ("x.npy", &[2, 3][..], &[2, 3][..]),
            ("x.npy", &[1, 2, 3], &[1, 2, 3]),
            ("x.npy", &[3, 2, 1], &[3, 2, 1]),
            ("x.png", &[2, 3], &[2, 3]),
            ("x.png", &[1, 2, 3], &[2, 3]),
        ] {
            let labels = round_trip(name, shape, LabelValues::U8(&bytes));
            assert_eq!((&labels.shape[..], labels.values), (read, expected.clone()), "{name} {shape:?}");
        }
        for name in ["x.npy", "x.png"] {
            let labels = round_trip(name, &[1, 3], LabelValues::U16(&[0, 256, 65535]));
            assert_eq!(labels.values, [0, 256, 65535], "{name}");
        }
    }

    #[test]
    fn written_with_the_colours_of_a_palette() {
        let written = |colours: &Colours, labels: &[u8]| {
            let mut bytes = Vec::new();
            write_png(&mut bytes, 2, 1, LabelValues::U8(labels), colours).unwrap();
            image::load_from_memory(&bytes).unwrap().to_rgb8().into_raw()
        };
        assert_eq!(written(&voc(), &[15, 255]), [192, 128, 128, 224, 224, 192]);
        assert_eq!(written(&Colours::new(Some("cityscapes")).unwrap(), &[18, 1]), [119, 11, 32, 244, 35, 232]);
    }

    #[test]
    fn what_cannot_be_written() {
        let folder = tempdir().unwrap();
        let mut outputs = Outputs::new();
        let mut message = |name: &str, shape: &[usize]| {
            let labels = LabelValues::U8(&[0; 6]);
            let error = write_labels(&mut outputs, &at(&folder, name), shape, labels, &voc()).unwrap_err();
            error.to_string().replace(&at(&folder, name), "FILE")
        };
        assert_eq!(
            message("x.png", &[2, 1, 3]),
            "FILE: expected one image for a .png, found [2, 1, 3]; write a .npy instead"
        );
        assert_eq!(message("x.jpg", &[2, 3]), "FILE: expected a file name that ends in .npy or .png");
        assert_eq!(message("x.npy", &[2, 2]), "FILE: expected as many values as the shape [2, 2] has, found 6");
        outputs.commit().unwrap();
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn arrays_of_floats_or_other_ranks() {
        let folder = tempdir().unwrap();
        let path = at(&folder, "x.npy");
        let write = |shape: &[usize]| {
            let mut bytes = Vec::new();
            npy::write(&mut bytes, shape, &vec![0.0_f32; shape.iter().product()]).unwrap();
            fs::write(&path, bytes).unwrap();
            read_labels(&path).unwrap_err().to_string()
        };
        let text = write(&[2, 2]);
        assert!(text.contains("expected labels of an integer type, found float32; make labels"), "{text}");
        fs::write(at(&folder, "y.npy"), {
            let mut bytes = Vec::new();
            npy::write(&mut bytes, &[4], &[0_u8; 4]).unwrap();
            bytes
        })
        .unwrap();
        let text = read_labels(&at(&folder, "y.npy")).unwrap_err().to_string();
        assert!(text.ends_with("expected 2 dimensions (H, W) or 3 (N, H, W), found 1: [4]"), "{text}");
        assert!(read_labels("x.jpg").unwrap_err().to_string().contains(".png"));
    }
}
