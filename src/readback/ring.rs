use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use wgpu::{BufferAsyncError, BufferBinding, BufferUsages, BufferView, MapMode, TextureUsages};

use super::trial::Trial;
use super::{check_multiple_of_4, check_source};
use crate::host::{check_length, create_buffer};
use crate::{Error, Gpu, Map};

/// Staging buffers that take turns, for results of every frame without ever waiting.
///
/// Every frame the application records a copy with [`record`](Self::record), submits, and asks
/// [`try_read`](Self::try_read) for the newest frame that has arrived. Nothing here submits, polls or waits: a frame
/// arrives when whoever owns the device polls it after the GPU is done, be it the loop itself
/// ([`wgpu::Device::poll`]), a thread, or the next [`wgpu::Queue::submit`], which polls as well; in a browser nobody
/// needs to. In a loop that is one or two frames after the copy was recorded, more where the GPU is behind.
///
/// A slot is taken from `record` until its [`Frame`] is dropped, or until a newer frame has arrived. Where all slots are
/// still on their way, `record` returns `None` and the frame is skipped: an application that is ahead of its GPU, or
/// that nobody polls for, loses frames and never stalls. Three slots are enough to lose none in a loop that polls once
/// a frame.
///
/// ```
/// use seghead::{Gpu, GpuOptions, ReadbackRing, wgpu};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size: 4,
///     usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
///     mapped_at_creation: false,
/// });
/// let mut ring = ReadbackRing::new(&gpu, 4, 3)?;
/// let mut newest = None;
/// for i in 0..10 {
///     gpu.queue().write_buffer(&buffer, 0, &[i; 4]);
///     let mut encoder = gpu.device().create_command_encoder(&Default::default());
///     ring.record(&mut encoder, buffer.as_entire_buffer_binding())?;
///     gpu.queue().submit([encoder.finish()]);
///     if let Some(frame) = ring.try_read()? {
///         assert_eq!(frame.to_vec(), [frame.number() as u8; 4]);
///         newest = Some(frame.number());
///     }
/// }
/// gpu.wait()?; // the loop is over: here there is time
/// if let Some(frame) = ring.try_read()? {
///     newest = Some(frame.number());
/// }
/// assert!(newest.is_some());
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Debug)]
pub struct ReadbackRing {
    source: Source,
    rows: Rows,
    slots: Vec<Slot>,
    trial: Trial,
    /// The number of the next frame.
    next: u64,
    /// The least number that is newer than every frame that was given out.
    wanted: u64,
}

/// What a ring copies from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Buffer { bytes: u64 },
    Texture { size: wgpu::Extent3d, format: wgpu::TextureFormat },
}

#[derive(Debug)]
struct Slot {
    staging: wgpu::Buffer,
    /// The frame that was recorded last.
    number: u64,
    state: Arc<AtomicU8>,
}

/// The states of a slot.
mod state {
    pub const FREE: u8 = 0;
    /// Recorded, perhaps submitted.
    pub const UNDER_WAY: u8 = 1;
    /// Mapped.
    pub const ARRIVED: u8 = 2;
    /// Mapped and looked at. A frame that is leaked, and not dropped, keeps its slot.
    pub const LENT: u8 = 3;
    /// Could not be mapped: the device is gone.
    pub const FAILED: u8 = 4;
}

impl ReadbackRing {
    /// A ring of `slots` staging buffers of `bytes` each, a multiple of 4. A frame is one row.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without slots or bytes, [`Error::Misaligned`] where `bytes` is no multiple of 4,
    /// [`Error::Limit`] and [`Error::OutOfMemory`] where the device has no such buffers.
    pub fn new(gpu: &Gpu, bytes: u64, slots: usize) -> Result<Self, Error> {
        check_multiple_of_4("staging", bytes)?;
        Self::with_rows(gpu, Source::Buffer { bytes }, Rows::single(bytes), slots)
    }

    /// A ring for buffers with the geometry of `map` and elements of 8 or 32 `bits`: labels, scores, masks. A frame has
    /// the rows of all images, without the padding.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for other `bits`, and as [`new`](Self::new).
    pub fn for_map(gpu: &Gpu, map: &Map, bits: u32, slots: usize) -> Result<Self, Error> {
        if !matches!(bits, 8 | 32) {
            return Err(Error::Value { what: "bits of a map's elements", expected: "8 or 32", found: bits as f32 });
        }
        let size = u64::from(bits / 8);
        let rows = Rows {
            image_stride: u64::from(map.image_stride()) * size,
            images: map.images().into(),
            row_stride: u64::from(map.row_stride()) * size,
            height: map.height().into(),
            row: u64::from(map.width()) * size,
        };
        Self::with_rows(gpu, Source::Buffer { bytes: map.bytes(bits) }, rows, slots)
    }

