//! Cases of [`MultiLabel`].

use seghead::{MaskFormat, MultiLabel, reference};

use super::bench::Bench;
use super::data::Reading;
use super::findings::Subject;
use super::{Case, Cases};

pub fn cases() -> Cases {
    let mut cases = Vec::new();
    for reading in Reading::all() {
        cases.push(case(reading, MaskFormat::Bytes, &["multi-label bytes"]));
        cases.push(case(reading, MaskFormat::Bits, &["multi-label bits"]));
    }
    cases
}

fn case(reading: Reading, format: MaskFormat, kernels: &'static [&'static str]) -> Case {
    Case::new(kernels, format!("{reading}, {format:?}"), move |context, findings| {
        let gpu = &context.gpu;
        // Both ends, and what is between them.
        let thresholds: Vec<f32> = (0..reading.classes).map(|c| c as f32 / (reading.classes - 1) as f32).collect();
        let mut bench = Bench::new(gpu);
        let mut works = Vec::new();
        for sample in reading.samples(false)? {
            let (input, masks) = (bench.input(&sample.bytes()), bench.output(format.bytes(&sample.shape)));
            let operator = MultiLabel::new().thresholds(thresholds.clone()).format(format);
            let (from, to) = (input.as_entire_buffer_binding(), masks.as_entire_buffer_binding());
            let dispatch = operator.dispatch(gpu, &sample.shape, from, to)?;
            bench.record(&dispatch, &[&masks])?;
            works.push((sample, dispatch));
        }
        let mut results = bench.run()?;
        for (sample, dispatch) in &works {
            let (shape, bytes) = (&sample.shape, results.bytes());
            let present = reference::multi_label(shape, &sample.data, &thresholds);
            let (classes, pixels) = (shape.classes() as usize, shape.pixels() as usize);
            // Planes one after another, each with the geometry of an image of the map.
            let map = shape.map();
            let (planes, stride) = (format.planes(shape.classes()) as usize, map.image_stride() as usize);
            let word = |plane: usize, at: usize| match format {
                MaskFormat::Bytes => u32::from(bytes[plane * stride + at]),
                MaskFormat::Bits => bytemuck::pod_read_unaligned(&bytes[4 * (plane * stride + at)..][..4]),
            };
            let of_plane = classes.div_ceil(planes);
            let (mut got, mut expected) = (Vec::new(), Vec::new());
            for image in 0..shape.images() as usize {
                for plane in 0..planes {
                    for pixel in 0..pixels {
                        let (row, column) = (pixel / shape.width() as usize, pixel % shape.width() as usize);
                        got.push(word(image * planes + plane, row * map.row_stride() as usize + column));
                        let bit = |c: usize| u32::from(present[(image * classes + c) * pixels + pixel]) << (c % 32);
                        let of_class = plane * of_plane..classes.min((plane + 1) * of_plane);
                        expected.push(match format {
                            MaskFormat::Bytes => u32::from(bit(plane) != 0),
                            MaskFormat::Bits => of_class.map(bit).sum(),
                        });
                    }
                }
            }
            let subject = Subject::new(dispatch, kernels, &sample.name);
            findings.compare_exactly(&subject, "mask", &got, &expected, |_| false);
        }
        Ok(())
    })
}
