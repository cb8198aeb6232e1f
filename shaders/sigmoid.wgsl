// Sigmoid of every element: 1 / (1 + e^−x), which is e^x / (1 + e^x) where x is negative, so that the exponential
// never overflows. The elements that follow one another count as pixels of one class; an invocation owns GROUPS groups,
// a workgroup apart, so that neighbouring invocations read neighbouring groups.
//
// logits, output: [elements]

const GROUPS: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = invocation(workgroup, 0u) * GROUPS + local;
  for (var k = 0u; k < GROUPS; k++) {
    let group = first + k * WORKGROUP;
    if group < params.groups {
      let image = image_of(workgroup);
      let place = place_of(image, group);
      let x = load(place.element);
      let e = exp(-abs(x));
      let y = select(vec4(1.0), e, x < vec4(0.0)) / (1.0 + e);
      // The exponential of a driver may clamp its argument and lose NaN and the exact 0 of −Inf.
      let bits = magnitude(x);
      let limit = select(vec4(1.0), vec4(0.0), x < vec4(0.0));
      let special = select(limit, vec4(params.nan), bits > vec4(NOT_FINITE));
      store(out_place(image, group), select(y, special, bits >= vec4(NOT_FINITE)), place.left);
    }
  }
}
