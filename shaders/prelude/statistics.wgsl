// Maximum and Σ exp(x − maximum) over the classes of a group: what softmax and cross-entropy are made of.

struct Statistics {
  maximum: vec4<f32>, // NaN where the softmax is: a NaN, a +Inf or nothing but −Inf among the classes
  sum: vec4<f32>,
}

// What is known after some of the classes: `sum` is rescaled whenever the maximum moves.
struct Online {
  maximum: vec4<f32>,
  sum: vec4<f32>,
  largest: vec4<u32>, // bits of the largest |x|
}

fn first_online(x: vec4<f32>) -> Online {
  return Online(x, vec4(1.0), magnitude(x));
}

fn next_online(s: Online, x: vec4<f32>) -> Online {
  let m = max(s.maximum, x);
  return Online(m, s.sum * exp(s.maximum - m) + exp(x - m), max(s.largest, magnitude(x)));
}

// The same for five classes: one rescaling for all of them.
fn next_five(s: Online, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>, x4: vec4<f32>) -> Online {
  let m = max(max(max(x0, x1), max(x2, x3)), max(x4, s.maximum));
  let sum = s.sum * exp(s.maximum - m) + (exp(x0 - m) + exp(x1 - m)) + (exp(x2 - m) + exp(x3 - m)) + exp(x4 - m);
  let larger = max(max(magnitude(x0), magnitude(x1)), max(magnitude(x2), magnitude(x3)));
  return Online(m, sum, max(s.largest, max(larger, magnitude(x4))));
}

// The five classes from `element` on.
fn near_five(s: Online, at: u32, stride: u32) -> Online {
  let x0 = load(at);
  let x1 = load(at + stride);
  let x2 = load(at + 2u * stride);
  let x3 = load(at + 3u * stride);
  return next_five(s, x0, x1, x2, x3, load(at + 4u * stride));
}

fn far_five(s: Online, at: u32, stride: u32) -> Online {
  let x0 = far_load(at);
  let x1 = far_load(at + stride);
  let x2 = far_load(at + 2u * stride);
  let x3 = far_load(at + 3u * stride);
  return next_five(s, x0, x1, x2, x3, far_load(at + 4u * stride));
}

// With groups that have special values done again.
fn finished(s: Online, first: u32) -> Statistics {
  let special = s.largest >= vec4(NOT_FINITE);
  if any(special) {
    let exact = exact_statistics(first);
    return Statistics(select(s.maximum, exact.maximum, special), select(s.sum, exact.sum, special));
  }
  return Statistics(s.maximum, s.sum);
}

// One walk over the classes, five at a time.
fn online_statistics(first: u32) -> Statistics {
  let stride = plane_stride();
  var s = first_online(load(first));
  var element = first + stride;
  var c = 1u;
  for (; c + 5u <= near_classes(); c += 5u) {
    s = near_five(s, element, stride);
    element += 5u * stride;
  }
  if HALVES {
    for (; c + 5u <= params.classes; c += 5u) {
      s = far_five(s, element, stride);
      element += 5u * stride;
    }
  }
  for (; c < params.classes; c++) {
    s = next_online(s, load_class(c, element));
    element += stride;
  }
  return finished(s, first);
}

// Groups that an invocation walks through the classes together: neighbours, where there are several.
const STRIP: u32 = 1u + u32(ADJACENT);

// The same walk for all groups of a strip. Where one of them `is_special`, they are to be done again one by one, in a loop
// that no compiler unrolls: software adapters walk both ways of a branch.
fn strip_statistics(firsts: array<u32, STRIP>) -> array<Online, STRIP> {
  let stride = plane_stride();
  var elements = firsts;
  var s: array<Online, STRIP>;
  for (var k = 0u; k < STRIP; k++) {
    s[k] = first_online(load(elements[k]));
    elements[k] += stride;
  }
  var c = 1u;
  for (; c + 5u <= near_classes(); c += 5u) {
    for (var k = 0u; k < STRIP; k++) {
      s[k] = near_five(s[k], elements[k], stride);
      elements[k] += 5u * stride;
    }
  }
  if HALVES {
    for (; c + 5u <= params.classes; c += 5u) {
      for (var k = 0u; k < STRIP; k++) {
        s[k] = far_five(s[k], elements[k], stride);
        elements[k] += 5u * stride;
      }
    }
  }
  for (; c < params.classes; c++) {
    for (var k = 0u; k < STRIP; k++) {
      s[k] = next_online(s[k], load_class(c, elements[k]));
      elements[k] += stride;
    }
  }
  return s;
}

fn is_special(strip: array<Online, STRIP>) -> bool {
  var s = strip;
  var largest = vec4(0u);
  for (var k = 0u; k < STRIP; k++) {
    largest = max(largest, s[k].largest);
  }
  return any(largest >= vec4(NOT_FINITE));
}

// The same in two walks that heed special values: −Inf adds nothing to the sum. The class count is read, not compiled in:
// software adapters walk both ways of a branch, and through an unrolled loop to its end.
fn exact_statistics(first: u32) -> Statistics {
  var maximum = load(first);
  var top = order4(maximum);
  var element = first;
  for (var c = 1u; c < params.classes; c++) {
    element += plane_stride();
    let x = load_class(c, element);
    let key = order4(x);
    maximum = select(maximum, x, key > top);
    top = max(top, key);
  }
  var sum = vec4(0.0);
  element = first;
  for (var c = 0u; c < params.classes; c++) {
    let x = load_class(c, element);
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
