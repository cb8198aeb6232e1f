//! `seghead loss focal`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn report(folder: &TempDir, arguments: &[&str]) -> Value {
    json(&seghead(folder, &[&["loss", "focal"], arguments, &["--json"]].concat()))
}

fn shape_of(folder: &TempDir, name: &str) -> String {
    let header = read(folder, name).0;
    header[header.rfind('(').unwrap()..=header.rfind(')').unwrap()].to_owned()
}

fn batch() -> TempDir {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0, 1.0, -2.0, 0.5, 0.0, 2.0]);
    npy(&folder, "l.npy", "|u1", "(1, 3)", &[0, 1, 255]);
    npy(&folder, "hot.npy", "|u1", "(1, 3)", &[0, 1, 1]);
    floats(&folder, "z.npy", "(2, 1, 3)", &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    floats(&folder, "one.npy", "(1, 1, 3)", &[0.0, 1.0, -2.0]);
    npy(&folder, "binary.npy", "|u1", "(1, 3)", &[0, 1, 0]);
    folder
}

/// (1 − p)^γ · −log p
fn focal(p: f64, gamma: f64) -> f64 {
    (1.0 - p).powf(gamma) * -p.ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn definitions() {
    let folder = batch();
    let close = |arguments: &[&str], expected: f64| {
        let loss = report(&folder, arguments)["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-6, "{arguments:?}: {loss} {expected}");
    };
    // Of two classes the softmax is a sigmoid of the difference.
    let p = [sigmoid(-0.5), sigmoid(-1.0)];
    let ignore = ["--ignore-index", "255"];
    close(&[&["x.npy", "l.npy"], &ignore[..]].concat(), (focal(p[0], 2.0) + focal(p[1], 2.0)) / 2.0);
    let options = ["--gamma", "0.5", "--alpha", "3", "--reduction", "sum"];
    close(&[&["x.npy", "l.npy"], &ignore[..], &options].concat(), 3.0 * (focal(p[0], 0.5) + focal(p[1], 0.5)));
    let found = report(&folder, &[&["x.npy", "l.npy"], &ignore[..]].concat());
    assert_eq!((&found["pixels"], &found["ignored"]), (&3.into(), &1.into()));

    let z = [true, false, false, false, true, true];
    let x = [0.0, 1.0, -2.0, 0.5, 0.0, 2.0];
    let of = |alpha: f64| {
        let losses = x
            .iter()
            .zip(z)
            .map(|(&x, z)| (if z { alpha } else { 1.0 - alpha }) * focal(sigmoid(if z { x } else { -x }), 2.0));
        losses.sum::<f64>()
    };
    for target in ["z.npy", "hot.npy"] {
        close(&["x.npy", target, "--activation", "sigmoid", "--alpha", "0.25"], of(0.25) / 6.0);
        close(&["x.npy", target, "--activation", "sigmoid", "--reduction", "sum"], 2.0 * of(0.5));
    }
    let of_one = (focal(0.5, 2.0) + focal(sigmoid(1.0), 2.0) + focal(sigmoid(2.0), 2.0)) / 3.0;
    close(&["one.npy", "binary.npy"], of_one);
}

#[test]
fn files() {
    let folder = batch();
    let none = ["--reduction", "none", "-o", "y.npy", "--grad", "g.npy"];
    let found = report(&folder, &[&["x.npy", "hot.npy"], &none[..]].concat());
    assert!(found.get("loss").is_none(), "{found}");
    assert_eq!((shape_of(&folder, "y.npy"), shape_of(&folder, "g.npy")), ("(1, 3)".into(), "(2, 1, 3)".into()));
    let summed = read_floats(&folder, "g.npy");
    report(&folder, &["x.npy", "hot.npy", "--grad", "g.npy", "-o", "y.npy"]);
    assert_eq!(shape_of(&folder, "y.npy"), "()");
    let mean = read_floats(&folder, "g.npy");
    assert!(summed.iter().zip(&mean).all(|(x, y)| (x - 3.0 * y).abs() < 1e-6 && *x != 0.0), "{summed:?} {mean:?}");
    report(&folder, &[&["x.npy", "z.npy", "--activation", "sigmoid"], &none[..]].concat());
    assert_eq!(shape_of(&folder, "y.npy"), "(2, 1, 3)");
}

#[test]
fn what_is_refused() {
    let folder = batch();
    let refused = |arguments: &[&str], words: &[&str]| {
        let files = std::fs::read_dir(&folder).unwrap().count();
        common::refused(&folder, &[&["loss", "focal"], arguments].concat(), 2, words, files);
    };
    refused(&["x.npy", "l.npy"], &["l.npy", "target[2]", "label 255", "--ignore-index 255"]);
    refused(&["x.npy", "l.npy", "--activation", "sigmoid"], &["l.npy", "target[2]", "label 255"]);
    refused(&["x.npy", "z.npy"], &["z.npy", "labels", "--activation sigmoid"]);
    refused(&["one.npy", "binary.npy", "--ignore-index", "1"], &["--ignore-index", "sigmoid"]);
    refused(&["x.npy", "hot.npy", "--gamma", "-1"], &["gamma", "at least 0", "-1"]);
    refused(&["x.npy", "z.npy", "--activation", "sigmoid", "--alpha", "2"], &["alpha", "0..=1", "2"]);
    refused(&["x.npy", "hot.npy", "--grad", "x.npy"], &["x.npy"]);
}
