//! Device times of every operator: `cargo bench -p seghead`, or `cargo bench -p seghead -- softmax` for the lines with
//! that word.
//!
//! Each line: the milliseconds of one submission with one dispatch, minimum and median of several, without upload and
//! read-back; the gigabytes a second of the median, input and output counted once; and the milliseconds that making the
//! dispatch took, which is compiling its pipelines (drivers keep compiled shaders on disk: with Mesa,
//! MESA_SHADER_CACHE_DISABLE=true shows a cold start).

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use seghead::wgpu::{self, BufferUsages};
use seghead::{
    Argmax, BoundaryScore, ConfusionMatrix, CrossEntropy, Dispatch, Gpu, GpuOptions, LabelType, Logits, Outputs,
    Segment, Sigmoid, Softmax, Targets, TopK,
};

const RUNS: usize = 15;

fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
    gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

/// Numbers spread like logits, N(0, 3²) in shape if not in detail.
fn fill(gpu: &Gpu, buffer: &wgpu::Buffer) {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..buffer.size() / 4).map(|_| 6.0 * (uniform() + uniform() + uniform() - 1.5)).collect();
    gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&values));
    gpu.wait().unwrap();
}

fn measure(gpu: &Gpu, name: &str, bytes: u64, make: impl Fn() -> Dispatch) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let start = Instant::now();
    let dispatch = make();
    let compile = start.elapsed();
    let mut times: Vec<f64> = (0..RUNS + 2)
        .map(|_| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            let start = Instant::now();
            gpu.queue().submit([encoder.finish()]);
            gpu.wait().unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let first = times[0];
    times.drain(..2);
    times.sort_by(f64::total_cmp);
    let (minimum, median) = (times[0], times[RUNS / 2]);
    let bandwidth = bytes as f64 / median / 1e6;
    println!(
        "{name:44} {minimum:8.2} {median:8.2} ms {bandwidth:7.1} GB/s   made in {:.0} ms, first run {first:.0} ms",
        compile.as_secs_f64() * 1e3
    );
}

