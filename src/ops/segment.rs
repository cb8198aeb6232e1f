use wgpu::BufferBinding;

use crate::bands::{self, BAND_BYTES, MAP_CHUNK_BYTES};
use crate::dispatch::Bound;
use crate::host::{self, Waiting};
use crate::kernel::{Access, Binding, Kernel, Params, Scores, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::resize::{Geometry, Resize, Rows, within};
use crate::ops::upsample::{
    Kernels, RESIZE_TAPS, UPSCALE_TAPS, WideKernels, any_classes, in_strips, in_wide_blocks, resize, upscale,
    upscale_by_four, upscale_wide,
};
use crate::segmentation::{self, Part};
use crate::{Dispatch, ElementType, Error, Gpu, Input, LabelType, Logits, Map, Outputs, Segmentation};

const SOURCE: &str = concat!(include_str!("../../shaders/upsample.wgsl"), include_str!("../../shaders/segment.wgsl"));

const WIDE_SOURCE: &str = concat!(
    include_str!("../../shaders/upsample.wgsl"),
    include_str!("../../shaders/upsample_wide.wgsl"),
    include_str!("../../shaders/upsample_by_four.wgsl"),
    include_str!("../../shaders/segment.wgsl")
);

const BINDINGS: &[Binding] =
    &[binding::LOGITS, binding::LABELS, binding::CONFIDENCE, binding::MARGIN, binding::ENTROPY];

pub(crate) static UPSCALE: Kernel = upscale("segment upscale", SOURCE, BINDINGS, upscales);
pub(crate) static WIDE: Kernel = upscale_wide("segment upscale wide", WIDE_SOURCE, BINDINGS, wides);
pub(crate) static BY_FOUR: Kernel = upscale_by_four("segment upscale by four", WIDE_SOURCE, BINDINGS, by_fours);
pub(crate) static RESIZE: Kernel = resize("segment resize", SOURCE, BINDINGS, resizes);

pub(crate) const KERNELS: Kernels =
    Kernels { upscale: &UPSCALE, wide: Some(WideKernels { upscale: &WIDE, by_four: &BY_FOUR }), resize: &RESIZE };

fn upscales(_classes: u32) -> Vec<Specialisation> {
    UPSCALE_TAPS.into_iter().flat_map(specialisations).collect()
}

fn wides(classes: u32) -> Vec<Specialisation> {
    upscales(classes).into_iter().filter(|one| in_wide_blocks(one.scores)).flat_map(of_accesses).collect()
}

fn by_fours(classes: u32) -> Vec<Specialisation> {
    resizes(classes).into_iter().filter(|one| in_strips(one.scores)).flat_map(of_accesses).collect()
}

fn of_accesses(one: Specialisation) -> [Specialisation; 2] {
    [Access::Scalar, Access::Words64].map(|access| Specialisation { access, ..one })
}

fn resizes(_classes: u32) -> Vec<Specialisation> {
    specialisations(RESIZE_TAPS)
}

fn specialisations(taps: u32) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for element_type in [ElementType::F32, ElementType::F16] {
        for labels in [LabelType::U8, LabelType::U32] {
            for scores in Scores::levels() {
                all.push(Specialisation { labels, scores, taps, ..any_classes(element_type) });
            }
        }
    }
    all
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

    pub(crate) fn label_type_for(&self, logits: &Logits) -> LabelType {
        self.label_type.unwrap_or_else(|| LabelType::for_classes(logits.classes()))
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `outputs`, maps with the
    /// geometry of [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`] for buffers that do
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
        let geometry = Geometry::new(self.resize, logits, self.height, self.width)?;
        let bytes = |part: &Rows| Ok(self.map_of(part)?.bytes(32));
        Kernels::dispatch(gpu, &geometry, logits, input, (bytes, MAP_CHUNK_BYTES), |dispatch, part, params, input| {
            let groups = MapPart::rows(&map, part.band.image..part.band.image + part.band.images, part.row, part.rows);
            let params = Params { map_groups: map.image_stride() / 4, map_offset: groups.offset(), ..params };
            self.push(gpu, dispatch, (&geometry, params), input, (&outputs, &map, &groups))
        })
    }

    /// The geometry of some rows of the result alone.
    fn map_of(&self, part: &Rows) -> Result<Map, Error> {
        Map::with_padded_rows(part.band.images, part.rows, self.width)
    }

    /// The work for some rows.
    fn push(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (geometry, params): (&Geometry, Params),
        (input, logits): (Bound<'_>, &Logits),
        (outputs, map, groups): (&Outputs<'_>, &Map, &MapPart),
    ) -> Result<(), Error> {
        let labels = self.label_type_for(logits);
        labels.check(logits.classes())?;
        let [labels_buffer, confidence, margin, entropy] = outputs.bind(gpu, map, labels, groups)?;
        let buffers = [input, labels_buffer, confidence, margin, entropy];
        let scores = outputs.scores().level();
        let specialisation = Specialisation { labels, scores, ..any_classes(logits.element_type()) };
        KERNELS.push(gpu, dispatch, (geometry, params), specialisation, &buffers, logits.images())
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
    #[cfg(not(target_family = "wasm"))]
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
        let of_image = 0;
        let host = HostParts::new(gpu, self, &logits, (self.scores.bits(label_type), of_image))?;
        let dispatch = |i: usize, _: &Logits, input: BufferBinding<'_>, outputs: Outputs<'_>| {
            host.dispatch(gpu, i, input, &outputs)
        };
        segmentation::run(gpu, waiting, (&logits, &mut input), &host.parts, (label_type, self.scores), pixels, dispatch)
            .await
    }
}

/// The one-shot path: what goes through the GPU at a time, and the work of it.
pub(crate) struct HostParts {
    segment: Segment,
    logits: Logits,
    geometry: Geometry,
    rows: Vec<Rows>,
    pub parts: Vec<Part>,
}

impl HostParts {
    /// For `logits` as they lie on the host, with `bits` of maps for every pixel of the result, and `of_image` bytes of other
    /// results for every image.
    pub fn new(gpu: &Gpu, segment: &Segment, logits: &Logits, (bits, of_image): (u64, u64)) -> Result<Self, Error> {
        segment.map(logits)?;
        let device = bands::binding_limit(gpu);
        let geometry = Geometry::new(segment.resize, logits, segment.height, segment.width)?;
        // One row must fit the device, but may be more than a band has otherwise.
        let split = |limit: u64| {
            geometry.split(logits, |part| {
                within(part.band.shape(logits)?.bytes(), limit)?;
                within(u64::from(part.band.images) * of_image, limit)?;
                let map = segment.map_of(part)?;
                within(map.bytes(32), limit)?;
                within(map.bytes(32) / 32 * bits, limit)
            })
        };
        let rows = match split(BAND_BYTES.min(device)) {
            Err(Error::Limit { .. }) => split(device)?,
            rows => rows?,
        };
        let mut parts = Vec::with_capacity(rows.len());
        for part in &rows {
            parts.push(Part { band: part.band, shape: part.band.shape(logits)?, map: segment.map_of(part)? });
        }
        Ok(Self { segment: *segment, logits: *logits, geometry, rows, parts })
    }

    /// The work of a part, whose logits are in `input`.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        i: usize,
        input: BufferBinding<'_>,
        outputs: &Outputs<'_>,
    ) -> Result<Dispatch, Error> {
        let Part { shape, map, .. } = &self.parts[i];
        let input = Bound::new(gpu, binding::LOGITS, input, shape.bytes())?;
        let params = self.geometry.params(&self.logits, &self.rows[i], shape);
        let (geometry, groups) = (&self.geometry, MapPart::whole(map));
        let mut dispatch = Dispatch::new();
        self.segment.push(gpu, &mut dispatch, (geometry, params), (input, shape), (outputs, map, &groups))?;
        Ok(dispatch)
    }

    /// Index of the first pixel of a part among the pixels of all images of the result.
    pub fn position(&self, i: usize) -> usize {
        let Rows { band, row, .. } = &self.rows[i];
        let (height, width) = (self.segment.height as usize, self.segment.width as usize);
        (band.image as usize * height + *row as usize) * width
    }
}
