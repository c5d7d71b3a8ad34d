# shellcheck shell=bash
# A part of scripts/bench: what a status and a scrape of metrics cost where a node has many endpoints.

# So many endpoints on the node; a bridge has 1023 ports.
COUNT=${BENCH_ENDPOINTS:-1000}

title() { echo "Watching"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 || die "missing: ${MISSING[*]}"
    build_lanmesh release
}

measure() {
    lab_underlay 1500
    lab_cluster 2
    on n1 network create bench --subnet 10.97.0.0/18 --block-size 2048 >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    ip netns add "$LAB-o2"
    on n2 attach bench --name o2 --netns "/run/netns/$LAB-o2" >/dev/null
    say "$COUNT endpoints on the node"
    python3 scripts/lib/bench/watching.py "$LAB_DIR/n1/run/lanmesh.sock" bench "$COUNT" "$LAB" >"$WORK/rows"
    local median largest scrape idle size
    read -r median largest scrape idle size <"$WORK/rows" || die "nothing was measured"
    say "idle: $idle % of a processor; a page of $size kB; the slowest status $largest ms"
    promise "median status in ms with $COUNT endpoints" "$median" 20
    promise "processor time of a scrape in ms" "$scrape" 5
}

report() {
    cat <<PAGE
An agent with $COUNT endpoints, asked at its socket: 50 times for its status, and for its metrics every 1.1 s, since the page is
made once a second at most. What a scrape costs is the processor time of all its threads, less what it takes when nobody asks.

| status, median, ms | status, slowest, ms | scrape, ms of processor | idle, % of a processor | page, kB |
|---|---|---|---|---|
PAGE
    awk '{ printf "| %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5 }' "$WORK/rows"
    cat <<PAGE

Promised are 20 ms for a status and 5 ms of processor time for a scrape.
PAGE
}
