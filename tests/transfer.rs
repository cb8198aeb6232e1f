//! The two ways to bring tensors to the device and results back, and the buffers that are kept from call to call:
//! whatever was in them, they change no bit of a result.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread;

use common::*;
use seghead::wgpu::{self, Features, PollType};
use seghead::{
    Argmax, Axis, BinaryCrossEntropy, ConfusionMatrix, CrossEntropy, FocalLoss, Gpu, GpuOptions, Input, Inspect,
    Interpolate, Logits, LossSum, MultiLabel, RegionLoss, Segment, Sigmoid, Softmax, TopK, Transfer,
};

/// As [`either_transfer`], so small that most shapes below are several bands.
fn devices() -> [Gpu; 2] {
    either_transfer(wgpu::Limits {
        max_storage_buffer_binding_size: 65_536,
        max_uniform_buffer_binding_size: 65_536,
        max_buffer_size: 131_072,
        ..wgpu::Limits::defaults()
    })
}

/// What every operator with a one-shot function on logits makes of such numbers.
fn everything(gpu: &Gpu, shape: &Logits, seed: u64) -> Vec<String> {
    fn push<T: Debug>(found: &mut Vec<String>, what: &str, result: Result<T, seghead::Error>) {
        found.push(format!("{what}: {:?}", result.unwrap_or_else(|error| panic!("{what}: {error}"))));
    }
    let mut random = Random::new(seed);
    let (classes, pixels) = (shape.classes(), shape.map().pixels());
    let data = random.logits(shape);
    let labels: Vec<u32> = (0..pixels).map(|_| random.below(classes)).collect();
    let soft: Vec<f32> = data.iter().map(|x| 1.0 / (1.0 + x.exp())).collect();
    let [height, width] = [shape.height(), shape.width()].map(|side| side * 2 - 1);
    let full: Vec<u32> = (0..shape.images() * height * width).map(|_| random.below(classes)).collect();
    let [halves, soft_halves] = [halves(&data), halves(&soft)];
    let mut all = Vec::new();
    let found = &mut all;
    push(found, "argmax", Argmax::new().run_blocking(gpu, shape, &data));
    push(found, "scores", Argmax::new().confidence(true).entropy(true).run_blocking(gpu, shape, &data));
    push(found, "halves", Argmax::new().run_blocking(gpu, shape, Input::f16(&halves)));
    push(found, "softmax", Softmax::new().run_blocking(gpu, shape, &data));
    push(found, "softmax over the width", Softmax::new().axis(Axis::Width).run_blocking(gpu, shape, &data));
    push(found, "sigmoid", Sigmoid::new().run_blocking(gpu, shape, &data));
    push(found, "top-k", TopK::new(2).probabilities(true).run_blocking(gpu, shape, &data));
    push(found, "masks", MultiLabel::new().run_blocking(gpu, shape, &data));
    push(found, "segment", Segment::new(height, width).confidence(true).run_blocking(gpu, shape, &data));
    push(found, "interpolate", Interpolate::new(height, width).run_blocking(gpu, shape, &data));
    push(found, "inspect", Inspect::new().run_blocking(gpu, shape, &data));
    let loss = CrossEntropy::new().per_pixel(true).gradient(true);
    push(found, "cross-entropy", loss.run_blocking(gpu, shape, &data, &labels));
    push(found, "soft targets", loss.run_soft_blocking(gpu, shape, &data, &soft));
    push(found, "soft halves", loss.run_soft_blocking(gpu, shape, &data, Input::f16(&soft_halves)));
    push(found, "BCE", BinaryCrossEntropy::new().gradient(true).run_blocking(gpu, shape, &data, &soft));
    push(found, "BCE of labels", BinaryCrossEntropy::new().run_labels_blocking(gpu, shape, &data, &labels));
    push(found, "focal", FocalLoss::new().gradient(true).run_blocking(gpu, shape, &data, &labels));
    push(found, "dice", RegionLoss::dice().gradient(true).run_blocking(gpu, shape, &data, &labels));
    let sum = LossSum::new(0.5, CrossEntropy::new()).add(0.5, RegionLoss::dice());
    push(found, "sum", sum.gradient(true).run_blocking(gpu, shape, &data, &labels));
    let upsampled = loss.upsampled(height, width);
    push(found, "upsampled", upsampled.run_blocking(gpu, shape, &data, &full));
    let counts = ConfusionMatrix::new(classes);
    push(found, "confusion", counts.run_logits_blocking(gpu, shape, &data, &Segment::new(height, width), &full));
    all
}

fn shapes() -> Vec<Logits> {
    let nchw = |(n, c, h, w)| Logits::nchw(n, c, h, w).unwrap();
    [(1, 3, 7, 9), (2, 30, 25, 17), (1, 3, 80, 114), (1, 2, 1, 5), (3, 5, 43, 32), (1, 30, 33, 31)].map(nchw).into()
}

