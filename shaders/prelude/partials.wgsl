// Partial sums of losses: what the kernels of a loss leave, and what adds them up takes.

struct Partial {
  loss: f32,
  weight: f32,        // the denominator of the mean
  valid: u32,         // pixels that were not ignored
  first_invalid: u32, // image · H · W + pixel of the first target that is no class, or NONE
}

const NONE: u32 = 0xffffffffu;
const GROUPS: u32 = 4u; // groups of four pixels that an invocation sums up

@group(0) @binding(5) var<storage, read_write> losses: array<vec4<f32>>;
// Each as one vector, which is one access.
@group(0) @binding(6) var<storage, read_write> partials_out: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> total: array<vec4<u32>>;

fn packed(partial: Partial) -> vec4<u32> {
  return vec4(bitcast<u32>(partial.loss), bitcast<u32>(partial.weight), partial.valid, partial.first_invalid);
}

fn unpacked(words: vec4<u32>) -> Partial {
  return Partial(bitcast<f32>(words.x), bitcast<f32>(words.y), words.z, words.w);
}

// What the gradient of the sum is multiplied by.
fn gradient_scale() -> f32 {
  if params.reduction == 0u {
    return 1.0;
  }
  let weight = unpacked(total[0]).weight;
  return select(1.0 / weight, params.nan, weight == 0.0);
}
