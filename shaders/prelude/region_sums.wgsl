// What region losses are made of, of a class and of some pixels that count.

struct Sums {
  intersection: f32,  // Σ p · t
  predicted: f32,     // Σ p
  truth: f32,         // Σ t
  valid: u32,         // pixels that count, the same for every class
  first_invalid: u32, // image · H · W + pixel of the first target that is no class, or NONE
}
