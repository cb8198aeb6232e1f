//! Results of every frame through a ring of staging buffers, whoever polls; back-pressure, and devices that go away.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::*;
use seghead::wgpu::{
    self, Buffer, BufferBinding, BufferUsages, CommandEncoder, Extent3d, PollType, Texture, TextureDimension,
    TextureFormat, TextureUsages,
};
use seghead::{Argmax, Error, Frame, Gpu, Logits, Outputs, Readback, ReadbackRing, Segment, reference};

/// The application's device; wgpu's errors are panics.
fn app() -> Gpu {
    watched_gpu(wgpu::Limits::defaults())
}

fn source(gpu: &Gpu, bytes: u64) -> Buffer {
    buffer(gpu, bytes, BufferUsages::COPY_SRC | BufferUsages::COPY_DST)
}

fn encoder(gpu: &Gpu) -> CommandEncoder {
    gpu.device().create_command_encoder(&Default::default())
}

/// Submits one frame: `bytes` in `source`, then the copy.
fn frame(gpu: &Gpu, ring: &mut ReadbackRing, source: &Buffer, bytes: &[u8]) -> Option<u64> {
    gpu.queue().write_buffer(source, 0, bytes);
    let mut encoder = encoder(gpu);
    let number = ring.record(&mut encoder, source.as_entire_buffer_binding()).unwrap();
    gpu.queue().submit([encoder.finish()]);
    number
}

/// Records what arrives: numbers that grow, each with the bytes of its frame.
fn arrived(ring: &mut ReadbackRing, content: impl Fn(u64) -> Vec<u8>, numbers: &mut Vec<u64>) {
    if let Some(frame) = ring.try_read().unwrap() {
        assert_eq!(frame.to_vec(), content(frame.number()), "frame {}", frame.number());
        assert!(numbers.last().is_none_or(|&last| last < frame.number()), "{numbers:?}, then {}", frame.number());
        numbers.push(frame.number());
    }
}

fn content(number: u64) -> Vec<u8> {
    (0..64).map(|i| (number * 7 + i) as u8).collect()
}

#[test]
fn ten_frames_polled_by_the_loop() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 3).unwrap();
    let mut numbers = Vec::new();
    for number in 0..10 {
        assert_eq!(frame(&gpu, &mut ring, &from, &content(number)), Some(number));
        // A GPU that keeps up, as it is a loop's business to see to.
        gpu.device().poll(PollType::wait_indefinitely()).unwrap();
        arrived(&mut ring, content, &mut numbers);
    }
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert!(ring.try_read().unwrap().is_none(), "every frame comes once");
}

/// A loop that never waits: it may lose frames, and what arrives is in order and whole.
#[test]
fn a_loop_that_never_waits() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    let mut numbers = Vec::new();
    for number in 0..200 {
        frame(&gpu, &mut ring, &from, &content(number));
        gpu.device().poll(PollType::Poll).unwrap();
        arrived(&mut ring, content, &mut numbers);
    }
    gpu.wait().unwrap();
    arrived(&mut ring, content, &mut numbers);
    assert!(!numbers.is_empty());
}

