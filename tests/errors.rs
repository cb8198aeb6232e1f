//! Every misuse has its own [`Error`], with the numbers that tell why and a message of one line; wgpu never reports
//! an error of its own ([`watched_gpu`] would panic).

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use common::*;
use seghead::wgpu::{self, Backends, Buffer, BufferBinding, BufferUsages};
use seghead::{
    Argmax, Axis, CrossEntropy, Error, Gpu, GpuOptions, LabelType, Logits, Outputs, Readback, Segment, Sigmoid,
    Softmax, Targets,
};

fn watched() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| watched_gpu(wgpu::Limits::defaults()))
}

/// Asserts that `result` is an error that matches, with a message of one line.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Ok(_) => panic!("no error"),
            Err(error) => {
                assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
                let message = error.to_string();
                assert!(!message.is_empty() && !message.contains('\n'), "{message}");
            }
        }
    };
}

/// Every operator on the same buffers: logits of 3 × 4 × 4, outputs large enough.
fn shape() -> Logits {
    Logits::chw(3, 4, 4).unwrap()
}

const STORAGE: BufferUsages = BufferUsages::STORAGE;

fn at(buffer: &Buffer, offset: u64, size: u64) -> BufferBinding<'_> {
    BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) }
}

/// What each operator says to `input`, its other buffers being in order.
fn with_input(input: BufferBinding<'_>) -> Vec<Error> {
    let (gpu, shape) = (watched(), shape());
    let out = || buffer(gpu, 4096, STORAGE);
    let (a, b) = (out(), out());
    let (a, b) = (a.as_entire_buffer_binding(), b.as_entire_buffer_binding());
    let targets = Targets::new(a.clone(), LabelType::U8);
    vec![
        Softmax::new().dispatch(gpu, &shape, input.clone(), a.clone()).unwrap_err(),
        Sigmoid::new().dispatch(gpu, &shape, input.clone(), a.clone()).unwrap_err(),
        Argmax::new().dispatch(gpu, &shape, input.clone(), Outputs::labels(a.clone())).unwrap_err(),
        Segment::new(8, 8).dispatch(gpu, &shape, input.clone(), Outputs::labels(a)).unwrap_err(),
        CrossEntropy::new().dispatch(gpu, &shape, input, targets, b, None).unwrap_err(),
    ]
}

#[test]
fn zero_dimensions() {
    assert_error!(Logits::nchw(0, 1, 1, 1), Error::Empty { what: "images" });
    assert_error!(Logits::nchw(1, 0, 1, 1), Error::Empty { what: "classes" });
    assert_error!(Logits::nchw(1, 1, 0, 1), Error::Empty { what: "height" });
    assert_error!(Logits::nchw(1, 1, 1, 0), Error::Empty { what: "width" });
    assert_error!(Segment::new(0, 5).map(&shape()), Error::Empty { what: "height" });
    assert_error!(Segment::new(5, 0).map(&shape()), Error::Empty { what: "width" });
    assert_error!(Segment::new(0, 5).run_blocking(watched(), &shape(), &[0.0; 48]), Error::Empty { what: "height" });
}

#[test]
fn sizes_beyond_32_bits() {
    const M: u32 = u32::MAX;
    const LIMIT: u64 = M as u64 - 3;
    let over = |needed| move |found: u64, limit: u64| found == needed && limit == LIMIT;
    let check = |n, c, h, w, is: &dyn Fn(u64, u64) -> bool| {
        assert_error!(Logits::nchw(n, c, h, w), Error::Limit { needed, limit, .. } if is(needed, limit));
    };
    check(1, 1, 65536, 65536, &over(1 << 32));
    check(1, 2, 1 << 31, 1, &over(1 << 32));
    check(1, M, 1, 1, &over(M.into()));
    check(M, 1, 1, 1, &over(4 * u64::from(M))); // maps start at multiples of four pixels
    check(1, M, M, 1, &over(u64::from(M) * u64::from(M)));
    check(M, M, M, M, &over(u64::MAX));
    check(1, 1, M, M, &over((u64::from(M) * u64::from(M)).next_multiple_of(4)));
    assert!(Logits::chw(1, 1, M - 3).is_ok());
    assert_error!(Logits::chw(4, 1, 1 << 30), Error::Limit { .. });
    let shape = Logits::chw(858_993_458, 1, 5).unwrap(); // 4 294 967 290 elements, 8 of 5 where they are padded
    assert_error!(shape.padded(), Error::Limit { needed: 6_871_947_664, limit: LIMIT, .. });
}

