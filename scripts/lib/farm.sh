# shellcheck shell=bash
# A distcc farm in "containers": a process of its own pid, mount, host name and network namespaces each.
# Sourced by scripts/demo. Knows nothing of lanmesh: the network interface is there, or is not.

FARM_LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# container NETNS HOSTNAME DIR COMMAND...: starts COMMAND as the first process of a container in the
# network namespace at path NETNS. Ending that process ends everything in it. Sets CONTAINER to its pid as
# seen from here. Its output goes to DIR/HOSTNAME.log.
container() {
    local netns=$1 hostname=$2 dir=$3
    shift 3
    # Without descriptor 9, the lock of lab.sh: it must not outlive the script.
    # unshare goes on as the parent of the container's first process, and takes it along when it is killed.
    FARM_DIR=$dir setsid nsenter --net="$netns" -- \
        unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation slave -- \
        "$FARM_LIB/container" "$hostname" "$@" >"$dir/$hostname.log" 2>&1 </dev/null 9>&- &
    CONTAINER=$!
    disown "$CONTAINER"
}

# in_container PID COMMAND...: runs a command in the container whose parent process is PID.
in_container() {
    local pid=$1 first
    shift
    first=$(cat "/proc/$pid/task/$pid/children")
    first=${first%% *}
    [[ -n $first ]] || return 1
    nsenter --target "$first" --mount --uts --ipc --pid --net -- "$@"
}

# units_compiled LOG: how many units the distccd with this log compiled.
units_compiled() {
    local count
    count=$(grep -c 'COMPILE_OK' "$1" 2>/dev/null) || true
    printf '%s\n' "${count:-0}"
}