#[test]
fn ten_frames_polled_by_a_thread() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 3).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let polling = thread::spawn({
        let (device, stop) = (gpu.device().clone(), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                device.poll(PollType::Poll).unwrap();
                thread::yield_now();
            }
        }
    });
    let mut numbers = Vec::new();
    for number in 0..10 {
        assert_eq!(frame(&gpu, &mut ring, &from, &content(number)), Some(number));
        // The rest of the frame.
        while numbers.last() != Some(&number) {
            arrived(&mut ring, content, &mut numbers);
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    polling.join().unwrap();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

/// Neither `submit` nor anybody else polls between the frames: they are recorded before any is submitted.
#[test]
fn nobody_polls() {
    let gpu = app();
    let from = source(&gpu, 64);
    gpu.queue().write_buffer(&from, 0, &content(0));
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    let mut encoder = encoder(&gpu);
    let mut record = |ring: &mut ReadbackRing| ring.record(&mut encoder, from.as_entire_buffer_binding()).unwrap();
    assert_eq!([(); 5].map(|()| record(&mut ring)), [Some(0), Some(1), None, None, None]);
    assert!(ring.try_read().unwrap().is_none());
    gpu.queue().submit([encoder.finish()]);
    gpu.wait().unwrap();
    // The newest wins, and both slots are free again, whether or not anybody has read.
    let frame_1 = ring.try_read().unwrap().map(|frame| frame.number());
    assert_eq!(frame_1, Some(1));
    assert!(ring.try_read().unwrap().is_none());
    assert_eq!(frame(&gpu, &mut ring, &from, &content(5)), Some(5));
    gpu.wait().unwrap();
    assert_eq!(frame(&gpu, &mut ring, &from, &content(6)), Some(6));
    gpu.wait().unwrap();
    let mut numbers = Vec::new();
    arrived(&mut ring, content, &mut numbers);
    assert_eq!(numbers, [6]);
}

/// An application that does not read still has the newest frames, and not the first ones.
#[test]
fn frames_that_nobody_reads_make_room() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    for number in 0..10 {
        assert_eq!(frame(&gpu, &mut ring, &from, &content(number)), Some(number));
        gpu.wait().unwrap();
    }
    let mut numbers = Vec::new();
    arrived(&mut ring, content, &mut numbers);
    arrived(&mut ring, content, &mut numbers);
    assert_eq!(numbers, [9]);
}

/// Encoders that are submitted in another order than they were recorded: no frame comes behind a newer one, and the
/// older one gives its slot back.
#[test]
fn never_an_older_frame_after_a_newer_one() {
    let gpu = app();
    let from = source(&gpu, 64);
    gpu.queue().write_buffer(&from, 0, &content(0));
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    for round in 0..3 {
        let mut encoders = [encoder(&gpu), encoder(&gpu)];
        for (i, encoder) in (0..).zip(&mut encoders) {
            let number = ring.record(encoder, from.as_entire_buffer_binding()).unwrap();
            assert_eq!(number, Some(2 * round + i));
        }
        let [first, second] = encoders;
        for (encoder, expected) in [(second, Some(2 * round + 1)), (first, None)] {
            gpu.queue().submit([encoder.finish()]);
            gpu.wait().unwrap();
            assert_eq!(ring.try_read().unwrap().map(|frame| frame.number()), expected);
        }
    }
}

#[test]
fn what_is_never_submitted_gives_its_slot_back() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 1).unwrap();
    let record = |ring: &mut ReadbackRing, encoder: &mut CommandEncoder| {
        ring.record(encoder, from.as_entire_buffer_binding()).unwrap()
    };
    let mut dropped = encoder(&gpu);
    assert_eq!(record(&mut ring, &mut dropped), Some(0));
    assert_eq!(record(&mut ring, &mut dropped), None, "the encoder may yet be submitted");
    drop(dropped);
    let mut finished = encoder(&gpu);
    assert_eq!(record(&mut ring, &mut finished), Some(2));
    let commands = finished.finish();
    assert_eq!(record(&mut ring, &mut encoder(&gpu)), None);
    drop(commands);
    assert!(ring.try_read().unwrap().is_none());
    assert_eq!(frame(&gpu, &mut ring, &from, &content(4)), Some(4));
    gpu.wait().unwrap();
    let mut numbers = Vec::new();
    arrived(&mut ring, content, &mut numbers);
    assert_eq!(numbers, [4]);
}

/// From an offset, and no more than the ring was made for.
#[test]
fn a_range_of_a_buffer() {
    let gpu = app();
    let from = source(&gpu, 256);
    let all: Vec<u8> = (0..=255).collect();
    gpu.queue().write_buffer(&from, 0, &all);
    let mut ring = ReadbackRing::new(&gpu, 8, 2).unwrap();
    for offset in [4, 128, 248] {
        let range = BufferBinding { buffer: &from, offset, size: None };
        let mut encoder = encoder(&gpu);
        ring.record(&mut encoder, range).unwrap();
        gpu.queue().submit([encoder.finish()]);
        gpu.wait().unwrap();
        assert_eq!(ring.try_read().unwrap().unwrap().to_vec(), all[offset as usize..][..8]);
    }
}

