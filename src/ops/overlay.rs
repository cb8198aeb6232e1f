use wgpu::{BufferBinding, Texture};

use crate::dispatch::{Bound, constants, scratch};
use crate::kernel::{Binding, Kernel, Params, Scores, Specialisation, binding};
use crate::ops::resize::{Geometry, Resize};
use crate::ops::upsample::{Kernels, RESIZE_TAPS, UPSCALE_TAPS, any_classes, resize, upscale};
use crate::{Activation, Blend, Dispatch, ElementType, Error, Gpu, Logits, Palette};

const SOURCE: &str = concat!(
    include_str!("../../shaders/upsample.wgsl"),
    include_str!("../../shaders/overlay_paint.wgsl"),
    include_str!("../../shaders/overlay.wgsl")
);
const BINDINGS: &[Binding] = &[binding::LOGITS, binding::COLOURS, binding::PHOTO, binding::OVERLAY];

pub(crate) static UPSCALE: Kernel = upscale("overlay upscale", SOURCE, BINDINGS, upscales);
pub(crate) static RESIZE: Kernel = resize("overlay resize", SOURCE, BINDINGS, resizes);

const CLASSES_SOURCE: &str =
    concat!(include_str!("../../shaders/upsample.wgsl"), include_str!("../../shaders/overlay_classes.wgsl"));

const CLASSES_BINDINGS: &[Binding] = &[binding::LOGITS, binding::CLASSES_OUT];

/// The first of two steps: outlines ask for the classes around a pixel, and what only some overlays do, such as mixing in
/// linear light, is compiled into the second step alone.
pub(crate) static CLASSES_UPSCALE: Kernel =
    upscale("overlay classes upscale", CLASSES_SOURCE, CLASSES_BINDINGS, upscales);
pub(crate) static CLASSES_RESIZE: Kernel = resize("overlay classes resize", CLASSES_SOURCE, CLASSES_BINDINGS, resizes);

/// The second step.
pub(crate) static PAINT: Kernel = Kernel {
    name: "overlay paint",
    source: concat!(
        include_str!("../../shaders/overlay_paint.wgsl"),
        include_str!("../../shaders/overlay_two_steps.wgsl")
    ),
    entry: "paint_all",
    class_walks: 1,
    bindings: &[binding::CLASSES_IN, binding::COLOURS, binding::PHOTO, binding::OVERLAY],
    specialisations: |_| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(light, photo)| painted(light, photo))
            .to_vec()
    },
};

const fn painted(linear_light: bool, decoded_photo: bool) -> Specialisation {
    Specialisation { linear_light, decoded_photo, ..any_classes(ElementType::F32) }
}

const ONE_STEP: Kernels = Kernels { upscale: &UPSCALE, wide: None, resize: &RESIZE };
const CLASSES: Kernels = Kernels { upscale: &CLASSES_UPSCALE, wide: None, resize: &CLASSES_RESIZE };

fn upscales(_classes: u32) -> Vec<Specialisation> {
    UPSCALE_TAPS.into_iter().flat_map(specialisations).collect()
}

fn resizes(_classes: u32) -> Vec<Specialisation> {
    specialisations(RESIZE_TAPS)
}

fn specialisations(taps: u32) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for element_type in [ElementType::F32, ElementType::F16] {
        for confidence in [false, true] {
            let scores = Scores { confidence, ..Scores::NONE };
            all.push(Specialisation { scores, taps, ..any_classes(element_type) });
        }
    }
    all
}

/// The classes of low-resolution logits in colour over a photo, in one pass: bilinear upsampling, score, argmax, palette
/// and blending, from a buffer of logits and a texture to a texture.
///
/// The class of a pixel is that of [`Segment`](crate::Segment); its colour comes from the palette and is mixed with the
/// photo ([`Blend`]). Colours are never interpolated between classes. All that is written are integers of 0..=255, with
/// [`Blend::Straight`] the same on every adapter where the labels are, with [`Blend::Linear`] within 1: the twin is
/// [`reference::overlay`](crate::reference::overlay).
///
/// A dispatch is for one set of options and textures. Where an option changes, such as the visibility of a class, make
/// another: that is a bind group and two small buffers, for the pipelines are there.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Overlay, Palette, wgpu};
/// use wgpu::{TextureFormat, TextureUsages};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(21, 32, 32)?;
/// let input = gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size: logits.bytes(),
///     usage: wgpu::BufferUsages::STORAGE,
///     mapped_at_creation: false,
/// });
/// let texture = |usage| gpu.device().create_texture(&wgpu::TextureDescriptor {
///     label: None,
///     size: wgpu::Extent3d { width: 128, height: 96, depth_or_array_layers: 1 },
///     mip_level_count: 1,
///     sample_count: 1,
///     dimension: wgpu::TextureDimension::D2,
///     format: TextureFormat::Rgba8Unorm,
///     usage,
///     view_formats: &[],
/// });
/// let photo = texture(TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST);
/// let overlay = texture(TextureUsages::STORAGE_BINDING | TextureUsages::TEXTURE_BINDING);
/// let dispatch = Overlay::new(Palette::voc()).alpha(0.6).hidden([0]).dispatch(
///     &gpu,
///     &logits,
///     input.as_entire_buffer_binding(),
///     Some(&photo),
///     &overlay,
/// )?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// dispatch.record(&mut encoder); // every frame; then draw `overlay`
/// gpu.queue().submit([encoder.finish()]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    palette: Palette,
    resize: Resize,
    activation: Activation,
    alpha: f32,
    hidden: Vec<u32>,
    threshold: Option<f32>,
    uncertain_colour: [u8; 3],
    outline: u32,
    blend: Blend,
}

