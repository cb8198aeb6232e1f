// The gradient of cross-entropy against soft targets with respect to the logits, beside the loss of
// soft_cross_entropy.wgsl, which stands in front. With the softmax q, and the total weight D of the mean, the number of
// pixels (1 for the sum):
//
//   gradient[c] = (q[c] · Σ_k w[k] · p'[k]  −  w[c] · p'[c]) / D
//
// It is NaN where the softmax is, and where products with an infinite target are. A class whose logit is −Inf has a
// gradient although the loss may be NaN there.
//
// output (the gradient): as the logits, total: [1]

const REGISTERS: u32 = max(CLASSES, 1u);

@compute @workgroup_size(WORKGROUP)
fn soft_gradients(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  let scale = gradient_scale();
  var loss = vec4(0.0);
  var pixels = 0u;
  let image = image_of(workgroup);
  let first_group = (position - local) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first_group + k * WORKGROUP;
    if group >= group_count() {
      break;
    }
    let place = place_of(image, group);
    let group_loss = write_gradient(place, out_place(image, group), scale);
    loss += select(vec4(0.0), group_loss, vec4(0u, 1u, 2u, 3u) < vec4(place.left));
    pixels += min(place.left, 4u);
  }
  partials_out[image * params.partials + position] =
    Partial((loss.x + loss.y) + (loss.z + loss.w), f32(pixels), pixels, NONE);
}

// Writes the gradient of a group and returns its losses. The targets lie as the gradient does.
fn write_gradient(place: Place, first_out: u32, scale: f32) -> vec4<f32> {
  let first = place.element;
  let stride = plane_stride();
  var found: Statistics;
  var x: array<vec4<f32>, REGISTERS>;
  var element = first;
  if CLASSES != 0u {
    var maximum = load(first);
    x[0] = maximum;
    for (var c = 1u; c < REGISTERS; c++) {
      element += stride;
      x[c] = load(element);
      maximum = max(maximum, x[c]);
    }
    found.maximum = maximum;
  } else {
    found = online_statistics(first);
  }

  var distances = vec4(0.0); // Σ w p' d
  var weights = vec4(0.0);   // Σ w p'
  var largest = vec4(0u);
  element = first;
  var out = first_out;
  for (var c = 0u; c < class_count(); c++) {
    var of_class: vec4<f32>;
    if CLASSES != 0u {
      of_class = x[c];
    } else {
      of_class = load(element);
      element += stride;
    }
    let d = found.maximum - of_class;
    if CLASSES != 0u {
      x[c] = exp(-d);
      found.sum += x[c];
    }
    let weight = weighted(load_targets(out), c);
    distances += d * weight;
    weights += weight;
    largest = max(largest, max(magnitude(of_class), magnitude(weight)));
    out += out_plane_stride();
  }
  var loss = distances + log(found.sum) * weights;
  let special = max(largest, max(magnitude(loss), magnitude(weights))) >= vec4(NOT_FINITE);
  if any(special) {
    loss = select(loss, exact_losses(first, first_out), special);
    let exact = exact_statistics(first);
    found.maximum = select(found.maximum, exact.maximum, special);
    found.sum = select(found.sum, exact.sum, special);
    if CLASSES != 0u {
      element = first;
      for (var c = 0u; c < REGISTERS; c++) {
        x[c] = exact_probability(load(element), found.maximum, vec4(1.0));
        element += stride;
      }
    }
  }

  let reciprocal = 1.0 / found.sum;
  let infinite = magnitude(weights) == vec4(NOT_FINITE);
  element = first;
  out = first_out;
  for (var c = 0u; c < class_count(); c++) {
    var q: vec4<f32>;
    if CLASSES != 0u {
      q = x[c] * reciprocal;
    } else {
      q = exact_probability(load(element), found.maximum, reciprocal);
      element += stride;
    }
    let of_infinite = select(times_infinity(q), times_infinity(-q), weights < vec4(0.0));
    let of_all = select(q * weights, of_infinite, infinite);
    store(out, (of_all - weighted(load_targets(out), c)) * scale, place.left);
    out += out_plane_stride();
  }
  return loss;
}

// w p' of a class.
fn weighted(targets: vec4<f32>, c: u32) -> vec4<f32> {
  if CLASS_WEIGHTS {
    return smoothed(targets) * class_weights[c];
  }
  return smoothed(targets);
}
