use std::ops::Range;

use crate::{Axis, Error, Map};

/// The type of the elements of logits on the GPU.
///
/// ```
/// use seghead::ElementType;
/// assert_eq!(ElementType::F16.bits(), 16);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats (IEEE 754 binary16), two to a 32-bit word, the first in its lower half. The kernels unpack them:
    /// the device needs no feature for it, and the arithmetic is that of f32.
    F16,
}

impl ElementType {
    /// Bits of one element.
    pub fn bits(self) -> u32 {
        match self {
            Self::F32 => 32,
            Self::F16 => 16,
        }
    }

    /// Bytes of one element.
    pub(crate) fn size(self) -> u64 {
        u64::from(self.bits() / 8)
    }
}

/// The shape of a tensor of logits, and where its elements lie.
///
/// `N × C × H × W` elements, class planes one after another ([`chw`](Self::chw), [`nchw`](Self::nchw)), or the classes of
/// every pixel next to one another ([`hwc`](Self::hwc), [`nhwc`](Self::nhwc)); images, rows and pixels packed. From such
/// a shape [`crop`](Self::crop) takes a rectangle, [`with_row_stride`](Self::with_row_stride) moves the rows apart, and
/// [`f16`](Self::f16) makes the elements halves. A `Logits` holds no data; it is what an operator needs to know about a
/// buffer or a slice.
///
/// Results that are tensors are f32 and lie where the logits do: they have the same strides. Maps, one value a pixel,
/// have the geometry of [`map`](Self::map).
///
/// The kernels read four neighbouring pixels at once where every class plane (and in a crop every row) starts at a
/// multiple of four elements, that is where `H × W` is such a multiple or the planes are [`padded`](Self::padded). Any
/// other shape works too, more slowly (about 1.6 × on a software adapter).
///
/// ```
/// use seghead::Logits;
/// let logits = Logits::chw(21, 512, 512)?;
/// assert_eq!((logits.classes(), logits.pixels()), (21, 512 * 512));
/// assert_eq!(logits.bytes(), 21 * 512 * 512 * 4);
/// let tflite = Logits::hwc(512, 512, 21)?;
/// assert_eq!((tflite.pixel_stride(), tflite.plane_stride()), (21, 1));
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Logits {
    images: u32,
    classes: u32,
    height: u32,
    width: u32,
    element_type: ElementType,
    classes_last: bool,
    /// Whether there may be something else between the rows, which is not to be written.
    cropped: bool,
    offset: u32,
    image_stride: u32,
    plane_stride: u32,
    row_stride: u32,
    pixel_stride: u32,
    /// Elements of the whole buffer.
    len: u32,
}

impl Logits {
    /// One image: `classes × height × width`.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] where a dimension is zero, [`Error::Limit`] where the elements cannot be counted in 32 bits.
    pub fn chw(classes: u32, height: u32, width: u32) -> Result<Self, Error> {
        Self::nchw(1, classes, height, width)
    }

    /// A batch: `images × classes × height × width`.
    ///
    /// # Errors
    ///
    /// As [`chw`](Self::chw).
    pub fn nchw(images: u32, classes: u32, height: u32, width: u32) -> Result<Self, Error> {
        Self::new([images, classes, height, width], false, width.into(), 0)
    }

    /// One image, classes last: `height × width × classes`.
    ///
    /// # Errors
    ///
    /// As [`chw`](Self::chw).
    pub fn hwc(height: u32, width: u32, classes: u32) -> Result<Self, Error> {
        Self::nhwc(1, height, width, classes)
    }

    /// A batch, classes last: `images × height × width × classes`.
    ///
    /// # Errors
    ///
    /// As [`chw`](Self::chw).
    pub fn nhwc(images: u32, height: u32, width: u32, classes: u32) -> Result<Self, Error> {
        Self::new([images, classes, height, width], true, u64::from(width) * u64::from(classes), 0)
    }

