//! What a call costs beside its kernel: small work from the host to the host, beside the least that anything costs.

use std::hint::black_box;

use seghead::{Error, Gpu, Logits};
use serde_json::{Value, json};

use super::clock::{Clock, Times};
use super::operators::{Tensors, Work, work};
use crate::args::BenchOperator;

/// Runs of each for one run of the others: these are short, and what they are compared with is shorter still.
const RUNS: usize = 20;

/// The argmax of 21×64×64 logits in a slice, and what it consists of.
pub struct Small {
    end_to_end: Times,
    /// Its kernel alone, submitted and awaited, or by the clock of the device.
    device: Times,
    /// A submission without work, awaited.
    empty: Times,
    /// A copy of the logits on the host.
    copy: Times,
}

impl Small {
    pub fn measure(gpu: &Gpu, clock: &Clock, runs: usize) -> Result<Self, Error> {
        let tensors = Tensors::new(gpu, Logits::chw(21, 64, 64)?)?;
        let Work { dispatch, end_to_end, .. } = work(&tensors, BenchOperator::Argmax, 1.0)?;
        gpu.warm_up([&dispatch])?;
        let from = vec![1u8; tensors.logits.bytes() as usize];
        let mut to = vec![0u8; from.len()];
        let copy = || {
            to.copy_from_slice(black_box(&from));
            black_box(&to);
            Ok::<_, Error>(())
        };
        let runs = RUNS * runs;
        Ok(Self {
            empty: clock.empty(gpu, runs)?,
            end_to_end: Times::of(runs, end_to_end.unwrap_or_else(|| Box::new(|| Ok(()))))?,
            device: clock.measure(gpu, runs, |encoder| dispatch.record(encoder))?,
            copy: Times::of(runs, copy)?,
        })
    }

    pub fn json(&self) -> Value {
        json!({
            "op": "argmax",
            "shape": "21x64x64",
            "end_to_end_ms": self.end_to_end.json(),
            "device_ms": self.device.json(),
            "empty_submission_ms": self.empty.json(),
            "host_copy_ms": self.copy.json(),
        })
    }

    pub fn line(&self) -> String {
        let [end_to_end, device, empty, copy] =
            [&self.end_to_end, &self.device, &self.empty, &self.copy].map(Times::median);
        format!(
            "argmax of 21x64x64 from slice to labels {end_to_end:.3} ms: its kernel alone {device:.3}, an empty submission \
             {empty:.3}, a copy of the slice {copy:.3}\n"
        )
    }
}
