//! Outputs that appear whole or not at all.

use super::{
    Error,
    location::{file_of, has_ending},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tempfile::TempPath;

/// The output files of one command.
///
/// Each is written to a temporary file beside its destination, and [`commit`](Self::commit) renames all of them at the
/// end. Dropped without it, the temporary files are removed and nothing is left.
///
/// A destination that exists and is no regular file, such as `/dev/null` or a named pipe, is written directly.
#[derive(Debug, Default)]
#[must_use = "nothing appears before `commit`"]
pub struct Outputs {
    pending: Vec<Pending>,
}

/// A file that is complete but for its name.
#[derive(Debug)]
struct Pending {
    /// The path as the user gave it.
    path: String,
    destination: PathBuf,
    temporary: TempPath,
}

impl Outputs {
    /// No outputs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks, before there is anything to write, that all `planned` outputs can be written: that their names end as
    /// they should, that no two are the same file or one of `inputs`, and that their folders take new files.
    ///
    /// # Errors
    ///
    /// [`Error::Ending`], [`Error::SamePath`], [`Error::Input`], [`Error::NoFolder`] and [`Error::Write`].
    pub fn check(inputs: &[&str], planned: &[(&str, Content)]) -> Result<(), Error> {
        let inputs: Vec<_> = inputs.iter().filter_map(|path| fs::canonicalize(file_of(path)).ok()).collect();
        let mut destinations = Vec::new();
        for &(path, content) in planned {
            if is_stream(path) {
                continue;
            }
            content.check(path)?;
            let destination = destination(path)?;
            if inputs.contains(&destination) {
                return Err(Error::Input { path: path.to_owned() });
            }
            if destinations.contains(&destination) {
                return Err(Error::SamePath { path: path.to_owned() });
            }
            let folder = destination.parent().unwrap_or(Path::new("."));
            temporary_file(folder).map_err(|source| Error::Write { path: path.to_owned(), source: plain(source) })?;
            destinations.push(destination);
        }
        Ok(())
    }

    /// Adds an output with the content that `content` writes. The writer is buffered.
    ///
    /// # Errors
    ///
    /// [`Error::SamePath`] if there already is an output of this path, [`Error::NoFolder`] if its folder does not
    /// exist, and [`Error::Write`] if the file cannot be made, or `content` fails, or not everything could be stored.
    pub fn write(&mut self, path: &str, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        if is_stream(path) {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return write_all(file, content).map(drop).map_err(failed);
        }

        let destination = destination(path)?;
        if self.pending.iter().any(|other| other.destination == destination) {
            return Err(Error::SamePath { path: path.to_owned() });
        }
        let folder = destination.parent().unwrap_or(Path::new("."));
        let (file, temporary) = temporary_file(folder).map_err(|error| failed(plain(error)))?.into_parts();
        let file = write_all(file, content).map_err(failed)?;
        keep_permissions(&file, &destination).map_err(failed)?;
        // A full disk or quota may show only now, and once the file has its name it must have its content.
        file.sync_all().map_err(failed)?;
        self.pending.push(Pending { path: path.to_owned(), destination, temporary });
        Ok(())
    }

    /// Gives every output its name, in place of any file that had it.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if a file cannot be renamed. Those that were renamed before it are removed again, as far as
    /// that is possible, unless they took the place of an existing file.
    pub fn commit(self) -> Result<(), Error> {
        let mut created: Vec<PathBuf> = Vec::new();
        for Pending { path, destination, temporary } in self.pending {
            let is_new = fs::symlink_metadata(&destination).is_err();
            if let Err(error) = temporary.persist(&destination) {
                for file in created {
                    // The rename's failure is what is reported; there is nothing else to be done about this one.
                    let _ = fs::remove_file(file);
                }
                return Err(Error::Write { path, source: error.error });
            }
            if is_new {
                created.push(destination);
            }
        }
        Ok(())
    }
}

/// What an output holds, which decides on the endings that its name may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An array of any shape: `.npy`.
    Array,
    /// A map of labels or scores: `.npy` or `.png`.
    Map,
    /// A picture: `.png`.
    Picture,
    /// Text, by any name.
    Text,
}

impl Content {
    fn check(self, path: &str) -> Result<(), Error> {
        let (npy, png) = (has_ending(path, ".npy"), has_ending(path, ".png"));
        let (fits, expected) = match self {
            Content::Array => (npy, ".npy"),
            Content::Map => (npy || png, ".npy or .png"),
            Content::Picture => (png, ".png"),
            Content::Text => (true, "any"),
        };
        if fits { Ok(()) } else { Err(Error::Ending { path: path.to_owned(), expected }) }
    }
}

