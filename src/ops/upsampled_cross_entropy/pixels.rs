//! From logits and labels on the GPU to partial sums, and to losses per pixel or to the gradient.

use wgpu::{Buffer, BufferBinding};

use super::UpsampledCrossEntropy;
use crate::bands::{self, MAP_CHUNK_BYTES};
use crate::dispatch::{Bound, bound_or_placeholder, constants, scratch};
use crate::kernel::{Binding, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::{PartialSums, RECORD, ignore_index_in_32_bits};
use crate::ops::resize::{Geometry, Rows, SourceRows, within};
use crate::ops::upsample::{Kernels, RESIZE_TAPS, UPSCALE_TAPS, any_classes, resize, upscale};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, LabelType, Logits, Map, Reduction, Targets};

const SOURCE: &str = concat!(
    include_str!("../../../shaders/prelude/partials.wgsl"),
    include_str!("../../../shaders/cross_entropy.wgsl"),
    include_str!("../../../shaders/upsampled_cross_entropy.wgsl")
);

const BINDINGS: &[Binding] =
    &[binding::LOGITS, binding::TARGET, binding::CLASS_WEIGHTS, binding::LOSS, binding::PARTIALS_OUT, binding::COUNTS];

pub(crate) static UPSCALE: Kernel = upscale("upsampled cross-entropy upscale", SOURCE, BINDINGS, upscales);
pub(crate) static RESIZE: Kernel = resize("upsampled cross-entropy resize", SOURCE, BINDINGS, resizes);

/// The gradient, from what those leave of the pixels.
pub(crate) static GRADIENT: Kernel = Kernel {
    name: "upsampled cross-entropy gradient",
    source: concat!(
        include_str!("../../../shaders/prelude/partials.wgsl"),
        include_str!("../../../shaders/cross_entropy.wgsl"),
        include_str!("../../../shaders/upsampled_cross_entropy_gradient.wgsl")
    ),
    entry: "gradient",
    class_walks: 1,
    bindings: &[
        binding::LOGITS,
        binding::GRADIENT,
        binding::TARGET,
        binding::CLASS_WEIGHTS,
        binding::STATISTICS_IN,
        binding::TOTAL,
    ],
    specialisations: |_| specialisations(RESIZE_TAPS).filter(|one| !one.gradient && !one.counts).collect(),
};

const KERNELS: Kernels = Kernels { upscale: &UPSCALE, wide: None, resize: &RESIZE };

/// Classes of an invocation, `CHUNK` in `shaders/upsampled_cross_entropy_gradient.wgsl`.
const CHUNK: u32 = 4;

/// Rows of logits that an invocation walks down where there are many: the pixels between one run and the next are read for
/// both.
const RUN: u32 = 4;
const MANY_ROWS: u32 = 64;

fn upscales(_classes: u32) -> Vec<Specialisation> {
    UPSCALE_TAPS.into_iter().flat_map(specialisations).collect()
}

fn resizes(_classes: u32) -> Vec<Specialisation> {
    specialisations(RESIZE_TAPS).collect()
}

fn specialisations(taps: u32) -> impl Iterator<Item = Specialisation> {
    let types =
        [ElementType::F32, ElementType::F16].map(|element| [LabelType::U8, LabelType::U32].map(|l| (element, l)));
    types.into_iter().flatten().flat_map(move |(element_type, labels)| {
        (0..8).map(move |bits| {
            let one = specialise(element_type, labels, bits & 1 != 0);
            Specialisation { gradient: bits & 2 != 0, counts: bits & 4 != 0, taps, ..one }
        })
    })
}

/// With both weights and smoothing if one is `weighted` by either: all combinations would be twice as many pipelines.
fn specialise(element_type: ElementType, labels: LabelType, weighted: bool) -> Specialisation {
    Specialisation { labels, class_weights: weighted, label_smoothing: weighted, ..any_classes(element_type) }
}

