//! The arguments of the command.

use clap::{Args, Parser, Subcommand, ValueEnum};
use seghead::{GpuOptions, wgpu};

/// Post-processes the logits of a segmentation network on the GPU.
#[derive(Debug, Parser)]
#[command(name = "seghead", version, about, subcommand_required = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Tensors are float32 or float16: .npy, FILE.npz:NAME or FILE.safetensors:NAME, NAME only where there are several.
Labels are written as uint8 up to 256 classes, else uint16; as .png they are paletted, one image a file.
Exit status: 0 done, 2 bad usage or input, 1 anything else. Errors are one line; after one no output is left.";

/// What every command understands.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Use the adapter with this in its name (else WGPU_ADAPTER_NAME)
    #[arg(long, global = true, value_name = "SUBSTRING")]
    pub adapter: Option<String>,
    /// Use this graphics API (else WGPU_BACKEND)
    #[arg(long, global = true)]
    pub backend: Option<Backend>,
    /// The order of the dimensions of a tensor; by default chw for three and nchw for four
    #[arg(long, global = true)]
    pub layout: Option<Layout>,
    /// Print one JSON object on standard output and nothing else
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only, no notes and no summaries
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Common {
    /// Which adapter was asked for.
    pub fn gpu_options(&self) -> GpuOptions {
        let backends = self.backend.map(|backend| match backend {
            Backend::Vulkan => wgpu::Backends::VULKAN,
            Backend::Metal => wgpu::Backends::METAL,
            Backend::Dx12 => wgpu::Backends::DX12,
            Backend::Gl => wgpu::Backends::GL,
        });
        GpuOptions { backends, adapter_name: self.adapter.clone(), ..GpuOptions::default() }
    }
}

/// A graphics API.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Backend {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

/// The order of the dimensions of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    Chw,
    Nchw,
    Hwc,
    Nhwc,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Segment the built-in photo: labels, confidence and overlay as pictures
    Demo(Demo),
    /// Labels and confidence at full resolution, upsampled and scored in one pass
    Segment(Segment),
    /// Probabilities that sum to 1 over the classes of a pixel
    Softmax(Softmax),
    /// Independent probabilities, for multi-label networks
    Sigmoid(Sigmoid),
    /// The class with the largest logit of every pixel
    Argmax(Argmax),
    /// The loss of logits against target labels
    #[command(subcommand)]
    Loss(Loss),
    /// Scores of a whole data set: mean IoU and others, from the confusion matrix of all its images
    Eval(Eval),
    /// What is in a tensor: ranges, special values, and what looks wrong
    Inspect(Inspect),
    /// The adapters of this machine, their limits, and the one that is chosen
    Adapters,
    /// Test every kernel on the chosen adapter against a reference in double precision
    Doctor(Doctor),
    /// How long the operators take on the chosen adapter, beside a copy of as many bytes
    Bench(Bench),
}

#[derive(Args, Debug)]
pub struct Doctor {
    /// Test only the kernels with this in their name, such as argmax
    #[arg(long, value_name = "SUBSTRING")]
    pub kernel: Option<String>,
}

#[derive(Args, Debug)]
pub struct Bench {
    /// Shapes of logits, C×H×W or N×C×H×W [default: 21x512x512 19x1024x2048]
    #[arg(long, num_args = 1.., value_name = "CxHxW", value_parser = parse_shape)]
    pub shape: Vec<[u32; 4]>,
    /// Operators, by default all that the logits have classes for
    #[arg(long, num_args = 1.., value_name = "OP")]
    pub op: Vec<BenchOperator>,
    /// Types of logits [default: f32]
    #[arg(long = "type", num_args = 1.., value_name = "TYPE")]
    pub float: Vec<Float>,
    /// How many times as high and as wide as the logits the result of segment is, above 0
    #[arg(long, default_value_t = 4.0, value_name = "S", value_parser = parse_scale, allow_negative_numbers = true)]
    pub scale: f64,
    /// Runs of each, fewer where they take long
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub runs: u32,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchOperator {
    Softmax,
    LogSoftmax,
    SoftmaxHeight,
    SoftmaxWidth,
    Sigmoid,
    Argmax,
    ArgmaxConfidence,
    #[value(name = "top-1")]
    Top1,
    #[value(name = "top-3")]
    Top3,
    #[value(name = "top-3-probabilities")]
    Top3Probabilities,
    CrossEntropy,
    CrossEntropyPixels,
    CrossEntropyGradient,
    Segment,
    SegmentConfidence,
    ConfusionMatrix,
}

impl BenchOperator {
    /// The fewest classes that it has a meaning for.
    pub fn least_classes(self) -> u32 {
        match self {
            Self::Top3 | Self::Top3Probabilities => 3,
            _ => 1,
        }
    }

