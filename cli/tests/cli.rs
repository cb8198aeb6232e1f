//! The command from outside: what it writes, prints and refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::process::Command;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn the_demo_segments_the_sample() {
    let folder = TempDir::new().unwrap();
    let report = json(&seghead(&folder, &["demo", "-o", "out", "--json"]));
    // As computed with PyTorch from the same logits and labels.
    let expected = [("background", 0.9261), ("cat", 0.8962), ("person", 0.9535), ("cup", 0.9341)];
    for (class, (name, iou)) in report["classes"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(class["class"], name);
        assert!((class["iou"].as_f64().unwrap() - iou).abs() < 2e-4, "{class}");
        assert!(class["confidence"].as_f64().unwrap() > 0.9, "{class}");
    }
    for name in ["labels", "confidence", "overlay"] {
        let bytes = fs::read(folder.path().join(format!("out/{name}.png"))).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{name}");
        let size = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        // Below the overlay is its legend.
        let fits = if name == "overlay" { size(20) > 448 } else { size(20) == 448 };
        assert!(size(16) == 640 && fits, "{name}: {} × {}", size(16), size(20));
    }
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 3);
}

#[test]
fn tensors_keep_their_shape() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0, 1.0, -200.0, 0.0, 3.0, 200.0]);
    assert!(seghead(&folder, &["sigmoid", "x.npy", "-o", "s.npy"]).status.success());
    let report = json(&seghead(&folder, &["softmax", "x.npy", "-o", "p.npy", "--json"]));
    assert_eq!(report["shape"], serde_json::json!([2, 1, 3]));
    let p = read_floats(&folder, "p.npy");
    assert_eq!((p[0], p[3], p[2], p[5]), (0.5, 0.5, 0.0, 1.0));
    assert!((p[1] + p[4] - 1.0).abs() < 1e-6 && (p[4] - 0.880_797).abs() < 1e-6);
    let s = read_floats(&folder, "s.npy");
    assert_eq!((s[0], s[2], s[5]), (0.5, 0.0, 1.0));
}

#[test]
fn segment_and_argmax_agree_at_the_size_of_the_logits() {
    let folder = TempDir::new().unwrap();
    let logits: Vec<f32> = (0..3 * 5 * 7u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 500.0).collect();
    floats(&folder, "x.npy", "(3, 5, 7)", &logits);
    let segment = ["segment", "x.npy", "--labels", "a.npy", "--confidence", "a_confidence.npy", "--json"];
    let report = json(&seghead(&folder, &segment));
    assert_eq!(report["shape"], serde_json::json!([5, 7]));
    let pixels: u64 = report["classes"].as_array().unwrap().iter().map(|class| class["pixels"].as_u64().unwrap()).sum();
    assert_eq!(pixels, 35);
    let argmax = ["argmax", "x.npy", "-o", "b.npy", "--confidence", "b_confidence.npy"];
    assert!(seghead(&folder, &argmax).status.success());
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("a.npy"), read("b.npy"));
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    let (a, b) = (read_floats(&folder, "a_confidence.npy"), read_floats(&folder, "b_confidence.npy"));
    assert!(a.iter().zip(&b).all(close));
}

