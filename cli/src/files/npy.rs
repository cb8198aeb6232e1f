//! The NumPy array format, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! The crate ndarray-npy reads and writes the headers. The values are read by [`Layout::read`] or part by part, because
//! a file of logits may hold gigabytes: the length of the file is checked before anything is allocated.

use super::{
    Error,
    array::{ArrayFile, Elements},
    element::{Element, Layout},
    order,
    tensor::{Purpose, Tensor, TensorData},
};
use ndarray_npy::{
    WritableElement, WriteDataError,
    npy::header::{self, Header, ParseHeaderError, ReadHeaderError, WriteHeaderError},
};
use std::{
    fs::File,
    io::{self, Read, Seek, Write},
};

/// The first bytes of every file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The most bytes that come before a header's text: those of [`MAGIC`], the version and the length.
const MAX_START: usize = 12;

/// The longest header text that is read, as in NumPy. Only that of an array of records, which is refused, can be longer.
const MAX_HEADER: usize = 10_000;

/// The most opening brackets in a header's text. An array of plain values has two.
const MAX_BRACKETS: usize = 8;

/// Opens an array. `length` is that of the whole file in bytes, if it is known; bytes after the array are left alone,
/// as NumPy does. `path` names the file in errors.
///
/// # Errors
///
/// [`Error::Format`] for anything but a `.npy` file, what [`Purpose::check`] refuses, and what [`Layout::read`] does.
pub fn open(mut file: File, length: Option<u64>, path: &str, purpose: Purpose) -> Result<ArrayFile, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let start = Start::read(&mut file, path, purpose)?;
    let elements = match length {
        Some(length) if start.has_c_order => {
            let position = file.stream_position().map_err(failed)? - start.rest.len() as u64;
            start.layout.bytes(Some(length.saturating_sub(position)), path)?;
            Elements::Stored { file, start: position }
        }
        _ => Elements::Memory(start.elements(file, length, path)?),
    };
    Ok(ArrayFile { path: path.to_owned(), layout: start.layout, elements })
}

/// Reads an array, as [`open`] does, from any reader.
///
/// # Errors
///
/// As [`open`].
pub fn read(mut reader: impl Read, length: Option<u64>, path: &str, purpose: Purpose) -> Result<Tensor, Error> {
    let start = Start::read(&mut reader, path, purpose)?;
    let data = start.elements(reader, length, path)?;
    Ok(Tensor { shape: start.layout.shape, element: start.layout.element, data })
}

/// What comes before the elements.
pub struct Start {
    pub layout: Layout,
    /// Whether the elements are in C order, else in Fortran order.
    pub has_c_order: bool,
    /// Bytes before the elements.
    pub length: u64,
    /// The first bytes of the elements, which were read along with the header.
    rest: Vec<u8>,
}

impl Start {
    /// Reads the header, and checks that the array serves the purpose.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for anything but a `.npy` file, [`Error::Read`], and what [`Purpose::check`] refuses.
    pub fn read(reader: &mut impl Read, path: &str, purpose: Purpose) -> Result<Self, Error> {
        let mut start = Vec::new();
        let taken = reader.by_ref().take((MAX_START + MAX_HEADER) as u64).read_to_end(&mut start);
        taken.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let mut rest = &start[..];
        let malformed = |found| Error::Format { path: path.to_owned(), expected: "a NumPy .npy file", found };
        let header = header(&mut rest).map_err(malformed)?;

        let Some(descr) = header.type_descriptor.as_string() else {
            return Err(malformed("an array of records or the like".to_owned()));
        };
        let (element, big_endian) = match element(descr) {
            Some((element, big_endian)) => (Ok(element), big_endian),
            None => (Err(type_name(descr)), false),
        };
        let element = purpose.check(path, element, &header.shape)?;
        let length = (start.len() - rest.len()) as u64;
        let layout = Layout { element, big_endian, shape: header.shape };
        Ok(Self { layout, has_c_order: !header.layout.is_fortran(), length, rest: rest.to_vec() })
    }

    /// The elements in C order, from the reader that the header was read from. `length` is that of the whole file.
    ///
    /// # Errors
    ///
    /// What [`Layout::read`] refuses.
    pub fn elements(&self, reader: impl Read, length: Option<u64>, path: &str) -> Result<TensorData, Error> {
        let available = length.map(|length| length.saturating_sub(self.length));
        let (layout, shape) = (&self.layout, &self.layout.shape);
        let data = layout.read(&mut self.rest.chain(reader), available, path)?;
        if self.has_c_order {
            return Ok(data);
        }
        Ok(match data {
            TensorData::F32(values) => TensorData::F32(order::from_fortran(values, shape)),
            TensorData::F16(values) => TensorData::F16(order::from_fortran(values, shape)),
            TensorData::Int(values) => TensorData::Int(order::from_fortran(values, shape)),
        })
    }
}

