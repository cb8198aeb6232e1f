//! Pixel accuracy, IoU and loss over a data set that need not fit memory: a reader hands the logits over batch by batch,
//! and the confusion matrix is added up on the host.

use std::io;
use std::ops::Range;

use seghead::{CrossEntropy, ElementType, Error, Gpu, GpuOptions, Input, Logits, Reduction, Segment};

const IMAGES: u32 = 20;
/// Images of a batch; the last batch has fewer.
const BATCH: u32 = 8;
const CLASSES: usize = 5;
/// The label of pixels that count for nothing.
const VOID: u8 = 255;
/// Size of the logits, and how many pixels of the labels each stands for in either direction.
const HEIGHT: u32 = 64;
const WIDTH: u32 = 96;
const STRIDE: u32 = 4;

fn main() -> Result<(), Error> {
    let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    let segment = Segment::new(HEIGHT * STRIDE, WIDTH * STRIDE);
    let cross_entropy = CrossEntropy::new().ignore_index(Some(VOID.into())).reduction(Reduction::Sum);
    // A row for each true class, a column for each predicted one.
    let mut confusion = [[0u64; CLASSES]; CLASSES];
    let (mut loss, mut counted) = (0.0, 0);

    for first in (0..IMAGES).step_by(BATCH as usize) {
        let images = first..IMAGES.min(first + BATCH);
        let logits = Logits::nchw(images.len() as u32, CLASSES as u32, HEIGHT, WIDTH)?;
        let start = first * CLASSES as u32 * HEIGHT * WIDTH;
        let input = || {
            let elements = u64::from(logits.len());
            Input::reader(ElementType::F32, elements, move |at, bytes| read_logits(start + at as u32, bytes))
        };

        let found = segment.run_blocking(&gpu, &logits, input())?;
        let truth = read_labels(images.clone(), 1);
        for (predicted, &truth) in found.labels.iter().zip(&truth).filter(|&(_, &truth)| truth != VOID) {
            confusion[usize::from(truth)][predicted as usize] += 1;
        }

        // At the resolution of the logits, as a loss in training is: against the label in the middle of each.
        let found = cross_entropy.run_blocking(&gpu, &logits, input(), &read_labels(images, STRIDE))?;
        loss += f64::from(found.value);
        counted += found.pixels - found.ignored;
    }

    let all: u64 = confusion.iter().flatten().sum();
    let right: u64 = (0..CLASSES).map(|class| confusion[class][class]).sum();
    let iou = |class: usize| {
        let truth: u64 = confusion[class].iter().sum();
        let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
        let both = confusion[class][class];
        both as f64 / (truth + predicted - both) as f64
    };
    for class in 0..CLASSES {
        println!("IoU of class {class}  {:.4}", iou(class));
    }
    println!("mean IoU        {:.4}", (0..CLASSES).map(iou).sum::<f64>() / CLASSES as f64);
    println!("pixel accuracy  {:.4}  ({right} of {all})", right as f64 / all as f64);
    println!("cross-entropy   {:.4}  (mean of {counted})", loss / counted as f64);
    Ok(())
}

/// Fills `bytes` with the logits of the data set from element `first` on, as if from a file: noise in 0..8, and 5 more
/// for the true class.
fn read_logits(first: u32, bytes: &mut [u8]) -> io::Result<()> {
    for (i, bytes) in (first..).zip(bytes.chunks_exact_mut(4)) {
        let (plane, y, x) = (i / (HEIGHT * WIDTH), i / WIDTH % HEIGHT, i % WIDTH);
        let (image, class) = (plane / CLASSES as u32, plane % CLASSES as u32);
        let noise = (hash(i) % 1024) as f32 / 128.0;
        let bonus = if u32::from(label(image, STRIDE, y, x)) == class { 5.0 } else { 0.0 };
        bytes.copy_from_slice(&(noise + bonus).to_ne_bytes());
    }
    Ok(())
}

/// The labels of some images, the middle one of every `stride × stride`.
fn read_labels(images: Range<u32>, stride: u32) -> Vec<u8> {
    let (height, width) = (HEIGHT * STRIDE / stride, WIDTH * STRIDE / stride);
    let pixels = images.flat_map(|image| (0..height).flat_map(move |y| (0..width).map(move |x| (image, y, x))));
    pixels.map(|(image, y, x)| label(image, stride, y, x)).collect()
}

/// A disc of every class but 0 somewhere on class 0, each over those of the classes before it, with void at its rim.
fn label(image: u32, stride: u32, y: u32, x: u32) -> u8 {
    const RADIUS: u32 = 50;
    let (y, x) = (y * stride + stride / 2, x * stride + stride / 2);
    for class in (1..CLASSES as u32).rev() {
        let centre = hash(image * CLASSES as u32 + class);
        let (dy, dx) = (y.abs_diff(centre % (HEIGHT * STRIDE)), x.abs_diff((centre >> 16) % (WIDTH * STRIDE)));
        match dy * dy + dx * dx {
            distance if distance < RADIUS * RADIUS => return class as u8,
            distance if distance < (RADIUS + 2) * (RADIUS + 2) => return VOID,
            _ => {}
        }
    }
    0
}

/// Bits without a pattern, the same for the same number.
fn hash(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
