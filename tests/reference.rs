//! The twins themselves: a crop is what its rectangle is when it is cut out.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use seghead::{Logits, reference};

#[test]
fn soft_targets_of_crops() {
    for whole in [Logits::nchw(2, 3, 5, 7).unwrap(), Logits::nhwc(2, 5, 7, 3).unwrap()] {
        let crop = whole.crop(1, 2, 3, 4).unwrap();
        let mut random = Random::new(1);
        let (data, targets) = (random.logits(&whole), random.logits(&whole));
        let packed = match whole.pixel_stride() > 1 {
            true => Logits::nhwc(2, 3, 4, 3).unwrap(),
            false => Logits::nchw(2, 3, 3, 4).unwrap(),
        };
        let (cut, cut_targets) = (reference::packed(&crop, &data), reference::packed(&crop, &targets));
        let weights = [0.5, 1.0, 2.0];
        assert_eq!(
            reference::cross_entropy_soft(&crop, &data, &targets, Some(&weights), 0.1),
            reference::cross_entropy_soft(&packed, &cut, &cut_targets, Some(&weights), 0.1),
        );
    }
}