/// Outlines are at most this wide on either side of a border.
const WIDEST_OUTLINE: u32 = 16;

impl Overlay {
    /// The operator with these colours, half of every pixel colour and half photo, all classes visible, no threshold and no
    /// outlines.
    pub fn new(palette: Palette) -> Self {
        Self {
            palette,
            resize: Resize::HalfPixel,
            activation: Activation::Softmax,
            alpha: 0.5,
            hidden: Vec::new(),
            threshold: None,
            uncertain_colour: Palette::UNCERTAIN,
            outline: 0,
            blend: Blend::Straight,
        }
    }

    /// With this convention for positions.
    pub fn resize(self, resize: Resize) -> Self {
        Self { resize, ..self }
    }

    /// How much of a pixel is colour, in 0..=1, in steps of 1 / 255: 0 leaves the photo as it is, 1 covers it.
    pub fn alpha(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }

    /// Leaves the photo as it is where a pixel has one of these classes, such as the background. Others have no effect.
    pub fn hidden(self, classes: impl IntoIterator<Item = u32>) -> Self {
        Self { hidden: classes.into_iter().collect(), ..self }
    }

    /// Shows pixels of visible classes whose score is below this, in 0..=1, or NaN, in the
    /// [uncertain colour](Self::uncertain_colour); `None` shows every class in its own.
    pub fn threshold(self, threshold: impl Into<Option<f32>>) -> Self {
        Self { threshold: threshold.into(), ..self }
    }

    /// What the threshold is held against: the confidence, that is the softmax probability of the pixel's class (the
    /// default), or with [`Activation::Sigmoid`] the sigmoid of its logit. [`Activation::None`] leaves the threshold out.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The colour of pixels below the threshold: [`Palette::UNCERTAIN`] unless said otherwise.
    pub fn uncertain_colour(self, colour: [u8; 3]) -> Self {
        Self { uncertain_colour: colour, ..self }
    }

    /// Outlines of the classes, at most 16 pixels on either side of a border, 0 for none: a pixel of a visible class with
    /// a pixel of another class at most so many rows and columns away has the colour of its class, opaque, sure of it or
    /// not.
    ///
    /// With outlines there are two steps, and a buffer of four bytes a pixel that belongs to the dispatch.
    pub fn outline(self, width: u32) -> Self {
        Self { outline: width, ..self }
    }

    /// How colours and photo are mixed. In linear light there are two steps, as with [outlines](Self::outline), and as there
    /// are over a photo with a format that ends in `Srgb`.
    pub fn blend(self, blend: Blend) -> Self {
        Self { blend, ..self }
    }

