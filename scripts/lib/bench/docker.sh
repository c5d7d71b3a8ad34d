# shellcheck shell=bash
# A part of scripts/bench: containers in networks of lanmesh beside Docker's own overlay, in a swarm of two, and a VXLAN made by
# hand between the same machines.

# shellcheck source=scripts/lib/machines.sh
. scripts/lib/machines.sh
# Of machines.sh, not those of lab.sh: a place of its own.
LAB_DIR=''

RUNS=${BENCH_ROUNDS:-20}
ROUNDS=${BENCH_ROUNDS:-9}
SECONDS_EACH=${BENCH_SECONDS:-3}
KINDS=(lanmesh overlay hand)

title() { echo "Docker"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 iperf3=iperf3 ping=iputils-ping || die "missing: ${MISSING[*]}"
    build_lanmesh release
    BINARY=$LANMESH
    CHROOT=$(chroot_of trixie) || die "Debian's packages with Docker cannot be had: see $CHROOTS/trixie.log"
}

versions() { printf '; Docker %s; %s' "$(docker_on n1 version --format '{{.Server.Version}}')" "$(iperf3 --version | sed -n 1p | cut -d' ' -f1-2)"; }

measure() {
    local node
    swarm_up "$CHROOT" 2
    for node in n1 n2; do image "$node"; done
    plugins global n1 n2
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.97.0.0/24 \
        --ipam-opt network=bench --attachable lanmesh >/dev/null
    docker_on n1 network create --driver overlay --subnet 10.96.0.0/24 --attachable overlay >/dev/null
    hand_made_pair 1450 10.99.0.
    # Docker lets nothing be forwarded that it does not know, and has bridges on the machine ask its rules.
    for node in n1 n2; do ip netns exec "$LAB-$node" sysctl -q -w net.bridge.bridge-nf-call-iptables=0; done
    for node in n1 n2; do
        for network in lanmesh overlay; do docker_on "$node" run --detach --name "t-$network-$node" --network "$network" lab sleep 3600 >/dev/null; done
        docker_on "$node" run --detach --name "plain-$node" --network none lab sleep 3600 >/dev/null
        docker_on "$node" network disconnect none "plain-$node"
    done
    starts n1 manager
    starts n2 worker
    streams
}

# starts NODE WHAT: how long it takes there to connect and to run; the node is a manager or a worker.
starts() {
    say "connect and run on a $2: $RUNS rounds, taking turns"
    local name ours theirs
    python3 scripts/lib/bench/docker.py "/proc/$(<"$LAB_DIR/$1/pid")/root/run/docker.sock" "$RUNS" "plain-$1" lanmesh overlay >"$WORK/$2"
    while read -r name ours theirs; do
        say "$name: $ours ms, Docker's overlay $theirs ms"
        case $name in connect | run) promise "$name on a $2, to that with Docker's overlay" "$(ratio "$ours" "$theirs")" 1.05 ;; esac
    done <"$WORK/$2"
}

# place KIND NODE: the namespace of that kind's container there; target KIND: the address of that on n2.
place() {
    case $1 in
    hand) echo "/run/netns/$LAB-h${2#n}" ;;
    *) netns_of "$2" "t-$1-$2" ;;
    esac
}
target() {
    case $1 in
    hand) echo 10.98.0.2 ;;
    *) docker_on n2 inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "t-$1-n2" ;;
    esac
}

# flow KIND: Gbit/s of one TCP flow.
flow() {
    local server
    timeout 60 nsenter --net="${PLACE[$1-n2]}" iperf3 --server --one-off >/dev/null 2>&1 &
    server=$!
    sleep 0.3
    nsenter --net="${PLACE[$1-n1]}" iperf3 --client "${TARGET[$1]}" --time "$SECONDS_EACH" --omit 1 --json |
        jq '.end.sum_received.bits_per_second / 1e9'
    wait "$server" || true
}

