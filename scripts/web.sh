#!/usr/bin/env bash
# Builds the page in web/ into web/dist/.
#
#   scripts/web.sh             builds
#   scripts/web.sh serve       builds, and serves it on http://127.0.0.1:8000 (PORT=… for another)
#   scripts/web.sh test [PATTERN]
#                              builds it with its checks, and tests both in headless Chromium (CHROMIUM=… for another):
#                              everything, or the tests whose names match
#   scripts/web.sh missing     says in a line what the tests lack, and fails; where they lack nothing it is silent
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

say() { echo "seghead: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

target=wasm32-unknown-unknown
# A folder of its own: its flags would make cargo compile everything else again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/web"

# Debian's compiler for browsers comes with the sources of the standard library, but with no compiled one. Its linker has
# the version in its name.
debian_linker=$(compgen -c wasm-ld- 2>/dev/null | sort -uV | tail -n 1 || true)
has_debian() {
    [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/std ] && [ -n "$debian_linker" ]
}

# Whether the toolchain in use has the target, or Debian's is there.
toolchain() {
    if [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$target/lib" ]; then
        echo rustup
    elif has_debian; then
        echo debian
    fi
}

missing_toolchain() {
    [ -z "$(toolchain)" ] || return 1
    echo "a Rust toolchain for $target (rustup target add $target; Debian: rustc-web cargo-web rust-web-src lld-22)"
}

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}

missing() {
    missing_toolchain && return
    [ -n "$chromium" ] || { echo "Chromium (Debian: chromium)" && return; }
    has node || { echo "Node.js from 18 (Debian: nodejs)" && return; }
    return 1
}

# compile PACKAGE…: for browsers.
compile() {
    local packages=() package
    for package in "$@"; do packages+=(-p "$package"); done
    if [ "$(toolchain)" = rustup ]; then
        cargo build --locked --profile web --target "$target" "${packages[@]}"
    else
        # Not through rustup's cargo, whose compiler would win.
        env PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$debian_linker" \
            /usr/bin/cargo build --locked --profile web --target "$target" -Z build-std=std,panic_abort "${packages[@]}"
    fi
}

# glue CRATE FOLDER: the wasm file and the module that loads it.
glue() {
    cargo run --quiet --locked --profile web-bindgen -p seghead-web-bindgen -- "$CARGO_TARGET_DIR/$target/web/$1.wasm" "$2"
}

build() {
    local lacking
    if lacking=$(missing_toolchain); then
        say "the page needs $lacking"
        exit 1
    fi
    compile seghead-web "$@"
    rm -rf web/dist
    mkdir -p web/dist/sample
    cp web/page/* web/dist/
    cp assets/sample/{photo.png,labels.png,logits_f16.npy,palette.txt} web/dist/sample/
    glue seghead_web web/dist
}

case ${1:-build} in
build)
    build
    echo "web/dist/: $(gzip -9 -c web/dist/seghead_web_bg.wasm | wc -c) bytes of wasm, compressed"
    ;;
serve)
    build
    echo "http://127.0.0.1:${PORT:-8000}"
    exec python3 -m http.server --bind 127.0.0.1 --directory web/dist "${PORT:-8000}"
    ;;
test)
    if lacking=$(missing); then
        say "the tests of the page need $lacking"
        exit 1
    fi
    build seghead-web-checks
    glue seghead_web_checks web/dist/checks
    exec node web/test/run.mjs "$chromium" "${@:2}"
    ;;
missing)
    ! missing
    ;;
*)
    say "expected build, serve, test or missing, found $1"
    exit 1
    ;;
esac
