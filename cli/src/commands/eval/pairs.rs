//! Which files of two folders go together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::tally::{Problem, Reason};
use crate::error::Error;
use crate::files;
use crate::files::location::has_ending;

/// Logits and the labels that they are held against.
#[derive(Debug)]
pub struct Pair {
    /// What both file names have before their first dot.
    pub name: String,
    pub logits: File,
    pub labels: File,
}

/// A file of one of the folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Without the folder, as it is reported: reports of parts of a data set are the same wherever they lie.
    pub name: String,
    pub path: String,
}

/// What a folder has by one name.
type Candidates = BTreeMap<String, Vec<File>>;

const LOGITS: [&str; 3] = [".npy", ".npz", ".safetensors"];
const LABELS: [&str; 4] = [".npy", ".npz", ".safetensors", ".png"];

/// The pairs of the two folders, which may be the same, in the order of their names, and what has none; by a name there is
/// one or the other.
pub fn find(logits: &str, labels: &str) -> Result<BTreeMap<String, Result<Pair, Problem>>, Error> {
    let mut predicted = list(logits, &LOGITS, "labels")?;
    let mut expected = list(labels, &LABELS, "logits")?;
    let mut names: Vec<_> = predicted.keys().chain(expected.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let mut found = BTreeMap::new();
    for name in names {
        let logits = choose(predicted.remove(&name).unwrap_or_default(), "logits", None);
        // In a single folder, the file of the logits is none of labels as well.
        let taken = logits.as_ref().ok().and_then(|file| file.as_ref());
        let labels = choose(expected.remove(&name).unwrap_or_default(), "labels", taken);
        let problem = |file: File, reason, text: &str| {
            let (name, text) = (name.clone(), text.to_owned());
            Err(Problem { name, file: file.name, reason, text })
        };
        let pair = match (logits, labels) {
            (Err(problem), _) | (_, Err(problem)) => Err(Problem { name: name.clone(), ..problem }),
            (Ok(Some(logits)), Ok(Some(labels))) => Ok(Pair { name: name.clone(), logits, labels }),
            (Ok(Some(logits)), Ok(None)) => {
                problem(logits, Reason::Unpaired, "expected labels of the same name, found none")
            }
            (Ok(None), Ok(Some(labels))) => {
                problem(labels, Reason::Unpaired, "expected logits of the same name, found none")
            }
            // Nothing but what is of the other kind.
            (Ok(None), Ok(None)) => continue,
        };
        found.insert(name, pair);
    }
    Ok(found)
}

/// The files of a folder with one of the `endings`, but for those that say to be of the other kind, as `x.labels.npy` does.
fn list(folder: &str, endings: &[&str], other: &str) -> Result<Candidates, Error> {
    let failed = |source| files::Error::Open { path: folder.to_owned(), source };
    let mut found = Candidates::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kinds = is_of(&name, other) || !endings.iter().any(|ending| has_ending(&name, ending));
        if name.starts_with('.') || kinds || entry.path().is_dir() {
            continue;
        }
        let path = Path::new(folder).join(&name).to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap_or_default().to_owned();
        found.entry(stem).or_default().push(File { name, path });
    }
    Ok(found)
}

/// Whether one of the parts of a file name between dots is this word.
fn is_of(name: &str, word: &str) -> bool {
    name.split('.').skip(1).any(|part| part.eq_ignore_ascii_case(word))
}

/// The one file among several of a name: if there are others, the one that says what it is.
fn choose(mut files: Vec<File>, word: &str, taken: Option<&File>) -> Result<Option<File>, Problem> {
    files.retain(|file| taken.is_none_or(|taken| taken.path != file.path));
    if files.len() > 1 && files.iter().any(|file| is_of(&file.name, word)) {
        files.retain(|file| is_of(&file.name, word));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.len() > 1 {
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        let (name, file) = (String::new(), files[0].name.clone());
        let text = format!("expected one file of {word} by this name, found {}", names.join(", "));
        return Err(Problem { name, file, reason: Reason::File, text });
    }
    Ok(files.pop())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        folder
    }

    /// The pairs, and the problems, in words.
    fn found(logits: &tempfile::TempDir, labels: &tempfile::TempDir) -> Vec<String> {
        let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();
        let found = find(&path(logits), &path(labels)).unwrap();
        let word = |pair: &Result<Pair, Problem>| match pair {
            Ok(Pair { name, logits, labels }) => format!("{name}: {} {}", logits.name, labels.name),
            Err(problem) => format!("{} {}", problem.file, problem.text),
        };
        found.values().map(word).collect()
    }

    #[test]
    fn in_two_folders() {
        let logits = folder(&["b.npy", "a.x.npz", "c.safetensors", "e.npy", ".hidden.npy", "notes.txt"]);
        let labels = folder(&["a.png", "b.y.z.npy", "c.npy", "d.png", "d.jpg", ".DS_Store", "readme"]);
        fs::create_dir(labels.path().join("e.npy")).unwrap();
        let expected = [
            "a: a.x.npz a.png",
            "b: b.npy b.y.z.npy",
            "c: c.safetensors c.npy",
            "d.png expected logits of the same name, found none",
            "e.npy expected labels of the same name, found none",
        ];
        assert_eq!(found(&logits, &labels), expected);
    }

    #[test]
    fn in_one_folder_by_what_they_say() {
        let names = ["a.logits.npy", "a.labels.png", "a.png", "b.npy", "b.png", "c.logits.npy", "c.labels.npy"];
        let one = folder(&[&names[..], &["d.labels.npy"]].concat());
        let expected = [
            "a: a.logits.npy a.labels.png",
            "b: b.npy b.png",
            "c: c.logits.npy c.labels.npy",
            "d.labels.npy expected logits of the same name, found none",
        ];
        assert_eq!(found(&one, &one), expected);
    }

    #[test]
    fn several_of_a_name() {
        let (logits, labels) = (folder(&["a.npy", "a.npz", "b.npy"]), folder(&["a.png", "b.png", "b.npy"]));
        let expected = [
            "a.npy expected one file of logits by this name, found a.npy, a.npz",
            "b.npy expected one file of labels by this name, found b.npy, b.png",
        ];
        assert_eq!(found(&logits, &labels), expected);
    }
}
