// Writes f32 one element at a time: groups start anywhere, and their pixels are out_pixel_stride apart.

@group(0) @binding(2) var<storage, read_write> output: array<f32>;

// Writes the first `pixels` lanes, at most four.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  output[element] = value.x;
  if pixels > 1u {
    output[element + out_pixel_stride()] = value.y;
  }
  if pixels > 2u {
    output[element + 2u * out_pixel_stride()] = value.z;
  }
  if pixels > 3u {
    output[element + 3u * out_pixel_stride()] = value.w;
  }
}

// What was written there; behind the last pixel of a row the lanes hold what comes there.
fn load_output(element: u32) -> vec4<f32> {
  let stride = out_pixel_stride();
  return vec4(output[element], output[element + stride], output[element + 2u * stride], output[element + 3u * stride]);
}
