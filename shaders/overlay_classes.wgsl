// The first of two steps of an overlay, for outlines, whose pixels must know the classes around them, and for what is
// compiled into the second step alone: `upscale` and `resize` of upsample.wgsl leave the class of every pixel, and whether
// it is sure of it, to overlay_two_steps.wgsl.
//
// classes: [out_height, row_groups] of four

@group(0) @binding(3) var<storage, read_write> classes: array<vec4<u32>>;

fn write_row(image: u32, row: u32, column: u32, best: Best) {
  classes[(row + params.out_row) * params.grid.z + column / 4u] = marked(best);
}