/// A frame that is leaked costs its slot, and nothing else.
#[test]
fn a_leaked_frame() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    frame(&gpu, &mut ring, &from, &content(0));
    gpu.wait().unwrap();
    std::mem::forget(ring.try_read().unwrap().unwrap());
    let mut numbers = Vec::new();
    for number in 1..4 {
        assert_eq!(frame(&gpu, &mut ring, &from, &content(number)), Some(number));
        gpu.wait().unwrap();
        arrived(&mut ring, content, &mut numbers);
    }
    assert_eq!(numbers, [1, 2, 3]);
}

/// While a frame is looked at, its slot is taken; afterwards it is free.
#[test]
fn a_frame_frees_its_slot() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 1).unwrap();
    for number in 0..3 {
        assert_eq!(frame(&gpu, &mut ring, &from, &content(number)), Some(number));
        gpu.wait().unwrap();
        let frame = ring.try_read().unwrap().unwrap();
        let mut kept = [0; 64];
        frame.copy_to(&mut kept).unwrap();
        assert_eq!((frame.number(), frame.size(), kept.to_vec()), (number, 64, content(number)));
        let error = frame.copy_to(&mut kept[1..]).unwrap_err();
        assert!(matches!(error, Error::Length { what: "frame", expected: 64, found: 63 }));
    }
}

/// Labels and scores of upsampled logits, whose rows are padded, and of a batch, whose images are.
#[test]
fn the_padding_of_a_map_is_hidden() {
    let gpu = app();
    let run = |shape: &Logits, map: seghead::Map, record: &dyn Fn(&Buffer, &Buffer, &mut CommandEncoder)| {
        let (labels, scores) = (output(&gpu, map.bytes(8)), output(&gpu, map.bytes(32)));
        let mut rings = [8, 32].map(|bits| ReadbackRing::for_map(&gpu, &map, bits, 2).unwrap());
        let mut encoder = encoder(&gpu);
        record(&labels, &scores, &mut encoder);
        for (ring, buffer) in rings.iter_mut().zip([&labels, &scores]) {
            ring.record(&mut encoder, buffer.as_entire_buffer_binding()).unwrap();
        }
        gpu.queue().submit([encoder.finish()]);
        gpu.wait().unwrap();
        let [labels, scores] = rings.each_mut().map(|ring| {
            let frame = ring.try_read().unwrap().unwrap();
            let size = frame.size() / map.pixels();
            assert!(frame.rows().all(|row| row.len() == map.width() as usize * size));
            assert_eq!(frame.rows().count(), (map.images() * map.height()) as usize);
            let mut kept = vec![0; frame.size()];
            frame.copy_to(&mut kept).unwrap();
            assert_eq!(frame.rows().collect::<Vec<_>>().concat(), kept);
            assert_eq!(frame.to_vec(), kept);
            kept
        });
        assert_eq!(labels.len(), shape.images() as usize * map.pixels() / map.images() as usize);
        (labels, bytemuck::pod_collect_to_vec::<u8, f32>(&scores))
    };

    let shape = Logits::nchw(2, 3, 4, 5).unwrap();
    let data = Random::new(1).logits(&shape);
    let input = upload(&gpu, &shape, &data);
    let segment = Segment::new(9, 13).confidence(true);
    let map = segment.map(&shape).unwrap();
    assert_eq!((map.row_stride(), map.bytes(8)), (16, 2 * 9 * 16));
    let (labels, scores) = run(&shape, map, &|labels, scores, encoder| {
        let outputs = Outputs::labels(labels.as_entire_buffer_binding()).confidence(scores.as_entire_buffer_binding());
        segment.dispatch(&gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap().record(encoder);
    });
    let expected = segment.run_blocking(&gpu, &shape, &data).unwrap();
    assert_eq!(seghead::Labels::U8(labels), expected.labels);
    assert_eq!(Some(scores), expected.confidence);

    // Less than a row of padding behind an image, and a whole one.
    for (width, image_stride) in [(5, 16), (1, 4)] {
        let shape = Logits::nchw(3, 3, 3, width).unwrap();
        let data = Random::new(2).logits(&shape);
        let input = upload(&gpu, &shape, &data);
        let map = shape.map();
        assert_eq!((map.row_stride(), map.image_stride()), (width, image_stride));
        let (labels, _) = run(&shape, map, &|labels, scores, encoder| {
            let outputs =
                Outputs::labels(labels.as_entire_buffer_binding()).confidence(scores.as_entire_buffer_binding());
            Argmax::new().dispatch(&gpu, &shape, input.as_entire_buffer_binding(), outputs).unwrap().record(encoder);
        });
        let expected: Vec<_> = reference::argmax(&shape, &data).into_iter().map(|label| label as u8).collect();
        assert_eq!(labels, expected);
    }
}

fn texture(gpu: &Gpu, format: TextureFormat, size: [u32; 3], usage: TextureUsages) -> Texture {
    let [width, height, depth_or_array_layers] = size;
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: Extent3d { width, height, depth_or_array_layers },
        mip_level_count: 1,
        sample_count: 1,
        dimension: TextureDimension::D2,
        format,
        usage,
        view_formats: &[],
    })
}

