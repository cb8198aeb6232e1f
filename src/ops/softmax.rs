use wgpu::BufferBinding;

use crate::host::{self, Waiting};
use crate::kernel::{Access, Bound, Kernel, Params, Specialisation, UNROLLED_CLASSES, binding, scratch};
use crate::{Dispatch, Error, Gpu, Logits};

const SOURCE: &str = include_str!("../../shaders/softmax.wgsl");

/// Up to [`UNROLLED_CLASSES`] classes.
pub(crate) static REGISTERS: Kernel = Kernel {
    name: "softmax registers",
    source: SOURCE,
    entry: "registers",
    bindings: &[binding::LOGITS, binding::OUTPUT],
    specialisations: |classes| match classes {
        ..=UNROLLED_CLASSES => Access::ALL.map(|access| Specialisation::new(access, classes)).into(),
        _ => Vec::new(),
    },
};

/// Above: the maximum and the scale of every pixel, …
pub(crate) static STATISTICS: Kernel = Kernel {
    name: "softmax statistics",
    source: SOURCE,
    entry: "statistics",
    bindings: &[binding::LOGITS, binding::MAXIMUM_OUT, binding::SCALE_OUT],
    specialisations: many_classes,
};

/// … then the probabilities.
pub(crate) static APPLY: Kernel = Kernel {
    name: "softmax apply",
    source: SOURCE,
    entry: "apply",
    bindings: &[binding::LOGITS, binding::OUTPUT, binding::MAXIMUM_IN, binding::SCALE_IN],
    specialisations: many_classes,
};

fn many_classes(classes: u32) -> Vec<Specialisation> {
    match classes {
        ..=UNROLLED_CLASSES => Vec::new(),
        _ => Access::ALL.map(|access| Specialisation::new(access, classes)).into(),
    }
}

/// Class planes of a group that an invocation of [`APPLY`] owns, `CLASS_BLOCK` in `shaders/softmax.wgsl`.
const CLASS_BLOCK: u32 = 8;

/// Softmax over the classes: for every pixel probabilities in 0..=1 that sum to 1, for networks whose classes exclude
/// one another.
///
/// `exp(x − max) / Σ exp(x − max)` over the C logits of a pixel; a pixel with a NaN or a +Inf among them is NaN. The
/// twin is [`reference::softmax`](crate::reference::softmax); definition as
/// [`torch.softmax`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html) with `dim=1`.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Softmax};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let p = Softmax::new().run_blocking(&gpu, &Logits::chw(3, 1, 1)?, &[1.0, 1.0, 1.0])?;
/// assert!(p.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax {}

impl Softmax {
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
        let input = Bound::new(gpu, binding::LOGITS, input, logits.bytes())?;
        let output = Bound::new(gpu, binding::OUTPUT, output, logits.bytes())?;
        let specialisation = Specialisation::new(Access::choose(gpu, logits), logits.classes());
        let params = Params::new(logits);
        let groups = logits.pixels().div_ceil(4);
        let images = logits.images();
        let mut dispatch = Dispatch::new();
        if specialisation.classes != 0 {
            dispatch.push(gpu, (&REGISTERS, specialisation), params, &[input, output], (groups, images))?;
            return Ok(dispatch);
        }
        let bytes = logits.map().bytes(32);
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
        let apply = [input, output, maximum, scale];
        let invocations = groups * logits.classes().div_ceil(CLASS_BLOCK);
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
        host::map_tensor(gpu, logits, data, waiting, |band, input, output| self.dispatch(gpu, band, input, output))
            .await
    }
}