/// Writes an array in C order, version 1.0 of the format.
///
/// # Errors
///
/// What the writer says.
pub fn write<T: WritableElement>(mut writer: &mut dyn Write, shape: &[usize], values: &[T]) -> io::Result<()> {
    let (type_descriptor, layout) = (T::type_descriptor(), header::Layout::Standard);
    let header = Header { type_descriptor, layout, shape: shape.to_vec() };
    header.write(&mut writer).map_err(|error| match error {
        WriteHeaderError::Io(error) => error,
        other => io::Error::other(other),
    })?;
    T::write_slice(values, writer).map_err(|error| match error {
        WriteDataError::Io(error) => error,
        other => io::Error::other(other),
    })
}

/// Takes the header off the first bytes of a file, or says what they are instead.
fn header(start: &mut &[u8]) -> Result<Header, String> {
    let whole = *start;
    let (length, text) = text(whole).unwrap_or_default();
    // Before it knows that the text is all there, the parser allocates as much as the length says. It also takes twice
    // or three times as long for each bracket within another, and may call itself until the stack is full.
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes"));
    }
    if text.iter().filter(|byte| b"([{".contains(byte)).count() > MAX_BRACKETS {
        return Err(shown(text));
    }
    Header::from_reader(start).map_err(|error| match error {
        _ if whole.is_empty() => "an empty file".to_owned(),
        _ if !whole.starts_with(MAGIC) => {
            format!("a file that begins with \"{}\"", whole[..whole.len().min(MAX_START)].escape_ascii())
        }
        ReadHeaderError::Io(_) => "a file that ends within its header".to_owned(),
        ReadHeaderError::Parse(ParseHeaderError::Version { major, minor }) => {
            format!("version {major}.{minor} of the format")
        }
        ReadHeaderError::Parse(_) => shown(text),
    })
}

/// The length of a header's text and as much of the text as there is, for the versions that are known.
fn text(start: &[u8]) -> Option<(usize, &[u8])> {
    let (length, text) = match start.strip_prefix(MAGIC)? {
        [1, 0, a, b, text @ ..] => (u16::from_le_bytes([*a, *b]).into(), text),
        [2 | 3, 0, a, b, c, d, text @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), text),
        _ => return None,
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Some((length, &text[..text.len().min(length)]))
}

/// A header's text as it is named in errors.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    format!("the header {:?}", text.trim_end().chars().take(120).collect::<String>())
}

/// The element type of a `descr`, and whether it is big-endian.
fn element(descr: &str) -> Option<(Element, bool)> {
    let (order, kind) = descr.split_at_checked(1)?;
    let element = match kind {
        "b1" => Element::Bool,
        "i1" => Element::I8,
        "i2" => Element::I16,
        "i4" => Element::I32,
        "i8" => Element::I64,
        "u1" => Element::U8,
        "u2" => Element::U16,
        "u4" => Element::U32,
        "u8" => Element::U64,
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        _ => return None,
    };
    match order {
        "<" => Some((element, false)),
        ">" => Some((element, true)),
        "=" => Some((element, cfg!(target_endian = "big"))),
        "|" if element.size() == 1 => Some((element, false)),
        _ => None,
    }
}

