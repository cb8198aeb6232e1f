//! From slices on the host to results on the host: upload, record, submit, read back.
//!
//! What is too big goes through the GPU in bands of pixels, which the operators treat like small images. Two bands are
//! on their way at a time, each with buffers of its own: while the GPU computes one, the host writes the next and
//! takes the results of the one before. A band has at most 8 MiB of logits and 8 MiB of results, and as much again for
//! the staging of either where there is one, so that with two of them 64 MiB of GPU memory are in use, whatever the size
//! of the tensor; soft targets take as much as logits. It is more only where four pixels, or the rows that an upsampled
//! row reads, are, and for `Inspect`. The buffers are kept for the next call, see `pool.rs`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::iter;

use wgpu::{Buffer, BufferBinding, BufferUsages, MapMode};

use crate::bands::Band;
use crate::error::one_line;
use crate::readback::Mapping;
use crate::transfer::{is_mapped_to_write, write};
use crate::{Dispatch, Error, Gpu, Input, Logits};

/// Who polls the device while a result is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The caller of an async function has somebody who does.
    Async,
    /// The function itself. Nothing can in a browser, which polls when a function has returned.
    #[cfg(not(target_family = "wasm"))]
    Block,
}

impl Waiting {
    /// Returns when `submission` is done, unless somebody else sees to that.
    #[cfg(not(target_family = "wasm"))]
    fn wait_for(self, gpu: &Gpu, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
        if self == Self::Block {
            gpu.device().poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })?;
        }
        Ok(())
    }

    #[cfg(target_family = "wasm")]
    fn wait_for(self, _: &Gpu, _: wgpu::SubmissionIndex) -> Result<(), Error> {
        Ok(())
    }
}

/// Bands that are on their way at a time.
const SLOTS: usize = 2;

/// Runs `work`, and returns what the device holds against it: on one that was lost or destroyed, everything.
pub(crate) async fn checked<R>(gpu: &Gpu, work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
    let result = work();
    match scope.pop().await {
        None => result,
        Some(error) => Err(Error::Device(one_line(&error))),
    }
}

/// Does `work`, and returns what wgpu says of errors of this kind at once.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn caught<R>(gpu: &Gpu, kind: wgpu::ErrorFilter, work: impl FnOnce() -> R) -> (R, Option<wgpu::Error>) {
    let scope = gpu.device().push_error_scope(kind);
    let result = work();
    (result, pollster::block_on(scope.pop()))
}

/// A browser says nothing at once: it reports errors to the device's handler, later.
#[cfg(target_family = "wasm")]
pub(crate) fn caught<R>(_: &Gpu, _: wgpu::ErrorFilter, work: impl FnOnce() -> R) -> (R, Option<wgpu::Error>) {
    (work(), None)
}

/// Creates a buffer, mapped if it can be written like that, or says why the device has none of this size.
pub(crate) fn create_buffer(gpu: &Gpu, what: &'static str, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
    let limit = gpu.limits().max_buffer_size;
    if bytes > limit {
        return Err(Error::Limit { what: "bytes of a buffer", needed: bytes, limit });
    }
    let mapped_at_creation = usage.contains(BufferUsages::MAP_WRITE);
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation };
    match caught(gpu, wgpu::ErrorFilter::OutOfMemory, || gpu.device().create_buffer(&descriptor)) {
        (buffer, None) => Ok(buffer),
        (_, Some(_)) => Err(Error::OutOfMemory { what, bytes }),
    }
}

