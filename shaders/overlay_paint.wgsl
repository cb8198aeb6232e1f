// Colours of classes over a photo, pixel by pixel: what the kernels of overlays share. Colours are looked up by class, so
// they are never interpolated.
//
// All that is stored is in levels of 0..=255, which a texture of eight bits holds exactly. Mixed as they are stored, they are
// the same integers on every adapter; linear light takes powers, and may be rounded to the next level.
//
// colours: [2, C] of r | g << 8 | b << 16 and alpha | visible << 8, of pixels that are sure of their class and of those
// that are not; photo, picture: [out_height, out_width]

@group(0) @binding(2) var<storage, read> colours: array<vec2<u32>>;
@group(0) @binding(6) var photo: texture_2d<f32>;
@group(0) @binding(7) var picture: texture_storage_2d<rgba8unorm, write>;

// Four pixels of a row. Behind its last one there is nothing, and nothing is stored.
fn paint_row(row: u32, column: u32, found: vec4<u32>, outline: vec4<bool>) {
  // Read before anything is stored, or they would be read again for every pixel.
  let unsure = select(vec4(0u), vec4(class_count()), (found >= vec4(UNCERTAIN)) & !outline);
  let entries = (found & vec4(~UNCERTAIN)) + unsure;
  let has_photo = params.has_photo;
  let a = paint(vec2(column, row), colours[entries.x], outline.x, has_photo);
  let b = paint(vec2(column + 1u, row), colours[entries.y], outline.y, has_photo);
  let c = paint(vec2(column + 2u, row), colours[entries.z], outline.z, has_photo);
  let d = paint(vec2(column + 3u, row), colours[entries.w], outline.w, has_photo);
  textureStore(picture, vec2(column, row), a);
  textureStore(picture, vec2(column + 1u, row), b);
  textureStore(picture, vec2(column + 2u, row), c);
  textureStore(picture, vec2(column + 3u, row), d);
}

// A pixel of the result, as the texture stores it.
fn paint(at: vec2<u32>, entry: vec2<u32>, outline: bool, has_photo: u32) -> vec4<f32> {
  let opacity = select(entry.y & 255u, 255u, outline);
  let alpha = select(0u, opacity, entry.y > 255u);
  let rgb = (vec3(entry.x) >> vec3(0u, 8u, 16u)) & vec3(255u);
  let there = textureLoad(photo, at * has_photo, 0);
  var below = there.rgb;
  if DECODED_PHOTO {
    below = encode(below);
  }
  let mixed = vec4(vec3<f32>(mix_levels(levels(below), rgb, alpha)) / 255.0, there.a);
  let alone = vec4(vec3<f32>(rgb), f32(alpha)) / 255.0;
  return select(alone, mixed, has_photo != 0u);
}

// `alpha` of 255 parts of a colour, the rest of what is below it, in levels.
fn mix_levels(below: vec3<u32>, colour: vec3<u32>, alpha: u32) -> vec3<u32> {
  if LINEAR_LIGHT {
    let share = f32(alpha) / 255.0;
    let light = decode(vec3<f32>(below) / 255.0) * (1.0 - share) + decode(vec3<f32>(colour) / 255.0) * share;
    return levels(encode(light));
  }
  // x / 255 to the nearest integer, of x up to 255²: by Jim Blinn, "Three Wrongs Make a Right" (1995).
  let x = below * (255u - alpha) + colour * alpha + 128u;
  return (x + (x >> vec3(8u))) >> vec3(8u);
}

fn levels(x: vec3<f32>) -> vec3<u32> {
  return vec3<u32>(clamp(x, vec3(0.0), vec3(1.0)) * 255.0 + 0.5);
}

// sRGB, IEC 61966-2-1: from stored values to linear light.
fn decode(x: vec3<f32>) -> vec3<f32> {
  return select(pow((x + 0.055) / 1.055, vec3(2.4)), x / 12.92, x <= vec3(0.04045));
}

// And back.
fn encode(x: vec3<f32>) -> vec3<f32> {
  return select(1.055 * pow(max(x, vec3(0.0)), vec3(1.0 / 2.4)) - 0.055, 12.92 * x, x <= vec3(0.0031308));
}
