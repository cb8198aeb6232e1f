use wgpu::{BufferBinding, BufferUsages, Texture, TextureFormat, TextureUsages};

use crate::bands::MAP_CHUNK_BYTES;
use crate::dispatch::{Bound, check_copy, check_texture};
use crate::kernel::{Binding, Kernel, Params, Scores, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::resize::{Geometry, Resize, Rows};
use crate::ops::upsample::{Kernels, RESIZE_TAPS, UPSCALE_TAPS, any_classes, resize, upscale};
use crate::{Activation, Dispatch, ElementType, Error, Gpu, Logits, Map, host};

const SOURCE: &str = concat!(include_str!("../../shaders/upsample.wgsl"), include_str!("../../shaders/soft_mask.wgsl"));
const BINDINGS: &[Binding] = &[binding::LOGITS, binding::MASK];

pub(crate) static UPSCALE: Kernel = upscale("soft mask upscale", SOURCE, BINDINGS, upscales);
pub(crate) static RESIZE: Kernel = resize("soft mask resize", SOURCE, BINDINGS, resizes);

const KERNELS: Kernels = Kernels { upscale: &UPSCALE, wide: None, resize: &RESIZE };

fn upscales(_classes: u32) -> Vec<Specialisation> {
    UPSCALE_TAPS.into_iter().flat_map(specialisations).collect()
}

fn resizes(_classes: u32) -> Vec<Specialisation> {
    specialisations(RESIZE_TAPS)
}

fn specialisations(taps: u32) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for element_type in [ElementType::F32, ElementType::F16] {
        for activation in [Activation::Softmax, Activation::Sigmoid] {
            all.push(specialisation(element_type, activation, taps));
        }
    }
    all
}

fn specialisation(element_type: ElementType, activation: Activation, taps: u32) -> Specialisation {
    let scores = Scores { confidence: activation == Activation::Softmax, ..Scores::NONE };
    Specialisation { scores, activation, chosen_class: true, taps, ..any_classes(element_type) }
}

/// The probability of one class at full resolution, from low-resolution logits, as a mask of eight bits: what blurs or
/// replaces a background. Or that of every pixel's best class, its confidence.
///
/// `round(255 · p)` with p the softmax probability or the sigmoid of the class in the bilinearly upsampled logits, 0 where
/// p is NaN. In PyTorch `interpolate(x, size, mode="bilinear").softmax(1)[:, class]`. The mask is within 1 of its
/// twin [`reference::soft_mask`](crate::reference::soft_mask), which rounds the exact probability. With the sigmoid only the one class is read.
///
/// ```
/// use seghead::{Activation, Gpu, GpuOptions, Logits, Readback, SoftMask, wgpu};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(1, 1, 2)?; // a network that tells a person from the rest
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage,
///     mapped_at_creation: false,
/// });
/// let input = buffer(logits.bytes(), wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
/// gpu.queue().write_buffer(&input, 0, &[(-9f32).to_le_bytes(), 9f32.to_le_bytes()].concat());
/// let operator = SoftMask::new(1, 4, 0).activation(Activation::Sigmoid);
/// let map = operator.map(&logits)?;
/// let mask = buffer(map.bytes(8), wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
/// let (from, to) = (input.as_entire_buffer_binding(), mask.as_entire_buffer_binding());
/// let dispatch = operator.dispatch(&gpu, &logits, from, to)?;
///
/// let mut readback = Readback::new(&gpu, map.bytes(8))?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// dispatch.record(&mut encoder);
/// readback.record(&mut encoder, mask.as_entire_buffer_binding())?;
/// gpu.queue().submit([encoder.finish()]);
/// assert_eq!(readback.read_blocking(&gpu, <[u8]>::to_vec)?, [0, 3, 252, 255]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftMask {
    height: u32,
    width: u32,
    class: Option<u32>,
    activation: Activation,
    resize: Resize,
}

impl SoftMask {
    /// The operator for a mask of `height × width` pixels of the softmax probability of `class`.
    pub fn new(height: u32, width: u32, class: u32) -> Self {
        Self { height, width, class: Some(class), activation: Activation::Softmax, resize: Resize::HalfPixel }
    }

    /// The same of the class that is the best of a pixel: how sure the network is of its labels.
    pub fn of_best(height: u32, width: u32) -> Self {
        Self { class: None, ..Self::new(height, width, 0) }
    }

    /// With this activation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// With this convention for positions.
    pub fn resize(self, resize: Resize) -> Self {
        Self { resize, ..self }
    }

    pub(crate) fn geometry(&self) -> (u32, u32, Resize) {
        (self.height, self.width, self.resize)
    }

    pub(crate) fn kind(&self) -> (Activation, Option<u32>) {
        (self.activation, self.class)
    }

