//! Overlays: from logits and a photo's texture to a texture, against the reference, pixel by pixel.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{self, Texture, TextureFormat, TextureUsages};
use seghead::{Activation, Blend, Error, Gpu, Logits, Overlay, Palette, Resize, reference};

const OVERLAY: TextureUsages = TextureUsages::STORAGE_BINDING.union(TextureUsages::COPY_SRC);
const PHOTO: TextureUsages = TextureUsages::TEXTURE_BINDING.union(TextureUsages::COPY_DST);

fn palette(classes: u32) -> Palette {
    let mut random = Random::new(99);
    Palette::new((0..classes).map(|_| std::array::from_fn(|_| random.below(256) as u8)).collect())
}

fn random_photo(seed: u64, pixels: u32) -> Vec<[u8; 4]> {
    let mut random = Random::new(seed);
    (0..pixels).map(|_| std::array::from_fn(|_| random.below(256) as u8)).collect()
}

/// The photo as a texture of that format.
fn photo_texture(gpu: &Gpu, photo: &[[u8; 4]], [width, height]: [u32; 2], format: TextureFormat) -> Texture {
    let made = texture(gpu, [width, height], format, PHOTO);
    let swap = matches!(format, TextureFormat::Bgra8Unorm | TextureFormat::Bgra8UnormSrgb);
    let bytes: Vec<u8> =
        photo.iter().flat_map(|&[r, g, b, a]| if swap { [b, g, r, a] } else { [r, g, b, a] }).collect();
    write_texture(gpu, &made, 4, &bytes);
    made
}

/// An upsampled shape: logits, size of the result.
fn shapes() -> Vec<(Logits, [u32; 2])> {
    let chw = |c, h, w| Logits::chw(c, h, w).unwrap();
    vec![
        (chw(5, 3, 4), [17, 13]),
        (chw(5, 8, 8), [32, 32]),
        (chw(2, 1, 1), [1, 1]),
        (chw(3, 1, 9), [40, 2]),
        (chw(30, 7, 5), [9, 14]),
        (chw(4, 11, 12), [12, 11]),
        (chw(4, 12, 13), [6, 5]),
        (Logits::hwc(5, 6, 3).unwrap(), [21, 10]),
        (chw(3, 9, 9).crop(1, 2, 5, 6).unwrap(), [25, 19]),
        (chw(5, 6, 7).f16(), [30, 29]),
        (chw(300, 3, 3), [7, 6]),
    ]
}

/// Random logits, rounded to what halves hold where the shape has them.
fn logits(shape: &Logits, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let data = random.logits(shape);
    match shape.element_type() {
        seghead::ElementType::F16 => data.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
        _ => data,
    }
}

/// Runs `operator` and returns the pixels of the result.
fn run(
    gpu: &Gpu,
    operator: &Overlay,
    (shape, data): (&Logits, &[f32]),
    size: [u32; 2],
    photo: Option<&Texture>,
) -> Vec<[u8; 4]> {
    let overlay = texture(gpu, size, TextureFormat::Rgba8Unorm, OVERLAY);
    let input = upload_laid(gpu, shape, data);
    let dispatch = operator.dispatch(gpu, shape, input.as_entire_buffer_binding(), photo, &overlay).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    dispatch.record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    read_texture(gpu, &overlay, 4).chunks_exact(4).map(|pixel| pixel.try_into().unwrap()).collect()
}

/// Pixels whose two largest logits, or whose score and the threshold, are closer than f32 tells are left out: how many of
/// the others differ from the twin by more than `tolerance`?
#[track_caller]
fn check(
    gpu: &Gpu,
    operator: &Overlay,
    (shape, data): (&Logits, &[f32]),
    [width, height]: [u32; 2],
    (photo, format): (Option<&[[u8; 4]]>, TextureFormat),
    tolerance: u8,
) {
    let there = photo.map(|photo| photo_texture(gpu, photo, [width, height], format));
    let got = run(gpu, operator, (shape, data), [width, height], there.as_ref());
    let expected = reference::overlay(operator, &packed(shape), data, photo, height, width).unwrap();
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let near = (0..4).all(|k| got[k].abs_diff(expected[k]) <= tolerance);
        assert!(near, "{operator:?} {shape:?} pixel {i} of {width} × {height}: {got:?}, expected {expected:?}");
    }
}

