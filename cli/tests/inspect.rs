//! `seghead inspect`, and the warnings of the commands that take a softmax.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::process::Output;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

/// Standard output of a command that succeeds.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The warnings on stderr.
fn warnings(output: &Output) -> Vec<String> {
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let warnings = stderr.lines().filter_map(|line| line.strip_prefix("seghead: warning: "));
    warnings.map(str::to_owned).collect()
}

/// Numbers in −4..=4 without a pattern.
fn noise(count: usize) -> Vec<f32> {
    (0..count as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes() % 8001) as f32 / 1000.0 - 4.0)
        .collect()
}

/// The softmax of runs of `count` elements, `stride` apart.
fn softmax(values: &[f32], count: usize, stride: usize) -> Vec<f32> {
    let mut result = values.to_vec();
    for first in (0..values.len()).filter(|i| (i / stride).is_multiple_of(count)) {
        let sum: f32 = (0..count).map(|k| values[first + k * stride].exp()).sum();
        (0..count).for_each(|k| result[first + k * stride] = values[first + k * stride].exp() / sum);
    }
    result
}

const TWICE: &str = "sums to 1 along the class axis: these are probabilities, softmax would be applied twice";
const LAST: &str = "sums to 1 along the last axis: softmax was taken over the wrong axis or the layout is HWC";
const HEIGHT: &str = "sums to 1 along the height axis: softmax was taken over the wrong axis";
const SIGMOID: &str = "all in 0..1 but no sum: sigmoid outputs?";

