// Reads four f16 at a time. Groups start at multiples of four elements.

@group(0) @binding(1) var<storage, read> logits: array<vec2<u32>>;

fn load_one(element: u32) -> f32 {
  return unpack2x16float(logits[element >> 2u][(element >> 1u) & 1u] >> ((element & 1u) * 16u)).x;
}

fn load(element: u32) -> vec4<f32> {
  let words = logits[element >> 2u];
  return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
