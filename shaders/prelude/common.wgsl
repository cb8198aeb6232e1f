// What every kernel shares. In front of it stand the constants of the specialisation; behind it a load and a store
// prelude, one that loads soft targets, a label prelude (Labels, pack_labels, unpack_labels), the other files of this
// folder and the kernel.
//
// A *group* is up to four neighbouring pixels of one row: lane k of a vec4 is its pixel k. Where the rows of an image
// follow one another without a gap, all of the image counts as one row.

struct Params {
  classes: u32,        // C
  row_pixels: u32,     // pixels of a row
  row_groups: u32,     // groups of a row
  groups: u32,         // groups of an image
  plane_stride: u32,   // elements from one class plane to the next
  pixel_stride: u32,   // elements from one pixel to the next: 1, or C where the classes of a pixel are neighbours
  row_stride: u32,     // elements from one row to the next
  image_stride: u32,   // elements from one image to the next
  offset: u32,         // the element of the logits that the first image starts with
  out_plane_stride: u32, // the same five of a second tensor: one that is written, or soft targets
  out_pixel_stride: u32,
  out_row_stride: u32,
  out_image_stride: u32,
  out_offset: u32,
  elements: u32,       // elements that are bound, padding included
  first_image: u32,    // the image of the first workgroup
  map_groups: u32,     // groups from one image of a map to the next
  map_offset: u32,     // the group of a map that the first image starts with
  grid_width: u32,     // workgroups in x: above the limit of one dimension they go on in y
  rows: u32,           // rows of a plane, of a tensor that is normalised along them
  pixels: u32,         // pixels of an image
  first_pixel: u32,    // the pixel of the whole batch that the first image starts with
  partials: u32,       // partial sums that a reduction reads, or that one image leaves
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
  y_numerator: u32,
  y_offset: i32,
  y_denominator: u32,
  x_numerator: u32,
  x_offset: i32,
  x_denominator: u32,
  first_map: u32,      // of several maps of an image: the first one that is bound
  maps: u32,           // how many of them are written
  lanes: u32,          // invocations that share the groups of an image
  record_word: u32,    // where in a record an axis has its counts
  tolerance: f32,      // how far from 1 a sum may be
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

fn image_of(workgroup: vec3<u32>) -> u32 {
  return workgroup.z + params.first_image;
}

// Where the first pixel of a group lies.
struct Place {
  element: u32, // its first class in the logits
  pixel: u32,   // its index in the image
  left: u32,    // pixels of the row from here on: above 3 the group is full
}

fn row_of(group: u32) -> u32 {
  if params.groups == params.row_groups {
    return 0u;
  }
  return group / params.row_groups;
}

fn place_of(image: u32, group: u32) -> Place {
  let row = row_of(group);
  let column = (group - row * params.row_groups) * 4u;
  let element = params.offset + image * params.image_stride + row * params.row_stride + column * params.pixel_stride;
  return Place(element, row * params.row_pixels + column, params.row_pixels - column);
}

// The element of the first class of a group's first pixel in the second tensor.
fn out_place(image: u32, group: u32) -> u32 {
  let row = row_of(group);
  let column = (group - row * params.row_groups) * 4u;
  return params.out_offset + image * params.out_image_stride + row * params.out_row_stride
    + column * params.out_pixel_stride;
}

// Where a group lies in a map.
fn map_at(image: u32, group: u32) -> u32 {
  return params.map_offset + image * params.map_groups + group;
}

// The bits of |x|. Special values are told by their bits: a compiler may assume that no float is NaN or infinite.
fn magnitude(x: vec4<f32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
}

// Inf · p by the bits of p, which an adapter may take for 0 where it is subnormal.
fn times_infinity(p: vec4<f32>) -> vec4<f32> {
  let bits = magnitude(p);
  let negative = bitcast<vec4<u32>>(p) != bits;
  let product = select(vec4(params.infinity), vec4(-params.infinity), negative);
  return select(product, vec4(params.nan), (bits == vec4(0u)) | (bits > vec4(NOT_FINITE)));
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
