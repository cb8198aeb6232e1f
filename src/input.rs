use std::{fmt, io};

use crate::{ElementType, Error};

/// The logits that a `run` function takes from the host: a slice, or a function that reads parts of them.
///
/// Made of `&[f32]`, `&Vec<f32>` and `&[f32; N]` by itself; of halves by [`f16`](Self::f16), and of what is not in memory
/// by [`reader`](Self::reader). The elements are those of the [`Logits`](crate::Logits) that go with them: packed
/// without padding, or for a crop the whole tensor that it is taken from. Whether they are f32 or f16 is told by the
/// input, whatever the `Logits` say.
///
/// ```
/// use seghead::{Argmax, Gpu, GpuOptions, Input, Labels, Logits};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// let halves = [0x3c00, 0x0000, 0x0000, 0x4000]; // 1, 0, 0, 2
/// let found = Argmax::new().run_blocking(&gpu, &Logits::chw(2, 1, 2)?, Input::f16(&halves))?;
/// assert_eq!(found.labels, Labels::U8(vec![0, 1]));
/// # Ok::<(), seghead::Error>(())
/// ```
pub struct Input<'a>(Source<'a>);

enum Source<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Reader { element_type: ElementType, elements: u64, read: Box<Read<'a>>, chunk: Vec<u8> },
}

/// Fills the bytes with elements, from that index on.
type Read<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + Send + 'a;

/// Bytes that are asked of a reader at a time.
const CHUNK: usize = 1 << 20;

impl<'a> Input<'a> {
    /// Halves, IEEE 754 binary16, as their bits: `bytemuck::cast_slice` makes them of `half::f16`.
    pub fn f16(bits: &'a [u16]) -> Self {
        Self(Source::F16(bits))
    }

    /// `elements` elements that `read` reads: called with the index of an element and the bytes to fill from it on, in
    /// the byte order of this machine. Elements are asked for once each if no two bands need them, class plane by class
    /// plane of a band, never more than a megabyte at a time.
    ///
    /// ```
    /// use seghead::{Argmax, ElementType, Gpu, GpuOptions, Input, Labels, Logits};
    /// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
    /// let file = [1.0f32, 0.0, 0.0, 2.0];
    /// let input = Input::reader(ElementType::F32, 4, |first, bytes| {
    ///     let start = first as usize * 4;
    ///     bytes.copy_from_slice(&bytemuck::cast_slice(&file)[start..start + bytes.len()]);
    ///     Ok(())
    /// });
    /// let found = Argmax::new().run_blocking(&gpu, &Logits::chw(2, 1, 2)?, input)?;
    /// assert_eq!(found.labels, Labels::U8(vec![0, 1]));
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn reader(
        element_type: ElementType,
        elements: u64,
        read: impl FnMut(u64, &mut [u8]) -> io::Result<()> + Send + 'a,
    ) -> Self {
        Self(Source::Reader { element_type, elements, read: Box::new(read), chunk: Vec::new() })
    }

    /// The same, to be read once more.
    pub(crate) fn again(&mut self) -> Input<'_> {
        Input(match &mut self.0 {
            Source::F32(values) => Source::F32(values),
            Source::F16(bits) => Source::F16(bits),
            Source::Reader { element_type, elements, read, .. } => Source::Reader {
                element_type: *element_type,
                elements: *elements,
                read: Box::new(read),
                chunk: Vec::new(),
            },
        })
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ElementType {
        match &self.0 {
            Source::F32(_) => ElementType::F32,
            Source::F16(_) => ElementType::F16,
            Source::Reader { element_type, .. } => *element_type,
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        match &self.0 {
            Source::F32(values) => values.len() as u64,
            Source::F16(bits) => bits.len() as u64,
            Source::Reader { elements, .. } => *elements,
        }
    }

    /// Hands `count` elements from `first` on to `take`, in pieces: where a piece starts among them, in bytes, and its
    /// bytes.
    pub(crate) fn copy(&mut self, first: u64, count: usize, mut take: impl FnMut(usize, &[u8])) -> Result<(), Error> {
        let range = first as usize..first as usize + count;
        match &mut self.0 {
            Source::F32(values) => take(0, bytemuck::cast_slice(&values[range])),
            Source::F16(bits) => take(0, bytemuck::cast_slice(&bits[range])),
            Source::Reader { element_type, read, chunk, .. } => {
                let size = element_type.size() as usize;
                for start in (0..count * size).step_by(CHUNK) {
                    chunk.resize(CHUNK.min(count * size - start), 0);
                    read(first + (start / size) as u64, chunk).map_err(Error::Input)?;
                    take(start, chunk);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("element_type", &self.element_type())
            .field("elements", &self.elements())
            .finish_non_exhaustive()
    }
}

impl<'a> From<&'a [f32]> for Input<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self(Source::F32(values))
    }
}

impl<'a> From<&'a Vec<f32>> for Input<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self(Source::F32(values))
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Input<'a> {
    fn from(values: &'a [f32; N]) -> Self {
        Self(Source::F32(values))
    }
}
