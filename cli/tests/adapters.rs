//! `seghead adapters`: what it says of the adapters of this machine.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_seghead")).arg("adapters").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The adapter that the library opens, as wgpu describes it.
fn opened() -> seghead::Gpu {
    seghead::Gpu::headless_blocking(&seghead::GpuOptions::default()).unwrap()
}

#[test]
fn limits_and_features_are_wgpus() {
    let report: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let adapters = report["adapters"].as_array().unwrap();
    let chosen: Vec<_> = adapters.iter().filter(|adapter| adapter["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1, "{report}");
    let (chosen, gpu) = (chosen[0], opened());
    let limits = gpu.device().limits();
    assert_eq!(chosen["name"], gpu.adapter_info().name);
    assert_eq!(chosen["max_storage_buffer_binding_size"], limits.max_storage_buffer_binding_size);
    assert_eq!(chosen["max_buffer_size"], limits.max_buffer_size);
    assert_eq!(chosen["max_storage_buffers_per_shader_stage"], limits.max_storage_buffers_per_shader_stage);
    assert_eq!(chosen["max_compute_workgroups_per_dimension"], limits.max_compute_workgroups_per_dimension);
    assert_eq!(chosen["max_compute_invocations_per_workgroup"], limits.max_compute_invocations_per_workgroup);
    assert_eq!(chosen["min_storage_buffer_offset_alignment"], limits.min_storage_buffer_offset_alignment);
    let int64 = gpu.device().features().contains(seghead::wgpu::Features::SHADER_INT64);
    assert_eq!(chosen["features"]["SHADER_INT64"], int64);
    assert_eq!(chosen["access"], format!("{:?}", gpu.access()).to_lowercase());
    let bytes = 4 * 19 * 1024 * 2048;
    assert_eq!(chosen["splits_19x1024x2048_f32"], bytes > limits.max_storage_buffer_binding_size);
    for adapter in adapters {
        assert_eq!(adapter["features"].as_object().unwrap().len(), 5, "{adapter}");
        assert_eq!(adapter["needed"]["COMPUTE_SHADERS"], true, "{adapter}");
        assert!(adapter["needed"]["SHADER_F16_IN_F32"].is_boolean(), "{adapter}");
        assert_eq!(adapter.get("access").is_some(), adapter["chosen"] == true, "{adapter}");
    }
}

#[test]
fn the_text_is_aligned() {
    let text = run(&[]);
    assert_eq!(text.lines().filter(|line| line.starts_with("* ")).count(), 1, "{text}");
    for words in ["largest binding", "alignment of offsets", "has", "reads four elements as", "19×1024×2048 f32"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(words)), "{words}: {text}");
    }
    for line in text.lines().filter(|line| line.starts_with("    ")) {
        let column = |n: usize| line.chars().nth(n).unwrap_or_default();
        assert!(column(28) == ' ' && column(29) == ' ' && column(30) != ' ', "{line}");
    }
}
