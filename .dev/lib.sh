# shellcheck shell=bash
# Shared by demo and test; sourced, never run.

set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
keyshim=$target/release/keyshim
mkdir -p "$target"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' yellow='' plain=''
fi

say() { printf '%s\n' "$*"; }
stop() { printf '%s\n' "${red}$*${plain}" >&2; exit 1; }

# The Debian packages that are needed, each beside a file or command that tells
# whether it is there.
needed_for_demo="cc:gcc /usr/include/stdlib.h:libc6-dev keyctl:keyutils"
needed_for_test="$needed_for_demo /usr/include/keyutils.h:libkeyutils-dev dpkg-source:dpkg-dev
    lsb_release:lsb-release file:file shellcheck:shellcheck python3:python3
    busybox:busybox-static unshare:util-linux setpriv:util-linux crun:crun runc:runc go:golang-go"
# Programs for the 32-bit gate of a 64-bit kernel.
[ "$(uname -m)" != x86_64 ] ||
    needed_for_test="$needed_for_test /usr/lib32/libc.a:gcc-multilib"

missing_packages() {
    local pair
    for pair in $1; do
        case ${pair%%:*} in
            /*) [ -e "${pair%%:*}" ] || echo "${pair##*:}" ;;
            *) PATH=$PATH:/sbin:/usr/sbin command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}" ;;
        esac
    done
    # Debian splits venv and the headers from its own python3.
    if [ "$1" = "$needed_for_test" ] && command -v python3 >/dev/null; then
        python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
        python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' \
            2>/dev/null || echo python3-dev
    fi
}

# As whom packages can be installed without a question; empty when not at all.
installer() {
    command -v apt-get >/dev/null || return
    if [ "$(id -u)" = 0 ]; then echo env
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then echo sudo; fi
}

# Installs what is missing where that is allowed; else says what to install, and
# goes on with what there is.
set_up() {
    local packages as log=$target/setup.log
    command -v cargo >/dev/null ||
        stop "Rust is not here: install it (https://rustup.rs, or 'apt-get install cargo' where that is 1.85 or later)."
    packages=$(missing_packages "$1" | sort -u | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    as=$(installer)
    if [ -n "$as" ]; then
        say "${dim}installing $packages${plain}"
        # shellcheck disable=SC2086 # package names, one word each
        { $as apt-get -q update && $as env DEBIAN_FRONTEND=noninteractive \
            apt-get -q install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
            say "${yellow}could not install $packages(why: $log); going on with what there is${plain}"
    else
        say "${yellow}Not here: $packages"
        say "To install: ${bold}sudo apt-get install $packages${plain}"
        say "Going on with what there is."
    fi
    borrow_keyctl
    command -v cc >/dev/null || stop "Rust needs a linker: install the package gcc and come back."
}

# Without the right to install, Debian's keyctl can still be fetched and unpacked
# below target/.
borrow_keyctl() {
    local into=$target/debian/root
    command -v keyctl >/dev/null && return
    if [ ! -x "$into/bin/keyctl" ]; then
        command -v dpkg-deb >/dev/null || return
        (. "$root/shim-tests/suites/debian.sh" && debian_unpack "$into" keyutils libkeyutils1) \
            >"$target/setup.log" 2>&1 || return
    fi
    export PATH=$PATH:$into/bin:$into/usr/bin
    LD_LIBRARY_PATH=$(dirname "$(find "$into" -name 'libkeyutils.so.1' | head -n 1)")
    export LD_LIBRARY_PATH
}
