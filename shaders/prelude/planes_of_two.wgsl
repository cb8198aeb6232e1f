// The planes of an image that is too large for one binding are in two: near_classes() of them, then the far ones. Loops
// that are walked for every pixel have a second one for the far half, since a software adapter would do both ways of a
// branch; others take load_class.

fn near_classes() -> u32 {
  if CLASSES != 0u {
    return (CLASSES + 1u) / 2u; // as in src/bands.rs
  }
  return params.near_classes;
}

fn far_load(element: u32) -> vec4<f32> {
  return far_half_load(element - params.far_element);
}

fn far_load_one(element: u32) -> f32 {
  return far_half_load_one(element - params.far_element);
}

fn far_store(element: u32, value: vec4<f32>, pixels: u32) {
  far_half_store(element - params.far_out_element, value, pixels);
}

// Four neighbouring pixels of class c, whose first lies at `element`.
fn load_class(c: u32, element: u32) -> vec4<f32> {
  if c < near_classes() {
    return load(element);
  }
  return far_load(element);
}

fn load_one_of(c: u32, element: u32) -> f32 {
  if c < near_classes() {
    return load_one(element);
  }
  return far_load_one(element);
}

fn store_class(c: u32, element: u32, value: vec4<f32>, pixels: u32) {
  if c < near_classes() {
    store(element, value, pixels);
  } else {
    far_store(element, value, pixels);
  }
}
