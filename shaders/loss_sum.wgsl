// Adds up losses that were computed one after another, each times its weight.
//
// `add_record`, a single invocation: the record of the first loss is where the sum goes, those of the others are added to it. The
// value of each loss before it is weighted is kept in `values`.
//
// `scale` and `add`: the gradient of the first loss is scaled where it lies, those of the others are added to it. An
// invocation owns a group and walks its classes.
//
// logits (the gradient of one loss), output (the sum): [N, C, rows, row_pixels] with strides, f32; values: [losses]

@group(0) @binding(3) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn add_record(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  if local != 0u {
    return;
  }
  let i = params.chosen_class;
  var sum = unpacked(partials_out[0]);
  if i == 0u {
    values[0] = sum.loss;
    sum.loss *= params.weight;
    sum.weight = params.weight;
  } else {
    let term = unpacked(total[0]);
    values[i] = term.loss;
    sum.loss += params.weight * term.loss;
    sum.weight += params.weight;
    sum.first_invalid = min(sum.first_invalid, term.first_invalid);
  }
  partials_out[0] = packed(sum);
}

@compute @workgroup_size(WORKGROUP)
fn scale(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let image = image_of(workgroup);
  let left = place_of(image, group).left;
  var out = out_place(image, group);
  for (var c = 0u; c < params.classes; c++) {
    store(out, params.weight * load_output(out), left);
    out += out_plane_stride();
  }
}

@compute @workgroup_size(WORKGROUP)
fn add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
    store(out, load_output(out) + params.weight * load(element), place.left);
    element += plane_stride();
    out += out_plane_stride();
  }
}
