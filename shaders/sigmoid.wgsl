// Sigmoid of every element. The elements that follow one another count as pixels of one class; an invocation owns GROUPS
// groups, a workgroup apart, so that neighbouring invocations read neighbouring groups.
//
// logits, output: [elements]

const GROUPS: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = invocation(workgroup, 0u) * GROUPS + local;
  let image = image_of(workgroup);
  let groups = group_count();
  let one_row = params.grid.y == params.grid.z;
  // Parameters are read before the first store: a store may change any storage buffer, as far as a driver knows.
  var place = place_of(image, first);
  var out = out_place(image, first);
  for (var k = 0u; k < GROUPS; k++) {
    let group = first + k * WORKGROUP;
    if group < groups {
      if !one_row {
        place = place_of(image, group);
        out = out_place(image, group);
      }
      store(out, sigmoid_of(load(place.element)), place.left);
    }
    place.element += 4u * WORKGROUP;
    place.left -= 4u * WORKGROUP;
    out += 4u * WORKGROUP;
  }
}
