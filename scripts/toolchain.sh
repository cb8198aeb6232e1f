#!/usr/bin/env bash
# Sourced: finds cargo and a linker, or stops with one line that says what to install.

# rustup's folder is not in the PATH of a shell that read no profile. A distribution's cargo, which may be there for
# scripts/web.sh, has no clippy.
case $(command -v cargo || true) in
'' | /usr/bin/cargo)
    if [ -x "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH"
        export PATH
    fi
    ;;
esac
if ! command -v cargo >/dev/null 2>&1; then
    echo "seghead: cargo not found: install Rust from https://rustup.rs" >&2
    exit 1
fi
# Only Linux: rustup's installers for the others see to a linker themselves.
if [ "$(uname -s)" = Linux ] && ! command -v cc >/dev/null 2>&1; then
    echo "seghead: no linker (cc) found: install a C toolchain (Debian, Ubuntu: build-essential; elsewhere: gcc)" >&2
    exit 1
fi