#[test]
fn losses_are_pytorchs() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(1, 2, 1, 3)", &[0.0; 6]);
    npy(&folder, "t.npy", "<i8", "(1, 1, 3)", bytemuck::cast_slice(&[0i64, 1, -7]));
    let loss = ["loss", "cross-entropy", "x.npy", "t.npy", "--ignore-index", "-7", "--json"];
    let report = json(&seghead(&folder, &loss));
    assert!((report["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
    assert_eq!((&report["pixels"], &report["ignored"]), (&3.into(), &1.into()));
    let none = [&loss[..], &["--reduction", "none", "-o", "l.npy"]].concat();
    assert!(json(&seghead(&folder, &none)).get("loss").is_none());
    let losses = read_floats(&folder, "l.npy");
    assert!((losses[0] - std::f32::consts::LN_2).abs() < 1e-6 && losses[2] == 0.0);
    npy(&folder, "void.npy", "<i8", "(1, 1, 3)", bytemuck::cast_slice(&[-7i64; 3]));
    let void = ["loss", "cross-entropy", "x.npy", "void.npy", "--ignore-index", "-7", "--json", "--grad", "g.npy"];
    assert_eq!(json(&seghead(&folder, &void))["loss"], Value::Null);
    assert_eq!(read_floats(&folder, "g.npy"), [0.0; 6]);
}

/// Softmax less the target, over the pixels that count for the mean; shaped and laid as the logits.
#[test]
fn gradients() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0; 6]);
    floats(&folder, "last.npy", "(1, 3, 2)", &[0.0; 6]);
    npy(&folder, "t.npy", "<i8", "(1, 3)", bytemuck::cast_slice(&[0i64, 1, -7]));
    let of_sum = [-0.5, 0.5, 0.0, 0.5, -0.5, 0.0];
    for reduction in ["mean", "sum", "none"] {
        let scale = if reduction == "mean" { 0.5 } else { 1.0 };
        let options = ["--ignore-index", "-7", "--reduction", reduction, "-o", "l.npy", "--grad", "g.npy", "--json"];
        let run = |logits: &[&str]| {
            let loss = [&["loss", "cross-entropy"], logits, &options].concat();
            json(&seghead(&folder, &loss));
            read(&folder, "g.npy").0
        };
        assert!(run(&["x.npy", "t.npy"]).contains("(2, 1, 3)"));
        assert_eq!(read_floats(&folder, "g.npy"), of_sum.map(|x| x * scale), "{reduction}");
        assert!(run(&["last.npy", "t.npy", "--layout", "hwc"]).contains("(1, 3, 2)"));
        let last = [of_sum[0], of_sum[3], of_sum[1], of_sum[4], of_sum[2], of_sum[5]];
        assert_eq!(read_floats(&folder, "g.npy"), last.map(|x| x * scale), "{reduction}");
    }
    for (path, code, words) in [
        ("x.npy", 2, &["x.npy", "input"][..]),
        ("t.npy", 2, &["t.npy", "input"]),
        ("g.png", 2, &["g.png", ".npy"]),
        ("no/g.npy", 1, &["no"]),
        ("l.npy", 2, &["l.npy"]),
    ] {
        let loss = ["loss", "cross-entropy", "x.npy", "t.npy", "--ignore-index", "-7", "-o", "l.npy", "--grad", path];
        refused(&folder, &loss, code, words, 5);
    }
}

#[test]
fn layouts_and_axes_agree() {
    let folder = TempDir::new().unwrap();
    // Classes first, and the same with the classes last: 2 classes of 1 × 3 pixels.
    floats(&folder, "chw.npy", "(2, 1, 3)", &[0.0, 1.0, 2.0, 5.0, 3.0, 1.0]);
    floats(&folder, "hwc.npy", "(1, 3, 2)", &[0.0, 5.0, 1.0, 3.0, 2.0, 1.0]);
    let run = |arguments: &[&str]| assert!(seghead(&folder, arguments).status.success(), "{arguments:?}");
    run(&["softmax", "chw.npy", "-o", "a.npy"]);
    run(&["softmax", "hwc.npy", "-o", "b.npy", "--layout", "hwc"]);
    let (a, b) = (read_floats(&folder, "a.npy"), read_floats(&folder, "b.npy"));
    assert_eq!([a[0], a[3], a[1], a[4], a[2], a[5]], b[..]);
    run(&["softmax", "chw.npy", "-o", "w.npy", "--axis", "width"]);
    run(&["softmax", "chw.npy", "-o", "l.npy", "--axis", "width", "--log"]);
    let (w, l) = (read_floats(&folder, "w.npy"), read_floats(&folder, "l.npy"));
    assert!((w[0] + w[1] + w[2] - 1.0).abs() < 1e-6 && (w[2] - 0.665_241).abs() < 1e-5);
    assert!(w.iter().zip(&l).all(|(w, l)| (w.ln() - l).abs() < 1e-5));
    run(&["softmax", "chw.npy", "-o", "h.npy", "--axis", "height"]);
    assert_eq!(read_floats(&folder, "h.npy"), [1.0; 6]);
}

