//! What an operator becomes: checked buffers, and the [`Dispatch`] that records the work.

use std::ops::Range;

use wgpu::{BindingResource, BufferBinding, BufferUsages, TextureFormat, TextureUsages};

use crate::error::one_line;
use crate::kernel::{Binding, Params, PipelineKey, SpecialisedKernel, WORKGROUP, binding};
use crate::{Error, Gpu, host};

/// What a kernel's binding gets.
#[derive(Clone)]
pub(crate) struct Bound<'a> {
    binding: Binding,
    resource: BoundResource<'a>,
}

#[derive(Clone)]
enum BoundResource<'a> {
    /// A buffer or a part of it, and the bytes of it that the dispatch uses in all.
    Buffer(BufferBinding<'a>, Range<u64>),
    Texture(wgpu::TextureView),
}

impl<'a> Bound<'a> {
    /// Checks everything that wgpu would refuse, or that would let the kernel reach beyond the binding.
    pub fn new(gpu: &Gpu, binding: Binding, buffer: BufferBinding<'a>, needed: u64) -> Result<Self, Error> {
        Self::part(gpu, binding, buffer, needed, 0..needed)
    }

    /// The bytes `part` of a buffer of which `needed` bytes are used in all; they start where the device can bind.
    pub fn part(
        gpu: &Gpu,
        binding: Binding,
        buffer: BufferBinding<'a>,
        needed: u64,
        part: Range<u64>,
    ) -> Result<Self, Error> {
        let what = binding.what;
        let found_usage = buffer.buffer.usage();
        if !found_usage.contains(BufferUsages::STORAGE) {
            return Err(Error::Usage { what, needed: BufferUsages::STORAGE, found: found_usage });
        }
        let alignment = u64::from(gpu.limits().min_storage_buffer_offset_alignment);
        let offset = buffer.offset;
        if !offset.is_multiple_of(alignment) {
            return Err(Error::Misaligned { what, offset, alignment });
        }
        let behind_offset = buffer.buffer.size().saturating_sub(offset);
        let found = buffer.size.map_or(behind_offset, |size| behind_offset.min(size.get()));
        if found < needed {
            return Err(Error::BufferTooSmall { what, offset, needed, found });
        }
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let bytes = part.end - part.start;
        if bytes > limit {
            return Err(Error::Limit { what: "bytes of a storage buffer binding", needed: bytes, limit });
        }
        let buffer =
            BufferBinding { buffer: buffer.buffer, offset: offset + part.start, size: wgpu::BufferSize::new(bytes) };
        Ok(Self { binding, resource: BoundResource::Buffer(buffer, offset..offset + needed) })
    }

    /// The same of what is bound part by part, as a whole: to be checked against others.
    pub fn all(gpu: &Gpu, binding: Binding, buffer: BufferBinding<'a>, needed: u64) -> Result<Self, Error> {
        Self::part(gpu, binding, buffer, needed, 0..0)
    }

    /// A whole buffer of the dispatch's own.
    pub fn whole(gpu: &Gpu, binding: Binding, buffer: &'a wgpu::Buffer) -> Result<Self, Error> {
        Self::new(gpu, binding, buffer.as_entire_buffer_binding(), buffer.size())
    }

    /// A part of which the kernel uses nothing outside the bytes `used` of the buffer, so that others may be bound beside.
    pub fn using(mut self, used: Range<u64>) -> Self {
        if let BoundResource::Buffer(_, range) = &mut self.resource {
            *range = used;
        }
        self
    }

    /// What it is bound to.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// The same buffer in another binding.
    pub fn with_binding(self, binding: Binding) -> Self {
        Self { binding, ..self }
    }

    /// Stands in for an input or output that was not asked for.
    pub fn placeholder(gpu: &'a Gpu, binding: Binding) -> Self {
        let buffer = gpu.placeholder(binding);
        let range = buffer.offset..buffer.offset + buffer.size.map_or(0, wgpu::BufferSize::get);
        Self { binding, resource: BoundResource::Buffer(buffer, range) }
    }

    /// The first layer and mip level of a texture of `width × height`.
    pub fn texture(
        gpu: &Gpu,
        binding: Binding,
        texture: &wgpu::Texture,
        [width, height]: [u32; 2],
    ) -> Result<Self, Error> {
        let what = binding.what;
        let (formats, usage): (&[_], _) = match binding.written {
            true => (&[TextureFormat::Rgba8Unorm], TextureUsages::STORAGE_BINDING),
            false => (&PHOTO_FORMATS, TextureUsages::TEXTURE_BINDING),
        };
        check_texture(what, texture, (formats, usage), [width, height])?;
        let view = refusing(gpu, what, || {
            texture.create_view(&wgpu::TextureViewDescriptor {
                label: Some(what),
                dimension: Some(wgpu::TextureViewDimension::D2),
                mip_level_count: Some(1),
                array_layer_count: Some(1),
                ..Default::default()
            })
        })?;
        Ok(Self { binding, resource: BoundResource::Texture(view) })
    }

