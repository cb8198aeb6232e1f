//! `seghead segment` from outside: rectangles, activations, masks and the scores of all classes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::*;
use seghead::{Axis, Logits, Resize, reference};
use tempfile::TempDir;

#[test]
fn scores_of_all_classes() {
    let folder = TempDir::new().unwrap();
    let (shape, values) = (Logits::chw(3, 5, 7).unwrap(), logits(3 * 5 * 7));
    floats(&folder, "x.npy", "(3, 5, 7)", &values);
    let up = reference::upsample(&shape, &values, 11, 20, Resize::HalfPixel);
    let full = Logits::chw(3, 11, 20).unwrap();
    for (activation, expected) in [
        ("none", up.clone()),
        ("sigmoid", reference::sigmoid(&up)),
        ("softmax", reference::softmax(&full, &up, Axis::Class)),
    ] {
        run(&folder, &["segment", "x.npy", "--size", "20x11", "--activation", activation, "--scores", "p.npy"]);
        assert!(read(&folder, "p.npy").0.contains("(3, 11, 20)"));
        let close = |(got, expected): (f32, f64)| (f64::from(got) - expected).abs() < 2e-6 * expected.abs().max(1.0);
        assert!(read_floats(&folder, "p.npy").into_iter().zip(expected).all(close), "{activation}");
    }
    // The dimensions keep their order.
    floats(&folder, "last.npy", "(1, 5, 7, 3)", &values);
    run(&folder, &["segment", "last.npy", "--layout", "nhwc", "--size", "20x11", "--scores", "q.npy"]);
    assert!(read(&folder, "q.npy").0.contains("(1, 11, 20, 3)"));
}

#[test]
fn masks() {
    let folder = TempDir::new().unwrap();
    // One class is a mask, H × W, that can be looked at.
    floats(&folder, "one.npy", "(1, 1, 4)", &[-1.0, 0.0, 1.0, -3.0]);
    let report =
        json(&seghead(&folder, &["segment", "one.npy", "--activation", "sigmoid", "--labels", "m.npy", "--json"]));
    assert_eq!(read(&folder, "m.npy").1, [0, 1, 1, 0]);
    assert_eq!((&report["shape"], &report["classes"][0]["pixels"]), (&serde_json::json!([1, 4]), &2.into()));
    run(&folder, &["segment", "one.npy", "--activation", "sigmoid", "--threshold", "0.7", "--labels", "m.npy"]);
    assert_eq!(read(&folder, "m.npy").1, [0, 0, 1, 0]);
    run(&folder, &["segment", "one.npy", "--activation", "sigmoid", "--labels", "m.png"]);
    assert!(fs::read(folder.path().join("m.png")).unwrap().starts_with(b"\x89PNG"));
    // Of several classes a pixel may have any number.
    floats(&folder, "two.npy", "(2, 1, 3)", &[1.0, -1.0, 2.0, 3.0, -2.0, -1.0]);
    run(&folder, &["segment", "two.npy", "--activation", "sigmoid", "--labels", "planes.npy"]);
    let (header, planes) = read(&folder, "planes.npy");
    assert!(header.contains("(2, 1, 3)") && header.contains("|u1"), "{header}");
    assert_eq!(planes, [1, 0, 1, 1, 0, 0]);
}

/// Of a letter-box only the picture is resized: as if the rest had never been there.
#[test]
fn a_rectangle_of_the_logits() {
    let folder = TempDir::new().unwrap();
    let whole = Logits::chw(3, 9, 8).unwrap();
    let values = logits(3 * 9 * 8);
    let picture: Vec<f32> =
        reference::packed(&whole.crop(2, 1, 5, 6).unwrap(), &values).into_iter().map(|x| x as f32).collect();
    floats(&folder, "boxed.npy", "(3, 9, 8)", &values);
    floats(&folder, "picture.npy", "(3, 5, 6)", &picture);
    let outputs = ["--size", "24x20", "--labels", "a.npy", "--confidence", "b.npy", "--scores", "c.npy"];
    let segment = |arguments: &[&str]| {
        run(&folder, &[&["segment"], arguments, &outputs[..]].concat());
        ["a.npy", "b.npy", "c.npy"].map(|name| fs::read(folder.path().join(name)).unwrap())
    };
    assert!(segment(&["boxed.npy", "--crop", "6x5+1+2"]) == segment(&["picture.npy"]));
}

#[test]
fn what_does_not_go_together() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 3, 4)", &logits(24));
    let refused = |arguments: &[&str], words: &[&str]| refused(&folder, arguments, 2, words, 1);
    refused(&["segment", "x.npy", "--threshold", "0.5", "--labels", "y.npy"], &["--threshold", "sigmoid"]);
    let sigmoid = ["segment", "x.npy", "--activation", "sigmoid"];
    refused(&[&sigmoid[..], &["--confidence", "y.npy"]].concat(), &["--confidence", "sigmoid"]);
    refused(&[&sigmoid[..], &["--threshold", "1.5", "--labels", "y.npy"]].concat(), &["threshold", "1.5"]);
    refused(&[&sigmoid[..], &["--labels", "y.png"]].concat(), &["y.png", ".npy"]);
    refused(&["segment", "x.npy", "--scores", "y.png"], &["y.png", ".npy"]);
    refused(&["segment", "x.npy", "--activation", "tanh", "--scores", "y.npy"], &["tanh"]);
    for crop in ["5x3+0+0", "4x3+1+0", "4x4+0+0", "4x3+0+4294967295"] {
        refused(&["segment", "x.npy", "--crop", crop, "--labels", "y.npy"], &["--crop", "4x3", "x.npy", crop]);
    }
    for crop in ["4x3", "4x3+1", "4+3+1x1", "-1x3+0+0", "0x3+0+0"] {
        refused(&["segment", "x.npy", "--crop", crop, "--labels", "y.npy"], &["--crop", "160x90+0+35"]);
    }
}
