//! Logits that stay in their file, from which parts are read as they are asked for.

use super::{
    Error,
    array::{ArrayFile, Elements},
    element::{Element, Layout},
    tensor::{self, Purpose, TensorData},
};
use half::f16;
use seghead::{ElementType, Input};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

/// Logits in a file, which may be larger than memory: float32 or float16, of three or four dimensions, none of them
/// zero. Which dimension is which is for the caller to know.
///
/// In memory are only those that come through a pipe, are compressed, or are in Fortran order.
#[derive(Debug)]
pub struct LogitsFile {
    path: String,
    layout: Layout,
    source: Source,
}

#[derive(Debug)]
enum Source {
    F32(Vec<f32>),
    F16(Vec<f16>),
    File(Parts),
}

impl LogitsFile {
    /// Opens `x.npy`, `FILE.npz:NAME` or `FILE.safetensors:NAME`, and checks that what the header promises is there.
    /// The name may be left out where the file holds one array.
    ///
    /// # Errors
    ///
    /// [`Error`] for a path or file that is none of these or is damaged; [`Error::Element`], [`Error::Rank`] and
    /// [`Error::Empty`].
    pub fn open(path: &str) -> Result<Self, Error> {
        let ArrayFile { path, layout, elements } = tensor::open(path, Purpose::Logits)?;
        let source = match elements {
            Elements::Stored { file, start } => Source::File(Parts::new(file, start, layout.clone(), &path)?),
            Elements::Memory(TensorData::F32(values)) => Source::F32(values),
            Elements::Memory(TensorData::F16(values)) => Source::F16(values),
            Elements::Memory(TensorData::Int(_)) => {
                return Err(Error::Format { path, expected: "logits", found: "integers".to_owned() });
            }
        };
        Ok(Self { path, layout, source })
    }

    /// The dimensions, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// The elements from the first to the last, for the library to read what it needs of them; any number of times.
    pub fn input(&mut self) -> Input<'_> {
        self.first(u64::MAX)
    }

    /// The first of them, at most so many.
    pub fn first(&mut self, most: u64) -> Input<'_> {
        let of = |all: usize| usize::try_from(most).unwrap_or(all).min(all);
        match &mut self.source {
            Source::F32(values) => Input::from(&values[..of(values.len())]),
            Source::F16(values) => Input::f16(bytemuck::cast_slice(&values[..of(values.len())])),
            Source::File(parts) => {
                let element = parts.layout.element;
                let element_type = if element == Element::F16 { ElementType::F16 } else { ElementType::F32 };
                let elements = most.min(parts.bytes / element.size() as u64);
                Input::reader(element_type, elements, |first, bytes| parts.read(first, bytes))
            }
        }
    }

    /// Reads the elements into memory if they are at most so many bytes; others stay in the file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] and [`Error::Truncated`].
    pub fn load(&mut self, most: u64) -> Result<(), Error> {
        let Source::File(parts) = &mut self.source else { return Ok(()) };
        if parts.bytes > most {
            return Ok(());
        }
        let elements = (parts.bytes / parts.layout.element.size() as u64) as usize;
        let (read, source) = if parts.layout.element == Element::F16 {
            let mut values = vec![f16::ZERO; elements];
            (parts.read(0, bytemuck::cast_slice_mut(&mut values)), Source::F16(values))
        } else {
            let mut values = vec![0.0; elements];
            (parts.read(0, bytemuck::cast_slice_mut(&mut values)), Source::F32(values))
        };
        read.map_err(|error| self.failure(error))?;
        self.source = source;
        Ok(())
    }

    /// What went wrong when the library read from [`input`](Self::input).
    pub fn failure(&self, source: io::Error) -> Error {
        match &self.source {
            // The file was long enough when it was opened.
            Source::File(parts) if source.kind() == io::ErrorKind::UnexpectedEof => {
                let length = parts.file.metadata().map_or(0, |metadata| metadata.len());
                self.layout.truncated(&self.path, parts.bytes, length.saturating_sub(parts.start).min(parts.bytes))
            }
            _ => Error::Read { path: self.path.clone(), source },
        }
    }
}

/// Bytes that are read at a time where many small parts are asked for one after another.
const AHEAD: usize = 1 << 18;

/// Most bytes between such parts: a page, which the system reads at a time anyhow.
const GAP: u64 = 1 << 12;

/// The elements of a file, of which parts can be read.
#[derive(Debug)]
struct Parts {
    file: File,
    /// The byte of the file that the elements begin with.
    start: u64,
    /// Bytes of all elements.
    bytes: u64,
    layout: Layout,
    /// The part that was asked for last, in bytes of the elements.
    last: Range<u64>,
    /// What was read ahead, in this machine's byte order, and where it begins.
    ahead: (u64, Vec<u8>),
}

impl Parts {
    fn new(file: File, start: u64, layout: Layout, path: &str) -> Result<Self, Error> {
        let bytes = layout.bytes(None, path)?;
        Ok(Self { file, start, bytes, layout, last: 0..0, ahead: (0, Vec::new()) })
    }

    /// Fills `part` with the elements from `first` on, in this machine's byte order.
    fn read(&mut self, first: u64, part: &mut [u8]) -> io::Result<()> {
        let at = first * self.layout.element.size() as u64;
        let last = std::mem::replace(&mut self.last, at..at + part.len() as u64);
        if let Some(known) = self.known(at, part.len()) {
            part.copy_from_slice(known);
            return Ok(());
        }
        // Images, or bands, of a few pixels have as few elements in a class. A call of the system for each would take
        // far longer than to read what lies between them too.
        let is_small = |length: usize| length < AHEAD;
        let is_near = at.checked_sub(last.end).is_some_and(|gap| gap <= GAP);
        if !is_near || !is_small(part.len()) || !is_small((last.end - last.start) as usize) {
            return self.fill(at, part);
        }
        let mut ahead = std::mem::take(&mut self.ahead.1);
        ahead.resize(AHEAD.min(usize::try_from(self.bytes - at).unwrap_or(AHEAD)), 0);
        self.fill(at, &mut ahead)?;
        part.copy_from_slice(&ahead[..part.len()]);
        self.ahead = (at, ahead);
        Ok(())
    }

