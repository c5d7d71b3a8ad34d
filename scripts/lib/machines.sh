# shellcheck shell=bash
# Machines with a real Docker and a real agent each, on one machine: namespaces over a chroot of Debian. Sourced by
# tests/docker/run, by the demo of a swarm and by scripts/bench, after lib/common.sh; they set BINARY, the lanmesh to run.
#
# A machine is a network namespace on a bridge, with namespaces of its own for mounts, processes, names and cgroups. Its files
# are an overlay over the chroot; dockerd's data are beside it. What is in LAB_DIR goes when the lab ends.

# What the name of everything made here begins with.
LAB=lmd$$
CHROOTS=$ROOT/target/docker
CGROUPS=/sys/fs/cgroup
[[ ! -d $CGROUPS/unified ]] || CGROUPS=$CGROUPS/unified

# chroot_of SUITE: prints the chroot with Debian's SUITE, and makes it where it is missing; 77 where it cannot be had.
chroot_of() {
    local dir=$CHROOTS/$1 packages=docker.io,containerd,runc,iptables,nftables,iproute2,busybox-static
    [[ $1 == bookworm ]] || packages+=,docker-cli
    if [[ ! -e $dir.rc || $(<"$dir.rc") != 0 ]]; then
        command -v debootstrap >/dev/null || install_packages debootstrap >&2 || return 77
        rm -rf "$dir" && mkdir -p "$dir"
        debootstrap --variant=minbase --include="$packages" "$1" "$dir" >"$dir.log" 2>&1 || return 77
        echo 0 >"$dir.rc"
    fi
    echo "$dir"
}

# lab_begin: the network that the machines are on. What they keep is in LAB_DIR, a new directory if that names none.
lab_begin() {
    [[ -n ${LAB_DIR:-} ]] || LAB_DIR=$(mktemp -d /var/tmp/lanmesh-docker-XXXXXX)
    mkdir -p "$LAB_DIR"
    ip netns add "$LAB-lan"
    ip -n "$LAB-lan" link set lo up
    ip -n "$LAB-lan" link add br0 type bridge
    ip -n "$LAB-lan" link set br0 up
    # A route to nowhere: Docker takes the interface of the default route for its own.
    ip -n "$LAB-lan" address add 10.99.0.254/24 dev br0
    # Nor is there a name server: who asks for a registry is told so each time, and need not wait.
    ip netns exec "$LAB-lan" sysctl -qw net.ipv4.icmp_ratelimit=0
}

# node_up NAME ADDRESS CHROOT
node_up() {
    local name=$1 address=$2 dir=$LAB_DIR/$1 pid
    mkdir -p "$dir"/{upper,work,root,data,log}
    ip netns add "$LAB-$name"
    ip -n "$LAB-$name" link set lo up
    ip -n "$LAB-lan" link add "$name" type veth peer name eth0 netns "$LAB-$name"
    ip -n "$LAB-lan" link set "$name" master br0 up
    ip -n "$LAB-$name" address add "$address/24" dev eth0
    ip -n "$LAB-$name" link set eth0 up
    ip -n "$LAB-$name" route add default via 10.99.0.254
    mkdir -p "$CGROUPS/$LAB-$name"
    (
        echo "$BASHPID" >"$CGROUPS/$LAB-$name/cgroup.procs"
        exec setsid nsenter --net="/run/netns/$LAB-$name" unshare --mount --uts --ipc --cgroup --pid --fork \
            env -i TERM=dumb /bin/bash "$ROOT/scripts/lib/machine" "$dir" "$3" "$name" "$BINARY" "$ROOT" \
            </dev/null >"$dir/log/machine" 2>&1 8>&- 9>&-
    ) &
    # The shell says nothing when it is killed.
    disown $!
    until_ok 20 test -e "$dir/log/ready" || die "the machine $name does not start: $(tail -n 1 "$dir/log/machine")"
    for pid in $(<"$CGROUPS/$LAB-$name/cgroup.procs"); do
        [[ $(awk '/NSpid/ { print $NF }' "/proc/$pid/status") != 1 ]] || echo "$pid" >"$dir/pid"
    done
}

