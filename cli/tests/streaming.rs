//! Logits that are larger than memory may be, and the ways in which a file can hold them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use half::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seghead"));
    command.args(arguments).args(["-q"]).current_dir(folder);
    command
}

#[track_caller]
fn run(folder: &TempDir, arguments: &[&str]) {
    succeeded(arguments, &command(folder, arguments).output().unwrap());
}

#[track_caller]
fn succeeded(arguments: &[&str], output: &Output) {
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What comes before the elements of a .npy file, 128 bytes.
fn header(descr: &str, is_fortran: bool, shape: &[usize]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    let sizes: Vec<_> = shape.iter().map(ToString::to_string).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({}), }}", sizes.join(", "));
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:117}\n").bytes());
    assert_eq!(bytes.len(), 128);
    bytes
}

/// A .npy file of zeros, which takes no room on the disk, but for `planted` elements: where they are, and their bytes.
fn sparse<const SIZE: usize>(path: &Path, descr: &str, shape: &[usize], planted: &[(usize, [u8; SIZE])]) {
    let mut file = File::create_new(path).unwrap();
    file.write_all(&header(descr, false, shape)).unwrap();
    file.set_len((128 + shape.iter().product::<usize>() * SIZE) as u64).unwrap();
    for (at, value) in planted {
        file.seek(SeekFrom::Start((128 + at * SIZE) as u64)).unwrap();
        file.write_all(value).unwrap();
    }
}

/// The elements of a .npy file that the command wrote.
fn elements(folder: &TempDir, name: &str) -> Vec<u8> {
    let mut bytes = fs::read(folder.path().join(name)).unwrap();
    bytes.drain(..10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]])));
    bytes
}

/// Waits for the command, and returns how many MiB of memory it had resident at most.
#[cfg(target_os = "linux")]
fn peak(arguments: &[&str], mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        // Absent once the process is about to end.
        if let Some(kilobytes) = line.and_then(|line| line.trim().strip_suffix(" kB")) {
            peak = kilobytes.parse::<u64>().unwrap() / 1024;
        }
        thread::sleep(Duration::from_millis(5));
    }
    succeeded(arguments, &child.wait_with_output().unwrap());
    eprintln!("{arguments:?}: at most {peak} MiB resident");
    assert!(peak > 0, "{arguments:?}");
    peak
}

/// The most that a command may have resident whose results are small, in MiB: with a software adapter, whose memory is
/// the process's, and all that loading a driver takes. It is about 260 here.
#[cfg(target_os = "linux")]
const MOST: u64 = 600;

