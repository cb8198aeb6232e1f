//! What the integration tests share: devices, data, and a recorder that runs many dispatches in one submission.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // each test file uses a part of it

use std::sync::OnceLock;

use seghead::wgpu::{self, BufferUsages};
use seghead::{Dispatch, ElementType, Gpu, GpuOptions, LabelType, Logits, Map, Readback};

/// The adapter under test; the tests fail where there is none.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::headless_blocking(&GpuOptions::default()).expect("an adapter, see scripts/adapter.sh"))
}

/// A device as an application may have it: these limits, no features.
pub fn application_gpu(limits: wgpu::Limits) -> Gpu {
    gpu_with(wgpu::Features::empty(), limits)
}

fn gpu_with(required_features: wgpu::Features, required_limits: wgpu::Limits) -> Gpu {
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default())).expect("an adapter")[0];
    let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Gpu::from_wgpu(device, queue)
}

/// Two devices of one adapter, watched as [`watched_gpu`] is.
pub fn two_gpus() -> [Gpu; 2] {
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default())).expect("an adapter")[0];
    [(), ()].map(|()| {
        let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
        device.on_uncaptured_error(std::sync::Arc::new(|error| panic!("uncaptured: {error}")));
        Gpu::from_wgpu(device, queue)
    })
}

/// WebGPU's default limits.
pub fn default_limits_gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| application_gpu(wgpu::Limits::defaults()))
}

/// SplitMix64 (Steele, Lea, Flood 2014): a seed gives the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..n
    pub fn below(&mut self, n: u32) -> u32 {
        (self.bits() % u64::from(n)) as u32
    }

    /// About N(0, 3²), as logits are: the sum of twelve uniform numbers.
    pub fn logit(&mut self) -> f32 {
        let uniform: f64 = (0..12).map(|_| self.bits() as f64 / u64::MAX as f64).sum();
        (3.0 * (uniform - 6.0)) as f32
    }

    pub fn logits(&mut self, shape: &Logits) -> Vec<f32> {
        (0..elements(shape)).map(|_| self.logit()).collect()
    }

    /// Few different values, so that many pixels have several classes on top.
    pub fn ties(&mut self, shape: &Logits) -> Vec<f32> {
        (0..elements(shape)).map(|_| self.below(3) as f32 - 1.0).collect()
    }
}

/// Elements without padding.
pub fn elements(shape: &Logits) -> usize {
    shape.images() as usize * shape.classes() as usize * shape.pixels() as usize
}

/// One row of up to 37 pixels, batches, odd sizes, padding, both orders of the dimensions, rectangles, rows that are
/// apart, halves.
pub fn awkward_shapes(classes: u32) -> Vec<Logits> {
    let nchw = |n, h, w| Logits::nchw(n, classes, h, w).unwrap();
    let nhwc = |n, h, w| Logits::nhwc(n, h, w, classes).unwrap();
    let mut shapes: Vec<_> = (1..=37).map(|width| nchw(1, 1, width)).collect();
    shapes.extend([
        nchw(2, 3, 5),
        nchw(3, 4, 4),
        nchw(2, 17, 31).padded().unwrap(),
        nchw(1, 64, 80),
        nhwc(1, 1, 6),
        nhwc(2, 13, 17),
        nchw(2, 9, 13).crop(2, 3, 6, 7).unwrap(),
        nchw(1, 9, 16).crop(1, 4, 7, 9).unwrap(),
        nchw(2, 9, 16).crop(1, 4, 7, 8).unwrap(),
        nhwc(2, 7, 8).crop(1, 1, 5, 6).unwrap(),
        nchw(1, 7, 10).with_row_stride(12).unwrap(),
    ]);
    let halves = [nchw(1, 3, 7), nchw(2, 4, 4), nhwc(1, 3, 5), nchw(2, 9, 13).crop(2, 3, 6, 7).unwrap()];
    shapes.extend(halves.map(|shape| shape.f16()));
    shapes
}

/// The same sizes, N × C × H × W and packed: what the twin takes.
pub fn packed(shape: &Logits) -> Logits {
    Logits::nchw(shape.images(), shape.classes(), shape.height(), shape.width()).unwrap()
}

