use wgpu::BufferBinding;

use crate::dispatch::{Bound, scratch};
use crate::host::Waiting;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::ignore_index_in_32_bits;
use crate::{BoundaryPixels, BoundaryTable, Dispatch, ElementType, Error, Gpu, LabelType, Map, Targets};

mod host;

const SOURCE: &str = include_str!("../../shaders/boundary_score.wgsl");

/// Makes the records those of images without pixels.
pub(crate) static CLEAR: Kernel = Kernel {
    name: "boundary score clear",
    source: SOURCE,
    entry: "clear",
    class_walks: 1,
    bindings: &[binding::BOUNDARY_RECORDS],
    specialisations: |_| vec![specialise(LabelType::U8, LabelType::U8)],
};

/// Finds the boundary pixels of both maps.
pub(crate) static MARK: Kernel = Kernel {
    name: "boundary score mark",
    source: SOURCE,
    entry: "mark",
    class_walks: 1,
    bindings: &[binding::PREDICTIONS, binding::TARGET_LABELS, binding::BOUNDARIES_OUT, binding::BOUNDARY_RECORDS],
    specialisations: |_| {
        TYPES.into_iter().flat_map(|labels| TYPES.map(|targets| specialise(labels, targets))).collect()
    },
};

/// Counts them, and those that are near one of the other map.
pub(crate) static COUNT: Kernel = Kernel {
    name: "boundary score count",
    source: SOURCE,
    entry: "count",
    class_walks: 1,
    bindings: &[binding::BOUNDARY_RECORDS, binding::BOUNDARIES_IN],
    specialisations: |_| TYPES.map(|labels| specialise(labels, LabelType::U8)).to_vec(),
};

const TYPES: [LabelType; 2] = [LabelType::U8, LabelType::U32];

fn specialise(labels: LabelType, target_labels: LabelType) -> Specialisation {
    Specialisation { labels, target_labels, ..Specialisation::new(Access::Vec4, ElementType::F32, 0) }
}

/// Words of a record for each class, and behind the classes.
const WORDS: u64 = 4;

/// Most pixels that a boundary may be away: the work of a pixel without a match grows with the square of it.
const TOLERANCE: u32 = 255;

/// Bytes of boundaries that are kept at a time, where an image has no more.
const KEPT: u64 = 16 << 20;

/// Groups of a map that neighbouring invocations own, one below another.
const BLOCK_ROWS: u32 = 8;

