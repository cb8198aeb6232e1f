// The gradient of the cross-entropy of upsampled logits with respect to the logits: that with respect to the upsampled ones,
// see cross_entropy_gradient.wgsl, taken back through the bilinear interpolation. Every logit gathers from the pixels that
// read it, each with the weight that it reads it with:
//
//   gradient[c, i, j] = Σ_y Σ_x w(y, i) · w(x, j) · (factor[y, x] · exp(x[c, y, x] − maximum[y, x]) − (1 − ε) · w[c] · [c = t[y, x]]
//                                                    − ε / C · w[c]) / D
//
// with the maximum and the factor that upsampled_cross_entropy.wgsl has left of every pixel. x is interpolated anew, so that
// neither the upsampled logits nor their gradient are ever stored. The order of the sums depends on the shape alone.
//
// `gradient`: an invocation owns a column of up to `lanes` logits, of CHUNK classes, and walks down the cells between
// one row of logits and the next: pixels of a cell read the same two rows, and add to the sum of either. Along a row of
// pixels those that read the column are those of two cells, left and right of it. So a logit that a pixel does not read
// has no part in it, whatever it is, and one that it reads with weight 0 has: 0 · NaN is NaN, as in PyTorch.
//
// Where neighbouring invocations own neighbouring columns, they read neighbouring pixels.
//
// output (the gradient): as the logits, statistics: [N, 4 · map_groups], total: [1]

const CHUNK: u32 = 4u; // classes of an invocation, the lanes of a vec4
const LEFT_OUT: f32 = 3e38;

@group(0) @binding(5) var<storage, read> statistics: array<vec2<f32>>;

// The first of `size` pixels along an axis that reads the source at `index` or behind it.
fn first_at(index: i32, numerator: u32, offset: i32, denominator: u32, size: u32) -> u32 {
  let distance = index * i32(denominator) - offset;
  if index <= 0 || distance <= 0 {
    return 0u;
  }
  if numerator == 0u {
    return size;
  }
  return min((u32(distance) + numerator - 1u) / numerator, size);
}

fn first_row_at(index: i32) -> u32 {
  let end = params.out_row + params.out_height;
  if index >= i32(params.in_height) {
    return end;
  }
  return first_at(index, params.y_numerator, params.y_offset, params.y_denominator, end);
}

fn first_column_at(index: i32) -> u32 {
  if index >= i32(params.in_width) {
    return params.out_width;
  }
  return first_at(index, params.x_numerator, params.x_offset, params.x_denominator, params.out_width);
}

// Along an axis that keeps its size a pixel reads no other logit than its own, not even with the weight 0.
fn keeps_width() -> bool {
  return params.x_numerator == params.x_denominator;
}

fn keeps_height() -> bool {
  return params.y_numerator == params.y_denominator;
}

// The logits of a chunk in three columns of a row.
struct Three {
  left: vec4<f32>,
  own: vec4<f32>,
  right: vec4<f32>,
}

fn load_chunk(classes: vec4<u32>, at: u32) -> vec4<f32> {
  let e = classes + at;
  return vec4(load_one(e.x), load_one(e.y), load_one(e.z), load_one(e.w));
}

fn load_three(classes: vec4<u32>, row: u32, column: u32) -> Three {
  let start = (row - params.in_row) * params.place.y;
  let left = max(column, 1u) - 1u;
  let right = select(min(column + 1u, params.in_width - 1u), column, keeps_width());
  return Three(
    load_chunk(classes, start + left * pixel_stride()),
    load_chunk(classes, start + column * pixel_stride()),
    load_chunk(classes, start + right * pixel_stride()),
  );
}

