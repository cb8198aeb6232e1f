// Reads soft targets, four f32 at a time. Groups start at multiples of four elements.

@group(0) @binding(3) var<storage, read> soft_targets: array<vec4<f32>>;

fn load_targets(element: u32) -> vec4<f32> {
  return soft_targets[element >> 2u];
}