/// How much of the boundary of each class is where it should be, but for a few pixels: the boundary F1 score of
/// Csurka et al., [What is a good evaluation measure for semantic segmentation?](https://doi.org/10.5244/C.27.32), 2013.
///
/// In a map of predictions and in one of targets, a pixel is on the boundary of its class where one of its four
/// neighbours, above, below, left and right, is of another class. The edge of the image is no boundary. A boundary pixel
/// of class c is matched where the other map has a boundary pixel of class c whose distance, √(Δx² + Δy²), is at most the
/// tolerance. Then precision is the share of the predicted boundary pixels that are matched, recall that of the true
/// ones, and F1 their harmonic mean: see [`BoundaryPixels`]. Distances are compared as integers and everything is
/// counted in integers, so that the same maps give the same counts on every adapter. The twin is
/// [`reference::boundary_score`](crate::reference::boundary_score).
///
/// Where the target is the [`ignore_index`](Self::ignore_index), a pixel is void in both maps: it is on no boundary, and
/// no neighbour that makes one. So the border of a region that is not annotated is no boundary of what is next to it;
/// data sets that draw a band of void around every object, as PASCAL VOC does, have hardly any boundary left, and are
/// better scored with that band filled.
///
/// Others draw boundaries and tolerances somewhat differently:
///
/// | tool | a boundary pixel | the tolerance |
/// |---|---|---|
/// | here | is inside of its class, beside another class | at most θ pixels, θ an integer |
/// | Csurka et al. 2013 | of the binary map of a class | less than θ, 0.75 % of the diagonal of the image |
/// | MATLAB, [`bfscore`](https://www.mathworks.com/help/images/ref/bfscore.html) | of the binary map of a class | θ, 0.75 % of the diagonal unless given |
/// | [DAVIS](https://github.com/davisvideochallenge/davis-2017), `f_boundary` | is above or left of a change, half a pixel off | a disk of θ pixels, 0.8 % of the diagonal rounded up |
///
/// For [0.75 % of the diagonal](Self::of_diagonal) there is a function.
///
/// ```
/// use seghead::{Absent, BoundaryScore, Gpu, GpuOptions};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// // The boundary is a column further on than it should be.
/// let (predictions, targets) = ([0u8, 0, 0, 1, 1, 1], [0u8, 0, 1, 1, 1, 1]);
/// let exactly = BoundaryScore::new(2, 0).run_blocking(&gpu, [1, 6], &predictions, &targets)?;
/// assert_eq!(exactly.mean_f1(Absent::Skip), 0.0);
/// let within_a_pixel = BoundaryScore::new(2, 1).run_blocking(&gpu, [1, 6], &predictions, &targets)?;
/// assert_eq!(within_a_pixel.mean_f1(Absent::Skip), 1.0);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// In an application's frame, behind the [`Dispatch`] that writes the labels:
///
/// ```
/// use seghead::wgpu::{self, BufferUsages};
/// use seghead::{BoundaryScore, Gpu, GpuOptions, LabelType, Logits, Readback, Targets};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: BufferUsages::STORAGE | usage,
///     mapped_at_creation: false,
/// });
/// let map = Logits::chw(2, 2, 4)?.map();
/// let [predictions, targets] = [[0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0, 1, 9]].map(|labels: [u8; 8]| {
///     let buffer = buffer(map.bytes(8), BufferUsages::COPY_DST);
///     gpu.queue().write_buffer(&buffer, 0, &labels);
///     buffer
/// });
/// let operator = BoundaryScore::new(2, 1).ignore_index(Some(255));
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
/// let [zero, one] = [0, 1].map(|class| records[0].table.classes()[class]);
/// assert_eq!((zero.predicted, zero.predicted_matched, zero.expected), (1, 1, 2)); // void is no neighbour
/// assert_eq!((one.predicted, one.predicted_matched, one.expected), (1, 1, 2));
/// assert_eq!((records[0].invalid_targets, records[0].first_invalid_target), (1, Some(7))); // 9 is no class
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundaryScore {
    classes: u32,
    tolerance: u32,
    ignore_index: Option<i64>,
}

impl BoundaryScore {
    /// The operator for `classes` classes, whose boundaries may be `tolerance` pixels off, 0..=255, without an ignore
    /// index.
    pub fn new(classes: u32, tolerance: u32) -> Self {
        Self { classes, tolerance, ignore_index: None }
    }

    /// 0.75 % of the diagonal of an image, in pixels, rounded to the nearest: the tolerance that Csurka et al. and MATLAB
    /// take.
    ///
    /// ```
    /// use seghead::BoundaryScore;
    /// assert_eq!(BoundaryScore::of_diagonal([1024, 2048]), 17);
    /// ```
    pub fn of_diagonal([height, width]: [u32; 2]) -> u32 {
        (0.0075 * f64::from(height).hypot(width.into())).round() as u32
    }

    /// Pixels with this target are void in both maps, even where it is the index of a class.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// Words of the record of an image.
    fn words(&self) -> u64 {
        WORDS * (u64::from(self.classes) + 1)
    }

