# shellcheck shell=bash
# A swarm of three. Sourced by tests/docker/run.

# swarm SUITE
swarm() {
    local chroot begun=$SECONDS node
    chroot=$(chroot_of "$1")
    section "A swarm of three: Debian's $1"
    lab_begin
    swarm_up "$chroot" 3
    say "$(docker_on n1 version --format 'Docker {{.Server.Version}}'), $((SECONDS - begun)) s"
    image n1 n2 n3
    plugins global n1 n2
    guide_plugin n3
    holds "a node that has all says so" lanmesh n1 docker setup
    guide
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.10.0.0/24 \
        --ipam-opt network=buildnet --opt pool.web=10.10.0.100-10.10.0.119 --opt subnet=fd00:10::/64 --opt zeroconf=proxy --attachable buildnet >/dev/null
    service n1 each --mode global --network buildnet --endpoint-mode dnsrr \
        --container-label 'lanmesh.advertise=_distcc._tcp:3632,jobs=4' "$IMAGE"
    service n1 web --replicas 3 --network buildnet --endpoint-mode dnsrr "$IMAGE"
    holds "slots have the addresses of their pool" slots_at web 3 10.10.0.
    holds "every node's task reaches every slot" reaches_all
    holds "IPv6 reaches too, which Docker has not in a swarm" inside n2 each ping -c 1 -W 2 "$(address web 1 :)"
    holds "Docker's DNS knows the tasks at these addresses" dns_docker
    holds "lanmesh's DNS knows the slot" dns_slot
    holds "a service of a label is found" found_service
    holds "by mDNS too: a task asks, and hears of those of the other nodes" found_by_mdns
    holds "50 of 50 datagrams to a group arrive on another node" group_count each 50
    vip_begin
    docker_on n1 service scale --detach web=6 front=4 >/dev/null
    holds "six slots have the pool's addresses after scaling" slots_at web 6 10.10.0.
    holds "and the virtual address reaches four tasks" answers front 4 n1 n2 n3
    docker_on n1 node update --availability drain n3 >/dev/null
    holds "and when a node was drained" drained
    holds "and the virtual address reaches four tasks" answers front 4 n1 n2
    docker_on n1 node update --availability active n3 >/dev/null
    holds "also from the node when it is back" answers front 4 n1 n2 n3
    docker_on n2 kill "$(container_of n2 web)" >/dev/null
    holds "and when a task was killed" slots_at_and_count 6
    stop_on n2 KILL dockerd
    sleep 1
    start_docker n2
    holds "and when dockerd was killed" slots_at_and_count 6
    stop_on n2 KILL lanmesh
    stop_on n2 KILL lanmesh-docker-plugin
    sleep 1
    start_agent n2
    holds "and when agent and plugin were killed" slots_at_and_count 6
    holds "every node's task reaches every slot again" reaches_all
    docker_on n1 network create --driver overlay --attachable plain >/dev/null
    service n1 plain --mode global --network plain --endpoint-mode dnsrr "$IMAGE"
    holds "Docker's own overlay is up beside it" inside n2 plain ip address
    holds "and 0 of 50 datagrams arrive there" group_count plain 0
    holds "the virtual address reaches its tasks after all that" answers front 4 n1 n2 n3
    vip_new_leader
    docker_on n2 service scale --detach web=7 >/dev/null
    holds "slots have their addresses under the new leader too" slots_at_and_count 7
    stack_deploy
    stack_rm
    many
    ((!LONG)) || kills 12
    ((!LONG)) || repeat
    docker_on n2 service rm each web plain >/dev/null
    holds "no endpoint is left without services" no_endpoint
    holds "the network can be removed" docker_on n2 network rm buildnet
    holds "and goes from lanmesh" no_network
    holds "nothing is left on any node" nothing_left
    lab_end
    say "$((SECONDS - begun)) s"
}
reaches_all() {
    local from slot
    for from in n1 n2 n3; do
        for slot in 1 2 3; do inside "$from" each ping -c 1 -W 2 "$(address web "$slot")" || return 1; done
    done
}
dns_docker() { inside n1 each nslookup tasks.web 127.0.0.11 | has_line 10.10.0.102; }
dns_slot() { inside n1 each nslookup 2.web.buildnet.lanmesh 10.10.0.1 | has_line 10.10.0.102; }
found_service() { [[ $(lanmesh n2 discover buildnet _distcc._tcp --format json | jq length) -ge 3 ]]; }
# own NODE: the address of this node's task of the service `each`.
own() {
    lanmesh n1 endpoint ls buildnet --json | jq -r --arg node "$1" \
        '.[] | select(.service == "each" and .node == $node) | .addresses[0] | split("/")[0]'
}
found_by_mdns() { in_container n1 "$(container_of n1 each)" python3 - "$(own n1)" "$(own n2)" "$(own n3)" <<'PYTHON'; }
import socket, struct, sys, time
me, others = sys.argv[1], {socket.inet_aton(address) for address in sys.argv[2:]}
question = b"".join(bytes([len(label)]) + label for label in (b"_distcc", b"_tcp", b"local", b"")) + struct.pack("!HH", 12, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(me))
s.sendto(struct.pack("!6H", 0, 0, 1, 0, 0, 0) + question, ("224.0.0.251", 5353))
s.settimeout(0.5)
heard, end = b"", time.monotonic() + 3
while time.monotonic() < end and not all(other in heard for other in others):
    try:
        heard += s.recv(9000)
    except TimeoutError:
        pass
