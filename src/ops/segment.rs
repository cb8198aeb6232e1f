use wgpu::BufferBinding;

use crate::bands::{self, BAND_BYTES, Band, MAP_CHUNK};
use crate::dispatch::Bound;
use crate::host::{self, Waiting};
use crate::kernel::{Access, Kernel, Params, Scores, Specialisation, binding};
use crate::map::MapPart;
use crate::segmentation::{self, Part};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map, Outputs, Segmentation};

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
    for element_type in [ElementType::F32, ElementType::F16] {
        for labels in [LabelType::U8, LabelType::U32] {
            for scores in Scores::all() {
                all.push(Specialisation { labels, scores, taps, ..any_classes(element_type) });
            }
        }
    }
    all
}

/// Unrolling the classes gains nothing here: the taps of a class are work enough. Taps start anywhere in a row, so
/// they are read one at a time.
const fn any_classes(element_type: ElementType) -> Specialisation {
    Specialisation::new(Access::Scalar, element_type, 0)
}

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

/// Refuses what a row of the result takes if it is more than the limit.
fn within(needed: u64, limit: u64) -> Result<(), Error> {
    let what = "bytes of one row of the result, or of the logits that it reads";
    if needed <= limit { Ok(()) } else { Err(Error::Limit { what, needed, limit }) }
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

/// Some rows of the result of an image, or of whole images, and the logits that they read.
#[derive(Clone, Copy)]
struct Rows {
    band: Band,
    /// The row of the result that they start with.
    row: u32,
    /// Rows of the result.
    rows: u32,
}

impl Rows {
    /// The row of the source image that the band starts with.
    fn source_row(&self, whole: &Logits) -> u32 {
        self.band.pixel / whole.width()
    }
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
        let map = self.map(logits)?;
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let all = self.rows_of_all(logits);
        let together = BAND_BYTES.min(limit);
        let parts = if logits.bytes() <= limit && map.bytes(32) <= limit {
            vec![all]
        } else {
            let map_limit = limit.saturating_sub(u64::from(MAP_CHUNK) * 16);
            let in_place = bands::fits(gpu, logits);
            self.split(logits, |input, output| {
                match (in_place, input.images()) {
                    (true, 1) => {}
                    (true, _) => within(logits.bytes(), limit)?,
                    (false, _) => within(input.output().bytes(), together)?,
                }
                within(output.bytes(32), map_limit)
            })?
        };
        let bands: Vec<_> = parts.iter().map(|part| part.band).collect();
        let window = Window::new(gpu, input, logits, &bands)?;
        let mut dispatch = Dispatch::new();
        for part in &parts {
            let (input, shape) = window.read(gpu, &mut dispatch, &part.band)?;
            let groups = MapPart::rows(&map, part.band.image..part.band.image + part.band.images, part.row, part.rows);
            self.push(gpu, &mut dispatch, logits, part, (input, &shape), (&outputs, &map, &groups))?;
        }
        Ok(dispatch)
    }

    /// The work for some rows; `whole` is the shape of the whole images.
    fn push(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        whole: &Logits,
        part: &Rows,
        (input, logits): (Bound<'_>, &Logits),
        (outputs, map, groups): (&Outputs<'_>, &Map, &MapPart),
    ) -> Result<(), Error> {
        let labels = self.label_type_for(whole);
        labels.check(whole.classes())?;
        let y = Axis::new(self.resize, whole.height(), self.height)?;
        let x = Axis::new(self.resize, whole.width(), self.width)?;
        let [labels_buffer, confidence, margin, entropy] = outputs.bind(gpu, map, labels, groups)?;
        let buffers = [input, labels_buffer, confidence, margin, entropy];
        let params = Params {
            in_height: whole.height(),
            in_width: whole.width(),
            in_row: part.source_row(whole),
            out_height: part.rows,
            out_width: map.width(),
            out_row: part.row,
            row_groups: map.row_stride() / 4,
            map_groups: map.image_stride() / 4,
            map_offset: groups.offset(),
            y_numerator: y.numerator,
            y_offset: y.offset,
            y_denominator: y.denominator,
            x_numerator: x.numerator,
            x_offset: x.offset,
            x_denominator: x.denominator,
            ..Params::new(logits)
        };
        let (kernel, taps, invocations) = match taps(&y, &x) {
            Some(taps) => (&UPSCALE, taps, params.row_groups * part.rows.div_ceil(4)),
            None => (&RESIZE, ANY_TAPS, params.row_groups * part.rows),
        };
        let scores = outputs.scores();
        let specialisation = Specialisation { labels, scores, taps, ..any_classes(logits.element_type()) };
        dispatch.push(gpu, (kernel, specialisation), params, &buffers, (invocations, part.band.images))
    }

    /// Labels of `data`, N × C × H × W, packed N × height × width. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; [`Error::Empty`] for a size of zero; [`Error::LabelType`]
    /// for too many classes; [`Error::Limit`] for sizes beyond 32 bits; what the device reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Segmentation, Error> {
        self.run_with(gpu, logits, data, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
    ) -> Result<Segmentation, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<Segmentation, Error> {
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let label_type = self.label_type_for(&logits);
        let pixels = self.map(&logits)?.pixels();
        let (device, bits) = (bands::binding_limit(gpu), self.scores.bits(label_type));
        // One row must fit the device, but may be more than a band has otherwise.
        let fits = |limit: u64| {
            move |input: &Logits, output: &Map| {
                within(input.bytes(), limit)?;
                within(output.bytes(32), limit)?;
                within(output.bytes(32) / 32 * bits, limit)
            }
        };
        let rows = match self.split(&logits, fits(BAND_BYTES.min(device))) {
            Err(Error::Limit { .. }) => self.split(&logits, fits(device))?,
            rows => rows?,
        };
        let mut parts = Vec::with_capacity(rows.len());
        for part in &rows {
            let map = Map::with_padded_rows(part.band.images, part.rows, self.width)?;
            parts.push(Part { band: part.band, shape: part.band.shape(&logits)?, map });
        }
        let dispatch = |i: usize, shape: &Logits, input: BufferBinding<'_>, outputs: Outputs<'_>| {
            let input = Bound::new(gpu, binding::LOGITS, input, shape.bytes())?;
            let mut dispatch = Dispatch::new();
            let (map, groups) = (&parts[i].map, MapPart::whole(&parts[i].map));
            self.push(gpu, &mut dispatch, &logits, &rows[i], (input, shape), (&outputs, map, &groups))?;
            Ok(dispatch)
        };
        segmentation::run(gpu, waiting, (&logits, &mut input), &parts, (label_type, self.scores), pixels, dispatch)
            .await
    }

    fn rows_of_all(&self, logits: &Logits) -> Rows {
        Rows { band: Band::whole(logits), row: 0, rows: self.height }
    }

    /// Splits the result into images, or runs of rows, whose logits and maps `fit`.
    fn split(&self, logits: &Logits, fit: impl Fn(&Logits, &Map) -> Result<(), Error>) -> Result<Vec<Rows>, Error> {
        let all = self.rows_of_all(logits);
        let fits = |part: &Rows| {
            let map = Map::with_padded_rows(part.band.images, part.rows, self.width)?;
            fit(&part.band.shape(logits)?, &map)
        };
        if fits(&all).is_ok() {
            return Ok(vec![all]);
        }
        let image = |image| Rows { band: Band { image, images: 1, ..all.band }, ..all };
        if fits(&image(0)).is_ok() {
            return Ok((0..logits.images()).map(image).collect());
        }
        let y = Axis::new(self.resize, logits.height(), self.height)?;
        let x = Axis::new(self.resize, logits.width(), self.width)?;
        let mut rows = self.height;
        loop {
            let parts = self.parts_of_rows(logits, &y, taps(&y, &x), rows);
            match parts.iter().try_for_each(fits) {
                Ok(()) => return Ok(parts),
                Err(error) if rows == 1 => return Err(error),
                Err(_) => {}
            }
            // Whole blocks of four rows, so that every pixel is computed in the same way whatever the parts are.
            rows = if rows > 4 { rows.div_ceil(2).next_multiple_of(4) } else { rows.div_ceil(2) };
        }
    }

    fn parts_of_rows(&self, logits: &Logits, y: &Axis, taps: Option<u32>, rows: u32) -> Vec<Rows> {
        let mut parts = Vec::new();
        for image in 0..logits.images() {
            for row in (0..self.height).step_by(rows as usize) {
                let rows = rows.min(self.height - row);
                let source_row = y.index(row);
                // The last pixel's lower tap, and where blocks of four rows are read, all taps of the last block.
                let last_block = row + (rows - 1) / 4 * 4;
                let last_tap = taps.map_or(0, |taps| y.index(last_block) + taps - 1);
                let end = (last_tap.max(y.index(row + rows - 1) + 1) + 1).min(logits.height());
                let (height, width) = (end - source_row, logits.width());
                let band = Band { image, pixel: source_row * width, images: 1, height, width };
                parts.push(Rows { band, row, rows });
            }
        }
        parts
    }
}
