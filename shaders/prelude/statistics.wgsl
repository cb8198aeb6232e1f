// Maximum and Σ exp(x − maximum) over the classes of a group: what softmax and cross-entropy are made of.

struct Statistics {
  maximum: vec4<f32>, // NaN where the softmax is: a NaN, a +Inf or nothing but −Inf among the classes
  sum: vec4<f32>,
}

// One walk over the classes, five at a time: the sum is rescaled whenever the maximum moves, once for five.
fn online_statistics(first: u32) -> Statistics {
  let s = plane_stride();
  var maximum = load(first);
  var largest = magnitude(maximum);
  var sum = vec4(1.0);
  var element = first + s;
  var c = 1u;
  for (; c + 5u <= params.classes; c += 5u) {
    let x0 = load(element);
    let x1 = load(element + s);
    let x2 = load(element + 2u * s);
    let x3 = load(element + 3u * s);
    let x4 = load(element + 4u * s);
    let m = max(max(max(x0, x1), max(x2, x3)), max(x4, maximum));
    sum = sum * exp(maximum - m) + (exp(x0 - m) + exp(x1 - m)) + (exp(x2 - m) + exp(x3 - m)) + exp(x4 - m);
    maximum = m;
    let larger = max(max(magnitude(x0), magnitude(x1)), max(magnitude(x2), magnitude(x3)));
    largest = max(largest, max(larger, magnitude(x4)));
    element += 5u * s;
  }
  for (; c < params.classes; c++) {
    let x = load(element);
    let m = max(maximum, x);
    sum = sum * exp(maximum - m) + exp(x - m);
    maximum = m;
    largest = max(largest, magnitude(x));
    element += s;
  }
  let special = largest >= vec4(NOT_FINITE);
  if any(special) {
    let exact = exact_statistics(first);
    return Statistics(select(maximum, exact.maximum, special), select(sum, exact.sum, special));
  }
  return Statistics(maximum, sum);
}

// The same in two walks that heed special values: −Inf adds nothing to the sum.
fn exact_statistics(first: u32) -> Statistics {
  var maximum = load(first);
  var top = order4(maximum);
  var element = first;
  for (var c = 1u; c < class_count(); c++) {
    element += plane_stride();
    let x = load(element);
    let key = order4(x);
    maximum = select(maximum, x, key > top);
    top = max(top, key);
  }
  var sum = vec4(0.0);
  element = first;
  for (var c = 0u; c < class_count(); c++) {
    let x = load(element);
    sum += select(exp(x - maximum), vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
    element += plane_stride();
  }
  let undefined = magnitude(maximum) >= vec4(NOT_FINITE);
  return Statistics(select(maximum, vec4(params.nan), undefined), select(sum, vec4(1.0), undefined));
}

// The softmax of one class of a group with special values.
fn exact_probability(x: vec4<f32>, maximum: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
  let y = select(exp(x - maximum) * scale, vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
  return select(y, vec4(params.nan), magnitude(maximum) >= vec4(NOT_FINITE));
}
