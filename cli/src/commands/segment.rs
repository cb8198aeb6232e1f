//! `seghead segment`: labels and scores at full resolution, or with the sigmoid the masks of all classes.

use seghead::{Gpu, Logits, Masks};
use serde_json::json;

use super::{add_labels, add_scores, label, look, number, open_gpu, planned, print, tell_written};
use crate::args::{Activation, Blend, Common, Rectangle, Segment, check_share};
use crate::error::Error;
use crate::files::labels::{LabelValues, write_labels};
use crate::files::output::{Content, Outputs};
use crate::files::overlay::{Classes, Look};
use crate::files::palette::Colours;
use crate::files::picture::{Picture, read_picture, write_picture};
use crate::files::tensor::write_tensor;
use crate::input::Input;
use crate::lint::{self, Check};
use crate::progress::Progress;
use crate::summary::{ClassSummary, summarise};

pub fn run(args: &Segment, common: &Common) -> Result<(), Error> {
    check_share("--alpha", args.look.alpha)?;
    if let Some(threshold) = args.threshold {
        check_share("--threshold", threshold)?;
    }
    let scores = [&args.scores.confidence, &args.scores.margin, &args.scores.entropy];
    if args.activation == Activation::Sigmoid && scores.iter().any(|path| path.is_some()) {
        let message = "--confidence, --margin and --entropy are of a softmax: expected no --activation sigmoid, which has \
                       --scores";
        return Err(Error::Usage(message.to_owned()));
    }
    if args.activation != Activation::Sigmoid && args.threshold.is_some() && args.overlay.is_none() {
        let message = "--threshold: expected --overlay, which shows what is uncertain, or --activation sigmoid";
        return Err(Error::Usage(message.to_owned()));
    }
    if (args.look.outline > 0 || args.look.blend == Blend::Linear) && args.overlay.is_none() {
        return Err(Error::Usage("--outline and --blend: expected --overlay, which they are of".to_owned()));
    }
    let palette = args.look.palette.palette.as_deref();
    let colours = Colours::new(palette)?;
    let inputs = [Some(args.logits.as_str()), args.image.as_deref(), Colours::path(palette)];
    let inputs: Vec<_> = inputs.into_iter().flatten().collect();
    let mut outputs = planned(&args.scores);
    let planes = args.activation == Activation::Sigmoid;
    outputs.extend(args.labels.as_deref().map(|path| (path, Content::Map)));
    outputs.extend(args.overlay.as_deref().map(|path| (path, Content::Picture)));
    outputs.extend(args.all_scores.as_deref().map(|path| (path, Content::Array)));
    Outputs::check(&inputs, &outputs)?;
    let progress = Progress::start("segmenting", common);
    let mut job = Job::open(args, common)?;
    // A mask has the labels 0 and 1.
    colours.check(if planes { job.logits.classes().max(2) } else { job.logits.classes() })?;
    let gpu = open_gpu(common)?;
    let found = if planes { job.multi_label(args, &colours, &gpu)? } else { job.one_label(args, &colours, &gpu)? };
    let check = if planes { Check::Sigmoid } else { Check::Softmax };
    let warnings = lint::warn(&gpu, &mut job.input, check, common);
    found.outputs.commit()?;
    drop(progress);
    if !found.written.is_empty() {
        tell_written(common, &found.written);
    }

    let mut text = String::from("class     pixels   share  confidence\n");
    for class in found.summary.iter().filter(|class| class.pixels > 0) {
        let (share, confidence) = (100.0 * class.share, class.confidence);
        let confidence = if planes { "-".to_owned() } else { format!("{confidence:.4}") };
        text += &format!("{:5} {:10} {share:6.2}%  {confidence:>10}\n", class.class, class.pixels);
    }
    let classes: Vec<_> = found
        .summary
        .iter()
        .map(|class| {
            let confidence = number(class.confidence);
            json!({ "class": class.class, "pixels": class.pixels, "share": class.share, "confidence": confidence })
        })
        .collect();
    print(
        common,
        &json!({ "shape": found.shape, "classes": classes, "warnings": warnings, "adapter": gpu.adapter_info().name }),
        &text,
    )
}

/// What is to be segmented, and to which size.
struct Job {
    input: Input,
    logits: Logits,
    photo: Option<Picture>,
    height: u32,
    width: u32,
    resize: seghead::Resize,
}

/// What was found, to be written.
struct Found<'a> {
    outputs: Outputs,
    written: Vec<&'a str>,
    /// The dimensions of the label map, or of the masks.
    shape: Vec<usize>,
    summary: Vec<ClassSummary>,
}

impl Job {
    fn open(args: &Segment, common: &Common) -> Result<Self, Error> {
        let input = Input::open(&args.logits, common)?;
        let photo = args.image.as_deref().map(read_picture).transpose()?;
        let logits = match args.crop {
            Some(Rectangle { width, height, left, top }) => {
                input.logits.crop(top, left, height, width).map_err(|_| {
                    let (all, path) = (input.logits, &args.logits);
                    let inside = format!("{}x{}", all.width(), all.height());
                    let found = format!("{width}x{height}+{left}+{top}");
                    Error::Usage(format!("--crop: expected pixels inside the {inside} of {path}, found {found}"))
                })?
            }
            None => input.logits,
        };
        let (width, height) = match (&photo, args.size) {
            (Some(photo), _) => (photo.width as u32, photo.height as u32),
            (None, Some(size)) => size,
            (None, None) => (logits.width(), logits.height()),
        };
        if args.overlay.is_some() && logits.images() != 1 {
            let message = format!("{}: expected one image for --overlay, found {}", args.logits, logits.images());
            return Err(Error::Usage(message));
        }
        Ok(Self { input, logits, photo, height, width, resize: args.resize.into() })
    }

