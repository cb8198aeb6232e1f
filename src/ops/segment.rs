use wgpu::{BufferBinding, BufferUsages};

use crate::dispatch::Bound;
use crate::host::{self, Band, Waiting};
use crate::kernel::{Access, Kernel, Params, Scores, Specialisation, binding};
use crate::segmentation::MapBuffers;
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Map, Outputs, Segmentation};

const SOURCE: &str = include_str!("../../shaders/segment.wgsl");

/// Where neither axis shrinks.
pub(crate) static UPSCALE: Kernel = Kernel {
    name: "segment upscale",
    source: SOURCE,
    entry: "upscale",
    // One, and where a tap is special two more for each of the four rows of a block.
    class_walks: 9,
    bindings: &[binding::LOGITS, binding::LABELS, binding::CONFIDENCE, binding::MARGIN, binding::ENTROPY],
    specialisations: |_| [3, 4, 5].into_iter().flat_map(specialisations).collect(),
};

/// For any scale.
pub(crate) static RESIZE: Kernel = Kernel {
    name: "segment resize",
    source: SOURCE,
    entry: "resize",
    class_walks: 3,
    bindings: &[binding::LOGITS, binding::LABELS, binding::CONFIDENCE, binding::MARGIN, binding::ENTROPY],
    specialisations: |_| specialisations(ANY_TAPS),
};

fn specialisations(taps: u32) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for labels in [LabelType::U8, LabelType::U32] {
        for scores in Scores::all() {
            all.push(Specialisation { labels, scores, taps, ..ANY_CLASSES });
        }
    }
    all
}

/// Unrolling the classes gains nothing here: the taps of a class are work enough. Taps start anywhere in a row, so
/// they are read one at a time.
const ANY_CLASSES: Specialisation = Specialisation::new(Access::Scalar, 0);

/// The constant of [`RESIZE`], which does not use it.
const ANY_TAPS: u32 = 3;

/// Where on the source a pixel of the result lies. Positions outside the image are moved to its edge.
///
/// ```
/// use seghead::{Resize, Segment};
/// let like_onnx = Segment::new(360, 480).resize(Resize::Asymmetric);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// Centre on centre, `(x + ½) · in / out − ½`: `align_corners=False` in PyTorch, `half_pixel` in ONNX.
    #[default]
    HalfPixel,
    /// Corner pixel on corner pixel, `x · (in − 1) / (out − 1)`: `align_corners=True` in PyTorch.
    AlignCorners,
    /// Corner on corner, `x · in / out`: `asymmetric` in ONNX.
    Asymmetric,
}

/// One axis of a resize: position `x` reads at `(numerator · x + offset) / denominator`, in integers.
#[derive(Clone, Copy, Debug)]
struct Axis {
    numerator: u32,
    offset: i32,
    denominator: u32,
}

impl Axis {
    fn new(resize: Resize, input: u32, output: u32) -> Result<Self, Error> {
        // Everything the kernel computes stays below twice the product, and must fit an i32.
        const LIMIT: u64 = 1 << 30;
        let product = u64::from(input) * u64::from(output);
        if product > LIMIT {
            return Err(Error::Limit {
                what: "input size × output size along one axis",
                needed: product,
                limit: LIMIT,
            });
        }
        let (numerator, offset, denominator) = match resize {
            Resize::HalfPixel => (2 * input, input as i32 - output as i32, 2 * output),
            Resize::AlignCorners if output > 1 => (input - 1, 0, output - 1),
            Resize::AlignCorners => (0, 0, 1),
            Resize::Asymmetric => (input, 0, output),
        };
        Ok(Self { numerator, offset, denominator })
    }

    /// The tap at or before output position `x`.
    fn index(&self, x: u32) -> u32 {
        let numerator = i64::from(self.numerator) * i64::from(x) + i64::from(self.offset);
        (numerator.max(0) / i64::from(self.denominator)) as u32
    }

    /// Taps that four neighbouring pixels read, or `None` where the axis shrinks: 3 steps of numerator / denominator
    /// from anywhere between two taps, and the tap behind the last pixel.
    fn taps(&self) -> Option<u32> {
        let steps = (3 * u64::from(self.numerator)).div_ceil(self.denominator.into());
        (steps <= 3).then_some(steps as u32 + 2).map(|taps| taps.max(3))
    }
}

/// Taps per axis of [`UPSCALE`], or `None` where an axis shrinks.
fn taps(y: &Axis, x: &Axis) -> Option<u32> {
    Some(y.taps()?.max(x.taps()?))
}

