//! How long the device takes, by its own clock where it has one.

use std::time::{Duration, Instant};

use seghead::wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassDescriptor, ComputePassTimestampWrites, Features, MapMode,
    QuerySet, QuerySetDescriptor, QueryType,
};
use seghead::{Error, Gpu};
use serde_json::{Value, json};

/// Runs end after this long, or after the fewest that a spread can be told from.
const ENOUGH: Duration = Duration::from_secs(2);
const FEWEST: usize = 3;
/// Runs that are left out: the first compiles, and touches memory for the first time.
const WARM_UP: usize = 2;

/// Milliseconds of several runs, sorted.
pub struct Times(Vec<f64>);

impl Times {
    /// Of `runs` calls that time themselves, fewer if they take long.
    fn new<E>(runs: usize, mut once: impl FnMut() -> Result<f64, E>) -> Result<Self, E> {
        for _ in 0..WARM_UP {
            once()?;
        }
        let start = Instant::now();
        let mut times = Vec::with_capacity(runs);
        while times.len() < runs && (times.len() < FEWEST || start.elapsed() < ENOUGH) {
            times.push(once()?);
        }
        times.sort_by(f64::total_cmp);
        Ok(Self(times))
    }

    /// Of `runs` calls by the clock on the wall.
    pub fn of<E>(runs: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Self, E> {
        Self::new(runs, || {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
    }

    fn quantile(&self, q: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The interquartile range.
    pub fn spread(&self) -> f64 {
        self.quantile(0.75) - self.quantile(0.25)
    }

    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.least(), "spread": self.spread(), "runs": self.0.len() })
    }
}

/// Timestamps that the device writes, or the clock on the wall.
pub struct Clock {
    device: Option<Timestamps>,
}

struct Timestamps {
    queries: QuerySet,
    resolved: Buffer,
    read: Buffer,
    /// Milliseconds of a tick.
    tick: f64,
}

const BYTES: u64 = 16;

impl Clock {
    /// The wall's for a software adapter: its device is the host, where what runs beside the kernels counts too.
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let device = gpu.device();
        if gpu.is_software() || !device.features().contains(Features::TIMESTAMP_QUERY) {
            return Ok(Self { device: None });
        }
        let buffer = |usage| super::operators::buffer(gpu, BYTES, usage);
        let descriptor = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count: 2 };
        Ok(Self {
            device: Some(Timestamps {
                queries: device.create_query_set(&descriptor),
                resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?,
                read: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
                tick: f64::from(gpu.queue().get_timestamp_period()) / 1e6,
            }),
        })
    }

    pub fn name(&self) -> &'static str {
        if self.device.is_some() { "timestamps" } else { "submit and wait" }
    }

    /// What is recorded into a submission of its own, several times.
    pub fn measure(&self, gpu: &Gpu, runs: usize, record: impl Fn(&mut CommandEncoder)) -> Result<Times, Error> {
        match &self.device {
            Some(timestamps) => Times::new(runs, || timestamps.time(gpu, &record)),
            None => Times::new(runs, || submit_and_wait(gpu, &record)),
        }
    }

    /// A submission without work, by the clock on the wall.
    pub fn empty(&self, gpu: &Gpu, runs: usize) -> Result<Times, Error> {
        Times::new(runs, || submit_and_wait(gpu, |_| {}))
    }
}

/// Milliseconds from the submission to its end.
fn submit_and_wait(gpu: &Gpu, record: impl Fn(&mut CommandEncoder)) -> Result<f64, Error> {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue().submit([commands]);
    gpu.wait()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

impl Timestamps {
    /// Milliseconds from the end of an empty pass before the work to the beginning of one after it: so that copies are
    /// measured like kernels.
    fn time(&self, gpu: &Gpu, record: impl Fn(&mut CommandEncoder)) -> Result<f64, Error> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        self.stamp(&mut encoder, None, Some(0));
        record(&mut encoder);
        self.stamp(&mut encoder, Some(1), None);
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, BYTES);
        gpu.queue().submit([encoder.finish()]);
        self.read.map_async(MapMode::Read, .., |_| {});
        gpu.wait()?;
        let ticks = {
            let mapped = self.read.get_mapped_range(..)?;
            let ticks: [u64; 2] = bytemuck::pod_read_unaligned(&mapped);
            ticks
        };
        self.read.unmap();
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * self.tick)
    }

    fn stamp(&self, encoder: &mut CommandEncoder, begin: Option<u32>, end: Option<u32>) {
        let timestamp_writes = Some(ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: begin,
            end_of_pass_write_index: end,
        });
        drop(encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes }));
    }
}
