//! `seghead eval`: the scores of all images of a data set.
//!
//! Pairs of files go through one by one: a thread reads the next one while the GPU works on this one, so no more than two
//! are in memory, and of logits that are large only what the GPU is given. What is wrong with a file leaves out its image
//! and is reported at the end; what is wrong with the device ends the command.

mod counts;
mod diagram;
mod page;
mod pairs;
mod report;
mod tally;
mod worst;

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{SyncSender, sync_channel};

use seghead::{Gpu, Segment};
use serde_json::Value;

use self::counts::Counts;
use self::pairs::Pair;
use self::report::Report;
use self::tally::{Problem, Reason, Settings, Tally};
use self::worst::Worst;
use super::{open_gpu, print_result, tell_written};
use crate::args::{Common, Eval};
use crate::error::Error;
use crate::files;
use crate::files::confusion::write_confusion;
use crate::files::labels::{LabelMap, read_labels};
use crate::files::output::{Content, Outputs};
use crate::files::palette::Colours;
use crate::input::Input;
use crate::progress::Progress;

/// Logits of up to so many bytes are read ahead; larger ones go from their file to the GPU part by part.
const READ_AHEAD: u64 = 64 << 20;

/// Bins of confidence that a report has, where there is no number.
const DEFAULT_BINS: u32 = 15;