#[test]
fn segment_sizes() {
    let (gpu, shape, data) = (watched(), shape(), [0.0; 48]);
    const HUGE: u32 = 4_000_000_000;
    for (height, width) in [(HUGE, HUGE), (HUGE, 1), (1, HUGE), (u32::MAX, u32::MAX)] {
        let segment = Segment::new(height, width);
        assert_error!(segment.run_blocking(gpu, &shape, &data), Error::Limit { needed, limit, .. } if needed > limit);
        let (input, labels) = (buffer(gpu, 192, STORAGE), buffer(gpu, 4096, STORAGE));
        let (input, labels) = (input.as_entire_buffer_binding(), Outputs::labels(labels.as_entire_buffer_binding()));
        assert!(segment.dispatch(gpu, &shape, input, labels).is_err());
    }
    assert_error!(Segment::new(HUGE, 1).map(&shape), Error::Limit { needed: 16_000_000_000, .. });
    // Rounded up to blocks of 4 × 4 the last one no longer fits 32 bits.
    assert!(Segment::new(1_073_741_820, 1).map(&shape).is_ok());
    assert_error!(
        Segment::new(1_073_741_821, 1).map(&shape),
        Error::Limit { needed: 4_294_967_284, limit: 4_294_967_280, .. }
    );
}

#[test]
fn slices_on_the_host() {
    let (gpu, shape) = (watched(), shape());
    for found in [0usize, 47, 49] {
        let data = vec![0.0; found];
        let n = found as u64;
        assert_error!(Softmax::new().run_blocking(gpu, &shape, &data), Error::Length { what: "logits", expected: 48, found } if found == n);
        assert_error!(Sigmoid::new().run_blocking(gpu, &shape, &data), Error::Length { what: "logits", expected: 48, found } if found == n);
        assert_error!(Argmax::new().run_blocking(gpu, &shape, &data), Error::Length { what: "logits", expected: 48, found } if found == n);
        assert_error!(Segment::new(8, 8).run_blocking(gpu, &shape, &data), Error::Length { what: "logits", expected: 48, found } if found == n);
        let loss = CrossEntropy::new();
        assert_error!(loss.run_blocking(gpu, &shape, &data, &[0u8; 16]), Error::Length { what: "logits", expected: 48, found } if found == n);
    }
    for found in [0usize, 15, 17] {
        let (targets, n) = (vec![0i32; found], found as u64);
        let result = CrossEntropy::new().run_blocking(gpu, &shape, &[0.0; 48], &targets);
        assert_error!(result, Error::Length { what: "targets", expected: 16, found } if found == n);
    }
}

#[test]
fn inputs_that_do_not_fit() {
    let gpu = watched();
    // 48 elements need 192 bytes.
    for error in with_input(buffer(gpu, 188, STORAGE).as_entire_buffer_binding()) {
        let expected = Error::BufferTooSmall { what: "logits", offset: 0, needed: 192, found: 188 };
        assert_eq!(error.to_string(), expected.to_string());
    }
    let large = buffer(gpu, 512, STORAGE);
    for (offset, size, found) in [(512, 0, 0), (1 << 40, 0, 0), (256, 128, 128), (0, 188, 188), (512, 4, 0)] {
        for error in with_input(at(&large, offset, size)) {
            let expected = Error::BufferTooSmall { what: "logits", offset, needed: 192, found };
            assert_eq!(error.to_string(), expected.to_string());
        }
    }
    for offset in [4, 128, 255, u64::MAX] {
        for error in with_input(at(&large, offset, 0)) {
            let expected = Error::Misaligned { what: "logits", offset, alignment: 256 };
            assert_eq!(error.to_string(), expected.to_string());
        }
    }
    let usage = BufferUsages::COPY_DST | BufferUsages::UNIFORM;
    for error in with_input(buffer(gpu, 512, usage).as_entire_buffer_binding()) {
        assert_error!(Err::<(), _>(error), Error::Usage { what: "logits", needed: STORAGE, found } if found == usage);
    }
}

