// Labels of 32 bits: a group is four words.

alias Labels = vec4<u32>;

fn pack_labels(labels: vec4<u32>) -> Labels {
  return labels;
}

fn unpack_labels(labels: Labels) -> vec4<u32> {
  return labels;
}

fn unpack_label(labels: Labels, lane: u32) -> u32 {
  return labels[lane];
}