    /// Rows `row_stride` elements apart, and behind each plane as many more elements as make it up to a multiple of
    /// `plane_multiple` (0 for none).
    fn new(sizes: [u32; 4], classes_last: bool, row_stride: u64, plane_multiple: u64) -> Result<Self, Error> {
        let [images, classes, height, width] = sizes;
        for (what, size) in ["images", "classes", "height", "width"].into_iter().zip(sizes) {
            if size == 0 {
                return Err(Error::Empty { what });
            }
        }
        // Every index that a kernel forms is below the number of elements rounded up to a group of four, so that
        // its 32-bit arithmetic cannot wrap.
        const LIMIT: u64 = u32::MAX as u64 - 3;
        let rows = u128::from(height) * u128::from(row_stride);
        let plane = if plane_multiple == 0 { rows } else { rows.next_multiple_of(plane_multiple.into()) };
        let image = if classes_last { plane } else { plane.saturating_mul(classes.into()) };
        let pixels = u128::from(height) * u128::from(width);
        let map = u128::from(images) * pixels.next_multiple_of(4);
        let elements = image.saturating_mul(images.into());
        if elements.max(map) > u128::from(LIMIT) {
            return Err(Error::Limit {
                what: "elements of the logits",
                needed: u64::try_from(elements.max(map)).unwrap_or(u64::MAX),
                limit: LIMIT,
            });
        }
        Ok(Self {
            images,
            classes,
            height,
            width,
            element_type: ElementType::F32,
            classes_last,
            cropped: false,
            offset: 0,
            image_stride: image as u32,
            plane_stride: if classes_last { 1 } else { plane as u32 },
            row_stride: row_stride as u32,
            pixel_stride: if classes_last { classes } else { 1 },
            len: elements as u32,
        })
    }

    /// The same shape with elements of 16 bits.
    ///
    /// ```
    /// use seghead::Logits;
    /// assert_eq!(Logits::chw(3, 1, 5)?.f16().bytes(), 32); // 15 halves, in whole words
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn f16(self) -> Self {
        self.with_element_type(ElementType::F16)
    }

    /// The same shape with elements of this type.
    pub fn with_element_type(self, element_type: ElementType) -> Self {
        Self { element_type, ..self }
    }

    /// The same shape with rows `row_stride` elements apart; planes and images are `height` such rows. What lies
    /// between the rows is neither used nor written.
    ///
    /// ```
    /// use seghead::Logits;
    /// let rows_of_256_bytes = Logits::chw(3, 10, 50)?.with_row_stride(64)?;
    /// assert_eq!((rows_of_256_bytes.plane_stride(), rows_of_256_bytes.len()), (640, 1920));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Stride`] where the rows would overlap, [`Error::Limit`] as for [`chw`](Self::chw).
    pub fn with_row_stride(&self, row_stride: u32) -> Result<Self, Error> {
        let row = self.width * self.pixel_stride;
        if row_stride < row {
            return Err(Error::Stride { row, found: row_stride });
        }
        let sizes = [self.images, self.classes, self.height, self.width];
        let apart = Self::new(sizes, self.classes_last, row_stride.into(), 0)?;
        Map::with_padded_rows(self.images, self.height, self.width)?;
        Ok(Self { cropped: row_stride != row, element_type: self.element_type, ..apart })
    }

