// `upscale_wide`, what `upscale` of upsample.wgsl does for adapters that pay for an access whatever its width: an invocation
// owns 8 × 4 pixels, which read 2 · TAPS − 1 columns of TAPS rows of taps. Where rows start and end at multiples of
// four elements they are read four at a time, from the multiple at or before the first tap on, and moved to their places;
// otherwise one by one. What is computed is the same, so that the layout of the logits changes no bit.
//
// There is no loop but that over the classes: in a loop, software adapters blend whatever is assigned with what was there.

// Nine neighbouring taps of a row, and their weights for four pixels. Behind the first 2 · TAPS − 1 there is nothing.
struct Taps9 {
  a: vec4<f32>,
  b: vec4<f32>,
  c: f32,
}

struct Weights9 {
  a: mat4x4<f32>,
  b: mat4x4<f32>,
  c: vec4<f32>,
}

// Where the taps of a row are, from the element that the row starts with.
struct Columns9 {
  runs: vec3<u32>,  // of fours that hold them all
  third: bool,      // whether there are some in the third
  odd: bool,        // whether the first tap is at an odd place of its run
  upper: bool,      // and whether it is in the upper half of it
  a: vec4<u32>,     // each tap, where they are read one by one
  b: vec4<u32>,
  c: u32,
  in_a: vec4<u32>,  // all bits where a tap is read, else none
  in_b: vec4<u32>,
  in_c: u32,
}

// From the first tap of a block to that of its last pixel and the one behind it, or to the end of the row.
fn columns_from(first: u32, last_own: u32) -> Columns9 {
  let end = params.in_width - 1u;
  let last = min(last_own + 1u, end);
  let a = vec4(first) + vec4(0u, 1u, 2u, 3u);
  let b = a + 4u;
  let c = first + 8u;
  let stride = pixel_stride();
  return Columns9(
    min(vec3(first & ~3u) + vec3(0u, 4u, 8u), vec3(end & ~3u)),
    last >= (first & ~3u) + 8u,
    (first & 1u) != 0u,
    (first & 2u) != 0u,
    min(a, vec4(end)) * stride,
    min(b, vec4(end)) * stride,
    min(c, end) * stride,
    select(vec4(0u), vec4(~0u), a <= vec4(last)),
    select(vec4(0u), vec4(~0u), b <= vec4(last)),
    select(0u, ~0u, c <= last),
  );
}

// Four neighbouring columns. Behind the last tap of a row there is none, so it has all of the weight.
fn columns_inside(x: u32) -> Sources {
  let pixels = source_columns(x);
  return Sources(pixels.index, select(pixels.fraction, vec4(0.0), pixels.index == vec4(params.in_width - 1u)));
}

fn weights_from(pixels: Sources, first: u32) -> Weights9 {
  return Weights9(
    mat4x4(
      hat_weight(pixels, first),
      hat_weight(pixels, first + 1u),
      hat_weight(pixels, first + 2u),
      hat_weight(pixels, first + 3u),
    ),
    mat4x4(
      hat_weight(pixels, first + 4u),
      hat_weight(pixels, first + 5u),
      hat_weight(pixels, first + 6u),
      hat_weight(pixels, first + 7u),
    ),
    hat_weight(pixels, first + 8u),
  );
}

// The taps of the row that starts with an element, 0 where none is read.
fn taps_in(columns: Columns9, row: u32) -> Taps9 {
  var taps: Taps9;
  if ADJACENT {
    var p = load(row + columns.runs.x);
    var q = load(row + columns.runs.y);
    var r = vec4(0.0);
    if TAPS > 3u && columns.third {
      r = load(row + columns.runs.z);
    }
    p = select(p, vec4(p.zw, q.xy), columns.upper);
    q = select(q, vec4(q.zw, r.xy), columns.upper);
    r = select(r, vec4(r.zw, r.zw), columns.upper);
    taps.a = select(p, vec4(p.yzw, q.x), columns.odd);
    taps.b = select(q, vec4(q.yzw, r.x), columns.odd);
    taps.c = select(r.x, r.y, columns.odd);
  } else {
    let a = columns.a + row;
    let b = columns.b + row;
    taps.a = vec4(load_one(a.x), load_one(a.y), load_one(a.z), load_one(a.w));
    taps.b = vec4(load_one(b.x), 0.0, 0.0, 0.0);
    if TAPS > 3u {
      taps.b.y = load_one(b.y);
      taps.b.z = load_one(b.z);
    }
    if TAPS > 4u {
      taps.b.w = load_one(b.w);
      taps.c = load_one(columns.c + row);
    }
  }
  taps.a = bitcast<vec4<f32>>(bitcast<vec4<u32>>(taps.a) & columns.in_a);
  taps.b = bitcast<vec4<f32>>(bitcast<vec4<u32>>(taps.b) & columns.in_b);
  taps.c = bitcast<f32>(bitcast<u32>(taps.c) & columns.in_c);
  return taps;
}

