//! `seghead argmax --top-k` from outside.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::{Logits, reference};
use tempfile::TempDir;

#[test]
fn labels_and_probabilities_are_the_twins() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("(5, 3, 7)", "chw", Logits::chw(5, 3, 7).unwrap(), "(3, 3, 7)"),
        ("(2, 5, 3, 7)", "nchw", Logits::nchw(2, 5, 3, 7).unwrap(), "(2, 3, 3, 7)"),
        ("(3, 7, 5)", "hwc", Logits::hwc(3, 7, 5).unwrap(), "(3, 3, 7)"),
        ("(2, 3, 7, 5)", "nhwc", Logits::nhwc(2, 3, 7, 5).unwrap(), "(2, 3, 3, 7)"),
        ("(1, 5, 3, 7)", "nchw", Logits::nchw(1, 5, 3, 7).unwrap(), "(1, 3, 3, 7)"),
    ];
    for (shape, layout, logits_shape, expected_shape) in cases {
        let data = logits(logits_shape.len() as usize);
        floats(&folder, "x.npy", shape, &data);
        let top = ["argmax", "x.npy", "-o", "y.npy", "--top-k", "3", "--layout", layout];
        run(&folder, &top);
        let alone = read(&folder, "y.npy");
        let output = run(&folder, &[&top[..], &["--probabilities", "p.npy", "--json"]].concat());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["shape"].to_string().replace(',', ", "), expected_shape.replace('(', "[").replace(')', "]"));
        let (labels, p) = reference::top_k(&logits_shape, &data, 3);
        let (header, bytes) = read(&folder, "y.npy");
        assert!(header.contains(expected_shape) && header.contains("u1"), "{header}");
        assert!(bytes.iter().map(|&label| u32::from(label)).eq(labels));
        assert_eq!((header, bytes), alone);
        let (header, bytes) = read(&folder, "p.npy");
        assert!(header.contains(expected_shape) && header.contains("<f4"), "{header}");
        let got: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        assert_eq!(got.len(), p.len());
        assert!(got.iter().zip(&p).all(|(got, p)| (f64::from(*got) - p).abs() < 1e-5 * p));
    }
}

#[test]
fn more_than_256_classes_are_uint16() {
    let folder = TempDir::new().unwrap();
    let data: Vec<f32> = (0..600).map(|i| i as f32).collect();
    floats(&folder, "x.npy", "(300, 1, 2)", &data);
    run(&folder, &["argmax", "x.npy", "-o", "y.npy", "--top-k", "2"]);
    let (header, bytes) = read(&folder, "y.npy");
    assert!(header.contains("(2, 1, 2)") && header.contains("<u2"), "{header}");
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, u16>(&bytes), [299, 299, 298, 298]);
}

#[test]
fn one_class_is_the_argmax() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(5, 3, 7)", &logits(105));
    run(&folder, &["argmax", "x.npy", "-o", "a.npy"]);
    run(&folder, &["argmax", "x.npy", "-o", "b.npy", "--top-k", "1"]);
    let ((one, a), (many, b)) = (read(&folder, "a.npy"), read(&folder, "b.npy"));
    assert!(one.contains("(3, 7)") && many.contains("(1, 3, 7)"), "{one} {many}");
    assert_eq!(a, b);
}

#[test]
fn what_does_not_go_together_is_one_line() {
    let folder = TempDir::new().unwrap();
    floats(&folder, "x.npy", "(2, 1, 3)", &[0.0; 6]);
    let refused = |more: &[&str], words: &[&str]| {
        let arguments = [&["argmax", "x.npy", "-o", "y.npy"], more].concat();
        common::refused(&folder, &arguments, 2, words, 1);
    };
    refused(&["--top-k", "3"], &["x.npy", "top-k", "1..=2", "2 classes", "3"]);
    for k in ["0", "9", "-1", "many"] {
        refused(&["--top-k", k], &["--top-k", k]);
    }
    refused(&["--probabilities", "p.npy"], &["--top-k"]);
    refused(&["--top-k", "2", "--probabilities", "p.png"], &["p.png", ".npy"]);
    refused(&["--top-k", "2", "--probabilities", "./y.npy"], &["y.npy", "twice"]);
    refused(&["--top-k", "2", "--probabilities", "x.npy"], &["x.npy", "input"]);
    for score in ["--confidence", "--margin", "--entropy"] {
        refused(&["--top-k", "2", score, "s.npy"], &["--top-k", score]);
    }
    let png = ["argmax", "x.npy", "-o", "y.png", "--top-k", "2"];
    common::refused(&folder, &png, 2, &["y.png", ".npy"], 1);
}