fn main() {
    let gpu = &Gpu::headless_blocking(&GpuOptions::default()).unwrap();
    let info = gpu.adapter_info();
    println!("{} ({}), {} {}", info.name, info.backend, info.driver, info.driver_info);
    for (classes, height, width) in [(4, 512, 512), (21, 512, 512), (19, 512, 1024), (150, 256, 512)] {
        let shape = Logits::chw(classes, height, width).unwrap();
        let (input, out) = (buffer(gpu, shape.bytes()), buffer(gpu, shape.bytes()));
        fill(gpu, &input);
        let map = shape.map();
        let (labels, scores) = (buffer(gpu, map.bytes(8)), buffer(gpu, map.bytes(32)));
        let (target, record) = (buffer(gpu, map.bytes(8)), buffer(gpu, 16));
        let read = || input.as_entire_buffer_binding();
        let name = |op: &str| format!("{op} {classes}x{height}x{width}");
        let both = 2 * shape.bytes();
        measure(gpu, &name("softmax"), both, || {
            Softmax::new().dispatch(gpu, &shape, read(), out.as_entire_buffer_binding()).unwrap()
        });
        measure(gpu, &name("sigmoid"), both, || {
            Sigmoid::new().dispatch(gpu, &shape, read(), out.as_entire_buffer_binding()).unwrap()
        });
        let outputs = || Outputs::labels(labels.as_entire_buffer_binding());
        measure(gpu, &name("argmax"), shape.bytes() + map.bytes(8), || {
            Argmax::new().dispatch(gpu, &shape, read(), outputs()).unwrap()
        });
        let with_confidence = || outputs().confidence(scores.as_entire_buffer_binding());
        measure(gpu, &name("argmax and confidence"), shape.bytes() + map.bytes(8) + map.bytes(32), || {
            Argmax::new().dispatch(gpu, &shape, read(), with_confidence()).unwrap()
        });
        for k in [1, 3] {
            let operator = TopK::new(k);
            let map = operator.map(&shape).unwrap();
            let (labels, scores) = (buffer(gpu, map.bytes(8)), buffer(gpu, map.bytes(32)));
            let labels = || labels.as_entire_buffer_binding();
            measure(gpu, &name(&format!("top-{k}")), shape.bytes() + map.bytes(8), || {
                operator.dispatch(gpu, &shape, read(), labels(), None).unwrap()
            });
            let bytes = shape.bytes() + map.bytes(8) + map.bytes(32);
            measure(gpu, &name(&format!("top-{k} and probabilities")), bytes, || {
                let scores = scores.as_entire_buffer_binding();
                operator.dispatch(gpu, &shape, read(), labels(), Some(scores)).unwrap()
            });
        }
        let targets = || Targets::new(target.as_entire_buffer_binding(), LabelType::U8);
        measure(gpu, &name("cross-entropy mean"), shape.bytes() + map.bytes(8), || {
            let record = record.as_entire_buffer_binding();
            CrossEntropy::new().dispatch(gpu, &shape, read(), targets(), record, None).unwrap()
        });
        measure(gpu, &name("cross-entropy mean and gradient"), both + map.bytes(8), || {
            let (record, gradient) = (record.as_entire_buffer_binding(), out.as_entire_buffer_binding());
            CrossEntropy::new().dispatch_gradient(gpu, &shape, read(), targets(), record, gradient).unwrap()
        });
        measure(gpu, &name("cross-entropy per pixel"), shape.bytes() + map.bytes(8) + map.bytes(32), || {
            let (record, losses) = (record.as_entire_buffer_binding(), scores.as_entire_buffer_binding());
            CrossEntropy::new().dispatch(gpu, &shape, read(), targets(), record, Some(losses)).unwrap()
        });
    }
    for (classes, height, width, scale) in
        [(11, 90, 120, 4.0), (150, 128, 128, 4.0), (19, 256, 512, 4.0), (19, 256, 512, 1.6), (19, 256, 512, 0.5)]
    {
        let shape = Logits::chw(classes, height, width).unwrap();
        let input = buffer(gpu, shape.bytes());
        fill(gpu, &input);
        let segment = Segment::new((f64::from(height) * scale) as u32, (f64::from(width) * scale) as u32);
        let map = segment.map(&shape).unwrap();
        let (labels, scores) = (buffer(gpu, map.bytes(8)), buffer(gpu, map.bytes(32)));
        let outputs = || Outputs::labels(labels.as_entire_buffer_binding());
        let with_confidence = || outputs().confidence(scores.as_entire_buffer_binding());
        let name = |op: &str| format!("{op} x{scale} {classes}x{height}x{width}");
        measure(gpu, &name("segment"), shape.bytes() + map.bytes(8), || {
            segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs()).unwrap()
        });
        measure(gpu, &name("segment and confidence"), shape.bytes() + map.bytes(8) + map.bytes(32), || {
            segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), with_confidence()).unwrap()
        });
    }
    // Regions as segmentations have them, which are a little apart; and noise, where no two neighbours are alike.
    let map = Logits::chw(19, 1024, 2048).unwrap().map();
    for (what, size, shift) in [("regions", 64, 5), ("noise", 1, 0)] {
        let [predictions, targets] = [0, shift].map(|shift| {
            let label = |i: usize| {
                let (x, y) = ((i % 2048 + shift) / size, (i / 2048 + shift) / size);
                ((x as u32).wrapping_mul(2_654_435_761) ^ (y as u32).wrapping_mul(2_246_822_519)) % 19
            };
            let labels: Vec<u8> = (0..map.pixels()).map(|i| label(i) as u8).collect();
            let buffer = buffer(gpu, map.bytes(8));
            gpu.queue().write_buffer(&buffer, 0, &labels);
            buffer
        });
        let operator = ConfusionMatrix::new(19).ignore_index(Some(255));
        let records = buffer(gpu, operator.bytes(&map));
        measure(gpu, &format!("confusion matrix, {what} 19x1024x2048"), 2 * map.bytes(8), || {
            let from = (predictions.as_entire_buffer_binding(), LabelType::U8);
            let targets = Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
            operator.dispatch(gpu, &map, from, targets, records.as_entire_buffer_binding()).unwrap()
        });
        for tolerance in [3, 10, 31] {
            let operator = BoundaryScore::new(19, tolerance).ignore_index(Some(255));
            let records = buffer(gpu, operator.bytes(&map));
            let name = format!("boundary score within {tolerance}, {what} 19x1024x2048");
            measure(gpu, &name, 2 * map.bytes(8), || {
                let from = (predictions.as_entire_buffer_binding(), LabelType::U8);
                let targets = Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
                operator.dispatch(gpu, &map, from, targets, records.as_entire_buffer_binding()).unwrap()
            });
        }
    }
}