@compute @workgroup_size(WORKGROUP)
fn gradient(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  let runs = (params.rows + params.lanes - 1u) / params.lanes;
  let line = position / params.in_width;
  let column = position % params.in_width;
  let first_class = line / runs * CHUNK;
  if first_class >= params.classes {
    return;
  }
  let first_row = params.first_row + line % runs * params.lanes;
  let last_row = min(first_row + params.lanes, params.first_row + params.rows);
  let image = image_of(workgroup);
  let of_chunk = vec4(first_class) + vec4(0u, 1u, 2u, 3u);
  // Behind the last class the last one again, which is not written twice.
  let classes = min(of_chunk, vec4(params.classes - 1u));
  let elements = params.place.w + image * params.place.x + classes * plane_stride();

  let scale = gradient_scale();
  var chosen = vec4(scale);
  var each = vec4(0.0);
  if CLASS_WEIGHTS {
    let w = vec4(class_weights[classes.x], class_weights[classes.y], class_weights[classes.z], class_weights[classes.w]);
    chosen = scale * (1.0 - params.label_smoothing) * w;
    each = scale * params.label_smoothing / f32(params.classes) * w;
  }

  // The pixels of the cell on the left begin, those of the cell on the right begin, and those end.
  let middle = first_column_at(i32(column));
  let begin = select(first_column_at(i32(column) - 1), middle, keeps_width());
  let end = first_column_at(i32(column) + 1);
  let last_column = column + 1u == params.in_width;
  let inverse_x = 1.0 / f32(params.x_denominator);
  let inverse_y = 1.0 / f32(params.y_denominator);
  // How far behind the column on the left a pixel reads, in denominators.
  let first_distance = i32(params.x_numerator * begin) + params.x_offset - (i32(column) - 1) * i32(params.x_denominator);
  let row_pixels = (params.out_width + 3u) / 4u * 4u;
  let map = map_at(image, 0u) * 4u;

  var cell = max(i32(first_row) - 1, 0);
  var y = first_row_at(cell);
  var below = load_three(elements, u32(cell), column);
  var from_above = vec4(0.0); // what the cell above adds to its lower row
  for (; cell < i32(last_row); cell++) {
    let above = below;
    let last_cell = u32(cell) + 1u == params.in_height;
    below = load_three(elements, min(u32(cell) + 1u, params.in_height - 1u), column);
    var upper = vec4(0.0);
    var lower = vec4(0.0);
    let next_y = first_row_at(cell + 1);
    for (; y < next_y; y++) {
      let distance = max(i32(params.y_numerator * y) + params.y_offset - cell * i32(params.y_denominator), 0);
      let fy = select(f32(distance) * inverse_y, 0.0, last_cell);
      var left = above.left;
      var own = above.own;
      var right = above.right;
      if !keeps_height() {
        left = (1.0 - fy) * left + fy * below.left;
        own = (1.0 - fy) * own + fy * below.own;
        right = (1.0 - fy) * right + fy * below.right;
      }
      let row = map + (y - params.out_row) * row_pixels;
      var of_row = vec4(0.0);
      var distance_x = first_distance;
      for (var x = begin; x < end; x++) {
        let at = row + x;
        let found = statistics[at];
        let label = unpack_label(targets[at >> 2u], at & 3u);
        let is_right = x >= middle;
        var fx = f32(max(select(distance_x, distance_x - i32(params.x_denominator), is_right), 0)) * inverse_x;
        fx = select(fx, 0.0, is_right && last_column);
        let logit = (1.0 - fx) * select(left, own, is_right) + fx * select(own, right, is_right);
        // −Inf adds nothing; where the softmax is NaN, the factor is.
        let e = select(exp(min(logit - found.x, vec4(0.0))), vec4(0.0), magnitude(logit) >= vec4(NOT_FINITE));
        let ignored = found.x == LEFT_OUT;
        var of_pixel = e * select(scale * found.y, 0.0, ignored);
        of_pixel -= select(vec4(0.0), chosen, classes == vec4(select(label, NONE, ignored)));
        if LABEL_SMOOTHING {
          of_pixel -= select(each, vec4(0.0), vec4(ignored));
        }
        of_row += select(fx, 1.0 - fx, is_right) * of_pixel;
        distance_x += i32(params.x_numerator);
      }
      upper += (1.0 - fy) * of_row;
      lower += select(fy * of_row, vec4(0.0), keeps_height());
    }
    if u32(cell) >= first_row {
      let sum = from_above + upper;
      let to = element_at(params.out_place, image, u32(cell) - params.first_row, column) + of_chunk * out_plane_stride();
      output[to.x] = sum.x;
      if first_class + 1u < params.classes {
        output[to.y] = sum.y;
      }
      if first_class + 2u < params.classes {
        output[to.z] = sum.z;
      }
      if first_class + 3u < params.classes {
        output[to.w] = sum.w;
      }
    }
    from_above = lower;
  }
}
