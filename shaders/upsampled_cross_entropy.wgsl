// Cross-entropy of low-resolution logits at the resolution of the labels: every pixel of the labels interpolates the logits
// bilinearly, and takes from one walk over the classes the maximum, Σ exp(x − maximum), the logit of its target and, if
// asked for, the class with the largest. The upsampled logits live in registers only. The loss of a pixel is what
// cross_entropy.wgsl, which stands in front, has; its kernels do not run.
//
// `upscale`, where neither axis shrinks, and `resize`, for any scale, share their work as those of upsample.wgsl do: an
// invocation owns 4 × 4 pixels that read the same TAPS × TAPS logits of a class, or four pixels of a row with four taps
// each. Where a tap is not finite, its pixels are done again from the four taps that are theirs. An invocation leaves one
// partial sum; the invocations of a row of groups are a multiple of 16, so that wherever the result is split the partial
// sums are the same, and start where they can be bound.
//
// For a gradient the pixels leave the two numbers that it is made of instead of their losses: the maximum, and what
// exp(x − maximum) is multiplied by to be the weight of the target times the softmax. They are LEFT_OUT and 0 where a pixel
// is ignored.
//
// With COUNTS the pixels are counted as confusion_matrix.wgsl does: words of a record that belong to a run of neighbouring
// pixels are added to at once. out_place: words of a record (x), the word that the first record starts with (w).
//
// Both weights and smoothing are compiled in where one of them is asked for.
//
// logits: [N, C, in_height, row_stride] or [N, in_height, row_stride], targets and losses: [N, map_groups] of four,
// statistics: [N, 2 · map_groups] of two pixels each, class_weights: [C], counts: [N, C · C + 5], partial sums:
// [N, partials]

const LEFT_OUT: f32 = 3e38; // the maximum of a pixel that is ignored: exp(x − it) is finite whatever x is

@group(0) @binding(8) var<storage, read_write> counts: array<atomic<u32>>;

// What a walk over the classes finds of four pixels of a row.
struct Walk {
  maximum: vec4<f32>,
  sum: vec4<f32>,     // Σ exp(x − maximum)
  chosen: vec4<f32>,  // the logit of the target
  others: vec4<f32>,  // Σ w · (maximum − x)
  label: vec4<u32>,   // the class with the maximum
}

fn first_step(x: vec4<f32>) -> Walk {
  return Walk(x, vec4(1.0), x, vec4(0.0), vec4(0u));
}

// Takes in class c of weight w; those before it have weights that add up to `before`.
fn next_step(walk: Walk, x: vec4<f32>, c: u32, targets_of_row: vec4<u32>, w: f32, before: f32) -> Walk {
  let greater = x > walk.maximum;
  let distance = abs(x - walk.maximum);
  let e = exp(-distance);
  var next = walk;
  next.maximum = select(walk.maximum, x, greater);
  next.sum = select(walk.sum + e, walk.sum * e + 1.0, greater);
  next.chosen = select(walk.chosen, x, targets_of_row == vec4(c));
  if LABEL_SMOOTHING {
    next.others += select(vec4(w), vec4(before), greater) * distance;
  }
  if COUNTS {
    next.label = select(walk.label, vec4(c), greater);
  }
  return next;
}

