use wgpu::BufferBinding;

use super::class_statistics::{Part, STRETCH, parts};
use crate::dispatch::{Bound, constants};
use crate::host::Waiting;
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::ignore_index_in_32_bits;
use crate::reliability::edge;
use crate::{Dispatch, ElementType, Error, Gpu, LabelType, Map, ReliabilityBin, ReliabilityTable, Targets};

mod host;

const SOURCE: &str = include_str!("../../shaders/calibration.wgsl");

/// Makes the records those of no pixels.
pub(crate) static CLEAR: Kernel = Kernel {
    name: "calibration clear",
    source: SOURCE,
    entry: "clear",
    class_walks: 1,
    bindings: &[binding::CALIBRATION_RECORDS],
    specialisations: |_| vec![specialise(LabelType::U8, LabelType::U8)],
};

/// Adds the pixels of a map to the records.
pub(crate) static COUNT: Kernel = Kernel {
    name: "calibration count",
    source: SOURCE,
    entry: "count",
    class_walks: 1,
    bindings: &[
        binding::LABELS_IN,
        binding::CONFIDENCE_IN,
        binding::TARGETS_IN,
        binding::CALIBRATION_RECORDS,
        binding::BIN_EDGES,
    ],
    specialisations: |_| {
        let types = [LabelType::U8, LabelType::U32];
        types.into_iter().flat_map(|labels| types.map(|targets| specialise(labels, targets))).collect()
    },
};

fn specialise(labels: LabelType, target_labels: LabelType) -> Specialisation {
    Specialisation { labels, target_labels, ..Specialisation::new(Access::Vec4, ElementType::F32, 0) }
}

/// Bytes of a [`CalibrationRecord`].
const RECORD: u64 = size_of::<CalibrationRecord>() as u64;

/// Most bins, so that the kernel's estimate of one is off by 1 at most.
const BINS: u32 = 1 << 16;

/// How often a network is right when it is sure: of each of B equal bins of confidence the number of pixels, how many
/// of them are right, and how sure the network was of them. The expected calibration error and the reliability diagram
/// of Guo et al., [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599), 2017, follow from
/// these.
///
/// Reads labels and confidences as [`Argmax`](crate::Argmax) and [`Segment`](crate::Segment) write them, and target
/// labels beside them, and leaves N × (B + 1) [`CalibrationRecord`]s, of which [`table`](Self::table) makes a
/// [`ReliabilityTable`]. All is added up in integers: the same maps give the same records on every adapter, and the
/// tables of images add up to exactly that of all of them. The twin is
/// [`reference::calibration`](crate::reference::calibration).
///
/// Bin k of 0..B has the confidences c with k / B < c ≤ (k + 1) / B, as in the paper and [its authors'
/// code](https://github.com/gpleiss/temperature_scaling), where the edges are the nearest f32; torchmetrics 1 has k / B
/// ≤ c < (k + 1) / B instead, and one more bin for c = 1. A confidence of 0, which the authors' code leaves out, is in
/// the first bin, so that every pixel is in one; what is outside 0..=1 counts as the nearer end. Pixels whose
/// confidence is NaN are counted apart.
///
/// A pixel is right where its label is its target, whatever that is; a target that is no class makes it wrong, unless
/// it is the [`ignore_index`](Self::ignore_index), of which nothing is counted.
///
/// ```
/// use seghead::wgpu::{self, BufferUsages};
/// use seghead::{Calibration, Gpu, GpuOptions, LabelType, Logits, Readback, Targets};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: BufferUsages::STORAGE | usage,
///     mapped_at_creation: false,
/// });
/// let upload = |bytes: &[u8]| {
///     let buffer = buffer(bytes.len() as u64, BufferUsages::COPY_DST);
///     gpu.queue().write_buffer(&buffer, 0, bytes);
///     buffer
/// };
/// // What `Argmax` has just left on the GPU, of 2 × 4 pixels, and what is right, with some void.
/// let map = Logits::chw(3, 2, 4)?.map();
/// let labels = upload(&[0, 0, 2, 2, 0, 2, 2, 1]);
/// let confidence = upload(bytemuck::cast_slice(&[1.0f32, 0.75, 0.75, 0.875, 0.5, 0.625, 0.625, 0.625]));
/// let targets = upload(&[0, 0, 2, 255, 1, 2, 2, 0]);
///
/// let calibration = Calibration::new().bins(2).ignore_index(Some(255));
/// let records = buffer(calibration.bytes(&map), BufferUsages::COPY_SRC);
/// let dispatch = calibration.dispatch(
///     &gpu,
///     &map,
///     (labels.as_entire_buffer_binding(), LabelType::U8),
///     confidence.as_entire_buffer_binding(),
///     Targets::new(targets.as_entire_buffer_binding(), LabelType::U8),
///     records.as_entire_buffer_binding(),
/// )?;
/// let mut readback = Readback::new(&gpu, calibration.bytes(&map))?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// dispatch.record(&mut encoder);
/// readback.record(&mut encoder, records.as_entire_buffer_binding())?;
/// gpu.queue().submit([encoder.finish()]);
/// let table = readback.read_blocking(&gpu, |bytes| calibration.table(bytemuck::cast_slice(bytes)))??;
///
/// let [low, high] = [table.bins()[0], table.bins()[1]];
/// assert_eq!((low.pixels, low.accuracy(), low.mean_confidence()), (1, Some(0.0), Some(0.5)));
/// assert_eq!((high.pixels, high.right, high.mean_confidence()), (6, 5, Some(4.375 / 6.0)));
/// let expected = (1.0 / 7.0) * 0.5 + (6.0 / 7.0) * (5.0 / 6.0 - 4.375 / 6.0);
/// assert!((table.expected_calibration_error() - expected).abs() < 1e-15);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    bins: u32,
    ignore_index: Option<i64>,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { bins: 15, ignore_index: None }
    }
}

