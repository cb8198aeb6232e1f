use wgpu::BufferBinding;

use crate::bands::MAP_CHUNK;
use crate::dispatch::Bound;
use crate::kernel::{Access, Kernel, Params, Scores, Specialisation, binding};
use crate::map::MapPart;
use crate::{Dispatch, ElementType, Error, Gpu, LabelType, Map};

const SOURCE: &str = include_str!("../../shaders/class_statistics.wgsl");

/// Makes the records those of classes without pixels.
pub(crate) static CLEAR: Kernel = Kernel {
    name: "class statistics clear",
    source: SOURCE,
    entry: "clear",
    class_walks: 1,
    bindings: &[binding::CLASS_RECORDS],
    specialisations: |_| [false, true].map(|confidence| specialise(LabelType::U8, confidence)).to_vec(),
};

/// Adds the pixels of a map to the records.
pub(crate) static COUNT: Kernel = Kernel {
    name: "class statistics count",
    source: SOURCE,
    entry: "count",
    class_walks: 1,
    bindings: &[binding::LABELS_IN, binding::CONFIDENCE_IN, binding::CLASS_RECORDS],
    specialisations: |_| {
        let labels = [LabelType::U8, LabelType::U32].into_iter();
        labels.flat_map(|labels| [false, true].map(|confidence| specialise(labels, confidence))).collect()
    },
};

fn specialise(labels: LabelType, confidence: bool) -> Specialisation {
    let scores = Scores { confidence, ..Scores::NONE };
    Specialisation { labels, scores, ..Specialisation::new(Access::Vec4, ElementType::F32, 0) }
}

/// Groups of four pixels that an invocation walks, `STRETCH` in `shaders/class_statistics.wgsl` and in
/// `shaders/confusion_matrix.wgsl`.
pub(super) const STRETCH: u32 = 64;

/// Bytes of a [`ClassRecord`].
const RECORD: u64 = size_of::<ClassRecord>() as u64;

/// Confidences are added up in units of 1 / SCALE.
const SCALE: f64 = (1 << 24) as f64;