#[test]
fn the_padding_of_a_texture_is_hidden() {
    let gpu = app();
    let usage = TextureUsages::COPY_DST | TextureUsages::COPY_SRC;
    for (format, bytes) in [(TextureFormat::Rgba8Unorm, 4), (TextureFormat::R8Unorm, 1), (TextureFormat::R32Float, 4)] {
        // Rows that are not a multiple of 256 bytes, and such as are; layers.
        for [width, height, layers] in [[13, 7, 1], [256, 2, 1], [5, 3, 2], [1, 1, 1]] {
            let source = texture(&gpu, format, [width, height, layers], usage);
            let mut ring = ReadbackRing::for_texture(&gpu, &source, 2).unwrap();
            for number in 0..3 {
                let row = (width * bytes) as usize;
                // Below 0x7f, so that no float of them is a NaN, which need not come back with the same bits.
                let texel = |i| ((i * 3 + number) % 0x7f) as u8;
                let texels: Vec<u8> = (0..row * (height * layers) as usize).map(texel).collect();
                let layout = wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row as u32),
                    rows_per_image: Some(height),
                };
                gpu.queue().write_texture(source.as_image_copy(), &texels, layout, source.size());
                let mut encoder = encoder(&gpu);
                assert_eq!(ring.record_texture(&mut encoder, &source).unwrap(), Some(number as u64));
                gpu.queue().submit([encoder.finish()]);
                gpu.wait().unwrap();
                let frame = ring.try_read().unwrap().unwrap();
                assert!(frame.rows().eq(texels.chunks_exact(row)), "{format:?} {width} × {height} × {layers}");
                assert_eq!(frame.to_vec(), texels);
            }
        }
    }
}

#[test]
fn a_ring_may_be_dropped_with_frames_on_their_way() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 3).unwrap();
    let mut unsubmitted = encoder(&gpu);
    ring.record(&mut unsubmitted, from.as_entire_buffer_binding()).unwrap();
    frame(&gpu, &mut ring, &from, &content(1));
    gpu.wait().unwrap(); // arrived, not read
    frame(&gpu, &mut ring, &from, &content(2));
    drop(ring);
    gpu.queue().submit([unsubmitted.finish()]);
    gpu.wait().unwrap();
}

/// An application that loses its device while frames are on their way, arrived, and looked at.
#[test]
fn destroyed_device() {
    for polls in [true, false] {
        let gpu = app();
        let from = source(&gpu, 64);
        let mut ring = ReadbackRing::new(&gpu, 64, 3).unwrap();
        frame(&gpu, &mut ring, &from, &content(0));
        gpu.wait().unwrap();
        frame(&gpu, &mut ring, &from, &content(1));
        gpu.device().destroy();
        if polls {
            // It may say that the device is gone.
            let _ = gpu.device().poll(PollType::Poll);
        }
        let mut outcomes = Vec::new();
        for _ in 0..20 {
            let mut encoder = encoder(&gpu);
            let recorded = ring.record(&mut encoder, from.as_entire_buffer_binding()).is_ok();
            gpu.queue().submit([encoder.finish()]);
            let _ = gpu.device().poll(PollType::Poll);
            outcomes.push((recorded, ring.try_read().map(|frame| frame.map(|frame| frame.number()))));
        }
        let (recorded, last) = outcomes.last().unwrap();
        assert!(!recorded, "{outcomes:?}");
        assert!(matches!(last, Err(Error::Map(_) | Error::MapRange(_))), "{outcomes:?}");
    }
}

