// What is in a tensor that should be logits: per class the range and the special values, along every axis how many sums
// are 1, and along which axis neighbours differ most. All of it is counted in integers, so the result does not depend on
// any order: an invocation counts over many groups, then adds to the record with a few atomics.
//
// `lanes` invocations share the groups of an image: invocation i takes the groups i, i + lanes, i + 2 · lanes, …
//
// `clear` zeroes the record. `classes`: an invocation owns a lane of one class. `sums`: a lane, and walks along the axis,
// which is the class axis of the view that it gets; where nothing is positive a second walk adds the exponentials.
// `rows`: sums of rows in memory, a row for a group. `neighbours`: of every element with a neighbour in all three
// directions, finite ones, which of them is farthest away in value; no vote where two are.
//
// A minimum and a maximum are keys: unsigned integers that order floats by value, complemented for the minimum, so
// that both grow from 0, which stands for no finite value.
//
// logits: [N, C, plane_stride] or [N, H · W, C], record: for the axes class, height and width [finite sums, sums that
// are 1, exponentials that sum to 1], then votes for [class, height, width], then [C] of
// [maximum, minimum, NaN, +Inf, −Inf, negative, within 0..=1]

const FINITE: u32 = 0u;
const ONES: u32 = 1u;
const EXPONENTIALS: u32 = 2u;
const VOTES: u32 = 9u;
const HEADER: u32 = 12u;
const CLASS_WORDS: u32 = 7u;

@group(0) @binding(6) var<storage, read_write> record: array<atomic<u32>>;

const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);

fn ones_of(which: vec4<bool>) -> vec4<u32> {
  return select(vec4(0u), vec4(1u), which);
}

fn add(word: u32, counts: vec4<u32>) {
  let count = (counts.x + counts.y) + (counts.z + counts.w);
  if count != 0u {
    atomicAdd(&record[word], count);
  }
}

fn raise(word: u32, keys: vec4<u32>) {
  let key = max(max(keys.x, keys.y), max(keys.z, keys.w));
  if key != 0u {
    atomicMax(&record[word], key);
  }
}

fn is_one(sum: vec4<f32>) -> vec4<bool> {
  return abs(sum - 1.0) <= vec4(params.tolerance);
}

@compute @workgroup_size(WORKGROUP)
fn clear(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let word = invocation(workgroup, local);
  if word < HEADER + params.classes * CLASS_WORDS {
    atomicStore(&record[word], 0u);
  }
}

@compute @workgroup_size(WORKGROUP)
fn classes(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let index = invocation(workgroup, local);
  var c = index / params.lanes;
  var lane = index - c * params.lanes;
  if pixel_stride() != 1u {
    // Neighbouring invocations read neighbours in memory.
    lane = index / params.classes;
    c = index - lane * params.classes;
  }
  if c >= params.classes || lane >= params.lanes {
    return;
  }
  let image = image_of(workgroup);
  var maximum = vec4(0u);
  var minimum = vec4(0u);
  var nan = vec4(0u);
  var positive_infinity = vec4(0u);
  var negative_infinity = vec4(0u);
  var negative = vec4(0u);
  var unit = vec4(0u);
  for (var group = lane; group < group_count(); group += params.lanes) {
    let place = place_of(image, group);
    let bits = bitcast<vec4<i32>>(load(place.element + c * plane_stride()));
    let size = bits & vec4(0x7fffffff);
    let signed = select(size, -size, bits < vec4(0)); // orders as the values do, −0 and +0 equal
    let key = bitcast<vec4<u32>>(signed) ^ vec4(0x80000000u);
    let inside = LANE < vec4(place.left);
    let special = inside & (size >= vec4(0x7f800000));
    let finite = inside & (size < vec4(0x7f800000));
    maximum = max(maximum, select(vec4(0u), key, finite));
    minimum = max(minimum, select(vec4(0u), ~key, finite));
    negative += ones_of(finite & (signed < vec4(0)));
    unit += ones_of(finite & (signed >= vec4(0)) & (signed <= vec4(0x3f800000)));
    if any(special) {
      nan += ones_of(special & (size > vec4(0x7f800000)));
      positive_infinity += ones_of(special & (signed == vec4(0x7f800000)));
      negative_infinity += ones_of(special & (signed == vec4(-0x7f800000)));
    }
  }
  let word = HEADER + c * CLASS_WORDS;
  raise(word, maximum);
  raise(word + 1u, minimum);
  add(word + 2u, nan);
  add(word + 3u, positive_infinity);
  add(word + 4u, negative_infinity);
  add(word + 5u, negative);
  add(word + 6u, unit);
}

