// Sigmoid of every element, whose elements that follow one another count as pixels of one class.
//
// `sigmoid`, where all elements of an image follow one another: an invocation owns GROUPS groups. `sigmoid_rows`, where rows are apart: an invocation owns one.
//
// logits, output: [N, elements], or [N, rows, row_pixels] with strides

const GROUPS: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  let position = invocation(workgroup, local);
  let first = own_group(position, local, 0u, GROUPS);
  let step = own_group(position, local, 1u, GROUPS) - first;
  let image = image_of(workgroup);
  let groups = group_count();
  // Addresses are read before the first store: a store may change any storage buffer, as far as a driver knows.
  var element = element_at(params.place, image, 0u, first * 4u);
  var out = element_at(params.out_place, image, 0u, first * 4u);
  var left = params.row_pixels - first * 4u;
  for (var k = 0u; k < GROUPS; k++) {
    if first + k * step < groups {
      store(out, sigmoid_of(load(element)), left);
    }
    element += 4u * step;
    out += 4u * step;
    left -= 4u * step;
  }
}

@compute @workgroup_size(WORKGROUP)
fn sigmoid_rows(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  let group = invocation(workgroup, local);
  if group < group_count() {
    let image = image_of(workgroup);
    let place = place_of(image, group);
    store(out_place(image, group), sigmoid_of(load(place.element)), place.left);
  }
}
