//! `seghead eval` from outside: scores, files that are left out, and states that merge.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::process::Output;
use tempfile::TempDir;

/// The state of what a command has printed, whatever its exit status.
#[track_caller]
fn report(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn folder(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    names.iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
    folder
}

fn labels(folder: &TempDir, name: &str, shape: &str, values: &[u8]) {
    npy(folder, name, "|u1", shape, values);
}

/// Seven images of 3 classes, 2 × 3 logits, 4 × 6 labels of which 255 is void.
fn data_set() -> TempDir {
    let folder = folder(&["p", "t"]);
    for i in 0..7usize {
        let values = logits(100 * (i + 1))[100 * i..100 * i + 18].to_vec();
        floats(&folder, &format!("p/image{i}.logits.npy"), "(3, 2, 3)", &values);
        let truth: Vec<u8> = (0..24).map(|pixel| [0, 1, 1, 2, 255][(pixel * (i + 3) / 4) % 5]).collect();
        labels(&folder, &format!("t/image{i}.npy"), "(4, 6)", &truth);
    }
    folder
}

/// Two pixels for each class pair, by hand.
#[test]
fn scores_by_hand() {
    let folder = folder(&["p", "t"]);
    // Predictions 0 0 1 1 2 2, targets 0 1 1 1 9 2.
    let one_hot = [9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0];
    let values: Vec<f32> = one_hot.iter().copied().chain([-9.0; 6]).collect();
    floats(&folder, "p/a.npy", "(4, 1, 6)", &values);
    labels(&folder, "t/a.png.npy", "(1, 6)", &[0, 1, 1, 1, 9, 2]);
    fs::write(folder.path().join("names"), "road\nsky\n  a,\"b\"  \nnever\n\n").unwrap();
    let arguments =
        ["eval", "p", "t", "--ignore-index", "9", "--classes", "names", "--json", "--confusion", "c.npy", "--csv", "c"];
    let found = json(&run(&folder, &arguments));
    assert_eq!(found["pixel_accuracy"], 0.8);
    assert_eq!(found["mean_iou"], (0.5 + 2.0 / 3.0 + 1.0) / 3.0);
    assert_eq!(found["mean_accuracy"], (1.0 + 2.0 / 3.0 + 1.0) / 3.0);
    assert_eq!(found["frequency_weighted_iou"], (0.5 + 3.0 * (2.0 / 3.0) + 1.0) / 5.0);
    assert_eq!((&found["images"], &found["pixels"], &found["ignored"]), (&1.into(), &5.into(), &1.into()));
    let class = &found["classes"][1];
    assert_eq!((&class["name"], &class["pixels"], &class["predicted"]), (&"sky".into(), &3.into(), &2.into()));
    assert_eq!((&class["iou"], &class["dice"]), (&(2.0 / 3.0).into(), &0.8.into()));
    assert_eq!((&class["accuracy"], &class["precision"]), (&(2.0 / 3.0).into(), &1.0.into()));
    assert!(found["classes"][3]["iou"].is_null());
    let (header, data) = read(&folder, "c.npy");
    assert!(header.contains("'<u8'") && header.contains("(4, 4)"), "{header}");
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, u64>(&data), [1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    let csv = fs::read_to_string(folder.path().join("c")).unwrap();
    assert_eq!(csv.lines().count(), 2);
    assert!(csv.lines().nth(1).unwrap().starts_with("a,5,1,0.8,"), "{csv}");
    let zero = json(&run(&folder, &["eval", "p", "t", "--ignore-index", "9", "--json", "--absent", "zero"]));
    assert_eq!(zero["mean_iou"], (0.5 + 2.0 / 3.0 + 1.0) / 4.0);
    run(&folder, &["eval", "p", "t", "--ignore-index", "9", "--absent", "zero", "--report", "page"]);
    let page = fs::read_to_string(folder.path().join("page/index.html")).unwrap();
    assert!(page.contains("<b>0.5417</b>mean IoU"), "{page}");
    let text = String::from_utf8(run(&folder, &arguments[..7]).stdout).unwrap();
    assert!(text.contains("\na,\"b\"  1.0000") && text.contains("\nnever       -"), "{text}");
}

#[test]
fn shards_merge_into_the_whole() {
    let folder = data_set();
    labels(&folder, "t/image3.npy", "(4, 5)", &[7; 20]);
    labels(&folder, "t/lonely.npy", "(1, 1)", &[0]);
    let options: [&[&str]; 4] = [&[], &["--boundary", "1"], &["--calibration"], &["--boundary=2", "--calibration=7"]];
    for options in options {
        let arguments = [&["eval", "p", "t", "--ignore-index", "255"], options].concat();
        let outputs = ["--json", "--save-state", "all", "--csv", "all.csv"];
        let whole = seghead(&folder, &[&arguments[..], &outputs].concat());
        let found = report(&whole, 1);
        assert_eq!((found["images"].as_u64(), found["problems"].as_array().unwrap().len()), (Some(6), 2));
        for (key, option) in [("expected_calibration_error", "--calibration"), ("mean_boundary_f1", "--boundary")] {
            assert_eq!(found[key].is_number(), options.iter().any(|given| given.starts_with(option)), "{options:?}");
        }
        for shard in 1..=3 {
            let (which, state) = (format!("{shard}/3"), format!("s{shard}"));
            let arguments = [&arguments[..], &["--shard", &which, "--save-state", &state, "-q"]].concat();
            assert!(matches!(seghead(&folder, &arguments).status.code(), Some(0 | 1)));
        }
        let arguments =
            ["eval", "--merge", "s2", "s3", "s1", "--json", "--save-state", "merged", "--csv", "merged.csv"];
        let merged = seghead(&folder, &arguments);
        assert_eq!(merged.status.code(), Some(1));
        assert_eq!(String::from_utf8(merged.stdout).unwrap(), String::from_utf8(whole.stdout).unwrap());
        for (a, b) in [("all", "merged"), ("all.csv", "merged.csv")] {
            assert_eq!(fs::read(folder.path().join(a)).unwrap(), fs::read(folder.path().join(b)).unwrap());
        }
    }
}

/// Boundaries and confidences of pixels in a row, and the same scores but for them as without.
#[test]
fn boundaries_and_confidences_by_hand() {
    let folder = folder(&["p", "t"]);
    // Predictions 0 0 1 1 2 2, targets 0 1 1 1 9 2: where 9 is void there is no boundary.
    let one_hot = [9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0];
    floats(&folder, "p/a.npy", "(3, 1, 6)", &one_hot);
    labels(&folder, "t/a.npy", "(1, 6)", &[0, 1, 1, 1, 9, 2]);
    let arguments = ["eval", "p", "t", "--ignore-index", "9", "--json"];
    let plain = json(&run(&folder, &arguments));
    let with = |options: &[&str]| json(&run(&folder, &[&arguments[..], options].concat()));
    for (pixels, f1) in [("0", 0.0), ("1", 1.0), ("255", 1.0)] {
        let mut found = with(&["--boundary", pixels, "--csv", "c"]);
        assert_eq!(found["boundary_tolerance"], pixels.parse::<u32>().unwrap());
        for key in ["mean_boundary_f1", "mean_image_boundary_f1"] {
            assert_eq!(found[key], f1, "{pixels}");
        }
        for class in 0..2 {
            let class = &found["classes"][class];
            for key in ["boundary_f1", "boundary_precision", "boundary_recall"] {
                assert_eq!(class[key], f1, "{pixels}");
            }
        }
        assert!(found["classes"][2]["boundary_f1"].is_null());
        let csv = fs::read_to_string(folder.path().join("c")).unwrap();
        assert!(csv.lines().next().unwrap().ends_with(",mean_boundary_f1"), "{csv}");
        assert!(csv.lines().nth(1).unwrap().ends_with(&format!(",{f1}")), "{csv}");
        let report = found.as_object_mut().unwrap();
        report.retain(|key, _| !key.contains("boundary"));
        for class in report["classes"].as_array_mut().unwrap() {
            class.as_object_mut().unwrap().retain(|key, _| !key.contains("boundary"));
        }
        assert_eq!(found, plain);
    }
    let confidence = 1.0 / (1.0 + 2.0 * (-9f64).exp());
    for (options, bins) in [("--calibration", 15), ("--calibration=2", 2)] {
        let mut found = with(&[options]);
        for key in ["expected_calibration_error", "maximum_calibration_error"] {
            assert!((found[key].as_f64().unwrap() - (confidence - 0.8)).abs() < 1e-6, "{found}");
        }
        assert!((found["mean_confidence"].as_f64().unwrap() - confidence).abs() < 1e-6);
        let reliability = found["reliability"].as_array().unwrap();
        assert_eq!((reliability.len(), &reliability[bins - 1]["pixels"]), (bins, &5.into()));
        assert_eq!((&reliability[bins - 1]["accuracy"], &reliability[bins - 1]["up_to"]), (&0.8.into(), &1.0.into()));
        assert!(reliability[0]["accuracy"].is_null());
        let new = ["calibration_error", "confidence", "reliability"];
        found.as_object_mut().unwrap().retain(|key, _| !new.iter().any(|part| key.contains(part)));
        assert_eq!(found, plain);
    }
    let text =
        String::from_utf8(run(&folder, &[&arguments[..5], &["--boundary", "1", "--calibration"]].concat()).stdout);
    let text = text.unwrap();
    assert!(text.contains("precision  boundary F1  ") && text.contains("\nexpected calibration error 0.19"), "{text}");
    assert!(text.contains("boundaries within 1 px; mean boundary F1 of the images 1.0000"), "{text}");
    assert!(text.contains("\n0.9333-1.0000   0.9998    0.8000  -0.1998             5\n"), "{text}");
}

#[test]
fn states_of_other_settings() {
    let folder = data_set();
    let save = |state: &str, options: &[&str]| {
        let arguments = ["eval", "p", "t", "--ignore-index", "255", "--save-state", state];
        run(&folder, &[&arguments[..], options].concat());
    };
    save("plain", &[]);
    save("fifteen", &["--calibration"]);
    save("ten", &["--calibration=10"]);
    save("near", &["--boundary", "3"]);
    save("far", &["--boundary", "4"]);
    // What was written before there were any of these.
    let text = fs::read_to_string(folder.path().join("plain")).unwrap();
    assert!(!text.contains("bins") && !text.contains("bound"), "{text}");
    let refused = |a: &str, b: &str, what: &str| {
        refused(&folder, &["eval", "--merge", a, b], 2, &[&format!("{b}: {what}")], 7);
    };
    refused("plain", "fifteen", "bins of confidence: expected none, found 15");
    refused("fifteen", "plain", "bins of confidence: expected 15, found none");
    refused("fifteen", "ten", "bins of confidence: expected 15, found 10");
    refused("near", "far", "pixels of tolerance for boundaries: expected 3, found 4");
    refused("near", "plain", "pixels of tolerance for boundaries: expected 3, found none");
    for (state, from, to, what) in [
        ("fifteen", "\"bins\":[[", "\"bins\":[[99,1,1,1],[", "images"),
        ("fifteen", "\"calibration_bins\":15", "\"calibration_bins\":0", "calibration_bins"),
        ("near", "\"boundary_tolerance\":3", "\"boundary_tolerance\":-3", "boundary_tolerance"),
        ("near", "\"boundaries\":[[0,", "\"boundaries\":[[0,1,2,1,1],[0,", "images"),
    ] {
        let text = fs::read_to_string(folder.path().join(state)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(folder.path().join("bad"), text.replacen(from, to, 1)).unwrap();
        let expected = format!("expected a state, found one with no sound \"{what}\"");
        common::refused(&folder, &["eval", "--merge", "bad"], 2, &[&expected], 8);
    }
}

/// Shards that are folders of logits beside one folder of labels, whose other halves are elsewhere.
#[test]
fn shards_that_are_folders() {
    let folder = data_set();
    labels(&folder, "t/image3.npy", "(4, 5)", &[7; 20]);
    labels(&folder, "t/lonely.npy", "(1, 1)", &[0]);
    let whole = seghead(&folder, &["eval", "p", "t", "--ignore-index", "255", "--json"]);
    for shard in 0..3 {
        fs::create_dir(folder.path().join(format!("p{shard}"))).unwrap();
        for i in (shard..7).step_by(3) {
            let name = format!("image{i}.logits.npy");
            let [from, to] = ["p".to_owned(), format!("p{shard}")].map(|part| folder.path().join(part).join(&name));
            fs::copy(from, to).unwrap();
        }
        let (logits, state) = (format!("p{shard}"), format!("s{shard}"));
        let output = seghead(&folder, &["eval", &logits, "t", "--ignore-index", "255", "--save-state", &state]);
        assert_eq!(output.status.code(), Some(1));
    }
    let merged = seghead(&folder, &["eval", "--merge", "s0", "s1", "s2", "--json"]);
    assert_eq!(merged.stdout, whole.stdout);
    assert_eq!(merged.status.code(), whole.status.code());
    refused(&folder, &["eval", "--merge", "s0", "s1", "s0"], 2, &["s0: expected images that no other state has"], 8);
}

#[test]
fn what_is_wrong_is_left_out_and_told() {
    let folder = data_set();
    fs::write(folder.path().join("names"), "x\ny\nz\n").unwrap();
    let good = json(&run(&folder, &["eval", "p", "t", "--ignore-index", "255", "--json", "--classes", "names"]));
    fs::write(folder.path().join("p/a.npy"), "no array").unwrap();
    labels(&folder, "t/a.npy", "(1, 1)", &[0]);
    floats(&folder, "p/b.npy", "(3, 1, 1)", &[0.0; 3]);
    labels(&folder, "t/b.npy", "(1, 2)", &[0, 77]);
    floats(&folder, "p/c.npy", "(2, 3, 1, 1)", &[0.0; 6]);
    labels(&folder, "t/c.npy", "(1, 2)", &[0, 1]);
    floats(&folder, "p/e.npy", "(1, 1, 1)", &[0.0]);
    labels(&folder, "t/e.npy", "(1, 1)", &[0]);
    floats(&folder, "p/f.npy", "(3, 1, 1)", &[0.0; 3]);
    floats(&folder, "t/f.npy", "(1, 1)", &[0.0]);
    floats(&folder, "p/alone.npy", "(3, 1, 1)", &[0.0; 3]);
    fs::write(folder.path().join("t/also.png"), "").unwrap();
    let bad = |arguments: &[&str]| {
        let output = seghead(&folder, arguments);
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        let lines: Vec<_> = stderr.lines().filter(|line| !line.contains("no real GPU")).collect();
        assert_eq!(lines.len(), 1, "{stderr}");
        assert!(lines[0].contains("was left out") && lines[0].contains("(and 6 more)"), "{stderr}");
        output
    };
    let mut found = report(&bad(&["eval", "p", "t", "--ignore-index", "255", "--json", "--classes", "names"]), 1);
    let problems: Vec<_> = found["problems"].as_array().unwrap().clone();
    let problems: Vec<String> = problems
        .iter()
        .map(|one| format!("{}: {}", one["file"].as_str().unwrap(), one["problem"].as_str().unwrap()))
        .collect();
    for (i, text) in [
        "a.npy: expected a NumPy .npy file, found",
        "alone.npy: expected labels of the same name, found none",
        "also.png: expected logits of the same name, found none",
        "b.npy: target[1]: expected a class below 3 or the ignore index, found label 77; --ignore-index 77 leaves",
        "c.npy: expected labels of 2 images as c.npy has, found 1",
        "e.npy: logits: expected 3 classes, found 1",
        "f.npy: expected labels of an integer type, found float32",
    ]
    .iter()
    .enumerate()
    {
        assert!(problems[i].starts_with(text), "{}", problems[i]);
    }
    let options = ["--ignore-index", "255", "--json", "--classes", "names", "--calibration", "--boundary", "3"];
    let with = report(&bad(&[&["eval", "p", "t"], &options[..]].concat()), 1);
    assert_eq!(with["problems"], found["problems"]);
    found["problems"] = good["problems"].clone();
    assert_eq!(found, good);
    let text =
        String::from_utf8(bad(&["eval", "p", "t", "--ignore-index", "255", "--classes", "names"]).stdout).unwrap();
    assert!(text.contains("7 files left out:\n  a.npy: expected a NumPy"), "{text}");
}

/// A page of one file; with states it has the numbers of the worst images, but no pictures of them.
#[test]
fn a_page() {
    let folder = data_set();
    fs::write(folder.path().join("names"), "<road>\nsky\ncar").unwrap();
    let arguments = ["eval", "p", "t", "--ignore-index", "255", "--classes", "names", "--report", "new/page"];
    let arguments = [&arguments[..], &["--palette", "voc", "--save-state", "state"]].concat();
    run(&folder, &arguments);
    let page = fs::read_to_string(folder.path().join("new/page/index.html")).unwrap();
    assert!(page.contains("&lt;road&gt;") && !page.contains("<road>"));
    // The matrix, and three of each image.
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBOR").count(), 1 + 3 * 7);
    assert_eq!(page.matches("src=").count(), 1 + 3 * 7);
    assert!(!page.contains("http") && page.contains("background: #800000"));
    // Of its own accord it has the diagram.
    assert!(
        page.contains("<title id=\"diagram-title\">Reliability diagram") && page.contains("calibration error</div>")
    );
    assert!(!page.contains("boundary F1"));
    run(&folder, &["eval", "--merge", "state", "--report", "new/page"]);
    let merged = fs::read_to_string(folder.path().join("new/page/index.html")).unwrap();
    assert_eq!((merged.matches("src=").count(), merged.matches("<h3>").count()), (1, 7));
    let diagram = |page: &str| page.split("<h2>").find(|part| part.starts_with("Reliability")).unwrap().to_owned();
    assert_eq!(diagram(&merged), diagram(&page));
    run(&folder, &[&arguments[..7], &["--report", "new/page", "--calibration=101", "--boundary", "2"]].concat());
    let page = fs::read_to_string(folder.path().join("new/page/index.html")).unwrap();
    assert!(page.contains("<th>boundary F1") && page.contains("More than 100 bins are not drawn"));
    assert!(page.contains("boundaries within 2 px") && !page.contains("<svg"));
}

/// A state that asks for more memory than there is.
#[test]
fn a_state_of_too_many_classes() {
    let folder = data_set();
    run(&folder, &["eval", "p", "t", "--ignore-index", "255", "--save-state", "state", "-q"]);
    let state = fs::read_to_string(folder.path().join("state")).unwrap();
    for classes in ["23171", "1000000000", "-1"] {
        let damaged = state.replacen("\"classes\":3", &format!("\"classes\":{classes}"), 1);
        assert_ne!(damaged, state);
        fs::write(folder.path().join("damaged"), damaged).unwrap();
        refused(&folder, &["eval", "--merge", "damaged", "--csv", "scores.csv"], 2, &["damaged", "classes"], 4);
    }
}

#[test]
fn refused_before_anything_is_read() {
    let folder = data_set();
    fs::write(folder.path().join("state"), "{}").unwrap();
    fs::write(folder.path().join("two"), "a\nb").unwrap();
    fs::create_dir(folder.path().join("none")).unwrap();
    let refused = |arguments: &[&str], words: &[&str]| refused(&folder, arguments, 2, words, 5);
    refused(&["eval", "p"], &["LABELS_DIR"]);
    refused(&["eval", "p", "no"], &["no: cannot be opened"]);
    refused(&["eval", "state", "t"], &["state: cannot be opened"]);
    refused(&["eval", "none", "none"], &["none: expected logits and labels of the same names"]);
    refused(&["eval", "p", "t", "--merge", "state"], &["--merge"]);
    refused(&["eval", "p", "t", "--shard", "4/3"], &["I in 1..=N"]);
    for (option, file) in
        [("--csv", "t/image0.npy"), ("--save-state", "p/image3.logits.npy"), ("--confusion", "t/image1.npy")]
    {
        refused(&["eval", "p", "t", option, file], &[file, "none of the inputs"]);
    }
    for pixels in ["256", "-1", "1.5", "x", ""] {
        refused(&["eval", "p", "t", "--boundary", pixels], &["--boundary <PX>"]);
    }
    for bins in ["0", "65537", "-1", ""] {
        refused(&["eval", "p", "t", &format!("--calibration={bins}")], &["--calibration[=<B>]"]);
    }
    refused(&["eval", "--merge", "state", "--boundary", "3"], &["--boundary"]);
    refused(&["eval", "--merge", "state", "--calibration"], &["--calibration"]);
    refused(&["eval", "p", "t", "--confusion", "x.jpg"], &["x.jpg: expected a file name that ends in .npy or .png"]);
    refused(&["eval", "--merge", "state"], &["state: expected what --save-state writes"]);
    refused(&["eval", "--merge", "two"], &["two: expected what --save-state writes, found no JSON"]);
    refused(&["eval", "--merge", "state", "--save-state", "state"], &["expected an output that is none of the inputs"]);
}
