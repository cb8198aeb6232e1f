// Cross-entropy straight from the logits x of a pixel and its target class t, as PyTorch defines it:
//
//   loss = (1 − ε) · w[t] · (log Σ exp(x) − x[t])  +  ε / C · Σ_c w[c] · (log Σ exp(x) − x[c])
//
// with class weights w (1 without) and label smoothing ε (0 without). log Σ exp(x) − x[c] is computed as
// (maximum − x[c]) + log Σ exp(x − maximum): no probability is formed, nothing overflows, nothing underflows to log 0.
// A pixel whose target is the ignore index has loss 0 and weight 0. A target that is neither a class nor the ignore
// index makes the pixel's loss, and every reduction over it, NaN, and its position is reported.
//
// `pixels`: an invocation owns GROUPS groups and leaves one partial sum, which the kernels of
// loss.wgsl add up; with PER_PIXEL it writes the losses too.
//
// logits: [N, C, plane_stride] or [N, H · W, C], targets and losses: [N, map_groups] of four, class_weights: [C],
// partial sums: [N, partials]

// Up to 24 classes an invocation holds all logits of a group. Loops over them come in two: drivers unroll none with too
// much in it, and registers that are indexed in a loop are memory. Where an image is bound in halves, the second loop has
// the far one.
const REGISTERS: u32 = max(CLASSES, 1u);
const HALF: u32 = (REGISTERS + 1u) / 2u;

@group(0) @binding(3) var<storage, read> targets: array<Labels>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;

// The targets of a group.
struct Group {
  classes: vec4<u32>,
  counted: vec4<bool>, // pixels of the row that are not ignored
  invalid: vec4<bool>, // of those, pixels whose target is no class
}

fn group_of(targets_of_group: Labels, left: u32) -> Group {
  let classes = unpack_labels(targets_of_group);
  let ignored = vec4(params.has_ignore_index != 0u) & (classes == vec4(params.ignore_index));
  let counted = (vec4(0u, 1u, 2u, 3u) < vec4(left)) & !ignored;
  return Group(classes, counted, counted & (classes >= vec4(params.classes)));
}

// What the groups of an invocation add up to, lane by lane.
struct Sums {
  loss: vec4<f32>,
  weight: vec4<f32>,
  valid: vec4<u32>,
  first_invalid: vec4<u32>,
}

fn no_sums() -> Sums {
  return Sums(vec4(0.0), vec4(0.0), vec4(0u), vec4(NONE));
}

// With the losses of one more group, whose first pixel is `pixel` of the image.
fn added(sums: Sums, group: Group, group_loss: vec4<f32>, image: u32, pixel: u32) -> Sums {
  var group_weight = vec4(1.0);
  if CLASS_WEIGHTS {
    group_weight = weights_of(group.classes);
  }
  let position = params.first_pixel + image * params.pixels + pixel + vec4(0u, 1u, 2u, 3u);
  return Sums(
    sums.loss + select(vec4(0.0), group_loss, group.counted),
    sums.weight + select(vec4(0.0), group_weight, group.counted),
    sums.valid + select(vec4(0u), vec4(1u), group.counted),
    min(sums.first_invalid, select(vec4(NONE), position, group.invalid)),
  );
}

fn partial_of(sums: Sums) -> Partial {
  let loss = sums.loss;
  let weight = sums.weight;
  let valid = sums.valid;
  let first_invalid = sums.first_invalid;
  return Partial(
    (loss.x + loss.y) + (loss.z + loss.w),
    (weight.x + weight.y) + (weight.z + weight.w),
    (valid.x + valid.y) + (valid.z + valid.w),
    min(min(first_invalid.x, first_invalid.y), min(first_invalid.z, first_invalid.w)),
  );
}

