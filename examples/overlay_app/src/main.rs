//! A window in which logits become pictures and nothing leaves the GPU: an application that owns its device and its frame,
//! and `seghead` that records into it.
//!
//! The network is a stand-in: the logits of the built-in sample, moved a little each frame, written to the buffer in which a
//! network on the same device would leave them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;
use seghead::{Activation, Blend, Dispatch, Gpu, Logits, Overlay, Palette, SoftMask, TextureDispatch, wgpu};
use wgpu::util::{DeviceExt, TextureDataOrder};
use wgpu::{BindingResource, BufferUsages, CurrentSurfaceTexture, TextureFormat, TextureUsages};
use winit::application::ApplicationHandler;
use winit::dpi::{LogicalSize, PhysicalSize};
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::keyboard::{Key, NamedKey};
use winit::window::{Window, WindowId};

const HELP: &str = "overlay-app [--keys KEYS] [--frames N]
  --keys KEYS   presses these before the first frame
  --frames N    ends after so many frames
Keys:
  0 1 2 3   shows or hides background, cat, person, cup
  + -       alpha of the colours
  O         outlines of 0, 1, 2, 4 pixels
  T         threshold none, 0.6, 0.9: what is below it is white
  S         what it is held against: softmax or sigmoid
  L         mixes colours and photo as stored values or in linear light
  C         how unsure the network is of its classes, as heat
  B         takes the colour from what is no person
  Esc       quits";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PHOTO: &[u8] = include_bytes!("../../../assets/sample/photo.png");
const LOGITS: &[u8] = include_bytes!("../../../assets/sample/logits_f16.npy");
const SHAPE: [u32; 3] = [4, 112, 160]; // classes, height, width
const COLOURS: [[u8; 3]; 4] = [[90, 90, 90], [255, 150, 0], [40, 130, 255], [0, 200, 110]];
const PERSON: u32 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlay-app: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut app = App { options: Options::START, frames: u64::MAX, screen: None, failure: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--keys", Some(keys)) => keys.chars().for_each(|key| app.options.press(key)),
            ("--frames", Some(count)) => app.frames = count.parse().map_err(|error| format!("--frames: {error}"))?,
            ("--help", _) => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("{argument}: expected --keys KEYS, --frames N or --help").into()),
        }
    }
    EventLoop::new()?.run_app(&mut app)?;
    app.failure.map_or(Ok(()), Err)
}

/// What the keys change.
struct Options {
    view: View,
    hidden: [bool; 4],
    alpha: f32,
    outline: u32,
    threshold: Option<f32>,
    activation: Activation,
    blend: Blend,
}

/// As numbered in `draw.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Overlay,
    Confidence,
    Background,
}

impl Options {
    const START: Self = Self {
        view: View::Overlay,
        hidden: [true, false, false, false],
        alpha: 0.5,
        outline: 0,
        threshold: None,
        activation: Activation::Softmax,
        blend: Blend::Straight,
    };

    fn press(&mut self, key: char) {
        match key.to_ascii_lowercase() {
            class @ '0'..='3' => self.hidden[class as usize - '0' as usize] ^= true,
            '+' | '=' => self.alpha = (self.alpha + 0.1).min(1.0),
            '-' => self.alpha = (self.alpha - 0.1).max(0.0),
            'o' => self.outline = next([0, 1, 2, 4], self.outline),
            't' => self.threshold = next([None, Some(0.6), Some(0.9)], self.threshold),
            's' => self.activation = next([Activation::Softmax, Activation::Sigmoid], self.activation),
            'l' => self.blend = next([Blend::Straight, Blend::Linear], self.blend),
            'c' => self.view = next([View::Overlay, View::Confidence], self.view),
            'b' => self.view = next([View::Overlay, View::Background], self.view),
            _ => {}
        }
    }

    fn title(&self) -> String {
        let Self { view, alpha, outline, activation, blend, .. } = self;
        let threshold = self.threshold.map_or("none".to_owned(), |threshold| threshold.to_string());
        format!("{view:?}: {activation:?}, threshold {threshold}, alpha {alpha:.1}, outline {outline}, blend {blend:?}")
    }
}

