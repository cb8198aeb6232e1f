//! Stand-in until the palettes come.

/// Colours of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    colours: Vec<[u8; 3]>,
}

impl Palette {
    /// Uncertain.
    pub const UNCERTAIN: [u8; 3] = [255, 0, 255];

    /// New.
    pub fn new(colours: Vec<[u8; 3]>) -> Self {
        Self { colours }
    }

    /// Voc.
    pub fn voc() -> Self {
        Self::new((0..256).map(|i| [i as u8, 255 - i as u8, (i * 7) as u8]).collect())
    }

    /// Colours.
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.colours
    }

    /// Len.
    pub fn len(&self) -> usize {
        self.colours.len()
    }

    /// Empty.
    pub fn is_empty(&self) -> bool {
        self.colours.is_empty()
    }
}

/// How colours are mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blend {
    /// Stored values.
    #[default]
    Straight,
    /// Linear light.
    Linear,
}

impl Blend {
    /// Mix.
    pub fn mix(self, photo: [u8; 3], colour: [u8; 3], alpha: u8) -> [u8; 3] {
        let decode = |x: u8| {
            let x = f64::from(x) / 255.0;
            if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        let encode = |x: f64| {
            let y = if x <= 0.0031308 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
            (y * 255.0).round() as u8
        };
        let a = u32::from(alpha);
        std::array::from_fn(|i| match self {
            Self::Straight => ((u32::from(photo[i]) * (255 - a) + u32::from(colour[i]) * a + 127) / 255) as u8,
            Self::Linear => {
                let share = f64::from(a) / 255.0;
                encode(decode(photo[i]) * (1.0 - share) + decode(colour[i]) * share)
            }
        })
    }
}
