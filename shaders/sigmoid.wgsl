// Sigmoid of every element, whose elements that follow one another count as pixels of one class.
//
// `sigmoid`, where all elements of an image follow one another: an invocation owns GROUPS groups. `sigmoid_rows`, where
// rows are apart: an invocation owns one.
//
// logits, output: [N, elements], or [N, rows, row_pixels] with strides

const GROUPS: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  params = stored_params;
  let position = invocation(workgroup, local);
  let first = own_group(position, local, 0u, GROUPS);
  if first >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  // All is read before the first store: a store may change any storage buffer, as far as a driver knows. Behind the last
  // group it comes again, for a branch would cost more than that.
  var groups: array<u32, GROUPS>;
  var x: array<vec4<f32>, GROUPS>;
  for (var k = 0u; k < GROUPS; k++) {
    groups[k] = min(own_group(position, local, k, GROUPS), group_count() - 1u);
    x[k] = load(element_at(params.place, image, 0u, groups[k] * 4u));
  }
  for (var k = 0u; k < GROUPS; k++) {
    let pixel = groups[k] * 4u;
    store(element_at(params.out_place, image, 0u, pixel), sigmoid_of(x[k]), params.row_pixels - pixel);
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
