// Softmax over the classes: exp(x − maximum) / Σ exp(x − maximum) for every pixel; subtracting the maximum keeps the
// exponential from overflowing and changes nothing else.
//
// Two shapes of kernel. `registers`, for up to 24 classes, a constant: an invocation holds all logits of its group,
// reads them once and writes them once. Above, `statistics` finds maximum and 1 / Σ of every pixel, and `apply` reads
// the logits again and writes the probabilities, an invocation CLASS_BLOCK planes of one group, so that few streams
// are written at a time.
//
// As in PyTorch a pixel with a NaN, a +Inf or nothing but −Inf is NaN in every class, and −Inf beside a finite logit
// has the probability 0.
//
// logits, output: [N, C, plane_stride], maximum and scale: [N, map_stride]

const REGISTERS: u32 = max(CLASSES, 1u);
const CLASS_BLOCK: u32 = 8u;

@compute @workgroup_size(WORKGROUP)
fn registers(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = invocation(workgroup, local);
  if group >= (params.pixels + 3u) / 4u {
    return;
  }
  let first = workgroup.z * params.image_stride + group * 4u;
  let pixels = params.pixels - group * 4u;
  let stride = params.plane_stride;
  var x: array<vec4<f32>, REGISTERS>;
  var maximum = load(first);
  var largest = magnitude(maximum);
  var element = first;
  x[0] = maximum;
  for (var c = 1u; c < REGISTERS; c++) {
    element += stride;
    x[c] = load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  element = first;
  if any(largest >= vec4(NOT_FINITE)) {
    let exact = exact_statistics(first);
    for (var c = 0u; c < class_count(); c++) {
      store(element, exact_probability(load(element), exact.maximum, 1.0 / exact.sum), pixels);
      element += stride;
    }
    return;
  }
  var sum = vec4(0.0);
  for (var c = 0u; c < REGISTERS; c++) {
    x[c] = exp(x[c] - maximum);
    sum += x[c];
  }
  let scale = 1.0 / sum;
  for (var c = 0u; c < REGISTERS; c++) {
    store(element, x[c] * scale, pixels);
    element += stride;
  }
}

@group(0) @binding(3) var<storage, read_write> maximum_out: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> scale_out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn statistics(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = invocation(workgroup, local);
  if group >= (params.pixels + 3u) / 4u {
    return;
  }
  let found = online_statistics(workgroup.z * params.image_stride + group * 4u);
  let at = (workgroup.z * params.map_stride) / 4u + group;
  maximum_out[at] = found.maximum;
  scale_out[at] = 1.0 / found.sum;
}

@group(0) @binding(3) var<storage, read> maximum_in: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> scale_in: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn apply(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let groups = (params.pixels + 3u) / 4u;
  let index = invocation(workgroup, local);
  let block = index / groups;
  let group = index - block * groups;
  let c = block * CLASS_BLOCK;
  if c >= params.classes {
    return;
  }
  let at = (workgroup.z * params.map_stride) / 4u + group;
  let maximum = maximum_in[at];
  let scale = scale_in[at];
  let undefined = any(magnitude(maximum) >= vec4(NOT_FINITE));
  let pixels = params.pixels - group * 4u;
  var element = workgroup.z * params.image_stride + c * params.plane_stride + group * 4u;
  for (var k = c; k < min(c + CLASS_BLOCK, params.classes); k++) {
    let x = load(element);
    var y = exp(x - maximum) * scale;
    if undefined || any(magnitude(x) >= vec4(NOT_FINITE)) {
      y = exact_probability(x, maximum, scale);
    }
    store(element, y, pixels);
    element += params.plane_stride;
  }
}
