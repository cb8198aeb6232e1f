//! How what is too big to bind, or to be on the GPU at once, is split into bands of pixels.

use crate::kernel::{Params, UNROLLED_CLASSES};
use crate::{Error, Gpu, Logits, Map};

/// Most bytes of logits, of results and of their staging each that one band has on the GPU.
pub(crate) const BAND_BYTES: u64 = 32 << 20;

/// Bands begin at multiples of this many pixels of an image if they can: that is what a workgroup of cross-entropy sums
/// up, so that its partial sums are the same whatever the bands are.
const CHUNK: u32 = 2048;

/// Maps are bound from multiples of this many groups on, which are multiples of 256 bytes with labels of 8 bits.
pub(crate) const MAP_CHUNK: u32 = 64;

/// Bytes of so many groups of a map of 32 bits.
pub(crate) const MAP_CHUNK_BYTES: u64 = MAP_CHUNK as u64 * 16;

/// A part of a tensor: some images, or a run of pixels of one image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    /// The first image.
    pub image: u32,
    /// The first pixel of that image.
    pub pixel: u32,
    pub images: u32,
    /// Rows that the band has: 1 where it is a run of pixels.
    pub height: u32,
    /// Pixels of a row.
    pub width: u32,
}

impl Band {
    fn images(logits: &Logits, image: u32, images: u32) -> Self {
        Self { image, pixel: 0, images, height: logits.height(), width: logits.width() }
    }

    /// Everything.
    pub fn whole(logits: &Logits) -> Self {
        Self::images(logits, 0, logits.images())
    }

    /// Whether it is everything.
    pub fn is_whole(&self, logits: &Logits) -> bool {
        (self.images, self.height, self.width) == (logits.images(), logits.height(), logits.width())
    }

    /// Index of its first pixel among the pixels of all images.
    pub fn position(&self, whole: &Logits) -> usize {
        self.image as usize * whole.pixels() as usize + self.pixel as usize
    }

    /// The shape of the band alone, as `whole` has its dimensions, padded.
    pub fn shape(&self, whole: &Logits) -> Result<Logits, Error> {
        whole.resized(self.images, self.height, self.width)?.padded()
    }

    /// A band brought together: classes first, f32, its rows at multiples of four elements as those of its map are.
    pub fn shape_together(&self, whole: &Logits) -> Result<Logits, Error> {
        let shape = Logits::nchw(self.images, whole.classes(), self.height, self.width)?;
        if whole.is_flat() { shape.padded() } else { shape.with_row_stride(self.width.next_multiple_of(4)) }
    }

    /// Whether it can be bound where it is.
    pub fn is_in_place(&self, gpu: &Gpu, whole: &Logits) -> bool {
        let limit = gpu.limits().max_storage_buffer_binding_size;
        match self.is_whole(whole) {
            true => whole.bytes() <= limit,
            false => extent(&self.of(whole)) + alignment(gpu) <= limit,
        }
    }

    /// The band where it is in `whole`, all classes.
    pub fn of(&self, whole: &Logits) -> Logits {
        let images = self.image..self.image + self.images;
        whole.part(images, self.pixel, (self.height, self.width), 0..whole.classes())
    }
}

/// Splits `logits` for the one-shot functions: into what goes through the GPU at a time, packed, with `map_bits` bits of
/// results for every pixel.
pub(crate) fn for_host(gpu: &Gpu, logits: &Logits, map_bits: u64) -> Result<Vec<Band>, Error> {
    let device = binding_limit(gpu);
    let (limit, map_limit) = (BAND_BYTES.min(device), map_limit(gpu));
    let map_bytes = |pixels: u64| (pixels * map_bits).div_ceil(8);
    let image = logits.resized(1, logits.height(), logits.width())?.padded()?;
    let map = map_bytes(image.map().image_stride().into());
    if image.bytes() <= limit && map <= map_limit {
        let most = (limit / image.bytes()).min(map_limit / map.max(1));
        return Ok(of_images(logits, most));
    }
    let bytes_of_pixel = u64::from(logits.classes()) * logits.element_type().size();
    // Four pixels must fit the device, but may be more than a band has otherwise.
    let least = bytes_of_pixel * 4;
    if least > device {
        return Err(Error::Limit { what: "bytes of the logits of four pixels", needed: least, limit: device });
    }
    let most = BAND_BYTES.min(device).max(least) / bytes_of_pixel;
    let most = most.min((map_limit * 8 / map_bits.max(1)).max(4));
    runs(logits, round_down(most), 1)
}

