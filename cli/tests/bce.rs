//! `seghead loss bce`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

/// What the command prints as JSON.
#[track_caller]
fn report(folder: &TempDir, arguments: &[&str]) -> Value {
    json(&seghead(folder, &[&["loss", "bce"], arguments, &["--json"]].concat()))
}

/// The shape, as the header has it, and the numbers.
fn shape_and_floats(folder: &TempDir, name: &str) -> (String, Vec<f32>) {
    let header = read(folder, name).0;
    (header[header.rfind('(').unwrap()..=header.rfind(')').unwrap()].to_owned(), read_floats(folder, name))
}

/// The loss of an element as its definition has it.
fn loss(x: f32, z: f32, p: f32) -> f64 {
    let (x, z, p) = (f64::from(x), f64::from(z), f64::from(p));
    (1.0 - z) * x + (1.0 + (p - 1.0) * z) * ((-x.abs()).exp().ln_1p() + (-x).max(0.0))
}

const LOGITS: usize = 24;
const WEIGHTS: [f32; 3] = [0.5, 2.0, 0.0];

fn logit(i: usize) -> f32 {
    (i as f32 * 0.37) % 1.9 - 0.7
}

fn target(i: usize) -> f32 {
    (i as f32 * 0.21) % 1.0
}

/// Two images of 3 classes and 2 × 2 pixels, with targets and with labels.
fn batch() -> TempDir {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 3, 2, 2)", &(0..LOGITS).map(logit).collect::<Vec<_>>());
    floats(&folder, "z.npy", "(2, 3, 2, 2)", &(0..LOGITS).map(target).collect::<Vec<_>>());
    npy(&folder, "labels.npy", "|u1", "(2, 2, 2)", &[0, 1, 2, 2, 1, 0, 0, 1]);
    floats(&folder, "w.npy", "(3,)", &WEIGHTS);
    folder
}

#[test]
fn reductions_and_weights() {
    let folder = batch();
    let class = |i: usize| i / 4 % 3;
    for weighted in [false, true] {
        let options: &[&str] = if weighted { &["--pos-weight", "w.npy"] } else { &[] };
        let weight = |i: usize| if weighted { WEIGHTS[class(i)] } else { 1.0 };
        let expected: Vec<f64> = (0..LOGITS).map(|i| loss(logit(i), target(i), weight(i))).collect();
        let sum: f64 = expected.iter().sum();
        for (reduction, expected) in [("mean", sum / LOGITS as f64), ("sum", sum)] {
            let found = report(&folder, &[&["x.npy", "z.npy", "--reduction", reduction], options].concat());
            let loss = found["loss"].as_f64().unwrap();
            assert!((loss - expected).abs() < 1e-6 * expected, "{found} {expected}");
            assert_eq!((&found["pixels"], &found["ignored"]), (&8.into(), &0.into()));
        }
        let slope = |i: usize| {
            let (z, p, s) = (f64::from(target(i)), f64::from(weight(i)), 1.0 / (1.0 + f64::from(-logit(i)).exp()));
            (1.0 - z) * s - p * z * (1.0 - s)
        };
        for (reduction, count) in [("mean", LOGITS as f64), ("sum", 1.0), ("none", 1.0)] {
            let grad = ["x.npy", "z.npy", "--reduction", reduction, "-o", "l.npy", "--grad", "g.npy"];
            report(&folder, &[&grad, options].concat());
            let (shape, gradient) = shape_and_floats(&folder, "g.npy");
            assert_eq!(shape, "(2, 3, 2, 2)");
            let close = |(i, &g): (usize, &f32)| (f64::from(g) - slope(i) / count).abs() < 1e-6;
            assert!(gradient.iter().enumerate().all(close), "{gradient:?}");
        }
        let found = report(&folder, &[&["x.npy", "z.npy", "--reduction", "none", "-o", "l.npy"], options].concat());
        assert!(found.get("loss").is_none() && found["pixels"] == 8, "{found}");
        let (shape, losses) = shape_and_floats(&folder, "l.npy");
        assert_eq!(shape, "(2, 3, 2, 2)");
        assert!(losses.iter().zip(&expected).all(|(loss, e)| (f64::from(*loss) - e).abs() < 1e-6), "{losses:?}");
    }
    let listed = report(&folder, &["x.npy", "z.npy", "--pos-weight", "0.5,2,0"]);
    assert_eq!(report(&folder, &["x.npy", "z.npy", "--pos-weight", "w.npy"]), listed);
    report(&folder, &["x.npy", "z.npy", "-o", "mean.npy"]);
    assert_eq!(shape_and_floats(&folder, "mean.npy").0, "()");
}