    /// A ring for textures like this one, which must have usage `COPY_SRC`: of two dimensions, its layers one after
    /// another, in a colour format of so many bytes a pixel. A frame has the rows of the first mip level, without the
    /// padding to 256 bytes that textures are copied with.
    ///
    /// ```
    /// use seghead::{Gpu, GpuOptions, ReadbackRing, wgpu};
    ///
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let mask = gpu.device().create_texture(&wgpu::TextureDescriptor {
    ///     label: None,
    ///     size: wgpu::Extent3d { width: 13, height: 7, depth_or_array_layers: 1 },
    ///     mip_level_count: 1,
    ///     sample_count: 1,
    ///     dimension: wgpu::TextureDimension::D2,
    ///     format: wgpu::TextureFormat::Rgba8Unorm,
    ///     usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
    ///     view_formats: &[],
    /// });
    /// let mut ring = ReadbackRing::for_texture(&gpu, &mask, 3)?;
    /// let mut encoder = gpu.device().create_command_encoder(&Default::default());
    /// ring.record_texture(&mut encoder, &mask)?;
    /// gpu.queue().submit([encoder.finish()]);
    /// gpu.wait()?;
    /// let frame = ring.try_read()?;
    /// assert!(frame.is_some_and(|frame| frame.rows().all(|row| row.len() == 13 * 4)));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Source`] for any other texture, [`Error::Empty`] without slots, [`Error::Limit`] and
    /// [`Error::OutOfMemory`] where the device has no such buffers.
    pub fn for_texture(gpu: &Gpu, texture: &wgpu::Texture, slots: usize) -> Result<Self, Error> {
        let bytes_of_pixel = check_texture(texture)?;
        let size = texture.size();
        let row = u64::from(size.width) * bytes_of_pixel;
        let row_stride = row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT.into());
        let rows = Rows {
            image_stride: row_stride * u64::from(size.height),
            images: size.depth_or_array_layers.into(),
            row_stride,
            height: size.height.into(),
            row,
        };
        Self::with_rows(gpu, Source::Texture { size, format: texture.format() }, rows, slots)
    }

    fn with_rows(gpu: &Gpu, source: Source, rows: Rows, slots: usize) -> Result<Self, Error> {
        let bytes = rows.image_stride * rows.images;
        for (what, empty) in [("slots", slots == 0), ("bytes", bytes == 0)] {
            if empty {
                return Err(Error::Empty { what });
            }
        }
        let slot = |_| {
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            let staging = create_buffer(gpu, "staging", bytes, usage)?;
            Ok(Slot { staging, number: 0, state: Arc::new(AtomicU8::new(state::FREE)) })
        };
        let slots = (0..slots).map(slot).collect::<Result<_, Error>>()?;
        Ok(Self { source, rows, slots, trial: Trial::new(gpu), next: 0, wanted: 0 })
    }

    /// Records the copy of the first bytes of `source`, as many as a slot has, and asks for them to be mapped once the
    /// encoder is submitted.
    ///
    /// Returns the number of the frame: how many calls came before, counting those that returned `None` because all
    /// slots are on their way, and recorded nothing. What is recorded behind this into the same encoder runs behind the
    /// copy.
    ///
    /// An encoder that is dropped without having been submitted, or its command buffer, gives the slot back, and its
    /// frame never arrives. Where wgpu refuses a submission, and reports that to the application, the slot is mapped
    /// all the same: the frame of that number then has what the slot had before.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Misaligned`], [`Error::BufferTooSmall`] or [`Error::OtherDevice`] where wgpu would refuse
    /// the copy, [`Error::Source`] where the ring is for textures, [`Error::Map`] where the device is known to be gone. Nothing
    /// was recorded then.
    pub fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        source: BufferBinding<'_>,
    ) -> Result<Option<u64>, Error> {
        let Source::Buffer { bytes } = self.source else {
            return Err(Error::Source { expected: self.source.to_string(), found: "a buffer".into() });
        };
        check_source(&source, bytes)?;
        self.record_with(encoder, source.buffer, |encoder, staging| {
            encoder.copy_buffer_to_buffer(source.buffer, source.offset, staging, 0, bytes);
        })
    }

