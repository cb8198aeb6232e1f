#!/usr/bin/env bash
# Builds and runs `seghead demo`; arguments go to it (`-o DIR` counts from the caller's folder).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# shellcheck source=scripts/toolchain.sh
. "$root/scripts/toolchain.sh"
"$root/scripts/adapter.sh"
exec cargo run --release --locked --manifest-path "$root/Cargo.toml" -p seghead-cli -- demo "$@"
