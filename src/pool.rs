//! Buffers of the one-shot functions, kept from one call to the next: a new one is cleared when it is first used, which
//! takes longer than most kernels.

use std::sync::{Mutex, PoisonError};

use wgpu::{Buffer, BufferUsages};

use crate::{Error, Gpu, host};

/// Most bytes that are kept: what one call has on its way, with soft targets and a gradient beside single losses.
const KEPT: u64 = 128 << 20;

/// The buffers that no call has at the moment. Nothing on the device uses them, and those that are mapped to be written
/// are mapped.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Buffer>>);

impl Pool {
    /// A buffer of at least so many bytes, with what some earlier call has left in it.
    pub fn take(&self, gpu: &Gpu, what: &'static str, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
        match self.find(bytes, usage) {
            Some(buffer) => Ok(buffer),
            None => host::create_buffer(gpu, what, bytes, usage),
        }
    }

    /// The smallest that is large enough. Where none is, the largest is let go, since a larger one will come back.
    fn find(&self, bytes: u64, usage: BufferUsages) -> Option<Buffer> {
        // Nothing can leave the list half-changed, so a panic elsewhere is no reason to refuse it.
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = free.iter().enumerate().filter(|(_, buffer)| buffer.usage() == usage);
        let (i, _) = alike.min_by_key(|(_, buffer)| match buffer.size() {
            size if size >= bytes => (false, size),
            size => (true, u64::MAX - size),
        })?;
        Some(free.remove(i)).filter(|buffer| buffer.size() >= bytes)
    }

    /// Takes buffers back. The oldest go where they are too many.
    pub fn put(&self, buffers: impl IntoIterator<Item = Buffer>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(buffers);
        let mut bytes: u64 = free.iter().map(Buffer::size).sum();
        free.retain(|buffer| {
            let keep = bytes <= KEPT;
            bytes -= if keep { 0 } else { buffer.size() };
            keep
        });
    }
}
