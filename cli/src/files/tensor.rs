//! Reading of tensors: logits, targets, weights.

use super::{
    Error,
    array::ArrayFile,
    element::{self, Element},
    location::Location,
    npy, npz,
    output::{Format, Outputs},
    safetensors,
};
use half::{f16, slice::HalfFloatSliceExt};
use ndarray_npy::WritableElement;
use std::fs::File;

/// An array in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The dimensions, slowest first.
    pub shape: Vec<usize>,
    /// The type of the elements in the file.
    pub element: Element,
    /// As many values as the shape has.
    pub data: TensorData,
}

/// The values of a [`Tensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// From float32.
    F32(Vec<f32>),
    /// From float16.
    F16(Vec<f16>),
    /// From any integer type, or bool as 0 and 1.
    Int(Vec<i64>),
}

impl TensorData {
    /// The values as float32. Integers beyond 2²⁴ are rounded.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            TensorData::F32(values) => values,
            TensorData::F16(values) => values.to_f32_vec(),
            TensorData::Int(values) => values.into_iter().map(|value| value as f32).collect(),
        }
    }
}

/// What an array is read for. What does not serve the purpose is refused before its elements are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Any type but float64, any shape.
    #[cfg_attr(not(test), allow(dead_code, reason = "every reader that a command has is stricter"))]
    Any,
    /// float32 or float16, three or four dimensions, none of them zero.
    Logits,
    /// Integers, two or three dimensions, none of them zero.
    Labels,
    /// Labels, or what serves as logits.
    Targets,
    /// Floats of any width, one dimension.
    Vector,
}

impl Purpose {
    /// Says whether an array of this type and shape serves; the type is a name where it is none that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Element`], [`Error::Rank`] or [`Error::Empty`].
    pub fn check(self, path: &str, element: Result<Element, String>, shape: &[usize]) -> Result<Element, Error> {
        const TO_FLOAT: &str = "convert with .astype(np.float32), or .float() in PyTorch";
        if self == Purpose::Targets {
            // Floats of two dimensions are meant for labels.
            let soft = element.as_ref().is_ok_and(|element| element.is_float()) && shape.len() != 2;
            return if soft { Purpose::Logits } else { Purpose::Labels }.check(path, element, shape);
        }
        let expected = match self {
            Purpose::Any => "float32, float16 or an integer type",
            Purpose::Logits => "float32 or float16 logits",
            Purpose::Labels | Purpose::Targets => "labels of an integer type",
            Purpose::Vector => "float32, float16 or float64 numbers",
        };
        let wrong = |found, hint| Error::Element { path: path.to_owned(), expected, found, hint };
        let element = element.map_err(|found| wrong(found, TO_FLOAT))?;
        let found = element.to_string();
        match self {
            Purpose::Any | Purpose::Logits if element == Element::F64 => return Err(wrong(found, TO_FLOAT)),
            Purpose::Logits if !element.is_float() => return Err(wrong(found, "integers are labels")),
            Purpose::Labels if element.is_float() => {
                return Err(wrong(
                    found,
                    "make labels of scores with `seghead argmax`, or convert with .astype(np.uint8)",
                ));
            }
            Purpose::Vector if !element.is_float() => return Err(wrong(found, TO_FLOAT)),
            _ => {}
        }

        let (ranks, expected) = match self {
            Purpose::Any => return Ok(element),
            Purpose::Logits => (3..=4, "3 dimensions (C, H, W) or 4 (N, C, H, W)"),
            Purpose::Labels | Purpose::Targets => (2..=3, "2 dimensions (H, W) or 3 (N, H, W)"),
            Purpose::Vector => (1..=1, "1 dimension"),
        };
        if !ranks.contains(&shape.len()) {
            Err(Error::Rank { path: path.to_owned(), expected, shape: shape.to_vec() })
        } else if shape.contains(&0) {
            Err(Error::Empty { path: path.to_owned(), shape: shape.to_vec() })
        } else {
            Ok(element)
        }
    }
}

