//! Labels on the host every frame, in a loop that never waits for the GPU. Who polls the device is the loop itself, or
//! with `--thread` a thread.

use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use seghead::wgpu::{self, BufferUsages, PollType};
use seghead::{Argmax, Frame, Gpu, GpuOptions, Logits, Outputs, ReadbackRing};

const FRAMES: u64 = 20;
/// No multiple of four pixels: the ring hides the padding of the map.
const SIZE: u32 = 251;

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    let by_thread = std::env::args().any(|argument| argument == "--thread");
    let (running, finished) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let _running = running; // until the end of this closure
        if by_thread {
            let device = gpu.device();
            scope.spawn(move || {
                while finished.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                    let _ = device.poll(PollType::Poll); // a lost device is the loop's to find
                }
            });
        }
        frames(&gpu, by_thread)
    })
}

fn frames(gpu: &Gpu, polled_by_thread: bool) -> Result<(), Box<dyn Error>> {
    let shape = Logits::chw(2, SIZE, SIZE)?;
    let buffer = |size, usage| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let logits = buffer(shape.bytes(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let labels = buffer(shape.map().bytes(8), BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    let outputs = Outputs::labels(labels.as_entire_buffer_binding());
    let argmax = Argmax::new().dispatch(gpu, &shape, logits.as_entire_buffer_binding(), outputs)?;
    let mut ring = ReadbackRing::for_map(gpu, &shape.map(), 8, 3)?;

    for now in 0..FRAMES {
        // What has arrived since the frame before.
        if !polled_by_thread {
            gpu.device().poll(PollType::Poll)?;
        }
        match ring.try_read()? {
            Some(frame) => show(now, &frame),
            None => println!("frame {now:2}: nothing new"),
        }

        gpu.queue().write_buffer(&logits, 0, bytemuck::cast_slice(&network(now)));
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        argmax.record(&mut encoder);
        if ring.record(&mut encoder, labels.as_entire_buffer_binding())?.is_none() {
            println!("frame {now:2}: not read back, all slots are on their way");
        }
        gpu.queue().submit([encoder.finish()]);

        // The rest of the frame; one that draws waits for its display here.
        thread::sleep(Duration::from_millis(4));
    }
    // After the loop there is time for what is left.
    gpu.wait()?;
    if let Some(frame) = ring.try_read()? {
        show(FRAMES, &frame);
    }
    Ok(())
}

fn show(now: u64, frame: &Frame<'_>) {
    let ones = frame.rows().flatten().filter(|&&label| label == 1).count();
    let (number, share) = (frame.number(), 100.0 * ones as f64 / frame.size() as f64);
    println!("frame {now:2}: labels of frame {number:2}, {} behind; class 1 on {share:.0} %", now - number);
}

/// Class 1 covers another twentieth of the pixels every frame.
fn network(frame: u64) -> Vec<f32> {
    let pixels = (SIZE * SIZE) as usize;
    let covered = frame as usize * (SIZE * SIZE) as usize / FRAMES as usize;
    let ones = (0..pixels).map(|pixel| if pixel < covered { 1.0 } else { -1.0 });
    std::iter::repeat_n(0.0, pixels).chain(ones).collect()
}
