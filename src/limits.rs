//! Which limits to request a device with, for applications that open their own.

use wgpu::Limits;

use crate::kernel::{KERNELS, Kernel, Resource, WORKGROUP};
use crate::ops::loss::WORKGROUP_MEMORY;
use crate::{Gpu, Logits};

/// The least size of bindings that every operator works with, in buffers of twice that size.
const LEAST_BINDING: u64 = 16 << 10;

impl Gpu {
    /// What any device must have, so that every operator runs at small sizes; no features.
    ///
    /// These are 7 storage buffers and a storage texture in one bind group, with numbers below 9; workgroups of
    /// 128 × 1 × 1 invocations with 2 KiB of memory, 65 535 to a dimension; bindings of 16 KiB in buffers of 32 KiB.
    /// Everything else is as in [`Limits::downlevel_webgl2_defaults`], the least that wgpu knows. [`Limits::defaults`], which every WebGPU
    /// device has, are enough; [`Limits::downlevel_defaults`] have too few storage buffers.
    ///
    /// With no more than this, tensors beyond 16 KiB are bound part by part: an application that does not know better
    /// takes [`recommended_limits`](Self::recommended_limits). One that does adds this to what it needs itself:
    ///
    /// ```
    /// use seghead::{Gpu, GpuOptions, wgpu};
    ///
    /// let mine = wgpu::Limits { max_texture_dimension_2d: 4096, ..wgpu::Limits::downlevel_defaults() };
    /// let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default()))?[0];
    /// let descriptor = wgpu::DeviceDescriptor {
    ///     required_limits: Gpu::required_limits().or_better_values_from(&mine),
    ///     ..Default::default()
    /// };
    /// let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    /// let gpu = Gpu::from_wgpu(device, queue);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// It also tells whether an adapter will do: `Gpu::required_limits().check_limits(&adapter.limits())`.
    pub fn required_limits() -> Limits {
        // Parameters are binding 0 of every kernel.
        let of = |kernel: &Kernel| {
            kernel.bindings.iter().filter(|binding| binding.resource == Resource::Buffer).count() as u32
        };
        let buffers = KERNELS.iter().map(|kernel| 1 + of(kernel)).max().unwrap_or(0);
        let numbers = KERNELS.iter().flat_map(|kernel| kernel.bindings).map(|binding| binding.index + 1);
        let least = Limits::downlevel_webgl2_defaults();
        Limits {
            max_bind_groups: 1,
            max_bindings_per_bind_group: numbers.max().unwrap_or(0),
            max_storage_buffers_per_shader_stage: buffers,
            max_buffers_and_acceleration_structures_per_shader_stage: least
                .max_buffers_and_acceleration_structures_per_shader_stage
                .max(buffers),
            max_storage_buffer_binding_size: LEAST_BINDING,
            max_buffer_size: 2 * LEAST_BINDING,
            max_storage_textures_per_shader_stage: 1,
            max_compute_invocations_per_workgroup: WORKGROUP,
            max_compute_workgroup_storage_size: WORKGROUP_MEMORY,
            max_compute_workgroup_size_x: WORKGROUP,
            max_compute_workgroup_size_y: 1,
            max_compute_workgroup_size_z: 1,
            max_compute_workgroups_per_dimension: 65_535,
            ..least
        }
    }

