// Writes four f32 at a time. Groups start at multiples of four elements.

@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

// Writes all four lanes: behind the last pixel of a row there is nothing or padding.
fn store(element: u32, value: vec4<f32>, pixels: u32) {
  output[element >> 2u] = value;
}

// What was written there.
fn load_output(element: u32) -> vec4<f32> {
  return output[element >> 2u];
}
