//! The operators inside somebody else's program: a device at WebGPU's default limits without features, encoders,
//! passes and buffers of the caller, several threads, and futures that are dropped.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use common::*;
use seghead::wgpu::{self, Buffer, BufferBinding, BufferUsages, PollType};
use seghead::{
    Absent, Argmax, Axis, BoundaryScore, CrossEntropy, Dispatch, Gpu, LabelType, Labels, Logits, LossRecord, LossSum,
    Outputs, Readback, Reduction, Segment, Sigmoid, Softmax, Targets, TemperatureScaling, reference,
};

/// The application's device; wgpu's errors are panics.
fn app() -> Gpu {
    watched_gpu(wgpu::Limits::defaults())
}

fn at(buffer: &Buffer, offset: u64, size: u64) -> BufferBinding<'_> {
    BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) }
}

fn submit(gpu: &Gpu, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
}

fn read(gpu: &Gpu, buffer: &Buffer) -> Vec<u8> {
    let mut readback = Readback::new(gpu, buffer.size()).unwrap();
    submit(gpu, |encoder| readback.record(encoder, buffer.as_entire_buffer_binding()).unwrap());
    readback.read_blocking(gpu, <[u8]>::to_vec).unwrap()
}

fn softmax(gpu: &Gpu, shape: &Logits, input: &Buffer, out: &Buffer) -> Dispatch {
    let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    Softmax::new().dispatch(gpu, shape, from, to).unwrap()
}

fn argmax(gpu: &Gpu, shape: &Logits, input: &Buffer, labels: &Buffer) -> Dispatch {
    let outputs = Outputs::labels(labels.as_entire_buffer_binding());
    Argmax::new().dispatch(gpu, shape, input.as_entire_buffer_binding(), outputs).unwrap()
}

fn labels_of(shape: &Logits, data: &[f32]) -> Vec<u8> {
    reference::argmax(shape, data).into_iter().map(|label| label as u8).collect()
}

/// Logits below 20 in 5 classes: see `tests/oracle.rs`, with distances up to 40.
#[track_caller]
fn assert_softmax(shape: &Logits, data: &[f32], got: &[f32]) {
    let expected = reference::softmax(shape, data, Axis::Class);
    assert_close(&format!("{shape:?}"), got, &expected, |i| expected[i] * (6.0 + 200.0 + 16.0) * U);
}

/// Parameters belong to a dispatch, not to its operator: shapes of one encoder do not overwrite each other's.
#[test]
fn shapes_share_an_encoder() {
    let gpu = app();
    let shapes = [(5, 7, 9), (5, 16, 16), (5, 1, 3)].map(|(c, h, w)| Logits::chw(c, h, w).unwrap());
    let mut recorder = Recorder::new(&gpu);
    let mut cases = Vec::new();
    for (i, shape) in shapes.into_iter().enumerate() {
        let data = Random::new(i as u64).logits(&shape);
        let (input, p) = (upload(&gpu, &shape, &data), output(&gpu, shape.bytes()));
        let labels = output(&gpu, shape.map().bytes(8));
        recorder.record(&softmax(&gpu, &shape, &input, &p), &[&p]);
        recorder.record(&argmax(&gpu, &shape, &input, &labels), &[&labels]);
        cases.push((shape, data));
    }
    let mut results = recorder.finish();
    for (shape, data) in cases {
        assert_softmax(&shape, &data, &unpad_tensor(&shape, &results.next().unwrap()));
        assert_eq!(unpad_map::<u8>(&shape.map(), &results.next().unwrap()), labels_of(&shape, &data));
    }
}