#[test]
fn outputs_that_do_not_fit() {
    let (gpu, shape) = (watched(), shape());
    let (input, small) = (buffer(gpu, 192, STORAGE), buffer(gpu, 12, STORAGE));
    let input = || input.as_entire_buffer_binding();
    let small = || small.as_entire_buffer_binding();
    let plenty = buffer(gpu, 4096, STORAGE);
    let plenty = || plenty.as_entire_buffer_binding();
    let argmax = Argmax::new();
    assert_error!(
        Softmax::new().dispatch(gpu, &shape, input(), small()),
        Error::BufferTooSmall { what: "output", needed: 192, found: 12, .. }
    );
    assert_error!(
        Sigmoid::new().dispatch(gpu, &shape, input(), small()),
        Error::BufferTooSmall { what: "output", needed: 192, found: 12, .. }
    );
    assert_error!(
        argmax.dispatch(gpu, &shape, input(), Outputs::labels(small())),
        Error::BufferTooSmall { what: "labels", needed: 16, found: 12, .. }
    );
    let wide = argmax.label_type(LabelType::U32);
    assert_error!(
        wide.dispatch(gpu, &shape, input(), Outputs::labels(small())),
        Error::BufferTooSmall { what: "labels", needed: 64, found: 12, .. }
    );
    let outputs = Outputs::labels(plenty()).confidence(small());
    assert_error!(
        argmax.dispatch(gpu, &shape, input(), outputs),
        Error::BufferTooSmall { what: "confidence", needed: 64, found: 12, .. }
    );
    let segment = Segment::new(5, 5); // rows of 8
    assert_error!(
        segment.dispatch(gpu, &shape, input(), Outputs::labels(small())),
        Error::BufferTooSmall { what: "labels", needed: 40, found: 12, .. }
    );

    let loss = CrossEntropy::new();
    let targets = || Targets::new(plenty(), LabelType::U8);
    let (record, losses) = (buffer(gpu, 16, STORAGE), buffer(gpu, 12, STORAGE));
    let record = || record.as_entire_buffer_binding();
    assert_error!(
        loss.dispatch(gpu, &shape, input(), targets(), small(), None),
        Error::BufferTooSmall { needed: 16, found: 12, .. }
    );
    let losses = Some(losses.as_entire_buffer_binding());
    assert_error!(
        loss.dispatch(gpu, &shape, input(), targets(), record(), losses),
        Error::BufferTooSmall { what: "loss", needed: 64, found: 12, .. }
    );
    let targets = Targets::new(small(), LabelType::U8);
    assert_error!(
        loss.dispatch(gpu, &shape, input(), targets, record(), None),
        Error::BufferTooSmall { what: "target", needed: 16, found: 12, .. }
    );
}

