// Softmax along one axis of the tensor, y = exp(x − maximum) / Σ exp(x − maximum), or its logarithm with LOG,
// y = (x − maximum) − log Σ exp(x − maximum); subtracting the maximum keeps the exponential from overflowing and changes
// nothing else.
//
// The tensor is seen as [images, classes, pixels] whatever the axis: `classes` counts the elements that are normalised
// together, plane_stride apart, and the pixels are what lies between. Over the class axis that is N, C, H · W; over height
// N · C, H, W; along a row there is nothing between, which is the third shape of kernel.
//
// `registers`, for up to 24 classes, a constant: an invocation holds all logits of its group, reads them once and writes
// them once. `statistics` and `apply`, for more: the first finds maximum and scale (1 / Σ, or log Σ) of every pixel, the
// second reads the logits again and writes the results, an invocation CLASS_BLOCK planes of one group, so that few streams
// are written at a time. `cached` instead of both, on a software adapter: it reads the logits of a few groups again while
// they are in the caches. `rows`: an invocation owns a row, whose elements are neighbours, and walks it twice.
//
// As in PyTorch a pixel with a NaN, a +Inf or nothing but −Inf is NaN in every class, and −Inf beside a finite logit
// has the probability 0.
//
// logits, output: [images, classes, plane_stride], maximum and scale: [images, map_groups] of four

const REGISTERS: u32 = max(CLASSES, 1u);
// Loops over registers come in two: drivers unroll none with too much in it, and registers that are indexed in a loop are
// memory. Where an image is bound in halves, the second loop has the far one.
const HALF: u32 = (REGISTERS + 1u) / 2u;
const CLASS_BLOCK: u32 = 8u;

fn scale_of(sum: vec4<f32>) -> vec4<f32> {
  if LOG {
    return log(sum);
  }
  return 1.0 / sum;
}

fn result(x: vec4<f32>, maximum: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
  if LOG {
    return (x - maximum) - scale;
  }
  return exp(x - maximum) * scale;
}

// The same where x or the maximum may be special.
fn exact_result(x: vec4<f32>, maximum: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
  if LOG {
    return select((x - maximum) - scale, vec4(params.nan), magnitude(maximum) >= vec4(NOT_FINITE));
  }
  return exact_probability(x, maximum, scale);
}

