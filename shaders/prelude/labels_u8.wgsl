// Labels of 8 bits: a group is one word, its first pixel in the lowest byte.

alias Labels = u32;

fn pack_labels(labels: vec4<u32>) -> Labels {
  return labels.x | (labels.y << 8u) | (labels.z << 16u) | (labels.w << 24u);
}

fn unpack_labels(labels: Labels) -> vec4<u32> {
  return (vec4(labels) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
}

fn unpack_label(labels: Labels, lane: u32) -> u32 {
  return (labels >> (8u * lane)) & 255u;
}
