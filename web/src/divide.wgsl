// Logits divided by a temperature.

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> divided: array<f32>;
@group(0) @binding(2) var<uniform> temperature: vec4<f32>;

@compute @workgroup_size(128)
fn divide(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < arrayLength(&logits); i += 128u * groups.x) {
    divided[i] = logits[i] / temperature.x;
  }
}
