use wgpu::BufferBinding;

use crate::bands::{self, Band};
use crate::dispatch::{Bound, scratch};
use crate::kernel::{Access, Binding, Kernel, Params, Specialisation, binding};
use crate::window::Window;
use crate::{Activation, Axis, Dispatch, Error, Gpu, Logits};

const SOURCE: &str = include_str!("../../shaders/temporal_smoothing.wgsl");

/// Of a softmax: what is to be known of every pixel, …
pub(crate) static STATISTICS: Kernel = Kernel {
    name: "temporal smoothing statistics",
    source: SOURCE,
    entry: "statistics",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::MAXIMUM_OUT, binding::SCALE_OUT, binding::WEIGHT_OUT],
    specialisations: |_| Specialisation::of_inputs(0),
};

/// … then the results.
pub(crate) static APPLY: Kernel = Kernel {
    name: "temporal smoothing apply",
    source: SOURCE,
    entry: "apply",
    class_walks: 1,
    bindings: &[
        binding::LOGITS,
        binding::OUTPUT,
        binding::MAXIMUM_IN,
        binding::SCALE_IN,
        binding::STATE,
        binding::WEIGHT_IN,
    ],
    specialisations: |_| with_results(),
};

pub(crate) static SIGMOID: Kernel = Kernel {
    name: "temporal smoothing sigmoid",
    source: SOURCE,
    entry: "sigmoid",
    class_walks: 1,
    bindings: &[binding::LOGITS, binding::OUTPUT, binding::STATE],
    specialisations: |_| with_results(),
};

fn with_results() -> Vec<Specialisation> {
    let both = |(access, element)| {
        [false, true].map(|probabilities| Specialisation { probabilities, ..Specialisation::new(access, element, 0) })
    };
    Access::inputs().flat_map(both).collect()
}

/// Class planes of a group that an invocation of [`APPLY`] owns, `CLASS_BLOCK` in `shaders/temporal_smoothing.wgsl`.
const CLASS_BLOCK: u32 = 8;

/// Smooths the class probabilities over the frames of a video, so that what the network is not sure of does not flicker.
///
/// With the probability p of a class in this frame, its smoothed probability s′ of the frame before, and the
/// uncertainty u of the pixel: `s = p + ratio · u · (s′ − p)`. u is the entropy of the pixel's softmax over ln C, 0 for
/// a single class; with [`Activation::Sigmoid`] every class has its own, that of p and 1 − p over ln 2. Both are in
/// 0..=1: where the network is sure the new frame counts, and where it is not the past does. `ratio` is how much of the
/// frame before an entirely uncertain pixel keeps.
///
/// MediaPipe smooths a mask like this, in
/// [`segmentation_smoothing_calculator.cc`](https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/calculators/image/segmentation_smoothing_calculator.cc),
/// where the ratio is `combine_with_previous_ratio`. It takes one probability for a pixel, and its uncertainty is the
/// *square* of the binary entropy over ln 2, by a polynomial of the fifth degree in (p − ½)²; here it is the entropy
/// itself, of any number of classes, and exact. So a pixel of middling certainty keeps more of its past here. The twin
/// is [`reference::temporal_smoothing`](crate::reference::temporal_smoothing).
///
/// **The state** is a buffer of the caller's, [`state_bytes`](Self::state_bytes) of f32, that every frame's dispatch
/// reads and writes: C planes for each image, each with the geometry of an image of [`Logits::map`], whatever the order
/// of the logits. It holds s, at least 2⁻¹²⁶, and NaN where p is NaN. What is not positive, normal and finite there is
/// no past: such an element starts with s = p. So a new buffer, which has zeros, is one before the first frame, a frame
/// with NaN spoils no other, and `encoder.clear_buffer(&state, 0, None)` forgets everything, at a cut of the film say.
///
/// **The output** is by default logits, so that everything that takes logits can follow, on the same buffers:
/// ln(max(s, 2⁻¹²⁶)), whose softmax is s, or for a sigmoid ln(s / (1 − s)), with both s and 1 − s at least 2⁻¹²⁶.
/// Those of a softmax differ from the logits of the network, where nothing is smoothed, by a number that all classes of a
/// pixel share, also when both are interpolated: [`Segment`](crate::Segment) finds the same labels and scores.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Logits, Readback, TemporalSmoothing, wgpu};
/// use wgpu::BufferUsages;
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(2, 1, 1)?;
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: BufferUsages::STORAGE | usage,
///     mapped_at_creation: false,
/// });
/// let input = buffer(logits.bytes(), BufferUsages::COPY_DST);
/// let state = buffer(TemporalSmoothing::state_bytes(&logits), BufferUsages::COPY_DST); // to be cleared
/// let output = buffer(logits.bytes(), BufferUsages::COPY_SRC);
/// let smoothing = TemporalSmoothing::new(0.5).probabilities(true).dispatch(
///     &gpu,
///     &logits,
///     input.as_entire_buffer_binding(),
///     state.as_entire_buffer_binding(),
///     output.as_entire_buffer_binding(),
/// )?;
/// let mut readback = Readback::new(&gpu, logits.bytes())?;
/// let mut frame = |x: [f32; 2]| {
///     gpu.queue().write_buffer(&input, 0, bytemuck::cast_slice(&x));
///     let mut encoder = gpu.device().create_command_encoder(&Default::default());
///     smoothing.record(&mut encoder);
///     readback.record(&mut encoder, output.as_entire_buffer_binding())?;
///     gpu.queue().submit([encoder.finish()]);
///     readback.read_blocking(&gpu, |p| bytemuck::pod_collect_to_vec::<u8, f32>(p))
/// };
/// assert_eq!(frame([200.0, 0.0])?, [1.0, 0.0]);
/// assert!((frame([0.0, 0.0])?[0] - 0.75).abs() < 1e-5); // entirely uncertain: half of it is the past
/// assert_eq!(frame([0.0, 200.0])?, [0.0, 1.0]); // entirely sure
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemporalSmoothing {
    ratio: f32,
    activation: Activation,
    probabilities: bool,
}