    /// The rectangle of `height × width` pixels, in every image and class, whose first pixel is at row `top` and column
    /// `left`: a sub-range of the same buffer. Nothing outside it is read for a result, or written.
    ///
    /// For [`Segment`](crate::Segment) this is the source rectangle: what a letter-box added to the network's input is
    /// cut off before resizing, so that it bleeds into no pixel.
    ///
    /// ```
    /// use seghead::Logits;
    /// // A 16:9 picture in the middle of a square.
    /// let picture = Logits::chw(21, 160, 160)?.crop(35, 0, 90, 160)?;
    /// assert_eq!((picture.height(), picture.row_stride(), picture.offset()), (90, 160, 35 * 160));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a rectangle without pixels, [`Error::Rectangle`] for one that is not inside, [`Error::Limit`]
    /// where the pixels of its map cannot be counted in 32 bits.
    pub fn crop(&self, top: u32, left: u32, height: u32, width: u32) -> Result<Self, Error> {
        Map::with_padded_rows(self.images, height, width)?;
        let inside = |from: u32, size: u32, all: u32| from.checked_add(size).is_some_and(|end| end <= all);
        if !inside(top, height, self.height) || !inside(left, width, self.width) {
            let found = [top, left, height, width];
            return Err(Error::Rectangle { height: self.height, width: self.width, found });
        }
        if (height, width) == (self.height, self.width) {
            return Ok(*self);
        }
        let offset = self.offset + top * self.row_stride + left * self.pixel_stride;
        Ok(Self { height, width, offset, cropped: true, ..*self })
    }

    /// The same shape with every class plane starting at a multiple of four elements; of a crop, its rectangle alone.
    ///
    /// An operator that writes a tensor of this shape may write to the padding as well. Classes last there is nothing
    /// to pad.
    ///
    /// ```
    /// use seghead::Logits;
    /// let logits = Logits::chw(2, 3, 5)?.padded()?;
    /// assert_eq!((logits.pixels(), logits.plane_stride(), logits.len()), (15, 16, 32));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] where the padded elements cannot be counted in 32 bits.
    pub fn padded(&self) -> Result<Self, Error> {
        let sizes = [self.images, self.classes, self.height, self.width];
        let multiple = if self.classes_last { 0 } else { 4 };
        let row_stride = u64::from(self.width) * u64::from(self.pixel_stride);
        let padded = Self::new(sizes, self.classes_last, row_stride, multiple)?;
        Ok(padded.with_element_type(self.element_type))
    }

    /// The same order of dimensions and type of elements with another number of images and size, packed.
    pub(crate) fn resized(&self, images: u32, height: u32, width: u32) -> Result<Self, Error> {
        let row_stride = u64::from(width) * u64::from(self.pixel_stride);
        let sizes = [images, self.classes, height, width];
        Ok(Self::new(sizes, self.classes_last, row_stride, 0)?.with_element_type(self.element_type))
    }

    /// Whether the classes of a pixel are neighbours.
    pub(crate) fn is_classes_last(&self) -> bool {
        self.classes_last
    }

    /// Whether something else lies between the rows or around them: a crop, or rows that are apart.
    pub(crate) fn is_cropped(&self) -> bool {
        self.cropped
    }

    /// Whether the rows of an image follow one another without anything between them.
    pub(crate) fn is_flat(&self) -> bool {
        self.height == 1 || self.row_stride == self.width * self.pixel_stride
    }

    /// Number of images, N.
    pub fn images(&self) -> u32 {
        self.images
    }

