// Binary cross-entropy of every element straight from its logit x and its target z, as PyTorch defines it:
//
//   loss = (1 − z) · x + w · (log(1 + e^−|x|) + max(−x, 0))    with w = 1 + (p − 1) · z
//
// and p the weight of positive targets of the class (1 without), times the weight of the class. Where x is negative the
// terms with |x| cancel but for p · z · |x|. So nothing is lost of a small loss in
//
//   loss = w · log(1 + e^−|x|) + (x < 0 ? p · z · |x| : (1 − z) · x)
//
// but that where x is infinite, or z is no number, products like 0 · Inf are those of the first formula.
//
// An invocation owns GROUPS groups a workgroup apart, walks their classes and leaves one partial sum, which the kernels
// of loss.wgsl add up; with PER_ELEMENT it writes the losses too. Every element of a pixel that counts has the weight 1 in
// the mean; those of the others are 0. In front of it stands how targets are read (Truth, truth_at, truth_of).
//
// With GRADIENT it writes the gradient with respect to the logits instead, with the sigmoid σ and the total weight D of
// the mean, the number of elements that count (1 for the sum):
//
//   gradient = (class weight) · ((1 − z) · σ(x) − p · z · σ(−x)) / D
//
// in which, for z in 0..=1, only one term is large: small gradients keep their relative accuracy as small losses do.
//
// logits, soft targets, output (the losses, or the gradient): [N, C, rows, row_pixels] with strides, weights: [C] of the
// class weight and p, partial sums: [N, partials], total: [1]

@group(0) @binding(4) var<storage, read> weights: array<vec2<f32>>;

@compute @workgroup_size(WORKGROUP)
fn elements(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var loss = vec4(0.0);
  var pixels = 0u;
  var first_invalid = NONE;
  var scale = 1.0;
  if GRADIENT {
    scale = gradient_scale();
  }
  let image = image_of(workgroup);
  let first_group = (position - local) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first_group + k * WORKGROUP;
    if group >= group_count() {
      break;
    }
    let place = place_of(image, group);
    let truth = truth_at(image, group, place.left);
    let at = params.first_pixel + image * params.pixels + place.pixel + vec4(0u, 1u, 2u, 3u);
    let invalid = select(vec4(NONE), at, truth.invalid);
    first_invalid = min(first_invalid, min(min(invalid.x, invalid.y), min(invalid.z, invalid.w)));
    var element = place.element;
    var out = out_place(image, group);
    var of_classes = vec4(0.0);
    for (var c = 0u; c < params.classes; c++) {
      var weight = vec2(1.0);
      if CLASS_WEIGHTS || POS_WEIGHT {
        weight = weights[c];
      }
      let x = load(element);
      let z = truth_of(truth, c);
      var of_class = losses_of(x, z, weight.y);
      if CLASS_WEIGHTS {
        of_class *= weight.x;
      }
      of_class = select(vec4(0.0), of_class, truth.counted);
      of_classes += of_class;
      if GRADIENT {
        var gradient = gradients_of(x, z, weight.y) * scale;
        if CLASS_WEIGHTS {
          gradient *= weight.x;
        }
        gradient = select(gradient, vec4(params.nan), truth.invalid);
        store(out, select(vec4(0.0), gradient, truth.counted), place.left);
      }
      if PER_ELEMENT {
        store(out, of_class, place.left);
      }
      element += plane_stride();
      out += out_plane_stride();
    }
    loss += of_classes;
    let counted = select(vec4(0u), vec4(1u), truth.counted);
    pixels += (counted.x + counted.y) + (counted.z + counted.w);
  }
  partials_out[image * params.partials + position] = packed(Partial(
    (loss.x + loss.y) + (loss.z + loss.w), f32(pixels) * f32(params.classes), pixels, first_invalid));
}

fn losses_of(x: vec4<f32>, z: vec4<f32>, p: f32) -> vec4<f32> {
  var weight = vec4(1.0);
  var positive = z;
  if POS_WEIGHT {
    weight += (p - 1.0) * z;
    positive *= p;
  }
  let softplus = log_1p(exp(-abs(x)));
  let loss = weight * softplus + select((1.0 - z) * x, -positive * x, x < vec4(0.0));
  let special = max(magnitude(x), magnitude(z)) >= vec4(NOT_FINITE);
  if any(special) {
    return select(loss, exact_losses(x, z, exact_weight(z, p, weight), softplus), special);
  }
  return loss;
}

// A driver may take 1 + (p − 1) · z for (1 − z) + p · z, which is NaN where z is infinite.
fn exact_weight(z: vec4<f32>, p: f32, weight: vec4<f32>) -> vec4<f32> {
  if POS_WEIGHT {
    let infinite = times_infinity(vec4(p - 1.0));
    return select(weight, select(infinite, -infinite, z < vec4(0.0)), magnitude(z) == vec4(NOT_FINITE));
  }
  return weight;
}

// The first formula, product by product.
fn exact_losses(x: vec4<f32>, z: vec4<f32>, weight: vec4<f32>, softplus: vec4<f32>) -> vec4<f32> {
  let finite = (1.0 - z) * x + weight * (softplus + max(-x, vec4(0.0)));
  // log(1 + e^−Inf) is 0, and 0 · weight is NaN where the weight is not finite.
  let above = select(times_infinity(1.0 - z), vec4(params.nan), magnitude(weight) >= vec4(NOT_FINITE));
  let below = times_infinity(weight) - times_infinity(1.0 - z);
  let loss = select(select(finite, above, x > vec4(0.0)), below, x < vec4(0.0));
  let infinite = magnitude(x) == vec4(NOT_FINITE);
  let undefined = max(magnitude(x), magnitude(z)) > vec4(NOT_FINITE);
  return select(select(finite, loss, infinite), vec4(params.nan), undefined);
}

fn gradients_of(x: vec4<f32>, z: vec4<f32>, p: f32) -> vec4<f32> {
  var positive = z;
  if POS_WEIGHT {
    positive *= p;
  }
  let e = exp(-abs(x));
  let reciprocal = 1.0 / (1.0 + e);
  let negative = x < vec4(0.0);
  let near = select(vec4(1.0), e, negative); // of σ(x), which is e^x / (1 + e^x) where x is negative
  let far = select(e, vec4(1.0), negative);  // of σ(−x)
  let gradient = ((1.0 - z) * near - positive * far) * reciprocal;
  let special = max(magnitude(x), magnitude(z)) >= vec4(NOT_FINITE);
  if any(special) {
    return select(gradient, exact_gradients(x, z, positive), special);
  }
  return gradient;
}

// Where x is infinite σ(x) is 0 or 1. An infinite target is that of σ(x) − z without p, and with it makes p · z + 1 − z,
// which PyTorch multiplies σ(x) by, or what comes of it NaN.
fn exact_gradients(x: vec4<f32>, z: vec4<f32>, positive: vec4<f32>) -> vec4<f32> {
  var of_infinite = -z;
  if POS_WEIGHT {
    of_infinite = vec4(params.nan);
  }
  let of_finite = select(1.0 - z, -positive, x < vec4(0.0));
  let gradient = select(of_finite, of_infinite, magnitude(z) == vec4(NOT_FINITE));
  return select(gradient, vec4(params.nan), max(magnitude(x), magnitude(z)) > vec4(NOT_FINITE));
}