streams() {
    local kind i order
    declare -A PLACE TARGET
    for kind in "${KINDS[@]}"; do
        PLACE[$kind-n1]=$(place "$kind" n1)
        PLACE[$kind-n2]=$(place "$kind" n2)
        TARGET[$kind]=$(target "$kind")
        until_ok 10 nsenter --net="${PLACE[$kind-n1]}" ping -q -c 1 -W 1 "${TARGET[$kind]}" >/dev/null || die "no way through $kind"
    done
    say "what a packet costs, $ROUNDS rounds, taking turns"
    for ((i = 0; i < ROUNDS; i++)); do
        for kind in "${KINDS[@]}"; do
            nsenter --net="${PLACE[$kind-n1]}" python3 scripts/lib/bench/packets.py "${TARGET[$kind]}" 40 >>"$WORK/cost.$kind"
        done
    done
    for kind in "${KINDS[@]}"; do say "$kind: $(median <"$WORK/cost.$kind") ns"; done
    promise "what a packet costs, to that through Docker's overlay" "$(ratio "$(median <"$WORK/cost.lanmesh")" "$(median <"$WORK/cost.overlay")")" 1.00
    say "one TCP flow: $ROUNDS rounds of $SECONDS_EACH s each, taking turns"
    for ((i = 0; i < ROUNDS; i++)); do
        order=("${KINDS[@]:i % 3}" "${KINDS[@]:0:i % 3}")
        for kind in "${order[@]}"; do flow "$kind" >>"$WORK/tcp.$kind"; done
        paste "$WORK"/tcp.{lanmesh,overlay,hand} | tail -n 1 | awk '{ printf "   %7.2f %7.2f %7.2f\n", $1, $2, $3 }'
    done
    promise_least "one TCP flow, to that through Docker's overlay" "$(to overlay)" 0.95
}
# to KIND: the median of the rounds' ratios of lanmesh to it.
to() { paste "$WORK/tcp.lanmesh" "$WORK/tcp.$1" | awk '{ print $1 / $2 }' | median; }

report() {
    cat <<PAGE
Two machines made of namespaces, each with a real dockerd, in one swarm; networks of lanmesh beside Docker's own overlay, taking turns.

How long Docker takes at its socket, in milliseconds, medians of $RUNS: \`connect\` and \`disconnect\` are \`docker network connect\` of a container
that runs, \`run\` is \`docker run\` until the container runs, \`remove\` is \`docker rm --force\`. Each network is on the node before.

| on a | | lanmesh | overlay |
|---|---|---|---|
PAGE
    local role
    for role in manager worker; do awk -v role="$role" '{ printf "| %s | %s | %s | %s |\n", role, $1, $2, $3 }' "$WORK/$role"; done
    cat <<PAGE

One TCP flow between containers on the two machines, Gbit/s, medians of $ROUNDS rounds of $SECONDS_EACH s; by hand is a VXLAN made with
\`ip\` between the same machines.

| lanmesh | overlay | by hand | lanmesh to overlay | lanmesh to by hand |
|---|---|---|---|---|
PAGE
    printf '| %.2f | %.2f | %.2f | %.2f | %.2f |\n' "$(median <"$WORK/tcp.lanmesh")" "$(median <"$WORK/tcp.overlay")" \
        "$(median <"$WORK/tcp.hand")" "$(to overlay)" "$(to hand)"
    cat <<PAGE

What a packet costs on its whole way, in nanoseconds of one processor (a datagram of 64 bytes, sent and received on one machine): a busy
machine changes little of that.

| lanmesh | overlay | by hand |
|---|---|---|
PAGE
    printf '| %.0f | %.0f | %.0f |\n' "$(median <"$WORK/cost.lanmesh")" "$(median <"$WORK/cost.overlay")" "$(median <"$WORK/cost.hand")"
    cat <<'PAGE'

What explains it: the three VXLAN devices are alike (UDP checksums, MTU 1450, no learning or some), and the bridges too. Docker loads
`br_netfilter` and has bridges ask the rules of their namespace, also where there are none: that costs each packet some 900 ns. In networks
of lanmesh it is off, which pays for what its own rules cost (an endpoint's guard, the device's filter; see [throughput](throughput.md)). The VXLAN by
hand is on the machine's own bridge, where Docker's rules would let nothing through, so it is off there as well.
PAGE
}
