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
// is on the boundary of, plus 1, or 0; an invocation walks down eight groups of four pixels. `count`: an invocation owns
// a group of one of the two maps, and mostly has nothing to do. Otherwise it looks for its classes in the other map, from
// its row outwards, row by row to both sides, until all four have found theirs. Eight invocations in a row own groups
// below one another: adapters that walk in step through eight lanes are then kept busy by boundaries of any direction.
//
// place: pixels from one row to the next (y), padding counted; out_place: words of a record (x), and the word that the
// first record starts with (w).
//
// predictions: [N, map_groups] of four, targets: the same, marks: [N, 2, H, ⌈W / 4⌉] of four, records: [N, 4 · C + 4]

const NONE: u32 = 0xffffffffu;
const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);
const NEIGHBOURS: u32 = 3u; // log₂ of how many groups below one another belong together

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
  begin();
  let at = invocation(workgroup, local);
  let words = params.out_place.x;
  if at >= words {
    return;
  }
  atomicStore(&records[record_of(image_of(workgroup)) + at], select(0u, NONE, at >= words - 2u));
}

// Four neighbours in a row of both maps, and those beside them: their classes plus 1, or 0 where they are void.
struct Row {
  own: Pair,
  beside: Pair, // the pixel before the four and the one behind them, 0, 0
}

struct Pair {
  predicted: vec4<u32>,
  expected: vec4<u32>,
  no_target: vec4<bool>, // neither a class nor ignored
  no_prediction: vec4<bool>,
}

@compute @workgroup_size(WORKGROUP)
fn mark(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let block = invocation(workgroup, local);
  let row_groups = params.grid.z;
  let row_of_blocks = row_of(block);
  let first = row_of_blocks << NEIGHBOURS;
  if first >= params.rows {
    return;
  }
  let image = image_of(workgroup);
  let groups = group_count();
  let column = block - row_of_blocks * row_groups;
  let record = record_of(image) + 4u * params.classes;
  let end = min(first + (1u << NEIGHBOURS), params.rows);
  // Above the first row of the image this wraps, which is beyond the last, too.
  var above = row_at(image, first - 1u, column * 4u);
  var here = row_at(image, first, column * 4u);
  for (var row = first; row < end; row++) {
    let below = row_at(image, row + 1u, column * 4u);
    let at = image * 2u * groups + row * row_groups + column;
    let beside = here.beside;
    let predicted = boundary(here.own.predicted, beside.predicted, above.own.predicted, below.own.predicted);
    let expected = boundary(here.own.expected, beside.expected, above.own.expected, below.own.expected);
    marks_out[at] = pack_labels(predicted);
    marks_out[at + groups] = pack_labels(expected);
    if any(here.own.no_target | here.own.no_prediction) {
      let pixel = row * params.row_pixels + column * 4u;
      report(record + NO_TARGET, pixel, here.own.no_target);
      report(record + NO_PREDICTION, pixel, here.own.no_prediction);
    }
    above = here;
    here = below;
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

// Rows that are packed start anywhere in a group: then two groups hold all that is wanted, else a third has the pixel
// before the four.
fn row_at(image: u32, row: u32, column: u32) -> Row {
  if row >= params.rows {
    let none = Pair(vec4(0u), vec4(0u), vec4(false), vec4(false));
    return Row(none, none);
  }
  let pixel = map_at(image, 0u) * 4u + row * params.place.y + column;
  let group = pixel >> 2u;
  let skipped = pixel & 3u;
  let before = select(group, max(group, 1u) - 1u, skipped == 0u);
  let predictions_here = unpack_labels(predictions[group]);
  let predictions_next = unpack_labels(predictions[group + 1u]);
  let predictions_before = unpack_labels(predictions[before]);
  let targets_here = unpack_target_labels(targets[group]);
  let targets_next = unpack_target_labels(targets[group + 1u]);
  let targets_before = unpack_target_labels(targets[before]);
  let last = (skipped + 3u) & 3u;
  let width = params.row_pixels;
  let own = pair(
    joined(predictions_here, predictions_next, skipped),
    joined(targets_here, targets_next, skipped),
    vec4(column) + LANE < vec4(width),
  );
  let beside = pair(
    vec4(predictions_before[last], predictions_next[skipped], 0u, 0u),
    vec4(targets_before[last], targets_next[skipped], 0u, 0u),
    vec4(column != 0u, column + 4u < width, false, false),
  );
  return Row(own, beside);
}

fn pair(prediction: vec4<u32>, expected: vec4<u32>, inside: vec4<bool>) -> Pair {
  let ignored = vec4(params.has_ignore_index != 0u) & (expected == vec4(params.ignore_index));
  let counted = inside & !ignored;
  let has_target = counted & (expected < vec4(params.classes));
  let has_prediction = has_target & (prediction < vec4(params.classes));
  return Pair(
    select(vec4(0u), prediction + 1u, has_prediction),
    select(vec4(0u), expected + 1u, has_target),
    counted & !has_target,
    has_target & !has_prediction,
  );
}

// The four behind the first `skipped` of eight.
fn joined(first: vec4<u32>, second: vec4<u32>, skipped: u32) -> vec4<u32> {
  let none_or_one = select(first, vec4(first.yzw, second.x), skipped == 1u);
  let two_or_three = select(vec4(first.zw, second.xy), vec4(first.w, second.xyz), skipped == 3u);
  return select(none_or_one, two_or_three, skipped >= 2u);
}

fn boundary(own: vec4<u32>, beside: vec4<u32>, above: vec4<u32>, below: vec4<u32>) -> vec4<u32> {
  let left_or_right = differs(own, vec4(beside.x, own.xyz)) | differs(own, vec4(own.yzw, beside.y));
  return select(vec4(0u), own, left_or_right | differs(own, above) | differs(own, below));
}

fn differs(own: vec4<u32>, neighbour: vec4<u32>) -> vec4<bool> {
  return (neighbour != own) & (neighbour != vec4(0u));
}

@compute @workgroup_size(WORKGROUP)
fn count(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
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
