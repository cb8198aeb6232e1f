//! What is counted of an image: integers, and those only that are not 0.

use seghead::{
    BoundaryPixels, BoundaryScore, BoundaryTable, Calibration, Confusion, ConfusionMatrix, Error, Gpu, Input, Labels,
    Logits, ReliabilityBin, ReliabilityTable, Segment,
};
use serde_json::{Map, Value, json};

use super::tally::Settings;

/// The counts of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Target, prediction and pixels.
    cells: Vec<(u32, u32, u64)>,
    ignored: u64,
    /// A bin of confidence, its pixels, how many of them are right, and the sum of their confidences in 2⁻²⁴.
    bins: Vec<[u64; 4]>,
    /// Pixels whose confidence is NaN.
    nan: u64,
    /// A class, the boundary pixels that are predicted, those of them that are matched, and the same of the target.
    boundaries: Vec<[u64; 5]>,
}

impl Counts {
    /// Counts what becomes of logits at the size of `targets` against these.
    pub fn of_pair(
        gpu: &Gpu,
        settings: &Settings,
        (logits, input): (&Logits, Input<'_>),
        (segment, size): (&Segment, [u32; 2]),
        targets: &[i64],
    ) -> Result<Self, Error> {
        let Settings { classes, ignore_index, calibration, boundary, .. } = *settings;
        if (calibration, boundary) == (None, None) {
            // The labels never leave the GPU.
            let operator = ConfusionMatrix::new(classes).ignore_index(ignore_index);
            return Ok(Self::new(&operator.run_logits_blocking(gpu, logits, input, segment, targets)?));
        }
        let (expected, found) = (classes, logits.classes());
        if expected != found {
            return Err(Error::Classes { what: "logits", expected, found });
        }
        let found = segment.confidence(calibration.is_some()).run_blocking(gpu, logits, input)?;
        let confidence = found.confidence.as_deref();
        match &found.labels {
            Labels::U8(labels) => Self::of_labels(gpu, settings, size, (labels, confidence), targets),
            Labels::U32(labels) => Self::of_labels(gpu, settings, size, (labels, confidence), targets),
        }
    }

    /// Counts labels that were predicted, with their confidences where these are wanted.
    fn of_labels<L: Copy + Into<i64>>(
        gpu: &Gpu,
        settings: &Settings,
        size: [u32; 2],
        (labels, confidence): (&[L], Option<&[f32]>),
        targets: &[i64],
    ) -> Result<Self, Error> {
        let Settings { classes, ignore_index, calibration, boundary, .. } = *settings;
        let operator = ConfusionMatrix::new(classes).ignore_index(ignore_index);
        let mut counts = Self::new(&operator.run_blocking(gpu, labels, targets)?);
        if let (Some(bins), Some(confidence)) = (calibration, confidence) {
            let operator = Calibration::new().bins(bins).ignore_index(ignore_index);
            counts = counts.with_reliability(&operator.run_blocking(gpu, labels, confidence, targets)?);
        }
        if let Some(tolerance) = boundary {
            let operator = BoundaryScore::new(classes, tolerance).ignore_index(ignore_index);
            counts = counts.with_boundaries(&operator.run_blocking(gpu, size, labels, targets)?);
        }
        Ok(counts)
    }

    pub fn new(confusion: &Confusion) -> Self {
        let classes = confusion.classes();
        let places = (0..classes).flat_map(|target| (0..classes).map(move |prediction| (target, prediction)));
        let cells = places.zip(confusion.counts()).filter(|&(_, &pixels)| pixels > 0);
        let cells = cells.map(|((target, prediction), &pixels)| (target, prediction, pixels)).collect();
        Self { cells, ignored: confusion.ignored(), ..Self::default() }
    }

    fn with_reliability(mut self, table: &ReliabilityTable) -> Self {
        let bins = (0..).zip(table.bins()).filter(|(_, bin)| bin.pixels > 0);
        // Of fewer than 2³² pixels, whose confidences are 2²⁴ at the most.
        let sum = |bin: &ReliabilityBin| u64::try_from(bin.confidence_sum).unwrap_or(u64::MAX);
        self.bins = bins.map(|(i, bin)| [i, bin.pixels, bin.right, sum(bin)]).collect();
        self.nan = table.nan();
        self
    }

    fn with_boundaries(mut self, table: &BoundaryTable) -> Self {
        let classes = (0..).zip(table.classes());
        let numbers = classes.map(|(class, pixels)| {
            let BoundaryPixels { predicted, predicted_matched, expected, expected_matched } = *pixels;
            [class, predicted, predicted_matched, expected, expected_matched]
        });
        self.boundaries = numbers.filter(|[_, predicted, _, expected, _]| predicted | expected > 0).collect();
        self
    }

    /// Adds the pixels to `sum`.
    pub fn add_to(&self, sum: &mut Confusion) -> Result<(), Error> {
        let ignored = Confusion::new(sum.classes()).with_ignored(self.ignored)?;
        self.cells.iter().try_for_each(|&(target, prediction, pixels)| sum.add(target, prediction, pixels))?;
        sum.merge(&ignored)
    }

    /// The table of the confidences.
    pub fn reliability(&self, bins: u32) -> Result<ReliabilityTable, Error> {
        let mut all = vec![ReliabilityBin::default(); bins as usize];
        for &[bin, pixels, right, confidence_sum] in &self.bins {
            all[bin as usize] = ReliabilityBin { pixels, right, confidence_sum: confidence_sum.into() };
        }
        ReliabilityTable::from_bins(all, self.nan)
    }

    /// The boundary pixels.
    pub fn boundaries(&self, classes: u32) -> BoundaryTable {
        let mut all = vec![BoundaryPixels::default(); classes as usize];
        for &[class, predicted, predicted_matched, expected, expected_matched] in &self.boundaries {
            all[class as usize] = BoundaryPixels { predicted, predicted_matched, expected, expected_matched };
        }
        BoundaryTable::from_classes(all)
    }

    /// As the file of a state has it.
    pub fn to_json(&self, settings: &Settings) -> Map<String, Value> {
        let mut image = Map::new();
        image.insert("ignored".to_owned(), json!(self.ignored));
        image.insert("counts".to_owned(), json!(self.cells));
        if settings.calibration.is_some() {
            image.insert("bins".to_owned(), json!(self.bins));
            image.insert("nan".to_owned(), json!(self.nan));
        }
        if settings.boundary.is_some() {
            image.insert("boundaries".to_owned(), json!(self.boundaries));
        }
        image
    }

    /// From what a file has, if that can be.
    pub fn from_json(image: &Value, settings: &Settings) -> Option<Self> {
        let is_class = |class: u64| class < settings.classes.into();
        let cell = |[target, prediction, pixels]: [u64; 3]| {
            let class = |class: u64| u32::try_from(class).ok().filter(|&class| is_class(class.into()));
            Some((class(target)?, class(prediction)?, pixels))
        };
        let cells = rows(image.get("counts")?)?.into_iter().map(cell).collect::<Option<_>>()?;
        let mut counts = Self { cells, ignored: image.get("ignored")?.as_u64()?, ..Self::default() };
        if let Some(bins) = settings.calibration {
            counts.bins = rows(image.get("bins")?)?;
            counts.nan = image.get("nan")?.as_u64()?;
            let sound = |&[bin, pixels, right, confidence_sum]: &[u64; 4]| {
                bin < bins.into() && right <= pixels && u128::from(confidence_sum) <= u128::from(pixels) << 24
            };
            if !counts.bins.iter().all(sound) || !ascending(&counts.bins) {
                return None;
            }
        }
        if settings.boundary.is_some() {
            counts.boundaries = rows(image.get("boundaries")?)?;
            let sound = |&[class, predicted, predicted_matched, expected, expected_matched]: &[u64; 5]| {
                is_class(class) && predicted_matched <= predicted && expected_matched <= expected
            };
            if !counts.boundaries.iter().all(sound) || !ascending(&counts.boundaries) {
                return None;
            }
        }
        Some(counts)
    }
}

/// Lists of numbers, each of as many as there have to be.
fn rows<const N: usize>(value: &Value) -> Option<Vec<[u64; N]>> {
    let row = |row: &Value| {
        let numbers: Option<Vec<u64>> = row.as_array()?.iter().map(Value::as_u64).collect();
        numbers?.try_into().ok()
    };
    value.as_array()?.iter().map(row).collect()
}

/// Whether no two rows are of the same thing.
fn ascending<const N: usize>(rows: &[[u64; N]]) -> bool {
    rows.windows(2).all(|pair| pair[0][0] < pair[1][0])
}
