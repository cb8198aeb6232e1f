// Parameters where they lie. In storage, not uniform: a uniform that bounds a loop makes lavapipe recompile at every dispatch.

@group(0) @binding(0) var<storage, read> params: Params;

fn begin() {}
