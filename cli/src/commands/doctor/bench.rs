//! Runs dispatches and reads back what they write.

use seghead::wgpu::{
    Buffer, BufferDescriptor, BufferUsages, COPY_BYTES_PER_ROW_ALIGNMENT, CommandEncoder, Extent3d,
    TexelCopyBufferInfo, TexelCopyBufferLayout, Texture, TextureDescriptor, TextureDimension, TextureFormat,
    TextureUsages,
};
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

    /// A texture of two dimensions, width × height, of four bytes a pixel.
    pub fn texture(&self, [width, height]: [u32; 2], format: TextureFormat, usage: TextureUsages) -> Texture {
        self.gpu.device().create_texture(&TextureDescriptor {
            label: None,
            size: Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: TextureDimension::D2,
            format,
            usage,
            view_formats: &[],
        })
    }

    /// Writes red, green, blue and alpha of all pixels, in whatever order the texture has them.
    pub fn write_texture(&self, texture: &Texture, pixels: &[[u8; 4]]) {
        let bgra = matches!(texture.format(), TextureFormat::Bgra8Unorm | TextureFormat::Bgra8UnormSrgb);
        let bytes: Vec<_> = pixels.iter().map(|&[r, g, b, a]| if bgra { [b, g, r, a] } else { [r, g, b, a] }).collect();
        let bytes_per_row = Some(4 * texture.width());
        let layout = TexelCopyBufferLayout { offset: 0, bytes_per_row, rows_per_image: None };
        self.gpu.queue().write_texture(texture.as_image_copy(), bytes.as_flattened(), layout, texture.size());
    }

    /// Records `dispatch` and the read-back of a texture of four bytes a pixel; the results come in this order.
    pub fn record_texture(&mut self, dispatch: &Dispatch, texture: &Texture) -> Result<(), Error> {
        dispatch.record(&mut self.encoder);
        let bytes_per_row = row_bytes(texture.width());
        let copied = self.zeroed(u64::from(bytes_per_row) * u64::from(texture.height()));
        let layout = TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(bytes_per_row), rows_per_image: None };
        let to = TexelCopyBufferInfo { buffer: &copied, layout };
        self.encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
        let readback = Readback::new(self.gpu, copied.size())?;
        readback.record(&mut self.encoder, copied.as_entire_buffer_binding())?;
        self.readbacks.push(readback);
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

/// Bytes of a row of a texture of four bytes a pixel when it is copied to a buffer.
fn row_bytes(width: u32) -> u32 {
    (4 * width).next_multiple_of(COPY_BYTES_PER_ROW_ALIGNMENT)
}

/// What was read back, in the order of the recording.
pub struct Results(std::vec::IntoIter<Vec<u8>>);

impl Results {
    /// The bytes of the next output.
    pub fn bytes(&mut self) -> Vec<u8> {
        self.0.next().unwrap_or_default()
    }

    /// The pixels of the next output, a texture.
    pub fn texture(&mut self, width: u32, height: u32) -> Vec<[u8; 4]> {
        let bytes = self.bytes();
        let rows = bytes.chunks_exact(row_bytes(width) as usize).take(height as usize);
        rows.flat_map(|row| row.as_chunks().0[..width as usize].to_vec()).collect()
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
