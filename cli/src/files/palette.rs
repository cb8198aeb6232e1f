//! The colours of classes, built in or out of a file.

use super::{Error, tensor::open_file};
use seghead::Palette;
use std::io::Read;

/// The colours that classes are shown in.
#[derive(Debug)]
pub struct Colours {
    palette: Palette,
    /// What was asked for, if anything was.
    source: Option<String>,
}

impl Colours {
    /// Those of the palette that is called `source`, or of the file of that name; without one those of Pascal VOC, over
    /// and over, without its names, for nothing says that the classes are its.
    ///
    /// # Errors
    ///
    /// [`Error::NoPalette`] for neither a palette nor a file, [`Error::Open`], [`Error::Read`], and [`Error::Format`] or
    /// [`Error::Palette`] for a file that is none.
    pub fn new(source: Option<&str>) -> Result<Self, Error> {
        let palette = match source {
            None => Palette::voc().with_names([""; 0]),
            Some(source) => match Palette::by_name(source) {
                Some(palette) => palette,
                None => read(source)?,
            },
        };
        Ok(Self { palette, source: source.map(str::to_owned) })
    }

    /// With these names of the classes, whatever the palette calls them.
    pub fn with_names(self, names: &[&str]) -> Self {
        Self { palette: self.palette.with_names(names.iter().copied()), ..self }
    }

    /// The file that they are from, if they are from one.
    pub fn path(source: Option<&str>) -> Option<&str> {
        source.filter(|source| Palette::by_name(source).is_none())
    }

    /// Whether every class has a colour.
    ///
    /// # Errors
    ///
    /// [`Error::Colours`] if a palette that was asked for has fewer.
    pub fn check(&self, classes: u32) -> Result<(), Error> {
        match &self.source {
            Some(path) if (self.palette.len() as u64) < u64::from(classes) => {
                Err(Error::Colours { path: path.clone(), classes, found: self.palette.len() })
            }
            _ => Ok(()),
        }
    }

    /// The colour of a class.
    pub fn of(&self, class: u32) -> [u8; 3] {
        let colours = self.palette.colours();
        colours[class as usize % colours.len()]
    }

    /// The name of a class, or its number where it has none.
    pub fn name(&self, class: u32) -> String {
        self.palette.name(class).map_or_else(|| format!("class {class}"), str::to_owned)
    }

    /// The colours of the classes that eight bits tell apart, red, green and blue one after another.
    pub fn table(&self) -> Vec<u8> {
        self.palette.colours().iter().take(256).flatten().copied().collect()
    }
}

/// More than any palette needs, and less than any photo that is mistaken for one fills memory with.
const LARGEST: u64 = 1 << 20;

fn read(path: &str) -> Result<Palette, Error> {
    let (file, _) = open_file(path).map_err(|error| match error {
        Error::Open { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::NoPalette { name: path, known: Palette::NAMES.join(", ") }
        }
        other => other,
    })?;
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= LARGEST);
    let text = text.ok_or_else(|| Error::Format {
        path: path.to_owned(),
        expected: "a palette, text of at most 1 MiB with a line such as \"128 64 128 road\" for each class",
        found: "something else".to_owned(),
    })?;
    Palette::parse(&text).map_err(|source| Error::Palette { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_palette_the_colours_repeat_and_have_no_names() {
        let colours = Colours::new(None).unwrap();
        assert_eq!(
            [15, 255, 256 + 15].map(|class| colours.of(class)),
            [[192, 128, 128], [224, 224, 192], [192, 128, 128]]
        );
        assert_eq!(colours.name(15), "class 15");
        assert_eq!(colours.table().len(), 3 * 256);
        assert!(colours.check(1000).is_ok());
    }

    #[test]
    fn a_palette_that_was_asked_for_must_suffice() {
        let colours = Colours::new(Some("cityscapes")).unwrap();
        assert_eq!((colours.of(0), colours.name(0)), ([128, 64, 128], "road".to_owned()));
        assert_eq!(colours.table().len(), 3 * 19);
        assert!(colours.check(19).is_ok());
        let error = colours.check(20).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.to_string(), "--palette cityscapes: expected a colour for each of 20 classes, found 19");
        assert!(Colours::new(Some("voc")).unwrap().check(257).is_err());
    }

    #[test]
    fn out_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt").to_str().unwrap().to_owned();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = Colours::new(Some(&path)).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string().replace(&path, "FILE")
        };
        assert_eq!(
            message(b"0 0 0\n0 300 0"),
            "FILE: line 2 of the palette: expected r, g and b in 0..=255, found \"0 300 0\""
        );
        assert_eq!(message(b""), "FILE: colours of the palette: expected at least 1, found 0");
        assert!(message(b"\xff\xfe\x00").starts_with("FILE: expected a palette, text"));
        assert!(message(&vec![b' '; 2 << 20]).starts_with("FILE: expected a palette, text of at most 1 MiB"));
        std::fs::write(&path, "1 2 3 road\n#040506").unwrap();
        let colours = Colours::new(Some(&path)).unwrap();
        assert_eq!((colours.of(1), colours.name(0), colours.name(1)), ([4, 5, 6], "road".into(), "class 1".into()));
        let error = Colours::new(Some("no/such")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.to_string(),
            "no/such: expected a palette (voc, cityscapes, ade20k, camvid, camvid32) or a file with one, found neither"
        );
    }
}