/// Larger than 16 KiB: one image and batches, planes at multiples of four and not, both orders of the classes,
/// rectangles, rows that are apart, 3 and 30 classes, f32 and halves.
pub fn beyond_a_binding() -> Vec<Logits> {
    let nchw = |n, c, h, w| Logits::nchw(n, c, h, w).unwrap();
    let nhwc = |n, h, w, c| Logits::nhwc(n, h, w, c).unwrap();
    let shapes = [
        nchw(1, 3, 64, 80),
        nchw(1, 3, 37, 53),
        nchw(1, 3, 37, 53).padded().unwrap(),
        nchw(1, 30, 41, 28),
        nchw(7, 30, 5, 9),
        nchw(3, 3, 61, 60),
        nhwc(1, 37, 53, 3),
        nhwc(2, 19, 23, 30),
        nchw(2, 3, 40, 50).crop(3, 7, 30, 41).unwrap(),
        nchw(1, 30, 40, 48).crop(4, 8, 33, 40).unwrap(),
        nhwc(2, 30, 31, 5).crop(2, 9, 21, 17).unwrap(),
        nchw(1, 3, 33, 50).with_row_stride(64).unwrap(),
    ];
    shapes.into_iter().flat_map(|shape| [shape, shape.f16()]).collect()
}

/// A storage buffer with `data`, the packed elements of `shape`, and NaN in the padding, which nothing may depend on.
pub fn upload(gpu: &Gpu, shape: &Logits, data: &[f32]) -> wgpu::Buffer {
    upload_padded_with(gpu, shape, data, f32::NAN)
}

pub fn upload_padded_with(gpu: &Gpu, shape: &Logits, data: &[f32], padding: f32) -> wgpu::Buffer {
    if shape.len() as usize == data.len() {
        return upload_bytes(gpu, bytemuck::cast_slice(data));
    }
    let pixels = shape.pixels() as usize;
    let mut padded = Vec::with_capacity(shape.len() as usize);
    for plane in data.chunks_exact(pixels) {
        padded.extend_from_slice(plane);
        padded.resize(padded.len() + shape.plane_stride() as usize - pixels, padding);
    }
    upload_bytes(gpu, bytemuck::cast_slice(&padded))
}

pub fn upload_bytes(gpu: &Gpu, bytes: &[u8]) -> wgpu::Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let buffer = buffer(gpu, bytes.len() as u64, usage);
    gpu.queue().write_buffer(&buffer, 0, bytes);
    buffer
}

/// `labels` with the geometry of `map`.
pub fn upload_u8(gpu: &Gpu, map: &Map, labels: &[u8]) -> wgpu::Buffer {
    let mut padded = Vec::new();
    for image in labels.chunks_exact(labels.len() / map.images() as usize) {
        padded.extend_from_slice(image);
        padded.resize(padded.len() + map.image_stride() as usize - image.len(), 77);
    }
    upload_bytes(gpu, &padded)
}

pub fn buffer(gpu: &Gpu, size: u64, usage: BufferUsages) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

/// A buffer for results.
pub fn output(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    buffer(gpu, size, BufferUsages::STORAGE | BufferUsages::COPY_SRC)
}

/// Records dispatches into one encoder and reads all their results back after one submission.
pub struct Recorder<'a> {
    gpu: &'a Gpu,
    encoder: wgpu::CommandEncoder,
    readbacks: Vec<Readback>,
}

impl<'a> Recorder<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, encoder: gpu.device().create_command_encoder(&Default::default()), readbacks: Vec::new() }
    }

    /// Records `dispatch` and the read-back of `outputs`; the results come in this order.
    pub fn record(&mut self, dispatch: &Dispatch, outputs: &[&wgpu::Buffer]) {
        dispatch.record(&mut self.encoder);
        for output in outputs {
            let readback = Readback::new(self.gpu, output.size()).unwrap();
            readback.record(&mut self.encoder, output.as_entire_buffer_binding()).unwrap();
            self.readbacks.push(readback);
        }
    }

    /// Submits, and returns the bytes of each output.
    pub fn finish(mut self) -> std::vec::IntoIter<Vec<u8>> {
        self.gpu.queue().submit([self.encoder.finish()]);
        let read = |readback: &mut Readback| readback.read_blocking(self.gpu, <[u8]>::to_vec).unwrap();
        self.readbacks.iter_mut().map(read).collect::<Vec<_>>().into_iter()
    }
}