    /// Number of classes, C.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// Rows of an image, H.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Pixels of a row, W.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels of an image, H × W.
    pub fn pixels(&self) -> u32 {
        self.height * self.width
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The element that the first image starts with: 0 but in a crop.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Elements from one class of a pixel to the next.
    pub fn plane_stride(&self) -> u32 {
        self.plane_stride
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> u32 {
        self.row_stride
    }

    /// Elements from one pixel of a row to the next.
    pub fn pixel_stride(&self) -> u32 {
        self.pixel_stride
    }

    /// Elements from one image to the next.
    pub fn image_stride(&self) -> u32 {
        self.image_stride
    }

    /// Elements in all, padding included; of a crop, those of the tensor that it is taken from.
    #[allow(clippy::len_without_is_empty)] // a shape without elements cannot be made
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of a buffer with these logits, in whole words of 32 bits: [`len`](Self::len) elements.
    pub fn bytes(&self) -> u64 {
        (u64::from(self.len()) * self.element_type.size()).next_multiple_of(4)
    }

    /// The same shape with f32 elements: that of a tensor that an operator makes of these logits.
    ///
    /// ```
    /// use seghead::Logits;
    /// assert_eq!(Logits::chw(3, 1, 5)?.f16().output().bytes(), 60);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn output(&self) -> Self {
        self.with_element_type(ElementType::F32)
    }

    /// How these logits lie in a slice on the host: packed without padding, or where they are a crop, as it is.
    pub(crate) fn on_host(&self) -> Result<Self, Error> {
        if self.cropped { Ok(*self) } else { self.resized(self.images, self.height, self.width) }
    }

    /// The tensor as one whose classes are the elements along `axis`, with images, rows and pixels of what lies between.
    /// Along rows in memory there is nothing between: then it is one of single classes, whose rows are to be taken.
    pub(crate) fn along(&self, axis: Axis) -> Self {
        let (classes, height, width) = (self.classes, self.height, self.width);
        let planes = Self { classes_last: false, pixel_stride: 1, ..*self };
        match (axis, self.classes_last) {
            (Axis::Class, _) => *self,
            (Axis::Height, false) => Self {
                images: self.images * classes,
                image_stride: self.plane_stride,
                classes: height,
                plane_stride: self.row_stride,
                height: 1,
                ..planes
            },
            (Axis::Height, true) => {
                Self { classes: height, plane_stride: self.row_stride, height: 1, width: width * classes, ..planes }
            }
            (Axis::Width, true) => Self { classes: width, plane_stride: classes, width: classes, ..planes },
            (Axis::Width, false) => {
                Self { images: self.images * classes, image_stride: self.plane_stride, classes: 1, ..planes }
            }
        }
    }

    /// The tensor as one of a single class whose rows are as long as they are in memory: for what treats all elements
    /// alike.
    pub(crate) fn elementwise(&self) -> Self {
        if !self.cropped {
            let (len, one) = (self.len, Self { images: 1, classes: 1, height: 1, classes_last: false, ..*self });
            return Self { width: len, pixel_stride: 1, row_stride: len, plane_stride: len, image_stride: len, ..one };
        }
        let width = self.width * if self.classes_last { self.classes } else { 1 };
        Self { width, classes: 1, ..self.along(Axis::Width) }
    }

    /// Some classes of the pixels of some images, where they are: `height × width` pixels from `pixel` on, rows that are
    /// apart as whole ones. The strides are the same.
    pub(crate) fn part(&self, images: Range<u32>, pixel: u32, size: (u32, u32), classes: Range<u32>) -> Self {
        let (height, width) = size;
        let (row, column) = (pixel / self.width, pixel % self.width);
        let offset = self.offset
            + images.start * self.image_stride
            + classes.start * self.plane_stride
            + row * self.row_stride
            + column * self.pixel_stride;
        let (images, classes) = (images.end - images.start, classes.end - classes.start);
        let last = offset
            + (images - 1) * self.image_stride
            + (classes - 1) * self.plane_stride
            + (height - 1) * self.row_stride
            + (width - 1) * self.pixel_stride;
        // Groups of four are read whole.
        let len = (last + 1).next_multiple_of(4).min(self.len);
        Self { images, classes, height, width, offset, cropped: true, len, ..*self }
    }

    /// The byte at which a binding of this part can start, a multiple of `alignment`, and the part as it is seen from
    /// there.
    pub(crate) fn rebased(&self, alignment: u32) -> (u64, Self) {
        let size = self.element_type.size();
        let start = u64::from(self.offset) * size;
        let start = start - start % u64::from(alignment);
        let elements = (start / size) as u32;
        (start, Self { offset: self.offset - elements, len: self.len - elements, ..*self })
    }

    /// The geometry of a map with one value per pixel of these logits: labels, confidence, loss. Where the rows of the
    /// logits do not follow one another, those of the map start at multiples of four pixels.
    pub fn map(&self) -> Map {
        if self.is_flat() {
            Map::packed(self.images, self.height, self.width)
        } else {
            Map::rows(self.images, self.height, self.width)
        }
    }
}
