#!/usr/bin/env bash
# All checks that a change must pass, in the order of how soon they tell. Stops at the first that fails.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$scripts/.."

# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        echo "seghead: cargo $component not found: rustup component add rustfmt clippy" >&2
        exit 1
    fi
done
"$scripts/adapter.sh"

step() {
    local name=$1
    shift
    echo "==> $name: $*"
    "$@" || {
        echo "check.sh: failed: $name" >&2
        exit 1
    }
}

# The crate must hold every shader and both licences, and nothing that a build does not use.
package() {
    local listing wanted file missing=0
    cargo package -p seghead --locked --allow-dirty --no-verify --quiet || return 1
    listing=$(cargo package -p seghead --locked --allow-dirty --list) || return 1
    listing=${listing//\\//} # Windows
    wanted=$(find shaders -name '*.wgsl' | grep .) || return 1
    for file in $wanted src/lib.rs README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT; do
        if ! grep -qxF "$file" <<<"$listing"; then
            echo "not in the package: $file" >&2
            missing=1
        fi
    done
    if grep -vE '^(src/.*\.rs|shaders/.*\.wgsl|examples/[^/]*\.rs|README\.md|CHANGELOG\.md|LICENSE-(APACHE|MIT)|Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json)$' <<<"$listing"; then
        echo "in the package without need: the files above" >&2
        missing=1
    fi
    return "$missing"
}

step format cargo fmt --all --check
step clippy cargo clippy --all-targets --locked -- -D warnings
step test cargo test --locked
step doctor cargo run --quiet --locked -p seghead-cli -- doctor

# OpenGL is tested where there is an adapter for it: Mesa's, on Linux. One thread, for wgpu takes it for a deadlock
# where one waits long for another's use of the context.
opengl() { WGPU_BACKEND=gl "$@"; }
if opengl cargo run --quiet --locked -p seghead-cli -- adapters >/dev/null 2>&1; then
    step "test (OpenGL)" opengl cargo test --locked -- --test-threads=1
    step "doctor (OpenGL)" opengl cargo run --quiet --locked -p seghead-cli -- doctor
else
    echo "==> no OpenGL adapter here (Debian, Ubuntu: libegl1 libgl1-mesa-dri): its tests are left out"
fi
step doc env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
step package package
# Not among the default members, which the steps above are about: what they depend on takes minutes to compile.
examples=(-p seghead-onnx -p overlay-app)
step "clippy (examples)" cargo clippy "${examples[@]}" --all-targets --locked -- -D warnings
step "test (examples)" cargo test "${examples[@]}" --locked
# The window needs a display, if only a virtual one.
if command -v xvfb-run >/dev/null 2>&1; then
    step "window (examples)" xvfb-run -a cargo run --quiet --locked -p overlay-app -- --frames 5
else
    echo "==> no virtual display here (Debian, Ubuntu: xvfb xauth): the window of examples/overlay_app is left out"
fi
# The page, where it can be built and there is a browser to try it in.
if lacking=$("$scripts/web.sh" missing); then
    step "test (page)" "$scripts/web.sh" test
else
    echo "==> the page is left out: it needs $lacking"
fi
echo "check.sh: all passed"