#[test]
fn every_shape_and_option() {
    let gpu = default_limits_gpu();
    for (seed, (shape, size)) in (0..).zip(shapes()) {
        let data = logits(&shape, seed);
        let photo = random_photo(seed, size[0] * size[1]);
        let plain = || Overlay::new(palette(shape.classes()));
        let operators = [
            plain(),
            plain().alpha(0.0),
            plain().alpha(1.0).hidden([1]),
            plain().alpha(0.3).hidden([0, 2]).resize(Resize::AlignCorners),
            plain().threshold(0.7).resize(Resize::Asymmetric),
            plain().threshold(0.9).uncertain_colour([1, 2, 3]).activation(Activation::Sigmoid).hidden([1]),
            plain().threshold(0.7).activation(Activation::None),
            plain().outline(1),
            plain().outline(3).threshold(0.7).alpha(0.2).hidden([0]),
            plain().outline(5).alpha(0.0).threshold(0.8).activation(Activation::Sigmoid),
        ];
        for operator in operators {
            let format = TextureFormat::Rgba8Unorm;
            check(gpu, &operator, (&shape, &data), size, (Some(&photo), format), 0);
            check(gpu, &operator, (&shape, &data), size, (None, format), 0);
        }
    }
}

/// Stored values and decoded ones, in both orders of the channels, are the same photo.
#[test]
fn formats_of_the_photo() {
    let gpu = default_limits_gpu();
    let shape = Logits::chw(3, 4, 8).unwrap();
    let data = logits(&shape, 1);
    // Every level in every channel.
    let photo: Vec<[u8; 4]> = (0..256).map(|i| [i as u8, 255 - i as u8, (i * 7) as u8, (i * 3) as u8]).collect();
    use TextureFormat::*;
    for format in [Rgba8Unorm, Rgba8UnormSrgb, Bgra8Unorm, Bgra8UnormSrgb] {
        for alpha in [0.0, 0.4] {
            let operator = Overlay::new(palette(3)).alpha(alpha);
            check(gpu, &operator, (&shape, &data), [32, 8], (Some(&photo), format), 0);
        }
    }
}

/// Every level of photo and colour, at many alphas: exactly in sRGB values, within rounding in linear light.
#[test]
fn blending() {
    let gpu = default_limits_gpu();
    // One class whose colour is the same everywhere; the photo has all levels.
    let shape = Logits::chw(1, 1, 1).unwrap();
    let photo: Vec<[u8; 4]> = (0..256).map(|i| [i as u8, 255 - i as u8, (i * 91) as u8, 255]).collect();
    for step in 0..=17u8 {
        let colour = [step * 15, 255 - step * 15, step.wrapping_mul(77)];
        for alpha in [0, 1, 2, 77, 127, 128, 200, 254, 255] {
            let operator = Overlay::new(Palette::new(vec![colour])).alpha(f32::from(alpha as u8) / 255.0);
            let job = ((&shape, [0.0].as_slice()), [256, 1], (Some(photo.as_slice()), TextureFormat::Rgba8Unorm));
            check(gpu, &operator, job.0, job.1, job.2, 0);
            let tolerance = u8::from(alpha != 0 && alpha != 255);
            check(gpu, &operator.blend(Blend::Linear), job.0, job.1, job.2, tolerance);
        }
    }
}

