// The classes of low-resolution logits in colour over a photo of full size, in one pass: `upscale` and `resize` of
// upsample.wgsl find the class of every pixel and how sure it is, overlay_paint.wgsl blends and stores.

fn write_row(image: u32, row: u32, column: u32, best: Best) {
  paint_row(row + params.out_row, column, marked(best), vec4(false));
}
