//! From slices on the host to results on the host: upload, record, submit, read back.
//!
//! What is too big to bind is split into bands of pixels, which the operators treat like small images, and goes
//! through the same buffers one band after another.

use std::borrow::Cow;

use wgpu::{Buffer, BufferBinding, BufferUsages};

use crate::{Dispatch, Error, Gpu, Logits, Readback};

/// Who polls the device while a result is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The caller of an async function has somebody who does.
    Async,
    /// The function itself.
    Block,
}

/// Most bytes of logits that are on the GPU at once; as many again for results that are as large.
const BAND_BYTES: u64 = 128 << 20;

/// Most bytes that one buffer of a band may have on this device.
pub(crate) fn band_limit(gpu: &Gpu) -> u64 {
    let limits = gpu.limits();
    BAND_BYTES.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size)
}

/// Most bytes of an f32 map of a band of which `maps` go through one staging buffer.
pub(crate) fn map_limit(gpu: &Gpu, maps: u64) -> u64 {
    band_limit(gpu).min(gpu.limits().max_buffer_size / maps)
}

/// Runs `work`, and returns what the device holds against it: on one that was lost or destroyed, everything.
pub(crate) async fn checked<R>(gpu: &Gpu, work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
    let result = work();
    match scope.pop().await {
        None => result,
        Some(error) => Err(Error::Device(error.to_string().replace('\n', " "))),
    }
}

/// Creates a buffer, or says why the device has none of this size.
pub(crate) fn create_buffer(gpu: &Gpu, what: &'static str, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
    let limit = gpu.limits().max_buffer_size;
    if bytes > limit {
        return Err(Error::Limit { what: "bytes of a buffer", needed: bytes, limit });
    }
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation: false };
    // A browser reports errors later, to the device's handler.
    if cfg!(target_family = "wasm") {
        return Ok(gpu.device().create_buffer(&descriptor));
    }
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = gpu.device().create_buffer(&descriptor);
    match pollster::block_on(scope.pop()) {
        None => Ok(buffer),
        Some(_) => Err(Error::OutOfMemory { what, bytes }),
    }
}

/// Checks that a slice is as long as its shape says.
pub(crate) fn check_length(what: &'static str, expected: u64, found: usize) -> Result<(), Error> {
    let found = found as u64;
    if found == expected { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// Elements of `logits` on the host, where there is no padding.
pub(crate) fn packed_elements(logits: &Logits) -> u64 {
    u64::from(logits.images()) * u64::from(logits.classes()) * u64::from(logits.pixels())
}

/// A run of pixels of one image, or a whole batch: what is on the GPU at once.
pub(crate) struct Band {
    /// The first image.
    pub image: u32,
    /// The first pixel of that image.
    pub pixel: u32,
    /// The shape of the band, padded.
    pub logits: Logits,
}

impl Band {
    /// Index of the band's first pixel among the pixels of all images.
    pub fn position(&self, whole: &Logits) -> usize {
        self.image as usize * whole.pixels() as usize + self.pixel as usize
    }

    /// The runs of neighbouring elements that the band has in common with the packed elements of `whole`.
    fn runs(&self, whole: &Logits) -> Runs {
        let shape = self.logits;
        let (pixels, classes) = (shape.pixels() as usize, shape.classes() as usize);
        // Classes last, an image is one run; else a class plane is.
        let (runs_of_image, length, stride) = match shape.is_classes_last() {
            true => (1, pixels * classes, pixels * classes),
            false => (classes, pixels, shape.plane_stride() as usize),
        };
        let whole_length = whole.pixels() as usize * (length / pixels);
        let first = self.image as usize * runs_of_image * whole_length + self.pixel as usize * (length / pixels);
        Runs { count: shape.images() as usize * runs_of_image, length, stride, first, whole_length }
    }
}

/// Runs of elements that a band shares with the whole tensor.
struct Runs {
    count: usize,
    /// Elements of a run.
    length: usize,
    /// Elements from one run to the next in the band, padding included.
    stride: usize,
    /// Where the first run starts in the whole tensor.
    first: usize,
    /// Elements from one run to the next in the whole tensor.
    whole_length: usize,
}

impl Runs {
    /// Where each run starts in the whole tensor and in the band.
    fn starts(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).map(|run| (self.first + run * self.whole_length, run * self.stride))
    }
}

/// Splits `logits` into bands that this device can bind, with `maps` f32 maps of results.
pub(crate) fn bands(gpu: &Gpu, logits: &Logits, maps: u64) -> Result<Vec<Band>, Error> {
    let (limit, map_limit) = (band_limit(gpu), map_limit(gpu, maps));
    let whole = logits.padded()?;
    let images = gpu.limits().max_compute_workgroups_per_dimension;
    if whole.bytes() <= limit && whole.map().bytes(32) <= map_limit && whole.images() <= images {
        return Ok(vec![Band { image: 0, pixel: 0, logits: whole }]);
    }
    let bytes_of_group = u64::from(logits.classes()) * 16;
    // The result is bounded by the pixels of an image, which are counted in 32 bits.
    let most = (limit / bytes_of_group).min(map_limit / 16).min(u64::from(u32::MAX / 4)) as u32 * 4;
    if most == 0 {
        return Err(Error::Limit { what: "bytes of the logits of four pixels", needed: bytes_of_group, limit });
    }
    let mut bands = Vec::new();
    for image in 0..logits.images() {
        let mut pixel = 0;
        while pixel < logits.pixels() {
            let pixels = most.min(logits.pixels() - pixel);
            let logits = logits.resized(1, 1, pixels)?.padded()?;
            bands.push(Band { image, pixel, logits });
            pixel += pixels;
        }
    }
    Ok(bands)
}

/// Splits `whole`, one image of one class, into bands of whole rows that this device can bind.
pub(crate) fn bands_of_rows(gpu: &Gpu, whole: &Logits) -> Result<Vec<Band>, Error> {
    let (limit, bytes_of_row) = (band_limit(gpu), u64::from(whole.width()) * 4);
    let most = (limit / bytes_of_row).min(whole.height().into()) as u32;
    if most == 0 {
        return Err(Error::Limit { what: "bytes of a row of the logits", needed: bytes_of_row, limit });
    }
    let rows = (0..whole.height()).step_by(most as usize);
    rows.map(|row| {
        let logits = Logits::chw(1, most.min(whole.height() - row), whole.width())?;
        Ok(Band { image: 0, pixel: row * whole.width(), logits })
    })
    .collect()
}

/// Copies a band of `data`, the packed elements of `whole`, into `buffer`.
pub(crate) fn upload(gpu: &Gpu, buffer: &Buffer, whole: &Logits, band: &Band, data: &[f32]) {
    let runs = band.runs(whole);
    if runs.count * runs.stride == data.len() {
        gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(data));
        return;
    }
    let Some(size) = wgpu::BufferSize::new(band.logits.bytes()) else { return };
    // None where the queue has no staging memory: the device reports that itself.
    let Some(mut staging) = gpu.queue().write_buffer_with(buffer, 0, size) else { return };
    let padding = (runs.stride - runs.length) * 4;
    for (start, at) in runs.starts() {
        let end = (at + runs.length) * 4;
        staging.slice(at * 4..end).copy_from_slice(bytemuck::cast_slice(&data[start..start + runs.length]));
        staging.slice(end..end + padding).copy_from_slice(&[0; 12][..padding]);
    }
}

