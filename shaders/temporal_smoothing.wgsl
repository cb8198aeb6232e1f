// Exponential smoothing of probabilities over the frames of a video. From the probability p of this frame and s' of the
// frame before, for every class of every pixel:
//
//   s = p + w · (s' − p)    with w = ratio · H / ln C, or of a sigmoid ratio · H / ln 2, and H the entropy of p
//
// So where the network is sure the new frame counts, and where it is not the past does. The state holds s, at least the
// smallest normal number: what is not positive, normal and finite is no past, and s is p.
//
// How little of the past a sure pixel keeps is a matter of small entropies, and a class that this frame rules out is of
// the past alone: H needs a small error relative to itself, which −Σ p ln p has not where p is next to 1. With
// d = x − maximum, and over all classes but the largest R = Σ exp(d) and T = Σ d · exp(d),
//
//   H = ln(1 + R) − T / (1 + R),
//
// where nothing cancels. An invocation owns a group. `statistics` walks its classes once, carries R and T along and
// rescales them whenever the maximum moves; `apply` writes the results, an invocation CLASS_BLOCK planes of one group, so
// that few streams are read and written at a time. `sigmoid` does all of it, with a second logit, 0, beside every one.
//
// As in `softmax.wgsl` a pixel with a NaN, a +Inf or nothing but −Inf is NaN, and −Inf beside a finite logit is 0.
//
// logits, output: [N, C, plane_stride] or [N, H · W, C], state: [N, C, map_groups] of four; maximum, scale, weight:
// [N, groups] of four

@group(0) @binding(5) var<storage, read_write> state: array<vec4<f32>>;

const CLASS_BLOCK: u32 = 8u;
const LOWEST: vec4<f32> = vec4(-0x1.fffffep+127f);
const NEGATIVE_INFINITY: u32 = 0xff800000u;

// w of the entropy H.
fn weight_of_past(entropy: vec4<f32>) -> vec4<f32> {
  return clamp(params.past_weight * entropy, vec4(0.0), vec4(1.0));
}

fn is_past(before: vec4<f32>) -> vec4<bool> {
  let bits = bitcast<vec4<u32>>(before);
  return (bits >= vec4(SMALLEST_NORMAL)) & (bits < vec4(NOT_FINITE));
}

fn smoothed(p: vec4<f32>, before: vec4<f32>, weight: vec4<f32>, past: vec4<bool>) -> vec4<f32> {
  return p + select(vec4(0.0), weight * (before - p), past);
}

// Never 0, and NaN where the probability is.
fn kept(s: vec4<f32>) -> vec4<f32> {
  return select(max(s, vec4(bitcast<f32>(SMALLEST_NORMAL))), s, magnitude(s) > vec4(NOT_FINITE));
}

@group(0) @binding(3) var<storage, read_write> maximum_out: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> scale_out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> weight_out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn statistics(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  var maximum = LOWEST;
  var rest = vec4(-1.0); // R: one class less than there are
  var moment = vec4(0.0); // T
  var undefined = vec4(false);
  var element = place_of(image, group).element;
  for (var c = 0u; c < class_count(); c++) {
    let x = load(element);
    element += plane_stride();
    let special = magnitude(x) >= vec4(NOT_FINITE);
    undefined = undefined | (special & (bitcast<vec4<u32>>(x) != vec4(NEGATIVE_INFINITY)));
    let y = select(x, LOWEST, special);
    let greater = y > maximum;
    let d = max(-abs(y - maximum), FARTHEST);
    let e = select(exp(d), vec4(0.0), special);
    let sum = 1.0 + rest;
    rest = select(rest + e, sum * e, greater);
    moment = select(moment + d * e, e * (moment + d * sum), greater);
    maximum = select(maximum, y, greater);
  }
  // Nothing but −Inf.
  undefined = undefined | (rest < vec4(0.0));
  let scale = 1.0 / (1.0 + rest);
  let logarithm = select(log_1p(rest), log(1.0 + rest), rest > vec4(1.0));
  let pixels = image * group_count() + group;
  maximum_out[pixels] = select(maximum, vec4(params.nan), undefined);
  scale_out[pixels] = scale;
  weight_out[pixels] = weight_of_past(logarithm - moment * scale);
}

@group(0) @binding(3) var<storage, read> maximum_in: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> scale_in: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> weight_in: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn apply(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let index = invocation(workgroup, local);
  let block = index / group_count();
  let group = index - block * group_count();
  let first_class = block * CLASS_BLOCK;
  if first_class >= params.classes {
    return;
  }
  let image = image_of(workgroup);
  let pixels = image * group_count() + group;
  let maximum = maximum_in[pixels];
  let scale = scale_in[pixels];
  let weight = weight_in[pixels];
  let place = place_of(image, group);
  var element = place.element + first_class * plane_stride();
  var out = out_place(image, group) + first_class * out_plane_stride();
  var at = map_at(image * params.classes + first_class, group);
  for (var c = first_class; c < min(first_class + CLASS_BLOCK, params.classes); c++) {
    let p = exact_probability(load(element), maximum, scale);
    let before = state[at];
    let s = smoothed(p, before, weight, is_past(before));
    let stored = kept(s);
    state[at] = stored;
    if PROBABILITIES {
      store(out, s, place.left);
    } else {
      store(out, select(log(stored), s, magnitude(s) > vec4(NOT_FINITE)), place.left);
    }
    element += plane_stride();
    out += out_plane_stride();
    at += params.map.x;
  }
}

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  var element = place.element;
  var out = out_place(image, group);
  var at = map_at(image * class_count(), group);
  for (var c = 0u; c < class_count(); c++) {
    let x = load(element);
    let bits = magnitude(x);
    let d = max(-abs(x), FARTHEST);
    let e = select(exp(d), vec4(0.0), bits >= vec4(NOT_FINITE));
    let larger = select(1.0 / (1.0 + e), vec4(params.nan), bits > vec4(NOT_FINITE));
    let smaller = e * larger;
    let negative = x < vec4(0.0);
    let weight = weight_of_past(log_1p(e) - d * smaller);
    let before = state[at];
    let past = is_past(before);
    let s = smoothed(select(larger, smaller, negative), before, weight, past);
    state[at] = kept(s);
    if PROBABILITIES {
      store(out, s, place.left);
    } else {
      // 1 − s would lose what s is short of 1.
      let t = smoothed(select(smaller, larger, negative), 1.0 - before, weight, past);
      store(out, select(log(kept(s)) - log(kept(t)), s, magnitude(s) > vec4(NOT_FINITE)), place.left);
    }
    element += plane_stride();
    out += out_plane_stride();
    at += params.map.x;
  }
}
