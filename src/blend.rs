/// How the colour of a class is laid over a photo; both are 8-bit sRGB.
///
/// ```
/// use seghead::Blend;
/// let (black, white) = ([0; 3], [255; 3]);
/// assert_eq!(Blend::Straight.mix(black, white, 128), [128; 3]);
/// // Half the light is lighter than half the value.
/// assert_eq!(Blend::Linear.mix(black, white, 128), [188; 3]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Blend {
    /// Mixes the values as they are stored, as most viewers and tools do.
    #[default]
    Straight,
    /// Mixes light: the values are decoded, mixed in proportion, and encoded again, by the transfer function of sRGB,
    /// IEC 61966-2-1. Darker than [`Straight`](Self::Straight) nowhere.
    Linear,
}

impl Blend {
    /// One pixel: `alpha` in 255ths of `colour`, the rest of `photo`.
    ///
    /// Straight, a channel is (photo · (255 − alpha) + colour · alpha + 127) / 255 in integers: the source-over operator
    /// of [Porter and Duff](https://doi.org/10.1145/800031.808606) over an opaque photo, rounded to the nearest value.
    ///
    /// Linear, it is E(D(photo) · (1 − alpha/255) + D(colour) · alpha/255) to the nearest value, where, with values in
    /// 0..=1, D(v) = v / 12.92 up to 0.04045 and ((v + 0.055) / 1.055)^2.4 beyond, and
    /// E(l) = 12.92 · l up to 0.0031308 and 1.055 · l^(1/2.4) − 0.055 beyond
    /// ([IEC 61966-2-1](https://webstore.iec.ch/en/publication/6169)).
    pub fn mix(self, photo: [u8; 3], colour: [u8; 3], alpha: u8) -> [u8; 3] {
        std::array::from_fn(|channel| match self {
            Self::Straight => straight(photo[channel], colour[channel], alpha),
            Self::Linear => linear(photo[channel], colour[channel], alpha),
        })
    }
}

fn straight(photo: u8, colour: u8, alpha: u8) -> u8 {
    let (photo, colour, alpha) = (u32::from(photo), u32::from(colour), u32::from(alpha));
    ((photo * (255 - alpha) + colour * alpha + 127) / 255) as u8
}

fn linear(photo: u8, colour: u8, alpha: u8) -> u8 {
    let alpha = f64::from(alpha) / 255.0;
    encode(decode(photo) * (1.0 - alpha) + decode(colour) * alpha)
}

/// The light of an sRGB value, 0..=1.
fn decode(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The sRGB value of light in 0..=1.
fn encode(light: f64) -> u8 {
    let value = if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
    (255.0 * value).round() as u8
}
