#![doc = include_str!("../README.md")]

mod bands;
mod dispatch;
mod error;
mod gpu;
mod host;
mod input;
mod inspection;
mod kernel;
mod limits;
mod logits;
mod map;
mod ops;
mod readback;
pub mod reference;
mod segmentation;
mod window;

pub use dispatch::Dispatch;
pub use error::Error;
pub use gpu::{Gpu, GpuOptions};
pub use input::Input;
pub use inspection::{AxisSums, ClassValues, Finding, Inspection, Roughness};
pub use kernel::{Access, LabelType, SpecialisedKernel};
pub use logits::{ElementType, Logits};
pub use map::Map;
pub use ops::argmax::Argmax;
pub use ops::binary_cross_entropy::BinaryCrossEntropy;
pub use ops::cross_entropy::{CrossEntropy, Targets};
pub use ops::inspect::Inspect;
pub use ops::interpolate::{Activation, Interpolate};
pub use ops::loss::{Loss, LossRecord, Reduction};
pub use ops::multi_label::{MaskFormat, Masks, MultiLabel};
pub use ops::resize::Resize;
pub use ops::segment::Segment;
pub use ops::sigmoid::Sigmoid;
pub use ops::softmax::{Axis, Softmax};
pub use ops::top_k::{TopClasses, TopK};
pub use readback::{Frame, Readback, ReadbackRing};
pub use segmentation::{Labels, Outputs, Segmentation};

pub use wgpu;