impl Calibration {
    /// The operator with 15 bins, as in the paper, and without an ignore index.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bins, B, 1..=65 536.
    pub fn bins(self, bins: u32) -> Self {
        Self { bins, ..self }
    }

    /// Pixels with this target count for nothing, even where it is their label.
    pub fn ignore_index(self, ignore_index: Option<i64>) -> Self {
        Self { ignore_index, ..self }
    }

    /// Bytes of the records that a [`dispatch`](Self::dispatch) for `map` writes, N × (B + 1) × 16.
    ///
    /// ```
    /// use seghead::{Calibration, Logits};
    /// let map = Logits::nchw(2, 21, 720, 1280)?.map();
    /// assert_eq!(Calibration::new().bytes(&map), 2 * 16 * 16);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn bytes(&self, map: &Map) -> u64 {
        u64::from(map.images()) * (u64::from(self.bins) + 1) * RECORD
    }

    /// Makes the work ready to be recorded: reads `labels`, [`Map::bytes`]`(label_type.bits())` bytes of labels of that
    /// type, `confidence`, f32 in `Map::bytes(32)` bytes, and `targets`, all with the geometry of `map`, and writes
    /// `records`, [`bytes`](Self::bytes) bytes: of each image B [`CalibrationRecord`]s, and one of the pixels whose
    /// confidence is NaN.
    ///
    /// The ignore index is compared in 32 bits, a negative one in two's complement, as
    /// [`CrossEntropy`](crate::CrossEntropy) does. Every time that it is recorded it starts from nothing.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`]
    /// for buffers that do not fit; [`Error::Empty`] for no bins; [`Error::Limit`] for more than 65 536, and for
    /// records that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        map: &Map,
        (labels, label_type): (BufferBinding<'_>, LabelType),
        confidence: BufferBinding<'_>,
        targets: Targets<'_>,
        records: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        self.check()?;
        let records = Bound::new(gpu, binding::CALIBRATION_RECORDS, records, self.bytes(map))?;
        let of_image = self.bins + 1;
        let needed = u64::from(map.images()) * u64::from(of_image);
        let limit = u32::MAX.into();
        let elements = u32::try_from(needed).map_err(|_| Error::Limit { what: "records of bins", needed, limit })?;
        let edges = constants(gpu, "seghead bin edges", bytemuck::cast_slice(&self.edges()))?;
        let edges = Bound::whole(gpu, binding::BIN_EDGES, &edges)?;
        let ignore_index = ignore_index_in_32_bits(self.ignore_index);
        // Rows that follow one another are a single one.
        let (row_pixels, row_stride) = match map.row_stride() == map.width() {
            true => (map.width() * map.height(), map.image_stride()),
            false => (map.width(), map.row_stride()),
        };
        let common = Params {
            elements,
            row_pixels,
            row_stride,
            map_groups: map.image_stride() / 4,
            out_image_stride: of_image,
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            ..Params::default()
        };
        let mut dispatch = Dispatch::new();
        let clear = (&CLEAR, specialise(LabelType::U8, LabelType::U8));
        dispatch.push(gpu, clear, common, std::slice::from_ref(&records), (elements, 1))?;
        let count = (&COUNT, specialise(label_type, targets.label_type));
        for Part { image, images, group, groups } in parts(gpu, map, 32)? {
            let part = MapPart::groups(map, image..image + images, group..group + groups);
            let all_and_part = |bits| (map.bytes(bits), part.bytes(bits));
            let (all, range) = all_and_part(label_type.bits());
            let labels = Bound::part(gpu, binding::LABELS_IN, labels.clone(), all, range)?;
            let (all, range) = all_and_part(32);
            let confidence = Bound::part(gpu, binding::CONFIDENCE_IN, confidence.clone(), all, range)?;
            let (all, range) = all_and_part(targets.label_type.bits());
            let targets = Bound::part(gpu, binding::TARGETS_IN, targets.buffer.clone(), all, range)?;
            let buffers = [labels, confidence, targets, records.clone(), edges.clone()];
            let (offset, out_offset) = (4 * group, image * of_image);
            let params = Params { groups, offset, map_offset: part.offset(), out_offset, ..common };
            dispatch.push(gpu, count, params, &buffers, (groups.div_ceil(STRETCH), images))?;
        }
        Ok(dispatch)
    }

    /// The edges of the bins as the kernel orders confidences: the bits of edge k as an integer. The first is below 0,
    /// which is in the first bin, and behind that of 1 comes the one of NaN.
    fn edges(&self) -> Vec<i32> {
        let one = 1f32.to_bits() as i32;
        let inner = (1..self.bins).map(|k| edge(k, self.bins).to_bits() as i32);
        std::iter::once(-1).chain(inner).chain([one, one + 1]).collect()
    }

    fn check(&self) -> Result<(), Error> {
        match self.bins {
            0 => Err(Error::Empty { what: "bins" }),
            1..=BINS => Ok(()),
            bins => Err(Error::Limit { what: "bins", needed: bins.into(), limit: BINS.into() }),
        }
    }

    /// The table of the pixels of all images that `records` are of: all that a [`dispatch`](Self::dispatch) has
    /// written, or the B + 1 of one image.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for records that are not those of whole images; [`Error::Empty`], [`Error::Limit`] for a
    /// number of bins out of range.
    pub fn table(&self, records: &[CalibrationRecord]) -> Result<ReliabilityTable, Error> {
        self.check()?;
        let of_image = self.bins as usize + 1;
        if !records.len().is_multiple_of(of_image) {
            let (found, expected) = (records.len() as u64, records.len().next_multiple_of(of_image) as u64);
            return Err(Error::Length { what: "calibration records", expected, found });
        }
        let mut sums = vec![ReliabilityBin::default(); of_image];
        for image in records.chunks_exact(of_image) {
            for (sum, record) in sums.iter_mut().zip(image) {
                sum.pixels += u64::from(record.pixels);
                sum.right += u64::from(record.right);
                let [low, high] = record.confidence_sum;
                sum.confidence_sum += (u128::from(high) << 32) | u128::from(low);
            }
        }
        let nan = sums.pop().unwrap_or_default();
        ReliabilityTable::from_bins(sums, nan.pixels)
    }

    /// The table of `labels` of `confidence` against `targets`, labels of any integer type, all of as many pixels in any
    /// geometry. Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// ```
    /// use seghead::{Calibration, Gpu, GpuOptions};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let calibration = Calibration::new().bins(2).ignore_index(Some(-1));
    /// let table = calibration.run_blocking(&gpu, &[0u8, 1, 1], &[0.5, 0.75, 1.0], &[1, 1, -1])?;
    /// assert_eq!((table.pixels(), table.accuracy()), (2, Some(0.5)));
    /// assert_eq!(table.expected_calibration_error(), 0.5 * 0.5 + 0.5 * 0.25);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices that are not as long as one another; [`Error::Prediction`] for a label that is
    /// negative or beyond 32 bits; [`Error::Empty`], [`Error::Limit`] for a number of bins out of range; what the device
    /// reports otherwise.
    pub async fn run<L: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        labels: &[L],
        confidence: &[f32],
        targets: &[T],
    ) -> Result<ReliabilityTable, Error> {
        self.run_with(gpu, labels, confidence, targets, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_blocking<L: Copy + Into<i64>, T: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        labels: &[L],
        confidence: &[f32],
        targets: &[T],
    ) -> Result<ReliabilityTable, Error> {
        pollster::block_on(self.run_with(gpu, labels, confidence, targets, Waiting::Block))
    }
}

/// What [`Calibration`] leaves on the GPU of one bin in one image, 16 bytes.
///
/// ```
/// use seghead::{Calibration, CalibrationRecord};
/// assert_eq!(size_of::<CalibrationRecord>(), 16);
/// let [sure, nan] = [(4, 2, [3 << 24, 0]), (1, 1, [0, 0])]
///     .map(|(pixels, right, confidence_sum)| CalibrationRecord { pixels, right, confidence_sum });
/// let table = Calibration::new().bins(1).table(&[sure, nan])?;
/// assert_eq!((table.expected_calibration_error(), table.nan()), (0.25, 1));
/// # Ok::<(), seghead::Error>(())
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CalibrationRecord {
    /// Number of pixels.
    pub pixels: u32,
    /// Number of those whose label is their target.
    pub right: u32,
    /// Σ of the pixels' confidences, each rounded to a multiple of 2⁻²⁴ (ties to even), in that unit: 64 bits, the low
    /// word first. 0 in the record of NaN.
    pub confidence_sum: [u32; 2],
}