// The largest magnitude.
fn largest_of(taps: Taps9) -> u32 {
  let a = magnitude(taps.a);
  let b = magnitude(taps.b);
  var largest = max(max(max(a.x, a.y), max(a.z, a.w)), b.x);
  if TAPS > 3u {
    largest = max(max(largest, b.y), b.z);
  }
  if TAPS > 4u {
    largest = max(max(largest, b.w), bitcast<u32>(taps.c) & 0x7fffffffu);
  }
  return largest;
}

// Four pixels, of which the k-th owns one of the taps 0 ..= k. Products that are always 0 are left out, as below.
fn interpolate_near(taps: Taps9, w: Weights9) -> vec4<f32> {
  var x = w.a[0] * taps.a.x + w.a[1] * taps.a.y;
  x = vec4(x.x, x.yzw + w.a[2].yzw * taps.a.z);
  if TAPS > 3u {
    x = vec4(x.xy, x.zw + w.a[3].zw * taps.a.w);
  }
  if TAPS > 4u {
    x.w += w.b[0].w * taps.b.x;
  }
  return x;
}

// The four behind them.
fn interpolate_far(taps: Taps9, w: Weights9) -> vec4<f32> {
  var x = w.a[0] * taps.a.x + w.a[1] * taps.a.y + w.a[2] * taps.a.z + w.a[3] * taps.a.w;
  if TAPS == 3u {
    x.w += w.b[0].w * taps.b.x;
    return x;
  }
  x += w.b[0] * taps.b.x;
  if TAPS == 4u {
    x = vec4(x.x, x.yzw + w.b[1].yzw * taps.b.y);
    x.w += w.b[2].w * taps.b.z;
    return x;
  }
  x += w.b[1] * taps.b.y;
  x = vec4(x.x, x.yzw + w.b[2].yzw * taps.b.z);
  x = vec4(x.xy, x.zw + w.b[3].zw * taps.b.w);
  x.w += w.c.w * taps.c;
  return x;
}

// Adds what a row of taps gives to four rows of four pixels, from one of them on: those above own none of its taps.
fn add_row(rows: mat4x4<f32>, x: vec4<f32>, weights: vec4<f32>, first: u32) -> mat4x4<f32> {
  var sum = rows;
  if first < 1u {
    sum[0] += weights.x * x;
  }
  if first < 2u {
    sum[1] += weights.y * x;
  }
  if first < 3u {
    sum[2] += weights.z * x;
  }
  sum[3] += weights.w * x;
  return sum;
}

// Four rows of four pixels.
struct Best4 {
  a: Best,
  b: Best,
  c: Best,
  d: Best,
}

fn no_classes() -> Best4 {
  let none = Best(vec4(-params.infinity), vec4(0u), vec4(-params.infinity), vec4(0.0), vec4(0.0), vec4(0.0));
  return Best4(none, none, none, none);
}

fn next_classes(best: Best4, x: mat4x4<f32>, c: u32) -> Best4 {
  return Best4(
    next_class(best.a, x[0], c),
    next_class(best.b, x[1], c),
    next_class(best.c, x[2], c),
    next_class(best.d, x[3], c),
  );
}

