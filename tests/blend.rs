//! The blends of a colour over a photo, every pair of values.

use seghead::Blend;

const ALPHAS: [u8; 9] = [0, 1, 2, 76, 127, 128, 191, 254, 255];

fn every_pair() -> impl Iterator<Item = (u8, u8, u8)> {
    ALPHAS
        .into_iter()
        .flat_map(|alpha| (0..=255).flat_map(move |photo| (0..=255).map(move |colour| (photo, colour, alpha))))
}

#[test]
fn nothing_and_everything() {
    for blend in [Blend::Straight, Blend::Linear] {
        for value in 0..=255 {
            let (photo, colour) = ([value, 255 - value, 7], [31, value, 255]);
            assert_eq!(blend.mix(photo, colour, 0), photo, "{blend:?}");
            assert_eq!(blend.mix(photo, colour, 255), colour, "{blend:?}");
            for alpha in ALPHAS {
                assert_eq!(blend.mix([value; 3], [value; 3], alpha), [value; 3], "{blend:?}");
            }
        }
    }
}

#[test]
fn straight_rounds_to_nearest() {
    for (photo, colour, alpha) in every_pair() {
        let share = f64::from(alpha) / 255.0;
        let exact = f64::from(photo) * (1.0 - share) + f64::from(colour) * share;
        let got = Blend::Straight.mix([photo; 3], [colour; 3], alpha)[0];
        assert!((f64::from(got) - exact).abs() <= 0.5, "{photo} {colour} {alpha}");
    }
    assert_eq!(Blend::Straight.mix([0, 100, 255], [255, 50, 0], 128), [128, 75, 127]);
}

/// The light of the result is within half a step of the light that is asked for; and mixing light never darkens.
#[test]
fn linear_mixes_light() {
    let light = |value: f64| {
        let value = value / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    for (photo, colour, alpha) in every_pair() {
        let share = f64::from(alpha) / 255.0;
        let exact = light(f64::from(photo)) * (1.0 - share) + light(f64::from(colour)) * share;
        let got = f64::from(Blend::Linear.mix([photo; 3], [colour; 3], alpha)[0]);
        let (below, above) = (light(got - 0.5001), light(got + 0.5001));
        assert!(below <= exact && exact <= above, "{photo} {colour} {alpha}: {got}");
        assert!(got >= f64::from(Blend::Straight.mix([photo; 3], [colour; 3], alpha)[0]), "{photo} {colour} {alpha}");
    }
    assert_eq!(Blend::Linear.mix([0, 100, 255], [255, 50, 0], 128), [188, 80, 187]);
}
