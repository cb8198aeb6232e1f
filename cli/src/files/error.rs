//! What can go wrong with a file, in one line each.

use std::{fmt, io};

/// Why a file could not be read or written.
///
/// `Display` gives one line that names the file, what was expected, what was found, and what to do where that is
/// known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input file is missing or may not be opened.
    #[error("{}: cannot be opened: {source}", line(path))]
    Open {
        /// The path as the user gave it.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// An input file was opened, but reading it failed.
    #[error("{}: cannot be read: {}", line(path), line(source))]
    Read {
        /// The path as the user gave it.
        path: String,
        /// What the operating system or the decompressor said.
        source: io::Error,
    },

    /// A file name does not end in one of the endings that are understood there.
    #[error("{}: expected a file name that ends in {expected}", line(path))]
    Ending {
        /// The path as the user gave it.
        path: String,
        /// The endings that are understood.
        expected: &'static str,
    },

    /// The content of a file is not of the format that its name promises.
    #[error("{}: expected {expected}, found {}", line(path), line(found))]
    Format {
        /// The path as the user gave it.
        path: String,
        /// The format, with its article: "a NumPy .npy file".
        expected: &'static str,
        /// What was found instead.
        found: String,
    },

    /// A file is shorter than its header says.
    #[error(
        "{}: expected {expected} bytes of data ({element} {shape:?}), found {found}; the file is cut short",
        line(path)
    )]
    Truncated {
        /// The path as the user gave it.
        path: String,
        /// The element type the header names.
        element: &'static str,
        /// The shape the header names.
        shape: Vec<usize>,
        /// Bytes that such an array takes.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },

    /// A shape whose size in bytes cannot be counted, so that no file can hold it.
    #[error(
        "{}: expected the shape of an array that fits in memory, found {shape:?}; the header is damaged",
        line(path)
    )]
    Unrepresentable {
        /// The path as the user gave it.
        path: String,
        /// The shape the header names.
        shape: Vec<usize>,
    },

    /// The array does not fit in the memory that is left.
    #[error("{}: needs {bytes} bytes of memory, more than this machine gives", line(path))]
    OutOfMemory {
        /// The path as the user gave it.
        path: String,
        /// Bytes that were asked for.
        bytes: u64,
    },

    /// An archive holds several arrays and the path names none.
    #[error("{}: expected the name of one array, as in {}:NAME; it holds {}", line(path), line(path), names(held))]
    NoName {
        /// The path as the user gave it.
        path: String,
        /// The arrays in the archive.
        held: Vec<String>,
    },

    /// An archive does not hold the array that the path names.
    #[error("{}: expected an array named {name:?}, found {}", line(path), names(held))]
    UnknownName {
        /// The archive.
        path: String,
        /// The name that was asked for.
        name: String,
        /// The arrays in the archive.
        held: Vec<String>,
    },

    /// The elements are of a type that does not serve the purpose.
    #[error("{}: expected {expected}, found {}; {hint}", line(path), line(found))]
    Element {
        /// The path as the user gave it.
        path: String,
        /// The types that serve.
        expected: &'static str,
        /// The type in the file.
        found: String,
        /// What to do about it.
        hint: &'static str,
    },

    /// The number of dimensions does not serve the purpose.
    #[error("{}: expected {expected}, found {}: {shape:?}", line(path), shape.len())]
    Rank {
        /// The path as the user gave it.
        path: String,
        /// The dimensions that serve.
        expected: &'static str,
        /// The shape in the file.
        shape: Vec<usize>,
    },

    /// One of the dimensions is zero.
    #[error("{}: expected no dimension of size 0, found {shape:?}", line(path))]
    Empty {
        /// The path as the user gave it.
        path: String,
        /// The shape in the file.
        shape: Vec<usize>,
    },

    /// An unsigned 64-bit value beyond the largest signed one.
    #[error("{}: expected integers up to {}, found {value}", line(path), i64::MAX)]
    Integer {
        /// The path as the user gave it.
        path: String,
        /// The value in the file.
        value: u64,
    },

    /// A comma list of numbers holds something that is not a number.
    #[error(
        "{}: expected numbers with commas between them (such as 1,0.5,2) or a .npy file, found {entry:?}",
        line(list)
    )]
    Number {
        /// The whole list.
        list: String,
        /// The entry that is not a number.
        entry: String,
    },

    /// What was asked for is neither a palette nor a file.
    #[error("{}: expected a palette ({known}) or a file with one, found neither", line(name))]
    NoPalette {
        /// What was asked for.
        name: String,
        /// The palettes that there are.
        known: String,
    },

    /// The text of a file is no palette.
    #[error("{}: {source}", line(path))]
    Palette {
        /// The path as the user gave it.
        path: String,
        /// What the library says.
        source: seghead::Error,
    },

    /// A palette has fewer colours than there are classes.
    #[error("--palette {}: expected a colour for each of {classes} classes, found {found}", line(path))]
    Colours {
        /// The palette as the user gave it.
        path: String,
        /// How many classes there are.
        classes: u32,
        /// How many colours there are.
        found: usize,
    },

    /// A batch was to be written to a file that holds one image.
    #[error("{}: expected one image for a .png, found {shape:?}; write a .npy instead", line(path))]
    Batch {
        /// The path as the user gave it.
        path: String,
        /// The shape that was to be written.
        shape: Vec<usize>,
    },

    /// The number of values to be written is not that of the shape.
    #[error("{}: expected as many values as the shape {shape:?} has, found {found}", line(path))]
    Length {
        /// The path as the user gave it.
        path: String,
        /// The shape that was to be written.
        shape: Vec<usize>,
        /// How many values there were.
        found: usize,
    },

    /// Two outputs of one command have the same path.
    #[error("{}: expected a different path for each output, found this one twice", line(path))]
    SamePath {
        /// The path as the user gave it.
        path: String,
    },

    /// An output would take the place of an input.
    #[error("{}: expected an output that is none of the inputs", line(path))]
    Input {
        /// The path as the user gave it.
        path: String,
    },

    /// The folder an output belongs in does not exist.
    #[error("{}: cannot be written: the folder {} does not exist; create it first", line(path), line(folder))]
    NoFolder {
        /// The path as the user gave it.
        path: String,
        /// The folder.
        folder: String,
    },

    /// An output cannot be written.
    #[error("{}: cannot be written: {}", line(path), line(source))]
    Write {
        /// The path as the user gave it.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// The exit status of a command that ends with this error: 2 for bad input or usage, 1 for anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Open { .. }
            | Error::Read { .. }
            | Error::Ending { .. }
            | Error::Format { .. }
            | Error::Truncated { .. }
            | Error::Unrepresentable { .. }
            | Error::NoName { .. }
            | Error::UnknownName { .. }
            | Error::Element { .. }
            | Error::Rank { .. }
            | Error::Empty { .. }
            | Error::Integer { .. }
            | Error::Number { .. }
            | Error::NoPalette { .. }
            | Error::Palette { .. }
            | Error::Colours { .. }
            | Error::Batch { .. }
            | Error::SamePath { .. }
            | Error::Input { .. } => 2,
            Error::OutOfMemory { .. } | Error::Length { .. } | Error::NoFolder { .. } | Error::Write { .. } => 1,
        }
    }
}

