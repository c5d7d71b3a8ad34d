# shellcheck shell=bash
# A part of scripts/bench: groups across eight nodes, next to VXLANs that were made by hand with static entries.

NODES=8
ROUNDS=${BENCH_ROUNDS:-15}
ROUND_MS=${BENCH_ROUND_MS:-600}
RATE=${BENCH_RATE:-20000}
SAMPLES=${BENCH_SAMPLES:-120}
GROUPS_JOINED=1000

title() { echo "Multicast"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 tcpdump=tcpdump || die "missing: ${MISSING[*]}"
    build_lanmesh release
    say "building what loads it"
    cargo build --quiet --locked --release --example multicast
    LOADER=${LANMESH%/*}/examples/multicast
}

versions() { printf '; %s' "$(ip -V | cut -d, -f2 | tr -d ' ')"; }

# hand_endpoint NODE NAME LAST: a container on the hand-made bridge of a node.
hand_endpoint() {
    ip netns add "$LAB-$2"
    ip -n "$LAB-n$1" link add "v$2" mtu 1450 type veth peer name eth0 mtu 1450 netns "$LAB-$2"
    ip -n "$LAB-n$1" link set "v$2" master brh up
    ip -n "$LAB-$2" address add "10.98.0.$3/24" dev eth0
    ip -n "$LAB-$2" link set lo up
    ip -n "$LAB-$2" link set eth0 up
}

# VXLANs as one makes them by hand: nothing snoops, and each group's MAC has the nodes of its members.
hand_made() {
    local i count
    for ((i = 1; i <= NODES; i++)); do
        ip -n "$LAB-n$i" link add brh type bridge mcast_snooping 0
        ip -n "$LAB-n$i" link add vxh type vxlan id 4242 dstport 4790 local "192.0.2.$i" nolearning
        ip -n "$LAB-n$i" link set vxh mtu 1450 master brh up
        ip -n "$LAB-n$i" link set brh up
        hand_endpoint "$i" "h$i" "$i"
    done
    hand_endpoint 1 h1b 101
    for count in 1 4 8; do
        for i in $(members "$count"); do
            ((i == 1)) || bridge -n "$LAB-n1" fdb append "01:00:5e:09:00:0$count" dev vxh dst "192.0.2.$i"
        done
    done
    # What has no entry goes to n2, for the floor of a join.
    bridge -n "$LAB-n1" fdb append 00:00:00:00:00:00 dev vxh dst 192.0.2.2
}

over_lanmesh() {
    local i
    on n1 network create bench --subnet 10.97.0.0/20 >/dev/null
    for ((i = 1; i <= NODES; i++)); do
        until_ok 10 on "n$i" network inspect bench >/dev/null 2>&1 || die "n$i never hears of the network"
        endpoint "$i" "o$i"
    done
    endpoint 1 o1b
}

# endpoint NODE NAME: a container in our network.
endpoint() {
    ip netns add "$LAB-$2"
    ip -n "$LAB-$2" link set lo up
    on "n$1" attach bench --name "$2" --netns "/run/netns/$LAB-$2" >/dev/null
}

# members COUNT: the nodes with members. n1 sends; of eight nodes it is one itself.
members() { if (($1 == NODES)); then seq 1 "$NODES"; else seq 2 $(($1 + 1)); fi; }

# receivers WORD COUNT: the containers with members, o for ours and h for those made by hand.
receivers() {
    local i
    for i in $(members "$2"); do
        if ((i == 1)); then printf '%s ' "/run/netns/$LAB-${1}1b"; else printf '%s ' "/run/netns/$LAB-$1$i"; fi
    done
}

# load WORD COUNT RATE: one round; prints SENT SECONDS CPU_SECONDS RECEIVED...
load() {
    # shellcheck disable=SC2046 # one word each
    "$LOADER" rate "239.9.0.$2" "$3" "$ROUND_MS" "/run/netns/$LAB-${1}1" $(receivers "$1" "$2")
}

# per_second: datagrams a second that a member got, from the line of one round.
per_second() { awk '{ for (i = 4; i <= NF; i++) n += $i; print n / (NF - 3) / $2 }' "$1"; }
# cost: microseconds of the processor for each datagram sent.
cost() { awk '{ print $3 / $1 * 1e6 }' "$1"; }

# Copies of each datagram that n1 sends and that the others get, for members on n2 and n3 only.
copies() {
    section "Copies for a group with members on 2 of $NODES nodes"
    local i pid pids=() out line
    for ((i = 1; i <= NODES; i++)); do
        # The group's address in the inner packet: 8 bytes of UDP, 8 of VXLAN, 14 of Ethernet, 16 into IPv4.
        ip netns exec "$LAB-ul" tcpdump --immediate-mode -B 16384 -s 64 -n -p -i "n$i" -w /dev/null \
            "udp port 4789 and udp[28:2] = 0x0800 and udp[39] = 17 and udp[46:4] = 0xef090002" 2>"$WORK/copies$i" 9>&- &
        pids+=($!)
    done
    for ((i = 1; i <= NODES; i++)); do
        until_ok 10 grep -q 'listening on' "$WORK/copies$i" || die "tcpdump does not start"
    done
    line=$("$LOADER" rate 239.9.0.2 1000 1000 "/run/netns/$LAB-o1" "/run/netns/$LAB-o2" "/run/netns/$LAB-o3")
    # On a busy machine the last ones may be on their way.
    sleep 2
    for pid in "${pids[@]}"; do
        kill -INT "$pid"
        wait "$pid" || true
    done
    SENT=${line%% *} COPIES=()
    for ((i = 1; i <= NODES; i++)); do
        COPIES+=("$(awk '/packets received by filter/ { print $1 }' "$WORK/copies$i")")
    done
    out="$((2 * SENT)) $SENT $SENT 0 0 0 0 0"
    if [[ "${COPIES[*]}" == "$out" ]]; then
        good "$SENT datagrams: ${COPIES[*]} packets at n1 to n$NODES"
    else
        bad "$SENT datagrams: ${COPIES[*]} packets at n1 to n$NODES, and not $out"
        MISSED=$((MISSED + 1))
    fi
}

# Datagrams a second and loss.
rates() {
    local count i who line
    for count in 1 4 8; do
        section "$count of $NODES nodes with members: as many as go, then $RATE/s, taking turns"
        for ((i = 0; i < ROUNDS; i++)); do
            # Whoever comes first in one round comes last in the next.
            for who in $(if ((i % 2)); then echo o h; else echo h o; fi); do
                load "$who" "$count" 0 >"$WORK/$who"
                per_second "$WORK/$who" >>"$WORK/most-$who$count"
                cost "$WORK/$who" >>"$WORK/cost-$who$count"
            done
            awk -v a="$(per_second "$WORK/o")" -v b="$(per_second "$WORK/h")" 'BEGIN { print a / b }' >>"$WORK/ratios$count"
            awk -v a="$(cost "$WORK/o")" -v b="$(cost "$WORK/h")" 'BEGIN { print b / a }' >>"$WORK/cpu-ratios$count"
        done
        for who in h o h o; do
            load "$who" "$count" "$RATE" >>"$WORK/given-$who$count"
        done
        say "lanmesh $(shown "most-o$count"), by hand $(shown "most-h$count") datagrams/s; lost $(lost "o$count") and $(lost "h$count")"
        say "one datagram costs $(tenth "cost-o$count") and $(tenth "cost-h$count") µs of CPU"
        if idle; then promise_least "median of the ratios of datagrams/s" "$(thousandth "ratios$count")" 0.97; fi
        promise_least "median of the ratios of datagrams by second of CPU" "$(thousandth "cpu-ratios$count")" 0.97
    done
}

shown() { median <"$WORK/$1" | awk '{ printf "%.0f", $1 }'; }
# idle: whether the machine was, when it began. Otherwise the clock tells who else ran, and only the CPU counts.
idle() { awk -v load="${LOAD%% *}" 'BEGIN { exit !(load <= 0.5) }'; }
thousandth() { median <"$WORK/$1" | awk '{ printf "%.3f", $1 }'; }
tenth() { median <"$WORK/$1" | awk '{ printf "%.1f", $1 }'; }
# lost WORD: of the datagrams at the given rate, in per cent of what the members should have got.
lost() { awk '{ for (i = 4; i <= NF; i++) { n += $i; of += $1 } } END { printf "%.3f %%", (1 - n / of) * 100 }' "$WORK/given-$1"; }

# Joins and leaves.
joins() {
    section "Joins and leaves, $SAMPLES each, one datagram each millisecond"
    "$LOADER" join 239.9.1.1 "$SAMPLES" "/run/netns/$LAB-o1" "/run/netns/$LAB-o2" "/run/netns/$LAB-o3" >"$WORK/joins"
    "$LOADER" join 239.9.2.1 "$SAMPLES" "/run/netns/$LAB-o1" "/run/netns/$LAB-o2" >"$WORK/fresh"
    "$LOADER" join 239.9.3.1 "$SAMPLES" "/run/netns/$LAB-h1" "/run/netns/$LAB-h2" >"$WORK/floor"
    say "report, first datagram, last copy; p50 and p99 in ms"
    say "lanmesh, others are members: $(of joins 1) | $(of joins 2) | $(of joins 3)"
    say "lanmesh, nobody is: $(of fresh 1) | $(of fresh 2)"
    say "by hand, always sent: $(of floor 1) | $(of floor 2)"
}

# of FILE COLUMN: p50 and p99, in milliseconds, as two columns of a table.
of() {
    printf '%.1f | %.1f' "$(awk -v c="$2" '{ print $c }' "$WORK/$1" | percentile 50)" \
        "$(awk -v c="$2" '{ print $c }' "$WORK/$1" | percentile 99)"
}

# entries NODE: the groups of the thousand that a node's VXLAN device has entries for.
entries() { on "$1" network exec bench -- bridge mdb show 2>/dev/null | grep -c 'port vx0.* 239\.10\.' || true; }
# known NODE: those that it lists.
known() { on "$1" multicast ls bench --json | jq '[.[] | select(.group | startswith("239.10."))] | length'; }
agents() { head -n "$NODES" "$LAB_DIR/processes" | cut -d' ' -f1; }
# The agents' CPU time so far, in ticks, and resident memory, in kB; a line each.
used() {
    local pid
    for pid in $(agents); do
        echo "$(awk '{ print $14 + $15 }' "/proc/$pid/stat") $(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")"
    done
}

thousand() {
    section "$GROUPS_JOINED groups, each joined on two of $NODES nodes"
    local i begin namespaces=()
    for ((i = 1; i <= NODES; i++)); do namespaces+=("/run/netns/$LAB-o$i"); done
    sleep 2
    used >"$WORK/before"
    mkfifo "$WORK/hold"
    begin=$(date +%s%N)
    "$LOADER" hold 239.10.0.0 "$GROUPS_JOINED" "${namespaces[@]}" <"$WORK/hold" >"$WORK/held" 9>&- &
    lab_note $!
    exec 8>"$WORK/hold"
    until_ok 10 grep -qs joined "$WORK/held" || die "the groups cannot be joined"
    JOINED_MS=$((($(date +%s%N) - begin) / 1000000))
    for ((i = 1; i <= NODES; i++)); do
        until_ok 60 converged "n$i" || die "n$i has $(entries "n$i") of the groups"
    done
    CONVERGED_MS=$((($(date +%s%N) - begin) / 1000000))
    used >"$WORK/after"
    for ((i = 1; i <= NODES; i++)); do
        [[ $(known "n$i") -eq $GROUPS_JOINED ]] || die "n$i lists $(known "n$i") of the groups"
    done
    read -r CPU_MS MEMORY <<<"$(paste -d' ' "$WORK/before" "$WORK/after" | awk -v hz="$(getconf CLK_TCK)" \
        '{ cpu = ($3 - $1) * 1000 / hz; if (cpu > c) c = cpu; if ($4 - $2 > m) m = $4 - $2 } END { print c, m }')"
    exec 8>&-
    good "in every kernel after $CONVERGED_MS ms; at most $CPU_MS ms of CPU and $MEMORY kB more for an agent"
}
converged() { [[ $(entries "$1") -ge $GROUPS_JOINED ]]; }

measure() {
    lab_underlay 1500
    lab_cluster "$NODES"
    hand_made
    over_lanmesh
    # The querier of a bridge is trusted some time after it began.
    sleep 3
    copies
    rates
    joins
    thousand
}

report() {
    local count
    cat <<PAGE
$NODES nodes; \`examples/multicast\` sends from a container on n1 and receives in containers on the others. By hand: bridges that
do not snoop, VXLAN devices, and on n1 a static FDB entry for the MAC of each group with the nodes of its members.

## Copies

$SENT datagrams to a group with members on n2 and n3: packets of it at the underlay's ports of n1 to n$NODES are
${COPIES[*]}. Promised: each crosses exactly twice, once for each node with a member.

## Datagrams a second

Datagrams of 512 bytes, as many as go for $ROUND_MS ms, median of $ROUNDS rounds that take turns; what each member gets until the last has
come. The CPU is what the sending thread takes, which on one machine is all of the kernel's way to the receivers' sockets:
what one datagram costs, and datagrams by second of CPU, ours over those by hand. Ratios are medians of the rounds' ratios; at
least 0.97 is promised for that by CPU, and where the machine was idle also for that by the clock, which on a busy one
tells who else ran. Then the loss at $RATE/s. With members on $NODES nodes, one is on the sender's.

| nodes with members | lanmesh, /s | by hand, /s | ratio | CPU for one, µs | by hand | ratio by CPU | lost of $RATE/s | by hand |
|---|---|---|---|---|---|---|---|---|
PAGE
    for count in 1 4 8; do
        printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n' "$count" "$(shown "most-o$count")" \
            "$(shown "most-h$count")" "$(thousandth "ratios$count")" "$(tenth "cost-o$count")" "$(tenth "cost-h$count")" \
            "$(thousandth "cpu-ratios$count")" "$(lost "o$count")" "$(lost "h$count")"
    done
    cat <<PAGE

## Joins and leaves

From \`IP_ADD_MEMBERSHIP\` in a container on n2 to its first datagram from n1, which sends one each millisecond, and from
\`IP_DROP_MEMBERSHIP\` to the last copy that reaches the container's interface; $SAMPLES times each, in ms. The report is when the
host tells its membership, or its leave: until then nobody can know. The floor of a join is that, of a leave the
$((2 * 100)) ms in which the bridge asks twice who else is there. By hand nothing is comparable: the group always comes, wanted or not.

| | report p50 | p99 | first datagram p50 | p99 | last copy p50 | p99 |
|---|---|---|---|---|---|---|
| lanmesh, a group that has other members | $(of joins 1) | $(of joins 2) | $(of joins 3) |
| lanmesh, a group that nobody has joined | $(of fresh 1) | $(of fresh 2) | | |
| by hand, always sent | $(of floor 1) | $(of floor 2) | | |

## A thousand groups

$GROUPS_JOINED groups, each joined on two of the $NODES nodes, all at once ($JOINED_MS ms for the joins themselves): in every node's kernel
after $CONVERGED_MS ms, of which 250 are waited (a group that was just joined goes everywhere for so long). The agent that
worked most took $CPU_MS ms of CPU, and the one that grew most $MEMORY kB.
PAGE
}
