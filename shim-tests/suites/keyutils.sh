#!/bin/bash
# The tests inside keyutils' own source package, unmodified, each in a domain of
# its own, compared with what keyutils.expected says of each.
#
#   keyutils.sh [--kernel | --control | --poison] [--mode MODE] [-m REGEX] [-j N]
#               [-t SECONDS]
#
#   --mode MODE  of `keyshim run`: preload (default), seccomp or both
#   --poison  as root: the real kernel's key quotas are 1 meanwhile, and back
#             afterwards whatever happens; a call that slips through fails
#   -m REGEX  only the tests whose name matches
#   -j N      so many tests at a time (default 4; on the real kernel always 1)
#   -t SECONDS  limit for one test, against those that hang (default 900)
#
# Needs keyutils, dpkg-dev, lsb-release, file, and apt-get to fetch the sources.
# The tests are upstream's: Debian's patch skips its four move tests wherever
# keyctl reports capabilities. Logs stay under target/suites/keyutils/logs.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

jobs_max=4 limit_s=900 poison=no
quotas=/proc/sys/kernel/keys

own_option() {
    case $1 in
        --poison) poison=yes; return 1 ;;
        -j) jobs_max=${2:?"-j needs a number"}; return 2 ;;
        -t) limit_s=${2:?"-t needs seconds"}; return 2 ;;
    esac
    die "unknown option $1 (--help tells)"
}

quota_restore() {
    local file value
    while read -r file value; do echo "$value" >"$quotas/$file"; done <"$scratch/quotas.$$"
    rm -f "$scratch/quotas.$$"
}

# A process of its own puts the quotas back as soon as this script is gone: even
# SIGKILL cannot leave the machine with a quota of one key.
quota_poison() {
    [ "$(id -u)" = 0 ] || skip_all "--poison needs root"
    local file
    for file in "$scratch"/quotas.*; do
        [ ! -e "$file" ] || die "another run has saved the quotas in $file: wait for it, or write them back to $quotas"
    done
    for file in maxkeys maxbytes root_maxkeys root_maxbytes; do
        echo "$file $(cat "$quotas/$file")"
    done >"$scratch/quotas.$$"
    trap 'exit 130' INT TERM HUP
    trap quota_restore EXIT
    local script=$$
    (
        trap '' INT TERM HUP
        trap - EXIT
        while kill -0 $script 2>/dev/null; do sleep 1; done
        if [ -e "$scratch/quotas.$$" ]; then quota_restore; fi
    ) </dev/null >/dev/null 2>&1 &
    disown $!
    for file in maxkeys maxbytes root_maxkeys root_maxbytes; do echo 1 >"$quotas/$file"; done
}

# run_test NAME: leaves the verdict, `pass`, `fail: why` or `skip: why`, in the
# log directory. A verdict needs the exit status and the test's own word.
run_test() {
    local name=$1 dir=$sources/tests/$1 log=$logs/$1 status
    mkdir -p "$log"
    (
        cd "$dir" || exit 99
        unset OUTPUTFILE watch_log gc_log KEYCTL_WATCH_FD
        export TEST=$name AUTOMATED=1
        [ "$(id -u)" = 0 ] || export SKIPROOTREQ=yes
        exec timeout -k 10 "$limit_s" "${wrapper[@]+"${wrapper[@]}"}" bash ./runtest.sh
    ) </dev/null >"$log/console" 2>&1
    status=$?
    touch "$dir/test.out"
    cp "$dir/test.out" "$log/test.out"
    judge $status "$log" >"$log/verdict"
}

judge() {
    local status=$1 log=$2 out=$2/test.out
    if [ "$status" = 0 ] && grep -aqx '++++ FINISHED TEST: PASS' "$out"; then
        echo pass
    elif [ "$status" = 0 ] && grep -aq '^++++ SKIPPING TEST' "$out"; then
        echo "skip: $(grep -a -A1 '^++++ SKIPPING TEST' "$out" | sed -n '2s/^+++ *//p')"
    elif [ "$status" = 124 ] || [ "$status" = 137 ]; then
        echo "fail: stopped after $limit_s s, in: $(grep -a '^+++ ' "$out" | tail -n 1 | cut -c5-)"
    elif [ -s "$out" ]; then
        echo "fail: exit status $status, first failed check: $(first_failure "$out")"
    else
        echo "fail: exit status $status before the test began: $(tail -n 1 "$log/console" | cut -c1-100)"
    fi
}

first_failure() { awk '/^\+\+\+ /{step=substr($0,5)} /^=== FAILED ===$/{print step; exit}' "$1"; }

# What keyutils.expected says of a test: `pass`, `fail: why` or `skip: why`. A line
# that begins with `user` holds for ordinary users only and goes before the other.
expectation() {
    local line
    line=$( ([ "$(id -u)" = 0 ] || grep "^user $1 " "$suites/keyutils.expected") | cut -d' ' -f3-)
    [ -n "$line" ] || line=$(grep "^$1 " "$suites/keyutils.expected" | cut -d' ' -f2-)
    echo "${line:-missing}"
}

# report NAME: the verdict as it is (real kernel, control), or against the list.
report() {
    local name=$1 got wanted why
    got=$(cat "$logs/$name/verdict" 2>/dev/null)
    got=${got:-fail: no verdict}
    wanted=$got
    [ "$mode" != keyshim ] || wanted=$(expectation "$name")
    why=${got#*: }
    case "${wanted%%:*}/${got%%:*}" in
        missing/*) verdict fail "$name" "is not in keyutils.expected (it says: $got)" ;;
        pass/pass) verdict pass "$name" ;;
        fail/fail | skip/skip)
            if [ "$mode" = keyshim ]; then verdict skip "$name" "as expected: ${wanted#*: }"
            else verdict "${got%%:*}" "$name" "$why"; fi ;;
        */pass) verdict fail "$name" "passes unexpectedly: correct keyutils.expected" ;;
        */fail) verdict fail "$name" "$why" ;;
        *) verdict fail "$name" "expected ${wanted%%:*}, skipped itself: $why" ;;
    esac
}

options "$@"
for tool in keyctl:keyutils lsb_release:lsb-release file:file dpkg-source:dpkg-dev; do
    command -v "${tool%:*}" >/dev/null || skip_all "needs ${tool%:*} (package ${tool#*:})"
done
choose_wrapper
[ "$mode" = keyshim ] || [ "$mode" = wrapper ] || jobs_max=1

sources=$scratch/sources logs=$scratch/logs
rm -rf "$sources" "$logs"
mkdir -p "$logs"
debian_source keyutils "$sources" >"$scratch/fetch.log" 2>&1 ||
    skip_all "cannot fetch keyutils' sources: $(tail -n 1 "$scratch/fetch.log")"
mapfile -t names < <(cd "$sources/tests" && find . -mindepth 2 -name runtest.sh -printf '%h\n' | cut -c3- | sort)
[ ${#names[@]} -gt 0 ] || die "no tests in $sources/tests"
[ $poison = no ] || quota_poison

# The longest test goes first, so that the others run beside it.
for name in features/limits "${names[@]}"; do
    selected "$name" && [ ! -d "$logs/$name" ] || continue
    while [ "$(jobs -rp | wc -l)" -ge "$jobs_max" ]; do wait -n; done
    run_test "$name" &
done
wait
for name in "${names[@]}"; do
    if selected "$name"; then report "$name"; fi
done
finish
