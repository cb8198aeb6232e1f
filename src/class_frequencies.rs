//! How often the classes of a data set occur, and the weights that follow from it.

use crate::{ClassRecord, Error, Map};

/// How many pixels of each class there are in images, and in how many pixels of images: for class weights that make
/// rare classes count as much as frequent ones.
///
/// The frequency of a class is that of Eigen and Fergus, [Predicting Depth, Surface Normals and Semantic Labels with a
/// Common Multi-Scale Convolutional Architecture](https://arxiv.org/abs/1411.4734), 2015: "the number of pixels of
/// class c divided by the total number of pixels in images where c is present". A label that is no class, such as 255
/// for void, is a pixel of its image but not one of any class.
///
/// Everything is counted in integers: the frequencies of parts of a data set, [added up](Self::add), are exactly those
/// of all of it.
///
/// ```
/// use seghead::ClassFrequencies;
/// let mut frequencies = ClassFrequencies::new(4);
/// frequencies.add_image(&[0u8, 0, 0, 1])?;
/// frequencies.add_image(&[0u8, 0, 2, 255])?;
/// assert_eq!(frequencies.frequencies(), [Some(5.0 / 8.0), Some(1.0 / 4.0), Some(1.0 / 4.0), None]);
/// // 0.25 is the median of the three that there are.
/// assert_eq!(frequencies.median_frequency_weights(), [0.4, 1.0, 1.0, 0.0]);
/// # Ok::<(), seghead::Error>(())
/// ```
///
/// From [`ClassStatistics`](crate::ClassStatistics), which counts on the GPU:
///
/// ```
/// # use seghead::{ClassFrequencies, ClassRecord, Error, Map};
/// # fn app(map: &Map, records: &[ClassRecord]) -> Result<Vec<f32>, Error> {
/// let mut frequencies = ClassFrequencies::new(21);
/// frequencies.add_records(map, records)?;
/// Ok(frequencies.median_frequency_weights())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassFrequencies {
    /// Of each class its pixels, and those of the images that it is in.
    counts: Vec<[u64; 2]>,
}

impl ClassFrequencies {
    /// Those of no images, of `classes` classes, 0 and up.
    pub fn new(classes: u32) -> Self {
        Self { counts: vec![[0; 2]; classes as usize] }
    }

    /// Adds an image of any size: the label of each of its pixels, of any integer type.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] where 64 bits do not count the pixels of a class, or of its images.
    pub fn add_image<L: Copy + Into<i64>>(&mut self, labels: &[L]) -> Result<(), Error> {
        let mut pixels = vec![0u64; self.counts.len()];
        for &label in labels {
            let class = usize::try_from(label.into()).ok();
            if let Some(count) = class.and_then(|class| pixels.get_mut(class)) {
                *count += 1;
            }
        }
        self.add_counts(&pixels, labels.len() as u64)
    }

    /// Adds all images that `records` are of: the N × C that [`ClassStatistics`](crate::ClassStatistics) writes for
    /// `map`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for another number of records; [`Error::Limit`] where 64 bits do not count the pixels of a
    /// class, or of its images.
    pub fn add_records(&mut self, map: &Map, records: &[ClassRecord]) -> Result<(), Error> {
        let classes = self.counts.len();
        let (expected, found) = (u64::from(map.images()) * classes as u64, records.len() as u64);
        if expected != found {
            return Err(Error::Length { what: "class records", expected, found });
        }
        let of_image = u64::from(map.height()) * u64::from(map.width());
        let mut sum = self.clone();
        for image in records.chunks_exact(classes.max(1)) {
            let pixels: Vec<_> = image.iter().map(|record| record.pixels.into()).collect();
            sum.add_counts(&pixels, of_image)?;
        }
        *self = sum;
        Ok(())
    }

    /// Adds an image of `image_pixels` pixels, of which `pixels` are of each class.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for another number of classes; [`Error::Limit`] where 64 bits do not count the pixels of a
    /// class, or of its images.
    pub fn add_counts(&mut self, pixels: &[u64], image_pixels: u64) -> Result<(), Error> {
        let of_class = |&pixels: &u64| [pixels, if pixels == 0 { 0 } else { image_pixels }];
        self.add(&Self { counts: pixels.iter().map(of_class).collect() })
    }

    /// Adds the images of another part of a data set, exactly.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for another number of classes; [`Error::Limit`] where 64 bits do not count the pixels of a
    /// class, or of its images.
    pub fn add(&mut self, other: &Self) -> Result<(), Error> {
        let (expected, found) = (self.counts.len() as u64, other.counts.len() as u64);
        if expected != found {
            return Err(Error::Length { what: "classes of frequencies", expected, found });
        }
        let sum = |a: u64, b: u64| {
            let limit = u64::MAX;
            a.checked_add(b).ok_or(Error::Limit { what: "pixels of a class's images", needed: limit, limit })
        };
        let both = self.counts.iter().zip(&other.counts);
        self.counts = both.map(|(a, b)| Ok([sum(a[0], b[0])?, sum(a[1], b[1])?])).collect::<Result<_, Error>>()?;
        Ok(())
    }

    /// Of each class the number of its pixels.
    pub fn pixels(&self) -> impl ExactSizeIterator<Item = u64> {
        self.counts.iter().map(|&[pixels, _]| pixels)
    }

    /// Of each class the number of pixels of all images that it is in.
    pub fn image_pixels(&self) -> impl ExactSizeIterator<Item = u64> {
        self.counts.iter().map(|&[_, of_images]| of_images)
    }

    /// Of each class its pixels over those of the images that it is in, in 0..=1; none of a class that never occurs.
    pub fn frequencies(&self) -> Vec<Option<f64>> {
        let of_class = |&[pixels, of_images]: &[u64; 2]| (pixels != 0).then(|| pixels as f64 / of_images as f64);
        self.counts.iter().map(of_class).collect()
    }

    /// A weight per class, C of them, as [`CrossEntropy::class_weights`](crate::CrossEntropy::class_weights) takes
    /// them: the median of the frequencies over that of the class, as in the paper of Eigen and Fergus and in
    /// [SegNet](https://arxiv.org/abs/1511.00561) (Badrinarayanan, Kendall, Cipolla, 2017). Of an even number of
    /// frequencies the median is the mean of the two in the middle.
    ///
    /// A class that never occurs has no frequency: it counts for nothing in the median, and its weight is 0.
    pub fn median_frequency_weights(&self) -> Vec<f32> {
        let frequencies = self.frequencies();
        let mut sorted: Vec<f64> = frequencies.iter().copied().flatten().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        let median = (middle(sorted.len().saturating_sub(1) / 2) + middle(sorted.len() / 2)) / 2.0;
        frequencies.into_iter().map(|frequency| frequency.map_or(0.0, |of_class| (median / of_class) as f32)).collect()
    }
}
