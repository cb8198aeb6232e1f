//! The commands, one a file, and what they share.

pub mod adapters;
pub mod argmax;
pub mod bench;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod inspect;
pub mod loss;
pub mod segment;
pub mod tensor;

use std::io::Write;

use seghead::{Gpu, Labels, Segmentation, wgpu};
use serde_json::{Value, json};

use crate::args::{self, Common, Scores};
use crate::error::Error;
use crate::files::labels::{LabelValues, write_labels};
use crate::files::output::{Content, Outputs};
use crate::files::overlay::Look;
use crate::files::palette::Colours;
use crate::files::scores::write_scores;

/// Opens the adapter that was asked for.
pub fn open_gpu(common: &Common) -> Result<Gpu, Error> {
    Ok(Gpu::headless_blocking(&common.gpu_options())?)
}

/// Whether both tell of the same adapter.
pub fn same_adapter(a: &wgpu::AdapterInfo, b: &wgpu::AdapterInfo) -> bool {
    (&a.name, a.backend, a.device, a.vendor, &a.device_pci_bus_id)
        == (&b.name, b.backend, b.device, b.vendor, &b.device_pci_bus_id)
}

/// Adds a label map to the outputs: uint8 where 256 classes suffice, else uint16; `colours` are for a picture.
pub fn add_labels(
    outputs: &mut Outputs,
    path: &str,
    shape: &[usize],
    labels: &Labels,
    colours: &Colours,
) -> Result<(), Error> {
    match labels {
        Labels::U8(labels) => write_labels(outputs, path, shape, LabelValues::U8(labels), colours)?,
        Labels::U32(labels) => {
            let narrow: Result<Vec<u16>, _> = labels.iter().map(|&label| u16::try_from(label)).collect();
            let Ok(narrow) = narrow else {
                let largest = labels.iter().max().copied().unwrap_or(0);
                return Err(Error::Usage(format!("{path}: expected labels of at most 65535, found {largest}")));
            };
            write_labels(outputs, path, shape, LabelValues::U16(&narrow), colours)?;
        }
    }
    Ok(())
}

/// The label of a pixel.
pub fn label(labels: &Labels, pixel: usize) -> Option<u32> {
    match labels {
        Labels::U8(labels) => labels.get(pixel).copied().map(u32::from),
        Labels::U32(labels) => labels.get(pixel).copied(),
    }
}

/// How an overlay is to be drawn.
pub fn look<'a>(args: &args::Look, colours: &'a Colours, legend: bool) -> Look<'a> {
    let alpha = (args.alpha * 255.0).round() as u8;
    Look { colours, blend: args.blend.into(), alpha, outline: args.outline as usize, hidden: &[], legend }
}

/// Adds the score maps that were asked for to the outputs, and returns their paths.
pub fn add_scores<'a>(
    outputs: &mut Outputs,
    paths: &'a Scores,
    shape: &[usize],
    found: &Segmentation,
    classes: u32,
) -> Result<Vec<&'a str>, Error> {
    // No entropy of C probabilities is larger than ln C; with one class it is 0, and any range will do.
    let largest_entropy = (classes.max(2) as f32).ln();
    let mut written = Vec::new();
    for (path, scores, largest) in [
        (&paths.confidence, &found.confidence, 1.0),
        (&paths.margin, &found.margin, 1.0),
        (&paths.entropy, &found.entropy, largest_entropy),
    ] {
        if let (Some(path), Some(scores)) = (path, scores) {
            write_scores(outputs, path, shape, scores, (0.0, largest))?;
            written.push(path.as_str());
        }
    }
    Ok(written)
}

/// The score maps that were asked for, as outputs.
pub fn planned(paths: &Scores) -> Vec<(&str, Content)> {
    let paths = [&paths.confidence, &paths.margin, &paths.entropy];
    paths.into_iter().flatten().map(|path| (path.as_str(), Content::Map)).collect()
}

/// Prints `value` with --json, else a `summary`, unless -q.
pub fn print(common: &Common, value: &Value, summary: &str) -> Result<(), Error> {
    print_result(common, value, if common.quiet { "" } else { summary })
}

/// Prints what was asked for, `value` with --json, else `text`; a closed pipe is an error.
pub fn print_result(common: &Common, value: &Value, text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{value}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(out.flush()?)
}

/// A number for JSON, null where it is NaN or infinite.
pub fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}

/// Says on stderr what was written, for people.
pub fn tell_written(common: &Common, paths: &[&str]) {
    if !common.quiet && !common.json && !paths.is_empty() {
        eprintln!("wrote {}", paths.join(", "));
    }
}
