// A soft mask at full resolution from low-resolution logits: the probability of one class, or of the best class of every
// pixel, in steps of 1 / 255. `upscale` and `resize` of upsample.wgsl find the logits; with the sigmoid they see the one
// class alone.
//
// mask: [N, out_height, mask_stride] words of four pixels, the first in the lowest byte; 0 where the probability is NaN

@group(0) @binding(3) var<storage, read_write> mask: array<u32>;

const BEST_CLASS: u32 = 0xffffffffu;

fn write_row(image: u32, row: u32, column: u32, best: Best) {
  let x = select(best.chosen, best.maximum, params.chosen_class == BEST_CLASS);
  var p = vec4(0.0);
  if ACTIVATION == SIGMOID {
    p = sigmoid_of(x);
  } else {
    p = exp(max(x - best.maximum, FARTHEST)) / best.sum;
  }
  p = select(p, vec4(0.0), magnitude(p) > vec4(NOT_FINITE));
  // `out_place.y`: words from one row to the next.
  let at = map_at(image, row * params.out_place.y + column / 4u);
  mask[at] = pack_labels(vec4<u32>(p * 255.0 + 0.5));
}
