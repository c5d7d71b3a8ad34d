# shellcheck shell=bash
# Nodes on one machine: an underlay, a network namespace and an agent for each node. Sourced by scripts/demo
# and scripts/bench, which set LAB (a word that everything made here begins with) and LAB_DIR.
#
# Everything that is started is written down in LAB_DIR/processes as 'PID START SIGNAL', so that it can be ended
# later, by someone else too, without ever meeting another process that got the same pid.

# Further arguments of the agents.
LAB_AGENT=()

# lab_begin: takes LAB_DIR, after ending what an earlier run left there.
lab_begin() {
    lab_lock
    if [[ -e $LAB_DIR/processes ]]; then
        say "ending what an earlier run left"
        lab_end
        lab_lock
    fi
    : >"$LAB_DIR/processes"
}

# lab_lock: one run at a time.
lab_lock() {
    install -d -m 755 "$LAB_DIR"
    exec 9>"$LAB_DIR/lock"
    flock --nonblock 9 || die "another one is running: wait for it, or press Ctrl-C there"
}

# lab_note PID [SIGNAL]: what is noted is ended by lab_end, with that signal.
lab_note() { printf '%s %s %s\n' "$1" "$(started_at "$1")" "${2:-TERM}" >>"$LAB_DIR/processes"; }

# lab_underlay MTU: a bridge in a namespace of its own.
lab_underlay() {
    LAB_MTU=$1
    ip netns add "$LAB-ul"
    ip -n "$LAB-ul" link add br0 mtu "$LAB_MTU" type bridge
    ip -n "$LAB-ul" link set br0 up
}

# lab_node INDEX: node nINDEX with address 192.0.2.INDEX on the underlay.
lab_node() {
    local node=n$1
    ip netns add "$LAB-$node"
    ip -n "$LAB-ul" link add "$node" mtu "$LAB_MTU" type veth peer name eth0 mtu "$LAB_MTU" netns "$LAB-$node"
    ip -n "$LAB-ul" link set "$node" master br0 up
    ip -n "$LAB-$node" address add "192.0.2.$1/24" dev eth0
    ip -n "$LAB-$node" link set lo up
    ip -n "$LAB-$node" link set eth0 up
}

# lab_agent NODE: starts the node's agent and waits until it answers.
lab_agent() {
    local node=$1 dir=$LAB_DIR/$1
    install -d -m 755 "$dir" "$dir/run"
    # Not 'ip netns exec': it makes a mount namespace, and what the agent mounts would be seen nowhere else.
    setsid nsenter --net="/run/netns/$LAB-$node" -- \
        "$LANMESH" agent --data-dir "$dir/data" --run-dir "$dir/run" --socket "$dir/run/lanmesh.sock" "${LAB_AGENT[@]}" \
        >>"$LAB_DIR/$node.log" 2>&1 </dev/null 9>&- &
    lab_note $!
    disown $!
    if ! until_ok 15 on "$node" status >/dev/null 2>&1; then
        tail -n 20 "$LAB_DIR/$node.log"
        die "the agent of $node does not answer"
    fi
}

# on NODE ARGUMENT...: the lanmesh command, spoken to the agent of NODE.
on() {
    local node=$1
    shift
    LANMESH_SOCKET=$LAB_DIR/$node/run/lanmesh.sock "$LANMESH" "$@"
}

# lab_cluster N: nodes n1 to nN in one cluster that n1 made.
lab_cluster() {
    local i token
    for ((i = 1; i <= $1; i++)); do
        lab_node "$i"
        lab_agent "n$i"
    done
    token=$(on n1 init --advertise 192.0.2.1 --name n1 --json | jq -r .token)
    for ((i = 2; i <= $1; i++)); do
        on n"$i" join --token "$token" 192.0.2.1 --advertise "192.0.2.$i" --name "n$i" >/dev/null
    done
    until_ok 15 nodes_alive n1 "$1" || die "not all nodes came up: $(on n1 node ls)"
    until_ok 15 nodes_alive "n$1" "$1" || die "not all nodes came up: $(on "n$1" node ls)"
}

# nodes_alive NODE N: whether NODE sees N nodes alive.
nodes_alive() { [[ $(on "$1" node ls --json | jq '[.[] | select(.state == "alive")] | length') -eq $2 ]]; }

# lab_end: ends and removes all that was noted or begins with LAB.
lab_end() {
    local pid start signal name mount
    if [[ -e $LAB_DIR/processes ]]; then
        # The latest first: containers before the agents of their nodes.
        while read -r pid start signal; do
            end_process "$pid" "$start" "$signal"
        done < <(tac "$LAB_DIR/processes")
    fi
    lab_end_wireguard
    while read -r name _; do
        [[ $name != "$LAB"-* ]] || ip netns delete "$name"
    done < <(ip netns list)
    # The networks' namespaces that agents mounted under their run directories.
    while read -r mount; do
        umount --lazy "$mount"
    done < <(awk -v dir="$LAB_DIR/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac)
    exec 9>&-
    rm -rf --one-file-system "$LAB_DIR"
}

# lab_end_wireguard: ends the WireGuard processes that the lab's agents started, and that outlive them.
lab_end_wireguard() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        mapfile -d '' -t words <"$file" 2>/dev/null || continue
        if [[ ${words[1]:-} == wireguard-userspace && ${words[*]} == *" $LAB_DIR/"* ]]; then
            file=${file%/cmdline}
            kill "${file##*/}" || true
        fi
    done
}

# lab_leftovers: what is still there of all that, one in a line.
lab_leftovers() {
    ip netns list | awk -v lab="$LAB-" 'index($1, lab) == 1 { print "namespace " $1 }'
    awk -v dir="$LAB_DIR/" 'index($5, dir) == 1 { print "mount " $5 }' /proc/self/mountinfo
    [[ ! -e $LAB_DIR ]] || printf 'directory %s\n' "$LAB_DIR"
}