impl TemporalSmoothing {
    /// The operator with a ratio in 0..=1, for logits of a softmax. 0 smooths nothing.
    pub fn new(ratio: f32) -> Self {
        Self { ratio, activation: Activation::Softmax, probabilities: false }
    }

    /// Of probabilities by this activation, which has to be one.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Whether to write the smoothed probabilities, in 0..=1, and not their logits.
    pub fn probabilities(self, probabilities: bool) -> Self {
        Self { probabilities, ..self }
    }

    /// Size of a buffer for the state between frames of these logits, in bytes.
    ///
    /// ```
    /// use seghead::{Logits, TemporalSmoothing};
    /// // Planes start at multiples of four pixels.
    /// assert_eq!(TemporalSmoothing::state_bytes(&Logits::hwc(3, 5, 21)?.f16()), 21 * 16 * 4);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn state_bytes(logits: &Logits) -> u64 {
        u64::from(logits.classes()) * logits.map().bytes(32)
    }

    /// Makes the work on one frame ready to be recorded: reads `input`, shaped like `logits`, reads and writes `state`,
    /// [`state_bytes`](Self::state_bytes) of it, and writes `output`, shaped like `logits`, f32. It may be recorded for
    /// every frame, or often in one encoder where the input is written between: each time goes on from the state that
    /// the last one left.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`] for buffers that do
    /// not fit; [`Error::Value`] for a ratio out of range; [`Error::NoActivation`] for [`Activation::None`];
    /// [`Error::Limit`] for a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        state: BufferBinding<'_>,
        output: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        let past_weight = self.past_weight(logits)?;
        // The planes of the state are a tensor as well, and lie as a band of everything would be brought together.
        let planes = Band::whole(logits).shape_together(logits)?;
        let result = logits.output();
        check_apart(
            gpu,
            [
                (binding::LOGITS, &input, logits.bytes()),
                (binding::STATE, &state, planes.bytes()),
                (binding::OUTPUT, &output, result.bytes()),
            ],
        )?;
        // The planes are the larger tensor only where they are padded, and then they have rows if the logits have.
        let larger = if planes.bytes() > result.bytes() { planes } else { result };
        let bands = bands::for_dispatch(gpu, &larger)?;
        let input = Window::new(gpu, input, logits, &bands)?;
        let state = Window::new(gpu, state, &planes, &bands)?;
        let output = Window::new(gpu, output, &result, &bands)?;
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let (input, from) = input.read(gpu, &mut dispatch, band)?;
            let (kept, of_state) = state.read_as(gpu, &mut dispatch, binding::STATE, band)?;
            let (written, to) = output.write(gpu, band)?;
            let work = Work { input, from, state: kept, of_state, output: written, to };
            match self.activation {
                Activation::Sigmoid => self.push_sigmoid(gpu, &mut dispatch, work, past_weight)?,
                _ => self.push_softmax(gpu, &mut dispatch, work, past_weight)?,
            }
            state.finish(gpu, &mut dispatch, band)?;
            output.finish(gpu, &mut dispatch, band)?;
        }
        Ok(dispatch)
    }

    /// How much of the past counts for each nat of entropy.
    fn past_weight(&self, logits: &Logits) -> Result<f32, Error> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(Error::Value { what: "ratio", expected: "a number in 0..=1", found: self.ratio });
        }
        let outcomes = match self.activation {
            Activation::None => return Err(Error::NoActivation { what: "temporal smoothing" }),
            Activation::Sigmoid => 2,
            // Of a single class the entropy is 0 whatever it is divided by.
            Activation::Softmax => logits.classes().max(2),
        };
        Ok((f64::from(self.ratio) / f64::from(outcomes).ln()) as f32)
    }

    fn push_softmax(&self, gpu: &Gpu, dispatch: &mut Dispatch, work: Work<'_>, past_weight: f32) -> Result<(), Error> {
        let (params, specialisation) = self.params(gpu, &work, past_weight);
        let (groups, images) = (params.groups, work.from.images());
        let bytes = u64::from(images) * u64::from(groups) * 16;
        let maximum = scratch(gpu, "maximum", bytes)?;
        let scale = scratch(gpu, "scale", bytes)?;
        let weight = scratch(gpu, "weight of the past", bytes)?;
        let statistics = [
            work.input.clone(),
            Bound::whole(gpu, binding::MAXIMUM_OUT, &maximum)?,
            Bound::whole(gpu, binding::SCALE_OUT, &scale)?,
            Bound::whole(gpu, binding::WEIGHT_OUT, &weight)?,
        ];
        let plain = Specialisation { probabilities: false, ..specialisation };
        dispatch.push(gpu, (&STATISTICS, plain), params, &statistics, (groups, images))?;
        let apply = [
            work.input,
            work.output,
            Bound::whole(gpu, binding::MAXIMUM_IN, &maximum)?,
            Bound::whole(gpu, binding::SCALE_IN, &scale)?,
            work.state,
            Bound::whole(gpu, binding::WEIGHT_IN, &weight)?,
        ];
        let invocations = groups * params.classes.div_ceil(CLASS_BLOCK);
        dispatch.push(gpu, (&APPLY, specialisation), params, &apply, (invocations, images))
    }

    fn push_sigmoid(&self, gpu: &Gpu, dispatch: &mut Dispatch, work: Work<'_>, past_weight: f32) -> Result<(), Error> {
        // Every class on its own: planes one after another are read and written faster than all at once.
        let together = work.from.is_classes_last() || work.to.is_classes_last();
        let alone = |planes: &Logits| if together { *planes } else { planes.along(Axis::Width) };
        let (from, of_state, to) = (alone(&work.from), alone(&work.of_state), alone(&work.to));
        let work = Work { from, of_state, to, ..work };
        let (params, specialisation) = self.params(gpu, &work, past_weight);
        let invocations = (params.groups, work.from.images());
        dispatch.push(gpu, (&SIGMOID, specialisation), params, &[work.input, work.output, work.state], invocations)
    }

    fn params(&self, gpu: &Gpu, work: &Work<'_>, past_weight: f32) -> (Params, Specialisation) {
        let Work { from, of_state, to, .. } = work;
        let params = Params {
            map_groups: of_state.plane_stride() / 4,
            map_offset: of_state.offset() / 4,
            past_weight,
            ..Params::new(from).with_output(to)
        };
        let in_fours = params.reads_in_fours() && params.writes_in_fours(to.is_cropped());
        let specialisation = Specialisation::new(Access::choose(gpu, in_fours), from.element_type(), 0);
        (params, Specialisation { probabilities: self.probabilities, ..specialisation })
    }
}

/// What is bound for a band, and how it lies there.
struct Work<'a> {
    input: Bound<'a>,
    from: Logits,
    state: Bound<'a>,
    of_state: Logits,
    output: Bound<'a>,
    to: Logits,
}

/// Checks whole buffers, which may be bound in parts that do not show that they overlap.
fn check_apart(gpu: &Gpu, buffers: [(Binding, &BufferBinding<'_>, u64); 3]) -> Result<(), Error> {
    let mut checked: Vec<Bound<'_>> = Vec::new();
    for (binding, buffer, bytes) in buffers {
        let one = Bound::part(gpu, binding, buffer.clone(), bytes, 0..4)?;
        checked.iter().try_for_each(|other| one.check_apart(other))?;
        checked.push(one);
    }
    Ok(())
}
