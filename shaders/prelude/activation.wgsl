// What turns logits into probabilities, where an operator has the choice: ACTIVATION is one of these, or 0 for none.

const SIGMOID: u32 = 1u;
const SOFTMAX: u32 = 2u;

// 1 / (1 + e^−x), which is e^x / (1 + e^x) where x is negative, so that the exponential never overflows.
fn sigmoid_of(x: vec4<f32>) -> vec4<f32> {
  let e = exp(-abs(x));
  let y = select(vec4(1.0), e, x < vec4(0.0)) / (1.0 + e);
  // The exponential of a driver may clamp its argument and lose NaN and the exact 0 of −Inf.
  let bits = magnitude(x);
  let limit = select(vec4(1.0), vec4(0.0), x < vec4(0.0));
  let special = select(limit, vec4(params.nan), bits > vec4(NOT_FINITE));
  return select(y, special, bits >= vec4(NOT_FINITE));
}