    /// Whether its result has another size than the logits.
    pub fn is_scaled(self) -> bool {
        matches!(self, Self::Segment | Self::SegmentConfidence)
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The type of a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Float {
    F32,
    F16,
}

#[derive(Args, Debug)]
pub struct Demo {
    /// The folder for the pictures
    #[arg(short, long, default_value = "demo", value_name = "DIR")]
    pub output: String,
    #[command(flatten)]
    pub look: Look,
}

#[derive(Args, Debug)]
pub struct Segment {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// The photo that was segmented, PNG or JPEG; the result has its size, so --size is not needed
    #[arg(long, conflicts_with = "size")]
    pub image: Option<String>,
    /// The size of the result; by default that of the logits
    #[arg(long, value_name = "WxH", value_parser = parse_size, allow_hyphen_values = true)]
    pub size: Option<(u32, u32)>,
    /// Where on the logits a pixel of the result lies
    #[arg(long, default_value = "half-pixel")]
    pub resize: Resize,
    /// Only this rectangle of the logits: what a letter-box added is cut off before resizing
    #[arg(long, value_name = "WxH+X+Y", value_parser = parse_rectangle, allow_hyphen_values = true)]
    pub crop: Option<Rectangle>,
    /// What the classes are to one another: with sigmoid a pixel may have several, or none, and --labels has a plane of
    /// 0 and 1 for each, C×H×W, or of a single class the mask
    #[arg(long, default_value = "softmax")]
    pub activation: Activation,
    /// The confidence below which --overlay shows a pixel as uncertain, in white, 0 to 1; by default it shows none so. With
    /// --activation sigmoid, the probability from which on a class is there; by default 0.5
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Write the labels, .npy or .png
    #[arg(long, value_name = "F")]
    pub labels: Option<String>,
    /// Write the labels in colour over the photo of --image, .png
    #[arg(long, value_name = "F.png", requires = "image")]
    pub overlay: Option<String>,
    /// Explain the colours of --overlay below the photo, as they look on the mean of what is below them: every class that
    /// occurs, and its share of all pixels, without those that are uncertain
    #[arg(long, requires = "overlay")]
    pub legend: bool,
    /// Leave the photo as it is where a pixel has one of these classes, such as the background
    #[arg(long, value_name = "C,…", value_delimiter = ',', requires = "overlay")]
    pub hidden: Vec<u32>,
    #[command(flatten)]
    pub look: Look,
    #[command(flatten)]
    pub scores: Scores,
    /// Write what --activation makes of all classes, float32 .npy, in the order of the dimensions of the logits
    #[arg(long = "scores", value_name = "F.npy")]
    pub all_scores: Option<String>,
}

/// How an overlay is drawn.
#[derive(Args, Debug)]
pub struct Look {
    /// How much of the overlay is colour, 0 to 1
    #[arg(long, default_value_t = 0.5, value_name = "A", allow_negative_numbers = true)]
    pub alpha: f32,
    /// How colour and photo are mixed
    #[arg(long, default_value = "srgb")]
    pub blend: Blend,
    /// Outline every class in its full colour, this many pixels wide on its side of the border, 0 to 16
    #[arg(
        long,
        default_value_t = 0,
        value_name = "W",
        value_parser = clap::value_parser!(u32).range(0..=16),
        allow_negative_numbers = true,
    )]
    pub outline: u32,
    #[command(flatten)]
    pub palette: Palette,
}

/// The colours of classes.
#[derive(Args, Debug)]
pub struct Palette {
    /// The colours of classes in pictures: voc, cityscapes, ade20k, camvid, camvid32, or a file with a line for each
    /// class, as "128 64 128 road", "#804080 road" or "road,128,64,128", or a GIMP palette; by default those of voc, over
    /// and over. Labels in .png have them up to 256 classes
    #[arg(long, value_name = "NAME|FILE")]
    pub palette: Option<String>,
}

/// What of colours is mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Blend {
    /// Their values, as they are stored
    Srgb,
    /// Their light
    Linear,
}