#[test]
fn ten_frames() {
    let gpu = app();
    let shape = Logits::chw(5, 12, 13).unwrap();
    let input = buffer(&gpu, shape.bytes(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let (p, labels) = (output(&gpu, shape.bytes()), output(&gpu, shape.map().bytes(8)));
    let work = [softmax(&gpu, &shape, &input, &p), argmax(&gpu, &shape, &input, &labels)];
    let mut readbacks = [&p, &labels].map(|buffer| Readback::new(&gpu, buffer.size()).unwrap());
    for frame in 0..10 {
        let data = Random::new(frame).logits(&shape);
        gpu.queue().write_buffer(&input, 0, bytemuck::cast_slice(&data));
        submit(&gpu, |encoder| {
            work.iter().for_each(|dispatch| dispatch.record(encoder));
            readbacks[0].record(encoder, p.as_entire_buffer_binding()).unwrap();
            readbacks[1].record(encoder, labels.as_entire_buffer_binding()).unwrap();
        });
        let [p, labels] = readbacks.each_mut().map(|readback| readback.read_blocking(&gpu, <[u8]>::to_vec).unwrap());
        assert_softmax(&shape, &data, &unpad_tensor(&shape, &p));
        assert_eq!(unpad_map::<u8>(&shape.map(), &labels), labels_of(&shape, &data), "frame {frame}");
    }
}

/// An operator reads what the one before it wrote, in passes of their own and in one of the caller's.
#[test]
fn chain() {
    let gpu = app();
    for classes in [5, 30] {
        let shape = Logits::chw(classes, 20, 20).unwrap();
        let data = Random::new(1).logits(&shape);
        let input = upload(&gpu, &shape, &data);
        let p = buffer(&gpu, shape.bytes(), BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
        for one_pass in [false, true] {
            let labels = output(&gpu, shape.map().bytes(8));
            let work = [softmax(&gpu, &shape, &input, &p), argmax(&gpu, &shape, &p, &labels)];
            submit(&gpu, |encoder| {
                encoder.clear_buffer(&p, 0, None);
                if one_pass {
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    work.iter().for_each(|dispatch| dispatch.record_into(&mut pass));
                } else {
                    work.iter().for_each(|dispatch| dispatch.record(encoder));
                }
            });
            let p = unpad_tensor(&shape, &read(&gpu, &p));
            assert_eq!(read(&gpu, &labels), labels_of(&shape, &p), "{classes} classes, one pass: {one_pass}");
            assert_eq!(labels_of(&shape, &p), labels_of(&shape, &data)); // no two logits here are equal
        }
    }
}

/// Inputs and outputs as ranges of larger buffers, two outputs of one; bytes around the outputs stay as they are.
#[test]
fn ranges() {
    const GUARD: u8 = 0xa5;
    let gpu = app();
    // 65 pixels: the scalar kernels; 64: the others. Maps of 68 and 64 bytes.
    for width in [65, 64] {
        let shape = Logits::chw(5, 1, width).unwrap();
        let map = shape.map();
        let data = Random::new(2).logits(&shape);
        let input = buffer(&gpu, 4096, BufferUsages::STORAGE | BufferUsages::COPY_DST);
        gpu.queue().write_buffer(&input, 0, &[0xff; 4096]); // NaN
        gpu.queue().write_buffer(&input, 768, bytemuck::cast_slice(&data));
        // Labels, confidence, softmax, losses and the record in disjoint ranges.
        let sizes = [map.bytes(8), map.bytes(32), shape.bytes(), map.bytes(32), 16];
        let offsets = [256, 512, 1024, 2560, 3072];
        let guarded = || {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let out = buffer(&gpu, 4096, usage);
            gpu.queue().write_buffer(&out, 0, &[GUARD; 4096]);
            out
        };
        let out = guarded();
        let target: Vec<u8> = (0..width as u8).map(|i| i % 5).collect();
        let targets = buffer(&gpu, 1024, BufferUsages::STORAGE | BufferUsages::COPY_DST);
        let padded: Vec<u8> = target.iter().copied().chain([99; 3]).collect();
        gpu.queue().write_buffer(&targets, 256, &padded[..map.bytes(8) as usize]);
        let range = |i: usize| at(&out, offsets[i], sizes[i]);
        let from = || at(&input, 768, shape.bytes());
        let work = [
            Argmax::new().dispatch(&gpu, &shape, from(), Outputs::labels(range(0)).confidence(range(1))).unwrap(),
            Softmax::new().dispatch(&gpu, &shape, from(), range(2)).unwrap(),
            CrossEntropy::new()
                .dispatch(
                    &gpu,
                    &shape,
                    from(),
                    Targets::new(at(&targets, 256, 0), LabelType::U8),
                    range(4),
                    Some(range(3)),
                )
                .unwrap(),
        ];
        submit(&gpu, |encoder| work.iter().for_each(|dispatch| dispatch.record(encoder)));
        let bytes = read(&gpu, &out);
        let part = |i: usize| &bytes[offsets[i] as usize..][..sizes[i] as usize];
        for (i, &byte) in bytes.iter().enumerate() {
            let outside = (0..5).all(|k| !(offsets[k]..offsets[k] + sizes[k]).contains(&(i as u64)));
            assert!(!outside || byte == GUARD, "byte {i} was written, {width} pixels");
        }
        assert_eq!(unpad_map::<u8>(&map, part(0)), labels_of(&shape, &data));
        let confidence = reference::scores(&shape, &data).confidence;
        // As in tests/oracle.rs.
        assert_close("confidence", &unpad_map(&map, part(1)), &confidence, |i| confidence[i] * 31.0 * U);
        assert_softmax(&shape, &data, &unpad_tensor(&shape, part(2)));
        let wide: Vec<i64> = target.iter().map(|&t| t.into()).collect();
        let losses = reference::cross_entropy(&shape, &data, &wide, None, None, 0.0);
        // Logits below 20: (40 + 12 + 5) U and the logarithm's 2⁻²⁰, doubled.
        assert_close("loss", &unpad_map(&map, part(3)), &losses.per_pixel, |_| 114.0 * U + (2f64).powi(-19));
        let record: LossRecord = bytemuck::pod_read_unaligned(part(4));
        assert_eq!((record.valid, record.weight, record.first_invalid), (width, width as f32, u32::MAX));
        assert_close("mean", &[record.loss], &[losses.mean()], |_| 1e-5);
    }
}

/// As above for the upsampled map, whose last row of blocks is not full.
#[test]
fn segment_in_a_range() {
    let gpu = app();
    let shape = Logits::nchw(2, 3, 5, 5).unwrap();
    let input = upload(&gpu, &shape, &Random::new(3).logits(&shape));
    for (height, width) in [(10, 13), (7, 4), (3, 3)] {
        let segment = Segment::new(height, width);
        let bytes = segment.map(&shape).unwrap().bytes(8);
        let results = [0, 256].map(|offset| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let out = buffer(&gpu, 1024, usage);
            gpu.queue().write_buffer(&out, 0, &[0xa5; 1024]);
            let outputs = Outputs::labels(at(&out, offset, bytes));
            let work = segment.dispatch(&gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap();
            submit(&gpu, |encoder| work.record(encoder));
            let all = read(&gpu, &out);
            let (start, end) = (offset as usize, (offset + bytes) as usize);
            assert!(all[..start].iter().chain(&all[end..]).all(|&byte| byte == 0xa5), "{height} × {width}");
            assert!(all[start..end].iter().all(|&label| label < 3), "every label and all padding is a class");
            all[start..end].to_vec()
        });
        assert_eq!(results[0], results[1]);
    }
}

/// A dispatch owns what it needs, and may be recorded as often as wanted.
#[test]
fn dispatch_outlives_what_made_it() {
    let gpu = app();
    let shape = Logits::chw(30, 9, 10).unwrap();
    let data = Random::new(4).logits(&shape);
    let targets = vec![7u8; 90];
    let record = output(&gpu, 16);
    let p = output(&gpu, shape.bytes());
    let (loss, softmax) = {
        let clone = gpu.clone();
        let operator = CrossEntropy::new().class_weights(Some(vec![0.5; 30]));
        let (input, target) = (upload(&clone, &shape, &data), upload_u8(&clone, &shape.map(), &targets));
        let loss = operator
            .dispatch(
                &clone,
                &shape,
                input.as_entire_buffer_binding(),
                Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
                record.as_entire_buffer_binding(),
                None,
            )
            .unwrap();
        (loss, softmax(&clone, &shape, &input, &p))
    };
    gpu.wait().unwrap(); // what was dropped is freed now, if nothing holds it
    let mut records = Vec::new();
    for _ in 0..3 {
        submit(&gpu, |encoder| {
            for dispatch in [&loss, &softmax, &loss, &softmax] {
                dispatch.record(encoder);
            }
        });
        records.push(read(&gpu, &record));
        assert_softmax_of_many(&shape, &data, &unpad_tensor(&shape, &read(&gpu, &p)));
    }
    assert!(records.iter().all(|record| *record == records[0]));
    let found: LossRecord = bytemuck::pod_read_unaligned(&records[0]);
    assert_eq!((found.valid, found.weight), (90, 45.0));
    let expected = reference::cross_entropy(&shape, &data, &[7; 90], None, Some(&[0.5; 30]), 0.0).mean();
    assert_close("mean", &[found.loss], &[expected], |_| expected * 1e-5);
}

/// Thirty classes add 25 U to the bound of [`assert_softmax`].
#[track_caller]
fn assert_softmax_of_many(shape: &Logits, data: &[f32], got: &[f32]) {
    let expected = reference::softmax(shape, data, Axis::Class);
    assert_close(&format!("{shape:?}"), got, &expected, |i| expected[i] * 250.0 * U);
}

#[test]
fn negative_and_wide_ignore_indices() {
    let gpu = app();
    let shape = Logits::chw(2, 1, 4).unwrap();
    let input = upload(&gpu, &shape, &[0.0; 8]);
    let target = upload_bytes(&gpu, bytemuck::cast_slice(&[-100i32, 1, 0, 1]));
    let valid = |ignore_index| {
        let record = output(&gpu, 16);
        let work = CrossEntropy::new()
            .ignore_index(ignore_index)
            .dispatch(
                &gpu,
                &shape,
                input.as_entire_buffer_binding(),
                Targets::new(target.as_entire_buffer_binding(), LabelType::U32),
                record.as_entire_buffer_binding(),
                None,
            )
            .unwrap();
        submit(&gpu, |encoder| work.record(encoder));
        let found: LossRecord = bytemuck::pod_read_unaligned(&read(&gpu, &record));
        (found.valid, found.first_invalid)
    };
    assert_eq!(valid(Some(-100)), (3, u32::MAX));
    assert_eq!(valid(Some(4_294_967_196)), (3, u32::MAX)); // the same 32 bits
    assert_eq!(valid(Some(1)), (2, 0));
    assert_eq!(valid(None), (4, 0));
    // Beyond 32 bits no label is equal to it, 2³² + 1 is not 1.
    assert_eq!(valid(Some((1 << 32) + 1)), (4, 0));
    assert_eq!(valid(Some(i64::MIN + 1)), (4, 0));
}

/// Threads that make, record and run at the same time, with one device and its pipelines.
#[test]
fn threads() {
    let gpu = app();
    thread::scope(|scope| {
        for seed in 0..6 {
            let gpu = gpu.clone();
            scope.spawn(move || {
                let shape = Logits::chw(5, 8 + seed, 10).unwrap();
                for round in 0..5 {
                    let data = Random::new(u64::from(seed * 100 + round)).logits(&shape);
                    let (input, p) = (upload(&gpu, &shape, &data), output(&gpu, shape.bytes()));
                    submit(&gpu, |encoder| softmax(&gpu, &shape, &input, &p).record(encoder));
                    assert_softmax(&shape, &data, &unpad_tensor(&shape, &read(&gpu, &p)));
                    let found = Argmax::new().run_blocking(&gpu, &shape, &data).unwrap();
                    assert_eq!(found.labels, Labels::U8(labels_of(&shape, &data)));
                }
            });
        }
    });
}

/// Polls the device on a thread of its own, as a program with a frame loop does, while `work` runs.
fn with_polling<R>(gpu: &Gpu, work: impl FnOnce() -> R) -> R {
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = Stop(Arc::default());
    let (device, stopped) = (gpu.device().clone(), Arc::clone(&stop.0));
    let polling = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            device.poll(PollType::Poll).unwrap();
            thread::yield_now();
        }
    });
    let result = work();
    drop(stop);
    polling.join().unwrap();
    result
}

