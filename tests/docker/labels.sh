# shellcheck shell=bash
# What labels say of containers that Docker runs, on the machine without a swarm. Sourced by tests/docker/run.

labels() {
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.12.0.0/24 --ipam-opt network=labelled \
        --opt gateway=lanmesh labelled >/dev/null
    docker_on n1 run --detach --name peer --network labelled lab >/dev/null
    docker_on n1 run --detach --name silent --cap-add NET_ADMIN --network labelled lab >/dev/null
    docker_on n1 run --detach --name says --cap-add NET_ADMIN --network labelled --label lanmesh.also-address=10.12.0.200 \
        --label lanmesh.multicast-router=true --label lanmesh.default-route=true --label lanmesh.alias=other \
        --label lanmesh.publish=8095:8095 lab >/dev/null
    holds "a container whose labels say so may have a further address, which answers" may_float says 10.12.0.200
    shows "another one may not" may_not_float silent 10.12.0.201
    holds "its default route leads outside" leads_outside says
    shows "and another's does not" leads_nowhere silent
    holds "that it routes multicast is known" routes_multicast says
    docker_on n1 exec --detach says sh -c 'while :; do echo published | nc -l -p 8095; done'
    holds "the port that its label publishes leads to it" answers_at 8095
    holds "it has the further name" docker_on n1 exec peer nslookup other.labelled.lanmesh 10.12.0.1
    docker_on n1 rm --force peer silent says >/dev/null
    docker_on n1 network rm labelled >/dev/null
    holds "nothing is left of them" nothing_on_n1
}
# may_float CONTAINER ADDRESS: it gives itself the address, and another container reaches it there.
may_float() {
    docker_on n1 exec "$1" ip address show | has_line "$2/" || docker_on n1 exec "$1" ip address add "$2/32" dev eth0 || return 1
    docker_on n1 exec peer ping -c 1 -W 2 "$2"
}
may_not_float() { ! may_float "$1" "$2"; }
leads_outside() { docker_on n1 exec "$1" ip route | grep '^default via 10\.12\.0\.1 ' && docker_on n1 exec "$1" ping -c 1 -W 2 10.99.0.254; }
# answers_at PORT: of the machine.
answers_at() { on n1 bash -c "exec 3<>/dev/tcp/10.99.0.1/$1 && head -n 1 <&3" | grep -x published; }
leads_nowhere() { ! docker_on n1 exec "$1" ping -c 1 -W 2 10.99.0.254; }
routes_multicast() { lanmesh n1 endpoint inspect labelled "$1" --json | jq -e .multicast_router; }
