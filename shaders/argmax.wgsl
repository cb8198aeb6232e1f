// The class with the largest logit, the first of equals; a NaN counts as larger than everything, as in PyTorch. With
// it, if asked for, the scores of prelude/best.wgsl.
//
// An invocation owns a group, or several, and walks the classes. Up to 24 classes the scores take a second walk, which
// the compiler unrolls; above, their sums are carried along.
//
// A comparison of floats loses NaN, and on adapters that flush them subnormals; where a group may hold such values
// its labels are found again by comparing integers.
//
// logits: [N, C, plane_stride] or [N, H · W, C], labels and scores: [N, map_groups] of four

// Groups of an invocation: one; above 24 classes, where the planes are many streams of memory, a few neighbours.
const OWN: u32 = 1u + u32(ADJACENT && CLASSES == 0u) * (3u + 4u * u32(!SCORES));

@compute @workgroup_size(WORKGROUP)
fn argmax(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  var first_group = position * OWN;
  if first_group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  if OWN == 1u {
    write_best(map_at(image, first_group), best_of(place_of(image, first_group).element));
    return;
  }
  first_group += touch(image, position, OWN);
  var firsts: array<u32, OWN>;
  var best: array<Best, OWN>;
  var largest = vec4(0u);
  for (var k = 0u; k < OWN; k++) {
    firsts[k] = place_of(image, min(first_group + k, group_count() - 1u)).element;
    best[k] = first_class(load(firsts[k]));
    largest = max(largest, magnitude(best[k].maximum));
  }
  let stride = plane_stride();
  var plane = stride;
  for (var c = 1u; c < near_classes(); c++) {
    for (var k = 0u; k < OWN; k++) {
      let x = load(firsts[k] + plane);
      best[k] = next_class(best[k], x, c);
      largest = max(largest, magnitude(x));
    }
    plane += stride;
  }
  if HALVES {
    for (var c = near_classes(); c < class_count(); c++) {
      for (var k = 0u; k < OWN; k++) {
        let x = far_load(firsts[k] + plane);
        best[k] = next_class(best[k], x, c);
        largest = max(largest, magnitude(x));
      }
      plane += stride;
    }
  }
  var dubious = any(largest >= vec4(NOT_FINITE));
  for (var k = 0u; k < OWN; k++) {
    dubious = dubious || any(magnitude(best[k].maximum) < vec4(SMALLEST_NORMAL));
  }
  if !dubious {
    for (var k = 0u; k < OWN; k++) {
      if first_group + k < group_count() {
        write_best(map_at(image, first_group + k), best[k]);
      }
    }
    return;
  }
  // One by one, in a loop that no compiler unrolls: software adapters walk both ways of a branch.
  let end = min(first_group + OWN, group_count());
  for (var group = first_group; group < end; group++) {
    write_best(map_at(image, group), best_of(place_of(image, group).element));
  }
}

fn best_of(first: u32) -> Best {
  let stride = plane_stride();
  var best = first_class(load(first));
  var largest = magnitude(best.maximum); // bits of the largest |x|, which tell whether there are special values
  var element = first;
  for (var c = 1u; c < near_classes(); c++) {
    element += stride;
    let x = load(element);
    best = next_of_walk(best, x, c);
    largest = max(largest, magnitude(x));
  }
  if HALVES {
    for (var c = near_classes(); c < class_count(); c++) {
      element += stride;
      let x = far_load(element);
      best = next_of_walk(best, x, c);
      largest = max(largest, magnitude(x));
    }
  }
  if SCORES && CLASSES != 0u {
    best.sum = vec4(0.0);
    var element = first;
    for (var c = 0u; c < near_classes(); c++) {
      best = add_term(best, load(element));
      element += stride;
    }
    if HALVES {
      for (var c = near_classes(); c < class_count(); c++) {
        best = add_term(best, far_load(element));
        element += stride;
      }
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
  return best;
}

fn next_of_walk(best: Best, x: vec4<f32>, c: u32) -> Best {
  if CLASSES == 0u {
    return next_class(best, x, c);
  }
  return next_label(best, x, c, x > best.maximum);
}

// The class count is read, not compiled in; see prelude/statistics.wgsl.
fn exact_best(first: u32) -> Best {
  var best = first_class(load(first));
  var top = order4(best.maximum);
  var element = first;
  for (var c = 1u; c < params.classes; c++) {
    element += plane_stride();
    let x = load_class(c, element);
    let key = order4(x);
    best = next_label(best, x, c, key > top);
    top = max(top, key);
  }
  if SCORES {
    best.sum = vec4(0.0);
    element = first;
    for (var c = 0u; c < params.classes; c++) {
      best = add_term(best, load_class(c, element));
      element += plane_stride();
    }
    best = undefined_scores(best);
  }
  return best;
}
