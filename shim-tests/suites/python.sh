#!/bin/bash
# A session with Python's `keyutils` from PyPI, unmodified: a C extension over
# libkeyutils, with threads, forks and execs.
#
#   python.sh [--kernel | --control]
#
# Needs python3 with venv and headers, a C compiler and libkeyutils-dev. The
# package's C source was generated for an older Python, so it is generated anew
# from the package's own .pyx.

. "$(dirname "$0")/lib.sh"

build() {
    local home=$scratch/build
    rm -rf "$home" "$scratch/venv" && mkdir -p "$home" && python3 -m venv "$scratch/venv" &&
        "$scratch/venv/bin/pip" install -q 'setuptools<81' wheel 'cython<3.1' pytest-runner &&
        "$scratch/venv/bin/pip" download -q --no-deps --no-build-isolation --no-binary :all: -d "$home" keyutils==0.6 &&
        tar -xzf "$home"/keyutils-0.6.tar.gz -C "$home" && rm "$home/keyutils-0.6/keyutils/_keyutils.c" &&
        "$scratch/venv/bin/pip" install -q --no-build-isolation "$home/keyutils-0.6" &&
        touch "$scratch/built"
}

options "$@"
command -v python3 >/dev/null || skip_all "needs python3 (packages python3-venv python3-dev)"
[ -e /usr/include/keyutils.h ] || skip_all "needs keyutils.h (package libkeyutils-dev)"
choose_wrapper
if [ ! -e "$scratch/built" ]; then
    build >"$scratch/build.log" 2>&1 ||
        skip_all "cannot build the package: $(grep -iE 'error' "$scratch/build.log" | tail -n 1)"
fi

in_world timeout -k 10 120 "$scratch/venv/bin/python" "$suites/python_session.py" >"$scratch/log" 2>&1 </dev/null
status=$?
while read -r word name why; do
    case $word in pass | fail) verdict "$word" "${name%:}" "$why" ;; esac
done <"$scratch/log"
[ $((passed + failed)) -gt 0 ] && [ $status -le 1 ] ||
    verdict fail session "ended with status $status: $(tail -n 1 "$scratch/log")"
finish