/// Small after large, other kinds of buffers, many bands and one.
#[test]
fn both_ways_and_kept_buffers() {
    let [staged, mapped] = devices();
    assert_eq!(staged.transfer(), Transfer::Staged);
    for round in 0..2 {
        for (i, shape) in shapes().into_iter().enumerate() {
            let seed = 10 * round + i as u64;
            // Nothing is kept for a device of its own.
            let expected = everything(&devices()[0], &shape, seed);
            for gpu in [&staged, &mapped] {
                let found = everything(gpu, &shape, seed);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found, expected, "{:?}, {shape:?}", gpu.transfer());
                }
            }
        }
    }
}

/// A device of the library's own maps buffers wherever that is the fast way.
#[test]
fn transfer_of_a_device() {
    if std::env::var_os("SEGHEAD_TRANSFER").is_some() {
        eprintln!("SEGHEAD_TRANSFER overrides the choice: not tested");
        return;
    }
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default())).unwrap()[0];
    let shared = gpu().is_software() || adapter.get_info().device_type == wgpu::DeviceType::IntegratedGpu;
    let mappable = adapter.features().contains(Features::MAPPABLE_PRIMARY_BUFFERS);
    let expected = if shared && mappable { Transfer::Mapped } else { Transfer::Staged };
    assert_eq!(gpu().transfer(), expected);
    assert_eq!(devices().map(|gpu| gpu.transfer()), [Transfer::Staged, expected]);
}

/// Threads share the buffers that are kept, and never have one at the same time.
#[test]
fn threads() {
    for gpu in devices() {
        let shapes = shapes();
        let expected: Vec<_> = shapes.iter().enumerate().map(|(i, shape)| everything(&gpu, shape, i as u64)).collect();
        thread::scope(|scope| {
            for offset in 0..3 {
                let (gpu, shapes, expected) = (gpu.clone(), &shapes, &expected);
                scope.spawn(move || {
                    for i in (0..shapes.len()).map(|i| (i + 2 * offset) % shapes.len()) {
                        assert_eq!(everything(&gpu, &shapes[i], i as u64), expected[i], "{:?}", shapes[i]);
                    }
                });
            }
        });
    }
}

/// A future that is dropped at any of its stages takes its buffers with it: those of the next call are its own.
#[test]
fn dropped_futures() {
    for gpu in devices() {
        let shape = Logits::chw(3, 80, 114).unwrap();
        let [data, other] = [1, 2].map(|seed| Random::new(seed).logits(&shape));
        let run = |data: &[f32]| Softmax::new().run_blocking(&gpu, &shape, data).unwrap();
        let expected = [run(&data), run(&other)];
        for polls in 0..8 {
            let operator = Softmax::new();
            let mut future = Box::pin(operator.run(&gpu, &shape, &data));
            let mut done = None;
            for _ in 0..=polls {
                let context = &mut Context::from_waker(Waker::noop());
                done = Some(future.as_mut().poll(context)).filter(|poll| poll.is_ready());
                if done.is_some() {
                    break;
                }
                if polls > 0 {
                    gpu.device().poll(PollType::wait_indefinitely()).unwrap();
                }
            }
            assert!(polls > 0 || done.is_none(), "nobody has polled the device");
            // While it is still there, and after it is gone.
            assert_eq!(bits(&run(&other)), bits(&expected[1]));
            drop(future);
            assert_eq!(bits(&run(&data)), bits(&expected[0]));
            assert_eq!(bits(&run(&other)), bits(&expected[1]));
        }
    }
}

/// Several futures on their way at once, polled in turns.
#[test]
fn interleaved_futures() {
    for gpu in devices() {
        let shape = Logits::chw(3, 80, 114).unwrap();
        let data: Vec<_> = (0..3).map(|seed| Random::new(seed).logits(&shape)).collect();
        let expected: Vec<_> =
            data.iter().map(|data| Softmax::new().run_blocking(&gpu, &shape, data).unwrap()).collect();
        let operator = Softmax::new();
        let mut futures: Vec<_> = data.iter().map(|data| Some(Box::pin(operator.run(&gpu, &shape, data)))).collect();
        while futures.iter().any(Option::is_some) {
            for (i, slot) in futures.iter_mut().enumerate() {
                let Some(future) = slot else { continue };
                if let std::task::Poll::Ready(found) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    assert_eq!(bits(&found.unwrap()), bits(&expected[i]));
                    *slot = None;
                }
            }
            gpu.device().poll(PollType::Poll).unwrap();
        }
    }
}

/// The device goes away with buffers kept: errors from then on, neither a panic nor a wait without end.
#[test]
fn destroyed_devices() {
    for gpu in devices() {
        let shape = Logits::chw(3, 80, 114).unwrap();
        let data = Random::new(3).logits(&shape);
        let targets = vec![0u8; shape.map().pixels()];
        Argmax::new().run_blocking(&gpu, &shape, &data).unwrap();
        CrossEntropy::new().run_blocking(&gpu, &shape, &data, &targets).unwrap();
        gpu.device().destroy();
        for _ in 0..3 {
            Argmax::new().run_blocking(&gpu, &shape, &data).unwrap_err();
            CrossEntropy::new().run_blocking(&gpu, &shape, &data, &targets).unwrap_err();
        }
    }
}