@compute @workgroup_size(WORKGROUP)
fn sums(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let lane = invocation(workgroup, local);
  if lane >= params.lanes {
    return;
  }
  let image = image_of(workgroup);
  var finite = vec4(0u);
  var ones = vec4(0u);
  var exponentials = vec4(0u);
  for (var group = lane; group < group_count(); group += params.lanes) {
    let place = place_of(image, group);
    var sum = vec4(0.0);
    var largest = vec4(0u);
    var top = vec4(-0x7fffffff); // positive once something is, a NaN without a sign too
    var element = place.element;
    for (var c = 0u; c < params.classes; c++) {
      let x = load(element);
      sum += x;
      largest = max(largest, magnitude(x));
      top = max(top, bitcast<vec4<i32>>(x));
      element += plane_stride();
    }
    let inside = LANE < vec4(place.left);
    let counted = inside & (largest < vec4(NOT_FINITE));
    finite += ones_of(counted);
    ones += ones_of(counted & is_one(sum));
    let logarithms = inside & (top <= vec4(0)) & (largest <= vec4(NOT_FINITE));
    if any(logarithms) {
      sum = vec4(0.0);
      element = place.element;
      for (var c = 0u; c < params.classes; c++) {
        let x = load(element);
        sum += select(exp(x), vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
        element += plane_stride();
      }
      exponentials += ones_of(logarithms & is_one(sum));
    }
  }
  add(params.record_word + FINITE, finite);
  add(params.record_word + ONES, ones);
  add(params.record_word + EXPONENTIALS, exponentials);
}

// A row of `classes` neighbouring elements, `rows` of them in a plane; `groups` counts the rows of all planes.
@compute @workgroup_size(WORKGROUP)
fn rows(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let lane = invocation(workgroup, local);
  if lane >= params.lanes {
    return;
  }
  var finite = 0u;
  var ones = 0u;
  for (var row = lane; row < group_count(); row += params.lanes) {
    let plane = row / params.rows;
    let first = params.place.w + plane * plane_stride() + (row - plane * params.rows) * params.place.y;
    var sum = vec4(0.0);
    var largest = vec4(0u);
    for (var i = 0u; i < params.classes; i += 4u) {
      let inside = vec4(i) + LANE < vec4(params.classes);
      let x = load(first + i);
      sum += select(vec4(0.0), x, inside);
      largest = max(largest, select(vec4(0u), magnitude(x), inside));
    }
    if all(largest < vec4(NOT_FINITE)) {
      finite += 1u;
      let total = (sum.x + sum.y) + (sum.z + sum.w);
      ones += select(0u, 1u, is_one(vec4(total)).x);
    }
  }
  add(params.record_word + FINITE, vec4(finite, 0u, 0u, 0u));
  add(params.record_word + ONES, vec4(ones, 0u, 0u, 0u));
}

@compute @workgroup_size(WORKGROUP)
fn neighbours(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let lane = invocation(workgroup, local);
  if lane >= params.lanes {
    return;
  }
  let image = image_of(workgroup);
  var class_votes = vec4(0u);
  var height_votes = vec4(0u);
  var width_votes = vec4(0u);
  for (var group = lane; group < group_count(); group += params.lanes) {
    if group / params.grid.z + 1u >= params.rows {
      break;
    }
    let place = place_of(image, group);
    let inside = LANE + vec4(1u) < vec4(place.left);
    var element = place.element;
    var x = load(element);
    for (var c = 1u; c < params.classes; c++) {
      let next = load(element + plane_stride());
      let below = load(element + params.place.y);
      let beside = load(element + pixel_stride());
      let largest = max(max(magnitude(x), magnitude(next)), max(magnitude(below), magnitude(beside)));
      let counted = inside & (largest < vec4(NOT_FINITE));
      let along_classes = abs(next - x);
      let along_height = abs(below - x);
      let along_width = abs(beside - x);
      class_votes += ones_of(counted & (along_classes > max(along_height, along_width)));
      height_votes += ones_of(counted & (along_height > max(along_classes, along_width)));
      width_votes += ones_of(counted & (along_width > max(along_classes, along_height)));
      element += plane_stride();
      x = next;
    }
  }
  add(VOTES, class_votes);
  add(VOTES + 1u, height_votes);
  add(VOTES + 2u, width_votes);
}
