//! The reliability diagram: of each bin of confidences how often the network is right, beside how sure it was, and how
//! many pixels there are.

use std::fmt::Write;

use seghead::{ReliabilityBin, ReliabilityTable};

/// Bins that can still be told apart.
const BINS: usize = 100;

// Where things lie: a square of shares, and below it the shares of the pixels.
const LEFT: f64 = 56.0;
const TOP: f64 = 12.0;
const SIDE: f64 = 300.0;
const BELOW: f64 = 352.0;
const COUNTS: f64 = 70.0;
const WIDTH: f64 = 372.0;
const HEIGHT: f64 = 470.0;

/// Colours and sizes of [`write_diagram`], for the page's style.
pub const STYLE: &str = ".diagram { width: 100%; max-width: 30rem; height: auto; }
.diagram text { fill: var(--ink); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.diagram .end { text-anchor: end; }
.diagram .middle { text-anchor: middle; }
.diagram .grid { stroke: var(--line); stroke-width: 0.5; }
.diagram .frame { fill: none; stroke: var(--muted); }
.diagram .perfect { stroke: var(--muted); stroke-dasharray: 4 3; }
.bars { fill: var(--bar); }
.gap { fill: var(--gap); fill-opacity: 0.35; stroke: var(--gap); }
.accuracy { stroke: var(--bar); stroke-width: 3; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; padding: 0; list-style: none; }
.legend svg { width: 0.9rem; height: 0.9rem; margin-right: 0.4rem; vertical-align: -0.1rem; }
";

/// Writes the diagram with its numbers, as an SVG that is a part of a page.
pub fn write_diagram(page: &mut String, table: &ReliabilityTable) -> std::fmt::Result {
    writeln!(page, "<h2>Reliability</h2>")?;
    let count = table.bins().len();
    let (Some(confidence), Some(accuracy)) = (table.mean_confidence(), table.accuracy()) else {
        return writeln!(page, "<p>No pixel has a confidence.</p>");
    };
    let [expected, maximum] = [table.expected_calibration_error(), table.maximum_calibration_error()];
    let verdict = match accuracy - confidence {
        ..=-0.0005 => "too sure",
        0.0005.. => "not sure enough",
        _ => "as sure as it is right",
    };
    let summary = format!(
        "Expected calibration error {expected:.4}, maximum {maximum:.4}, of {count} bins. The mean confidence is \
         {confidence:.4}, the accuracy {accuracy:.4}: on the whole the network is {verdict}."
    );
    writeln!(page, "<p>{summary}</p>")?;
    if table.nan() > 0 {
        writeln!(page, "<p>{} more pixels have a confidence that is NaN; they are in no bin.</p>", table.nan())?;
    }
    if count > BINS {
        return writeln!(page, "<p>More than {BINS} bins are not drawn; <code>--json</code> has them.</p>");
    }
    write_legend(page)?;
    writeln!(
        page,
        "<svg class=\"diagram\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"diagram-title diagram-description\">\n\
         <title id=\"diagram-title\">Reliability diagram</title>\n\
         <desc id=\"diagram-description\">Bars of the accuracy in each of {count} bins of confidence, each with its gap \
         to the mean confidence, and below it the share of the pixels that each bin has. {summary}</desc>"
    )?;
    write_axes(page)?;
    for (i, bin) in (0..).zip(table.bins()) {
        write_bin(page, table, i, bin)?;
    }
    let (right, bottom) = (LEFT + SIDE, TOP + SIDE);
    writeln!(page, "<path class=\"perfect\" d=\"M{LEFT} {bottom}L{right} {TOP}\"/>\n</svg>")?;
    write_numbers(page, table)
}

fn write_legend(page: &mut String) -> std::fmt::Result {
    let entries = [
        (
            "<rect class=\"bars\" width=\"10\" height=\"10\"/>",
            "accuracy, at the thick line; below, share of the pixels",
        ),
        ("<rect class=\"gap\" width=\"10\" height=\"10\"/>", "gap to the mean confidence"),
        ("<path class=\"perfect\" d=\"M0 10L10 0\"/>", "as right as it is sure"),
    ];
    writeln!(page, "<ul class=\"legend\">")?;
    for (mark, text) in entries {
        let svg = format!("<svg class=\"diagram\" viewBox=\"0 0 10 10\" aria-hidden=\"true\">{mark}</svg>");
        writeln!(page, "<li>{svg}{text}</li>")?;
    }
    writeln!(page, "</ul>")
}

/// Frames, lines and numbers.
fn write_axes(page: &mut String) -> std::fmt::Result {
    let (right, bottom, base) = (LEFT + SIDE, TOP + SIDE, BELOW + COUNTS);
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let (x, y) = (LEFT + SIDE * share, bottom - SIDE * share);
        writeln!(page, "<path class=\"grid\" d=\"M{x} {TOP}V{bottom}M{x} {BELOW}V{base}M{LEFT} {y}H{right}\"/>")?;
        writeln!(page, "<text class=\"end\" x=\"{}\" y=\"{}\">{share:.1}</text>", LEFT - 6.0, y + 4.0)?;
        writeln!(page, "<text class=\"middle\" x=\"{x}\" y=\"{}\">{share:.1}</text>", base + 16.0)?;
    }
    for (share, y) in [("100 %", BELOW), ("50 %", BELOW + COUNTS / 2.0), ("0 %", base)] {
        writeln!(page, "<path class=\"grid\" d=\"M{LEFT} {y}H{right}\"/>")?;
        writeln!(page, "<text class=\"end\" x=\"{}\" y=\"{}\">{share}</text>", LEFT - 6.0, y + 4.0)?;
    }
    for (y, height) in [(TOP, SIDE), (BELOW, COUNTS)] {
        writeln!(page, "<rect class=\"frame\" x=\"{LEFT}\" y=\"{y}\" width=\"{SIDE}\" height=\"{height}\"/>")?;
    }
    let middle = LEFT + SIDE / 2.0;
    writeln!(page, "<text class=\"middle\" x=\"{middle}\" y=\"{}\">confidence</text>", base + 34.0)?;
    for (text, y) in [("accuracy", TOP + SIDE / 2.0), ("pixels", BELOW + COUNTS / 2.0)] {
        writeln!(page, "<text class=\"middle\" transform=\"translate(14 {y}) rotate(-90)\">{text}</text>")?;
    }
    Ok(())
}

