//! What the page is about: logits, the picture that they are shown over, and what is made of them on the GPU.

use js_sys::Object;
use seghead::wgpu::{self, BufferUsages, TextureUsages};
use seghead::{
    Activation, Axis, CrossEntropy, Error, Gpu, Interpolate, LabelType, Logits, LossRecord, Map, Outputs, Overlay,
    Palette, Resize, Segment, SoftMask, Softmax, Targets,
};
use wgpu::util::{DeviceExt, TextureDataOrder};

use crate::painter::{Painter, Style};
use crate::pixel::Place;

/// Pixels that no loss counts.
const VOID: u8 = 255;

/// What becomes of the logits, in the order of the page's list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chosen {
    Logits,
    Sigmoid,
    /// Over the classes, as it should be.
    Softmax,
    /// Over the pixels of a column or a row.
    Along(Axis),
    /// Every element by itself.
    Single,
}

impl Chosen {
    pub const ALL: [Self; 6] =
        [Self::Logits, Self::Sigmoid, Self::Softmax, Self::Along(Axis::Height), Self::Along(Axis::Width), Self::Single];
}

/// The state of the page's controls.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub chosen: Chosen,
    pub class: u32,
    pub threshold: f32,
    pub alpha: f32,
    pub resize: Resize,
    pub temperature: f32,
}

pub struct Scene {
    gpu: Gpu,
    /// C × H × W as the network has them.
    shape: Logits,
    values: Vec<f32>,
    /// The smallest and the largest finite logit of each class.
    ranges: Vec<[f32; 2]>,
    palette: Palette,
    /// Of the picture, one a pixel.
    labels: Option<(Vec<u8>, wgpu::Buffer)>,
    photo: Option<wgpu::Texture>,
    /// The logits at the size of the picture.
    full: Logits,
    overlay: wgpu::Texture,
    map: wgpu::Buffer,
    logits: wgpu::Buffer,
    /// Made where they are needed first: they are as large as the picture times the classes.
    divided: Option<Kept<f32>>,
    upsampled: Option<Kept<(f32, Resize)>>,
    activated: Option<wgpu::Buffer>,
}

/// A buffer, and what it was made with.
struct Kept<T> {
    buffer: wgpu::Buffer,
    with: Option<T>,
}

