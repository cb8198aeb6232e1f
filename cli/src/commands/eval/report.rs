//! What an evaluation has found: a table, JSON, and the scores of every image.

use seghead::{Absent, BoundaryPixels, BoundaryTable, Confusion, ReliabilityBin, ReliabilityTable};
use serde_json::{Value, json};

use super::tally::{Problem, Tally};
use crate::commands::number;

/// A tally with its scores.
pub struct Report<'a> {
    tally: &'a Tally,
    confusion: &'a Confusion,
    absent: Absent,
    names: Option<&'a [String]>,
    reliability: Option<ReliabilityTable>,
    boundaries: Option<BoundaryTable>,
}

/// Bins of confidence up to which the text has a line for each.
const BIN_LINES: usize = 100;

impl<'a> Report<'a> {
    pub fn new(tally: &'a Tally, confusion: &'a Confusion, absent: Absent) -> Result<Self, seghead::Error> {
        let (reliability, boundaries) = (tally.reliability()?, tally.boundaries()?);
        Ok(Self { tally, confusion, absent, names: tally.settings.names.as_deref(), reliability, boundaries })
    }

    /// How often the network is right when it is so sure, if that was counted.
    pub fn reliability(&self) -> Option<&ReliabilityTable> {
        self.reliability.as_ref()
    }

    /// The boundary pixels of a class, if boundaries were scored.
    pub fn boundary(&self, class: u32) -> Option<&BoundaryPixels> {
        self.boundaries.as_ref()?.classes().get(class as usize)
    }

    /// The mean over the images of their mean boundary F1 score, as Csurka et al. have it; NaN of none that has one.
    fn mean_image_boundary_f1(&self) -> f64 {
        let classes = self.confusion.classes();
        let of_image = self.tally.images.values().map(|image| image.boundaries(classes).mean_f1(self.absent));
        let (sum, count) =
            of_image.filter(|f1| !f1.is_nan()).fold((0.0, 0u64), |(sum, count), f1| (sum + f1, count + 1));
        sum / count as f64
    }