/// The bars of a bin.
fn write_bin(page: &mut String, table: &ReliabilityTable, i: u32, bin: &ReliabilityBin) -> std::fmt::Result {
    let (Some(accuracy), Some(confidence)) = (bin.accuracy(), bin.mean_confidence()) else { return Ok(()) };
    let [above, up_to] = table.edges(i).map(f64::from);
    let share = bin.pixels as f64 / table.pixels() as f64;
    let (x, width) = (LEFT + SIDE * above + 0.5, SIDE * (up_to - above) - 1.0);
    let bottom = TOP + SIDE;
    let pixels = bin.pixels;
    writeln!(
        page,
        "<g><title>confidence {above:.3} to {up_to:.3}: {pixels} pixels, mean confidence {confidence:.4}, accuracy \
         {accuracy:.4}</title>"
    )?;
    let mut bar = |class: &str, base: f64, height: f64| {
        let y = base - height;
        writeln!(
            page,
            "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/>"
        )
    };
    let low = accuracy.min(confidence);
    bar("bars", bottom, SIDE * low)?;
    bar("gap", bottom - SIDE * low, SIDE * (accuracy - confidence).abs())?;
    bar("bars", BELOW + COUNTS, COUNTS * share)?;
    let y = bottom - SIDE * accuracy;
    writeln!(page, "<path class=\"accuracy\" d=\"M{x:.2} {y:.2}h{width:.2}\"/></g>")
}

fn write_numbers(page: &mut String, table: &ReliabilityTable) -> std::fmt::Result {
    writeln!(page, "<details>\n<summary>The numbers of the bins</summary>\n<div class=\"wide\">\n<table>")?;
    writeln!(page, "<tr><th>confidence<th>mean<th>accuracy<th>gap<th>pixels")?;
    for (i, bin) in (0..).zip(table.bins()) {
        let [above, up_to] = table.edges(i);
        let number = |number: Option<f64>| number.map_or("–".to_owned(), |number| format!("{number:.4}"));
        let gap = bin.gap().map_or("–".to_owned(), |gap| format!("{gap:+.4}"));
        let (mean, accuracy) = (number(bin.mean_confidence()), number(bin.accuracy()));
        writeln!(page, "<tr><td>{above:.3}–{up_to:.3}<td>{mean}<td>{accuracy}<td>{gap}<td>{}", bin.pixels)?;
    }
    writeln!(page, "</table>\n</div>\n</details>")
}