    /// The geometry of the mask on the GPU, `map.bytes(8)` bytes; its rows start at multiples of four pixels.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a size of zero, [`Error::Limit`] for one that 32 bits do not count.
    pub fn map(&self, logits: &Logits) -> Result<Map, Error> {
        Map::with_padded_rows(logits.images(), self.height, self.width)
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `mask`, a buffer of bytes with
    /// the geometry of [`map`](Self::map), four pixels to a 32-bit word.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`] for
    /// buffers that do not fit; [`Error::Class`] for a class that is not there; [`Error::NoActivation`] for
    /// [`Activation::None`]; [`Error::Empty`] for a size of zero; [`Error::Limit`] for sizes that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        mask: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        self.dispatch_into(gpu, logits, input, (mask, &self.map(logits)?))
    }

    fn dispatch_into(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        (mask, map): (BufferBinding<'_>, &Map),
    ) -> Result<Dispatch, Error> {
        if let Some(class) = self.class.filter(|&class| class >= logits.classes()) {
            return Err(Error::Class { class, classes: logits.classes() });
        }
        if self.activation == Activation::None {
            return Err(Error::NoActivation { what: "soft mask" });
        }
        let geometry = Geometry::new(self.resize, logits, self.height, self.width)?;
        let specialisation = specialisation(logits.element_type(), self.activation, RESIZE_TAPS);
        let groups_of =
            |part: &Rows| MapPart::rows(map, part.band.image..part.band.image + part.band.images, part.row, part.rows);
        let bytes = |part: &Rows| Ok(groups_of(part).len(8));
        Kernels::dispatch(gpu, &geometry, logits, input, (bytes, MAP_CHUNK_BYTES), |dispatch, part, params, input| {
            let groups = groups_of(part);
            let params = Params {
                map_groups: map.image_stride() / 4,
                map_offset: groups.offset(),
                out_row_stride: map.row_stride() / 4,
                chosen_class: self.class.unwrap_or(u32::MAX),
                ..params
            };
            // The sigmoid of one class asks for no other.
            let params = match (self.activation, self.class) {
                (Activation::Sigmoid, Some(class)) => {
                    let offset = params.offset + class * params.plane_stride;
                    Params { classes: 1, chosen_class: 0, offset, ..params }
                }
                _ => params,
            };
            let mask = Bound::part(gpu, binding::MASK, mask.clone(), map.bytes(8), groups.bytes(8))?;
            let images = input.1.images();
            KERNELS.push(gpu, dispatch, (&geometry, params), specialisation, &[input.0, mask], images)
        })
    }

    /// The same into a texture, whose size the mask gets: `R8Unorm` with the usage `COPY_DST`, to be sampled by whoever
    /// draws.
    ///
    /// Core WebGPU cannot store to such a texture, so the mask goes to a buffer of the dispatch's own, with rows of a multiple of
    /// 256 bytes, and is copied from there.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch); [`Error::TextureUsage`], [`Error::TextureFormat`], [`Error::TextureSize`] for a
    /// texture that does not fit; [`Error::Limit`] for more than one image.
    pub fn dispatch_to_texture(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        mask: &Texture,
    ) -> Result<TextureDispatch, Error> {
        let what = "mask";
        let wanted: (&[_], _) = (&[TextureFormat::R8Unorm], TextureUsages::COPY_DST);
        check_texture(what, mask, wanted, [self.width, self.height])?;
        if logits.images() > 1 {
            return Err(Error::Limit { what: "images of a mask", needed: logits.images().into(), limit: 1 });
        }
        let map = self.map(logits)?.with_row_multiple(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT)?;
        let buffer = host::create_buffer(gpu, what, map.bytes(8), BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
        let dispatch = self.dispatch_into(gpu, logits, input, (buffer.as_entire_buffer_binding(), &map))?;
        let dispatch = TextureDispatch { dispatch, buffer, bytes_per_row: map.row_stride(), texture: mask.clone() };
        check_copy(gpu, "copy of a mask", |encoder| dispatch.record_copy(encoder))?;
        Ok(dispatch)
    }
}

/// A [`Dispatch`] whose result goes to a texture that no kernel can store to: it is copied there.
///
/// ```
/// # fn frame(mask: &seghead::TextureDispatch, encoder: &mut seghead::wgpu::CommandEncoder) {
/// mask.record(encoder); // every frame; then draw with the texture
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dispatch does nothing before it is recorded and submitted"]
pub struct TextureDispatch {
    dispatch: Dispatch,
    buffer: wgpu::Buffer,
    bytes_per_row: u32,
    texture: Texture,
}

impl TextureDispatch {
    /// Records the work into a compute pass of its own, and the copy. Nothing is submitted.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        self.dispatch.record(encoder);
        self.record_copy(encoder);
    }

    /// The kernels that run when this is recorded, as [`Dispatch::kernels`] has them.
    pub fn kernels(&self) -> Vec<crate::SpecialisedKernel> {
        self.dispatch.kernels()
    }

    fn record_copy(&self, encoder: &mut wgpu::CommandEncoder) {
        let layout =
            wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(self.bytes_per_row), rows_per_image: None };
        encoder.copy_buffer_to_texture(
            wgpu::TexelCopyBufferInfo { buffer: &self.buffer, layout },
            self.texture.as_image_copy(),
            wgpu::Extent3d { width: self.texture.width(), height: self.texture.height(), depth_or_array_layers: 1 },
        );
    }
}
