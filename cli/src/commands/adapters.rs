//! `seghead adapters`: what there is to compute on.

use seghead::Gpu;
use serde_json::json;

use super::{open_gpu, print_result, same_adapter};
use crate::args::Common;
use crate::error::Error;

pub fn run(common: &Common) -> Result<(), Error> {
    let chosen = open_gpu(common)?;
    let adapters = pollster::block_on(Gpu::adapters(&common.gpu_options()))?;
    let mut text = String::new();
    let mut list = Vec::new();
    for adapter in adapters {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let is_chosen = same_adapter(&info, chosen.adapter_info());
        let driver = format!("{} {}", info.driver, info.driver_info);
        text += &format!(
            "{} {}, {} ({:?}), {}\n  largest binding {} MiB, buffer {} MiB, {} storage buffers a shader, \
             {} invocations a workgroup\n",
            if is_chosen { "*" } else { " " },
            info.name,
            info.backend,
            info.device_type,
            driver.trim(),
            limits.max_storage_buffer_binding_size >> 20,
            limits.max_buffer_size >> 20,
            limits.max_storage_buffers_per_shader_stage,
            limits.max_compute_invocations_per_workgroup,
        );
        list.push(json!({
            "name": info.name,
            "backend": info.backend.to_string(),
            "type": format!("{:?}", info.device_type),
            "driver": driver.trim(),
            "chosen": is_chosen,
            "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
            "max_buffer_size": limits.max_buffer_size,
            "max_storage_buffers_per_shader_stage": limits.max_storage_buffers_per_shader_stage,
            "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
        }));
    }
    print_result(common, &json!({ "adapters": list }), &text)
}
