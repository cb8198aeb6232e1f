// The best class of four pixels and what is known of the others: what argmax and segment find and write.
//
// With d = x − maximum ≤ 0, S = Σ exp(d) and T = Σ d · exp(d) over the classes:
//   confidence, the softmax probability of the best class:   1 / S
//   margin, its distance to the second probability:          (1 − exp(second − maximum)) / S
//   entropy, −Σ p ln p:                                      ln S − T / S
// S and T are carried along and rescaled whenever the maximum moves. A score that is compiled in but was not asked for
// goes to a placeholder, which is too small for it: WebGPU leaves such a write out, or lets it land there.

const SCORES: bool = CONFIDENCE || MARGIN || ENTROPY;
// exp of this is 0 in f32; a difference of finite logits may be −Inf, and 0 · Inf is NaN.
const FARTHEST: vec4<f32> = vec4(-200.0);

struct Best {
  maximum: vec4<f32>,
  label: vec4<u32>,
  second: vec4<f32>, // the second largest logit: the maximum where two classes share it, −Inf where there is none
  sum: vec4<f32>,    // S
  moment: vec4<f32>, // T
  chosen: vec4<f32>, // the logit of params.chosen_class, where CHOSEN_CLASS is compiled in
}

@group(0) @binding(3) var<storage, read_write> labels: array<Labels>;
@group(0) @binding(4) var<storage, read_write> confidence: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> margin: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> entropy: array<vec4<f32>>;

fn first_class(x: vec4<f32>) -> Best {
  return Best(x, vec4(0u), vec4(-params.infinity), vec4(1.0), vec4(0.0), x);
}

// Takes in one more class; `greater` says where it is the best so far.
fn next_label(best: Best, x: vec4<f32>, c: u32, greater: vec4<bool>) -> Best {
  let second = select(max(best.second, x), best.maximum, greater);
  let label = select(best.label, vec4(c), greater);
  var chosen = best.chosen;
  if CHOSEN_CLASS && c == params.chosen_class {
    chosen = x;
  }
  return Best(select(best.maximum, x, greater), label, second, best.sum, best.moment, chosen);
}

// The same with the sums.
fn next_class(best: Best, x: vec4<f32>, c: u32) -> Best {
  let greater = x > best.maximum;
  var next = next_label(best, x, c, greater);
  if SCORES {
    let d = max(-abs(x - best.maximum), FARTHEST);
    let e = exp(d);
    next.sum = select(best.sum + e, best.sum * e + 1.0, greater);
    if ENTROPY {
      next.moment = select(best.moment + d * e, e * (best.moment + d * best.sum), greater);
    }
  }
  return next;
}

// Adds the term of one class to the sums, with the maximum known. A special value adds nothing.
fn add_term(best: Best, x: vec4<f32>) -> Best {
  var next = best;
  let d = max(x - best.maximum, FARTHEST);
  let e = select(exp(d), vec4(0.0), magnitude(x) >= vec4(NOT_FINITE));
  next.sum += e;
  next.moment += d * e;
  return next;
}

// Where the softmax is NaN, so are the scores.
fn undefined_scores(best: Best) -> Best {
  var next = best;
  next.sum = select(best.sum, vec4(params.nan), magnitude(best.maximum) >= vec4(NOT_FINITE));
  return next;
}

const UNCERTAIN: u32 = 0x80000000u; // beside a class

// The class, marked where its score is below the threshold or NaN: its softmax probability or, where no sums are
// compiled in, its sigmoid. A negative threshold marks nothing.
fn marked(best: Best) -> vec4<u32> {
  var score = vec4(0.0);
  if CONFIDENCE {
    score = 1.0 / best.sum;
  } else {
    score = sigmoid_of(best.maximum);
  }
  let below = (score < vec4(params.threshold)) | (magnitude(score) > vec4(NOT_FINITE));
  return best.label | select(vec4(0u), vec4(UNCERTAIN), below & vec4(params.threshold >= 0.0));
}

fn write_best(at: u32, best: Best) {
  labels[at] = pack_labels(best.label);
  if CONFIDENCE {
    confidence[at] = 1.0 / best.sum;
  }
  if MARGIN {
    margin[at] = (1.0 - exp(max(best.second - best.maximum, FARTHEST))) / best.sum;
  }
  if ENTROPY {
    entropy[at] = log(best.sum) - best.moment / best.sum;
  }
}
