//! `seghead inspect`: what is in a tensor that should be logits.

use seghead::{Axis, AxisSums, ClassValues, Inspect, Inspection};
use serde_json::{Value, json};

use super::{number, open_gpu, print_result};
use crate::args::{self, Common, Layout};
use crate::error::Error;
use crate::input::Input;
use crate::progress::Progress;

/// Classes that the table has at the most.
const MOST: usize = 32;

const AXES: [(&str, Axis); 3] = [("class", Axis::Class), ("height", Axis::Height), ("width", Axis::Width)];

pub fn run(args: &args::Inspect, common: &Common) -> Result<(), Error> {
    let progress = Progress::start("inspecting", common);
    let mut input = Input::open(&args.tensor, common)?;
    let gpu = open_gpu(common)?;
    let logits = input.logits;
    let found = Inspect::new().run_blocking(&gpu, &logits, input.reader()).map_err(|error| input.error(error))?;
    drop(progress);
    let layout = match common.layout {
        Some(Layout::Hwc) => "hwc",
        Some(Layout::Nhwc) => "nhwc",
        Some(Layout::Chw) => "chw",
        Some(Layout::Nchw) => "nchw",
        None if input.shape.len() == 3 => "chw",
        None => "nchw",
    };
    let findings: Vec<_> = found.findings().iter().map(ToString::to_string).collect();
    let mut report = values(&found.total());
    let classes = found.classes.iter().enumerate().map(|(class, of_class)| {
        let mut row = values(of_class);
        row["class"] = json!(class);
        row["constant"] = json!(of_class.is_constant());
        row
    });
    let sums: serde_json::Map<String, Value> = AXES
        .iter()
        .map(|&(name, axis)| {
            let AxisSums { length, count, finite, ones, .. } = found.sums(axis);
            (name.to_owned(), json!({ "length": length, "count": count, "finite": finite, "ones": ones }))
        })
        .collect();
    let votes = &found.roughness;
    report["shape"] = json!(input.shape);
    report["layout"] = json!(layout);
    report["classes"] = classes.collect();
    report["sums"] = Value::Object(sums);
    report["exponential_ones"] = json!(found.exponential_ones);
    report["roughness"] = json!({ "class": votes.class, "height": votes.height, "width": votes.width });
    report["findings"] = json!(findings);
    report["adapter"] = json!(gpu.adapter_info().name);
    print_result(common, &report, &text(&found, &input.shape, layout, &findings))
}

fn values(values: &ClassValues) -> Value {
    json!({
        "minimum": number(values.minimum.into()),
        "maximum": number(values.maximum.into()),
        "nan": values.nan,
        "positive_infinity": values.positive_infinity,
        "negative_infinity": values.negative_infinity,
        "negative": values.negative,
        "unit": values.unit,
        "count": values.count,
    })
}

fn text(found: &Inspection, shape: &[usize], layout: &str, findings: &[String]) -> String {
    let logits = &found.logits;
    let (images, classes) = (logits.images(), logits.classes());
    let (height, width) = (logits.height(), logits.width());
    let mut text = format!("shape {shape:?} as {layout}: {images} × {classes} classes × {height} × {width} pixels\n");
    for (name, axis) in AXES {
        let AxisSums { count, ones, .. } = found.sums(axis);
        text += &format!("sums to 1 along {name}: {ones} of {count}\n");
    }
    text += "\nclass      minimum      maximum       NaN      +Inf      −Inf   negative    in 0..1\n";
    for (class, values) in found.classes.iter().enumerate().take(MOST) {
        text += &row(&class.to_string(), values);
    }
    if found.classes.len() > MOST {
        text += &format!("… and {} more, all with --json\n", found.classes.len() - MOST);
    }
    text += &row("all", &found.total());
    text += "\n";
    for finding in findings {
        text += &format!("{finding}\n");
    }
    if findings.is_empty() {
        text += "nothing conspicuous\n";
    }
    text
}

fn row(name: &str, values: &ClassValues) -> String {
    let ClassValues { minimum, maximum, nan, positive_infinity, negative_infinity, negative, unit, .. } = *values;
    format!(
        "{name:>5} {minimum:12.5} {maximum:12.5} {nan:9} {positive_infinity:9} {negative_infinity:9} {negative:10} \
         {unit:10}\n"
    )
}
