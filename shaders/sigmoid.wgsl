// Sigmoid of every element. The elements that follow one another count as pixels of one class; an invocation owns GROUPS
// groups, a workgroup apart, so that neighbouring invocations read neighbouring groups.
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
      store(out_place(image, group), sigmoid_of(load(place.element)), place.left);
    }
  }
}
