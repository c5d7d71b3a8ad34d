# shellcheck shell=bash
# A part of scripts/bench: names. The name server next to dnsmasq, unbound and Docker's, each with the same names: queries
# a second, latency under several loads, memory. Then on three nodes: how soon a name follows its endpoint, and whether
# answers are ever wrong while endpoints come and go.

NAMES=${BENCH_NAMES:-2000}
SIZES=${BENCH_SIZES:-10000 100000}
SECONDS_EACH=${BENCH_SECONDS:-5}
ROUNDS=${BENCH_ROUNDS:-5}
SAMPLES=${BENCH_SAMPLES:-200}
CHURN=${BENCH_CHURN:-60}
# Attaches a second, and as many detaches.
RATE=10
# In per cent of what unbound answers at most.
LOADS="25 50 75"
# On a machine that does other things too: latency with servers and dnsperf before all of them, so that it is theirs that
# is measured. It takes the processor from the others for some seconds at a time.
REALTIME=${BENCH_REALTIME:-}
NETNS=$LAB-dns

title() { echo "Names"; }

needs() {
    # shellcheck source=scripts/lib/docker.sh
    . scripts/lib/docker.sh
    ensure dnsperf=dnsperf dnsmasq=dnsmasq-base unbound=unbound dig=bind9-dnsutils ip=iproute2 python3=python3 jq=jq \
        busybox=busybox || die "cannot be had here: ${MISSING[*]}"
    build_lanmesh release
    cargo build --quiet --locked --release --example dns_serve
    SERVE=${LANMESH%/*}/examples/dns_serve
}

versions() {
    printf '; dnsmasq %s; unbound %s' "$(dnsmasq -v | awk 'NR == 1 { print $3 }')" "$(unbound -V | awk 'NR == 1 { print $2 }')"
    [[ -n ${DOCKER_WHY:-} ]] || printf '; dockerd %s' "$(dockerd --version | awk '{ sub(",", "", $3); print $3 }')"
}

# Not for what is to be killed: in the background a function is a shell of its own, and that would be killed.
in_netns() { ip netns exec "$NETNS" "$@"; }

# made_up_names N: the same names and addresses that dns_serve makes up.
made_up_names() {
    rm -f "$WORK"/{hosts,local-data,queries,docker-queries}
    awk -v n="$1" -v work="$WORK" 'BEGIN {
        for (i = 1; i <= n; i++) {
            name = "host-" i ".buildnet.lanmesh"; address = "10." 1 + int(i / 65536) "." int(i / 256) % 256 "." i % 256
            print address, name > (work "/hosts")
            print "local-data: \"" name ". 5 IN A " address "\"" > (work "/local-data")
            print name, "A" > (work "/queries")
            print "host-" i, "A" > (work "/docker-queries")
        }
    }'
    # shuf ends before yes does.
    local queries
    for queries in queries docker-queries; do shuf --random-source=<(yes) -o "$WORK/$queries" "$WORK/$queries"; done
}

# start_servers N: ours, dnsmasq and unbound with N names; returns when each answers for the last one.
start_servers() {
    local server want
    made_up_names "$1"
    cat >"$WORK/unbound.conf" <<CONF
server:
    interface: 10.0.0.4
    access-control: 10.0.0.0/8 allow
    num-threads: 2
    so-reuseport: yes
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "$WORK"
    pidfile: "$WORK/unbound.pid"
    module-config: "iterator"
    local-zone: "buildnet.lanmesh." static
    include: "$WORK/local-data"
remote-control:
    control-enable: no
CONF
    rm -f "$WORK/input"
    mkfifo "$WORK/input"
    "$SERVE" "/run/netns/$NETNS" "$1" <"$WORK/input" >"$WORK/lanmesh.log" 9>&- &
    PID[lanmesh]=$!
    exec 8>"$WORK/input"
    ip netns exec "$NETNS" dnsmasq --keep-in-foreground --conf-file=/dev/null --listen-address=10.0.0.3 --bind-interfaces \
        --no-resolv --no-hosts --addn-hosts="$WORK/hosts" --local-ttl=5 --user=root --pid-file= 2>"$WORK/dnsmasq.log" \
        8>&- 9>&- &
    PID[dnsmasq]=$!
    ip netns exec "$NETNS" unbound -d -c "$WORK/unbound.conf" 2>"$WORK/unbound.log" 8>&- 9>&- &
    PID[unbound]=$!
    want=$(tail -n 1 "$WORK/hosts" | cut -d ' ' -f 1)
    for server in lanmesh dnsmasq unbound; do
        lab_note "${PID[$server]}"
        until_ok 30 answers "$server" "host-$1.buildnet.lanmesh" "$want" ||
            die "$server does not answer; $(tail -n 3 "$WORK/$server.log")"
    done
}

answers() { [[ $(in_netns dig -b 10.0.0.2 "@${ADDRESS[$1]}" +short +tries=1 +timeout=1 "$2" 2>/dev/null) == "$3" ]]; }

stop_servers() {
    exec 8>&-
    kill "${PID[lanmesh]}" "${PID[dnsmasq]}" "${PID[unbound]}"
    wait "${PID[lanmesh]}" "${PID[dnsmasq]}" "${PID[unbound]}" 2>/dev/null || true
}

# The same names of one container, each a single label.
start_docker() {
    local names
    docker_begin "$WORK/docker" || return 1
    mapfile -t names < <(seq -f 'host-%g' "$NAMES")
    docker_names bench "${names[@]}"
    PID[docker]=$(cat "$WORK/docker/pid")
    until_ok 30 docker_answers || { DOCKER_WHY="its name server does not answer" && return 1; }
}

docker_answers() {
    nsenter --net="/proc/$DOCKER_CLIENT/ns/net" dig @127.0.0.11 +short +tries=1 +timeout=1 "host-$NAMES" 2>/dev/null | has_line .
}

perf() { # SERVER OPTION...
    local enter=(ip netns exec "$NETNS") to=(-a 10.0.0.2 -s "${ADDRESS[$1]}" -d "$WORK/queries")
    [[ $1 != docker ]] ||
        enter=(nsenter --net="/proc/$DOCKER_CLIENT/ns/net") to=(-s 127.0.0.11 -d "$WORK/docker-queries")
    "${PRIORITY[@]}" "${enter[@]}" dnsperf "${to[@]}" -l "$SECONDS_EACH" -c 8 -T 1 -q 400 "${@:2}"
}
# The value after a heading in dnsperf's report.
value() { sed -n "s|^ *$1: *\([0-9.]*\).*|\1|p"; }
# The median of the words of the first argument.
median_of() { tr ' ' '\n' <<<"$1" | grep . | median; }
resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/${PID[$1]}/status"; }
# User and system time, in clock ticks of which there are 100 a second.
cpu() { awk '{ print $14 + $15 }' "/proc/${PID[$1]}/stat"; }

# in_turn ROUND: the servers, another one first each time.
in_turn() {
    local i count=${#SERVERS[@]}
    for ((i = 0; i < count; i++)); do echo "${SERVERS[($1 + i) % count]}"; done
}

throughput() {
    local round server report before
    say "queries a second, $ROUNDS rounds of $SECONDS_EACH s each"
    for round in $(seq "$ROUNDS"); do
        for server in $(in_turn "$round"); do
            before=$(cpu "$server")
            report=$(perf "$server" 2>/dev/null)
            QPS[$server]+="$(value 'Queries per second' <<<"$report") "
            LOST[$server]+="$(value 'Queries lost' <<<"$report") "
            COST[$server]+="$(awk -v ticks=$(($(cpu "$server") - before)) -v n="$(value 'Queries completed' <<<"$report")" \
                'BEGIN { print ticks * 1e4 / n }') "
        done
    done
    for server in "${SERVERS[@]}"; do
        good "$server: $(median_of "${QPS[$server]}") queries/s, $(median_of "${COST[$server]}") µs of processor each"
    done
    promise_least "queries/s, against unbound's" "$(median_of "${QPS[lanmesh]}")" "$(median_of "${QPS[unbound]}")"
}

latency() {
    local round server load rate
    if [[ -n $REALTIME ]]; then
        PRIORITY=(chrt --rr 1)
        for server in "${SERVERS[@]}"; do chrt --all-tasks --rr --pid 1 "${PID[$server]}" >/dev/null; done
    fi
    for load in $LOADS; do
        rate=$(median_of "${QPS[unbound]}" | awk -v load="$load" '{ print int($1 * load / 100) }')
        RATES[$load]=$rate
        say "latency at $rate queries a second, $load % of what unbound answers at most"
        for round in $(seq "$ROUNDS"); do
            for server in $(in_turn "$round"); do
                # One that does not get so far has no latency at this load.
                [[ $server != docker ]] || awk -v a="$(median_of "${QPS[docker]}")" -v b="$rate" 'BEGIN { exit !(a > b) }' ||
                    continue
                perf "$server" -Q "$rate" -v 2>/dev/null | awk '/^> NOERROR/ { print $NF * 1000 }' | sort -n >"$WORK/latencies"
                P50[$server-$load]+="$(percentile 50 <"$WORK/latencies") "
                P99[$server-$load]+="$(percentile 99 <"$WORK/latencies") "
            done
        done
        for server in "${SERVERS[@]}"; do
            [[ -z ${P99[$server-$load]:-} ]] ||
                good "$server: p50 $(median_of "${P50[$server-$load]}") ms, p99 $(median_of "${P99[$server-$load]}") ms"
        done
    done
    promise "p99 in ms at half load, against unbound's" "$(median_of "${P99[lanmesh-50]}")" "$(median_of "${P99[unbound-50]}")"
}

# On three nodes: n1 and n3 ask, n2 and n3 attach; each asker also has an endpoint of its own.
followed() {
    local i server=10.96.0.1 askers=() attachers=()
    say "three nodes"
    lab_underlay 1500
    lab_cluster 3
    on n1 network create churn --subnet 10.96.0.0/20 >/dev/null
    for i in 1 2 3; do
        until_ok 10 on "n$i" network inspect churn >/dev/null 2>&1 || die "n$i never hears of the network"
        ip netns add "$LAB-c$i"
        on "n$i" attach churn --name "client-$i" --netns "/run/netns/$LAB-c$i" >/dev/null
        askers+=("$LAB-c$i=$server")
        ip netns add "$LAB-e$i"
        attachers+=("$LAB_DIR/n$i/run/lanmesh.sock=$LAB-e$i")
    done
    say "$SAMPLES attaches on n2 and n3, until n1 answers for them"
    {
        read -r APPEAR_P50 APPEAR_P99 APPEAR_MAX
        read -r AFTER_P50 AFTER_P99 AFTER_MAX
    } < <(python3 scripts/lib/bench/names.py appear churn "$SAMPLES" "${askers[0]}" -- "${attachers[@]:1}")
    good "from the request: p50 $APPEAR_P50, p99 $APPEAR_P99, longest $APPEAR_MAX ms"
    good "from its confirmation: p50 $AFTER_P50, p99 $AFTER_P99, longest $AFTER_MAX ms"
    promise "p99 in ms from an attach on another node to its name" "$APPEAR_P99" 100
    say "$RATE attaches and $RATE detaches a second for $CHURN s"
    read -r ATTACHES DETACHES QUESTIONS SILENT LATE LAG_UP LAG_DOWN NEVER < <(python3 scripts/lib/bench/names.py churn churn \
        "$CHURN" "$RATE" "${askers[0]}" "${askers[2]}" -- "${attachers[@]:1}")
    good "$ATTACHES attaches, $DETACHES detaches, $QUESTIONS questions: $SILENT without an answer, $LATE late, $NEVER wrong"
    promise "answers that were never right" "$NEVER" 0
    promise "longest in ms that a confirmed attach was not answered" "$LAG_UP" 1000
    promise "longest in ms that a confirmed detach was still answered" "$LAG_DOWN" 5000
}

measure() {
    declare -gA ADDRESS=([lanmesh]=10.0.0.1 [dnsmasq]=10.0.0.3 [unbound]=10.0.0.4 [docker]=127.0.0.11) PID=() QPS=() LOST=() \
        COST=() RATES=() P50=() P99=() MEMORY=()
    declare -g SERVERS=(lanmesh dnsmasq unbound) DOCKER_WHY="" INDEX="" PRIORITY=()
    local last size server
    ip netns add "$NETNS"
    ip -n "$NETNS" link set lo up
    for last in 1 2 3 4; do ip -n "$NETNS" address add "10.0.0.$last/8" dev lo; done
    for size in $SIZES; do
        say "$size names"
        start_servers "$size"
        for server in "${SERVERS[@]}"; do MEMORY[$server-$size]=$(resident "$server"); done
        INDEX+="$(head -n 1 "$WORK/lanmesh.log")"$'\n'
        stop_servers
    done
    start_servers "$NAMES"
    if start_docker; then SERVERS+=(docker); else bad "without Docker: $DOCKER_WHY"; fi
    throughput
    latency
    for server in "${SERVERS[@]}"; do MEMORY[$server-$NAMES]=$(resident "$server"); done
    stop_servers
    [[ -n $DOCKER_WHY ]] || docker_end
    followed
}

report() {
    local server size load
    cat <<PAGE
\`dnsperf\` asks for $NAMES names, from one address on the same cores: $ROUNDS rounds of $SECONDS_EACH s, taking turns. A load is a share of
what unbound (two threads) answers at most.$([[ -z $REALTIME ]] || echo " Servers and \`dnsperf\` had real-time priority while latency was measured, because the machine did other work.") Docker's is the name server of a network, asked from a container.
$([[ -z $DOCKER_WHY ]] || echo "Docker could not be compared: $DOCKER_WHY.")
| | queries/s | lost | processor time of one, µs |$(for load in $LOADS; do printf ' p50, p99 at %s %% (%s/s), ms |' "$load" "${RATES[$load]}"; done)
|---|---|---|---|$(for load in $LOADS; do printf -- '---|'; done)
PAGE
    for server in "${SERVERS[@]}"; do
        printf '| %s | %.0f | %.0f | %.1f |' "$server" "$(median_of "${QPS[$server]}")" "$(median_of "${LOST[$server]}")" \
            "$(median_of "${COST[$server]}")"
        for load in $LOADS; do
            if [[ -n ${P99[$server-$load]:-} ]]; then
                printf ' %.2f, %.2f |' "$(median_of "${P50[$server-$load]}")" "$(median_of "${P99[$server-$load]}")"
            else
                printf ' not reached |'
            fi
        done
        printf '\n'
    done
    cat <<PAGE

## Memory

Resident memory of the whole process in kB, ours with what a node knows of the cluster.

| names |$(for server in "${SERVERS[@]}"; do printf ' %s |' "$server"; done)
|---|$(for server in "${SERVERS[@]}"; do printf -- '---|'; done)
PAGE
    for size in $NAMES $SIZES; do
        printf '| %s |' "$size"
        for server in "${SERVERS[@]}"; do printf ' %s |' "${MEMORY[$server-$size]:--}"; done
        printf '\n'
    done
    cat <<PAGE

The index alone, and the time to make it:

\`\`\`
$INDEX\`\`\`

## How soon a name is there

Three nodes; $SAMPLES endpoints attached on two of them in turn, and a client on the third that asks for the name all the time.

| until the name is answered, ms | p50 | p99 | longest |
|---|---|---|---|
| from the request to attach | $APPEAR_P50 | $APPEAR_P99 | $APPEAR_MAX |
| from its confirmation | $AFTER_P50 | $AFTER_P99 | $AFTER_MAX |

## While endpoints come and go

$ATTACHES attaches and $DETACHES detaches in $CHURN s on two of the nodes, always under the same few names; clients on two nodes ask
all the time, and each of $QUESTIONS answers is compared with what was the case while it was given. $SILENT had no answer within a
second. $LATE gave what had been the case just before: at most $LAG_UP ms after an attach was confirmed, at most $LAG_DOWN ms after a
detach was. Never right: $NEVER.
PAGE
}
