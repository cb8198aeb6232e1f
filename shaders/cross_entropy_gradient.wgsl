// The gradient of cross-entropy with respect to the logits, after the loss of cross_entropy.wgsl, which stands in front.
// With p = softmax(x) and the total weight D of the mean (1 for the sum), for a pixel with the target class t:
//
//   gradient[c] = ((1 − ε) · w[t] · (p[c] − [c = t])  +  ε / C · (p[c] · Σ w − w[c])) / D
//
// and 0 for a pixel that is ignored, whatever its logits. It is NaN where the softmax is, where the target is no class,
// and where D is 0.
//
// `gradients`: an invocation owns a group. Up to 24 classes it holds all logits, reads them once and writes them once;
// above it finds maximum and sum and reads the logits again. D is what the loss has left in its record. That the loss is
// a step of its own costs a read, but both in one kernel, with several groups to an invocation for the partial sums and
// an array of exponentials, took software adapters longer still.
//
// output (the gradient): as the logits, total: [1]

@compute @workgroup_size(WORKGROUP)
fn gradients(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  let first = place.element;
  let stride = plane_stride();
  let shares = shares_of(group_of(targets[map_at(image, group)], place.left));
  var out = out_place(image, group);
  if CLASSES == 0u {
    write_gradient(online_statistics(first), place, out, shares);
    return;
  }
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
    x[c] = load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  if any(largest >= vec4(NOT_FINITE)) {
    write_gradient(exact_statistics(first), place, out, shares);
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
  let factor = shares.all / sum;
  let out_stride = out_plane_stride();
  for (var c = 0u; c < HALF; c++) {
    store(out, gradient_of(x[c] * factor, c, shares), place.left);
    out += out_stride;
  }
  for (var c = HALF; c < REGISTERS; c++) {
    store(out, gradient_of(x[c] * factor, c, shares), place.left);
    out += out_stride;
  }
}

// What the targets make of a group's probabilities.
struct Shares {
  group: Group,
  chosen: vec4<f32>, // (1 − ε) · w[t] / D
  each: f32,         // ε / C / D, to be multiplied by the weight of a class
  all: vec4<f32>,    // both, added up over the classes
}

fn shares_of(group: Group) -> Shares {
  let scale = gradient_scale();
  var chosen = select(vec4(scale), vec4(params.nan), group.invalid);
  if CLASS_WEIGHTS {
    chosen *= weights_of(group.classes);
  }
  if !LABEL_SMOOTHING {
    return Shares(group, chosen, 0.0, chosen);
  }
  chosen *= 1.0 - params.label_smoothing;
  let each = params.label_smoothing / f32(params.classes) * scale;
  var weights = 0.0;
  for (var c = 0u; c < class_count(); c++) {
    weights += weight_of(c);
  }
  return Shares(group, chosen, each, chosen + each * weights);
}

fn weight_of(c: u32) -> f32 {
  if CLASS_WEIGHTS {
    return class_weights[c];
  }
  return 1.0;
}

// The gradient of class c, with its probability times what all shares add up to.
fn gradient_of(of_all: vec4<f32>, c: u32, shares: Shares) -> vec4<f32> {
  var gradient = of_all - select(vec4(0.0), shares.chosen, shares.group.classes == vec4(c));
  if LABEL_SMOOTHING {
    gradient -= shares.each * weight_of(c);
  }
  return select(vec4(0.0), gradient, shares.group.counted);
}

// Reads the logits once more.
fn write_gradient(found: Statistics, place: Place, first_out: u32, shares: Shares) {
  let factor = shares.all / found.sum;
  var element = place.element;
  var out = first_out;
  for (var c = 0u; c < params.classes; c++) {
    let of_all = exact_probability(load(element), found.maximum, factor);
    store(out, gradient_of(of_all, c, shares), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}
