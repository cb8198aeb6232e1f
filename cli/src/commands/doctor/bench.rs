//! Runs dispatches and reads back what they write.

use seghead::wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder};
use seghead::{Dispatch, Error, Gpu, LabelType, Map, Readback};

use super::data::GUARD;

/// Dispatches of one submission.
pub struct Bench<'a> {
    gpu: &'a Gpu,
    encoder: CommandEncoder,
    readbacks: Vec<Readback>,
}

impl<'a> Bench<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, encoder: gpu.device().create_command_encoder(&Default::default()), readbacks: Vec::new() }
    }

    /// A buffer to be read.
    pub fn input(&self, bytes: &[u8]) -> Buffer {
        self.buffer(bytes, BufferUsages::STORAGE | BufferUsages::COPY_DST)
    }

    /// A buffer to be written, of [`GUARD`]s.
    pub fn output(&self, bytes: u64) -> Buffer {
        let guards = vec![GUARD; bytes.div_ceil(4) as usize];
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        self.buffer(bytemuck::cast_slice(&guards), usage)
    }

    /// A buffer to be written, of zeros.
    pub fn zeroed(&self, bytes: u64) -> Buffer {
        self.buffer(&vec![0; bytes as usize], BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC)
    }

    fn buffer(&self, bytes: &[u8], usage: BufferUsages) -> Buffer {
        let size = bytes.len() as u64;
        let descriptor = BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.gpu.device().create_buffer(&descriptor);
        self.gpu.queue().write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// Records `dispatch` and the read-back of `outputs`; the results come in this order.
    pub fn record(&mut self, dispatch: &Dispatch, outputs: &[&Buffer]) -> Result<(), Error> {
        dispatch.record(&mut self.encoder);
        for output in outputs {
            let readback = Readback::new(self.gpu, output.size())?;
            readback.record(&mut self.encoder, output.as_entire_buffer_binding())?;
            self.readbacks.push(readback);
        }
        Ok(())
    }

    /// Submits, and returns the bytes of each output.
    pub fn run(mut self) -> Result<Results, Error> {
        self.gpu.queue().submit([self.encoder.finish()]);
        let read = |readback: &mut Readback| readback.read_blocking(self.gpu, <[u8]>::to_vec);
        let all: Result<Vec<_>, _> = self.readbacks.iter_mut().map(read).collect();
        Ok(Results(all?.into_iter()))
    }
}

/// What was read back, in the order of the recording.
pub struct Results(std::vec::IntoIter<Vec<u8>>);

impl Results {
    /// The bytes of the next output.
    pub fn bytes(&mut self) -> Vec<u8> {
        self.0.next().unwrap_or_default()
    }

    /// The labels of the next output.
    pub fn labels(&mut self, map: &Map, label_type: LabelType) -> Vec<u32> {
        let bytes = self.bytes();
        match label_type {
            LabelType::U8 => map.unpad(&bytes).into_iter().map(u32::from).collect(),
            LabelType::U32 => map.unpad(&bytemuck::pod_collect_to_vec::<u8, u32>(&bytes)),
        }
    }
}
