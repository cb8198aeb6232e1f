//! In an application's own frames: softmax and argmax of its probabilities, on the application's device, into its
//! buffers and by its encoder.

use std::error::Error;

use seghead::wgpu::{self, BufferUsages};
use seghead::{Argmax, Gpu, GpuOptions, Logits, Outputs, Readback, Softmax};

const CLASSES: u32 = 3;
const HEIGHT: u32 = 4;
const WIDTH: u32 = 24;

fn main() -> Result<(), Box<dyn Error>> {
    // What the application has anyway. WebGPU's default limits, no features.
    let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default()))?[0];
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let buffer = |label, size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    };
    let shape = Logits::chw(CLASSES, HEIGHT, WIDTH)?;
    let logits = buffer("logits", shape.bytes(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let probabilities = buffer("probabilities", shape.bytes(), BufferUsages::STORAGE);
    let labels = buffer("labels", shape.map().bytes(8), BufferUsages::STORAGE | BufferUsages::COPY_SRC);

    // Once for a shape and its buffers. One operator reads what the other writes.
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone());
    let softmax = Softmax::new().dispatch(
        &gpu,
        &shape,
        logits.as_entire_buffer_binding(),
        probabilities.as_entire_buffer_binding(),
    )?;
    let argmax = Argmax::new().dispatch(
        &gpu,
        &shape,
        probabilities.as_entire_buffer_binding(),
        Outputs::labels(labels.as_entire_buffer_binding()),
    )?;
    let mut readback = Readback::new(&gpu, labels.size())?;

    for frame in 0..4 {
        // Stands for the network, which would write its logits on the GPU.
        queue.write_buffer(&logits, 0, bytemuck::cast_slice(&network(frame)));

        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            softmax.record_into(&mut pass);
            argmax.record_into(&mut pass);
        }
        readback.record(&mut encoder, labels.as_entire_buffer_binding())?;
        queue.submit([encoder.finish()]);

        // To show them. A frame loop would not wait: see async_readback.rs.
        let labels = readback.read_blocking(&gpu, |padded| shape.map().unpad(padded))?;
        println!("frame {frame}");
        for row in labels.chunks_exact(WIDTH as usize) {
            println!("  {}", row.iter().map(|&label| [".", "o", "#"][usize::from(label)]).collect::<String>());
        }
    }
    Ok(())
}

/// Class planes one after another: the background, a bar that grows with the frames, and a block that moves.
fn network(frame: u32) -> Vec<f32> {
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y, x)));
    let bar = pixels.clone().map(|(y, x)| if y == HEIGHT - 1 && x < 6 * (frame + 1) { 2.0 } else { -2.0 });
    let block = pixels.map(|(y, x)| if y < 2 && (5 * frame..5 * frame + 4).contains(&x) { 4.0 } else { -4.0 });
    let background = std::iter::repeat_n(0.0, (HEIGHT * WIDTH) as usize);
    background.chain(bar).chain(block).collect()
}