@compute @workgroup_size(WORKGROUP)
fn pixels(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  if position >= params.partials {
    return;
  }
  var sums = no_sums();
  let image = image_of(workgroup);
  if CLASSES != 0u {
    // Behind the last group it is done again, and counts for nothing: a loop without a way out is cheaper.
    var largest = vec4(0u);
    for (var k = 0u; k < GROUPS; k++) {
      let own = own_group(position, local, k, GROUPS);
      let group = min(own, group_count() - 1u);
      let place = place_of(image, group);
      let left = select(0u, place.left, own == group);
      let of_group = group_of(targets[map_at(image, group)], left);
      let known = walk_registers(place.element, of_group.classes);
      largest = max(largest, known.largest);
      sums = with_losses(sums, image, group, place, left, of_group, weighted_losses(known, place.element, of_group.classes));
    }
    if any(largest >= vec4(NOT_FINITE)) {
      // All of them once more, outside of the loop that everybody walks: software adapters walk both ways of a branch.
      sums = no_sums();
      for (var k = 0u; k < GROUPS; k++) {
        let group = own_group(position, local, k, GROUPS);
        if group >= group_count() {
          break;
        }
        let place = place_of(image, group);
        sums = with_group(sums, image, group, place, exact_statistics(place.element));
      }
    }
    partials_out[image * params.partials + position] = packed(partial_of(sums));
    return;
  }
  let touched = touch(image, position, GROUPS);
  for (var k = 0u; k < GROUPS; k += STRIP) {
    let group = own_group(position, local, k, GROUPS) + touched;
    if group >= group_count() {
      break;
    }
    let end = min(group + STRIP, group_count());
    var firsts: array<u32, STRIP>;
    for (var j = 0u; j < STRIP; j++) {
      firsts[j] = place_of(image, min(group + j, group_count() - 1u)).element;
    }
    var strip = strip_statistics(firsts);
    if is_special(strip) {
      for (var g = group; g < end; g++) {
        let place = place_of(image, g);
        sums = with_group(sums, image, g, place, online_statistics(place.element));
      }
      continue;
    }
    for (var j = 0u; j < STRIP; j++) {
      if group + j < end {
        let place = place_of(image, group + j);
        sums = with_group(sums, image, group + j, place, Statistics(strip[j].maximum, strip[j].sum));
      }
    }
  }
  partials_out[image * params.partials + position] = packed(partial_of(sums));
}

// With one more group, of whose logits the statistics are known.
fn with_group(sums: Sums, image: u32, group: u32, place: Place, found: Statistics) -> Sums {
  let of_group = group_of(targets[map_at(image, group)], place.left);
  let classes = of_group.classes;
  let known = Known(found, chosen_of(place.element, classes), vec4(0u));
  return with_losses(sums, image, group, place, place.left, of_group, weighted_losses(known, place.element, classes));
}

// With the losses of one more group, of which `left` pixels count; they are written where they are wanted.
fn with_losses(
  sums: Sums, image: u32, group: u32, place: Place, left: u32, of_group: Group, group_loss: vec4<f32>,
) -> Sums {
  if PER_PIXEL {
    if left > 0u {
      let loss = select(select(vec4(0.0), group_loss, of_group.counted), vec4(params.nan), of_group.invalid);
      losses[map_at(image, group)] = loss;
    }
  }
  return added(sums, of_group, group_loss, image, place.pixel);
}

// What is known of the logits of a group: enough for its losses.
struct Known {
  found: Statistics,
  chosen: vec4<f32>,  // the logits of the target classes
  largest: vec4<u32>, // bits of the largest |x|
}

fn walk_registers(first: u32, classes: vec4<u32>) -> Known {
  let stride = plane_stride();
  var x: array<vec4<f32>, REGISTERS>;
  var maximum = load(first);
  var sum = vec4(0.0);
  var chosen = vec4(0.0);
  var largest = magnitude(maximum);
  var element = first;
  x[0] = maximum;
  for (var c = 1u; c < HALF; c++) {
    element += stride;
    x[c] = load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  for (var c = HALF; c < REGISTERS; c++) {
    element += stride;
    x[c] = far_load(element);
    maximum = max(maximum, x[c]);
    largest = max(largest, magnitude(x[c]));
  }
  for (var c = 0u; c < HALF; c++) {
    chosen = select(chosen, x[c], classes == vec4(c));
    sum += exp(x[c] - maximum);
  }
  for (var c = HALF; c < REGISTERS; c++) {
    chosen = select(chosen, x[c], classes == vec4(c));
    sum += exp(x[c] - maximum);
  }
  return Known(Statistics(maximum, sum), chosen, largest);
}

// The logits of the target classes.
fn chosen_of(first: u32, classes: vec4<u32>) -> vec4<f32> {
  let c = min(classes, vec4(params.classes - 1u));
  let element = first + c * plane_stride() + vec4(0u, 1u, 2u, 3u) * pixel_stride();
  let at = min(element, vec4(params.elements - 1u));
  return vec4(load_one_of(c.x, at.x), load_one_of(c.y, at.y), load_one_of(c.z, at.z), load_one_of(c.w, at.w));
}

// The losses; a class out of range has some loss that the caller leaves out.
fn weighted_losses(known: Known, first: u32, classes: vec4<u32>) -> vec4<f32> {
  let found = known.found;
  let log_sum = log(found.sum);
  var loss = (found.maximum - known.chosen) + log_sum;
  if CLASS_WEIGHTS {
    loss *= weights_of(classes);
  }
  if LABEL_SMOOTHING {
    var others = vec4(0.0);
    var element = first;
    for (var c = 0u; c < class_count(); c++) {
      var other = (found.maximum - load_class(c, element)) + log_sum;
      if CLASS_WEIGHTS {
        other *= class_weights[c];
      }
      others += other;
      element += plane_stride();
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
