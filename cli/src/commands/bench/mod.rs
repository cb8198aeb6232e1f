//! `seghead bench`: how long every operator takes on the chosen adapter, beside a copy of as many bytes.

mod clock;
mod operators;
mod small;

use clap::ValueEnum;
use seghead::wgpu::BufferUsages;
use seghead::{ElementType, Gpu, Logits};
use serde_json::{Value, json};

use self::clock::{Clock, Times};
use self::operators::{Tensors, Work};
use self::small::Small;
use super::print_result;
use crate::args::{Bench, BenchOperator, Common, Float};
use crate::error::Error;
use crate::progress::Progress;

/// What is measured unless something else is asked for: a network for PASCAL VOC, and one for Cityscapes.
const SHAPES: [[u32; 4]; 2] = [[1, 21, 512, 512], [1, 19, 1024, 2048]];

pub fn run(args: &Bench, common: &Common) -> Result<(), Error> {
    let shapes = if args.shape.is_empty() { &SHAPES[..] } else { &args.shape };
    let operators = if args.op.is_empty() { BenchOperator::value_variants().to_vec() } else { args.op.clone() };
    let floats = if args.float.is_empty() { &[Float::F32][..] } else { &args.float };
    let logits: Result<Vec<_>, Error> = shapes.iter().map(|&[n, c, h, w]| Ok(Logits::nchw(n, c, h, w)?)).collect();
    let logits = logits?;

    let gpu = Gpu::headless_blocking(&common.gpu_options())?;
    let clock = Clock::new(&gpu)?;
    let measurements = logits.len() * floats.len() * operators.len();
    let progress = Progress::count("measuring", measurements as u64, common);
    let mut rows = Vec::with_capacity(measurements);
    for logits in &logits {
        for float in floats {
            let element_type = match float {
                Float::F32 => ElementType::F32,
                Float::F16 => ElementType::F16,
            };
            let tensors = Tensors::new(&gpu, logits.with_element_type(element_type))?;
            for &operator in &operators {
                // All that these logits have classes for, unless one is asked for by name.
                if !args.op.is_empty() || operator.least_classes() <= logits.classes() {
                    let row = Row::measure(&gpu, &clock, &tensors, (operator, args.scale), args.runs as usize);
                    rows.push(row.map_err(|source| measured(operator, args.scale, &tensors, source))?);
                }
                progress.advance();
            }
        }
    }
    drop(progress);
    let runs = args.runs as usize;
    let beside = (clock.empty(&gpu, 10 * runs)?, Small::measure(&gpu, &clock, runs)?);
    print_result(common, &report(&gpu, &clock, &rows, &beside), &table(&gpu, &clock, &rows, &beside))
}

fn measured(operator: BenchOperator, scale: f64, tensors: &Tensors<'_>, source: seghead::Error) -> Error {
    let scaled = if operator.is_scaled() { format!(" at --scale {scale}") } else { String::new() };
    Error::Measured { what: format!("{}{scaled} of {}", operator.name(), tensors.shape()), source }
}

/// One operator on one shape.
struct Row {
    operator: String,
    shape: String,
    element_type: String,
    /// What is read and written at the least.
    bytes: u64,
    /// Milliseconds that making the dispatch and warming up took: compiling, unless its pipelines were there.
    made: f64,
    kernels: Vec<String>,
    device: Times,
    /// A copy on the device that moves as many bytes.
    copy: Times,
    /// From a slice on the host to results on the host, where it is that sort of operator.
    end_to_end: Option<Times>,
}

impl Row {
    fn measure(
        gpu: &Gpu,
        clock: &Clock,
        tensors: &Tensors<'_>,
        (operator, scale): (BenchOperator, f64),
        runs: usize,
    ) -> Result<Self, seghead::Error> {
        let start = std::time::Instant::now();
        let Work { dispatch, bytes, end_to_end } = operators::work(tensors, operator, scale)?;
        gpu.warm_up([&dispatch])?;
        let made = start.elapsed().as_secs_f64() * 1e3;
        let half = (bytes / 2).next_multiple_of(4);
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let (from, to) = (operators::buffer(gpu, half, usage)?, operators::buffer(gpu, half, usage)?);
        let device = clock.measure(gpu, runs, |encoder| dispatch.record(encoder))?;
        let copy = clock.measure(gpu, runs, |encoder| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, half))?;
        let end_to_end = end_to_end.map(|run| Times::of(runs, run)).transpose()?;
        Ok(Self {
            operator: operator.name(),
            shape: tensors.shape(),
            element_type: format!("{:?}", tensors.logits.element_type()).to_lowercase(),
            bytes,
            made,
            kernels: dispatch.kernels().iter().map(ToString::to_string).collect(),
            device,
            copy,
            end_to_end,
        })
    }

    fn gigabytes_a_second(&self) -> f64 {
        self.bytes as f64 / self.device.median() / 1e6
    }

    fn share_of_copy(&self) -> f64 {
        self.copy.median() / self.device.median()
    }
}

fn report(gpu: &Gpu, clock: &Clock, rows: &[Row], (empty, small): &(Times, Small)) -> Value {
    let info = gpu.adapter_info();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "op": row.operator,
                "shape": row.shape,
                "type": row.element_type,
                "bytes": row.bytes,
                "kernels": row.kernels,
                "made_ms": row.made,
                "device_ms": row.device.json(),
                "copy_ms": row.copy.json(),
                "gb_per_s": row.gigabytes_a_second(),
                "share_of_copy": row.share_of_copy(),
                "end_to_end_ms": row.end_to_end.as_ref().map(Times::json),
            })
        })
        .collect();
    json!({
        "adapter": info.name,
        "backend": info.backend.to_string(),
        "driver": format!("{} {}", info.driver, info.driver_info).trim(),
        "access": format!("{:?}", gpu.access()).to_lowercase(),
        "transfer": format!("{:?}", gpu.transfer()).to_lowercase(),
        "clock": clock.name(),
        "empty_submission_ms": empty.json(),
        "small_work": small.json(),
        "rows": rows,
    })
}

fn table(gpu: &Gpu, clock: &Clock, rows: &[Row], (empty, small): &(Times, Small)) -> String {
    let info = gpu.adapter_info();
    let empty = empty.median();
    let mut text = format!("{} ({}), {} {}\n", info.name, info.backend, info.driver, info.driver_info);
    text +=
        &format!("device times by {}, an empty submission {empty:.3} ms; median ± interquartile range\n", clock.name());
    text += &small.line();
    text += "\n";
    let width = rows.iter().map(|row| row.shape.len()).max().unwrap_or(0).max(5);
    text += &format!(
        "{:27} {:width$} type   device ms          least    GB/s  of copy   end to end ms\n",
        "operator", "shape"
    );
    for row in rows {
        let (median, spread, least) = (row.device.median(), row.device.spread(), row.device.least());
        let end_to_end = row.end_to_end.as_ref().map_or("—".to_owned(), |times| format!("{:.3}", times.median()));
        let (speed, share) = (row.gigabytes_a_second(), 100.0 * row.share_of_copy());
        let (operator, shape, element_type) = (&row.operator, &row.shape, &row.element_type);
        text += &format!(
            "{operator:27} {shape:width$} {element_type:4} {median:9.3} ± {spread:<7.3} {least:8.3} {speed:7.2} {share:7.0}% \
             {end_to_end:>15}\n",
        );
    }
    text
}