/// The file formats that results are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A NumPy array.
    Npy,
    /// A picture.
    Png,
}

impl Format {
    /// The format that the ending of a path asks for. A stream, such as `/dev/stdout`, gets a NumPy array.
    ///
    /// # Errors
    ///
    /// [`Error::Ending`] for any other ending.
    pub fn of(path: &str) -> Result<Self, Error> {
        if has_ending(path, ".png") {
            Ok(Format::Png)
        } else if has_ending(path, ".npy") || is_stream(path) {
            Ok(Format::Npy)
        } else {
            Err(Error::Ending { path: path.to_owned(), expected: ".npy or .png" })
        }
    }
}

/// Whether a path is to be written to rather than replaced: a device, a pipe, or an open file of this process.
fn is_stream(path: &str) -> bool {
    let open_files = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    fs::metadata(path).is_ok_and(|metadata| {
        !metadata.is_dir() && (!metadata.is_file() || open_files.iter().any(|files| Path::new(path).starts_with(files)))
    })
}

/// The path that is renamed to, the same for all paths of one file. A link stays, and what it leads to is replaced.
fn destination(path: &str) -> Result<PathBuf, Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(_) => return fs::canonicalize(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let name = Path::new(path).file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::canonicalize(folder) {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NoFolder { path: path.to_owned(), folder: folder.display().to_string() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// A new file in the folder, with the permissions any new file has.
fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".seghead-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Temporary files are otherwise private to the user; the system takes the umask off these.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    // Locked before there is a file, so that a signal finds it in the list.
    let mut list = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    let file = builder.tempfile_in(folder)?;
    list.push(file.path().to_owned());
    Ok(file)
}

/// Every temporary file that was made, for a signal that ends the command before they are gone.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what temporary files there are: for a signal's handler, after which the process ends.
pub fn remove_temporary_files() {
    let mut list = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    for path in list.drain(..) {
        // Most have been renamed or removed by now.
        let _ = fs::remove_file(path);
    }
    // Stays locked: no more are made before the process ends.
    std::mem::forget(list);
}

/// An error without the name of the temporary file, which means nothing to anybody.
fn plain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

/// Gives the file the permissions of the one it is to replace, if there is one.
fn keep_permissions(file: &File, destination: &Path) -> io::Result<()> {
    match fs::metadata(destination) {
        Ok(metadata) if cfg!(unix) => file.set_permissions(metadata.permissions()),
        _ => Ok(()),
    }
}

/// Writes the content and hands the file to the operating system, all of it.
fn write_all(file: File, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    content(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listing(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn at(folder: &tempfile::TempDir, name: &str) -> String {
        folder.path().join(name).to_str().unwrap().to_owned()
    }

    #[test]
    fn outputs_are_checked_before_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let (input, other) = (at(&folder, "in.npy"), at(&folder, "out.npy"));
        fs::write(&input, "").unwrap();
        let check = |planned: &[(&str, Content)]| Outputs::check(&[input.as_str()], planned);
        assert!(check(&[(&other, Content::Array)]).is_ok());
        assert!(matches!(check(&[(&input, Content::Map)]), Err(Error::Input { .. })));
        assert!(matches!(check(&[(&other, Content::Array), (&other, Content::Map)]), Err(Error::SamePath { .. })));
        assert!(matches!(check(&[(&other, Content::Picture)]), Err(Error::Ending { expected: ".png", .. })));
        assert!(matches!(check(&[(&at(&folder, "a/b.npy"), Content::Array)]), Err(Error::NoFolder { .. })));
        assert_eq!(listing(folder.path()), ["in.npy"]);
    }

    #[test]
    fn nothing_appears_before_commit() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (at(&folder, "a"), at(&folder, "b"));
        fs::write(&b, "old").unwrap();
        let mut outputs = Outputs::new();
        outputs.write(&a, |writer| writer.write_all(b"first")).unwrap();
        outputs.write(&b, |writer| writer.write_all(b"second")).unwrap();
        assert!(!Path::new(&a).exists());
        assert_eq!(fs::read_to_string(&b).unwrap(), "old");
        outputs.commit().unwrap();
        assert_eq!(listing(folder.path()), ["a", "b"]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "first");
        assert_eq!(fs::read_to_string(&b).unwrap(), "second");
    }

    #[test]
    fn nothing_is_left_when_dropped_or_failed() {
        let folder = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::new();
        outputs.write(&at(&folder, "a"), |writer| writer.write_all(&[0; 100_000])).unwrap();
        let failure = outputs.write(&at(&folder, "b"), |writer| {
            writer.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failure.unwrap_err().exit_code(), 1);
        assert_eq!(listing(folder.path()).len(), 1);
        drop(outputs);
        assert!(listing(folder.path()).is_empty());
    }

    #[test]
    fn a_rename_that_fails_takes_the_others_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(at(&folder, "old"), "old").unwrap();
        let mut outputs = Outputs::new();
        for name in ["new", "old", "c", "d"] {
            outputs.write(&at(&folder, name), |writer| writer.write_all(b"written")).unwrap();
        }
        fs::create_dir(at(&folder, "c")).unwrap();
        let error = outputs.commit().unwrap_err();
        assert!(matches!(&error, Error::Write { path, .. } if path.ends_with("/c")), "{error}");
        assert_eq!(listing(folder.path()), ["c", "old"]);
    }

    #[test]
    fn the_same_path_twice() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(at(&folder, "sub")).unwrap();
        for name in ["x.npy", "./x.npy", "sub/../x.npy"] {
            let mut outputs = Outputs::new();
            outputs.write(&at(&folder, "x.npy"), |_| Ok(())).unwrap();
            let error = outputs.write(&at(&folder, name), |_| Ok(())).unwrap_err();
            assert!(matches!(error, Error::SamePath { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn places_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = Outputs::new().write(&at(&folder, "no/such/y.npy"), |_| Ok(())).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().ends_with("no/such does not exist; create it first"), "{error}");
        fs::write(at(&folder, "file"), "").unwrap();
        for path in [at(&folder, ""), at(&folder, "file/y.npy"), String::new(), "..".to_owned()] {
            let error = Outputs::new().write(&path, |_| Ok(())).unwrap_err();
            assert_eq!(error.exit_code(), 1, "{error}");
        }
        assert_eq!(listing(folder.path()), ["file"]);
    }

    #[test]
    fn formats() {
        assert_eq!(Format::of("x.npy").unwrap(), Format::Npy);
        assert_eq!(Format::of("a.npy/x.PNG").unwrap(), Format::Png);
        for path in ["x", "x.npz", "x.jpg", "png"] {
            let error = Format::of(path).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert_eq!(error.to_string(), format!("{path}: expected a file name that ends in .npy or .png"));
        }
    }

    #[cfg(unix)]
    mod unix {
        use super::*;
        use std::os::unix::fs::{PermissionsExt, symlink};

        fn mode(path: &str) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        }

        #[test]
        fn permissions_are_those_of_any_file() {
            let folder = tempfile::tempdir().unwrap();
            fs::write(at(&folder, "plain"), "").unwrap();
            fs::write(at(&folder, "private"), "").unwrap();
            fs::set_permissions(at(&folder, "private"), fs::Permissions::from_mode(0o600)).unwrap();
            let mut outputs = Outputs::new();
            outputs.write(&at(&folder, "new"), |_| Ok(())).unwrap();
            outputs.write(&at(&folder, "private"), |_| Ok(())).unwrap();
            outputs.commit().unwrap();
            assert_eq!(mode(&at(&folder, "new")), mode(&at(&folder, "plain")));
            assert_eq!(mode(&at(&folder, "private")), 0o600);
        }

        #[test]
        fn links_stay() {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(at(&folder, "sub")).unwrap();
            fs::write(at(&folder, "sub/target"), "old").unwrap();
            symlink("sub/target", at(&folder, "link")).unwrap();
            let mut outputs = Outputs::new();
            outputs.write(&at(&folder, "link"), |writer| writer.write_all(b"new")).unwrap();
            outputs.commit().unwrap();
            assert!(fs::symlink_metadata(at(&folder, "link")).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(at(&folder, "sub/target")).unwrap(), "new");
        }

        #[test]
        fn devices_are_written_directly() {
            let mut outputs = Outputs::new();
            assert_eq!(Format::of("/dev/null").unwrap(), Format::Npy);
            outputs.write("/dev/null", |writer| writer.write_all(&[0; 100_000])).unwrap();
            outputs.commit().unwrap();
            assert!(!fs::metadata("/dev/null").unwrap().is_file());
        }

        /// Few bytes stay in the buffer until the very end; the failure must show all the same.
        #[cfg(target_os = "linux")]
        #[test]
        fn a_full_disk_is_reported() {
            for count in [1, 100_000] {
                let error = Outputs::new().write("/dev/full", |writer| writer.write_all(&vec![0; count])).unwrap_err();
                assert_eq!(error.exit_code(), 1);
                assert!(error.to_string().starts_with("/dev/full: cannot be written: No space left"), "{error}");
            }
        }
    }
}
