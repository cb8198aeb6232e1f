use wgpu::BufferBinding;

use crate::bands;
use crate::host::{self, Part, Slot, Waiting};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, Input, Logits};

const SOURCE: &str = include_str!("../../shaders/sigmoid.wgsl");

/// Where all elements of an image follow one another.
pub(crate) static SIGMOID: Kernel = Kernel {
    name: "sigmoid",
    source: SOURCE,
    entry: "sigmoid",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// Where rows are apart.
pub(crate) static ROWS: Kernel = Kernel {
    name: "sigmoid rows",
    source: SOURCE,
    entry: "sigmoid_rows",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// Groups of four elements that an invocation of [`SIGMOID`] owns, `GROUPS` in `shaders/sigmoid.wgsl`.
const GROUPS: u32 = 4;

/// Sigmoid of every element, `1 / (1 + exp(−x))`: independent probabilities in 0..=1, for multi-label networks.
///
/// The probabilities of a pixel's classes need not sum to 1. Element-wise, in any layout. The twin is
/// [`reference::sigmoid`](crate::reference::sigmoid); definition as
/// [`torch.sigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.sigmoid.html).
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Sigmoid};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let p = Sigmoid::new().run_blocking(&gpu, &Logits::chw(3, 1, 1)?, &[0.0, 200.0, -200.0])?;
/// assert_eq!(p, [0.5, 1.0, 0.0]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sigmoid {}

impl Sigmoid {
    /// The operator.
    pub fn new() -> Self {
        Self {}
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
        let whole = logits.elementwise();
        let bands = bands::for_dispatch(gpu, &whole.output())?;
        let input = Window::new(gpu, input, &whole, &bands)?;
        let output = Window::new(gpu, output, &whole.output(), &bands)?;
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let (input, from) = input.read(gpu, &mut dispatch, band)?;
            let (written, to) = output.write(gpu, band)?;
            let params = Params::new(&from).with_output(&to);
            let in_fours = params.reads_in_fours() && params.writes_in_fours(to.is_cropped());
            let specialisation = Specialisation::new(Access::choose(gpu, in_fours), from.element_type(), 0);
            let (kernel, groups) = match params.groups == params.row_groups {
                true => (&SIGMOID, params.groups.div_ceil(GROUPS)),
                false => (&ROWS, params.groups),
            };
            dispatch.push(gpu, (kernel, specialisation), params, &[input, written], (groups, from.images()))?;
            output.finish(gpu, &mut dispatch, band)?;
        }
        Ok(dispatch)
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
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let result = logits.resized(logits.images(), logits.height(), logits.width())?;
        let bands = bands::for_host(gpu, &logits.output(), 0)?;
        let parts: Vec<_> = bands.into_iter().map(|band| Part::same(band, &logits)).collect::<Result<_, _>>()?;
        let dispatch = |_: usize, part: &Part, slot: &Slot| {
            let [input, output] = slot.tensors();
            self.dispatch(gpu, &part.shape, input, output)
        };
        host::map_tensor(gpu, waiting, (&logits, &result), &mut input, &parts, dispatch).await
    }
}
