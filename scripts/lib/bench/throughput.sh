# shellcheck shell=bash
# A part of scripts/bench: one TCP flow across two nodes, against a VXLAN that was made by hand.

ROUNDS=${BENCH_ROUNDS:-9}
SECONDS_EACH=${BENCH_SECONDS:-3}

title() { echo "Throughput"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 iperf3=iperf3 ping=iputils-ping || die "missing: ${MISSING[*]}"
    build_lanmesh release
}

versions() { printf '; %s; %s' "$(ip -V | cut -d, -f2 | tr -d ' ')" "$(iperf3 --version | head -n 1 | cut -d' ' -f1-2)"; }

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

# flow NETNS ADDRESS: Gbit/s of one TCP flow.
flow() {
    nsenter --net="/run/netns/$LAB-$1" iperf3 --client "$2" --time "$SECONDS_EACH" --omit 1 --json |
        jq '.end.sum_received.bits_per_second / 1e9'
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
    say "one TCP flow, $ROUNDS rounds of $SECONDS_EACH s each, taking turns"
    local i ours theirs
    for ((i = 0; i < ROUNDS; i++)); do
        # Whoever comes first in one round comes last in the next.
        if ((i % 2)); then
            ours=$(flow o1 "$TARGET")
            theirs=$(flow h1 10.98.0.2)
        else
            theirs=$(flow h1 10.98.0.2)
            ours=$(flow o1 "$TARGET")
        fi
        printf '   %5.2f %5.2f Gbit/s\n' "$ours" "$theirs"
        echo "$ours" >>"$WORK/ours"
        echo "$theirs" >>"$WORK/theirs"
        printf "%s\n" "$(ratio "$ours" "$theirs")" >>"$WORK/ratios"
    done
    OURS=$(median <"$WORK/ours")
    THEIRS=$(median <"$WORK/theirs")
    RATIO=$(median <"$WORK/ratios")
    good "lanmesh $(printf %.2f "$OURS"), hand-made $(printf %.2f "$THEIRS") Gbit/s, median of the ratios $RATIO"
}

report() {
    cat <<PAGE
One TCP flow between two endpoints on two nodes, underlay MTU 1500, $ROUNDS rounds of $SECONDS_EACH s, taking turns with a VXLAN that was made
by hand between the same two nodes (bridge, VXLAN device, veth; learning, flooding).

| | Gbit/s, median |
|---|---|
| lanmesh | $(printf %.2f "$OURS") |
| by hand | $(printf %.2f "$THEIRS") |
| median of the rounds' ratios | $RATIO |
PAGE
}
