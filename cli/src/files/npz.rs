//! NumPy archives: zip files in which each member `NAME.npy` is an array.

use super::{
    Error, npy,
    tensor::{Purpose, Tensor},
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
};
use zip::{ZipArchive, result::ZipError};

/// Reads one array of an archive: the one of that name, or the only one.
///
/// # Errors
///
/// [`Error::Format`] for anything but a zip file, [`Error::NoName`], [`Error::UnknownName`], and what [`npy::read`]
/// refuses.
pub fn read(file: File, path: &str, name: Option<&str>, purpose: Purpose) -> Result<Tensor, Error> {
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
    let length = member.size();
    let tensor = npy::read(&mut member, Some(length), &path, purpose)?;
    // The checksum is compared only once the end is reached.
    let end = io::copy(&mut member.take(1), &mut io::sink());
    end.map_err(|source| Error::Read { path, source })?;
    Ok(tensor)
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
