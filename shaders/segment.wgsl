// Upsampled labels from low-resolution logits and, if asked for, the scores of prelude/best.wgsl: what `upscale` and
// `resize` of upsample.wgsl find, written into maps.
//
// labels and scores: [N, out_height, row_groups] of four

fn write_row(image: u32, row: u32, column: u32, best: Best) {
  write_best(map_at(image, row * params.grid.z + column / 4u), best);
}
