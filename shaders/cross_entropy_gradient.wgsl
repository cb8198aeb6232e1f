// The gradient of cross-entropy with respect to the logits, beside the loss of cross_entropy.wgsl, which stands in front.
// With p = softmax(x) and the total weight D of the mean (1 for the sum), for a pixel with the target class t:
//
//   gradient[c] = ((1 − ε) · w[t] · (p[c] − [c = t])  +  ε / C · (p[c] · Σ w − w[c])) / D
//
// and 0 for a pixel that is ignored, whatever its logits. It is NaN where the softmax is, where the target is no class,
// and where D is 0.
//
// D must be known before a gradient is written. `weights` sums it up from the targets alone, a small part of what the
// logits are; `gradients` then does the rest in one walk through the logits where their exponentials fit registers.
// Both leave partial sums as `pixels` does.
//
// output (the gradient): as the logits, total: [1]

const REGISTERS: u32 = max(CLASSES, 1u);

@compute @workgroup_size(WORKGROUP)
fn weights(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var sums = no_sums();
  let image = image_of(workgroup);
  let first_group = (position - local) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first_group + k * WORKGROUP;
    if group >= group_count() {
      break;
    }
    let place = place_of(image, group);
    let of_group = group_of(targets[map_at(image, group)], place.left);
    sums = added(sums, of_group, vec4(0.0), image, place.pixel);
  }
  partials_out[image * params.partials + position] = partial_of(sums);
}

@compute @workgroup_size(WORKGROUP)
fn gradients(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  let scale = gradient_scale();
  let smoothing = smoothing_of(scale);
  var sums = no_sums();
  let image = image_of(workgroup);
  let first_group = (position - local) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first_group + k * WORKGROUP;
    if group >= group_count() {
      break;
    }
    let place = place_of(image, group);
    let of_group = group_of(targets[map_at(image, group)], place.left);
    var share = vec4(scale);
    if CLASS_WEIGHTS {
      share *= weights_of(of_group.classes);
    }
    share = select(share, vec4(params.nan), of_group.invalid);
    let group_loss = write_gradient(place, out_place(image, group), of_group, share, smoothing);
    sums = added(sums, of_group, group_loss, image, place.pixel);
  }
  partials_out[image * params.partials + position] = partial_of(sums);
}

// What label smoothing adds to a gradient.
struct Smoothing {
  each: f32, // ε / C / D, to be multiplied by the weight of a class
  all: f32,  // the sum of that over the classes
}

fn smoothing_of(scale: f32) -> Smoothing {
  if !LABEL_SMOOTHING {
    return Smoothing(0.0, 0.0);
  }
  let each = params.label_smoothing / f32(params.classes) * scale;
  var all = 0.0;
  for (var c = 0u; c < class_count(); c++) {
    all += weight_of(c);
  }
  return Smoothing(each, each * all);
}

fn weight_of(c: u32) -> f32 {
  if CLASS_WEIGHTS {
    return class_weights[c];
  }
  return 1.0;
}

// Writes the gradient of a group and returns its losses; `share` is w[t] / D.
fn write_gradient(place: Place, first_out: u32, group: Group, share: vec4<f32>, smoothing: Smoothing) -> vec4<f32> {
  let first = place.element;
  let stride = plane_stride();
  var found: Statistics;
  var exponentials: array<vec4<f32>, REGISTERS>;
  var element = first;
  if CLASSES != 0u {
    var maximum = load(first);
    var largest = magnitude(maximum);
    exponentials[0] = maximum;
    for (var c = 1u; c < REGISTERS; c++) {
      element += stride;
      let x = load(element);
      exponentials[c] = x;
      maximum = max(maximum, x);
      largest = max(largest, magnitude(x));
    }
    var sum = vec4(0.0);
    for (var c = 0u; c < REGISTERS; c++) {
      exponentials[c] = exp(exponentials[c] - maximum);
      sum += exponentials[c];
    }
    found = Statistics(maximum, sum);
    let special = largest >= vec4(NOT_FINITE);
    if any(special) {
      let exact = exact_statistics(first);
      found = Statistics(select(maximum, exact.maximum, special), select(sum, exact.sum, special));
      element = first;
      for (var c = 0u; c < REGISTERS; c++) {
        exponentials[c] = exact_probability(load(element), found.maximum, vec4(1.0));
        element += stride;
      }
    }
  } else {
    found = online_statistics(first);
  }

  var of_target = share;
  var of_all = share;
  if LABEL_SMOOTHING {
    of_target *= 1.0 - params.label_smoothing;
    of_all = of_target + smoothing.all;
  }
  let factor = of_all / found.sum;
  element = first;
  var out = first_out;
  for (var c = 0u; c < class_count(); c++) {
    var e: vec4<f32>;
    if CLASSES != 0u {
      e = exponentials[c];
    } else {
      e = exact_probability(load(element), found.maximum, vec4(1.0));
      element += stride;
    }
    var gradient = e * factor - select(vec4(0.0), of_target, group.classes == vec4(c));
    if LABEL_SMOOTHING {
      gradient -= smoothing.each * weight_of(c);
    }
    store(out, select(vec4(0.0), gradient, group.counted), place.left);
    out += out_plane_stride();
  }
  return weighted_losses(found, chosen_of(first, group.classes), first, group.classes);
}
