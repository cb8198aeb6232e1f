// Logits at another resolution, interpolated bilinearly, or what an activation makes of them there.
//
// An invocation owns four pixels of a row of the result, with four taps each, and walks their classes: once without an
// activation or with the sigmoid; with the softmax once for the maximum, once for the sum and once for the results,
// interpolating anew each time, so that nothing is stored twice.
//
// As in PyTorch a tap with the weight 0 still counts: 0 · Inf is NaN.
//
// logits: [N, C, in_height, row_stride] or [N, in_height, row_stride], output: [N, C, out_height, out_width] or
// [N, out_height, out_width, C]

@compute @workgroup_size(WORKGROUP)
fn interpolate(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let row = row_of(group);
  let column = column_of(group, row);
  let left = params.out_width - column;
  let taps = taps_of(params.place.w + image * params.place.x, row, column);
  var found = Statistics(vec4(0.0), vec4(1.0));
  if ACTIVATION == SOFTMAX {
    found = statistics_of(taps);
  }
  let scale = 1.0 / found.sum;
  var out = out_place(image, group);
  var plane = 0u;
  for (var c = 0u; c < params.classes; c++) {
    let x = sample(taps, plane);
    var y = x;
    if ACTIVATION == SIGMOID {
      y = sigmoid_of(x);
    } else if ACTIVATION == SOFTMAX {
      y = exact_probability(x, found.maximum, scale);
    }
    store(out, y, left);
    plane += plane_stride();
    out += out_plane_stride();
  }
}

// Maximum and sum over the classes, as exact_statistics has them.
fn statistics_of(taps: Taps) -> Statistics {
  var maximum = sample(taps, 0u);
  var top = order4(maximum);
  var plane = 0u;
  for (var c = 1u; c < params.classes; c++) {
    plane += plane_stride();
    let x = sample(taps, plane);
    let key = order4(x);
    maximum = select(maximum, x, key > top);
    top = max(top, key);
  }
  var sum = vec4(0.0);
  plane = 0u;
  for (var c = 0u; c < params.classes; c++) {
    let x = sample(taps, plane);
    sum += select(exp(x - maximum), vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
    plane += plane_stride();
  }
  let undefined = magnitude(maximum) >= vec4(NOT_FINITE);
  return Statistics(select(maximum, vec4(params.nan), undefined), select(sum, vec4(1.0), undefined));
}
