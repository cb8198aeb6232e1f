//! Frequencies of classes and the weights that follow from them, against counts by hand and a naive definition.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use seghead::{ClassFrequencies, ClassRecord, ClassStatistics, Error, LabelType, Logits, Segment, reference};

/// The definition, image by image and class by class: pixels of the class over pixels of the images that have it.
fn naive(images: &[Vec<u32>], class: u32) -> Option<f64> {
    let with: Vec<_> = images.iter().filter(|image| image.contains(&class)).collect();
    let pixels = with.iter().flat_map(|image| image.iter()).filter(|&&label| label == class).count();
    let all: usize = with.iter().map(|image| image.len()).sum();
    (pixels > 0).then(|| pixels as f64 / all as f64)
}

fn random_images(random: &mut Random, classes: u32) -> Vec<Vec<u32>> {
    let image = |random: &mut Random| {
        // Each image has its own few classes, and void.
        let palette: Vec<_> = (0..1 + random.below(4)).map(|_| random.below(classes)).chain([255]).collect();
        let pixels = 1 + random.below(300);
        (0..pixels).map(|_| palette[random.below(palette.len() as u32) as usize]).collect()
    };
    (0..1 + random.below(9)).map(|_| image(random)).collect()
}

#[test]
fn agree_with_the_definition() {
    let mut random = Random::new(1);
    for classes in [1, 2, 3, 7, 12, 19] {
        for _ in 0..20 {
            let images = random_images(&mut random, classes);
            let mut found = ClassFrequencies::new(classes);
            images.iter().for_each(|image| found.add_image(image).unwrap());
            let frequencies: Vec<_> = (0..classes).map(|class| naive(&images, class)).collect();
            assert_eq!(found.frequencies(), frequencies);
            // The median is what as many are above as below.
            let mut sorted: Vec<f64> = frequencies.iter().flatten().copied().collect();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let median = match sorted.len() {
                0 => 0.0,
                n if n % 2 == 1 => sorted[n / 2],
                n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
            };
            let expected: Vec<_> = frequencies.iter().map(|f| f.map_or(0.0, |f| (median / f) as f32)).collect();
            assert_eq!(found.median_frequency_weights(), expected);

            // In two parts, in another order.
            let [mut first, mut second] = [0; 2].map(|_| ClassFrequencies::new(classes));
            for (i, image) in images.iter().enumerate() {
                let part = if i % 2 == 0 { &mut second } else { &mut first };
                part.add_image(image).unwrap();
            }
            first.add(&second).unwrap();
            assert_eq!(first, found);
        }
    }
}

#[test]
fn known_numbers() {
    let mut found = ClassFrequencies::new(5);
    found.add_image(&[0i32, 0, 0, 0, 0, 0, 1, 1, 2, -100]).unwrap();
    found.add_image(&[0i32, 0, 3, 3, 3]).unwrap();
    found.add_image::<u8>(&[]).unwrap();
    assert_eq!(found.pixels().collect::<Vec<_>>(), [8, 2, 1, 3, 0]);
    assert_eq!(found.image_pixels().collect::<Vec<_>>(), [15, 10, 10, 5, 0]);
    let frequencies = [8.0 / 15.0, 0.2, 0.1, 0.6];
    assert_eq!(found.frequencies()[..4], frequencies.map(Some));
    assert_eq!(found.frequencies()[4], None);
    // The median of four is between the two in the middle, 0.2 and 8/15.
    let median = (0.2 + 8.0 / 15.0) / 2.0;
    let expected: Vec<_> = frequencies.map(|f| (median / f) as f32).into_iter().chain([0.0]).collect();
    assert_eq!(found.median_frequency_weights(), expected);
    // Of nothing at all.
    assert_eq!(ClassFrequencies::new(2).median_frequency_weights(), [0.0, 0.0]);
    assert_eq!(ClassFrequencies::new(0).median_frequency_weights(), [0.0; 0]);
}

/// From what the GPU has counted, as from the labels.
#[test]
fn of_class_statistics() {
    let gpu = gpu();
    let mut random = Random::new(2);
    let classes = 6;
    for map in [
        Logits::nchw(3, 1, 13, 17).unwrap().map(),
        Segment::new(9, 11).map(&Logits::nchw(2, 1, 1, 1).unwrap()).unwrap(),
    ] {
        let of_image = map.height() as usize * map.width() as usize;
        let labels: Vec<Vec<u32>> = (0..map.images())
            .map(|image| {
                (0..of_image).map(|_| if random.below(9) == 0 { 255 } else { random.below(2) + image }).collect()
            })
            .collect();
        let mut padded = vec![0u8; map.bytes(8) as usize];
        for (i, &label) in labels.concat().iter().enumerate() {
            let (image, y, x) = (i / of_image, i % of_image / map.width() as usize, i % map.width() as usize);
            padded[image * map.image_stride() as usize + y * map.row_stride() as usize + x] = label as u8;
        }
        let operator = ClassStatistics::new(classes);
        let (input, records) = (upload_bytes(gpu, &padded), output(gpu, operator.bytes(&map)));
        let (from, to) = (input.as_entire_buffer_binding(), records.as_entire_buffer_binding());
        let dispatch = operator.dispatch(gpu, &map, from, LabelType::U8, None, to).unwrap();
        let mut recorder = Recorder::new(gpu);
        recorder.record(&dispatch, &[&records]);
        let records: Vec<ClassRecord> = bytemuck::pod_collect_to_vec(&recorder.finish().next().unwrap());
        let totals = reference::class_statistics(&map, classes, &labels.concat(), None);
        assert!(records.iter().zip(&totals).all(|(record, totals)| u64::from(record.pixels) == totals.pixels));

        let (mut found, mut expected) = (ClassFrequencies::new(classes), ClassFrequencies::new(classes));
        found.add_records(&map, &records).unwrap();
        labels.iter().for_each(|image| expected.add_image(image).unwrap());
        assert_eq!(found, expected);
        assert!(found.image_pixels().take(2).any(|pixels| pixels < map.pixels() as u64));
        let short = found.add_records(&map, &records[1..]);
        assert!(matches!(short, Err(Error::Length { what: "class records", .. })), "{short:?}");
        assert_eq!(found, expected);
    }
}

#[test]
fn misuse() {
    let refused = |result: Result<(), Error>, expected: &str| assert_eq!(result.unwrap_err().to_string(), expected);
    let mut found = ClassFrequencies::new(2);
    let length = |found| format!("classes of frequencies: expected 2 elements, found {found}");
    refused(found.add_counts(&[1, 2, 3], 6), &length(3));
    refused(found.add(&ClassFrequencies::new(1)), &length(1));
    found.add_counts(&[u64::MAX - 1, 0], u64::MAX).unwrap();
    let before = found.clone();
    let limit = format!("pixels of a class's images: {0} needed, but the limit is {0}", u64::MAX);
    refused(found.add_counts(&[1, 1], 1), &limit);
    assert_eq!(found, before);
    found.add_counts(&[0, 1], u64::MAX).unwrap();
    assert_eq!(found.frequencies(), [Some(1.0), Some(1.0 / u64::MAX as f64)]);
}
