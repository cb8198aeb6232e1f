// Writes four f32 at a time as two words of 64 bits: half the accesses, for drivers that split them into scalars.
// Groups start at multiples of four elements.

@group(0) @binding(2) var<storage, read_write> output: array<vec2<u64>>;

// Writes all four lanes: behind the last pixel of a row there is nothing or padding.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  let bits = bitcast<vec4<u32>>(value);
  output[element >> 2u] = vec2(u64(bits.x) | (u64(bits.y) << 32u), u64(bits.z) | (u64(bits.w) << 32u));
}

// What was written there.
fn load_output(element: u32) -> vec4<f32> {
  let words = output[element >> 2u];
  return bitcast<vec4<f32>>(vec4(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u)));
}