impl From<Blend> for seghead::Blend {
    fn from(blend: Blend) -> Self {
        match blend {
            Blend::Srgb => Self::Straight,
            Blend::Linear => Self::Linear,
        }
    }
}

/// What turns logits into probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activation {
    /// Probabilities that sum to 1 over the classes of a pixel
    Softmax,
    /// Independent probabilities, for multi-label networks
    Sigmoid,
    /// Logits stay logits
    None,
}

impl From<Activation> for seghead::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Softmax => Self::Softmax,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::None => Self::None,
        }
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Rectangle {
    pub width: u32,
    pub height: u32,
    pub left: u32,
    pub top: u32,
}

/// How sure the network is of every pixel's class.
#[derive(Args, Debug)]
pub struct Scores {
    /// Write the softmax probability of the chosen class, .npy or .png
    #[arg(long, value_name = "F")]
    pub confidence: Option<String>,
    /// Write its distance to the second largest probability, .npy or .png
    #[arg(long, value_name = "F")]
    pub margin: Option<String>,
    /// Write −Σ p ln p over the classes, in nats, .npy or .png
    #[arg(long, value_name = "F")]
    pub entropy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resize {
    /// Centre on centre: align_corners=False in PyTorch
    HalfPixel,
    /// Corner pixel on corner pixel: align_corners=True in PyTorch
    AlignCorners,
    /// Corner on corner: asymmetric in ONNX
    Asymmetric,
}

#[derive(Args, Debug)]
pub struct Softmax {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Write the probabilities, float32 .npy shaped like the logits
    #[arg(short, long, value_name = "F.npy")]
    pub output: String,
    /// The dimension whose elements sum to 1
    #[arg(long, default_value = "class")]
    pub axis: Axis,
    /// Write the logarithm of the probabilities
    #[arg(long)]
    pub log: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Axis {
    /// The classes of every pixel: dim=1 in PyTorch
    Class,
    /// The pixels of every column: dim=2
    Height,
    /// The pixels of every row: dim=3
    Width,
}

#[derive(Args, Debug)]
pub struct Sigmoid {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Write the probabilities, float32 .npy shaped like the logits
    #[arg(short, long, value_name = "F.npy")]
    pub output: String,
}

#[derive(Args, Debug)]
pub struct Argmax {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Write the labels, .npy or .png
    #[arg(short, long, value_name = "F")]
    pub output: String,
    /// Write the K classes with the largest logits, best first: K×H×W or N×K×H×W in any layout, .npy only
    #[arg(
        long,
        value_name = "K",
        value_parser = clap::value_parser!(u32).range(1..=8),
        allow_negative_numbers = true,
        conflicts_with_all = ["confidence", "margin", "entropy", "palette"],
    )]
    pub top_k: Option<u32>,
    /// Write the softmax probabilities of those K classes, float32 .npy of the same shape
    #[arg(long, value_name = "F.npy", requires = "top_k")]
    pub probabilities: Option<String>,
    #[command(flatten)]
    pub scores: Scores,
    #[command(flatten)]
    pub palette: Palette,
}

#[derive(Debug, Subcommand)]
pub enum Loss {
    /// Cross-entropy straight from logits, as torch.nn.CrossEntropyLoss
    CrossEntropy(CrossEntropy),
    /// Binary cross-entropy straight from logits, as torch.nn.BCEWithLogitsLoss
    Bce(Bce),
    /// One less the Dice score of regions, 2 Σ p t / (Σ p + Σ t), as dice_score.py of pytorch-unet
    Dice(Dice),
    /// One less the Jaccard index of regions, Σ p t / (Σ p + Σ t − Σ p t)
    Jaccard(Jaccard),
    /// One less the Tversky score of regions, Σ p t / (Σ p t + α Σ p (1 − t) + β Σ (1 − p) t)
    Tversky(Tversky),
    /// Focal loss, a cross-entropy that counts less the surer a prediction is of its target
    Focal(Focal),
    /// A weighted sum of the other losses, such as 0.5 of bce and 0.5 of dice
    Sum(LossSum),
}

