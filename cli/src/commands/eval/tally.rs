//! What an evaluation has counted so far. It is all integers and lists in the order of names, and everything that is reported
//! is computed from it: so tallies of parts of a data set merge into exactly that of the whole.

use std::collections::{BTreeMap, BTreeSet};

use seghead::Confusion;
use serde_json::{Map, Value, json};

/// The version of the format of a state.
const VERSION: u64 = 1;

/// What was counted, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub settings: Settings,
    /// The images by name.
    pub images: BTreeMap<String, Counts>,
    pub problems: BTreeSet<Problem>,
}

/// What has to be the same for tallies to merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Number of classes; 0 where no logits told it.
    pub classes: u32,
    pub names: Option<Vec<String>>,
    pub ignore_index: Option<i64>,
    /// The convention that logits were resized with.
    pub resize: String,
}

/// The confusion matrix of an image: target, prediction and pixels where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    cells: Vec<(u32, u32, u64)>,
    ignored: u64,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Of the image.
    pub name: String,
    pub file: String,
    pub reason: Reason,
    /// What was expected and what was found.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Something is wrong with it.
    File,
    /// Its other half is not there, but may be where another part of the data set is.
    Unpaired,
}

impl Counts {
    pub fn new(confusion: &Confusion) -> Self {
        let classes = confusion.classes();
        let places = (0..classes).flat_map(|target| (0..classes).map(move |prediction| (target, prediction)));
        let cells = places.zip(confusion.counts()).filter(|&(_, &pixels)| pixels > 0);
        let cells = cells.map(|((target, prediction), &pixels)| (target, prediction, pixels)).collect();
        Self { cells, ignored: confusion.ignored() }
    }

    /// Adds the pixels to `sum`.
    pub fn add_to(&self, sum: &mut Confusion) -> Result<(), seghead::Error> {
        let ignored = Confusion::new(sum.classes()).with_ignored(self.ignored)?;
        self.cells.iter().try_for_each(|&(target, prediction, pixels)| sum.add(target, prediction, pixels))?;
        sum.merge(&ignored)
    }
}

impl Tally {
    pub fn new(settings: Settings) -> Self {
        Self { settings, images: BTreeMap::new(), problems: BTreeSet::new() }
    }

    /// The confusion matrix of all images.
    pub fn confusion(&self) -> Result<Confusion, seghead::Error> {
        let mut sum = Confusion::new(self.settings.classes);
        self.images.values().try_for_each(|image| image.add_to(&mut sum))?;
        Ok(sum)
    }

    /// Adds the tally of another part of the data set; or says what of it does not fit.
    pub fn merge(&mut self, mut other: Self) -> Result<(), String> {
        // A part in which no logits could be read does not know the number of classes.
        let classes = self.settings.classes.max(other.settings.classes);
        for settings in [&mut self.settings, &mut other.settings] {
            if settings.classes == 0 {
                settings.classes = classes;
            }
        }
        self.settings.check(&other.settings)?;
        for (name, counts) in other.images {
            if self.images.contains_key(&name) {
                return Err(format!("expected images that no other state has, found {name:?} in two"));
            }
            self.images.insert(name, counts);
        }
        self.problems.extend(other.problems);
        // What had no other half where it was looked for may have been paired elsewhere.
        let tried: BTreeSet<_> = self
            .problems
            .iter()
            .filter(|problem| problem.reason == Reason::File)
            .map(|problem| problem.name.clone())
            .collect();
        let images = &self.images;
        self.problems.retain(|problem| {
            problem.reason == Reason::File || !images.contains_key(&problem.name) && !tried.contains(&problem.name)
        });
        Ok(())
    }

