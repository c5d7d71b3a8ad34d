# shellcheck shell=bash
# One machine with a Docker that is in no swarm. Sourced by tests/docker/run.

# single SUITE: one machine without a swarm.
single() {
    local chroot begun=$SECONDS
    chroot=$(chroot_of "$1")
    section "One machine without a swarm: Debian's $1"
    lab_begin
    node_up n1 10.99.0.1 "$chroot"
    start_agent n1
    start_docker n1
    lanmesh n1 init --advertise 10.99.0.1 --name n1 >/dev/null
    image n1
    plugins local n1
    lanmesh n1 network create buildnet --subnet 10.10.0.0/24 --subnet fd00:10::/64 --pool db=10.10.0.100-10.10.0.119
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=buildnet --subnet 10.10.0.0/24 adopted >/dev/null
    holds "an option that is not known is refused with those that are" refused "multicast" --opt colour=red
    holds "one that contradicts what is there is refused" refused "network set" --opt multicast=flood
    docker_on n1 run --detach --name one --network adopted lab >/dev/null
    # As compose does it.
    docker_on n1 run --detach --name p-db-2 --label com.docker.compose.service=db --label com.docker.compose.container-number=2 \
        --network adopted --network-alias db lab >/dev/null
    docker_on n1 run --detach --name fixed --network adopted --ip 10.10.0.9 lab >/dev/null
    holds "a container has the name that Docker gave it" named one
    holds "compose's containers are slots of their service" at db 2 10.10.0.102
    holds "--ip is honoured" has_address fixed 10.10.0.9
    holds "what Docker has the kernel ask of bridges is not asked of the network's" asks_no_rules
    holds "they reach each other" docker_on n1 exec one ping -c 1 -W 2 10.10.0.102
    holds "by name too" docker_on n1 exec one ping -c 1 -W 2 fixed
    docker_on n1 run --detach --name moved --network none lab >/dev/null
    docker_on n1 network disconnect none moved
    docker_on n1 network connect adopted moved
    holds "a container that is connected later has its name" named moved
    for _ in $(seq 10); do
        docker_on n1 network disconnect adopted moved
        docker_on n1 network connect adopted moved
    done
    docker_on n1 network disconnect adopted moved
    # What Docker said of the last connection is looked at a moment later.
    sleep 1
    holds "one that is connected and taken out at once, again and again, leaves no endpoint" unnamed moved
    docker_on n1 network connect adopted moved
    before=$(address db 2)
    docker_on n1 restart --time 1 p-db-2 >/dev/null
    holds "a restart keeps the address" at db 2 "$before"
    docker_on n1 rm --force one p-db-2 fixed moved >/dev/null
    holds "no endpoint is left" no_endpoint
    for _ in $(seq 10); do
        docker_on n1 network rm adopted >/dev/null
        docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=buildnet adopted >/dev/null
        docker_on n1 run --rm --network adopted lab ip address >/dev/null
    done
    docker_on n1 network rm adopted >/dev/null
    holds "ten times made and removed leave nothing" nothing_on_n1
    holds "a network that was there before stays" has_network buildnet
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=own --subnet 10.11.0.0/24 \
        --opt multicast=flood own >/dev/null
    holds "one that is not there is created" has_network own
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=buildnet adopted >/dev/null
    docker_on n1 create --name both --network adopted lab >/dev/null
    docker_on n1 network connect own both
    holds "a container can be in two networks from its start" docker_on n1 start both
    # Docker joins it to both in no order.
    for _ in $(seq 6); do
        docker_on n1 restart --time 0 both >/dev/null
        multicast_by both 10.10.0. >/dev/null || break
    done
    holds "and multicast leaves it by the first by name, each time it starts" multicast_by both 10.10.0.
    docker_on n1 run --detach --name later --network adopted lab >/dev/null
    until_ok 20 told later || die "the agent does not hear where the container is"
    stop_on n1 KILL lanmesh-docker-plugin
    holds "it can enter a second network later, through a plugin that knows nothing of the first" docker_on n1 network connect own later
    holds "and multicast leaves it as before" multicast_by later 10.10.0.
    docker_on n1 rm --force both later >/dev/null
    docker_on n1 network rm adopted own >/dev/null
    holds "and goes with Docker's" lacks_network own
    labels
    lab_end
    say "$((SECONDS - begun)) s"
}
refused() {
    local told
    ! told=$(docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=buildnet "${@:2}" x 2>&1) &&
        [[ $told == *"$1"* ]]
}
asks_no_rules() {
    on n1 cat /proc/sys/net/bridge/bridge-nf-call-iptables
    [[ $(lanmesh n1 network exec buildnet -- cat /proc/sys/net/bridge/bridge-nf-call-iptables) == 0 ]]
}
# multicast_by CONTAINER PREFIX: whether the one route of multicast there is by the interface whose address begins so.
multicast_by() {
    local by
    by=$(docker_on n1 exec "$1" ip route | awk '$1 == "224.0.0.0/4" { print $3 }')
    echo "by '$by'"
    docker_on n1 exec "$1" ip -o -4 address show dev "$by" | grep -F " $2"
}
told() { [[ $(lanmesh n1 endpoint ls buildnet --json | jq length) != 0 ]] && lanmesh n1 desired get --json | has_line "\"netns\""; }
named() { lanmesh n1 endpoint inspect buildnet "$1" || lanmesh n1 endpoint ls buildnet --json | jq -e --arg name "$1" '.[] | select(.name == $name)'; }
unnamed() { ! named "$1"; }
has_address() { lanmesh n1 endpoint ls buildnet --json | jq -e --arg name "$1" --arg address "$2/24" '.[] | select(.name == $name) | .addresses | index($address) != null'; }
nothing_on_n1() { no_endpoint && ! on n1 ip -o link show | grep -E ': lmd' && [[ -z $(on n1 ls /run/lanmesh/netns) ]]; }
has_network() { lanmesh n1 network inspect "$1"; }
lacks_network() { ! has_network "$1"; }
