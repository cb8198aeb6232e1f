// `upscale_wide`, what `upscale` of upsample.wgsl does for adapters that pay for an access whatever its width: an invocation
// owns a block of 8 × 4 pixels, which read 2 · TAPS − 1 columns of TAPS rows of taps, or two blocks side by side. Where rows
// start and end at multiples of four elements they are read four at a time, from the multiple at or before the first tap
// on, and moved to their places; otherwise one by one. What is computed is the same, so that the layout of the logits
// changes no bit.
//
// There is no loop but that over the classes: in a loop, software adapters blend whatever is assigned with what was there.

// Two blocks share most of the fours that they read. With more taps that gains nothing, with scores it is too long to compile.
const PAIRED: bool = TAPS == 3u && !SCORES;
const OWN_GROUPS: u32 = select(2u, 4u, PAIRED);

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

// The fours of a row that hold all taps of an invocation.
struct Runs {
  p: vec4<f32>,
  q: vec4<f32>,
  r: vec4<f32>,
}

// Where they are, from the element that the row starts with.
struct RunColumns {
  at: vec3<u32>,
  third: bool, // whether there are taps in the third
}

fn run_columns(start: u32, last_own: u32) -> RunColumns {
  let end = params.in_width - 1u;
  return RunColumns(min(vec3(start) + vec3(0u, 4u, 8u), vec3(end & ~3u)), min(last_own + 1u, end) >= start + 8u);
}

fn runs_in(columns: RunColumns, row: u32) -> Runs {
  var runs: Runs;
  if ADJACENT {
    runs.p = load(row + columns.at.x);
    runs.q = load(row + columns.at.y);
    if (PAIRED || TAPS > 3u) && columns.third {
      runs.r = load(row + columns.at.z);
    }
  }
  return runs;
}

// 8 × 4 pixels: where their taps are, and what they weigh for the first four columns and those behind.
struct Block {
  by_4: bool, // how far from the first of the runs
  by_2: bool,
  by_1: bool,
  a: vec4<u32>, // or each tap from the element that the row starts with, where they are read one by one
  b: vec4<u32>,
  c: u32,
  in_a: vec4<u32>, // all bits where a tap is read, else none: what lies around it may be special
  in_b: vec4<u32>,
  in_c: u32,
  near: Weights9,
  far: Weights9,
}