#[test]
fn an_output_is_never_an_input() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0; 6]);
    let before = fs::read(folder.path().join("x.npy")).unwrap();
    for arguments in [&["softmax", "x.npy", "-o", "x.npy"][..], &["argmax", "./x.npy", "-o", "x.npy"]] {
        refused(&folder, arguments, 2, &["x.npy", "input"], 1);
    }
    assert_eq!(fs::read(folder.path().join("x.npy")).unwrap(), before);
}

#[test]
fn quiet_keeps_the_result() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0; 6]);
    npy(&folder, "t.npy", "|u1", "(1, 3)", &[0, 1, 1]);
    let output = seghead(&folder, &["loss", "cross-entropy", "x.npy", "t.npy", "-q"]);
    let loss: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-6);
    assert!(output.stderr.is_empty());
}

/// Interrupted at any moment, a command leaves its output whole or not at all, and nothing beside it.
#[cfg(unix)]
#[test]
fn an_interrupted_command_leaves_nothing_half_written() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(64, 256, 256)", &vec![0.0; 64 * 256 * 256]);
    for milliseconds in [30, 60, 90, 120, 150, 200, 250, 300, 400, 600] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seghead"));
        let mut child = command.args(["softmax", "x.npy", "-o", "y.npy", "-q"]).current_dir(&folder).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        child.wait().unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let whole = names == ["x.npy", "y.npy"] && read_floats(&folder, "y.npy").len() == 64 * 256 * 256;
        assert!(whole || names == ["x.npy"], "{names:?} after {milliseconds} ms");
        let _ = fs::remove_file(folder.path().join("y.npy"));
    }
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0; 6]);
    npy(&folder, "t.npy", "<i8", "(1, 3)", bytemuck::cast_slice(&[0i64, 1, 9]));
    fs::write(folder.path().join("junk.npy"), "no array").unwrap();
    npy(&folder, "short.npy", "<f4", "(2, 1, 3)", &[0; 20]);
    let refused = |arguments: &[&str], code, words: &[&str]| refused(&folder, arguments, code, words, 4);
    refused(&["softmax", "nope.npy", "-o", "y.npy"], 2, &["nope.npy"]);
    refused(&["softmax", "junk.npy", "-o", "y.npy"], 2, &["junk.npy", "NumPy"]);
    refused(&["softmax", "short.npy", "-o", "y.npy"], 2, &["short.npy", "24", "20"]);
    refused(&["softmax", "t.npy", "-o", "y.npy"], 2, &["t.npy", "int64"]);
    refused(&["softmax", "x.npy", "-o", "no/such/y.npy"], 1, &["no/such"]);
    refused(&["softmax", "x.npy", "-o", "y.npy", "--axis", "depth"], 2, &["depth", "class"]);
    refused(&["softmax", "x.npy", "-o", "y.npy", "--layout", "nchw"], 2, &["x.npy", "4 dimensions"]);
    refused(&["softmax", "x.npy", "-o", "y.npy", "--adapter", "no such"], 1, &["no such", "found"]);
    refused(&["argmax", "x.npy", "-o", "y.txt"], 2, &["y.txt", ".png"]);
    refused(&["argmax", "x.npy", "-o", "y.npy", "--confidence", "y.npy"], 2, &["y.npy"]);
    refused(&["segment", "x.npy", "--size", "0x4", "--labels", "y.npy"], 2, &["width", "0"]);
    refused(&["segment", "x.npy", "--size", "4000000000x4000000000", "--labels", "y.npy"], 2, &["limit"]);
    refused(&["segment", "x.npy", "--overlay", "y.png"], 2, &["--image"]);
    refused(&["segment", "x.npy", "--alpha", "2", "--labels", "y.npy"], 2, &["--alpha", "2"]);
    refused(&["loss", "cross-entropy", "x.npy", "t.npy"], 2, &["t.npy", "target[2]", "9"]);
    refused(&["loss", "cross-entropy", "x.npy", "t.npy", "--class-weights", "1,2,3"], 2, &["class weights", "2", "3"]);
    refused(&["loss", "cross-entropy", "x.npy", "t.npy", "--reduction", "none"], 2, &["--output"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);
    refused(&[], 2, &["command"]);
}
