// Which classes are present in a pixel: those whose sigmoid reaches the threshold t of the class, sigmoid(x) ≥ t.
//
// The sigmoid grows with x, so that is x ≥ ln(t / (1 − t)): no exponential is taken. The host rounds that logit up to
// the next f32, and the comparison is one of integers that order floats, which adapters that flush subnormals compare
// exactly as well; −0 and +0 are equal, and NaN is present nowhere.
//
// An invocation owns one group and walks its classes. `bytes` writes a plane of bytes, 0 or 1, for every class; `bits`
// a plane of 32-bit words for every 32 classes, with class c in bit c % 32 of word c / 32.
//
// logits: [N, C, plane_stride] or [N, H · W, C], thresholds: [C], byte_planes: [N, C, map_groups] of four pixels to a
// word, word_planes: [N, ⌈C / 32⌉, map_groups] of four

@group(0) @binding(4) var<storage, read> thresholds: array<i32>; // as `keys` has them
@group(0) @binding(3) var<storage, read_write> byte_planes: array<u32>;
@group(0) @binding(3) var<storage, read_write> word_planes: array<vec4<u32>>;

// Integers that order floats; NaN is below all of them.
fn keys(x: vec4<f32>) -> vec4<i32> {
  let magnitude = bitcast<vec4<i32>>(magnitude(x));
  let key = select(magnitude, -magnitude, bitcast<vec4<i32>>(x) < vec4(0));
  return select(key, vec4(-0x7fffffff), magnitude > vec4(i32(NOT_FINITE)));
}

@compute @workgroup_size(WORKGROUP)
fn bytes(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  var element = place_of(image, group).element;
  var at = map_at(image * class_count(), group);
  for (var c = 0u; c < class_count(); c++) {
    let present = keys(load(element)) >= vec4(thresholds[c]);
    byte_planes[at] = pack_labels(select(vec4(0u), vec4(1u), present));
    element += plane_stride();
    at += params.map.x;
  }
}

@compute @workgroup_size(WORKGROUP)
fn bits(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  var element = place_of(image, group).element;
  var at = map_at(image * ((class_count() + 31u) / 32u), group);
  for (var first = 0u; first < class_count(); first += 32u) {
    var word = vec4(0u);
    for (var c = first; c < min(first + 32u, class_count()); c++) {
      let present = keys(load(element)) >= vec4(thresholds[c]);
      word |= select(vec4(0u), vec4(1u << (c - first)), present);
      element += plane_stride();
    }
    word_planes[at] = word;
    at += params.map.x;
  }
}
