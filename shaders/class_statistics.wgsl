// What there is of every class in a map of labels: pixels, bounding box, sums of rows and columns, and of confidences.
// All of it is added up in integers, so the result is exact and does not depend on any order.
//
// `clear` makes the records those of classes without pixels. `count`: an invocation walks a stretch of neighbouring
// groups of an image and keeps the run of equal labels in a row that it is in; when the run ends, it adds it to the
// record of its class with atomics. Runs are long in segmentations, so these are few.
//
// place: pixels from one image and one row to the next, padding counted, and the pixel of its image that what is bound
// starts with; out_place: records of an image, and the record that the first image starts with.
//
// labels: [N, map_groups] of four, confidences: the same, records: [N, C]

struct Sum {
  low: atomic<u32>,
  high: atomic<u32>,
}

struct Record {
  pixels: atomic<u32>,
  nan: atomic<u32>,     // pixels whose confidence is NaN, or NONE where there are no confidences
  sums: array<Sum, 3>,  // of rows, of columns, of confidences in 2⁻²⁴
  first: array<atomic<u32>, 2>, // row and column, NONE where there are no pixels
  last: array<atomic<u32>, 2>,
}

const ROWS: u32 = 0u;
const COLUMNS: u32 = 1u;
const CONFIDENCES: u32 = 2u;
const NONE: u32 = 0xffffffffu;

const STRETCH: u32 = 64u; // groups that an invocation walks
const VOID: u32 = 0xffffffffu; // the label of what is no pixel: no class has it

@group(0) @binding(3) var<storage, read> label_map: array<Labels>;
@group(0) @binding(4) var<storage, read> confidence_map: array<vec4<u32>>; // f32 as bits, so that no NaN gets lost
@group(0) @binding(6) var<storage, read_write> records: array<Record>;

const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);

// Neighbours in a row with the same label.
struct Run {
  label: u32,
  row: u32,
  column: u32,
  pixels: u32,
  confidences: vec4<u32>, // sums of the pixels of each lane
  nan: vec4<u32>,
}

@compute @workgroup_size(WORKGROUP)
fn clear(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let at = invocation(workgroup, local);
  if at >= params.elements {
    return;
  }
  atomicStore(&records[at].pixels, 0u);
  atomicStore(&records[at].nan, select(NONE, 0u, CONFIDENCE));
  for (var which = 0u; which < 3u; which++) {
    atomicStore(&records[at].sums[which].low, 0u);
    atomicStore(&records[at].sums[which].high, 0u);
  }
  for (var axis = 0u; axis < 2u; axis++) {
    atomicStore(&records[at].first[axis], NONE);
    atomicStore(&records[at].last[axis], 0u);
  }
}

