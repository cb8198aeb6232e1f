use wgpu::BufferBinding;

use crate::bands::{self, BAND_BYTES, Band};
use crate::dispatch::{Bound, scratch};
use crate::host::{self, Part, Slot, Waiting};
use crate::kernel::{Access, Kernel, Params, Specialisation, UNROLLED_CLASSES, binding};
use crate::window::{Planes, Window};
use crate::{Dispatch, Error, Gpu, Input, Logits};

const SOURCE: &str = include_str!("../../shaders/softmax.wgsl");

/// Up to [`UNROLLED_CLASSES`] elements along the axis.
pub(crate) static REGISTERS: Kernel = Kernel {
    name: "softmax registers",
    source: SOURCE,
    entry: "registers",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::FAR_LOGITS, binding::OUTPUT, binding::FAR_OUTPUT],
    specialisations: |classes| match classes {
        ..=UNROLLED_CLASSES => with_halves(specialisations(classes)),
        _ => Vec::new(),
    },
};

/// Above: the maximum and the scale of every pixel, …
pub(crate) static STATISTICS: Kernel = Kernel {
    name: "softmax statistics",
    source: SOURCE,
    entry: "statistics",
    class_walks: 3,
    bindings: &[binding::LOGITS, binding::FAR_LOGITS, binding::MAXIMUM_OUT, binding::SCALE_OUT],
    specialisations: |_| {
        // Where there is `CACHED`, only region losses ask for them.
        let (cached, others): (Vec<_>, _) = specialisations(0).into_iter().partition(|one| one.access.is_adjacent());
        with_halves(others).into_iter().chain(cached.into_iter().filter(|one| !one.log)).collect()
    },
};

/// … then the results.
pub(crate) static APPLY: Kernel = Kernel {
    name: "softmax apply",
    source: SOURCE,
    entry: "apply",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT, binding::MAXIMUM_IN, binding::SCALE_IN],
    specialisations: |_| specialisations(0).into_iter().filter(|one| !one.access.is_adjacent()).collect(),
};

/// Or both at once, where an invocation finds its logits in the caches again: on software adapters.
pub(crate) static CACHED: Kernel = Kernel {
    name: "softmax cached",
    source: SOURCE,
    entry: "cached",
    class_walks: 10,
    bindings: &[binding::LOGITS, binding::FAR_LOGITS, binding::OUTPUT, binding::FAR_OUTPUT],
    specialisations: |_| with_halves(specialisations(0).into_iter().filter(|one| one.access.is_adjacent()).collect()),
};

/// Along rows in memory.
pub(crate) static ROWS: Kernel = Kernel {
    name: "softmax rows",
    source: SOURCE,
    entry: "rows",
    class_walks: 3,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| specialisations(0),
};

fn specialisations(classes: u32) -> Vec<Specialisation> {
    let both = |(access, element)| {
        [false, true].map(|log| Specialisation { log, ..Specialisation::new(access, element, classes) })
    };
    Access::inputs().flat_map(both).collect()
}

fn with_halves(all: Vec<Specialisation>) -> Vec<Specialisation> {
    all.into_iter().flat_map(Specialisation::with_halves).collect()
}

/// Neighbouring groups that an invocation of [`STATISTICS`] owns where it owns several, `STRIP` in
/// `shaders/prelude/statistics.wgsl`.
const STRIP: u32 = 2;

/// Class planes of a group that an invocation of [`APPLY`] owns, `CLASS_BLOCK` in `shaders/softmax.wgsl`.
const CLASS_BLOCK: u32 = 8;

/// The dimension whose elements a softmax makes sum to 1.
///
/// ```
/// use seghead::{Axis, Softmax};
/// let columns = Softmax::new().axis(Axis::Height);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axis {
    /// The classes of every pixel: `dim=1` in PyTorch, what a segmentation wants.
    #[default]
    Class,
    /// The pixels of every column, class by class: `dim=2`.
    Height,
    /// The pixels of every row, class by class: `dim=3`.
    Width,
}

