//! `seghead adapters`: what there is to compute on, and what of it matters here.

use seghead::wgpu::{self, DownlevelFlags, Features};
use seghead::{Gpu, Logits};
use serde_json::{Map, Value, json};

use super::{open_gpu, print_result, same_adapter};
use crate::args::Common;
use crate::error::Error;

/// Features of adapters that seghead uses, or may come to use.
const FEATURES: [(&str, Features); 5] = [
    ("SHADER_INT64", Features::SHADER_INT64),
    ("SHADER_F16", Features::SHADER_F16),
    ("TIMESTAMP_QUERY", Features::TIMESTAMP_QUERY),
    ("MAPPABLE_PRIMARY_BUFFERS", Features::MAPPABLE_PRIMARY_BUFFERS),
    ("SUBGROUP", Features::SUBGROUP),
];

/// What seghead cannot do without: compute shaders, and `unpack2x16float` to read f16.
const NEEDED: [(&str, DownlevelFlags); 2] =
    [("COMPUTE_SHADERS", DownlevelFlags::COMPUTE_SHADERS), ("SHADER_F16_IN_F32", DownlevelFlags::SHADER_F16_IN_F32)];

pub fn run(common: &Common) -> Result<(), Error> {
    let chosen = open_gpu(common)?;
    let adapters = pollster::block_on(Gpu::adapters(&common.gpu_options()))?;
    let mut texts = Vec::new();
    let mut list = Vec::new();
    for adapter in adapters {
        let of_chosen = same_adapter(&adapter.get_info(), chosen.adapter_info()).then_some(&chosen);
        let (text, value) = describe(&adapter, of_chosen)?;
        texts.push(text);
        list.push(value);
    }
    print_result(common, &json!({ "adapters": list }), &texts.join("\n"))
}

/// An adapter in words and for JSON; `chosen` is the device that was opened on it.
fn describe(adapter: &wgpu::Adapter, chosen: Option<&Gpu>) -> Result<(String, Value), Error> {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let driver = format!("{} {}", info.driver, info.driver_info);
    let star = if chosen.is_some() { "*" } else { " " };
    let mut text = format!("{star} {}, {} ({:?}), {}\n", info.name, info.backend, info.device_type, driver.trim());
    let mut value = Map::new();
    value.insert("name".into(), json!(info.name));
    value.insert("backend".into(), json!(info.backend.to_string()));
    value.insert("type".into(), json!(format!("{:?}", info.device_type)));
    value.insert("driver".into(), json!(driver.trim()));
    value.insert("chosen".into(), json!(chosen.is_some()));

    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let count = |number: u32| (number.to_string(), json!(number));
    let size = |bytes: u64| (mib(bytes), json!(bytes));
    for (words, key, (number, json)) in [
        ("largest binding", "max_storage_buffer_binding_size", size(limits.max_storage_buffer_binding_size)),
        ("largest buffer", "max_buffer_size", size(limits.max_buffer_size)),
        (
            "storage buffers a stage",
            "max_storage_buffers_per_shader_stage",
            count(limits.max_storage_buffers_per_shader_stage),
        ),
        (
            "workgroups a dimension",
            "max_compute_workgroups_per_dimension",
            count(limits.max_compute_workgroups_per_dimension),
        ),
        (
            "invocations a workgroup",
            "max_compute_invocations_per_workgroup",
            count(limits.max_compute_invocations_per_workgroup),
        ),
        (
            "alignment of offsets",
            "min_storage_buffer_offset_alignment",
            count(limits.min_storage_buffer_offset_alignment),
        ),
    ] {
        text += &line(words, &number);
        value.insert(key.into(), json);
    }

    let features = FEATURES.map(|(name, feature)| (name, adapter.features().contains(feature)));
    let flags = adapter.get_downlevel_capabilities().flags;
    let needed = NEEDED.map(|(name, flag)| (name, flags.contains(flag)));
    let names = |list: &[(&str, bool)], wanted: bool| {
        list.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    for (words, names) in [
        ("has", names(&features, true)),
        ("has not", names(&features, false)),
        ("needed, and missing", names(&needed, false)),
    ] {
        if !names.is_empty() {
            text += &line(words, &names);
        }
    }
    let object =
        |list: &[(&str, bool)]| list.iter().map(|&(name, has)| (name.to_owned(), json!(has))).collect::<Map<_, _>>();
    value.insert("features".into(), object(&features).into());
    value.insert("needed".into(), object(&needed).into());

    if let Some(gpu) = chosen {
        let access = format!("{:?}", gpu.access()).to_lowercase();
        // What a network for city scenes puts out.
        let large = Logits::chw(19, 1024, 2048)?;
        let limit = gpu.device().limits().max_storage_buffer_binding_size;
        let in_bands = large.bytes() > limit;
        let fate = if in_bands { "split into bands" } else { "bound at once" };
        text += &line("reads four elements as", &access);
        text += &line("19×1024×2048 f32", &format!("{}, {fate}", mib(large.bytes())));
        value.insert("access".into(), json!(access));
        value.insert("splits_19x1024x2048_f32".into(), json!(in_bands));
    }
    Ok((text, value.into()))
}

fn line(words: &str, what: &str) -> String {
    format!("    {words:24}  {what}\n")
}
