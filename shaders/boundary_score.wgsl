// How much of the boundaries of each class in a map of predictions lies near boundaries of that class in a map of
// targets, and the other way round. All of it is counted in integers, so the result is exact and does not depend on any
// order; an image has fewer than 2³² pixels, each of which adds 1 to a word, so none of them can wrap.
//
// A pixel is void where its target is the ignore index or no class; in the predictions also where its prediction is no
// class. It is on the boundary of its class where one of its four neighbours is a pixel of the image, not void, and of
// another class.
//
// A record of an image is a list of words: of each class the boundary pixels of the predictions, those of them that have
// a boundary pixel of that class in the targets within reach, and the same two of the targets; then the pixels whose
// target is no class, those whose prediction is none, and the first pixel of either of these two kinds.
//
// `clear` makes the records those of images without pixels. `mark` writes for each pixel of both maps the class that it
// is on the boundary of, plus 1, or 0. `count`: an invocation owns a group of four pixels of one of the two maps, and
// mostly has nothing to do. Otherwise it looks for its classes in the other map, from its row outwards, row by row to
// both sides, until all four have found theirs. Eight invocations in a row own groups below one another: adapters that
// walk in step through eight lanes are then kept busy by boundaries of any direction.
//
// place: pixels from one row to the next (y), padding counted; out_place: words of a record (x), and the word that the
// first record starts with (w).
//
// predictions: [N, map_groups] of four, targets: the same, marks: [N, 2, H, ⌈W / 4⌉] of four, records: [N, 4 · C + 4]

const NONE: u32 = 0xffffffffu;
const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);
const NEIGHBOURS: u32 = 3u; // log₂ of how many invocations own groups below one another

// Words of a record behind its classes.
const NO_TARGET: u32 = 0u;
const NO_PREDICTION: u32 = 1u;
const FIRST: u32 = 2u; // the first pixel of a kind that is no class is so many words behind their number

@group(0) @binding(3) var<storage, read> predictions: array<Labels>;
@group(0) @binding(4) var<storage, read> targets: array<TargetLabels>;
@group(0) @binding(5) var<storage, read_write> marks_out: array<Labels>;
@group(0) @binding(6) var<storage, read_write> records: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read> marks: array<Labels>;

@compute @workgroup_size(WORKGROUP)
fn clear(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = invocation(workgroup, local);
  let words = params.out_place.x;
  if at >= words {
    return;
  }
  atomicStore(&records[record_of(image_of(workgroup)) + at], select(0u, NONE, at >= words - 2u));
}

// Four neighbours in a row of both maps: their classes plus 1, or 0 where they are void.
struct Four {
  predicted: vec4<u32>,
  expected: vec4<u32>,
  no_target: vec4<bool>, // neither a class nor ignored
  no_prediction: vec4<bool>,
}

@compute @workgroup_size(WORKGROUP)
fn mark(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = invocation(workgroup, local);
  let groups = group_count();
  if group >= groups {
    return;
  }
  let image = image_of(workgroup);
  let row = row_of(group);
  let column = column_of(group, row);
  let own = four_at(image, row, column);
  // Beyond the first row or column these wrap, which is beyond the last, too.
  let left = four_at(image, row, column - 4u);
  let right = four_at(image, row, column + 4u);
  let above = four_at(image, row - 1u, column);
  let below = four_at(image, row + 1u, column);
  let predicted = boundary(own.predicted, left.predicted.w, right.predicted.x, above.predicted, below.predicted);
  let expected = boundary(own.expected, left.expected.w, right.expected.x, above.expected, below.expected);
  let at = image * 2u * groups + group;
  marks_out[at] = pack_labels(predicted);
  marks_out[at + groups] = pack_labels(expected);
  if any(own.no_target | own.no_prediction) {
    let record = record_of(image) + 4u * params.classes;
    let pixel = row * params.row_pixels + column;
    report(record + NO_TARGET, pixel, own.no_target);
    report(record + NO_PREDICTION, pixel, own.no_prediction);
  }
}

fn report(word: u32, pixel: u32, which: vec4<bool>) {
  for (var lane = 0u; lane < 4u; lane++) {
    if which[lane] {
      atomicAdd(&records[word], 1u);
      atomicMin(&records[word + FIRST], pixel + lane);
    }
  }
}

fn four_at(image: u32, row: u32, column: u32) -> Four {
  if row >= params.rows || column >= params.row_pixels {
    return Four(vec4(0u), vec4(0u), vec4(false), vec4(false));
  }
  let pixel = map_at(image, 0u) * 4u + row * params.place.y + column;
  let prediction = predictions_at(pixel);
  let expected = targets_at(pixel);
  let ignored = vec4(params.has_ignore_index != 0u) & (expected == vec4(params.ignore_index));
  let counted = (vec4(column) + LANE < vec4(params.row_pixels)) & !ignored;
  let has_target = counted & (expected < vec4(params.classes));
  let has_prediction = has_target & (prediction < vec4(params.classes));
  return Four(
    select(vec4(0u), prediction + 1u, has_prediction),
    select(vec4(0u), expected + 1u, has_target),
    counted & !has_target,
    has_target & !has_prediction,
  );
}