/// Reads an array of any shape from `x.npy`, `FILE.npz:NAME` or `FILE.safetensors:NAME`. The name may be left out
/// where the file holds one array.
///
/// # Errors
///
/// [`Error`] for a path or file that is none of these, that is damaged, or whose elements are neither float32, float16
/// nor integers.
#[cfg(test)]
pub fn read_tensor(path: &str) -> Result<Tensor, Error> {
    read(path, Purpose::Any)
}

/// The logits in a `.npy` in memory; `name` stands for the path in errors.
pub fn decode_npy(bytes: &[u8], name: &str) -> Result<Tensor, Error> {
    npy::read(bytes, Some(bytes.len() as u64), name, Purpose::Logits)
}

/// Reads weights: a list of numbers with commas between them, or the path of an array of one dimension and any float
/// type.
///
/// # Errors
///
/// [`Error::Number`] if an entry of the list is not a number; for a path [`Error`] for a file that is damaged or no
/// array, [`Error::Element`], [`Error::Rank`] and [`Error::Empty`].
pub fn read_vector(list_or_path: &str) -> Result<Vec<f32>, Error> {
    if Location::parse(list_or_path).is_ok() {
        return Ok(read(list_or_path, Purpose::Vector)?.data.into_f32());
    }
    let number = |entry: &str| {
        let number = entry.trim().parse();
        number.map_err(|_| Error::Number { list: list_or_path.to_owned(), entry: entry.to_owned() })
    };
    list_or_path.split(',').map(number).collect()
}

/// Writes an array in C order to a `.npy`, with `values` as many as `shape` has.
///
/// # Errors
///
/// [`Error::Ending`] for another ending, [`Error::Length`] if the values are not as many as the shape has, and those of
/// [`Outputs::write`].
pub fn write_tensor<T: WritableElement>(
    outputs: &mut Outputs,
    path: &str,
    shape: &[usize],
    values: &[T],
) -> Result<(), Error> {
    if Format::of(path)? == Format::Png {
        return Err(Error::Ending { path: path.to_owned(), expected: ".npy" });
    }
    check_length(path, shape, values.len())?;
    outputs.write(path, |writer| npy::write(writer, shape, values))
}

/// # Errors
///
/// [`Error::Length`] if there are not as many values as the shape has.
pub(super) fn check_length(path: &str, shape: &[usize], found: usize) -> Result<(), Error> {
    if element::count(shape, 1) == Some(found) {
        Ok(())
    } else {
        Err(Error::Length { path: path.to_owned(), shape: shape.to_vec(), found })
    }
}

/// Reads an array that serves the purpose.
pub(super) fn read(path: &str, purpose: Purpose) -> Result<Tensor, Error> {
    open(path, purpose)?.read()
}

/// Opens an array that serves the purpose.
pub(super) fn open(path: &str, purpose: Purpose) -> Result<ArrayFile, Error> {
    match Location::parse(path)? {
        Location::Npy(path) => {
            let (file, length) = open_file(path)?;
            npy::open(file, length, path, purpose)
        }
        Location::Npz(path, name) => npz::open(open_file(path)?.0, path, name, purpose),
        Location::Safetensors(path, name) => safetensors::open(open_file(path)?.0, path, name, purpose),
    }
}