/// Labels at full resolution from logits at a lower one: bilinear upsampling, argmax and scores in one pass. The
/// upsampled logits never exist.
///
/// Equal to `interpolate(logits, size, mode="bilinear").argmax(1)` in PyTorch; confidence, margin and entropy are those
/// of the softmax of the upsampled logits. Scales down too, with the same four taps a
/// pixel. The twin is [`reference::segment`](crate::reference::segment). C × (taps² + 16 outputs) operations a block
/// of 4 × 4 pixels.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Labels, Logits, Segment};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 2)?;
/// let found = Segment::new(1, 6).run_blocking(&gpu, &logits, &[9.0, 0.0, 0.0, 3.0])?;
/// assert_eq!(found.labels, Labels::U8(vec![0, 0, 0, 0, 1, 1]));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    height: u32,
    width: u32,
    resize: Resize,
    label_type: Option<LabelType>,
    scores: Scores,
}

/// A part of the result, and the logits that it reads.
struct Part {
    band: Band,
    map: Map,
    /// The row of the result that the part starts with.
    row: u32,
    /// The row of the source image that the band starts with.
    source_row: u32,
}

impl Segment {
    /// The operator for a result of `height × width` pixels, with labels of the smallest type for the classes and
    /// without scores.
    pub fn new(height: u32, width: u32) -> Self {
        Self { height, width, resize: Resize::HalfPixel, label_type: None, scores: Scores::NONE }
    }

    /// With this convention for positions.
    pub fn resize(self, resize: Resize) -> Self {
        Self { resize, ..self }
    }

    /// Labels of this type.
    pub fn label_type(self, label_type: LabelType) -> Self {
        Self { label_type: Some(label_type), ..self }
    }

    /// Whether [`run`](Self::run) returns the confidence too. A dispatch writes the scores that it has buffers for.
    pub fn confidence(mut self, confidence: bool) -> Self {
        self.scores.confidence = confidence;
        self
    }

    /// Whether [`run`](Self::run) returns the margin too: the distance to the second largest probability, in 0..=1.
    pub fn margin(mut self, margin: bool) -> Self {
        self.scores.margin = margin;
        self
    }

    /// Whether [`run`](Self::run) returns the entropy too: −Σ p ln p over the classes, in 0..=ln C nats.
    pub fn entropy(mut self, entropy: bool) -> Self {
        self.scores.entropy = entropy;
        self
    }

    /// The geometry of the result on the GPU; its rows start at multiples of four pixels.
    ///
    /// ```
    /// use seghead::{Logits, Segment};
    /// let map = Segment::new(10, 30).map(&Logits::chw(21, 5, 15)?)?;
    /// assert_eq!((map.width(), map.row_stride(), map.bytes(8)), (30, 32, 320));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a size of zero, [`Error::Limit`] for one that 32 bits do not count.
    pub fn map(&self, logits: &Logits) -> Result<Map, Error> {
        Map::with_padded_rows(logits.images(), self.height, self.width)
    }

    fn label_type_for(&self, logits: &Logits) -> LabelType {
        self.label_type.unwrap_or_else(|| LabelType::for_classes(logits.classes()))
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `outputs`, maps with the
    /// geometry of [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Empty`] for a size of zero; [`Error::LabelType`] for too many classes; [`Error::Limit`] for
    /// sizes that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        outputs: Outputs<'_>,
    ) -> Result<Dispatch, Error> {
        let band = Band { image: 0, pixel: 0, logits: *logits };
        let part = Part { band, map: self.map(logits)?, row: 0, source_row: 0 };
        self.dispatch_part(gpu, logits, &part, input, outputs)
    }

    /// The work for a part; `whole` is the shape of the whole images.
    fn dispatch_part(
        &self,
        gpu: &Gpu,
        whole: &Logits,
        part: &Part,
        input: BufferBinding<'_>,
        outputs: Outputs<'_>,
    ) -> Result<Dispatch, Error> {
        let labels = self.label_type_for(whole);
        labels.check(whole.classes())?;
        let y = Axis::new(self.resize, whole.height(), self.height)?;
        let x = Axis::new(self.resize, whole.width(), self.width)?;
        let (logits, map) = (&part.band.logits, &part.map);
        let [labels_buffer, confidence, margin, entropy] = outputs.bind(gpu, map, labels)?;
        let input = Bound::new(gpu, binding::LOGITS, input, logits.bytes())?;
        let buffers = [input, labels_buffer, confidence, margin, entropy];
        let params = Params {
            map_stride: map.image_stride(),
            in_height: whole.height(),
            in_width: whole.width(),
            in_row: part.source_row,
            out_height: map.height(),
            out_width: map.width(),
            out_row: part.row,
            out_row_stride: map.row_stride(),
            y_numerator: y.numerator,
            y_offset: y.offset,
            y_denominator: y.denominator,
            x_numerator: x.numerator,
            x_offset: x.offset,
            x_denominator: x.denominator,
            ..Params::new(logits)
        };
        let groups = map.row_stride() / 4;
        let (kernel, taps, invocations) = match taps(&y, &x) {
            Some(taps) => (&UPSCALE, taps, groups * map.height().div_ceil(4)),
            None => (&RESIZE, ANY_TAPS, groups * map.height()),
        };
        let specialisation = Specialisation { labels, scores: outputs.scores(), taps, ..ANY_CLASSES };
        let mut dispatch = Dispatch::new();
        dispatch.push(gpu, (kernel, specialisation), params, &buffers, (invocations, map.images()))?;
        Ok(dispatch)
    }

