// Reads f32 one element at a time: groups start anywhere, and their pixels are pixel_stride apart.

@group(0) @binding(1) var<storage, read> logits: array<f32>;

fn load_one(element: u32) -> f32 {
  return logits[element];
}

// Behind the last pixel of a row the lanes hold what comes there; `store` leaves them out.
fn load(element: u32) -> vec4<f32> {
  let lanes = vec4(element) + vec4(0u, 1u, 2u, 3u) * pixel_stride();
  let at = min(lanes, vec4(params.elements - 1u));
  return vec4(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
}
