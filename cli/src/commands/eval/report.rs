//! What an evaluation has found: a table, JSON, and the scores of every image.

use seghead::{Absent, Confusion};
use serde_json::{Value, json};

use super::tally::{Problem, Tally};
use crate::commands::number;

/// A tally with its scores.
pub struct Report<'a> {
    tally: &'a Tally,
    confusion: &'a Confusion,
    absent: Absent,
    names: Option<&'a [String]>,
}

impl<'a> Report<'a> {
    pub fn new(tally: &'a Tally, confusion: &'a Confusion, absent: Absent) -> Self {
        Self { tally, confusion, absent, names: tally.settings.names.as_deref() }
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
    pub fn scores(&self) -> [(&'static str, f64); 5] {
        let (confusion, absent) = (self.confusion, self.absent);
        [
            ("mean IoU", confusion.mean_iou(absent)),
            ("mean Dice", confusion.mean_dice(absent)),
            ("pixel accuracy", confusion.pixel_accuracy()),
            ("mean accuracy", confusion.mean_accuracy(absent)),
            ("frequency-weighted IoU", confusion.frequency_weighted_iou()),
        ]
    }

    /// What was evaluated, in words.
    pub fn extent(&self) -> String {
        let (images, pixels, ignored) = (self.tally.images.len(), self.confusion.counted(), self.confusion.ignored());
        let resize = &self.tally.settings.resize;
        let index = self.tally.settings.ignore_index.map_or(String::new(), |index| format!(", ignore index {index}"));
        format!("{images} images, {pixels} pixels, {ignored} more ignored{index}; logits resized {resize}")
    }

    pub fn json(&self) -> Value {
        let (confusion, absent) = (self.confusion, self.absent);
        let class = |class: u32| {
            let score = |score: Option<f64>| score.map_or(Value::Null, |score| json!(score));
            json!({
                "class": class,
                "name": self.names.and_then(|names| names.get(class as usize)),
                "iou": score(confusion.iou(class)),
                "dice": score(confusion.dice(class)),
                "accuracy": score(confusion.recall(class)),
                "precision": score(confusion.precision(class)),
                "pixels": confusion.pixels(class),
                "predicted": confusion.predicted(class),
            })
        };
        let problem = |problem: &Problem| json!({ "file": problem.file, "problem": problem.text });
        json!({
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
        })
    }

    pub fn text(&self) -> String {
        let (confusion, absent) = (self.confusion, self.absent);
        let names: Vec<_> = (0..confusion.classes()).map(|class| self.name(class)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("class".len());
        let mut text = format!("{:width$}     IoU    Dice  accuracy  precision        pixels\n", "class");
        let mut line = |name: &str, scores: [f64; 4], pixels: u64| {
            let [iou, dice, accuracy, precision] = scores.map(|score| match score.is_nan() {
                true => "-".to_owned(),
                false => format!("{score:.4}"),
            });
            text += &format!("{name:width$}  {iou:>6}  {dice:>6}    {accuracy:>6}     {precision:>6}  {pixels:>12}\n");
        };
        for (class, name) in (0..confusion.classes()).zip(&names) {
            let scores =
                [confusion.iou(class), confusion.dice(class), confusion.recall(class), confusion.precision(class)];
            line(name, scores.map(|score| score.unwrap_or(f64::NAN)), confusion.pixels(class));
        }
        let means = [
            confusion.mean_iou(absent),
            confusion.mean_dice(absent),
            confusion.mean_accuracy(absent),
            confusion.mean_precision(absent),
        ];
        line("mean", means, confusion.counted());
        let (images, ignored) = (self.tally.images.len(), confusion.ignored());
        text += &format!(
            "\npixel accuracy {:.4}, frequency-weighted IoU {:.4}; {images} images, {ignored} pixels ignored\n",
            confusion.pixel_accuracy(),
            confusion.frequency_weighted_iou()
        );
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
            "name,pixels,ignored,pixel_accuracy,mean_accuracy,mean_precision,mean_iou,mean_dice,frequency_weighted_iou\n",
        );
        for (name, counts) in &self.tally.images {
            let mut confusion = Confusion::new(self.confusion.classes());
            counts.add_to(&mut confusion)?;
            let scores = [
                confusion.pixel_accuracy(),
                confusion.mean_accuracy(self.absent),
                confusion.mean_precision(self.absent),
                confusion.mean_iou(self.absent),
                confusion.mean_dice(self.absent),
                confusion.frequency_weighted_iou(),
            ];
            text += &format!("{},{},{}", quoted(name), confusion.counted(), confusion.ignored());
            for score in scores {
                text += &if score.is_nan() { ",".to_owned() } else { format!(",{score}") };
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