/// Records with `record`, submits, and hands the bytes of `outputs` to `view`, one slice an output.
pub(crate) async fn submit_and_read<R>(
    gpu: &Gpu,
    waiting: Waiting,
    readback: &mut Readback,
    dispatch: &Dispatch,
    outputs: &[(&Buffer, u64)],
    view: impl FnOnce(&[&[u8]]) -> R,
) -> Result<R, Error> {
    let submit = || {
        let label = Some("seghead");
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        dispatch.record(&mut encoder);
        let mut at = 0;
        for (buffer, bytes) in outputs {
            readback.record_at(&mut encoder, buffer.as_entire_buffer_binding(), at, *bytes)?;
            at += bytes;
        }
        gpu.queue().submit([encoder.finish()]);
        Ok(())
    };
    checked(gpu, submit).await?;
    let mapping = readback.map();
    if waiting == Waiting::Block {
        gpu.wait()?;
    }
    let split = |mut bytes: &[u8]| {
        let mut slices = Vec::with_capacity(outputs.len());
        for (_, length) in outputs {
            let (slice, rest) = bytes.split_at(*length as usize);
            slices.push(slice);
            bytes = rest;
        }
        view(&slices)
    };
    mapping.view(split).await
}

/// Bytes from the GPU as numbers, copied only where they are not aligned for that.
pub(crate) fn numbers<T: bytemuck::Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
    }
}

/// Runs an operator from a tensor to a tensor of the same shape, band by band.
pub(crate) async fn map_tensor(
    gpu: &Gpu,
    logits: &Logits,
    bands: &[Band],
    data: &[f32],
    waiting: Waiting,
    dispatch: impl Fn(&Logits, BufferBinding<'_>, BufferBinding<'_>) -> Result<Dispatch, Error>,
) -> Result<Vec<f32>, Error> {
    check_length("logits", packed_elements(logits), data.len())?;
    let bytes = bands.iter().map(|band| band.logits.bytes()).max().unwrap_or(0);
    let input = create_buffer(gpu, "logits", bytes, BufferUsages::STORAGE | BufferUsages::COPY_DST)?;
    let output = create_buffer(gpu, "output", bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
    let mut readback = Readback::new(gpu, bytes)?;
    let mut result = vec![0.0; data.len()];
    for band in bands {
        let shape = &band.logits;
        let prepare = || {
            upload(gpu, &input, logits, band, data);
            dispatch(shape, input.as_entire_buffer_binding(), output.as_entire_buffer_binding())
        };
        let work = checked(gpu, prepare).await?;
        submit_and_read(gpu, waiting, &mut readback, &work, &[(&output, shape.bytes())], |bytes| {
            let padded = numbers::<f32>(bytes[0]);
            let runs = band.runs(logits);
            for (start, at) in runs.starts() {
                result[start..start + runs.length].copy_from_slice(&padded[at..at + runs.length]);
            }
        })
        .await?;
    }
    Ok(result)
}