/// The elements of a tensor shaped like `shape`, without the padding.
pub fn unpad_tensor(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    let all: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    if all.len() == elements(shape) {
        return all;
    }
    let planes = all.chunks_exact(shape.plane_stride() as usize);
    planes.flat_map(|plane| plane[..shape.pixels() as usize].to_vec()).collect()
}

/// The pixels of a map, without the padding.
pub fn unpad_map<T: bytemuck::Pod>(map: &Map, bytes: &[u8]) -> Vec<T> {
    let all: Vec<T> = bytemuck::pod_collect_to_vec(bytes);
    let mut packed = Vec::new();
    for image in all.chunks_exact(map.image_stride() as usize) {
        for row in image.chunks(map.row_stride() as usize).take(map.height() as usize) {
            packed.extend_from_slice(&row[..map.width() as usize]);
        }
    }
    packed
}

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Compares with what the reference has, element by element, within `tolerance(index)`; NaN only where it has NaN, and
/// an infinity only where it has the same.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let got = f64::from(got);
        let close = if expected.is_finite() {
            (got - expected).abs() <= tolerance(i)
        } else {
            got.is_nan() == expected.is_nan() && (got.is_nan() || got == expected)
        };
        assert!(close, "{what}[{i}]: {got:e}, expected {expected:e} within {:e}", tolerance(i));
    }
}

/// [`application_gpu`] that panics where wgpu reports an error of its own, which nothing here may provoke.
pub fn watched_gpu(limits: wgpu::Limits) -> Gpu {
    watched_gpu_with(wgpu::Features::empty(), limits)
}

/// The same with these features.
pub fn watched_gpu_with(features: wgpu::Features, limits: wgpu::Limits) -> Gpu {
    let gpu = gpu_with(features, limits);
    gpu.device().on_uncaptured_error(std::sync::Arc::new(|error| panic!("uncaptured: {error}")));
    gpu
}

/// Default limits, but that little of large buffers is bound, from multiples of 256 bytes on.
pub fn binding_limits(bytes: u64) -> wgpu::Limits {
    wgpu::Limits {
        max_storage_buffer_binding_size: bytes,
        max_uniform_buffer_binding_size: bytes.min(wgpu::Limits::defaults().max_uniform_buffer_binding_size),
        min_storage_buffer_offset_alignment: 256,
        ..wgpu::Limits::defaults()
    }
}

/// The bits of numbers, to compare NaN and ±0 as well.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Where the packed elements, N × C × H × W, lie in a buffer of this shape.
pub fn places(shape: &Logits) -> impl Iterator<Item = usize> {
    let shape = *shape;
    (0..elements(&shape) as u32).map(move |i| {
        let (x, row) = (i % shape.width(), i / shape.width());
        let (y, plane) = (row % shape.height(), row / shape.height());
        let (c, image) = (plane % shape.classes(), plane / shape.classes());
        let at = shape.offset() + image * shape.image_stride() + c * shape.plane_stride();
        (at + y * shape.row_stride() + x * shape.pixel_stride()) as usize
    })
}

/// The elements of a buffer of this shape, NaN where there are none of `data`.
pub fn lay(shape: &Logits, data: &[f32]) -> Vec<f32> {
    let mut all = vec![f32::NAN; shape.len() as usize];
    places(shape).zip(data).for_each(|(at, &x)| all[at] = x);
    all
}

/// The bits of the nearest f16.
pub fn halves(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect()
}

