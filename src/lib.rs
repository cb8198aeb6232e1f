#![doc = include_str!("../README.md")]

mod bands;
mod dispatch;
mod error;
mod gpu;
mod host;
mod input;
mod kernel;
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
pub use kernel::LabelType;
pub use logits::{ElementType, Logits};
pub use map::Map;
pub use ops::argmax::Argmax;
pub use ops::cross_entropy::{CrossEntropy, Loss, LossRecord, Reduction, Targets};
pub use ops::multi_label::{MaskFormat, Masks, MultiLabel};
pub use ops::segment::{Resize, Segment};
pub use ops::sigmoid::Sigmoid;
pub use ops::softmax::{Axis, Softmax};
pub use readback::Readback;
pub use segmentation::{Labels, Outputs, Segmentation};

pub use wgpu;
