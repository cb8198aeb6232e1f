// The K classes with the largest logits, best first: the smaller class first of equals, a NaN larger than everything.
// With them, if asked for, their softmax probabilities exp(x − maximum) / Σ exp(x − maximum).
//
// An invocation owns one group and walks its classes once. It keeps the K best so far, sorted, and puts each class into
// its place among them: it goes behind its equals, so that the first stay in front. The places are walked upwards,
// which drivers unroll, so that all stay in registers. Logits are kept as the integers of `order`, which lose neither
// NaN nor subnormals and give the logit back. The sum is carried along and rescaled whenever the maximum moves; special
// values add nothing to it.
//
// logits: [N, C, plane_stride] or [N, H · W, C], labels and probabilities: [N, K, map_groups] of four, of which the
// maps from first_map on are bound and `maps` of them are written

@group(0) @binding(4) var<storage, read_write> probabilities: array<vec4<f32>>;

// Below the order of every float.
const NOTHING: i32 = -0x7fffffff;
const LOWEST: vec4<f32> = vec4(-0x1.fffffep+127f);

@compute @workgroup_size(WORKGROUP)
fn top_k(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  var element = place_of(image, group).element;

  var keys: array<vec4<i32>, TOP_K>;
  var classes: array<vec4<u32>, TOP_K>;
  for (var j = 0u; j < TOP_K; j++) {
    keys[j] = vec4(NOTHING);
  }
  var maximum = LOWEST; // of the finite logits
  var sum = vec4(0.0);
  for (var c = 0u; c < class_count(); c++) {
    let x = load(element);
    element += plane_stride();
    let key = order4(x);
    // What goes into place j: the class itself, or what it pushed out of the place before.
    var next_key = key;
    var next_class = vec4(c);
    for (var j = 0u; j < TOP_K; j++) {
      let larger = key > keys[j];
      let pushed_key = min(keys[j], next_key);
      keys[j] = max(keys[j], next_key);
      next_key = pushed_key;
      let pushed_class = select(next_class, classes[j], larger);
      classes[j] = select(classes[j], next_class, larger);
      next_class = pushed_class;
    }
    if PROBABILITIES {
      let special = magnitude(x) >= vec4(NOT_FINITE);
      let y = select(x, LOWEST, special);
      let greater = y > maximum;
      let e = exp(-abs(y - maximum));
      sum = select(sum + select(e, vec4(0.0), special), sum * e + 1.0, greater);
      maximum = select(maximum, y, greater);
    }
  }

  // A NaN, a +Inf or nothing but −Inf on top leave no softmax.
  let undefined = abs(keys[0]) >= vec4(i32(NOT_FINITE));
  for (var j = 0u; j < TOP_K; j++) {
    // The maps that are not bound now are written by another dispatch.
    if j < params.first_map || j >= params.first_map + params.maps {
      continue;
    }
    let at = map_at(image * params.top_k + j - params.first_map, group);
    labels[at] = pack_labels(classes[j]);
    if PROBABILITIES {
      let x = float4(keys[j]);
      let p = select(exp(x - maximum) / sum, vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
      probabilities[at] = select(p, vec4(params.nan), undefined);
    }
  }
}

// The numbers that `order4` made these keys of, −0 as +0.
fn float4(key: vec4<i32>) -> vec4<f32> {
  let negative = bitcast<vec4<u32>>(-key) | vec4(0x80000000u);
  return bitcast<vec4<f32>>(select(bitcast<vec4<u32>>(key), negative, key < vec4(0)));
}
