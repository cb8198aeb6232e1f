//! Two peers of seghead that answer requests on standard input, for `run.py`:
//!
//! `seghead-peers burn` runs burn with its wgpu backend, `seghead-peers loops` plain loops on all processors. A request
//! is a line `OPERATOR CxHxW SCALE RUNS`; the answer a JSON list of milliseconds, or null where the peer has no such
//! operator.

mod burn_wgpu;
mod loops;

use std::io::BufRead;
use std::time::Instant;

/// What is to be measured.
pub struct Request {
    pub operator: String,
    /// Classes, height, width.
    pub shape: [usize; 3],
    /// Height and width of an upsampled result.
    pub size: [usize; 2],
    pub runs: usize,
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let [operator, shape, scale, runs]: [&str; 4] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let shape: Vec<usize> = shape.split('x').map(|side| side.parse().ok()).collect::<Option<_>>()?;
        let [classes, height, width] = shape.try_into().ok()?;
        let scale: f64 = scale.parse().ok()?;
        let size = [height, width].map(|side| (side as f64 * scale) as usize);
        Some(Self { operator: operator.to_owned(), shape: [classes, height, width], size, runs: runs.parse().ok()? })
    }

    /// The logits that `seghead bench` has: sums of three uniform numbers, spread like N(0, 3²).
    pub fn logits(&self) -> Vec<f32> {
        let len: usize = self.shape.iter().product();
        (0..len as u32).map(|i| 6.0 * (uniform(3 * i) + uniform(3 * i + 1) + uniform(3 * i + 2) - 1.5)).collect()
    }

    /// Its target classes.
    pub fn targets(&self) -> Vec<u32> {
        let [classes, height, width] = self.shape;
        (0..(height * width) as u32).map(|i| hash(i) % classes as u32).collect()
    }

    /// The milliseconds of each run of `work`, after two that warm up.
    pub fn measure(&self, mut work: impl FnMut()) -> Vec<f64> {
        let mut times: Vec<_> = (0..self.runs + 2)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.drain(..2);
        times
    }
}

fn hash(i: u32) -> u32 {
    let mut x = i.wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// A number in 0..1.
fn uniform(i: u32) -> f32 {
    (hash(i) >> 8) as f32 / (1 << 24) as f32
}

fn main() {
    let peer = std::env::args().nth(1);
    let answer = match peer.as_deref() {
        Some("burn") => burn_wgpu::answer,
        Some("loops") => loops::answer,
        other => {
            eprintln!("seghead-peers: expected burn or loops, found {}", other.unwrap_or("nothing"));
            std::process::exit(2);
        }
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match Request::parse(&line) {
            Some(request) => println!("{}", serde_json::json!(answer(&request))),
            None => println!("null"),
        }
    }
}
