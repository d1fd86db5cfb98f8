#!/bin/bash
# Sixty-four processes that fork, exec, make threads and use keys, every answer
# checked; afterwards the broker must hold as many keys, descriptors and as much
# memory as after the first round.
#
#   soak.sh [--kernel | --control] [-t SECONDS] [-w WORKERS]
#
# 20 seconds unless told otherwise; 600 is a soak by hand. As an ordinary user the
# quota of 200 keys runs out now and then, which is part of the test.

. "$(dirname "$0")/lib.sh"

seconds=20 workers=64

own_option() {
    case $1 in
        -t) seconds=${2:?"-t needs seconds"}; return 2 ;;
        -w) workers=${2:?"-w needs a number"}; return 2 ;;
    esac
    die "unknown option $1 (--help tells)"
}

options "$@"
choose_wrapper
command -v cc >/dev/null || skip_all "needs a C compiler (package gcc)"
cc -O1 -Wall -Wextra -Werror -pthread -o "$scratch/soak" "$suites/soak.c" || die "cannot compile soak.c"
check "$workers-processes-for-$seconds-s" \
    in_world timeout -k 10 $((seconds * 2 + 60)) "$scratch/soak" "$seconds" "$workers" 5
sed "s/^/# /" "$scratch/${workers}_processes_for_${seconds}_s.log" | tail -n 5
finish
