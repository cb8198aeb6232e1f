// The second of two steps of an overlay: an invocation looks at the classes around four pixels of a row, if there are
// outlines, and paints them (overlay_paint.wgsl), those on an outline opaque.
//
// classes: [out_height, row_groups] of four

@group(0) @binding(3) var<storage, read> classes: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn paint_all(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  begin();
  let group = invocation(workgroup, local);
  if group >= group_count() {
    return;
  }
  let row = row_of(group);
  let column = column_of(group, row);
  let own = classes[group];
  paint_row(row, column, own, outlined(row, column, own & vec4(~UNCERTAIN)));
}

// Where another class is at most `outline` rows and columns away.
fn outlined(row: u32, column: u32, own: vec4<u32>) -> vec4<bool> {
  let reach = params.outline;
  let last_row = min(row + reach, params.out_height - 1u);
  let first_group = (max(column, reach) - reach) / 4u;
  let last_group = min(column + 3u + reach, params.out_width - 1u) / 4u;
  var found = vec4(false);
  for (var y = max(row, reach) - reach; y <= last_row; y++) {
    for (var g = first_group; g <= last_group; g++) {
      let there = classes[y * params.grid.z + g] & vec4(~UNCERTAIN);
      found |= differs(own, column, there.x, 4u * g);
      found |= differs(own, column, there.y, 4u * g + 1u);
      found |= differs(own, column, there.z, 4u * g + 2u);
      found |= differs(own, column, there.w, 4u * g + 3u);
    }
  }
  return found;
}

// Which of four pixels from `column` on have another class than a pixel in column `x`, which is near enough. Behind the last
// pixel of a row its class goes on.
fn differs(own: vec4<u32>, column: u32, x_class: u32, x: u32) -> vec4<bool> {
  let distance = abs(vec4(i32(x)) - (vec4(i32(column)) + vec4(0, 1, 2, 3)));
  return (distance <= vec4(i32(params.outline))) & (own != vec4(x_class));
}
