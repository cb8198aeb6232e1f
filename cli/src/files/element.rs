//! The element types of arrays, and their bulk conversion from bytes.

use super::{Error, tensor::TensorData};
use bytemuck::Pod;
use half::f16;
use std::{
    fmt,
    io::{self, Read},
};

/// The type of the elements of an array in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// One byte; anything but zero is true.
    Bool,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64; only where a few values are read, never for tensors.
    F64,
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Element::Bool | Element::I8 | Element::U8 => 1,
            Element::I16 | Element::U16 | Element::F16 => 2,
            Element::I32 | Element::U32 | Element::F32 => 4,
            Element::I64 | Element::U64 | Element::F64 => 8,
        }
    }

    /// The name NumPy gives the type.
    pub fn name(self) -> &'static str {
        match self {
            Element::Bool => "bool",
            Element::I8 => "int8",
            Element::I16 => "int16",
            Element::I32 => "int32",
            Element::I64 => "int64",
            Element::U8 => "uint8",
            Element::U16 => "uint16",
            Element::U32 => "uint32",
            Element::U64 => "uint64",
            Element::F16 => "float16",
            Element::F32 => "float32",
            Element::F64 => "float64",
        }
    }

    /// Whether the values are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Element::F16 | Element::F32 | Element::F64)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An array as a header describes it, before its elements are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The type of the elements.
    pub element: Element,
    /// Whether the elements are stored with their most significant byte first.
    pub big_endian: bool,
    /// The dimensions, slowest first if in C order.
    pub shape: Vec<usize>,
}

impl Layout {
    /// The bytes that the elements take. `available` is the number of bytes that are left in the file, if that is
    /// known: nothing is allocated or computed for an array that the file cannot hold.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] or [`Error::Unrepresentable`]; both name `path`.
    pub fn bytes(&self, available: Option<u64>, path: &str) -> Result<u64, Error> {
        let Some(count) = count(&self.shape, self.element.size()) else {
            return Err(Error::Unrepresentable { path: path.to_owned(), shape: self.shape.clone() });
        };
        let bytes = (count * self.element.size()) as u64;
        match available {
            Some(found) if found < bytes => Err(self.truncated(path, bytes, found)),
            _ => Ok(bytes),
        }
    }

    /// Reads the elements, in the order in which they are stored. `available` is as for [`bytes`](Self::bytes).
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes), [`Error::OutOfMemory`], [`Error::Integer`], or [`Error::Read`]; all name
    /// `path`.
    pub fn read(&self, reader: &mut dyn Read, available: Option<u64>, path: &str) -> Result<TensorData, Error> {
        let bytes = self.bytes(available, path)?;
        let data = self.decode(reader, bytes as usize / self.element.size());
        data.map_err(|failure| match failure {
            Failure::Io(source) => Error::Read { path: path.to_owned(), source },
            Failure::Short(found) => self.truncated(path, bytes, found),
            Failure::Memory => Error::OutOfMemory { path: path.to_owned(), bytes },
            Failure::Large(value) => Error::Integer { path: path.to_owned(), value },
        })
    }

    /// The error for a file that has only `found` of the `expected` bytes.
    pub fn truncated(&self, path: &str, expected: u64, found: u64) -> Error {
        let element = self.element.name();
        Error::Truncated { path: path.to_owned(), element, shape: self.shape.clone(), expected, found }
    }

    /// Turns bytes as they are in the file, of whole elements, into this machine's order.
    pub fn to_native_order(&self, bytes: &mut [u8]) {
        match self.element.size() {
            2 if self.is_swapped() => swap::<2>(bytes),
            4 if self.is_swapped() => swap::<4>(bytes),
            8 if self.is_swapped() => swap::<8>(bytes),
            _ => {}
        }
    }

    fn is_swapped(&self) -> bool {
        self.big_endian != cfg!(target_endian = "big")
    }

    fn decode(&self, reader: &mut dyn Read, count: usize) -> Result<TensorData, Failure> {
        Ok(match self.element {
            Element::F32 => TensorData::F32(values(reader, count, self)?),
            Element::F16 => TensorData::F16(values::<f16>(reader, count, self)?),
            Element::F64 => TensorData::F32(convert(reader, count, self, |value: f64| Ok(value as f32))?),
            Element::Bool => TensorData::Int(convert(reader, count, self, |value: u8| Ok(i64::from(value != 0)))?),
            Element::I8 => TensorData::Int(convert(reader, count, self, |value: i8| Ok(value.into()))?),
            Element::I16 => TensorData::Int(convert(reader, count, self, |value: i16| Ok(value.into()))?),
            Element::I32 => TensorData::Int(convert(reader, count, self, |value: i32| Ok(value.into()))?),
            Element::I64 => TensorData::Int(values(reader, count, self)?),
            Element::U8 => TensorData::Int(convert(reader, count, self, |value: u8| Ok(value.into()))?),
            Element::U16 => TensorData::Int(convert(reader, count, self, |value: u16| Ok(value.into()))?),
            Element::U32 => TensorData::Int(convert(reader, count, self, |value: u32| Ok(value.into()))?),
            Element::U64 => TensorData::Int(convert(reader, count, self, |value: u64| {
                i64::try_from(value).map_err(|_| Failure::Large(value))
            })?),
        })
    }
}

/// The number of elements of a shape, if the bytes they take can be addressed.
pub fn count(shape: &[usize], element_size: usize) -> Option<usize> {
    // A zero makes the array empty however large the other dimensions are.
    if shape.contains(&0) {
        return Some(0);
    }
    let count = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    count.checked_mul(element_size).filter(|&bytes| isize::try_from(bytes).is_ok()).map(|_| count)
}

