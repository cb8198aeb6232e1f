//! What losses are taken against, on the GPU.

use wgpu::BufferBinding;

use crate::bands::Band;
use crate::dispatch::Bound;
use crate::kernel::{Params, binding};
use crate::map::MapPart;
use crate::window::Window;
use crate::{Dispatch, Error, Gpu, LabelType, Logits, Map};

/// A map of target labels on the GPU, with the geometry of [`Logits::map`].
///
/// ```
/// # fn app(buffer: &seghead::wgpu::Buffer) {
/// use seghead::{LabelType, Targets};
/// let targets = Targets::new(buffer.as_entire_buffer_binding(), LabelType::U8);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    pub(crate) buffer: BufferBinding<'a>,
    pub(crate) label_type: LabelType,
}

impl<'a> Targets<'a> {
    /// Labels of `label_type` in `buffer`. A negative label is its two's complement in 32 bits.
    pub fn new(buffer: BufferBinding<'a>, label_type: LabelType) -> Self {
        Self { buffer, label_type }
    }

    /// The type of the labels.
    pub(crate) fn label_type(&self) -> LabelType {
        self.label_type
    }
}

/// What the losses of a dispatch are taken against.
#[derive(Clone)]
pub(crate) enum Against<'a> {
    Labels(Targets<'a>),
    /// f32, where the logits are.
    Soft(BufferBinding<'a>),
}

impl<'a> Against<'a> {
    pub fn source(&self, gpu: &Gpu, logits: &Logits, bands: &[Band]) -> Result<Source<'a>, Error> {
        Ok(match self {
            Self::Labels(targets) => Source::Labels(targets.clone()),
            Self::Soft(targets) => Source::Soft(Window::new(gpu, targets.clone(), &logits.output(), bands)?),
        })
    }
}

/// Where the targets of the bands come from.
pub(crate) enum Source<'a> {
    Labels(Targets<'a>),
    Soft(Window<'a>),
}

impl Source<'_> {
    /// The targets of `band`, whose pixels are `groups` of `map`, and the parameters of a kernel that reads them beside
    /// the logits.
    pub fn read(
        &self,
        gpu: &Gpu,
        dispatch: &mut Dispatch,
        band: &Band,
        (map, groups): (&Map, &MapPart),
        params: Params,
    ) -> Result<(Bound<'_>, Params), Error> {
        match self {
            Self::Labels(targets) => {
                let (buffer, bits) = (targets.buffer.clone(), targets.label_type.bits());
                Ok((Bound::part(gpu, binding::TARGET, buffer, map.bytes(bits), groups.bytes(bits))?, params))
            }
            Self::Soft(window) => {
                let (targets, part) = window.read_as(gpu, dispatch, binding::TARGET, band)?;
                Ok((targets, params.with_output(&part)))
            }
        }
    }
}

/// An ignore index as kernels compare it: one beyond 32 bits matches no label on the GPU; a negative one is compared in
/// two's complement.
pub(crate) fn ignore_index_in_32_bits(index: Option<i64>) -> Option<u32> {
    let in_32_bits = |index: &i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(index);
    index.filter(in_32_bits).map(|index| index as u32)
}