    /// Bytes of the records that a [`dispatch`](Self::dispatch) for `map` writes, N × (C + 1) × 16.
    ///
    /// ```
    /// use seghead::{BoundaryScore, Logits};
    /// let map = Logits::nchw(2, 19, 1024, 2048)?.map();
    /// assert_eq!(BoundaryScore::new(19, 3).bytes(&map), 2 * (19 + 1) * 16);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn bytes(&self, map: &Map) -> u64 {
        u64::from(map.images()).saturating_mul(self.words()).saturating_mul(4)
    }

    /// Makes the work ready to be recorded: reads `predictions`, [`Map::bytes`]`(label_type.bits())` bytes of labels of
    /// that type, and `targets`, both with the geometry of `map`, and writes `records`, [`bytes`](Self::bytes) bytes:
    /// for each image four counts of u32 for each class, and four words more. It owns 2 × H × ⌈W / 4⌉ × 4 labels of the
    /// type of the predictions, for as many images as have 16 MiB of them, or for one.
    ///
    /// The ignore index is compared in 32 bits, a negative one in two's complement, as
    /// [`CrossEntropy`](crate::CrossEntropy) does. Every time that it is recorded it starts from nothing.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`] for
    /// buffers that do not fit; [`Error::Empty`] for no classes; [`Error::LabelType`] for more than 255 classes in
    /// predictions of 8 bits; [`Error::Limit`] for a tolerance beyond 255, and for an image or records that this device
    /// cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        map: &Map,
        (predictions, label_type): (BufferBinding<'_>, LabelType),
        targets: Targets<'_>,
        records: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        self.check(label_type)?;
        // What is bound has fewer than 2³² words.
        let records = Bound::new(gpu, binding::BOUNDARY_RECORDS, records, self.bytes(map))?;
        let words = u32::try_from(self.words()).map_err(|_| Error::Limit {
            what: "words of a boundary record",
            needed: self.words(),
            limit: u32::MAX.into(),
        })?;
        let ignore_index = ignore_index_in_32_bits(self.ignore_index);
        let common = Params {
            classes: self.classes,
            row_stride: map.row_stride(),
            rows: map.height(),
            map_groups: map.image_stride() / 4,
            out_image_stride: words,
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            reach: self.tolerance,
            ..Params::default()
        };
        let row_groups = map.width().div_ceil(4);
        let groups = map.height() * row_groups;
        let common = Params { row_pixels: map.width(), row_groups, groups, ..common };
        let mut dispatch = Dispatch::new();
        let clear = (&CLEAR, specialise(LabelType::U8, LabelType::U8));
        dispatch.push(gpu, clear, common, std::slice::from_ref(&records), (words, map.images()))?;
        let (bits, target_bits) = (label_type.bits(), targets.label_type.bits());
        let kept = 2 * u64::from(groups) * u64::from(bits / 2);
        // Of maps and of boundaries; images start at multiples of a chunk of a map.
        let most = KEPT.min(gpu.limits().max_storage_buffer_binding_size / 2);
        let of_image = kept.max(u64::from(map.image_stride()) * u64::from(bits.max(target_bits) / 8));
        let images = u32::try_from(most / of_image).unwrap_or(u32::MAX).clamp(1, map.images());
        let boundaries = scratch(gpu, "boundaries", u64::from(images) * kept)?;
        let boundaries_in = Bound::whole(gpu, binding::BOUNDARIES_IN, &boundaries)?;
        let boundaries_out = Bound::whole(gpu, binding::BOUNDARIES_OUT, &boundaries)?;
        // Whole blocks, of one map and of two.
        let marked = map.height().div_ceil(BLOCK_ROWS) * row_groups;
        let counted = 2 * u64::from(marked) * u64::from(BLOCK_ROWS);
        let counted = u32::try_from(counted).map_err(|_| Error::Limit {
            what: "groups of two maps",
            needed: counted,
            limit: u32::MAX.into(),
        })?;
        for image in (0..map.images()).step_by(images as usize) {
            let images = images.min(map.images() - image);
            let part = MapPart::groups(map, image..image + images, 0..map.image_stride() / 4);
            let (of_all, of_part) = (map.bytes(bits), part.bytes(bits));
            let predictions = Bound::part(gpu, binding::PREDICTIONS, predictions.clone(), of_all, of_part)?;
            let (of_all, of_part) = (map.bytes(target_bits), part.bytes(target_bits));
            let targets_of_part = Bound::part(gpu, binding::TARGET_LABELS, targets.buffer.clone(), of_all, of_part)?;
            let params = Params { map_offset: part.offset(), out_offset: image * words, ..common };
            let buffers = [predictions, targets_of_part, boundaries_out.clone(), records.clone()];
            let mark = (&MARK, specialise(label_type, targets.label_type));
            dispatch.push(gpu, mark, params, &buffers, (marked, images))?;
            let count = (&COUNT, specialise(label_type, LabelType::U8));
            dispatch.push(gpu, count, params, &[records.clone(), boundaries_in.clone()], (counted, images))?;
        }
        Ok(dispatch)
    }

    fn check(&self, label_type: LabelType) -> Result<(), Error> {
        if self.classes == 0 {
            return Err(Error::Empty { what: "classes" });
        }
        // A boundary is kept as its class plus 1.
        if label_type == LabelType::U8 && self.classes > 255 {
            return Err(Error::LabelType { bits: 8, limit: 255, classes: self.classes });
        }
        if self.tolerance > TOLERANCE {
            let (needed, limit) = (self.tolerance.into(), TOLERANCE.into());
            return Err(Error::Limit { what: "pixels of tolerance", needed, limit });
        }
        Ok(())
    }

    /// What a [`dispatch`](Self::dispatch) has left of each image, from the `words` that it wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for words that are not those of whole records.
    pub fn records(&self, words: &[u32]) -> Result<Vec<BoundaryRecord>, Error> {
        let found = words.len() as u64;
        let expected = found.next_multiple_of(self.words());
        if self.classes == 0 || found != expected {
            return Err(Error::Length { what: "words of boundary records", expected, found });
        }
        let record = |words: &[u32]| {
            let (counts, rest) = words.split_at(words.len() - WORDS as usize);
            let classes = counts.chunks_exact(WORDS as usize).map(|class| BoundaryPixels {
                predicted: class[0].into(),
                predicted_matched: class[1].into(),
                expected: class[2].into(),
                expected_matched: class[3].into(),
            });
            let first = |pixel: u32| (pixel != u32::MAX).then_some(pixel);
            BoundaryRecord {
                table: BoundaryTable::from_classes(classes.collect()),
                invalid_targets: rest[0],
                invalid_predictions: rest[1],
                first_invalid_target: first(rest[2]),
                first_invalid_prediction: first(rest[3]),
            }
        };
        Ok(words.chunks_exact(self.words() as usize).map(record).collect())
    }

    /// Scores `predictions` against `targets`, N × height × width labels of any integer type: the sum of all images.
    /// Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not as long as one another, or not those of whole images; [`Error::Empty`]
    /// for a size of zero, and for no classes; [`Error::Label`] for a target that is neither a class nor the ignore
    /// index, [`Error::Prediction`] for a prediction that is no class, found on the GPU; [`Error::Limit`] for a tolerance
    /// beyond 255, and for an image that this device cannot bind; what the device reports otherwise.
    pub async fn run<P: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        [height, width]: [u32; 2],
        predictions: &[P],
        targets: &[T],
    ) -> Result<BoundaryTable, Error> {
        self.run_with(gpu, [height, width], predictions, targets, Waiting::Async).await
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
        [height, width]: [u32; 2],
        predictions: &[P],
        targets: &[T],
    ) -> Result<BoundaryTable, Error> {
        pollster::block_on(self.run_with(gpu, [height, width], predictions, targets, Waiting::Block))
    }
}

/// What [`BoundaryScore`] leaves on the GPU of one image.
///
/// ```
/// use seghead::BoundaryScore;
/// let records = BoundaryScore::new(1, 3).records(&[8, 6, 10, 5, 0, 0, u32::MAX, u32::MAX])?;
/// assert_eq!(records[0].table.classes()[0].precision(), Some(0.75));
/// assert_eq!(records[0].first_invalid_target, None);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoundaryRecord {
    /// The boundary pixels of every class.
    pub table: BoundaryTable,
    /// Pixels whose target is neither a class nor the ignore index; they are void in both maps.
    pub invalid_targets: u32,
    /// Pixels whose prediction is no class, but whose target is one; they are void in the predictions.
    pub invalid_predictions: u32,
    /// The first pixel of the image, row after row, whose target is neither a class nor the ignore index.
    pub first_invalid_target: Option<u32>,
    /// The first pixel whose prediction is no class, but whose target is one.
    pub first_invalid_prediction: Option<u32>,
}
