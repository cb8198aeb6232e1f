//! `seghead loss dice`, `jaccard` and `tversky`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn report(folder: &TempDir, arguments: &[&str]) -> Value {
    json(&seghead(folder, &[&["loss"], arguments, &["--json"]].concat()))
}

/// The shape, as the header has it, and the numbers.
fn shape_and_floats(folder: &TempDir, name: &str) -> (String, Vec<f32>) {
    let header = read(folder, name).0;
    (header[header.rfind('(').unwrap()..=header.rfind(')').unwrap()].to_owned(), read_floats(folder, name))
}

/// Two images of one class and of two, with targets and labels.
fn batch() -> TempDir {
    let folder = TempDir::new().unwrap();
    floats(&folder, "one.npy", "(2, 1, 1, 2)", &[0.0, 20.0, 0.0, -20.0]);
    floats(&folder, "t.npy", "(2, 1, 1, 2)", &[1.0, 1.0, 1.0, 0.0]);
    npy(&folder, "l.npy", "|u1", "(2, 1, 2)", &[1, 1, 1, 0]);
    floats(&folder, "two.npy", "(2, 1, 2)", &[0.0, 3.0, 0.0, -30.0]);
    npy(&folder, "l2.npy", "|u1", "(1, 2)", &[1, 0]);
    npy(&folder, "void.npy", "|u1", "(1, 2)", &[1, 255]);
    folder
}

#[test]
fn definitions_and_regions() {
    let folder = batch();
    let close = |arguments: &[&str], expected: f64| {
        let loss = report(&folder, arguments)["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-5, "{arguments:?}: {loss} {expected}");
    };
    // I = 1.5, 0.5; P = 1.5, 0.5; T = 2, 1
    for target in ["t.npy", "l.npy"] {
        close(&["dice", "one.npy", target], 1.0 - (3.0 / 3.5 + 1.0 / 1.5) / 2.0);
        close(&["dice", "one.npy", target, "--smooth", "1"], 1.0 - (4.0 / 4.5 + 2.0 / 2.5) / 2.0);
        close(&["dice", "one.npy", target, "--reduction", "sum"], 2.0 - (3.0 / 3.5 + 1.0 / 1.5));
        close(&["dice", "one.npy", target, "--region", "class"], 1.0 - 4.0 / 5.0);
        close(&["dice", "one.npy", target, "--region", "batch"], 1.0 - 4.0 / 5.0);
        close(&["jaccard", "one.npy", target], 1.0 - (1.5 / 2.0 + 0.5) / 2.0);
        close(
            &["tversky", "one.npy", target, "--alpha", "0.3", "--beta", "0.7"],
            1.0 - (1.5 / 1.85 + 0.5 / 0.85) / 2.0,
        );
        close(&["tversky", "one.npy", target], 1.0 - (3.0 / 3.5 + 1.0 / 1.5) / 2.0);
    }
    // A softmax of ½ and ½, and of 1 and 0: I = 1, ½; P = 1.5, ½; T = 1, 1.
    close(&["dice", "two.npy", "l2.npy"], 1.0 - (2.0 / 2.5 + 1.0 / 1.5) / 2.0);
    close(&["dice", "two.npy", "l2.npy", "--region", "image"], 1.0 - 3.0 / 4.0);
    // Without the second pixel I = 0, ½; P = ½, ½; T = 0, 1.
    let found = report(&folder, &["dice", "two.npy", "void.npy", "--ignore-index", "255"]);
    assert!((found["loss"].as_f64().unwrap() - (1.0 - (0.0 + 1.0 / 1.5) / 2.0)).abs() < 1e-5, "{found}");
    assert_eq!((&found["pixels"], &found["ignored"]), (&2.into(), &1.into()));
}

#[test]
fn files() {
    let folder = batch();
    report(&folder, &["dice", "one.npy", "t.npy", "-o", "mean.npy", "--grad", "g.npy"]);
    assert_eq!(shape_and_floats(&folder, "mean.npy").0, "()");
    let (shape, mean) = shape_and_floats(&folder, "g.npy");
    assert_eq!(shape, "(2, 1, 1, 2)");
    // dp = ¼: −(2 · 3.5 − 3) / 3.5² and −(2 · 1.5 − 1) / 1.5², of a mean of two.
    let expected = [-4.0 / 12.25 / 8.0, 0.0, -2.0 / 2.25 / 8.0, 0.0];
    assert!(mean.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-6), "{mean:?}");
    let found = report(&folder, &["dice", "one.npy", "t.npy", "--reduction", "none", "-o", "n.npy", "--grad", "s.npy"]);
    assert!(found.get("loss").is_none(), "{found}");
    let (shape, losses) = shape_and_floats(&folder, "n.npy");
    assert_eq!(shape, "(2, 1)");
    assert!((losses[0] - 0.5 / 3.5).abs() < 1e-6 && (losses[1] - 0.5 / 1.5).abs() < 1e-6, "{losses:?}");
    let summed = shape_and_floats(&folder, "s.npy").1;
    assert!(summed.iter().zip(&mean).all(|(x, y)| (x - 2.0 * y).abs() < 1e-6), "{summed:?}");

    for (region, expected) in [("class", "(1,)"), ("image", "(2,)"), ("batch", "()")] {
        report(&folder, &["dice", "one.npy", "t.npy", "--region", region, "--reduction", "none", "-o", "n.npy"]);
        assert_eq!(shape_and_floats(&folder, "n.npy").0, expected);
    }
    report(&folder, &["dice", "two.npy", "l2.npy", "--reduction", "none", "-o", "n.npy"]);
    assert_eq!(shape_and_floats(&folder, "n.npy").0, "(2,)");
}

#[test]
fn what_is_refused() {
    let folder = batch();
    npy(&folder, "three.npy", "|u1", "(1, 2)", &[0, 2]);
    let refused = |arguments: &[&str], words: &[&str]| {
        let files = std::fs::read_dir(&folder).unwrap().count();
        common::refused(&folder, &[&["loss"], arguments].concat(), 2, words, files);
    };
    refused(&["dice", "two.npy", "three.npy"], &["three.npy", "target[1]", "below 2", "label 2", "--ignore-index"]);
    refused(&["dice", "two.npy", "l.npy"], &["l.npy", "labels", "[1, 2]", "[2, 1, 2]"]);
    refused(&["dice", "one.npy", "t.npy", "--ignore-index", "1"], &["t.npy", "--ignore-index"]);
    refused(&["dice", "one.npy", "t.npy", "--smooth", "-1"], &["smoothing", "at least 0", "-1"]);
    refused(&["tversky", "one.npy", "t.npy", "--alpha", "nan"], &["alpha", "NaN"]);
    refused(&["dice", "one.npy", "t.npy", "--reduction", "none"], &["--output"]);
    refused(&["dice", "one.npy", "t.npy", "--grad", "g.png"], &["g.png", ".npy"]);
    refused(&["dice", "one.npy", "t.npy", "-o", "a.npy", "--grad", "a.npy"], &["a.npy"]);
    refused(&["dice", "one.npy", "t.npy", "--grad", "t.npy"], &["t.npy"]);
}