    /// Makes the work ready to be recorded: reads `input`, one image shaped like `logits`, and `photo`, and writes
    /// `overlay`, whose size is that of the result. Of a batch, bind the part of one image.
    ///
    /// `overlay` is a texture of `Rgba8Unorm` with the usage `STORAGE_BINDING`. It holds sRGB values: whoever draws it onto
    /// an sRGB target decodes them, in a shader as `examples/overlay_app` does, or by a view of the format
    /// `Rgba8UnormSrgb` with the usage `TEXTURE_BINDING` alone (the format goes into the `view_formats` of the texture,
    /// which OpenGL does not have). Its alpha is that of the photo. Of either texture the first layer and mip level is
    /// taken. `photo` has the same size, the usage `TEXTURE_BINDING`, and a format
    /// of `Rgba8Unorm`, `Bgra8Unorm`, whose values are taken for sRGB, or one of these with `Srgb`. Without a photo the result is
    /// the colour of the class with its alpha, 0 where it is hidden, not premultiplied, to be blended by whoever draws it.
    ///
    /// # Errors
    ///
    /// [`Error::Palette`] for fewer colours than classes; [`Error::Value`] for an alpha or threshold outside 0..=1;
    /// [`Error::TextureUsage`], [`Error::TextureFormat`], [`Error::TextureSize`], [`Error::Aliased`] for textures that do
    /// not fit; [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`] for a buffer that does not;
    /// [`Error::OtherDevice`]; [`Error::Limit`] for more than one image, too wide an outline, and sizes that this device
    /// cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        photo: Option<&Texture>,
        overlay: &Texture,
    ) -> Result<Dispatch, Error> {
        self.check(logits)?;
        let (width, height) = (overlay.width(), overlay.height());
        let to = Bound::texture(gpu, binding::OVERLAY, overlay, [width, height])?;
        let from = match photo {
            Some(photo) => Bound::texture(gpu, binding::PHOTO, photo, [width, height])?,
            None => Bound::texture(gpu, binding::PHOTO, gpu.placeholder_photo(), [1, 1])?,
        };
        from.check_apart(&to)?;
        let geometry = Geometry::new(self.resize, logits, height, width)?;
        let colours = constants(gpu, "colours", bytemuck::cast_slice(&self.table(logits.classes())))?;
        let colours = Bound::whole(gpu, binding::COLOURS, &colours)?;
        let styled = |params: Params| Params {
            threshold: self.applied_threshold().unwrap_or(-1.0),
            outline: self.outline,
            has_photo: photo.is_some().into(),
            ..params
        };
        let confidence = self.applied_threshold().is_some() && self.activation == Activation::Softmax;
        let scores = Scores { confidence, ..Scores::NONE };
        let specialisation = Specialisation { scores, ..any_classes(logits.element_type()) };

        let linear_light = self.blend == Blend::Linear && photo.is_some();
        let decoded_photo = photo.is_some_and(|photo| photo.format().is_srgb());
        if self.outline == 0 && !linear_light && !decoded_photo {
            return Kernels::dispatch(gpu, &geometry, logits, input, (|_| Ok(0), 0), |dispatch, _, params, input| {
                let resources = [input.0, colours.clone(), from.clone(), to.clone()];
                ONE_STEP.push(gpu, dispatch, (&geometry, styled(params)), specialisation, &resources, 1)
            });
        }
        let groups = u64::from(height) * u64::from(width.div_ceil(4));
        let classes = scratch(gpu, "classes of the overlay", groups * 16)?;
        let written = Bound::whole(gpu, binding::CLASSES_OUT, &classes)?;
        let mut dispatch =
            Kernels::dispatch(gpu, &geometry, logits, input, (|_| Ok(0), 0), |dispatch, _, params, input| {
                let resources = [input.0, written.clone()];
                CLASSES.push(gpu, dispatch, (&geometry, styled(params)), specialisation, &resources, 1)
            })?;
        let read = Bound::whole(gpu, binding::CLASSES_IN, &classes)?;
        let params = Params { out_height: height, out_width: width, ..styled(Params::new(logits)) };
        let params = params.with_rows((height, width));
        let key = (&PAINT, painted(linear_light, decoded_photo));
        dispatch.push(gpu, key, params, &[read, colours, from, to], (params.groups, 1))?;
        Ok(dispatch)
    }

    fn check(&self, logits: &Logits) -> Result<(), Error> {
        let (classes, colours) = (logits.classes(), self.palette.len());
        if colours < classes as usize {
            return Err(Error::Palette { classes, colours });
        }
        for (what, value) in [("alpha", Some(self.alpha)), ("threshold", self.threshold)] {
            if let Some(found) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(Error::Value { what, expected: "a number in 0..=1", found });
            }
        }
        let limits =
            [("images of an overlay", logits.images(), 1), ("width of an outline", self.outline, WIDEST_OUTLINE)];
        for (what, needed, limit) in limits {
            if needed > limit {
                return Err(Error::Limit { what, needed: needed.into(), limit: limit.into() });
            }
        }
        Ok(())
    }

    fn applied_threshold(&self) -> Option<f32> {
        self.threshold.filter(|_| self.activation != Activation::None)
    }

    /// What `shaders/overlay_paint.wgsl` looks colours up in: of pixels that are sure of their class, and of those that are
    /// not.
    fn table(&self, classes: u32) -> Vec<[u32; 2]> {
        let alpha = u32::from(self.alpha_level());
        let visible = |class: u32| u32::from(!self.hidden.contains(&class)) << 8;
        let entry = |[r, g, b]: [u8; 3], class| [u32::from_le_bytes([r, g, b, 0]), alpha | visible(class)];
        let sure = self.palette.colours().iter().zip(0..classes).map(|(&colour, class)| entry(colour, class));
        sure.chain((0..classes).map(|class| entry(self.uncertain_colour, class))).collect()
    }

    fn alpha_level(&self) -> u8 {
        (self.alpha * 255.0).round() as u8
    }

    /// The pixel of a class, sure of it or not, on an outline or not, over a pixel of the photo: what
    /// `shaders/overlay_paint.wgsl` computes.
    pub(crate) fn pixel(&self, photo: Option<[u8; 4]>, class: u32, score: f64, outline: bool) -> [u8; 4] {
        let uncertain =
            self.applied_threshold().is_some_and(|threshold| score < f64::from(threshold) || score.is_nan());
        let [r, g, b] = match self.palette.colours().get(class as usize) {
            Some(&colour) if outline || !uncertain => colour,
            _ => self.uncertain_colour,
        };
        let alpha = match (self.hidden.contains(&class), outline) {
            (true, _) => 0,
            (false, true) => 255,
            (false, false) => self.alpha_level(),
        };
        match photo {
            None => [r, g, b, alpha],
            Some([pr, pg, pb, pa]) => {
                let [r, g, b] = self.blend.mix([pr, pg, pb], [r, g, b], alpha);
                [r, g, b, pa]
            }
        }
    }

    pub(crate) fn options(&self) -> (Resize, Activation, u32) {
        (self.resize, self.activation, self.outline)
    }
}
