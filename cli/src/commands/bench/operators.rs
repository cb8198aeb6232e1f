//! What is measured: every operator on logits of one shape.

use seghead::wgpu::{Buffer, BufferBinding, BufferDescriptor, BufferUsages};
use seghead::{
    Argmax, Axis, ConfusionMatrix, CrossEntropy, Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map,
    Outputs, Segment, Sigmoid, Softmax, Targets, TopK,
};

use crate::args::BenchOperator;

pub fn buffer(gpu: &Gpu, size: u64, usage: BufferUsages) -> Result<Buffer, Error> {
    let limit = gpu.device().limits().max_buffer_size;
    if size > limit {
        return Err(Error::Limit { what: "bytes of a buffer", needed: size, limit });
    }
    Ok(gpu.device().create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false }))
}

/// Logits and targets on the host and on the device. They depend on nothing but the shape; `benches/peers` has the same.
pub struct Tensors<'a> {
    gpu: &'a Gpu,
    pub logits: Logits,
    host: HostLogits,
    targets: Vec<u8>,
    device: Buffer,
    device_targets: Buffer,
    /// As large as the logits in f32, for what is written.
    output: Buffer,
}

enum HostLogits {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl HostLogits {
    fn input(&self) -> Input<'_> {
        match self {
            Self::F32(values) => values.into(),
            Self::F16(bits) => Input::f16(bits),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(bits) => bytemuck::cast_slice(bits),
        }
    }
}

impl<'a> Tensors<'a> {
    pub fn new(gpu: &'a Gpu, logits: Logits) -> Result<Self, Error> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let device = buffer(gpu, logits.bytes(), usage)?;
        let device_targets = buffer(gpu, logits.map().bytes(8), usage)?;
        let output = buffer(gpu, logits.output().bytes(), BufferUsages::STORAGE)?;
        let len = logits.images() * logits.classes() * logits.pixels();
        // The sum of three uniform numbers, spread like N(0, 3²).
        let value = |i: u32| {
            let [a, b, c] = [0, 1, 2].map(|k| uniform(i.wrapping_mul(3).wrapping_add(k)));
            6.0 * (a + b + c - 1.5)
        };
        let host = match logits.element_type() {
            ElementType::F16 => HostLogits::F16((0..len).map(|i| half::f16::from_f32(value(i)).to_bits()).collect()),
            ElementType::F32 => HostLogits::F32((0..len).map(value).collect()),
        };
        let classes = logits.classes().min(256);
        let targets = (0..logits.map().pixels()).map(|i| (hash(i as u32) % classes) as u8).collect();
        let tensors = Self { gpu, logits, host, targets, device, device_targets, output };
        for (buffer, bytes) in [(&tensors.device, tensors.host.bytes()), (&tensors.device_targets, &tensors.targets)] {
            // What is left of the buffer is padding.
            let whole = bytes.len() / 4 * 4;
            gpu.queue().write_buffer(buffer, 0, &bytes[..whole]);
        }
        gpu.wait()?;
        Ok(tensors)
    }

    /// The shape in words.
    pub fn shape(&self) -> String {
        let images = match self.logits.images() {
            1 => String::new(),
            images => format!("{images}x"),
        };
        format!("{images}{}x{}x{}", self.logits.classes(), self.logits.height(), self.logits.width())
    }

    fn input(&self) -> BufferBinding<'_> {
        self.device.as_entire_buffer_binding()
    }

    fn target(&self) -> Targets<'_> {
        Targets::new(self.device_targets.as_entire_buffer_binding(), LabelType::U8)
    }

    fn output(&self) -> BufferBinding<'_> {
        self.output.as_entire_buffer_binding()
    }

    fn storage(&self, bytes: u64) -> Result<Buffer, Error> {
        buffer(self.gpu, bytes, BufferUsages::STORAGE)
    }
}

fn hash(i: u32) -> u32 {
    let mut x = i.wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// A number in 0..1.
fn uniform(i: u32) -> f32 {
    (hash(i) >> 8) as f32 / (1 << 24) as f32
}

/// An operator that is ready to run.
pub struct Work<'a> {
    pub dispatch: Dispatch,
    /// What it reads and writes at the least.
    pub bytes: u64,
    /// The same from slices to results on the host.
    pub end_to_end: Option<Box<dyn FnMut() -> Result<(), Error> + 'a>>,
}

