//! Where an array is: the path forms `x.npy`, `FILE.npz:NAME` and `FILE.safetensors:NAME`.

use super::Error;
use std::{fs, path::Path};

/// The endings of a file name that an array can be read from.
const ENDINGS: &str = ".npy, .npz, .npz:NAME, .safetensors or .safetensors:NAME";

/// A path, taken apart. The names of archive members are optional.
#[derive(Debug, PartialEq, Eq)]
pub enum Location<'a> {
    /// A NumPy array.
    Npy(&'a str),
    /// An array in a NumPy archive.
    Npz(&'a str, Option<&'a str>),
    /// A tensor in a safetensors file.
    Safetensors(&'a str, Option<&'a str>),
}

impl<'a> Location<'a> {
    /// Takes a path apart. A stream, such as `/dev/stdin`, has a NumPy array.
    ///
    /// # Errors
    ///
    /// [`Error::Ending`] if the file name has none of the endings.
    pub fn parse(path: &'a str) -> Result<Self, Error> {
        if let Some((file, name)) = split(path, ".npz") {
            Ok(Location::Npz(file, name))
        } else if let Some((file, name)) = split(path, ".safetensors") {
            Ok(Location::Safetensors(file, name))
        } else if has_ending(path, ".npy") || is_stream(path) {
            Ok(Location::Npy(path))
        } else {
            Err(Error::Ending { path: path.to_owned(), expected: ENDINGS })
        }
    }
}

/// Whether a path is that of a pipe, a device, or an open file of this process, whose name says nothing of what is in
/// it.
fn is_stream(path: &str) -> bool {
    let open_files = ["/dev/stdin", "/dev/fd"];
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|metadata| {
        !metadata.is_dir() && (!metadata.is_file() || open_files.iter().any(|files| Path::new(path).starts_with(files)))
    })
}

/// The file of a path that may name an array in it.
pub fn file_of(path: &str) -> &str {
    match Location::parse(path) {
        Ok(Location::Npz(file, _) | Location::Safetensors(file, _)) => file,
        _ => path,
    }
}

/// Whether a path ends so, in upper or lower case.
pub fn has_ending(path: &str, ending: &str) -> bool {
    path.len()
        .checked_sub(ending.len())
        .and_then(|at| path.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// `FILE.ending` or `FILE.ending:NAME` as its file and name. A colon anywhere else belongs to the file's name, as
/// in `C:\x.npz`.
fn split<'a>(path: &'a str, ending: &str) -> Option<(&'a str, Option<&'a str>)> {
    for (colon, _) in path.match_indices(':') {
        let (file, name) = (&path[..colon], &path[colon + 1..]);
        if has_ending(file, ending) {
            return Some((file, (!name.is_empty()).then_some(name)));
        }
    }
    has_ending(path, ending).then_some((path, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forms() {
        for (path, expected) in [
            ("x.npy", Location::Npy("x.npy")),
            (r"C:\x.NPY", Location::Npy(r"C:\x.NPY")),
            ("a/b:c.npy", Location::Npy("a/b:c.npy")),
            ("x.npz", Location::Npz("x.npz", None)),
            ("x.npz:", Location::Npz("x.npz", None)),
            (r"C:\x.npz", Location::Npz(r"C:\x.npz", None)),
            (r"C:\x.npz:a:b/c", Location::Npz(r"C:\x.npz", Some("a:b/c"))),
            ("x.safetensors:head.npy", Location::Safetensors("x.safetensors", Some("head.npy"))),
            ("x.npz.safetensors:w", Location::Safetensors("x.npz.safetensors", Some("w"))),
        ] {
            assert_eq!(Location::parse(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn other_endings() {
        for path in ["", "x", "x.png", "npy", "ü", "x.npy:a", "x.pt"] {
            let text = Location::parse(path).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{path}: expected a file name that ends in .npy")), "{text}");
        }
    }
}