/// Labels are 1 for their class and 0 for the others, in either order of the dimensions; of one class they are 0 and 1.
/// Pixels that are ignored count for nothing, and classes have weights.
#[test]
fn ignored_labels_and_class_weights() {
    let folder = batch();
    npy(&folder, "some.npy", "|u1", "(2, 2, 2)", &[0, 1, 255, 2, 255, 0, 0, 1]);
    let found = report(&folder, &["x.npy", "some.npy", "--ignore-index", "255", "--class-weights", "1,2,0.5"]);
    let labels = [0, 1, 255, 2, 255, 0, 0, 1];
    let counted = (0..LOGITS).filter(|i| labels[i / 12 * 4 + i % 4] != 255);
    let one_hot = |i: usize| if labels[i / 12 * 4 + i % 4] == i / 4 % 3 { 1.0 } else { 0.0 };
    let sum: f64 = counted.map(|i| [1.0, 2.0, 0.5][i / 4 % 3] * loss(logit(i), one_hot(i), 1.0)).sum();
    let value = found["loss"].as_f64().unwrap();
    assert!((value - sum / 18.0).abs() < 1e-6 * value, "{found} {}", sum / 18.0);
    assert_eq!((&found["pixels"], &found["ignored"]), (&8.into(), &2.into()));
}

#[test]
fn labels() {
    let folder = batch();
    let labels = [0, 1, 2, 2, 1, 0, 0, 1];
    let one_hot = |i: usize| if labels[i / 12 * 4 + i % 4] == i / 4 % 3 { 1.0f32 } else { 0.0 };
    floats(&folder, "hot.npy", "(2, 3, 2, 2)", &(0..LOGITS).map(one_hot).collect::<Vec<_>>());
    let expected = report(&folder, &["x.npy", "hot.npy", "--pos-weight", "1,2,3"]);
    assert_eq!(report(&folder, &["x.npy", "labels.npy", "--pos-weight", "1,2,3"]), expected);

    // Classes last: where each element of it is in the other order.
    let moved = |i: usize| i / 12 * 12 + i % 3 * 4 + i % 12 / 3;
    floats(&folder, "last.npy", "(2, 2, 2, 3)", &(0..LOGITS).map(|i| logit(moved(i))).collect::<Vec<_>>());
    let hot = ["last.npy", "labels.npy", "--layout", "nhwc", "--reduction", "none", "-o", "last_losses.npy"];
    report(&folder, &hot);
    report(&folder, &["x.npy", "hot.npy", "--reduction", "none", "-o", "losses.npy"]);
    let ((shape, last), (_, first)) =
        (shape_and_floats(&folder, "last_losses.npy"), shape_and_floats(&folder, "losses.npy"));
    assert_eq!(shape, "(2, 2, 2, 3)");
    assert_eq!(last, (0..LOGITS).map(|i| first[moved(i)]).collect::<Vec<_>>());

    floats(&folder, "one.npy", "(1, 2, 2)", &[0.5, -1.0, 2.0, 0.0]);
    floats(&folder, "target.npy", "(1, 2, 2)", &[1.0, 0.0, 0.0, 1.0]);
    npy(&folder, "binary.npy", "<i8", "(2, 2)", bytemuck::cast_slice(&[1i64, 0, 0, 1]));
    let expected = report(&folder, &["one.npy", "target.npy"]);
    assert_eq!(report(&folder, &["one.npy", "binary.npy"]), expected);
    let sum = loss(0.5, 1.0, 1.0) + loss(-1.0, 0.0, 1.0) + loss(2.0, 0.0, 1.0) + loss(0.0, 1.0, 1.0);
    assert!((expected["loss"].as_f64().unwrap() - sum / 4.0).abs() < 1e-6, "{expected}");
    assert_eq!(expected["pixels"], 4);
}