    /// Labels of `data`, N × C × H × W, packed N × height × width. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; [`Error::Empty`] for a size of zero; [`Error::LabelType`]
    /// for too many classes; [`Error::Limit`] for sizes beyond 32 bits; what the device reports otherwise.
    pub async fn run(&self, gpu: &Gpu, logits: &Logits, data: &[f32]) -> Result<Segmentation, Error> {
        self.run_with(gpu, logits, data, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking(&self, gpu: &Gpu, logits: &Logits, data: &[f32]) -> Result<Segmentation, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: &[f32],
        waiting: Waiting,
    ) -> Result<Segmentation, Error> {
        host::check_length("logits", host::packed_elements(logits), data.len())?;
        let label_type = self.label_type_for(logits);
        let parts = self.parts(gpu, logits)?;
        let input_bytes = parts.iter().map(|part| part.band.logits.bytes()).max().unwrap_or(0);
        let map_bytes = parts.iter().map(|part| part.map.bytes(32)).max().unwrap_or(0);
        let input_usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let input = host::create_buffer(gpu, "logits", input_bytes, input_usage)?;
        let mut buffers = MapBuffers::new(gpu, map_bytes, label_type, self.scores)?;
        let mut result = Segmentation::with_capacity(label_type, self.scores, self.map(logits)?.pixels());
        for part in &parts {
            let prepare = || {
                host::upload(gpu, &input, logits, &part.band, data);
                self.dispatch_part(gpu, logits, part, input.as_entire_buffer_binding(), buffers.outputs())
            };
            let work = host::checked(gpu, prepare).await?;
            buffers.read(gpu, waiting, &work, &part.map, &mut result).await?;
        }
        Ok(result)
    }

    /// Splits the result into parts, runs of rows, that this device can bind with the logits that they read.
    fn parts(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Part>, Error> {
        let (limit, map_limit) = (host::band_limit(gpu), host::map_limit(gpu, self.scores.maps()));
        let images = gpu.limits().max_compute_workgroups_per_dimension;
        let map = self.map(logits)?;
        if logits.bytes() <= limit && map.bytes(32) <= map_limit && logits.images() <= images {
            let band = Band { image: 0, pixel: 0, logits: *logits };
            return Ok(vec![Part { band, map, row: 0, source_row: 0 }]);
        }
        let y = Axis::new(self.resize, logits.height(), self.height)?;
        let x = Axis::new(self.resize, logits.width(), self.width)?;
        let mut rows = self.height;
        loop {
            let parts = self.parts_of_rows(logits, &y, taps(&y, &x), rows)?;
            let input = parts.iter().map(|part| part.band.logits.bytes()).max().unwrap_or(0);
            let output = parts.iter().map(|part| part.map.bytes(32)).max().unwrap_or(0);
            if input <= limit && output <= map_limit {
                return Ok(parts);
            }
            if rows == 1 {
                let what = "bytes of one row of the result, or of the logits that it reads";
                let (needed, limit) = if input > limit { (input, limit) } else { (output, map_limit) };
                return Err(Error::Limit { what, needed, limit });
            }
            // Whole blocks of four rows, so that every pixel is computed in the same way whatever the parts are.
            rows = if rows > 4 { rows.div_ceil(2).next_multiple_of(4) } else { rows.div_ceil(2) };
        }
    }

    fn parts_of_rows(&self, logits: &Logits, y: &Axis, taps: Option<u32>, rows: u32) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for image in 0..logits.images() {
            for row in (0..self.height).step_by(rows as usize) {
                let rows = rows.min(self.height - row);
                let source_row = y.index(row);
                // The last pixel's lower tap, and where blocks of four rows are read, all taps of the last block.
                let last_block = row + (rows - 1) / 4 * 4;
                let last_tap = taps.map_or(0, |taps| y.index(last_block) + taps - 1);
                let end = (last_tap.max(y.index(row + rows - 1) + 1) + 1).min(logits.height());
                let shape = logits.resized(1, end - source_row, logits.width())?;
                let band = Band { image, pixel: source_row * logits.width(), logits: shape };
                let map = Map::with_padded_rows(1, rows, self.width)?;
                parts.push(Part { band, map, row, source_row });
            }
        }
        Ok(parts)
    }
}