    /// The name of a class: its number, where it has none.
    pub fn name(&self, class: u32) -> String {
        self.names.and_then(|names| names.get(class as usize)).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The files that were left out.
    pub fn problems(&self) -> Vec<&Problem> {
        self.tally.problems.iter().collect()
    }

    /// The scores of all images together.
    pub fn scores(&self) -> Vec<(&'static str, f64)> {
        let (confusion, absent) = (self.confusion, self.absent);
        let mut scores = vec![
            ("mean IoU", confusion.mean_iou(absent)),
            ("mean Dice", confusion.mean_dice(absent)),
            ("pixel accuracy", confusion.pixel_accuracy()),
            ("mean accuracy", confusion.mean_accuracy(absent)),
            ("frequency-weighted IoU", confusion.frequency_weighted_iou()),
        ];
        if let Some(boundaries) = &self.boundaries {
            scores.push(("mean boundary F1", boundaries.mean_f1(absent)));
            scores.push(("mean boundary F1 of the images", self.mean_image_boundary_f1()));
        }
        if let Some(table) = &self.reliability {
            scores.push(("expected calibration error", table.expected_calibration_error()));
        }
        scores
    }

    /// What was evaluated, in words.
    pub fn extent(&self) -> String {
        let (images, pixels, ignored) = (self.tally.images.len(), self.confusion.counted(), self.confusion.ignored());
        let resize = &self.tally.settings.resize;
        let index = self.tally.settings.ignore_index.map_or(String::new(), |index| format!(", ignore index {index}"));
        let tolerance = self.tally.settings.boundary;
        let tolerance = tolerance.map_or(String::new(), |pixels| format!("; boundaries within {pixels} px"));
        format!("{images} images, {pixels} pixels, {ignored} more ignored{index}; logits resized {resize}{tolerance}")
    }

    pub fn json(&self) -> Value {
        let (confusion, absent) = (self.confusion, self.absent);
        let class = |class: u32| {
            let score = |score: Option<f64>| score.map_or(Value::Null, |score| json!(score));
            let mut scores = json!({
                "class": class,
                "name": self.names.and_then(|names| names.get(class as usize)),
                "iou": score(confusion.iou(class)),
                "dice": score(confusion.dice(class)),
                "accuracy": score(confusion.recall(class)),
                "precision": score(confusion.precision(class)),
                "pixels": confusion.pixels(class),
                "predicted": confusion.predicted(class),
            });
            if let Some(boundary) = self.boundary(class) {
                scores["boundary_f1"] = score(boundary.f1());
                scores["boundary_precision"] = score(boundary.precision());
                scores["boundary_recall"] = score(boundary.recall());
            }
            scores
        };
        let problem = |problem: &Problem| json!({ "file": problem.file, "problem": problem.text });
        let mut report = json!({
            "images": self.tally.images.len(),
            "pixels": confusion.counted(),
            "ignored": confusion.ignored(),
            "ignore_index": self.tally.settings.ignore_index,
            "pixel_accuracy": number(confusion.pixel_accuracy()),
            "mean_accuracy": number(confusion.mean_accuracy(absent)),
            "mean_precision": number(confusion.mean_precision(absent)),
            "mean_iou": number(confusion.mean_iou(absent)),
            "mean_dice": number(confusion.mean_dice(absent)),
            "frequency_weighted_iou": number(confusion.frequency_weighted_iou()),
            "classes": (0..confusion.classes()).map(class).collect::<Vec<_>>(),
            "problems": self.tally.problems.iter().map(problem).collect::<Vec<_>>(),
        });
        if let Some(boundaries) = &self.boundaries {
            report["boundary_tolerance"] = json!(self.tally.settings.boundary);
            report["mean_boundary_f1"] = number(boundaries.mean_f1(absent));
            report["mean_image_boundary_f1"] = number(self.mean_image_boundary_f1());
        }
        if let Some(table) = &self.reliability {
            report["expected_calibration_error"] = number(table.expected_calibration_error());
            report["maximum_calibration_error"] = number(table.maximum_calibration_error());
            report["mean_confidence"] = number(table.mean_confidence().unwrap_or(f64::NAN));
            report["nan_confidences"] = json!(table.nan());
            let bin = |(i, bin): (u32, &ReliabilityBin)| {
                let [above, up_to] = table.edges(i);
                json!({
                    "above": above,
                    "up_to": up_to,
                    "pixels": bin.pixels,
                    "accuracy": bin.accuracy(),
                    "mean_confidence": bin.mean_confidence(),
                })
            };
            report["reliability"] = (0..).zip(table.bins()).map(bin).collect();
        }
        report
    }

    pub fn text(&self) -> String {
        let (confusion, absent) = (self.confusion, self.absent);
        let names: Vec<_> = (0..confusion.classes()).map(|class| self.name(class)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("class".len());
        let boundary = if self.boundaries.is_some() { "  boundary F1" } else { "" };
        let mut text = format!("{:width$}     IoU    Dice  accuracy  precision{boundary}        pixels\n", "class");
        let mut line = |name: &str, scores: [f64; 4], boundary: Option<f64>, pixels: u64| {
            let [iou, dice, accuracy, precision] = scores.map(score);
            let boundary = boundary.map_or(String::new(), |f1| format!("       {:>6}", score(f1)));
            text += &format!("{name:width$}  {iou:>6}  {dice:>6}    {accuracy:>6}     {precision:>6}");
            text += &format!("{boundary}  {pixels:>12}\n");
        };
        for (class, name) in (0..confusion.classes()).zip(&names) {
            let scores =
                [confusion.iou(class), confusion.dice(class), confusion.recall(class), confusion.precision(class)];
            let boundary = self.boundary(class).map(|pixels| pixels.f1().unwrap_or(f64::NAN));
            line(name, scores.map(|score| score.unwrap_or(f64::NAN)), boundary, confusion.pixels(class));
        }
        let means = [
            confusion.mean_iou(absent),
            confusion.mean_dice(absent),
            confusion.mean_accuracy(absent),
            confusion.mean_precision(absent),
        ];
        let mean_boundary = self.boundaries.as_ref().map(|boundaries| boundaries.mean_f1(absent));
        line("mean", means, mean_boundary, confusion.counted());
        let (images, ignored) = (self.tally.images.len(), confusion.ignored());
        text += &format!(
            "\npixel accuracy {:.4}, frequency-weighted IoU {:.4}; {images} images, {ignored} pixels ignored\n",
            confusion.pixel_accuracy(),
            confusion.frequency_weighted_iou()
        );
        if let Some(pixels) = self.tally.settings.boundary {
            let of_images = score(self.mean_image_boundary_f1());
            text += &format!("boundaries within {pixels} px; mean boundary F1 of the images {of_images}\n");
        }
        if let Some(table) = &self.reliability {
            text += &reliability_text(table);
        }
        if !self.tally.problems.is_empty() {
            text += &format!("\n{} files left out:\n", self.tally.problems.len());
            self.tally
                .problems
                .iter()
                .for_each(|Problem { file, text: why, .. }| text += &format!("  {file}: {why}\n"));
        }
        text
    }

    /// A line for every image, in the order of their names; a score that is none is left empty.
    pub fn csv(&self) -> Result<String, seghead::Error> {
        let mut text = String::from(
            "name,pixels,ignored,pixel_accuracy,mean_accuracy,mean_precision,mean_iou,mean_dice,frequency_weighted_iou",
        );
        text += if self.boundaries.is_some() { ",mean_boundary_f1" } else { "" };
        text += if self.reliability.is_some() { ",expected_calibration_error" } else { "" };
        text.push('\n');
        for (name, counts) in &self.tally.images {
            let mut confusion = Confusion::new(self.confusion.classes());
            counts.add_to(&mut confusion)?;
            let mut scores = vec![
                confusion.pixel_accuracy(),
                confusion.mean_accuracy(self.absent),
                confusion.mean_precision(self.absent),
                confusion.mean_iou(self.absent),
                confusion.mean_dice(self.absent),
                confusion.frequency_weighted_iou(),
            ];
            if self.boundaries.is_some() {
                scores.push(counts.boundaries(confusion.classes()).mean_f1(self.absent));
            }
            if let Some(bins) = self.tally.settings.calibration {
                scores.push(counts.reliability(bins)?.expected_calibration_error());
            }
            text += &format!("{},{},{}", quoted(name), confusion.counted(), confusion.ignored());
            for score in scores {
                text += &if score.is_nan() { ",".to_owned() } else { format!(",{score}") };
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// A score in a column of the text.
fn score(score: f64) -> String {
    if score.is_nan() { "-".to_owned() } else { format!("{score:.4}") }
}

/// Calibration errors, and a line for each bin that has pixels, unless these are many.
fn reliability_text(table: &ReliabilityTable) -> String {
    let errors = [table.expected_calibration_error(), table.maximum_calibration_error()].map(score);
    let means = [table.mean_confidence(), table.accuracy()].map(|mean| score(mean.unwrap_or(f64::NAN)));
    let mut text = format!("\nexpected calibration error {}, maximum {}; ", errors[0], errors[1]);
    text += &format!("mean confidence {}, accuracy {}", means[0], means[1]);
    text += &if table.nan() > 0 { format!(", {} confidences are NaN\n", table.nan()) } else { "\n".to_owned() };
    if table.bins().len() > BIN_LINES {
        return text;
    }
    text += "confidence          mean  accuracy      gap        pixels\n";
    for (i, bin) in (0..).zip(table.bins()) {
        if let (Some(mean), Some(accuracy), Some(gap)) = (bin.mean_confidence(), bin.accuracy(), bin.gap()) {
            let [above, up_to] = table.edges(i);
            let pixels = bin.pixels;
            text += &format!("{above:.4}-{up_to:.4}   {mean:.4}    {accuracy:.4}  {gap:+.4}  {pixels:>12}\n");
        }
    }
    text
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
