//! What `--palette`, `--threshold`, `--legend`, `--outline` and `--blend` make of pictures.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::*;
use seghead::{Blend, Overlay, Palette, Resize, reference};
use tempfile::TempDir;

const WIDTH: usize = 24;
const HEIGHT: usize = 4;

/// Two classes, the second from column 12 on, unsure in its first two columns: there its probability is 0.6. The photo
/// has all kinds of values.
fn prepared() -> (TempDir, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let second = |column: usize| match column {
        0..12 => -6.0,
        12..14 => 0.405_465_1,
        _ => 6.0,
    };
    let logits: Vec<f32> =
        (0..2 * WIDTH * HEIGHT).map(|i| if i < WIDTH * HEIGHT { 0.0 } else { second(i % WIDTH) }).collect();
    floats(&folder, "x.npy", "(2, 4, 24)", &logits);
    let photo: Vec<u8> = (0..3 * WIDTH * HEIGHT).map(|i| (i * 37 % 256) as u8).collect();
    image::RgbImage::from_raw(WIDTH as u32, HEIGHT as u32, photo.clone())
        .unwrap()
        .save(folder.path().join("photo.png"))
        .unwrap();
    (folder, photo)
}

fn rgb(folder: &TempDir, name: &str) -> image::RgbImage {
    image::open(folder.path().join(name)).unwrap().to_rgb8()
}

/// The overlay that the command makes of [`prepared`].
fn overlay(folder: &TempDir, arguments: &[&str]) -> image::RgbImage {
    let segment = ["segment", "x.npy", "--image", "photo.png", "--overlay", "o.png"];
    run(folder, &[&segment, arguments].concat());
    rgb(folder, "o.png")
}

fn each(photo: &[u8], pixel: impl Fn([u8; 3], usize) -> [u8; 3]) -> Vec<u8> {
    photo.chunks_exact(3).enumerate().flat_map(|(i, p)| pixel([p[0], p[1], p[2]], i % WIDTH)).collect()
}

#[test]
fn colours_are_mixed_as_asked() {
    let (folder, photo) = prepared();
    for (arguments, palette, blend, alpha) in [
        (&[][..], Palette::voc(), Blend::Straight, 128),
        (&["--palette", "cityscapes", "--alpha", "0.3"], Palette::cityscapes(), Blend::Straight, 77),
        (&["--blend", "linear", "--palette", "ade20k"], Palette::ade20k(), Blend::Linear, 128),
        (&["--blend", "srgb", "--alpha", "1", "--palette", "camvid"], Palette::camvid(), Blend::Straight, 255),
    ] {
        let class = |column| u32::from(column >= 12);
        let expected = each(&photo, |photo, column| blend.mix(photo, palette.colour(class(column)).unwrap(), alpha));
        assert_eq!(overlay(&folder, arguments).into_raw(), expected, "{arguments:?}");
    }
}

#[test]
fn what_is_uncertain_and_outlined() {
    let (folder, photo) = prepared();
    let (black, red, white) = ([0, 0, 0], [128, 0, 0], [255, 255, 255]);
    let mixed = |photo, colour| Blend::Straight.mix(photo, colour, 128);
    let plain = |photo, column| mixed(photo, if column < 12 { black } else { red });
    let doubtful = |photo, column| if (12..14).contains(&column) { mixed(photo, white) } else { plain(photo, column) };
    let certain = overlay(&folder, &["--threshold", "0.59"]);
    assert_eq!(certain.into_raw(), each(&photo, plain));
    assert_eq!(overlay(&folder, &["--threshold", "0.61"]).into_raw(), each(&photo, doubtful));
    let outlined = each(&photo, |photo, column| match column {
        9..12 => black,
        12..15 => red,
        _ => plain(photo, column),
    });
    assert_eq!(overlay(&folder, &["--threshold", "0.61", "--outline", "3"]).into_raw(), outlined);
    // A file of labels knows no doubt.
    overlay(&folder, &["--threshold", "1", "--labels", "l.npy"]);
    let labels = read(&folder, "l.npy").1;
    assert!(labels.iter().enumerate().all(|(i, &label)| label == u8::from(i % WIDTH >= 12)));
}

