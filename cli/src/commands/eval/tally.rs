//! What an evaluation has counted so far. It is all integers and lists in the order of names, and everything that is reported
//! is computed from it: so tallies of parts of a data set merge into exactly that of the whole.

use std::collections::{BTreeMap, BTreeSet};

use seghead::{BoundaryTable, Confusion, ReliabilityTable};
use serde_json::{Map, Value, json};

use super::counts::Counts;

/// The version of the format of a state.
const VERSION: u64 = 1;

// What only some states have.
const CALIBRATION: &str = "calibration_bins";
const BOUNDARY: &str = "boundary_tolerance";

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
    /// The number of bins of confidence, if confidences were counted.
    pub calibration: Option<u32>,
    /// How many pixels a boundary may be off, if boundaries were scored.
    pub boundary: Option<u32>,
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

/// No binding of 2 GiB takes the counts of more.
const MOST_CLASSES: u32 = 23_170;

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

    /// The reliability table of all images, if confidences were counted.
    pub fn reliability(&self) -> Result<Option<ReliabilityTable>, seghead::Error> {
        let Some(bins) = self.settings.calibration else { return Ok(None) };
        let mut sum = ReliabilityTable::new(bins)?;
        self.images.values().try_for_each(|image| sum.add(&image.reliability(bins)?))?;
        Ok(Some(sum))
    }

    /// The boundary pixels of all images, if boundaries were scored.
    pub fn boundaries(&self) -> Result<Option<BoundaryTable>, seghead::Error> {
        let classes = self.settings.classes;
        let mut sum = BoundaryTable::new(classes);
        self.images.values().try_for_each(|image| sum.add(&image.boundaries(classes)))?;
        Ok(self.settings.boundary.map(|_| sum))
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
            let mut image = counts.to_json(&self.settings);
            image.insert("name".to_owned(), json!(name));
            Value::Object(image)
        };
        let problem = |problem: &Problem| {
            let unpaired = problem.reason == Reason::Unpaired;
            json!({ "name": problem.name, "file": problem.file, "unpaired": unpaired, "problem": problem.text })
        };
        let mut state = json!({
            "seghead_eval": VERSION,
            "classes": self.settings.classes,
            "names": self.settings.names,
            "ignore_index": self.settings.ignore_index,
            "resize": self.settings.resize,
            "images": self.images.iter().map(image).collect::<Vec<_>>(),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
        });
        let Settings { calibration, boundary, .. } = self.settings;
        for (key, number) in [(CALIBRATION, calibration), (BOUNDARY, boundary)] {
            if let Some(number) = number {
                state[key] = json!(number);
            }
        }
        state
    }

    /// From what a file has; or what was expected of it.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let state = value.as_object().ok_or("expected a JSON object, found something else")?;
        match state.get("seghead_eval").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(format!("expected a state of version {VERSION}, found {other}")),
            None => return Err("expected what --save-state writes, found other JSON".to_owned()),
        }
        let classes = field(state, "classes", |value| {
            u32::try_from(value.as_u64()?).ok().filter(|classes| *classes <= MOST_CLASSES)
        })?;
        let names = match state.get("names") {
            None | Some(Value::Null) => None,
            Some(_) => Some(list(state, "names", |name| name.as_str().map(str::to_owned))?),
        };
        let ignore_index = match state.get("ignore_index") {
            None | Some(Value::Null) => None,
            Some(_) => Some(field(state, "ignore_index", Value::as_i64)?),
        };
        let resize = field(state, "resize", text)?;
        let number = |key: &str, range: std::ops::RangeInclusive<u32>| match state.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => {
                field(state, key, |value| u32::try_from(value.as_u64()?).ok().filter(|n| range.contains(n))).map(Some)
            }
        };
        let (calibration, boundary) = (number(CALIBRATION, 1..=65536)?, number(BOUNDARY, 0..=255)?);
        let settings = Settings { classes, names, ignore_index, resize, calibration, boundary };
        let mut tally = Self::new(settings);
        let image = |image: &Value| Some((text(image.get("name")?)?, Counts::from_json(image, &tally.settings)?));
        for (name, counts) in list(state, "images", image)? {
            if tally.images.insert(name.clone(), counts).is_some() {
                return Err(format!("expected every image once, found {name:?} twice"));
            }
        }
        tally.problems = list(state, "problems", problem_of)?.into_iter().collect();
        // So that nothing is left to go wrong later.
        tally.confusion().map_err(|error| error.to_string())?;
        tally.reliability().map_err(|error| error.to_string())?;
        tally.boundaries().map_err(|error| error.to_string())?;
        Ok(tally)
    }
}

impl Settings {
    /// Refuses others than these.
    fn check(&self, other: &Self) -> Result<(), String> {
        if self.classes != other.classes {
            return Err(format!("expected {} classes, found {}", self.classes, other.classes));
        }
        let numbers = [
            ("ignore index", self.ignore_index, other.ignore_index),
            ("bins of confidence", self.calibration.map(i64::from), other.calibration.map(i64::from)),
            ("pixels of tolerance for boundaries", self.boundary.map(i64::from), other.boundary.map(i64::from)),
        ];
        for (what, expected, found) in numbers {
            if expected != found {
                let word = |number: Option<i64>| number.map_or("none".to_owned(), |number| number.to_string());
                return Err(format!("{what}: expected {}, found {}", word(expected), word(found)));
            }
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

fn problem_of(problem: &Value) -> Option<Problem> {
    let reason = if problem.get("unpaired")?.as_bool()? { Reason::Unpaired } else { Reason::File };
    let of = |key| text(problem.get(key)?);
    Some(Problem { name: of("name")?, file: of("file")?, reason, text: of("problem")? })
}
