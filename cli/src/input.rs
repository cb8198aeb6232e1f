//! Logits from files.

use seghead::Logits;

use crate::args::{Common, Layout};
use crate::error::Error;
use crate::files;

/// Logits with their shape.
pub struct Input {
    pub path: String,
    pub logits: Logits,
    /// N × C × H × W
    pub data: Vec<f32>,
    /// The dimensions in the file: three, or four with N.
    pub shape: Vec<usize>,
}

impl Input {
    /// Reads `path`.
    pub fn read(path: &str, common: &Common) -> Result<Self, Error> {
        let tensor = files::tensor::read_logits(path)?;
        let shape = tensor.shape.clone();
        let dimensions = match (common.layout, shape.len()) {
            (Some(Layout::Chw), 3) | (Some(Layout::Nchw), 4) | (None, _) => &shape,
            (Some(layout), found) => {
                let (name, expected) = if layout == Layout::Chw { ("chw", 3) } else { ("nchw", 4) };
                let message =
                    format!("{path}: expected {expected} dimensions for --layout {name}, found {found}: {shape:?}");
                return Err(Error::Usage(message));
            }
        };
        // A size beyond 32 bits is beyond the limit of the elements too, whose message is the better one.
        let size = |i: usize| u32::try_from(dimensions[i]).unwrap_or(u32::MAX);
        let logits = match dimensions.len() {
            3 => Logits::chw(size(0), size(1), size(2)),
            _ => Logits::nchw(size(0), size(1), size(2), size(3)),
        };
        let logits = logits.map_err(|source| Error::Content { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), logits, data: tensor.data.into_f32(), shape })
    }

    /// The dimensions of a map of `height × width` for these logits: with N if they have it.
    pub fn map_shape(&self, height: u32, width: u32) -> Vec<usize> {
        let mut shape = vec![height as usize, width as usize];
        if self.shape.len() == 4 {
            shape.insert(0, self.shape[0]);
        }
        shape
    }

    /// An error of the library about these logits, with the name of their file.
    pub fn error(&self, source: seghead::Error) -> Error {
        match source {
            source @ (seghead::Error::Limit { .. } | seghead::Error::LabelType { .. }) => {
                Error::Content { path: self.path.clone(), source }
            }
            source => source.into(),
        }
    }
}
