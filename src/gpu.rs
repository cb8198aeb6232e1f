use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use wgpu::{Backend, Backends, DeviceType, Features, PowerPreference};

use crate::kernel::{Access, Binding, Pipeline, PipelineKey, SpecialisedKernel};
use crate::pool::Pool;
use crate::{Error, Transfer};

/// Which adapter [`Gpu::headless`] should take.
///
/// What is left open is taken from the environment as in any wgpu program (`WGPU_BACKEND`, a comma-separated list,
/// and `WGPU_ADAPTER_NAME`), then from what the machine has.
///
/// ```
/// use seghead::{Gpu, GpuOptions, wgpu::PowerPreference};
/// let options = GpuOptions { power_preference: PowerPreference::LowPower, ..GpuOptions::default() };
/// println!("{}", Gpu::headless_blocking(&options)?.adapter_info().name);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// The backends to try; `None` means `WGPU_BACKEND`, or else all.
    pub backends: Option<Backends>,
    /// A part of the adapter's name, in any case; `None` means `WGPU_ADAPTER_NAME`, or else any.
    pub adapter_name: Option<String>,
    /// [`LowPower`](PowerPreference::LowPower) takes an integrated GPU before a discrete one, anything else the
    /// discrete one first. A software adapter comes last either way.
    pub power_preference: PowerPreference,
}

impl GpuOptions {
    fn backends(&self) -> Option<Backends> {
        let from_env = || std::env::var("WGPU_BACKEND").ok().filter(|names| !names.is_empty());
        self.backends.or_else(|| from_env().map(|names| Backends::from_comma_list(&names)))
    }

    fn adapter_name(&self) -> Option<String> {
        let from_env = || std::env::var("WGPU_ADAPTER_NAME").ok().filter(|name| !name.is_empty());
        self.adapter_name.clone().or_else(from_env)
    }
}

/// A device to record for, with the pipelines that were compiled for it.
///
/// Cheap to clone and usable from several threads: clones share the device, the pipelines, and the buffers that the
/// one-shot functions keep from one call to the next, up to 128 MiB until the last clone is dropped. Every operator takes
/// one. [`headless`](Self::headless) opens a device of its own; an application that has one hands it over with
/// [`from_wgpu`](Self::from_wgpu).
///
/// ```
/// use seghead::{Gpu, GpuOptions};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// println!("{} ({})", gpu.adapter_info().name, gpu.adapter_info().backend);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gpu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    access: Access,
    transfer: Transfer,
    pool: Pool,
    pipelines: Mutex<Vec<(PipelineKey, Arc<OnceLock<Pipeline>>)>>,
    placeholders: [OnceLock<wgpu::Buffer>; 2],
    placeholder_photo: OnceLock<wgpu::Texture>,
}

