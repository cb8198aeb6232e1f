use wgpu::BufferBinding;

use super::class_statistics::{Part, STRETCH, parts};
use crate::dispatch::Bound;
use crate::host::Waiting;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::ignore_index_in_32_bits;
use crate::{Confusion, Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map, Segment, Targets};

mod host;

const SOURCE: &str = include_str!("../../shaders/confusion_matrix.wgsl");

/// Makes the records those of images without pixels.
pub(crate) static CLEAR: Kernel = Kernel {
    name: "confusion matrix clear",
    source: SOURCE,
    entry: "clear",
    class_walks: 1,
    bindings: &[binding::CONFUSION],
    specialisations: |_| vec![specialise(LabelType::U8, LabelType::U8)],
};

/// Adds the pixels of a map to the records.
pub(crate) static COUNT: Kernel = Kernel {
    name: "confusion matrix count",
    source: SOURCE,
    entry: "count",
    class_walks: 1,
    bindings: &[binding::PREDICTIONS, binding::TARGET_LABELS, binding::CONFUSION],
    specialisations: |_| {
        let types = [LabelType::U8, LabelType::U32];
        types.into_iter().flat_map(|labels| types.map(|targets| specialise(labels, targets))).collect()
    },
};

fn specialise(labels: LabelType, target_labels: LabelType) -> Specialisation {
    Specialisation { labels, target_labels, ..Specialisation::new(Access::Vec4, ElementType::F32, 0) }
}

/// Words of a record behind its counts.
const WORDS: u64 = 5;

/// How many pixels of each class were predicted to be of each class: the counts that every score of a segmentation
/// follows from.
///
/// Reads predictions as [`Argmax`](crate::Argmax) and [`Segment`] write them, and targets beside them, and leaves a record
/// for each image, which [`records`](Self::records) makes [`ConfusionRecord`]s of. The one-shot functions go straight
/// from labels, or from logits with the upsampling of [`Segment`], to a [`Confusion`]. All is counted in integers: the same
/// maps give the same counts on every adapter. The twin is
/// [`reference::confusion_matrix`](crate::reference::confusion_matrix).
///
/// ```
/// use seghead::{Absent, ConfusionMatrix, Gpu, GpuOptions, Logits, Segment};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let operator = ConfusionMatrix::new(2).ignore_index(Some(255));
/// let confusion = operator.run_blocking(&gpu, &[0u8, 0, 1, 1], &[0u8, 1, 1, 255])?;
/// assert_eq!(confusion.counts(), [1, 0, 1, 1]); // targets × predictions
/// assert_eq!(confusion.ignored(), 1);
///
/// // From logits at a lower resolution, whose labels never leave the GPU.
/// let (logits, segment) = (Logits::chw(2, 1, 2)?, Segment::new(1, 4));
/// let targets = [0u8, 0, 0, 1];
/// let confusion = operator.run_logits_blocking(&gpu, &logits, &[9.0, 0.0, 0.0, 9.0], &segment, &targets)?;
/// assert_eq!(confusion.pixel_accuracy(), 0.75);
/// assert_eq!(confusion.mean_iou(Absent::Skip), (2.0 / 3.0 + 1.0 / 2.0) / 2.0);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// In an application's frame, behind the [`Dispatch`] that writes the labels:
///
/// ```
/// use seghead::wgpu::{self, BufferUsages};
/// use seghead::{ConfusionMatrix, Gpu, GpuOptions, LabelType, Logits, Readback, Targets};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: BufferUsages::STORAGE | usage,
///     mapped_at_creation: false,
/// });
/// let map = Logits::chw(2, 1, 4)?.map();
/// let [predictions, targets] = [[0, 1, 1, 1], [0, 0, 1, 9]].map(|labels: [u8; 4]| {
///     let buffer = buffer(map.bytes(8), BufferUsages::COPY_DST);
///     gpu.queue().write_buffer(&buffer, 0, &labels);
///     buffer
/// });
/// let operator = ConfusionMatrix::new(2).ignore_index(Some(255));
/// let counts = buffer(operator.bytes(&map), BufferUsages::COPY_SRC);
/// let dispatch = operator.dispatch(
///     &gpu,
///     &map,
///     (predictions.as_entire_buffer_binding(), LabelType::U8),
///     Targets::new(targets.as_entire_buffer_binding(), LabelType::U8),
///     counts.as_entire_buffer_binding(),
/// )?;
/// let mut readback = Readback::new(&gpu, operator.bytes(&map))?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// dispatch.record(&mut encoder);
/// readback.record(&mut encoder, counts.as_entire_buffer_binding())?;
/// gpu.queue().submit([encoder.finish()]);
/// let records = readback.read_blocking(&gpu, |bytes| operator.records(bytemuck::cast_slice(bytes)))??;
/// assert_eq!(records[0].confusion.counts(), [1, 1, 0, 1]);
/// assert_eq!((records[0].invalid_targets, records[0].first_invalid_target), (1, Some(3))); // 9 is no class
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: u32,
    ignore_index: Option<i64>,
}

