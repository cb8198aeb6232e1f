//! Labels of the host as the kernels that count them take them.

use wgpu::Buffer;

use crate::{Gpu, LabelType, Map};

/// Labels of any integer type, written for the GPU: classes as they are, all ones for the ignore index, and one less for
/// everything else, which the kernel finds.
#[derive(Clone, Copy)]
pub(crate) struct Codes {
    classes: u32,
    pub label_type: LabelType,
}

impl Codes {
    pub fn new(classes: u32) -> Self {
        let label_type = if classes <= 254 { LabelType::U8 } else { LabelType::U32 };
        Self { classes, label_type }
    }

    /// The ignore index of labels that were written like this.
    pub fn ignore_index(&self, ignore_index: Option<i64>) -> Option<i64> {
        let ones: u32 = match self.label_type {
            LabelType::U8 => u8::MAX.into(),
            LabelType::U32 => u32::MAX,
        };
        ignore_index.map(|_| ones.into())
    }

    /// The code, in the lowest bits.
    fn of(&self, label: i64, ignored: Option<i64>) -> u32 {
        if Some(label) == ignored {
            return u32::MAX;
        }
        match u32::try_from(label) {
            Ok(class) if class < self.classes => class,
            _ => u32::MAX - 1,
        }
    }

    /// Writes the labels of all pixels of `map`.
    pub fn write<L: Copy + Into<i64>>(
        &self,
        gpu: &Gpu,
        buffer: &Buffer,
        map: &Map,
        labels: &[L],
        ignored: Option<i64>,
    ) {
        let codes = labels.iter().map(|&label| self.of(label.into(), ignored));
        match self.label_type {
            LabelType::U8 => {
                let padded = pad(map, codes.map(|code| code as u8));
                gpu.queue().write_buffer(buffer, 0, &padded);
            }
            LabelType::U32 => {
                let padded = pad(map, codes);
                gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&padded));
            }
        }
    }
}

/// Values of all pixels with the padding of `map`.
fn pad<T: Copy + Default>(map: &Map, mut values: impl Iterator<Item = T>) -> Vec<T> {
    let (width, height) = (map.width() as usize, map.height() as usize);
    let mut padded = vec![T::default(); map.images() as usize * map.image_stride() as usize];
    for image in padded.chunks_exact_mut(map.image_stride() as usize) {
        for row in image.chunks_mut(map.row_stride() as usize).take(height) {
            row[..width].iter_mut().zip(&mut values).for_each(|(padded, value)| *padded = value);
        }
    }
    padded
}
