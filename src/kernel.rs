//! The table of kernels, and what is compiled and passed into each.

use crate::logits::Logits;
#[cfg(test)]
use crate::ops;
use crate::{Error, Gpu};

#[cfg(test)]
mod tests;

/// A compute shader's entry point and the buffers that it binds. Each operator has its rows in `src/ops/<op>.rs`.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub name: &'static str,
    /// WGSL, to be put behind the preludes of [`Specialisation::source`].
    pub source: &'static str,
    pub entry: &'static str,
    /// How often an invocation walks through the classes at the most, special values included.
    pub class_walks: u32,
    /// The bindings behind `params`, which is binding 0 of every kernel.
    pub bindings: &'static [Binding],
    /// Every specialisation that operators ask for with this many classes, so that tests meet them all.
    #[cfg_attr(not(test), expect(dead_code))]
    pub specialisations: fn(classes: u32) -> Vec<Specialisation>,
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// One binding of a kernel: its number, what it holds, and whether the kernel writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub index: u32,
    pub what: &'static str,
    pub written: bool,
}

/// The numbers of the bindings, the same in all kernels.
pub(crate) mod binding {
    use super::Binding;

    const fn read(index: u32, what: &'static str) -> Binding {
        Binding { index, what, written: false }
    }

    const fn write(index: u32, what: &'static str) -> Binding {
        Binding { index, what, written: true }
    }

    pub const LOGITS: Binding = read(1, "logits");
    pub const OUTPUT: Binding = write(2, "output");
    pub const LABELS: Binding = write(3, "labels");
    pub const TARGET: Binding = read(3, "target");
    pub const CONFIDENCE: Binding = write(4, "confidence");
    pub const MARGIN: Binding = write(5, "margin");
    pub const ENTROPY: Binding = write(8, "entropy");
    pub const CLASS_WEIGHTS: Binding = read(4, "class weights");
    pub const LOSS: Binding = write(5, "loss");
    pub const PARTIALS_OUT: Binding = write(6, "partial sums");
    pub const RECORD: Binding = write(6, "loss record");
    pub const PARTIALS_IN: Binding = read(7, "partial sums");
    pub const MAXIMUM_OUT: Binding = write(3, "maximum");
    pub const MAXIMUM_IN: Binding = read(3, "maximum");
    pub const SCALE_OUT: Binding = write(4, "scale");
    pub const SCALE_IN: Binding = read(4, "scale");
}

/// Every kernel of the library.
#[cfg(test)]
pub(crate) static KERNELS: &[&Kernel] = &[
    &ops::argmax::ARGMAX,
    &ops::cross_entropy::PIXELS,
    &ops::cross_entropy::PARTIALS,
    &ops::cross_entropy::FINISH,
    &ops::segment::UPSCALE,
    &ops::segment::RESIZE,
    &ops::sigmoid::SIGMOID,
    &ops::softmax::REGISTERS,
    &ops::softmax::STATISTICS,
    &ops::softmax::APPLY,
    &ops::softmax::ROWS,
];

/// Invocations of a workgroup, in every kernel.
pub(crate) const WORKGROUP: u32 = 128;

/// Up to this many classes, the class count is a constant of the shader: loops unroll and values stay in registers.
/// Above, drivers take seconds to compile that, and another loop is faster anyway.
pub(crate) const UNROLLED_CLASSES: u32 = 24;

/// Which scores of the best class are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scores {
    pub confidence: bool,
    pub margin: bool,
    pub entropy: bool,
}

impl Scores {
    pub const NONE: Self = Self { confidence: false, margin: false, entropy: false };

    /// Number of maps with the labels.
    pub fn maps(self) -> u64 {
        1 + u64::from(self.confidence) + u64::from(self.margin) + u64::from(self.entropy)
    }

    /// Every combination.
    pub fn all() -> [Self; 8] {
        std::array::from_fn(|bits| Self { confidence: bits & 1 != 0, margin: bits & 2 != 0, entropy: bits & 4 != 0 })
    }
}

/// How a kernel reads and writes tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// One element at a time: for planes that do not start at a multiple of four elements.
    Scalar,
    /// `vec4<f32>`.
    Vec4,
    /// `vec2<u64>`: lavapipe makes a loop over its lanes of every access, and one of 64 bits costs it as much as one
    /// of 32.
    Words64,
}

impl Access {
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Vec4, Self::Words64];

    /// For planes, or rows, that start at multiples of `stride` elements.
    pub fn choose(gpu: &Gpu, stride: u32) -> Self {
        if !stride.is_multiple_of(4) {
            Self::Scalar
        } else if gpu.is_software() && gpu.features().contains(wgpu::Features::SHADER_INT64) {
            Self::Words64
        } else {
            Self::Vec4
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Scalar => include_str!("../shaders/prelude/access_scalar.wgsl"),
            Self::Vec4 => include_str!("../shaders/prelude/access_vec4.wgsl"),
            Self::Words64 => include_str!("../shaders/prelude/access_words64.wgsl"),
        }
    }
}