// The four labels from a pixel on. Rows that are packed start anywhere in a group.
fn predictions_at(pixel: u32) -> vec4<u32> {
  let group = pixel >> 2u;
  let first = unpack_labels(predictions[group]);
  let skipped = pixel & 3u;
  if skipped == 0u {
    return first;
  }
  return joined(first, unpack_labels(predictions[group + 1u]), skipped);
}

fn targets_at(pixel: u32) -> vec4<u32> {
  let group = pixel >> 2u;
  let first = unpack_target_labels(targets[group]);
  let skipped = pixel & 3u;
  if skipped == 0u {
    return first;
  }
  return joined(first, unpack_target_labels(targets[group + 1u]), skipped);
}

// The four behind the first 1, 2 or 3 of eight.
fn joined(first: vec4<u32>, second: vec4<u32>, skipped: u32) -> vec4<u32> {
  let one_or_two = select(vec4(first.zw, second.xy), vec4(first.yzw, second.x), skipped == 1u);
  return select(one_or_two, vec4(first.w, second.xyz), skipped == 3u);
}

fn boundary(own: vec4<u32>, left: u32, right: u32, above: vec4<u32>, below: vec4<u32>) -> vec4<u32> {
  let beside = differs(own, vec4(left, own.xyz)) | differs(own, vec4(own.yzw, right));
  return select(vec4(0u), own, beside | differs(own, above) | differs(own, below));
}

fn differs(own: vec4<u32>, neighbour: vec4<u32>) -> vec4<bool> {
  return (neighbour != own) & (neighbour != vec4(0u));
}

@compute @workgroup_size(WORKGROUP)
fn count(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row_groups = params.grid.z;
  let of_map = ((((params.rows - 1u) >> NEIGHBOURS) + 1u) * row_groups) << NEIGHBOURS;
  var at = invocation(workgroup, local);
  if at >= 2u * of_map {
    return;
  }
  let which = select(0u, 1u, at >= of_map);
  at -= which * of_map;
  let block = at >> NEIGHBOURS;
  let row_of_blocks = row_of(block);
  let column = block - row_of_blocks * row_groups;
  let row = (row_of_blocks << NEIGHBOURS) + (at & ((1u << NEIGHBOURS) - 1u));
  if row >= params.rows {
    return;
  }
  let image = image_of(workgroup);
  let groups = group_count();
  let own = (image * 2u + which) * groups;
  let wanted = unpack_labels(marks[own + row * row_groups + column]);
  if all(wanted == vec4(0u)) {
    return;
  }
  let other = (image * 2u + 1u - which) * groups;
  var missing = wanted != vec4(0u);
  for (var distance = 0u; distance <= params.reach && any(missing); distance++) {
    let rest = i32(params.reach * params.reach - distance * distance);
    missing &= !found_in_row(other, row - distance, column, wanted, rest);
    if any(missing) && distance != 0u {
      missing &= !found_in_row(other, row + distance, column, wanted, rest);
    }
  }
  let record = record_of(image);
  for (var lane = 0u; lane < 4u; lane++) {
    // Lanes of a class are counted with the first of them.
    let same = wanted == vec4(wanted[lane]);
    if wanted[lane] == 0u || any(same & (LANE < vec4(lane))) {
      continue;
    }
    let word = record + 4u * (wanted[lane] - 1u) + 2u * which;
    atomicAdd(&records[word], number(same));
    let matched = number(same & !missing);
    if matched != 0u {
      atomicAdd(&records[word + 1u], matched);
    }
  }
}

// Which of four pixels have a pixel of the class that they want in a row of the other map, whose column is apart from
// theirs by no more than the root of `rest`.
fn found_in_row(other: u32, row: u32, column: u32, wanted: vec4<u32>, rest: i32) -> vec4<bool> {
  // Above the first row this has wrapped.
  if row >= params.rows {
    return vec4(false);
  }
  let row_groups = params.grid.z;
  let at = other + row * row_groups + column;
  var found = found_in_group(marks[at], 0, wanted, rest);
  // Between two groups, the nearest pixels are 4 · apart − 3 columns from one another.
  for (var apart = 1u; i32((4u * apart - 3u) * (4u * apart - 3u)) <= rest; apart++) {
    if apart <= column {
      found |= found_in_group(marks[at - apart], -4 * i32(apart), wanted, rest);
    }
    if column + apart < row_groups {
      found |= found_in_group(marks[at + apart], 4 * i32(apart), wanted, rest);
    }
  }
  return found;
}

fn found_in_group(group: Labels, offset: i32, wanted: vec4<u32>, rest: i32) -> vec4<bool> {
  let classes = unpack_labels(group);
  var found = vec4(false);
  if all(classes == vec4(0u)) {
    return found;
  }
  for (var lane = 0; lane < 4; lane++) {
    let columns = vec4(offset + lane) - vec4<i32>(LANE);
    found |= (vec4(classes[lane]) == wanted) & (columns * columns <= vec4(rest));
  }
  return found;
}

fn number(which: vec4<bool>) -> u32 {
  let ones = select(vec4(0u), vec4(1u), which);
  return (ones.x + ones.y) + (ones.z + ones.w);
}

fn record_of(image: u32) -> u32 {
  return params.out_place.w + image * params.out_place.x;
}
