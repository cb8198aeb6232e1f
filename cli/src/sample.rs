//! The built-in sample: a photo, the logits of a small network, the true labels. Provenance in
//! `assets/sample/README.md`.

/// The photo, 640 × 448 PNG.
pub const PHOTO: &[u8] = include_bytes!("../../assets/sample/photo.png");

/// The true labels, 640 × 448 PNG, [`VOID`] where there is none.
pub const LABELS: &[u8] = include_bytes!("../../assets/sample/labels.png");

/// The logits, float16 .npy of 4 × 112 × 160.
pub const LOGITS: &[u8] = include_bytes!("../../assets/sample/logits_f16.npy");

/// The names of the classes.
pub const CLASSES: [&str; 4] = ["background", "cat", "person", "cup"];

/// The label of pixels that belong to no class.
pub const VOID: i64 = 255;
