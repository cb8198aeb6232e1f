//! Labels of the host as the kernels that count them take them.

use wgpu::Buffer;

use crate::{Error, Gpu, LabelType, Map, transfer};

/// Labels of any integer type, written for the GPU: classes as they are, all ones for the ignore index, and one less for
/// everything else, which the kernel finds.
#[derive(Clone, Copy)]
pub(crate) struct Codes {
    /// What labels must be below.
    pub classes: u32,
    pub label_type: LabelType,
}

impl Codes {
    pub fn new(classes: u32) -> Self {
        let label_type = if classes <= 254 { LabelType::U8 } else { LabelType::U32 };
        Self { classes, label_type }
    }

    /// The code of the ignore index.
    pub fn ignored(&self) -> i64 {
        match self.label_type {
            LabelType::U8 => u8::MAX.into(),
            LabelType::U32 => u32::MAX.into(),
        }
    }

    /// The ignore index of labels that were written like this.
    pub fn ignore_index(&self, ignore_index: Option<i64>) -> Option<i64> {
        ignore_index.map(|_| self.ignored())
    }

    /// The code, in the lowest bits.
    pub fn of(&self, label: i64, ignored: Option<i64>) -> u32 {
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
    ) -> Result<(), Error> {
        let codes = labels.iter().map(|&label| self.of(label.into(), ignored));
        let write = |bytes: &[u8]| {
            transfer::write(gpu, buffer, bytes.len() as u64, |mut to| {
                to.copy_from_slice(bytes);
                Ok(())
            })
        };
        match self.label_type {
            LabelType::U8 => write(&map.pad(codes.map(|code| code as u8))),
            LabelType::U32 => write(bytemuck::cast_slice(&map.pad(codes))),
        }
    }
}
