// Low-resolution logits upsampled on the fly: every pixel of the result interpolates the logits bilinearly, takes the class
// with the largest, the first of equals, and what is known of the others (prelude/best.wgsl), and hands them to
// `write_row` of the kernel in whose front this stands. The upsampled logits live in registers only.
//
// Source coordinates are exact fractions of integers (see Params), clamped to the image as in PyTorch.
//
// `upscale`, where neither axis shrinks: an invocation owns 4 × 4 pixels, which all read the same TAPS × TAPS logits
// of a class. A pixel's weight for a tap is a product of one factor per axis, most of them 0: the rows of taps are
// interpolated along x once, for four columns in a vec4, and then combined along y for four rows.
// `resize`, for any scale: an invocation owns four pixels of a row with four taps each.
//
// Taps that a pixel does not touch have the weight 0, and 0 · Inf is NaN: where a tap of a block is not finite, its
// pixels are done again one by one from the four taps that are theirs.
//
// logits: [N, C, in_height, row_stride] or [N, in_height, row_stride]

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
  let top = source_row(row);
  let left = source_column(column);
  let wy = hat_weights(top, source_row(row + 1u), source_row(row + 2u), source_row(row + 3u));
  let wx = hat_weights(left, source_column(column + 1u), source_column(column + 2u), source_column(column + 3u));
  var rows: array<u32, TAPS>;
  var columns: array<u32, TAPS>;
  let image = image_of(workgroup);
  let base = params.place.w + image * params.place.x;
  let stride = plane_stride();
  for (var k = 0u; k < TAPS; k++) {
    rows[k] = source_element(base, min(top.index + k, params.in_height - 1u), 0u);
    columns[k] = min(left.index + k, params.in_width - 1u) * pixel_stride();
  }

  var best0: Best;
  var best1: Best;
  var best2: Best;
  var best3: Best;
  var largest = 0u;
  var plane = 0u;
  for (var c = 0u; c < class_count(); c++) {
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
    if c == 0u {
      best0 = first_class(x0);
      best1 = first_class(x1);
      best2 = first_class(x2);
      best3 = first_class(x3);
    } else {
      best0 = next_class(best0, x0, c);
      best1 = next_class(best1, x1, c);
      best2 = next_class(best2, x2, c);
      best3 = next_class(best3, x3, c);
    }
    plane += stride;
  }
  let rows_left = params.out_height - row;
  if largest >= NOT_FINITE {
    for (var k = 0u; k < min(rows_left, 4u); k++) {
      write_row(image, row + k, column, exact_best(base, row + k, column));
    }
    return;
  }
  write_row(image, row, column, best0);
  if rows_left > 1u {
    write_row(image, row + 1u, column, best1);
  }
  if rows_left > 2u {
    write_row(image, row + 2u, column, best2);
  }
  if rows_left > 3u {
    write_row(image, row + 3u, column, best3);
  }
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
  let base = params.place.w + image * params.place.x;
  let taps = taps_of(base, row, column);
  var best: Best;
  var largest = vec4(0u);
  var plane = 0u;
  for (var c = 0u; c < class_count(); c++) {
    let x = sample(taps, plane);
    if c == 0u {
      best = first_class(x);
    } else {
      best = next_class(best, x, c);
    }
    largest = max(largest, magnitude(x));
    plane += plane_stride();
  }
  if any(largest >= vec4(NOT_FINITE)) {
    best = exact_best(base, row, column);
  }
  write_row(image, row, column, best);
}

// Four pixels of a row, in two walks over the classes that heed special values, as argmax and softmax have them. One loop
// for both: drivers compile the sampling once, which is most of what they compile of this kernel.
fn exact_best(base: u32, row: u32, column: u32) -> Best {
  let taps = taps_of(base, row, column);
  let count = class_count();
  let steps = select(count, 2u * count, SCORES);
  var best: Best;
  var top = vec4(0);
  var plane = 0u;
  for (var i = 0u; i < steps; i++) {
    if i == count {
      plane = 0u;
      best.sum = vec4(0.0);
    }
    let x = sample(taps, plane);
    if i == 0u {
      best = first_class(x);
      top = order4(x);
    } else if i < count {
      let key = order4(x);
      best = next_label(best, x, i, key > top);
      top = max(top, key);
    } else {
      best = add_term(best, x);
    }
    plane += plane_stride();
  }
  if SCORES {
    best = undefined_scores(best);
  }
  return best;
}
