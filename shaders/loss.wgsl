// Adds up the partial sums that the kernels of a loss leave. `partials` adds FAN neighbours an invocation, as often as
// it takes; `finish`, a single workgroup, adds the last ones and divides for the mean. The order of the additions
// depends on the shape alone, so the same input gives the same bits; no atomics.
//
// partial sums: [partials]

const FAN: u32 = 64u;

@group(0) @binding(7) var<storage, read> partials_in: array<vec4<u32>>;
var<workgroup> of_invocations: array<Partial, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn partials(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let sums = (params.partials + FAN - 1u) / FAN;
  let position = invocation(workgroup, local);
  if position < sums {
    partials_out[position] = packed(add_partials(position * FAN));
  }
}

@compute @workgroup_size(WORKGROUP)
fn finish(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  var own = no_partial();
  for (var i = local; i < params.partials; i += WORKGROUP) {
    own = sum_of(own, unpacked(partials_in[i]));
  }
  of_invocations[local] = own;
  workgroupBarrier();
  if local != 0u {
    return;
  }
  var total = own;
  for (var i = 1u; i < WORKGROUP; i++) {
    total = sum_of(total, of_invocations[i]);
  }
  let mean = params.reduction == 1u;
  if total.first_invalid != NONE || (mean && total.weight == 0.0) {
    total.loss = params.nan;
  } else if mean {
    total.loss /= total.weight;
  }
  partials_out[0] = packed(total);
}

// At most FAN neighbours: a workgroup's worth of pixels has the same sum whatever band it is in.
fn add_partials(first: u32) -> Partial {
  var total = no_partial();
  let end = min(first + FAN, params.partials);
  for (var i = first; i < end; i++) {
    total = sum_of(total, unpacked(partials_in[i]));
  }
  return total;
}

fn no_partial() -> Partial {
  return Partial(0.0, 0.0, 0u, NONE);
}

fn sum_of(a: Partial, b: Partial) -> Partial {
  return Partial(a.loss + b.loss, a.weight + b.weight, a.valid + b.valid, min(a.first_invalid, b.first_invalid));
}
