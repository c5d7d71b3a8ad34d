# shellcheck shell=bash
# A part of scripts/bench: what a status and a scrape of metrics cost where a node has many endpoints.

# So many endpoints on the node, in so many networks: a kernel does not come to the end of a bridge's MDB where some 800 ports
# are members of one group, as all are of that of mDNS.
NETWORKS=(bench0 bench1 bench2 bench3)
COUNT=${BENCH_ENDPOINTS:-1000}

title() { echo "Watching"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 || die "missing: ${MISSING[*]}"
    build_lanmesh release
}

measure() {
    lab_underlay 1500
    lab_cluster 2
    local i
    for i in "${!NETWORKS[@]}"; do
        on n1 network create "${NETWORKS[i]}" --subnet "10.$((96 + i)).0.0/18" --block-size 1024 >/dev/null
        until_ok 10 on n2 network inspect "${NETWORKS[i]}" >/dev/null 2>&1 || die "n2 never hears of ${NETWORKS[i]}"
        ip netns add "$LAB-o$i"
        on n2 attach "${NETWORKS[i]}" --name "o$i" --netns "/run/netns/$LAB-o$i" >/dev/null
    done
    say "$COUNT endpoints on the node"
    python3 scripts/lib/bench/watching.py "$LAB_DIR/n1/run/lanmesh.sock" "$COUNT" "$LAB" "${NETWORKS[@]}" >"$WORK/rows"
    local median largest scrape idle size
    read -r median largest scrape idle size <"$WORK/rows" || die "nothing was measured"
    say "idle: $idle % of a processor; a page of $size kB; the slowest status $largest ms"
    promise "median status in ms with $COUNT endpoints" "$median" 20
    promise "processor time of a scrape in ms" "$scrape" 5
}

report() {
    cat <<PAGE
An agent with $COUNT endpoints, asked at its socket: 50 times for its status, and 40 times for its metrics, every 1.1 s, since the page
is made once a second at most. What a scrape costs is the processor time of all its threads, less what it takes in as long a time
in which nobody asks; both take turns.

| status, median, ms | status, slowest, ms | scrape, ms of processor | idle, % of a processor | page, kB |
|---|---|---|---|---|
PAGE
    awk '{ printf "| %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5 }' "$WORK/rows"
    cat <<PAGE

Promised are 20 ms for a status and 5 ms of processor time for a scrape.
PAGE
}
