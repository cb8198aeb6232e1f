// Cross-entropy straight from the logits x of a pixel and soft targets p, a probability for every class, as PyTorch
// defines it:
//
//   loss = Σ_c w[c] · p'[c] · (log Σ exp(x) − x[c])   with p' = (1 − ε) · p + ε / C
//
// with class weights w (1 without) and label smoothing ε (0 without). With the distances d = maximum − x this is
// Σ w p' d + log Σ exp(−d) · Σ w p': one walk for the maximum and one for the sums, and as in cross_entropy.wgsl
// nothing overflows on the way. The targets need be neither in 0..=1 nor sum to 1.
//
// A special value, or an overflow, makes products like 0 · Inf, which is NaN: the probability 0 of a class whose logit
// is −Inf makes the loss NaN, as in PyTorch. Such groups are done again, product by product.
//
// `soft_pixels`: an invocation owns GROUPS groups and leaves one partial sum, which the kernels
// of loss.wgsl add up; with PER_PIXEL it writes the losses too. Every pixel has the weight 1.
//
// logits, soft targets: [N, C, plane_stride] or [N, H · W, C], losses: [N, map_groups] of four, class_weights: [C],
// partial sums: [N, partials]

@group(0) @binding(4) var<storage, read> class_weights: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn soft_pixels(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
    let group_loss = losses_of(place.element, out_place(image, group));
    loss += select(vec4(0.0), group_loss, vec4(0u, 1u, 2u, 3u) < vec4(place.left));
    pixels += min(place.left, 4u);
    if PER_PIXEL {
      losses[map_at(image, group)] = group_loss;
    }
  }
  partials_out[image * params.partials + position] =
    packed(Partial((loss.x + loss.y) + (loss.z + loss.w), f32(pixels), pixels, NONE));
}

fn smoothed(targets: vec4<f32>) -> vec4<f32> {
  if LABEL_SMOOTHING {
    return (1.0 - params.label_smoothing) * targets + params.label_smoothing / f32(params.classes);
  }
  return targets;
}

// The losses of a group whose first class lies at `first`, and that of its targets at `first_target`.
fn losses_of(first: u32, first_target: u32) -> vec4<f32> {
  var maximum = load(first);
  var sum = vec4(0.0);
  var element = first;
  if CLASSES != 0u {
    for (var c = 1u; c < class_count(); c++) {
      element += plane_stride();
      maximum = max(maximum, load(element));
    }
  } else {
    let found = online_statistics(first);
    maximum = found.maximum;
    sum = found.sum;
  }
  var distances = vec4(0.0); // Σ w p' d
  var weights = vec4(0.0);   // Σ w p'
  var largest = vec4(0u);
  element = first;
  var target_element = first_target;
  for (var c = 0u; c < class_count(); c++) {
    let x = load(element);
    let p = load_targets(target_element);
    let d = maximum - x;
    if CLASSES != 0u {
      sum += exp(-d);
    }
    var weight = smoothed(p);
    var distance = d * weight;
    if CLASS_WEIGHTS {
      weight *= class_weights[c];
      distance *= class_weights[c];
    }
    distances += distance;
    weights += weight;
    largest = max(largest, max(magnitude(x), magnitude(p)));
    element += plane_stride();
    target_element += out_plane_stride();
  }
  let loss = distances + log(sum) * weights;
  let special = max(largest, magnitude(loss)) >= vec4(NOT_FINITE);
  if any(special) {
    return select(loss, exact_losses(first, first_target), special);
  }
  return loss;
}

fn exact_losses(first: u32, first_target: u32) -> vec4<f32> {
  let found = exact_statistics(first);
  let log_sum = log(found.sum);
  var loss = vec4(0.0);
  var element = first;
  var target_element = first_target;
  for (var c = 0u; c < params.classes; c++) {
    let p = smoothed(load_targets(target_element));
    let nll = (found.maximum - load(element)) + log_sum;
    var term = select(nll * p, times_infinity(p), magnitude(nll) == vec4(NOT_FINITE));
    if CLASS_WEIGHTS {
      term *= class_weights[c];
    }
    loss += term;
    element += plane_stride();
    target_element += out_plane_stride();
  }
  return loss;
}
