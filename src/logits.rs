use crate::Error;

/// The shape of a tensor of logits, and where its elements lie.
///
/// `N × C × H × W` elements of f32, class planes one after another ([`chw`](Self::chw), [`nchw`](Self::nchw)), or the
/// classes of every pixel next to one another ([`hwc`](Self::hwc), [`nhwc`](Self::nhwc)); images, rows and pixels packed.
/// A `Logits` holds no data; it is what an operator needs to know about a buffer or a slice. Results that are tensors
/// have the same layout.
///
/// The kernels read four neighbouring pixels at once where every class plane starts at a multiple of four elements, that
/// is where `H × W` is such a multiple or the planes are [`padded`](Self::padded). Any other shape works too, more
/// slowly (about 1.6 × on a software adapter).
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
    /// Elements of a class plane with its padding; 0 where the classes of a pixel are neighbours.
    plane: u32,
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
        Self::new(images, classes, height, width, u64::from(height) * u64::from(width))
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
        Self::new(images, classes, height, width, 0)
    }

    /// The same layout with another number of images and size.
    pub(crate) fn resized(&self, images: u32, height: u32, width: u32) -> Result<Self, Error> {
        if self.is_classes_last() {
            Self::nhwc(images, height, width, self.classes)
        } else {
            Self::nchw(images, self.classes, height, width)
        }
    }

    fn new(images: u32, classes: u32, height: u32, width: u32, plane: u64) -> Result<Self, Error> {
        for (what, size) in [("images", images), ("classes", classes), ("height", height), ("width", width)] {
            if size == 0 {
                return Err(Error::Empty { what });
            }
        }
        // Every index that a kernel forms is below the number of elements rounded up to a group of four, so that
        // its 32-bit arithmetic cannot wrap.
        const LIMIT: u64 = u32::MAX as u64 - 3;
        let pixels = u64::from(height) * u64::from(width);
        let map = u128::from(images) * u128::from(pixels.next_multiple_of(4));
        let elements = u128::from(images) * u128::from(classes) * u128::from(pixels.max(plane));
        if elements.max(map) > u128::from(LIMIT) {
            return Err(Error::Limit {
                what: "elements of the logits",
                needed: u64::try_from(elements.max(map)).unwrap_or(u64::MAX),
                limit: LIMIT,
            });
        }
        Ok(Self { images, classes, height, width, plane: plane as u32 })
    }

    /// The same shape with every class plane starting at a multiple of four elements.
    ///
    /// An operator that writes a tensor of this shape may write to the padding as well.
    ///
    /// ```
    /// use seghead::Logits;
    /// let logits = Logits::chw(2, 3, 5)?.padded()?;
    /// assert_eq!((logits.pixels(), logits.plane_stride(), logits.len()), (15, 16, 32));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// Classes last there is nothing to pad, and the shape stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] where the padded elements cannot be counted in 32 bits.
    pub fn padded(&self) -> Result<Self, Error> {
        if self.is_classes_last() {
            return Ok(*self);
        }
        let plane = u64::from(self.pixels()).next_multiple_of(4);
        Self::new(self.images, self.classes, self.height, self.width, plane)
    }

    /// Whether the classes of a pixel are neighbours.
    pub(crate) fn is_classes_last(&self) -> bool {
        self.plane == 0
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

    /// Elements from one class of a pixel to the next.
    pub fn plane_stride(&self) -> u32 {
        if self.is_classes_last() { 1 } else { self.plane }
    }

    /// Elements from one pixel of a row to the next.
    pub fn pixel_stride(&self) -> u32 {
        if self.is_classes_last() { self.classes } else { 1 }
    }

    /// Elements from one image to the next.
    pub fn image_stride(&self) -> u32 {
        self.classes * if self.is_classes_last() { self.pixels() } else { self.plane }
    }

    /// Elements in all, padding included.
    #[allow(clippy::len_without_is_empty)] // a shape without elements cannot be made
    pub fn len(&self) -> u32 {
        self.images * self.image_stride()
    }

    /// Bytes in all, padding included.
    pub fn bytes(&self) -> u64 {
        u64::from(self.len()) * 4
    }

    /// The geometry of a map with one value per pixel of these logits: labels, confidence, loss.
    pub fn map(&self) -> Map {
        Map {
            images: self.images,
            height: self.height,
            width: self.width,
            row_stride: self.width,
            image_stride: self.pixels().next_multiple_of(4),
        }
    }
}

