//! Recording allocates nothing: neither on the host, beyond what wgpu itself does for the same commands, nor on the
//! device.
//!
//! A file of its own, for the sake of the global allocator.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::*;
use seghead::wgpu::{self, BufferUsages, ComputePass, TextureFormat, TextureUsages};
use seghead::{
    Argmax, Axis, BinaryCrossEntropy, BoundaryScore, Calibration, ClassStatistics, ConfusionMatrix, CrossEntropy,
    Dispatch, FocalLoss, Gpu, Inspect, Interpolate, LabelType, Logits, LossBuffers, LossSum, MaskFormat, MultiLabel,
    Outputs, Overlay, Palette, RegionLoss, Segment, Sigmoid, SoftMask, Softmax, Targets, TemporalSmoothing, TopK,
};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to `System`, which keeps the contract, with the caller's arguments unchanged, so that the
// caller's promises are those that `System` asks for. Counting neither allocates nor unwinds: the cell is initialised at
// compile time and has no destructor, and 2⁶⁴ calls are not reached.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// An application's device, and the instance that tells what has been created.
fn app(required_limits: wgpu::Limits, features: wgpu::Features) -> (wgpu::Instance, Gpu) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = wgpu::util::initialize_adapter_from_env_or_default(&instance, None);
    let adapter = pollster::block_on(adapter).unwrap();
    let required_features = adapter.features() & features;
    let descriptor = wgpu::DeviceDescriptor { required_limits, required_features, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    (instance, Gpu::from_wgpu(device, queue))
}

/// Every operator, up to 24 classes and above, whose kernels differ.
fn dispatches(gpu: &Gpu) -> Vec<(String, Dispatch)> {
    let mut all = Vec::new();
    for classes in [3, 30] {
        let logits = Logits::nchw(2, classes, 9, 13).unwrap();
        let input = upload(gpu, &logits, &Random::new(classes.into()).logits(&logits));
        // As large as any of the outputs.
        let out: Vec<_> = (0..4).map(|_| buffer(gpu, 30_000, BufferUsages::STORAGE)).collect();
        let targets = upload_bytes(gpu, &vec![0; logits.bytes() as usize]);
        let from = || input.as_entire_buffer_binding();
        let to = |i: usize| out[i].as_entire_buffer_binding();
        let outputs = || Outputs::labels(to(0)).confidence(to(1)).margin(to(2)).entropy(to(3));
        let mut push = |what: &str, dispatch: Result<Dispatch, seghead::Error>| {
            all.push((format!("{what} of {classes} classes"), dispatch.unwrap()));
        };
        for axis in [Axis::Class, Axis::Height, Axis::Width] {
            push(&format!("softmax {axis:?}"), Softmax::new().axis(axis).dispatch(gpu, &logits, from(), to(0)));
        }
        push("sigmoid", Sigmoid::new().dispatch(gpu, &logits, from(), to(0)));
        push("argmax", Argmax::new().dispatch(gpu, &logits, from(), Outputs::labels(to(0))));
        push("scores", Argmax::new().dispatch(gpu, &logits, from(), outputs()));
        push("top-k", TopK::new(3).dispatch(gpu, &logits, from(), to(0), Some(to(1))));
        for format in [MaskFormat::Bytes, MaskFormat::Bits] {
            push("multi-label", MultiLabel::new().format(format).dispatch(gpu, &logits, from(), to(0)));
        }
        push("segment", Segment::new(27, 31).dispatch(gpu, &logits, from(), outputs()));
        push("resize", Segment::new(5, 7).dispatch(gpu, &logits, from(), outputs()));
        push("interpolate", Interpolate::new(11, 11).dispatch(gpu, &logits, from(), to(0)));
        let labels = Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
        push("cross-entropy", CrossEntropy::new().dispatch(gpu, &logits, from(), labels, to(0), Some(to(1))));
        let tensor = || targets.as_entire_buffer_binding();
        push("soft targets", CrossEntropy::new().dispatch_soft(gpu, &logits, from(), tensor(), to(0), Some(to(1))));
        push("BCE", BinaryCrossEntropy::new().dispatch(gpu, &logits, from(), tensor(), to(0), Some(to(1))));
        push("inspect", Inspect::new().dispatch(gpu, &logits, from(), to(0)));
        push("soft mask", SoftMask::new(27, 31, 1).dispatch(gpu, &logits, from(), to(0)));
        push("smoothing", TemporalSmoothing::new(0.5).dispatch(gpu, &logits, from(), to(0), to(1)));
        let (map, statistics) = (logits.map(), ClassStatistics::new(classes));
        push("statistics", statistics.dispatch(gpu, &map, to(0), LabelType::U8, Some(to(1)), to(2)));
        let labels = || Targets::new(targets.as_entire_buffer_binding(), LabelType::U8);
        let predictions = || (to(0), LabelType::U8);
        push("confusion", ConfusionMatrix::new(classes).dispatch(gpu, &map, predictions(), labels(), to(2)));
        push("boundaries", BoundaryScore::new(classes, 3).dispatch(gpu, &map, predictions(), labels(), to(2)));
        push("calibration", Calibration::new().dispatch(gpu, &map, predictions(), to(1), labels(), to(2)));
        let buffers = || LossBuffers::new(to(0)).gradient(to(1));
        push("dice", RegionLoss::dice().dispatch(gpu, &logits, from(), labels(), buffers()));
        push("focal", FocalLoss::new().dispatch(gpu, &logits, from(), labels(), buffers()));
        let sum = LossSum::new(0.5, BinaryCrossEntropy::new()).add(0.5, RegionLoss::dice());
        push("sum", sum.dispatch(gpu, &logits, from(), labels(), buffers().losses(to(2))));
        push("BCE of labels", BinaryCrossEntropy::new().dispatch_labels(gpu, &logits, from(), labels(), buffers()));
        for (height, width) in [(27, 31), (5, 7)] {
            let operator = CrossEntropy::new().upsampled(height, width);
            push("upsampled", operator.dispatch(gpu, &logits, from(), labels(), buffers(), Some(to(2))));
        }
        push("gradient", CrossEntropy::new().dispatch_gradient(gpu, &logits, from(), labels(), to(0), to(1)));
        let image = Logits::chw(classes, 9, 13).unwrap();
        let [photo, picture] = [TextureUsages::TEXTURE_BINDING, TextureUsages::STORAGE_BINDING]
            .map(|usage| texture(gpu, [31, 27], TextureFormat::Rgba8Unorm, usage));
        for outline in [0, 2] {
            let overlay = Overlay::new(Palette::voc()).outline(outline);
            push("overlay", overlay.dispatch(gpu, &image, from(), Some(&photo), &picture));
        }
    }
    all
}