/// The value that follows `now`, the first one after the last, the second one after what is none of them.
fn next<T: Copy + PartialEq, const N: usize>(values: [T; N], now: T) -> T {
    let at = values.iter().position(|&value| value == now).unwrap_or(0);
    values[(at + 1) % N]
}

/// What the network finds at this time: borders breathe, and confidence swells and shrinks.
fn network(output: &[f32], seconds: f32) -> Vec<f32> {
    let temperature = 1.5 - 0.5 * (0.9 * seconds).cos();
    let planes = output.chunks(output.len() / COLOURS.len()).zip([0.0, 1.6, 3.1, 4.7]);
    let moved = planes.flat_map(|(plane, phase)| {
        let shift = 0.8 * (1.3 * seconds + phase).sin();
        plane.iter().map(move |logit| (logit + shift) / temperature)
    });
    moved.collect()
}

/// What the library records into every frame.
enum Work {
    Overlay(Dispatch),
    Mask(TextureDispatch),
}

/// All that is on the GPU but the window.
struct Scene {
    gpu: Gpu,
    shape: Logits,
    logits: wgpu::Buffer,
    photo: wgpu::Texture,
    overlay: wgpu::Texture,
    mask: wgpu::Texture,
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
}

impl Scene {
    fn new(gpu: Gpu, photo: &image::RgbaImage, surface: TextureFormat) -> Result<Self> {
        let device = gpu.device();
        let [classes, height, width] = SHAPE;
        let shape = Logits::chw(classes, height, width)?;
        let logits = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("logits"),
            size: shape.bytes(),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });

        // The library samples the photo, stores to the overlay and copies to the mask; this application samples all three.
        let texture = |label, format, usage| wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: photo.width(), height: photo.height(), depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: TextureUsages::TEXTURE_BINDING | usage,
            view_formats: &[],
        };
        let of_photo = texture("photo", TextureFormat::Rgba8Unorm, TextureUsages::COPY_DST);
        let of_overlay = texture("overlay", TextureFormat::Rgba8Unorm, TextureUsages::STORAGE_BINDING);
        let of_mask = texture("mask", TextureFormat::R8Unorm, TextureUsages::COPY_DST);
        let photo = device.create_texture_with_data(gpu.queue(), &of_photo, TextureDataOrder::LayerMajor, photo);
        let (overlay, mask) = (device.create_texture(&of_overlay), device.create_texture(&of_mask));

        // From here on it is the drawing of an application that has never heard of logits.
        let module = device.create_shader_module(wgpu::include_wgsl!("draw.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("draw"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("draw"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[("LINEAR_SURFACE", surface.is_srgb().into())],
                    ..Default::default()
                },
                targets: &[Some(surface.into())],
            }),
            primitive: Default::default(),
            depth_stencil: None,
            multisample: Default::default(),
            multiview_mask: None,
            cache: None,
        });
        let sampler = device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: wgpu::FilterMode::Linear,
            min_filter: wgpu::FilterMode::Linear,
            ..Default::default()
        });
        let views = [&overlay, &photo, &mask].map(|texture| texture.create_view(&Default::default()));
        let textures = views.iter().map(BindingResource::TextureView);
        let resources = std::iter::once(BindingResource::Sampler(&sampler)).chain(textures);
        let entries = (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries.collect::<Vec<_>>(),
        });
        Ok(Self { gpu, shape, logits, photo, overlay, mask, pipeline, bindings })
    }

    /// The library's part, made once for these options and then recorded every frame. A shape, usage or format that does
    /// not fit is an error here, not when the frame is submitted.
    fn work(&self, options: &Options) -> Result<Work> {
        let logits = self.logits.as_entire_buffer_binding();
        let (height, width) = (self.mask.height(), self.mask.width());
        let mask = match options.view {
            View::Overlay => {
                let hidden = (0..).zip(options.hidden).filter_map(|(class, hidden)| hidden.then_some(class));
                let operator = Overlay::new(Palette::new(COLOURS.to_vec()))
                    .alpha(options.alpha)
                    .hidden(hidden)
                    .outline(options.outline)
                    .threshold(options.threshold)
                    .activation(options.activation)
                    .blend(options.blend);
                let dispatch = operator.dispatch(&self.gpu, &self.shape, logits, Some(&self.photo), &self.overlay)?;
                return Ok(Work::Overlay(dispatch));
            }
            View::Confidence => SoftMask::of_best(height, width),
            View::Background => SoftMask::new(height, width, PERSON),
        };
        let mask = mask.activation(options.activation);
        Ok(Work::Mask(mask.dispatch_to_texture(&self.gpu, &self.shape, logits, &self.mask)?))
    }

    /// Draws `view` onto `target`, with bars where `target` has another aspect than the photo.
    fn draw(&self, encoder: &mut wgpu::CommandEncoder, view: View, target: &wgpu::Texture) {
        let attachment = wgpu::RenderPassColorAttachment {
            view: &target.create_view(&Default::default()),
            depth_slice: None,
            resolve_target: None,
            ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
        };
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(attachment)],
            ..Default::default()
        });
        let [photo, whole] = [&self.photo, target].map(|texture| [texture.width() as f32, texture.height() as f32]);
        let scale = (whole[0] / photo[0]).min(whole[1] / photo[1]);
        let [width, height] = photo.map(|side| side * scale);
        pass.set_viewport((whole[0] - width) / 2.0, (whole[1] - height) / 2.0, width, height, 0.0, 1.0);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.draw(0..3, view as u32..view as u32 + 1);
    }
}