/// `operator`, with results `scale` times as high and wide as the logits where it resizes.
pub fn work<'a>(tensors: &'a Tensors<'_>, operator: BenchOperator, scale: f64) -> Result<Work<'a>, Error> {
    let Tensors { gpu, logits, host, targets, .. } = tensors;
    let map = logits.map();
    let labels = label_bits(logits);
    let (read, tensor) = (logits.bytes(), logits.output().bytes());
    let softmax = |softmax: Softmax| {
        let dispatch = softmax.dispatch(gpu, logits, tensors.input(), tensors.output())?;
        let run = move || softmax.run_blocking(gpu, logits, host.input()).map(drop);
        Ok(Work { dispatch, bytes: read + tensor, end_to_end: Some(Box::new(run)) })
    };
    let argmax = |argmax: Argmax, with_confidence: bool| {
        let (found, confidence) = tensors.maps(&map)?;
        let dispatch =
            argmax.dispatch(gpu, logits, tensors.input(), outputs(&found, with_confidence.then_some(&confidence)))?;
        let run = move || argmax.run_blocking(gpu, logits, host.input()).map(drop);
        let bytes = read + map.bytes(labels + if with_confidence { 32 } else { 0 });
        Ok(Work { dispatch, bytes, end_to_end: Some(Box::new(run)) })
    };
    let top_k = |top_k: TopK, with_probabilities: bool| {
        let map = top_k.map(logits)?;
        let (found, scores) = tensors.maps(&map)?;
        let scores = with_probabilities.then(|| scores.as_entire_buffer_binding());
        let dispatch = top_k.dispatch(gpu, logits, tensors.input(), found.as_entire_buffer_binding(), scores)?;
        let run = move || top_k.run_blocking(gpu, logits, host.input()).map(drop);
        let bytes = read + map.bytes(labels + if with_probabilities { 32 } else { 0 });
        Ok(Work { dispatch, bytes, end_to_end: Some(Box::new(run)) })
    };
    let loss = |loss: CrossEntropy, per_pixel: bool, gradient: bool| {
        let (record, losses) = (tensors.storage(16)?, tensors.storage(map.bytes(32))?);
        let (input, target, to) = (tensors.input(), tensors.target(), record.as_entire_buffer_binding());
        let dispatch = if gradient {
            loss.dispatch_gradient(gpu, logits, input, target, to, tensors.output())?
        } else {
            let losses = per_pixel.then(|| losses.as_entire_buffer_binding());
            loss.dispatch(gpu, logits, input, target, to, losses)?
        };
        let written = if gradient {
            tensor
        } else if per_pixel {
            map.bytes(32)
        } else {
            0
        };
        let run = move || loss.run_blocking(gpu, logits, host.input(), targets).map(drop);
        Ok(Work { dispatch, bytes: read + map.bytes(8) + written, end_to_end: Some(Box::new(run)) })
    };
    let segment = |with_confidence: bool| {
        let [height, width] = [logits.height(), logits.width()].map(|side| (f64::from(side) * scale) as u32);
        let segment = Segment::new(height, width).confidence(with_confidence);
        let map = segment.map(logits)?;
        let (found, confidence) = tensors.maps(&map)?;
        let dispatch =
            segment.dispatch(gpu, logits, tensors.input(), outputs(&found, with_confidence.then_some(&confidence)))?;
        let run = move || segment.run_blocking(gpu, logits, host.input()).map(drop);
        let bytes = read + map.bytes(labels + if with_confidence { 32 } else { 0 });
        Ok(Work { dispatch, bytes, end_to_end: Some(Box::new(run)) })
    };
    match operator {
        BenchOperator::Softmax => softmax(Softmax::new()),
        BenchOperator::LogSoftmax => softmax(Softmax::new().log(true)),
        BenchOperator::SoftmaxHeight => softmax(Softmax::new().axis(Axis::Height)),
        BenchOperator::SoftmaxWidth => softmax(Softmax::new().axis(Axis::Width)),
        BenchOperator::Sigmoid => {
            let dispatch = Sigmoid::new().dispatch(gpu, logits, tensors.input(), tensors.output())?;
            let run = move || Sigmoid::new().run_blocking(gpu, logits, host.input()).map(drop);
            Ok(Work { dispatch, bytes: read + tensor, end_to_end: Some(Box::new(run)) })
        }
        BenchOperator::Argmax => argmax(Argmax::new(), false),
        BenchOperator::ArgmaxConfidence => argmax(Argmax::new().confidence(true), true),
        BenchOperator::Top1 => top_k(TopK::new(1), false),
        BenchOperator::Top3 => top_k(TopK::new(3), false),
        BenchOperator::Top3Probabilities => top_k(TopK::new(3).probabilities(true), true),
        BenchOperator::CrossEntropy => loss(CrossEntropy::new(), false, false),
        BenchOperator::CrossEntropyPixels => loss(CrossEntropy::new().per_pixel(true), true, false),
        BenchOperator::CrossEntropyGradient => loss(CrossEntropy::new().gradient(true), false, true),
        BenchOperator::Segment => segment(false),
        BenchOperator::SegmentConfidence => segment(true),
        BenchOperator::ConfusionMatrix => {
            let operator = ConfusionMatrix::new(logits.classes());
            let record = tensors.storage(operator.bytes(&map))?;
            // Every pixel is right, as most are.
            let predictions = (tensors.device_targets.as_entire_buffer_binding(), LabelType::U8);
            let dispatch =
                operator.dispatch(gpu, &map, predictions, tensors.target(), record.as_entire_buffer_binding())?;
            Ok(Work { dispatch, bytes: 2 * map.bytes(8), end_to_end: None })
        }
    }
}

fn label_bits(logits: &Logits) -> u32 {
    LabelType::for_classes(logits.classes()).bits()
}

fn outputs<'a>(labels: &'a Buffer, confidence: Option<&'a Buffer>) -> Outputs<'a> {
    let labels = Outputs::labels(labels.as_entire_buffer_binding());
    match confidence {
        Some(confidence) => labels.confidence(confidence.as_entire_buffer_binding()),
        None => labels,
    }
}

impl Tensors<'_> {
    /// Labels and a score of the pixels of `map`.
    fn maps(&self, map: &Map) -> Result<(Buffer, Buffer), Error> {
        Ok((self.storage(map.bytes(label_bits(&self.logits)))?, self.storage(map.bytes(32))?))
    }
}
