// Copies the elements of a tensor, class by class, to where they lie in another one of the same size: to bring together
// what cannot be bound at once, and to take the result apart again. An invocation owns a group and walks its classes.
//
// logits: [N, C, rows, row_pixels] with strides, f32 or f16; output: the same with out strides, f32

@compute @workgroup_size(WORKGROUP)
fn copy(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let place = place_of(image, group);
  var element = place.element;
  var out = out_place(image, group);
  for (var c = 0u; c < params.classes; c++) {
    store(out, load(element), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}
