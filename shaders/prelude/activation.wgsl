// What turns logits into probabilities, where an operator has the choice: ACTIVATION is one of these, or 0 for none.

const SIGMOID: u32 = 1u;
const SOFTMAX: u32 = 2u;

// 1 / (1 + e^−x), which is e^x / (1 + e^x) where x is negative, so that the exponential never overflows; that of −200 is
// 0, and so it is for all below, −Inf too. A NaN is set right by its bits.
fn sigmoid_of(x: vec4<f32>) -> vec4<f32> {
  let e = exp(-min(abs(x), vec4(200.0)));
  let y = select(vec4(1.0), e, x < vec4(0.0)) / (1.0 + e);
  return select(y, vec4(params.nan), magnitude(x) > vec4(NOT_FINITE));
}
