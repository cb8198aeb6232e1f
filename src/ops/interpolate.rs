use wgpu::BufferBinding;

use crate::bands::{self, BAND_BYTES, Band};
use crate::dispatch::Bound;
use crate::host::{self, Part, Slot, Waiting};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::ops::resize::{Geometry, Resize, Rows, within};
use crate::window::Window;
use crate::{Dispatch, ElementType, Error, Gpu, Input, Logits};

pub(crate) static INTERPOLATE: Kernel = Kernel {
    name: "interpolate",
    source: include_str!("../../shaders/interpolate.wgsl"),
    entry: "interpolate",
    class_walks: 3,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| {
        let mut all = Vec::new();
        for element_type in [ElementType::F32, ElementType::F16] {
            for activation in [Activation::None, Activation::Sigmoid, Activation::Softmax] {
                // The taps start anywhere in a row, so they are read one at a time; so are the results written.
                all.push(Specialisation { activation, ..Specialisation::new(Access::Scalar, element_type, 0) });
            }
        }
        all
    },
};

/// What turns logits into probabilities.
///
/// ```
/// use seghead::{Activation, Interpolate};
/// let multi_label = Interpolate::new(360, 480).activation(Activation::Sigmoid);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing: logits stay logits.
    #[default]
    None,
    /// Independent probabilities, for multi-label networks.
    Sigmoid,
    /// Probabilities that sum to 1 over the classes of a pixel.
    Softmax,
}

/// Logits at another resolution, interpolated bilinearly, or the probabilities there: what [`Segment`](crate::Segment)
/// takes the labels of, for those who need all classes.
///
/// Equal to `interpolate(logits, size, mode="bilinear")` in PyTorch, and then `sigmoid` or `softmax(dim=1)`. The result
/// has `C × height × width` elements, more than any other here: where labels or scores will do, take `Segment`. The twin
/// is [`reference::upsample`](crate::reference::upsample), followed by the activation's.
///
/// ```
/// use seghead::{Activation, Gpu, GpuOptions, Interpolate, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let up = Interpolate::new(1, 4).run_blocking(&gpu, &Logits::chw(1, 1, 2)?, &[0.0, 4.0])?;
/// assert_eq!(up, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpolate {
    height: u32,
    width: u32,
    resize: Resize,
    activation: Activation,
}

impl Interpolate {
    /// The operator for results of `height × width` pixels, without an activation.
    pub fn new(height: u32, width: u32) -> Self {
        Self { height, width, resize: Resize::HalfPixel, activation: Activation::None }
    }

    /// With this convention for positions.
    pub fn resize(self, resize: Resize) -> Self {
        Self { resize, ..self }
    }

    /// With this activation after the interpolation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The shape of the result: f32, packed, its dimensions in the order of the logits.
    ///
    /// ```
    /// use seghead::{Interpolate, Logits};
    /// let result = Interpolate::new(10, 30).output(&Logits::chw(21, 5, 15)?.f16())?;
    /// assert_eq!(result, Logits::chw(21, 10, 30)?);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a size of zero, [`Error::Limit`] for one that 32 bits do not count.
    pub fn output(&self, logits: &Logits) -> Result<Logits, Error> {
        Ok(logits.resized(logits.images(), self.height, self.width)?.output())
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `output`, a tensor of the
    /// shape [`output`](Self::output).
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::Empty`] for a size of zero; [`Error::Limit`] for sizes that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        output: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let result = self.output(logits)?;
        let geometry = Geometry::new(self.resize, logits, self.height, self.width)?;
        let parts = geometry.split(logits, |part| {
            bands::check_readable(gpu, logits, &part.band)?;
            bands::check_readable(gpu, &result, &result_of(part, &geometry))
        })?;
        let of_logits: Vec<_> = parts.iter().map(|part| part.band).collect();
        let of_result: Vec<_> = parts.iter().map(|part| result_of(part, &geometry)).collect();
        let input = Window::new(gpu, input, logits, &of_logits)?;
        let output = Window::new(gpu, output, &result, &of_result)?;
        let mut dispatch = Dispatch::new();
        for (part, band) in parts.iter().zip(&of_result) {
            let read = input.read(gpu, &mut dispatch, &part.band)?;
            let written = output.write(gpu, band)?;
            let params = geometry.params(logits, part, &read.1);
            self.push(gpu, &mut dispatch, params, read, written)?;
            output.finish(gpu, &mut dispatch, band)?;
        }
        Ok(dispatch)
    }

    fn push(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        params: Params,
        (input, from): (Bound<'_>, Logits),
        (output, to): (Bound<'_>, Logits),
    ) -> Result<(), Error> {
        let rows = (params.out_height, params.out_width);
        let params = params.with_output(&to).with_rows(rows);
        let specialisation = Specialisation::new(Access::Scalar, from.element_type(), 0);
        let specialisation = Specialisation { activation: self.activation, ..specialisation };
        let buffers = [input, output];
        dispatch.push(gpu, (&INTERPOLATE, specialisation), params, &buffers, (params.groups, from.images()))
    }

    /// The result for `data`, packed, in the order of its dimensions. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; [`Error::Empty`] for a size of zero; [`Error::Limit`] for
    /// sizes beyond 32 bits; what the device reports otherwise.
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
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let result = self.output(&logits)?;
        let geometry = Geometry::new(self.resize, &logits, self.height, self.width)?;
        let part_of = |part: &Rows| -> Result<Part, Error> {
            let band = result_of(part, &geometry);
            Ok(Part {
                band: part.band,
                shape: part.band.shape(&logits)?,
                result: band,
                result_shape: result.resized(band.images, band.height, band.width)?,
            })
        };
        // One row must fit the device, but may be more than a band has otherwise.
        let split = |limit: u64| {
            geometry.split(&logits, |part| {
                let part = part_of(part)?;
                within(part.shape.bytes().max(part.result_shape.bytes()), limit)
            })
        };
        let device = bands::binding_limit(gpu);
        let rows = match split(BAND_BYTES.min(device)) {
            Err(Error::Limit { .. }) => split(device)?,
            rows => rows?,
        };
        let parts: Vec<_> = rows.iter().map(part_of).collect::<Result<_, _>>()?;
        let dispatch = |i: usize, part: &Part, slot: &Slot| {
            let [input, output] = slot.tensors();
            let input = Bound::new(gpu, binding::LOGITS, input, part.shape.bytes())?;
            let output = Bound::new(gpu, binding::OUTPUT, output, part.result_shape.bytes())?;
            let params = geometry.params(&logits, &rows[i], &part.shape);
            let mut dispatch = Dispatch::new();
            self.push(gpu, &mut dispatch, params, (input, part.shape), (output, part.result_shape))?;
            Ok(dispatch)
        };
        host::map_tensor(gpu, waiting, (&logits, &result), &mut input, &parts, dispatch).await
    }
}

/// The band of the result that consists of these rows.
fn result_of(part: &Rows, geometry: &Geometry) -> Band {
    let (height, width) = (part.rows, geometry.width);
    Band { image: part.band.image, pixel: part.row * width, images: part.band.images, height, width }
}
