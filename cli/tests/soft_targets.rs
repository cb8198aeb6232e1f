//! `seghead loss cross-entropy` against soft targets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

/// What the command prints as JSON.
#[track_caller]
fn report(folder: &TempDir, arguments: &[&str]) -> Value {
    json(&seghead(folder, &[&["loss", "cross-entropy"], arguments, &["--json"]].concat()))
}

/// Two images of 3 classes and 2 × 2 pixels, and what PyTorch 2.15 returns for them.
fn batch() -> TempDir {
    let folder = TempDir::new().unwrap();
    let values = |step: f32, range: f32| (0..24).map(|i| (i as f32 * step) % range).collect::<Vec<f32>>();
    floats(&folder, "x.npy", "(2, 3, 2, 2)", &values(0.37, 1.9));
    floats(&folder, "p.npy", "(2, 3, 2, 2)", &values(0.21, 1.1));
    folder
}

#[test]
fn losses_are_pytorchs() {
    let folder = batch();
    for (options, expected) in [
        (&[][..], 1.362_430_1),
        (&["--label-smoothing", "0.1"], 1.348_201_5),
        (&["--class-weights", "0.5,2,0"], 1.158_103_6),
        (&["--class-weights", "0.5,2,0", "--label-smoothing", "0.1", "--reduction", "sum"], 9.159_109),
    ] {
        let found = report(&folder, &[&["x.npy", "p.npy"], options].concat());
        let loss = found["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 2e-6 * expected, "{options:?}: {found}");
        assert_eq!((&found["pixels"], &found["ignored"]), (&8.into(), &0.into()));
    }
    let found = report(&folder, &["x.npy", "p.npy", "--reduction", "none", "-o", "l.npy"]);
    assert!(found.get("loss").is_none() && found["ignored"] == 0);
    let losses = read_floats(&folder, "l.npy");
    assert_eq!(losses.len(), 8);
    assert!((losses.iter().sum::<f32>() - 10.899_441).abs() < 2e-5, "{losses:?}");
}

/// float16 on either side, classes last, an image without N.
#[test]
fn types_and_layouts() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(3, 1, 2)", &[0.0, 1.0, 1.0, 0.5, 2.0, -1.0]);
    floats(&folder, "p.npy", "(1, 3, 1, 2)", &[0.25, 0.5, 0.25, 0.5, 0.5, 0.0]);
    floats(&folder, "x_last.npy", "(1, 2, 3)", &[0.0, 1.0, 2.0, 1.0, 0.5, -1.0]);
    floats(&folder, "p_last.npy", "(1, 2, 3)", &[0.25, 0.25, 0.5, 0.5, 0.5, 0.0]);
    let halves: [u16; 6] = [0x3400, 0x3800, 0x3400, 0x3800, 0x3800, 0];
    npy(&folder, "halves.npy", "<f2", "(3, 1, 2)", bytemuck::cast_slice(&halves));
    let loss = report(&folder, &["x.npy", "p.npy"]);
    assert_eq!(report(&folder, &["x.npy", "halves.npy"]), loss);
    let last = report(&folder, &["x_last.npy", "p_last.npy", "--layout", "hwc"]);
    assert!((last["loss"].as_f64().unwrap() - loss["loss"].as_f64().unwrap()).abs() < 1e-6, "{last} {loss}");
    // A class that is impossible for the network and for the target: NaN, as in PyTorch.
    floats(&folder, "inf.npy", "(3, 1, 2)", &[0.0, 1.0, 1.0, 0.5, 2.0, f32::NEG_INFINITY]);
    assert_eq!(report(&folder, &["inf.npy", "p.npy"])["loss"], Value::Null);
}

#[test]
fn what_is_refused() {
    let folder = batch();
    floats(&folder, "map.npy", "(2, 2)", &[0.0; 4]);
    floats(&folder, "other.npy", "(2, 3, 2, 1)", &[0.0; 12]);
    npy(&folder, "double.npy", "<f8", "(2, 3, 2, 2)", &[0; 192]);
    npy(&folder, "labels.npy", "|u1", "(2, 2, 2)", &[0; 8]);
    let refused = |arguments: &[&str], words: &[&str]| {
        let files = std::fs::read_dir(&folder).unwrap().count();
        common::refused(&folder, &[&["loss", "cross-entropy"], arguments].concat(), 2, words, files);
    };
    for index in ["-100", "255"] {
        refused(&["x.npy", "p.npy", "--ignore-index", index], &["p.npy", "--ignore-index", "soft"]);
    }
    refused(&["x.npy", "other.npy"], &["other.npy", "soft targets", "[2, 3, 2, 2]", "[2, 3, 2, 1]"]);
    refused(&["x.npy", "map.npy"], &["map.npy", "labels of an integer type", "float32"]);
    refused(&["x.npy", "double.npy"], &["double.npy", "float64", ".astype(np.float32)"]);
    refused(&["x.npy", "p.npy", "--class-weights", "1,2"], &["class weights", "2", "3"]);
    // Labels go with an ignore index as before.
    assert_eq!(report(&folder, &["x.npy", "labels.npy", "--ignore-index", "0"])["ignored"], 8);
    assert_eq!(report(&folder, &["x.npy", "labels.npy"])["ignored"], 0);
}
