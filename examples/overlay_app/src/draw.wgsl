// The application's own drawing, over a viewport with the photo's aspect: a picture that the library has made, or the photo
// by a mask that the library has made.

@group(0) @binding(0) var smoothly: sampler;
@group(0) @binding(1) var overlay: texture_2d<f32>;
@group(0) @binding(2) var photo: texture_2d<f32>;
@group(0) @binding(3) var mask: texture_2d<f32>;

// Whether the surface takes linear light and encodes it.
override LINEAR_SURFACE: bool;

struct Corner {
  @builtin(position) position: vec4<f32>,
  @location(0) at: vec2<f32>,
  @location(1) @interpolate(flat) view: u32,
}

// One triangle, twice as large as the viewport. The number of its instance is the view, so no uniform is needed for that.
@vertex
fn corner(@builtin(vertex_index) index: u32, @builtin(instance_index) view: u32) -> Corner {
  let at = 2.0 * vec2(f32(index & 1u), f32(index >> 1u));
  return Corner(vec4(2.0 * at.x - 1.0, 1.0 - 2.0 * at.y, 0.0, 1.0), at, view);
}

// Colours are sRGB as they are stored until here, in the library too. Views that decode would do as well, but not on OpenGL,
// which cannot see a texture in another format.
@fragment
fn draw(corner: Corner) -> @location(0) vec4<f32> {
  let stored = look(corner);
  let decoded = select(pow((stored + 0.055) / 1.055, vec3(2.4)), stored / 12.92, stored <= vec3(0.04045));
  return vec4(select(stored, decoded, LINEAR_SURFACE), 1.0);
}

fn look(corner: Corner) -> vec3<f32> {
  let painted = textureSampleLevel(overlay, smoothly, corner.at, 0.0).rgb;
  let colour = textureSampleLevel(photo, smoothly, corner.at, 0.0).rgb;
  let p = textureSampleLevel(mask, smoothly, corner.at, 0.0).r;
  let dark = vec3(0.6 * dot(colour, vec3(0.2126, 0.7152, 0.0722)));
  switch corner.view {
    case CONFIDENCE: {
      // The less sure, the hotter: red, yellow, white.
      let heat = clamp(4.0 * vec3(1.0 - p) - vec3(0.0, 1.0, 2.0), vec3(0.0), vec3(1.0));
      return mix(dark, heat, heat.r);
    }
    case BACKGROUND: {
      return mix(dark, colour, p);
    }
    default: {
      return painted;
    }
  }
}

const CONFIDENCE = 1u;
const BACKGROUND = 2u;