/// The integer type of labels on the GPU.
///
/// ```
/// use seghead::LabelType;
/// assert_eq!(LabelType::for_classes(21), LabelType::U8);
/// assert_eq!(LabelType::for_classes(1000).bits(), 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// 8 bits, four pixels to a 32-bit word, the first pixel in the lowest byte.
    U8,
    /// 32 bits, one pixel to a word.
    U32,
}

impl LabelType {
    /// The smallest type that tells `classes` classes apart.
    pub fn for_classes(classes: u32) -> Self {
        if classes <= 256 { Self::U8 } else { Self::U32 }
    }

    /// Bits of one label.
    pub fn bits(self) -> u32 {
        match self {
            Self::U8 => 8,
            Self::U32 => 32,
        }
    }

    pub(crate) fn check(self, classes: u32) -> Result<(), Error> {
        match self {
            Self::U8 if classes > 256 => Err(Error::LabelType { bits: 8, limit: 256, classes }),
            _ => Ok(()),
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::U8 => include_str!("../shaders/prelude/labels_u8.wgsl"),
            Self::U32 => include_str!("../shaders/prelude/labels_u32.wgsl"),
        }
    }
}

/// What is compiled into a pipeline: part of the key that pipelines are cached under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Specialisation {
    pub access: Access,
    pub labels: LabelType,
    /// The class count, or 0 where the shader reads it from its parameters.
    pub classes: u32,
    pub scores: Scores,
    pub class_weights: bool,
    pub label_smoothing: bool,
    /// Whether a loss is also written per pixel.
    pub per_pixel: bool,
    /// Whether a softmax becomes its logarithm.
    pub log: bool,
    /// Taps per axis that a block of 4 × 4 upsampled pixels reads.
    pub taps: u32,
}

impl Specialisation {
    pub const fn new(access: Access, classes: u32) -> Self {
        Self {
            access,
            labels: LabelType::U8,
            classes: if classes <= UNROLLED_CLASSES { classes } else { 0 },
            scores: Scores::NONE,
            class_weights: false,
            label_smoothing: false,
            per_pixel: false,
            log: false,
            taps: 4,
        }
    }

    /// The whole WGSL text of `kernel` specialised like this.
    pub fn source(&self, kernel: &Kernel) -> String {
        let constants = format!(
            "const WORKGROUP: u32 = {WORKGROUP}u;\n\
             const CLASSES: u32 = {}u;\n\
             const CONFIDENCE: bool = {};\n\
             const MARGIN: bool = {};\n\
             const ENTROPY: bool = {};\n\
             const CLASS_WEIGHTS: bool = {};\n\
             const LABEL_SMOOTHING: bool = {};\n\
             const PER_PIXEL: bool = {};\n\
             const LOG: bool = {};\n\
             const TAPS: u32 = {}u;\n",
            self.classes,
            self.scores.confidence,
            self.scores.margin,
            self.scores.entropy,
            self.class_weights,
            self.label_smoothing,
            self.per_pixel,
            self.log,
            self.taps,
        );
        let common = include_str!("../shaders/prelude/common.wgsl");
        let statistics = include_str!("../shaders/prelude/statistics.wgsl");
        let best = include_str!("../shaders/prelude/best.wgsl");
        let labels = self.labels.source();
        [&constants, common, self.access.source(), labels, statistics, best, kernel.source].concat()
    }
}

/// What a pipeline is cached under.
pub(crate) type PipelineKey = (&'static Kernel, Specialisation);

/// A compiled kernel with the layout of its bindings.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub fn compile(gpu: &Gpu, (kernel, specialisation): PipelineKey) -> Self {
        let device = gpu.device();
        let params = Binding { index: 0, what: "params", written: false };
        let entries: Vec<_> = std::iter::once(&params)
            .chain(kernel.bindings)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: !binding.written },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let label = Some(kernel.name);
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(specialisation.source(kernel).into()),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Self { pipeline, layout }
    }
}

/// The parameters of a kernel, `Params` in `shaders/prelude/common.wgsl`. A kernel reads those that it needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub classes: u32,
    pub pixels: u32,
    pub plane_stride: u32,
    pub pixel_stride: u32,
    pub image_stride: u32,
    pub elements: u32,
    pub map_stride: u32,
    pub grid_width: u32,
    pub rows: u32,
    pub partials: u32,
    pub reduction: u32,
    pub ignore_index: u32,
    pub has_ignore_index: u32,
    pub label_smoothing: f32,
    pub nan: f32,
    pub infinity: f32,
    pub in_height: u32,
    pub in_width: u32,
    pub in_row: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub out_row: u32,
    pub out_row_stride: u32,
    pub y_numerator: u32,
    pub y_offset: i32,
    pub y_denominator: u32,
    pub x_numerator: u32,
    pub x_offset: i32,
    pub x_denominator: u32,
}

impl Params {
    pub fn new(logits: &Logits) -> Self {
        Self {
            classes: logits.classes(),
            pixels: logits.pixels(),
            plane_stride: logits.plane_stride(),
            pixel_stride: logits.pixel_stride(),
            image_stride: logits.image_stride(),
            elements: logits.len(),
            map_stride: logits.map().image_stride(),
            nan: f32::NAN,
            infinity: f32::INFINITY,
            ..Self::default()
        }
    }
}
