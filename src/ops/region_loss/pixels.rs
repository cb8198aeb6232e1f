//! From logits and targets on the GPU to the sums of chunks of pixels, and to the gradient.

use std::cell::RefCell;

use wgpu::{Buffer, BufferBinding};

use super::RegionLoss;
use super::score::{SUMS, Sums};
use crate::bands::{self, Band};
use crate::dispatch::{Bound, scratch};
use crate::kernel::{Access, Binding, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::ops::loss::{Against, ignore_index_in_32_bits};
use crate::ops::softmax::push_statistics;
use crate::window::Window;
use crate::{Activation, Dispatch, Error, Gpu, LabelType, Logits};

macro_rules! source {
    ($targets:literal) => {
        concat!(
            include_str!("../../../shaders/prelude/partials.wgsl"),
            include_str!("../../../shaders/prelude/region_sums.wgsl"),
            include_str!($targets),
            include_str!("../../../shaders/region_loss.wgsl")
        )
    };
}

const LABELS: &str = source!("../../../shaders/prelude/truth_labels.wgsl");
const SOFT: &str = source!("../../../shaders/prelude/truth_soft.wgsl");

const SUMS_BINDINGS: &[Binding] =
    &[binding::LOGITS, binding::TARGET, binding::REGION_MAXIMUM, binding::REGION_SCALE, binding::CHUNK_SUMS];

const GRADIENT_BINDINGS: &[Binding] = &[
    binding::LOGITS,
    binding::TARGET,
    binding::REGION_MAXIMUM,
    binding::REGION_SCALE,
    binding::COEFFICIENTS_IN,
    binding::GRADIENT,
];

/// The sums of chunks, against labels …
pub(crate) static LABEL_SUMS: Kernel = Kernel {
    name: "region label sums",
    source: LABELS,
    entry: "sums",
    class_walks: 1,
    bindings: SUMS_BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8, LabelType::U32]),
};

/// … and against soft targets.
pub(crate) static SOFT_SUMS: Kernel = Kernel {
    name: "region soft sums",
    source: SOFT,
    entry: "sums",
    class_walks: 1,
    bindings: SUMS_BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8]),
};

/// The gradient, against labels …
pub(crate) static LABEL_GRADIENT: Kernel = Kernel {
    name: "region label gradient",
    source: LABELS,
    entry: "gradient",
    class_walks: 2,
    bindings: GRADIENT_BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8, LabelType::U32]),
};

/// … and against soft targets.
pub(crate) static SOFT_GRADIENT: Kernel = Kernel {
    name: "region soft gradient",
    source: SOFT,
    entry: "gradient",
    class_walks: 2,
    bindings: GRADIENT_BINDINGS,
    specialisations: |_| specialisations(&[LabelType::U8]),
};

fn specialisations(labels: &[LabelType]) -> Vec<Specialisation> {
    let mut all = Vec::new();
    for (access, element) in Access::inputs() {
        for &labels in labels {
            for activation in [Activation::None, Activation::Sigmoid, Activation::Softmax] {
                all.push(Specialisation { labels, activation, ..Specialisation::new(access, element, 0) });
            }
        }
    }
    all
}

/// Groups of four pixels whose sums are taken together, `CHUNK` in `shaders/region_loss.wgsl`.
const CHUNK: u32 = 512;

/// Classes that an invocation sums up, `BLOCK` there.
const BLOCK: u32 = 4;

/// Invocations that share a chunk of an image with so many pixels: each has at least four groups, if there are any.
pub(super) fn lanes_of(logits: &Logits) -> u32 {
    (logits.pixels() / 16).clamp(1, 32)
}

/// What a loss reads, band by band.
pub(super) struct Pixels<'a> {
    operator: &'a RegionLoss,
    logits: Logits,
    against: Against<'a>,
    input: BufferBinding<'a>,
    lanes: u32,
    bands: Vec<Band>,
    /// The maximum and the scale of every pixel of the bands whose softmax was taken.
    softmax: RefCell<Vec<[Buffer; 2]>>,
}