impl ConfusionMatrix {
    /// The operator for `classes` classes, without an ignore index.
    pub fn new(classes: u32) -> Self {
        Self { classes, ignore_index: None }
    }

    /// Pixels with this target count for nothing but their number, even where it is the index of a class.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// Words of the record of an image.
    fn words(&self) -> u64 {
        u64::from(self.classes) * u64::from(self.classes) + WORDS
    }

    /// Bytes of the records that a [`dispatch`](Self::dispatch) for `map` writes, N × (C² + 5) × 4.
    ///
    /// ```
    /// use seghead::{ConfusionMatrix, Logits};
    /// let map = Logits::nchw(2, 19, 1024, 2048)?.map();
    /// assert_eq!(ConfusionMatrix::new(19).bytes(&map), 2 * (19 * 19 + 5) * 4);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn bytes(&self, map: &Map) -> u64 {
        u64::from(map.images()).saturating_mul(self.words()).saturating_mul(4)
    }

    /// Makes the work ready to be recorded: reads `predictions`, [`Map::bytes`]`(label_type.bits())` bytes of labels of
    /// that type, and `targets`, both with the geometry of `map`, and writes `records`, [`bytes`](Self::bytes) bytes: for
    /// each image C × C counts of u32, a row for each target, and five words more.
    ///
    /// The ignore index is compared in 32 bits, a negative one in two's complement, as
    /// [`CrossEntropy`](crate::CrossEntropy) does. Every time that it is recorded it starts from nothing.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Empty`] for no classes; [`Error::LabelType`] for more than the predictions tell apart;
    /// [`Error::Limit`] for records that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        map: &Map,
        predictions: (BufferBinding<'_>, LabelType),
        targets: Targets<'_>,
        records: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let mut dispatch = Dispatch::new();
        self.push(gpu, &mut dispatch, map, predictions, targets, records)?;
        Ok(dispatch)
    }

    /// Makes the records those of images without pixels; how they are bound, and the words of one.
    pub(in crate::ops) fn push_clear<'a>(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        map: &Map,
        records: BufferBinding<'a>,
    ) -> Result<(Bound<'a>, u32), Error> {
        if self.classes == 0 {
            return Err(Error::Empty { what: "classes" });
        }
        // What is bound has fewer than 2³² words, so that C² + 5 does not wrap.
        let records = Bound::new(gpu, binding::CONFUSION, records, self.bytes(map))?;
        let words = u32::try_from(self.words()).map_err(|_| Error::Limit {
            what: "words of a confusion matrix",
            needed: self.words(),
            limit: u32::MAX.into(),
        })?;
        let params = Params { out_image_stride: words, ..Params::default() };
        let clear = (&CLEAR, specialise(LabelType::U8, LabelType::U8));
        dispatch.push(gpu, clear, params, std::slice::from_ref(&records), (words, map.images()))?;
        Ok((records, words))
    }

    fn push(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        map: &Map,
        (predictions, label_type): (BufferBinding<'_>, LabelType),
        targets: Targets<'_>,
        records: BufferBinding<'_>,
    ) -> Result<(), Error> {
        label_type.check(self.classes)?;
        let (records, words) = self.push_clear(gpu, dispatch, map, records)?;
        let ignore_index = ignore_index_in_32_bits(self.ignore_index);
        // Rows that follow one another are a single one.
        let (row_pixels, row_stride) = match map.row_stride() == map.width() {
            true => (map.width() * map.height(), map.image_stride()),
            false => (map.width(), map.row_stride()),
        };
        let common = Params {
            row_pixels,
            row_stride,
            map_groups: map.image_stride() / 4,
            out_image_stride: words,
            out_row_stride: self.classes,
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            ..Params::default()
        };
        let (bits, target_bits) = (label_type.bits(), targets.label_type.bits());
        for Part { image, images, group, groups } in parts(gpu, map, bits.max(target_bits))? {
            let part = MapPart::groups(map, image..image + images, group..group + groups);
            let (of_all, of_part) = (map.bytes(bits), part.bytes(bits));
            let predictions = Bound::part(gpu, binding::PREDICTIONS, predictions.clone(), of_all, of_part)?;
            let (of_all, of_part) = (map.bytes(target_bits), part.bytes(target_bits));
            let targets_of_part = Bound::part(gpu, binding::TARGET_LABELS, targets.buffer.clone(), of_all, of_part)?;
            let buffers = [predictions, targets_of_part, records.clone()];
            let params =
                Params { groups, offset: 4 * group, map_offset: part.offset(), out_offset: image * words, ..common };
            let count = (&COUNT, specialise(label_type, targets.label_type));
            dispatch.push(gpu, count, params, &buffers, (groups.div_ceil(STRETCH), images))?;
        }
        Ok(())
    }

    /// What a [`dispatch`](Self::dispatch) has left of each image, from the `words` that it wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for words that are not those of whole records.
    pub fn records(&self, words: &[u32]) -> Result<Vec<ConfusionRecord>, Error> {
        let found = words.len() as u64;
        let expected = found.next_multiple_of(self.words());
        if self.classes == 0 || found != expected {
            return Err(Error::Length { what: "words of confusion matrices", expected, found });
        }
        let record = |words: &[u32]| {
            let (counts, rest) = words.split_at(words.len() - WORDS as usize);
            let first = |pixel: u32| (pixel != u32::MAX).then_some(pixel);
            let counts = counts.iter().map(|&count| count.into()).collect();
            Ok(ConfusionRecord {
                confusion: Confusion::from_counts(self.classes, counts)?.with_ignored(rest[0].into())?,
                invalid_targets: rest[1],
                invalid_predictions: rest[2],
                first_invalid_target: first(rest[3]),
                first_invalid_prediction: first(rest[4]),
            })
        };
        words.chunks_exact(self.words() as usize).map(record).collect()
    }

    /// Counts `predictions` against `targets`, labels of any integer type of as many pixels, in any geometry. Somebody
    /// else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not as long as one another; [`Error::Label`] for a target that is neither a
    /// class nor the ignore index, [`Error::Prediction`] for a prediction that is no class, found on the GPU;
    /// [`Error::Empty`] for no classes; [`Error::Limit`] for too many of them; what the device reports otherwise.
    pub async fn run<P: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        predictions: &[P],
        targets: &[T],
    ) -> Result<Confusion, Error> {
        self.run_with(gpu, predictions, targets, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_blocking<P: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        predictions: &[P],
        targets: &[T],
    ) -> Result<Confusion, Error> {
        pollster::block_on(self.run_with(gpu, predictions, targets, Waiting::Block))
    }

    /// Counts what `segment` makes of the logits `data`, N × C × H × W, against `targets`, N × height × width labels of
    /// any integer type at its size. Neither the upsampled logits nor the predicted labels leave the GPU, and what is too
    /// big for it goes through in bands. Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not `logits`, or not the size of `segment`; [`Error::Classes`] for logits of
    /// other classes; [`Error::Label`] for a target that is neither a class nor the ignore index, found on the GPU;
    /// [`Error::Limit`] for sizes beyond 32 bits; what the device reports otherwise.
    pub async fn run_logits<'a, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        segment: &Segment,
        targets: &[T],
    ) -> Result<Confusion, Error> {
        self.run_logits_with(gpu, (logits, data.into()), segment, targets, Waiting::Async).await
    }

    /// [`run_logits`](Self::run_logits) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run_logits`](Self::run_logits).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_logits_blocking<'a, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        segment: &Segment,
        targets: &[T],
    ) -> Result<Confusion, Error> {
        pollster::block_on(self.run_logits_with(gpu, (logits, data.into()), segment, targets, Waiting::Block))
    }
}

/// What [`ConfusionMatrix`] leaves on the GPU of one image.
///
/// ```
/// use seghead::ConfusionMatrix;
/// let records = ConfusionMatrix::new(2).records(&[5, 1, 0, 6, 3, 0, 0, u32::MAX, u32::MAX])?;
/// assert_eq!((records[0].confusion.counted(), records[0].confusion.ignored()), (12, 3));
/// assert_eq!(records[0].first_invalid_target, None);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfusionRecord {
    /// The pixels that were counted or ignored.
    pub confusion: Confusion,
    /// Pixels whose target is neither a class nor the ignore index; they count for nothing else.
    pub invalid_targets: u32,
    /// Pixels whose prediction is no class, but whose target is one; they count for nothing else.
    pub invalid_predictions: u32,
    /// The first pixel of the image, row after row, whose target is neither a class nor the ignore index.
    pub first_invalid_target: Option<u32>,
    /// The first pixel of the image whose prediction is no class, but whose target is one.
    pub first_invalid_prediction: Option<u32>,
}
