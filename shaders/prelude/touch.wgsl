// Fetches an image ahead of a walk through its planes, on a software adapter and with many classes.
//
// Such an adapter makes a loop over its lanes of every load, so that the next cache line is asked for long after the one
// before, and with planes far apart no processor sees the next one coming. Before the walk the lanes read one word of
// each line that they are about to need: little else stands between those, and many of them are on their way at a time.

const LANES: u32 = 8u; // invocations that run together; where it is others, some lines are fetched twice or a little late
const LINE: u32 = 64u / ELEMENT_BYTES; // elements of a cache line
// Elements between planes from which on it is worth it: of small images, and of what is normalised along its height, whose
// planes are rows, several are in one page, and processors fetch ahead by themselves.
const FAR_PLANES: u32 = 8192u;

// For invocations that own `own` neighbouring groups each, a power of two. Returns 0, which no compiler knows: what is
// read has to be for something. Where invocations do not own neighbours, or planes
// are near, nothing is read.
fn touch(image: u32, position: u32, own: u32) -> u32 {
  if !ADJACENT || plane_stride() < FAR_PLANES {
    return 0u;
  }
  let lane = position % LANES;
  let first = place_of(image, min((position - lane) * own, group_count() - 1u)).element;
  let lines = max(LANES * own * 4u / LINE, 1u); // of a plane
  let together = LANES / min(lines, LANES); // planes
  let ahead = together * plane_stride();
  var c = lane % together;
  var element = first + c * plane_stride() + lane / together * LINE;
  var words = 0u;
  for (; c < near_classes(); c += together) {
    for (var line = 0u; line < lines; line += LANES) {
      words |= bitcast<u32>(load_one(element + line * LINE));
    }
    element += ahead;
  }
  for (; c < class_count(); c += together) {
    for (var line = 0u; line < lines; line += LANES) {
      words |= bitcast<u32>(far_load_one(element + line * LINE));
    }
    element += ahead;
  }
  return words & params.zero;
}
