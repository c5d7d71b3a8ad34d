# shellcheck shell=bash
# A part of scripts/bench: attach at the agent's socket, against the CNI reference plugins.

CNI=/usr/lib/cni
ATTACHES=50

title() { echo "Attach"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 || die "missing: ${MISSING[*]}"
    [[ -x $CNI/bridge ]] || install_packages containernetworking-plugins ||
        die "missing: $CNI/bridge (package containernetworking-plugins)"
    build_lanmesh release
}

measure() {
    lab_underlay 1500
    lab_cluster 2
    on n1 network create bench --subnet 10.97.0.0/24 >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    ip netns add "$LAB-o2"
    on n2 attach bench --name o2 --netns "/run/netns/$LAB-o2" >/dev/null
    read -r ATTACH CNI_ADD < <(nsenter --net="/run/netns/$LAB-n1" python3 scripts/lib/bench/attach.py \
        "$LAB_DIR/n1/run/lanmesh.sock" bench "$ATTACHES" "$CNI" "$WORK/cni" "$LAB")
    promise "median attach in ms, against ${CNI_ADD} ms" "$ATTACH" "$CNI_ADD"
}

report() {
    cat <<PAGE
A PUT at the agent's socket, against one ADD of the CNI reference plugins \`bridge\` and \`host-local\` (a new process
each, as the CNI has it); $ATTACHES each, taking turns. The network has an endpoint on another node.

| | ms, median |
|---|---|
| lanmesh | $ATTACH |
| CNI bridge + host-local | $CNI_ADD |
| ratio | $(ratio "$ATTACH" "$CNI_ADD") |
PAGE
}