/// What the command paints on the host is what [`Overlay`] paints on the GPU, by their common reference.
#[test]
fn the_overlay_is_that_of_the_library() {
    let folder = TempDir::new().unwrap();
    let (shape, size) = (seghead::Logits::chw(5, 6, 7).unwrap(), [31, 25]);
    let data: Vec<f32> = (0..shape.len()).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 500.0).collect();
    floats(&folder, "x.npy", "(5, 6, 7)", &data);
    let photo: Vec<[u8; 4]> =
        (0..size[0] * size[1]).map(|i| [i, i * 3, i * 7, 255].map(|value: u32| (value % 256) as u8)).collect();
    let rgb: Vec<u8> = photo.iter().flat_map(|pixel| pixel[..3].to_vec()).collect();
    image::RgbImage::from_raw(size[0], size[1], rgb).unwrap().save(folder.path().join("photo.png")).unwrap();
    let plain = || Overlay::new(Palette::cityscapes());
    for (arguments, operator) in [
        (&["--alpha", "0.3"][..], plain().alpha(0.3)),
        (&["--threshold", "0.7", "--outline", "2"], plain().threshold(0.7).outline(2)),
        (
            &["--blend", "linear", "--resize", "align-corners"],
            plain().blend(Blend::Linear).resize(Resize::AlignCorners),
        ),
    ] {
        let expected = reference::overlay(&operator, &shape, &data, Some(&photo), size[1], size[0]).unwrap();
        let expected: Vec<u8> = expected.iter().flat_map(|pixel| pixel[..3].to_vec()).collect();
        let got = overlay(&folder, &[&["--palette", "cityscapes"], arguments].concat());
        assert_eq!(got.into_raw(), expected, "{arguments:?}");
    }
}

#[test]
fn a_legend_is_below_the_photo() {
    let (folder, _) = prepared();
    let plain = overlay(&folder, &["--palette", "cityscapes"]).into_raw();
    let explained = overlay(&folder, &["--palette", "cityscapes", "--legend"]);
    let (width, height) = explained.dimensions();
    assert!(width as usize == WIDTH && height as usize > HEIGHT + 16, "{width}×{height}");
    let explained = explained.into_raw();
    assert_eq!(explained[..plain.len()], plain);
    // There is another line where something may be uncertain.
    let doubt = overlay(&folder, &["--palette", "cityscapes", "--legend", "--threshold", "0.5"]);
    assert!(doubt.height() > height);
}

#[test]
fn masks_have_a_legend_too() {
    let (folder, photo) = prepared();
    let logits: Vec<f32> = (0..WIDTH * HEIGHT).map(|i| if i % WIDTH < 12 { -1.0 } else { 1.0 }).collect();
    floats(&folder, "one.npy", "(1, 4, 24)", &logits);
    let segment = ["segment", "one.npy", "--activation", "sigmoid", "--image", "photo.png", "--overlay", "o.png"];
    run(&folder, &[&segment[..], &["--palette", "cityscapes", "--legend", "--outline", "1"]].concat());
    let colour = [244, 35, 232];
    let expected = each(&photo, |photo, column| match column {
        0..12 => photo,
        12 => colour,
        _ => Blend::Straight.mix(photo, colour, 128),
    });
    let found = rgb(&folder, "o.png").into_raw();
    assert!(found.len() > photo.len());
    assert_eq!(found[..photo.len()], expected);
    // It has labels 0 and 1.
    fs::write(folder.path().join("one.txt"), "1 2 3\n").unwrap();
    refused(&folder, &[&segment[..], &["--palette", "one.txt"]].concat(), 2, &["--palette one.txt", "2 classes"], 5);
}

#[test]
fn labels_have_the_palette() {
    let (folder, _) = prepared();
    fs::write(folder.path().join("own.csv"), "name,r,g,b\nfield,1,2,3\n\"ro\u{e4}d\",40,50,60\n").unwrap();
    for (palette, first, second) in [
        ("voc", [0, 0, 0], [128, 0, 0]),
        ("cityscapes", [128, 64, 128], [244, 35, 232]),
        ("own.csv", [1, 2, 3], [40, 50, 60]),
    ] {
        run(&folder, &["segment", "x.npy", "--labels", "s.png", "--palette", palette]);
        run(&folder, &["argmax", "x.npy", "-o", "a.png", "--palette", palette]);
        for name in ["s.png", "a.png"] {
            let labels = rgb(&folder, name);
            assert_eq!((labels.get_pixel(0, 0).0, labels.get_pixel(23, 3).0), (first, second), "{palette} {name}");
        }
    }
    // They are indices all the same.
    let loss = ["loss", "cross-entropy", "x.npy", "s.png", "--json"];
    assert_eq!(json(&seghead(&folder, &loss))["pixels"], WIDTH * HEIGHT);
}

