//! What the page says of one pixel, computed in f64 by the library's written specification from the logits on the host.

use js_sys::Object;
use seghead::{Axis, Error, Logits, Resize, reference};

use crate::objects::{numbers, object};

/// Where a pixel is on the displayed picture, and how that comes from the logits.
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub size: [u32; 2],
    pub resize: Resize,
    pub temperature: f32,
}

impl Place {
    /// The logits of a pixel of the picture, divided by the temperature.
    fn logits(&self, shape: &Logits, values: &[f32], [y, x]: [u32; 2]) -> Vec<f64> {
        let (top, bottom, down) = reference::taps(self.resize, y, shape.height(), self.size[0]);
        let (left, right, across) = reference::taps(self.resize, x, shape.width(), self.size[1]);
        let plane = |plane: &[f32]| {
            let at = |row: usize, column: usize| f64::from(plane[row * shape.width() as usize + column]);
            let row = |row| (1.0 - across) * at(row, left) + across * at(row, right);
            ((1.0 - down) * row(top) + down * row(bottom)) / f64::from(self.temperature)
        };
        values.chunks(shape.pixels() as usize).map(plane).collect()
    }

    /// The softmax of this pixel, every class over all pixels of its column or row.
    fn along(&self, shape: &Logits, values: &[f32], axis: Axis) -> Result<Vec<f64>, Error> {
        let [height, width] = self.size;
        let (places, own): (Vec<_>, _) = match axis {
            Axis::Width => ((0..width).map(|x| [self.y, x]).collect(), self.x),
            _ => ((0..height).map(|y| [y, self.x]).collect(), self.y),
        };
        // The pixels of a column are now like the classes of one pixel.
        let all: Vec<_> = places.iter().flat_map(|&place| self.logits(shape, values, place)).collect();
        let classes = shape.classes();
        let softmax = reference::softmax(&Logits::chw(places.len() as u32, 1, classes)?, &all, Axis::Class);
        let first = (own * classes) as usize;
        Ok(softmax[first..first + classes as usize].to_vec())
    }

    /// Everything about the pixel, with its true label if there is one.
    pub fn describe(&self, shape: &Logits, values: &[f32], label: Option<u8>) -> Result<Object, Error> {
        let logits = self.logits(shape, values, [self.y, self.x]);
        let pixel = Logits::chw(shape.classes(), 1, 1)?;
        let scores = reference::scores(&pixel, &logits);
        let label = label.filter(|&label| u32::from(label) < shape.classes());
        let loss = label.map(|label| reference::cross_entropy(&pixel, &logits, &[label.into()], None, None, 0.0).sum());
        Ok(object(&[
            ("sigmoid", numbers(&reference::sigmoid(&logits))),
            ("softmax", numbers(&reference::softmax(&pixel, &logits, Axis::Class))),
            ("height", numbers(&self.along(shape, values, Axis::Height)?)),
            ("width", numbers(&self.along(shape, values, Axis::Width)?)),
            ("logits", numbers(&logits)),
            ("best", reference::argmax(&pixel, &logits)[0].into()),
            ("confidence", scores.confidence[0].into()),
            ("margin", scores.margin[0].into()),
            ("entropy", scores.entropy[0].into()),
            ("label", label.into()),
            ("loss", loss.into()),
        ]))
    }
}
