use wgpu::{Backends, BufferUsages, TextureFormat, TextureUsages};

/// What can go wrong, one variant a cause, with the numbers that tell why.
///
/// Every message is one line: it names the thing, what was expected and what was found.
///
/// ```
/// use seghead::{Error, Logits};
/// let error = Logits::chw(0, 4, 4).unwrap_err();
/// assert!(matches!(error, Error::Empty { what: "classes" }));
/// assert_eq!(error.to_string(), "classes: expected at least 1, found 0");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter of the backends that were tried answers to the name that was asked for.
    #[error("{}", no_adapter(*.tried, .name.as_deref(), .found))]
    NoAdapter {
        /// The backends that were tried.
        tried: Backends,
        /// The part of the name that was asked for, if any.
        name: Option<String>,
        /// The names of the adapters that are there.
        found: Vec<String>,
    },

    /// The adapter refused to open a device.
    #[error("adapter {adapter:?} opened no device: {source}")]
    RequestDevice {
        /// The name of the adapter.
        adapter: String,
        /// What wgpu says about it.
        source: wgpu::RequestDeviceError,
    },

    /// A dimension is zero.
    #[error("{what}: expected at least 1, found 0")]
    Empty {
        /// The dimension.
        what: &'static str,
    },

    /// A size that the arithmetic of the kernels, or a limit of the device, does not reach.
    #[error("{what}: {needed} needed, but the limit is {limit}")]
    Limit {
        /// The thing whose limit is passed, with its unit.
        what: &'static str,
        /// What would be needed.
        needed: u64,
        /// What there is.
        limit: u64,
    },

    /// A rectangle reaches beyond the pixels that it is taken from.
    #[error(
        "rectangle: expected one inside {height} × {width} pixels, found {} × {} from row {}, column {}",
        .found[2], .found[3], .found[0], .found[1]
    )]
    Rectangle {
        /// Rows that there are.
        height: u32,
        /// Columns that there are.
        width: u32,
        /// First row, first column, rows and columns of the rectangle.
        found: [u32; 4],
    },

    /// Rows are closer than they are long.
    #[error("row stride: expected at least {row} elements, found {found}")]
    Stride {
        /// Elements of a row.
        row: u32,
        /// The stride that was given.
        found: u32,
    },

    /// A slice on the host, or a vector of parameters, has the wrong number of elements.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// The slice.
        what: &'static str,
        /// The number of elements that the shape asks for.
        expected: u64,
        /// The number of elements that there are.
        found: u64,
    },

    /// A parameter is outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// The parameter.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value that was given.
        found: f32,
    },

    /// An operator that works on probabilities was told not to make any.
    #[error("activation of {what}: expected softmax or sigmoid, found none")]
    NoActivation {
        /// The operator.
        what: &'static str,
    },

    /// A binding is smaller than the shape asks for, or reaches beyond its buffer.
    #[error("buffer of {what}: {needed} bytes needed from offset {offset}, found {found}")]
    BufferTooSmall {
        /// What the buffer holds.
        what: &'static str,
        /// Where the binding starts, in bytes.
        offset: u64,
        /// The bytes that the shape asks for.
        needed: u64,
        /// The bytes that there are.
        found: u64,
    },

    /// A binding starts where this device cannot bind.
    #[error("buffer of {what}: offset {offset} is no multiple of {alignment}")]
    Misaligned {
        /// What the buffer holds.
        what: &'static str,
        /// Where the binding starts, in bytes.
        offset: u64,
        /// What the device asks for, in bytes.
        alignment: u64,
    },

    /// A buffer was created without a usage that it needs here.
    #[error("buffer of {what}: expected usage {needed:?}, found {found:?}")]
    Usage {
        /// What the buffer holds.
        what: &'static str,
        /// The usage that is needed.
        needed: BufferUsages,
        /// The usages that the buffer has.
        found: BufferUsages,
    },

    /// A ring of staging buffers cannot read back from this texture or buffer.
    #[error("read-back source: expected {expected}, found {found}")]
    Source {
        /// What can be read back, in words.
        expected: String,
        /// What was given, in words.
        found: String,
    },

    /// A buffer that is written is also read by the same dispatch, or written twice in overlapping ranges.
    ///
    /// WebGPU tracks whole buffers: a dispatch cannot read one range of a buffer and write another.
    #[error("{written} and {other}: expected separate buffers or textures, found the same one")]
    Aliased {
        /// What the written buffer holds.
        written: &'static str,
        /// What the other one holds.
        other: &'static str,
    },

    /// A texture was created without a usage that it needs here.
    #[error("texture of {what}: expected usage {needed:?}, found {found:?}")]
    TextureUsage {
        /// What the texture holds.
        what: &'static str,
        /// The usage that is needed.
        needed: TextureUsages,
        /// The usages that the texture has.
        found: TextureUsages,
    },

    /// A texture has a format that is not read or written here.
    #[error("texture of {what}: expected format {}, found {found:?}", formats(.expected))]
    TextureFormat {
        /// What the texture holds.
        what: &'static str,
        /// The formats that will do.
        expected: &'static [TextureFormat],
        /// The format that the texture has.
        found: TextureFormat,
    },

    /// A texture has another size than it needs to have here, or is none of two dimensions with one sample a pixel.
    #[error(
        "texture of {what}: expected {} × {} pixels in two dimensions with one sample, found {} × {}{}",
        .expected[0], .expected[1], .found[0], .found[1],
        if *.flat { "" } else { " of another dimension or with several samples" }
    )]
    TextureSize {
        /// What the texture holds.
        what: &'static str,
        /// The width and height that it needs to have.
        expected: [u32; 2],
        /// The width and height that it has.
        found: [u32; 2],
        /// Whether it has two dimensions and one sample a pixel.
        flat: bool,
    },

    /// A buffer or texture belongs to another device than the [`Gpu`](crate::Gpu).
    #[error("{what}: expected buffers and textures of this device, found one of another: {message}")]
    OtherDevice {
        /// The kernel or the copy that was to use it.
        what: &'static str,
        /// What wgpu says, with the labels of the resource and of the devices.
        message: String,
    },

    /// The classes do not fit the integer type of the labels.
    #[error("labels of {bits} bits: expected at most {limit} classes, found {classes}")]
    LabelType {
        /// The width of a label.
        bits: u32,
        /// The number of classes that such labels tell apart.
        limit: u32,
        /// The number of classes that there are.
        classes: u32,
    },

    /// A palette has fewer colours than there are classes.
    #[error("palette: expected a colour for each of {classes} classes, found {colours}")]
    Palette {
        /// The number of classes.
        classes: u32,
        /// The number of colours.
        colours: usize,
    },

    /// A class is asked for that is not there.
    #[error("class: expected one below {classes}, found {class}")]
    Class {
        /// The class that was asked for.
        class: u32,
        /// The number of classes.
        classes: u32,
    },

    /// More classes of a pixel are asked for than there are or can be kept, or none.
    #[error("k of top-k: expected 1..={limit} with {classes} classes, found {found}")]
    TopK {
        /// The most that can be asked for.
        limit: u32,
        /// The number of classes that there are.
        classes: u32,
        /// The k that was given.
        found: u32,
    },

    /// A target label is neither a class nor the ignore index.
    #[error("target[{position}]: expected a class below {classes} or the ignore index, found label {label}")]
    Label {
        /// The index of the first such pixel in the target, images one after another.
        position: u64,
        /// The label there.
        label: i64,
        /// The number of classes.
        classes: u32,
    },

    /// A predicted label is no class.
    #[error("prediction[{position}]: expected a class below {classes}, found label {label}")]
    Prediction {
        /// The index of the first such pixel in the predictions.
        position: u64,
        /// The label there.
        label: i64,
        /// The number of classes.
        classes: u32,
    },

    /// Things that go together have different numbers of classes.
    #[error("{what}: expected {expected} classes, found {found}")]
    Classes {
        /// The thing.
        what: &'static str,
        /// The number of classes that the other thing has.
        expected: u32,
        /// The number of classes that it has.
        found: u32,
    },

    /// A value of a class's pixels is asked for, and there are none.
    #[error("{what}: expected a class with pixels, found none")]
    NoPixels {
        /// The value.
        what: &'static str,
    },

    /// A value is asked for that was not computed, since the buffer that it is made of was left out.
    #[error("{what}: expected a dispatch with a buffer of {needed}, found one without")]
    LeftOut {
        /// The value.
        what: &'static str,
        /// What the buffer holds.
        needed: &'static str,
    },

    /// A line of the text of a palette is none of those that [`Palette::parse`](crate::Palette::parse) reads.
    #[error("line {line} of the palette: expected {expected}, found {found:?}")]
    PaletteLine {
        /// The number of the line, from 1.
        line: usize,
        /// What such a line may be.
        expected: &'static str,
        /// The start of the line.
        found: String,
    },

    /// What reads the logits for [`Input::reader`](crate::Input::reader) failed.
    #[error("the logits cannot be read: {0}")]
    Input(std::io::Error),

    /// The device has no memory for a buffer of this size.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory {
        /// What the buffer should hold.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },

    /// The device refused work of a one-shot function, as one that was lost or destroyed does.
    #[error("the device refused the work: {0}")]
    Device(String),

    /// A staging buffer could not be mapped, for example because the device was lost.
    #[error("read-back failed: {}", one_line(.0))]
    Map(#[from] wgpu::BufferAsyncError),

    /// The mapped bytes of a staging buffer could not be viewed.
    #[error("read-back failed: {}", one_line(.0))]
    MapRange(#[from] wgpu::MapRangeError),

    /// The device stopped before it had called back.
    #[error("read-back failed: the device went away before it answered")]
    Abandoned,

    /// Waiting for the device failed.
    #[error("waiting for the device failed: {0}")]
    Poll(#[from] wgpu::PollError),
}

impl Error {
    /// What a device says, in one line, against resources that it was to use.
    pub(crate) fn of_device(what: &'static str, message: String) -> Self {
        match message.contains("doesn't match Device") {
            true => Self::OtherDevice { what, message },
            false => Self::Device(message),
        }
    }
}

/// What wgpu says, which may be several lines, in one.
pub(crate) fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn formats(formats: &[TextureFormat]) -> String {
    let names: Vec<_> = formats.iter().map(|format| format!("{format:?}")).collect();
    names.join(" or ")
}

fn no_adapter(tried: Backends, name: Option<&str>, found: &[String]) -> String {
    let names = |backends: Backends| {
        let names: Vec<_> = backends.iter_names().map(|(name, _)| name.to_lowercase()).collect();
        names.join(", ")
    };
    if tried.is_empty() {
        let known = names(wgpu::Instance::enabled_backend_features());
        return format!("no GPU adapter: the backend that was asked for is none of this build's: {known}");
    }
    let tried = names(tried);
    match name {
        Some(name) if !found.is_empty() => {
            let found = found.join(", ");
            format!("no GPU adapter has {name:?} in its name (backends tried: {tried}): found {found}")
        }
        _ => format!(
            "no GPU adapter found (backends tried: {tried}): install a graphics driver, or a software one (Debian, \
             Ubuntu, Fedora: mesa-vulkan-drivers; Arch: vulkan-swrast)"
        ),
    }
}
