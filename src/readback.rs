mod ring;
mod trial;

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use wgpu::{BufferAsyncError, BufferBinding, BufferUsages, MapMode};

use crate::host::{caught, create_buffer};
use crate::{Error, Gpu};

pub use ring::{Frame, ReadbackRing};
use trial::Trial;

/// A staging buffer to read results back through: record a copy, submit, await the bytes. For a frame loop that must
/// not wait there is [`ReadbackRing`].
///
/// Nothing here blocks or polls but [`read_blocking`](Self::read_blocking): the future of [`read`](Self::read)
/// resolves when whoever owns the device polls it, as any program with a frame loop does
/// ([`wgpu::Device::poll`]); in a browser that is the browser.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Readback, wgpu};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size: 8,
///     usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
///     mapped_at_creation: false,
/// });
/// gpu.queue().write_buffer(&buffer, 0, &[1, 2, 3, 4, 5, 6, 7, 8]);
/// let mut readback = Readback::new(&gpu, 8)?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// readback.record(&mut encoder, buffer.as_entire_buffer_binding())?;
/// gpu.queue().submit([encoder.finish()]);
/// assert_eq!(readback.read_blocking(&gpu, <[u8]>::to_vec)?, [1, 2, 3, 4, 5, 6, 7, 8]);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Debug)]
pub struct Readback {
    staging: wgpu::Buffer,
    trial: Trial,
}

impl Readback {
    /// A staging buffer of `bytes`, a multiple of 4.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] and [`Error::OutOfMemory`] where the device has no such buffer, [`Error::Misaligned`] where
    /// `bytes` is no multiple of 4.
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self, Error> {
        check_multiple_of_4("staging", bytes)?;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        Ok(Self { staging: create_buffer(gpu, "staging", bytes, usage)?, trial: Trial::new(gpu) })
    }

    /// Records the copy of the first bytes of `source`, as many as the staging buffer has. Nothing is submitted.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Misaligned`], [`Error::BufferTooSmall`] or [`Error::OtherDevice`] where wgpu would
    /// refuse the copy.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder, source: BufferBinding<'_>) -> Result<(), Error> {
        let bytes = self.staging.size();
        check_source(&source, bytes)?;
        self.trial.check(source.buffer, |encoder| {
            encoder.copy_buffer_to_buffer(source.buffer, source.offset, &self.staging, 0, bytes);
        })?;
        encoder.copy_buffer_to_buffer(source.buffer, source.offset, &self.staging, 0, bytes);
        Ok(())
    }

    /// Hands the bytes to `view` once the submitted copy is done and somebody has polled the device.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] or [`Error::Abandoned`] where the device was lost or destroyed.
    pub async fn read<R>(&mut self, view: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        let mut mapping = self.map();
        mapping.ready().await?;
        Ok(view(&mapping.view()?))
    }

    /// [`read`](Self::read) that polls the device itself until the bytes are there.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`Error::Poll`].
    #[cfg(not(target_family = "wasm"))]
    pub fn read_blocking<R>(&mut self, gpu: &Gpu, view: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        let mut mapping = self.map();
        gpu.wait()?;
        pollster::block_on(mapping.ready())?;
        Ok(view(&mapping.view()?))
    }

    fn map(&mut self) -> Mapping {
        Mapping::of(&self.trial.gpu, &self.staging, MapMode::Read, self.staging.size())
    }
}

/// A mapping of a buffer that was asked for, given back when dropped, at whatever stage.
pub(crate) struct Mapping {
    gpu: Gpu,
    buffer: wgpu::Buffer,
    bytes: u64,
    receiver: OneshotReceiver<Result<(), BufferAsyncError>>,
    kept: bool,
}

impl Mapping {
    /// Asks for the first bytes of a buffer; whoever polls the device when it is no longer in use completes that.
    pub fn of(gpu: &Gpu, buffer: &wgpu::Buffer, mode: MapMode, bytes: u64) -> Self {
        let (sender, receiver) = oneshot_channel();
        buffer.map_async(mode, ..bytes, move |result| {
            // The receiver may be gone: its future was dropped.
            let _ = sender.send(result);
        });
        Self { gpu: gpu.clone(), buffer: buffer.clone(), bytes, receiver, kept: false }
    }

    /// Returns when the bytes are there.
    pub async fn ready(&mut self) -> Result<(), Error> {
        Ok(self.receiver.receive().await.ok_or(Error::Abandoned)??)
    }

    /// The bytes, once they are there.
    pub fn view(&self) -> Result<wgpu::BufferView, Error> {
        Ok(self.buffer.get_mapped_range(..self.bytes)?)
    }

    /// Leaves the buffer mapped.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.kept {
            // wgpu takes it ill where mapping has failed, or the buffer went with its device: there is nothing to give back.
            let _ = caught(&self.gpu, wgpu::ErrorFilter::Validation, || self.buffer.unmap());
        }
    }
}

fn check_multiple_of_4(what: &'static str, offset: u64) -> Result<(), Error> {
    if offset.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) {
        Ok(())
    } else {
        Err(Error::Misaligned { what, offset, alignment: wgpu::COPY_BUFFER_ALIGNMENT })
    }
}

/// Checks that `bytes` can be copied from `source`.
fn check_source(source: &BufferBinding<'_>, bytes: u64) -> Result<(), Error> {
    let what = "read-back source";
    let usage = source.buffer.usage();
    if !usage.contains(BufferUsages::COPY_SRC) {
        return Err(Error::Usage { what, needed: BufferUsages::COPY_SRC, found: usage });
    }
    check_multiple_of_4(what, source.offset)?;
    let behind = source.buffer.size().saturating_sub(source.offset);
    let found = source.size.map_or(behind, |size| behind.min(size.get()));
    if found < bytes {
        return Err(Error::BufferTooSmall { what, offset: source.offset, needed: bytes, found });
    }
    Ok(())
}
