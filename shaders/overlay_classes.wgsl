// The first of two steps of an overlay with outlines: a pixel must know the classes around it, so `upscale` and `resize` of
// upsample.wgsl leave them, and which pixels are not sure of theirs, to overlay_outline.wgsl.
//
// classes: [out_height, row_groups] of four

@group(0) @binding(3) var<storage, read_write> classes: array<vec4<u32>>;

fn write_row(image: u32, row: u32, column: u32, best: Best) {
  classes[(row + params.out_row) * params.grid.z + column / 4u] = marked(best);
}
