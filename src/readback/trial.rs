use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::{Mutex, PoisonError};

use crate::dispatch::check_copy;
use crate::{Error, Gpu};

/// Tries a copy once for every source, since wgpu refuses one from another device only when the encoder is submitted.
/// Frames copy from the same source again and again, and only the first of them pays.
#[derive(Debug)]
pub(super) struct Trial {
    pub gpu: Gpu,
    /// A hash of the last source, which is not to be kept alive.
    last: Mutex<Option<u64>>,
}

impl Trial {
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), last: Mutex::default() }
    }

    /// Refuses what `copy` does with `source` if wgpu would.
    pub fn check(&self, source: &impl Hash, copy: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<(), Error> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(source);
        // A hash cannot be left half-written.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != Some(hash) {
            check_copy(&self.gpu, "read-back", copy)?;
            *last = Some(hash);
        }
        Ok(())
    }
}
