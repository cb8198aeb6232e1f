// Targets of losses, class by class, that are labels: 1 for the class that is the label; of a single class, the label itself.
//
// targets: [N, map_groups] of four

@group(0) @binding(3) var<storage, read> targets: array<Labels>;

struct Truth {
  labels: vec4<u32>,
  counted: vec4<bool>, // neither behind the row nor ignored
  invalid: vec4<bool>,
}

fn truth_at(image: u32, group: u32, left: u32) -> Truth {
  let labels = unpack_labels(targets[map_at(image, group)]);
  let ignored = vec4(params.has_ignore_index != 0u) & (labels == vec4(params.ignore_index));
  let counted = (vec4(0u, 1u, 2u, 3u) < vec4(left)) & !ignored;
  return Truth(labels, counted, counted & (labels >= vec4(max(params.classes, 2u))));
}

fn truth_of(truth: Truth, c: u32) -> vec4<f32> {
  let label = c + select(0u, 1u, params.classes == 1u);
  return select(vec4(0.0), vec4(1.0), truth.counted & (truth.labels == vec4(label)));
}
