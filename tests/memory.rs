//! The memory that the one-shot functions take for a tensor of 600 MiB: at most 64 MiB on the GPU, of which they keep
//! some until the device goes.
//!
//! The memory of a software adapter is that of the process, so what a run adds to it is what the GPU has of the tensor.
//! A file of its own, and one test: memory that other tests have freed would hide what this one takes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::{Argmax, Gpu, Logits, Segment, Softmax, Transfer, wgpu};

/// A line of /proc/self/status in MiB.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn memory_is_bounded() {
    if !gpu().is_software() {
        eprintln!("a real GPU has memory of its own: not measured");
        return;
    }
    let shape = Logits::chw(150, 1024, 1024).unwrap();
    let small = Logits::chw(150, 8, 8).unwrap();
    let values: Vec<f32> = (0..shape.len()).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 2e6).collect();
    type Run<'a> = &'a dyn Fn(&Gpu, &Logits, &[f32]);
    let argmax: Run<'_> = &|gpu, shape, values| {
        Argmax::new().confidence(true).run_blocking(gpu, shape, values).unwrap();
    };
    let segment: Run<'_> = &|gpu, shape, values| {
        Segment::new(2048, 1024).run_blocking(gpu, shape, values).unwrap();
    };
    let softmax: Run<'_> = &|gpu, shape, values| {
        Softmax::new().run_blocking(gpu, shape, values).unwrap();
    };
    let mut alive = Vec::new();
    // The results on the host in MiB: labels and confidence, labels, probabilities.
    for (what, run, result) in [("argmax", argmax, 5), ("segment", segment, 2), ("softmax", softmax, 600)] {
        // A device of its own for each, which has nothing from the calls before, and keeps what it took from the next.
        for gpu in either_transfer(wgpu::Limits::defaults()) {
            // The compiler's memory and the threads' stacks are not the tensor's.
            run(&gpu, &small, &values[..elements(&small)]);
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS");
            run(&gpu, &shape, &values);
            let added = status("VmHWM").saturating_sub(before + result);
            let (kept, transfer) = (status("VmRSS").saturating_sub(before), gpu.transfer());
            eprintln!("{what}, {transfer:?}: 600 MiB of logits took {added} MiB, of which {kept} are kept");
            // The staging buffers are half of what there is.
            let most = if transfer == Transfer::Staged { 64 } else { 32 };
            assert!((1..=most).contains(&added), "{what}, {transfer:?}: {added} MiB");
            alive.push(gpu);
        }
    }
}