/// What the kernels write beside partial sums.
#[derive(Clone)]
pub(super) enum Written<'a> {
    /// The loss of every pixel, if there is a buffer for it.
    Losses(Option<BufferBinding<'a>>),
    /// What the gradient is made of, 8 bytes of every pixel.
    Statistics(BufferBinding<'a>),
}

/// Where the confusion matrices of the images are, and the words of one.
type Counts<'a> = (Bound<'a>, u32);

/// Bits that the statistics of a pixel take.
pub(super) const STATISTICS: u32 = 64;

impl UpsampledCrossEntropy {
    /// The buffer for what the gradient is made of.
    pub(super) fn statistics(&self, gpu: &Gpu, map: &Map) -> Result<Buffer, Error> {
        scratch(gpu, binding::STATISTICS_OUT.what, map.bytes(STATISTICS))
    }

    /// The weight of every class where there are weights or smoothing, which are compiled together.
    pub(super) fn weights(&self, gpu: &Gpu, logits: &Logits) -> Result<Option<Buffer>, Error> {
        let smoothed = (self.loss.label_smoothing != 0.0).then(|| vec![1.0; logits.classes() as usize]);
        let weights = self.loss.class_weights.clone().or(smoothed);
        weights.map(|weights| constants(gpu, "class weights", bytemuck::cast_slice(&weights))).transpose()
    }

    /// Partial sums that a part leaves.
    pub(super) fn partials(geometry: &Geometry, part: &Rows) -> u64 {
        let rows = if geometry.taps().is_some() { part.rows.div_ceil(4) } else { part.rows };
        u64::from(row_partials(geometry)) * u64::from(rows) * u64::from(part.band.images)
    }

    /// Leaves the partial sums of all pixels, and returns them.
    pub(super) fn push_pixels(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        ((input, targets), written, counts): ((BufferBinding<'_>, Targets<'_>), Written<'_>, Option<Counts<'_>>),
        record: &Bound<'_>,
    ) -> Result<PartialSums, Error> {
        let (map, geometry) = (self.map(logits)?, self.geometry(logits)?);
        let bits = if matches!(written, Written::Statistics(_)) { STATISTICS } else { 32 };
        let bytes = |part: &Rows| {
            let of_map = Map::with_padded_rows(part.band.images, part.rows, self.width)?.bytes(bits);
            Ok(of_map.max(Self::partials(&geometry, part) * RECORD))
        };
        let parts = Kernels::parts(gpu, &geometry, logits, (bytes, 2 * MAP_CHUNK_BYTES))?;
        let sums = PartialSums::of_parts(gpu, parts.iter().map(|part| Self::partials(&geometry, part)))?;
        let weights = self.weights(gpu, logits)?;
        let bands: Vec<_> = parts.iter().map(|part| part.band).collect();
        let window = Window::new(gpu, input, logits, &bands)?;
        for (i, part) in parts.iter().enumerate() {
            let (input, shape) = window.read(gpu, dispatch, &part.band)?;
            let images = part.band.image..part.band.image + part.band.images;
            let groups = MapPart::rows(&map, images, part.row, part.rows);
            let counts = counts.clone().map(|(counts, words)| (counts, words, part.band.image * words));
            let buffers = Buffers { targets: targets.clone(), written: written.clone(), weights: weights.as_ref() };
            let buffers = buffers.bind(gpu, &map, &groups)?;
            let params = Params {
                map_groups: map.image_stride() / 4,
                map_offset: groups.offset(),
                first_pixel: (part.band.image * self.height + part.row) * self.width,
                pixels: self.height * self.width,
                ..geometry.params(logits, part, &shape)
            };
            buffers.iter().chain([&input]).try_for_each(|other| record.check_apart(other))?;
            let kind = (&geometry, params, (targets.label_type(), bits == STATISTICS));
            self.push_part(gpu, dispatch, kind, (input, &shape), (buffers, sums.of_band(gpu, i)?, counts))?;
        }
        Ok(sums)
    }

