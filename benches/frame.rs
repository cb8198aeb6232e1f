//! The frame of an application: 21 classes of 128 × 128 over a photo of 1280 × 720, and beside it the chain that does the
//! same one operator after another, in one run. `cargo bench --bench frame`.
//!
//! Each line: the milliseconds of one submission, minimum and median of several that take turns with the others, and
//! what buffers and textures it needs beside the logits, the photo and the overlay.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use seghead::wgpu::{self, BufferUsages, CommandEncoder, Texture, TextureUsages};
use seghead::{
    Activation, Argmax, Blend, Gpu, GpuOptions, Interpolate, Logits, Outputs, Overlay, Palette, SoftMask, Softmax,
};

const RUNS: usize = 15;
const CLASSES: u32 = 21;
const SIZE: [u32; 2] = [1280, 720];

/// The last step of the chain: labels, four to a word, to colours over the photo.
const COLOUR: &str = "
    @group(0) @binding(0) var<storage, read> labels: array<u32>;
    @group(0) @binding(1) var<storage, read> colours: array<vec4<f32>>;
    @group(0) @binding(2) var photo: texture_2d<f32>;
    @group(0) @binding(3) var picture: texture_storage_2d<rgba8unorm, write>;

    @compute @workgroup_size(64)
    fn colour(@builtin(global_invocation_id) id: vec3<u32>) {
        let label = (labels[(id.y * 1280u + id.x) / 4u] >> (id.x % 4u * 8u)) & 255u;
        let below = textureLoad(photo, id.xy, 0);
        textureStore(picture, id.xy, mix(below, colours[label], 0.5));
    }";

fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

fn texture(gpu: &Gpu, format: wgpu::TextureFormat, usage: TextureUsages) -> Texture {
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: SIZE[0], height: SIZE[1], depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage,
        view_formats: &[],
    })
}

/// Smooth blobs of classes with a little noise, as a network gives them.
fn logits(shape: &Logits) -> Vec<f32> {
    let (width, pixels) = (shape.width(), shape.pixels());
    let value = |i: u32| {
        let (c, y, x) = (i / pixels, i % pixels / width, i % width);
        let (angle, noise) = (c as f32 * 2.4, (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32);
        let wave = (x as f32 * 0.07 * angle.sin() + y as f32 * 0.07 * angle.cos() + angle).sin();
        6.0 * wave + noise
    };
    (0..shape.len()).map(value).collect()
}

struct Contender {
    name: &'static str,
    record: Box<dyn Fn(&mut CommandEncoder)>,
    bytes: u64,
}

fn main() {
    let gpu = &Gpu::headless_blocking(&GpuOptions::default()).unwrap();
    let info = gpu.adapter_info();
    println!("{} ({}), {} {}", info.name, info.backend, info.driver, info.driver_info);
    let shape = Logits::chw(CLASSES, 128, 128).unwrap();
    let input = &buffer(gpu, shape.bytes());
    gpu.queue().write_buffer(input, 0, bytemuck::cast_slice(&logits(&shape)));
    let rgba = wgpu::TextureFormat::Rgba8Unorm;
    let photo = &texture(gpu, rgba, TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST);
    let picture = &texture(gpu, rgba, TextureUsages::STORAGE_BINDING);
    let pixels = u64::from(SIZE[0]) * u64::from(SIZE[1]);

    let mut contenders = vec![naive(gpu, &shape, input, photo, picture)];
    let plain = || Overlay::new(Palette::voc());
    for (name, operator, bytes) in [
        ("overlay", plain(), 0),
        ("overlay, threshold", plain().threshold(0.6), 0),
        ("overlay, linear light", plain().blend(Blend::Linear), 4 * pixels),
        ("overlay, outlines of 2", plain().outline(2), 4 * pixels),
    ] {
        let dispatch = operator.dispatch(gpu, &shape, input.as_entire_buffer_binding(), Some(photo), picture).unwrap();
        contenders.push(Contender { name, record: Box::new(move |encoder| dispatch.record(encoder)), bytes });
    }
    for (name, activation) in [("soft mask, softmax", Activation::Softmax), ("soft mask, sigmoid", Activation::Sigmoid)]
    {
        let operator = SoftMask::new(SIZE[1], SIZE[0], 15).activation(activation);
        let mask = buffer(gpu, pixels);
        let (from, to) = (input.as_entire_buffer_binding(), mask.as_entire_buffer_binding());
        let dispatch = operator.dispatch(gpu, &shape, from, to).unwrap();
        contenders.push(Contender { name, record: Box::new(move |encoder| dispatch.record(encoder)), bytes: pixels });
    }

    let mut times = vec![Vec::new(); contenders.len()];
    for run in 0..RUNS + 2 {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            (contender.record)(&mut encoder);
            let start = Instant::now();
            gpu.queue().submit([encoder.finish()]);
            gpu.wait().unwrap();
            // The first ones compile and warm up.
            if run >= 2 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let mut of_chain = None;
    for (contender, times) in contenders.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (minimum, median) = (times[0], times[RUNS / 2]);
        let chain = *of_chain.get_or_insert(median);
        let (mib, ratio) = (contender.bytes as f64 / f64::from(1 << 20), chain / median);
        println!("{:34} {minimum:8.2} {median:8.2} ms  {ratio:6.1} x  {mib:8.1} MiB", contender.name);
    }
}

/// Upsampled logits, their softmax, its largest, and its colour: every step from memory to memory.
fn naive(gpu: &Gpu, shape: &Logits, input: &wgpu::Buffer, photo: &Texture, picture: &Texture) -> Contender {
    let interpolate = Interpolate::new(SIZE[1], SIZE[0]);
    let full = interpolate.output(shape).unwrap();
    let (logits, scores) = (buffer(gpu, full.bytes()), buffer(gpu, full.bytes()));
    let labels = buffer(gpu, full.map().bytes(8));
    let colours: Vec<f32> =
        Palette::voc().colours().iter().flat_map(|&[r, g, b]| [r, g, b, 255].map(|x| f32::from(x) / 255.0)).collect();
    let palette = buffer(gpu, 4 * colours.len() as u64);
    gpu.queue().write_buffer(&palette, 0, bytemuck::cast_slice(&colours));
    let module = gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(COLOUR.into()),
    });
    let pipeline = gpu.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let views = [photo, picture].map(|texture| texture.create_view(&Default::default()));
    let resources = [
        labels.as_entire_binding(),
        palette.as_entire_binding(),
        wgpu::BindingResource::TextureView(&views[0]),
        wgpu::BindingResource::TextureView(&views[1]),
    ];
    let entries: Vec<_> =
        (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    let bind_group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let steps = [
        interpolate.dispatch(gpu, shape, input.as_entire_buffer_binding(), logits.as_entire_buffer_binding()).unwrap(),
        Softmax::new()
            .dispatch(gpu, &full, logits.as_entire_buffer_binding(), scores.as_entire_buffer_binding())
            .unwrap(),
        Argmax::new()
            .dispatch(gpu, &full, scores.as_entire_buffer_binding(), Outputs::labels(labels.as_entire_buffer_binding()))
            .unwrap(),
    ];
    let record = move |encoder: &mut CommandEncoder| {
        steps.iter().for_each(|step| step.record(encoder));
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(SIZE[0] / 64, SIZE[1], 1);
    };
    let bytes = 2 * full.bytes() + full.map().bytes(8);
    Contender { name: "upsample, softmax, argmax, colour", record: Box::new(record), bytes }
}