#[test]
fn one_buffer_for_two_things() {
    let (gpu, shape) = (watched(), shape());
    let (a, b) = (buffer(gpu, 4096, STORAGE), buffer(gpu, 4096, STORAGE));
    let (a, b) = (|offset, size| at(&a, offset, size), |offset, size| at(&b, offset, size));
    // A buffer that is read and written, even in ranges that do not meet.
    for offset in [0, 2048] {
        assert_error!(
            Softmax::new().dispatch(gpu, &shape, a(0, 192), a(offset, 192)),
            Error::Aliased { written: "output", other: "logits" }
        );
        assert_error!(
            Sigmoid::new().dispatch(gpu, &shape, a(0, 192), a(offset, 192)),
            Error::Aliased { written: "output", other: "logits" }
        );
        let outputs = Outputs::labels(a(offset, 0));
        assert_error!(
            Argmax::new().dispatch(gpu, &shape, a(0, 192), outputs),
            Error::Aliased { written: "labels", other: "logits" }
        );
        let outputs = Outputs::labels(b(0, 0)).confidence(a(offset, 0));
        assert_error!(
            Segment::new(8, 8).dispatch(gpu, &shape, a(0, 192), outputs),
            Error::Aliased { written: "confidence", other: "logits" }
        );
        let targets = Targets::new(b(0, 256), LabelType::U8);
        let result = CrossEntropy::new().dispatch(gpu, &shape, a(0, 192), targets, b(offset, 16), None);
        assert_error!(result, Error::Aliased { other: "target", .. });
        let targets = Targets::new(b(0, 256), LabelType::U8);
        let result = CrossEntropy::new().dispatch(gpu, &shape, a(0, 192), targets, a(offset, 16), None);
        assert_error!(result, Error::Aliased { other: "logits", .. });
    }
    // Written twice in ranges that touch, 256 labels and 1024 bytes of confidence.
    let square = Logits::chw(3, 16, 16).unwrap();
    let outputs = Outputs::labels(b(0, 256)).confidence(b(256, 1024));
    assert!(Argmax::new().dispatch(gpu, &square, a(0, 0), outputs).is_ok());
    let outputs = Outputs::labels(b(1024, 256)).confidence(b(0, 1024));
    assert!(Argmax::new().dispatch(gpu, &square, a(0, 0), outputs).is_ok());
    // Written twice in ranges that meet.
    let outputs = Outputs::labels(b(0, 0)).confidence(b(0, 0));
    assert_error!(Argmax::new().dispatch(gpu, &shape, a(0, 0), outputs), Error::Aliased { .. });
    // A map of 17 × 16 labels and one that starts within.
    let wide = Logits::chw(3, 17, 16).unwrap();
    let outputs = Outputs::labels(b(0, 512)).confidence(b(256, 0));
    assert_error!(Argmax::new().dispatch(gpu, &wide, a(0, 0), outputs), Error::Aliased { .. });
    let labels = buffer(gpu, 256, STORAGE);
    let targets = Targets::new(labels.as_entire_buffer_binding(), LabelType::U8);
    let result = CrossEntropy::new().dispatch(gpu, &shape, a(0, 0), targets, b(0, 16), Some(b(0, 64)));
    assert_error!(result, Error::Aliased { .. });
}

#[test]
fn label_types() {
    let gpu = watched();
    for (classes, label_type) in [(255, LabelType::U8), (256, LabelType::U8), (257, LabelType::U32)] {
        assert_eq!(LabelType::for_classes(classes), label_type);
        // The last class has the largest logit.
        let shape = Logits::chw(classes, 1, 1).unwrap();
        let data: Vec<f32> = (0..classes).map(|c| c as f32).collect();
        let found = [
            Argmax::new().run_blocking(gpu, &shape, &data).unwrap(),
            Argmax::new().label_type(label_type).run_blocking(gpu, &shape, &data).unwrap(),
            Segment::new(1, 1).run_blocking(gpu, &shape, &data).unwrap(),
        ];
        assert!(found.iter().all(|found| found.labels.iter().eq([classes - 1])), "{classes}");
    }
}