    /// The state, as a file has it.
    pub fn to_json(&self) -> Value {
        let image = |(name, counts): (&String, &Counts)| {
            let cells: Vec<_> =
                counts.cells.iter().map(|&(target, prediction, pixels)| json!([target, prediction, pixels])).collect();
            json!({ "name": name, "ignored": counts.ignored, "counts": cells })
        };
        let problem = |problem: &Problem| {
            let unpaired = problem.reason == Reason::Unpaired;
            json!({ "name": problem.name, "file": problem.file, "unpaired": unpaired, "problem": problem.text })
        };
        json!({
            "seghead_eval": VERSION,
            "classes": self.settings.classes,
            "names": self.settings.names,
            "ignore_index": self.settings.ignore_index,
            "resize": self.settings.resize,
            "images": self.images.iter().map(image).collect::<Vec<_>>(),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
        })
    }

    /// From what a file has; or what was expected of it.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let state = value.as_object().ok_or("expected a JSON object, found something else")?;
        match state.get("seghead_eval").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(format!("expected a state of version {VERSION}, found {other}")),
            None => return Err("expected what --save-state writes, found other JSON".to_owned()),
        }
        let classes = field(state, "classes", |value| value.as_u64().and_then(|n| u32::try_from(n).ok()))?;
        let names = match state.get("names") {
            None | Some(Value::Null) => None,
            Some(_) => Some(list(state, "names", |name| name.as_str().map(str::to_owned))?),
        };
        let ignore_index = match state.get("ignore_index") {
            None | Some(Value::Null) => None,
            Some(_) => Some(field(state, "ignore_index", Value::as_i64)?),
        };
        let resize = field(state, "resize", text)?;
        let mut tally = Self::new(Settings { classes, names, ignore_index, resize });
        for (name, counts) in list(state, "images", |image| image_of(image, classes))? {
            if tally.images.insert(name.clone(), counts).is_some() {
                return Err(format!("expected every image once, found {name:?} twice"));
            }
        }
        tally.problems = list(state, "problems", problem_of)?.into_iter().collect();
        // So that nothing is left to go wrong later.
        tally.confusion().map_err(|error| error.to_string())?;
        Ok(tally)
    }
}

impl Settings {
    /// Refuses others than these.
    fn check(&self, other: &Self) -> Result<(), String> {
        if self.classes != other.classes {
            return Err(format!("expected {} classes, found {}", self.classes, other.classes));
        }
        if self.ignore_index != other.ignore_index {
            let word = |index: Option<i64>| index.map_or("none".to_owned(), |index| index.to_string());
            return Err(format!(
                "expected ignore index {}, found {}",
                word(self.ignore_index),
                word(other.ignore_index)
            ));
        }
        if self.resize != other.resize {
            return Err(format!("expected logits that were resized {}, found {}", self.resize, other.resize));
        }
        if self.names != other.names {
            return Err("expected the same names of classes as before, found others".to_owned());
        }
        Ok(())
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn field<T>(state: &Map<String, Value>, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, String> {
    state.get(key).and_then(read).ok_or_else(|| format!("expected a state, found one with no sound {key:?}"))
}

fn list<T>(state: &Map<String, Value>, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    field(state, key, |value| value.as_array()?.iter().map(&read).collect())
}

fn image_of(image: &Value, classes: u32) -> Option<(String, Counts)> {
    let cell = |cell: &Value| {
        let [target, prediction, pixels] = cell.as_array()?.as_slice() else { return None };
        let class = |value: &Value| u32::try_from(value.as_u64()?).ok().filter(|&class| class < classes);
        Some((class(target)?, class(prediction)?, pixels.as_u64()?))
    };
    let cells = image.get("counts")?.as_array()?.iter().map(cell).collect::<Option<_>>()?;
    Some((text(image.get("name")?)?, Counts { cells, ignored: image.get("ignored")?.as_u64()? }))
}

fn problem_of(problem: &Value) -> Option<Problem> {
    let reason = if problem.get("unpaired")?.as_bool()? { Reason::Unpaired } else { Reason::File };
    let of = |key| text(problem.get(key)?);
    Some(Problem { name: of("name")?, file: of("file")?, reason, text: of("problem")? })
}