# on NAME COMMAND...: runs it on the machine.
on() {
    local name=$1
    shift
    (
        echo "$BASHPID" >"$CGROUPS/$LAB-$name/cgroup.procs"
        exec nsenter --target "$(<"$LAB_DIR/$name/pid")" --mount --uts --ipc --net --pid --cgroup --root --wdns=/ \
            env -i TERM=dumb HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    )
}

# start_agent NAME, start_docker NAME: in the background; returns when it answers.
start_agent() {
    on "$1" setsid /opt/lanmesh/lanmesh agent </dev/null >>"$LAB_DIR/$1/log/agent" 2>&1 8>&- 9>&- &
    until_ok 20 on "$1" /opt/lanmesh/lanmesh version >/dev/null 2>&1 || die "the agent of $1 does not start"
}
start_docker() {
    on "$1" setsid dockerd --host unix:///run/docker.sock --pidfile /run/docker.pid --debug \
        </dev/null >>"$LAB_DIR/$1/log/dockerd" 2>&1 8>&- 9>&- &
    until_ok 40 on "$1" docker version >/dev/null 2>&1 || die "the dockerd of $1 does not start"
}
lanmesh() { on "$1" /opt/lanmesh/lanmesh "${@:2}"; }
docker_on() { on "$1" docker "${@:2}"; }

