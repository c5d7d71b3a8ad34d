# shellcheck shell=bash
# A part of scripts/bench: TCP and small datagrams across two nodes, against a VXLAN that was made by hand, and what each of
# our rules costs a packet.

ROUNDS=${BENCH_ROUNDS:-9}
SECONDS_EACH=${BENCH_SECONDS:-3}

title() { echo "Throughput"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 iperf3=iperf3 ping=iputils-ping nft=nftables || die "missing: ${MISSING[*]}"
    build_lanmesh release
}

versions() { printf '; %s; %s' "$(ip -V | cut -d, -f2 | tr -d ' ')" "$(iperf3 --version | sed -n 1p | cut -d' ' -f1-2)"; }

# An endpoint on n1 and on n2; sets TARGET to the address of the second.
over_lanmesh() {
    local i
    on n1 network create bench --subnet 10.97.0.0/24 >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    for i in 1 2; do
        ip netns add "$LAB-o$i"
        TARGET=$(on "n$i" attach bench --name "o$i" --netns "/run/netns/$LAB-o$i" --json | jq -r '.addresses[0]')
    done
    TARGET=${TARGET%/*}
}

# serve NETNS: an iperf3 server.
serve() {
    nsenter --net="/run/netns/$LAB-$1" iperf3 --server >/dev/null 2>&1 9>&- &
    lab_note $!
    disown $!
}

# What is measured: name, protocol, flows at once, unit.
FLOWS=("tcp-1 tcp 1 Gbit/s" "tcp-8 tcp 8 Gbit/s" "udp-1 udp 1 thousand/s" "udp-8 udp 8 thousand/s")

# flow NETNS ADDRESS PROTOCOL FLOWS: Gbit/s of TCP, or thousands of datagrams of 64 bytes a second that arrive.
flow() {
    local options=() result='.end.sum_received.bits_per_second / 1e9'
    if [[ $3 == udp ]]; then
        options=(--udp --bitrate 0 --length 64)
        result='(.end.sum.packets - .end.sum.lost_packets) / .end.sum.seconds / 1e3'
    fi
    nsenter --net="/run/netns/$LAB-$1" iperf3 --client "$2" --time "$SECONDS_EACH" --omit 1 --parallel "$4" --json \
        "${options[@]}" | jq "$result"
}

# turns NAME PROTOCOL FLOWS UNIT: rounds of one kind, ours and by hand in turn.
turns() {
    local i ours theirs
    say "$1: $ROUNDS rounds of $SECONDS_EACH s each, taking turns"
    for ((i = 0; i < ROUNDS; i++)); do
        # Whoever comes first in one round comes last in the next.
        if ((i % 2)); then
            ours=$(flow o1 "$TARGET" "$2" "$3")
            theirs=$(flow h1 10.98.0.2 "$2" "$3")
        else
            theirs=$(flow h1 10.98.0.2 "$2" "$3")
            ours=$(flow o1 "$TARGET" "$2" "$3")
        fi
        printf '   %7.2f %7.2f %s\n' "$ours" "$theirs" "$4"
        echo "$ours" >>"$WORK/$1.ours"
        echo "$theirs" >>"$WORK/$1.theirs"
        printf "%s\n" "$(ratio "$ours" "$theirs")" >>"$WORK/$1.ratios"
    done
    promise_least "$1: the median of the ratios to the hand-made" "$(median <"$WORK/$1.ratios")" 0.99
}

# Our rules by themselves: name, where they are, family and table.
RULES=("port room netdev lm" "device room netdev lanmesh" "names room bridge lanmesh-names" "underlay node inet lanmesh-")

# rules STATE RULE...: lets these sleep ('{ flags dormant; }') or work (''), on both nodes.
rules() {
    local state=$1 node rule name place family table found
    shift
    for node in n1 n2; do
        for rule in "$@"; do
            read -r name place family table <<<"$rule"
            found=$(in_place "$node" "$place" nft list tables "$family" | awk -v t="$table" '
                $3 == t || ((t == "lm" || t == "lanmesh-") && index($3, t) == 1 && $3 !~ /^lanmesh$/) { print $3; exit }')
            [[ -n $found ]] || die "no table for $name on $node"
            in_place "$node" "$place" nft "add table $family $found $state"
        done
    done
}

# in_place NODE PLACE COMMAND...: runs it in the network's namespace, or the node's own.
in_place() {
    local node=$1 place=$2
    shift 2
    if [[ $place == room ]]; then on "$node" network exec bench -- "$@"; else nsenter --net="/run/netns/$LAB-$node" "$@"; fi
}

# packet NETNS ADDRESS: nanoseconds of the processor for a datagram.
packet() { nsenter --net="/run/netns/$LAB-$1" python3 scripts/lib/bench/packets.py "$2" 40; }

costs() {
    local i rule name rest
    say "what a packet costs, $ROUNDS rounds, taking turns"
    for ((i = 0; i < ROUNDS; i++)); do
        packet h1 10.98.0.2 >>"$WORK/cost.hand"
        rules '{ flags dormant; }' "${RULES[@]}"
        packet o1 "$TARGET" >>"$WORK/cost.none"
        for rule in "${RULES[@]}"; do
            read -r name rest <<<"$rule"
            rules '' "$rule"
            packet o1 "$TARGET" >>"$WORK/cost.$name"
            rules '{ flags dormant; }' "$rule"
        done
        rules '' "${RULES[@]}"
        packet o1 "$TARGET" >>"$WORK/cost.all"
    done
    for name in hand none port device names underlay all; do
        say "$name: $(median <"$WORK/cost.$name") ns"
    done
}

measure() {
    lab_underlay 1500
    lab_cluster 2
    hand_made_pair 1450 192.0.2.
    over_lanmesh
    serve h2
    serve o2
    until_ok 10 nsenter --net="/run/netns/$LAB-h1" ping -q -c 1 -W 1 10.98.0.2 >/dev/null || die "no hand-made VXLAN"
    until_ok 10 nsenter --net="/run/netns/$LAB-o1" ping -q -c 1 -W 1 "$TARGET" >/dev/null || die "no network"
    costs
    local kind name protocol flows unit
    for kind in "${FLOWS[@]}"; do
        read -r name protocol flows unit <<<"$kind"
        turns "$name" "$protocol" "$flows" "$unit"
    done
}

report() {
    cat <<PAGE
Between two endpoints on two nodes, underlay MTU 1500, $ROUNDS rounds of $SECONDS_EACH s, taking turns with a VXLAN that was made by hand
between the same two nodes (bridge, VXLAN device, veth; learning, flooding). Datagrams have 64 bytes, and those that arrive count.

| flows | lanmesh | by hand | unit | median of the rounds' ratios |
|---|---|---|---|---|
PAGE
    local kind name protocol flows unit
    for kind in "${FLOWS[@]}"; do
        read -r name protocol flows unit <<<"$kind"
        printf '| %s %s | %.2f | %.2f | %s | %s |\n' "$flows" "${protocol^^}" "$(median <"$WORK/$name.ours")" \
            "$(median <"$WORK/$name.theirs")" "$unit" "$(median <"$WORK/$name.ratios")"
    done
    cat <<'PAGE'

What a packet costs on its whole way, in nanoseconds of one processor (a datagram of 64 bytes, sent and received on one machine, the
sender's own system call included), with none of our rules, with each of them by itself, and with all:

PAGE
    printf '| | ns | more than without rules |\n|---|---|---|\n'
    local none
    none=$(median <"$WORK/cost.none")
    while read -r name what; do
        printf '| %s | %.0f | %+.0f |\n' "$what" "$(median <"$WORK/cost.$name")" "$(awk -v a="$(median <"$WORK/cost.$name")" -v b="$none" 'BEGIN { print a - b }')"
    done <<'ROWS'
hand by hand
none lanmesh without rules
port the endpoint's port
device the VXLAN device, both ways
names the name server's limit
underlay the node's input, output and forward
all all of them
ROWS
}
