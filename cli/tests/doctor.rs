//! `seghead doctor`: here every kernel is right.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seghead")).arg("doctor").args(arguments).output().unwrap()
}

#[test]
fn every_kernel_is_right() {
    let output = doctor(&["--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let gpu = seghead::Gpu::headless_blocking(&seghead::GpuOptions::default()).unwrap();
    assert_eq!(report["adapter"], gpu.adapter_info().name);

    // A class count that is a part of the specialisation and one that is not.
    let all: BTreeSet<_> = [3, 30].into_iter().flat_map(|classes| gpu.kernels(classes)).collect();
    let names: BTreeSet<_> = all.iter().map(|one| one.kernel).collect();
    let rows = report["kernels"].as_array().unwrap();
    let listed: BTreeSet<_> = rows.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    for row in rows {
        let there_are = all.iter().filter(|one| row["kernel"] == one.kernel).count();
        assert_eq!(row["specialisations"], there_are, "{row}");
        assert_eq!(row["ran"], there_are, "{row}");
        assert!(row["ok"] == true && row["values"].as_u64().unwrap() > 0, "{row}");
        assert!(row["worst"].as_f64().unwrap() <= 1.0, "{row}");
        assert_eq!(row["failures"].as_array().unwrap().len(), 0, "{row}");
    }
}

#[test]
fn a_table_for_people() {
    let output = doctor(&["--kernel", "sigmoid", "-q"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.ends_with(" ok") || line.ends_with(" WRONG")).collect();
    let right = |row: &&str| row.contains("sigmoid") && row.ends_with(" ok");
    assert!(rows.len() == 3 && rows.iter().all(right), "{table}"); // sigmoid, sigmoid rows, temporal smoothing sigmoid
}

#[test]
fn kernels_that_do_not_exist() {
    let output = doctor(&["--kernel", "frobnicate"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("frobnicate"), "{stderr}");
    assert!(output.stdout.is_empty());
}