/// Softmax: over the classes, for every pixel probabilities in 0..=1 that sum to 1, for networks whose classes exclude
/// one another.
///
/// `exp(x − max) / Σ exp(x − max)` over the elements along the [`Axis`], or with [`log`](Self::log) its logarithm,
/// `(x − max) − log Σ exp(x − max)`. Where a NaN or a +Inf is among the elements all are NaN; the softmax of a single
/// element is 1. The twins are [`reference::softmax`](crate::reference::softmax) and
/// [`reference::log_softmax`](crate::reference::log_softmax); definition as
/// [`torch.softmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html).
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Softmax};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let p = Softmax::new().run_blocking(&gpu, &Logits::chw(3, 1, 1)?, &[1.0, 1.0, 1.0])?;
/// assert!(p.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax {
    axis: Axis,
    log: bool,
}

impl Softmax {
    /// The operator, over the classes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Over this dimension.
    pub fn axis(self, axis: Axis) -> Self {
        Self { axis, ..self }
    }

    /// Whether to return the logarithm of the probabilities, in −Inf..=0.
    pub fn log(self, log: bool) -> Self {
        Self { log, ..self }
    }

    /// Makes the work ready to be recorded: reads `input`, writes `output`, both shaped like `logits`, f32.
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
        output: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let whole = logits.along(self.axis);
        if !self.takes_rows(logits)
            && let Some(images) = bands::in_halves(gpu, &[&whole, &whole.output()])
        {
            let (input, output) = (Window::of_halves(input, &whole), Window::of_halves(output, &whole.output()));
            return self.dispatch_planes(gpu, (&input, &output), &images);
        }
        let bands = self.bands_for_dispatch(gpu, logits)?;
        let input = Window::new(gpu, input, &whole, &bands)?;
        let output = Window::new(gpu, output, &whole.output(), &bands)?;
        if !self.takes_rows(logits) {
            return self.dispatch_planes(gpu, (&input, &output), &bands);
        }
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let (input, from) = input.read(gpu, &mut dispatch, band)?;
            let (written, to) = output.write(gpu, band)?;
            self.push_rows(gpu, &mut dispatch, (input, &from), (written, &to))?;
            output.finish(gpu, &mut dispatch, band)?;
        }
        Ok(dispatch)
    }

    fn dispatch_planes(
        &self,
        gpu: &Gpu,
        (input, output): (&Window<'_>, &Window<'_>),
        bands: &[Band],
    ) -> Result<Dispatch, Error> {
        let mut dispatch = Dispatch::new();
        for band in bands {
            let from = input.read_planes(gpu, &mut dispatch, band)?;
            let to = output.write_planes(gpu, band)?;
            self.push_planes(gpu, &mut dispatch, from, to)?;
            output.finish(gpu, &mut dispatch, band)?;
        }
        Ok(dispatch)
    }

    /// Whether the elements along the axis are neighbours in memory, with nothing between them.
    fn takes_rows(&self, logits: &Logits) -> bool {
        self.axis == Axis::Width && !logits.is_classes_last()
    }

    fn bands_for_dispatch(&self, gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
        let whole = logits.along(self.axis);
        if !self.takes_rows(logits) {
            return bands::for_dispatch(gpu, &whole.output());
        }
        let limit = gpu.limits().max_storage_buffer_binding_size;
        if whole.output().bytes() <= limit {
            return Ok(vec![Band::whole(&whole)]);
        }
        let limit = limit - bands::alignment(gpu);
        bands::of_rows(&whole, limit, limit)
    }

    /// Over the classes of `from`.
    fn push_planes(&self, gpu: &Gpu, dispatch: &mut Dispatch, from: Planes<'_>, to: Planes<'_>) -> Result<(), Error> {
        let (input, output) = (&from.image, &to.image);
        let (classes, images) = (input.classes(), input.images());
        let params = Params::new(input)
            .with_output(output)
            .with_halves(from.halves.as_ref())
            .with_output_halves(to.halves.as_ref());
        let in_fours = params.reads_in_fours() && params.writes_in_fours(output.is_cropped());
        let access = Access::choose(gpu, in_fours).for_classes(classes);
        let specialisation = Specialisation::new(access, input.element_type(), classes);
        let specialisation = Specialisation { log: self.log, halves: from.halves.is_some(), ..specialisation };
        if specialisation.classes != 0 {
            let buffers = [from.near, from.far, to.near, to.far];
            return dispatch.push(gpu, (&REGISTERS, specialisation), params, &buffers, (params.groups, images));
        }
        if access.is_adjacent() {
            let buffers = [from.near, from.far, to.near, to.far];
            return dispatch.push(gpu, (&CACHED, specialisation), params, &buffers, (strips(params, access), images));
        }
        let found = push_statistics(gpu, dispatch, [&from.near, &from.far], (params, images), specialisation)?;
        // Each half on its own: the results of a class depend on no other's.
        for (from, to) in from.halves().into_iter().zip(to.halves()) {
            let Some(((input, from), (output, to))) = from.zip(to) else { continue };
            let params = Params::new(&from).with_output(&to);
            let apply = [
                input,
                output,
                Bound::whole(gpu, binding::MAXIMUM_IN, &found[0])?,
                Bound::whole(gpu, binding::SCALE_IN, &found[1])?,
            ];
            let invocations = params.groups * params.classes.div_ceil(CLASS_BLOCK);
            let specialisation = Specialisation { halves: false, ..specialisation };
            dispatch.push(gpu, (&APPLY, specialisation), params, &apply, (invocations, images))?;
        }
        Ok(())
    }

    /// Over the rows of `from`, which are neighbours in memory.
    fn push_rows(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        (input, from): (Bound<'_>, &Logits),
        (output, to): (Bound<'_>, &Logits),
    ) -> Result<(), Error> {
        let planes = Params::new(from).with_output(to);
        let params = Params {
            classes: from.width(),
            rows: from.height(),
            groups: from.images() * from.height(),
            plane_stride: from.image_stride(),
            out_plane_stride: to.image_stride(),
            ..planes
        };
        // Every row starts at a multiple of four elements, and ends at one.
        let starts = [from.offset(), from.row_stride(), from.image_stride(), to.offset(), to.row_stride()];
        let in_fours = starts.iter().chain([&to.image_stride(), &from.width()]).all(|start| start.is_multiple_of(4));
        let specialisation = Specialisation::new(Access::choose(gpu, in_fours), from.element_type(), 0);
        let specialisation = Specialisation { log: self.log, ..specialisation };
        dispatch.push(gpu, (&ROWS, specialisation), params, &[input, output], (params.groups, 1))
    }

    /// Probabilities of `data`, in its order, N × C × H × W. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; what the device reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Vec<f32>, Error> {
        self.run_with(gpu, logits, data, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(not(target_family = "wasm"))]
    pub fn run_blocking<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Vec<f32>, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<Vec<f32>, Error> {
        // What is normalised together must stay in one band: along the axis, a band has all elements.
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let packed = logits.resized(logits.images(), logits.height(), logits.width())?;
        let (whole, result) = (logits.along(self.axis), packed.along(self.axis));
        let rows = self.takes_rows(&logits);
        let bands = if rows {
            {
                let device = bands::binding_limit(gpu);
                bands::of_rows(&whole, BAND_BYTES.min(device), device)?
            }
        } else {
            bands::for_host(gpu, &whole.output(), 0)?
        };
        let operator = self.axis(if rows { Axis::Width } else { Axis::Class });
        let parts: Vec<_> = bands.into_iter().map(|band| Part::same(band, &whole)).collect::<Result<_, _>>()?;
        let dispatch = |_: usize, part: &Part, slot: &Slot| {
            let [input, output] = slot.tensors();
            operator.dispatch(gpu, &part.shape, input, output)
        };
        host::map_tensor(gpu, waiting, (&whole, &result), &mut input, &parts, dispatch).await
    }
}

/// Finds the maximum and the scale of every group of the images that `params` are about.
pub(in crate::ops) fn push_statistics(
    gpu: &Gpu,
    dispatch: &mut Dispatch,
    [near, far]: [&Bound<'_>; 2],
    (params, images): (Params, u32),
    specialisation: Specialisation,
) -> Result<[wgpu::Buffer; 2], Error> {
    let bytes = u64::from(images) * u64::from(params.map_groups) * 16;
    let found = [scratch(gpu, "softmax maximum", bytes)?, scratch(gpu, "softmax scale", bytes)?];
    let [maximum, scale] = &found;
    let buffers = [
        near.clone(),
        far.clone(),
        Bound::whole(gpu, binding::MAXIMUM_OUT, maximum)?,
        Bound::whole(gpu, binding::SCALE_OUT, scale)?,
    ];
    let strips = strips(params, specialisation.access);
    dispatch.push(gpu, (&STATISTICS, specialisation), params, &buffers, (strips, images))?;
    Ok(found)
}

fn strips(params: Params, access: Access) -> u32 {
    params.groups.div_ceil(if access.is_adjacent() { STRIP } else { 1 })
}