/// The window and what it shows.
struct Screen {
    window: Arc<Window>,
    instance: wgpu::Instance,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    scene: Scene,
    work: Work,
    output: Vec<f32>,
    started: Instant,
    /// Frames since when, for the title.
    measured: (u32, Instant),
}

impl Screen {
    fn new(event_loop: &ActiveEventLoop, options: &Options) -> Result<Self> {
        let photo = image::load_from_memory(PHOTO)?.into_rgba8();
        // In a .npy file, ten bytes tell the length of a header, and the values follow it.
        let values = &LOGITS[10 + usize::from(u16::from_le_bytes([LOGITS[8], LOGITS[9]]))..];
        let output = values.as_chunks().0.iter().map(|&half| f16::from_le_bytes(half).to_f32()).collect();

        let size = LogicalSize::new(photo.width() * 3 / 2, photo.height() * 3 / 2);
        let attributes = Window::default_attributes().with_title("overlay-app").with_inner_size(size);
        let window = Arc::new(event_loop.create_window(attributes)?);
        let display = Box::new(event_loop.owned_display_handle());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle_from_env(display));
        let surface = instance.create_surface(window.clone())?;
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            compatible_surface: Some(&surface),
            ..Default::default()
        }))?;
        // No features, and WebGPU's default limits: the library needs no more.
        let (device, queue) = pollster::block_on(adapter.request_device(&Default::default()))?;
        let config = surface.get_default_config(&adapter, 0, 0).ok_or("the adapter cannot draw to this window")?;
        // Waits for the screen, and every surface can.
        let config = wgpu::SurfaceConfiguration { present_mode: wgpu::PresentMode::Fifo, ..config };

        // The library shares the device and takes nothing else over.
        let scene = Scene::new(Gpu::from_wgpu(device, queue), &photo, config.format)?;
        let work = scene.work(options)?;
        let started = Instant::now();
        let measured = (0, started);
        let mut screen = Self { window, instance, surface, config, scene, work, output, started, measured };
        screen.resize(screen.window.inner_size());
        screen.window.request_redraw();
        Ok(screen)
    }

    fn resize(&mut self, size: PhysicalSize<u32>) {
        (self.config.width, self.config.height) = (size.width, size.height);
        self.configure();
    }

    fn configure(&self) {
        if self.has_area() {
            self.surface.configure(self.scene.gpu.device(), &self.config);
        }
    }

    /// A minimised window may have none, and no surface can be configured for that.
    fn has_area(&self) -> bool {
        self.config.width > 0 && self.config.height > 0
    }

    /// Shows a frame and returns true, or false if there is nothing to draw to now.
    fn frame(&mut self, view: View) -> Result<bool> {
        if !self.has_area() {
            return Ok(false);
        }
        let acquired = self.surface.get_current_texture();
        let suboptimal = matches!(acquired, CurrentSurfaceTexture::Suboptimal(_));
        let frame = match acquired {
            CurrentSurfaceTexture::Success(frame) | CurrentSurfaceTexture::Suboptimal(frame) => frame,
            CurrentSurfaceTexture::Timeout | CurrentSurfaceTexture::Occluded => return Ok(false),
            CurrentSurfaceTexture::Outdated => {
                self.configure();
                return Ok(false);
            }
            CurrentSurfaceTexture::Lost => {
                self.surface = self.instance.create_surface(self.window.clone())?;
                self.configure();
                return Ok(false);
            }
            CurrentSurfaceTexture::Validation => return Err("the surface is not valid".into()),
        };
        // A network on this device would write the buffer itself, in the same encoder or an earlier submission.
        let gpu = &self.scene.gpu;
        let logits = network(&self.output, self.started.elapsed().as_secs_f32());
        gpu.queue().write_buffer(&self.scene.logits, 0, bytemuck::cast_slice(&logits));

        // One encoder and one submission: what the library writes is there when the render pass samples it.
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        match &self.work {
            Work::Overlay(dispatch) => dispatch.record(&mut encoder),
            Work::Mask(dispatch) => dispatch.record(&mut encoder),
        }
        self.scene.draw(&mut encoder, view, &frame.texture);
        gpu.queue().submit([encoder.finish()]);
        self.window.pre_present_notify();
        gpu.queue().present(frame);
        if suboptimal {
            self.configure();
        }
        self.measured.0 += 1;
        Ok(true)
    }

    fn show_title(&mut self, options: &Options) {
        let (frames, since) = std::mem::replace(&mut self.measured, (0, Instant::now()));
        let milliseconds = since.elapsed().as_secs_f64() * 1e3 / f64::from(frames.max(1));
        let mode = self.config.present_mode;
        self.window.set_title(&format!("{} | {mode:?}, {milliseconds:.1} ms a frame", options.title()));
    }
}

