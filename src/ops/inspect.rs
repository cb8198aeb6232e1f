use wgpu::BufferBinding;

use crate::bands::{self, Band, LARGE_BAND_BYTES};
use crate::dispatch::Bound;
use crate::host::{self, Bands, Sizes, Slot, Waiting, numbers};
use crate::inspection::{CLASS_WORDS, HEADER, axis_word, merge, tolerance};
use crate::kernel::{Access, Kernel, Params, PipelineKey, Specialisation, binding};
use crate::window::Window;
use crate::{Axis, Dispatch, ElementType, Error, Gpu, Input, Inspection, Logits};

const SOURCE: &str = include_str!("../../shaders/inspect.wgsl");

/// Zeroes the record.
pub(crate) static CLEAR: Kernel = Kernel {
    name: "inspect clear",
    source: SOURCE,
    entry: "clear",
    class_walks: 1,
    bindings: &[binding::INSPECTION],
    specialisations: |_| vec![CLEARING],
};

const CLEARING: Specialisation = Specialisation::new(Access::Scalar, ElementType::F32, 0);

/// The values of every class.
pub(crate) static CLASSES: Kernel = Kernel {
    name: "inspect classes",
    source: SOURCE,
    entry: "classes",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::INSPECTION],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// Sums along an axis.
pub(crate) static SUMS: Kernel = Kernel {
    name: "inspect sums",
    source: SOURCE,
    entry: "sums",
    // Those of a lane are few enough, see `lane_groups`.
    class_walks: 2,
    bindings: &[binding::LOGITS, binding::INSPECTION],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// Sums along rows in memory.
pub(crate) static ROWS: Kernel = Kernel {
    name: "inspect rows",
    source: SOURCE,
    entry: "rows",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::INSPECTION],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// Votes on the layout.
pub(crate) static NEIGHBOURS: Kernel = Kernel {
    name: "inspect neighbours",
    source: SOURCE,
    entry: "neighbours",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::INSPECTION],
    specialisations: |_| {
        let elements = [ElementType::F32, ElementType::F16];
        elements.map(|element| Specialisation::new(Access::Scalar, element, 0)).to_vec()
    },
};

/// Groups that an invocation owns which walks `length` elements for each: many, to use few atomics, but such that its
/// loops stay far below what adapters allow.
fn lane_groups(length: u32) -> u32 {
    (4096 / length).clamp(1, 64)
}

/// Elements that the votes on the layout are taken from.
pub(crate) const SAMPLE: u64 = 1 << 18;

/// A lint for tensors that should be logits: are they probabilities already, is the layout another one, has the network
/// diverged?
///
/// Counts on the GPU, in integers: what it finds is the same on every adapter, whatever the order of the work. Of the
/// tensor, a record of a few words per class comes back. [`Inspection::findings`] says what is conspicuous. The twin is
/// [`reference::inspect`](crate::reference::inspect).
///
/// ```
/// use seghead::{Gpu, GpuOptions, Inspect, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let found = Inspect::new().run_blocking(&gpu, &Logits::chw(2, 1, 2)?, &[0.2, 0.6, 0.8, 0.4])?;
/// assert_eq!((found.classes[1].minimum, found.classes[1].maximum), (0.4, 0.8));
/// let line = found.findings()[0].to_string();
/// assert!(line.starts_with("sums to 1 along the class axis"));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspect {}