/// The name of a type that is not read.
fn type_name(descr: &str) -> String {
    match descr.get(1..) {
        Some("f16") => "float128".to_owned(),
        Some("c8") => "complex64".to_owned(),
        Some("c16") => "complex128".to_owned(),
        Some("O") => "pickled Python objects".to_owned(),
        _ => format!("the type {:?}", descr.chars().take(40).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use half::f16;

    /// A file of version 1.0 as NumPy lays it out.
    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        with_header(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"), data)
    }

    fn with_header(text: &str, data: &[u8]) -> Vec<u8> {
        let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(10 + length - 1, b' ');
        bytes.push(b'\n');
        bytes.extend(data);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Tensor, Error> {
        read(bytes, Some(bytes.len() as u64), "x.npy", Purpose::Any)
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = read_bytes(bytes).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn what_numpy_writes() {
        // numpy.save of numpy.array([[1.5, -2.0, 0.25]], numpy.float32), byte for byte
        let mut bytes = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }".to_vec();
        bytes.extend([b' '; 58]);
        bytes.extend(b"\n\x00\x00\xc0?\x00\x00\x00\xc0\x00\x00\x80>");
        let tensor = read_bytes(&bytes).unwrap();
        assert_eq!(tensor.shape, [1, 3]);
        assert_eq!(tensor.element, Element::F32);
        assert_eq!(tensor.data, TensorData::F32(vec![1.5, -2.0, 0.25]));
    }

    #[test]
    fn what_numpy_reads() {
        // The same but for NumPy's comma at the end of the dictionary.
        let mut bytes = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}".to_vec();
        bytes.extend([b' '; 60]);
        bytes.extend(b"\n\x00\x00\xc0?\x00\x00\x00\xc0\x00\x00\x80>");
        let mut written = Vec::new();
        write(&mut written, &[1, 3], &[1.5_f32, -2.0, 0.25]).unwrap();
        assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    #[test]
    fn headers_of_other_ranks() {
        let header = |shape: &[usize]| {
            let mut bytes = Vec::new();
            write(&mut bytes, shape, &vec![7_u8; shape.iter().product()]).unwrap();
            assert_eq!(read_bytes(&bytes).unwrap().shape, shape);
            bytes[10..].escape_ascii().to_string()
        };
        assert!(header(&[]).starts_with(r"{\'descr\': \'|u1\', \'fortran_order\': False, \'shape\': ()}"));
        assert!(header(&[4]).contains("(4,)}"));
        assert!(header(&[1, 2, 3]).contains("(1, 2, 3)}"));
    }

    #[test]
    fn big_endian() {
        let bytes = file(">f4", "False", "(2,)", &[0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0]);
        assert_eq!(read_bytes(&bytes).unwrap().data, TensorData::F32(vec![1.0, -2.5]));
        let bytes = file(">f2", "False", "(3,)", &[0x3c, 0x00, 0xc0, 0x00, 0x7c, 0x00]);
        let expected = [1.0, -2.0, f32::INFINITY].map(f16::from_f32).to_vec();
        assert_eq!(read_bytes(&bytes).unwrap().data, TensorData::F16(expected));
    }

    #[test]
    fn odd_number_of_halves() {
        let bytes = file("<f2", "False", "(1, 1, 3)", &[0x00, 0x3c, 0x00, 0x40, 0x00, 0x42]);
        let tensor = read_bytes(&bytes).unwrap();
        assert_eq!(tensor.shape, [1, 1, 3]);
        assert_eq!(tensor.data, TensorData::F16([1.0, 2.0, 3.0].map(f16::from_f32).to_vec()));
    }

    #[test]
    fn fortran_order_of_three_dimensions() {
        // numpy.asfortranarray(numpy.arange(12).reshape(2, 3, 2)).astype(">i2")
        let stored = [0_i16, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
        let bytes = file(">i2", "True", "(2, 3, 2)", &stored.map(i16::to_be_bytes).concat());
        let tensor = read_bytes(&bytes).unwrap();
        assert_eq!(tensor.shape, [2, 3, 2]);
        assert_eq!(tensor.data, TensorData::Int((0..12).collect()));
    }

    #[test]
    fn later_versions_and_other_spellings() {
        let text = "{\"shape\": (2,), 'fortran_order':False,'descr':'|b1'}\n";
        for version in [2, 3] {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.extend([0, 1]);
            assert_eq!(read_bytes(&bytes).unwrap().data, TensorData::Int(vec![0, 1]));
        }
        let mut unknown = file("<f4", "False", "()", &[0; 4]);
        unknown[6] = 4;
        assert_eq!(refusal(&unknown), "x.npy: expected a NumPy .npy file, found version 4.0 of the format");
    }

    #[test]
    fn bytes_after_the_array_are_left_alone() {
        let bytes = file("|u1", "False", "(2,)", &[1, 2, 3]);
        assert_eq!(read_bytes(&bytes).unwrap().data, TensorData::Int(vec![1, 2]));
    }

    #[test]
    fn not_an_array() {
        assert_eq!(refusal(b""), "x.npy: expected a NumPy .npy file, found an empty file");
        assert_eq!(
            refusal(b"PK\x03\x04 and more of it"),
            r#"x.npy: expected a NumPy .npy file, found a file that begins with "PK\x03\x04 and mor""#
        );
        let whole = file("<f4", "False", "(1,)", &[0; 4]);
        for end in 6..128 {
            let text = refusal(&whole[..end]);
            assert_eq!(text, "x.npy: expected a NumPy .npy file, found a file that ends within its header", "{end}");
        }
    }

    #[test]
    fn cut_short() {
        let bytes = file("<f4", "False", "(4, 5, 6)", &[0; 75]);
        let expected = "x.npy: expected 480 bytes of data (float32 [4, 5, 6]), found 75; the file is cut short";
        assert_eq!(refusal(&bytes), expected);
        // a pipe, whose length is not known beforehand
        assert_eq!(read(&bytes[..], None, "x.npy", Purpose::Any).unwrap_err().to_string(), expected);
    }

    #[test]
    fn absurd_shapes() {
        let text = refusal(&file("<f4", "False", "(4294967295, 4294967295, 4)", &[0; 16]));
        assert!(text.contains("found [4294967295, 4294967295, 4]"), "{text}");
        let text = refusal(&file("<f4", "False", "(0x7fffffffffffffff, 2)", &[0; 16]));
        assert!(text.contains("found [9223372036854775807, 2]"), "{text}");
        let text = refusal(&file("<f4", "False", "(4294967295, 16)", &[0; 16]));
        assert!(text.contains("expected 274877906880 bytes") && text.contains("found 16"), "{text}");
        for shape in ["(18446744073709551616,)", "(-1,)", "(2.0,)", "(2 3)", "((2,),)", "2", "(2,", "(,)", "[2]"] {
            let text = refusal(&file("<f4", "False", shape, &[0; 16]));
            assert!(text.contains("expected a NumPy .npy file, found the header"), "{shape}: {text}");
        }
    }

    #[test]
    fn broken_headers() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': ()} ()",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2 ** 60,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0 + 9e999,)}",
            "{'descr': '\u{e9}4', 'fortran_order': False, 'shape': ()}",
        ] {
            let message = refusal(&with_header(text, &[0; 4]));
            assert!(message.contains("expected a NumPy .npy file, found the header"), "{text}: {message}");
        }
        let mut long = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
        long.extend([b' '; 100]);
        assert!(refusal(&long).ends_with("found a header of 4294967295 bytes"));
        let mut without_end = file("<f4", "False", "()", &[0; 4]);
        without_end[127] = b' ';
        assert!(refusal(&without_end).contains("found the header"));
    }

    #[test]
    fn headers_that_would_exhaust_the_parser() {
        for bracket in ["[", "(", "{", "{1:", "[(", "{'descr':["] {
            for count in [1, 2, 4, 8, 9, 40, 400, 6_000] {
                let message = refusal(&with_header(&bracket.repeat(count), &[]));
                assert!(message.len() < 250, "{message}");
            }
        }
        for text in ["9".repeat(9_000), "-".repeat(9_000), "'".repeat(9_000), "1.".repeat(4_500), "\\".repeat(9_000)] {
            let message = refusal(&file("<f4", "False", &format!("({text},)"), &[]));
            assert!(message.len() < 250, "{message}");
            let message = refusal(&file(&text, "False", "()", &[]));
            assert!(message.len() < 250, "{message}");
        }
        // What looks like brackets in the values is none of the header's.
        let bytes = file("|u1", "False", "(20,)", &[b'['; 20]);
        assert_eq!(read_bytes(&bytes).unwrap().data, TensorData::Int(vec![i64::from(b'['); 20]));
    }

    #[test]
    fn types_that_are_not_read() {
        let text = refusal(&file("<f8", "False", "(1,)", &[0; 8]));
        assert!(text.contains("found float64; convert with .astype(np.float32)"), "{text}");
        assert!(refusal(&file("<c8", "False", "(1,)", &[0; 8])).contains("found complex64"));
        assert!(refusal(&file("|O", "False", "(1,)", &[0; 8])).contains("found pickled Python objects"));
        assert!(refusal(&file("<U3", "False", "(1,)", &[0; 12])).contains("found the type \"<U3\""));
        let mut unicode = file("é4", "False", "(1,)", &[0; 12]);
        unicode.splice(6..10, [3, 0, unicode[8], unicode[9], 0, 0]);
        assert!(refusal(&unicode).contains("found the type \"é4\""));
        let records = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}";
        assert!(refusal(&with_header(records, &[0; 4])).ends_with("found an array of records or the like"));
    }
}
