use wgpu::{Buffer, BufferBinding};

use crate::bands::{self, Band};
use crate::dispatch::Bound;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::map::MapPart;
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, Input, LabelType, Labels, Logits, Map};

/// Most classes that are kept of a pixel: they are held in registers.
const LIMIT: u32 = 8;

/// How many places for classes there are kernels for: k is rounded up.
const PLACES: [u32; 4] = [1, 2, 4, LIMIT];

pub(crate) static TOP_K: Kernel = Kernel {
    name: "top-k",
    source: include_str!("../../shaders/top_k.wgsl"),
    entry: "top_k",
    // The loop over the places is inside the one over the classes, where a driver does not unroll it.
    class_walks: 1 + LIMIT,
    bindings: &[binding::LOGITS, binding::LABELS, binding::PROBABILITIES],
    specialisations: |_| {
        let mut all = Vec::new();
        for (access, element_type) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for probabilities in [false, true] {
                    for top_k in PLACES {
                        let key = Specialisation::new(access, element_type, 0);
                        all.push(Specialisation { labels, probabilities, top_k, ..key });
                    }
                }
            }
        }
        all
    },
};

/// The k classes with the largest logits of every pixel, best first, and, if asked for, their softmax probabilities, in
/// the same pass.
///
/// As [`torch.topk(x, k, dim=1)`](https://docs.pytorch.org/docs/stable/generated/torch.topk.html), with an order of
/// equals that is not left open: the smaller class is first. A NaN counts as larger than everything, the first NaN is
/// first. So `k = 1` finds the labels of [`Argmax`](crate::Argmax), and its confidence but for rounding. Probabilities
/// are those of [`Softmax`](crate::Softmax), in 0..=1, over all classes; all of a pixel are NaN where its softmax is.
/// The twin is [`reference::top_k`](crate::reference::top_k).
///
/// ```
/// use seghead::{Gpu, GpuOptions, Labels, Logits, TopK};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// // Three classes of two pixels.
/// let logits = Logits::chw(3, 1, 2)?;
/// let found = TopK::new(2).probabilities(true).run_blocking(&gpu, &logits, &[0.0, 5.0, 9.0, 5.0, 1.0, 2.0])?;
/// assert_eq!(found.labels, Labels::U8(vec![1, 0, 2, 1])); // the best of both pixels, then the second
/// assert!(found.probabilities.unwrap()[0] > 0.999);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    k: u32,
    label_type: Option<LabelType>,
    probabilities: bool,
}

impl TopK {
    /// The operator for `k` classes, 1 to 8 and no more than there are, with labels of the smallest type for the
    /// classes and without probabilities.
    pub fn new(k: u32) -> Self {
        Self { k, label_type: None, probabilities: false }
    }

    /// Labels of this type.
    pub fn label_type(self, label_type: LabelType) -> Self {
        Self { label_type: Some(label_type), ..self }
    }

    /// Whether [`run`](Self::run) returns the probabilities too. A dispatch writes them if it has a buffer for them.
    pub fn probabilities(self, probabilities: bool) -> Self {
        Self { probabilities, ..self }
    }

