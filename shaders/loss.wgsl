// Adds up the partial sums that the kernels of a loss leave. `partials` adds FAN neighbours an invocation, as often as
// it takes; `finish`, a single invocation, adds the last ones and divides for the mean. The order of the additions
// depends on the shape alone, so the same input gives the same bits; no atomics, no barriers.
//
// partial sums: [partials]

const FAN: u32 = 64u;

@group(0) @binding(7) var<storage, read> partials_in: array<Partial>;

@compute @workgroup_size(WORKGROUP)
fn partials(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  let sums = (params.partials + FAN - 1u) / FAN;
  let position = invocation(workgroup, local);
  if position < sums {
    partials_out[position] = add_partials(position * FAN);
  }
}

@compute @workgroup_size(WORKGROUP)
fn finish(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  if local != 0u {
    return;
  }
  var total = add_partials(0u);
  let mean = params.reduction == 1u;
  if total.first_invalid != NONE || (mean && total.weight == 0.0) {
    total.loss = params.nan;
  } else if mean {
    total.loss /= total.weight;
  }
  partials_out[0] = total;
}

// At most FAN neighbours: a workgroup's worth of pixels has the same sum whatever band it is in.
fn add_partials(first: u32) -> Partial {
  var total = Partial(0.0, 0.0, 0u, NONE);
  let end = min(first + FAN, params.partials);
  for (var i = first; i < end; i++) {
    let partial = partials_in[i];
    total.loss += partial.loss;
    total.weight += partial.weight;
    total.valid += partial.valid;
    total.first_invalid = min(total.first_invalid, partial.first_invalid);
  }
  return total;
}