#[test]
fn halves_and_special_values() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 2)", &[0.0, 1.0, -2.0, 0.5]);
    floats(&folder, "z.npy", "(1, 2, 1, 2)", &[0.25, 0.5, 1.0, 0.0]);
    npy(&folder, "halves.npy", "<f2", "(2, 1, 2)", bytemuck::cast_slice(&[0x3400u16, 0x3800, 0x3c00, 0]));
    assert_eq!(report(&folder, &["x.npy", "halves.npy"]), report(&folder, &["x.npy", "z.npy"]));
    floats(&folder, "inf.npy", "(2, 1, 2)", &[0.0, f32::INFINITY, -2.0, 0.5]);
    floats(&folder, "one.npy", "(2, 1, 2)", &[0.0, 1.0, 0.0, 0.0]);
    assert_eq!(report(&folder, &["inf.npy", "one.npy"])["loss"], Value::Null);
}

#[test]
fn what_is_refused() {
    let folder = batch();
    floats(&folder, "one.npy", "(1, 2, 2)", &[0.0; 4]);
    floats(&folder, "map.npy", "(2, 2)", &[0.0; 4]);
    npy(&folder, "small.npy", "|u1", "(2, 2)", &[0; 4]);
    npy(&folder, "three.npy", "|u1", "(2, 2, 2)", &[0, 1, 2, 0, 1, 3, 0, 0]);
    npy(&folder, "negative.npy", "|i1", "(2, 2)", &[0, 1, 0, 255]);
    npy(&folder, "two.npy", "|u1", "(2, 2)", &[0, 1, 2, 0]);
    let refused = |arguments: &[&str], words: &[&str]| {
        let files = std::fs::read_dir(&folder).unwrap().count();
        common::refused(&folder, &[&["loss", "bce"], arguments].concat(), 2, words, files);
    };
    refused(&["x.npy", "three.npy"], &["three.npy", "target[5]", "below 3", "label 3"]);
    refused(&["x.npy", "z.npy", "--ignore-index", "1"], &["z.npy", "expected labels for --ignore-index", "floats"]);
    refused(&["x.npy", "labels.npy", "--class-weights", "1,2"], &["class weights", "3", "2"]);
    refused(&["one.npy", "two.npy"], &["two.npy", "target[2]", "below 2", "label 2"]);
    refused(&["one.npy", "negative.npy"], &["negative.npy", "target[3]", "label -1"]);
    refused(&["x.npy", "small.npy"], &["small.npy", "labels", "[2, 2, 2]", "[2, 2]"]);
    refused(&["x.npy", "one.npy"], &["one.npy", "soft targets", "[2, 3, 2, 2]", "[1, 2, 2]"]);
    refused(&["x.npy", "map.npy"], &["map.npy", "labels of an integer type", "float32"]);
    refused(&["x.npy", "z.npy", "--pos-weight", "1,2"], &["pos weight", "3", "2"]);
    refused(&["x.npy", "z.npy", "--pos-weight", "1,a,3"], &["1,a,3"]);
    refused(&["x.npy", "z.npy", "--reduction", "none"], &["--output"]);
    refused(&["x.npy", "z.npy", "-o", "z.npy"], &["z.npy"]);
}
