// Reads soft targets, f32, one element at a time: groups start anywhere, and their pixels are out_pixel_stride apart.

@group(0) @binding(3) var<storage, read> soft_targets: array<f32>;

// Behind the last pixel of a row the lanes hold what comes there.
fn load_targets(element: u32) -> vec4<f32> {
  let lanes = vec4(element) + vec4(0u, 1u, 2u, 3u) * out_pixel_stride();
  let at = min(lanes, vec4(arrayLength(&soft_targets) - 1u));
  return vec4(soft_targets[at.x], soft_targets[at.y], soft_targets[at.z], soft_targets[at.w]);
}
