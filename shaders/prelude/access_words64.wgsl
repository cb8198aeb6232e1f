// Four elements at a time as two words of 64 bits: half the accesses, for drivers that split them into scalars.
// Planes start at multiples of four elements, so `element` is one too.

@group(0) @binding(1) var<storage, read> logits: array<vec2<u64>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec2<u64>>;

fn load(element: u32) -> vec4<f32> {
  let words = logits[element >> 2u];
  return bitcast<vec4<f32>>(vec4(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u)));
}

fn load_one(element: u32) -> f32 {
  let word = logits[element >> 2u][(element >> 1u) & 1u];
  return bitcast<f32>(u32(word >> ((element & 1u) * 32u)));
}

// Writes all four lanes: behind the last pixel of a plane there is nothing or padding.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  let bits = bitcast<vec4<u32>>(value);
  output[element >> 2u] = vec2(u64(bits.x) | (u64(bits.y) << 32u), u64(bits.z) | (u64(bits.w) << 32u));
}