#[test]
fn options() {
    let (gpu, shape) = (watched(), Logits::chw(257, 1, 1).unwrap());
    let data = [0.0; 257];
    let narrow = LabelType::U8;
    assert_error!(
        Argmax::new().label_type(narrow).run_blocking(gpu, &shape, &data),
        Error::LabelType { bits: 8, limit: 256, classes: 257 }
    );
    assert_error!(
        Segment::new(2, 2).label_type(narrow).run_blocking(gpu, &shape, &data),
        Error::LabelType { bits: 8, limit: 256, classes: 257 }
    );
    let (input, labels) = (buffer(gpu, 1028, STORAGE), buffer(gpu, 256, STORAGE));
    let result = Argmax::new().label_type(narrow).dispatch(
        gpu,
        &shape,
        input.as_entire_buffer_binding(),
        Outputs::labels(labels.as_entire_buffer_binding()),
    );
    assert_error!(result, Error::LabelType { bits: 8, limit: 256, classes: 257 });

    let shape = Logits::chw(3, 1, 1).unwrap();
    let run = |loss: CrossEntropy| loss.run_blocking(gpu, &shape, &[0.0; 3], &[0u8]);
    for found in [0usize, 2, 4] {
        let n = found as u64;
        let result = run(CrossEntropy::new().class_weights(Some(vec![1.0; found])));
        assert_error!(result, Error::Length { what: "class weights", expected: 3, found } if found == n);
    }
    for smoothing in [-0.1, 1.5, f32::NAN, f32::INFINITY] {
        let result = run(CrossEntropy::new().label_smoothing(smoothing));
        let same = |found: f32| found.to_bits() == smoothing.to_bits() || found.is_nan() && smoothing.is_nan();
        assert_error!(result, Error::Value { what: "label smoothing", found, .. } if same(found));
    }
}

#[test]
fn labels_out_of_range() {
    let gpu = watched();
    let shape = Logits::nchw(2, 3, 1, 5).unwrap();
    let loss = CrossEntropy::new();
    let mut targets = [0i64, 1, 2, 0, 1, 2, -100, 1, 0, 2];
    for (position, label) in [(8, 5_000_000_000), (8, -1), (7, 3), (5, i64::MIN), (2, i64::MAX), (1, 255), (0, 254)] {
        // Earlier ones come later in this list, and the first of all is reported.
        targets[position] = label;
        let n = position as u64;
        let result = loss.run_blocking(gpu, &shape, &[0.0; 30], &targets);
        assert_error!(result, Error::Label { position, label: l, classes: 3 } if position == n && l == label);
    }
    let result = loss.run_blocking(gpu, &shape, &[0.0; 30], &[0u8, 0, 0, 0, 0, 0, 200, 0, 0, 201]);
    assert_error!(result, Error::Label { position: 6, label: 200, classes: 3 });
    // −100 is no ignore index where there is none; a label of 32 bits is reported as it was given.
    let result = loss.clone().ignore_index(None).run_blocking(gpu, &shape, &[0.0; 30], &[-100i32; 10]);
    assert_error!(result, Error::Label { position: 0, label: -100, classes: 3 });
    let large = Logits::chw(300, 1, 2).unwrap();
    let result = loss.run_blocking(gpu, &large, &[0.0; 600], &[299i64, u32::MAX.into()]);
    assert_error!(result, Error::Label { position: 1, label: 4_294_967_295, classes: 300 });
}

#[test]
fn limits_of_the_device() {
    let gpu = &watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: 65536,
        max_uniform_buffer_binding_size: 65536,
        ..wgpu::Limits::defaults()
    });
    // Four pixels of more classes than can be bound, rows that are longer: what no splitting helps.
    let input = buffer(gpu, 1 << 20, STORAGE);
    let out = buffer(gpu, 1 << 20, STORAGE);
    let (input, out) = (|| input.as_entire_buffer_binding(), || out.as_entire_buffer_binding());
    let shape = Logits::chw(5000, 2, 4).unwrap();
    assert_error!(
        Softmax::new().dispatch(gpu, &shape, input(), out()),
        Error::Limit { needed: 80_000, limit: 65_536, .. }
    );
    assert_error!(
        Argmax::new().dispatch(gpu, &shape, input(), Outputs::labels(out())),
        Error::Limit { needed: 80_000, limit: 65_536, .. }
    );
    let row = Logits::chw(1, 2, 20_000).unwrap();
    assert_error!(
        Softmax::new().axis(Axis::Width).dispatch(gpu, &row, input(), out()),
        Error::Limit { needed: 80_000, limit: ..=65_536, .. }
    );
    let wide = Segment::new(3, 30_000).dispatch(gpu, &Logits::chw(2, 2, 2).unwrap(), input(), Outputs::labels(out()));
    assert_error!(wide, Error::Limit { needed: 120_000, limit: ..=65_536, .. });
}