/// Checks that a slice is as long as its shape says.
pub(crate) fn check_length(what: &'static str, expected: u64, found: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// The logits of a `run` function: how they lie on the host, with the type of elements that they have.
pub(crate) fn logits_of(logits: &Logits, input: &Input<'_>) -> Result<Logits, Error> {
    let logits = logits.on_host()?.with_element_type(input.element_type());
    let (expected, found) = (logits.len().into(), input.elements());
    if found != expected {
        return Err(Error::Length { what: "logits", expected, found });
    }
    Ok(logits)
}

/// Most bytes that buffers of the bands have on the GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes {
    pub logits: u64,
    /// What an operator uploads beside the logits.
    pub uploads: Vec<(&'static str, u64)>,
    pub outputs: Vec<(&'static str, u64)>,
}

impl Sizes {
    /// What bands of `logits` take at the most, with what is uploaded for one of a shape, and the bytes of one output.
    pub fn of_bands(
        logits: &Logits,
        bands: &[Band],
        uploads: impl Fn(&Logits) -> Vec<(&'static str, u64)>,
        (what, bytes): (&'static str, impl Fn(&Logits) -> Result<u64, Error>),
    ) -> Result<Self, Error> {
        let mut sizes = Self { outputs: vec![(what, 0)], ..Self::default() };
        for band in bands {
            let shape = band.shape(logits)?;
            sizes.logits = sizes.logits.max(shape.bytes());
            sizes.outputs[0].1 = sizes.outputs[0].1.max(bytes(&shape)?);
            let buffers = uploads(&shape);
            sizes.uploads.resize(buffers.len(), ("", 0));
            for (most, (what, bytes)) in sizes.uploads.iter_mut().zip(buffers) {
                *most = (what, bytes.max(most.1));
            }
        }
        Ok(sizes)
    }
}

/// The buffers of a band on its way, each at least as large as it must be.
pub(crate) struct Slot {
    pub logits: Buffer,
    pub uploads: Vec<Buffer>,
    pub outputs: Vec<Buffer>,
    /// What the outputs are read from: a copy, or themselves.
    read: Vec<Buffer>,
}

impl Slot {
    fn take(gpu: &Gpu, sizes: &Sizes) -> Result<Self, Error> {
        let transfer = gpu.transfer();
        let (inputs, outputs) = (transfer.inputs(), transfer.outputs());
        let take = |list: &[(&'static str, u64)], usage| -> Result<Vec<_>, Error> {
            list.iter().map(|&(what, bytes)| gpu.pool().take(gpu, what, bytes, usage)).collect()
        };
        let outputs = take(&sizes.outputs, outputs)?;
        Ok(Self {
            logits: gpu.pool().take(gpu, "logits", sizes.logits, inputs)?,
            uploads: take(&sizes.uploads, inputs)?,
            read: transfer.staging().map_or_else(|| Ok(outputs.clone()), |usage| take(&sizes.outputs, usage))?,
            outputs,
        })
    }

    /// To be called when nothing is on its way in the slot.
    fn put_back(self, gpu: &Gpu) {
        let copies = self.read.into_iter().filter(|buffer| !self.outputs.contains(buffer));
        let copies: Vec<_> = copies.collect();
        gpu.pool().put(iter::once(self.logits).chain(self.uploads).chain(self.outputs).chain(copies));
    }

    /// The buffers that are mapped but while their band is computed.
    fn mapped(&self) -> impl Iterator<Item = &Buffer> {
        iter::once(&self.logits).chain(&self.uploads).filter(|buffer| is_mapped_to_write(buffer))
    }

    /// Submits the work of a band and the copies of its outputs, and asks for everything to be mapped behind it.
    async fn submit(&self, gpu: &Gpu, band: usize, dispatch: &Dispatch, bytes: &[u64]) -> Result<OnItsWay, Error> {
        let submit = || {
            self.mapped().for_each(Buffer::unmap);
            let label = Some("seghead");
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
            dispatch.record(&mut encoder);
            for ((output, read), &bytes) in self.outputs.iter().zip(&self.read).zip(bytes) {
                if read != output {
                    encoder.copy_buffer_to_buffer(output, 0, read, 0, bytes);
                }
            }
            Ok(gpu.queue().submit([encoder.finish()]))
        };
        let submission = checked(gpu, submit).await?;
        let inputs = self.mapped().map(|buffer| Mapping::of(gpu, buffer, MapMode::Write, buffer.size())).collect();
        let read = self.read.iter().zip(bytes);
        let outputs = read.map(|(buffer, &bytes)| Mapping::of(gpu, buffer, MapMode::Read, bytes)).collect();
        Ok(OnItsWay { band, submission, inputs, outputs })
    }

    /// The logits, and the tensor that is made of them.
    pub fn tensors(&self) -> [BufferBinding<'_>; 2] {
        [self.logits.as_entire_buffer_binding(), self.outputs[0].as_entire_buffer_binding()]
    }
}

/// What an operator makes of each band.
pub(crate) trait Bands {
    /// The part of the logits that band `i` reads, and its shape on the GPU.
    fn band(&self, i: usize) -> Result<(Band, Logits), Error>;

    /// The work of band `i`, whose logits are in the slot, and how many bytes of each output it writes.
    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error>;

    /// Takes the bytes of each output of band `i`. Bands come in their order.
    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error>;
}

/// Sends `count` bands through the GPU.
pub(crate) async fn stream(
    gpu: &Gpu,
    waiting: Waiting,
    whole: &Logits,
    input: &mut Input<'_>,
    (count, sizes): (usize, Sizes),
    bands: &mut impl Bands,
) -> Result<(), Error> {
    let mut slots = Vec::with_capacity(SLOTS.min(count));
    let mut on_their_way = VecDeque::with_capacity(SLOTS);
    for i in 0..count {
        if slots.len() < SLOTS.min(count) {
            slots.push(Slot::take(gpu, &sizes)?);
        }
        if on_their_way.len() == SLOTS {
            finish(gpu, waiting, bands, &mut on_their_way).await?;
        }
        let slot = &slots[i % SLOTS];
        let (band, shape) = bands.band(i)?;
        let prepare = || {
            upload(gpu, &slot.logits, input, (whole, &band), &shape)?;
            bands.prepare(i, slot)
        };
        let (dispatch, bytes) = checked(gpu, prepare).await?;
        on_their_way.push_back(slot.submit(gpu, i, &dispatch, &bytes).await?);
    }
    while !on_their_way.is_empty() {
        finish(gpu, waiting, bands, &mut on_their_way).await?;
    }
    // Not where the above was left half-way: whatever is on its way then goes with its slot.
    slots.into_iter().for_each(|slot| slot.put_back(gpu));
    Ok(())
}

/// A band that was submitted.
struct OnItsWay {
    band: usize,
    submission: wgpu::SubmissionIndex,
    inputs: Vec<Mapping>,
    outputs: Vec<Mapping>,
}

/// Waits for the band that was submitted first, and hands its results over.
async fn finish(
    gpu: &Gpu,
    waiting: Waiting,
    bands: &mut impl Bands,
    on_their_way: &mut VecDeque<OnItsWay>,
) -> Result<(), Error> {
    let Some(OnItsWay { band, submission, mut inputs, mut outputs }) = on_their_way.pop_front() else { return Ok(()) };
    waiting.wait_for(gpu, submission)?;
    for mapping in inputs.iter_mut().chain(&mut outputs) {
        mapping.ready().await?;
    }
    inputs.into_iter().for_each(Mapping::keep);
    let views: Result<Vec<_>, _> = outputs.iter().map(Mapping::view).collect();
    let views = views?;
    let bytes: Vec<&[u8]> = views.iter().map(|view| &view[..]).collect();
    bands.take(band, &bytes)
}

/// Copies a band of `input`, the elements of `whole`, into `buffer` as `shape` says.
pub(crate) fn upload(
    gpu: &Gpu,
    buffer: &Buffer,
    input: &mut Input<'_>,
    (whole, band): (&Logits, &Band),
    shape: &Logits,
) -> Result<(), Error> {
    let element = shape.element_type().size() as usize;
    write(gpu, buffer, shape.bytes(), |mut to| {
        let mut end = 0;
        for (from, at, count) in runs(whole, band, shape) {
            let at = at * element;
            // Padding before this run; it is never more than a few elements.
            to.slice(end..at).fill(0);
            input.copy(from, count, |start, bytes| {
                to.slice(at + start..at + start + bytes.len()).copy_from_slice(bytes);
            })?;
            end = at + count * element;
        }
        to.slice(end..).fill(0);
        Ok(())
    })
}

/// The runs of neighbouring elements that a band has in common with the tensor `whole`: where each starts in either,
/// and its length.
pub(crate) fn runs(whole: &Logits, band: &Band, shape: &Logits) -> Vec<(u64, usize, usize)> {
    // The classes of a pixel are neighbours, or the pixels of a plane.
    let (planes, pixel) = if whole.is_classes_last() { (1, whole.classes()) } else { (whole.classes(), 1) };
    let part = band.of(whole);
    let mut runs = Vec::new();
    for image in 0..band.images {
        for plane in 0..planes {
            let from = part.offset() + image * whole.image_stride() + plane * whole.plane_stride();
            let to = image * shape.image_stride() + plane * shape.plane_stride();
            if whole.is_flat() {
                runs.push((from.into(), to as usize, (band.height * band.width * pixel) as usize));
                continue;
            }
            // A run of pixels, or rows, which may begin in the middle of a row.
            let (first, count) = (band.pixel % whole.width(), band.height * band.width);
            let mut done = 0;
            while done < count {
                let position = first + done;
                let (row, column) = (position / whole.width(), position % whole.width());
                let length = (whole.width() - column).min(count - done);
                let from = from - first * pixel + row * whole.row_stride() + column * pixel;
                runs.push((from.into(), (to + done * pixel) as usize, (length * pixel) as usize));
                done += length;
            }
        }
    }
    runs
}

/// Copies the elements of a band, which has this shape on the GPU, to where they are in the tensor `whole`.
pub(crate) fn take_band(whole: &Logits, band: &Band, shape: &Logits, (padded, values): (&[f32], &mut [f32])) {
    for (to, from, count) in runs(whole, band, shape) {
        let to = to as usize;
        values[to..to + count].copy_from_slice(&padded[from..from + count]);
    }
}

/// Bytes from the GPU as numbers, copied only where they are not aligned for that.
pub(crate) fn numbers<T: bytemuck::Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
    }
}

/// A band of logits, and the band of the result that is made of it.
pub(crate) struct Part {
    pub band: Band,
    /// The shape of its logits on the GPU.
    pub shape: Logits,
    pub result: Band,
    /// The shape of its result on the GPU.
    pub result_shape: Logits,
}

impl Part {
    /// The same pixels of `whole` in the result.
    pub fn same(band: Band, whole: &Logits) -> Result<Self, Error> {
        let shape = band.shape(whole)?;
        Ok(Self { band, shape, result: band, result_shape: shape.output() })
    }
}

/// Runs an operator from a tensor to a tensor, part by part; the result lies as `result` says.
pub(crate) async fn map_tensor(
    gpu: &Gpu,
    waiting: Waiting,
    (whole, result): (&Logits, &Logits),
    input: &mut Input<'_>,
    parts: &[Part],
    dispatch: impl Fn(usize, &Part, &Slot) -> Result<Dispatch, Error>,
) -> Result<Vec<f32>, Error> {
    let most = |bytes: &dyn Fn(&Part) -> u64| parts.iter().map(bytes).max().unwrap_or(0);
    let output = most(&|part| part.result_shape.bytes());
    let sizes =
        Sizes { logits: most(&|part| part.shape.bytes()), uploads: Vec::new(), outputs: vec![("output", output)] };
    let mut tensors = Tensors { result, parts, dispatch, values: vec![0.0; result.len() as usize] };
    stream(gpu, waiting, whole, input, (parts.len(), sizes), &mut tensors).await?;
    Ok(tensors.values)
}

struct Tensors<'a, D> {
    result: &'a Logits,
    parts: &'a [Part],
    dispatch: D,
    values: Vec<f32>,
}

impl<D: Fn(usize, &Part, &Slot) -> Result<Dispatch, Error>> Bands for Tensors<'_, D> {
    fn band(&self, i: usize) -> Result<(Band, Logits), Error> {
        Ok((self.parts[i].band, self.parts[i].shape))
    }

    fn prepare(&mut self, i: usize, slot: &Slot) -> Result<(Dispatch, Vec<u64>), Error> {
        let part = &self.parts[i];
        Ok(((self.dispatch)(i, part, slot)?, vec![part.result_shape.bytes()]))
    }

    fn take(&mut self, i: usize, outputs: &[&[u8]]) -> Result<(), Error> {
        let padded = numbers::<f32>(outputs[0]);
        let part = &self.parts[i];
        take_band(self.result, &part.result, &part.result_shape, (&padded, &mut self.values));
        Ok(())
    }
}