    /// The geometry of what a dispatch writes, N × k × H × W: map `j` of image `n`, the `j`-th best classes, is image
    /// `n · k + j` of the `N · k` images of this map. Each has the geometry of [`Logits::map`].
    ///
    /// ```
    /// use seghead::{Logits, TopK};
    /// let logits = Logits::nchw(2, 21, 3, 5)?;
    /// let map = TopK::new(3).map(&logits)?;
    /// assert_eq!((map.images(), map.image_stride()), (6, logits.map().image_stride()));
    /// assert_eq!(map.bytes(8), 6 * 16); // u8 labels
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TopK`] for a `k` that is not in 1..=8 or larger than the number of classes; [`Error::Limit`] where the
    /// pixels of all maps cannot be counted in 32 bits.
    pub fn map(&self, logits: &Logits) -> Result<Map, Error> {
        let classes = logits.classes();
        let limit = LIMIT.min(classes);
        if self.k == 0 || self.k > limit {
            return Err(Error::TopK { limit, classes, found: self.k });
        }
        logits.map().repeated(self.k)
    }

    fn label_type_for(&self, logits: &Logits) -> LabelType {
        self.label_type.unwrap_or_else(|| LabelType::for_classes(logits.classes()))
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `labels`, and if there is a
    /// buffer for them `probabilities`, f32, both with the geometry of [`map`](Self::map).
    ///
    /// Where the device cannot bind the maps of an image at once, the kernel runs for some of them after the others.
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map); [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`],
    /// [`Error::Aliased`] for buffers that do not fit; [`Error::LabelType`] for too many classes; [`Error::Limit`] for
    /// a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        labels: BufferBinding<'_>,
        probabilities: Option<BufferBinding<'_>>,
    ) -> Result<Dispatch, Error> {
        let maps = self.map(logits)?;
        let label_type = self.label_type_for(logits);
        label_type.check(logits.classes())?;
        let bits = label_type.bits();
        let widest = if probabilities.is_some() { 32 } else { bits };
        let limit = gpu.limits().max_storage_buffer_binding_size;
        let bands = bands::for_dispatch_of_maps(gpu, logits, self.k)?;
        let window = Window::new(gpu, input, logits, &bands)?;
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let (input, part) = window.read(gpu, &mut dispatch, band)?;
            let params = Params { map_groups: logits.map().image_stride() / 4, ..Params::new(&part) };
            let access = Access::choose(gpu, params.reads_in_fours());
            let specialisation = Specialisation::new(access, part.element_type(), 0);
            let specialisation = Specialisation {
                labels: label_type,
                probabilities: probabilities.is_some(),
                top_k: self.k.next_power_of_two(),
                ..specialisation
            };
            let mut first_map = 0;
            while first_map < self.k {
                let part_of = |end| MapPart::planes(&logits.map(), band, self.k, first_map..end);
                let fits = |&end: &u32| part_of(end).len(widest) <= limit;
                // One map of a band always fits.
                let end = (first_map + 1..=self.k).rev().find(fits).unwrap_or(first_map + 1);
                let groups = part_of(end);
                let bound =
                    |binding, buffer, bits| Bound::part(gpu, binding, buffer, maps.bytes(bits), groups.bytes(bits));
                let labels = bound(binding::LABELS, labels.clone(), bits)?;
                let probabilities = match &probabilities {
                    Some(buffer) => bound(binding::PROBABILITIES, buffer.clone(), 32)?,
                    None => Bound::placeholder(gpu, binding::PROBABILITIES),
                };
                let params =
                    Params { map_offset: groups.offset(), top_k: self.k, first_map, maps: end - first_map, ..params };
                let buffers = [input.clone(), labels, probabilities];
                dispatch.push(gpu, (&TOP_K, specialisation), params, &buffers, (params.groups, part.images()))?;
                first_map = end;
            }
        }
        Ok(dispatch)
    }

    /// The classes of `data`, N × C × H × W. Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map); [`Error::Length`] for a slice that is not `logits`; [`Error::LabelType`] for too
    /// many classes; what the device reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<TopClasses, Error> {
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
    ) -> Result<TopClasses, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<TopClasses, Error> {
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let values = self.map(&logits)?.pixels();
        let label_type = self.label_type_for(&logits);
        label_type.check(logits.classes())?;
        let bits = u64::from(label_type.bits()) + if self.probabilities { 32 } else { 0 };
        let bands = bands::for_host(gpu, &logits, u64::from(self.k) * bits)?;
        let mut sizes = Sizes { outputs: vec![("labels", 0)], ..Sizes::default() };
        if self.probabilities {
            sizes.outputs.push(("probabilities", 0));
        }
        for band in &bands {
            let shape = band.shape(&logits)?;
            sizes.logits = sizes.logits.max(shape.bytes());
            let map = self.map(&shape)?;
            for ((_, bytes), bits) in sizes.outputs.iter_mut().zip([label_type.bits(), 32]) {
                *bytes = map.bytes(bits).max(*bytes);
            }
        }
        let result = TopClasses {
            labels: match label_type {
                LabelType::U8 => Labels::U8(vec![0; values]),
                LabelType::U32 => Labels::U32(vec![0; values]),
            },
            probabilities: self.probabilities.then(|| vec![0.0; values]),
        };
        let count = bands.len();
        let mut maps = Maps { operator: *self, gpu, logits, label_type, bands, result };
        host::stream(gpu, waiting, &logits, &mut input, (count, sizes), &mut maps).await?;
        Ok(maps.result)
    }
}

/// What [`TopK`] returns on the host.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, TopK};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let found = TopK::new(2).run_blocking(&gpu, &Logits::chw(3, 1, 1)?, &[0.0, 2.0, 1.0])?;
/// assert!(found.labels.iter().eq([1, 2]) && found.probabilities.is_none());
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TopClasses {
    /// The classes of every pixel, N × k × H × W, best first.
    pub labels: Labels,
    /// Their softmax probabilities, N × k × H × W in 0..=1, if they were asked for.
    pub probabilities: Option<Vec<f32>>,
}

struct Maps<'a> {
    operator: TopK,
    gpu: &'a Gpu,
    logits: Logits,
    label_type: LabelType,
    bands: Vec<Band>,
    result: TopClasses,
}

impl Bands for Maps<'_> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.logits)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let shape = self.bands[i].shape(&self.logits)?;
        let map = self.operator.map(&shape)?;
        let labels = slot.outputs[0].as_entire_buffer_binding();
        let probabilities = slot.outputs.get(1).map(Buffer::as_entire_buffer_binding);
        let mut bytes = vec![map.bytes(32); slot.outputs.len()];
        bytes[0] = map.bytes(self.label_type.bits());
        let operator = self.operator.label_type(self.label_type);
        Ok((operator.dispatch(self.gpu, &shape, slot.logits.as_entire_buffer_binding(), labels, probabilities)?, bytes))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let (band, k) = (&self.bands[i], self.operator.k as usize);
        let map = self.operator.map(&band.shape(&self.logits)?)?;
        let plane = self.logits.pixels() as usize;
        // Images before the band have k maps each, and so has what precedes it in its own.
        let first = band.image as usize * k * plane + band.pixel as usize;
        let place = Place { map, first, plane };
        match &mut self.result.labels {
            Labels::U8(labels) => place.copy(outputs[0], labels),
            Labels::U32(labels) => place.copy(&numbers(outputs[0]), labels),
        }
        if let (Some(probabilities), Some(bytes)) = (&mut self.result.probabilities, outputs.get(1)) {
            place.copy(&numbers(bytes), probabilities);
        }
        Ok(())
    }
}

/// Where the maps of a band go among those of everything.
struct Place {
    map: Map,
    /// The first pixel of the first map.
    first: usize,
    /// Pixels from one map to the next.
    plane: usize,
}

impl Place {
    fn copy<T: Copy>(&self, padded: &[T], packed: &mut [T]) {
        let pixels = self.map.height() as usize * self.map.width() as usize;
        for (i, map) in padded.chunks_exact(self.map.image_stride() as usize).enumerate() {
            let first = self.first + i * self.plane;
            packed[first..first + pixels].copy_from_slice(&map[..pixels]);
        }
    }
}