    /// As [`record`](Self::record), of a texture with the size and the format of the one that the ring was made for.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] for any other texture, or where the ring is for buffers; [`Error::OtherDevice`]; [`Error::Map`] where the device is
    /// known to be gone. Nothing was recorded then.
    pub fn record_texture(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        texture: &wgpu::Texture,
    ) -> Result<Option<u64>, Error> {
        check_texture(texture)?;
        let found = Source::Texture { size: texture.size(), format: texture.format() };
        if found != self.source {
            return Err(Error::Source { expected: self.source.to_string(), found: found.to_string() });
        }
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(self.rows.row_stride as u32),
            rows_per_image: Some(self.rows.height as u32),
        };
        self.record_with(encoder, texture, |encoder, buffer| {
            let to = wgpu::TexelCopyBufferInfo { buffer, layout };
            encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
        })
    }

    fn record_with(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        source: &impl Hash,
        copy: impl Fn(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> Result<Option<u64>, Error> {
        self.check_alive()?;
        if let Some(slot) = self.slots.first() {
            self.trial.check(source, |encoder| copy(encoder, &slot.staging))?;
        }
        // Frames that nobody has read, but the newest, make room.
        self.newest();
        let number = self.next;
        self.next += 1;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is(state::FREE)) else { return Ok(None) };
        copy(encoder, &slot.staging);
        slot.number = number;
        slot.state.store(state::UNDER_WAY, Ordering::Relaxed);
        let arrival = Arrival { state: Arc::clone(&slot.state), outcome: state::FREE };
        encoder.map_buffer_on_submit(&slot.staging, MapMode::Read, .., |result| arrival.arrive(result));
        Ok(Some(number))
    }

    /// The newest frame that has arrived, if it is newer than those before: every frame comes at most once, and none
    /// behind a newer one. Never waits and never polls; frames that a newer one has overtaken are given back.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] or [`Error::MapRange`] where the device was lost or destroyed, from then on: such a ring is to be
    /// dropped with its device. The ring learns of it as of anything else, when somebody polls.
    pub fn try_read(&mut self) -> Result<Option<Frame<'_>>, Error> {
        self.check_alive()?;
        let Some(newest) = self.newest() else { return Ok(None) };
        let slot = &self.slots[newest];
        self.wanted = slot.number + 1;
        slot.state.store(state::LENT, Ordering::Relaxed);
        let slot = Mapped(slot);
        Ok(Some(Frame { view: slot.0.staging.get_mapped_range(..)?, rows: self.rows, slot }))
    }

    /// Releases the frames that a newer one has overtaken, and returns the slot of the newest that was not given out.
    fn newest(&self) -> Option<usize> {
        let arrived = self.slots.iter().enumerate().filter(|(_, slot)| slot.is(state::ARRIVED));
        let newest = arrived.max_by_key(|(_, slot)| slot.number);
        let wanted = newest.map_or(0, |(_, slot)| slot.number).max(self.wanted);
        for slot in self.slots.iter().filter(|slot| slot.number < wanted && slot.is(state::ARRIVED)) {
            drop(Mapped(slot));
        }
        newest.filter(|(_, slot)| slot.number == wanted).map(|(index, _)| index)
    }

    fn check_alive(&self) -> Result<(), Error> {
        // A slot is nobody else's, so that there is no other reason.
        match self.slots.iter().any(|slot| slot.is(state::FAILED)) {
            true => Err(Error::Map(BufferAsyncError)),
            false => Ok(()),
        }
    }
}

impl Slot {
    fn is(&self, state: u8) -> bool {
        // Acquire: what was mapped before the state was set is seen behind this.
        self.state.load(Ordering::Acquire) == state
    }
}

/// Tells a slot what became of its frame, when dropped: that it is free again, unless the frame was mapped or failed.
struct Arrival {
    state: Arc<AtomicU8>,
    outcome: u8,
}

impl Arrival {
    fn arrive(mut self, result: Result<(), BufferAsyncError>) {
        self.outcome = if result.is_ok() { state::ARRIVED } else { state::FAILED };
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Once: from here on the slot may be recorded for another frame.
        self.state.store(self.outcome, Ordering::Release);
    }
}

