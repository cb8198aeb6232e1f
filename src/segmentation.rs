use wgpu::{Buffer, BufferBinding, BufferUsages};

use crate::dispatch::Bound;
use crate::host::{self, Waiting, numbers};
use crate::kernel::{Scores, binding};
use crate::{Dispatch, Error, Gpu, LabelType, Map, Readback};

/// The buffers that [`Argmax`](crate::Argmax) and [`Segment`](crate::Segment) write: labels, and scores if wanted.
///
/// A label buffer has [`Map::bytes`]`(label_type.bits())` bytes, a score buffer f32 values, `Map::bytes(32)`.
///
/// ```
/// # fn app(labels: &seghead::wgpu::Buffer, confidence: &seghead::wgpu::Buffer) {
/// use seghead::Outputs;
/// let outputs = Outputs::labels(labels.as_entire_buffer_binding())
///     .confidence(confidence.as_entire_buffer_binding());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outputs<'a> {
    pub(crate) labels: BufferBinding<'a>,
    pub(crate) confidence: Option<BufferBinding<'a>>,
    pub(crate) margin: Option<BufferBinding<'a>>,
    pub(crate) entropy: Option<BufferBinding<'a>>,
}

impl<'a> Outputs<'a> {
    /// Labels only.
    pub fn labels(labels: BufferBinding<'a>) -> Self {
        Self { labels, confidence: None, margin: None, entropy: None }
    }

    /// The softmax probability of the chosen class too, f32 in 0..=1.
    pub fn confidence(self, confidence: BufferBinding<'a>) -> Self {
        Self { confidence: Some(confidence), ..self }
    }

    /// The distance to the second largest probability too, f32 in 0..=1.
    pub fn margin(self, margin: BufferBinding<'a>) -> Self {
        Self { margin: Some(margin), ..self }
    }

    /// The entropy of the softmax too, f32 in 0..=ln C nats.
    pub fn entropy(self, entropy: BufferBinding<'a>) -> Self {
        Self { entropy: Some(entropy), ..self }
    }

    pub(crate) fn scores(&self) -> Scores {
        Scores { confidence: self.confidence.is_some(), margin: self.margin.is_some(), entropy: self.entropy.is_some() }
    }

    pub(crate) fn bind<'b>(&'b self, gpu: &'b Gpu, map: &Map, labels: LabelType) -> Result<[Bound<'b>; 4], Error> {
        let score = |binding, buffer: &Option<BufferBinding<'b>>| match buffer {
            Some(buffer) => Bound::new(gpu, binding, buffer.clone(), map.bytes(32)),
            None => Ok(Bound::placeholder(gpu, binding)),
        };
        Ok([
            Bound::new(gpu, binding::LABELS, self.labels.clone(), map.bytes(labels.bits()))?,
            score(binding::CONFIDENCE, &self.confidence)?,
            score(binding::MARGIN, &self.margin)?,
            score(binding::ENTROPY, &self.entropy)?,
        ])
    }
}

/// Labels of N × H × W pixels, packed, each the index of a class.
///
/// ```
/// use seghead::Labels;
/// let labels = Labels::U8(vec![0, 3, 1]);
/// assert_eq!(labels.len(), 3);
/// assert_eq!(labels.iter().max(), Some(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Up to 256 classes.
    U8(Vec<u8>),
    /// More classes.
    U32(Vec<u32>),
}

impl Labels {
    /// Number of pixels.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(labels) => labels.len(),
            Self::U32(labels) => labels.len(),
        }
    }

    /// Whether there is no pixel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels one by one.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (narrow, wide) = match self {
            Self::U8(labels) => (labels.as_slice(), [].as_slice()),
            Self::U32(labels) => ([].as_slice(), labels.as_slice()),
        };
        narrow.iter().map(|&label| u32::from(label)).chain(wide.iter().copied())
    }
}

