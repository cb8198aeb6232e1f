//! Score maps: one float for each pixel, such as the confidence.

use super::{
    Error,
    labels::one_image,
    npy,
    output::{Format, Outputs},
    picture::write_rgb,
    tensor::check_length,
};
use colorgrad::Gradient;

/// Writes scores: to a `.npy` as float32, to a `.png` as a picture in the colours of viridis, from dark blue for
/// `range.0` and less to yellow for `range.1` and more; NaN is black. `shape` is `[H, W]` or `[N, H, W]`; a `.png` holds
/// one image, so N must be 1 there.
///
/// # Errors
///
/// [`Error::Ending`] for another ending, [`Error::Batch`] for more than one image in a `.png`, [`Error::Length`] if the
/// scores are not as many as the shape has, and those of [`Outputs::write`].
pub fn write_scores(
    outputs: &mut Outputs,
    path: &str,
    shape: &[usize],
    scores: &[f32],
    range: (f32, f32),
) -> Result<(), Error> {
    check_length(path, shape, scores.len())?;
    match Format::of(path)? {
        Format::Npy => outputs.write(path, |writer| npy::write(writer, shape, scores)),
        Format::Png => {
            let (height, width) = one_image(path, shape)?;
            outputs.write(path, |writer| write_rgb(writer, width, height, &colours(scores, range)))
        }
    }
}

/// The colours of viridis in 256 steps.
pub(super) fn viridis() -> Vec<[u8; 3]> {
    let viridis = colorgrad::preset::viridis();
    let colour = |step| {
        let [red, green, blue, _] = viridis.at(f32::from(step) / f32::from(u8::MAX)).to_rgba8();
        [red, green, blue]
    };
    (0..=u8::MAX).map(colour).collect()
}

/// The colour of each score.
fn colours(scores: &[f32], (low, high): (f32, f32)) -> Vec<u8> {
    let table = viridis();
    let colour = |&score: &f32| {
        if score.is_nan() {
            return [0; 3];
        }
        // With an empty range the quotient may be NaN, which becomes the lowest colour.
        let place = ((score - low) / (high - low)).clamp(0.0, 1.0);
        table[(place * f32::from(u8::MAX)).round() as usize]
    };
    scores.iter().flat_map(colour).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::{
        picture::read_picture,
        tensor::{TensorData, read_tensor},
    };

    const LOWEST: [u8; 3] = [0x44, 0x01, 0x54];
    const HIGHEST: [u8; 3] = [0xfe, 0xe8, 0x25];

    #[test]
    fn colours_run_over_the_range() {
        let of = |score, range| <[u8; 3]>::try_from(colours(&[score], range)).unwrap();
        assert_eq!(of(0.25, (0.25, 1.0)), LOWEST);
        assert_eq!(of(1.0, (0.25, 1.0)), HIGHEST);
        assert_eq!(of(f32::NEG_INFINITY, (0.0, 1.0)), LOWEST);
        assert_eq!(of(f32::INFINITY, (0.0, 1.0)), HIGHEST);
        assert_eq!(of(f32::NAN, (0.0, 1.0)), [0, 0, 0]);
        assert_eq!(of(2.0, (2.0, 2.0)), LOWEST);
        // Viridis is blue-green in its middle.
        let [red, green, blue] = of(0.5, (0.0, 1.0));
        assert!(red < 60 && green > 120 && blue > 120, "{red} {green} {blue}");
        // It grows lighter all the way: that makes differences visible and printable in grey.
        let steps: Vec<f32> = (0..=20).map(|step| step as f32 / 20.0).collect();
        let luminance: Vec<f32> = colours(&steps, (0.0, 1.0))
            .chunks(3)
            .map(|c| 0.2126 * f32::from(c[0]) + 0.7152 * f32::from(c[1]) + 0.0722 * f32::from(c[2]))
            .collect();
        assert!(luminance.is_sorted(), "{luminance:?}");
    }

    #[test]
    fn both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut outputs = Outputs::new();
        write_scores(&mut outputs, &at("x.npy"), &[2, 1, 1], &[0.5, 1.5], (0.0, 1.0)).unwrap();
        write_scores(&mut outputs, &at("x.png"), &[1, 2, 1], &[0.0, 1.0], (0.0, 1.0)).unwrap();
        let error = write_scores(&mut outputs, &at("y.png"), &[2, 1, 1], &[0.0, 1.0], (0.0, 1.0)).unwrap_err();
        assert!(matches!(error, Error::Batch { .. }), "{error}");
        outputs.commit().unwrap();
        let array = read_tensor(&at("x.npy")).unwrap();
        assert_eq!((array.shape, array.data), (vec![2, 1, 1], TensorData::F32(vec![0.5, 1.5])));
        let picture = read_picture(&at("x.png")).unwrap();
        assert_eq!((picture.width, picture.height), (1, 2));
        assert_eq!(picture.rgb, [LOWEST, HIGHEST].concat());
    }
}
