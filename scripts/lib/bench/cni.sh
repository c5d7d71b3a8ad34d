# shellcheck shell=bash
# A part of scripts/bench: ADD and DEL of the CNI plugin, against the CNI reference plugins.

CALLS=${BENCH_ROUNDS:-50}
COUNTS=(1 100)

title() { echo "CNI"; }

needs() { needs_cni; }

measure() {
    many_on_n1
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
