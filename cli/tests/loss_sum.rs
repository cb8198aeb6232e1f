//! `seghead loss sum`: what its losses print by themselves, added up.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn report(folder: &TempDir, arguments: &[&str]) -> Value {
    json(&seghead(folder, &[&["loss"], arguments, &["--json"]].concat()))
}

fn files() -> TempDir {
    let folder = TempDir::new().unwrap();
    let logit = |i: usize| (i as f32 * 0.37) % 1.9 - 0.7;
    floats(&folder, "x.npy", "(2, 3, 2, 2)", &(0..24).map(logit).collect::<Vec<_>>());
    floats(&folder, "z.npy", "(2, 3, 2, 2)", &(0..24).map(|i| (i as f32 * 0.21) % 1.0).collect::<Vec<_>>());
    floats(&folder, "one.npy", "(1, 2, 4)", &(0..8).map(logit).collect::<Vec<_>>());
    npy(&folder, "labels.npy", "|u1", "(2, 2, 2)", &[0, 1, 255, 2, 1, 0, 0, 1]);
    npy(&folder, "whole.npy", "|u1", "(2, 2, 2)", &[0, 1, 2, 2, 1, 0, 0, 1]);
    npy(&folder, "mask.npy", "|u1", "(2, 4)", &[0, 1, 0, 1, 1, 0, 0, 1]);
    folder
}

#[test]
fn sums() {
    let folder = files();
    let ignore = ["--ignore-index", "255"];
    type Term<'a> = (f64, &'a str);
    let cases: [(&[&str; 2], &[&str], &[Term<'_>]); 4] = [
        (
            &["x.npy", "labels.npy"],
            &ignore,
            &[(0.5, "bce --pos-weight 1,2,3"), (0.5, "dice --smooth 1"), (2.0, "focal")],
        ),
        (&["x.npy", "labels.npy"], &ignore, &[(1.0, "cross-entropy --class-weights 1,2,3"), (-0.25, "jaccard")]),
        (&["x.npy", "z.npy"], &[], &[(1.0, "cross-entropy"), (3.0, "tversky --alpha 0.3 --beta 0.7")]),
        (&["one.npy", "mask.npy"], &[], &[(1.0, "bce"), (1.0, "dice"), (0.5, "focal --alpha 0.25 --reduction sum")]),
    ];
    for (of, options, terms) in cases {
        let texts: Vec<String> = terms.iter().map(|(weight, loss)| format!("{weight} * {loss}")).collect();
        let mut arguments = [&["sum"], &of[..], options, &["--grad", "sum.npy", "-o", "value.npy"]].concat();
        texts.iter().for_each(|text| arguments.extend(["--term", text]));
        let found = report(&folder, &arguments);
        let (mut value, mut gradient, mut losses) = (0.0, vec![0.0; 24], Vec::new());
        for (weight, loss) in terms {
            let words: Vec<&str> = loss.split(' ').collect();
            let arguments = [&words[..1], of, options, &words[1..], &["--grad", "g.npy"]].concat();
            let single = report(&folder, &arguments)["loss"].as_f64().unwrap();
            value += weight * single;
            losses.push(single);
            let of_term = read_floats(&folder, "g.npy");
            gradient.resize(of_term.len(), 0.0);
            gradient.iter_mut().zip(of_term).for_each(|(sum, x)| *sum += weight * f64::from(x));
        }
        let loss = found["loss"].as_f64().unwrap();
        assert!((loss - value).abs() < 1e-6, "{found} {value}");
        assert_eq!(found["terms"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>(), losses);
        assert!((f64::from(read_floats(&folder, "value.npy")[0]) - loss).abs() < 1e-7);
        let sums = read_floats(&folder, "sum.npy");
        assert_eq!(sums.len(), gradient.len());
        assert!(sums.iter().zip(&gradient).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7), "{sums:?} {gradient:?}");
    }
}

#[test]
fn what_is_refused() {
    let folder = files();
    let refused = |arguments: &[&str], words: &[&str]| {
        refused(&folder, &[&["loss", "sum"], arguments].concat(), 2, words, 6);
    };
    refused(&["x.npy", "whole.npy"], &["--term"]);
    refused(&["x.npy", "whole.npy", "--term", "dice"], &["--term 'dice'", "no *"]);
    refused(&["x.npy", "whole.npy", "--term", "half*dice"], &["finite number", "'half'"]);
    refused(&["x.npy", "whole.npy", "--term", "inf*dice"], &["finite number", "'inf'"]);
    refused(&["x.npy", "whole.npy", "--term", "1*"], &["--term '1*'", "found ''"]);
    refused(&["x.npy", "whole.npy", "--term", "1*dise"], &["--term '1*dise'", "tversky", "found 'dise'"]);
    refused(&["x.npy", "whole.npy", "--term", "1*dice --gamma 2"], &["--term", "--gamma"]);
    refused(&["x.npy", "whole.npy", "--term", "1*dice --grad g.npy"], &["--grad", "beside the terms"]);
    refused(&["x.npy", "whole.npy", "--term", "1*bce --reduction none -o l.npy"], &["mean or sum", "none"]);
    refused(&["x.npy", "whole.npy", "--term", "1*sum --term 1*dice"], &["expected one of", "found 'sum'"]);
    refused(&["x.npy", "z.npy", "--term", "1*dice --ignore-index 1"], &["labels", "--ignore-index"]);
    refused(&["x.npy", "z.npy", "--term", "1*focal"], &["expected labels, or --activation sigmoid"]);
    refused(&["x.npy", "labels.npy", "--term", "1*dice"], &["labels.npy", "target[2]", "255"]);
    refused(&["x.npy", "mask.npy", "--term", "1*dice"], &["mask.npy", "[2, 2, 2]", "[2, 4]"]);
    refused(&["x.npy", "whole.npy", "--term", "1*dice", "-o", "x.npy"], &["x.npy"]);
    let sigmoid = ["one.npy", "mask.npy", "--term", "1*bce", "--term", "1*focal", "--ignore-index", "1"];
    refused(&sigmoid, &["--ignore-index", "focal loss with sigmoid"]);
    refused(&["x.npy", "labels.npy", "--term", "1*cross-entropy --resize half-pixel"], &["--term", "--resize"]);
    floats(&folder, "w.npy", "(3,)", &[1.0, 2.0, 3.0]);
    let refused = |arguments: &[&str]| common::refused(&folder, arguments, 2, &["w.npy", "none of the inputs"], 7);
    refused(&["loss", "sum", "x.npy", "whole.npy", "--term", "1*bce --pos-weight w.npy", "--grad", "w.npy"]);
    refused(&["loss", "bce", "x.npy", "whole.npy", "--class-weights", "w.npy", "-o", "w.npy"]);
    refused(&["loss", "cross-entropy", "x.npy", "whole.npy", "--class-weights", "w.npy", "--grad", "w.npy"]);
}