    /// The bytes from `at` on, if they were read ahead.
    fn known(&self, at: u64, length: usize) -> Option<&[u8]> {
        let (start, bytes) = &self.ahead;
        let skipped = usize::try_from(at.checked_sub(*start)?).ok()?;
        bytes.get(skipped..)?.get(..length)
    }

    fn fill(&mut self, at: u64, part: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start + at))?;
        self.file.read_exact(part)?;
        self.layout.to_native_order(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::npy;
    use std::{fs, io::Write};

    /// A file of big-endian float32 numbers, which are their own indices, after a few other bytes.
    fn parts(count: u32) -> (tempfile::NamedTempFile, Parts) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let values = (0..count).flat_map(|value| (value as f32).to_be_bytes());
        fs::write(file.path(), [7; 5].into_iter().chain(values).collect::<Vec<_>>()).unwrap();
        let layout = Layout { element: Element::F32, big_endian: true, shape: vec![1, 1, count as usize] };
        let parts = Parts::new(file.reopen().unwrap(), 5, layout, "x").unwrap();
        (file, parts)
    }

    #[track_caller]
    fn check(parts: &mut Parts, first: u32, count: u32) {
        let mut values = vec![0.0_f32; count as usize];
        parts.read(first.into(), bytemuck::cast_slice_mut(&mut values)).unwrap();
        let expected: Vec<f32> = (first..first + count).map(|value| value as f32).collect();
        assert!(values == expected, "{count} from {first} on");
    }

    #[test]
    fn parts_in_any_order() {
        const COUNT: u32 = 200_001;
        let (_file, mut parts) = parts(COUNT);
        for (first, count) in [(0, 1), (COUNT - 1, 1), (0, COUNT), (40, 3), (43, 3), (46, 0), (44, 2), (30_000, 30_000)]
        {
            check(&mut parts, first, count);
        }
        // One after another, beyond what is read ahead at a time, and with gaps.
        for count in [1, 3, 1_000, 4_096, AHEAD as u32 / 4 - 1, AHEAD as u32 / 4] {
            for first in (0..COUNT).step_by(count as usize) {
                check(&mut parts, first, count.min(COUNT - first));
            }
            for first in (0..COUNT).step_by(count as usize + 1_000) {
                check(&mut parts, first, count.min(COUNT - first));
            }
        }
    }

    /// On other systems, the file would take the room on the disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn parts_beyond_four_gibibytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (start, count) = (128, (5 << 28) + 3_u64);
        file.as_file().set_len(start + count * 4).unwrap();
        let (first, values) = (count - 3, [1.0_f32, 2.0, 3.0]);
        file.as_file().seek(SeekFrom::Start(start + first * 4)).unwrap();
        file.as_file().write_all(bytemuck::cast_slice(&values)).unwrap();
        let big_endian = cfg!(target_endian = "big");
        let layout = Layout { element: Element::F32, big_endian, shape: vec![1, 1, count as usize] };
        let mut parts = Parts::new(file.reopen().unwrap(), start, layout, "x").unwrap();
        let mut found = [0.0_f32; 3];
        parts.read(first, bytemuck::cast_slice_mut(&mut found)).unwrap();
        assert_eq!(found, values);
    }

    #[test]
    fn small_parts_are_read_many_at_a_time() {
        let (file, mut parts) = parts(50_000);
        check(&mut parts, 0, 3);
        check(&mut parts, 3, 3);
        // All else is there already.
        fs::write(file.path(), "").unwrap();
        check(&mut parts, 49_990, 10);
    }

    #[test]
    fn a_file_that_is_cut_after_it_was_opened() {
        let file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
        let path = file.path().to_str().unwrap();
        let mut bytes = Vec::new();
        npy::write(&mut bytes, &[2, 2, 3], &[0.0_f32; 12]).unwrap();
        fs::write(path, &bytes).unwrap();
        let mut logits = LogitsFile::open(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
        let Source::File(parts) = &mut logits.source else { unreachable!() };
        let error = parts.read(6, &mut [0; 24]).unwrap_err();
        let expected = "expected 48 bytes of data (float32 [2, 2, 3]), found 39; the file is cut short";
        assert_eq!(logits.failure(error).to_string(), format!("{path}: {expected}"));
        let error = logits.failure(io::ErrorKind::StaleNetworkFileHandle.into());
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }

    #[test]
    fn the_elements_any_number_of_times() {
        for (descr, element_type) in [(&b"<f4"[..], ElementType::F32), (b"<f2", ElementType::F16)] {
            let file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
            let path = file.path().to_str().unwrap();
            let mut bytes = Vec::new();
            npy::write(&mut bytes, &[1, 1, 3], &[0.0_f32; 3]).unwrap();
            let at = bytes.windows(3).position(|bytes| bytes == b"<f4").unwrap();
            bytes[at..at + 3].copy_from_slice(descr);
            fs::write(path, &bytes).unwrap();
            let mut logits = LogitsFile::open(path).unwrap();
            for most in [0, 3, 100] {
                let input = logits.input();
                assert_eq!((input.elements(), input.element_type()), (3, element_type));
                drop(input);
                logits.load(most).unwrap();
                assert_eq!(matches!(logits.source, Source::File(_)), most < 6);
            }
        }
    }
}