/// Bytes of the results of a band that can go through one staging buffer, and be bound if they are one map.
fn map_limit(gpu: &Gpu) -> u64 {
    BAND_BYTES.min(binding_limit(gpu))
}

/// Most bytes that a buffer can have and be bound whole.
pub(crate) fn binding_limit(gpu: &Gpu) -> u64 {
    gpu.limits().max_storage_buffer_binding_size.min(gpu.limits().max_buffer_size)
}

/// Splits `logits` for a dispatch: into what can be bound at a time where it is, with maps of 32 bits; or, where an image
/// is too big for that, what is copied together ([`fits`]).
pub(crate) fn for_dispatch(gpu: &Gpu, logits: &Logits) -> Result<Vec<Band>, Error> {
    for_dispatch_of_maps(gpu, logits, 1)
}

/// The same for results of `maps` maps to an image: a band has several images only where all their maps can be bound at
/// once, else one map of the band can.
pub(crate) fn for_dispatch_of_maps(gpu: &Gpu, logits: &Logits, maps: u32) -> Result<Vec<Band>, Error> {
    let limit = gpu.limits().max_storage_buffer_binding_size;
    let map = logits.map();
    let map_bytes = map.bytes(32) * if logits.images() == 1 { 1 } else { maps.into() };
    if logits.bytes() <= limit && map_bytes <= limit {
        return Ok(vec![Band::whole(logits)]);
    }
    // Bindings start at multiples of the alignment, maps at multiples of a chunk.
    let groups = (limit / 16).saturating_sub(MAP_CHUNK.into());
    let of_image = (u64::from(map.image_stride()) / 4).max(1);
    if fits(gpu, logits) && of_image <= groups {
        let bytes = u64::from(logits.image_stride()) * logits.element_type().size();
        let images = ((limit - alignment(gpu)) / bytes).min(groups / (of_image * u64::from(maps))).max(1);
        return Ok(of_images(logits, images));
    }
    let mut most = groups * 4;
    if !fits(gpu, logits) {
        most = most.min(BAND_BYTES.min(limit) / (u64::from(logits.classes()) * 4));
    }
    // From the first to the last pixel of a class, a band must be bound as well, up to the end of a group of four.
    let extent = ((limit - alignment(gpu)) / logits.element_type().size()).saturating_sub(3);
    let row = if logits.is_flat() {
        most = most.min(extent / u64::from(logits.pixel_stride()));
        1
    } else {
        let row = logits.width().next_multiple_of(4);
        most = most.min(extent / u64::from(logits.row_stride()) * u64::from(row));
        row
    };
    if most < u64::from(row.max(4)) {
        let what = "bytes of the logits of four pixels, or of a row";
        let needed = u64::from(row.max(4)) * u64::from(logits.classes()) * 4;
        return Err(Error::Limit { what, needed, limit });
    }
    runs(logits, if logits.is_flat() { round_down(most) } else { most }, row)
}

/// The images of tensors of which some have images that are too big for one binding, but all fit two: what kernels that
/// take the planes of an image in halves are given.
pub(crate) fn in_halves(gpu: &Gpu, tensors: &[&Logits]) -> Option<Vec<Band>> {
    let [first, ..] = tensors else { return None };
    let bands = of_images(first, 1);
    let map = first.map();
    let map_bytes = Map::packed(1, 1, map.image_stride()).bytes(32) + MAP_CHUNK_BYTES;
    let halved = |tensor: &&Logits| bands.iter().all(|band| Halves::of(gpu, tensor, band).is_some());
    let halves = tensors.iter().any(|tensor| !fits(gpu, tensor))
        && map_bytes <= gpu.limits().max_storage_buffer_binding_size
        && tensors.iter().all(halved);
    halves.then_some(bands)
}

/// The planes of an image in two parts, each with the byte that it is bound from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves {
    pub near: (u64, Logits),
    pub far: (u64, Logits),
    /// All planes, as they are seen from the near binding.
    pub image: Logits,
}

impl Halves {
    /// Those of a band that is an image, if each can be bound, and read and written in fours.
    pub fn of(gpu: &Gpu, logits: &Logits, band: &Band) -> Option<Self> {
        let classes = logits.classes();
        if classes < 2 || band.images != 1 || logits.is_classes_last() {
            return None;
        }
        // As in `near_classes` of `shaders/prelude/planes_of_two.wgsl`; behind the first, many classes are walked through
        // in blocks of five, which must not be split.
        let near = if classes <= UNROLLED_CLASSES { classes.div_ceil(2) } else { 1 + classes / 10 * 5 };
        let of = |classes| {
            let part = logits.part(band.image..band.image + 1, band.pixel, (band.height, band.width), classes);
            part.rebased(gpu.limits().min_storage_buffer_offset_alignment)
        };
        let halves = Self { near: of(0..near), far: of(near..classes), image: of(0..classes).1 };
        let fit = [halves.near, halves.far].iter().all(|(_, half)| half.bytes() <= binding_limit(gpu));
        let params = Params::new(&halves.image);
        let in_fours = params.reads_in_fours() && params.row_pixels.is_multiple_of(4);
        (fit && in_fours).then_some(halves)
    }

