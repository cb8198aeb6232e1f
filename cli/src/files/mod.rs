//! Reading and writing the files of the command: tensors, label maps, score maps and pictures.
//!
//! Everything in memory is in C order (the last dimension varies fastest) and in the byte order of this machine,
//! whatever the file used. Inputs are read by [`tensor`], [`labels`] and [`picture`], or part by part by [`logits`];
//! outputs go through [`output::Outputs`], which makes them appear all together or not at all.

pub mod confusion;
pub mod element;
pub mod error;
pub mod labels;
pub mod location;
pub mod logits;
pub mod output;
pub mod overlay;
pub mod palette;
pub mod picture;
pub mod scores;
pub mod tensor;

mod array;
mod legend;
mod npy;
mod npz;
mod order;
mod safetensors;

pub use error::Error;
