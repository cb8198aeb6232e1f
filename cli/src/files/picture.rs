//! Photos, and pictures of results.

use super::{
    Error,
    location::has_ending,
    output::Outputs,
    tensor::{check_length, open_file},
};
use image::{ImageError, ImageReader};
use png::{ColorType, Encoder, EncodingError};
use std::io::{self, BufRead, BufReader, Cursor, Seek, Write};

/// A colour picture, eight bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Red, green and blue of each pixel, row after row from the top.
    pub rgb: Vec<u8>,
}

/// Reads a PNG or JPEG, told apart by their content. Grey and paletted pictures become colour, 16-bit ones 8-bit; an
/// alpha channel is left out. The rotation that a camera may have noted is not applied, as the libraries that feed
/// networks do not apply it either.
///
/// # Errors
///
/// [`Error::Open`], [`Error::Read`], and [`Error::Format`] for anything but a sound PNG or JPEG.
pub fn read_picture(path: &str) -> Result<Picture, Error> {
    decode(BufReader::new(open_file(path)?.0), path)
}

/// [`read_picture`] from memory; `name` stands for the path in errors.
pub fn decode_picture(bytes: &[u8], name: &str) -> Result<Picture, Error> {
    decode(Cursor::new(bytes), name)
}

fn decode(reader: impl BufRead + Seek, path: &str) -> Result<Picture, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let reader = ImageReader::new(reader).with_guessed_format().map_err(failed)?;
    let picture = reader.decode().map_err(|error| match error {
        ImageError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => failed(source),
        other => {
            Error::Format { path: path.to_owned(), expected: "a PNG or JPEG", found: format!("no sound one ({other})") }
        }
    })?;
    let picture = picture.into_rgb8();
    Ok(Picture { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() })
}

/// Writes a picture as a `.png`.
///
/// # Errors
///
/// [`Error::Ending`] for another ending, [`Error::Length`] if the colours are not three values for each pixel, and those
/// of [`Outputs::write`].
pub fn write_picture(outputs: &mut Outputs, path: &str, picture: &Picture) -> Result<(), Error> {
    if !has_ending(path, ".png") {
        return Err(Error::Ending { path: path.to_owned(), expected: ".png" });
    }
    check_length(path, &[picture.height, picture.width, 3], picture.rgb.len())?;
    outputs.write(path, |writer| write_rgb(writer, picture.width, picture.height, &picture.rgb))
}

/// A picture as the bytes of a PNG.
///
/// # Errors
///
/// For a picture that is too large for one.
pub fn encode_picture(picture: &Picture) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_rgb(&mut bytes, picture.width, picture.height, &picture.rgb)?;
    Ok(bytes)
}

/// Writes eight-bit colours as a PNG.
pub(super) fn write_rgb(writer: &mut dyn Write, width: usize, height: usize, rgb: &[u8]) -> io::Result<()> {
    encode(writer, width, height, rgb, |encoder| encoder.set_color(ColorType::Rgb))
}

/// Writes a PNG of the kind that `set_kind` says, eight-bit grey otherwise; `data` is as the format has it.
pub(super) fn encode<'a>(
    writer: &'a mut dyn Write,
    width: usize,
    height: usize,
    data: &[u8],
    set_kind: impl FnOnce(&mut Encoder<'a, &'a mut dyn Write>),
) -> io::Result<()> {
    let side = |pixels: usize| {
        u32::try_from(pixels).map_err(|_| io::Error::other(format!("{width}x{height} pixels are too many for a PNG")))
    };
    let mut encoder = Encoder::new(writer, side(width)?, side(height)?);
    encoder.set_depth(png::BitDepth::Eight);
    set_kind(&mut encoder);
    let written = encoder.write_header().and_then(|mut image| {
        image.write_image_data(data)?;
        image.finish()
    });
    written.map_err(|error| match error {
        EncodingError::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use tempfile::tempdir;

    #[test]
    fn written_and_read_back() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x.png").to_str().unwrap().to_owned();
        let picture = Picture { width: 2, height: 3, rgb: (0..18).map(|i| i * 14).collect() };
        let mut outputs = Outputs::new();
        write_picture(&mut outputs, &path, &picture).unwrap();
        outputs.commit().unwrap();
        assert_eq!(read_picture(&path).unwrap(), picture);

        let mut outputs = Outputs::new();
        assert!(matches!(write_picture(&mut outputs, "x.jpg", &picture), Err(Error::Ending { .. })));
        let short = Picture { width: 2, height: 4, rgb: picture.rgb };
        assert!(matches!(write_picture(&mut outputs, &path, &short), Err(Error::Length { .. })));
    }

    #[test]
    fn other_kinds_become_colour() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x").to_str().unwrap().to_owned();
        let save = |picture: image::DynamicImage, format| {
            picture.save_with_format(&path, format).unwrap();
            read_picture(&path).unwrap()
        };
        let grey16 = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0xffff, 0x8080]).unwrap();
        let read = save(grey16.into(), image::ImageFormat::Png);
        assert_eq!(read, Picture { width: 2, height: 1, rgb: vec![255, 255, 255, 128, 128, 128] });
        let rgba = image::RgbaImage::from_raw(1, 1, vec![1, 2, 3, 4]).unwrap();
        assert_eq!(save(rgba.into(), image::ImageFormat::Png).rgb, [1, 2, 3]);
        let flat = image::RgbImage::from_pixel(8, 4, image::Rgb([90, 90, 90]));
        let read = save(flat.into(), image::ImageFormat::Jpeg);
        assert_eq!((read.width, read.height), (8, 4));
        assert!(read.rgb.iter().all(|value| value.abs_diff(90) < 3), "{:?}", read.rgb);
    }

    #[test]
    fn not_a_picture() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x.png").to_str().unwrap().to_owned();
        let mut whole = Vec::new();
        write_rgb(&mut whole, 1, 1, &[1, 2, 3]).unwrap();
        for bytes in [&b""[..], b"no picture", &whole[..40]] {
            fs::write(&path, bytes).unwrap();
            let error = read_picture(&path).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert!(matches!(read_picture("no/such.png"), Err(Error::Open { .. })));
    }
}