/// What [`Argmax`](crate::Argmax) and [`Segment`](crate::Segment) return on the host.
///
/// ```
/// use seghead::{Argmax, Gpu, GpuOptions, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let found = Argmax::new().run_blocking(&gpu, &Logits::chw(2, 1, 1)?, &[0.0, 1.0])?;
/// assert!(found.labels.iter().eq([1]) && found.confidence.is_none());
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Segmentation {
    /// The class of every pixel, N × H × W.
    pub labels: Labels,
    /// The softmax probability of that class, N × H × W in 0..=1, if it was asked for.
    pub confidence: Option<Vec<f32>>,
    /// Its distance to the second largest probability, N × H × W in 0..=1, if it was asked for.
    pub margin: Option<Vec<f32>>,
    /// The entropy of the pixel's probabilities, N × H × W in 0..=ln C nats, if it was asked for.
    pub entropy: Option<Vec<f32>>,
}

impl Segmentation {
    /// From labels that were read back by other means, without scores.
    pub fn new(labels: Labels) -> Self {
        Self { labels, confidence: None, margin: None, entropy: None }
    }

    pub(crate) fn with_capacity(label_type: LabelType, scores: Scores, pixels: usize) -> Self {
        let labels = match label_type {
            LabelType::U8 => Labels::U8(Vec::with_capacity(pixels)),
            LabelType::U32 => Labels::U32(Vec::with_capacity(pixels)),
        };
        let map = |wanted: bool| wanted.then(|| Vec::with_capacity(pixels));
        Self { labels, confidence: map(scores.confidence), margin: map(scores.margin), entropy: map(scores.entropy) }
    }
}

/// The GPU side of a [`Segmentation`] for the one-shot functions, large enough for every band.
pub(crate) struct MapBuffers {
    label_type: LabelType,
    labels: Buffer,
    /// Confidence, margin, entropy.
    scores: [Option<Buffer>; 3],
    readback: Readback,
}

impl MapBuffers {
    /// For maps of at most `bytes` bytes in f32.
    pub fn new(gpu: &Gpu, bytes: u64, label_type: LabelType, wanted: Scores) -> Result<Self, Error> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let label_bytes = bytes * u64::from(label_type.bits()) / 32;
        let labels = host::create_buffer(gpu, "labels", label_bytes, usage)?;
        let score = |what, wanted: bool| wanted.then(|| host::create_buffer(gpu, what, bytes, usage)).transpose();
        let scores = [
            score("confidence", wanted.confidence)?,
            score("margin", wanted.margin)?,
            score("entropy", wanted.entropy)?,
        ];
        let staging = label_bytes + scores.iter().flatten().map(Buffer::size).sum::<u64>();
        Ok(Self { label_type, labels, scores, readback: Readback::new(gpu, staging)? })
    }

    pub fn outputs(&self) -> Outputs<'_> {
        let [confidence, margin, entropy] =
            self.scores.each_ref().map(|buffer| buffer.as_ref().map(Buffer::as_entire_buffer_binding));
        Outputs { labels: self.labels.as_entire_buffer_binding(), confidence, margin, entropy }
    }

    /// Submits `work`, which writes these buffers with the geometry of `map`, and appends the maps to `result`.
    pub async fn read(
        &mut self,
        gpu: &Gpu,
        waiting: Waiting,
        work: &Dispatch,
        map: &Map,
        result: &mut Segmentation,
    ) -> Result<(), Error> {
        let mut outputs = vec![(&self.labels, map.bytes(self.label_type.bits()))];
        outputs.extend(self.scores.iter().flatten().map(|buffer| (buffer, map.bytes(32))));
        host::submit_and_read(gpu, waiting, &mut self.readback, work, &outputs, |bytes| {
            match &mut result.labels {
                Labels::U8(labels) => map.unpad_into(bytes[0], labels),
                Labels::U32(labels) => map.unpad_into(&numbers(bytes[0]), labels),
            }
            let scores = [&mut result.confidence, &mut result.margin, &mut result.entropy];
            for (score, bytes) in scores.into_iter().flatten().zip(&bytes[1..]) {
                map.unpad_into(&numbers(bytes), score);
            }
        })
        .await
    }
}
