// Four elements at a time. Planes start at multiples of four elements, so `element` is one too.

@group(0) @binding(1) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

fn load(element: u32) -> vec4<f32> {
  return logits[element >> 2u];
}

fn load_one(element: u32) -> f32 {
  return logits[element >> 2u][element & 3u];
}

// Writes all four lanes: behind the last pixel of a plane there is nothing or padding.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  output[element >> 2u] = value;
}