    /// The limits to request a device of `adapter` with, for work on `logits`: WebGPU's defaults, with bindings and
    /// buffers so large that these logits, and whatever an operator makes of them at their own size, can be bound
    /// whole. Never more than the adapter has, so that the request is not refused for them; what cannot be bound whole
    /// then is bound part by part, which costs a step for each.
    ///
    /// For logits that are upsampled, add what the larger shape needs; likewise for several networks, and for what the
    /// application needs itself, by [`Limits::or_better_values_from`].
    ///
    /// ```
    /// use seghead::{Gpu, GpuOptions, Logits, wgpu};
    ///
    /// let adapter = &pollster::block_on(Gpu::adapters(&GpuOptions::default()))?[0];
    /// // 152 MiB: more than WebGPU's default of 128 MiB to a binding.
    /// let limits = Gpu::recommended_limits(adapter, &Logits::chw(19, 1024, 2048)?);
    /// let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    /// let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    /// let gpu = Gpu::from_wgpu(device, queue);
    /// # Ok::<(), seghead::Error>(())
    /// ```
    pub fn recommended_limits(adapter: &wgpu::Adapter, logits: &Logits) -> Limits {
        recommended(&adapter.limits(), logits)
    }
}

fn recommended(adapter: &Limits, logits: &Logits) -> Limits {
    // A tensor of f32, or maps of 32 bits for every class, as top-k may write; in whole groups of four elements.
    let maps = u64::from(logits.classes()) * logits.map().bytes(32);
    let bytes = logits.output().bytes().next_multiple_of(16).max(maps);
    let defaults = Limits::defaults();
    let wanted = Limits {
        max_storage_buffer_binding_size: defaults.max_storage_buffer_binding_size.max(bytes),
        max_buffer_size: defaults.max_buffer_size.max(bytes),
        ..defaults
    };
    wanted.or_worse_values_from(adapter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn recommended_limits_are_raised_within_what_the_adapter_has() -> Result<(), crate::Error> {
        let defaults = Limits::defaults();
        let sizes = |limits: &Limits| (limits.max_storage_buffer_binding_size, limits.max_buffer_size);
        let raised = |binding, buffer, logits: &Logits| {
            let adapter =
                Limits { max_storage_buffer_binding_size: binding, max_buffer_size: buffer, ..Limits::unlimited() };
            let found = recommended(&adapter, logits);
            let (max_storage_buffer_binding_size, max_buffer_size) = sizes(&found);
            assert_eq!(found, Limits { max_storage_buffer_binding_size, max_buffer_size, ..Limits::defaults() });
            sizes(&found)
        };
        // 152 MiB fit a buffer of the defaults, and no binding; 304 MiB neither. Halves become f32.
        let (small, wide) = (Logits::chw(19, 8, 8)?, Logits::chw(19, 1024, 2048)?);
        let many = Logits::chw(19, 2048, 2048)?;
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &small), sizes(&defaults));
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &wide), (152 * MIB, 256 * MIB));
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &wide.f16()), (152 * MIB, 256 * MIB));
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &many), (304 * MIB, 304 * MIB));
        assert_eq!(raised(128 * MIB, 2048 * MIB, &many), (128 * MIB, 304 * MIB));
        assert_eq!(raised(200 * MIB, 256 * MIB, &many), (200 * MIB, 256 * MIB));
        // 152 MiB of halves with gaps between the rows, 304 of f32.
        let apart = wide.with_row_stride(4096)?.f16();
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &apart), (304 * MIB, 304 * MIB));
        // Planes of a map are padded, those of the logits need not be.
        assert_eq!(raised(2048 * MIB, 2048 * MIB, &Logits::nchw(32 << 20, 2, 1, 1)?), (1024 * MIB, 1024 * MIB));

        // An adapter with less than the defaults.
        let least = recommended(&Gpu::required_limits(), &small);
        assert_eq!(sizes(&least), (LEAST_BINDING, 2 * LEAST_BINDING));
        assert_eq!(least.max_compute_workgroup_size_x, WORKGROUP);
        Ok(())
    }

    #[test]
    fn webgpu_defaults_are_enough() {
        let required = Gpu::required_limits();
        assert!(required.check_limits(&Limits::defaults()));
        assert!(!required.check_limits(&Limits::downlevel_defaults()));
        // As documented.
        assert_eq!((required.max_storage_buffers_per_shader_stage, required.max_bindings_per_bind_group), (7, 9));
    }
}
