// To a canvas, pixel by pixel: the overlay, or the map of one class.

struct Style {
  // What is black and white in a map.
  low: f32,
  high: f32,
  threshold: f32,
  // Whether the map has a byte for a pixel, and not an f32.
  bytes: u32,
  // Elements before the map, and from one of its rows to the next.
  offset: u32,
  row_stride: u32,
  // What has reached the threshold is tinted.
  tint: vec4<f32>,
}

@group(0) @binding(0) var<uniform> style: Style;
@group(0) @binding(1) var<storage, read> map: array<u32>;
@group(0) @binding(2) var overlay: texture_2d<f32>;

// One triangle, twice as large as the canvas.
@vertex
fn corner(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
  return vec4(4.0 * f32(index & 1u) - 1.0, 4.0 * f32(index >> 1u) - 1.0, 0.0, 1.0);
}

// Without a photo the overlay is transparent where no class is shown.
@fragment
fn draw_overlay(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
  let painted = textureLoad(overlay, vec2<u32>(at.xy), 0);
  return vec4(mix(vec3(0.5), painted.rgb, painted.a), 1.0);
}

@fragment
fn draw_map(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
  let i = style.offset + u32(at.y) * style.row_stride + u32(at.x);
  var bits = map[i];
  if style.bytes == 1u {
    bits = bitcast<u32>(unpack4x8unorm(map[i / 4u])[i % 4u]);
  }
  if (bits & 0x7fffffffu) > 0x7f800000u {
    return vec4(1.0, 0.0, 1.0, 1.0); // NaN
  }
  let value = bitcast<f32>(bits);
  // A class may have the same logit everywhere.
  let shade = clamp((value - style.low) / max(style.high - style.low, 1e-30), 0.0, 1.0);
  let tinted = mix(0.45 * style.tint.rgb, mix(style.tint.rgb, vec3(1.0), 0.35), shade);
  return vec4(select(vec3(0.85 * shade), tinted, value >= style.threshold), 1.0);
}
