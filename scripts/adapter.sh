#!/usr/bin/env bash
# Makes sure that wgpu finds an adapter. Silent where it does; else installs Mesa's software Vulkan driver (lavapipe).
# SEGHEAD_NO_INSTALL=1: say what is missing instead of installing it.
set -euo pipefail

say() { echo "seghead: $*" >&2; }

# Metal and DX12 (with WARP) come with the system.
[ "$(uname -s)" = Linux ] || exit 0

# ldconfig is in /sbin, which is not in everybody's PATH.
known_libraries=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)

# has_library NAME: would the dynamic loader find it?
has_library() {
    local dir dirs
    [[ $known_libraries != *"$1 "* ]] || return 0
    # Systems without ldconfig's cache.
    IFS=: read -ra dirs <<<"${LD_LIBRARY_PATH:-}:/usr/local/lib:/usr/lib:/usr/lib64:/lib"
    for dir in "${dirs[@]}"; do
        [ -z "$dir" ] || [ ! -e "$dir/$1" ] || return 0
    done
    return 1
}

# Drivers of hardware are often installed where there is none, so a manifest alone proves little.
has_gpu() {
    local node
    for node in /dev/dri/renderD* /dev/nvidia[0-9]* /dev/dxg /dev/mali*; do
        [ ! -w "$node" ] || return 0
    done
    return 1
}

# works MANIFEST: its library is there, and so is the hardware if it needs any.
works() {
    local library
    library=$(sed -n 's/.*"library_path" *: *"\([^"]*\)".*/\1/p' "$1")
    case $library in
    '') return 1 ;;
    /*) [ -e "$library" ] || return 1 ;;
    */*) [ -e "$(dirname "$1")/$library" ] || return 1 ;;
    *) has_library "$library" || return 1 ;;
    esac
    case $library in
    *libvulkan_lvp* | *swiftshader*) ;;
    *) has_gpu ;;
    esac
}

# As the Vulkan loader looks for them: either variable replaces the folders.
has_driver() {
    local chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}} dir dirs manifest places=()
    if [ -n "$chosen" ]; then
        IFS=: read -ra places <<<"$chosen"
    else
        IFS=: read -ra dirs <<<"${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
        for dir in "${XDG_CONFIG_HOME:-${HOME:-}/.config}" /etc/xdg /etc \
            "${XDG_DATA_HOME:-${HOME:-}/.local/share}" "${dirs[@]}"; do
            places+=("$dir/vulkan/icd.d")
        done
    fi
    for dir in "${places[@]}"; do
        for manifest in "$dir" "$dir"/*.json; do
            if [ -f "$manifest" ] && works "$manifest"; then return 0; fi
        done
    done
    return 1
}

has_adapter() { has_library libvulkan.so.1 && has_driver; }

if has_adapter; then exit 0; fi

if command -v apt-get >/dev/null 2>&1; then
    manager=apt-get packages=(libvulkan1 mesa-vulkan-drivers)
elif command -v dnf >/dev/null 2>&1; then
    manager=dnf packages=(vulkan-loader mesa-vulkan-drivers)
elif command -v pacman >/dev/null 2>&1; then
    manager=pacman packages=(vulkan-icd-loader vulkan-swrast)
else
    say "no GPU adapter, and no apt-get, dnf or pacman: install the Vulkan loader and Mesa's software driver (lavapipe) by hand"
    exit 1
fi

by_hand() {
    say "no GPU adapter, and $1: install ${packages[*]} by hand"
    exit 1
}

chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
if [ -n "$chosen" ] && has_library libvulkan.so.1; then
    say "no GPU adapter: VK_DRIVER_FILES or VK_ICD_FILENAMES names no driver that works here: $chosen"
    exit 1
fi
if [ "${SEGHEAD_NO_INSTALL:-}" = 1 ]; then by_hand "SEGHEAD_NO_INSTALL=1"; fi

if [ "$(id -u)" = 0 ]; then
    as_root=(env)
# Nobody may be there to type a password.
elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root=(sudo env)
else
    by_hand "neither root nor sudo to install one"
fi

say "no GPU adapter: installing Mesa's software Vulkan driver with $manager (${packages[*]})"
install_packages() {
    case $manager in
    apt-get)
        # A foreign source that fails to update does not matter unless the installation fails too.
        "${as_root[@]}" apt-get -q update || true
        "${as_root[@]}" DEBIAN_FRONTEND=noninteractive \
            apt-get -qy -o DPkg::Lock::Timeout=120 install --no-install-recommends "${packages[@]}"
        ;;
    dnf) "${as_root[@]}" dnf -qy install "${packages[@]}" ;;
    pacman) "${as_root[@]}" pacman -S --needed --noconfirm "${packages[@]}" ;;
    esac
}
if ! log=$(install_packages 2>&1 </dev/null); then
    printf '%s\n' "$log" >&2
    by_hand "$manager failed (above)"
fi

known_libraries=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)
if ! has_adapter; then
    say "no GPU adapter, although $manager installed ${packages[*]}: no Vulkan driver manifest that works was found"
    exit 1
fi