print(f"asked from {me}, heard {len(heard)} bytes")
sys.exit(0 if len(others) == 2 and all(other in heard for other in others) else 1)
PYTHON
drained() { [[ -z $(docker_on n3 ps --quiet) ]] && slots_at_and_count 6; }
slots_at_and_count() {
    slots_at web "$1" 10.10.0. &&
        [[ $(lanmesh n1 endpoint ls buildnet --json | jq '[.[] | select(.service == "web" and .state == "up")] | length') == "$1" ]]
}

slots_at() {
    local slot
    for slot in $(seq "$2"); do at "$1" "$slot" "$3$((100 + slot))" || return 1; done
}
# container_of NODE SERVICE: a running container of the service on the node.
container_of() { docker_on "$1" ps --quiet --filter "label=com.docker.swarm.service.name=$2" | sed -n 1p; }
inside() { docker_on "$1" exec "$(container_of "$1" "$2")" "${@:3}"; }

# groups FROM FROM_CONTAINER TO TO_CONTAINER INTERFACE: how many of 50 datagrams to a group arrive.
groups() {
    local heard
    heard=$(mktemp)
    in_container "$3" "$4" timeout 12 python3 - <<'PYTHON' >"$heard" &
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("239.1.2.3", 5007))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", socket.inet_aton("239.1.2.3"), socket.inet_aton("0.0.0.0")))
s.settimeout(8)
n = 0
try:
    while n < 50:
        s.recv(2048)
        n += 1
except TimeoutError:
    pass
print(n)
PYTHON
    local listener=$!
    sleep 3
    in_container "$1" "$2" python3 - <<'PYTHON'
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
for n in range(50):
    s.sendto(b"x" * 100, ("239.1.2.3", 5007))
    time.sleep(0.01)
PYTHON
    wait "$listener" || true
    cat "$heard"
    rm -f "$heard"
}
group_count() { [[ $(groups n1 "$(container_of n1 "$1")" n2 "$(container_of n2 "$1")") == "$2" ]]; }

no_network() { [[ $(lanmesh n1 network ls --json | jq length) == 0 ]]; }
nothing_left() {
    local node
    for node in n1 n2 n3; do
        ! on "$node" ip -o link show | grep -E ': (lmd|lm-)' || return 1
        [[ -z $(on "$node" ls /run/lanmesh/netns) ]] || return 1
    done
}
