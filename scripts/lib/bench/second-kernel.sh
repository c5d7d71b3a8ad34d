# shellcheck shell=bash
# A part of scripts/bench: the kernel's own WireGuard, on Debian's cloud kernel in an emulated machine.

ROUNDS=${BENCH_ROUNDS:-5}
SECONDS_EACH=${BENCH_SECONDS:-4}

title() { echo "WireGuard of the kernel, emulated"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 iperf3=iperf3 ping=iputils-ping wg=wireguard-tools ||
        die "missing: ${MISSING[*]}"
    # The kernel moves the packets: the build makes no difference.
    build_lanmesh dev
}

measure() {
    local flows=$ROOT/scripts/lib/second-kernel-flows arguments=(--time 900) tool
    for tool in ip ping wg iperf3 jq nsenter seq; do arguments+=(--tool "$tool"); done
    say "one TCP flow each, $ROUNDS rounds of $SECONDS_EACH s"
    scripts/lib/second-kernel "${arguments[@]}" --file "$LANMESH" --file "$flows" -- \
        sh "$flows" "$LANMESH" "$ROUNDS" "$SECONDS_EACH" | tee "$WORK/printed" | sed 's/^/   /'
    RELEASE=$(sed -n 's/^kernel: //p' "$WORK/printed")
    ALONE=$(awk '/^flows/ { print $2 }' "$WORK/printed" | median)
    THEIRS=$(awk '/^flows/ { print $3 }' "$WORK/printed" | median)
    OURS=$(awk '/^flows/ { print $4 }' "$WORK/printed" | median)
    RATIO=$(awk '/^flows/ { print $4 / $3 }' "$WORK/printed" | median)
    good "lanmesh $(printf %.0f "$OURS"), by hand $(printf %.0f "$THEIRS"), WireGuard alone $(printf %.0f "$ALONE") Mbit/s"
}

report() {
    cat <<PAGE
Linux $RELEASE in a machine that qemu emulates without KVM, on the machine above: compare these figures with each
other alone. One TCP flow between two nodes through the kernel's WireGuard, $ROUNDS rounds of $SECONDS_EACH s, taking turns.

| | Mbit/s, median |
|---|---|
| encrypted network of lanmesh | $(printf %.0f "$OURS") |
| VXLAN made by hand through WireGuard | $(printf %.0f "$THEIRS") |
| WireGuard alone | $(printf %.0f "$ALONE") |
| median of the rounds' ratios, lanmesh to the one by hand | $(printf %.2f "$RATIO") |
PAGE
}
