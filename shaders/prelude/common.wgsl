// What every kernel shares. In front of it stand the constants of the specialisation; behind it where the parameters are
// (`params`, and `begin`, which every entry point calls first of all), a load and a store prelude, one that loads soft
// targets, a label prelude (Labels, pack_labels, unpack_labels), the other files of this folder and the kernel.
//
// A *group* is up to four neighbouring pixels of one row: lane k of a vec4 is its pixel k. Where the rows of an image
// follow one another without a gap, all of the image counts as one row.

struct Params {
  // What every invocation needs is read four at a time: on software adapters an access costs the same, whatever its width.
  grid: vec4<u32>,     // workgroups in x (above the limit of one dimension they go on in y), groups of an image, groups
                       // of a row, the image of the first workgroup
  place: vec4<u32>,    // elements from one image, one row and one pixel to the next; the one that the first image starts with
  out_place: vec4<u32>, // the same of a second tensor: one that is written, or soft targets
  map: vec2<u32>,      // groups from one image of a map to the next, the group that the first image starts with
  plane_strides: vec2<u32>, // elements from one class plane to the next, and of the second tensor
  classes: u32,        // C
  row_pixels: u32,     // pixels of a row
  elements: u32,       // elements that are bound, padding included
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
  top_k: u32,          // maps of an image
  first_map: u32,      // the first of them that is bound
  maps: u32,           // how many of them are written
  lanes: u32,          // invocations that share the groups of an image
  record_word: u32,    // where in a record an axis has its counts
  tolerance: f32,      // how far from 1 a sum may be
  chosen_class: u32,   // the class whose logit is wanted
  threshold: f32,      // the least score of a pixel that is sure of its class
  outline: u32,        // how far from another class, in rows and columns, a pixel is on an outline
  has_photo: u32,      // whether there is a photo that colours go over
  past_weight: f32,    // how much of the frame before counts for each nat of a pixel's entropy
  // Region losses: how a score is made of the sums of a region, see region_score.wgsl.
  first_region: u32,   // the sums or coefficients that the first image starts with
  region_stride: u32,  // coefficients from one image to the next
  region_classes: u32, // classes of a region
  smoothing: f32,
  hits: f32,
  of_hits: f32,
  of_predicted: f32,
  of_truth: f32,
  gamma: f32,          // of a focal loss; so is alpha, which is negative for none
  alpha: f32,
  weight: f32,         // of one loss of a sum
  reach: u32,          // how far from a boundary pixel another may be, in pixels
  first_row: u32,      // the source row that a gradient starts with
  own_row: u32,        // the row of the result, in what is bound, that is counted from; those before are another part's
  near_classes: u32,   // planes that are bound before the far ones, where an image has two bindings
  far_element: u32,    // the element that the far binding starts with
  far_out_element: u32, // the same of the second tensor
  zero: u32,           // 0, which no compiler knows
}

const NOT_FINITE: u32 = 0x7f800000u; // the bits of |x| are at least these for ±Inf and NaN, above them for NaN
const SMALLEST_NORMAL: u32 = 0x00800000u;

fn class_count() -> u32 {
  if CLASSES != 0u {
    return CLASSES;
  }
  return params.classes;
}

// Groups of an image.
fn group_count() -> u32 {
  return params.grid.y;
}

// Elements from one class plane to the next.
fn plane_stride() -> u32 {
  return params.plane_strides.x;
}

// The same of the second tensor.
fn out_plane_stride() -> u32 {
  return params.plane_strides.y;
}

// Elements from one pixel of a row to the next: 1, or C where the classes of a pixel are neighbours.
fn pixel_stride() -> u32 {
  return params.place.z;
}

// The same of the second tensor.
fn out_pixel_stride() -> u32 {
  return params.out_place.z;
}

// The position of an invocation among all of its image.
fn invocation(workgroup: vec3<u32>, local: u32) -> u32 {
  return (workgroup.y * params.grid.x + workgroup.x) * WORKGROUP + local;
}

// The k-th of `count` groups that an invocation owns, from its position and its place in the workgroup. Neighbouring
// invocations read neighbouring groups, each of its own a workgroup apart; or where ADJACENT, an invocation owns
// neighbours: a software adapter takes an access of a few invocations apart anyway, and then reads longer runs of memory.
fn own_group(position: u32, local: u32, k: u32, count: u32) -> u32 {
  if ADJACENT {
    return position * count + k;
  }
  return (position - local) * count + local + k * WORKGROUP;
}

fn image_of(workgroup: vec3<u32>) -> u32 {
  return workgroup.z + params.grid.w;
}

// n / d, of n below 2³¹. An integer division costs a software adapter more than all of the addressing, so the quotient is
// estimated in floats, off by a 2⁻²¹th of itself at most, then from the remainder of that, off by 1 at most, and then
// set right.
fn quotient(n: u32, d: u32) -> u32 {
  let inverse = 1.0 / f32(d);
  var found = u32(f32(n) * inverse);
  found += u32(i32(floor(f32(i32(n - found * d)) * inverse)));
  let rest = i32(n - found * d);
  return select(select(found, found + 1u, rest >= i32(d)), found - 1u, rest < 0);
}

fn row_of(group: u32) -> u32 {
  return quotient(group, params.grid.z);
}

// The column of a group's first pixel, in that row.
fn column_of(group: u32, row: u32) -> u32 {
  return (group - row * params.grid.z) * 4u;
}

// Where the first pixel of a group lies.
struct Place {
  element: u32, // its first class in the logits
  pixel: u32,   // its index in the image
  left: u32,    // pixels of the row from here on: above 3 the group is full
}

fn place_of(image: u32, group: u32) -> Place {
  let row = row_of(group);
  let column = column_of(group, row);
  let element = element_at(params.place, image, row, column);
  return Place(element, row * params.row_pixels + column, params.row_pixels - column);
}

// The element of the first class of a group's first pixel in the second tensor.
fn out_place(image: u32, group: u32) -> u32 {
  let row = row_of(group);
  return element_at(params.out_place, image, row, column_of(group, row));
}

fn element_at(place: vec4<u32>, image: u32, row: u32, column: u32) -> u32 {
  return place.w + image * place.x + row * place.y + column * place.z;
}

// Where a group lies in a map.
fn map_at(image: u32, group: u32) -> u32 {
  let map = params.map;
  return map.y + image * map.x + group;
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

// log(1 + t) for t in 0..=1, with a small relative error where t is small: 2 artanh s with s = t / (2 + t) ≤ 1 / 3,
// whose series s + s³ / 3 + s⁵ / 5 + … ends where what is left is below 2⁻²⁵ of it.
fn log_1p(t: vec4<f32>) -> vec4<f32> {
  let s = t / (2.0 + t);
  let q = s * s;
  var series = 1.0 / 11.0 + q * (1.0 / 13.0);
  series = 1.0 / 9.0 + q * series;
  series = 1.0 / 7.0 + q * series;
  series = 1.0 / 5.0 + q * series;
  series = 1.0 / 3.0 + q * series;
  return 2.0 * s * (1.0 + q * series);
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