/// The weights of more classes than fit a buffer of this device: refused before the buffer is made.
#[test]
fn class_weights_beyond_a_buffer() {
    let gpu = &watched_gpu(wgpu::Limits {
        max_storage_buffer_binding_size: 16384,
        max_uniform_buffer_binding_size: 16384,
        max_buffer_size: 16384,
        ..wgpu::Limits::defaults()
    });
    let shape = Logits::chw(5000, 1, 1).unwrap();
    let (input, target, record) = (buffer(gpu, 16384, STORAGE), buffer(gpu, 4, STORAGE), buffer(gpu, 16, STORAGE));
    let result = CrossEntropy::new().class_weights(Some(vec![1.0; 5000])).dispatch(
        gpu,
        &shape,
        input.as_entire_buffer_binding(),
        Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
        record.as_entire_buffer_binding(),
        None,
    );
    assert!(result.is_err());
}

/// 2²⁵ images of one pixel fit the buffers of any device, but not its grid; and 128 partial sums of each are 2³².
#[test]
fn very_many_images() {
    let gpu = watched();
    let shape = Logits::nchw(1 << 25, 1, 1, 1).unwrap();
    let (input, target) = (buffer(gpu, shape.bytes(), STORAGE), buffer(gpu, shape.map().bytes(8), STORAGE));
    let record = buffer(gpu, 16, STORAGE);
    let result = CrossEntropy::new().dispatch(
        gpu,
        &shape,
        input.as_entire_buffer_binding(),
        Targets::new(target.as_entire_buffer_binding(), LabelType::U8),
        record.as_entire_buffer_binding(),
        None,
    );
    assert_error!(result, Error::Limit { .. });
}

#[test]
fn readback() {
    let gpu = watched();
    for bytes in [3, 1, 6] {
        assert_error!(Readback::new(gpu, bytes), Error::Misaligned { what: "staging", offset, alignment: 4 } if offset == bytes);
    }
    assert_error!(Readback::new(gpu, 1 << 40), Error::Limit { needed: 0x100_0000_0000, .. });
    let readback = Readback::new(gpu, 64).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let unreadable = buffer(gpu, 64, STORAGE);
    let result = readback.record(&mut encoder, unreadable.as_entire_buffer_binding());
    assert_error!(result, Error::Usage { needed: BufferUsages::COPY_SRC, found: STORAGE, .. });
    let source = output(gpu, 64);
    assert_error!(
        readback.record(&mut encoder, at(&source, 4, 0)),
        Error::BufferTooSmall { offset: 4, needed: 64, found: 60, .. }
    );
    assert_error!(
        readback.record(&mut encoder, at(&source, 0, 32)),
        Error::BufferTooSmall { offset: 0, needed: 64, found: 32, .. }
    );
    assert_error!(readback.record(&mut encoder, at(&source, 2, 0)), Error::Misaligned { offset: 2, alignment: 4, .. });
    assert_error!(
        readback.record(&mut encoder, at(&source, 1 << 60, 0)),
        Error::BufferTooSmall { needed: 64, found: 0, .. }
    );
    gpu.queue().submit([encoder.finish()]);
    gpu.wait().unwrap();
}