@compute @workgroup_size(WORKGROUP)
fn count(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let stretch = invocation(workgroup, local);
  let first = stretch * STRETCH;
  if first >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let width = params.row_pixels;
  let stride = params.place.y;
  let pixel = params.place.w + first * 4u;
  var row = pixel / stride;
  var column = pixel - row * stride;
  var at = map_at(image, first);
  let end = at + min(STRETCH, group_count() - first);
  var run = Run(VOID, 0u, 0u, 0u, vec4(0u), vec4(0u));
  for (; at < end; at++) {
    let labels = unpack_labels(label_map[at]);
    var confidences = vec4(0u);
    var nan = vec4(0u);
    if CONFIDENCE {
      let bits = confidence_map[at];
      // As integers, floats of 0..=1 are in the order of their values; a negative one is below, an infinity above.
      let unit = bitcast<vec4<f32>>(clamp(bitcast<vec4<i32>>(bits), vec4(0), vec4(0x3f800000)));
      let is_nan = (bits & vec4(0x7fffffffu)) > vec4(NOT_FINITE);
      confidences = select(vec4<u32>(round(unit * 16777216.0)), vec4(0u), is_nan);
      nan = select(vec4(0u), vec4(1u), is_nan);
    }
    // Most groups are in the middle of a run.
    if all(labels == vec4(run.label)) && column != 0u && column + 4u <= width {
      run.pixels += 4u;
      run.confidences += confidences;
      run.nan += nan;
      column += 4u;
      if column == stride {
        column = 0u;
        row += 1u;
      }
      continue;
    }
    // Otherwise pixels that are alike at a time, up to the end of the row, or of the padding behind it.
    for (var lane = 0u; lane < 4u; ) {
      let is_pixel = column < width && row < params.rows;
      var label = labels[lane];
      let others = select(vec4(0u), vec4(1u, 2u, 4u, 8u), labels != vec4(label));
      let differs = (others.x | others.y) | (others.z | others.w) | 16u;
      let alike = min(countTrailingZeros(differs >> lane), select(stride, width, is_pixel) - column);
      label = select(VOID, label, is_pixel);
      if label != run.label || column == 0u {
        add_run(image, run);
        run = Run(label, row, column, 0u, vec4(0u), vec4(0u));
      }
      run.pixels += alike;
      if CONFIDENCE {
        let inside = (LANE >= vec4(lane)) & (LANE < vec4(lane + alike));
        run.confidences += select(vec4(0u), confidences, inside);
        run.nan += select(vec4(0u), nan, inside);
      }
      lane += alike;
      column += alike;
      if column == stride {
        column = 0u;
        row += 1u;
      }
    }
  }
  add_run(image, run);
}

// At most 4 · STRETCH = 2⁸ pixels.
fn add_run(image: u32, run: Run) {
  if run.label >= params.out_place.x {
    return;
  }
  let at = params.out_place.w + image * params.out_place.x + run.label;
  let pixels = run.pixels;
  atomicAdd(&records[at].pixels, pixels);
  widen(at, ROWS, run.row, run.row);
  widen(at, COLUMNS, run.column, run.column + pixels - 1u);
  add_product(at, ROWS, run.row, pixels, 0u);
  add_product(at, COLUMNS, run.column, pixels, pixels * (pixels - 1u) / 2u);
  if CONFIDENCE {
    // A lane has 2⁶ pixels of 2²⁴, so two lanes are 2³¹ at most.
    let c = run.confidences;
    add(at, CONFIDENCES, c.x + c.y, c.z + c.w, 0u);
    let nan = (run.nan.x + run.nan.y) + (run.nan.z + run.nan.w);
    if nan != 0u {
      atomicAdd(&records[at].nan, nan);
    }
  }
}

// Makes the bounding box reach from `first` to `last`. Most often it does already, and to look costs less than to change:
// what is seen may be out of date, but boxes only grow.
fn widen(at: u32, axis: u32, first: u32, last: u32) {
  if first < atomicLoad(&records[at].first[axis]) {
    atomicMin(&records[at].first[axis], first);
  }
  if last > atomicLoad(&records[at].last[axis]) {
    atomicMax(&records[at].last[axis], last);
  }
}

// Adds value · pixels + rest, with pixels ≤ 2⁸ and rest < 2¹⁵: neither half of the value makes more than 2²⁴ + 2¹⁵.
fn add_product(at: u32, which: u32, value: u32, pixels: u32, rest: u32) {
  let upper = (value >> 16u) * pixels;
  let lower = (value & 0xffffu) * pixels + rest;
  add(at, which, upper << 16u, lower, upper >> 16u);
}

// Adds a + b + 2³² · high to a sum of 64 bits. The additions to its low word happen one after another, in some order, and
// each sees what those before it have left: so every time that the word passes 2³² exactly one of them finds so and
// carries it over. However the high word is added to, the two are the sum modulo 2⁶⁴ in the end, and none of the sums comes
// near that: there are fewer than 2³² pixels, of rows and columns below 2³².
fn add(at: u32, which: u32, a: u32, b: u32, high: u32) {
  let low = a + b;
  let before = atomicAdd(&records[at].sums[which].low, low);
  let carries = high + select(0u, 1u, low < a) + select(0u, 1u, before > ~low);
  if carries != 0u {
    atomicAdd(&records[at].sums[which].high, carries);
  }
}
