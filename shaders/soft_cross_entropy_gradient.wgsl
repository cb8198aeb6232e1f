// The gradient of cross-entropy against soft targets with respect to the logits, after the loss of
// soft_cross_entropy.wgsl, which stands in front. With the softmax q, and the total weight D of the mean, the number of
// pixels (1 for the sum):
//
//   gradient[c] = (q[c] · Σ_k w[k] · p'[k]  −  w[c] · p'[c]) / D
//
// It is NaN where the softmax is, and where products with an infinite target are. A class whose logit is −Inf has a
// gradient although the loss may be NaN there.
//
// `soft_gradients`: an invocation owns a group, as in cross_entropy_gradient.wgsl; it reads the targets twice. They lie
// as the gradient does.
//
// output (the gradient): as the logits, total: [1]

const REGISTERS: u32 = max(CLASSES, 1u);
const HALF: u32 = (REGISTERS + 1u) / 2u; // see cross_entropy_gradient.wgsl

@compute @workgroup_size(WORKGROUP)
fn soft_gradients(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  let first = place.element;
  let first_out = out_place(image, group);
  let stride = plane_stride();
  let weights = weights_of(first_out);
  let scale = gradient_scale();
  if CLASSES == 0u {
    write_gradient(online_statistics(first), place, first_out, weights, scale);
    return;
  }
  var x: array<vec4<f32>, REGISTERS>;
  var maximum = load(first);
  var largest = max(magnitude(maximum), magnitude(weights));
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
    x[c] = load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  if any(largest >= vec4(NOT_FINITE)) {
    write_gradient(exact_statistics(first), place, first_out, weights, scale);
    return;
  }
  var sum = vec4(0.0);
  for (var c = 0u; c < HALF; c++) {
    x[c] = exp(x[c] - maximum);
    sum += x[c];
  }
  for (var c = HALF; c < REGISTERS; c++) {
    x[c] = exp(x[c] - maximum);
    sum += x[c];
  }
  // As write_gradient rounds it: which of them runs for a pixel depends on its neighbours.
  let reciprocal = 1.0 / sum;
  let out_stride = out_plane_stride();
  var out = first_out;
  for (var c = 0u; c < HALF; c++) {
    store(out, (x[c] * reciprocal * weights - weighted(load_targets(out), c)) * scale, place.left);
    out += out_stride;
  }
  for (var c = HALF; c < REGISTERS; c++) {
    store(out, (x[c] * reciprocal * weights - weighted(load_targets(out), c)) * scale, place.left);
    out += out_stride;
  }
}

// w p' of a class.
fn weighted(targets: vec4<f32>, c: u32) -> vec4<f32> {
  if CLASS_WEIGHTS {
    return smoothed(targets) * class_weights[c];
  }
  return smoothed(targets);
}

// Σ w p'.
fn weights_of(first_target: u32) -> vec4<f32> {
  var weights = vec4(0.0);
  var element = first_target;
  for (var c = 0u; c < class_count(); c++) {
    weights += weighted(load_targets(element), c);
    element += out_plane_stride();
  }
  return weights;
}

// Reads the logits once more, and heeds special values.
fn write_gradient(found: Statistics, place: Place, first_out: u32, weights: vec4<f32>, scale: f32) {
  let reciprocal = 1.0 / found.sum;
  let infinite = magnitude(weights) == vec4(NOT_FINITE);
  var element = place.element;
  var out = first_out;
  for (var c = 0u; c < params.classes; c++) {
    let q = exact_probability(load(element), found.maximum, reciprocal);
    let of_infinite = select(times_infinity(q), times_infinity(-q), weights < vec4(0.0));
    let of_all = select(q * weights, of_infinite, infinite);
    store(out, (of_all - weighted(load_targets(out), c)) * scale, place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}
