// What every kernel shares. In front of it stand the constants of the specialisation; behind it an access prelude
// (load, load_one, store), a label prelude (Labels, pack_labels, unpack_labels), statistics.wgsl, best.wgsl and the
// kernel.
//
// A *group* is four neighbouring pixels of one image: lane k of a vec4 is pixel 4 · group + k.

struct Params {
  classes: u32,        // C
  pixels: u32,         // H · W of one image
  plane_stride: u32,   // elements from one class plane to the next
  pixel_stride: u32,   // elements from one pixel to the next: 1, or C where the classes of a pixel are neighbours
  image_stride: u32,   // elements from one image to the next
  elements: u32,       // elements of the tensor in all, padding included
  map_stride: u32,     // pixels from one image of a map to the next, a multiple of 4
  grid_width: u32,     // workgroups in x: above the limit of one dimension they go on in y
  rows: u32,           // rows of a tensor that is normalised along them
  partials: u32,       // partial sums that a reduction reads
  reduction: u32,      // what a reduction returns: 0 the sum, 1 the mean
  ignore_index: u32,
  has_ignore_index: u32,
  label_smoothing: f32,
  nan: f32,            // constants in WGSL must be finite
  infinity: f32,
  // Resizing: output row y reads at the source coordinate (y_numerator · (y + out_row) + y_offset) / y_denominator,
  // in integers, so that no rounding moves a tap; columns alike.
  in_height: u32,      // rows of the whole source image, where taps are clamped
  in_width: u32,
  in_row: u32,         // the source row that the bound logits start with
  out_height: u32,     // rows of the result
  out_width: u32,
  out_row: u32,        // the row of the whole result that it starts with
  out_row_stride: u32, // pixels from one row of the result to the next, a multiple of 4
  y_numerator: u32,
  y_offset: i32,
  y_denominator: u32,
  x_numerator: u32,
  x_offset: i32,
  x_denominator: u32,
}

// In storage, not uniform: a uniform that bounds a loop makes lavapipe recompile at every dispatch.
@group(0) @binding(0) var<storage, read> params: Params;

const NOT_FINITE: u32 = 0x7f800000u; // the bits of |x| are at least these for ±Inf and NaN, above them for NaN
const SMALLEST_NORMAL: u32 = 0x00800000u;

fn class_count() -> u32 {
  if CLASSES != 0u {
    return CLASSES;
  }
  return params.classes;
}

// The position of an invocation among all of its image.
fn invocation(workgroup: vec3<u32>, local: u32) -> u32 {
  return (workgroup.y * params.grid_width + workgroup.x) * WORKGROUP + local;
}

// The bits of |x|. Special values are told by their bits: a compiler may assume that no float is NaN or infinite.
fn magnitude(x: vec4<f32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
}

// An integer that orders floats as PyTorch's argmax does: by value, subnormals too, −0 and +0 equal, NaN on top.
fn order(x: f32) -> i32 {
  let bits = bitcast<i32>(x);
  let magnitude = bits & 0x7fffffff;
  if magnitude > 0x7f800000 {
    return 0x7fffffff;
  }
  return select(magnitude, -magnitude, bits < 0);
}

fn order4(x: vec4<f32>) -> vec4<i32> {
  return vec4(order(x.x), order(x.y), order(x.z), order(x.w));
}
