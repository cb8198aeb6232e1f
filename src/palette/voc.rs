//! Pascal VOC.

/// The classes of the segmentation challenge, by the values in its masks:
/// <http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html>; the same in
/// <https://github.com/open-mmlab/mmsegmentation/blob/main/mmseg/datasets/voc.py>.
pub(super) const NAMES: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// The colour of a label, by the function `VOCcolormap` of the development kit: from the lowest bits up, three bits of
/// the label at a time go to red, green and blue, from their highest bits down.
pub(super) fn colour(label: u8) -> [u8; 3] {
    let mut colour = [0; 3];
    for step in 0..8 {
        // Eight bits are at most three groups; the rest are 0.
        let group = u32::from(label) >> (3 * step);
        for (channel, value) in colour.iter_mut().enumerate() {
            *value |= (((group >> channel) & 1) as u8) << (7 - step);
        }
    }
    colour
}
