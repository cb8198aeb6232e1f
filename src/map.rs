use std::ops::Range;

use crate::Error;
use crate::bands::{Band, MAP_CHUNK};

/// The geometry of a map on the GPU: one value per pixel, `N × H × W`, as labels or scores are.
///
/// Kernels write four pixels at once, so every image starts at a multiple of four pixels; an upsampled map, or one
/// of cropped logits, starts every row there, too. Both strides count pixels. The one-shot functions return maps without padding.
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

/// Most pixels of a map. As for logits: 32-bit indices must not wrap, rounding to blocks of 4 × 4 included.
const PIXELS: u64 = u32::MAX as u64 - 15;

impl Map {
    /// A map whose rows follow one another, of a size that has been checked.
    pub(crate) fn packed(images: u32, height: u32, width: u32) -> Self {
        let image_stride = (height * width).next_multiple_of(4);
        Self { images, height, width, row_stride: width, image_stride }
    }

    /// A map of `images × height × width` whose rows start at multiples of four pixels.
    pub(crate) fn with_padded_rows(images: u32, height: u32, width: u32) -> Result<Self, Error> {
        for (what, size) in [("height", height), ("width", width)] {
            if size == 0 {
                return Err(Error::Empty { what });
            }
        }
        Self { images, height, width, row_stride: width, image_stride: 0 }.with_row_multiple(4)
    }

    /// [`with_padded_rows`](Self::with_padded_rows) where the size has been checked.
    pub(crate) fn rows(images: u32, height: u32, width: u32) -> Self {
        let row_stride = width.next_multiple_of(4);
        Self { images, height, width, row_stride, image_stride: height * row_stride }
    }

    /// The map with rows that start at multiples of `multiple` pixels, itself one of four.
    pub(crate) fn with_row_multiple(self, multiple: u32) -> Result<Self, Error> {
        let row_stride = u64::from(self.width).next_multiple_of(multiple.into());
        let pixels = u128::from(self.images) * u128::from(self.height) * u128::from(row_stride);
        if pixels > u128::from(PIXELS) {
            let needed = u64::try_from(pixels).unwrap_or(u64::MAX);
            return Err(Error::Limit { what: "pixels of the result", needed, limit: PIXELS });
        }
        let row_stride = row_stride as u32;
        Ok(Self { row_stride, image_stride: self.height * row_stride, ..self })
    }

    /// The map with `maps` maps for each image, one after another, as images.
    pub(crate) fn repeated(self, maps: u32) -> Result<Self, Error> {
        let pixels = u64::from(self.images) * u64::from(self.image_stride) * u64::from(maps);
        if pixels > PIXELS {
            return Err(Error::Limit { what: "pixels of the result", needed: pixels, limit: PIXELS });
        }
        Ok(Self { images: self.images * maps, ..self })
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

    /// The values of all pixels, N × H × W, with the padding.
    pub(crate) fn pad<T: Copy + Default>(&self, mut values: impl Iterator<Item = T>) -> Vec<T> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut padded = vec![T::default(); self.images as usize * self.image_stride as usize];
        for image in padded.chunks_exact_mut(self.image_stride as usize) {
            for row in image.chunks_mut(self.row_stride as usize).take(height) {
                row[..width].iter_mut().zip(&mut values).for_each(|(padded, value)| *padded = value);
            }
        }
        padded
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

/// Groups of four pixels of a map that one kernel of a dispatch writes or reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapPart {
    first: u32,
    count: u32,
}

impl MapPart {
    /// All of it.
    pub fn whole(map: &Map) -> Self {
        Self { first: 0, count: map.images * (map.image_stride / 4) }
    }

    /// What belongs to a band of the logits that `map` is of, or of the map itself.
    pub fn of(map: &Map, band: &Band) -> Self {
        let image = map.image_stride / 4;
        let first = band.image * image + (band.pixel / map.width * map.row_stride + band.pixel % map.width) / 4;
        if band.images > 1 || band.pixel == 0 && (band.height, band.width) == (map.height, map.width) {
            return Self { first, count: band.images * image };
        }
        Self { first, count: if band.height == 1 { band.width.div_ceil(4) } else { band.height * map.row_stride / 4 } }
    }

    /// Some planes, each with the geometry of an image of `map`, of what belongs to a band where every image has
    /// `of_image` planes: all of them, or those of one image.
    pub fn planes(map: &Map, band: &Band, of_image: u32, planes: Range<u32>) -> Self {
        let pixels = Self::of(map, &Band { image: 0, images: 1, ..*band });
        let first = band.image * of_image + planes.start;
        let last = (band.image + band.images - 1) * of_image + planes.end - 1;
        let plane = map.image_stride / 4;
        Self { first: first * plane + pixels.first, count: (last - first) * plane + pixels.count }
    }

    /// Some rows, which start at multiples of four pixels, of some images.
    pub fn rows(map: &Map, images: Range<u32>, row: u32, rows: u32) -> Self {
        let of_row = map.row_stride / 4;
        Self::groups(map, images, row * of_row..(row + rows) * of_row)
    }

    /// Some groups of each of some images.
    pub fn groups(map: &Map, images: Range<u32>, groups: Range<u32>) -> Self {
        let image = map.image_stride / 4;
        let count = (images.end - images.start - 1) * image + groups.end - groups.start;
        Self { first: images.start * image + groups.start, count }
    }

    /// Where it is bound from, in groups: bindings start at multiples of 256 bytes.
    fn start(&self) -> u32 {
        self.first - self.offset()
    }

    /// Where it starts in what is bound, in groups.
    pub fn offset(&self) -> u32 {
        self.first % MAP_CHUNK
    }

    /// How many bytes are to be bound, with elements of `bits`.
    pub fn len(&self, bits: u32) -> u64 {
        let bytes = self.bytes(bits);
        bytes.end - bytes.start
    }

    /// The bytes to bind, with elements of `bits`.
    pub fn bytes(&self, bits: u32) -> Range<u64> {
        let group = u64::from(bits / 2);
        u64::from(self.start()) * group..u64::from(self.first + self.count) * group
    }
}
