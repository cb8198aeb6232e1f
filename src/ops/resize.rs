//! Where the pixels of a resized image read the source: what [`Segment`](crate::Segment) and
//! [`Interpolate`](crate::Interpolate) share.

use crate::bands::Band;
use crate::kernel::Params;
use crate::{Error, Logits};

/// Where on the source a pixel of the result lies. Positions outside the image are moved to its edge.
///
/// ```
/// use seghead::{Resize, Segment};
/// let like_onnx = Segment::new(360, 480).resize(Resize::Asymmetric);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// Centre on centre, `(x + ½) · in / out − ½`: `align_corners=False` in PyTorch, `half_pixel` in ONNX.
    #[default]
    HalfPixel,
    /// Corner pixel on corner pixel, `x · (in − 1) / (out − 1)`: `align_corners=True` in PyTorch.
    AlignCorners,
    /// Corner on corner, `x · in / out`: `asymmetric` in ONNX.
    Asymmetric,
}

/// One axis: position `x` reads at `(numerator · x + offset) / denominator`, in integers.
#[derive(Clone, Copy, Debug)]
struct Scale {
    numerator: u32,
    offset: i32,
    denominator: u32,
}

impl Scale {
    fn new(resize: Resize, input: u32, output: u32) -> Result<Self, Error> {
        // Everything the kernel computes stays below twice the product, and must fit an i32.
        const LIMIT: u64 = 1 << 30;
        let product = u64::from(input) * u64::from(output);
        if product > LIMIT {
            return Err(Error::Limit {
                what: "input size × output size along one axis",
                needed: product,
                limit: LIMIT,
            });
        }
        let (numerator, offset, denominator) = match resize {
            Resize::HalfPixel => (2 * input, input as i32 - output as i32, 2 * output),
            Resize::AlignCorners if output > 1 => (input - 1, 0, output - 1),
            Resize::AlignCorners => (0, 0, 1),
            Resize::Asymmetric => (input, 0, output),
        };
        Ok(Self { numerator, offset, denominator })
    }

    /// The tap at or before output position `x`.
    fn index(&self, x: u32) -> u32 {
        let numerator = i64::from(self.numerator) * i64::from(x) + i64::from(self.offset);
        (numerator.max(0) / i64::from(self.denominator)) as u32
    }

    /// The first of `output` positions that reads the tap `index` of `input`, or one behind it, before the other.
    fn first(&self, index: u32, input: u32, output: u32) -> u32 {
        if index >= input {
            return output;
        }
        let distance = i64::from(self.denominator) * i64::from(index) - i64::from(self.offset);
        match (index, distance, self.numerator) {
            (0, ..) | (_, ..=0, _) => 0,
            (.., 0) => output,
            (_, distance, numerator) => ((distance as u64).div_ceil(numerator.into()) as u32).min(output),
        }
    }

    /// The most positions that read a tap.
    fn readers(&self, input: u32, output: u32) -> u32 {
        let steps = u64::from(self.denominator).div_ceil(self.numerator.max(1).into());
        // A tap at the edge has those that lie beyond it, too.
        let edges = self.first(1, input, output).max(output - self.first(input - 1, input, output));
        u64::from(output).min((2 * steps).max(steps + u64::from(edges))) as u32
    }

    /// Whether four positions lie between two taps, at ⅛, ⅜, ⅝ and ⅞.
    fn is_by_four(&self) -> bool {
        let Self { numerator, offset, denominator } = *self;
        denominator == 4 * numerator && i64::from(offset) * 8 == -3 * i64::from(denominator)
    }

    /// Taps that four neighbouring pixels read, or `None` where the axis shrinks: 3 steps of numerator / denominator
    /// from anywhere between two taps, and the tap behind the last pixel.
    fn taps(&self) -> Option<u32> {
        let steps = (3 * u64::from(self.numerator)).div_ceil(self.denominator.into());
        (steps <= 3).then_some(steps as u32 + 2).map(|taps| taps.max(3))
    }
}

/// Images of logits resized to `height × width`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub height: u32,
    pub width: u32,
    y: Scale,
    x: Scale,
}

/// Some rows of the result of an image, or all of some images, and the logits that they read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub band: Band,
    /// The row of the result that they start with.
    pub row: u32,
    /// Rows of the result.
    pub rows: u32,
}

/// Some rows of the logits of an image, or all of some images, and what their gradient is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceRows {
    pub band: Band,
    /// The rows of the result that read them, and the logits that those read.
    pub read: Rows,
    /// How many of those rows of the result belong to the rows of the logits before.
    pub before: u32,
}

impl SourceRows {
    /// The logits that these rows of the result read.
    pub fn of(rows: Rows) -> Self {
        Self { band: rows.band, read: rows, before: 0 }
    }
}

impl Geometry {
    pub fn new(resize: Resize, logits: &Logits, height: u32, width: u32) -> Result<Self, Error> {
        let y = Scale::new(resize, logits.height(), height)?;
        let x = Scale::new(resize, logits.width(), width)?;
        Ok(Self { height, width, y, x })
    }

    /// Taps per axis that a block of 4 × 4 pixels reads, or `None` where an axis shrinks.
    pub fn taps(&self) -> Option<u32> {
        Some(self.y.taps()?.max(self.x.taps()?))
    }

