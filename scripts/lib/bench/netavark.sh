# shellcheck shell=bash
# A part of scripts/bench: setup and teardown of netavark with the plugin, against its own bridge driver.

CALLS=${BENCH_ROUNDS:-50}
COUNTS=(1 100)
# Debian 13's, with the libraries that it is linked with: Debian 12's knows no plugins.
NETAVARK_TREE=$ROOT/target/netavark

title() { echo "netavark"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 nft=nftables debootstrap=debootstrap || die "missing: ${MISSING[*]}"
    if [[ ! -e $NETAVARK_TREE.rc ]]; then
        say "fetching Debian 13's netavark"
        rm -rf "$NETAVARK_TREE"
        debootstrap --variant=minbase --include=netavark,nftables trixie "$NETAVARK_TREE" >"$NETAVARK_TREE.log" 2>&1 ||
            die "Debian 13's netavark cannot be had: $(tail -n 1 "$NETAVARK_TREE.log")"
        touch "$NETAVARK_TREE.rc"
    fi
    NETAVARK=("$(find "$NETAVARK_TREE/usr/lib" -name 'ld-linux-*.so.*' | sed -n 1p)" --library-path
        "$NETAVARK_TREE/usr/lib/$(uname -m)-linux-gnu" "$NETAVARK_TREE/usr/lib/podman/netavark")
    build_lanmesh release
}

versions() { printf '; %s' "$("${NETAVARK[@]}" --version)"; }

measure() {
    many_on_n1
    say "$CALLS rounds each with ${COUNTS[*]} endpoints on the node"
    on n1 netavark install --dir "$WORK/plugins" >/dev/null
    local count set_up their_setup torn_down their_teardown
    while read -r count set_up their_setup torn_down their_teardown; do
        printf '%s\n' "$count $set_up $their_setup $torn_down $their_teardown" >>"$WORK/rows"
        say "with $count: setup $set_up ms, teardown $torn_down ms"
        promise "setup with $count, of what the bridge driver takes" "$(ratio "$set_up" "$their_setup")" 1.0
        promise "teardown with $count" "$(ratio "$torn_down" "$their_teardown")" 1.0
    done < <(nsenter --net="/run/netns/$LAB-n1" env LANMESH_SOCKET="$LAB_DIR/n1/run/lanmesh.sock" python3 scripts/lib/bench/netavark.py \
        bench "$CALLS" "$WORK/netavark" "$LAB" "$WORK/plugins" "${COUNTS[@]}" -- "${NETAVARK[@]}")
    [[ $(wc -l <"$WORK/rows") -eq ${#COUNTS[@]} ]] || die "not all was measured"
}

report() {
    cat <<PAGE
\`netavark setup\` and \`netavark teardown\` for a network of the driver \`lanmesh\`, against one of netavark's own driver \`bridge\`; $CALLS
each, taking turns. Each call is a process of netavark's, as podman runs it; with \`lanmesh\` that runs the plugin, which asks the agent.
The bridge has its firewall, and no names (\`--disable-dns\`); its addresses are given to it, as podman does. The network of lanmesh has an
endpoint on another node, and names. Each side has as many endpoints on the node as the first column says besides the one that is timed.

| endpoints on the node | lanmesh setup, ms | bridge setup | of it | lanmesh teardown, ms | bridge teardown | of it |
|---|---|---|---|---|---|---|
PAGE
    awk '{ printf "| %s | %s | %s | %.2f | %s | %s | %.2f |\n", $1, $2, $3, $2 / $3, $4, $5, $4 / $5 }' "$WORK/rows"
    cat <<PAGE

Medians. Promised is that neither takes longer than theirs.
PAGE
}
