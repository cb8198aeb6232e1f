//! What the tests of the command share: running it, and reading and writing its files.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // each test file uses a part of it

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub fn seghead(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seghead")).args(arguments).current_dir(folder).output().unwrap()
}

/// Runs a command that succeeds.
#[track_caller]
pub fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    let output = seghead(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The JSON object that a successful command prints.
#[track_caller]
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that a command fails with `code` and one line that has all of `words`, and leaves `files` as all there is.
#[track_caller]
pub fn refused(folder: &TempDir, arguments: &[&str], code: i32, words: &[&str], files: usize) {
    let output = seghead(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = stderr.lines().filter(|line| !line.contains("no real GPU chosen")).collect();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(lines.len(), 1, "{stderr}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in: {stderr}");
    }
    assert!(output.stdout.is_empty());
    assert_eq!(fs::read_dir(folder).unwrap().count(), files, "{arguments:?} left a file");
}

/// A version 1.0 .npy file.
pub fn npy(folder: &TempDir, name: &str, descr: &str, shape: &str, data: &[u8]) {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    fs::write(folder.path().join(name), bytes).unwrap();
}

pub fn floats(folder: &TempDir, name: &str, shape: &str, values: &[f32]) {
    npy(folder, name, "<f4", shape, bytemuck::cast_slice(values));
}

/// The header and the data of a .npy file.
pub fn read(folder: &TempDir, name: &str) -> (String, Vec<u8>) {
    let bytes = fs::read(folder.path().join(name)).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    (String::from_utf8_lossy(&bytes[10..start]).into_owned(), bytes[start..].to_vec())
}

/// The float32 values of a .npy file.
pub fn read_floats(folder: &TempDir, name: &str) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&read(folder, name).1)
}

/// Numbers that look random, with equals among them, in −4..4.
pub fn logits(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 26) as f32 / 8.0 - 4.0).collect()
}