/// The text with control characters escaped: paths and names out of files may hold line breaks, a message may not.
fn line(text: impl fmt::Display) -> String {
    let mut escaped = String::new();
    for c in text.to_string().chars() {
        if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// The names of arrays as a list, cut where it would no longer be read.
fn names(held: &[String]) -> String {
    const SHOWN: usize = 12;
    if held.is_empty() {
        return "no arrays".to_owned();
    }
    let mut list = held.iter().take(SHOWN).map(line).collect::<Vec<_>>().join(", ");
    if held.len() > SHOWN {
        list += &format!(" and {} more", held.len() - SHOWN);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_the_names_hold() {
        let held = (0..40).map(|i| format!("a\n{i}")).collect();
        let text = Error::NoName { path: "x\r.npz".to_owned(), held }.to_string();
        assert!(!text.contains(['\n', '\r']), "{text}");
        assert!(text.ends_with("a\\n11 and 28 more"), "{text}");
    }

    #[test]
    fn exit_codes() {
        let path = || "x".to_owned();
        assert_eq!(Error::Open { path: path(), source: io::ErrorKind::NotFound.into() }.exit_code(), 2);
        assert_eq!(Error::SamePath { path: path() }.exit_code(), 2);
        assert_eq!(Error::Write { path: path(), source: io::ErrorKind::StorageFull.into() }.exit_code(), 1);
        assert_eq!(Error::NoFolder { path: path(), folder: path() }.exit_code(), 1);
    }
}
