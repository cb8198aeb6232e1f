//! Tensors larger than a binding of 128 MiB, by the one-shot functions and by dispatches, against the reference.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Mutex;

use common::*;
use seghead::{Argmax, Axis, Labels, Logits, Outputs, Readback, Segment, Softmax, reference};

/// One at a time: they take gigabytes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// 152 MiB and 600 MiB.
fn shapes() -> [Logits; 2] {
    [Logits::chw(19, 1024, 2048).unwrap(), Logits::chw(150, 1024, 1024).unwrap()]
}

/// Numbers in −8..8, made fast: a multiplicative hash of the index.
fn data(shape: &Logits) -> Vec<f32> {
    (0..shape.len()).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 20) as f32 - 8.0).collect()
}

/// Every 37th pixel, and those around every 2048th, where bands begin.
fn sample(shape: &Logits) -> Vec<usize> {
    let pixels = shape.pixels() as usize;
    (0..pixels).filter(|i| i % 37 == 0 || (i + 2) % 2048 < 4 && i % 3 == 0).collect()
}

/// The values of the sampled pixels, C × 1 × n.
fn sampled<T: Copy>(shape: &Logits, values: &[T], sample: &[usize]) -> (Logits, Vec<T>) {
    let small = Logits::chw(shape.classes(), 1, sample.len() as u32).unwrap();
    let planes = values.chunks_exact(shape.pixels() as usize);
    (small, planes.flat_map(|plane| sample.iter().map(|&i| plane[i])).collect())
}

fn narrow(labels: &Labels) -> &[u8] {
    match labels {
        Labels::U8(labels) => labels,
        Labels::U32(_) => panic!("at most 256 classes have labels of 8 bits"),
    }
}

#[test]
fn softmax() {
    let _one = ONE_AT_A_TIME.lock();
    for shape in shapes() {
        let (values, sample) = (data(&shape), sample(&shape));
        let (small, of_sample) = sampled(&shape, &values, &sample);
        let expected = reference::softmax(&small, &of_sample, Axis::Class);
        // As in tests/oracle.rs, with distances to the maximum of at most 16.
        let c = f64::from(shape.classes());
        let check = |what: &str, p: &[f32]| {
            let (_, got) = sampled(&shape, p, &sample);
            assert_close(what, &got, &expected, |i| expected[i] * (17.0 + 80.0 + c) * U);
        };
        let p = Softmax::new().run_blocking(gpu(), &shape, &values).unwrap();
        check("run", &p);

        let gpu = gpu();
        let input = upload_bytes(gpu, bytemuck::cast_slice(&values));
        let out = output(gpu, shape.bytes());
        let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
        let dispatch = Softmax::new().dispatch(gpu, &shape, from, to).unwrap();
        let mut readback = Readback::new(gpu, shape.bytes()).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        readback.record(&mut encoder, out.as_entire_buffer_binding()).unwrap();
        gpu.queue().submit([encoder.finish()]);
        let same = readback.read_blocking(gpu, |bytes| bytes == bytemuck::cast_slice::<f32, u8>(&p)).unwrap();
        assert!(same, "{shape:?}: the dispatch gives other bits");
    }
}

#[test]
fn argmax() {
    let _one = ONE_AT_A_TIME.lock();
    for shape in shapes() {
        let (values, sample) = (data(&shape), sample(&shape));
        let found = Argmax::new().confidence(true).run_blocking(gpu(), &shape, &values).unwrap();
        let labels = narrow(&found.labels);
        // Every label; the confidence of the sample.
        let mut best: Vec<(f32, u8)> = values[..labels.len()].iter().map(|&x| (x, 0)).collect();
        for (c, plane) in values.chunks_exact(labels.len()).enumerate().skip(1) {
            best.iter_mut().zip(plane).filter(|((m, _), x)| *x > m).for_each(|(best, &x)| *best = (x, c as u8));
        }
        assert!(labels.iter().zip(&best).all(|(&label, best)| label == best.1));
        let (small, of_sample) = sampled(&shape, &values, &sample);
        assert!(reference::argmax(&small, &of_sample).iter().zip(&sample).all(|(&l, &i)| l == u32::from(labels[i])));
        let expected = reference::scores(&small, &of_sample).confidence;
        let confidence = found.confidence.as_ref().unwrap();
        let got: Vec<f32> = sample.iter().map(|&i| confidence[i]).collect();
        let c = f64::from(shape.classes());
        assert_close("confidence", &got, &expected, |i| expected[i] * (11.0 + 4.0 * c) * U);

        let gpu = gpu();
        let input = upload_bytes(gpu, bytemuck::cast_slice(&values));
        let map = shape.map();
        let (by_dispatch, scores) = (output(gpu, map.bytes(8)), output(gpu, map.bytes(32)));
        let outputs =
            Outputs::labels(by_dispatch.as_entire_buffer_binding()).confidence(scores.as_entire_buffer_binding());
        let dispatch = Argmax::new().dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
        let mut recorder = Recorder::new(gpu);
        recorder.record(&dispatch, &[&by_dispatch, &scores]);
        let mut read = recorder.finish();
        assert!(read.next().unwrap() == labels, "{shape:?}: the dispatch gives other labels");
        assert!(read.next().unwrap() == bytemuck::cast_slice::<f32, u8>(confidence), "{shape:?}: other scores");
    }
}

#[test]
fn segment() {
    let _one = ONE_AT_A_TIME.lock();
    for shape in shapes() {
        let values = data(&shape);
        let (h, w) = (shape.height() as usize, shape.width() as usize);
        let (height, width) = (h * 3 / 2, w * 3 / 2);
        let segment = Segment::new(height as u32, width as u32);
        let found = segment.run_blocking(gpu(), &shape, &values).unwrap();
        let labels = narrow(&found.labels);
        // Half-pixel positions: two taps along each axis, clamped to the image.
        let taps = |x: usize, size: usize, out: usize| {
            let position = ((x as f64 + 0.5) * size as f64 / out as f64 - 0.5).max(0.0);
            let first = position as usize;
            (first, (first + 1).min(size - 1), position - first as f64)
        };
        for i in (0..height * width).step_by(1009) {
            let (top, bottom, fy) = taps(i / width, h, height);
            let (left, right, fx) = taps(i % width, w, width);
            let logit = |c: usize| {
                let at = |y: usize, x: usize| f64::from(values[(c * h + y) * w + x]);
                let mix = |y: usize| (1.0 - fx) * at(y, left) + fx * at(y, right);
                (1.0 - fy) * mix(top) + fy * mix(bottom)
            };
            let largest = (0..shape.classes() as usize).map(logit).fold(f64::MIN, f64::max);
            // Logits below 8: see tests/oracle.rs.
            assert!(largest - logit(labels[i].into()) <= 2.0 * 200.0 * U * 8.0, "{shape:?} at {i}");
        }

        let gpu = gpu();
        let input = upload_bytes(gpu, bytemuck::cast_slice(&values));
        let map = segment.map(&shape).unwrap();
        let by_dispatch = output(gpu, map.bytes(8));
        let outputs = Outputs::labels(by_dispatch.as_entire_buffer_binding());
        let dispatch = segment.dispatch(gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
        let mut recorder = Recorder::new(gpu);
        recorder.record(&dispatch, &[&by_dispatch]);
        let read = recorder.finish().next().unwrap();
        assert!(unpad_map::<u8>(&map, &read) == labels, "{shape:?}: the dispatch gives other labels");
    }
}
