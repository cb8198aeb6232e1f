//! Logits that are read part by part: the same bits as from a slice, each element once, and errors that come through.

#![allow(clippy::unwrap_used)]

use std::io;

use seghead::{Argmax, Axis, CrossEntropy, ElementType, Error, Gpu, GpuOptions, Input, Logits, Segment, Softmax};

fn gpu() -> Gpu {
    Gpu::headless_blocking(&GpuOptions::default()).unwrap()
}

fn noise(count: u32) -> Vec<f32> {
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / 65_536.0 - 8.0).collect()
}

/// Reads elements of `size` bytes from `bytes`, and counts how often each is asked for.
fn reader<'a>(
    bytes: &'a [u8],
    size: usize,
    counts: &'a mut Vec<u8>,
) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> + Send + 'a {
    counts.clear();
    counts.resize(bytes.len() / size, 0);
    move |first, part| {
        let (first, count) = (first as usize, part.len() / size);
        assert!(part.len() <= 1 << 20 && part.len().is_multiple_of(size));
        counts[first..first + count].iter_mut().for_each(|count| *count += 1);
        part.copy_from_slice(&bytes[first * size..][..part.len()]);
        Ok(())
    }
}

#[test]
fn the_bits_of_a_slice() {
    let gpu = gpu();
    // The last is more than one band.
    for shape in [
        Logits::chw(3, 5, 7).unwrap(),
        Logits::nchw(3, 4, 1, 5).unwrap(),
        Logits::nhwc(2, 9, 11, 5).unwrap(),
        Logits::chw(37, 500, 503).unwrap(),
    ] {
        let values = noise(shape.len());
        let mut counts = Vec::new();
        let (bytes, elements) = (bytemuck::cast_slice(&values), shape.len().into());
        let argmax = Argmax::new().confidence(true);
        let input = Input::reader(ElementType::F32, elements, reader(bytes, 4, &mut counts));
        let found = argmax.run_blocking(&gpu, &shape, input).unwrap();
        assert!(found == argmax.run_blocking(&gpu, &shape, &values).unwrap(), "{shape:?}");
        assert!(counts.iter().all(|&count| count == 1), "{shape:?}");

        for axis in [Axis::Class, Axis::Height, Axis::Width] {
            let softmax = Softmax::new().axis(axis);
            let input = Input::reader(ElementType::F32, elements, reader(bytes, 4, &mut counts));
            let found = softmax.run_blocking(&gpu, &shape, input).unwrap();
            assert!(found == softmax.run_blocking(&gpu, &shape, &values).unwrap(), "{shape:?} {axis:?}");
            assert!(counts.iter().all(|&count| count == 1), "{shape:?} {axis:?}");
        }

        let segment = Segment::new(19, 23);
        let input = Input::reader(ElementType::F32, elements, reader(bytes, 4, &mut counts));
        let found = segment.run_blocking(&gpu, &shape, input).unwrap();
        assert!(found == segment.run_blocking(&gpu, &shape, &values).unwrap(), "{shape:?}");

        let targets: Vec<u8> = (0..shape.map().pixels()).map(|pixel| (pixel % 3) as u8).collect();
        let input = Input::reader(ElementType::F32, elements, reader(bytes, 4, &mut counts));
        let found = CrossEntropy::new().run_blocking(&gpu, &shape, input, &targets).unwrap();
        assert_eq!(found, CrossEntropy::new().run_blocking(&gpu, &shape, &values, &targets).unwrap(), "{shape:?}");
    }
}

#[test]
fn halves_are_read_as_halves() {
    let gpu = gpu();
    for shape in [Logits::chw(3, 5, 7).unwrap(), Logits::nchw(5, 3, 3, 3).unwrap(), Logits::hwc(5, 7, 3).unwrap()] {
        let bits: Vec<u16> = noise(shape.len()).into_iter().map(|value| half::f16::from_f32(value).to_bits()).collect();
        let mut counts = Vec::new();
        let read = reader(bytemuck::cast_slice(&bits), 2, &mut counts);
        let input = Input::reader(ElementType::F16, shape.len().into(), read);
        let found = Softmax::new().run_blocking(&gpu, &shape, input).unwrap();
        assert_eq!(found, Softmax::new().run_blocking(&gpu, &shape, Input::f16(&bits)).unwrap(), "{shape:?}");
        assert!(counts.iter().all(|&count| count == 1), "{shape:?}");
    }
}

#[test]
fn an_error_comes_through_and_the_next_run_does_not_mind() {
    let gpu = gpu();
    let shape = Logits::chw(37, 500, 503).unwrap();
    let mut reads = 0;
    // In the second band, while the first is on its way.
    let read = |_: u64, part: &mut [u8]| {
        part.fill(0);
        reads += 1;
        if reads < 50 { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotConnected, "the disk is gone")) }
    };
    let input = Input::reader(ElementType::F32, shape.len().into(), read);
    let error = Argmax::new().run_blocking(&gpu, &shape, input).unwrap_err();
    assert_eq!(error.to_string(), "the logits cannot be read: the disk is gone");
    assert!(matches!(error, Error::Input(error) if error.kind() == io::ErrorKind::NotConnected));
    assert_eq!(reads, 50);

    let values = noise(shape.len());
    let found = Argmax::new().run_blocking(&gpu, &shape, &values).unwrap();
    let again = Argmax::new().run_blocking(&gpu, &shape, &values).unwrap();
    assert!(found == again && found.labels.iter().any(|label| label != 0));
}