#[test]
fn futures_resolve_when_somebody_polls() {
    let gpu = app();
    let shape = Logits::chw(5, 11, 11).unwrap();
    let data = Random::new(6).logits(&shape);
    let targets = [2u8; 121];
    with_polling(&gpu, || {
        pollster::block_on(async {
            let p = Softmax::new().run(&gpu, &shape, &data).await.unwrap();
            assert_softmax(&shape, &data, &p);
            assert_eq!(Sigmoid::new().run(&gpu, &shape, &data).await.unwrap().len(), data.len());
            let found = Argmax::new().run(&gpu, &shape, &data).await.unwrap();
            assert_eq!(found.labels, Labels::U8(labels_of(&shape, &data)));
            assert_eq!(Segment::new(11, 11).run(&gpu, &shape, &data).await.unwrap(), found);
            let loss = CrossEntropy::new().run(&gpu, &shape, &data, &targets).await.unwrap();
            let expected = reference::cross_entropy(&shape, &data, &[2; 121], None, None, 0.0).mean();
            assert_close("loss", &[loss.value], &[expected], |_| expected * 1e-5);
            let operator = CrossEntropy::new();
            let upsampled = operator.clone().upsampled(11, 11).run(&gpu, &shape, &data, &targets).await.unwrap();
            assert_close("upsampled loss", &[upsampled.value], &[expected], |_| expected * 1e-5);
            let sum = LossSum::new(2.0, operator.clone()).run(&gpu, &shape, &data, &targets).await.unwrap();
            assert_eq!(sum.value, 2.0 * loss.value);
            let labels = labels_of(&shape, &data);
            let table = BoundaryScore::new(5, 1).run(&gpu, [11, 11], &labels, &labels).await.unwrap();
            assert_eq!(table.mean_f1(Absent::Skip), 1.0);
            let scaling = TemperatureScaling::new().tolerance(0.1);
            let fitted = scaling.fit_logits(&gpu, &operator, &shape, &data, &targets).await.unwrap();
            assert_eq!(fitted, scaling.fit_blocking(&gpu, &operator, &shape, &data, &targets).unwrap());
        });
    });
}