    /// One class a pixel: the one with the largest logit.
    fn one_label<'a>(&mut self, args: &'a Segment, colours: &Colours, gpu: &Gpu) -> Result<Found<'a>, Error> {
        let segment = seghead::Segment::new(self.height, self.width)
            .resize(self.resize)
            .confidence(true)
            .margin(args.scores.margin.is_some())
            .entropy(args.scores.entropy.is_some());
        let classes = self.logits.classes();
        let found = segment.run_blocking(gpu, &self.logits, self.input.reader());
        let found = found.map_err(|error| self.input.error(error))?;
        let shape = self.input.map_shape(self.height, self.width);
        let (mut outputs, mut written) = (Outputs::new(), Vec::new());
        if let Some(path) = &args.labels {
            add_labels(&mut outputs, path, &shape, &found.labels, colours)?;
            written.push(path.as_str());
        }
        written.extend(add_scores(&mut outputs, &args.scores, &shape, &found, classes)?);
        if let (Some(path), Some(photo)) = (&args.overlay, &self.photo) {
            let threshold = args.threshold.unwrap_or(0.0);
            let confidence = found.confidence.as_deref().unwrap_or_default();
            // What is NaN is not certain either.
            let uncertain = |pixel: usize| !confidence.get(pixel).is_some_and(|&confidence| confidence >= threshold);
            let classes = Classes {
                class: &|pixel| label(&found.labels, pixel),
                uncertain: args.threshold.is_some().then_some(&uncertain),
            };
            let look = Look { hidden: &args.hidden, ..look(&args.look, colours, args.legend) };
            write_picture(&mut outputs, path, &look.draw(photo, &classes))?;
            written.push(path);
        }
        if let Some(path) = &args.all_scores {
            let scores = self.interpolated(gpu, args.activation.into())?;
            write_tensor(&mut outputs, path, &self.input.tensor_shape(self.height, self.width), &scores)?;
            written.push(path);
        }
        Ok(Found { outputs, written, shape, summary: summarise(classes, &found) })
    }

    /// Any classes a pixel: those whose sigmoid reaches the threshold.
    fn multi_label<'a>(&mut self, args: &'a Segment, colours: &Colours, gpu: &Gpu) -> Result<Found<'a>, Error> {
        let full = self.interpolated(gpu, seghead::Activation::None)?;
        let result = seghead::Interpolate::new(self.height, self.width).output(&self.logits)?;
        let threshold = args.threshold.unwrap_or(0.5);
        let operator = seghead::MultiLabel::new().threshold(threshold).format(seghead::MaskFormat::Bytes);
        let masks = operator.run_blocking(gpu, &result, &full).map_err(|error| self.input.error(error))?;
        let (classes, pixels) = (self.logits.classes() as usize, self.height as usize * self.width as usize);
        let Masks::Bytes(planes) = masks else {
            return Err(Error::Usage("--labels: expected masks of bytes".to_owned()));
        };

        // N×C×H×W, or without C where there is a single class, which is a label map of 0 and 1.
        let mut shape = self.input.map_shape(self.height, self.width);
        if classes > 1 {
            shape.insert(shape.len() - 2, classes);
        }
        let (mut outputs, mut written) = (Outputs::new(), Vec::new());
        if let Some(path) = &args.labels {
            write_labels(&mut outputs, path, &shape, LabelValues::U8(&planes), colours)?;
            written.push(path.as_str());
        }
        if let (Some(path), Some(photo)) = (&args.overlay, &self.photo) {
            // Of several classes the likeliest, which is there if any is.
            let best = seghead::Argmax::new().run_blocking(gpu, &result, &full)?.labels;
            let class = |pixel: usize| {
                let class = label(&best, pixel)?;
                let present = planes[class as usize * pixels + pixel] != 0;
                // A mask is shown as its label 1.
                present.then_some(if classes == 1 { 1 } else { class })
            };
            let classes = Classes { class: &class, uncertain: None };
            let look = Look { hidden: &args.hidden, ..look(&args.look, colours, args.legend) };
            write_picture(&mut outputs, path, &look.draw(photo, &classes))?;
            written.push(path);
        }
        if let Some(path) = &args.all_scores {
            let scores = seghead::Sigmoid::new().run_blocking(gpu, &result, &full)?;
            write_tensor(&mut outputs, path, &self.input.tensor_shape(self.height, self.width), &scores)?;
            written.push(path);
        }
        let count = |class: usize| {
            let of_class = planes.chunks_exact(pixels).skip(class).step_by(classes);
            of_class.flatten().filter(|&&present| present != 0).count() as u64
        };
        let all = (self.logits.images() as usize * pixels) as f64;
        let summary = (0..classes).map(|class| {
            let pixels = count(class);
            ClassSummary { class: class as u32, pixels, share: pixels as f64 / all, confidence: f64::NAN }
        });
        Ok(Found { outputs, written, shape, summary: summary.collect() })
    }

    /// All classes at full size.
    fn interpolated(&mut self, gpu: &Gpu, activation: seghead::Activation) -> Result<Vec<f32>, Error> {
        let operator = seghead::Interpolate::new(self.height, self.width).resize(self.resize).activation(activation);
        let scores = operator.run_blocking(gpu, &self.logits, self.input.reader());
        scores.map_err(|error| self.input.error(error))
    }
}