/// The geometry of a map on the GPU: one value per pixel, `N × H × W`, as labels or scores are.
///
/// Kernels write four pixels at once, so every image starts at a multiple of four pixels; an upsampled map starts
/// every row there, too. Both strides count pixels. The one-shot functions return maps without padding.
///
/// ```
/// use seghead::Logits;
/// let map = Logits::nchw(2, 21, 3, 5)?.map();
/// assert_eq!((map.row_stride(), map.image_stride()), (5, 16));
/// assert_eq!(map.bytes(8), 32); // u8 labels
/// assert_eq!(map.bytes(32), 128); // f32 confidence or u32 labels
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    images: u32,
    height: u32,
    width: u32,
    row_stride: u32,
    image_stride: u32,
}

impl Map {
    /// A map of `images × height × width` whose rows start at multiples of four pixels.
    pub(crate) fn with_padded_rows(images: u32, height: u32, width: u32) -> Result<Self, Error> {
        for (what, size) in [("height", height), ("width", width)] {
            if size == 0 {
                return Err(Error::Empty { what });
            }
        }
        let row_stride = u64::from(width).next_multiple_of(4);
        let elements = u128::from(images) * u128::from(height) * u128::from(row_stride);
        // As for logits: 32-bit indices must not wrap, rounding to blocks of 4 × 4 included.
        const LIMIT: u64 = u32::MAX as u64 - 15;
        if elements > u128::from(LIMIT) {
            return Err(Error::Limit {
                what: "pixels of the result",
                needed: u64::try_from(elements).unwrap_or(u64::MAX),
                limit: LIMIT,
            });
        }
        let row_stride = row_stride as u32;
        Ok(Self { images, height, width, row_stride, image_stride: height * row_stride })
    }

    /// Number of images, N.
    pub fn images(&self) -> u32 {
        self.images
    }

    /// Rows of an image, H.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Pixels of a row, W.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from one row to the next, at least W.
    pub fn row_stride(&self) -> u32 {
        self.row_stride
    }

    /// Pixels from one image to the next.
    pub fn image_stride(&self) -> u32 {
        self.image_stride
    }

    /// Size of a buffer for this map, in bytes, with elements of 8 or 32 `bits`.
    pub fn bytes(&self, bits: u32) -> u64 {
        u64::from(self.images) * u64::from(self.image_stride) * u64::from(bits / 8)
    }

    /// Number of pixels without padding, N × H × W.
    pub fn pixels(&self) -> usize {
        self.images as usize * self.height as usize * self.width as usize
    }

    /// The values of all pixels without the padding, N × H × W, from `padded`, the content of a buffer of this
    /// geometry.
    ///
    /// ```
    /// use seghead::{Logits, Segment};
    /// let map = Segment::new(2, 3).map(&Logits::chw(21, 1, 1)?)?;
    /// assert_eq!(map.unpad(&[1, 2, 3, 0, 4, 5, 6, 0]), [1, 2, 3, 4, 5, 6]);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn unpad<T: Copy>(&self, padded: &[T]) -> Vec<T> {
        let mut packed = Vec::with_capacity(self.pixels());
        self.unpad_into(padded, &mut packed);
        packed
    }

    /// [`unpad`](Self::unpad) to the end of `packed`.
    pub(crate) fn unpad_into<T: Copy>(&self, padded: &[T], packed: &mut Vec<T>) {
        let (width, stride) = (self.width as usize, self.row_stride as usize);
        for image in padded.chunks_exact(self.image_stride as usize) {
            if stride == width {
                packed.extend_from_slice(&image[..self.height as usize * width]);
            } else {
                for row in image.chunks_exact(stride) {
                    packed.extend_from_slice(&row[..width]);
                }
            }
        }
    }
}
