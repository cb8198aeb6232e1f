// Focal loss (Lin et al. 2017, https://arxiv.org/abs/1708.02002) straight from logits: a cross-entropy that counts less
// the surer a prediction is of its target.
//
// `pixels`, of the softmax p of a pixel and its target class t: α · (1 − p[t])^γ · −log p[t]. With q = 1 − p[t], the
// derivative by a logit is α · q^γ · (γ · p[t] · log p[t] / q − 1) · ([c = t] − p[c]). q is the sum of the other classes,
// so that nothing of it cancels.
//
// `elements`, of the sigmoid p of an element and its target z, as sigmoid_focal_loss of torchvision:
// α' · q^γ · (binary cross-entropy) with q = p · (1 − z) + (1 − p) · z and α' = α · z + (1 − α) · (1 − z) (1 without α). The
// derivative by the logit is α' · q^γ · (p − z + γ · (1 − 2 z) · p · (1 − p) / q · (binary cross-entropy)).
//
// Both leave partial sums, which the kernels of loss.wgsl add up; `pixel_gradient` and `element_gradient` write the
// gradient once the total weight is known. Ignored and invalid targets are as in cross_entropy.wgsl.
//
// logits, soft targets, output (the gradient, or the losses of elements): [N, C, rows, row_pixels] with strides,
// targets and losses: [N, map_groups] of four, partial sums: [N, partials], total: [1]

@group(0) @binding(3) var<storage, read> targets: array<Labels>;
@group(0) @binding(7) var<storage, read> total_in: array<vec4<u32>>;

// q^γ
fn modulated(q: vec4<f32>) -> vec4<f32> {
  let power = exp2(params.gamma * log2(q));
  let at_0 = select(0.0, 1.0, params.gamma == 0.0);
  return select(power, vec4(at_0), q == vec4(0.0));
}

// What the gradient of the sum is multiplied by.
fn share() -> f32 {
  if params.reduction == 0u {
    return 1.0;
  }
  let weight = unpacked(total_in[0]).weight;
  return select(1.0 / weight, params.nan, weight == 0.0);
}

struct Focal {
  loss: vec4<f32>,
  factor: vec4<f32>, // the derivative by log p[t]
  rest: vec4<f32>,   // 1 − p[t]
  found: Statistics,
}

// A class out of range has some loss that the caller leaves out.
fn focal_of(first: u32, classes: vec4<u32>) -> Focal {
  let found = online_statistics(first);
  var others = vec4(0.0);
  var chosen = vec4(0.0);
  var element = first;
  for (var c = 0u; c < params.classes; c++) {
    let x = load(element);
    let of_class = classes == vec4(c);
    chosen = select(chosen, x, of_class);
    others += select(exact_probability(x, found.maximum, vec4(1.0)), vec4(0.0), of_class);
    element += plane_stride();
  }
  let undefined = magnitude(found.maximum) >= vec4(NOT_FINITE);
  let e = exact_probability(chosen, found.maximum, vec4(1.0));
  // The target is the likeliest class, or the logarithm is not small.
  let by_others = log_1p(min(others, vec4(1.0)));
  let nll = select((found.maximum - chosen) + log(found.sum), by_others, (e == vec4(1.0)) & (others <= vec4(1.0)));
  let q = others / found.sum;
  let p = e / found.sum;
  let power = params.alpha * modulated(q);
  // −log p / q is 1 where both are 0; 0 · log 0 is 0.
  let ratio = select(nll / q, vec4(1.0), q == vec4(0.0));
  let weighted = select(params.gamma * p * ratio, vec4(0.0), p == vec4(0.0));
  let infinite = magnitude(chosen) >= vec4(NOT_FINITE);
  let loss = select(power * nll, vec4(params.alpha * params.infinity), infinite);
  let factor = -power * (weighted + 1.0);
  return Focal(select(loss, vec4(params.nan), undefined), select(factor, vec4(params.nan), undefined), q, found);
}

struct Group {
  classes: vec4<u32>,
  counted: vec4<bool>,
  invalid: vec4<bool>,
}

fn group_of(at: u32, left: u32) -> Group {
  let classes = unpack_labels(targets[at]);
  let ignored = vec4(params.has_ignore_index != 0u) & (classes == vec4(params.ignore_index));
  let counted = (vec4(0u, 1u, 2u, 3u) < vec4(left)) & !ignored;
  return Group(classes, counted, counted & (classes >= vec4(params.classes)));
}

