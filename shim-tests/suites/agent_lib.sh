# shellcheck shell=bash
# What agent.sh needs of the world: an agent, runtimes, containers. Sourced after
# lib.sh.

agent=
socket=$scratch/run/agent
doors=$socket.d
shared=$scratch/shared
rootfs=$scratch/rootfs

# A root file system of busybox, keyctl with its libraries, and a static program.
make_rootfs() {
    local file
    command -v busybox >/dev/null && file -L "$(command -v busybox)" | grep -q 'statically' ||
        skip_all "needs a static busybox (package busybox-static)"
    command -v cc >/dev/null || skip_all "needs a C compiler (package gcc)"
    rm -rf "$rootfs" && mkdir -p "$rootfs"/{bin,proc,dev,tmp,shared} || die "cannot make $rootfs"
    cp -L "$(command -v busybox)" "$rootfs/bin/busybox" && "$rootfs/bin/busybox" --install -s "$rootfs/bin" &&
        find "$rootfs/bin" -type l -exec ln -sf busybox {} \; || die "cannot fill $rootfs"
    for file in $(command -v keyctl) $(ldd "$(command -v keyctl)" | grep -o '/[^ ]*'); do
        mkdir -p "$rootfs$(dirname "$file")" && cp -L "$file" "$rootfs$file" || die "cannot copy $file"
    done
    cp -L "$(command -v keyctl)" "$rootfs/bin/keyctl"
    cc -O1 -static -Wall -Wextra -Werror -o "$rootfs/bin/agent" "$suites/agent.c" || die "cannot compile agent.c"
    printf '#!/bin/sh\nwhile [ ! -e "$1" ]; do sleep 0.02; done\n' >"$rootfs/bin/wait_for"
    chmod 755 "$rootfs/bin/wait_for"
}

prepare() {
    [ -x "$keyshim" ] || die "no $keyshim: build it with 'cargo build --release', or set KEYSHIM"
    end_leftovers
    rm -rf "$scratch/run" "$scratch/bundles" "$scratch/state" "$shared"
    mkdir -p "$scratch/run" "$scratch/bundles" "$scratch/state" "$shared"
    make_rootfs
    start_agent || die "the agent does not start"
    trap 'end_agent; end_leftovers' EXIT
}

# ---- the agent

start_agent() {
    KEYSHIM_LOG=${KEYSHIM_LOG:-info} "$keyshim" agent --socket "$socket" 2>>"$scratch/agent.log" &
    agent=$!
    # Not to be waited for with the containers.
    disown "$agent"
    eventually is_served
}

is_served() { kill -0 "$agent" 2>/dev/null && [ -S "$socket" ] && [ -d "$doors" ]; }

end_agent() {
    [ -z "$agent" ] || kill "$agent" 2>/dev/null
    agent=
}

no_domains() { [ -z "$(ls "$doors")" ]; }

# Threads, descriptors and KiB of memory.
agent_use() {
    # A thread that has ended is counted until the kernel has taken leave of it.
    sleep 0.2
    echo "$(find "/proc/$agent/task" -mindepth 1 -maxdepth 1 | wc -l) $(find "/proc/$agent/fd" -mindepth 1 | wc -l)" \
        "$(awk '/^VmRSS/ { print $2 }' "/proc/$agent/status")"
}

# same_use BEFORE AFTER [KIB]: the same threads and descriptors, and not much more of
# memory. (What many threads at once have used, the allocator keeps for the next.)
same_use() {
    local before after
    read -ra before <<<"$1"
    read -ra after <<<"$2"
    if [ "${before[*]:0:2}" != "${after[*]:0:2}" ] || [ "${after[2]}" -gt $((before[2] + ${3:-2048})) ]; then
        echo "the agent holds more: $1, then $2"
        return 1
    fi
}

# ---- runtimes

runtime() {
    local name=$1
    shift
    set -- "$name" --root "$scratch/state/$name" "$@"
    [ "$name" != crun ] || set -- crun --cgroup-manager=disabled "${@:2}"
    in_cgroup2 "$@"
}

# crun cannot use control groups where both versions are mounted; a mount namespace
# with the second alone suits everybody.
in_cgroup2() {
    local alone='umount -l -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        "$@"
    else
        unshare -m --propagation private sh -c "$alone" sh "$@"
    fi
}