#[test]
fn colours_are_not_interpolated() {
    let gpu = default_limits_gpu();
    let shape = Logits::chw(4, 9, 9).unwrap();
    let data = logits(&shape, 3);
    let colours = palette(4);
    let operator = Overlay::new(colours.clone()).alpha(1.0).outline(2).threshold(0.6);
    let allowed: Vec<_> = colours.colours().iter().copied().chain([Palette::UNCERTAIN]).collect();
    for [r, g, b, a] in run(gpu, &operator, (&shape, &data), [50, 41], None) {
        assert!(allowed.contains(&[r, g, b]) && a == 255, "{:?}", [r, g, b, a]);
    }
}

/// A pixel of NaN is not sure of its class; its neighbours in a block of 4 × 4 are as if it were not there.
#[test]
fn special_values() {
    let gpu = default_limits_gpu();
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let shape = Logits::chw(3, 6, 6).unwrap();
        let mut data = logits(&shape, 4);
        data[36 + 14] = special;
        for operator in [
            Overlay::new(palette(3)).threshold(0.5),
            Overlay::new(palette(3)).threshold(0.5).activation(Activation::Sigmoid),
            Overlay::new(palette(3)).outline(1).threshold(0.0),
            Overlay::new(palette(3)),
        ] {
            check(gpu, &operator, (&shape, &data), [23, 24], (None, TextureFormat::Rgba8Unorm), 0);
        }
    }
}

/// A device that cannot bind all of the logits: the parts meet without a seam, with outlines too.
#[test]
fn in_parts() {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 16 << 10, ..wgpu::Limits::defaults() };
    let gpu = watched_gpu(limits);
    for shape in [Logits::chw(6, 40, 50).unwrap(), Logits::hwc(40, 50, 6).unwrap().f16()] {
        assert!(shape.bytes() > 16 << 10);
        let data = logits(&shape, 5);
        for (operator, size) in [
            (Overlay::new(palette(6)).threshold(0.6), [97, 83]),
            (Overlay::new(palette(6)).outline(2), [61, 64]),
            (Overlay::new(palette(6)), [31, 27]),
        ] {
            let photo = random_photo(6, size[0] * size[1]);
            check(&gpu, &operator, (&shape, &data), size, (Some(&photo), TextureFormat::Rgba8Unorm), 0);
        }
    }
}

#[test]
fn bad_use() {
    let gpu = watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    let input = upload(&gpu, &shape, &[0.0; 48]);
    let make = |size, format, usage| texture(&gpu, size, format, usage);
    let good = || (make([8, 8], TextureFormat::Rgba8Unorm, PHOTO), make([8, 8], TextureFormat::Rgba8Unorm, OVERLAY));
    let error = |operator: Overlay, shape: &Logits, photo: &Texture, overlay: &Texture| {
        let from = input.as_entire_buffer_binding();
        operator.dispatch(&gpu, shape, from, Some(photo), overlay).unwrap_err()
    };
    let plain = || Overlay::new(palette(3));
    let (photo, overlay) = good();

    let found = error(Overlay::new(palette(2)), &shape, &photo, &overlay);
    assert_eq!(found.to_string(), "palette: expected a colour for each of 3 classes, found 2");
    for value in [-0.1, 1.1, f32::NAN] {
        let found = error(plain().alpha(value), &shape, &photo, &overlay);
        assert_eq!(found.to_string(), format!("alpha: expected a number in 0..=1, found {value}"));
        let found = error(plain().threshold(value), &shape, &photo, &overlay);
        assert!(matches!(found, Error::Value { what: "threshold", .. }), "{found}");
    }
    let found = error(plain().outline(17), &shape, &photo, &overlay);
    assert_eq!(found.to_string(), "width of an outline: 17 needed, but the limit is 16");
    let found = error(plain(), &Logits::nchw(2, 3, 2, 2).unwrap(), &photo, &overlay);
    assert!(matches!(found, Error::Limit { what: "images of an overlay", needed: 2, limit: 1 }), "{found}");
    let found = error(plain(), &Logits::chw(3, 5, 5).unwrap(), &photo, &overlay);
    assert!(matches!(found, Error::BufferTooSmall { what: "logits", .. }), "{found}");

    let found = error(plain(), &shape, &photo, &make([8, 8], TextureFormat::Rgba8Unorm, PHOTO));
    let text = found.to_string();
    assert!(text.starts_with("texture of overlay: expected usage") && text.contains("STORAGE_BINDING"), "{text}");
    let found = error(plain(), &shape, &make([8, 8], TextureFormat::Rgba8Unorm, OVERLAY), &overlay);
    assert!(matches!(found, Error::TextureUsage { what: "photo", .. }), "{found}");
    // A format that cannot have the usage: the format is what is wrong.
    let found = error(plain(), &shape, &photo, &make([8, 8], TextureFormat::Bgra8Unorm, PHOTO));
    assert!(matches!(found, Error::TextureFormat { what: "overlay", .. }), "{found}");
    let found = error(plain(), &shape, &photo, &make([8, 8], TextureFormat::Rgba16Float, OVERLAY));
    assert_eq!(found.to_string(), "texture of overlay: expected format Rgba8Unorm, found Rgba16Float");
    let found = error(plain(), &shape, &make([8, 8], TextureFormat::R8Unorm, PHOTO), &overlay);
    assert!(matches!(found, Error::TextureFormat { what: "photo", .. }), "{found}");
    let found = error(plain(), &shape, &make([8, 7], TextureFormat::Rgba8Unorm, PHOTO), &overlay);
    let expected = "texture of photo: expected 8 × 8 pixels in two dimensions with one sample, found 8 × 7";
    assert_eq!(found.to_string(), expected);
    let both = make([8, 8], TextureFormat::Rgba8Unorm, PHOTO | OVERLAY);
    let found = error(plain(), &shape, &both, &both);
    assert!(matches!(found, Error::Aliased { written: "overlay", other: "photo" }), "{found}");
}

