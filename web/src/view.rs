//! What the page holds: the GPU, two canvases, and what is shown on them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_intrusive::channel::shared::oneshot_channel;
use js_sys::{Array, Promise};
use seghead::wgpu;
use seghead::{Gpu, Inspect, LossRecord, Palette, Readback, Resize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::HtmlCanvasElement;

use crate::objects::{finding, object};
use crate::painter::{Canvas, Painter};
use crate::scene::{Chosen, Scene, Settings, records};
use crate::tensor::Tensor;

/// Bytes of logits that are prepared for.
const SMALL: u64 = 64 << 20;

/// The page's picture: an overlay on one canvas, the map of a class on another.
#[wasm_bindgen]
pub struct View {
    gpu: Gpu,
    painter: Painter,
    overlay: Canvas,
    map: Canvas,
    scene: Option<Scene>,
    settings: Settings,
    /// What the device has said last of an error that nobody else has asked for.
    complaint: Arc<Mutex<Option<String>>>,
    /// Why the device is lost, once it is.
    lost: Arc<OnceLock<String>>,
}

#[wasm_bindgen]
impl View {
    /// Opens the browser's GPU for two canvases.
    pub async fn open(overlay: HtmlCanvasElement, map: HtmlCanvasElement) -> Result<View, JsError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        let complaint = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&complaint);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }));
        let lost = Arc::new(OnceLock::new());
        let heard = Arc::clone(&lost);
        device.set_device_lost_callback(move |_, message| {
            // It is lost once only.
            let _ = heard.set(message);
        });
        let gpu = Gpu::from_wgpu(device, queue);
        let canvas = |element| Canvas::new(&instance, &adapter, element);
        let (overlay, map) = (canvas(overlay)?, canvas(map)?);
        let painter = Painter::new(&gpu, overlay.format());
        let settings = Settings {
            chosen: Chosen::Softmax,
            class: 0,
            threshold: 0.5,
            alpha: 0.5,
            resize: Resize::HalfPixel,
            temperature: 1.0,
        };
        Ok(Self { gpu, painter, overlay, map, scene: None, settings, complaint, lost })
    }

    /// Whether the adapter computes on the CPU.
    #[wasm_bindgen(getter)]
    pub fn software(&self) -> bool {
        self.gpu.is_software()
    }

    /// What is conspicuous in a tensor: a promise of a list of findings.
    pub fn inspect(&self, tensor: &Tensor) -> Result<Promise, JsError> {
        self.check()?;
        let (gpu, elements) = (self.gpu.clone(), tensor.inner.clone());
        Ok(future_to_promise(async move {
            let found = Inspect::new().run(&gpu, &elements.shape, elements.input()).await.map_err(JsError::from)?;
            Ok(found.findings().iter().map(finding).collect::<Array>().into())
        }))
    }

    /// Shows a tensor in a picture of `height × width`: over a photo, RGBA, and with labels, a byte each, 255 for none.
    /// `palette` is the name of a built-in one, or the text of one. A promise for when all is on the GPU.
    pub fn show(
        &mut self,
        tensor: &Tensor,
        photo: Option<Box<[u8]>>,
        labels: Option<Box<[u8]>>,
        height: u32,
        width: u32,
        palette: &str,
    ) -> Result<Promise, JsError> {
        self.check()?;
        let palette = Palette::by_name(palette).map_or_else(|| Palette::parse(palette), Ok)?;
        let elements = &tensor.inner;
        let (classes, rows, columns) = (elements.shape.classes(), elements.shape.height(), elements.shape.width());
        let shape = seghead::Logits::chw(classes, rows, columns)?;
        let given = (photo.as_deref(), labels.map(Vec::from));
        let scene = Scene::new(&self.gpu, shape, elements.planes(), given, [height, width], palette)?;
        self.overlay.resize(&self.gpu, scene.size());
        self.map.resize(&self.gpu, scene.size());
        self.settings.class = self.settings.class.min(classes - 1);
        self.scene = Some(scene);
        Ok(self.done())
    }

    /// Takes the state of the controls: the activation and the convention of resizing by their places in the lists.
    pub fn set(
        &mut self,
        chosen: usize,
        class: u32,
        threshold: f32,
        alpha: f32,
        resize: usize,
        temperature: f32,
    ) -> Result<(), JsError> {
        let none = || JsError::new("no such choice");
        let chosen = *Chosen::ALL.get(chosen).ok_or_else(none)?;
        let conventions = [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric];
        let resize = *conventions.get(resize).ok_or_else(none)?;
        self.settings = Settings { chosen, class, threshold, alpha, resize, temperature };
        Ok(())
    }

    /// Computes and draws both canvases; a promise for when that is done. Nothing is read back.
    pub fn draw(&mut self) -> Result<Promise, JsError> {
        self.check()?;
        let (settings, painter) = (self.settings, &self.painter);
        let Some(scene) = &mut self.scene else { return Ok(self.done()) };
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let (map, style) = match scene.record(painter, &mut encoder, &settings) {
            Ok(drawn) => drawn,
            Err(error) => {
                scene.forget();
                return Err(error.into());
            }
        };
        let frames = [self.overlay.frame()?, self.map.frame()?];
        painter.draw_overlay(&self.gpu, &mut encoder, scene.overlay(), &frames[0]);
        painter.draw_map(&self.gpu, &mut encoder, (&map, style), &frames[1]);
        self.gpu.queue().submit([encoder.finish()]);
        for frame in frames {
            self.gpu.queue().present(frame);
        }
        Ok(self.done())
    }

    /// Compiles what the other choices need, so that none of them has to wait for it, unless the logits would be large at
    /// the size of the picture.
    pub fn prepare(&mut self) -> Result<(), JsError> {
        self.check()?;
        let Some(scene) = self.scene.as_mut().filter(|scene| scene.full_bytes() <= SMALL) else { return Ok(()) };
        // Never submitted.
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let all = Chosen::ALL.map(|chosen| Settings { chosen, temperature: 2.0, ..self.settings });
        let recorded =
            all.iter().try_for_each(|settings| scene.record(&self.painter, &mut encoder, settings).map(drop));
        scene.forget();
        Ok(recorded?)
    }

    /// The names of the classes, empty where they have none, and their colours.
    pub fn classes(&self) -> Array {
        let Some(scene) = &self.scene else { return Array::new() };
        let class = |class| {
            let palette = scene.palette();
            let name = palette.name(class).unwrap_or_default();
            let colour = css(palette.colour(class).unwrap_or_default());
            JsValue::from(object(&[("name", name.into()), ("colour", colour.into())]))
        };
        (0..scene.classes()).map(class).collect()
    }

    /// The smallest and the largest finite logit of a class.
    pub fn range(&self, class: u32) -> Vec<f32> {
        self.scene.as_ref().map(|scene| scene.range(class).to_vec()).unwrap_or_default()
    }

    /// The colour that a map has where the class reaches the threshold.
    pub fn tint(&self, class: u32) -> String {
        self.scene.as_ref().map(|scene| css(scene.tint(class))).unwrap_or_default()
    }

    /// Everything about a pixel of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Result<JsValue, JsError> {
        match &self.scene {
            Some(scene) => Ok(scene.pixel([y, x], &self.settings)?.into()),
            None => Ok(JsValue::UNDEFINED),
        }
    }

    /// The losses on the labels: a promise of one straight from the logits, and one after a second softmax; of undefined
    /// without labels.
    pub fn losses(&mut self) -> Result<Promise, JsError> {
        self.check()?;
        let Some(scene) = &mut self.scene else { return Ok(Promise::resolve(&JsValue::UNDEFINED)) };
        let records = records(&self.gpu)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        match scene.record_losses(&self.painter, &mut encoder, &self.settings, records.each_ref()) {
            Ok(true) => {}
            Ok(false) => return Ok(Promise::resolve(&JsValue::UNDEFINED)),
            Err(error) => {
                scene.forget();
                return Err(error.into());
            }
        }
        let bytes = size_of::<LossRecord>() as u64;
        let [mut straight, mut twice] = [Readback::new(&self.gpu, bytes)?, Readback::new(&self.gpu, bytes)?];
        straight.record(&mut encoder, records[0].as_entire_buffer_binding())?;
        twice.record(&mut encoder, records[1].as_entire_buffer_binding())?;
        self.gpu.queue().submit([encoder.finish()]);
        let classes = scene.classes();
        Ok(future_to_promise(async move {
            let record = |bytes: &[u8]| bytemuck::pod_read_unaligned::<LossRecord>(bytes);
            let straight = straight.read(record).await.map_err(JsError::from)?;
            let twice = twice.read(record).await.map_err(JsError::from)?;
            if straight.first_invalid != u32::MAX {
                let message = format!("pixel {}: its label is no class in 0..{classes}", straight.first_invalid);
                return Err(JsError::new(&message).into());
            }
            let losses = [("straight", straight.loss.into()), ("twice", twice.loss.into())];
            Ok(object(&[losses[0].clone(), losses[1].clone(), ("pixels", straight.valid.into())]).into())
        }))
    }

    /// A promise of the label map, a byte a pixel, read back.
    pub fn labels(&mut self) -> Result<Promise, JsError> {
        self.check()?;
        let Some(scene) = &mut self.scene else { return Ok(Promise::resolve(&JsValue::UNDEFINED)) };
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let (labels, map) = scene.record_labels(&self.painter, &mut encoder, &self.settings)?;
        let mut readback = Readback::new(&self.gpu, map.bytes(8))?;
        readback.record(&mut encoder, labels.as_entire_buffer_binding())?;
        self.gpu.queue().submit([encoder.finish()]);
        Ok(future_to_promise(async move {
            let labels = readback.read(|bytes| map.unpad(bytes)).await.map_err(JsError::from)?;
            Ok(js_sys::Uint8Array::from(labels.as_slice()).into())
        }))
    }

    /// A promise for when everything is done that was submitted; it fails where the device has complained.
    pub fn done(&self) -> Promise {
        let (sender, receiver) = oneshot_channel();
        self.gpu.queue().on_submitted_work_done(move || {
            // The promise may be gone.
            let _ = sender.send(());
        });
        let complaint = Arc::clone(&self.complaint);
        future_to_promise(async move {
            receiver.receive().await;
            match complaint.lock().unwrap_or_else(PoisonError::into_inner).take() {
                None => Ok(JsValue::UNDEFINED),
                Some(message) => Err(JsError::new(&message).into()),
            }
        })
    }
}

impl View {
    /// Refuses work for a device that is lost: not even a buffer can be made on it.
    fn check(&self) -> Result<(), JsError> {
        self.lost.get().map_or(Ok(()), |message| Err(JsError::new(message)))
    }
}

/// A colour as style sheets write it.
fn css([r, g, b]: [u8; 3]) -> String {
    format!("rgb({r} {g} {b})")
}