/// As many pipelines, bind groups and dispatches as a dispatch of this library records, set by hand; pipelines are the
/// same where they are the same there, because wgpu drops what is set already.
struct Twin {
    steps: Vec<(wgpu::ComputePipeline, wgpu::BindGroup)>,
}

impl Twin {
    fn of(gpu: &Gpu, dispatch: &Dispatch) -> Self {
        let device = gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(
                "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
                 @compute @workgroup_size(1) fn one() { x[0] = 1u; }"
                    .into(),
            ),
        });
        let buffer = buffer(gpu, 256, BufferUsages::STORAGE);
        let kernels = dispatch.kernels();
        let mut steps: Vec<(wgpu::ComputePipeline, wgpu::BindGroup)> = Vec::new();
        for (i, kernel) in kernels.iter().enumerate() {
            let pipeline = match kernels[..i].iter().position(|known| known == kernel) {
                Some(known) => steps[known].0.clone(),
                None => device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: None,
                    layout: None,
                    module: &module,
                    entry_point: None,
                    compilation_options: Default::default(),
                    cache: None,
                }),
            };
            let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
            });
            steps.push((pipeline, bind_group));
        }
        Self { steps }
    }

    fn record_into(&self, pass: &mut ComputePass<'_>) {
        for (pipeline, bind_group) in &self.steps {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
    }
}

fn recording_allocates_nothing(limits: wgpu::Limits, features: wgpu::Features) {
    let (instance, gpu) = app(limits, features);
    let report = || instance.generate_report().unwrap();
    for (what, dispatch) in dispatches(&gpu) {
        let twin = Twin::of(&gpu, &dispatch);
        assert!(!twin.steps.is_empty());
        let frame = |name: &str, record: &dyn Fn(&mut ComputePass<'_>)| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let before = report();
            let calls = allocations(|| record(&mut pass));
            assert_eq!(report(), before, "{what}: {name} has made something on the device");
            drop(pass);
            gpu.queue().submit([encoder.finish()]);
            gpu.wait().unwrap();
            calls
        };
        // What wgpu makes once, for the first of all submissions.
        frame("the twin", &|pass| twin.record_into(pass));
        let before = report();
        for i in 0..10 {
            let expected = frame("the twin", &|pass| twin.record_into(pass));
            let found = frame("the dispatch", &|pass| dispatch.record_into(pass));
            assert_eq!(found, expected, "{what}: allocations of frame {i}");
            assert_eq!(report(), before, "{what}: after frame {i}");
        }

        // In a pass of its own: as that of anybody else with such a label.
        let expected = allocations(|| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            let descriptor = wgpu::ComputePassDescriptor { label: Some("a label"), timestamp_writes: None };
            twin.record_into(&mut encoder.begin_compute_pass(&descriptor));
            drop(encoder);
        });
        let found = allocations(|| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            drop(encoder);
        });
        assert_eq!(found, expected, "{what}: in a pass of its own");
    }
}

#[test]
fn at_default_limits() {
    recording_allocates_nothing(wgpu::Limits::defaults(), wgpu::Features::empty());
}

/// Where the parameters are in memory of the host.
#[test]
fn with_mappable_buffers() {
    recording_allocates_nothing(wgpu::Limits::defaults(), wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
}

/// Where a tensor of 30 classes is bound part by part, in several steps of the same kernels.
#[test]
fn in_parts() {
    recording_allocates_nothing(Gpu::required_limits(), wgpu::Features::empty());
}

/// The allocator counts, so that the others mean something.
#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(10)))), 1);
    let mut kept = Vec::with_capacity(1);
    assert_eq!(allocations(|| kept.extend_from_slice(&[0; 100])), 1, "reallocated");
    drop(std::hint::black_box(kept));
}
