//! The page's own GPU work: dividing logits by a temperature, and drawing results to canvases.

use seghead::{Gpu, wgpu};
use wasm_bindgen::JsError;
use web_sys::HtmlCanvasElement;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{BufferUsages, CurrentSurfaceTexture};

/// How the map of a class is drawn, as in `draw.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Style {
    pub low: f32,
    pub high: f32,
    pub threshold: f32,
    pub bytes: u32,
    pub offset: u32,
    pub row_stride: u32,
    pub padding: [u32; 2],
    pub tint: [f32; 4],
}

pub struct Painter {
    overlay: wgpu::RenderPipeline,
    map: wgpu::RenderPipeline,
    divide: wgpu::ComputePipeline,
}

/// A canvas that is drawn to.
pub struct Canvas {
    element: HtmlCanvasElement,
    surface: wgpu::Surface<'static>,
    format: wgpu::TextureFormat,
}

impl Canvas {
    pub fn new(
        instance: &wgpu::Instance,
        adapter: &wgpu::Adapter,
        element: HtmlCanvasElement,
    ) -> Result<Self, JsError> {
        let surface = instance.create_surface(wgpu::SurfaceTarget::Canvas(element.clone()))?;
        let formats = surface.get_capabilities(adapter).formats;
        // The first is the one that the browser prefers; it takes colours as they are stored.
        let format = formats.first().copied().unwrap_or(wgpu::TextureFormat::Bgra8Unorm);
        Ok(Self { element, surface, format })
    }

    pub fn format(&self) -> wgpu::TextureFormat {
        self.format
    }

    /// Gives the canvas `width × height` pixels.
    pub fn resize(&self, gpu: &Gpu, [height, width]: [u32; 2]) {
        self.element.set_width(width);
        self.element.set_height(height);
        self.surface.configure(
            gpu.device(),
            &wgpu::SurfaceConfiguration {
                usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
                format: self.format,
                color_space: wgpu::SurfaceColorSpace::default(),
                width,
                height,
                present_mode: wgpu::PresentMode::Fifo,
                desired_maximum_frame_latency: 2,
                alpha_mode: wgpu::CompositeAlphaMode::Opaque,
                view_formats: vec![],
            },
        );
    }

    pub fn frame(&self) -> Result<wgpu::SurfaceTexture, JsError> {
        match self.surface.get_current_texture() {
            CurrentSurfaceTexture::Success(frame) | CurrentSurfaceTexture::Suboptimal(frame) => Ok(frame),
            other => Err(JsError::new(&format!("the canvas cannot be drawn to: {other:?}"))),
        }
    }
}

impl Painter {
    pub fn new(gpu: &Gpu, format: wgpu::TextureFormat) -> Self {
        let device = gpu.device();
        let draw = device.create_shader_module(wgpu::include_wgsl!("draw.wgsl"));
        let pipeline = |fragment| {
            device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: Some(fragment),
                layout: None,
                vertex: wgpu::VertexState {
                    module: &draw,
                    entry_point: Some("corner"),
                    compilation_options: Default::default(),
                    buffers: &[],
                },
                fragment: Some(wgpu::FragmentState {
                    module: &draw,
                    entry_point: Some(fragment),
                    compilation_options: Default::default(),
                    targets: &[Some(format.into())],
                }),
                primitive: Default::default(),
                depth_stencil: None,
                multisample: Default::default(),
                multiview_mask: None,
                cache: None,
            })
        };
        let divide = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("divide"),
            layout: None,
            module: &device.create_shader_module(wgpu::include_wgsl!("divide.wgsl")),
            entry_point: Some("divide"),
            compilation_options: Default::default(),
            cache: None,
        });
        Self { overlay: pipeline("draw_overlay"), map: pipeline("draw_map"), divide }
    }

    pub fn draw_overlay(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        overlay: &wgpu::Texture,
        frame: &wgpu::SurfaceTexture,
    ) {
        let overlay = overlay.create_view(&Default::default());
        let entries = [entry(2, wgpu::BindingResource::TextureView(&overlay))];
        draw(gpu, encoder, &self.overlay, &entries, frame);
    }

    pub fn draw_map(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        (map, style): (&wgpu::Buffer, Style),
        frame: &wgpu::SurfaceTexture,
    ) {
        let style = uniform(gpu, bytemuck::bytes_of(&style));
        let entries = [entry(0, style.as_entire_binding()), entry(1, map.as_entire_binding())];
        draw(gpu, encoder, &self.map, &entries, frame);
    }

    /// Writes every f32 of `logits` divided by `temperature` to `divided`.
    pub fn divide(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        [logits, divided]: [&wgpu::Buffer; 2],
        temperature: f32,
    ) {
        let temperature = uniform(gpu, bytemuck::bytes_of(&[temperature; 4]));
        let bindings = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("divide"),
            layout: &self.divide.get_bind_group_layout(0),
            entries: &[
                entry(0, logits.as_entire_binding()),
                entry(1, divided.as_entire_binding()),
                entry(2, temperature.as_entire_binding()),
            ],
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.divide);
        pass.set_bind_group(0, &bindings, &[]);
        let groups =
            (logits.size() / 4).div_ceil(128).min(gpu.device().limits().max_compute_workgroups_per_dimension.into());
        pass.dispatch_workgroups(groups as u32, 1, 1);
    }
}

fn entry(binding: u32, resource: wgpu::BindingResource<'_>) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource }
}

fn uniform(gpu: &Gpu, contents: &[u8]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&BufferInitDescriptor { label: None, contents, usage: BufferUsages::UNIFORM })
}

fn draw(
    gpu: &Gpu,
    encoder: &mut wgpu::CommandEncoder,
    pipeline: &wgpu::RenderPipeline,
    entries: &[wgpu::BindGroupEntry<'_>],
    frame: &wgpu::SurfaceTexture,
) {
    let layout = &pipeline.get_bind_group_layout(0);
    let bindings = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries });
    let view = frame.texture.create_view(&Default::default());
    let attachment = wgpu::RenderPassColorAttachment {
        view: &view,
        depth_slice: None,
        resolve_target: None,
        ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
    };
    let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
        color_attachments: &[Some(attachment)],
        ..Default::default()
    });
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, &bindings, &[]);
    pass.draw(0..3, 0..1);
}
