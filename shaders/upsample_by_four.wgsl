// `upscale_by_four`, what `upscale_wide` does where the result is exactly four times as high and as wide, centre on centre:
// an invocation owns the 16 × 4 pixels between two rows of taps, six in a row, and half a step around them. All weights are
// odd eighths: with d = (b − a) / 8 the pixels between a and b are a + d, a + 3 d, b − 3 d and b − d.

// Differences of logits that are smaller than this are finite.
const TOO_LARGE: u32 = 0x7f000000u; // the bits of 2¹²⁷

// Where the taps of a row are, from the element that it starts with.
struct Columns6 {
  left: u32,
  own: vec4<u32>,
  right: u32,
}

struct Taps6 {
  left: f32,
  own: vec4<f32>,
  right: f32,
}

fn columns_around(first: u32) -> Columns6 {
  let last = params.in_width - 1u;
  let own = min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(last));
  let stride = pixel_stride();
  return Columns6((max(first, 1u) - 1u) * stride, own * stride, min(first + 4u, last) * stride);
}

fn taps_around(columns: Columns6, row: u32) -> Taps6 {
  let left = load_one(row + columns.left);
  let right = load_one(row + columns.right);
  let own = columns.own + row;
  if ADJACENT {
    return Taps6(left, load(own.x), right);
  }
  return Taps6(left, vec4(load_one(own.x), load_one(own.y), load_one(own.z), load_one(own.w)), right);
}

// The largest magnitude.
fn largest_around(taps: Taps6) -> u32 {
  let own = magnitude(taps.own);
  let edges = max(bitcast<u32>(taps.left) & 0x7fffffffu, bitcast<u32>(taps.right) & 0x7fffffffu);
  return max(max(max(own.x, own.y), max(own.z, own.w)), edges);
}

// The row of taps a step from one towards another.
fn step_from(taps: Taps6, by: Taps6) -> Taps6 {
  return Taps6(taps.left + by.left, taps.own + by.own, taps.right + by.right);
}

fn step_back(taps: Taps6, by: Taps6) -> Taps6 {
  return Taps6(taps.left - by.left, taps.own - by.own, taps.right - by.right);
}

fn share_between(a: Taps6, b: Taps6, share: f32) -> Taps6 {
  return Taps6((b.left - a.left) * share, (b.own - a.own) * share, (b.right - a.right) * share);
}

// The 16 pixels of a row, in fours.
fn pixels_between(taps: Taps6) -> mat4x4<f32> {
  let before = (taps.own - vec4(taps.left, taps.own.xyz)) * 0.125;
  let after = vec4(before.yzw, (taps.right - taps.own.w) * 0.125);
  let second = taps.own - before;
  let third = taps.own + after;
  return transpose(mat4x4(second - (before + before), second, third, third + (after + after)));
}

@compute @workgroup_size(WORKGROUP)
fn upscale_by_four(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let groups = params.grid.z;
  let strips = (groups + 3u) / 4u;
  let strip = invocation(workgroup, local);
  let strip_row = quotient(strip, strips);
  let column = (strip - strip_row * strips) * 16u;
  // The lower row of taps; the first pixels below the upper one are those of the row 4 · lower − 2 of the whole result.
  let out_row = params.out_row;
  let rows = params.out_height;
  let lower = strip_row + (out_row + 2u) / 4u;
  if 4u * lower >= out_row + rows + 2u {
    return;
  }
  let image = image_of(workgroup);
  let base = params.place.w + image * params.place.x;
  // Pixels above the first row of taps are like it, and yet read the second one, if only to find what is special.
  let last = params.in_height - 1u;
  let top = source_element(base, select(lower - 1u, min(1u, last), lower == 0u), 0u);
  let bottom = source_element(base, min(lower, last), 0u);
  let share = select(0.125, 0.0, lower == 0u);
  let columns = columns_around(column / 4u);

  var best0 = no_classes();
  var best1 = no_classes();
  var best2 = no_classes();
  var best3 = no_classes();
  var largest = 0u;
  var plane = 0u;
  let count = class_count();
  let stride = plane_stride();
  for (var c = 0u; c < count; c++) {
    let a = taps_around(columns, plane + top);
    let b = taps_around(columns, plane + bottom);
    largest = max(largest, max(largest_around(a), largest_around(b)));
    let by = share_between(a, b, share);
    let twice = step_from(by, by);
    let first = step_from(a, by);
    best0 = next_classes(best0, pixels_between(first), c);
    best1 = next_classes(best1, pixels_between(step_from(first, twice)), c);
    let fourth = step_back(b, by);
    best2 = next_classes(best2, pixels_between(step_back(fourth, twice)), c);
    best3 = next_classes(best3, pixels_between(fourth), c);
    plane += stride;
  }

  // Rows of the first and the last strip may lie outside of what is written, below 0 too, and that is above all others.
  let row = 4u * lower - 2u - out_row;
  if largest >= TOO_LARGE {
    for (var k = 0u; k < 16u; k++) {
      let at = column + 4u * (k & 3u);
      if row + k / 4u < rows && at < 4u * groups {
        write_row(image, row + k / 4u, at, exact_best(base, row + k / 4u, at));
      }
    }
    return;
  }
  // Computed before anything is stored, or the parameters would be read again for every store.
  let at = map_at(image, row * groups + column / 4u);
  let groups_left = groups - column / 4u;
  if row < rows {
    write_strip(at, groups_left, best0);
  }
  if row + 1u < rows {
    write_strip(at + groups, groups_left, best1);
  }
  if row + 2u < rows {
    write_strip(at + 2u * groups, groups_left, best2);
  }
  if row + 3u < rows {
    write_strip(at + 3u * groups, groups_left, best3);
  }
}

// Writes up to four groups of a row into maps.
fn write_strip(at: u32, groups_left: u32, best: Best4) {
  write_best(at, best.a);
  if groups_left > 1u {
    write_best(at + 1u, best.b);
  }
  if groups_left > 2u {
    write_best(at + 2u, best.c);
  }
  if groups_left > 3u {
    write_best(at + 3u, best.d);
  }
}