/// A storage buffer with `data`, the packed elements N × C × H × W, where a buffer of this shape has them, and NaN
/// elsewhere.
pub fn upload_laid(gpu: &Gpu, shape: &Logits, data: &[f32]) -> wgpu::Buffer {
    let laid = lay(shape, data);
    match shape.element_type() {
        ElementType::F32 => upload_bytes(gpu, bytemuck::cast_slice(&laid)),
        ElementType::F16 => {
            let mut bits = halves(&laid);
            bits.resize(bits.len().next_multiple_of(2), 0);
            upload_bytes(gpu, bytemuck::cast_slice(&bits))
        }
    }
}

/// A texture of two dimensions, width × height.
pub fn texture(
    gpu: &Gpu,
    [width, height]: [u32; 2],
    format: wgpu::TextureFormat,
    usage: wgpu::TextureUsages,
) -> wgpu::Texture {
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage,
        view_formats: &[],
    })
}

/// Writes all pixels of a texture, of so many bytes each.
pub fn write_texture(gpu: &Gpu, texture: &wgpu::Texture, bytes_per_pixel: u32, bytes: &[u8]) {
    let bytes_per_row = Some(texture.width() * bytes_per_pixel);
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row, rows_per_image: None };
    gpu.queue().write_texture(texture.as_image_copy(), bytes, layout, texture.size());
}

/// All pixels of a texture, row after row.
pub fn read_texture(gpu: &Gpu, texture: &wgpu::Texture, bytes_per_pixel: u32) -> Vec<u8> {
    let row = texture.width() * bytes_per_pixel;
    let stride = row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let size = u64::from(stride) * u64::from(texture.height());
    let copied = buffer(gpu, size, BufferUsages::COPY_DST | BufferUsages::COPY_SRC);
    let mut readback = Readback::new(gpu, size).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(stride), rows_per_image: None };
    let to = wgpu::TexelCopyBufferInfo { buffer: &copied, layout };
    encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
    readback.record(&mut encoder, copied.as_entire_buffer_binding()).unwrap();
    gpu.queue().submit([encoder.finish()]);
    let rows = |bytes: &[u8]| bytes.chunks_exact(stride as usize).flat_map(|r| r[..row as usize].to_vec()).collect();
    readback.read_blocking(gpu, rows).unwrap()
}

/// What lies in a buffer of [`guarded`] before it is written.
pub const GUARD: u32 = 0x7fc0_a5a5;

/// A buffer for results that is full of [`GUARD`]s.
pub fn guarded(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    let to = buffer(gpu, size, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    gpu.queue().write_buffer(&to, 0, bytemuck::cast_slice(&vec![GUARD; size as usize / 4]));
    to
}

/// The elements of a tensor of this shape in a buffer of [`guarded`], N × C × H × W. Around a rectangle, nothing may have
/// been written.
pub fn take_guarded(shape: &Logits, bytes: &[u8]) -> Vec<f32> {
    let mut all: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    let taken = places(shape).map(|at| all[at]).collect();
    if shape.row_stride() != shape.width() * shape.pixel_stride() {
        places(shape).for_each(|at| all[at] = f32::from_bits(GUARD));
        assert!(all.iter().all(|x| x.to_bits() == GUARD), "{shape:?}");
    }
    taken
}

/// Labels with the geometry of the map of `shape`; a negative one is its two's complement.
pub fn upload_labels(gpu: &Gpu, shape: &Logits, labels: &[i64], label_type: LabelType) -> wgpu::Buffer {
    let map = shape.map();
    let (row, stride) = (map.width() as usize, map.row_stride() as usize);
    let mut all = vec![77i64; map.images() as usize * map.image_stride() as usize];
    for (i, &label) in labels.iter().enumerate() {
        let (image, pixel) = (i / shape.pixels() as usize, i % shape.pixels() as usize);
        all[image * map.image_stride() as usize + pixel / row * stride + pixel % row] = label;
    }
    match label_type {
        LabelType::U8 => upload_bytes(gpu, &all.iter().map(|&label| label as u8).collect::<Vec<_>>()),
        LabelType::U32 => {
            upload_bytes(gpu, bytemuck::cast_slice(&all.iter().map(|&label| label as u32).collect::<Vec<_>>()))
        }
    }
}