enum Failure {
    Io(io::Error),
    Short(u64),
    Memory,
    Large(u64),
}

/// Bytes that are read at a time: small enough to stay in the processor's cache.
const CHUNK: usize = 1 << 20;

/// Reads `count` values straight into their vector.
fn values<T: Pod>(reader: &mut dyn Read, count: usize, layout: &Layout) -> Result<Vec<T>, Failure> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Failure::Memory)?;
    let step = CHUNK / size_of::<T>();
    while values.len() < count {
        // Chunk by chunk, because memory is only then taken for what is really in the file.
        let start = values.len();
        values.resize(count.min(start + step), T::zeroed());
        fill(reader, &mut values[start..], layout).map_err(|failure| failure.after((start * size_of::<T>()) as u64))?;
    }
    Ok(values)
}

/// Reads `count` values and makes each one into another.
fn convert<T: Pod, U>(
    reader: &mut dyn Read,
    count: usize,
    layout: &Layout,
    into: impl Fn(T) -> Result<U, Failure>,
) -> Result<Vec<U>, Failure> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Failure::Memory)?;
    let mut chunk = vec![T::zeroed(); count.min(CHUNK / size_of::<T>())];
    while values.len() < count {
        let start = values.len();
        let chunk_len = chunk.len().min(count - start);
        let part = &mut chunk[..chunk_len];
        fill(reader, part, layout).map_err(|failure| failure.after((start * size_of::<T>()) as u64))?;
        for &value in part.iter() {
            values.push(into(value)?);
        }
    }
    Ok(values)
}

/// Reads exactly as many values as `part` has, or says how many bytes there were.
fn fill<T: Pod>(reader: &mut dyn Read, part: &mut [T], layout: &Layout) -> Result<(), Failure> {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(part);
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => return Err(Failure::Short(filled as u64)),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Io(error)),
        }
    }
    layout.to_native_order(bytes);
    Ok(())
}

/// Reverses the bytes of every element of `SIZE` bytes.
fn swap<const SIZE: usize>(bytes: &mut [u8]) {
    let (elements, _) = bytes.as_chunks_mut::<SIZE>();
    elements.iter_mut().for_each(|element| element.reverse());
}

impl Failure {
    /// The failure as it is seen from `bytes` before.
    fn after(self, bytes: u64) -> Self {
        match self {
            Failure::Short(found) => Failure::Short(bytes + found),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layout(element: Element, big_endian: bool, shape: &[usize]) -> Layout {
        Layout { element, big_endian, shape: shape.to_vec() }
    }

    fn ints(element: Element, big_endian: bool, bytes: &[u8]) -> Vec<i64> {
        let layout = layout(element, big_endian, &[bytes.len() / element.size()]);
        match layout.read(&mut &bytes[..], None, "x").unwrap() {
            TensorData::Int(values) => values,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn integers_of_every_type() {
        assert_eq!(ints(Element::Bool, false, &[0, 1, 2]), [0, 1, 1]);
        assert_eq!(ints(Element::I8, false, &[255, 127]), [-1, 127]);
        assert_eq!(ints(Element::U8, false, &[255, 127]), [255, 127]);
        assert_eq!(ints(Element::I16, false, &[0xfe, 0xff]), [-2]);
        assert_eq!(ints(Element::I16, true, &[0xff, 0xfe]), [-2]);
        assert_eq!(ints(Element::U16, true, &[0x01, 0x02]), [258]);
        assert_eq!(ints(Element::I32, true, &[0xff, 0xff, 0xff, 0x9c]), [-100]);
        assert_eq!(ints(Element::U32, false, &[0xff; 4]), [0xffff_ffff]);
        assert_eq!(ints(Element::I64, true, &[0, 0, 0, 0, 0, 0, 1, 0]), [256]);
        assert_eq!(ints(Element::U64, false, &[1, 0, 0, 0, 0, 0, 0, 0]), [1]);
    }

    #[test]
    fn unsigned_beyond_signed() {
        let text = layout(Element::U64, false, &[1]).read(&mut &[255_u8; 8][..], Some(8), "x").unwrap_err().to_string();
        assert_eq!(text, "x: expected integers up to 9223372036854775807, found 18446744073709551615");
    }

    #[test]
    fn more_than_one_chunk() {
        let count = CHUNK / 4 + 3;
        let expected: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let bytes: Vec<u8> = expected.iter().flat_map(|value| value.to_be_bytes()).collect();
        let layout = layout(Element::F32, true, &[count]);
        assert_eq!(layout.read(&mut &bytes[..], None, "x").unwrap(), TensorData::F32(expected));
        let cut = &bytes[..bytes.len() - 1];
        let error = layout.read(&mut &cut[..], None, "x").unwrap_err();
        assert!(matches!(error, Error::Truncated { found, .. } if found == cut.len() as u64), "{error}");
    }

    #[test]
    fn sizes_that_overflow() {
        assert_eq!(count(&[4_294_967_295, 4_294_967_295, 4], 4), None);
        assert_eq!(count(&[usize::MAX / 4], 4), None);
        assert_eq!(count(&[usize::MAX, 0, usize::MAX], 8), Some(0));
        assert_eq!(count(&[], 4), Some(1));
    }

    #[test]
    fn a_size_that_no_memory_holds() {
        // The length of the source is unknown, as it is for a pipe, so only the allocation can refuse.
        let error = layout(Element::F32, false, &[1 << 60]).read(&mut &[0_u8; 8][..], None, "x").unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
}
