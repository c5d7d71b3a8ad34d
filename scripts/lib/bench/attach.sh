# shellcheck shell=bash
# A part of scripts/bench: attach and detach at the agent's socket, against the CNI reference plugins.

ATTACHES=${BENCH_ROUNDS:-50}
# So many endpoints on the node. With none the network comes and goes with the one that is timed.
COUNTS=(0 1 500)

title() { echo "Attach"; }

needs() { needs_cni; }

measure() {
    many_on_n1
    say "$ATTACHES rounds each with ${COUNTS[*]} endpoints on the node"
    local count attach add detach del
    while read -r count attach add detach del; do
        printf '%s\n' "$count $attach $add $detach $del" >>"$WORK/rows"
        ((count > 0)) || continue
        promise "median attach in ms with $count, against $add ms" "$attach" 4
        promise "median detach in ms with $count, against $del ms" "$detach" 10
    done < <(nsenter --net="/run/netns/$LAB-n1" python3 scripts/lib/bench/attach.py \
        "$LAB_DIR/n1/run/lanmesh.sock" bench "$ATTACHES" "$CNI" "$WORK/cni" "$LAB" "${COUNTS[@]}")
    [[ $(wc -l <"$WORK/rows") -eq ${#COUNTS[@]} ]] || die "not all was measured"
}

report() {
    cat <<PAGE
A PUT and a DELETE at the agent's socket, against an ADD and a DEL of the CNI reference plugins \`bridge\` and \`host-local\`
(a new process each, as the CNI has it); $ATTACHES each, taking turns. The network has an endpoint on another node. Each side
has as many endpoints as the first column says besides the one that is timed; with none, lanmesh's network comes to the node and
goes with it, while the bridge of the CNI stays.

| endpoints on the node | lanmesh attach, ms | CNI ADD | lanmesh detach, ms | CNI DEL |
|---|---|---|---|---|
PAGE
    awk '{ printf "| %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5 }' "$WORK/rows"
    cat <<PAGE

Medians. Promised are 4 ms for an attach and 10 for a detach where the network is there, whatever the number.
PAGE
}
