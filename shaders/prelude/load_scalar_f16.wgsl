// Reads f16 one element at a time: groups start anywhere, in the middle of a word too, and their pixels are
// pixel_stride apart.

@group(0) @binding(1) var<storage, read> logits: array<u32>;

fn load_one(element: u32) -> f32 {
  return unpack2x16float(logits[element >> 1u] >> ((element & 1u) * 16u)).x;
}

// Behind the last pixel of a row the lanes hold what comes there; `store` leaves them out.
fn load(element: u32) -> vec4<f32> {
  let lanes = vec4(element) + vec4(0u, 1u, 2u, 3u) * pixel_stride();
  let at = min(lanes, vec4(params.elements - 1u));
  return vec4(load_one(at.x), load_one(at.y), load_one(at.z), load_one(at.w));
}