#[test]
fn no_adapter() {
    let options = GpuOptions { adapter_name: Some("no such adapter".to_owned()), ..GpuOptions::default() };
    let Err(error) = Gpu::headless_blocking(&options) else { panic!("an adapter of this name") };
    let Error::NoAdapter { name: Some(name), found, .. } = &error else { panic!("{error:?}") };
    assert!(name == "no such adapter" && !found.is_empty(), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("no such adapter") && found.iter().all(|found| message.contains(found)), "{message}");
    assert!(!message.contains('\n'), "{message}");

    // No build for this system has the first; the second is none at all.
    let impossible = if cfg!(target_vendor = "apple") { Backends::DX12 } else { Backends::METAL };
    for backends in [impossible, Backends::empty()] {
        let options = GpuOptions { backends: Some(backends), ..GpuOptions::default() };
        let Err(error) = Gpu::headless_blocking(&options) else { panic!("an adapter for {backends:?}") };
        assert!(matches!(&error, Error::NoAdapter { found, .. } if found.is_empty()), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("this build"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    let nothing = Error::NoAdapter { tried: Backends::VULKAN, name: None, found: Vec::new() }.to_string();
    let words = ["vulkan", "install", "mesa-vulkan-drivers"];
    assert!(words.iter().all(|word| nothing.contains(word)) && !nothing.contains('\n'), "{nothing}");
}

/// Runs `work` on a device of its own and fails where it panics or has not ended after 20 s.
fn ends(work: impl FnOnce(Gpu) + Send + 'static) {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        work(watched_gpu(wgpu::Limits::defaults()));
        sender.send(()).unwrap();
    });
    // The sender is gone after a panic.
    receiver.recv_timeout(Duration::from_secs(20)).unwrap();
}

fn submitted_readback(gpu: &Gpu) -> Readback {
    let source = output(gpu, 64);
    let readback = Readback::new(gpu, 64).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    readback.record(&mut encoder, source.as_entire_buffer_binding()).unwrap();
    gpu.queue().submit([encoder.finish()]);
    readback
}

/// On a destroyed device a read-back ends with an error, soon: neither a panic nor a wait without end.
#[test]
fn readback_on_a_destroyed_device() {
    ends(|gpu| {
        let mut readback = submitted_readback(&gpu);
        gpu.device().destroy();
        assert_error!(readback.read_blocking(&gpu, <[u8]>::to_vec), _);
    });
    ends(|gpu| {
        let mut readback = submitted_readback(&gpu);
        gpu.device().destroy();
        assert_error!(pollster::block_on(readback.read(<[u8]>::to_vec)), _);
    });
}

/// And asked again with another.
#[test]
fn second_readback_on_a_destroyed_device() {
    ends(|gpu| {
        let mut readback = submitted_readback(&gpu);
        gpu.device().destroy();
        assert_error!(readback.read_blocking(&gpu, <[u8]>::to_vec), _);
        assert_error!(readback.read_blocking(&gpu, <[u8]>::to_vec), _);
    });
}

/// The one-shot functions on a destroyed device, too.
#[test]
fn run_on_a_destroyed_device() {
    ends(|gpu| {
        gpu.device().destroy();
        assert_error!(Softmax::new().run_blocking(&gpu, &shape(), &[0.0; 48]), _);
    });
}

/// Targets beside the codes that they are written as for the GPU, in 8 bits and in 32.
#[test]
fn labels_beside_their_codes() {
    let gpu = watched();
    for classes in [2u32, 253, 254, 255, 256, 257] {
        let shape = Logits::chw(classes, 1, 4).unwrap();
        let data = Random::new(9).logits(&shape);
        let last = i64::from(classes) - 1;
        // An ignore index counts for nothing even where it is a class.
        for (ignored, valid) in [(Some(-100), 0), (Some(last), 0), (Some(0), last), (Some(255), 0), (None, last)] {
            let Some(other) = [0, last].into_iter().find(|&t| Some(t) != ignored) else { continue };
            let targets = [ignored.unwrap_or(valid), other, ignored.unwrap_or(last), other];
            let operator = CrossEntropy::new().ignore_index(ignored);
            let loss = operator.run_blocking(gpu, &shape, &data, &targets).unwrap();
            let expected = seghead::reference::cross_entropy(&shape, &data, &targets, ignored, None, 0.0).mean();
            assert!((f64::from(loss.value) - expected).abs() < 1e-5 * expected.max(1.0), "{classes} {ignored:?}");
            assert_eq!(loss.ignored, if ignored.is_some() { 2 } else { 0 });
            for wrong in [last + 1, 254, 255, -2, 1 << 32] {
                if wrong >= 0 && wrong <= last || Some(wrong) == ignored {
                    continue;
                }
                let result = operator.run_blocking(gpu, &shape, &data, &[other, other, wrong, other]);
                assert_error!(result, Error::Label { position: 2, label, .. } if label == wrong);
            }
        }
    }
}