#[test]
fn a_table_and_findings() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.5, -1.5, f32::NAN, 2.0, 0.25, f32::NEG_INFINITY]);
    let output = seghead(&folder, &["inspect", "x.npy"]);
    let text = stdout(&output);
    for line in [
        "shape [2, 1, 3] as chw: 1 × 2 classes × 1 × 3 pixels",
        "sums to 1 along class: 0 of 3",
        "    0     -1.50000      0.50000         1         0         0          1          1",
        "    1      0.25000      2.00000         0         0         1          0          1",
        "  all     -1.50000      2.00000         1         0         1          1          2",
        "1 NaN, 0 +Inf, 1 −Inf: diverged network? In classes 0, 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
    // What is found is the result, not a warning.
    assert_eq!(warnings(&output), [""; 0]);

    let report: Value = serde_json::from_str(&stdout(&seghead(&folder, &["inspect", "x.npy", "--json"]))).unwrap();
    assert_eq!((&report["layout"], &report["shape"]), (&"chw".into(), &serde_json::json!([2, 1, 3])));
    assert_eq!((&report["minimum"], &report["maximum"]), (&(-1.5).into(), &2.0.into()));
    let class = &report["classes"][1];
    assert_eq!((&class["class"], &class["negative_infinity"], &class["unit"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(report["sums"]["width"], serde_json::json!({ "length": 3, "count": 2, "finite": 0, "ones": 0 }));
    assert_eq!(report["findings"].as_array().unwrap().len(), 1);
}

#[test]
fn long_tables_are_cut() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(1, 40, 2, 3)", &noise(240));
    let text = stdout(&seghead(&folder, &["inspect", "x.npy"]));
    assert!(text.contains("\n   31 ") && !text.contains("\n   32 "), "{text}");
    assert!(text.contains("… and 8 more") && text.ends_with("nothing conspicuous\n"), "{text}");
    let report: Value = serde_json::from_str(&stdout(&seghead(&folder, &["inspect", "x.npy", "--json"]))).unwrap();
    assert_eq!((report["classes"].as_array().unwrap().len(), &report["layout"]), (40, &"nchw".into()));
    // A nothing is what cannot be read.
    let output = seghead(&folder, &["inspect", "nope.npy"]);
    assert_eq!(output.status.code(), Some(2));
}

/// Checks what `segment`, `softmax` and the loss warn of, and that it is in their JSON too, and nowhere with -q.
#[track_caller]
fn warned(folder: &TempDir, name: &str, options: &[&str], expected: &[&str]) {
    let lines: Vec<_> = expected.iter().map(|line| format!("{name}: {line}")).collect();
    for command in
        [&["segment", name][..], &["softmax", name, "-o", "y.npy"], &["loss", "cross-entropy", name, "t.npy"]]
    {
        let arguments = [command, options].concat();
        let output = seghead(folder, &arguments);
        assert_eq!(warnings(&output), lines, "{arguments:?}");
        assert!(!stdout(&output).contains("warning"), "{arguments:?}");
        let output = seghead(folder, &[&arguments[..], &["--json"]].concat());
        assert_eq!(warnings(&output), lines, "{arguments:?}");
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(report["warnings"], serde_json::json!(expected), "{arguments:?}");
        let output = seghead(folder, &[&arguments[..], &["-q"]].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn warnings_of_small_tensors() {
    let folder = TempDir::new().unwrap();
    let logits = noise(3 * 8 * 10);
    npy(&folder, "t.npy", "|u1", "(8, 10)", &[1; 80]);
    let warned = |values: &[f32], expected: &[&str]| {
        floats(&folder, "x.npy", "(3, 8, 10)", values);
        warned(&folder, "x.npy", &[], expected);
    };
    warned(&logits, &[]);
    warned(&softmax(&logits, 3, 80), &[TWICE]);
    warned(&softmax(&logits, 10, 1), &[LAST]);
    warned(&softmax(&logits, 8, 10), &[HEIGHT]);
    let sigmoid: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    warned(&sigmoid, &[SIGMOID]);
    let mut masked = logits.clone();
    masked[7] = f32::NEG_INFINITY;
    warned(&masked, &[]);
    masked[100] = f32::NAN;
    let line = "1 NaN, 0 +Inf, 1 −Inf: diverged network? In classes 0, 1 (in a sample: see seghead inspect)";
    warned(&masked, &[line]);
}

/// So large that a sample is looked at.
#[test]
fn warnings_of_large_tensors() {
    let folder = TempDir::new().unwrap();
    let (classes, height, width) = (6, 200, 301);
    let logits = noise(classes * height * width);
    npy(&folder, "t.npy", "|u1", "(200, 301)", &vec![1; height * width]);
    let warned = |values: &[f32], shape: &str, options: &[&str], expected: &[&str]| {
        floats(&folder, "x.npy", shape, values);
        warned(&folder, "x.npy", options, expected);
    };
    let chw = "(6, 200, 301)";
    warned(&logits, chw, &[], &[]);
    warned(&softmax(&logits, classes, height * width), chw, &[], &[TWICE]);
    warned(&softmax(&logits, width, 1), chw, &[], &[LAST]);
    warned(&softmax(&logits, height, width), chw, &[], &[HEIGHT]);
    let sigmoid: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    warned(&sigmoid, chw, &[], &[SIGMOID]);
    warned(&softmax(&logits, classes, 1), "(200, 301, 6)", &["--layout", "hwc"], &[TWICE]);
}

#[test]
fn a_wrong_layout() {
    let folder = TempDir::new().unwrap();
    let (height, width, classes) = (60, 80, 5);
    let smooth = |i: usize| {
        let (y, x, c) = (i / classes / width, i / classes % width, i % classes);
        (y as f32 * 0.05).sin() + (x as f32 * 0.04).cos() + [0.0, 3.0, -2.0, 5.0, 1.0][c]
    };
    let values: Vec<f32> = (0..height * width * classes).map(smooth).collect();
    floats(&folder, "x.npy", "(60, 80, 5)", &values);
    let output = seghead(&folder, &["softmax", "x.npy", "-o", "y.npy"]);
    let found = warnings(&output);
    assert!(found.len() == 1 && found[0].contains("the layout looks like HWC, try --layout hwc"), "{found:?}");
    let output = seghead(&folder, &["softmax", "x.npy", "-o", "y.npy", "--layout", "hwc"]);
    assert_eq!(warnings(&output), [""; 0]);
    // What the command itself writes is found out, unless another axis is asked for on purpose.
    let output = seghead(&folder, &["softmax", "y.npy", "-o", "z.npy", "--layout", "hwc"]);
    assert_eq!(warnings(&output), [format!("y.npy: {TWICE}")]);
    for axis in ["height", "width"] {
        let output = seghead(&folder, &["softmax", "y.npy", "-o", "z.npy", "--layout", "hwc", "--axis", axis]);
        assert_eq!(warnings(&output), [""; 0]);
        let output = seghead(&folder, &["softmax", "x.npy", "-o", "z.npy", "--axis", axis]);
        assert_eq!(warnings(&output), [""; 0]);
    }
}

#[test]
fn a_command_that_fails_says_one_line() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "p.npy", "(2, 4, 5)", &[0.5; 40]);
    floats(&folder, "nan.npy", "(2, 4, 5)", &[f32::NAN; 40]);
    npy(&folder, "t.npy", "|u1", "(4, 5)", &[9; 20]);
    for arguments in
        [&["softmax", "nan.npy", "-o", "no/such/y.npy"][..], &["loss", "cross-entropy", "nan.npy", "t.npy"]]
    {
        let output = seghead(&folder, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with("error: XDG_RUNTIME_DIR")).collect();
        assert!(!output.status.success() && lines.len() == 1 && !lines[0].contains("warning"), "{stderr}");
    }
}
