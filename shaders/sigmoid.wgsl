// Sigmoid of every element, whose elements that follow one another count as pixels of one class.
//
// `sigmoid`, where all elements of an image follow one another: an invocation owns GROUPS groups. `sigmoid_rows`, where
// rows are apart: an invocation owns one.
//
// logits, output: [N, elements], or [N, rows, row_pixels] with strides

const GROUPS: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn sigmoid(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let position = invocation(workgroup, local);
  let first = own_group(position, local, 0u, GROUPS);
  if first >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let step = own_group(position, local, 1u, GROUPS) - first;
  let last = group_count() - 1u;
  // Addresses are read before the first store: a store may change any storage buffer, as far as a driver knows.
  let element = element_at(params.place, image, 0u, 0u);
  let out = element_at(params.out_place, image, 0u, 0u);
  let stride = pixel_stride();
  let out_stride = out_pixel_stride();
  let pixels = params.row_pixels;
  for (var k = 0u; k < GROUPS; k++) {
    // Behind the last group it comes again, for a branch would cost more than that.
    let pixel = min(first + k * step, last) * 4u;
    store(out + pixel * out_stride, sigmoid_of(load(element + pixel * stride)), pixels - pixel);
  }
}

@compute @workgroup_size(WORKGROUP)
fn sigmoid_rows(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group < group_count() {
    let image = image_of(workgroup);
    let place = place_of(image, group);
    store(out_place(image, group), sigmoid_of(load(place.element)), place.left);
  }
}
