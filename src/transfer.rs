//! How numbers come from the host into buffers that kernels read, and back from those that they write.

use wgpu::{Buffer, BufferSize, BufferUsages, DeviceType, Features, WriteOnly};

use crate::error::one_line;
use crate::{Error, Gpu};

/// How the one-shot functions bring what is on the host to the device and back; [`Gpu::transfer`] says which way a device
/// takes.
///
/// ```
/// use seghead::{Gpu, GpuOptions, Transfer, wgpu::Features};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let mappable = gpu.device().features().contains(Features::MAPPABLE_PRIMARY_BUFFERS);
/// assert!(mappable || gpu.transfer() == Transfer::Staged);
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// Through staging memory on both ways, a copy on the host and one on the device each: what every device can.
    Staged,
    /// The buffers of the kernels are mapped themselves, and there is the copy on the host alone: on devices that share
    /// memory with the host.
    Mapped,
}

impl Transfer {
    /// The features of an adapter to request for the way that is fast there.
    pub(crate) fn features(info: &wgpu::AdapterInfo, software: bool) -> Features {
        if shares_memory(info, software) { Features::MAPPABLE_PRIMARY_BUFFERS } else { Features::empty() }
    }

    /// For a device: what `SEGHEAD_TRANSFER` asks for, `staged` or, where buffers can be mapped, `mapped`; or else what is
    /// fast there.
    pub(crate) fn of_device(info: &wgpu::AdapterInfo, software: bool, features: Features) -> Self {
        let mappable = features.contains(Features::MAPPABLE_PRIMARY_BUFFERS);
        match std::env::var("SEGHEAD_TRANSFER").as_deref() {
            Ok("staged") => Self::Staged,
            Ok("mapped") if mappable => Self::Mapped,
            _ if mappable && shares_memory(info, software) => Self::Mapped,
            _ => Self::Staged,
        }
    }

    /// Of buffers that [`write`] writes and kernels read.
    pub(crate) fn inputs(self) -> BufferUsages {
        match self {
            Self::Staged => BufferUsages::STORAGE | BufferUsages::COPY_DST,
            Self::Mapped => BufferUsages::STORAGE | BufferUsages::MAP_WRITE,
        }
    }

    /// Of buffers that kernels write and the host reads.
    pub(crate) fn outputs(self) -> BufferUsages {
        match self {
            Self::Staged => BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            Self::Mapped => BufferUsages::STORAGE | BufferUsages::MAP_READ,
        }
    }

    /// Of the buffers that [`outputs`](Self::outputs) are copied into to be read, if they are.
    pub(crate) fn staging(self) -> Option<BufferUsages> {
        match self {
            Self::Staged => Some(BufferUsages::COPY_DST | BufferUsages::MAP_READ),
            Self::Mapped => None,
        }
    }
}

fn shares_memory(info: &wgpu::AdapterInfo, software: bool) -> bool {
    software || info.device_type == DeviceType::IntegratedGpu
}

/// Lets `fill` write the first bytes of a buffer: those of one that is mapped at the moment, or else through the queue.
pub(crate) fn write(
    gpu: &Gpu,
    buffer: &Buffer,
    bytes: u64,
    fill: impl FnOnce(WriteOnly<'_, [u8]>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(size) = BufferSize::new(bytes) else { return Ok(()) };
    if is_mapped_to_write(buffer) {
        let mut mapped = buffer.get_mapped_range_mut(..bytes).map_err(|error| Error::Device(one_line(&error)))?;
        return fill(mapped.slice(..));
    }
    // None where the queue has no staging memory: the device reports that itself.
    let Some(mut staging) = gpu.queue().write_buffer_with(buffer, 0, size) else { return Ok(()) };
    fill(staging.slice(..))
}

/// Whether a buffer must be mapped to be written.
pub(crate) fn is_mapped_to_write(buffer: &Buffer) -> bool {
    buffer.usage().contains(BufferUsages::MAP_WRITE)
}