    /// The work for a part of the pixels. `counts` are bound from where the records of all images start; the last number
    /// is the word of the first image's.
    pub(super) fn push_part(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (geometry, params, (labels, gradient)): (&Geometry, Params, (LabelType, bool)),
        (input, logits): (Bound<'_>, &Logits),
        ([targets, written, weights], sums, counts): ([Bound<'_>; 3], Bound<'_>, Option<(Bound<'_>, u32, u32)>),
    ) -> Result<(), Error> {
        let row_groups = row_partials(geometry);
        let rows = if geometry.taps().is_some() { params.out_height.div_ceil(4) } else { params.out_height };
        let params = Params { row_groups, partials: row_groups * rows, ..self.params(params) };
        let one = Specialisation { gradient, ..self.specialisation(logits, labels) };
        let (counts, one, params) = match counts {
            Some((counts, words, first)) => (
                counts.with_binding(binding::COUNTS),
                Specialisation { counts: true, ..one },
                Params { out_image_stride: words, out_offset: first, ..params },
            ),
            None => (Bound::placeholder(gpu, binding::COUNTS), one, params),
        };
        let buffers = [input, targets, weights, written, sums, counts];
        KERNELS.push(gpu, dispatch, (geometry, params), one, &buffers, logits.images())
    }

    fn specialisation(&self, logits: &Logits, labels: LabelType) -> Specialisation {
        let weighted = self.loss.class_weights.is_some() || self.loss.label_smoothing != 0.0;
        specialise(logits.element_type(), labels, weighted)
    }

    fn params(&self, params: Params) -> Params {
        let ignore_index = ignore_index_in_32_bits(self.loss.ignore_index);
        Params {
            has_ignore_index: u32::from(ignore_index.is_some()),
            ignore_index: ignore_index.unwrap_or(0),
            label_smoothing: self.loss.label_smoothing,
            reduction: u32::from(self.loss.reduction == Reduction::Mean),
            ..params
        }
    }

    /// Writes the gradient, from the statistics of all pixels and what it is divided by.
    pub(super) fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        logits: &Logits,
        ((input, targets), statistics, total): ((BufferBinding<'_>, Targets<'_>), &Buffer, Bound<'_>),
        (gradient, record): (BufferBinding<'_>, &Bound<'_>),
    ) -> Result<(), Error> {
        let (map, geometry, result) = (self.map(logits)?, self.geometry(logits)?, logits.output());
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let parts = geometry.split_source(logits, |part| {
            bands::check_readable(gpu, logits, &part.read.band)?;
            bands::check_readable(gpu, &result, &part.band)?;
            let pixels = Map::with_padded_rows(part.read.band.images, part.read.rows, self.width)?;
            within(pixels.bytes(STATISTICS), limit.saturating_sub(2 * MAP_CHUNK_BYTES))
        })?;
        let (read, written): (Vec<_>, Vec<_>) = parts.iter().map(|part| (part.read.band, part.band)).unzip();
        let input = Window::new(gpu, input, logits, &read)?;
        let output = Window::new(gpu, gradient, &result, &written)?;
        let weights = self.weights(gpu, logits)?;
        for part in &parts {
            let (from, shape) = input.read(gpu, dispatch, &part.read.band)?;
            let (to, to_shape) = output.write_as(gpu, binding::GRADIENT, &part.band)?;
            record.check_apart(&to)?;
            let images = part.band.image..part.band.image + part.band.images;
            let groups = MapPart::rows(&map, images, part.read.row, part.read.rows);
            let written = Written::Statistics(statistics.as_entire_buffer_binding());
            let buffers = Buffers { targets: targets.clone(), written, weights: weights.as_ref() };
            let buffers = buffers.bind(gpu, &map, &groups)?;
            let place = (map.image_stride() / 4, groups.offset());
            let kind = (&geometry, logits, part, place, targets.label_type());
            self.push_gradient_part(gpu, dispatch, kind, ((from, &shape), (to, &to_shape)), (buffers, total.clone()))?;
            output.finish(gpu, dispatch, &part.band)?;
        }
        Ok(())
    }

    /// The work for the gradient of some rows of `whole`; `place` tells where the pixels lie in what is bound of a map.
    pub(super) fn push_gradient_part(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (geometry, whole, part, place, labels): (&Geometry, &Logits, &SourceRows, (u32, u32), LabelType),
        ((input, from), (output, to)): ((Bound<'_>, &Logits), (Bound<'_>, &Logits)),
        ([targets, statistics, weights], total): ([Bound<'_>; 3], Bound<'_>),
    ) -> Result<(), Error> {
        let rows = part.band.height;
        let lanes = run_of(gpu, geometry.readers(whole), rows)?;
        let params = self.params(geometry.params(whole, &part.read, from).with_output(to));
        let params = Params {
            map_groups: place.0,
            map_offset: place.1,
            first_row: part.band.pixel / whole.width(),
            rows,
            lanes,
            ..params
        };
        let invocations = whole.classes().div_ceil(CHUNK) * rows.div_ceil(lanes) * whole.width();
        let statistics = statistics.with_binding(binding::STATISTICS_IN);
        let buffers = [input, output, targets, weights, statistics, total];
        let kernel = (&GRADIENT, Specialisation { taps: RESIZE_TAPS, ..self.specialisation(from, labels) });
        dispatch.push(gpu, kernel, params, &buffers, (invocations, from.images()))
    }
}

/// Invocations, and partial sums, for a row of groups: a range of such rows can be bound.
fn row_partials(geometry: &Geometry) -> u32 {
    geometry.width.div_ceil(4).next_multiple_of(16)
}

/// How many rows of logits an invocation walks down, each of which is read by so many rows and columns of pixels.
fn run_of(gpu: &Gpu, (rows, columns): (u32, u32), source_rows: u32) -> Result<u32, Error> {
    let wanted = if source_rows >= MANY_ROWS { RUN } else { 1 };
    let Some(limit) = gpu.loop_iterations() else { return Ok(wanted) };
    let iterations = |run: u32| u64::from(run) * u64::from(rows) * (u64::from(columns) + 1) + u64::from(run) + 1;
    let needed = iterations(1);
    match [wanted, 1].into_iter().find(|&run| iterations(run) <= limit.into()) {
        Some(run) => Ok(run),
        None => {
            let what = "pixels that read one of the logits, on an adapter that ends loops early (llvmpipe)";
            Err(Error::Limit { what, needed, limit: limit.into() })
        }
    }
}

/// Beside the logits, what a part of the pixels reads and writes.
pub(super) struct Buffers<'a> {
    pub targets: Targets<'a>,
    pub written: Written<'a>,
    pub weights: Option<&'a Buffer>,
}

impl<'a> Buffers<'a> {
    /// Targets, what is written, and the weights of the classes.
    pub fn bind(self, gpu: &'a Gpu, map: &Map, groups: &MapPart) -> Result<[Bound<'a>; 3], Error> {
        let part = |binding, buffer, bits| Bound::part(gpu, binding, buffer, map.bytes(bits), groups.bytes(bits));
        let targets = part(binding::TARGET, self.targets.buffer, self.targets.label_type.bits())?;
        let written = match self.written {
            Written::Losses(Some(losses)) => part(binding::LOSS, losses, 32)?,
            Written::Losses(None) => Bound::placeholder(gpu, binding::LOSS),
            Written::Statistics(statistics) => part(binding::STATISTICS_OUT, statistics, STATISTICS)?,
        };
        let weights = bound_or_placeholder(gpu, binding::CLASS_WEIGHTS, self.weights)?;
        Ok([targets, written, weights])
    }
}