/// The same while a call is on its way.
#[test]
fn a_device_destroyed_on_the_way() {
    for gpu in devices() {
        let shape = Logits::chw(3, 80, 114).unwrap();
        let data = Random::new(4).logits(&shape);
        for _ in 0..2 {
            Softmax::new().run_blocking(&gpu, &shape, &data).unwrap();
        }
        let operator = Softmax::new();
        let mut future = Box::pin(operator.run(&gpu, &shape, &data));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        gpu.device().destroy();
        let stop = Arc::new(AtomicBool::new(false));
        let polling = thread::spawn({
            let (device, stop) = (gpu.device().clone(), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // It may fail, and goes on.
                    let _ = device.poll(PollType::Poll);
                    thread::yield_now();
                }
            }
        });
        pollster::block_on(future).unwrap_err();
        stop.store(true, Ordering::Relaxed);
        polling.join().unwrap();
    }
}

/// An input that fails half-way leaves the device in order.
#[test]
fn inputs_that_fail() {
    for gpu in devices() {
        let shape = Logits::chw(3, 80, 114).unwrap();
        let data = Random::new(5).logits(&shape);
        let expected = Argmax::new().run_blocking(&gpu, &shape, &data).unwrap();
        for after in [0, 2, 4] {
            let mut calls = 0;
            let input = Input::reader(seghead::ElementType::F32, shape.len().into(), |first, bytes| {
                calls += 1;
                if calls > after {
                    return Err(std::io::Error::other("gone"));
                }
                let bytes_of_data: &[u8] = bytemuck::cast_slice(&data[first as usize..]);
                bytes.copy_from_slice(&bytes_of_data[..bytes.len()]);
                Ok(())
            });
            let error = Argmax::new().run_blocking(&gpu, &shape, input).unwrap_err();
            assert!(matches!(error, seghead::Error::Input(_)), "{error}");
            assert_eq!(Argmax::new().run_blocking(&gpu, &shape, &data).unwrap(), expected);
        }
    }
}

/// As many buffers as two bands have are kept, whatever the sizes, and none when the last clone is gone.
#[test]
fn kept_buffers_are_bounded() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(wgpu::util::initialize_adapter_from_env_or_default(&instance, None)).unwrap();
    let buffers = || instance.generate_report().unwrap().hub_report().buffers.num_allocated;
    for required_features in [Features::empty(), adapter.features() & Features::MAPPABLE_PRIMARY_BUFFERS] {
        let descriptor = wgpu::DeviceDescriptor { required_features, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let before = buffers();
        let gpu = Gpu::from_wgpu(device.clone(), queue);
        let run = |gpu: &Gpu, side: u32| {
            let shape = Logits::chw(3, side, side).unwrap();
            Argmax::new().confidence(true).run_blocking(gpu, &shape, &vec![0.5; shape.len() as usize]).unwrap();
            gpu.wait().unwrap();
        };
        run(&gpu, 20);
        // Logits, labels and confidence of a band, their copies if there are any, and what stands in for other scores.
        let each = if gpu.transfer() == Transfer::Staged { 5 } else { 3 };
        let one_band = buffers() - before;
        assert!((each..=each + 2).contains(&one_band), "{one_band} buffers");
        // Small ones are let go for larger ones.
        for side in [5, 30, 20, 40, 60, 50, 9, 70] {
            run(&gpu, side);
            assert_eq!(buffers() - before, one_band, "after {side}");
        }
        // Nine bands.
        run(&gpu.clone(), 2500);
        assert_eq!(buffers() - before, one_band + each);
        run(&gpu, 2500);
        assert_eq!(buffers() - before, one_band + each);
        // What goes with the logits is kept too.
        let shape = Logits::chw(3, 20, 20).unwrap();
        let mut kept = [(); 2].map(|()| {
            CrossEntropy::new().run_blocking(&gpu, &shape, &[0.5; 1200], &[0u8; 400]).unwrap();
            gpu.wait().unwrap();
            buffers()
        });
        assert_eq!(kept[0], kept[1]);
        // Six calls at once have 192 MiB or more on their way, in buffers of 8 MiB, of which 128 MiB are kept.
        let (shape, operator) = (Logits::chw(4, 1024, 1024).unwrap(), Softmax::new());
        let data = vec![0.5; elements(&shape)];
        let mut futures: Vec<_> = (0..6).map(|_| Box::pin(operator.run(&gpu, &shape, &data))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(futures.iter_mut().all(|future| future.as_mut().poll(&mut context).is_pending()));
        kept[0] = buffers();
        while !futures.is_empty() {
            gpu.wait().unwrap();
            futures.retain_mut(|future| future.as_mut().poll(&mut context).is_pending());
        }
        gpu.wait().unwrap();
        kept[1] = buffers() - before;
        assert!(kept[0] - before > 24 && kept[1] <= 16 + 4, "{kept:?} buffers");
        drop(futures);
        drop(gpu);
        device.poll(PollType::wait_indefinitely()).unwrap();
        assert_eq!(buffers(), before);
    }
}