/// What there is of every class in a map of labels: how many pixels, where, and how sure the network is of them. For an
/// application that wants no picture but a few numbers a frame, of which it reads back 48 bytes for each class.
///
/// Reads labels, and confidences if there are any, as [`Argmax`](crate::Argmax) and [`Segment`](crate::Segment) write
/// them, and leaves N × C [`ClassRecord`]s. A label that is no class, such as 255 for void, counts for nothing. All is
/// added up in integers: the same map gives the same records on every adapter, whatever the order of the work. The twin
/// is [`reference::class_statistics`](crate::reference::class_statistics).
///
/// ```
/// use seghead::wgpu::{self, BufferUsages};
/// use seghead::{BoundingBox, ClassRecord, ClassStatistics, Gpu, GpuOptions, LabelType, Logits, Readback};
///
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let buffer = |size, usage| gpu.device().create_buffer(&wgpu::BufferDescriptor {
///     label: None,
///     size,
///     usage: BufferUsages::STORAGE | usage,
///     mapped_at_creation: false,
/// });
/// // Labels as `Argmax` has just left them on the GPU: 2 × 4 pixels, some of them void.
/// let map = Logits::chw(3, 2, 4)?.map();
/// let labels = buffer(map.bytes(8), BufferUsages::COPY_DST);
/// gpu.queue().write_buffer(&labels, 0, &[0, 0, 2, 255, 0, 2, 2, 255]);
///
/// let statistics = ClassStatistics::new(3);
/// let records = buffer(statistics.bytes(&map), BufferUsages::COPY_SRC);
/// let (from, to) = (labels.as_entire_buffer_binding(), records.as_entire_buffer_binding());
/// let dispatch = statistics.dispatch(&gpu, &map, from, LabelType::U8, None, to)?;
///
/// let mut readback = Readback::new(&gpu, statistics.bytes(&map))?;
/// let mut encoder = gpu.device().create_command_encoder(&Default::default());
/// dispatch.record(&mut encoder);
/// readback.record(&mut encoder, records.as_entire_buffer_binding())?;
/// gpu.queue().submit([encoder.finish()]);
/// let found = readback.read_blocking(&gpu, |bytes| bytemuck::cast_slice::<u8, ClassRecord>(bytes).to_vec())?;
/// assert_eq!(found.iter().map(|class| class.pixels).collect::<Vec<_>>(), [3, 0, 3]);
/// assert_eq!(found[2].bounding_box()?, BoundingBox { top: 0, left: 1, height: 2, width: 2 });
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassStatistics {
    classes: u32,
}

impl ClassStatistics {
    /// The operator for labels of `classes` classes, 0 and up.
    pub fn new(classes: u32) -> Self {
        Self { classes }
    }

    /// Bytes of the records that a [`dispatch`](Self::dispatch) for `map` writes, N × C × 48.
    ///
    /// ```
    /// use seghead::{ClassStatistics, Logits};
    /// let map = Logits::nchw(2, 21, 720, 1280)?.map();
    /// assert_eq!(ClassStatistics::new(21).bytes(&map), 2 * 21 * 48);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn bytes(&self, map: &Map) -> u64 {
        u64::from(map.images()) * u64::from(self.classes) * RECORD
    }

    /// Makes the work ready to be recorded: reads `labels`, [`Map::bytes`]`(label_type.bits())` bytes, and
    /// `confidence`, f32 in `Map::bytes(32)` bytes, both with the geometry of `map`, and writes `records`,
    /// [`bytes`](Self::bytes) bytes: N × C [`ClassRecord`]s.
    ///
    /// Every time that it is recorded it starts from nothing.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`], [`Error::Usage`], [`Error::Aliased`], [`Error::OtherDevice`] for buffers that do
    /// not fit; [`Error::Empty`] for no classes; [`Error::LabelType`] for more than the labels tell apart;
    /// [`Error::Limit`] for records that this device cannot bind.
    pub fn dispatch(
        &self,
        gpu: &Gpu,
        map: &Map,
        labels: BufferBinding<'_>,
        label_type: LabelType,
        confidence: Option<BufferBinding<'_>>,
        records: BufferBinding<'_>,
    ) -> Result<Dispatch, Error> {
        if self.classes == 0 {
            return Err(Error::Empty { what: "classes" });
        }
        label_type.check(self.classes)?;
        let records = Bound::new(gpu, binding::CLASS_RECORDS, records, self.bytes(map))?;
        let needed = u64::from(map.images()) * u64::from(self.classes);
        let elements = u32::try_from(needed).map_err(|_| Error::Limit {
            what: "records of classes",
            needed,
            limit: u32::MAX.into(),
        })?;
        let has_confidence = confidence.is_some();
        let mut dispatch = Dispatch::new();
        let clear = (&CLEAR, specialise(LabelType::U8, has_confidence));
        let params = Params { elements, ..Params::default() };
        dispatch.push(gpu, clear, params, std::slice::from_ref(&records), (elements, 1))?;
        let bits = label_type.bits();
        for Part { image, images, group, groups } in parts(gpu, map, if has_confidence { 32 } else { bits })? {
            let part = MapPart::groups(map, image..image + images, group..group + groups);
            let labels = Bound::part(gpu, binding::LABELS_IN, labels.clone(), map.bytes(bits), part.bytes(bits))?;
            let confidence = match &confidence {
                Some(buffer) => {
                    Bound::part(gpu, binding::CONFIDENCE_IN, buffer.clone(), map.bytes(32), part.bytes(32))?
                }
                None => Bound::placeholder(gpu, binding::CONFIDENCE_IN),
            };
            let params = Params {
                groups,
                row_pixels: map.width(),
                rows: map.height(),
                image_stride: map.image_stride(),
                row_stride: map.row_stride(),
                offset: 4 * group,
                map_groups: map.image_stride() / 4,
                map_offset: part.offset(),
                out_image_stride: self.classes,
                out_offset: image * self.classes,
                ..Params::default()
            };
            let count = (&COUNT, specialise(label_type, has_confidence));
            let buffers = [labels, confidence, records.clone()];
            dispatch.push(gpu, count, params, &buffers, (groups.div_ceil(STRETCH), images))?;
        }
        Ok(dispatch)
    }
}

/// Groups of each of some images that are bound at once.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub image: u32,
    pub images: u32,
    pub group: u32,
    pub groups: u32,
}

/// Splits a map with elements of `bits`: into what can be bound at a time, images or stretches of one.
pub(super) fn parts(gpu: &Gpu, map: &Map, bits: u32) -> Result<Vec<Part>, Error> {
    let limit = gpu.limits().max_storage_buffer_binding_size;
    let of_image = map.image_stride() / 4;
    if map.bytes(bits) <= limit {
        return Ok(vec![Part { image: 0, images: map.images(), group: 0, groups: of_image }]);
    }
    // Maps are bound from multiples of a chunk on.
    let group = u64::from(bits / 2);
    let most = u32::try_from(limit / group).unwrap_or(u32::MAX).saturating_sub(MAP_CHUNK);
    if of_image <= most {
        let images = most / of_image;
        let part = |image| Part { image, images: images.min(map.images() - image), group: 0, groups: of_image };
        return Ok((0..map.images()).step_by(images as usize).map(part).collect());
    }
    let most = most - most % STRETCH;
    if most == 0 {
        let needed = u64::from(STRETCH + MAP_CHUNK) * group;
        return Err(Error::Limit { what: "bytes of a stretch of pixels", needed, limit });
    }
    let of_images = (0..map.images()).flat_map(|image| {
        let starts = (0..of_image).step_by(most as usize);
        starts.map(move |group| Part { image, images: 1, group, groups: most.min(of_image - group) })
    });
    Ok(of_images.collect())
}

