// Target labels of 8 bits, whatever the labels beside them are: a group is one word, its first pixel in the lowest byte.

alias TargetLabels = u32;

fn unpack_target_labels(labels: TargetLabels) -> vec4<u32> {
  return (vec4(labels) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
}