/// Opens an input, and says how many bytes it has unless it is a pipe or the like.
pub(super) fn open_file(path: &str) -> Result<(File, Option<u64>), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::Format { path: path.to_owned(), expected: "a file", found: "a folder".to_owned() });
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::safetensors::tensor::{Dtype, TensorView, serialize};
    use std::{fs, io::Write};
    use tempfile::TempDir;
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    /// A folder to read from, and the path of a file in it.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Folder(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    fn npy<T: WritableElement>(shape: &[usize], values: &[T]) -> Vec<u8> {
        let mut bytes = Vec::new();
        npy::write(&mut bytes, shape, values).unwrap();
        bytes
    }

    fn npz(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn safetensors(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors
            .iter()
            .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
        serialize(views, None).unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T, Error>, path: &str) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string().replacen(path, "FILE", 1)
    }

    fn read_logits(path: &str) -> Result<Tensor, Error> {
        read(path, Purpose::Logits)
    }

    #[test]
    fn logits_must_be_floats_of_three_or_four_dimensions() {
        let folder = Folder::new();
        let path = folder.file("x.npy", &npy(&[1, 2, 2], &[1.0_f32, 2.0, 3.0, 4.0]));
        let logits = read_logits(&path).unwrap();
        assert_eq!((logits.shape, logits.data), (vec![1, 2, 2], TensorData::F32(vec![1.0, 2.0, 3.0, 4.0])));

        let path = folder.file("u8.npy", &npy(&[1, 2, 2], &[1_u8, 2, 3, 4]));
        assert_eq!(
            message(read_logits(&path), &path),
            "FILE: expected float32 or float16 logits, found uint8; integers are labels"
        );
        let path = folder.file("five.npy", &npy(&[1, 1, 2, 2, 2], &[0.0_f32; 8]));
        assert_eq!(
            message(read_logits(&path), &path),
            "FILE: expected 3 dimensions (C, H, W) or 4 (N, C, H, W), found 5: [1, 1, 2, 2, 2]"
        );
        assert_eq!(read_tensor(&path).unwrap().shape, [1, 1, 2, 2, 2]);
        let path = folder.file("zero.npy", &npy::<f32>(&[0, 2, 2], &[]));
        assert_eq!(message(read_logits(&path), &path), "FILE: expected no dimension of size 0, found [0, 2, 2]");
        assert_eq!(read_tensor(&path).unwrap().data, TensorData::F32(vec![]));
    }

    #[test]
    fn archives() {
        let folder = Folder::new();
        let (one, two) = (npy(&[3], &[1.0_f32, 2.0, 3.0]), npy(&[1], &[7_u16]));
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let path = folder.file("x.npz", &npz(&[("a.npy", &one), ("b/c.npy", &two), ("notes.txt", b"")], method));
            assert_eq!(read_tensor(&format!("{path}:a")).unwrap().data, TensorData::F32(vec![1.0, 2.0, 3.0]));
            assert_eq!(read_tensor(&format!("{path}:b/c")).unwrap().data, TensorData::Int(vec![7]));
            let text = message(read_tensor(&path), &path);
            assert!(text.starts_with("FILE: expected the name of one array, as in "), "{text}");
            assert!(text.ends_with(":NAME; it holds a, b/c"), "{text}");
            let text = message(read_tensor(&format!("{path}:d")), &path);
            assert_eq!(text, "FILE: expected an array named \"d\", found a, b/c");
            let path = folder.file("only.npz", &npz(&[("a.npy", &one)], method));
            assert_eq!(read_tensor(&path).unwrap().shape, [3]);
        }
        let path = folder.file("none.npz", &npz(&[], CompressionMethod::Stored));
        assert!(message(read_tensor(&path), &path).ends_with("it holds no arrays"));
        let path = folder.file("junk.npz", b"no zip file at all");
        assert!(message(read_tensor(&path), &path).starts_with("FILE: expected a NumPy .npz archive, found "));
    }

    #[test]
    fn damaged_archives() {
        let folder = Folder::new();
        let array = npy(&[3], &[1.0_f32, 2.0, 3.0]);
        let whole = npz(&[("a.npy", &array)], CompressionMethod::Stored);
        let mut flipped = whole.clone();
        let value = whole.windows(4).position(|bytes| bytes == 2.0_f32.to_le_bytes()).unwrap();
        flipped[value] ^= 1;
        let path = folder.file("flipped.npz", &flipped);
        assert!(message(read_tensor(&path), &path).contains("checksum"));
        let path = folder.file("short.npz", &npz(&[("a.npy", &array[..130])], CompressionMethod::Deflated));
        let text = message(read_tensor(&path), &path);
        assert_eq!(text, "FILE:a: expected 12 bytes of data (float32 [3]), found 2; the file is cut short");
        for end in 0..whole.len() {
            let path = folder.file("cut.npz", &whole[..end]);
            message(read_tensor(&path), &path);
        }
    }

    #[test]
    fn safetensors_files() {
        let folder = Folder::new();
        let halves = [1.0, 2.0, 3.0].map(f16::from_f32);
        let half_bytes = halves.map(f16::to_le_bytes).concat();
        let path = folder.file(
            "x.safetensors",
            &safetensors(&[
                ("head.logits", Dtype::F16, &[3, 1, 1], &half_bytes),
                ("labels", Dtype::I32, &[2], &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
                ("brain", Dtype::BF16, &[1], &[0, 0]),
                ("tiny", Dtype::F8_E4M3, &[1], &[0]),
            ]),
        );
        let logits = read_logits(&format!("{path}:head.logits")).unwrap();
        assert_eq!((logits.shape, logits.data), (vec![3, 1, 1], TensorData::F16(halves.to_vec())));
        assert_eq!(read_tensor(&format!("{path}:labels")).unwrap().data, TensorData::Int(vec![1, -1]));
        let text = message(read_tensor(&format!("{path}:brain")), &path);
        assert!(
            text.starts_with("FILE:brain: expected float32, float16 or an integer type, found bfloat16; "),
            "{text}"
        );
        assert!(message(read_tensor(&format!("{path}:tiny")), &path).contains("found F8_E4M3"));
        assert!(message(read_tensor(&path), &path).contains("it holds "));
        assert!(message(read_tensor(&format!("{path}:x")), &path).contains("expected an array named \"x\""));
    }

    #[test]
    fn damaged_safetensors_files() {
        let folder = Folder::new();
        let whole = safetensors(&[("a", Dtype::F32, &[1, 2, 1], &[0; 8])]);
        let path = folder.file("whole.safetensors", &whole);
        assert_eq!(read_tensor(&path).unwrap().shape, [1, 2, 1]);
        for end in 0..whole.len() {
            let path = folder.file("cut.safetensors", &whole[..end]);
            message(read_tensor(&path), &path);
        }
        let path = folder.file("short.safetensors", &whole[..whole.len() - 3]);
        assert_eq!(
            message(read_tensor(&path), &path),
            "FILE:a: expected 8 bytes of data (float32 [1, 2, 1]), found 5; the file is cut short"
        );
        let header = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        for text in [
            "",
            "{",
            r#"{"a":{"dtype":"F32","shape":[4294967295,4294967295,4],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#,
        ] {
            let path = folder.file("bad.safetensors", &header(text));
            message(read_tensor(&path), &path);
        }
        let path = folder.file("long.safetensors", &[0xff; 64]);
        let text = message(read_tensor(&path), &path);
        assert!(text.ends_with("found a header of 18446744073709551615 bytes in a file of 64"), "{text}");
    }

    #[test]
    fn vectors() {
        assert_eq!(read_vector("1,0.5, 2e1").unwrap(), [1.0, 0.5, 20.0]);
        assert_eq!(read_vector("3").unwrap(), [3.0]);
        let text = read_vector("1,,2").unwrap_err().to_string();
        assert!(text.starts_with("1,,2: expected numbers") && text.ends_with("found \"\""), "{text}");
        assert!(read_vector("w.txt").is_err());

        let folder = Folder::new();
        let path = folder.file("w.npy", &npy(&[2], &[1.0_f32, 3.0]));
        assert_eq!(read_vector(&path).unwrap(), [1.0, 3.0]);
        let path = folder.file("w2.npy", &npy(&[1, 2], &[1.0_f32, 3.0]));
        assert_eq!(message(read_vector(&path), &path), "FILE: expected 1 dimension, found 2: [1, 2]");
        // numpy.array([0.5]) is float64 unless told otherwise, so a vector may be.
        let mut double = npy(&[1], &[0.0_f32]);
        double.truncate(128);
        double.extend(0.5_f64.to_le_bytes());
        let text_at = double.windows(3).position(|bytes| bytes == b"<f4").unwrap();
        double[text_at + 2] = b'8';
        let path = folder.file("w3.npy", &double);
        assert_eq!(read_vector(&path).unwrap(), [0.5]);
    }

    #[test]
    fn no_such_file() {
        let folder = Folder::new();
        let path = folder.0.path().join("nope.npz").to_str().unwrap().to_owned();
        assert!(message(read_tensor(&format!("{path}:a")), &path).starts_with("FILE: cannot be opened: "));
        let path = folder.0.path().join("folder.npy").to_str().unwrap().to_owned();
        fs::create_dir(&path).unwrap();
        assert_eq!(message(read_tensor(&path), &path), "FILE: expected a file, found a folder");
    }
}
