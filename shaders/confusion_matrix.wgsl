// How many pixels of each class of a map of targets are of each class in a map of predictions: counts[target, prediction].
// All of it is counted in integers, so the result is exact and does not depend on any order; an image has fewer than 2³²
// pixels, each of which adds 1 to a single word, so none of them can wrap.
//
// A record of an image is a list of words: C · C counts, a row for each target, then the pixels whose target is the ignore
// index, those whose target is no class, those whose prediction is none, and the first pixel of either of these two kinds.
//
// `clear` makes the records those of images without pixels. `count`: an invocation walks a stretch of neighbouring groups
// of an image and keeps the run of pixels that go to the same word; when the run ends, it adds it there with an atomic.
// Runs are long in segmentations, so these are few.
//
// place: pixels from one row to the next (y), padding counted, and the pixel of its image that what is bound starts with
// (w); out_place: words of a record (x), C (y), and the word that the first record starts with (w). Rows that follow one
// another are a single one; others start at multiples of four pixels, so that no group is in two of them.
//
// predictions: [N, map_groups] of four, targets: the same, counts: [N, C · C + 5]

const STRETCH: u32 = 64u; // groups that an invocation walks
const NONE: u32 = 0xffffffffu;
const VOID: u32 = 0xffffffffu; // where nothing is counted: behind the end of a row
const LANE: vec4<u32> = vec4(0u, 1u, 2u, 3u);

// Words of a record behind the counts.
const IGNORED: u32 = 0u;
const NO_TARGET: u32 = 1u;
const NO_PREDICTION: u32 = 2u;
const FIRST: u32 = 2u; // the first pixel of a kind that is no class is so many words behind their number

@group(0) @binding(3) var<storage, read> predictions: array<Labels>;
@group(0) @binding(4) var<storage, read> targets: array<TargetLabels>;
@group(0) @binding(6) var<storage, read_write> counts: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn clear(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let at = invocation(workgroup, local);
  let words = params.out_place.x;
  if at >= words {
    return;
  }
  atomicStore(&counts[record_of(image_of(workgroup)) + at], select(0u, NONE, at >= words - 2u));
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
  let record = record_of(image);
  let classes = params.out_place.y;
  let behind = classes * classes;
  let stride = params.place.y;
  let pixel = params.place.w + first * 4u;
  var row = pixel / stride;
  var column = pixel - row * stride;
  var at = map_at(image, first);
  let end = at + min(STRETCH, group_count() - first);
  var word = VOID;
  var pixels = 0u;
  for (; at < end; at++) {
    let prediction = unpack_labels(predictions[at]);
    let expected = unpack_target_labels(targets[at]);
    let ignored = vec4(params.has_ignore_index != 0u) & (expected == vec4(params.ignore_index));
    var words = expected * classes + prediction;
    words = select(words, vec4(behind + NO_PREDICTION), prediction >= vec4(classes));
    words = select(words, vec4(behind + NO_TARGET), expected >= vec4(classes));
    words = select(words, vec4(behind + IGNORED), ignored);
    words = select(vec4(VOID), words, vec4(column) + LANE < vec4(params.row_pixels));
    if all(words == vec4(word)) {
      pixels += 4u;
    } else {
      for (var lane = 0u; lane < 4u; lane++) {
        if words[lane] != word {
          add_run(record, word, pixels);
          word = words[lane];
          pixels = 0u;
          if word == behind + NO_TARGET || word == behind + NO_PREDICTION {
            atomicMin(&counts[record + word + FIRST], row * params.row_pixels + column + lane);
          }
        }
        pixels += 1u;
      }
    }
    column += 4u;
    if column == stride {
      column = 0u;
      row += 1u;
    }
  }
  add_run(record, word, pixels);
}

fn record_of(image: u32) -> u32 {
  return params.out_place.w + image * params.out_place.x;
}

fn add_run(record: u32, word: u32, pixels: u32) {
  if word != VOID {
    atomicAdd(&counts[record + word], pixels);
  }
}