    /// Whether both axes grow to exactly four times their size, centre on centre.
    pub fn is_by_four(&self) -> bool {
        [self.y, self.x].iter().all(Scale::is_by_four)
    }

    /// The parameters of the rows `part` of the result, whose logits are bound as `logits`; `whole` is all of them.
    pub fn params(&self, whole: &Logits, part: &Rows, logits: &Logits) -> Params {
        Params {
            in_height: whole.height(),
            in_width: whole.width(),
            in_row: part.band.pixel / whole.width(),
            out_height: part.rows,
            out_width: self.width,
            out_row: part.row,
            y_numerator: self.y.numerator,
            y_offset: self.y.offset,
            y_denominator: self.y.denominator,
            x_numerator: self.x.numerator,
            x_offset: self.x.offset,
            x_denominator: self.x.denominator,
            ..Params::new(logits)
        }
        .with_rows((part.rows, self.width))
    }

    /// Everything at once.
    pub fn all(&self, logits: &Logits) -> Rows {
        Rows { band: Band::whole(logits), row: 0, rows: self.height }
    }

    /// Splits the result into images, or into runs of rows, whose logits and results `fit`.
    pub fn split(&self, logits: &Logits, fit: impl Fn(&Rows) -> Result<(), Error>) -> Result<Vec<Rows>, Error> {
        let all = self.all(logits);
        if fit(&all).is_ok() {
            return Ok(vec![all]);
        }
        let image = |image| Rows { band: Band { image, images: 1, ..all.band }, ..all };
        if fit(&image(0)).is_ok() {
            return Ok((0..logits.images()).map(image).collect());
        }
        let mut rows = self.height;
        loop {
            let parts = self.parts_of_rows(logits, rows);
            match parts.iter().try_for_each(&fit) {
                Ok(()) => return Ok(parts),
                Err(error) if rows == 1 => return Err(error),
                Err(_) => {}
            }
            // Whole blocks of four rows, so that every pixel is computed in the same way whatever the parts are.
            rows = if rows > 4 { rows.div_ceil(2).next_multiple_of(4) } else { rows.div_ceil(2) };
        }
    }

    /// Splits the logits into images, or into runs of rows, that `fit` with the rows of the result that read them.
    pub fn split_source(
        &self,
        logits: &Logits,
        fit: impl Fn(&SourceRows) -> Result<(), Error>,
    ) -> Result<Vec<SourceRows>, Error> {
        let all = self.all(logits);
        if fit(&SourceRows::of(all)).is_ok() {
            return Ok(vec![SourceRows::of(all)]);
        }
        let image = |image| SourceRows::of(Rows { band: Band { image, images: 1, ..all.band }, ..all });
        if fit(&image(0)).is_ok() {
            return Ok((0..logits.images()).map(image).collect());
        }
        let mut rows = logits.height();
        loop {
            let parts: Vec<_> = (0..logits.images())
                .flat_map(|image| (0..logits.height()).step_by(rows as usize).map(move |row| (image, row)))
                .map(|(image, row)| self.source_rows(logits, image, row, rows.min(logits.height() - row)))
                .collect();
            match parts.iter().try_for_each(&fit) {
                Ok(()) => return Ok(parts),
                Err(error) if rows == 1 => return Err(error),
                Err(_) => rows = rows.div_ceil(2),
            }
        }
    }

    fn source_rows(&self, logits: &Logits, image: u32, row: u32, rows: u32) -> SourceRows {
        let (height, width) = (logits.height(), logits.width());
        let first = |index| self.y.first(index, height, self.height);
        let band = |row: u32, end: u32| Band { image, pixel: row * width, images: 1, height: end - row, width };
        let (above, below) = (row.saturating_sub(1), (row + rows + 1).min(height));
        let (start, end) = (first(above), first(row + rows));
        SourceRows {
            band: band(row, row + rows),
            read: Rows { band: band(above, below), row: start, rows: end - start },
            before: first(row) - start,
        }
    }

    /// The most rows and the most columns of the result that read a pixel of the logits.
    pub fn readers(&self, logits: &Logits) -> (u32, u32) {
        (self.y.readers(logits.height(), self.height), self.x.readers(logits.width(), self.width))
    }

    fn parts_of_rows(&self, logits: &Logits, rows: u32) -> Vec<Rows> {
        let y = &self.y;
        let mut parts = Vec::new();
        for image in 0..logits.images() {
            for row in (0..self.height).step_by(rows as usize) {
                let rows = rows.min(self.height - row);
                let source_row = y.index(row);
                // The last pixel's lower tap, and where blocks of four rows are read, all taps of the last block.
                let last_block = row + (rows - 1) / 4 * 4;
                let last_tap = self.taps().map_or(0, |taps| y.index(last_block) + taps - 1);
                let end = (last_tap.max(y.index(row + rows - 1) + 1) + 1).min(logits.height());
                let (height, width) = (end - source_row, logits.width());
                let band = Band { image, pixel: source_row * width, images: 1, height, width };
                parts.push(Rows { band, row, rows });
            }
        }
        parts
    }
}

/// Refuses what a row of the result takes if it is more than the limit.
pub(crate) fn within(needed: u64, limit: u64) -> Result<(), Error> {
    let what = "bytes of one row of the result, or of the logits that it reads";
    if needed <= limit { Ok(()) } else { Err(Error::Limit { what, needed, limit }) }
}
