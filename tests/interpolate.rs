//! [`Interpolate`] against its twin: all conventions, activations, layouts, special values, bands and windows.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::{Activation, Axis, ElementType, Error, Gpu, Input, Interpolate, Logits, Resize, reference, wgpu};

const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Sigmoid, Activation::Softmax];
const CONVENTIONS: [Resize; 3] = [Resize::HalfPixel, Resize::AlignCorners, Resize::Asymmetric];

fn twin(operator: Activation, shape: &Logits, data: &[f32], size: (u32, u32), resize: Resize) -> Vec<f64> {
    let up = reference::upsample(shape, data, size.0, size.1, resize);
    let full = Interpolate::new(size.0, size.1).output(shape).unwrap();
    match operator {
        Activation::None => up,
        Activation::Sigmoid => reference::sigmoid(&up),
        Activation::Softmax => reference::softmax(&full, &up, Axis::Class),
    }
}

fn dispatched(gpu: &Gpu, operator: Interpolate, shape: &Logits, input: &wgpu::Buffer) -> Result<Vec<f32>, Error> {
    let result = operator.output(shape).unwrap();
    let out = output(gpu, result.bytes());
    let (from, to) = (input.as_entire_buffer_binding(), out.as_entire_buffer_binding());
    let mut recorder = Recorder::new(gpu);
    recorder.record(&operator.dispatch(gpu, shape, from, to)?, &[&out]);
    Ok(bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap()))
}

const SIZES: [(u32, u32, u32, u32); 10] = [
    (3, 20, 30, 21),
    (1, 1, 7, 5),
    (3, 5, 12, 20),
    (5, 7, 5, 7),
    (6, 5, 17, 14),
    (16, 16, 7, 5),
    (13, 9, 26, 6),
    (2, 31, 9, 125),
    (20, 30, 81, 119),
    (9, 12, 36, 48),
];

#[test]
fn oracle() {
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [1, 2, 5, 24, 25, 31] {
            let mut random = Random::new(classes.into());
            for (i, (h, w, height, width)) in SIZES.into_iter().enumerate() {
                let images = 1 + i as u32 % 2;
                let packed = Logits::nchw(images, classes, h, w).unwrap();
                let last = Logits::nhwc(images, h, w, classes).unwrap();
                let larger = Logits::nchw(images, classes, h + 3, w + 2).unwrap().crop(2, 1, h, w).unwrap();
                for shape in [packed, packed.padded().unwrap(), last, larger] {
                    let resize = CONVENTIONS[(i + classes as usize) % 3];
                    let cropped = shape.offset() > 0;
                    let count = if cropped { shape.len() as usize } else { elements(&shape) };
                    let data: Vec<f32> = (0..count).map(|_| random.logit()).collect();
                    let input = if cropped {
                        upload_bytes(gpu, bytemuck::cast_slice(&data))
                    } else {
                        upload(gpu, &shape, &data)
                    };
                    for activation in ACTIVATIONS {
                        let operator = Interpolate::new(height, width).resize(resize).activation(activation);
                        let got = dispatched(gpu, operator, &shape, &input).unwrap();
                        let expected = twin(activation, &shape, &data, (height, width), resize);
                        // An interpolated logit has three roundings of positions and weights and six of products and
                        // sums, of numbers below the largest logit.
                        let largest = data.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
                        let of_logit = 12.0 * U * largest;
                        let c = f64::from(classes);
                        // As in tests/oracle.rs; a probability has the relative error of twice that of the logits.
                        let tolerance = |i: usize| match activation {
                            Activation::None => of_logit,
                            Activation::Sigmoid => expected[i] * ((11.0 + 4.0 * largest) * U + of_logit),
                            Activation::Softmax => {
                                expected[i] * ((17.0 - 5.0 * expected[i].ln() + c) * U + 2.0 * of_logit)
                            }
                        };
                        let what = format!("{shape:?} to {height} × {width} {resize:?} {activation:?}");
                        assert_close(&what, &got, &expected, tolerance);
                    }
                }
            }
        }
    }
}

