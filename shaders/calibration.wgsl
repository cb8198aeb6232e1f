// The reliability table of predictions: of each bin of confidences the pixels, those of them that are right, and the
// sum of their confidences. All of it is added up in integers, so the result is exact and does not depend on any order.
//
// `clear` makes the records those of no pixels. `count`: an invocation walks a stretch of neighbouring groups of an
// image and keeps the run of pixels that are in the same bin, whatever lies between them that does not count; when the
// run ends, it adds it to the record of its bin with atomics. In most of a segmentation the network is sure, so runs
// are long.
//
// A confidence is taken as the integer of its bits, which orders floats of 0..=1 as their values do. Bin k is what is
// above edge k and not above edge k + 1; the one behind the last is that of NaN.
//
// place: pixels from one row to the next (y), padding counted, and the pixel of its image that what is bound starts
// with (w); out_place: B + 1 (x), and the record that the first image starts with (w). Rows that follow one another are
// a single one; others start at multiples of four pixels, so that no group is in two of them.
//
// labels: [N, map_groups] of four, confidences, targets: the same, edges: [B + 2], records: [N, B + 1]

struct Record {
  pixels: atomic<u32>,
  right: atomic<u32>,
  low: atomic<u32>, // the sum of confidences in 2⁻²⁴
  high: atomic<u32>,
}

const STRETCH: u32 = 64u; // groups that an invocation walks
const ONE: i32 = 0x3f800000;
const NAN: i32 = 0x3f800001; // what NaN is taken as: above all others
const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);

@group(0) @binding(3) var<storage, read> label_map: array<Labels>;
@group(0) @binding(4) var<storage, read> confidence_map: array<vec4<u32>>; // f32 as bits, so that no NaN gets lost
@group(0) @binding(5) var<storage, read> target_map: array<TargetLabels>;
@group(0) @binding(6) var<storage, read_write> records: array<Record>;
@group(0) @binding(7) var<storage, read> edges: array<i32>;

// Pixels in the same bin.
struct Run {
  bin: u32,
  above: i32,
  up_to: i32,
  pixels: vec4<u32>, // of each lane, as all that follows
  right: vec4<u32>,
  confidences: vec4<u32>,
}

@compute @workgroup_size(WORKGROUP)
fn clear(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let at = invocation(workgroup, local);
  if at >= params.elements {
    return;
  }
  atomicStore(&records[at].pixels, 0u);
  atomicStore(&records[at].right, 0u);
  atomicStore(&records[at].low, 0u);
  atomicStore(&records[at].high, 0u);
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
  let record = params.out_place.w + image * params.out_place.x;
  let stride = params.place.y;
  var column = (params.place.w + first * 4u) % stride;
  var at = map_at(image, first);
  let end = at + min(STRETCH, group_count() - first);
  // Nothing is in this one.
  var run = Run(0u, NAN, NAN, vec4(0u), vec4(0u), vec4(0u));
  for (; at < end; at++) {
    let labels = unpack_labels(label_map[at]);
    let targets = unpack_target_labels(target_map[at]);
    let bits = confidence_map[at];
    let is_nan = (bits & vec4(0x7fffffffu)) > vec4(NOT_FINITE);
    let unit = clamp(bitcast<vec4<i32>>(bits), vec4(0), vec4(ONE));
    let x = select(unit, vec4(NAN), is_nan);
    let confidences = select(vec4<u32>(round(bitcast<vec4<f32>>(unit) * 16777216.0)), vec4(0u), is_nan);
    let ignored = vec4(params.has_ignore_index != 0u) & (targets == vec4(params.ignore_index));
    let counted = (vec4(column) + LANE < vec4(params.row_pixels)) & !ignored;
    let right = labels == targets;
    if all(((x > vec4(run.above)) & (x <= vec4(run.up_to))) | !counted) {
      run = with_pixels(run, counted, right, confidences);
    } else {
      for (var lane = 0u; lane < 4u; lane++) {
        if !counted[lane] {
          continue;
        }
        if x[lane] <= run.above || x[lane] > run.up_to {
          add_run(record, run);
          let bin = bin_of(x[lane]);
          run = Run(bin, edges[bin], edges[bin + 1u], vec4(0u), vec4(0u), vec4(0u));
        }
        run = with_pixels(run, LANE == vec4(lane), right, confidences);
      }
    }
    column += 4u;
    if column == stride {
      column = 0u;
    }
  }
  add_run(record, run);
}

fn with_pixels(run: Run, counted: vec4<bool>, right: vec4<bool>, confidences: vec4<u32>) -> Run {
  var longer = run;
  longer.pixels += select(vec4(0u), vec4(1u), counted);
  longer.right += select(vec4(0u), vec4(1u), counted & right);
  longer.confidences += select(vec4(0u), confidences, counted);
  return longer;
}

// The bin of a confidence. Of 2¹⁶ bins at most, what the product and the edges are rounded by is far less than a bin,
// so the estimate is off by 1 at most. Nothing is at or below the first edge.
fn bin_of(x: i32) -> u32 {
  let bins = params.out_place.x - 1u;
  let bin = min(u32(bitcast<f32>(x) * f32(bins)), bins - 1u);
  if x > edges[bin + 1u] {
    return bin + 1u;
  }
  return select(bin, bin - 1u, x <= edges[bin]);
}

// At most 4 · STRETCH = 2⁸ pixels.
fn add_run(record: u32, run: Run) {
  let pixels = (run.pixels.x + run.pixels.y) + (run.pixels.z + run.pixels.w);
  if pixels == 0u {
    return;
  }
  let at = record + run.bin;
  atomicAdd(&records[at].pixels, pixels);
  let right = (run.right.x + run.right.y) + (run.right.z + run.right.w);
  if right != 0u {
    atomicAdd(&records[at].right, right);
  }
  // A lane has 2⁶ pixels of 2²⁴, so two lanes are 2³¹ at most. Of the additions to the low word exactly one finds each
  // time that it passes 2³², and carries it over.
  let c = run.confidences;
  let half = c.x + c.y;
  let low = half + (c.z + c.w);
  let before = atomicAdd(&records[at].low, low);
  let carries = select(0u, 1u, low < half) + select(0u, 1u, before > ~low);
  if carries != 0u {
    atomicAdd(&records[at].high, carries);
  }
}