#[derive(Args, Debug)]
pub struct LossSum {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Target labels, H×W or N×H×W: an integer .npy, or a grey or paletted PNG, of a single class 0 and 1; or a float .npy
    /// shaped like LOGITS, if every loss takes that
    pub target: String,
    /// A loss times its weight, with its options, such as '0.5*dice --smooth 1'; once for each loss
    #[arg(long = "term", required = true, value_name = "W*LOSS", allow_hyphen_values = true)]
    pub terms: Vec<String>,
    /// Pixels with this target label count for nothing in any loss
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// Write the sum, a float32 .npy scalar
    #[arg(short, long, value_name = "F.npy")]
    pub output: Option<String>,
    /// Write the gradient of the sum with respect to the logits, float32 .npy shaped like LOGITS
    #[arg(long, value_name = "F.npy")]
    pub grad: Option<String>,
}

/// A loss of a sum, as its own arguments.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true, subcommand_required = true)]
pub struct LossOfSum {
    #[command(subcommand)]
    pub loss: Loss,
}

#[derive(Args, Debug)]
pub struct Focal {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Target labels, H×W or N×H×W: an integer .npy, or a grey or paletted PNG; with --activation sigmoid also a float
    /// .npy shaped like LOGITS
    pub target: String,
    /// What the classes are to one another: sigmoid is torchvision.ops.sigmoid_focal_loss [default: softmax, of a single
    /// class sigmoid]
    #[arg(long)]
    pub activation: Option<FocalActivation>,
    /// How much less a sure prediction counts
    #[arg(long, default_value_t = 2.0, value_name = "G", allow_negative_numbers = true)]
    pub gamma: f32,
    /// With softmax a factor; with sigmoid the weight of positive targets beside 1 − A of negative ones, in torchvision
    /// 0.25 [default: none]
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    pub alpha: Option<f32>,
    /// Pixels with this target label count for nothing, with softmax [default: -100]
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// How the losses of the pixels, with sigmoid of the elements, become the result: their mean, their sum, or each
    #[arg(long, default_value = "mean", hide_possible_values = true, value_name = "mean|sum|none")]
    pub reduction: Reduction,
    /// Write the result, float32 .npy: for none of every pixel, with sigmoid of every element, else a scalar
    #[arg(short, long, value_name = "F.npy", required_if_eq("reduction", "none"))]
    pub output: Option<String>,
    /// Write the gradient of the result with respect to the logits, for none of the sum, float32 .npy shaped like LOGITS
    #[arg(long, value_name = "F.npy")]
    pub grad: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FocalActivation {
    /// One class a pixel
    Softmax,
    /// Independent labels
    Sigmoid,
}

#[derive(Args, Debug)]
pub struct Dice {
    #[command(flatten)]
    pub region: RegionLoss,
}

#[derive(Args, Debug)]
pub struct Jaccard {
    #[command(flatten)]
    pub region: RegionLoss,
}

#[derive(Args, Debug)]
pub struct Tversky {
    #[command(flatten)]
    pub region: RegionLoss,
    /// The weight α of what is predicted and should not be
    #[arg(long, default_value_t = 0.5, value_name = "A", allow_negative_numbers = true)]
    pub alpha: f32,
    /// The weight β of what is missed
    #[arg(long, default_value_t = 0.5, value_name = "B", allow_negative_numbers = true)]
    pub beta: f32,
}

/// What losses of regions share.
#[derive(Args, Debug)]
pub struct RegionLoss {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Target labels, H×W or N×H×W: an integer .npy, or a grey or paletted PNG, of a single class 0 and 1; or a float
    /// .npy shaped like LOGITS
    pub target: String,
    /// What makes probabilities p of the logits [default: softmax, of a single class sigmoid]
    #[arg(long)]
    pub activation: Option<Activation>,
    /// What is added to numerator and denominator
    #[arg(long, default_value_t = 1e-6, value_name = "S", allow_negative_numbers = true)]
    pub smooth: f32,
    /// What is a region: every class of every image, or a class of all images, all classes of an image, or everything
    #[arg(long, default_value = "class-of-image")]
    pub region: Region,
    /// Pixels with this target label count for nothing
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// How the losses of the regions become the result: their mean, their sum, or each of them
    #[arg(long, default_value = "mean", hide_possible_values = true, value_name = "mean|sum|none")]
    pub reduction: Reduction,
    /// Write the result, float32 .npy: for none that of every region, N×C, C, N or a scalar, else a scalar
    #[arg(short, long, value_name = "F.npy", required_if_eq("reduction", "none"))]
    pub output: Option<String>,
    /// Write the gradient of the result with respect to the logits, for none of the sum, float32 .npy shaped like LOGITS
    #[arg(long, value_name = "F.npy")]
    pub grad: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Region {
    /// Sums over the pixels of an image
    ClassOfImage,
    /// Sums over the pixels of all images: smp's losses, or dice_coeff with reduce_batch_first for each class
    Class,
    /// Sums over the pixels and classes of an image
    Image,
    /// Sums over everything: dice_loss of pytorch-unet
    Batch,
}

#[derive(Args, Debug)]
pub struct CrossEntropy {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Target labels, H×W or N×H×W: an integer .npy, or a grey or paletted PNG; or soft targets, a float .npy shaped
    /// like LOGITS with a probability for every class
    pub target: String,
    /// A weight per class: a .npy file or a list
    #[arg(long, value_name = "F|w0,w1,…", allow_hyphen_values = true)]
    pub class_weights: Option<String>,
    /// Pixels with this target label count for nothing [default: -100]
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// The share of the target that goes to all classes alike, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "E", allow_negative_numbers = true)]
    pub label_smoothing: f32,
    /// Upsample the logits to the size of the labels, where a pixel of the labels lies on the logits like this; they are
    /// never stored at that size
    #[arg(long)]
    pub resize: Option<Resize>,
    /// How the losses of the pixels become the result
    #[arg(long, default_value = "mean")]
    pub reduction: Reduction,
    /// Write the result, float32 .npy: of every pixel of the labels for none, else a scalar
    #[arg(short, long, value_name = "F.npy", required_if_eq("reduction", "none"))]
    pub output: Option<String>,
    /// Write the gradient of the result, of the sum for none, with respect to the logits: float32 .npy, as LOGITS
    #[arg(long, value_name = "F.npy")]
    pub grad: Option<String>,
}

#[derive(Args, Debug)]
pub struct Bce {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub logits: String,
    /// Targets, a float .npy shaped like LOGITS; or labels, H×W or N×H×W, an integer .npy, or a grey or paletted PNG:
    /// with one class 0 and 1 are the targets, with more the target is 1 for the labelled class and 0 for the others
    pub target: String,
    /// A weight of positive targets per class: a .npy file or a list
    #[arg(long, value_name = "F|w0,w1,…", allow_hyphen_values = true)]
    pub pos_weight: Option<String>,
    /// A weight per class, of positive and negative targets: a .npy file or a list
    #[arg(long, value_name = "F|w0,w1,…", allow_hyphen_values = true)]
    pub class_weights: Option<String>,
    /// Pixels with this target label count for nothing [default: -100]
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// How the losses of the elements become the result
    #[arg(long, default_value = "mean")]
    pub reduction: Reduction,
    /// Write the result, float32 .npy: shaped like the logits for none, else a scalar
    #[arg(short, long, value_name = "F.npy", required_if_eq("reduction", "none"))]
    pub output: Option<String>,
    /// Write the gradient of the result, of the sum for none, with respect to the logits: float32 .npy, as LOGITS
    #[arg(long, value_name = "F.npy")]
    pub grad: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reduction {
    /// Σ loss / Σ class weight; of soft targets, Σ loss / number of pixels; for bce, of elements
    Mean,
    /// Σ loss
    Sum,
    /// The loss of every pixel; for bce, of every element
    None,
}

#[derive(Args, Debug)]
pub struct Eval {
    /// A folder of logits, C×H×W or N×C×H×W: .npy, or .npz or .safetensors of a single array
    #[arg(value_name = "LOGITS_DIR", required_unless_present = "merge", requires = "labels")]
    pub logits: Option<String>,
    /// A folder of labels, H×W or N×H×W: integer .npy, or grey or paletted PNGs; of the same names up to the first dot,
    /// and of any size: logits are upsampled to it. It may be the folder of the logits, if files are called x.logits.npy
    /// and x.labels.png
    #[arg(value_name = "LABELS_DIR")]
    pub labels: Option<String>,
    /// Pixels with this label count for nothing
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// The names of the classes, a line each
    #[arg(long, value_name = "NAMES.txt")]
    pub classes: Option<String>,
    /// Where on the logits a pixel of the labels lies
    #[arg(long, default_value = "half-pixel")]
    pub resize: Resize,
    /// What a class adds to a mean where its score is 0 / 0, as the IoU of one that neither occurs nor is predicted
    #[arg(long, default_value = "skip")]
    pub absent: Absent,
    /// Count how often the network is right when it is so sure, in B equal bins of confidence, 15 if there is no number:
    /// the expected calibration error. With --report this is done anyway
    #[arg(
        long,
        value_name = "B",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "15",
        value_parser = clap::value_parser!(u32).range(1..=65536),
    )]
    pub calibration: Option<u32>,
    /// Score the boundaries of the classes too, which may be PX pixels from where they should be, 0 to 255
    #[arg(long, value_name = "PX", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=255))]
    pub boundary: Option<u32>,
    /// Write the confusion matrix, a row for each target: uint64 .npy, or a .png picture of the shares of the rows; may be
    /// given several times
    #[arg(long, value_name = "F")]
    pub confusion: Vec<String>,
    /// Write the scores of every image
    #[arg(long, value_name = "F")]
    pub csv: Option<String>,
    /// Write a page with the scores, the reliability diagram, the confusion matrix and the worst images, index.html, to this folder; it needs no
    /// other file. Photos of the same names and sizes, beside the logits or the labels, are shown under the classes
    #[arg(long, value_name = "DIR")]
    pub report: Option<String>,
    #[command(flatten)]
    pub palette: Palette,
    /// Evaluate only every N-th image, from the I-th on, 1 to N
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<(u32, u32)>,
    /// Write all that was counted, for --merge
    #[arg(long, value_name = "F")]
    pub save_state: Option<String>,
    /// Report what several runs have counted, each of a part of the images: exactly what a run over all would
    #[arg(
        long,
        value_name = "F",
        num_args = 1..,
        conflicts_with_all = ["logits", "labels", "ignore_index", "resize", "calibration", "boundary", "shard"],
    )]
    pub merge: Vec<String>,
}

