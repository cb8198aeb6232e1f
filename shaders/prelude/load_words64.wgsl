// Reads four f32 at a time as two words of 64 bits: half the accesses, for drivers that split them into scalars.
// Groups start at multiples of four elements.

@group(0) @binding(1) var<storage, read> logits: array<vec2<u64>>;

fn load_one(element: u32) -> f32 {
  let word = logits[element >> 2u][(element >> 1u) & 1u];
  return bitcast<f32>(u32(word >> ((element & 1u) * 32u)));
}

fn load(element: u32) -> vec4<f32> {
  let words = logits[element >> 2u];
  return bitcast<vec4<f32>>(vec4(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u)));
}
