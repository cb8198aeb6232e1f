//! `seghead demo`: the whole way from logits to pictures on the built-in sample, with the time of every stage.

use std::fs;
use std::time::Instant;

use seghead::wgpu::{BufferDescriptor, BufferUsages};
use seghead::{Error as GpuError, Gpu, LabelType, Labels, Logits, Outputs, Readback, Segmentation};
use serde_json::{Value, json};

use super::{add_labels, label, look, number, open_gpu, print};
use crate::args::{Common, Demo, check_share};
use crate::error::Error;
use crate::files::overlay::Classes;
use crate::files::palette::Colours;
use crate::files::picture::{decode_picture, write_picture};
use crate::files::scores::write_scores;
use crate::files::{self, labels::decode_png, tensor::decode_npy};
use crate::progress::Progress;
use crate::sample;
use crate::summary::{intersection_over_union, summarise};

pub fn run(args: &Demo, common: &Common) -> Result<(), Error> {
    check_share("--alpha", args.look.alpha)?;
    let palette = args.look.palette.palette.as_deref();
    let colours = Colours::new(palette)?;
    colours.check(sample::CLASSES.len() as u32)?;
    let colours = colours.with_names(&sample::CLASSES);
    let progress = Progress::start("segmenting the sample", common);
    let photo = decode_picture(sample::PHOTO, "the built-in photo")?;
    let truth = decode_png(sample::LABELS, "the built-in labels")?;
    let tensor = decode_npy(sample::LOGITS, "the built-in logits")?;
    let shape: Vec<u32> = tensor.shape.iter().map(|&size| size as u32).collect();
    let [classes, height, width] = shape[..] else {
        return Err(Error::Usage(format!("the built-in logits: expected 3 dimensions, found {shape:?}")));
    };
    let logits = Logits::chw(classes, height, width)?;
    let gpu = open_gpu(common)?;
    let (found, times) = timed(&gpu, &logits, &tensor.data.into_f32(), photo.height as u32, photo.width as u32)?;

    let map = [photo.height, photo.width];
    let path = |name: &str| format!("{}/{name}", args.output.trim_end_matches('/'));
    let paths = [path("labels.png"), path("confidence.png"), path("overlay.png")];
    fs::create_dir_all(&args.output).map_err(|source| files::Error::Write { path: args.output.clone(), source })?;
    let mut outputs = files::output::Outputs::new();
    add_labels(&mut outputs, &paths[0], &map, &found.labels, &colours)?;
    if let Some(confidence) = &found.confidence {
        // A winner among C classes has at least 1/C.
        write_scores(&mut outputs, &paths[1], &map, confidence, (1.0 / classes as f32, 1.0))?;
    }
    let shown = Classes { class: &|pixel| label(&found.labels, pixel), uncertain: None };
    write_picture(&mut outputs, &paths[2], &look(&args.look, &colours, true).draw(&photo, &shown))?;
    outputs.commit()?;
    drop(progress);

    let iou = intersection_over_union(classes, found.labels.iter(), &truth.values, sample::VOID);
    let info = gpu.adapter_info();
    let mut text = format!("{} ({})\n\n", info.name, info.backend);
    text += "class        share  confidence     IoU\n";
    let mut rows = Vec::new();
    for (class, iou) in summarise(classes, &found).iter().zip(&iou) {
        let name = sample::CLASSES.get(class.class as usize).copied().unwrap_or("?");
        let (share, confidence) = (100.0 * class.share, class.confidence);
        text += &format!("{name:10} {share:6.2}%  {confidence:10.4}  {iou:.4}\n");
        rows.push(json!({
            "class": name,
            "share": class.share,
            "confidence": number(class.confidence),
            "iou": number(*iou),
        }));
    }
    text += "\n";
    for (stage, milliseconds) in times {
        text += &format!("{stage:12} {milliseconds:8.2} ms\n");
    }
    text += &format!("\n{}\n", paths.join("\n"));
    let times: serde_json::Map<String, Value> =
        times.iter().map(|(stage, time)| ((*stage).to_owned(), json!(time))).collect();
    let report = json!({ "adapter": info.name, "classes": rows, "milliseconds": times, "files": paths });
    print(common, &report, &text)
}

/// Stages and their milliseconds.
type Times = [(&'static str, f64); 4];

/// What [`seghead::Segment::run`] does, stage by stage: each is submitted and waited for by itself, so that it can be
/// timed.
fn timed(gpu: &Gpu, logits: &Logits, data: &[f32], height: u32, width: u32) -> Result<(Segmentation, Times), GpuError> {
    let segment = seghead::Segment::new(height, width);
    let map = segment.map(logits)?;
    let buffer = |size, usage| {
        let usage = usage | BufferUsages::STORAGE;
        gpu.device().create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let input = buffer(logits.bytes(), BufferUsages::COPY_DST);
    let labels = buffer(map.bytes(LabelType::U8.bits()), BufferUsages::COPY_SRC);
    let confidence = buffer(map.bytes(32), BufferUsages::COPY_SRC);
    let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(confidence.as_entire_buffer_binding());

    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64() * 1e3;
    gpu.queue().write_buffer(&input, 0, bytemuck::cast_slice(data));
    gpu.queue().submit([]);
    gpu.wait()?;
    let upload = lap();

    // The first run includes the compilation of the kernel.
    let dispatch = segment.dispatch(gpu, logits, input.as_entire_buffer_binding(), outputs)?;
    let run = || {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        gpu.wait()
    };
    run()?;
    let first = lap();
    run()?;
    let kernel = lap();

    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut readbacks = [Readback::new(gpu, labels.size())?, Readback::new(gpu, confidence.size())?];
    readbacks[0].record(&mut encoder, labels.as_entire_buffer_binding())?;
    readbacks[1].record(&mut encoder, confidence.as_entire_buffer_binding())?;
    gpu.queue().submit([encoder.finish()]);
    let labels = readbacks[0].read_blocking(gpu, |bytes| map.unpad(bytes))?;
    let confidence =
        readbacks[1].read_blocking(gpu, |bytes| map.unpad(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes)))?;
    let readback = lap();
    let times = [("upload", upload), ("first kernel", first), ("kernel", kernel), ("read-back", readback)];
    let mut found = Segmentation::new(Labels::U8(labels));
    found.confidence = Some(confidence);
    Ok((found, times))
}