    fn entry(&self) -> wgpu::BindGroupEntry<'_> {
        let resource = match &self.resource {
            BoundResource::Buffer(buffer, _) => BindingResource::Buffer(buffer.clone()),
            BoundResource::Texture(view) => BindingResource::TextureView(view),
        };
        wgpu::BindGroupEntry { binding: self.binding.index, resource }
    }

    /// Checks that what is written is not read as well, nor written twice in overlapping ranges.
    pub fn check_apart(&self, other: &Self) -> Result<(), Error> {
        let (a, b) = (self, other);
        let written = (a.binding.written, b.binding.written);
        let apart = match (&a.resource, &b.resource) {
            _ if written == (false, false) => true,
            (BoundResource::Buffer(a, first), BoundResource::Buffer(b, second)) => {
                let disjoint = second.end <= first.start || first.end <= second.start;
                a.buffer != b.buffer || written == (true, true) && disjoint
            }
            (BoundResource::Texture(a), BoundResource::Texture(b)) => a.texture() != b.texture(),
            _ => true,
        };
        if apart {
            return Ok(());
        }
        let (written, other) = if a.binding.written { (a, b) } else { (b, a) };
        Err(Error::Aliased { written: written.binding.what, other: other.binding.what })
    }
}

/// Work that is ready to be recorded, as often as wanted: pipelines, bindings and workgroup counts.
///
/// A dispatch is made once per operator, shape and set of buffers. Recording it allocates nothing and compiles
/// nothing; it never submits, polls or waits. What it needs beside the caller's buffers it owns.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Sigmoid, wgpu};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 4, 4)?;
/// let buffer = |size| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: wgpu::BufferUsages::STORAGE,
///     mapped_at_creation: false,
/// });
/// let (input, output) = (buffer(logits.bytes()), buffer(logits.bytes()));
/// let sigmoid = Sigmoid::new().dispatch(
///     &gpu,
///     &logits,
///     input.as_entire_buffer_binding(),
///     output.as_entire_buffer_binding(),
/// )?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// sigmoid.record(&mut encoder);
/// gpu.queue().submit([encoder.finish()]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a dispatch does nothing before it is recorded and submitted"]
pub struct Dispatch {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    key: PipelineKey,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    pub(crate) fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Appends a kernel over `invocations` invocations for each of `images` images.
    pub(crate) fn push(
        &mut self,
        gpu: &Gpu,
        (kernel, specialisation): PipelineKey,
        params: Params,
        resources: &[Bound<'_>],
        (invocations, images): (u32, u32),
    ) -> Result<(), Error> {
        for (i, a) in resources.iter().enumerate() {
            for b in &resources[i + 1..] {
                a.check_apart(b)?;
            }
        }
        if let Some(iterations) = gpu.loop_iterations() {
            let limit = iterations / kernel.class_walks;
            if params.classes > limit {
                let what = "classes, or elements along an axis, on an adapter that ends loops early (llvmpipe)";
                return Err(Error::Limit { what, needed: params.classes.into(), limit: limit.into() });
            }
        }
        let limit = gpu.limits().max_compute_workgroups_per_dimension;
        let workgroups = invocations.div_ceil(WORKGROUP);
        let width = workgroups.min(limit);
        let height = workgroups.div_ceil(width);
        if height > limit {
            let what = "workgroups in two dimensions";
            return Err(Error::Limit { what, needed: height.into(), limit: limit.into() });
        }
        let key = (kernel, specialisation);
        let pipeline = gpu.pipeline(key);
        for first_image in (0..images).step_by(limit as usize) {
            let params = Params { grid_width: width, first_image, ..params };
            let params = constants(gpu, "seghead params", bytemuck::bytes_of(&params))?;
            let params = Bound::whole(gpu, binding::PARAMS, &params)?;
            let entries: Vec<_> = std::iter::once(&params).chain(resources).map(Bound::entry).collect();
            let bind_group = refusing(gpu, kernel.name, || {
                let layout = &pipeline.layout;
                let descriptor = wgpu::BindGroupDescriptor { label: Some(kernel.name), layout, entries: &entries };
                gpu.device().create_bind_group(&descriptor)
            })?;
            let workgroups = [width, height, limit.min(images - first_image)];
            self.steps.push(Step { key, pipeline: pipeline.pipeline.clone(), bind_group, workgroups });
        }
        Ok(())
    }

    /// Appends what another dispatch does.
    pub(crate) fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }

    /// The kernels that run when this is recorded, in their order, each in its specialisation.
    ///
    /// ```
    /// # fn app(argmax: &seghead::Dispatch) {
    /// for kernel in argmax.kernels() {
    ///     println!("{kernel}"); // argmax (vec4, f32, u8, 21 classes)
    /// }
    /// # }
    /// ```
    pub fn kernels(&self) -> Vec<SpecialisedKernel> {
        SpecialisedKernel::of(self.steps.iter().map(|step| step.key))
    }

    /// Records the work into a compute pass of its own. Nothing is submitted.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("seghead"), timestamp_writes: None });
        self.record_into(&mut pass);
    }

    /// Records the work into a compute pass of the caller, which may hold other work before and after it.
    ///
    /// Sets the pipeline and bind group 0.
    pub fn record_into(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.record_steps(pass, |step| step.workgroups);
    }

    /// The same without a single workgroup, for what the driver does before it starts one.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn record_nothing(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.record_steps(pass, |_| [0; 3]);
    }

    fn record_steps(&self, pass: &mut wgpu::ComputePass<'_>, workgroups: impl Fn(&Step) -> [u32; 3]) {
        for step in &self.steps {
            let [x, y, z] = workgroups(step);
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// The formats that a photo is read from. Those that end in `Srgb` are decoded by the texture unit.
pub(crate) const PHOTO_FORMATS: [TextureFormat; 4] = [
    TextureFormat::Rgba8Unorm,
    TextureFormat::Rgba8UnormSrgb,
    TextureFormat::Bgra8Unorm,
    TextureFormat::Bgra8UnormSrgb,
];

/// Checks that a texture has one of these formats, this usage, and `width × height` pixels in two dimensions.
pub(crate) fn check_texture(
    what: &'static str,
    texture: &wgpu::Texture,
    (formats, usage): (&'static [TextureFormat], TextureUsages),
    expected: [u32; 2],
) -> Result<(), Error> {
    // The format first: one that will not do cannot be had with the usage either.
    if !formats.contains(&texture.format()) {
        return Err(Error::TextureFormat { what, expected: formats, found: texture.format() });
    }
    if !texture.usage().contains(usage) {
        return Err(Error::TextureUsage { what, needed: usage, found: texture.usage() });
    }
    let flat = texture.dimension() == wgpu::TextureDimension::D2 && texture.sample_count() == 1;
    let found = [texture.width(), texture.height()];
    match flat && found == expected {
        true => Ok(()),
        false => Err(Error::TextureSize { what, expected, found, flat }),
    }
}

/// Does `work`, or returns what wgpu holds against it: that a resource was destroyed or is another device's shows in no
/// other way.
pub(crate) fn refusing<R>(gpu: &Gpu, what: &'static str, work: impl FnOnce() -> R) -> Result<R, Error> {
    match host::caught(gpu, wgpu::ErrorFilter::Validation, work) {
        (result, None) => Ok(result),
        (_, Some(error)) => Err(Error::of_device(what, one_line(&error))),
    }
}

/// Refuses a copy that wgpu would refuse when its encoder is submitted, by recording it into nothing.
pub(crate) fn check_copy(
    gpu: &Gpu,
    what: &'static str,
    record: impl FnOnce(&mut wgpu::CommandEncoder),
) -> Result<(), Error> {
    refusing(gpu, what, || {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        drop(encoder.finish());
    })
}

/// All of a buffer, or what stands in where there is none.
pub(crate) fn bound_or_placeholder<'a>(
    gpu: &'a Gpu,
    binding: Binding,
    buffer: Option<&'a wgpu::Buffer>,
) -> Result<Bound<'a>, Error> {
    buffer.map_or_else(|| Ok(Bound::placeholder(gpu, binding)), |buffer| Bound::whole(gpu, binding, buffer))
}

/// A small storage buffer that belongs to a dispatch.
pub(crate) fn constants(gpu: &Gpu, what: &'static str, bytes: &[u8]) -> Result<wgpu::Buffer, Error> {
    let (needed, limit) = (bytes.len() as u64, gpu.limits().max_buffer_size);
    if needed > limit {
        return Err(Error::Limit { what: "bytes of a buffer", needed, limit });
    }
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some(what),
        size: needed,
        usage: BufferUsages::STORAGE,
        mapped_at_creation: true,
    });
    // Where the device was lost or destroyed.
    let mut mapped = buffer.get_mapped_range_mut(..).map_err(|error| Error::Device(one_line(&error)))?;
    mapped.copy_from_slice(bytes);
    drop(mapped);
    buffer.unmap();
    Ok(buffer)
}

/// A buffer that one kernel of a dispatch writes and a later one reads.
pub(crate) fn scratch(gpu: &Gpu, what: &'static str, bytes: u64) -> Result<wgpu::Buffer, Error> {
    host::create_buffer(gpu, what, bytes, BufferUsages::STORAGE)
}