/// The device goes while a frame is looked at.
#[test]
fn destroyed_under_a_frame() {
    let gpu = app();
    let from = source(&gpu, 64);
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    frame(&gpu, &mut ring, &from, &content(0));
    gpu.wait().unwrap();
    let frame_0 = ring.try_read().unwrap().unwrap();
    assert_eq!(frame_0.to_vec(), content(0));
    gpu.device().destroy();
    let _ = gpu.device().poll(PollType::Poll);
    drop(frame_0);
    drop(ring);
}

#[track_caller]
fn assert_refused<T>(result: Result<T, Error>, message: &str) {
    match result {
        Ok(_) => panic!("accepted, expected: {message}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

#[test]
fn refusals() {
    let gpu = app();
    let map = Logits::chw(2, 3, 5).unwrap().map();
    assert_refused(ReadbackRing::new(&gpu, 64, 0), "slots: expected at least 1, found 0");
    assert_refused(ReadbackRing::new(&gpu, 0, 1), "bytes: expected at least 1, found 0");
    assert_refused(ReadbackRing::new(&gpu, 6, 1), "buffer of staging: offset 6 is no multiple of 4");
    let beyond = (256 << 20) + 4;
    assert_refused(
        ReadbackRing::new(&gpu, beyond, 1),
        &format!("bytes of a buffer: {beyond} needed, but the limit is {}", 256 << 20),
    );
    assert_refused(ReadbackRing::for_map(&gpu, &map, 8, 0), "slots: expected at least 1, found 0");
    assert_refused(ReadbackRing::for_map(&gpu, &map, 16, 1), "bits of a map's elements: expected 8 or 32, found 16");

    let usage = TextureUsages::COPY_SRC | TextureUsages::COPY_DST;
    let of = |format, size| texture(&gpu, format, size, usage);
    let source_texture = of(TextureFormat::Rgba8Unorm, [13, 7, 1]);
    assert_refused(ReadbackRing::for_texture(&gpu, &source_texture, 0), "slots: expected at least 1, found 0");
    let unreadable = texture(&gpu, TextureFormat::R8Unorm, [4, 4, 1], TextureUsages::COPY_DST);
    assert_refused(
        ReadbackRing::for_texture(&gpu, &unreadable, 1),
        "read-back source: expected a texture with usage TextureUsages(COPY_SRC), found one with \
         TextureUsages(COPY_DST)",
    );
    let depth = texture(&gpu, TextureFormat::Depth24Plus, [4, 4, 1], TextureUsages::RENDER_ATTACHMENT);
    assert_refused(
        ReadbackRing::for_texture(&gpu, &depth, 1),
        "read-back source: expected a texture in a colour format, found one of Depth24Plus",
    );
    let volume = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: Extent3d { width: 4, height: 4, depth_or_array_layers: 4 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: TextureDimension::D3,
        format: TextureFormat::R8Unorm,
        usage,
        view_formats: &[],
    });
    assert_refused(
        ReadbackRing::for_texture(&gpu, &volume, 1),
        "read-back source: expected a texture of two dimensions and one sample, found one of D3 and 1",
    );

    let mut encoder = encoder(&gpu);
    let mut ring = ReadbackRing::for_map(&gpu, &map, 8, 1).unwrap();
    let readable = source(&gpu, 16);
    let small = source(&gpu, 12);
    let storage = buffer(&gpu, 16, BufferUsages::STORAGE);
    let at = |offset| BufferBinding { buffer: &readable, offset, size: None };
    assert_refused(
        ring.record(&mut encoder, small.as_entire_buffer_binding()),
        "buffer of read-back source: 16 bytes needed from offset 0, found 12",
    );
    assert_refused(
        ring.record(&mut encoder, at(4)),
        "buffer of read-back source: 16 bytes needed from offset 4, found 12",
    );
    assert_refused(ring.record(&mut encoder, at(2)), "buffer of read-back source: offset 2 is no multiple of 4");
    assert_refused(
        ring.record(&mut encoder, storage.as_entire_buffer_binding()),
        "buffer of read-back source: expected usage BufferUsages(COPY_SRC), found BufferUsages(STORAGE)",
    );
    assert_refused(
        ring.record_texture(&mut encoder, &source_texture),
        "read-back source: expected a buffer of 16 bytes, found a texture of 1 × 7 × 13 Rgba8Unorm",
    );
    // Nothing was recorded, no slot is taken, no number given.
    assert_eq!(ring.record(&mut encoder, at(0)).unwrap(), Some(0));

    let mut ring = ReadbackRing::for_texture(&gpu, &source_texture, 1).unwrap();
    let expected = "read-back source: expected a texture of 1 × 7 × 13 Rgba8Unorm, found ";
    for (format, size, found) in [
        (TextureFormat::Rgba8Unorm, [13, 8, 1], "a texture of 1 × 8 × 13 Rgba8Unorm"),
        (TextureFormat::Rgba8Unorm, [12, 7, 1], "a texture of 1 × 7 × 12 Rgba8Unorm"),
        (TextureFormat::Rgba8Unorm, [13, 7, 2], "a texture of 2 × 7 × 13 Rgba8Unorm"),
        (TextureFormat::R8Unorm, [13, 7, 1], "a texture of 1 × 7 × 13 R8Unorm"),
    ] {
        assert_refused(ring.record_texture(&mut encoder, &of(format, size)), &format!("{expected}{found}"));
    }
    assert_refused(ring.record(&mut encoder, at(0)), &format!("{expected}a buffer"));
    let hidden = texture(&gpu, TextureFormat::Rgba8Unorm, [13, 7, 1], TextureUsages::COPY_DST);
    assert!(ring.record_texture(&mut encoder, &hidden).is_err());
    assert_eq!(ring.record_texture(&mut encoder, &source_texture).unwrap(), Some(0));
    gpu.queue().submit([encoder.finish()]);
    gpu.wait().unwrap();
    assert_eq!(ring.try_read().unwrap().map(|frame| frame.size()), Some(13 * 7 * 4));
}

/// Compressed formats have no bytes per pixel; where the adapter has none of them, there is nothing to refuse.
#[test]
fn compressed_textures() {
    let adapter = &pollster::block_on(Gpu::adapters(&Default::default())).unwrap()[0];
    if !adapter.features().contains(wgpu::Features::TEXTURE_COMPRESSION_BC) {
        return;
    }
    let descriptor =
        wgpu::DeviceDescriptor { required_features: wgpu::Features::TEXTURE_COMPRESSION_BC, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let gpu = Gpu::from_wgpu(device, queue);
    let blocks = texture(&gpu, TextureFormat::Bc1RgbaUnorm, [8, 8, 1], TextureUsages::COPY_SRC);
    assert_refused(
        ReadbackRing::for_texture(&gpu, &blocks, 1),
        "read-back source: expected a texture with a fixed number of bytes per pixel, found one of Bc1RgbaUnorm",
    );
}

#[test]
fn may_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<ReadbackRing>();
    is_send::<Frame<'_>>();
}

/// Sources of another device are refused before anything is recorded, and a ring goes on with its own.
#[test]
fn sources_of_another_device() {
    let [gpu, other] = two_gpus();
    let source = |gpu: &Gpu| buffer(gpu, 64, BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    let image = |gpu: &Gpu| texture(gpu, TextureFormat::Rgba8Unorm, [13, 3, 1], TextureUsages::COPY_SRC);
    let mut ring = ReadbackRing::new(&gpu, 64, 2).unwrap();
    let mut of_textures = ReadbackRing::for_texture(&gpu, &image(&gpu), 2).unwrap();
    let readback = Readback::new(&gpu, 64).unwrap();
    for of in [&gpu, &other, &gpu] {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let (source, image) = (source(of), image(of));
        let found = [
            ring.record(&mut encoder, source.as_entire_buffer_binding()).map(drop),
            of_textures.record_texture(&mut encoder, &image).map(drop),
            readback.record(&mut encoder, source.as_entire_buffer_binding()),
        ];
        for found in found {
            match found {
                Ok(()) => assert!(std::ptr::eq(of, &gpu)),
                Err(error) => {
                    assert!(matches!(error, Error::OtherDevice { .. }), "{error}");
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                    assert!(std::ptr::eq(of, &other));
                }
            }
        }
        gpu.queue().submit([encoder.finish()]);
        gpu.wait().unwrap();
        drop(ring.try_read().unwrap());
        drop(of_textures.try_read().unwrap());
    }
}
