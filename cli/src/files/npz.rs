//! NumPy archives: zip files in which each member `NAME.npy` is an array.

use super::{
    Error,
    array::{ArrayFile, Elements},
    npy,
    tensor::Purpose,
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
};
use zip::{CompressionMethod, ZipArchive, result::ZipError};

/// Opens one array of an archive: the one of that name, or the only one. All of it is read once for the checksum; it
/// is kept in memory if it is compressed.
///
/// # Errors
///
/// [`Error::Format`] for anything but a zip file, [`Error::NoName`], [`Error::UnknownName`], [`Error::Read`] for a
/// checksum that is not that of the data, and what [`npy::read`] refuses.
pub fn open(file: File, path: &str, name: Option<&str>, purpose: Purpose) -> Result<ArrayFile, Error> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(path, error))?;
    let arrays = arrays(&archive);
    let held = || arrays.iter().map(|(_, name)| name.clone()).collect();
    let (index, name) = match (name, &arrays[..]) {
        (Some(name), _) => arrays.iter().find(|(_, array)| array == name).ok_or_else(|| Error::UnknownName {
            path: path.to_owned(),
            name: name.to_owned(),
            held: held(),
        })?,
        (None, [only]) => only,
        (None, _) => return Err(Error::NoName { path: path.to_owned(), held: held() }),
    };
    let path = format!("{path}:{name}");
    let mut member = archive.by_index(*index).map_err(|error| broken(&path, error))?;
    let is_stored = member.compression() == CompressionMethod::Stored;
    let start = npy::Start::read(&mut member, &path, purpose)?;
    let elements = match member.data_start() {
        Some(position) if is_stored && start.has_c_order => {
            let length = member.size().min(member.compressed_size());
            start.layout.bytes(Some(length.saturating_sub(start.length)), &path)?;
            check_rest(member, &path)?;
            Elements::Stored { file: archive.into_inner().into_inner(), start: position + start.length }
        }
        _ => {
            let length = member.size();
            let data = start.elements(&mut member, Some(length), &path)?;
            check_rest(member, &path)?;
            Elements::Memory(data)
        }
    };
    Ok(ArrayFile { path, layout: start.layout, elements })
}

/// Reads a member to its end, where the checksum is compared.
fn check_rest(mut member: impl Read, path: &str) -> Result<(), Error> {
    let mut chunk = vec![0; 1 << 18];
    loop {
        match member.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                return Err(Error::Read { path: path.to_owned(), source });
            }
            _ => {}
        }
    }
}

/// The arrays of an archive: their places in it and their names, as NumPy sees them.
fn arrays(archive: &ZipArchive<BufReader<File>>) -> Vec<(usize, String)> {
    let members = archive.file_names().enumerate();
    members.filter_map(|(index, member)| Some((index, member.ok()?.strip_suffix(".npy")?.to_owned()))).collect()
}

fn broken(path: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) => Error::Read { path: path.to_owned(), source },
        other => Error::Format {
            path: path.to_owned(),
            expected: "a NumPy .npz archive",
            found: format!("what is no readable zip file ({other})"),
        },
    }
}