impl Inspect {
    /// The operator.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the record that a [`dispatch`](Self::dispatch) for `logits` writes.
    ///
    /// ```
    /// use seghead::{Inspect, Logits};
    /// assert_eq!(Inspect::new().record_bytes(&Logits::chw(3, 4, 4)?), 4 * (12 + 3 * 7));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn record_bytes(&self, logits: &Logits) -> u64 {
        4 * (HEADER as u64 + u64::from(logits.classes()) * CLASS_WORDS as u64)
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `record`,
    /// [`record_bytes`](Self::record_bytes) bytes that [`Inspection::from_record`] takes when they are read back.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Limit`] for a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        record: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let mut work = self.start(gpu, logits, input, record)?;
        work.classes(logits)?;
        for axis in [Axis::Height, Axis::Width] {
            work.along(&logits.along(axis), axis, takes_rows(logits, axis))?;
        }
        if let Some((sample, band)) = sample(gpu, logits)? {
            work.neighbours(&sample, &band)?;
        }
        Ok(work.dispatch)
    }

    /// A dispatch that clears the record of `logits`.
    fn start<'a>(
        &self,
        gpu: &'a Gpu,
        logits: &Logits,
        input: BufferBinding<'a>,
        record: BufferBinding<'a>,
    ) -> Result<Work<'a>, Error> {
        let record = Bound::new(gpu, binding::INSPECTION, record, self.record_bytes(logits))?;
        let mut dispatch = Dispatch::new();
        let words = (self.record_bytes(logits) / 4) as u32;
        let params = Params { classes: logits.classes(), ..Params::default() };
        dispatch.push(gpu, (&CLEAR, CLEARING), params, std::slice::from_ref(&record), (words, 1))?;
        Ok(Work { gpu, dispatch, input, record, tolerance: tolerance(logits.element_type()) })
    }

    /// Counts in `data`, N × C × H × W. Somebody else polls the device, as for [`Readback`](crate::Readback).
    ///
    /// A tensor that does not go through the GPU at once (32 MiB) is read once for the classes, and once more for each
    /// of the other axes.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; what the device reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Inspection, Error> {
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
    ) -> Result<Inspection, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<Inspection, Error> {
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let bands = bands::for_host_of(gpu, &logits, 0, LARGE_BAND_BYTES)?;
        let mut passes = Vec::new();
        if bands.len() == 1 {
            passes.push((Pass::Everything, logits, bands));
        } else {
            passes.push((Pass::Classes, logits, bands));
            for axis in [Axis::Height, Axis::Width] {
                let whole = logits.along(axis);
                let rows = takes_rows(&logits, axis);
                let bands = if rows {
                    let device = bands::binding_limit(gpu);
                    bands::of_rows(&whole, LARGE_BAND_BYTES.min(device), device)?
                } else {
                    bands::for_host_of(gpu, &whole, 0, LARGE_BAND_BYTES)?
                };
                passes.push((Pass::Along { axis, rows }, whole, bands));
            }
            passes.extend(sample(gpu, &logits)?.map(|(sample, band)| (Pass::Neighbours, sample, vec![band])));
        }
        let mut record = vec![0; (self.record_bytes(&logits) / 4) as usize];
        for (pass, whole, bands) in passes {
            let mut bytes = 0;
            for band in &bands {
                bytes = bytes.max(band.shape(&whole)?.bytes());
            }
            let outputs = vec![("inspection record", self.record_bytes(&logits))];
            let sizes = (bands.len(), Sizes { logits: bytes, uploads: Vec::new(), outputs });
            let mut work = Passing { gpu, operator: *self, pass, logits, whole, bands, record: &mut record };
            host::stream(gpu, waiting, &whole, &mut input, sizes, &mut work).await?;
        }
        Inspection::from_record(&logits, &record)
    }
}

/// Whether the elements along the axis are neighbours in memory, with nothing between them.
fn takes_rows(logits: &Logits, axis: Axis) -> bool {
    axis == Axis::Width && !logits.is_classes_last()
}

/// Where the votes on the layout are taken from: the offset, height and width of a rectangle in the middle of an image,
/// of about `elements` elements.
pub(crate) fn sample_rectangle(logits: &Logits, elements: u64) -> [u32; 4] {
    let pixels = u32::try_from(elements / u64::from(logits.classes())).unwrap_or(u32::MAX).max(4);
    let width = pixels.isqrt().min(logits.width());
    let height = (pixels / width).min(logits.height());
    let width = (pixels / height).min(logits.width());
    [(logits.height() - height) / 2, (logits.width() - width) / 2, height, width]
}

/// That rectangle of the first image, and the band that has it, as far as the device can bind it; none where that is
/// less than two rows or four pixels.
fn sample(gpu: &Gpu, logits: &Logits) -> Result<Option<(Logits, Band)>, Error> {
    let limit = bands::binding_limit(gpu);
    // Rows that are copied together start at multiples of four elements.
    let most = limit / 8;
    let row = u64::from(logits.row_stride()) * logits.element_type().size();
    let rows = u32::try_from(limit.saturating_sub(bands::alignment(gpu)) / row).unwrap_or(u32::MAX);
    if rows < 2 || most < 4 * u64::from(logits.classes()) {
        return Ok(None);
    }
    let [top, left, height, width] = sample_rectangle(logits, most.min(SAMPLE));
    let height = height.min(rows);
    let band = Band { image: 0, pixel: 0, images: 1, height, width };
    Ok(Some((logits.crop(top, left, height, width)?, band)))
}

/// A dispatch that adds to a record.
struct Work<'a> {
    gpu: &'a Gpu,
    dispatch: Dispatch,
    input: BufferBinding<'a>,
    record: Bound<'a>,
    tolerance: f32,
}

