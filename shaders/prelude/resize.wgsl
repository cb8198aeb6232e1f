// Bilinear interpolation: where a pixel of a result reads the logits, as exact fractions of integers (see Params), clamped
// to the image as in PyTorch.

// Where a coordinate of the result reads along one axis: between `index` and the next one.
struct Source {
  index: u32,
  next: u32,
  fraction: f32,
}

fn source_row(y: u32) -> Source {
  let position = min(y, params.out_height - 1u) + params.out_row;
  let step = u32(params.y_numerator != params.y_denominator);
  return source(params.y_numerator * position, params.y_offset, params.y_denominator, params.in_height, step);
}

fn source_column(x: u32) -> Source {
  let position = min(x, params.out_width - 1u);
  let step = u32(params.x_numerator != params.x_denominator);
  return source(params.x_numerator * position, params.x_offset, params.x_denominator, params.in_width, step);
}

// The next one is a step further: none along an axis that keeps its size, where a pixel reads itself and nothing special
// beside it.
fn source(scaled: u32, offset: i32, denominator: u32, size: u32, step: u32) -> Source {
  let numerator = u32(max(i32(scaled) + offset, 0));
  let whole = quotient(numerator, denominator);
  let index = min(whole, size - 1u);
  return Source(index, min(index + step, size - 1u), f32(numerator - whole * denominator) / f32(denominator));
}

// The same of four neighbouring pixels along an axis, without the next ones.
struct Sources {
  index: vec4<u32>,
  fraction: vec4<f32>,
}

fn sources(a: Source, b: Source, c: Source, d: Source) -> Sources {
  return Sources(vec4(a.index, b.index, c.index, d.index), vec4(a.fraction, b.fraction, c.fraction, d.fraction));
}

fn source_columns(x: u32) -> Sources {
  return sources(source_column(x), source_column(x + 1u), source_column(x + 2u), source_column(x + 3u));
}

// The weight of a tap for four pixels: 1 − fraction for a pixel's own tap, the fraction for the next one.
fn hat_weight(pixels: Sources, tap: u32) -> vec4<f32> {
  let own = select(vec4(0.0), 1.0 - pixels.fraction, pixels.index == vec4(tap));
  return select(own, pixels.fraction, pixels.index + 1u == vec4(tap));
}

// The weights of TAPS neighbouring taps, from that of lane 0 on. They do not depend on where the block starts.
fn hat_weights(p0: Source, p1: Source, p2: Source, p3: Source) -> array<vec4<f32>, TAPS> {
  let pixels = sources(p0, p1, p2, p3);
  var weights: array<vec4<f32>, TAPS>;
  for (var k = 0u; k < TAPS; k++) {
    weights[k] = hat_weight(pixels, p0.index + k);
  }
  return weights;
}

// The element of the first class at a position of the source, in the image that starts with the element `base`.
fn source_element(base: u32, row: u32, column: u32) -> u32 {
  return base + (row - params.in_row) * params.place.y + column * pixel_stride();
}

// The four taps of each of four neighbouring pixels of a row.
struct Taps {
  top: u32, // the element that the upper row of taps starts with
  bottom: u32,
  left: vec4<u32>,
  right: vec4<u32>,
  fy: f32,
  fx: vec4<f32>,
}

fn taps_of(base: u32, row: u32, column: u32) -> Taps {
  let y = source_row(row);
  let a = source_column(column);
  let b = source_column(column + 1u);
  let c = source_column(column + 2u);
  let d = source_column(column + 3u);
  return Taps(
    source_element(base, y.index, 0u),
    source_element(base, y.next, 0u),
    vec4(a.index, b.index, c.index, d.index) * pixel_stride(),
    vec4(a.next, b.next, c.next, d.next) * pixel_stride(),
    y.fraction,
    vec4(a.fraction, b.fraction, c.fraction, d.fraction),
  );
}

fn sample(taps: Taps, plane: u32) -> vec4<f32> {
  let top = mix_columns(taps, plane + taps.top);
  let bottom = mix_columns(taps, plane + taps.bottom);
  return (1.0 - taps.fy) * top + taps.fy * bottom;
}

fn mix_columns(taps: Taps, row: u32) -> vec4<f32> {
  let l = taps.left + row;
  let r = taps.right + row;
  let left = vec4(load_one(l.x), load_one(l.y), load_one(l.z), load_one(l.w));
  let right = vec4(load_one(r.x), load_one(r.y), load_one(r.z), load_one(r.w));
  return (1.0 - taps.fx) * left + taps.fx * right;
}