@compute @workgroup_size(WORKGROUP)
fn upscale_wide(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  let groups = params.grid.z;
  let blocks = (groups + 1u) / 2u;
  let block = invocation(workgroup, local);
  let block_row = quotient(block, blocks);
  let row = block_row * 4u;
  let column = (block - block_row * blocks) * 8u;
  if row >= params.out_height {
    return;
  }
  let y = sources(source_row(row), source_row(row + 1u), source_row(row + 2u), source_row(row + 3u));
  let near_pixels = columns_inside(column);
  let far_pixels = columns_inside(column + 4u);
  let top = y.index.x;
  let left = near_pixels.index.x;
  let wy = weights_from(y, top);
  let near_wx = weights_from(near_pixels, left);
  let far_wx = weights_from(far_pixels, left);
  let columns = columns_from(left, far_pixels.index.w);
  let image = image_of(workgroup);
  let base = params.place.w + image * params.place.x;
  let last = params.in_height - 1u;
  let row0 = source_element(base, top, 0u);
  let row1 = source_element(base, min(top + 1u, last), 0u);
  let row2 = source_element(base, min(top + 2u, last), 0u);
  let row3 = source_element(base, min(top + 3u, last), 0u);
  let row4 = source_element(base, min(top + 4u, last), 0u);

  var near_best = no_classes();
  var far_best = no_classes();
  var largest = 0u;
  var plane = 0u;
  let count = class_count();
  let stride = plane_stride();
  for (var c = 0u; c < count; c++) {
    var taps = taps_in(columns, plane + row0);
    largest = max(largest, largest_of(taps));
    var x = interpolate_near(taps, near_wx);
    var near = mat4x4(wy.a[0].x * x, wy.a[0].y * x, wy.a[0].z * x, wy.a[0].w * x);
    x = interpolate_far(taps, far_wx);
    var far = mat4x4(wy.a[0].x * x, wy.a[0].y * x, wy.a[0].z * x, wy.a[0].w * x);
    taps = taps_in(columns, plane + row1);
    largest = max(largest, largest_of(taps));
    near = add_row(near, interpolate_near(taps, near_wx), wy.a[1], 0u);
    far = add_row(far, interpolate_far(taps, far_wx), wy.a[1], 0u);
    taps = taps_in(columns, plane + row2);
    largest = max(largest, largest_of(taps));
    near = add_row(near, interpolate_near(taps, near_wx), wy.a[2], 1u);
    far = add_row(far, interpolate_far(taps, far_wx), wy.a[2], 1u);
    if TAPS > 3u {
      taps = taps_in(columns, plane + row3);
      largest = max(largest, largest_of(taps));
      near = add_row(near, interpolate_near(taps, near_wx), wy.a[3], 2u);
      far = add_row(far, interpolate_far(taps, far_wx), wy.a[3], 2u);
    }
    if TAPS > 4u {
      taps = taps_in(columns, plane + row4);
      largest = max(largest, largest_of(taps));
      near = add_row(near, interpolate_near(taps, near_wx), wy.b[0], 3u);
      far = add_row(far, interpolate_far(taps, far_wx), wy.b[0], 3u);
    }
    near_best = next_classes(near_best, near, c);
    far_best = next_classes(far_best, far, c);
    plane += stride;
  }

  let has_far = column / 4u + 1u < groups;
  let rows_left = params.out_height - row;
  if largest >= NOT_FINITE {
    let groups_left = min(rows_left, 4u) * 2u;
    for (var k = 0u; k < groups_left; k++) {
      let at = column + 4u * (k & 1u);
      if at == column || has_far {
        write_row(image, row + k / 2u, at, exact_best(base, row + k / 2u, at));
      }
    }
    return;
  }
  // Computed before anything is stored, or the parameters would be read again for every store.
  let at = map_at(image, row * groups + column / 4u);
  write_four(at, groups, near_best, rows_left);
  if has_far {
    write_four(at + 1u, groups, far_best, rows_left);
  }
}

// Writes four rows of a group into maps whose rows are so many groups apart.
fn write_four(at: u32, groups: u32, best: Best4, rows_left: u32) {
  write_best(at, best.a);
  if rows_left > 1u {
    write_best(at + groups, best.b);
  }
  if rows_left > 2u {
    write_best(at + 2u * groups, best.c);
  }
  if rows_left > 3u {
    write_best(at + 3u * groups, best.d);
  }
}