/// More classes than any palette has are fine where none was asked for.
#[test]
fn many_classes() {
    let (folder, photo) = prepared();
    let mut logits = vec![0.0_f32; 300 * WIDTH * HEIGHT];
    logits[270 * WIDTH * HEIGHT..271 * WIDTH * HEIGHT].fill(9.0);
    floats(&folder, "many.npy", "(300, 4, 24)", &logits);
    let segment = ["segment", "many.npy", "--image", "photo.png", "--overlay", "o.png"];
    run(&folder, &segment);
    let colour = Palette::voc().colour(270 % 256).unwrap();
    assert_eq!(rgb(&folder, "o.png").into_raw(), each(&photo, |photo, _| Blend::Straight.mix(photo, colour, 128)));
    fs::remove_file(folder.path().join("o.png")).unwrap();
    refused(&folder, &[&segment[..], &["--palette", "voc"]].concat(), 2, &["--palette voc", "300", "256"], 3);
}

#[test]
fn the_demo_takes_a_palette() {
    let folder = TempDir::new().unwrap();
    run(&folder, &["demo", "-o", "out", "--palette", "camvid"]);
    // The first of its classes is the sky.
    assert_eq!(rgb(&folder, "out/labels.png").get_pixel(0, 0).0, [128, 128, 128]);
    fs::write(folder.path().join("three.txt"), "1 2 3\n".repeat(3)).unwrap();
    refused(&folder, &["demo", "-o", "new", "--palette", "three.txt"], 2, &["--palette three.txt", "4", "3"], 2);
}

#[test]
fn what_is_refused() {
    let (folder, _) = prepared();
    fs::write(folder.path().join("bad.txt"), "0 0 0 field\n# a comment\n1 2 300 road\n").unwrap();
    fs::write(folder.path().join("one.txt"), "0 0 0 field\n").unwrap();
    fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    let before = fs::read(folder.path().join("one.txt")).unwrap();
    let segment = ["segment", "x.npy", "--image", "photo.png", "--overlay", "o.png"];
    let refused = |arguments: &[&str], words: &[&str]| refused(&folder, arguments, 2, words, 5);
    let segment = |arguments: &[&str], words: &[&str]| refused(&[&segment[..], arguments].concat(), words);
    segment(&["--palette", "no.txt"], &["no.txt", "voc, cityscapes, ade20k, camvid", "file"]);
    segment(&["--palette", "bad.txt"], &["bad.txt", "line 3", "0..=255", "1 2 300 road"]);
    segment(&["--palette", "empty.txt"], &["empty.txt", "at least 1"]);
    segment(&["--palette", "photo.png"], &["photo.png", "palette", "text"]);
    segment(&["--palette", "one.txt"], &["--palette one.txt", "each of 2 classes", "found 1"]);
    for threshold in ["-0.1", "1.01", "nan", "inf"] {
        segment(&["--threshold", threshold], &["--threshold", "0..=1"]);
    }
    segment(&["--outline", "17"], &["--outline", "0..=16"]);
    segment(&["--outline", "-1"], &["--outline"]);
    segment(&["--blend", "gamma"], &["gamma", "srgb", "linear"]);
    refused(&["segment", "x.npy", "--labels", "y.npy", "--threshold", "0.5"], &["--threshold", "--overlay"]);
    refused(&["segment", "x.npy", "--labels", "y.png", "--legend"], &["--overlay"]);
    refused(&["segment", "x.npy", "--labels", "y.png", "--hidden", "0"], &["--overlay"]);
    refused(&["segment", "x.npy", "--labels", "y.png", "--outline", "1"], &["--outline", "--overlay"]);
    refused(&["segment", "x.npy", "--labels", "y.png", "--blend", "linear"], &["--blend", "--overlay"]);
    refused(&["argmax", "x.npy", "-o", "y.png", "--palette", "one.txt"], &["--palette one.txt", "2", "1"]);
    refused(&["argmax", "x.npy", "-o", "y.npy", "--palette", "voc", "--top-k", "1"], &["--palette", "--top-k"]);
    refused(&["argmax", "x.npy", "-o", "bad.txt", "--palette", "one.txt"], &["bad.txt", ".png"]);
    assert_eq!(fs::read(folder.path().join("one.txt")).unwrap(), before);
}

#[test]
fn help_names_every_palette() {
    let folder = TempDir::new().unwrap();
    for command in ["demo", "segment", "argmax"] {
        let help = String::from_utf8(run(&folder, &["help", command]).stdout).unwrap();
        assert!(Palette::NAMES.iter().all(|name| help.contains(&format!("{name},"))), "{help}");
    }
}

/// A palette may be called anything, but not be written over.
#[test]
fn a_palette_is_an_input() {
    let (folder, _) = prepared();
    fs::write(folder.path().join("colours.png"), "0 0 0\n1 1 1\n").unwrap();
    let words = ["colours.png", "input"];
    for arguments in [["argmax", "x.npy", "-o"], ["segment", "x.npy", "--labels"]] {
        refused(&folder, &[&arguments[..], &["colours.png", "--palette", "./colours.png"]].concat(), 2, &words, 3);
    }
}
