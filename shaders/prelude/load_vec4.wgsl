// Reads four f32 at a time. Groups start at multiples of four elements.

@group(0) @binding(1) var<storage, read> logits: array<vec4<f32>>;

fn load_one(element: u32) -> f32 {
  return logits[element >> 2u][element & 3u];
}

fn load(element: u32) -> vec4<f32> {
  return logits[element >> 2u];
}
