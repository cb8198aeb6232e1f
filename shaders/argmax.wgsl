// The class with the largest logit, the first of equals; a NaN counts as larger than everything, as in PyTorch. With
// it, if asked for, the confidence: the softmax probability of that class, 1 / Σ exp(x − maximum).
//
// An invocation owns one group and walks its classes. Up to 24 classes the confidence takes a second walk, which the
// compiler unrolls; above, the sum is carried along and rescaled whenever the maximum moves.
//
// A comparison of floats loses NaN, and on adapters that flush them subnormals; where a group may hold such values
// its labels are found again by comparing integers.
//
// logits: [N, C, plane_stride], labels and confidence: [N, map_stride]

@group(0) @binding(3) var<storage, read_write> labels: array<Labels>;
@group(0) @binding(4) var<storage, read_write> confidence: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn argmax(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = invocation(workgroup, local);
  if group >= (params.pixels + 3u) / 4u {
    return;
  }
  let first = workgroup.z * params.image_stride + group * 4u;

  var maximum = load(first);
  var label = vec4(0u);
  var largest = magnitude(maximum); // bits of the largest |x|, which tell whether there are special values
  var sum = vec4(1.0);
  var element = first;
  for (var c = 1u; c < class_count(); c++) {
    element += params.plane_stride;
    let x = load(element);
    let greater = x > maximum;
    label = select(label, vec4(c), greater);
    if CONFIDENCE && CLASSES == 0u {
      let e = exp(-abs(x - maximum));
      sum = select(sum + e, sum * e + 1.0, greater);
    }
    maximum = select(maximum, x, greater);
    largest = max(largest, magnitude(x));
  }
  if CONFIDENCE && CLASSES != 0u {
    sum = vec4(0.0);
    element = first;
    for (var c = 0u; c < class_count(); c++) {
      sum += exp(load(element) - maximum);
      element += params.plane_stride;
    }
  }

  var probability = 1.0 / sum;
  if any(largest >= vec4(NOT_FINITE)) || any(magnitude(maximum) < vec4(SMALLEST_NORMAL)) {
    label = exact_labels(first);
    let special = largest >= vec4(NOT_FINITE);
    if CONFIDENCE && any(special) {
      let exact = exact_statistics(first);
      let certain = exact_probability(exact.maximum, exact.maximum, 1.0 / exact.sum);
      probability = select(probability, certain, special);
    }
  }
  let at = (workgroup.z * params.map_stride) / 4u + group;
  labels[at] = pack_labels(label);
  if CONFIDENCE {
    confidence[at] = probability;
  }
}

fn exact_labels(first: u32) -> vec4<u32> {
  var label = vec4(0u);
  var maximum = order4(load(first));
  var element = first;
  for (var c = 1u; c < class_count(); c++) {
    element += params.plane_stride;
    let x = order4(load(element));
    label = select(label, vec4(c), x > maximum);
    maximum = max(maximum, x);
  }
  return label;
}