// Four pixels of a row, in two walks that heed special values. One loop for both, as in upsample.wgsl.
fn exact_walk(base: u32, row: u32, column: u32, targets_of_row: vec4<u32>) -> Walk {
  let taps = taps_of(base, row, column);
  var walk: Walk;
  var top = vec4(0);
  var plane = 0u;
  for (var i = 0u; i < 2u * params.classes; i++) {
    if i == params.classes {
      plane = 0u;
      walk.sum = vec4(0.0);
    }
    let x = sample(taps, plane);
    if i == 0u {
      walk = first_step(x);
      top = order4(x);
    } else if i < params.classes {
      let key = order4(x);
      let greater = key > top;
      walk.maximum = select(walk.maximum, x, greater);
      walk.chosen = select(walk.chosen, x, targets_of_row == vec4(i));
      walk.label = select(walk.label, vec4(i), greater);
      top = max(top, key);
    } else {
      walk.sum += select(exp(x - walk.maximum), vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
      if LABEL_SMOOTHING {
        walk.others += class_weights[i - params.classes] * (walk.maximum - x);
      }
    }
    plane += plane_stride();
  }
  let undefined = magnitude(walk.maximum) >= vec4(NOT_FINITE);
  walk.maximum = select(walk.maximum, vec4(params.nan), undefined);
  walk.sum = select(walk.sum, vec4(1.0), undefined);
  return walk;
}

// Pixels, one after another, that are counted in the same word.
struct Run {
  word: u32,
  pixels: u32,
}

const VOID: u32 = 0xffffffffu; // where nothing is counted

// Words of a record behind its counts.
const IGNORED: u32 = 0u;
const NO_TARGET: u32 = 1u;
const FIRST: u32 = 2u; // the first pixel whose target is no class is so many words behind their number

fn add_run(record: u32, run: Run) {
  if run.word != VOID {
    atomicAdd(&counts[record + run.word], run.pixels);
  }
}

// The run that is left when the pixels of a row are counted; `pixel` of its image is the first of them.
fn counted(run: Run, record: u32, group: Group, label: vec4<u32>, left: u32, pixel: u32) -> Run {
  let behind = params.classes * params.classes;
  var words = group.classes * params.classes + label;
  words = select(vec4(behind + IGNORED), words, group.counted);
  words = select(words, vec4(behind + NO_TARGET), group.invalid);
  words = select(vec4(VOID), words, vec4(0u, 1u, 2u, 3u) < vec4(left));
  if all(words == vec4(run.word)) {
    return Run(run.word, run.pixels + 4u);
  }
  var next = run;
  for (var lane = 0u; lane < 4u; lane++) {
    if words[lane] != next.word {
      add_run(record, next);
      next = Run(words[lane], 0u);
      if next.word == behind + NO_TARGET {
        atomicMin(&counts[record + next.word + FIRST], pixel + lane);
      }
    }
    next.pixels += 1u;
  }
  return next;
}

// What the pixels of an invocation add up to.
struct Tally {
  sums: Sums,
  run: Run,
}

// Writes what belongs to four pixels of a row, and adds it to the tally. `weights` is the sum of those of all classes.
fn add_row(tally: Tally, image: u32, row: u32, column: u32, walk: Walk, weights: f32) -> Tally {
  let left = params.out_width - column;
  let at = map_group(image, row, column);
  let group = group_of(targets[at], left);
  var weight = vec4(1.0);
  if CLASS_WEIGHTS {
    weight = weights_of(group.classes);
  }
  let log_sum = log(walk.sum);
  var loss = weight * ((walk.maximum - walk.chosen) + log_sum);
  if LABEL_SMOOTHING {
    let e = params.label_smoothing;
    let each = e / f32(params.classes);
    let smoothed = (1.0 - e) * loss + each * (walk.others + weights * log_sum);
    // Without 0 · Inf.
    loss = select(smoothed, loss, vec4(e == 0.0));
    weight = (1.0 - e) * weight + each * weights;
  }
  if GRADIENT {
    let undefined = group.invalid | (magnitude(walk.maximum) >= vec4(NOT_FINITE));
    let factor = select(weight / walk.sum, vec4(params.nan), undefined);
    let a = select(vec4(LEFT_OUT), walk.maximum, group.counted);
    let b = select(vec4(0.0), factor, group.counted);
    losses[2u * at] = vec4(a.x, b.x, a.y, b.y);
    losses[2u * at + 1u] = vec4(a.z, b.z, a.w, b.w);
  } else {
    losses[at] = select(select(vec4(0.0), loss, group.counted), vec4(params.nan), group.invalid);
  }
  if row < params.own_row {
    return tally;
  }
  var next = tally;
  let first = row * params.out_width + column;
  next.sums = added(tally.sums, group, loss, image, first);
  if COUNTS {
    let pixel = params.out_row * params.out_width + first;
    next.run = counted(tally.run, record_of(image), group, walk.label, left, pixel);
  }
  return next;
}

fn finish(tally: Tally, image: u32, position: u32) {
  partials_out[image * params.partials + position] = packed(partial_of(tally.sums));
  if COUNTS {
    add_run(record_of(image), tally.run);
  }
}

fn record_of(image: u32) -> u32 {
  return params.out_place.w + image * params.out_place.x;
}

// Where a group of the labels lies.
fn map_group(image: u32, row: u32, column: u32) -> u32 {
  return map_at(image, row * ((params.out_width + 3u) / 4u) + column / 4u);
}

// The target classes of a group, of the last row behind it.
fn targets_at(image: u32, row: u32, column: u32) -> vec4<u32> {
  return unpack_labels(targets[map_group(image, min(row, params.out_height - 1u), column)]);
}

fn weight_at(c: u32) -> f32 {
  if LABEL_SMOOTHING {
    return class_weights[c];
  }
  return 1.0;
}

@compute @workgroup_size(WORKGROUP)
fn upscale(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let blocks = params.grid.z;
  let block = invocation(workgroup, local);
  let row = block / blocks * 4u;
  let column = block % blocks * 4u;
  if row >= params.out_height {
    return;
  }
  let image = image_of(workgroup);
  var tally = Tally(no_sums(), Run(VOID, 0u));
  if column >= params.out_width {
    finish(tally, image, block);
    return;
  }
  let top = source_row(row);
  let left = source_column(column);
  let wy = hat_weights(top, source_row(row + 1u), source_row(row + 2u), source_row(row + 3u));
  let wx = hat_weights(left, source_column(column + 1u), source_column(column + 2u), source_column(column + 3u));
  var rows: array<u32, TAPS>;
  var columns: array<u32, TAPS>;
  let base = params.place.w + image * params.place.x;
  let stride = plane_stride();
  for (var k = 0u; k < TAPS; k++) {
    rows[k] = source_element(base, min(top.index + k, params.in_height - 1u), 0u);
    columns[k] = min(left.index + k, params.in_width - 1u) * pixel_stride();
  }
  let t0 = targets_at(image, row, column);
  let t1 = targets_at(image, row + 1u, column);
  let t2 = targets_at(image, row + 2u, column);
  let t3 = targets_at(image, row + 3u, column);

  var walk0: Walk;
  var walk1: Walk;
  var walk2: Walk;
  var walk3: Walk;
  var largest = 0u;
  var plane = 0u;
  var weights = 0.0;
  for (var c = 0u; c < params.classes; c++) {
    var x0 = vec4(0.0);
    var x1 = vec4(0.0);
    var x2 = vec4(0.0);
    var x3 = vec4(0.0);
    for (var ky = 0u; ky < TAPS; ky++) {
      var x = vec4(0.0);
      for (var kx = 0u; kx < TAPS; kx++) {
        let tap = load_one(plane + rows[ky] + columns[kx]);
        x += wx[kx] * tap;
        largest = max(largest, bitcast<u32>(tap) & 0x7fffffffu);
      }
      x0 += wy[ky].x * x;
      x1 += wy[ky].y * x;
      x2 += wy[ky].z * x;
      x3 += wy[ky].w * x;
    }
    let w = weight_at(c);
    if c == 0u {
      walk0 = first_step(x0);
      walk1 = first_step(x1);
      walk2 = first_step(x2);
      walk3 = first_step(x3);
    } else {
      walk0 = next_step(walk0, x0, c, t0, w, weights);
      walk1 = next_step(walk1, x1, c, t1, w, weights);
      walk2 = next_step(walk2, x2, c, t2, w, weights);
      walk3 = next_step(walk3, x3, c, t3, w, weights);
    }
    weights += w;
    plane += stride;
  }
  // What follows is compiled once for all rows: drivers unroll a loop that indexes an array.
  for (var k = 0u; k < min(params.out_height - row, 4u); k++) {
    var walk = walk0;
    if largest >= NOT_FINITE {
      walk = exact_walk(base, row + k, column, targets_at(image, row + k, column));
    }
    tally = add_row(tally, image, row + k, column, walk, weights);
    walk0 = walk1;
    walk1 = walk2;
    walk2 = walk3;
  }
  finish(tally, image, block);
}

@compute @workgroup_size(WORKGROUP)
fn resize(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let groups = params.grid.z;
  let group = invocation(workgroup, local);
  let row = group / groups;
  let column = group % groups * 4u;
  if row >= params.out_height {
    return;
  }
  let image = image_of(workgroup);
  var tally = Tally(no_sums(), Run(VOID, 0u));
  if column >= params.out_width {
    finish(tally, image, group);
    return;
  }
  let base = params.place.w + image * params.place.x;
  let taps = taps_of(base, row, column);
  let targets_of_row = targets_at(image, row, column);
  var walk: Walk;
  var largest = vec4(0u);
  var plane = 0u;
  var weights = 0.0;
  for (var c = 0u; c < params.classes; c++) {
    let x = sample(taps, plane);
    let w = weight_at(c);
    if c == 0u {
      walk = first_step(x);
    } else {
      walk = next_step(walk, x, c, targets_of_row, w, weights);
    }
    largest = max(largest, magnitude(x));
    weights += w;
    plane += plane_stride();
  }
  if any(largest >= vec4(NOT_FINITE)) {
    walk = exact_walk(base, row, column, targets_of_row);
  }
  tally = add_row(tally, image, row, column, walk, weights);
  finish(tally, image, group);
}
