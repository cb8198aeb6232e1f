#![allow(clippy::unwrap_used)]

use super::*;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/sample");
const VOID: u8 = 255;

fn sample() -> (Logits, Vec<f32>) {
    infer(Path::new(MODEL), &read(Path::new(PHOTO)).unwrap()).unwrap()
}

fn truth() -> image::GrayImage {
    image::open(format!("{SAMPLE}/labels.png")).unwrap().into_luma8()
}

/// The halves after the header of a .npy file, version 1.
fn halves(path: &str) -> Vec<half::f16> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(2).map(|pair| half::f16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Half photo and half colour, in 255ths.
fn half(photo: u8, colour: u8) -> u8 {
    ((u32::from(photo) * 127 + u32::from(colour) * 128 + 127) / 255) as u8
}

#[test]
fn logits_of_the_sample() {
    let (logits, data) = sample();
    assert_eq!((logits.classes(), logits.height(), logits.width()), (4, 112, 160));
    let stored = halves(&format!("{SAMPLE}/logits_f16.npy"));
    assert_eq!(data.len(), stored.len());
    for (i, (&found, stored)) in data.iter().zip(stored).enumerate() {
        let stored = stored.to_f32();
        // Half a unit in the last of a half's 11 bits, and what convolutions differ by in the order of their sums.
        let bound = stored.abs() * 2f32.powi(-11) + 1e-4;
        assert!((found - stored).abs() <= bound, "logit {i}: {found}, stored {stored}");
    }
}

#[test]
fn labels_of_the_sample() {
    let (logits, data) = sample();
    let truth = truth();
    let gpu = Gpu::headless_blocking(&GpuOptions::default()).unwrap();
    let found = Segment::new(truth.height(), truth.width()).run_blocking(&gpu, &logits, &data).unwrap();
    let counted: Vec<_> = found.labels.iter().zip(truth.as_raw()).filter(|&(_, &truth)| truth != VOID).collect();
    let right = counted.iter().filter(|&&(found, &truth)| found == u32::from(truth)).count();
    let accuracy = right as f64 / counted.len() as f64;
    assert!((accuracy - 0.9633).abs() <= 0.001, "{accuracy}"); // assets/sample/README.md
}

#[test]
fn overlay_of_another_size() {
    let folder = tempfile::tempdir().unwrap();
    let [photo, output] = ["photo.png", "overlay.png"].map(|name| folder.path().join(name));
    let (width, height) = (413, 289);
    let picture = imageops::resize(&read(Path::new(PHOTO)).unwrap(), width, height, imageops::FilterType::Triangle);
    picture.save(&photo).unwrap();
    run(&Args { photo, output: output.clone(), model: MODEL.into() }).unwrap();
    let overlay = read(&output).unwrap();
    assert_eq!(overlay.dimensions(), (width, height));

    let truth = imageops::resize(&truth(), width, height, imageops::FilterType::Nearest);
    let painted = |photo: &image::Rgb<u8>, label: u8| match label {
        0 => photo.0,
        class => [0, 1, 2].map(|i| half(photo.0[i], COLOURS[usize::from(class) - 1][i])),
    };
    let (mut right, mut counted) = (0, 0);
    for ((overlay, photo), truth) in overlay.pixels().zip(picture.pixels()).zip(truth.as_raw()) {
        assert!((0..4).any(|label| overlay.0 == painted(photo, label)), "{overlay:?} over {photo:?}");
        if *truth != VOID {
            counted += 1;
            right += u32::from(overlay.0 == painted(photo, *truth));
        }
    }
    let accuracy = f64::from(right) / f64::from(counted);
    assert!(accuracy > 0.9, "{accuracy}");
}

#[test]
fn errors_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = std::fs::read(MODEL).unwrap();
    std::fs::write(path("text.png"), "not a picture").unwrap();
    std::fs::write(path("cut.png"), &std::fs::read(PHOTO).unwrap()[..1000]).unwrap();
    std::fs::write(path("cut.onnx"), &model[..model.len() / 2]).unwrap();
    std::fs::write(path("empty.onnx"), "").unwrap();
    let with = |photo: &Path, model: &Path| {
        let args = Args { photo: photo.into(), output: path("overlay.png"), model: model.into() };
        message(&run(&args).unwrap_err())
    };
    for name in ["none.png", "text.png", "cut.png"] {
        let message = with(&path(name), Path::new(MODEL));
        assert!(message.contains(name) && !message.contains('\n'), "{message}");
    }
    for name in ["none.onnx", "cut.onnx", "empty.onnx"] {
        let message = with(Path::new(PHOTO), &path(name));
        assert!(message.contains(name) && !message.contains('\n'), "{message}");
    }
    assert!(!path("overlay.png").exists());
}