    /// The element of the image that the far binding starts with.
    pub fn far_element(&self) -> u32 {
        ((self.far.0 - self.near.0) / self.image.element_type().size()) as u32
    }
}

/// Whether an image of `logits` can be bound where it is.
pub(crate) fn fits(gpu: &Gpu, logits: &Logits) -> bool {
    let limit = gpu.limits().max_storage_buffer_binding_size;
    logits.bytes() <= limit || u64::from(logits.image_stride()) * logits.element_type().size() + alignment(gpu) <= limit
}

/// Refuses a band of `logits` that can neither be bound where it is nor be brought together.
pub(crate) fn check_readable(gpu: &Gpu, logits: &Logits, band: &Band) -> Result<(), Error> {
    let limit = gpu.limits().max_storage_buffer_binding_size;
    let (together, most) = (band.shape_together(logits)?.bytes(), BAND_BYTES.min(limit));
    if band.is_in_place(gpu, logits) || band.images == 1 && together <= most {
        return Ok(());
    }
    Err(Error::Limit { what: "bytes of the logits of a band", needed: together, limit: most })
}

/// Bytes from the first element of a part to its last.
pub(crate) fn extent(part: &Logits) -> u64 {
    u64::from(part.len() - part.offset()) * part.element_type().size()
}

/// What storage bindings are aligned to, in bytes.
pub(crate) fn alignment(gpu: &Gpu) -> u64 {
    gpu.limits().min_storage_buffer_offset_alignment.into()
}

/// A number of pixels that bands may begin at multiples of.
fn round_down(pixels: u64) -> u64 {
    let chunk = u64::from(if pixels >= CHUNK.into() { CHUNK } else { 4 });
    pixels - pixels % chunk
}

/// Bands of at most `most` images.
fn of_images(logits: &Logits, most: u64) -> Vec<Band> {
    let most = u32::try_from(most).unwrap_or(u32::MAX).min(logits.images());
    let starts = (0..logits.images()).step_by(most as usize);
    starts.map(|image| Band::images(logits, image, most.min(logits.images() - image))).collect()
}

/// Runs of at most `most` pixels of every image; with `row` pixels to a row, whole rows.
fn runs(logits: &Logits, most: u64, row: u32) -> Result<Vec<Band>, Error> {
    let rows = row > 1;
    let (count, step) = match rows {
        true => (logits.height(), most / u64::from(row)),
        false => (logits.pixels(), most),
    };
    // Counted in 32 bits as the pixels are.
    let step = u32::try_from(step).unwrap_or(u32::MAX).min(count).max(1);
    let mut bands = Vec::new();
    for image in 0..logits.images() {
        for start in (0..count).step_by(step as usize) {
            let size = step.min(count - start);
            let (pixel, height, width) =
                if rows { (start * logits.width(), size, logits.width()) } else { (start, 1, size) };
            bands.push(Band { image, pixel, images: 1, height, width });
        }
    }
    Ok(bands)
}

/// Splits `whole`, rows that are to be taken whole, into bands of rows of at most `limit` bytes with f32 elements,
/// or of one row if that is not more than `device`.
pub(crate) fn of_rows(whole: &Logits, limit: u64, device: u64) -> Result<Vec<Band>, Error> {
    let bytes_of_row = u64::from(whole.row_stride()) * 4;
    if bytes_of_row > device {
        return Err(Error::Limit { what: "bytes of a row", needed: bytes_of_row, limit: device });
    }
    let most = u32::try_from(limit / bytes_of_row).unwrap_or(u32::MAX).max(1);
    if most >= whole.height() {
        let plane = u64::from(whole.image_stride().max(1)) * 4;
        return Ok(of_images(whole, (limit / plane).max(1)));
    }
    let mut bands = Vec::new();
    for image in 0..whole.images() {
        for row in (0..whole.height()).step_by(most as usize) {
            let height = most.min(whole.height() - row);
            bands.push(Band { image, pixel: row * whole.width(), images: 1, height, width: whole.width() });
        }
    }
    Ok(bands)
}
