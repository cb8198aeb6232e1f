// Targets of losses, class by class, that are tensors like the logits.
//
// soft targets: [N, C, rows, row_pixels] with out strides

struct Truth {
  element: u32, // the first class of the group
  counted: vec4<bool>,
  invalid: vec4<bool>,
}

fn truth_at(image: u32, group: u32, left: u32) -> Truth {
  return Truth(out_place(image, group), vec4(0u, 1u, 2u, 3u) < vec4(left), vec4(false));
}

fn truth_of(truth: Truth, c: u32) -> vec4<f32> {
  return select(vec4(0.0), load_targets(truth.element + c * out_plane_stride()), truth.counted);
}
