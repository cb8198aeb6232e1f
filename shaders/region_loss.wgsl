// What region losses such as Dice read of every pixel: the sums Σ p · t, Σ p and Σ t of its probabilities p and its targets
// t, and what they write of it, the gradient. ACTIVATION makes p of the logits; the maximum and the scale of a softmax
// were left by softmax.wgsl.
//
// `sums`: a CHUNK of an image is shared by `lanes` invocations for each BLOCK of classes, which leave their sums. Chunks are
// where bands begin, so a chunk has the same sums whatever band it is in.
//
// `gradient`: with the derivative of the loss by p, u = A · t + B, where A and B are those of the region (see
// region_score.wgsl), the derivative by a logit is u · p · (1 − p) for a sigmoid and p · (u − Σ p · u) for a softmax.
//
// In front of it stands how targets are read (Truth, truth_at, truth_of).
//
// logits, output (the gradient): [N, C, rows, row_pixels] with strides, maximum and scale: [N, map_groups] of four,
// sums: [N, chunks, lanes, C], coefficients: [N, C] of A and B, or [C] where the images are a region together

const CHUNK: u32 = 512u; // groups
const BLOCK: u32 = 4u;

@group(0) @binding(4) var<storage, read> maximum_in: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> scale_in: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> sums_out: array<Sums>;
@group(0) @binding(7) var<storage, read> coefficients: array<vec2<f32>>;

struct Scale {
  maximum: vec4<f32>,
  scale: vec4<f32>,
}

// Where a band has several images, its maps follow one another from the first group on.
fn scale_at(image: u32, group: u32) -> Scale {
  if ACTIVATION == SOFTMAX {
    let at = image * params.map.x + group;
    return Scale(maximum_in[at], scale_in[at]);
  }
  return Scale();
}

fn probability(x: vec4<f32>, of_pixel: Scale) -> vec4<f32> {
  if ACTIVATION == SIGMOID {
    return sigmoid_of(x);
  }
  if ACTIVATION == SOFTMAX {
    let special = max(magnitude(x), magnitude(of_pixel.maximum)) >= vec4(NOT_FINITE);
    let p = exp(x - of_pixel.maximum) * of_pixel.scale;
    if any(special) {
      return exact_probability(x, of_pixel.maximum, of_pixel.scale);
    }
    return p;
  }
  return x;
}

@compute @workgroup_size(WORKGROUP)
fn sums(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let lanes = params.lanes;
  let row = invocation(workgroup, local) / lanes;
  let lane = invocation(workgroup, local) - row * lanes;
  let blocks = (params.classes + BLOCK - 1u) / BLOCK;
  let chunk = row / blocks;
  let first_class = (row - chunk * blocks) * BLOCK;
  let first_group = chunk * CHUNK;
  if first_group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let end = min(first_group + CHUNK, group_count());
  var intersection: array<vec4<f32>, BLOCK>;
  var predicted: array<vec4<f32>, BLOCK>;
  var truths: array<vec4<f32>, BLOCK>;
  var valid = vec4(0u);
  var first_invalid = vec4(NONE);
  for (var group = first_group + lane; group < end; group += lanes) {
    let place = place_of(image, group);
    let truth = truth_at(image, group, place.left);
    let of_pixel = scale_at(image, group);
    valid += select(vec4(0u), vec4(1u), truth.counted);
    let position = params.first_pixel + image * params.pixels + place.pixel + vec4(0u, 1u, 2u, 3u);
    first_invalid = min(first_invalid, select(vec4(NONE), position, truth.invalid));
    for (var k = 0u; k < BLOCK; k++) {
      let c = first_class + k;
      if c < params.classes {
        let x = load(place.element + c * plane_stride());
        let p = select(vec4(0.0), probability(x, of_pixel), truth.counted);
        let t = truth_of(truth, c);
        intersection[k] += p * t;
        predicted[k] += p;
        truths[k] += t;
      }
    }
  }
  let chunks = (group_count() + CHUNK - 1u) / CHUNK;
  let out = ((image * chunks + chunk) * lanes + lane) * params.classes + first_class;
  let counted = (valid.x + valid.y) + (valid.z + valid.w);
  let first = min(min(first_invalid.x, first_invalid.y), min(first_invalid.z, first_invalid.w));
  for (var k = 0u; k < BLOCK; k++) {
    if first_class + k < params.classes {
      sums_out[out + k] = Sums(of_lanes(intersection[k]), of_lanes(predicted[k]), of_lanes(truths[k]), counted, first);
    }
  }
}

fn of_lanes(x: vec4<f32>) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}

@compute @workgroup_size(WORKGROUP)
fn gradient(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  let truth = truth_at(image, group, place.left);
  let of_pixel = scale_at(image, group);
  let first_region = params.first_region + image * params.region_stride;
  var mean = vec4(0.0);
  if ACTIVATION == SOFTMAX {
    for (var c = 0u; c < params.classes; c++) {
      let p = probability(load(place.element + c * plane_stride()), of_pixel);
      mean += p * by_probability(first_region + c, truth_of(truth, c));
    }
  }
  var element = place.element;
  var out = out_place(image, group);
  for (var c = 0u; c < params.classes; c++) {
    let x = load(element);
    let u = by_probability(first_region + c, truth_of(truth, c));
    var by_logit = u;
    if ACTIVATION == SOFTMAX {
      by_logit = probability(x, of_pixel) * (u - mean);
    } else if ACTIVATION == SIGMOID {
      by_logit = u * slope_of(x);
    }
    store(out, select(vec4(0.0), by_logit, truth.counted), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}

fn by_probability(region: u32, truth: vec4<f32>) -> vec4<f32> {
  let of_region = coefficients[region];
  return of_region.x * truth + of_region.y;
}

// p · (1 − p) of a sigmoid without cancellation: e / (1 + e)² with e = e^−|x|.
fn slope_of(x: vec4<f32>) -> vec4<f32> {
  let e = exp(-abs(x));
  let one = 1.0 + e;
  let bits = magnitude(x);
  let special = select(vec4(0.0), vec4(params.nan), bits > vec4(NOT_FINITE));
  return select(e / (one * one), special, bits >= vec4(NOT_FINITE));
}