/// Without polling the future stays pending; dropped then, it leaves nothing behind that disturbs later work.
#[test]
fn dropped_futures() {
    let gpu = app();
    let shape = Logits::chw(5, 11, 11).unwrap();
    let data = Random::new(7).logits(&shape);
    let pending = |future: &mut dyn FnMut(&mut Context<'_>) -> bool| {
        assert!(future(&mut Context::from_waker(Waker::noop())), "nobody has polled the device");
    };
    for _ in 0..3 {
        let operator = Argmax::new();
        let mut future = Box::pin(operator.run(&gpu, &shape, &data));
        pending(&mut |context| matches!(future.as_mut().poll(context), Poll::Pending));
        drop(future);
        let found = operator.run_blocking(&gpu, &shape, &data).unwrap();
        assert_eq!(found.labels, Labels::U8(labels_of(&shape, &data)));
    }
    // A read-back whose future was dropped can be recorded and read again.
    let source = upload_readable(&gpu, &[1; 64]);
    let mut readback = Readback::new(&gpu, 64).unwrap();
    submit(&gpu, |encoder| readback.record(encoder, source.as_entire_buffer_binding()).unwrap());
    {
        let mut future = Box::pin(readback.read(<[u8]>::to_vec));
        pending(&mut |context| matches!(future.as_mut().poll(context), Poll::Pending));
    }
    assert_eq!(readback.read_blocking(&gpu, <[u8]>::to_vec).unwrap(), [1; 64]);
}