/// Special taps make NaN and infinities where PyTorch has them, and nowhere else.
#[test]
fn special_values() {
    const VALUES: [f32; 8] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-40, 1.0, -3.0, 88.0];
    for gpu in [gpu(), default_limits_gpu()] {
        for classes in [2, 5, 30] {
            let shape = Logits::chw(classes, 19, 23).unwrap();
            let mut random = Random::new(classes.into());
            let mut data = random.logits(&shape);
            for x in &mut data {
                if random.below(9) == 0 {
                    *x = VALUES[random.below(8) as usize];
                }
            }
            for (height, width) in [(19, 23), (40, 47), (11, 30)] {
                for activation in ACTIVATIONS {
                    let operator = Interpolate::new(height, width).activation(activation);
                    let got = operator.run_blocking(gpu, &shape, &data).unwrap();
                    let expected = twin(activation, &shape, &data, (height, width), Resize::HalfPixel);
                    let what = format!("{classes} classes to {height} × {width} {activation:?}");
                    // The numbers are the business of `oracle`.
                    assert_close(&what, &got, &expected, |i| 1e-4 * expected[i].abs() + 2e-5);
                }
            }
        }
    }
}

/// Halves are what they stand for.
#[test]
fn halves() {
    let shape = Logits::chw(5, 7, 9).unwrap();
    let mut random = Random::new(3);
    let halves: Vec<half::f16> = (0..elements(&shape)).map(|_| half::f16::from_f32(random.logit())).collect();
    let values: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    for activation in ACTIVATIONS {
        let operator = Interpolate::new(20, 31).activation(activation);
        let of_halves = operator.run_blocking(gpu(), &shape, Input::f16(bytemuck::cast_slice(&halves))).unwrap();
        assert_eq!(bits(&of_halves), bits(&operator.run_blocking(gpu(), &shape, &values).unwrap()));
        assert_eq!(operator.output(&shape.f16()).unwrap().element_type(), ElementType::F32);
    }
}

/// On devices that bind little, bands and windows: the same bits.
#[test]
fn bands_and_windows() {
    for bytes in [8192, 65536] {
        let gpu = watched_gpu(wgpu::Limits {
            max_storage_buffer_binding_size: bytes,
            max_uniform_buffer_binding_size: bytes,
            ..wgpu::Limits::defaults()
        });
        for shape in [
            Logits::nchw(2, 3, 37, 53).unwrap(),
            Logits::nhwc(1, 37, 53, 3).unwrap(),
            Logits::chw(10, 9, 31).unwrap(),
            Logits::chw(3, 50, 60).unwrap().crop(3, 4, 37, 51).unwrap(),
        ] {
            let mut random = Random::new(bytes);
            let data: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
            for (height, width) in [(80, 61), (17, 90), (37, 53)] {
                for activation in ACTIVATIONS {
                    let operator = Interpolate::new(height, width).activation(activation);
                    let what = format!("{bytes} {shape:?} to {height} × {width} {activation:?}");
                    let expected = operator.run_blocking(default_limits_gpu(), &shape, &data).unwrap();
                    let got = operator.run_blocking(&gpu, &shape, &data).unwrap();
                    assert!(bits(&got) == bits(&expected), "{what}");
                    let input = upload_bytes(&gpu, bytemuck::cast_slice(&data));
                    let got = dispatched(&gpu, operator, &shape, &input).unwrap();
                    assert!(bits(&got) == bits(&expected), "{what}, dispatched");
                }
            }
        }
    }
}

#[test]
fn misuse() {
    let gpu = gpu();
    let shape = Logits::chw(2, 3, 4).unwrap();
    let data = [0.0; 24];
    let run = |height, width| Interpolate::new(height, width).run_blocking(gpu, &shape, &data);
    assert!(matches!(run(0, 4), Err(Error::Empty { what: "height" })));
    assert!(matches!(run(4, 0), Err(Error::Empty { what: "width" })));
    assert!(matches!(run(1 << 31, 4), Err(Error::Limit { .. })));
    let short = Interpolate::new(4, 4).run_blocking(gpu, &shape, &data[1..]);
    assert!(matches!(short, Err(Error::Length { what: "logits", expected: 24, found: 23 })));
    let input = upload(gpu, &shape, &data);
    let small = output(gpu, 124);
    let (from, to) = (input.as_entire_buffer_binding(), small.as_entire_buffer_binding());
    let result = Interpolate::new(4, 4).dispatch(gpu, &shape, from, to);
    assert!(matches!(result, Err(Error::BufferTooSmall { what: "output", needed: 128, found: 124, .. })));
}