@compute @workgroup_size(WORKGROUP)
fn registers(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  let first = place.element;
  let pixels = place.left;
  var out = out_place(image, group);
  let stride = plane_stride();
  var x: array<vec4<f32>, REGISTERS>;
  var maximum = load(first);
  var largest = magnitude(maximum);
  var element = first;
  x[0] = maximum;
  for (var c = 1u; c < HALF; c++) {
    element += stride;
    x[c] = load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  for (var c = HALF; c < REGISTERS; c++) {
    element += stride;
    x[c] = far_load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  // A NaN in x, or a maximum of ±Inf. Where −Inf is beside finite logits, the exponential of −200 is as good: it is 0.
  let undefined = (largest > vec4(NOT_FINITE)) | (magnitude(maximum) >= vec4(NOT_FINITE));
  var sum = vec4(0.0);
  for (var c = 0u; c < HALF; c++) {
    x[c] -= maximum;
    let e = exp(max(x[c], vec4(-200.0)));
    sum += e;
    x[c] = select(e, x[c], LOG);
  }
  for (var c = HALF; c < REGISTERS; c++) {
    x[c] -= maximum;
    let e = exp(max(x[c], vec4(-200.0)));
    sum += e;
    x[c] = select(e, x[c], LOG);
  }
  let scale = scale_of(sum);
  let out_stride = out_plane_stride();
  for (var c = 0u; c < HALF; c++) {
    store(out, select(select(x[c] * scale, x[c] - scale, LOG), vec4(params.nan), undefined), pixels);
    out += out_stride;
  }
  for (var c = HALF; c < REGISTERS; c++) {
    far_store(out, select(select(x[c] * scale, x[c] - scale, LOG), vec4(params.nan), undefined), pixels);
    out += out_stride;
  }
}

@group(0) @binding(3) var<storage, read_write> maximum_out: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> scale_out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn statistics(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let image = image_of(workgroup);
  let position = invocation(workgroup, local);
  var first_group = position * STRIP;
  if first_group >= group_count() {
    return;
  }
  first_group += touch(image, position, STRIP);
  let end = min(first_group + STRIP, group_count());
  var firsts: array<u32, STRIP>;
  for (var k = 0u; k < STRIP; k++) {
    firsts[k] = place_of(image, min(first_group + k, group_count() - 1u)).element;
  }
  var strip = strip_statistics(firsts);
  if is_special(strip) {
    for (var group = first_group; group < end; group++) {
      write_statistics(map_at(image, group), online_statistics(place_of(image, group).element));
    }
    return;
  }
  for (var k = 0u; k < STRIP; k++) {
    if first_group + k < end {
      write_statistics(map_at(image, first_group + k), Statistics(strip[k].maximum, strip[k].sum));
    }
  }
}

fn write_statistics(at: u32, found: Statistics) {
  maximum_out[at] = found.maximum;
  scale_out[at] = scale_of(found.sum);
}

@group(0) @binding(3) var<storage, read> maximum_in: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> scale_in: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn apply(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  let block = quotient(position, group_count());
  let group = position - block * group_count();
  let first_class = block * CLASS_BLOCK;
  if first_class >= params.classes {
    return;
  }
  let image = image_of(workgroup);
  let at = map_at(image, group);
  let maximum = maximum_in[at];
  let scale = scale_in[at];
  let undefined = any(magnitude(maximum) >= vec4(NOT_FINITE));
  let place = place_of(image, group);
  let stride = plane_stride();
  let end = min(first_class + CLASS_BLOCK, params.classes);
  let out_stride = out_plane_stride();
  var element = place.element + first_class * stride;
  var out = out_place(image, group) + first_class * out_stride;
  for (var c = first_class; c < end; c++) {
    let x = load(element);
    var y = result(x, maximum, scale);
    if undefined || any(magnitude(x) >= vec4(NOT_FINITE)) {
      y = exact_result(x, maximum, scale);
    }
    store(out, y, place.left);
    element += stride;
    out += out_stride;
  }
}

@compute @workgroup_size(WORKGROUP)
fn cached(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let image = image_of(workgroup);
  let position = invocation(workgroup, local);
  var first_group = position * STRIP;
  if first_group >= group_count() {
    return;
  }
  first_group += touch(image, position, STRIP);
  var firsts: array<u32, STRIP>;
  var outs: array<u32, STRIP>;
  var lefts: array<u32, STRIP>;
  for (var k = 0u; k < STRIP; k++) {
    // Behind the last group it comes again.
    let group = min(first_group + k, group_count() - 1u);
    let place = place_of(image, group);
    firsts[k] = place.element;
    lefts[k] = place.left;
    outs[k] = out_place(image, group);
  }
  var strip = strip_statistics(firsts);
  if is_special(strip) {
    // One by one, in a loop that no compiler unrolls.
    var online = strip[0];
    for (var group = first_group; group < min(first_group + STRIP, group_count()); group++) {
      write_exact_classes(image, group, online);
      online = strip[STRIP - 1u];
    }
    return;
  }
  var scales: array<vec4<f32>, STRIP>;
  for (var k = 0u; k < STRIP; k++) {
    scales[k] = scale_of(strip[k].sum);
  }
  let stride = plane_stride();
  let out_stride = out_plane_stride();
  var ahead = 0u;
  var out_ahead = 0u;
  var c = 0u;
  for (; c < near_classes(); c++) {
    for (var k = 0u; k < STRIP; k++) {
      store(outs[k] + out_ahead, result(load(firsts[k] + ahead), strip[k].maximum, scales[k]), lefts[k]);
    }
    ahead += stride;
    out_ahead += out_stride;
  }
  if HALVES {
    for (; c < params.classes; c++) {
      for (var k = 0u; k < STRIP; k++) {
        far_store(outs[k] + out_ahead, result(far_load(firsts[k] + ahead), strip[k].maximum, scales[k]), lefts[k]);
      }
      ahead += stride;
      out_ahead += out_stride;
    }
  }
}

fn write_exact_classes(image: u32, group: u32, online: Online) {
  let place = place_of(image, group);
  let found = finished(online, place.element);
  let scale = scale_of(found.sum);
  var element = place.element;
  var out = out_place(image, group);
  for (var c = 0u; c < params.classes; c++) {
    store_class(c, out, exact_result(load_class(c, element), found.maximum, scale), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}

// A row of `classes` neighbouring elements, `rows` of them in a plane; `groups` counts the rows of all planes. It is walked
// sixteen elements at a time, as long as there are so many, and then four at a time.
@compute @workgroup_size(WORKGROUP)
fn rows(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let row = invocation(workgroup, local);
  if row >= group_count() {
    return;
  }
  let plane = quotient(row, params.rows);
  let in_plane = row - plane * params.rows;
  let first = params.place.w + plane * plane_stride() + in_plane * params.place.y;
  let out = params.out_place.w + plane * out_plane_stride() + in_plane * params.out_place.y;
  let count = params.classes;

  // `sum` is rescaled whenever the maximum moves.
  var maximum = load_one(first);
  var sum = vec4(0.0);
  var largest = vec4(0u);
  var i = 0u;
  for (; i + 16u <= count; i += 16u) {
    let x0 = load(first + i);
    let x1 = load(first + i + 4u);
    let x2 = load(first + i + 8u);
    let x3 = load(first + i + 12u);
    let m = max(maximum, largest_lane(max(max(x0, x1), max(x2, x3))));
    sum = sum * exp(maximum - m) + (exp(x0 - m) + exp(x1 - m)) + (exp(x2 - m) + exp(x3 - m));
    maximum = m;
    largest = max(largest, max(max(magnitude(x0), magnitude(x1)), max(magnitude(x2), magnitude(x3))));
  }
  for (; i < count; i += 4u) {
    // Lanes behind the end of the row repeat the maximum and add nothing.
    let inside = vec4(i, i + 1u, i + 2u, i + 3u) < vec4(count);
    let x = select(vec4(maximum), load(first + i), inside);
    let m = max(maximum, largest_lane(x));
    sum = sum * exp(maximum - m) + select(vec4(0.0), exp(x - m), inside);
    maximum = m;
    largest = max(largest, magnitude(x));
  }
  if any(largest >= vec4(NOT_FINITE)) {
    write_exact_row(first, out);
    return;
  }
  let top = vec4(maximum);
  let scale = scale_of(vec4((sum.x + sum.y) + (sum.z + sum.w)));
  i = 0u;
  for (; i + 16u <= count; i += 16u) {
    let x0 = load(first + i);
    let x1 = load(first + i + 4u);
    let x2 = load(first + i + 8u);
    let x3 = load(first + i + 12u);
    store(out + i, result(x0, top, scale), 4u);
    store(out + i + 4u, result(x1, top, scale), 4u);
    store(out + i + 8u, result(x2, top, scale), 4u);
    store(out + i + 12u, result(x3, top, scale), 4u);
  }
  for (; i < count; i += 4u) {
    store(out + i, result(load(first + i), top, scale), count - i);
  }
}

fn largest_lane(x: vec4<f32>) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}

fn write_exact_row(first: u32, out: u32) {
  var top = load_one(first);
  for (var i = 1u; i < params.classes; i++) {
    let x = load_one(first + i);
    top = select(top, x, order(x) > order(top));
  }
  var sum = 0.0;
  for (var i = 0u; i < params.classes; i++) {
    let x = load_one(first + i);
    sum += select(exp(x - top), 0.0, (bitcast<u32>(x) & 0x7fffffffu) >= NOT_FINITE);
  }
  let scale = scale_of(vec4(sum));
  for (var i = 0u; i < params.classes; i += 4u) {
    store(out + i, exact_result(load(first + i), vec4(top), scale), params.classes - i);
  }
}
