//! `seghead loss cross-entropy` of logits that are upsampled to the labels.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use tempfile::TempDir;

/// Two images of 3 classes and 2 × 3 pixels, labels of 4 × 5.
fn batch() -> TempDir {
    let folder = TempDir::new().unwrap();
    let values: Vec<f32> = (0..36).map(|i| (i as f32 * 0.37) % 1.9 - 0.5).collect();
    floats(&folder, "x.npy", "(2, 3, 2, 3)", &values);
    let labels: Vec<u8> = (0..40).map(|i| if i % 7 == 3 { 255 } else { (i * 5 / 3 % 3) as u8 }).collect();
    npy(&folder, "t.npy", "|u1", "(2, 4, 5)", &labels);
    folder
}

const ARGUMENTS: [&str; 6] = ["loss", "cross-entropy", "x.npy", "t.npy", "--ignore-index", "255"];

const IGNORED: usize = 6;

/// The values of `F.cross_entropy(F.interpolate(x, (4, 5), mode="bilinear"), t, ignore_index=255)`.
#[test]
fn losses_are_pytorchs() {
    let folder = batch();
    for (options, expected) in [
        (&["--resize", "half-pixel"][..], 1.160_872_556),
        (&["--resize", "align-corners"], 1.168_838_174),
        (&["--resize", "half-pixel", "--label-smoothing", "0.1", "--class-weights", "0.5,2,1"], 1.179_091_864),
    ] {
        let found = json(&seghead(&folder, &[&ARGUMENTS[..], options, &["--json"]].concat()));
        let loss = found["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 2e-6 * expected, "{options:?}: {found}");
        assert_eq!((&found["pixels"], &found["ignored"]), (&40.into(), &IGNORED.into()));
    }
}

#[test]
fn what_is_written_has_the_shapes_of_logits_and_labels() {
    let folder = batch();
    let options = ["--resize", "asymmetric", "--reduction", "none", "-o", "l.npy", "--grad", "g.npy", "--json"];
    json(&seghead(&folder, &[&ARGUMENTS[..], &options].concat()));
    let (losses, gradient) = (read_floats(&folder, "l.npy"), read_floats(&folder, "g.npy"));
    assert_eq!((losses.len(), gradient.len()), (40, 36));
    assert_eq!(losses.iter().filter(|&&loss| loss == 0.0).count(), IGNORED);
    // Over the classes it adds up to 0.
    for pixel in 0..12 {
        let sum: f32 = (0..3).map(|c| gradient[pixel / 6 * 18 + c * 6 + pixel % 6]).sum();
        assert!(sum.abs() < 1e-5, "{gradient:?}");
    }
}

#[test]
fn other_sizes_are_refused_without_it() {
    let folder = batch();
    refused(&folder, &ARGUMENTS, 2, &["[2, 2, 3]", "[2, 4, 5]", "--resize"], 2);
    floats(&folder, "p.npy", "(2, 3, 2, 3)", &[0.5; 36]);
    npy(&folder, "one.npy", "|u1", "(4, 5)", &[0; 20]);
    for (target, word) in [("p.npy", "expected labels for --resize"), ("one.npy", "labels of 2 images")] {
        let arguments = ["loss", "cross-entropy", "x.npy", target, "--resize", "half-pixel"];
        refused(&folder, &arguments, 2, &[target, word], 4);
    }
}