pub fn run(args: &Eval, common: &Common) -> Result<(), Error> {
    let names = args.classes.as_deref().map(read_names).transpose()?;
    let mut planned: Vec<_> = args.confusion.iter().map(|path| (path.as_str(), Content::Map)).collect();
    planned.extend(args.csv.as_deref().map(|path| (path, Content::Text)));
    planned.extend(args.save_state.as_deref().map(|path| (path, Content::Text)));
    let palette = args.palette.palette.as_deref();
    let colours = Colours::new(palette)?;
    let page = args.report.as_ref().map(|folder| format!("{}/index.html", folder.trim_end_matches('/')));
    if let (Some(folder), Some(page)) = (&args.report, &page) {
        fs::create_dir_all(folder).map_err(|source| files::Error::Write { path: folder.clone(), source })?;
        planned.push((page, Content::Text));
    }
    let mut inputs: Vec<_> = args.merge.iter().map(String::as_str).collect();
    inputs.extend(args.classes.as_deref());
    inputs.extend(Colours::path(palette));
    let found = match (&args.logits, &args.labels) {
        (Some(logits), Some(labels)) => pairs::find(logits, labels)?,
        _ => BTreeMap::new(),
    };
    let pairs = found.values().flatten();
    inputs.extend(pairs.flat_map(|pair| [&pair.logits, &pair.labels]).map(|file| file.path.as_str()));
    Outputs::check(&inputs, &planned)?;
    let tally = match (&args.logits, &args.labels) {
        (Some(logits), Some(labels)) => evaluate(args, common, (logits, labels), names)?,
        _ => merge(&args.merge, names)?,
    };
    let confusion = tally.confusion()?;
    colours.check(confusion.classes())?;
    let report = Report::new(&tally, &confusion, args.absent.into())?;
    let mut outputs = Outputs::new();
    for path in &args.confusion {
        write_confusion(&mut outputs, path, &confusion, |class| report.name(class))?;
    }
    if let Some(path) = &args.csv {
        let csv = report.csv()?;
        outputs.write(path, |writer| writer.write_all(csv.as_bytes()))?;
    }
    if let Some(path) = &args.save_state {
        let state = tally.to_json();
        outputs.write(path, |writer| writeln!(writer, "{state}"))?;
    }
    if let Some(path) = &page {
        let worst = worst_images(args, common, &colours, &tally)?;
        outputs
            .write(path, |writer| writer.write_all(page::page(&report, &confusion, &colours, &worst)?.as_bytes()))?;
    }
    outputs.commit()?;
    if !planned.is_empty() {
        tell_written(common, &planned.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    }
    print_result(common, &report.json(), &report.text())?;
    match (tally.problems.len(), tally.problems.first()) {
        (count, Some(Problem { file, text, .. })) => {
            let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            Err(Error::Wrong(format!("{file} was left out: {text}{more}")))
        }
        _ => Ok(()),
    }
}

/// The worst images, with pictures where their files are at hand.
fn worst_images(args: &Eval, common: &Common, colours: &Colours, tally: &Tally) -> Result<Vec<Worst>, Error> {
    let mut worst = worst::find(tally, args.absent.into())?;
    if let (Some(logits), Some(labels), false) = (&args.logits, &args.labels, worst.is_empty()) {
        let (found, gpu) = (pairs::find(logits, labels)?, open_gpu(common)?);
        for image in &mut worst {
            if let Some(Ok(pair)) = found.get(&image.name) {
                image.pictures = Some(worst::draw(args, common, &gpu, colours, pair)?);
            }
        }
    }
    Ok(worst)
}

/// The names of classes, a line each.
fn read_names(path: &str) -> Result<Vec<String>, Error> {
    let text = read_text(path)?;
    let names: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
    let count = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    if count == 0 {
        return Err(Error::Usage(format!("{path}: expected the name of a class in every line, found none")));
    }
    Ok(names[..count].to_vec())
}

fn read_text(path: &str) -> Result<String, files::Error> {
    let bytes = fs::read(path).map_err(|source| files::Error::Open { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|_| files::Error::Format {
        path: path.to_owned(),
        expected: "text in UTF-8",
        found: "other bytes".to_owned(),
    })
}

/// What the states of parts of a data set make together.
fn merge(paths: &[String], names: Option<Vec<String>>) -> Result<Tally, Error> {
    let mut all: Option<Tally> = None;
    for path in paths {
        let wrong = |what: String| Error::Usage(format!("{path}: {what}"));
        let value: Value = serde_json::from_str(&read_text(path)?)
            .map_err(|error| wrong(format!("expected what --save-state writes, found no JSON ({error})")))?;
        let state = Tally::from_json(&value).map_err(wrong)?;
        match &mut all {
            None => all = Some(state),
            Some(all) => all.merge(state).map_err(wrong)?,
        }
    }
    let mut all = all.ok_or_else(|| Error::Usage("--merge: expected a file, found none".to_owned()))?;
    if let Some(names) = names {
        check_names(&names, all.settings.classes)?;
        all.settings.names = Some(names);
    }
    Ok(all)
}

fn check_names(names: &[String], classes: u32) -> Result<(), Error> {
    if classes == 0 || names.len() == classes as usize {
        return Ok(());
    }
    Err(Error::Usage(format!("--classes: expected the names of {classes} classes, found {}", names.len())))
}

/// Evaluates the pairs of two folders.
fn evaluate(
    args: &Eval,
    common: &Common,
    (logits, labels): (&str, &str),
    names: Option<Vec<String>>,
) -> Result<Tally, Error> {
    let found = pairs::find(logits, labels)?;
    if found.is_empty() {
        let message =
            format!("{logits}: expected logits and labels of the same names, here or in {labels}, found none");
        return Err(Error::Usage(message));
    }
    let classes = match &names {
        Some(names) => names.len() as u32,
        None => count_classes(&found, common),
    };
    let resize =
        clap::ValueEnum::to_possible_value(&args.resize).map_or(String::new(), |value| value.get_name().to_owned());
    let calibration = args.calibration.or(args.report.as_ref().map(|_| DEFAULT_BINS));
    let settings =
        Settings { classes, names, ignore_index: args.ignore_index, resize, calibration, boundary: args.boundary };
    let mut tally = Tally::new(settings);
    let (which, of) = args.shard.unwrap_or((1, 1));
    let mut pairs = Vec::new();
    for pair in found.into_values().skip(which as usize - 1).step_by(of as usize) {
        match pair {
            Ok(pair) => pairs.push(pair),
            Err(problem) => drop(tally.problems.insert(problem)),
        }
    }
    if !pairs.is_empty() {
        count(args, common, pairs, &mut tally)?;
    }
    Ok(tally)
}

/// The number of classes of the first logits that can be opened; of all, so that every shard finds the same.
fn count_classes(found: &BTreeMap<String, Result<Pair, Problem>>, common: &Common) -> u32 {
    let pairs = found.values().filter_map(|pair| pair.as_ref().ok());
    let mut classes = pairs.filter_map(|pair| Input::open(&pair.logits.path, common).ok()?.logits.classes().into());
    classes.next().unwrap_or(0)
}

/// Counts the pixels of all pairs.
fn count(args: &Eval, common: &Common, pairs: Vec<Pair>, tally: &mut Tally) -> Result<(), Error> {
    let gpu = open_gpu(common)?;
    let progress = Progress::count("evaluating", pairs.len() as u64, common);
    // Handed over and not kept: the thread has one more at the most.
    let (sender, receiver) = sync_channel(0);
    std::thread::scope(|scope| {
        scope.spawn(move || read_all(pairs, common, &sender));
        // Dropped with the scope's closure, even where it ends early: then the thread ends too.
        for (pair, read) in receiver {
            let counted = read.and_then(|read| count_pair(args, &gpu, &tally.settings, &pair, read));
            match counted {
                Ok(counts) => drop(tally.images.insert(pair.name, counts)),
                Err(error) => drop(tally.problems.insert(problem(&pair, error)?)),
            }
            progress.advance();
        }
        Ok(())
    })
}

/// What was read of a pair.
type Read = (Input, LabelMap);

/// Whose file an error is about, the logits' or the labels'.
enum Fault {
    Logits(Box<Error>),
    Labels(Box<Error>),
}

impl Fault {
    fn logits(error: impl Into<Error>) -> Self {
        Self::Logits(Box::new(error.into()))
    }

    fn labels(error: impl Into<Error>) -> Self {
        Self::Labels(Box::new(error.into()))
    }
}

fn read_all(pairs: Vec<Pair>, common: &Common, sender: &SyncSender<(Pair, Result<Read, Fault>)>) {
    for pair in pairs {
        let read = || {
            let mut input = Input::open(&pair.logits.path, common).map_err(Fault::logits)?;
            input.load(READ_AHEAD).map_err(Fault::logits)?;
            let labels = read_labels(&pair.labels.path).map_err(Fault::labels)?;
            Ok((input, labels))
        };
        let read = read();
        if sender.send((pair, read)).is_err() {
            // Nobody wants them any more.
            return;
        }
    }
}

fn count_pair(args: &Eval, gpu: &Gpu, settings: &Settings, pair: &Pair, read: Read) -> Result<Counts, Fault> {
    let (mut input, labels) = read;
    let logits = input.logits;
    let (images, height, width) = match *labels.shape {
        [height, width] => (1, height, width),
        [images, height, width] => (images, height, width),
        _ => (0, 0, 0),
    };
    if images != logits.images() as usize {
        let expected = logits.images();
        let message = format!("expected labels of {expected} images as {} has, found {images}", pair.logits.name);
        return Err(Fault::labels(Error::Usage(message)));
    }
    // A size beyond 32 bits is beyond the limit of the pixels too.
    let size = [height, width].map(|size| u32::try_from(size).unwrap_or(u32::MAX));
    let segment = Segment::new(size[0], size[1]).resize(args.resize.into());
    match Counts::of_pair(gpu, settings, (&logits, input.reader()), (&segment, size), &labels.values) {
        Ok(counts) => Ok(counts),
        Err(error @ seghead::Error::Label { label, .. }) => {
            let message = format!("{error}; --ignore-index {label} leaves such pixels out");
            Err(Fault::labels(Error::Usage(message)))
        }
        Err(error) => Err(Fault::logits(input.error(error))),
    }
}

/// What is wrong with a file, or what is wrong with the device, which ends the command.
fn problem(pair: &Pair, fault: Fault) -> Result<Problem, Error> {
    let (file, error) = match fault {
        Fault::Logits(error) => (&pair.logits, error),
        Fault::Labels(error) => (&pair.labels, error),
    };
    let is_of_file = match &*error {
        // Of memory, too: a header may claim anything.
        Error::File(_) => true,
        error => error.exit_code() == 2,
    };
    if !is_of_file {
        return Err(*error);
    }
    // Without the folder: the report is the same wherever the files lie.
    let text = error.to_string().replace(&file.path, &file.name);
    let text = text.strip_prefix(&format!("{}: ", file.name)).unwrap_or(&text).to_owned();
    Ok(Problem { name: pair.name.clone(), file: file.name.clone(), reason: Reason::File, text })
}
