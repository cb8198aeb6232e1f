//! Warnings about logits that look like something else, for the commands that take a softmax of them.

use seghead::{Axis, Finding, Gpu, Inspect, Inspection, Logits};

use crate::args::Common;
use crate::input::Input;

/// What a command wants to be warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// What a softmax of the classes is no use for: probabilities, a single class; another layout, NaN and infinities.
    Softmax,
    /// The same of a sigmoid: sigmoid outputs.
    Sigmoid,
    /// What labels alone suffer from: another layout, NaN and infinities.
    Labels,
    /// NaN and infinities.
    Finite,
}

/// Elements of a tensor that are looked at at the most, unless one row of all images is more: for rows, and for columns.
const SAMPLE: u64 = 1 << 17;

/// Warns on stderr, when the command succeeds, of what [`Inspect`] finds in a sample of the logits: some rows of all
/// images and some columns of the first one. Returns the warnings, for --json. An inspection that fails warns of nothing.
pub fn warn(gpu: &Gpu, input: &mut Input, check: Check, common: &Common) -> Vec<String> {
    if common.quiet && !common.json {
        return Vec::new();
    }
    let lines: Vec<_> = sample(gpu, input)
        .unwrap_or_default()
        .into_iter()
        .filter(|finding| wanted(finding, check))
        .map(|finding| match finding {
            Finding::NotFinite { .. } => format!("{finding} (in a sample: see seghead inspect)"),
            finding => finding.to_string(),
        })
        .collect();
    for line in &lines {
        log::warn!("warning: {}: {line}", input.path);
    }
    lines
}

fn wanted(finding: &Finding, check: Check) -> bool {
    match finding {
        // −Inf alone masks classes.
        Finding::NotFinite { nan, positive_infinity, .. } => nan + positive_infinity > 0,
        Finding::Layout { .. } => check != Check::Finite,
        Finding::SigmoidOutputs { .. } => matches!(check, Check::Softmax | Check::Sigmoid),
        Finding::Probabilities { .. } | Finding::WrongAxis { .. } | Finding::OneClass => check == Check::Softmax,
        _ => false,
    }
}

/// What is found in some rows, along the classes and the width, and in some columns, along the height.
fn sample(gpu: &Gpu, input: &mut Input) -> Result<Vec<Finding>, seghead::Error> {
    let logits = input.logits;
    let elements = |logits: &Logits| u64::from(logits.len());
    if elements(&logits) <= SAMPLE {
        return Ok(inspect(gpu, &logits, input.reader())?.findings());
    }
    let some = |all: u32, of: u64| u32::try_from(SAMPLE * u64::from(all) / of).unwrap_or(all).clamp(2.min(all), all);
    let rows = some(logits.height(), elements(&logits));
    let part = logits.crop((logits.height() - rows) / 2, 0, rows, logits.width())?;
    let mut findings = inspect(gpu, &part, input.reader())?.findings();
    let along_height = |finding: &Finding| matches!(finding, Finding::WrongAxis { axis: Axis::Height, .. });
    findings.retain(|finding| rows == logits.height() || !along_height(finding));
    // Sums of columns are only of interest where all is in 0..=1 and nothing else sums to 1.
    if findings.iter().any(|finding| matches!(finding, Finding::SigmoidOutputs { .. })) {
        let columns = some(logits.width(), elements(&logits) / u64::from(logits.images()));
        let first = first_image(&logits)?;
        let part = first.crop(0, (logits.width() - columns) / 2, logits.height(), columns)?;
        let along_columns = inspect(gpu, &part, input.reader_of_first(first.len().into()))?.findings();
        if let Some(wrong) = along_columns.into_iter().find(along_height) {
            findings.retain(|finding| !matches!(finding, Finding::SigmoidOutputs { .. }));
            findings.push(wrong);
        }
    }
    Ok(findings)
}

fn inspect(gpu: &Gpu, logits: &Logits, data: seghead::Input<'_>) -> Result<Inspection, seghead::Error> {
    Inspect::new().run_blocking(gpu, logits, data)
}

fn first_image(logits: &Logits) -> Result<Logits, seghead::Error> {
    let (classes, height, width) = (logits.classes(), logits.height(), logits.width());
    match logits.pixel_stride() {
        1 => Logits::chw(classes, height, width),
        _ => Logits::hwc(height, width, classes),
    }
}