/// As above, but the next frame is recorded and submitted before the read-back is asked again.
#[test]
fn readback_goes_on_after_a_dropped_future() {
    let gpu = app();
    let mut readback = Readback::new(&gpu, 64).unwrap();
    for frame in 1..=3 {
        let source = upload_readable(&gpu, &[frame; 64]);
        submit(&gpu, |encoder| readback.record(encoder, source.as_entire_buffer_binding()).unwrap());
        if frame < 3 {
            let mut future = Box::pin(readback.read(<[u8]>::to_vec));
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
    }
    assert_eq!(readback.read_blocking(&gpu, <[u8]>::to_vec).unwrap(), [3; 64]);
}

fn upload_readable(gpu: &Gpu, bytes: &[u8]) -> Buffer {
    let source = buffer(gpu, bytes.len() as u64, BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    gpu.queue().write_buffer(&source, 0, bytes);
    source
}

/// The same input gives the same bits, whatever else is submitted and in which order.
#[test]
fn determinism() {
    let gpu = app();
    let shape = Logits::nchw(2, 5, 60, 71).unwrap(); // three workgroups of partial sums an image
    let data = Random::new(8).logits(&shape);
    let targets: Vec<u8> = (0..2 * 60 * 71).map(|i| (i * 7 % 5) as u8).collect();
    let (input, target) = (upload(&gpu, &shape, &data), upload_u8(&gpu, &shape.map(), &targets));
    let dispatch = |reduction, record: &Buffer| {
        CrossEntropy::new()
            .reduction(reduction)
            .dispatch(
                &gpu,
                &shape,
                input.as_entire_buffer_binding(),
                Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
                record.as_entire_buffer_binding(),
                None,
            )
            .unwrap()
    };
    let records = [output(&gpu, 16), output(&gpu, 16)];
    let work = [dispatch(Reduction::Mean, &records[0]), dispatch(Reduction::Sum, &records[1])];
    let mut first = None;
    for round in 0..20 {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for i in order {
            submit(&gpu, |encoder| work[i].record(encoder));
        }
        let found = records.each_ref().map(|record| read(&gpu, record));
        assert_eq!(&found, first.get_or_insert(found.clone()), "round {round}");
    }
    let [mean, sum] = first.unwrap().map(|bytes| bytemuck::pod_read_unaligned::<LossRecord>(&bytes));
    assert!(mean.loss > 0.0 && sum.loss > 1000.0 * mean.loss, "{mean:?} {sum:?}");
}

/// An executor with several threads moves a future between them.
#[test]
fn futures_can_be_sent_to_another_thread() {
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    let shape = Logits::chw(3, 1, 2).unwrap();
    let data = [0.0; 6];
    drop(sendable(Softmax::new().run(gpu(), &shape, &data)));
    drop(sendable(Sigmoid::new().run(gpu(), &shape, &data)));
    drop(sendable(Argmax::new().run(gpu(), &shape, &data)));
    drop(sendable(Segment::new(2, 4).run(gpu(), &shape, &data)));
    drop(sendable(CrossEntropy::new().run(gpu(), &shape, &data, &[0u8, 1])));
    let loss = CrossEntropy::new();
    drop(sendable(LossSum::new(1.0, loss.clone()).run(gpu(), &shape, &data, &[0u8, 1])));
    drop(sendable(loss.clone().upsampled(2, 4).run(gpu(), &shape, &data, &[0u8; 8])));
    drop(sendable(BoundaryScore::new(2, 1).run(gpu(), [1, 2], &[0u8, 1], &[0u8, 1])));
    drop(sendable(TemperatureScaling::new().fit_logits(gpu(), &loss, &shape, &data, &[0u8, 1])));
    drop(sendable(Readback::new(gpu(), 4).unwrap().read(<[u8]>::to_vec)));
}
