use wgpu::BufferBinding;

use crate::dispatch::{Bound, scratch};
use crate::host::{self, Waiting};
use crate::kernel::{Access, Kernel, Params, Specialisation, UNROLLED_CLASSES, binding};
use crate::{Dispatch, Error, Gpu, Logits};

const SOURCE: &str = include_str!("../../shaders/softmax.wgsl");

/// Up to [`UNROLLED_CLASSES`] elements along the axis.
pub(crate) static REGISTERS: Kernel = Kernel {
    name: "softmax registers",
    source: SOURCE,
    entry: "registers",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |classes| match classes {
        ..=UNROLLED_CLASSES => specialisations(classes),
        _ => Vec::new(),
    },
};

/// Above: the maximum and the scale of every pixel, …
pub(crate) static STATISTICS: Kernel = Kernel {
    name: "softmax statistics",
    source: SOURCE,
    entry: "statistics",
    class_walks: 3,
    bindings: &[binding::LOGITS, binding::MAXIMUM_OUT, binding::SCALE_OUT],
    specialisations: |_| specialisations(0),
};

/// … then the results.
pub(crate) static APPLY: Kernel = Kernel {
    name: "softmax apply",
    source: SOURCE,
    entry: "apply",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT, binding::MAXIMUM_IN, binding::SCALE_IN],
    specialisations: |_| specialisations(0),
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
    let both = |access| [false, true].map(|log| Specialisation { log, ..Specialisation::new(access, classes) });
    Access::ALL.into_iter().flat_map(both).collect()
}

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
        let input = Bound::new(gpu, binding::LOGITS, input, logits.bytes())?;
        let output = Bound::new(gpu, binding::OUTPUT, output, logits.bytes())?;
        let buffers = [input, output];
        let whole = Params::new(logits);
        let (images, classes) = (logits.images(), logits.classes());
        let (height, width) = (logits.height(), logits.width());
        // `pixels` elements of other columns, or of other pixels of the row, lie between two of the same.
        let planes = |count: u32, pixels: u32, image_stride: u32| Params {
            classes: count,
            pixels,
            plane_stride: pixels,
            pixel_stride: 1,
            image_stride,
            map_stride: pixels.next_multiple_of(4),
            ..whole
        };
        match (self.axis, logits.is_classes_last()) {
            (Axis::Class, _) => self.dispatch_planes(gpu, whole, images, buffers),
            (Axis::Height, false) => {
                let columns = planes(height, width, logits.plane_stride());
                self.dispatch_planes(gpu, columns, images * classes, buffers)
            }
            (Axis::Height, true) => {
                let columns = planes(height, width * classes, logits.image_stride());
                self.dispatch_planes(gpu, columns, images, buffers)
            }
            (Axis::Width, true) => {
                let row = planes(width, classes, width * classes);
                self.dispatch_planes(gpu, row, images * height, buffers)
            }
            (Axis::Width, false) => {
                let rows = Params { classes: width, pixels: height, rows: images * classes * height, ..whole };
                // Rows start at multiples of four elements where they are that long in planes that start there.
                let stride = if width.is_multiple_of(4) { logits.plane_stride() } else { width };
                let access = Access::choose(gpu, stride);
                let specialisation = Specialisation { log: self.log, ..Specialisation::new(access, 0) };
                let mut dispatch = Dispatch::new();
                dispatch.push(gpu, (&ROWS, specialisation), rows, &buffers, (rows.rows, 1))?;
                Ok(dispatch)
            }
        }
    }

    /// Over `params.classes` elements, `params.plane_stride` apart, in each of `images`.
    fn dispatch_planes(
        &self,
        gpu: &Gpu,
        params: Params,
        images: u32,
        [input, output]: [Bound<'_>; 2],
    ) -> Result<Dispatch, Error> {
        let access = if params.image_stride.is_multiple_of(4) { params.plane_stride } else { 1 };
        let specialisation =
            Specialisation { log: self.log, ..Specialisation::new(Access::choose(gpu, access), params.classes) };
        let groups = params.pixels.div_ceil(4);
        let mut dispatch = Dispatch::new();
        if specialisation.classes != 0 {
            dispatch.push(gpu, (&REGISTERS, specialisation), params, &[input, output], (groups, images))?;
            return Ok(dispatch);
        }
        let bytes = u64::from(images) * u64::from(params.map_stride) * 4;
        let maximum = scratch(gpu, "softmax maximum", bytes)?;
        let scale = scratch(gpu, "softmax scale", bytes)?;
        let statistics = [
            input.clone(),
            Bound::whole(gpu, binding::MAXIMUM_OUT, &maximum)?,
            Bound::whole(gpu, binding::SCALE_OUT, &scale)?,
        ];
        dispatch.push(gpu, (&STATISTICS, specialisation), params, &statistics, (groups, images))?;
        let maximum = Bound::whole(gpu, binding::MAXIMUM_IN, &maximum)?;
        let scale = Bound::whole(gpu, binding::SCALE_IN, &scale)?;
        let invocations = groups * params.classes.div_ceil(CLASS_BLOCK);
        let apply = [input, output, maximum, scale];
        dispatch.push(gpu, (&APPLY, specialisation), params, &apply, (invocations, images))?;
        Ok(dispatch)
    }

    /// Probabilities of `data`, in its order, N × C × H × W. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; what the device reports otherwise.
    pub async fn run(&self, gpu: &Gpu, logits: &Logits, data: &[f32]) -> Result<Vec<f32>, Error> {
        self.run_with(gpu, logits, data, Waiting::Async).await
    }

    /// [`run`](Self::run) that waits for the device itself.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking(&self, gpu: &Gpu, logits: &Logits, data: &[f32]) -> Result<Vec<f32>, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with(&self, gpu: &Gpu, logits: &Logits, data: &[f32], waiting: Waiting) -> Result<Vec<f32>, Error> {
        // What is normalised together must stay in one band. Bands are runs of pixels, so over another axis than the
        // classes the tensor is seen as one whose classes are the elements along that axis; or as one of rows.
        let (images, classes) = (logits.images(), logits.classes());
        let (height, width) = (logits.height(), logits.width());
        let of_classes = self.axis(Axis::Class);
        let (whole, operator) = match (self.axis, logits.is_classes_last()) {
            (Axis::Class, _) => (*logits, *self),
            (Axis::Height, false) => (Logits::nchw(images * classes, height, 1, width)?, of_classes),
            (Axis::Height, true) => (Logits::nchw(images, height, width, classes)?, of_classes),
            (Axis::Width, true) => (Logits::nchw(images * height, width, 1, classes)?, of_classes),
            (Axis::Width, false) => (Logits::chw(1, images * classes * height, width)?, *self),
        };
        let bands = match operator.axis {
            Axis::Width => host::bands_of_rows(gpu, &whole)?,
            _ => host::bands(gpu, &whole, 1)?,
        };
        let dispatch = |band: &Logits, input: BufferBinding<'_>, output: BufferBinding<'_>| {
            operator.dispatch(gpu, band, input, output)
        };
        host::map_tensor(gpu, &whole, &bands, data, waiting, dispatch).await
    }
}