impl Gpu {
    /// Opens a device on an adapter of this machine, a real GPU if there is one.
    ///
    /// Where nothing else is asked for, OpenGL is tried after the other backends. Where a software adapter is all there is, it is taken, and a warning says so once through [`log`]. The device
    /// has the adapter's own limits, which may be larger than WebGPU's defaults.
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`] with the backends that were tried; [`Error::RequestDevice`] where the adapter fails.
    pub async fn headless(options: &GpuOptions) -> Result<Self, Error> {
        let adapters = Self::candidates(options).await?;
        let adapter = &adapters[0];
        let info = adapter.get_info();
        if is_software(&info) {
            static WARNING: Once = Once::new();
            WARNING.call_once(|| log::warn!("no real GPU chosen: {} computes on the CPU", info.name));
        }
        let features = Features::SHADER_INT64 | Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("seghead"),
            required_features: adapter.features() & (features | Transfer::features(&info, is_software(&info))),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        match adapter.request_device(&descriptor).await {
            Ok((device, queue)) => Ok(Self::from_wgpu(device, queue)),
            Err(source) => Err(Error::RequestDevice { adapter: info.name, source }),
        }
    }

    /// [`headless`](Self::headless) for programs without an executor. As everything that waits, it is not there on
    /// wasm32, where nothing may block.
    ///
    /// # Errors
    ///
    /// As [`headless`](Self::headless).
    #[cfg(not(target_family = "wasm"))]
    pub fn headless_blocking(options: &GpuOptions) -> Result<Self, Error> {
        pollster::block_on(Self::headless(options))
    }

    /// The adapters that can compute and match `options`, best first: real GPUs before software, then by power
    /// preference.
    ///
    /// ```
    /// use seghead::{Gpu, GpuOptions};
    /// for adapter in pollster::block_on(Gpu::adapters(&GpuOptions::default()))? {
    ///     println!("{}", adapter.get_info().name);
    /// }
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`] where the list would be empty.
    pub async fn adapters(options: &GpuOptions) -> Result<Vec<wgpu::Adapter>, Error> {
        let tried = options.backends().unwrap_or(Backends::all()) & wgpu::Instance::enabled_backend_features();
        choose(enumerate(tried).await, tried, options)
    }

    /// The adapters of the backends that are worth a try. OpenGL comes after the others, and only where it may have a
    /// real GPU that they have not: it takes long to load, and on Linux complains where there is no desktop.
    async fn candidates(options: &GpuOptions) -> Result<Vec<wgpu::Adapter>, Error> {
        if options.backends().is_some() {
            return Self::adapters(options).await;
        }
        let tried = Backends::PRIMARY & wgpu::Instance::enabled_backend_features();
        let chosen = choose(enumerate(tried).await, tried, options);
        // Without a render node, Mesa's OpenGL is software too.
        let no_gpu = cfg!(target_os = "linux") && !std::path::Path::new("/dev/dri").exists();
        match chosen {
            Ok(adapters) if no_gpu || !is_software(&adapters[0].get_info()) => Ok(adapters),
            _ => Self::adapters(options).await,
        }
    }

    /// Takes the device and the queue of an application.
    ///
    /// Any device with WebGPU's default limits will do; [`required_limits`](Self::required_limits) tells which are
    /// needed, [`recommended_limits`](Self::recommended_limits) which to request. Two features are used where the device
    /// has them: software adapters are faster with [`Features::SHADER_INT64`], and the one-shot functions with
    /// [`Features::MAPPABLE_PRIMARY_BUFFERS`] where the memory of the device is that of the host ([`Transfer`]). Nothing is
    /// created on the device before an operator is.
    ///
    /// ```no_run
    /// # fn app(device: seghead::wgpu::Device, queue: seghead::wgpu::Queue) {
    /// let gpu = seghead::Gpu::from_wgpu(device, queue);
    /// # }
    /// ```
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = device.adapter_info();
        let limits = device.limits();
        let (software, features) = (is_software(&info), device.features());
        let access = Access::of_device(software, features);
        let transfer = Transfer::of_device(&info, software, features);
        let (pool, pipelines, placeholders, placeholder_photo) = Default::default();
        let inner =
            Inner { device, queue, info, limits, access, transfer, pool, pipelines, placeholders, placeholder_photo };
        Self { inner: Arc::new(inner) }
    }

    /// The device that everything is created on.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The queue that the one-shot functions submit to. A [`Dispatch`](crate::Dispatch) submits nothing.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// What the adapter says about itself.
    pub fn adapter_info(&self) -> &wgpu::AdapterInfo {
        &self.inner.info
    }

    /// Whether the adapter computes on the CPU (lavapipe, llvmpipe, SwiftShader, WARP).
    pub fn is_software(&self) -> bool {
        is_software(&self.inner.info)
    }

    /// How the kernels read and write tensors whose rows start at multiples of four elements. Any other tensor they
    /// take element by element. The environment variable `SEGHEAD_ACCESS`, `vec4` or `words64`, overrides the choice, for
    /// measuring.
    pub fn access(&self) -> Access {
        self.inner.access
    }

    /// How the one-shot functions bring tensors to the device and results back. The environment variable
    /// `SEGHEAD_TRANSFER`, `staged` or, on devices with [`Features::MAPPABLE_PRIMARY_BUFFERS`], `mapped`, overrides the
    /// choice, for measuring.
    pub fn transfer(&self) -> Transfer {
        self.inner.transfer
    }

    /// Every kernel in every specialisation that operators may ask for on this device with `classes` classes, whatever
    /// their options, shapes and types of elements. Up to 24 classes the class count is a part of the specialisation.
    ///
    /// What a self-test has to run; [`Dispatch::kernels`](crate::Dispatch::kernels) tells what it has run.
    ///
    /// ```
    /// use seghead::{Gpu, GpuOptions};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// assert!(gpu.kernels(5).iter().any(|one| one.kernel == "softmax registers"));
    /// assert!(gpu.kernels(30).iter().all(|one| one.kernel != "softmax registers"));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn kernels(&self, classes: u32) -> Vec<SpecialisedKernel> {
        SpecialisedKernel::of(SpecialisedKernel::all(self, classes))
    }

    /// Compiles everything that [`kernels`](Self::kernels) lists: hundreds of pipelines, of which an application needs a
    /// few, which are compiled when an operator makes its dispatch. To try whether the adapter's compiler takes them all.
    ///
    /// ```no_run
    /// use seghead::{Gpu, GpuOptions};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// gpu.compile(5);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn compile(&self, classes: u32) {
        for key in SpecialisedKernel::all(self, classes) {
            self.pipeline(key);
        }
    }

    /// Waits until the device has finished what was submitted, and runs the callbacks of finished mappings.
    ///
    /// For programs without a frame loop. Not there on wasm32: a browser calls back by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Poll`] where waiting fails, for example because the device was lost.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&self) -> Result<(), Error> {
        self.device().poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }

    /// Has the driver compile everything that `dispatches` run, now and not when they first do: records them without a
    /// workgroup, submits that and waits. Nothing is read or written.
    ///
    /// Making a dispatch compiles its kernels as far as wgpu does; on several threads for several dispatches, if they are
    /// made on several, and never a kernel twice. Software adapters, and some others, go on when a kernel first runs.
    ///
    /// ```
    /// # use seghead::{Gpu, GpuOptions, Logits, Sigmoid, wgpu};
    /// # let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// # let logits = Logits::chw(2, 4, 4)?;
    /// # let [input, output] = [(); 2].map(|()| gpu.device().create_buffer(&wgpu::BufferDescriptor {
    /// #     label: None,
    /// #     size: logits.bytes(),
    /// #     usage: wgpu::BufferUsages::STORAGE,
    /// #     mapped_at_creation: false,
    /// # }));
    /// # let (input, output) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
    /// let sigmoid = Sigmoid::new().dispatch(&gpu, &logits, input, output)?;
    /// gpu.warm_up([&sigmoid])?;
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Poll`] where waiting fails, for example because the device was lost.
    #[cfg(not(target_family = "wasm"))]
    pub fn warm_up<'a>(&self, dispatches: impl IntoIterator<Item = &'a crate::Dispatch>) -> Result<(), Error> {
        let label = Some("seghead warm-up");
        let mut encoder = self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
        dispatches.into_iter().for_each(|dispatch| dispatch.record_nothing(&mut pass));
        drop(pass);
        self.queue().submit([encoder.finish()]);
        self.wait()
    }

    /// The iterations after which an invocation's loops end, unfinished, on this adapter.
    pub(crate) fn loop_iterations(&self) -> Option<u32> {
        // LP_MAX_TGSI_LOOP_ITERATIONS in Mesa's gallivm, counted over all loops of an invocation.
        self.adapter_info().name.contains("llvmpipe").then_some(65_535)
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.inner.limits
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// The pipeline of `key`, compiled by the first thread that asks and awaited by the others.
    pub(crate) fn pipeline(&self, key: PipelineKey) -> Pipeline {
        let cell = {
            // Nothing can leave the list half-changed, so a panic elsewhere is no reason to refuse it.
            let mut list = self.inner.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            match list.iter().find(|(known, _)| *known == key) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Arc::default();
                    list.push((key, Arc::clone(&cell)));
                    cell
                }
            }
        };
        cell.get_or_init(|| Pipeline::compile(self, key)).clone()
    }

    /// A range of a small buffer to bind where a kernel has an input or output that was not asked for.
    pub(crate) fn placeholder(&self, binding: Binding) -> wgpu::BufferBinding<'_> {
        // No device may align storage bindings to more than 256 bytes.
        const RANGE: u64 = 256;
        // A dispatch cannot read and write the same buffer, so there is one for either.
        let cell = &self.inner.placeholders[usize::from(binding.written)];
        let buffer = cell.get_or_init(|| {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("seghead placeholder"),
                size: 16 * RANGE,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        });
        let offset = u64::from(binding.index) * RANGE;
        wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(RANGE) }
    }

    /// A texture of one pixel to bind where there is no photo.
    pub(crate) fn placeholder_photo(&self) -> &wgpu::Texture {
        self.inner.placeholder_photo.get_or_init(|| {
            self.device().create_texture(&wgpu::TextureDescriptor {
                label: Some("seghead placeholder"),
                size: wgpu::Extent3d { width: 1, height: 1, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING,
                view_formats: &[],
            })
        })
    }
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    // Only Vulkan tells a software device from a real one without fail; the others by name.
    let name = info.name.to_lowercase();
    let known = ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"];
    info.device_type == DeviceType::Cpu || known.iter().any(|software| name.contains(software))
}

async fn enumerate(backends: Backends) -> Vec<wgpu::Adapter> {
    if backends.is_empty() {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    });
    let mut adapters = instance.enumerate_adapters(backends).await;
    let compute = wgpu::DownlevelFlags::COMPUTE_SHADERS;
    adapters.retain(|adapter| adapter.get_downlevel_capabilities().flags.contains(compute));
    adapters
}

/// Those of `adapters` that match `options`, best first, at least one.
fn choose(adapters: Vec<wgpu::Adapter>, tried: Backends, options: &GpuOptions) -> Result<Vec<wgpu::Adapter>, Error> {
    let name = options.adapter_name();
    let wanted = name.as_deref().unwrap_or("").to_lowercase();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        adapters.into_iter().partition(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
    if chosen.is_empty() {
        let found = others.iter().map(|adapter| adapter.get_info().name).collect();
        return Err(Error::NoAdapter { tried, name, found });
    }
    chosen.sort_by_key(|adapter| rank(&adapter.get_info(), options.power_preference));
    Ok(chosen)
}

/// Lower is better: real before software, then by power preference, then the backend's own API before OpenGL.
fn rank(info: &wgpu::AdapterInfo, preference: PowerPreference) -> (bool, u8, bool) {
    let device_type = match (info.device_type, preference) {
        (DeviceType::IntegratedGpu, PowerPreference::LowPower) => 0,
        (DeviceType::DiscreteGpu, _) => 1,
        (DeviceType::IntegratedGpu, _) => 2,
        (DeviceType::VirtualGpu, _) => 3,
        (DeviceType::Other, _) => 4,
        (DeviceType::Cpu, _) => 5,
    };
    (is_software(info), device_type, info.backend == Backend::Gl)
}
