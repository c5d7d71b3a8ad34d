# shellcheck shell=bash
# Networks, services and the plugin made and removed ten times, in the swarm that is up, which n2 leads: what is there afterwards is
# what was there before. Sourced by tests/docker/run.

repeat() {
    local node round
    # n3 has the plugin as the guide makes it: from elsewhere.
    cp -a "$LAB_DIR/plugin-global" "$LAB_DIR/n3/log/plugin"
    # Docker's own: what a machine's first container in a network brings about stays.
    once_around
    for node in n1 n2 n3; do state "$node" >"$LAB_DIR/$node/log/state.before"; done
    for round in $(seq 10); do once_around "$round"; done
    WITHIN=60 holds "networks, services and plugin, made and removed ten times, leave kernel and store as they were" as_before
}
# once_around: a network and a service of two kinds that come and go, and on n3 the plugin.
once_around() {
    docker_on n2 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.40.0.0/24 --ipam-opt network=again \
        --opt pool.one=10.40.0.100-10.40.0.109 again >/dev/null
    service n2 one --mode global --network again --container-label 'lanmesh.advertise=_again._tcp:80' "$IMAGE"
    until_ok 60 tasks_run one 3 || die "the tasks do not start: $(docker_on n2 service ps --no-trunc one)"
    docker_on n2 service rm one >/dev/null
    docker_on n2 network rm again >/dev/null
    until_ok 60 lacks_network again >/dev/null 2>&1 || die "the network does not go"
    on n3 sh -c 'docker plugin disable --force lanmesh:latest && docker plugin rm --force lanmesh:latest &&
        docker plugin create lanmesh:latest /log/plugin && docker plugin enable lanmesh:latest' >/dev/null 2>&1 ||
        die "the plugin cannot be replaced"
}
tasks_run() {
    [[ $(for node in n1 n2 n3; do docker_on "$node" ps --quiet --filter "label=com.docker.swarm.service.name=$1"; done | wc -l) == "$2" ]]
}
as_before() {
    local node
    for node in n1 n2 n3; do
        state "$node" >"$LAB_DIR/$node/log/state.after"
        diff "$LAB_DIR/$node/log/state.before" "$LAB_DIR/$node/log/state.after" || return 1
    done
}
# state NODE: what there is in the machine's kernel, and what its agent has in store.
# shellcheck disable=SC2016
state() {
    on "$1" sh -c 'ip -o link | sed -E "s/^[0-9]+: ([^:@]+).*/link \1/" | sort
        ip rule | sort
        ip route show table all | sort
        nft list tables | sort
        find /run/lanmesh | sort
        awk "{ print \$2 }" /proc/mounts | sort
        lanmesh() { /opt/lanmesh/lanmesh "$@" --json; }
        lanmesh network ls
        lanmesh endpoint ls
        lanmesh service ls
        lanmesh desired get'
    lanmesh "$1" node ls --json | jq '[.[] | {name, state, labels}]'
    # All but the notes of networks that were deleted (kind 2 of the ledger), which stay for good.
    lanmesh "$1" facts --json | jq -c '.[] | select(.place != "ledger" or .kind != 2) | [.place, .kind, .writer, .entries]' | sort
}
