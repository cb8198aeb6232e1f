// Reads soft targets, four f32 at a time as two words of 64 bits: half the accesses, for drivers that split them into
// scalars. Groups start at multiples of four elements.

@group(0) @binding(3) var<storage, read> soft_targets: array<vec2<u64>>;

fn load_targets(element: u32) -> vec4<f32> {
  let words = soft_targets[element >> 2u];
  return bitcast<vec4<f32>>(vec4(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u)));
}
