// All planes are in one binding: kernels walk through those of the near half, and there is no far one.

fn near_classes() -> u32 {
  return class_count();
}

fn far_load(element: u32) -> vec4<f32> {
  return load(element);
}

fn far_store(element: u32, value: vec4<f32>, pixels: u32) {
  store(element, value, pixels);
}

fn load_class(c: u32, element: u32) -> vec4<f32> {
  return load(element);
}

fn far_load_one(element: u32) -> f32 {
  return load_one(element);
}

fn load_one_of(c: u32, element: u32) -> f32 {
  return load_one(element);
}

fn store_class(c: u32, element: u32, value: vec4<f32>, pixels: u32) {
  store(element, value, pixels);
}