# Why a runtime cannot be used here; nothing if it can.
lacks_runtime() {
    command -v "$1" >/dev/null || { echo "needs $1 (package $1)"; return; }
    local directory=$scratch/bundles/probe
    python3 "$suites/agent_bundle.py" "$directory" "$rootfs" "$socket" true action=SCMP_ACT_ALLOW &&
        runtime "$1" run --no-new-keyring --bundle "$directory" "probe-$1" </dev/null >"$directory/log" 2>&1 ||
        echo "$1 runs no container here: $(tail -n 1 "$directory/log" | cut -c1-120)"
}

# contain RUNTIME ID SCRIPT [KEY=VALUE]...: a container's whole life; with
# detach=yes, its beginning.
contain() {
    local name=$1 id=$2 directory=$scratch/bundles/$2 how=()
    # Keys of the user are possessed, and so can be read, by way of the session.
    local script="keyctl link @u @s; $3"
    shift 3
    [ $mode != control ] || set -- "$@" action=SCMP_ACT_ERRNO
    case " $* " in *" detach=yes "*) how=(--detach) ;; esac
    python3 "$suites/agent_bundle.py" "$directory" "$rootfs" "$socket" "$script" "shared=$shared" "$@" || return
    # A container that keeps our output open would keep us waiting.
    if [ ${#how[@]} = 0 ]; then
        runtime "$name" run --no-new-keyring --bundle "$directory" "$id" </dev/null
    else
        runtime "$name" run --no-new-keyring "${how[@]}" --bundle "$directory" "$id" </dev/null >"$directory/log" 2>&1
    fi
}

# Two containers at the same time; `said` is what the second says.
two_containers() {
    local first=$1 second=$2 script=$3
    shift 3
    contain "$first" "one-$first" 'keyctl add user of-the-other mine @u >/dev/null && touch /shared/made
        wait_for /shared/seen; keyctl print %user:of-the-other' "$@" >"$shared/first" &
    arrives made && said=$(contain "$second" "two-$second" "$script" "$@" 2>&1 | grep -v 'not available')
    touch "$shared/seen"
    wait
    expect "$(cat "$shared/first")" mine
}

crowd_comes() {
    local number
    for number in $(seq "$2"); do
        contain "$1" "m-$1-$number" 'agent once mine && touch /shared/up-'"$number"'; exec sleep 999' \
            detach=yes &
        [ $((number % 10)) != 0 ] || wait
    done
    wait
    eventually everybody_is_up "$2" || { echo "only $(find "$shared" -name 'up-*' | wc -l) of $2 are up"; return 1; }
}

everybody_is_up() { [ "$(find "$shared" -name 'up-*' | wc -l)" = "$1" ]; }

crowd_goes() {
    local number
    for number in $(seq "$2"); do
        runtime "$1" delete --force "m-$1-$number" &
        [ $((number % 10)) != 0 ] || wait
    done
    wait
    rm -f "$shared"/up-*
}

# Containers of a run that was interrupted.
end_leftovers() {
    local name id
    for name in crun runc; do
        [ -d "$scratch/state/$name" ] && command -v $name >/dev/null || continue
        for id in "$scratch/state/$name"/*; do
            [ ! -d "$id" ] || runtime $name delete --force "$(basename "$id")"
        done
    done >/dev/null 2>&1
}

# ---- tests

# eventually COMMAND: waits until it holds, 20 seconds at most.
eventually() {
    local turn
    for turn in $(seq 400); do
        ! "$@" || return 0
        sleep 0.05
    done
    echo "not in time: $*"
    return 1
}

# A container has made this file.
arrives() { eventually [ -e "$shared/$1" ]; }

expect() { [ "$1" = "$2" ] || { echo "said \"$1\" instead of \"$2\""; return 1; }; }

# one_test NAME FUNCTION ARGS: what its output says of use and time is shown.
one_test() {
    local name=$1 log
    shift
    selected "$name" || return 0
    rm -rf "$shared" && mkdir -p "$shared" && chmod 777 "$shared"
    is_served || start_agent
    log=$scratch/$(tr -c 'A-Za-z0-9\n' _ <<<"$name").log
    if "$@" >"$log" 2>&1 </dev/null; then
        verdict pass "$name"
    else
        verdict fail "$name" "$(grep -v '^#' "$log" | tail -n 1 | cut -c1-160) (all of it: $log)"
    fi
    grep '^#' "$log"
}