/// A slot whose buffer is mapped; frees it when dropped.
#[derive(Debug)]
struct Mapped<'a>(&'a Slot);

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        let Slot { staging, state, .. } = self.0;
        // A device that was destroyed has taken the mapping with it, and wgpu takes it ill if that is given back.
        let still_mapped = staging.get_mapped_range(..).is_ok();
        if still_mapped {
            staging.unmap();
        }
        state.store(if still_mapped { state::FREE } else { state::FAILED }, Ordering::Relaxed);
    }
}

/// The bytes of a frame, in the staging buffer itself. Dropping it gives the slot back to its [`ReadbackRing`].
///
/// ```
/// use seghead::{Error, Frame};
///
/// /// Pixels of class 1 in a map of labels.
/// fn count(frame: &Frame<'_>) -> usize {
///     frame.rows().flatten().filter(|&&label| label == 1).count()
/// }
///
/// /// Confidence into memory that is kept from frame to frame.
/// fn confidence(frame: &Frame<'_>, kept: &mut [f32]) -> Result<(), Error> {
///     frame.copy_to(bytemuck::cast_slice_mut(kept))
/// }
/// ```
#[derive(Debug)]
pub struct Frame<'a> {
    // Before the slot: no buffer can be unmapped under a view.
    view: BufferView,
    rows: Rows,
    slot: Mapped<'a>,
}

impl Frame<'_> {
    /// The number that [`ReadbackRing::record`] has returned for it.
    pub fn number(&self) -> u64 {
        self.slot.0.number
    }

    /// The rows, images or layers one after another, without padding. Those of elements of 32 bits can be cast in
    /// place, by bytemuck's `cast_slice` for example.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.of(&self.view)
    }

    /// Bytes of all rows.
    pub fn size(&self) -> usize {
        (self.rows.images * self.rows.height * self.rows.row) as usize
    }

    /// Copies all rows to `packed`, one after another, without allocating.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where `packed` has not [`size`](Self::size) bytes.
    pub fn copy_to(&self, packed: &mut [u8]) -> Result<(), Error> {
        check_length("frame", self.size() as u64, packed.len() as u64)?;
        for (to, row) in packed.chunks_exact_mut(self.rows.row as usize).zip(self.rows()) {
            to.copy_from_slice(row);
        }
        Ok(())
    }

    /// All rows, one after another.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.size());
        self.rows().for_each(|row| packed.extend_from_slice(row));
        packed
    }
}

/// Where the rows of a frame are in its staging buffer, in bytes, and how many of them there are.
#[derive(Clone, Copy, Debug)]
struct Rows {
    image_stride: u64,
    images: u64,
    row_stride: u64,
    height: u64,
    row: u64,
}

impl Rows {
    fn single(bytes: u64) -> Self {
        Self { image_stride: bytes, images: 1, row_stride: bytes, height: 1, row: bytes }
    }

    fn of(self, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        bytes.chunks_exact(self.image_stride as usize).flat_map(move |image| self.of_image(image))
    }

    fn of_image(self, image: &[u8]) -> impl Iterator<Item = &[u8]> {
        let rows = image.chunks_exact(self.row_stride as usize).take(self.height as usize);
        rows.map(move |row| &row[..self.row as usize])
    }
}

/// The bytes of a pixel of a texture that can be copied.
fn check_texture(texture: &wgpu::Texture) -> Result<u64, Error> {
    let format = texture.format();
    let fixed = format.block_copy_size(None).filter(|_| format.block_dimensions() == (1, 1));
    let (dimension, samples, usage) = (texture.dimension(), texture.sample_count(), texture.usage());
    let (expected, found) = match fixed {
        _ if format.is_depth_stencil_format() => ("a texture in a colour format".into(), format!("one of {format:?}")),
        None => ("a texture with a fixed number of bytes per pixel".into(), format!("one of {format:?}")),
        _ if dimension != wgpu::TextureDimension::D2 || samples != 1 => {
            ("a texture of two dimensions and one sample".into(), format!("one of {dimension:?} and {samples}"))
        }
        _ if !usage.contains(TextureUsages::COPY_SRC) => {
            (format!("a texture with usage {:?}", TextureUsages::COPY_SRC), format!("one with {usage:?}"))
        }
        Some(bytes) => return Ok(bytes.into()),
    };
    Err(Error::Source { expected, found })
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Buffer { bytes } => write!(f, "a buffer of {bytes} bytes"),
            Self::Texture { size, format } => {
                let wgpu::Extent3d { width, height, depth_or_array_layers: layers } = size;
                write!(f, "a texture of {layers} × {height} × {width} {format:?}")
            }
        }
    }
}
