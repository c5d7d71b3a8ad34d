# shellcheck shell=bash
# Many tasks at once, in the swarm that is up, which n2 leads. Sourced by tests/docker/run.

many() {
    local node
    for node in n1 n2 n3; do log_lines "$node" >"$LAB_DIR/$node/log/before"; done
    docker_on n2 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.20.0.0/22 \
        --ipam-opt network=wide wide >/dev/null
    service n2 many --replicas 50 --network wide "$IMAGE"
    WITHIN=120 holds "50 tasks that start at once are up, each at an address of its own" all_up 50
    holds "without an error of the plugin, and none about it in dockerd's log" no_error
    docker_on n2 service rm many >/dev/null
    holds "their network can be removed while they are stopped" docker_on n2 network rm wide
    WITHIN=60 holds "and goes from lanmesh after the last of them" lacks_network wide
}
all_up() {
    local there
    there=$(lanmesh n1 endpoint ls wide --json | jq -c '[.[] | select(.service == "many" and .state == "up")] |
        [length, ([.[].addresses[0]] | unique | length)]')
    echo "endpoints and addresses: $there; running: $(running)"
    [[ $there == "[$1,$1]" && $(running) == "$1" ]]
}
running() {
    local node
    for node in n1 n2 n3; do docker_on "$node" ps --quiet --filter label=com.docker.swarm.service.name=many; done | wc -l
}
log_lines() { wc -l <"$LAB_DIR/$1/log/dockerd"; }
# What a plugin logs is an error for dockerd, whatever it is.
no_error() {
    local node
    for node in n1 n2 n3; do
        ! tail -n "+$(<"$LAB_DIR/$node/log/before")" "$LAB_DIR/$node/log/dockerd" |
            grep -E 'level=(error|warning)' | grep -E 'plugin=|remote:|lanmesh|fatal task error' | grep -v '" INFO ' || return 1
    done
}
