use wgpu::BufferBinding;

use crate::dispatch::Bound;
use crate::host::{self, Waiting};
use crate::kernel::{Access, Kernel, Params, Specialisation, binding};
use crate::{Dispatch, Error, Gpu, Logits};

pub(crate) static SIGMOID: Kernel = Kernel {
    name: "sigmoid",
    source: include_str!("../../shaders/sigmoid.wgsl"),
    entry: "sigmoid",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |_| Access::ALL.map(|access| Specialisation::new(access, 0)).into(),
};

/// Groups of four elements that an invocation owns, `GROUPS` in `shaders/sigmoid.wgsl`.
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
        let buffers = [
            Bound::new(gpu, binding::LOGITS, input, logits.bytes())?,
            Bound::new(gpu, binding::OUTPUT, output, logits.bytes())?,
        ];
        // All planes are one run of elements here, so only its length has to be a multiple of four.
        let run = Logits::chw(1, 1, logits.len())?;
        let specialisation = Specialisation::new(Access::choose(gpu, run.plane_stride()), 0);
        let invocations = logits.len().div_ceil(4).div_ceil(GROUPS);
        let mut dispatch = Dispatch::new();
        dispatch.push(gpu, (&SIGMOID, specialisation), Params::new(&run), &buffers, (invocations, 1))?;
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
        let bands = host::bands(gpu, logits, 1)?;
        let dispatch = |band: &Logits, input: BufferBinding<'_>, output: BufferBinding<'_>| {
            self.dispatch(gpu, band, input, output)
        };
        host::map_tensor(gpu, logits, &bands, data, waiting, dispatch).await
    }
}