impl<'a> Pixels<'a> {
    /// For `lanes` invocations to a chunk.
    pub fn new(
        operator: &'a RegionLoss,
        gpu: &Gpu,
        logits: &Logits,
        (input, against): (BufferBinding<'a>, Against<'a>),
        lanes: u32,
    ) -> Result<Self, Error> {
        let bands = bands_of(gpu, logits, lanes)?;
        Ok(Self { operator, logits: *logits, against, input, lanes, bands, softmax: RefCell::new(Vec::new()) })
    }

    /// Leaves the sums of all chunks in `to`, N × [`rows`] × C, where no buffer that is read may be one of `written`.
    pub fn push_sums(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        to: &Buffer,
        written: &[&Bound<'_>],
    ) -> Result<(), Error> {
        let classes = self.logits.classes();
        let mut first = 0;
        self.each_band(gpu, dispatch, |dispatch, band, inputs, (params, key)| {
            for (written, read) in
                written.iter().flat_map(|written| inputs[..2].iter().map(move |read| (written, read)))
            {
                written.check_apart(read)?;
            }
            let chunks = params.groups.div_ceil(CHUNK);
            let rows = chunks * self.lanes;
            let sums = scratch(gpu, "sums of regions", u64::from(band.images) * u64::from(rows * classes) * SUMS)?;
            let out = Bound::whole(gpu, binding::CHUNK_SUMS, &sums)?;
            let params = Params { lanes: self.lanes, ..params };
            let kernel = if self.is_soft() { &SOFT_SUMS } else { &LABEL_SUMS };
            let buffers = [&inputs[..], &[out]].concat();
            let invocations = rows * classes.div_ceil(BLOCK);
            dispatch.push(gpu, (kernel, key), params, &buffers, (invocations, band.images))?;
            let folded = Sums { buffer: &sums, images: band.images, rows };
            folded.fold(gpu, dispatch, classes, self.lanes, (to, first))?;
            first += band.images * chunks * classes;
            Ok(())
        })
    }

    /// Writes the gradient of the images from `first_image` on to `to`; `coefficients` has those of all images, or with
    /// `stride` 0 of all of them together.
    pub fn push_gradient(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (coefficients, first_image, stride): (&Buffer, u32, u32),
        to: BufferBinding<'_>,
        written: &[&Bound<'_>],
    ) -> Result<(), Error> {
        let coefficients = Bound::whole(gpu, binding::COEFFICIENTS_IN, coefficients)?;
        let gradient = Window::new(gpu, to, &self.logits.output(), &self.bands)?;
        self.each_band(gpu, dispatch, |dispatch, band, inputs, (params, key)| {
            let (out, part) = gradient.write_as(gpu, binding::GRADIENT, band)?;
            for written in written {
                written.check_apart(&out)?;
            }
            let params = params.with_output(&part);
            let first_region = (first_image + band.image) * stride;
            let params = Params { first_region, region_stride: stride, ..params };
            let reads = params.reads_in_fours() && params.writes_in_fours(part.is_cropped());
            let key = Specialisation { access: Access::choose(gpu, reads), ..key };
            let kernel = if self.is_soft() { &SOFT_GRADIENT } else { &LABEL_GRADIENT };
            let buffers = [&inputs[..], &[coefficients.clone(), out]].concat();
            dispatch.push(gpu, (kernel, key), params, &buffers, (params.groups, band.images))?;
            gradient.finish(gpu, dispatch, band)
        })
    }

    fn is_soft(&self) -> bool {
        matches!(self.against, Against::Soft(_))
    }

    /// Calls `push` for every band with logits, targets, maximum and scale as they are bound, and the parameters and the
    /// specialisation of a kernel that reads them.
    fn each_band(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        mut push: impl FnMut(&mut Dispatch, &Band, [Bound<'_>; 4], (Params, Specialisation)) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let logits = &self.logits;
        let map = logits.map();
        let input = Window::new(gpu, self.input.clone(), logits, &self.bands)?;
        let targets = self.against.source(gpu, logits, &self.bands)?;
        let ignore_index = ignore_index_in_32_bits(self.operator.ignore_index);
        let (.., activation) = self.operator.options(logits.classes());
        for (i, band) in self.bands.iter().enumerate() {
            let (input, part) = input.read(gpu, dispatch, band)?;
            if activation == Activation::Softmax && self.softmax.borrow().len() == i {
                let found = push_softmax(gpu, dispatch, &input, &part)?;
                self.softmax.borrow_mut().push(found);
            }
            let softmax = self.softmax.borrow();
            let (maximum, scale) = match softmax.get(i) {
                Some([maximum, scale]) => (
                    Bound::whole(gpu, binding::REGION_MAXIMUM, maximum)?,
                    Bound::whole(gpu, binding::REGION_SCALE, scale)?,
                ),
                None => {
                    (Bound::placeholder(gpu, binding::REGION_MAXIMUM), Bound::placeholder(gpu, binding::REGION_SCALE))
                }
            };
            let groups = MapPart::of(&map, band);
            let params = Params::new(&part);
            let (targets, params) = targets.read(gpu, dispatch, band, (&map, &groups), params)?;
            let params = Params {
                map_offset: groups.offset(),
                first_pixel: band.image * logits.pixels() + band.pixel,
                pixels: logits.pixels(),
                has_ignore_index: u32::from(ignore_index.is_some()),
                ignore_index: ignore_index.unwrap_or(0),
                ..params
            };
            let (labels, in_fours) = match &self.against {
                Against::Labels(targets) => (targets.label_type(), params.reads_in_fours()),
                Against::Soft(_) => (LabelType::U8, params.reads_in_fours() && params.writes_in_fours(false)),
            };
            let access = Access::choose(gpu, in_fours);
            let key = Specialisation { labels, activation, ..Specialisation::new(access, part.element_type(), 0) };
            push(dispatch, band, [input, targets, maximum, scale], (params, key))?;
        }
        Ok(())
    }
}

/// Finds the maximum and the scale of the softmax of every pixel.
fn push_softmax(gpu: &Gpu, dispatch: &mut Dispatch, input: &Bound<'_>, part: &Logits) -> Result<[Buffer; 2], Error> {
    let params = Params::new(part);
    let access = Access::choose(gpu, params.reads_in_fours()).for_classes(part.classes());
    let key = Specialisation::new(access, part.element_type(), 0);
    let far = Bound::placeholder(gpu, binding::FAR_LOGITS);
    push_statistics(gpu, dispatch, [input, &far], (params, part.images()), key)
}

/// Bands that logits can be taken in, with the sums of all lanes of each.
fn bands_of(gpu: &Gpu, logits: &Logits, lanes: u32) -> Result<Vec<Band>, Error> {
    let limit = bands::binding_limit(gpu);
    let mut all = Vec::new();
    for band in bands::for_dispatch(gpu, &logits.output())? {
        let rows = u64::from(chunks_of(logits, &band) * lanes);
        let images = u32::try_from(limit / (rows * u64::from(logits.classes()) * SUMS)).unwrap_or(u32::MAX).max(1);
        for first in (0..band.images).step_by(images as usize) {
            all.push(Band { image: band.image + first, images: images.min(band.images - first), ..band });
        }
    }
    Ok(all)
}

/// Chunks of an image of a band.
fn chunks_of(logits: &Logits, band: &Band) -> u32 {
    Params::new(&band.of(logits)).groups.div_ceil(CHUNK)
}

/// Chunks of each image, and with that sums of every class, that [`Pixels::push_sums`] leaves.
pub(super) fn rows(gpu: &Gpu, logits: &Logits, lanes: u32) -> Result<u32, Error> {
    let all = bands_of(gpu, logits, lanes)?;
    let rows: u32 = all.iter().map(|band| chunks_of(logits, band) * band.images).sum();
    // Every image has the same bands.
    Ok(rows / logits.images())
}