/// A resized video call destroys its textures: an old one is an error, and nothing reaches the device's error handler.
#[test]
fn destroyed() {
    let gpu = watched_gpu(wgpu::Limits::defaults());
    let shape = Logits::chw(3, 4, 4).unwrap();
    for gone in 0..3 {
        let input = upload(&gpu, &shape, &[0.0; 48]);
        let photo = texture(&gpu, [8, 8], TextureFormat::Rgba8Unorm, PHOTO);
        let overlay = texture(&gpu, [8, 8], TextureFormat::Rgba8Unorm, OVERLAY);
        match gone {
            0 => input.destroy(),
            1 => photo.destroy(),
            _ => overlay.destroy(),
        }
        let from = input.as_entire_buffer_binding();
        let found = Overlay::new(palette(3)).dispatch(&gpu, &shape, from, Some(&photo), &overlay).unwrap_err();
        assert!(matches!(found, Error::Device(_)) && found.to_string().contains("destroyed"), "{found}");
    }
}

/// What belongs to another device is refused, in one line that says so, and nothing reaches the device's error handler.
#[test]
fn another_device() {
    let [gpu, other] = two_gpus();
    let shape = Logits::chw(3, 4, 4).unwrap();
    for foreign in 0..4 {
        let of = |i: usize| if i == foreign { &other } else { &gpu };
        let input = upload(of(0), &shape, &[0.0; 48]);
        let photo = texture(of(1), [8, 8], TextureFormat::Rgba8Unorm, PHOTO);
        let overlay = texture(of(2), [8, 8], TextureFormat::Rgba8Unorm, OVERLAY);
        let from = input.as_entire_buffer_binding();
        let found = Overlay::new(palette(3)).dispatch(&gpu, &shape, from, Some(&photo), &overlay);
        match (foreign, found) {
            (3, found) => drop(found.unwrap()),
            (_, Err(error @ Error::OtherDevice { .. })) => {
                let text = error.to_string();
                assert!(text.starts_with("overlay upscale: expected buffers and textures of this device"), "{text}");
                assert_eq!(text.lines().count(), 1, "{text}");
            }
            (_, found) => panic!("{foreign}: {found:?}"),
        }
    }
}