fn block_from(near: Sources, far: Sources, start: u32) -> Block {
  let first = near.index.x;
  let offset = first - start;
  let end = params.in_width - 1u;
  let last = min(far.index.w + 1u, end);
  let stride = pixel_stride();
  let a = vec4(first) + vec4(0u, 1u, 2u, 3u);
  let b = a + 4u;
  let c = first + 8u;
  return Block(
    (offset & 4u) != 0u,
    (offset & 2u) != 0u,
    (offset & 1u) != 0u,
    min(a, vec4(end)) * stride,
    min(b, vec4(end)) * stride,
    min(c, end) * stride,
    select(vec4(0u), vec4(~0u), a <= vec4(last)),
    select(vec4(0u), vec4(~0u), b <= vec4(last)),
    select(0u, ~0u, c <= last),
    weights_from(near, first),
    weights_from(far, first),
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

// The taps of a block in the row that starts with an element, 0 where none is read.
fn taps_in(runs: Runs, block: Block, row: u32) -> Taps9 {
  if ADJACENT {
    return taps_from(runs.p, runs.q, runs.r, block);
  }
  let a = block.a + row;
  let b = block.b + row;
  var taps: Taps9;
  taps.a = vec4(load_one(a.x), load_one(a.y), load_one(a.z), load_one(a.w));
  taps.b = vec4(load_one(b.x), 0.0, 0.0, 0.0);
  if TAPS > 3u {
    taps.b.y = load_one(b.y);
    taps.b.z = load_one(b.z);
  }
  if TAPS > 4u {
    taps.b.w = load_one(b.w);
    taps.c = load_one(block.c + row);
  }
  return own_taps(taps, block);
}

// The same of the second block.
fn taps_beside(runs: Runs, block: Block, row: u32) -> Taps9 {
  if !ADJACENT {
    return taps_in(runs, block, row);
  }
  return taps_from(select(runs.p, runs.q, block.by_4), select(runs.q, runs.r, block.by_4), runs.r, block);
}

fn taps_from(p0: vec4<f32>, q0: vec4<f32>, r0: vec4<f32>, block: Block) -> Taps9 {
  let p = select(p0, vec4(p0.zw, q0.xy), block.by_2);
  let q = select(q0, vec4(q0.zw, r0.xy), block.by_2);
  let r = select(r0.xy, r0.zw, block.by_2);
  let taps = Taps9(
    select(p, vec4(p.yzw, q.x), block.by_1),
    select(q, vec4(q.yzw, r.x), block.by_1),
    select(r.x, r.y, block.by_1),
  );
  return own_taps(taps, block);
}

fn own_taps(taps: Taps9, block: Block) -> Taps9 {
  return Taps9(
    bitcast<vec4<f32>>(bitcast<vec4<u32>>(taps.a) & block.in_a),
    bitcast<vec4<f32>>(bitcast<vec4<u32>>(taps.b) & block.in_b),
    bitcast<f32>(bitcast<u32>(taps.c) & block.in_c),
  );
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

// The pixels of a block, four rows of four, and those behind them.
struct Pixels {
  near: mat4x4<f32>,
  far: mat4x4<f32>,
}

// Adds what the k-th row of taps gives to the rows of pixels: those above the one before own none of it.
fn add_row(pixels: Pixels, taps: Taps9, block: Block, weights: vec4<f32>, k: u32) -> Pixels {
  let near = interpolate_near(taps, block.near);
  let far = interpolate_far(taps, block.far);
  var sum = pixels;
  if k == 0u {
    sum.near = mat4x4(weights.x * near, weights.y * near, weights.z * near, weights.w * near);
    sum.far = mat4x4(weights.x * far, weights.y * far, weights.z * far, weights.w * far);
  } else {
    if k < 2u {
      sum.near[0] += weights.x * near;
      sum.far[0] += weights.x * far;
    }
    if k < 3u {
      sum.near[1] += weights.y * near;
      sum.far[1] += weights.y * far;
    }
    if k < 4u {
      sum.near[2] += weights.z * near;
      sum.far[2] += weights.z * far;
    }
    sum.near[3] += weights.w * near;
    sum.far[3] += weights.w * far;
  }
  return sum;
}

// Where an invocation reads, and what it has found of a class: the second block only where PAIRED.
struct Blocks {
  runs: RunColumns,
  one: Block,
  two: Block,
}

struct Upscaled {
  one: Pixels,
  two: Pixels,
  largest: u32, // magnitude of a tap, of all classes so far
}

// Takes in the k-th row of taps, which starts with an element.
fn next_row(upscaled: Upscaled, blocks: Blocks, row: u32, weights: vec4<f32>, k: u32) -> Upscaled {
  let runs = runs_in(blocks.runs, row);
  let taps = taps_in(runs, blocks.one, row);
  var next = upscaled;
  next.one = add_row(upscaled.one, taps, blocks.one, weights, k);
  next.largest = max(upscaled.largest, largest_of(taps));
  if PAIRED {
    let beside = taps_beside(runs, blocks.two, row);
    next.two = add_row(upscaled.two, beside, blocks.two, weights, k);
    next.largest = max(next.largest, largest_of(beside));
  }
  return next;
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
  begin();
  let groups = params.grid.z;
  let across = (groups + OWN_GROUPS - 1u) / OWN_GROUPS;
  let position = invocation(workgroup, local);
  let block_row = quotient(position, across);
  let row = block_row * 4u;
  let group = (position - block_row * across) * OWN_GROUPS;
  let column = group * 4u;
  if row >= params.out_height {
    return;
  }
  let y = sources(source_row(row), source_row(row + 1u), source_row(row + 2u), source_row(row + 3u));
  let top = y.index.x;
  let wy = weights_from(y, top);
  let x0 = columns_inside(column);
  let x1 = columns_inside(column + 4u);
  var x2 = x0;
  var x3 = x1;
  if PAIRED {
    x2 = columns_inside(column + 8u);
    x3 = columns_inside(column + 12u);
  }
  let left = x0.index.x;
  let start = left & ~3u;
  let blocks = Blocks(run_columns(start, x3.index.w), block_from(x0, x1, start), block_from(x2, x3, start));
  let image = image_of(workgroup);
  let base = params.place.w + image * params.place.x;
  let last = params.in_height - 1u;
  let row0 = source_element(base, top, 0u);
  let row1 = source_element(base, min(top + 1u, last), 0u);
  let row2 = source_element(base, min(top + 2u, last), 0u);
  let row3 = source_element(base, min(top + 3u, last), 0u);
  let row4 = source_element(base, min(top + 4u, last), 0u);

  var best0 = no_classes();
  var best1 = no_classes();
  var best2 = no_classes();
  var best3 = no_classes();
  var upscaled: Upscaled;
  var plane = 0u;
  let count = class_count();
  let stride = plane_stride();
  for (var c = 0u; c < count; c++) {
    upscaled = next_row(upscaled, blocks, plane + row0, wy.a[0], 0u);
    upscaled = next_row(upscaled, blocks, plane + row1, wy.a[1], 1u);
    upscaled = next_row(upscaled, blocks, plane + row2, wy.a[2], 2u);
    if TAPS > 3u {
      upscaled = next_row(upscaled, blocks, plane + row3, wy.a[3], 3u);
    }
    if TAPS > 4u {
      upscaled = next_row(upscaled, blocks, plane + row4, wy.b[0], 4u);
    }
    best0 = next_classes(best0, upscaled.one.near, c);
    best1 = next_classes(best1, upscaled.one.far, c);
    if PAIRED {
      best2 = next_classes(best2, upscaled.two.near, c);
      best3 = next_classes(best3, upscaled.two.far, c);
    }
    plane += stride;
  }

  let groups_left = min(groups - group, OWN_GROUPS);
  let rows_left = min(params.out_height - row, 4u);
  if upscaled.largest >= NOT_FINITE {
    for (var k = 0u; k < rows_left * OWN_GROUPS; k++) {
      let beside = k % OWN_GROUPS;
      if beside < groups_left {
        let at = column + 4u * beside;
        write_row(image, row + k / OWN_GROUPS, at, exact_best(base, row + k / OWN_GROUPS, at));
      }
    }
    return;
  }
  // Computed before anything is stored, or the parameters would be read again for every store.
  let at = map_at(image, row * groups + group);
  write_four(at, groups, best0, rows_left);
  if groups_left > 1u {
    write_four(at + 1u, groups, best1, rows_left);
  }
  if groups_left > 2u {
    write_four(at + 2u, groups, best2, rows_left);
  }
  if groups_left > 3u {
    write_four(at + 3u, groups, best3, rows_left);
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
