//! Logits from files.

use seghead::Logits;

use crate::args::{Common, Layout};
use crate::error::Error;
use crate::files::logits::LogitsFile;

/// Logits with their shape.
pub struct Input {
    pub path: String,
    pub logits: Logits,
    /// The dimensions in the file: three, or four with N.
    pub shape: Vec<usize>,
    /// Whether they are H × W × C.
    classes_last: bool,
    file: LogitsFile,
}

impl Input {
    /// Opens `path`.
    pub fn open(path: &str, common: &Common) -> Result<Self, Error> {
        let file = LogitsFile::open(path)?;
        let shape = file.shape().to_vec();
        let (layout, name, rank) = match common.layout {
            Some(layout @ Layout::Chw) => (layout, "chw", 3),
            Some(layout @ Layout::Nchw) => (layout, "nchw", 4),
            Some(layout @ Layout::Hwc) => (layout, "hwc", 3),
            Some(layout @ Layout::Nhwc) => (layout, "nhwc", 4),
            None if shape.len() == 3 => (Layout::Chw, "chw", 3),
            None => (Layout::Nchw, "nchw", 4),
        };
        if shape.len() != rank {
            let found = shape.len();
            let message = format!("{path}: expected {rank} dimensions for --layout {name}, found {found}: {shape:?}");
            return Err(Error::Usage(message));
        }
        // A size beyond 32 bits is beyond the limit of the elements too, whose message is the better one.
        let size = |i: usize| u32::try_from(shape[i]).unwrap_or(u32::MAX);
        let logits = match layout {
            Layout::Chw => Logits::chw(size(0), size(1), size(2)),
            Layout::Nchw => Logits::nchw(size(0), size(1), size(2), size(3)),
            Layout::Hwc => Logits::hwc(size(0), size(1), size(2)),
            Layout::Nhwc => Logits::nhwc(size(0), size(1), size(2), size(3)),
        };
        let logits = logits.map_err(|source| Error::Content { path: path.to_owned(), source })?;
        let classes_last = matches!(layout, Layout::Hwc | Layout::Nhwc);
        Ok(Self { path: path.to_owned(), logits, shape, classes_last, file })
    }

    /// Reads the elements into memory if they are at most so many bytes.
    pub fn load(&mut self, most: u64) -> Result<(), Error> {
        Ok(self.file.load(most)?)
    }

    /// The elements, as `logits` has them, for the library to read; any number of times.
    pub fn reader(&mut self) -> seghead::Input<'_> {
        self.file.input()
    }

    /// The first of the elements alone.
    pub fn reader_of_first(&mut self, elements: u64) -> seghead::Input<'_> {
        self.file.first(elements)
    }

    /// The dimensions of a map of `height × width` for these logits: with N if they have it.
    pub fn map_shape(&self, height: u32, width: u32) -> Vec<usize> {
        let mut shape = vec![height as usize, width as usize];
        if self.shape.len() == 4 {
            shape.insert(0, self.shape[0]);
        }
        shape
    }

    /// The dimensions of a tensor of `height × width` pixels in the order of these logits.
    pub fn tensor_shape(&self, height: u32, width: u32) -> Vec<usize> {
        let first = self.shape.len() - 3;
        let mut shape = self.shape.clone();
        let at = if self.classes_last { first } else { first + 1 };
        (shape[at], shape[at + 1]) = (height as usize, width as usize);
        shape
    }

    /// An error of the library about these logits, with the name of their file.
    pub fn error(&self, source: seghead::Error) -> Error {
        match source {
            source
            @ (seghead::Error::Limit { .. } | seghead::Error::LabelType { .. } | seghead::Error::TopK { .. }) => {
                Error::Content { path: self.path.clone(), source }
            }
            seghead::Error::Input(source) => self.file.failure(source).into(),
            source => source.into(),
        }
    }
}