struct App {
    options: Options,
    /// How many are left.
    frames: u64,
    screen: Option<Screen>,
    failure: Option<Box<dyn std::error::Error>>,
}

impl App {
    fn handle(&mut self, event_loop: &ActiveEventLoop, event: WindowEvent) -> Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Resized(size) => screen.resize(size),
            WindowEvent::KeyboardInput {
                event: KeyEvent { state: ElementState::Pressed, logical_key, .. }, ..
            } => match logical_key {
                Key::Named(NamedKey::Escape) => event_loop.exit(),
                Key::Character(keys) => {
                    keys.chars().for_each(|key| self.options.press(key));
                    screen.work = screen.scene.work(&self.options)?;
                    screen.show_title(&self.options);
                }
                _ => {}
            },
            WindowEvent::RedrawRequested if self.frames == 0 => event_loop.exit(),
            WindowEvent::RedrawRequested => {
                if screen.frame(self.options.view)? {
                    self.frames -= 1;
                } else {
                    std::thread::sleep(Duration::from_millis(20)); // and look again
                }
                screen.window.request_redraw();
                if screen.measured.1.elapsed() > Duration::from_millis(500) {
                    screen.show_title(&self.options);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_on_failure(&mut self, event_loop: &ActiveEventLoop, result: Result<()>) {
        if let Err(error) = result {
            self.failure = Some(error);
            event_loop.exit();
        }
    }
}

impl ApplicationHandler for App {
    // Where windows can first be made; on some systems it comes again and again.
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.screen.is_none() {
            let result = Screen::new(event_loop, &self.options).map(|screen| self.screen = Some(screen));
            self.end_on_failure(event_loop, result);
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let result = self.handle(event_loop, event);
        self.end_on_failure(event_loop, result);
    }

    // The connection to the display ends with the event loop, and the surface must not outlive it.
    fn exiting(&mut self, _: &ActiveEventLoop) {
        self.screen = None;
    }
}
