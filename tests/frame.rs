//! An application's frame: logits in a buffer and a photo in a texture become what it draws, ten frames long, on a device
//! with WebGPU's default limits, each frame in one encoder and nothing read but what the test looks at.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, BufferUsages, TextureFormat, TextureUsages};
use seghead::{
    ClassRecord, ClassStatistics, Gpu, LabelType, Logits, Outputs, Overlay, Palette, Readback, Segment, SoftMask,
    reference,
};

const FRAMES: u64 = 10;
const SIZE: [u32; 2] = [61, 47];

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u8> {
    let mut readback = Readback::new(gpu, buffer.size()).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    readback.record(&mut encoder, buffer.as_entire_buffer_binding()).unwrap();
    gpu.queue().submit([encoder.finish()]);
    readback.read_blocking(gpu, <[u8]>::to_vec).unwrap()
}

#[test]
fn ten_frames_of_an_application() {
    let gpu = &watched_gpu(wgpu::Limits::defaults());
    let [width, height] = SIZE;
    let shape = Logits::chw(5, 12, 16).unwrap();
    let input = buffer(gpu, shape.bytes(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let from = || input.as_entire_buffer_binding();

    let sampled = TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST;
    let photo = texture(gpu, SIZE, TextureFormat::Rgba8Unorm, sampled);
    let stored = TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC;
    let [plain, outlined] = [(); 2].map(|()| texture(gpu, SIZE, TextureFormat::Rgba8Unorm, stored));
    let mask = texture(gpu, SIZE, TextureFormat::R8Unorm, TextureUsages::COPY_DST | TextureUsages::COPY_SRC);
    let segment = Segment::new(height, width);
    let map = segment.map(&shape).unwrap();
    let labels = output(gpu, map.bytes(8));
    let statistics = ClassStatistics::new(5);
    let records = output(gpu, statistics.bytes(&map));

    // All that is made, before the first frame.
    let overlay = Overlay::new(Palette::voc()).alpha(0.6).hidden([0]);
    let outlines = Overlay::new(Palette::cityscapes()).threshold(0.6).outline(2);
    let blur = SoftMask::new(height, width, 0);
    let drawn = [
        overlay.dispatch(gpu, &shape, from(), Some(&photo), &plain).unwrap(),
        outlines.dispatch(gpu, &shape, from(), Some(&photo), &outlined).unwrap(),
        segment.dispatch(gpu, &shape, from(), Outputs::labels(labels.as_entire_buffer_binding())).unwrap(),
        statistics
            .dispatch(
                gpu,
                &map,
                labels.as_entire_buffer_binding(),
                LabelType::U8,
                None,
                records.as_entire_buffer_binding(),
            )
            .unwrap(),
    ];
    let masked = blur.dispatch_to_texture(gpu, &shape, from(), &mask).unwrap();

    for frame in 0..FRAMES {
        let mut random = Random::new(frame);
        let data = random.logits(&shape);
        let picture: Vec<[u8; 4]> =
            (0..width * height).map(|_| std::array::from_fn(|_| random.below(256) as u8)).collect();
        gpu.queue().write_buffer(&input, 0, bytemuck::cast_slice(&data));
        write_texture(gpu, &photo, 4, picture.as_flattened());

        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        drawn.iter().for_each(|dispatch| dispatch.record(&mut encoder));
        masked.record(&mut encoder);
        gpu.queue().submit([encoder.finish()]);

        // Bit for bit: no two logits here are so close that f32 takes the other class.
        for (operator, got) in [(&overlay, &plain), (&outlines, &outlined)] {
            let expected = reference::overlay(operator, &shape, &data, Some(&picture), height, width).unwrap();
            assert!(read_texture(gpu, got, 4) == expected.as_flattened(), "frame {frame}, {operator:?}");
        }
        let (expected, _) = reference::segment(&shape, &data, height, width, Default::default()).unwrap();
        let got: Vec<u8> = unpad_map(&map, &read(gpu, &labels));
        assert!(got.iter().map(|&label| u32::from(label)).eq(expected.iter().copied()), "frame {frame}");
        let totals = reference::class_statistics(&map, 5, &expected, None);
        let found: Vec<ClassRecord> = bytemuck::pod_collect_to_vec(&read(gpu, &records));
        for (found, totals) in found.iter().zip(totals) {
            assert_eq!(u64::from(found.pixels), totals.pixels, "frame {frame}");
            assert_eq!(found.bounding_box().ok(), totals.bounding_box, "frame {frame}");
            if totals.pixels > 0 {
                let centroid = [totals.row_sum, totals.column_sum].map(|sum| sum as f64 / totals.pixels as f64);
                assert_eq!(found.centroid().unwrap(), centroid, "frame {frame}");
            }
        }
        let p = reference::soft_mask(&blur, &shape, &data).unwrap();
        // Half a level, and what f32 makes of the probability: see tests/soft_mask.rs.
        let close = |(&got, p): (&u8, &f64)| (f64::from(got) - 255.0 * p).abs() <= 0.5 + 255.0 * 700.0 * U;
        assert!(read_texture(gpu, &mask, 1).iter().zip(&p).all(close), "frame {frame}");
    }
}
