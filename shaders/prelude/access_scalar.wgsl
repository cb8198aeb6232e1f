// One element at a time: planes start anywhere, and the pixels of a group are pixel_stride apart.

@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

// Behind the last pixel of a plane the lanes hold what comes there; `store` leaves them out.
fn load(element: u32) -> vec4<f32> {
  let lanes = vec4(element) + vec4(0u, 1u, 2u, 3u) * params.pixel_stride;
  let at = min(lanes, vec4(params.elements - 1u));
  return vec4(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
}

fn load_one(element: u32) -> f32 {
  return logits[element];
}

// Writes the first `pixels` lanes, at most four.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  output[element] = value.x;
  if pixels > 1u {
    output[element + params.pixel_stride] = value.y;
  }
  if pixels > 2u {
    output[element + 2u * params.pixel_stride] = value.z;
  }
  if pixels > 3u {
    output[element + 3u * params.pixel_stride] = value.w;
  }
}
