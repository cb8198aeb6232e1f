use wgpu::BufferBinding;

use crate::bands;
use crate::host::{self, Waiting};
use crate::kernel::{Access, Kernel, Params, Scores, Specialisation, binding};
use crate::map::MapPart;
use crate::segmentation::{self, Part};
use crate::window::{Planes, Window};
use crate::{Dispatch, Error, Gpu, Input, LabelType, Logits, Outputs, Segmentation};

pub(crate) static ARGMAX: Kernel = Kernel {
    name: "argmax",
    source: include_str!("../../shaders/argmax.wgsl"),
    entry: "argmax",
    class_walks: 3,
    bindings: &[
        binding::LOGITS,
        binding::FAR_LOGITS,
        binding::LABELS,
        binding::CONFIDENCE,
        binding::MARGIN,
        binding::ENTROPY,
    ],
    specialisations: |classes| {
        let mut all = Vec::new();
        for (access, element) in Access::inputs() {
            for labels in [LabelType::U8, LabelType::U32] {
                for scores in Scores::levels() {
                    let one = Specialisation { labels, scores, ..Specialisation::new(access, element, classes) };
                    all.extend(one.with_halves());
                }
            }
        }
        all
    },
};

/// Groups of four pixels that an invocation owns, `OWN` in `shaders/argmax.wgsl`.
fn own(specialisation: &Specialisation) -> u32 {
    match specialisation.access.is_adjacent() && specialisation.classes == 0 {
        true if specialisation.scores == Scores::NONE => 8,
        true => 4,
        false => 1,
    }
}

/// The class with the largest logit of every pixel, and, if asked for, how sure the network is of it: confidence, margin
/// and entropy, in the same pass.
///
/// The first of equals; a NaN counts as the largest, as in
/// [`torch.argmax`](https://docs.pytorch.org/docs/stable/generated/torch.argmax.html) with `dim=1`. The confidence is
/// the softmax probability of the chosen class, in 1/C..=1; all scores are NaN where the softmax is. The twins are
/// [`reference::argmax`](crate::reference::argmax) and [`reference::scores`](crate::reference::scores).
///
/// ```
/// use seghead::{Argmax, Gpu, GpuOptions, Labels, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let logits = Logits::chw(3, 1, 2)?;
/// let found = Argmax::new().confidence(true).run_blocking(&gpu, &logits, &[0.0, 5.0, 9.0, 5.0, 1.0, 2.0])?;
/// assert_eq!(found.labels, Labels::U8(vec![1, 0]));
/// assert!(found.confidence.unwrap()[0] > 0.999);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Argmax {
    label_type: Option<LabelType>,
    scores: Scores,
}

impl Argmax {
    /// The operator, with labels of the smallest type for the classes and without scores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Labels of this type.
    pub fn label_type(self, label_type: LabelType) -> Self {
        Self { label_type: Some(label_type), ..self }
    }

    /// Whether [`run`](Self::run) returns the confidence too. A dispatch writes the scores that it has buffers for.
    pub fn confidence(mut self, confidence: bool) -> Self {
        self.scores.confidence = confidence;
        self
    }

    /// Whether [`run`](Self::run) returns the margin too: the distance to the second largest probability, in 0..=1.
    pub fn margin(mut self, margin: bool) -> Self {
        self.scores.margin = margin;
        self
    }

    /// Whether [`run`](Self::run) returns the entropy too: −Σ p ln p over the classes, in 0..=ln C nats.
    pub fn entropy(mut self, entropy: bool) -> Self {
        self.scores.entropy = entropy;
        self
    }

    fn label_type_for(&self, logits: &Logits) -> LabelType {
        self.label_type.unwrap_or_else(|| LabelType::for_classes(logits.classes()))
    }

    /// Makes the work ready to be recorded: reads `input`, shaped like `logits`, and writes `outputs`, maps with the
    /// geometry of [`Logits::map`].
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`] for buffers that do
    /// not fit; [`Error::LabelType`] for too many classes; [`Error::Limit`] for a tensor that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        input: BufferBinding<'_>,
        outputs: Outputs<'_>,
    ) -> Result<Dispatch, Error> {
        let labels = self.label_type_for(logits);
        labels.check(logits.classes())?;
        let (window, bands) = Window::of_planes(gpu, input, logits)?;
        let mut dispatch = Dispatch::new();
        for band in &bands {
            let Planes { near, far, image, halves } = window.read_planes(gpu, &mut dispatch, band)?;
            let groups = MapPart::of(&logits.map(), band);
            let [labels_buffer, confidence, margin, entropy] = outputs.bind(gpu, &logits.map(), labels, &groups)?;
            let params = Params { map_offset: groups.offset(), ..Params::new(&image) }.with_halves(halves.as_ref());
            let access = Access::choose(gpu, params.reads_in_fours()).for_classes(params.classes);
            let scores = outputs.scores().level();
            let specialisation = Specialisation::new(access, image.element_type(), logits.classes());
            let specialisation = Specialisation { labels, scores, halves: halves.is_some(), ..specialisation };
            let buffers = [near, far, labels_buffer, confidence, margin, entropy];
            let invocations = params.groups.div_ceil(own(&specialisation));
            dispatch.push(gpu, (&ARGMAX, specialisation), params, &buffers, (invocations, image.images()))?;
        }
        Ok(dispatch)
    }

    /// Labels of `data`, N × C × H × W, packed N × H × W. Somebody else polls the device, as for
    /// [`Readback`](crate::Readback).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for a slice that is not `logits`; [`Error::LabelType`] for too many classes; what the device
    /// reports otherwise.
    pub async fn run<'a>(&self, gpu: &Gpu, logits: &Logits, data: impl Into<Input<'a>>) -> Result<Segmentation, Error> {
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
    ) -> Result<Segmentation, Error> {
        pollster::block_on(self.run_with(gpu, logits, data, Waiting::Block))
    }

    async fn run_with<'a>(
        &self,
        gpu: &Gpu,
        logits: &Logits,
        data: impl Into<Input<'a>>,
        waiting: Waiting,
    ) -> Result<Segmentation, Error> {
        let mut input = data.into();
        let logits = host::logits_of(logits, &input)?;
        let label_type = self.label_type_for(&logits);
        let bands = bands::for_host(gpu, &logits, self.scores.bits(label_type))?;
        let mut parts = Vec::with_capacity(bands.len());
        for band in bands {
            let shape = band.shape(&logits)?;
            parts.push(Part { band, shape, map: shape.map() });
        }
        let dispatch = |_: usize, shape: &Logits, logits: BufferBinding<'_>, outputs: Outputs<'_>| {
            self.dispatch(gpu, shape, logits, outputs)
        };
        let pixels = logits.map().pixels();
        segmentation::run(gpu, waiting, (&logits, &mut input), &parts, (label_type, self.scores), pixels, dispatch)
            .await
    }
}
