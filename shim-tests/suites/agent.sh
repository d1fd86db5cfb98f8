#!/bin/bash
# `keyshim agent` with Debian's own container runtimes, crun and runc: containers from
# busybox and keyctl, without network, under a profile that refuses what it does not
# name. examples/agent/config.json is the configuration of all of them.
#
#   agent.sh [--control] [-m REGEX] [-n CONTAINERS]
#
# 200 containers of runc at once unless told otherwise, and half as many of crun.
# --control answers the key calls with EPERM, as such profiles do: every test must fail.
# Needs root.

. "$(dirname "$0")/lib.sh"
. "$suites/agent_lib.sh"

containers=200

own_option() {
    case $1 in
        -n) containers=${2:?"-n needs a number"}; return 2 ;;
    esac
    die "unknown option $1 (--help tells)"
}

# Each test is a function of the runtime, here named as it is reported.

# A key is made, found and read, by a dynamic and a static program, also through the
# 32-bit gate; what the profile
# does not name is refused all the same; the kernel has heard of nothing.
keys_inside() {
    local description=inside-$RANDOM$RANDOM
    said=$(contain "$1" "in-$1" "keyctl add user $description secret @u >/dev/null
        keyctl print %user:$description; agent once static-$description; agent narrow
        unshare -m true || echo refused; touch /shared/made; wait_for /shared/seen" &
        arrives made && ! grep -q "$description" /proc/keys && touch "$shared/seen"
        wait) || return
    expect "$said" "secret
same
same
refused"
}

