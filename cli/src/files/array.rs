//! Arrays in files, of which the header is read and checked, but not yet the elements.

use super::{
    Error,
    element::Layout,
    tensor::{Tensor, TensorData},
};
use std::{
    fs::File,
    io::{Seek, SeekFrom},
};

/// An array in an open file that is long enough for it.
#[derive(Debug)]
pub struct ArrayFile {
    /// The path, with the name of the array if it has one, for errors.
    pub path: String,
    /// How the elements are stored.
    pub layout: Layout,
    /// Where they are.
    pub elements: Elements,
}

/// Where the elements of an array are.
#[derive(Debug)]
pub enum Elements {
    /// In the file one after another, in C order: any part of them can be read.
    Stored {
        /// The file.
        file: File,
        /// The byte that they begin with.
        start: u64,
    },
    /// In memory: they come through a pipe, are compressed or in Fortran order, so that there is no reading a part of
    /// them.
    Memory(TensorData),
}

impl ArrayFile {
    /// Reads the elements that are not in memory yet.
    ///
    /// # Errors
    ///
    /// Those of [`Layout::read`].
    pub fn read(self) -> Result<Tensor, Error> {
        let Self { path, layout, elements } = self;
        let data = match elements {
            Elements::Stored { mut file, start } => {
                let sought = file.seek(SeekFrom::Start(start));
                sought.map_err(|source| Error::Read { path: path.clone(), source })?;
                layout.read(&mut file, None, &path)?
            }
            Elements::Memory(data) => data,
        };
        Ok(Tensor { shape: layout.shape, element: layout.element, data })
    }
}
