# shellcheck shell=bash
# A part of scripts/bench: ADD and DEL of the CNI plugin, against the CNI reference plugins.

CNI=/usr/lib/cni
CALLS=${BENCH_ROUNDS:-50}
COUNTS=(1 100)

title() { echo "CNI"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 || die "missing: ${MISSING[*]}"
    [[ -x $CNI/bridge ]] || install_packages containernetworking-plugins ||
        die "missing: $CNI/bridge (package containernetworking-plugins)"
    build_lanmesh release
}

measure() {
    lab_underlay 1500
    lab_cluster 2
    on n1 network create bench --subnet 10.97.0.0/18 --block-size 1024 >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    ip netns add "$LAB-o2"
    on n2 attach bench --name o2 --netns "/run/netns/$LAB-o2" >/dev/null
    say "$CALLS rounds each with ${COUNTS[*]} endpoints on the node"
    ln -s "$(realpath "$LANMESH")" "$WORK/lanmesh-cni"
    local count add their_add delete their_delete
    while read -r count add their_add delete their_delete; do
        printf '%s\n' "$count $add $their_add $delete $their_delete" >>"$WORK/rows"
        promise "ADD with $count, of what bridge and host-local take" "$(ratio "$add" "$their_add")" 1.0
        promise "DEL with $count" "$(ratio "$delete" "$their_delete")" 1.0
    done < <(nsenter --net="/run/netns/$LAB-n1" python3 scripts/lib/bench/cni.py \
        "$LAB_DIR/n1/run/lanmesh.sock" bench "$CALLS" "$CNI" "$WORK/cni" "$LAB" "$WORK/lanmesh-cni" "${COUNTS[@]}")
    [[ $(wc -l <"$WORK/rows") -eq ${#COUNTS[@]} ]] || die "not all was measured"
}

report() {
    cat <<PAGE
ADD and DEL of \`lanmesh-cni\`, against those of the CNI reference plugins \`bridge\` and \`host-local\`; $CALLS each, taking
turns. Every call is a process of its own, on both sides. The network has an endpoint on another node. Each side has as many
endpoints on the node as the first column says besides the one that is timed.

| endpoints on the node | lanmesh-cni ADD, ms | bridge ADD | of it | lanmesh-cni DEL, ms | bridge DEL | of it |
|---|---|---|---|---|---|---|
PAGE
    awk '{ printf "| %s | %s | %s | %.2f | %s | %s | %.2f |\n", $1, $2, $3, $2 / $3, $4, $5, $4 / $5 }' "$WORK/rows"
    cat <<PAGE

Medians. Promised is that neither takes longer than theirs.
PAGE
}