# Its own keys in /proc, for a static program, and nothing of the machine's.
files() {
    said=$(contain "$1" "p-$1" 'busybox cat /proc/keys | grep -c "_ses.p-'"$1"'"
        busybox cat /proc/keys | wc -l; cat /proc/sys/kernel/keys/maxkeys; busybox wc -l </proc/key-users') || return
    expect "$said" "1
4
200
1"
}

# Two containers of one user at the same time: neither finds the other's key.
apart() {
    two_containers "$1" "$1" 'keyctl request user of-the-other || echo nothing' || return
    expect "$said" nothing
}

# The same with one listenerMetadata, from two runtimes: they share.
shared_by_metadata() {
    two_containers "$1" "${2:-$1}" 'keyctl print %user:of-the-other' metadata=pod || return
    expect "$said" mine
}

# The first program's session keyring is everybody's in there, as runtimes make it.
session() {
    said=$(contain "$1" "s-$1" 'keyctl add user a b @s >/dev/null; keyctl print %user:a
        keyctl rdescribe @s | cut -d";" -f5') || return
    expect "$said" "b
_ses.s-$1"
}

# These runtimes let any signal interrupt a trapped call; what was done is not done again.
signals() {
    said=$(contain "$1" "i-$1" 'agent signals') || return
    expect "$said" "each once"
}

# Without no_new_privs the runtime installs its filter at another time, as root.
as_user() {
    said=$(contain "$1" "u-$1" 'keyctl add user a b @u >/dev/null; keyctl print %user:a
        keyctl rdescribe @u | cut -d";" -f2,5' uid=1700 renounce=no) || return
    expect "$said" "b
1700;_uid.1700"
}

# Inside, user 0; outside, where quotas are counted, user 100000.
user_namespace() {
    said=$(contain "$1" "n-$1" 'keyctl add user a b @u >/dev/null
        keyctl rdescribe @u | cut -d";" -f2,5; keyctl rdescribe %user:a | cut -d";" -f2
        touch /shared/made; wait_for /shared/seen' base=100000 &
        arrives made && "$keyshim" users --socket "$doors/n-$1" --json >"$shared/users"
        touch "$shared/seen"
        wait) || return
    expect "$said" "0;_uid.0
0" && grep -q '"uid": 100000' "$shared/users"
}

# A program that is put into a running container has the keys of the others.
exec_joins() {
    contain "$1" "e-$1" 'keyctl add user a inside @u >/dev/null; touch /shared/made; wait_for /shared/seen' &
    arrives made && said=$(runtime "$1" exec "e-$1" /bin/sh -c 'keyctl print %user:a')
    touch "$shared/seen"
    wait && expect "$said" inside
}

# Whoever runs the agent looks in by the container's own door, while it is there.
look() {
    contain "$1" "l-$1" 'keyctl add user visible b @u >/dev/null; touch /shared/made; wait_for /shared/seen' &
    arrives made && said=$("$keyshim" keys --socket "$doors/l-$1")
    touch "$shared/seen"
    wait && grep -q visible <<<"$said" && eventually [ ! -e "$doors/l-$1" ]
}

# All at once, each with a key and a session; then none. The agent is left with as
# many threads and descriptors as before, and memory that does not grow when a quarter
# of them come again.
crowd() {
    local before during after again containers=$containers
    [ "$1" = runc ] || containers=$((containers / 2))
    contain "$1" "warm-$1" 'agent once warm' && eventually no_domains || return
    before=$(agent_use)
    crowd_comes "$1" "$containers" && during=$(agent_use) || return
    crowd_goes "$1" "$containers" && eventually no_domains || return
    after=$(agent_use)
    crowd_comes "$1" $((containers / 4)) && crowd_goes "$1" $((containers / 4)) && eventually no_domains || return
    again=$(agent_use)
    echo "# $1, $containers containers: threads descriptors KiB before ($before), during ($during), after ($after), once more ($again)"
    same_use "$before" "$after" $((containers * 128)) && same_use "$after" "$again"
}

# A quarter as many, each of which ends by itself, ten at a time.
turnover() {
    local before begun=$EPOCHREALTIME number count=$((containers / 4))
    contain "$1" "warm-$1" 'agent once warm' && eventually no_domains || return
    before=$(agent_use)
    for number in $(seq "$count"); do
        contain "$1" "t-$1-$number" 'agent once mine' >>"$shared/turnover" &
        [ $((number % 10)) != 0 ] || wait
    done
    wait
    eventually no_domains || return
    awk -v a="$begun" -v b="$EPOCHREALTIME" -v n="$count" -v runtime="$1" \
        'BEGIN { printf "# %s: %d containers, ten at a time, in %.1f s\n", runtime, n, b - a }'
    echo "# before ($before), after ($(agent_use))"
    [ "$(grep -c same "$shared/turnover")" = "$count" ] && same_use "$before" "$(agent_use)"
}

# Ten times as many as fast as can be, from a runtime that makes nothing but a filter.
churn() {
    local before after begun=$EPOCHREALTIME count=$((containers * 10))
    [ $mode != control ] || { echo "this runtime has no other answer"; return 1; }
    cc -O1 -Wall -Wextra -Werror -o "$scratch/agent_churn" "$suites/agent_churn.c" &&
        "$scratch/agent_churn" "$socket" $count 10 && eventually no_domains || return
    before=$(agent_use)
    "$scratch/agent_churn" "$socket" $count 10 && eventually no_domains || return
    after=$(agent_use)
    awk -v a="$begun" -v b="$EPOCHREALTIME" -v n=$((2 * count)) \
        'BEGIN { printf "# %d containers without a runtime, ten at a time, in %.1f s\n", n, b - a }'
    echo "# threads descriptors KiB after half of them ($before), after all ($after)"
    same_use "$before" "$after" 512
}

# Callers that are no runtimes; a container beside them does not notice.
strangers() {
    local before
    before=$(agent_use)
    contain "$1" "c-$1" 'while [ ! -e /shared/seen ]; do agent once a || exit 1; done; echo undisturbed' \
        >"$shared/said" &
    python3 "$suites/agent_callers.py" "$socket" || { touch "$shared/seen"; wait; return 1; }
    touch "$shared/seen"
    wait
    tail -n 1 "$shared/said" | grep -q undisturbed && eventually no_domains && same_use "$before" "$(agent_use)"
}

# A program whose memory makes the agent wait holds up its own container at most, and
# nothing is left of it when it is gone.
stalled() {
    local before count=5 number
    before=$(agent_use)
    for number in $(seq $count); do
        contain "$1" "h-$1-$number" 'agent once a && touch /shared/up-'"$number"' && agent stall; touch /shared/read' \
            allow=userfaultfd detach=yes || return
    done
    eventually everybody_is_up $count || { echo "the hostile containers are not up"; return 1; }
    sleep 0.5
    [ ! -e "$shared/read" ] || { echo "userfaultfd does not work here"; return 1; }
    said=$(contain "$1" "b-$1" 'agent once beside') && expect "$said" same || return
    for number in $(seq $count); do runtime "$1" delete --force "h-$1-$number"; done
    eventually no_domains && same_use "$before" "$(agent_use)"
}

# Killed in the middle: programs see a kernel without keys, their container can be
# deleted, and the next agent serves the next container at the same place.
killed() {
    contain "$1" "k-$1" 'touch /shared/made; agent until-enosys; agent until-enosys' >"$shared/said" &
    arrives made && kill -9 "$agent" && wait
    expect "$(cat "$shared/said")" "ENOSYS
ENOSYS" || return
    start_agent && contain "$1" "d-$1" 'sleep 99' detach=yes && kill -9 "$agent" &&
        runtime "$1" delete --force "d-$1" && start_agent || return
    said=$(contain "$1" "a-$1" 'agent once new') && expect "$said" same && eventually no_domains
}

# Told to stop: nothing of it is left, and programs see a kernel without keys.
stopped() {
    contain "$1" "p-$1" 'touch /shared/made; agent until-enosys' >"$shared/said" &
    arrives made && kill "$agent" && wait
    expect "$(cat "$shared/said")" ENOSYS && [ -z "$(find "$scratch/run" -mindepth 1)" ] && start_agent
}

# Agent and runtime of a user without any privilege, with a user namespace of that
# user's alone.
rootless() {
    local place action=()
    [ $mode != control ] || action=(action=SCMP_ACT_ERRNO)
    place=$(mktemp -d /tmp/keyshim-rootless-XXXXXX) && chmod 755 "$place" && mkdir "$place"/{run,shared} &&
        cp -r "$rootfs" "$keyshim" "$place" && chown 1700:1700 "$place"/{run,shared} || return
    python3 "$suites/agent_bundle.py" "$place/bundle" "$place/rootfs" "$place/run/agent" 'keyctl link @u @s; agent once mine
        keyctl add user a b @s >/dev/null; keyctl print %user:a; keyctl rdescribe @u | cut -d";" -f2,5' \
        "shared=$place/shared" base=1700 size=1 "${action[@]}" || return
    cat >"$place/session" <<'SESSION'
export XDG_RUNTIME_DIR=$1/run
"$1/keyshim" agent --socket "$1/run/agent" &
agent=$!
while [ ! -d "$1/run/agent.d" ]; do sleep 0.02; done
crun --cgroup-manager=disabled run --no-new-keyring --bundle "$1/bundle" rootless
kill $agent; wait $agent
SESSION
    said=$(in_cgroup2 setpriv --reuid=1700 --regid=1700 --clear-groups --bounding-set=-all \
        env -i "PATH=$PATH" timeout 30 sh "$place/session" "$place")
    rm -rf "$place"
    expect "$said" "same
b
0;_uid.0"
}

# Podman with its own default profile, but for the key calls: examples/agent/README.md.
podman_inside() {
    "$root/examples/agent/profile.py" "$socket" </usr/share/containers/seccomp.json >"$scratch/profile.json" || return
    [ $mode != control ] || sed -i s/SCMP_ACT_NOTIFY/SCMP_ACT_ERRNO/ "$scratch/profile.json"
    said=$(in_cgroup2 podman --root "$scratch/podman/root" --runroot "$scratch/podman/run" --storage-driver vfs \
        --cgroup-manager cgroupfs --runtime crun run --rm --network none --cgroups=disabled \
        --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --security-opt "seccomp=$scratch/profile.json" \
        --rootfs "$rootfs" /bin/sh -c 'keyctl link @u @s; agent once mine; keyctl add user a b @s >/dev/null
            keyctl print %user:a; unshare -m true || echo refused') || return
    expect "$said" "same
b
refused"
}

tests="keys_inside files apart session signals as_user user_namespace exec_joins look strangers turnover stalled crowd killed stopped"

options "$@"
[ "$(id -u)" = 0 ] || skip_all "needs root"
prepare
for name in crun runc; do
    missing=$(lacks_runtime "$name")
    for test in $tests shared_by_metadata; do
        why=$missing
        if [ $test = stalled ] && [ ! -e /proc/sys/vm/unprivileged_userfaultfd ]; then
            why="the kernel has no userfaultfd"
        fi
        if [ -n "$why" ]; then
            selected "$name/$test" && verdict skip "$name/$test" "$why"
            continue
        fi
        one_test "$name/$test" "$test" "$name"
    done
done
if [ -z "$(lacks_runtime crun)$(lacks_runtime runc)" ]; then
    one_test both/shared_by_metadata shared_by_metadata crun runc
fi
one_test none/churn churn
if [ -n "$(lacks_runtime crun)" ]; then
    selected crun/rootless && verdict skip crun/rootless "$(lacks_runtime crun)"
elif ! command -v setpriv >/dev/null; then
    selected crun/rootless && verdict skip crun/rootless "needs setpriv (package util-linux)"
else
    one_test crun/rootless rootless
fi
if [ -z "$(type -P podman)" ]; then
    selected podman/keys_inside && verdict skip podman/keys_inside "needs podman, which is not installed for a test"
else
    one_test podman/keys_inside podman_inside
fi
end_agent
finish