/// What [`ClassStatistics`] leaves on the GPU of one class in one image, 48 bytes.
///
/// Sums have 64 bits, the low word first. Rows and columns are counted from 0.
///
/// ```
/// use seghead::{ClassRecord, Error};
/// assert_eq!(size_of::<ClassRecord>(), 48);
/// let record = ClassRecord {
///     pixels: 2,
///     nan: 0,
///     row_sum: [10, 0],
///     column_sum: [7, 0],
///     confidence_sum: [3 << 22, 0],
///     first: [5, 3],
///     last: [5, 4],
/// };
/// assert_eq!(record.centroid()?, [5.0, 3.5]);
/// assert_eq!(record.mean_confidence()?, 0.375);
/// # Ok::<(), seghead::Error>(())
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ClassRecord {
    /// Number of pixels.
    pub pixels: u32,
    /// Number of pixels whose confidence is NaN; `u32::MAX` where no confidences were read.
    pub nan: u32,
    /// Σ of the pixels' rows.
    pub row_sum: [u32; 2],
    /// Σ of the pixels' columns.
    pub column_sum: [u32; 2],
    /// Σ of the pixels' confidences but NaN, each rounded to a multiple of 2⁻²⁴ (ties to even), in that unit.
    pub confidence_sum: [u32; 2],
    /// The first row and the first column with a pixel, `u32::MAX` where there is none.
    pub first: [u32; 2],
    /// The last row and the last column with a pixel, 0 where there is none.
    pub last: [u32; 2],
}

impl ClassRecord {
    /// The smallest rectangle that has all pixels in it.
    ///
    /// # Errors
    ///
    /// [`Error::NoPixels`] where there are none.
    pub fn bounding_box(&self) -> Result<BoundingBox, Error> {
        self.count("bounding box")?;
        let [top, left] = self.first;
        let [height, width] = [0, 1].map(|axis| self.last[axis].abs_diff(self.first[axis]).saturating_add(1));
        Ok(BoundingBox { top, left, height, width })
    }

    /// The mean row and the mean column of the pixels, where a pixel is at its indices, as in
    /// [`regionprops`](https://scikit-image.org/docs/stable/api/skimage.measure.html#skimage.measure.regionprops) of
    /// scikit-image and
    /// [`center_of_mass`](https://docs.scipy.org/doc/scipy/reference/generated/scipy.ndimage.center_of_mass.html) of
    /// SciPy: that of the first pixel alone is `[0.0, 0.0]`. Add ½ where pixels are squares whose first corner is at
    /// their indices.
    ///
    /// # Errors
    ///
    /// [`Error::NoPixels`] where there are none.
    pub fn centroid(&self) -> Result<[f64; 2], Error> {
        let pixels = self.count("centroid")?;
        Ok([self.row_sum, self.column_sum].map(|sum| number(sum) / pixels))
    }

    /// The mean confidence of the pixels, in 0..=1, within 2⁻²⁵ of that of the f32 confidences; those above ½ are added
    /// up exactly, and what is outside 0..=1 counts as the nearer end. NaN where one of them is, as in PyTorch.
    ///
    /// # Errors
    ///
    /// [`Error::NoPixels`] where there are none, [`Error::LeftOut`] where no confidences were read.
    pub fn mean_confidence(&self) -> Result<f64, Error> {
        let what = "mean confidence";
        let pixels = self.count(what)?;
        match self.nan {
            0 => Ok(number(self.confidence_sum) / SCALE / pixels),
            u32::MAX => Err(Error::LeftOut { what, needed: "confidence" }),
            _ => Ok(f64::NAN),
        }
    }

    /// The number of pixels, if there are any.
    fn count(&self, what: &'static str) -> Result<f64, Error> {
        match self.pixels {
            0 => Err(Error::NoPixels { what }),
            pixels => Ok(pixels.into()),
        }
    }
}

/// A sum of 64 bits, its low word first.
fn number([low, high]: [u32; 2]) -> f64 {
    ((u64::from(high) << 32) | u64::from(low)) as f64
}

/// A rectangle of pixels, as [`Logits::crop`](crate::Logits::crop) takes one.
///
/// ```
/// use seghead::{BoundingBox, Logits};
/// let BoundingBox { top, left, height, width } = BoundingBox { top: 1, left: 2, height: 3, width: 4 };
/// let cut = Logits::chw(21, 8, 8)?.crop(top, left, height, width)?;
/// assert_eq!((cut.height(), cut.width()), (3, 4));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BoundingBox {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// Number of rows.
    pub height: u32,
    /// Number of columns.
    pub width: u32,
}
