use wgpu::{Buffer, BufferBinding};

use crate::bands::Band;
use crate::dispatch::Bound;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::{Scores, binding};
use crate::map::MapPart;
use crate::{Dispatch, Error, Gpu, Input, LabelType, Logits, Map};

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

    /// Binds `part` of the buffers, which have the geometry of `map`.
    pub(crate) fn bind<'b>(
        &'b self,
        gpu: &'b Gpu,
        map: &Map,
        labels: LabelType,
        part: &MapPart,
    ) -> Result<[Bound<'b>; 4], Error> {
        let score = |binding, buffer: &Option<BufferBinding<'b>>| match buffer {
            Some(buffer) => Bound::part(gpu, binding, buffer.clone(), map.bytes(32), part.bytes(32)),
            None => Ok(Bound::placeholder(gpu, binding)),
        };
        let bits = labels.bits();
        Ok([
            Bound::part(gpu, binding::LABELS, self.labels.clone(), map.bytes(bits), part.bytes(bits))?,
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

/// A band of the logits and the map of its results.
pub(crate) struct Part {
    pub band: Band,
    /// The shape of the band on the GPU.
    pub shape: Logits,
    pub map: Map,
}

/// Runs an operator that writes labels and scores, part by part: `dispatch` gets the index of the part, the shape and
/// the buffer of its logits, and the buffers to write.
pub(crate) async fn run(
    gpu: &Gpu,
    waiting: Waiting,
    (logits, input): (&Logits, &mut Input<'_>),
    parts: &[Part],
    (label_type, scores): (LabelType, Scores),
    pixels: usize,
    dispatch: impl Fn(usize, &Logits, BufferBinding<'_>, Outputs<'_>) -> Result<Dispatch, Error>,
) -> Result<Segmentation, Error> {
    let most = |bytes: &dyn Fn(&Part) -> u64| parts.iter().map(bytes).max().unwrap_or(0);
    let mut outputs = vec![("labels", most(&|part| part.map.bytes(label_type.bits())))];
    let score_bytes = most(&|part| part.map.bytes(32));
    let wanted = [("confidence", scores.confidence), ("margin", scores.margin), ("entropy", scores.entropy)];
    outputs.extend(wanted.iter().filter(|(_, wanted)| *wanted).map(|&(what, _)| (what, score_bytes)));
    let sizes = Sizes { logits: most(&|part| part.shape.bytes()), uploads: Vec::new(), outputs };
    let result = Segmentation::with_capacity(label_type, scores, pixels);
    let mut maps = Maps { parts, label_type, scores, dispatch, result };
    host::stream(gpu, waiting, logits, input, (parts.len(), sizes), &mut maps).await?;
    Ok(maps.result)
}

struct Maps<'a, D> {
    parts: &'a [Part],
    label_type: LabelType,
    scores: Scores,
    dispatch: D,
    result: Segmentation,
}

impl<D> Bands for Maps<'_, D>
where
    D: Fn(usize, &Logits, BufferBinding<'_>, Outputs<'_>) -> Result<Dispatch, Error>,
{
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.parts[i].band, self.parts[i].shape))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let Part { shape, map, .. } = &self.parts[i];
        let mut buffers = slot.outputs.iter().map(Buffer::as_entire_buffer_binding);
        let mut next = |wanted: bool| if wanted { buffers.next() } else { None };
        let logits = slot.logits.as_entire_buffer_binding();
        let Some(labels) = next(true) else { return Ok((Dispatch::new(), Vec::new())) };
        let outputs = Outputs {
            labels,
            confidence: next(self.scores.confidence),
            margin: next(self.scores.margin),
            entropy: next(self.scores.entropy),
        };
        let mut bytes = vec![map.bytes(32); slot.outputs.len()];
        bytes[0] = map.bytes(self.label_type.bits());
        Ok(((self.dispatch)(i, shape, logits, outputs)?, bytes))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let map = &self.parts[i].map;
        match &mut self.result.labels {
            Labels::U8(labels) => map.unpad_into(outputs[0], labels),
            Labels::U32(labels) => map.unpad_into(&numbers(outputs[0]), labels),
        }
        let scores = [&mut self.result.confidence, &mut self.result.margin, &mut self.result.entropy];
        for (score, bytes) in scores.into_iter().flatten().zip(&outputs[1..]) {
            map.unpad_into(&numbers(bytes), score);
        }
        Ok(())
    }
}
