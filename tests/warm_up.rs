//! `Gpu::warm_up`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use seghead::wgpu::{Buffer, BufferUsages};
use seghead::{Argmax, Dispatch, Labels, Logits, Outputs, Readback, Softmax};

/// It writes nothing, and what runs afterwards is as without.
#[test]
fn nothing_is_written() {
    let gpu = gpu();
    for classes in [5, 40] {
        let shape = Logits::chw(classes, 9, 12).unwrap();
        let mut random = Random::new(1);
        let data: Vec<f32> = (0..shape.len()).map(|_| random.logit()).collect();
        let input = upload_bytes(gpu, bytemuck::cast_slice(&data));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let (labels, p) = (buffer(gpu, shape.map().bytes(8), usage), buffer(gpu, shape.bytes(), usage));
        for out in [&labels, &p] {
            gpu.queue().write_buffer(out, 0, &vec![0xa5; out.size() as usize]);
        }
        let read = || input.as_entire_buffer_binding();
        let outputs = Outputs::labels(labels.as_entire_buffer_binding());
        let argmax = Argmax::new().dispatch(gpu, &shape, read(), outputs).unwrap();
        let softmax = Softmax::new().dispatch(gpu, &shape, read(), p.as_entire_buffer_binding()).unwrap();
        gpu.warm_up([&argmax, &softmax]).unwrap();
        let read_back = |work: Option<&Dispatch>, out: &Buffer| {
            let mut readback = Readback::new(gpu, out.size()).unwrap();
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            work.into_iter().for_each(|work| work.record(&mut encoder));
            readback.record(&mut encoder, out.as_entire_buffer_binding()).unwrap();
            gpu.queue().submit([encoder.finish()]);
            readback.read_blocking(gpu, <[u8]>::to_vec).unwrap()
        };
        for out in [&labels, &p] {
            assert!(read_back(None, out).iter().all(|&byte| byte == 0xa5), "{classes} classes");
        }
        let found = Labels::U8(unpad_map(&shape.map(), &read_back(Some(&argmax), &labels)));
        assert_eq!(found, Argmax::new().run_blocking(gpu, &shape, &data).unwrap().labels);
        let found = unpad_tensor(&shape, &read_back(Some(&softmax), &p));
        assert_eq!(bits(&found), bits(&Softmax::new().run_blocking(gpu, &shape, &data).unwrap()));
    }
}