# stop_on NAME SIGNAL PROGRAM: a signal to the program of this name on the machine, and to none elsewhere.
# shellcheck disable=SC2016
stop_on() { on "$1" /bin/bash -c 'for p in /proc/[0-9]*; do
    [[ $(readlink "$p/exe") != */"$1" ]] || kill -s "$0" "${p#/proc/}"; done' "$2" "$3"; }

# netns_of NAME CONTAINER: where the network namespace of a container is, as this machine sees it.
netns_of() {
    local key
    key=$(docker_on "$1" inspect --format '{{.NetworkSettings.SandboxKey}}' "$2")
    # /var/run is a link, which would lead to this machine's.
    echo "/proc/$(<"$LAB_DIR/$1/pid")/root${key#/var}"
}
# in_container NAME CONTAINER COMMAND...: runs a program of this machine's in the network namespace of a container.
in_container() { nsenter --net="$(netns_of "$1" "$2")" "${@:3}"; }

# node_down NAME: ends the machine and what runs on it.
node_down() {
    local name=$1 pid
    if [[ -w $CGROUPS/$LAB-$name/cgroup.kill ]]; then
        echo 1 >"$CGROUPS/$LAB-$name/cgroup.kill"
    else
        pid=$(cat "$LAB_DIR/$name/pid" 2>/dev/null || true)
        # Its first process: with it go all others.
        [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
    fi
    until_ok 10 empty_cgroup "$name" || true
    ip netns del "$LAB-$name" 2>/dev/null || true
    # What has just ended is in there for a moment.
    until_ok 10 remove_cgroup "$name" || true
}
remove_cgroup() {
    [[ ! -d $CGROUPS/$LAB-$1 ]] || find "$CGROUPS/$LAB-$1" -depth -type d -exec rmdir {} + 2>/dev/null
}
empty_cgroup() { [[ -z $(find "$CGROUPS/$LAB-$1" -name cgroup.procs -exec cat {} + 2>/dev/null) ]]; }

# node_lost NAME: it is gone from one moment to the next, as if its power had failed: nobody hears of it.
node_lost() {
    ip -n "$LAB-lan" link set "$1" down
    node_down "$1"
}

# swarm_up CHROOT N: machines n1 to nN with agent and Docker, in one cluster of lanmesh and one swarm; n1 manages both.
swarm_up() {
    local chroot=$1 count=$2 node token
    for node in $(seq "$count"); do
        node_up "n$node" "10.99.0.$node" "$chroot"
        start_agent "n$node"
        start_docker "n$node"
    done
    token=$(lanmesh n1 init --advertise 10.99.0.1 --name n1 --json | jq -r .token)
    for node in $(seq 2 "$count"); do
        on "n$node" /bin/bash -c "echo $token | /opt/lanmesh/lanmesh join --token - 10.99.0.1 --advertise 10.99.0.$node --name n$node" >/dev/null
    done
    docker_on n1 swarm init --advertise-addr 10.99.0.1 >/dev/null
    token=$(docker_on n1 swarm join-token --quiet worker)
    for node in $(seq 2 "$count"); do
        docker_on "n$node" swarm join --token "$token" 10.99.0.1:2377 >/dev/null
    done
}

# plugins SCOPE NODE...: the plugin on each of these; what goes into it is made once, here.
plugins() {
    local scope=$1 node jobs=()
    shift
    "$ROOT/scripts/docker-plugin" --scope "$scope" --binary "$BINARY" --only "$LAB_DIR/plugin-$scope"
    for node in "$@"; do
        rm -rf "$LAB_DIR/$node/log/plugin"
        cp -a "$LAB_DIR/plugin-$scope" "$LAB_DIR/$node/log/plugin"
        { docker_on "$node" plugin create lanmesh:latest /log/plugin && docker_on "$node" plugin enable lanmesh:latest; } >/dev/null &
        jobs+=($!)
    done
    for node in "${jobs[@]}"; do wait "$node" || die "the plugin cannot be made"; done
}

# image NODE...: the image `lab` on each of them: busybox, and a command that waits until it is told to end. IMAGE is its ID: of an
# image with a name a swarm asks the registry, for one task after the other, though it has the image.
image() {
    local node
    # shellcheck disable=SC2016
    on "$1" /bin/bash -c 'mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ &&
        for tool in sh sleep ping nslookup ip hostname httpd nc; do ln -sf busybox "/tmp/image/bin/$tool"; done &&
        printf "#!/bin/sh\ntrap exit TERM\nsleep 3600 &\nwait\n" >/tmp/image/bin/idle && chmod +x /tmp/image/bin/idle &&
        tar -C /tmp/image -c . | docker import --change "CMD [\"/bin/idle\"]" - lab' >/dev/null
    # For those who source this.
    # shellcheck disable=SC2034
    IMAGE=$(docker_on "$1" images --quiet --no-trunc lab)
    for node in "${@:2}"; do docker_on "$1" save lab | docker_on "$node" load >/dev/null; done
}

# lab_end: ends all of it, and keeps the logs in LAB_LOGS where that names a directory.
lab_end() {
    local dir name
    [[ -n ${LAB_DIR:-} ]] || return 0
    for dir in "$LAB_DIR"/n*/; do node_down "$(basename "$dir")"; done
    # The network, and what was put beside it.
    for name in $(ip netns list | awk -v lab="$LAB-" 'index($1, lab) == 1 { print $1 }'); do ip netns del "$name"; done
    [[ -z ${LAB_LOGS:-} ]] || for dir in "$LAB_DIR"/n*/; do
        mkdir -p "$LAB_LOGS/$(basename "$dir")"
        rm -rf "$dir"log/plugin
        cp "$dir"log/* "$LAB_LOGS/$(basename "$dir")/" 2>/dev/null || true
    done
    rm -rf "$LAB_DIR"
    LAB_DIR=''
}

# lab_leftovers: what is still there of a lab that had its files in DIR, one in a line.
lab_leftovers() {
    ip netns list | awk -v lab="$LAB-" 'index($1, lab) == 1 { print "namespace " $1 }'
    awk -v dir="$1/" 'index($5, dir) == 1 { print "mount " $5 }' /proc/self/mountinfo
    find "$CGROUPS" -maxdepth 1 -name "$LAB-*" -printf 'cgroup %f\n'
    [[ ! -e $1 ]] || printf 'directory %s\n' "$1"
}
