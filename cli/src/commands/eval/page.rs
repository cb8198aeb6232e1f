//! The report as a page: a single file that needs nothing else.

use std::fmt::Write;

use seghead::Confusion;

use super::diagram;
use super::report::Report;
use super::worst::Worst;
use crate::files::confusion::draw;
use crate::files::palette::Colours;
use crate::files::picture::{Picture, encode_picture};

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Evaluation</title>
<style>
";

const STYLE: &str = ":root { color-scheme: light dark; --paper: #fff; --ink: #202020; --muted: #707070; --line: #b0b0b0;
  --track: #e8e8e8; --bar: #31688e; --gap: #c4320a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #181a1b; --ink: #e4e2df; --muted: #a0a0a0; --line: #4c4f52; --track: #303336; --bar: #5a9fca;
    --gap: #ff8a65; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); }
h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.15rem 0.8rem 0.15rem 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 1px solid var(--line); }
.swatch { display: inline-block; width: 0.9rem; height: 0.9rem; margin-right: 0.5rem; vertical-align: -0.1rem;
  box-shadow: 0 0 0 1px var(--line); }
.bar { width: 14rem; background: var(--track); }
.bar div { height: 0.9rem; background: var(--bar); }
.scores { display: flex; flex-wrap: wrap; gap: 0.5rem 2.5rem; }
.scores b { display: block; font-size: 1.6rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 0.5rem; }
figure { margin: 0; flex: 1 1 20rem; max-width: 32rem; }
img { max-width: 100%; }
.pictures img { width: 100%; }
@media (max-width: 40rem) { .bar { width: 5rem; } }
";

/// The page: scores, the classes from the best down, the reliability diagram, the confusion matrix, the worst images, and what was left out.
pub fn page(report: &Report<'_>, confusion: &Confusion, colours: &Colours, worst: &[Worst]) -> std::io::Result<String> {
    let mut page = format!("{HEAD}{STYLE}{}</style>\n<h1>Evaluation</h1>\n", diagram::STYLE);
    let problems = report.problems();
    // Writing into a string cannot fail.
    let _ = write_scores(&mut page, report);
    let _ = write_classes(&mut page, report, confusion, colours);
    if let Some(table) = report.reliability() {
        let _ = diagram::write_diagram(&mut page, table);
    }
    page += "<h2>Confusion matrix</h2>\n<p>In percent of the pixels of a row.</p>\n";
    let _ =
        writeln!(page, "<img src=\"{}\" alt=\"confusion matrix\">", uri(&draw(confusion, |class| report.name(class)))?);
    if !worst.is_empty() {
        page += "<h2>Images with the lowest mean IoU</h2>\n";
    }
    for Worst { name, mean_iou, pixel_accuracy, pictures } in worst {
        let (name, iou, accuracy) = (escaped(name), score(*mean_iou), score(*pixel_accuracy));
        let _ = writeln!(page, "<h3>{name}</h3>\n<p>mean IoU {iou}, pixel accuracy {accuracy}</p>");
        let Some(pictures) = pictures else { continue };
        page += "<div class=\"pictures\">\n";
        let shown = [
            ("predicted", &pictures.predicted),
            ("expected", &pictures.expected),
            ("errors in red, pixels that do not count in black", &pictures.errors),
        ];
        for (what, picture) in shown {
            let uri = uri(picture)?;
            let _ = writeln!(page, "<figure><img src=\"{uri}\" alt=\"\"><figcaption>{what}</figcaption></figure>");
        }
        page += "</div>\n";
    }
    if !problems.is_empty() {
        let _ = writeln!(page, "<h2>{} files left out</h2>\n<ul>", problems.len());
        for problem in problems {
            let _ = writeln!(page, "<li>{}: {}</li>", escaped(&problem.file), escaped(&problem.text));
        }
        page += "</ul>\n";
    }
    page += "</html>\n";
    Ok(page)
}

fn write_scores(page: &mut String, report: &Report<'_>) -> std::fmt::Result {
    writeln!(page, "<div class=\"scores\">")?;
    for (what, value) in report.scores() {
        writeln!(page, "<div><b>{}</b>{what}</div>", score(value))?;
    }
    writeln!(page, "</div>\n<p>{}</p>", escaped(&report.extent()))
}

fn write_classes(page: &mut String, report: &Report<'_>, confusion: &Confusion, colours: &Colours) -> std::fmt::Result {
    let mut classes: Vec<_> = (0..confusion.classes()).collect();
    let iou = |class: u32| confusion.iou(class).unwrap_or(-1.0);
    classes.sort_by(|&a, &b| iou(b).total_cmp(&iou(a)));
    write!(page, "<h2>Classes</h2>\n<div class=\"wide\">\n<table>\n")?;
    write!(page, "<tr><th>class<th>IoU<th><th>Dice<th>accuracy<th>precision")?;
    let boundary = if report.boundary(0).is_some() { "<th>boundary F1" } else { "" };
    writeln!(page, "{boundary}<th>pixels")?;
    for class in classes {
        let value = |value: Option<f64>| score(value.unwrap_or(f64::NAN));
        let width = 100.0 * confusion.iou(class).unwrap_or(0.0);
        let ([red, green, blue], name) = (colours.of(class), escaped(&report.name(class)));
        write!(page, "<tr><td><span class=\"swatch\" style=\"background: #{red:02x}{green:02x}{blue:02x}\"></span>")?;
        write!(page, "{name}<td>{}", value(confusion.iou(class)))?;
        write!(page, "<td><div class=\"bar\"><div style=\"width: {width:.2}%\"></div></div>")?;
        let others = [confusion.dice(class), confusion.recall(class), confusion.precision(class)];
        others.into_iter().try_for_each(|other| write!(page, "<td>{}", value(other)))?;
        if let Some(boundary) = report.boundary(class) {
            write!(page, "<td>{}", value(boundary.f1()))?;
        }
        writeln!(page, "<td>{}", confusion.pixels(class))?;
    }
    writeln!(page, "</table>\n</div>")
}

fn score(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.4}") }
}

/// Text that is no markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture as an address that holds it.
fn uri(picture: &Picture) -> std::io::Result<String> {
    Ok(format!("data:image/png;base64,{}", base64(&encode_picture(picture)?)))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let of = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            let character = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit > group.len() { '=' } else { character.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), expected);
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escaped("<b>\"a\" & b"), "&lt;b&gt;&quot;a&quot; &amp; b");
    }
}
