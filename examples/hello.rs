//! From logits on the host to labels on the host.

use seghead::{Argmax, CrossEntropy, Gpu, GpuOptions, Logits, Segment, Sigmoid, Softmax};

fn main() -> Result<(), seghead::Error> {
    let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    let logits = Logits::chw(4, 1, 1)?;
    let data = [1.0, 2.0, 3.0, 4.0];
    println!("softmax {:?}", Softmax::new().run_blocking(&gpu, &logits, &data)?);
    println!("sigmoid {:?}", Sigmoid::new().run_blocking(&gpu, &logits, &data)?);
    println!("argmax {:?}", Argmax::new().confidence(true).run_blocking(&gpu, &logits, &data)?);
    println!("loss {:?}", CrossEntropy::new().run_blocking(&gpu, &logits, &data, &[3u8])?);
    println!("segment {:?}", Segment::new(2, 2).confidence(true).run_blocking(&gpu, &logits, &data)?);
    Ok(())
}