/// What a score of 0 / 0 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Absent {
    /// It is left out of the mean
    Skip,
    /// 0
    Zero,
    /// 1
    One,
}

impl From<Absent> for seghead::Absent {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Skip => Self::Skip,
            Absent::Zero => Self::Zero,
            Absent::One => Self::One,
        }
    }
}

impl From<Resize> for seghead::Resize {
    fn from(resize: Resize) -> Self {
        match resize {
            Resize::HalfPixel => Self::HalfPixel,
            Resize::AlignCorners => Self::AlignCorners,
            Resize::Asymmetric => Self::Asymmetric,
        }
    }
}

#[derive(Args, Debug)]
pub struct Inspect {
    /// Logits, C×H×W or N×C×H×W: .npy, FILE.npz:NAME or FILE.safetensors:NAME
    pub tensor: String,
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|&side: &u32| side > 0);
    let parsed = text.split_once(['x', 'X']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
    parsed.ok_or_else(|| "expected width x height, such as 640x480, each above 0 and below 2³²".to_owned())
}

fn parse_shape(text: &str) -> Result<[u32; 4], String> {
    let sides: Option<Vec<u32>> =
        text.split(['x', 'X']).map(|side| side.parse().ok().filter(|&side| side > 0)).collect();
    match sides.as_deref() {
        Some(&[classes, height, width]) => Ok([1, classes, height, width]),
        Some(&[images, classes, height, width]) => Ok([images, classes, height, width]),
        _ => Err("expected C×H×W or N×C×H×W, such as 21x512x512, each above 0 and below 2³²".to_owned()),
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale: &f64| *scale > 0.0 && scale.is_finite());
    scale.ok_or_else(|| "expected a number above 0".to_owned())
}

fn parse_shard(text: &str) -> Result<(u32, u32), String> {
    let parse = || {
        let (which, of) = text.split_once('/')?;
        let (which, of) = (which.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&which).then_some((which, of))
    };
    parse().ok_or_else(|| "expected I/N with I in 1..=N, such as 1/3".to_owned())
}

fn parse_rectangle(text: &str) -> Result<Rectangle, String> {
    let parse = || {
        let (size, place) = text.split_once('+')?;
        let ((width, height), (left, top)) = (parse_size(size).ok()?, place.split_once('+')?);
        Some(Rectangle { width, height, left: left.parse().ok()?, top: top.parse().ok()? })
    };
    parse().ok_or_else(|| "expected width x height + column + row of the first pixel, such as 160x90+0+35".to_owned())
}

/// Refuses a value of `option` that is no share.
pub fn check_share(option: &str, value: f32) -> Result<(), crate::error::Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(crate::error::Error::Usage(format!("{option}: expected a number in 0..=1, found {value}")))
}
