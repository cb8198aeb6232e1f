// The class with the largest logit, the first of equals; a NaN counts as larger than everything, as in PyTorch. With
// it, if asked for, the scores of prelude/best.wgsl.
//
// An invocation owns one group and walks its classes. Up to 24 classes the scores take a second walk, which the
// compiler unrolls; above, their sums are carried along.
//
// A comparison of floats loses NaN, and on adapters that flush them subnormals; where a group may hold such values
// its labels are found again by comparing integers.
//
// logits: [N, C, plane_stride] or [N, H · W, C], labels and scores: [N, map_groups] of four

@compute @workgroup_size(WORKGROUP)
fn argmax(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let first = place_of(image, group).element;
  let at = map_at(image, group);
  let stride = plane_stride();

  var best = first_class(load(first));
  var largest = magnitude(best.maximum); // bits of the largest |x|, which tell whether there are special values
  var element = first;
  for (var c = 1u; c < class_count(); c++) {
    element += stride;
    let x = load(element);
    if CLASSES == 0u {
      best = next_class(best, x, c);
    } else {
      best = next_label(best, x, c, x > best.maximum);
    }
    largest = max(largest, magnitude(x));
  }
  if SCORES && CLASSES != 0u {
    best.sum = vec4(0.0);
    element = first;
    for (var c = 0u; c < class_count(); c++) {
      best = add_term(best, load(element));
      element += stride;
    }
  }

  let special = largest >= vec4(NOT_FINITE);
  if any(special) || any(magnitude(best.maximum) < vec4(SMALLEST_NORMAL)) {
    let exact = exact_best(first);
    best.label = exact.label;
    if SCORES && any(special) {
      best.maximum = select(best.maximum, exact.maximum, special);
      best.second = select(best.second, exact.second, special);
      best.sum = select(best.sum, exact.sum, special);
      best.moment = select(best.moment, exact.moment, special);
    }
  }
  write_best(at, best);
}

fn exact_best(first: u32) -> Best {
  var best = first_class(load(first));
  var top = order4(best.maximum);
  var element = first;
  for (var c = 1u; c < class_count(); c++) {
    element += plane_stride();
    let x = load(element);
    let key = order4(x);
    best = next_label(best, x, c, key > top);
    top = max(top, key);
  }
  if SCORES {
    best.sum = vec4(0.0);
    element = first;
    for (var c = 0u; c < class_count(); c++) {
      best = add_term(best, load(element));
      element += plane_stride();
    }
    best = undefined_scores(best);
  }
  return best;
}
