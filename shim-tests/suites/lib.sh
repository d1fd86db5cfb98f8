# shellcheck shell=bash
# Shared by the suites; sourced, never run.
#
# A suite runs programs that other people wrote and nobody changed. It prints one
# line a test (`pass NAME`, `fail NAME: why`, `skip NAME: why`), a summary line
# `SUITE: N passed, N failed, N skipped`, and exits 0 when nothing failed, 1 when
# something did, 2 when it was called wrongly. What cannot run here is a skip with
# its reason, never a pass.
#
# Where the programs' calls go:
#   (default)   `keyshim run`, behind the fence: fence.c refuses every key call
#               that reaches the real kernel, so that nothing can slip past
#   --mode MODE preload (default), seccomp or both, for `keyshim run`
#   --kernel    the real kernel, to see what Linux says
#   --control   the fence alone: every test must fail, or it tests nothing
#   -- PROGRAM  a wrapper of your own

set -u
export LC_ALL=C

suites=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$suites/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
suite=$(basename "$0" .sh)
scratch=$target/suites/$suite
keyshim=${KEYSHIM:-$target/release/keyshim}
mode=keyshim
road=preload
match=
wrapper=()
passed=0 failed=0 skipped=0

die() { echo "$suite: $*" >&2; exit 2; }

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# The suite as a whole cannot run here: one skip, with the reason.
skip_all() {
    echo "skip $suite: $*"
    echo "$suite: 0 passed, 0 failed, 1 skipped"
    exit 0
}

# Takes the arguments that every suite knows; a suite's own go to its function
# `own_option`, which returns how many words it took.
options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --kernel) mode=kernel ;;
            --control) mode=control ;;
            --mode) road=${2:?"--mode needs a word"}; shift ;;
            -m | --match) match=${2:?"-m needs a regular expression"}; shift ;;
            -h | --help) usage; exit 0 ;;
            --) shift; mode=wrapper; wrapper=("$@"); break ;;
            *) own_option "$@"; local took=$?; shift $((took - 1)) ;;
        esac
        shift
    done
    mkdir -p "$scratch" || die "cannot make $scratch"
}

own_option() { die "unknown option $1 (--help tells)"; }

# Says which program carries the tests, in `wrapper`.
choose_wrapper() {
    case $mode in
        kernel) wrapper=() ;;
        control) fence; wrapper=("$scratch/fence") ;;
        keyshim)
            [ -x "$keyshim" ] || die "no $keyshim: build it with 'cargo build --release', or set KEYSHIM"
            fence
            wrapper=("$scratch/fence")
            [ "$road" = preload ] || wrapper+=(--low)
            wrapper+=("$keyshim" run --mode "$road" --) ;;
    esac
}

fence() {
    command -v cc >/dev/null || skip_all "needs a C compiler (package gcc)"
    [ "$scratch/fence" -nt "$suites/fence.c" ] && return
    cc -O1 -Wall -Werror -o "$scratch/fence" "$suites/fence.c" || die "cannot compile fence.c"
}

# in_world COMMAND: runs it where this suite's calls go.
in_world() { "${wrapper[@]+"${wrapper[@]}"}" "$@"; }

selected() { [ -z "$match" ] || grep -qE -- "$match" <<<"$1"; }

# verdict pass|fail|skip NAME [WHY]; under --control a failure is what must be.
verdict() {
    local word=$1 name=$2 why=${3:-}
    if [ $mode = control ]; then
        case $word in
            pass) word=fail why="passes though no key call can work" ;;
            fail) word=pass why= ;;
        esac
    fi
    case $word in
        pass) passed=$((passed + 1)) ;;
        fail) failed=$((failed + 1)) ;;
        skip) skipped=$((skipped + 1)) ;;
    esac
    echo "$word $name${why:+: $why}"
}

# check NAME COMMAND: one test, its output in a log, the log's end on failure.
check() {
    local name=$1 log
    shift
    selected "$name" || return 0
    log=$scratch/$(tr -c 'A-Za-z0-9\n' _ <<<"$name").log
    if "$@" >"$log" 2>&1 </dev/null; then
        verdict pass "$name"
    else
        verdict fail "$name" "$(tail -n 1 "$log" | cut -c1-160) (all of it: $log)"
    fi
}

finish() {
    echo "$suite: $passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
}
