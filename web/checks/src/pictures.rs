//! Operators that draw, and a ring that reads pictures back.

use seghead::wgpu::{self, TextureFormat, TextureUsages};
use seghead::{Activation, Blend, Error, Gpu, Logits, Overlay, Palette, ReadbackRing, SoftMask, reference};
use wgpu::util::{DeviceExt, TextureDataOrder};

use crate::found::Found;
use crate::inputs::{Random, run, upload, zeros};
use crate::tensors::CONVENTIONS;

/// Upscaled by 4, and by fractions.
const SIZES: [[u32; 2]; 3] = [[48, 64], [29, 37], [12, 16]];

pub async fn check(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    let mut random = Random::new(7);
    for classes in [1, 4, 30] {
        let shape = Logits::chw(classes, 12, 16)?;
        let values: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
        for ([height, width], convention) in SIZES.into_iter().zip(CONVENTIONS) {
            let size = [height, width];
            let photo: Vec<[u8; 4]> = (0..height * width).map(|_| [(); 4].map(|()| random.below(256) as u8)).collect();
            for activation in [Activation::Softmax, Activation::Sigmoid] {
                let operator = SoftMask::new(height, width, classes - 1).activation(activation).resize(convention);
                mask(gpu, found, &operator, (&shape, &values)).await?;
            }
            let palette = Palette::new((0..classes).map(|_| [(); 3].map(|()| random.below(256) as u8)).collect());
            let plain = Overlay::new(palette).resize(convention).hidden([0]).alpha(0.6);
            // Mixed in linear light, a level may be rounded the other way.
            for (operator, steps) in
                [(plain.clone(), 0), (plain.clone().outline(2), 0), (plain.blend(Blend::Linear), 1)]
            {
                overlay(gpu, found, (&operator, steps), (&shape, &values), (&photo, size)).await?;
            }
        }
    }
    Ok(())
}

async fn mask(
    gpu: &Gpu,
    found: &mut Found,
    operator: &SoftMask,
    (shape, values): (&Logits, &[f32]),
) -> Result<(), Error> {
    let map = operator.map(shape)?;
    let (input, output) = (upload(gpu, bytemuck::cast_slice(values)), zeros(gpu, map.bytes(8)));
    let (from, to) = (input.as_entire_buffer_binding(), output.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, shape, from, to)?;
    let bytes = map.unpad(&run(gpu, |encoder| dispatch.record(encoder), &output).await?);
    let got: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    let expected = reference::soft_mask(operator, shape, values)?;
    found.close(&format!("{operator:?}"), &got, &expected, |_| 0.5 / 255.0 + 1e-5);
    Ok(())
}

async fn overlay(
    gpu: &Gpu,
    found: &mut Found,
    (operator, steps): (&Overlay, u8),
    (shape, values): (&Logits, &[f32]),
    (photo, [height, width]): (&[[u8; 4]], [u32; 2]),
) -> Result<(), Error> {
    let texture = |usage| wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: TextureFormat::Rgba8Unorm,
        usage,
        view_formats: &[],
    };
    let of_photo = texture(TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST);
    let bytes = bytemuck::cast_slice(photo);
    let of_photo = gpu.device().create_texture_with_data(gpu.queue(), &of_photo, TextureDataOrder::LayerMajor, bytes);
    let painted = gpu.device().create_texture(&texture(TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC));
    let input = upload(gpu, bytemuck::cast_slice(values));
    let dispatch = operator.dispatch(gpu, shape, input.as_entire_buffer_binding(), Some(&of_photo), &painted)?;

    let mut ring = ReadbackRing::for_texture(gpu, &painted, 2)?;
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    dispatch.record(&mut encoder);
    ring.record_texture(&mut encoder, &painted)?;
    gpu.queue().submit([encoder.finish()]);
    // A loop of frames would come back for it; here something that is asked for behind it has arrived then as well.
    run(gpu, |_| (), &zeros(gpu, 4)).await?;
    let Some(frame) = ring.try_read()? else {
        found.failures.push(format!("the ring has no frame of {height} × {width}"));
        return Ok(());
    };
    let got: Vec<[u8; 4]> = bytemuck::pod_collect_to_vec(&frame.to_vec());
    let expected = reference::overlay(operator, shape, values, Some(photo), height, width)?;
    // Random logits have no ties.
    let close = |i: usize| got[i].iter().zip(expected[i]).all(|(got, expected)| got.abs_diff(expected) <= steps);
    found.equal(&format!("overlay {height} × {width}"), &got, &expected, close);
    Ok(())
}
