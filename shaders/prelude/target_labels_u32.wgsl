// Target labels of 32 bits, whatever the labels beside them are: a group is four words.

alias TargetLabels = vec4<u32>;

fn unpack_target_labels(labels: TargetLabels) -> vec4<u32> {
  return labels;
}