/// 24 classes of 4096 × 8192 pixels, zero but for one class at some pixels; returns the labels.
#[cfg(target_os = "linux")]
fn labels_of_many_gigabytes<const SIZE: usize>(descr: &str, one: [u8; SIZE]) -> u64 {
    const PIXELS: usize = 4096 * 8192;
    let folder = TempDir::new().unwrap();
    let planted = [
        (0, 1),
        (1, 23),
        (2_047, 2),
        (2_048, 3),
        (262_143, 4),
        (262_144, 5),
        (349_524, 6),
        (349_525, 7),
        (PIXELS / 2 + 1, 22),
        (PIXELS - 4, 21),
        (PIXELS - 1, 23),
    ];
    let bytes = planted.map(|(pixel, class)| (usize::from(class) * PIXELS + pixel, one));
    sparse(&folder.path().join("x.npy"), descr, &[24, 4096, 8192], &bytes);
    let arguments = ["argmax", "x.npy", "-o", "y.npy"];
    let peak = peak(&arguments, command(&folder, &arguments).stderr(Stdio::piped()).spawn().unwrap());
    let labels = elements(&folder, "y.npy");
    assert_eq!(labels.len(), PIXELS);
    let found: Vec<_> = labels.iter().copied().enumerate().filter(|&(_, label)| label != 0).collect();
    assert_eq!(found, planted);
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn three_gibibytes_take_no_memory() {
    let peak = labels_of_many_gigabytes("<f4", 1.0_f32.to_le_bytes());
    assert!(peak < MOST, "{peak} MiB");
}

#[cfg(target_os = "linux")]
#[test]
fn halves_stay_halves() {
    let peak = labels_of_many_gigabytes("<f2", f16::ONE.to_le_bytes());
    assert!(peak < MOST, "{peak} MiB");
}

#[cfg(target_os = "linux")]
#[test]
fn other_commands_read_in_parts_too() {
    let folder = TempDir::new().unwrap();
    sparse(&folder.path().join("x.npy"), "<f4", &[192, 1024, 1024], &[(0, 1.0_f32.to_le_bytes())]);
    let target = [header("|u1", false, &[1024, 1024]), vec![0; 1 << 20]].concat();
    fs::write(folder.path().join("t.npy"), target).unwrap();
    for arguments in [
        &["segment", "x.npy", "--size", "500x500", "--labels", "y.npy"][..],
        &["loss", "cross-entropy", "x.npy", "t.npy"],
    ] {
        let mut command = command(&folder, arguments);
        let peak = peak(arguments, command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        assert!(peak < MOST, "{arguments:?}: {peak} MiB");
    }
}

/// Whoever writes a file anew while it is read shortens it first.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_cut_while_it_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.npy");
    sparse::<4>(&path, "<f4", &[24, 4096, 8192], &[]);
    let mut child = command(&folder, &["argmax", "x.npy", "-o", "y.npy"]).stderr(Stdio::piped()).spawn().unwrap();
    let files = format!("/proc/{}/fd", child.id());
    let is_open = || {
        let mut files = fs::read_dir(&files).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|link| link.ends_with("x.npy")))
    };
    while child.try_wait().unwrap().is_none() && !is_open() {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(100));
    File::options().write(true).open(&path).unwrap().set_len(128 + (2 << 30)).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = "x.npy: expected 3221225472 bytes of data (float32 [24, 4096, 8192]), found 2147483648; \
                    the file is cut short";
    assert_eq!(stderr, format!("seghead: {expected}\n"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

/// Logits in every form, beside each other in a folder.
struct Forms {
    folder: TempDir,
    /// What to give the command.
    paths: Vec<String>,
}

impl Forms {
    /// `values` are elements of `SIZE` bytes, little-endian, in C order.
    fn new<const SIZE: usize>(kind: &str, dtype: Dtype, shape: &[usize], values: &[[u8; SIZE]]) -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let reversed = |value: &[u8; SIZE]| {
            let mut value = *value;
            value.reverse();
            value
        };
        let little = values.concat();
        let big = values.iter().map(reversed).collect::<Vec<_>>().concat();
        let npy = [header(&format!("<{kind}"), false, shape), little.clone()].concat();
        write("little.npy", &npy);
        // What comes after the elements is none of them.
        write("big.npy", &[header(&format!(">{kind}"), false, shape), big, vec![0xff; 77]].concat());
        write("fortran.npy", &[header(&format!("<{kind}"), true, shape), fortran(shape, values).concat()].concat());
        // Tensors of wider elements come first.
        let other = TensorView::new(Dtype::F64, vec![1], &[1; 8]).unwrap();
        let tensor = TensorView::new(dtype, shape.to_vec(), &little).unwrap();
        write("x.safetensors", &serialize([("a", other), ("x", tensor)], None).unwrap());
        for (name, method) in [("stored", CompressionMethod::Stored), ("deflated", CompressionMethod::Deflated)] {
            let mut archive = ZipWriter::new(File::create(folder.path().join(format!("{name}.npz"))).unwrap());
            for (name, bytes) in [("a.npy", &b"no array"[..]), ("x.npy", &npy)] {
                archive.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
                archive.write_all(bytes).unwrap();
            }
            archive.finish().unwrap();
        }
        let paths = ["little.npy", "big.npy", "fortran.npy", "x.safetensors:x", "stored.npz:x", "deflated.npz:x"];
        Self { folder, paths: paths.map(str::to_owned).to_vec() }
    }

    /// Runs a command on every form, also through standard input, and checks that the results are the same.
    fn agree(&self, name: &str, options: &[&str]) -> Vec<u8> {
        let mut first = None;
        let mut check = |path: &str| {
            let result = elements(&self.folder, "y.npy");
            fs::remove_file(self.folder.path().join("y.npy")).unwrap();
            let first = first.get_or_insert_with(|| result.clone());
            assert!(*first == result, "{name} {options:?}: {path} is different");
        };
        for path in &self.paths {
            run(&self.folder, &[&[name, path], options].concat());
            check(path);
        }
        if cfg!(unix) {
            let arguments = [&[name, "/dev/stdin"], options].concat();
            let file = || File::open(self.folder.path().join("little.npy")).unwrap();
            let redirected = command(&self.folder, &arguments).stdin(file()).output().unwrap();
            succeeded(&arguments, &redirected);
            check("standard input from a file");

            let mut child = command(&self.folder, &arguments).stdin(Stdio::piped()).spawn().unwrap();
            let mut pipe = child.stdin.take().unwrap();
            std::io::copy(&mut file(), &mut pipe).unwrap();
            drop(pipe);
            succeeded(&arguments, &child.wait_with_output().unwrap());
            check("standard input from a pipe");
        }
        first.unwrap()
    }
}

/// The elements in Fortran order, in which the first index changes fastest.
fn fortran<T: Copy>(shape: &[usize], values: &[T]) -> Vec<T> {
    let element = |mut number: usize| {
        let mut index = vec![0; shape.len()];
        for (i, size) in index.iter_mut().zip(shape) {
            *i = number % size;
            number /= size;
        }
        values[index.iter().zip(shape).fold(0, |at, (i, size)| at * size + i)]
    };
    (0..values.len()).map(element).collect()
}

/// Halves that are as good as random, of which float32 has each.
fn noise(count: usize) -> Vec<f16> {
    let value = |i: u32| f16::from_f32((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 4096.0 - 8.0);
    (0..count as u32).map(value).collect()
}

#[test]
fn every_form_of_a_file_gives_the_same() {
    let argmax = ("argmax", &["-o", "y.npy"][..]);
    let softmax = ("softmax", &["-o", "y.npy"][..]);
    let segment = ("segment", &["--size", "31x17", "--labels", "y.npy"][..]);
    for (shape, commands) in [
        (&[5, 7, 13][..], &[argmax, segment][..]),
        // More than a megabyte, which is read at a time.
        (&[3, 601, 701], &[argmax, softmax]),
        (&[2, 3, 5, 9], &[softmax]),
    ] {
        let values = noise(shape.iter().product());
        let floats: Vec<_> = values.iter().map(|value| value.to_f32().to_le_bytes()).collect();
        let floats = Forms::new("f4", Dtype::F32, shape, &floats);
        let halves: Vec<_> = values.iter().map(|value| value.to_le_bytes()).collect();
        let halves = Forms::new("f2", Dtype::F16, shape, &halves);
        for &(name, options) in commands {
            let (floats, halves) = (floats.agree(name, options), halves.agree(name, options));
            assert!(floats == halves, "{name} of {shape:?}");
            if name == "argmax" {
                assert!(floats == largest(&values, shape), "{name} of {shape:?}");
            }
        }
    }
}

/// The class with the largest logit of every pixel, the first of equals.
fn largest(values: &[f16], shape: &[usize]) -> Vec<u8> {
    let pixels = values.len() / shape[0];
    let class = |pixel: usize| {
        let of_pixel = (0..shape[0]).map(|class| values[class * pixels + pixel]);
        of_pixel.enumerate().fold((0, f16::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best }).0
    };
    (0..pixels).map(|pixel| class(pixel) as u8).collect()
}

/// Images of few pixels have parts of a few bytes, which are read many at a time.
#[test]
fn many_small_parts_give_the_same() {
    let shape = [9_001, 7, 1, 3];
    let values: Vec<_> = noise(shape.iter().product()).iter().map(|value| value.to_f32().to_le_bytes()).collect();
    let forms = Forms::new("f4", Dtype::F32, &shape, &values);
    forms.agree("softmax", &["-o", "y.npy"]);
    forms.agree("sigmoid", &["-o", "y.npy", "--layout", "nhwc"]);
    forms.agree("softmax", &["-o", "y.npy", "--axis", "height", "--layout", "nhwc"]);
}

/// The checksum of an archive is compared though its elements are not read in order.
#[test]
fn a_damaged_archive_is_refused() {
    // More than what is read along with the header.
    let shape = [5, 70, 130];
    let values: Vec<_> = noise(shape.iter().product()).iter().map(|value| value.to_f32().to_le_bytes()).collect();
    let Forms { folder, .. } = Forms::new("f4", Dtype::F32, &shape, &values);
    let path = folder.path().join("stored.npz");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.windows(8).rposition(|bytes| *bytes == *values[values.len() - 2..].as_flattened()).unwrap();
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = command(&folder, &["argmax", "stored.npz:x", "-o", "y.npy"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("seghead: stored.npz:x: ") && stderr.contains("checksum"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(!folder.path().join("y.npy").exists());
}
