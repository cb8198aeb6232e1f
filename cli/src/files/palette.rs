//! The colours of label maps.

/// The colour of a class in the colour map of the Pascal VOC challenge, by the function `VOCcolormap` of its
/// development kit, <http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html>: from the lowest bits up,
/// three bits of the index at a time go to red, green and blue, from their highest bits down. The colours repeat after
/// 256 of them.
pub fn voc(index: u32) -> [u8; 3] {
    let mut colour = [0; 3];
    for step in 0..8 {
        let group = (index & 0xff) >> (3 * step);
        for (channel, value) in colour.iter_mut().enumerate() {
            *value |= (((group >> channel) & 1) as u8) << (7 - step);
        }
    }
    colour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_development_kit() {
        let first = [
            [0, 0, 0],
            [128, 0, 0],
            [0, 128, 0],
            [128, 128, 0],
            [0, 0, 128],
            [128, 0, 128],
            [0, 128, 128],
            [128, 128, 128],
            [64, 0, 0],
            [192, 0, 0],
            [64, 128, 0],
            [192, 128, 0],
            [64, 0, 128],
            [192, 0, 128],
            [64, 128, 128],
            [192, 128, 128],
            [0, 64, 0],
            [128, 64, 0],
            [0, 192, 0],
            [128, 192, 0],
            [0, 64, 128],
        ];
        for (index, colour) in (0..).zip(first) {
            assert_eq!(voc(index), colour, "{index}");
        }
        assert_eq!(voc(255), [224, 224, 192]);
        assert_eq!(voc(256), voc(0));
    }

    #[test]
    fn all_256_differ() {
        let colours: std::collections::HashSet<_> = (0..256).map(voc).collect();
        assert_eq!(colours.len(), 256);
    }
}
