// Cross-entropy straight from the logits x of a pixel and its target class t, as PyTorch defines it:
//
//   loss = (1 − ε) · w[t] · (log Σ exp(x) − x[t])  +  ε / C · Σ_c w[c] · (log Σ exp(x) − x[c])
//
// with class weights w (1 without) and label smoothing ε (0 without). log Σ exp(x) − x[c] is computed as
// (maximum − x[c]) + log Σ exp(x − maximum): no probability is formed, nothing overflows, nothing underflows to log 0.
// A pixel whose target is the ignore index has loss 0 and weight 0. A target that is neither a class nor the ignore
// index makes the pixel's loss, and every reduction over it, NaN, and its position is reported.
//
// `pixels`: an invocation owns GROUPS groups a workgroup apart and leaves one partial sum, which the kernels of
// loss.wgsl add up; with PER_PIXEL it writes the losses too.
//
// logits: [N, C, plane_stride] or [N, H · W, C], targets and losses: [N, map_groups] of four, class_weights: [C],
// partial sums: [N, partials]

@group(0) @binding(3) var<storage, read> targets: array<Labels>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn pixels(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var loss = vec4(0.0);
  var weight = vec4(0.0);
  var valid = vec4(0u);
  var first_invalid = vec4(NONE);
  let image = image_of(workgroup);
  let first_group = (position - local) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first_group + k * WORKGROUP;
    if group >= group_count() {
      break;
    }
    let at = map_at(image, group);
    let place = place_of(image, group);
    let classes = unpack_labels(targets[at]);
    let lane = vec4(0u, 1u, 2u, 3u);
    let ignored = vec4(params.has_ignore_index != 0u) & (classes == vec4(params.ignore_index));
    let counted = (lane < vec4(place.left)) & !ignored;
    let invalid = counted & (classes >= vec4(params.classes));

    let group_loss = losses_of(place.element, classes);
    var group_weight = vec4(1.0);
    if CLASS_WEIGHTS {
      group_weight = weights_of(classes);
    }
    loss += select(vec4(0.0), group_loss, counted);
    weight += select(vec4(0.0), group_weight, counted);
    valid += select(vec4(0u), vec4(1u), counted);
    let image_position = params.first_pixel + image * params.pixels + place.pixel + lane;
    first_invalid = min(first_invalid, select(vec4(NONE), image_position, invalid));
    if PER_PIXEL {
      losses[at] = select(select(vec4(0.0), group_loss, counted), vec4(params.nan), invalid);
    }
  }
  partials_out[image * params.partials + position] = Partial(
    (loss.x + loss.y) + (loss.z + loss.w),
    (weight.x + weight.y) + (weight.z + weight.w),
    (valid.x + valid.y) + (valid.z + valid.w),
    min(min(first_invalid.x, first_invalid.y), min(first_invalid.z, first_invalid.w)),
  );
}

// The losses of a group; a class out of range has some loss that the caller leaves out.
fn losses_of(first: u32, classes: vec4<u32>) -> vec4<f32> {
  let stride = plane_stride();
  var maximum = load(first);
  var sum = vec4(0.0);
  var chosen = vec4(0.0);
  if CLASSES != 0u {
    var largest = magnitude(maximum);
    var element = first;
    for (var c = 1u; c < class_count(); c++) {
      element += stride;
      let x = load(element);
      maximum = max(maximum, x);
      largest = max(largest, magnitude(x));
    }
    element = first;
    for (var c = 0u; c < class_count(); c++) {
      let x = load(element);
      sum += exp(x - maximum);
      chosen = select(chosen, x, classes == vec4(c));
      element += stride;
    }
    let special = largest >= vec4(NOT_FINITE);
    if any(special) {
      let exact = exact_statistics(first);
      maximum = select(maximum, exact.maximum, special);
      sum = select(sum, exact.sum, special);
    }
  } else {
    let found = online_statistics(first);
    maximum = found.maximum;
    sum = found.sum;
    let element = first + min(classes, vec4(params.classes - 1u)) * stride + vec4(0u, 1u, 2u, 3u) * pixel_stride();
    let inside = min(element, vec4(params.elements - 1u));
    chosen = vec4(load_one(inside.x), load_one(inside.y), load_one(inside.z), load_one(inside.w));
  }
  let log_sum = log(sum);
  var loss = (maximum - chosen) + log_sum;
  if CLASS_WEIGHTS {
    loss *= weights_of(classes);
  }
  if LABEL_SMOOTHING {
    var others = vec4(0.0);
    var element = first;
    for (var c = 0u; c < class_count(); c++) {
      var other = (maximum - load(element)) + log_sum;
      if CLASS_WEIGHTS {
        other *= class_weights[c];
      }
      others += other;
      element += stride;
    }
    let e = params.label_smoothing;
    loss = (1.0 - e) * loss + e / f32(params.classes) * others;
  }
  return loss;
}

fn weights_of(classes: vec4<u32>) -> vec4<f32> {
  let at = min(classes, vec4(params.classes - 1u));
  return vec4(class_weights[at.x], class_weights[at.y], class_weights[at.z], class_weights[at.w]);
}
