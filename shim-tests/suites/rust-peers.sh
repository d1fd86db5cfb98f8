#!/bin/bash
# The tests inside the published crates `keyutils` and `linux-keyutils`, which
# call the key service through libkeyutils and through libc's syscall(2). Each
# test is a process of its own, in a session and a domain of its own.
#
#   rust-peers.sh [--kernel | --control] [-m REGEX]
#
# Thirty tests of keyutils build a NonZeroI32 of 0 on purpose, which a compiler
# of today turns into an abort before any key call: these are skipped.
#
# As root, one test of keyutils fails on Linux too: it expects that chown of a
# key is refused.

. "$(dirname "$0")/lib.sh"

# Published sources, as cargo vendors them.
fetch() {
    local home=$scratch/fetch crate
    rm -rf "$home" && mkdir -p "$home" && cd "$home" || return 1
    cat >Cargo.toml <<'TOML'
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[lib]
path = "lib.rs"
[dependencies]
keyutils = "=0.4.0"
linux-keyutils = "=0.2.5"
[workspace]
TOML
    : >lib.rs
    cargo vendor >vendored || return 1
    for crate in keyutils linux-keyutils; do
        rm -rf "${scratch:?}/$crate" && cp -r "vendor/$crate" "$scratch/$crate" || return 1
        rm -f "$scratch/$crate/.cargo-checksum.json"
        grep -q '^\[workspace\]' "$scratch/$crate/Cargo.toml" || printf '\n[workspace]\n' >>"$scratch/$crate/Cargo.toml"
    done
    touch "$scratch/fetched"
}

# Prints the path of each test program of a crate.
build() {
    (cd "$scratch/$1" && CARGO_TARGET_DIR=$scratch/build cargo test --lib --tests --no-run 2>&1) >"$scratch/$1.log" || return 1
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$scratch/$1.log" | sed "s|^\([^/]\)|$scratch/$1/\1|"
}

run_crate() {
    local crate=$1 programs program ignored test
    programs=$(build "$crate") || { verdict fail "$crate" "does not build: $(tail -n 1 "$scratch/$crate.log")"; return; }
    for program in $programs; do
        ignored=$("$program" --list --ignored 2>/dev/null | sed -n 's/: test$//p')
        for test in $("$program" --list 2>/dev/null | sed -n 's/: test$//p'); do
            selected "$crate/$test" || continue
            if grep -qxF -- "$test" <<<"$ignored"; then
                verdict skip "$crate/$test" "its author marked it as ignored"
            else
                run_test "$crate/$test" "$program" "$test"
            fi
        done
    done
}

run_test() {
    local name=$1 program=$2 test=$3 log=$scratch/test.log
    # The braces keep bash's word on an aborted test away from the verdicts.
    { timeout -k 5 60 "${wrapper[@]+"${wrapper[@]}"}" keyctl session - "$program" --exact "$test" \
        --test-threads=1 >"$log" 2>&1 </dev/null; } 2>/dev/null
    local status=$?
    if [ $status = 0 ] && grep -aq '^test result: ok. 1 passed' "$log"; then
        verdict pass "$name"
    elif grep -aq 'violated: NonZero::new_unchecked' "$log"; then
        verdict skip "$name" "its own NonZero of 0 aborts, built by a compiler of today"
    elif [ "$(id -u)" = 0 ] && [ "$name" = keyutils/tests::permitting::chown_key ] && [ "$mode" != control ]; then
        verdict skip "$name" "fails as root, on Linux as well"
    else
        verdict fail "$name" "status $status: $(grep -a -A1 panicked "$log" | tr '\n' ' ' | cut -c1-160)"
    fi
}

options "$@"
for tool in keyctl:keyutils cargo:rust cc:gcc; do
    command -v "${tool%:*}" >/dev/null || skip_all "needs ${tool%:*} (package ${tool#*:})"
done
[ -e /usr/include/keyutils.h ] || skip_all "needs libkeyutils to link with (package libkeyutils-dev)"
choose_wrapper
[ -e "$scratch/fetched" ] || (fetch) >"$scratch/fetch.log" 2>&1 ||
    skip_all "cannot fetch the crates: $(tail -n 1 "$scratch/fetch.log")"
for crate in keyutils linux-keyutils; do run_crate $crate; done
finish
