//! `seghead loss bce`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn seghead(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seghead"));
    command.args(["loss", "bce"]).args(arguments).current_dir(folder).output().unwrap()
}

fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    let output = seghead(folder, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes a version 1.0 .npy file.
fn npy(folder: &TempDir, name: &str, descr: &str, shape: &str, data: &[u8]) {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    fs::write(folder.path().join(name), bytes).unwrap();
}

fn floats(folder: &TempDir, name: &str, shape: &str, values: &[f32]) {
    npy(folder, name, "<f4", shape, bytemuck::cast_slice(values));
}

/// The shape, as the header has it, and the numbers.
fn read_floats(folder: &TempDir, name: &str) -> (String, Vec<f32>) {
    let bytes = fs::read(folder.path().join(name)).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..start]);
    let shape = header[header.rfind('(').unwrap()..=header.rfind(')').unwrap()].to_owned();
    (shape, bytemuck::pod_collect_to_vec(&bytes[start..]))
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
            let report = json(&folder, &[&["x.npy", "z.npy", "--reduction", reduction], options].concat());
            let loss = report["loss"].as_f64().unwrap();
            assert!((loss - expected).abs() < 1e-6 * expected, "{report} {expected}");
            assert_eq!((&report["pixels"], &report["ignored"]), (&8.into(), &0.into()));
        }
        let report = json(&folder, &[&["x.npy", "z.npy", "--reduction", "none", "-o", "l.npy"], options].concat());
        assert!(report.get("loss").is_none() && report["pixels"] == 8, "{report}");
        let (shape, losses) = read_floats(&folder, "l.npy");
        assert_eq!(shape, "(2, 3, 2, 2)");
        assert!(losses.iter().zip(&expected).all(|(loss, e)| (f64::from(*loss) - e).abs() < 1e-6), "{losses:?}");
    }
    let listed = json(&folder, &["x.npy", "z.npy", "--pos-weight", "0.5,2,0"]);
    assert_eq!(json(&folder, &["x.npy", "z.npy", "--pos-weight", "w.npy"]), listed);
    json(&folder, &["x.npy", "z.npy", "-o", "mean.npy"]);
    assert_eq!(read_floats(&folder, "mean.npy").0, "()");
}

/// Labels are 1 for their class and 0 for the others, in either order of the dimensions; of one class they are 0 and 1.
#[test]
fn labels() {
    let folder = batch();
    let labels = [0, 1, 2, 2, 1, 0, 0, 1];
    let one_hot = |i: usize| if labels[i / 12 * 4 + i % 4] == i / 4 % 3 { 1.0f32 } else { 0.0 };
    floats(&folder, "hot.npy", "(2, 3, 2, 2)", &(0..LOGITS).map(one_hot).collect::<Vec<_>>());
    let expected = json(&folder, &["x.npy", "hot.npy", "--pos-weight", "1,2,3"]);
    assert_eq!(json(&folder, &["x.npy", "labels.npy", "--pos-weight", "1,2,3"]), expected);

    // Classes last: where each element of it is in the other order.
    let moved = |i: usize| i / 12 * 12 + i % 3 * 4 + i % 12 / 3;
    floats(&folder, "last.npy", "(2, 2, 2, 3)", &(0..LOGITS).map(|i| logit(moved(i))).collect::<Vec<_>>());
    let hot = ["last.npy", "labels.npy", "--layout", "nhwc", "--reduction", "none", "-o", "last_losses.npy"];
    json(&folder, &hot);
    json(&folder, &["x.npy", "hot.npy", "--reduction", "none", "-o", "losses.npy"]);
    let ((shape, last), (_, first)) = (read_floats(&folder, "last_losses.npy"), read_floats(&folder, "losses.npy"));
    assert_eq!(shape, "(2, 2, 2, 3)");
    assert_eq!(last, (0..LOGITS).map(|i| first[moved(i)]).collect::<Vec<_>>());

    floats(&folder, "one.npy", "(1, 2, 2)", &[0.5, -1.0, 2.0, 0.0]);
    floats(&folder, "target.npy", "(1, 2, 2)", &[1.0, 0.0, 0.0, 1.0]);
    npy(&folder, "binary.npy", "<i8", "(2, 2)", bytemuck::cast_slice(&[1i64, 0, 0, 1]));
    let expected = json(&folder, &["one.npy", "target.npy"]);
    assert_eq!(json(&folder, &["one.npy", "binary.npy"]), expected);
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
    assert_eq!(json(&folder, &["x.npy", "halves.npy"]), json(&folder, &["x.npy", "z.npy"]));
    floats(&folder, "inf.npy", "(2, 1, 2)", &[0.0, f32::INFINITY, -2.0, 0.5]);
    floats(&folder, "one.npy", "(2, 1, 2)", &[0.0, 1.0, 0.0, 0.0]);
    assert_eq!(json(&folder, &["inf.npy", "one.npy"])["loss"], Value::Null);
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
        let output = seghead(&folder, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| !line.contains("no real GPU chosen")).collect();
        assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{stderr}");
        assert!(words.iter().all(|word| lines[0].contains(word)), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty());
    };
    refused(&["x.npy", "three.npy"], &["three.npy", "target[5]", "below 3", "label 3"]);
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
