//! Shapes and data.

use seghead::{Error, Gpu, Logits, Readback, wgpu};
use wgpu::util::DeviceExt;

/// Of one element, of few that are unrolled, and of more.
pub const CLASSES: [u32; 5] = [1, 3, 21, 25, 150];

/// Logits, as they lie.
pub struct Sample {
    pub shape: Logits,
    pub values: Vec<f32>,
}

impl Sample {
    pub fn name(&self) -> String {
        let shape = &self.shape;
        let last = if shape.plane_stride() == 1 { ", classes last" } else { "" };
        format!("{} × {} × {} × {}{last}", shape.images(), shape.classes(), shape.height(), shape.width())
    }
}

/// Odd and even sizes, batches, both orders of the dimensions.
pub fn samples(classes: u32) -> Result<Vec<Sample>, Error> {
    let mut random = Random::new(classes.into());
    let shapes = [
        Logits::chw(classes, 1, 7)?,
        Logits::nchw(2, classes, 3, 5)?,
        Logits::chw(classes, 16, 20)?,
        Logits::hwc(6, 11, classes)?,
    ];
    let sample = |shape: Logits| Sample { shape, values: (0..shape.len()).map(|_| random.logit()).collect() };
    Ok(shapes.map(sample).into())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..n
    pub fn below(&mut self, n: u32) -> u32 {
        (self.bits() % u64::from(n)) as u32
    }

    /// 0..1
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// About N(0, 3²), as logits are: the sum of twelve uniform numbers.
    pub fn logit(&mut self) -> f32 {
        3.0 * ((0..12).map(|_| self.unit()).sum::<f32>() - 6.0)
    }
}

/// A storage buffer with these bytes.
pub fn upload(gpu: &Gpu, contents: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let mut whole = contents.to_vec();
    whole.resize(contents.len().next_multiple_of(4), 0);
    gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents: &whole, usage })
}

/// A storage buffer of zeros.
pub fn zeros(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    upload(gpu, &vec![0; bytes as usize])
}

/// Submits what `record` records, and reads a buffer back.
pub async fn run(
    gpu: &Gpu,
    record: impl FnOnce(&mut wgpu::CommandEncoder),
    buffer: &wgpu::Buffer,
) -> Result<Vec<u8>, Error> {
    let mut readback = Readback::new(gpu, buffer.size())?;
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    readback.record(&mut encoder, buffer.as_entire_buffer_binding())?;
    gpu.queue().submit([encoder.finish()]);
    readback.read(<[u8]>::to_vec).await
}
