# shellcheck shell=bash
# shellcheck disable=SC2034
# A Docker of its own in a network namespace, for comparisons. Sourced after lib/common.sh and lib/lab.sh.

# docker_begin DIR: starts dockerd in the namespace $LAB-docker with all its files in DIR; 1 where it cannot run, with the
# reason in DOCKER_WHY. Then `dockerc` is the docker command, and DOCKER_PID the daemon.
docker_begin() {
    DOCKER_DIR=$1
    command -v dockerd >/dev/null || install_packages docker.io iptables || {
        DOCKER_WHY="no dockerd (package docker.io)"
        return 1
    }
    mkdir -p "$DOCKER_DIR"
    ip netns add "$LAB-docker"
    ip -n "$LAB-docker" link set lo up
    # A /run of its own, so that it meets no other Docker; where there is no cgroup file system, one of version 2.
    # shellcheck disable=SC2016
    setsid nsenter --net="/run/netns/$LAB-docker" unshare --mount bash -c '
        mount -t tmpfs tmpfs /run && mkdir /run/docker
        grep -q " /sys/fs/cgroup" /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec dockerd --data-root "$0/data" --exec-root /run/docker --host "unix://$0/sock" --pidfile "$0/pid" \
            --storage-driver vfs' "$DOCKER_DIR" >"$DOCKER_DIR/log" 2>&1 </dev/null 8>&- 9>&- &
    DOCKER_PID=$!
    lab_note "$DOCKER_PID"
    disown "$DOCKER_PID"
    if ! until_ok 30 dockerc version >/dev/null 2>&1; then
        DOCKER_WHY="dockerd does not start: $(grep -v 'level=info' "$DOCKER_DIR/log" | tail -n 1)"
        return 1
    fi
    # An image of one file.
    install -D "$(command -v busybox)" "$DOCKER_DIR/image/bin/busybox"
    tar --directory "$DOCKER_DIR/image" --create . | dockerc import - lab >/dev/null
}

dockerc() { DOCKER_HOST=unix://$DOCKER_DIR/sock docker "$@"; }

# docker_names NETWORK NAME...: a container that has these names in a new network, and one beside it that can ask for them:
# its process, in whose namespace Docker's name server is 127.0.0.11, is in DOCKER_CLIENT.
docker_names() {
    local network=$1
    shift
    dockerc network create "$network" >/dev/null
    dockerc run --detach --name target --network none lab /bin/busybox sleep 3600 >/dev/null
    dockerc network disconnect none target
    dockerc network connect "${@/#/--alias=}" "$network" target
    dockerc run --detach --name client --network "$network" lab /bin/busybox sleep 3600 >/dev/null
    DOCKER_CLIENT=$(dockerc inspect --format '{{.State.Pid}}' client)
    # The first process of a container ignores a polite signal.
    local name
    for name in target client; do lab_note "$(dockerc inspect --format '{{.State.Pid}}' "$name")" KILL; done
}

# docker_end: ends its containers and it.
docker_end() {
    dockerc rm --force target client >/dev/null 2>&1 || true
    kill "$DOCKER_PID" 2>/dev/null || true
    until_ok 15 gone "$DOCKER_PID" || true
}
gone() { ! kill -0 "$1" 2>/dev/null; }