@compute @workgroup_size(WORKGROUP)
fn pixels(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var loss = vec4(0.0);
  var valid = vec4(0u);
  var first_invalid = vec4(NONE);
  let image = image_of(workgroup);
  for (var k = 0u; k < GROUPS; k++) {
    let group = own_group(position, local, k, GROUPS);
    if group >= group_count() {
      break;
    }
    let at = map_at(image, group);
    let place = place_of(image, group);
    let targets = group_of(at, place.left);
    let of_group = focal_of(place.element, targets.classes).loss;
    loss += select(vec4(0.0), of_group, targets.counted);
    valid += select(vec4(0u), vec4(1u), targets.counted);
    let pixel = params.first_pixel + image * params.pixels + place.pixel + vec4(0u, 1u, 2u, 3u);
    first_invalid = min(first_invalid, select(vec4(NONE), pixel, targets.invalid));
    if PER_PIXEL {
      losses[at] = select(select(vec4(0.0), of_group, targets.counted), vec4(params.nan), targets.invalid);
    }
  }
  let counted = (valid.x + valid.y) + (valid.z + valid.w);
  partials_out[image * params.partials + position] = packed(Partial(
    (loss.x + loss.y) + (loss.z + loss.w),
    f32(counted),
    counted,
    min(min(first_invalid.x, first_invalid.y), min(first_invalid.z, first_invalid.w)),
  ));
}

@compute @workgroup_size(WORKGROUP)
fn pixel_gradient(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  let targets = group_of(map_at(image, group), place.left);
  let focal = focal_of(place.element, targets.classes);
  let factor = select(focal.factor * share(), vec4(params.nan), targets.invalid);
  let scale = 1.0 / focal.found.sum;
  var element = place.element;
  var out = out_place(image, group);
  for (var c = 0u; c < params.classes; c++) {
    let p = exact_probability(load(element), focal.found.maximum, scale);
    let by_logit = factor * select(-p, focal.rest, targets.classes == vec4(c));
    store(out, select(vec4(0.0), by_logit, targets.counted), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}

// The loss of elements and its derivative by the logit.
struct Elements {
  loss: vec4<f32>,
  by_logit: vec4<f32>,
}

fn elements_of(x: vec4<f32>, z: vec4<f32>) -> Elements {
  let e = exp(-abs(x));
  let large = 1.0 / (1.0 + e); // the probability of the likelier side
  let small = e / (1.0 + e);
  let negative = x < vec4(0.0);
  let p = select(large, small, negative);
  let rest = select(small, large, negative);
  let entropy = log_1p(e) + select((1.0 - z) * x, -z * x, negative);
  let q = p * (1.0 - z) + rest * z;
  var power = modulated(q);
  if params.alpha >= 0.0 {
    power *= params.alpha * z + (1.0 - params.alpha) * (1.0 - z);
  }
  let slope = select(p * rest / q, vec4(0.0), q == vec4(0.0));
  let by_logit = power * (p * (1.0 - z) - rest * z + params.gamma * (1.0 - 2.0 * z) * slope * entropy);
  let loss = power * entropy;
  // (1 − z) · x − log sigmoid(x) is infinite where +Inf is wrong, and else NaN.
  let infinite = select(power * times_infinity(1.0 - z), vec4(params.nan), negative);
  let special = magnitude(x) >= vec4(NOT_FINITE);
  let undefined = (magnitude(x) > vec4(NOT_FINITE)) | (magnitude(z) >= vec4(NOT_FINITE));
  return Elements(
    select(select(loss, infinite, special), vec4(params.nan), undefined),
    select(by_logit, vec4(params.nan), special | undefined),
  );
}

@compute @workgroup_size(WORKGROUP)
fn elements(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var loss = vec4(0.0);
  var pixels = 0u;
  let image = image_of(workgroup);
  for (var k = 0u; k < GROUPS; k++) {
    let group = own_group(position, local, k, GROUPS);
    if group >= group_count() {
      break;
    }
    let place = place_of(image, group);
    var element = place.element;
    var out = out_place(image, group);
    var of_classes = vec4(0.0);
    for (var c = 0u; c < params.classes; c++) {
      let of_class = elements_of(load(element), load_targets(out)).loss;
      of_classes += of_class;
      if PER_ELEMENT {
        store(out, of_class, place.left);
      }
      element += plane_stride();
      out += out_plane_stride();
    }
    loss += select(vec4(0.0), of_classes, vec4(0u, 1u, 2u, 3u) < vec4(place.left));
    pixels += min(place.left, 4u);
  }
  partials_out[image * params.partials + position] =
    packed(Partial((loss.x + loss.y) + (loss.z + loss.w), f32(pixels) * f32(params.classes), pixels, NONE));
}

@compute @workgroup_size(WORKGROUP)
fn element_gradient(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  var element = place.element;
  var out = out_place(image, group);
  let scale = share();
  for (var c = 0u; c < params.classes; c++) {
    store(out, scale * elements_of(load(element), load_targets(out)).by_logit, place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}
