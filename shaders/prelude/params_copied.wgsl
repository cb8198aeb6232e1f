// Parameters that every invocation copies first of all, for a driver that keeps those that are used and drops the others.
// Outside of all branches and loops lavapipe reads a parameter once for all its lanes, and inside, which is everywhere behind
// an early return, lane by lane.
//
// In storage, not uniform: a uniform that bounds a loop makes lavapipe recompile at every dispatch.

@group(0) @binding(0) var<storage, read> stored_params: Params;
var<private> params: Params;

fn begin() {
  params = stored_params;
}