impl Scene {
    /// `photo` and `labels` have `height × width` pixels: RGBA, and one byte each.
    pub fn new(
        gpu: &Gpu,
        shape: Logits,
        values: Vec<f32>,
        (photo, labels): (Option<&[u8]>, Option<Vec<u8>>),
        [height, width]: [u32; 2],
        palette: Palette,
    ) -> Result<Self, Error> {
        let pixels = u64::from(height) * u64::from(width);
        let given = [("photo", photo.map(<[u8]>::len), 4 * pixels), ("labels", labels.as_ref().map(Vec::len), pixels)];
        for (what, found, expected) in given {
            if let Some(found) = found.map(|found| found as u64).filter(|&found| found != expected) {
                return Err(Error::Length { what, expected, found });
            }
        }
        let full = Interpolate::new(height, width).output(&shape)?;
        let device = gpu.device();
        let texture = |usage| wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba8Unorm,
            usage,
            view_formats: &[],
        };
        let photo = photo.map(|photo| {
            let descriptor = texture(TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST);
            device.create_texture_with_data(gpu.queue(), &descriptor, TextureDataOrder::LayerMajor, photo)
        });
        let labels = labels.map(|labels| {
            let mut bytes = labels.clone();
            bytes.resize(full.map().bytes(8) as usize, VOID);
            let descriptor = wgpu::util::BufferInitDescriptor {
                label: Some("labels"),
                contents: &bytes,
                usage: BufferUsages::STORAGE,
            };
            (labels, device.create_buffer_init(&descriptor))
        });
        let range = |plane: &[f32]| {
            let finite = plane.iter().copied().filter(|x| x.is_finite());
            finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
        };
        let logits = buffer(gpu, "logits", shape.bytes())?;
        gpu.queue().write_buffer(&logits, 0, bytemuck::cast_slice(&values));
        Ok(Self {
            gpu: gpu.clone(),
            shape,
            ranges: values.chunks(shape.pixels() as usize).map(range).collect(),
            values,
            palette,
            labels,
            photo,
            full,
            overlay: device.create_texture(&texture(TextureUsages::STORAGE_BINDING | TextureUsages::TEXTURE_BINDING)),
            // In bytes the rows of a map are padded, to less than an f32 a pixel.
            map: buffer(gpu, "map", 4 * u64::from(height) * u64::from(width.next_multiple_of(4)))?,
            logits,
            divided: None,
            upsampled: None,
            activated: None,
        })
    }

    pub fn classes(&self) -> u32 {
        self.shape.classes()
    }

    pub fn palette(&self) -> &Palette {
        &self.palette
    }

    /// The smallest and the largest finite logit of a class.
    pub fn range(&self, class: u32) -> [f32; 2] {
        self.ranges.get(class as usize).copied().unwrap_or_default()
    }

    /// The colour of a class where it is bright enough to be told from the shades of grey in a map.
    pub fn tint(&self, class: u32) -> [u8; 3] {
        self.palette.colour(class).filter(|[r, g, b]| r.max(g).max(b) >= &96).unwrap_or([90, 170, 200])
    }

    /// What the logits take at the size of the picture.
    pub fn full_bytes(&self) -> u64 {
        self.full.bytes()
    }

    /// Height and width of the picture.
    pub fn size(&self) -> [u32; 2] {
        [self.full.height(), self.full.width()]
    }

    pub fn overlay(&self) -> &wgpu::Texture {
        &self.overlay
    }

    /// Records what makes the overlay and the map of the class; returns the buffer that has the map, and how to draw it.
    pub fn record(
        &mut self,
        painter: &Painter,
        encoder: &mut wgpu::CommandEncoder,
        settings: &Settings,
    ) -> Result<(wgpu::Buffer, Style), Error> {
        let logits = self.divided(painter, encoder, settings.temperature)?;
        let [height, width] = self.size();
        let [r, g, b] = self.tint(settings.class);
        let style = Style {
            low: 0.0,
            high: 1.0,
            threshold: settings.threshold,
            bytes: 0,
            offset: 0,
            row_stride: width,
            padding: [0; 2],
            tint: [r, g, b, 255].map(|x| f32::from(x) / 255.0),
        };
        let (input, map) = (logits.as_entire_buffer_binding(), self.map.as_entire_buffer_binding());
        match settings.chosen {
            Chosen::Logits => {
                self.paint(encoder, (&self.shape, &logits), settings, Activation::None)?;
                // One class is a rectangle of a tall image.
                let (class_height, class_width) = (self.shape.height(), self.shape.width());
                let tall = Logits::chw(1, self.shape.classes() * class_height, class_width)?;
                let class = tall.crop(settings.class * class_height, 0, class_height, class_width)?;
                let interpolate = Interpolate::new(height, width).resize(settings.resize);
                interpolate.dispatch(&self.gpu, &class, input, map)?.record(encoder);
                let [low, high] = self.range(settings.class).map(|x| x / settings.temperature);
                // A sigmoid reaches t where its logit reaches this.
                let threshold = (settings.threshold / (1.0 - settings.threshold)).ln();
                Ok((self.map.clone(), Style { low, high, threshold, ..style }))
            }
            Chosen::Sigmoid | Chosen::Softmax => {
                let sigmoid = settings.chosen == Chosen::Sigmoid;
                let activation = if sigmoid { Activation::Sigmoid } else { Activation::Softmax };
                self.paint(encoder, (&self.shape, &logits), settings, activation)?;
                let mask = SoftMask::new(height, width, settings.class).activation(activation).resize(settings.resize);
                mask.dispatch(&self.gpu, &self.shape, input, map)?.record(encoder);
                let row_stride = mask.map(&self.shape)?.row_stride();
                Ok((self.map.clone(), Style { bytes: 1, row_stride, ..style }))
            }
            Chosen::Along(_) | Chosen::Single => {
                let upsampled = self.upsampled(encoder, &logits, settings)?;
                let activated = self.activated()?;
                let (shape, axis) = match settings.chosen {
                    Chosen::Along(axis) => (self.full, axis),
                    // Every class an image of its own, which has that one class.
                    _ => (Logits::nchw(self.full.classes(), 1, height, width)?, Axis::Class),
                };
                let (from, to) = (upsampled.as_entire_buffer_binding(), activated.as_entire_buffer_binding());
                Softmax::new().axis(axis).dispatch(&self.gpu, &shape, from, to)?.record(encoder);
                self.paint(encoder, (&self.full, &activated), settings, Activation::None)?;
                // Along an axis of n the mean is 1 / n.
                let high = match axis {
                    Axis::Class => 1.0,
                    Axis::Height => 4.0 / height as f32,
                    Axis::Width => 4.0 / width as f32,
                };
                Ok((activated, Style { high, offset: settings.class * self.full.plane_stride(), ..style }))
            }
        }
    }

    /// Records the loss of the logits, and that of their softmax taken for logits, to the two records; none without
    /// labels.
    pub fn record_losses(
        &mut self,
        painter: &Painter,
        encoder: &mut wgpu::CommandEncoder,
        settings: &Settings,
        records: [&wgpu::Buffer; 2],
    ) -> Result<bool, Error> {
        let Some((_, labels)) = self.labels.clone() else { return Ok(false) };
        let logits = self.divided(painter, encoder, settings.temperature)?;
        let upsampled = self.upsampled(encoder, &logits, settings)?;
        let activated = self.activated()?;
        let (from, to) = (upsampled.as_entire_buffer_binding(), activated.as_entire_buffer_binding());
        Softmax::new().dispatch(&self.gpu, &self.full, from, to)?.record(encoder);
        let loss = CrossEntropy::new().ignore_index(Some(VOID.into()));
        for (input, record) in [upsampled, activated].iter().zip(records) {
            let targets = Targets::new(labels.as_entire_buffer_binding(), LabelType::U8);
            let (input, record) = (input.as_entire_buffer_binding(), record.as_entire_buffer_binding());
            loss.dispatch(&self.gpu, &self.full, input, targets, record, None)?.record(encoder);
        }
        Ok(true)
    }

    /// Records the label map, for up to 256 classes, to a buffer that it returns.
    pub fn record_labels(
        &mut self,
        painter: &Painter,
        encoder: &mut wgpu::CommandEncoder,
        settings: &Settings,
    ) -> Result<(wgpu::Buffer, Map), Error> {
        let logits = self.divided(painter, encoder, settings.temperature)?;
        let [height, width] = self.size();
        let segment = Segment::new(height, width).resize(settings.resize).label_type(LabelType::U8);
        let outputs = Outputs::labels(self.map.as_entire_buffer_binding());
        segment.dispatch(&self.gpu, &self.shape, logits.as_entire_buffer_binding(), outputs)?.record(encoder);
        Ok((self.map.clone(), segment.map(&self.shape)?))
    }

    /// What there is to say of a pixel of the picture.
    pub fn pixel(&self, [y, x]: [u32; 2], settings: &Settings) -> Result<Object, Error> {
        let (resize, temperature) = (settings.resize, settings.temperature);
        let [height, width] = self.size();
        let (y, x) = (y.min(height - 1), x.min(width - 1));
        let label = self.labels.as_ref().map(|(labels, _)| labels[(y * width + x) as usize]);
        Place { x, y, size: self.size(), resize, temperature }.describe(&self.shape, &self.values, label)
    }

    /// Forgets what was made of the logits, after something that was recorded has not been submitted.
    pub fn forget(&mut self) {
        (self.divided, self.upsampled) = (None, None);
    }

    fn paint(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        (shape, values): (&Logits, &wgpu::Buffer),
        settings: &Settings,
        activation: Activation,
    ) -> Result<(), Error> {
        // Without a photo there is nothing for colours to be mixed with.
        let alpha = if self.photo.is_some() { settings.alpha } else { 1.0 };
        let overlay = Overlay::new(self.palette.clone())
            .resize(settings.resize)
            .activation(activation)
            .threshold(settings.threshold)
            .alpha(alpha);
        let input = values.as_entire_buffer_binding();
        overlay.dispatch(&self.gpu, shape, input, self.photo.as_ref(), &self.overlay)?.record(encoder);
        Ok(())
    }

    fn divided(
        &mut self,
        painter: &Painter,
        encoder: &mut wgpu::CommandEncoder,
        temperature: f32,
    ) -> Result<wgpu::Buffer, Error> {
        if temperature == 1.0 {
            return Ok(self.logits.clone());
        }
        let kept = kept(&mut self.divided, || buffer(&self.gpu, "divided logits", self.shape.bytes()))?;
        if kept.with != Some(temperature) {
            painter.divide(&self.gpu, encoder, [&self.logits, &kept.buffer], temperature);
            kept.with = Some(temperature);
        }
        Ok(kept.buffer.clone())
    }

    /// `logits` at the size of the picture.
    fn upsampled(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        logits: &wgpu::Buffer,
        settings: &Settings,
    ) -> Result<wgpu::Buffer, Error> {
        let kept = kept(&mut self.upsampled, || buffer(&self.gpu, "upsampled logits", self.full.bytes()))?;
        let with = Some((settings.temperature, settings.resize));
        if kept.with != with {
            let interpolate = Interpolate::new(self.full.height(), self.full.width()).resize(settings.resize);
            let (from, to) = (logits.as_entire_buffer_binding(), kept.buffer.as_entire_buffer_binding());
            interpolate.dispatch(&self.gpu, &self.shape, from, to)?.record(encoder);
            kept.with = with;
        }
        Ok(kept.buffer.clone())
    }

    fn activated(&mut self) -> Result<wgpu::Buffer, Error> {
        match &self.activated {
            Some(activated) => Ok(activated.clone()),
            None => {
                let activated = buffer(&self.gpu, "activated logits", self.full.bytes())?;
                Ok(self.activated.insert(activated).clone())
            }
        }
    }
}

fn kept<T>(
    slot: &mut Option<Kept<T>>,
    make: impl FnOnce() -> Result<wgpu::Buffer, Error>,
) -> Result<&mut Kept<T>, Error> {
    match slot {
        Some(kept) => Ok(kept),
        None => Ok(slot.insert(Kept { buffer: make()?, with: None })),
    }
}

/// A storage buffer, if the device has one that it can also bind.
pub fn buffer(gpu: &Gpu, what: &'static str, bytes: u64) -> Result<wgpu::Buffer, Error> {
    let limits = gpu.device().limits();
    let limit = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
    if bytes > limit {
        return Err(Error::Limit { what, needed: bytes, limit });
    }
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation: false };
    Ok(gpu.device().create_buffer(&descriptor))
}

/// Two records of losses.
pub fn records(gpu: &Gpu) -> Result<[wgpu::Buffer; 2], Error> {
    let record = || buffer(gpu, "loss record", size_of::<LossRecord>() as u64);
    Ok([record()?, record()?])
}
