//! `seghead bench`: what it reports, not how fast anything is.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seghead")).arg("bench").args(arguments).output().unwrap()
}

#[test]
fn every_operator_on_every_shape_and_type() {
    let output = bench(&["--json", "--runs", "1", "--shape", "3x7x5", "2x30x8x8", "--type", "f32", "f16"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let gpu = seghead::Gpu::headless_blocking(&seghead::GpuOptions::default()).unwrap();
    assert_eq!(report["adapter"], gpu.adapter_info().name);
    assert!(report["empty_submission_ms"]["median"].as_f64().unwrap() > 0.0);
    for times in ["end_to_end_ms", "device_ms", "empty_submission_ms", "host_copy_ms"] {
        assert!(report["small_work"][times]["median"].as_f64().unwrap() > 0.0, "{times}");
    }
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len().is_multiple_of(4) && rows.len() >= 4 * 10, "{}", rows.len());
    for row in rows {
        for times in [&row["device_ms"], &row["copy_ms"]] {
            assert!(times["min"].as_f64().unwrap() <= times["median"].as_f64().unwrap(), "{row}");
            assert!(times["spread"].as_f64().unwrap() >= 0.0 && times["runs"] == 1, "{row}");
        }
        assert!(row["gb_per_s"].as_f64().unwrap() > 0.0 && row["share_of_copy"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["end_to_end_ms"].is_null(), row["op"] == "confusion-matrix", "{row}");
        assert!(!row["kernels"].as_array().unwrap().is_empty(), "{row}");
    }
    let find = |op: &str, shape: &str, element: &str| {
        let mut found = rows.iter().filter(|row| row["op"] == op && row["shape"] == shape && row["type"] == element);
        found.next().unwrap_or_else(|| panic!("no {op} of {shape} {element}")).clone()
    };
    // What is read, and labels of 8 bits that are written.
    assert_eq!(find("argmax", "2x30x8x8", "f16")["bytes"], 2 * 30 * 64 * 2 + 2 * 64);
    assert_eq!(find("argmax", "2x30x8x8", "f32")["bytes"], 2 * 30 * 64 * 4 + 2 * 64);
    assert_eq!(find("segment", "2x30x8x8", "f32")["bytes"], 2 * 30 * 64 * 4 + 2 * 32 * 32);
    find("softmax", "3x7x5", "f16");
}

#[test]
fn a_table_of_what_was_asked_for() {
    let output = bench(&["-q", "--runs", "1", "--shape", "3x8x8", "--op", "argmax", "segment", "--scale", "1.5"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    let operators: Vec<_> = table.lines().skip(5).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(operators, ["argmax", "segment"], "{table}");
}

/// The environment chooses how tensors come to the device.
#[test]
fn transfer_by_the_environment() {
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seghead"));
        command.args(["bench", "--json", "--runs", "1", "--shape", "3x8x8", "--op", "argmax"]);
        command
    };
    let transfer = |command: &mut Command| {
        let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        report["transfer"].as_str().unwrap().to_owned()
    };
    let fast = transfer(command().env_remove("SEGHEAD_TRANSFER"));
    assert_eq!(transfer(command().env("SEGHEAD_TRANSFER", "staged")), "staged");
    // Only where it can be had.
    assert_eq!(transfer(command().env("SEGHEAD_TRANSFER", "mapped")), fast);
}

#[test]
fn by_default_all_that_there_are_classes_for() {
    for (shape, top) in [("1x8x8", &["top-1"][..]), ("3x8x8", &["top-1", "top-3", "top-3-probabilities"])] {
        let output = bench(&["-q", "--json", "--runs", "1", "--shape", shape]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let operators: Vec<_> =
            report["rows"].as_array().unwrap().iter().map(|row| row["op"].as_str().unwrap()).collect();
        assert!(operators.contains(&"argmax"), "{operators:?}");
        let found: Vec<_> = operators.into_iter().filter(|operator| operator.starts_with("top")).collect();
        assert_eq!(found, top, "{shape}");
    }
}

#[test]
fn what_cannot_be_measured() {
    for (arguments, named) in [
        (&["--shape", "3x8"][..], "3x8"),
        (&["--shape", "0x8x8"], "0x8x8"),
        (&["--shape", "3x8x8", "--op", "frobnicate"], "frobnicate"),
        (&["--shape", "3x8x8", "--type", "f64"], "f64"),
        (&["--shape", "3x8x8", "--scale", "-1"], "-1"),
        (&["--shape", "3x8x8", "--op", "segment", "--scale", "0.01"], "segment at --scale 0.01 of 3x8x8"),
        (&["--shape", "2x8x8", "--op", "top-3"], "top-3 of 2x8x8"),
        (&["--shape", "3x8x8", "--runs", "0"], "0"),
        (&["--shape", "4000000000x4000000000x4000000000"], "elements"),
        (&["--shape", "1000x1000x1000", "--type", "f16"], "bytes"),
    ] {
        let output = bench(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(named), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
