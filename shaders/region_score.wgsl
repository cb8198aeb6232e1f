// From the sums of chunks to region losses. `fold` adds up to `lanes` neighbouring rows of an image, as often as it takes;
// the order depends on the shape alone. `score`, an invocation for each region, makes the loss of the sums
// I = Σ p · t, P = Σ p and T = Σ t of a region:
//
//   loss = 1 − (k · I + s) / (D + s)    with D = a · I + b · P + c · T
//
// and the smoothing s: Dice has k = 2, a = 0, b = c = 1, the Jaccard index k = 1, a = −1, b = c = 1, Tversky's
// k = 1, a = 1 − α − β, b = α, c = β. A region with D = 0 has D = k · I, as in pytorch-unet. The derivative by a
// probability p with the target t is A · t + B: `score` leaves A and B, times the share of the loss in the reduction.
//
// sums: [N, partials, C], then [N, C] or [C]; coefficients: the same of A and B; losses, partial sums: [partials]

@group(0) @binding(2) var<storage, read_write> region_losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> coefficients_out: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read> sums_in: array<Sums>;
@group(0) @binding(8) var<storage, read_write> sums_out: array<Sums>;

fn add(a: Sums, b: Sums) -> Sums {
  let first_invalid = min(a.first_invalid, b.first_invalid);
  let truth = a.truth + b.truth;
  return Sums(a.intersection + b.intersection, a.predicted + b.predicted, truth, a.valid + b.valid, first_invalid);
}

@compute @workgroup_size(WORKGROUP)
fn fold(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let i = invocation(workgroup, local);
  let row = i / params.classes;
  let c = i - row * params.classes;
  let rows = (params.partials + params.lanes - 1u) / params.lanes;
  if row >= rows {
    return;
  }
  let image = image_of(workgroup);
  let first = row * params.lanes;
  let end = min(first + params.lanes, params.partials);
  var total = Sums(0.0, 0.0, 0.0, 0u, NONE);
  for (var r = first; r < end; r++) {
    total = add(total, sums_in[(image * params.partials + r) * params.classes + c]);
  }
  sums_out[params.first_region + (image * rows + row) * params.classes + c] = total;
}

@compute @workgroup_size(WORKGROUP)
fn score(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let region = invocation(workgroup, local);
  if region >= params.partials {
    return;
  }
  let first = region * params.region_classes;
  var total = sums_in[first];
  // Every class of an image has the same pixels: the first one brings them.
  let valid = select(0u, total.valid, first % params.classes == 0u);
  for (var c = 1u; c < params.region_classes; c++) {
    total = add(total, sums_in[first + c]);
  }
  let hits = params.hits * total.intersection;
  var all = params.of_hits * total.intersection + params.of_predicted * total.predicted + params.of_truth * total.truth;
  let empty = all == 0.0;
  if empty {
    all = hits;
  }
  let bottom = all + params.smoothing;
  var loss = (all - hits) / bottom;
  let score = (hits + params.smoothing) / bottom;
  var by = vec2(score * params.of_hits - params.hits, score * params.of_predicted) / bottom;
  if params.reduction == 1u {
    by /= f32(params.partials);
  }
  by = select(by, vec2(0.0), empty);
  if bottom == 0.0 || total.first_invalid != NONE {
    loss = params.nan;
    by = vec2(params.nan);
  }
  partials_out[region] = packed(Partial(loss, 1.0, valid, total.first_invalid));
  for (var c = 0u; c < params.region_classes; c++) {
    coefficients_out[first + c] = by;
  }
  if PER_PIXEL {
    region_losses[region] = loss;
  }
}
