use super::{Binding, Kernel, Resource, Specialisation, binding};
use crate::Gpu;

/// What a pipeline is cached under.
pub(crate) type PipelineKey = (&'static Kernel, Specialisation);

/// A compiled kernel with the layout of its bindings.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub fn compile(gpu: &Gpu, (kernel, specialisation): PipelineKey) -> Self {
        let device = gpu.device();
        let entries: Vec<_> = std::iter::once(&binding::PARAMS)
            .chain(kernel.bindings)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: binding_type(binding),
                count: None,
            })
            .collect();
        let label = Some(kernel.name);
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(specialisation.source(kernel).into()),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Self { pipeline, layout }
    }
}

fn binding_type(binding: &Binding) -> wgpu::BindingType {
    let view_dimension = wgpu::TextureViewDimension::D2;
    match (binding.resource, binding.written) {
        (Resource::Buffer, written) => wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: !written },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        (Resource::Texture, false) => wgpu::BindingType::Texture {
            sample_type: wgpu::TextureSampleType::Float { filterable: false },
            view_dimension,
            multisampled: false,
        },
        (Resource::Texture, true) => wgpu::BindingType::StorageTexture {
            access: wgpu::StorageTextureAccess::WriteOnly,
            format: wgpu::TextureFormat::Rgba8Unorm,
            view_dimension,
        },
    }
}