impl Work<'_> {
    /// The values of the classes, and the sums along them.
    fn classes(&mut self, logits: &Logits) -> Result<(), Error> {
        self.each_band(logits, &bands::for_dispatch(self.gpu, logits)?, |work, input, part| {
            let params = Params::new(part);
            let lanes = params.groups.div_ceil(lane_groups(1));
            let classes = Params { lanes, ..params };
            let specialisation = specialise(work.gpu, part, params.reads_in_fours());
            let size = (lanes * params.classes, part.images());
            work.push((&CLASSES, specialisation), classes, input.clone(), size)?;
            work.sums(input, part, Axis::Class)
        })
    }

    /// The sums along an axis of a tensor that is seen along it.
    fn along(&mut self, whole: &Logits, axis: Axis, rows: bool) -> Result<(), Error> {
        if !rows {
            let bands = bands::for_dispatch(self.gpu, whole)?;
            return self.each_band(whole, &bands, |work, input, part| work.sums(input, part, axis));
        }
        let limit = self.gpu.limits().max_storage_buffer_binding_size;
        let bands = if whole.bytes() <= limit {
            vec![Band::whole(whole)]
        } else {
            let limit = limit - bands::alignment(self.gpu);
            bands::of_rows(whole, limit, limit)?
        };
        self.each_band(whole, &bands, |work, input, part| {
            let count = part.images() * part.height();
            let lanes = count.div_ceil(lane_groups(part.width()));
            let params = Params {
                classes: part.width(),
                rows: part.height(),
                groups: count,
                plane_stride: part.image_stride(),
                lanes,
                record_word: axis_word(axis),
                ..Params::new(part)
            };
            // Every row starts at a multiple of four elements, and ends at one.
            let starts = [part.offset(), part.row_stride(), part.image_stride(), part.width()];
            let in_fours = starts.iter().all(|start| start.is_multiple_of(4));
            work.push((&ROWS, specialise(work.gpu, part, in_fours)), params, input, (lanes, 1))
        })
    }

    /// Votes on the layout.
    fn neighbours(&mut self, sample: &Logits, band: &Band) -> Result<(), Error> {
        self.each_band(sample, std::slice::from_ref(band), |work, input, part| {
            let params = Params::new(part).with_rows((band.height, band.width));
            let lanes = params.groups.div_ceil(lane_groups(params.classes));
            let params = Params { rows: band.height, lanes, ..params };
            let specialisation = Specialisation::new(Access::Scalar, part.element_type(), 0);
            work.push((&NEIGHBOURS, specialisation), params, input, (lanes, 1))
        })
    }

    fn sums(&mut self, input: Bound<'_>, part: &Logits, axis: Axis) -> Result<(), Error> {
        let params = Params::new(part);
        let lanes = params.groups.div_ceil(lane_groups(params.classes));
        let params = Params { lanes, record_word: axis_word(axis), ..params };
        let specialisation = specialise(self.gpu, part, params.reads_in_fours());
        self.push((&SUMS, specialisation), params, input, (lanes, part.images()))
    }

    fn each_band(
        &mut self,
        whole: &Logits,
        bands: &[Band],
        mut push: impl FnMut(&mut Self, Bound<'_>, &Logits) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let window = Window::new(self.gpu, self.input.clone(), whole, bands)?;
        for band in bands {
            let (input, part) = window.read(self.gpu, &mut self.dispatch, band)?;
            push(self, input, &part)?;
        }
        Ok(())
    }

    fn push(&mut self, key: PipelineKey, params: Params, input: Bound<'_>, size: (u32, u32)) -> Result<(), Error> {
        let params = Params { tolerance: self.tolerance, ..params };
        self.dispatch.push(self.gpu, key, params, &[input, self.record.clone()], size)
    }
}

fn specialise(gpu: &Gpu, part: &Logits, in_fours: bool) -> Specialisation {
    Specialisation::new(Access::choose(gpu, in_fours), part.element_type(), 0)
}

/// What is counted while a tensor goes through the GPU once.
#[derive(Clone, Copy, Debug)]
enum Pass {
    Everything,
    /// The values of the classes, and the sums along them.
    Classes,
    /// The sums along an axis, the tensor being seen along it.
    Along {
        axis: Axis,
        rows: bool,
    },
    /// Votes on the layout.
    Neighbours,
}

/// The one-shot function on its way: the records of the bands are added up here.
struct Passing<'a> {
    gpu: &'a Gpu,
    operator: Inspect,
    pass: Pass,
    logits: Logits,
    /// As it is seen in this pass.
    whole: Logits,
    bands: Vec<Band>,
    record: &'a mut [u32],
}

impl Bands for Passing<'_> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.bands[i], self.bands[i].shape(&self.whole)?))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let shape = self.bands[i].shape(&self.whole)?;
        let [input, record] = slot.tensors();
        let bytes = vec![self.operator.record_bytes(&self.logits)];
        let mut work = match self.pass {
            Pass::Everything => return Ok((self.operator.dispatch(self.gpu, &shape, input, record)?, bytes)),
            _ => self.operator.start(self.gpu, &self.logits, input, record)?,
        };
        match self.pass {
            Pass::Everything => {}
            Pass::Classes => work.classes(&shape)?,
            Pass::Along { axis, rows } => work.along(&shape, axis, rows)?,
            Pass::Neighbours => work.neighbours(&shape, &Band::whole(&shape))?,
        }
        Ok((work.dispatch, bytes))
    }

    fn take(&mut self, _: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        merge(self.record, &numbers::<u32>(outputs[0]));
        Ok(())
    }
}
