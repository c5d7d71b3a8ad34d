# shellcheck shell=bash
# A part of scripts/bench: the name server next to dnsmasq and unbound, each with the same names: queries a second,
# latency under half load, memory.

NAMES=${BENCH_NAMES:-2000}
SECONDS_EACH=${BENCH_SECONDS:-5}
ROUNDS=${BENCH_ROUNDS:-3}
NETNS=$LAB-dns

title() { echo "Names"; }

needs() {
    ensure dnsperf=dnsperf dnsmasq=dnsmasq-base unbound=unbound dig=bind9-dnsutils ip=iproute2 ||
        die "cannot be had here: ${MISSING[*]}"
    build_lanmesh release
    cargo build --quiet --locked --release --example dns_serve
    SERVE=${LANMESH%/*}/examples/dns_serve
}

versions() { printf '; dnsmasq %s; unbound %s' "$(dnsmasq -v | awk '{ print $3; exit }')" "$(unbound -V | awk '{ print $2; exit }')"; }

# Not for what is to be killed: in the background a function is a shell of its own, and that would be killed.
in_netns() { ip netns exec "$NETNS" "$@"; }

# The same names and addresses that dns_serve makes up.
made_up_names() {
    awk -v n="$NAMES" -v work="$WORK" 'BEGIN {
        for (i = 1; i <= n; i++) {
            name = "host-" i ".buildnet.lanmesh"; address = "10." 1 + int(i / 65536) "." int(i / 256) % 256 "." i % 256
            print address, name > (work "/hosts")
            print "local-data: \"" name ". 5 IN A " address "\"" > (work "/local-data")
            print name, "A" > (work "/queries")
        }
    }'
    # shuf ends before yes does.
    shuf --random-source=<(yes) -o "$WORK/queries" "$WORK/queries"
}

start_servers() {
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
    mkfifo "$WORK/input"
    "$SERVE" "/run/netns/$NETNS" "$NAMES" <"$WORK/input" >"$WORK/lanmesh.log" 9>&- &
    lab_note $!
    PID[lanmesh]=$!
    exec 8>"$WORK/input"
    ip netns exec "$NETNS" dnsmasq --keep-in-foreground --conf-file=/dev/null --listen-address=10.0.0.3 --bind-interfaces \
        --no-resolv --no-hosts --addn-hosts="$WORK/hosts" --local-ttl=5 --user=root --pid-file= 2>"$WORK/dnsmasq.log" \
        8>&- 9>&- &
    lab_note $!
    PID[dnsmasq]=$!
    ip netns exec "$NETNS" unbound -d -c "$WORK/unbound.conf" 2>"$WORK/unbound.log" 8>&- 9>&- &
    lab_note $!
    PID[unbound]=$!
}

ask() { in_netns dig -b 10.0.0.2 "@${ADDRESS[$1]}" +short +tries=1 +timeout=1 "host-$NAMES.buildnet.lanmesh" 2>/dev/null; }

perf() { # SERVER OPTION...
    in_netns dnsperf -a 10.0.0.2 -s "${ADDRESS[$1]}" -d "$WORK/queries" -l "$SECONDS_EACH" -c 8 -T 1 -q 400 "${@:2}"
}
# The value after a heading in dnsperf's report.
value() { sed -n "s|^ *$1: *\([0-9.]*\).*|\1|p"; }
# The latency, in ms, that 99 of 100 answers kept to, from dnsperf's line for each of them.
p99() { awk '/^> NOERROR/ { print $NF * 1000 }' | percentile 99; }
# The median of the words of the first argument.
median_of() { tr ' ' '\n' <<<"$1" | grep . | median; }

measure() {
    declare -gA ADDRESS=([lanmesh]=10.0.0.1 [dnsmasq]=10.0.0.3 [unbound]=10.0.0.4) PID=() QPS=() LOST=() LATENCY=()
    local last server want round report rate half
    ip netns add "$NETNS"
    ip -n "$NETNS" link set lo up
    for last in 1 2 3 4; do ip -n "$NETNS" address add "10.0.0.$last/8" dev lo; done
    made_up_names
    start_servers
    want=$(tail -n 1 "$WORK/hosts" | cut -d ' ' -f 1)
    for server in lanmesh dnsmasq unbound; do
        for _ in $(seq 100); do
            [[ $(ask $server) == "$want" ]] && break
            sleep 0.1
        done
        [[ $(ask $server) == "$want" ]] || die "$server does not answer; $(tail -n 3 "$WORK/$server.log")"
        good "$server answers"
    done
    sed 's/^/   /' "$WORK/lanmesh.log"
    say "queries a second, $ROUNDS rounds of $SECONDS_EACH s each"
    for round in $(seq "$ROUNDS"); do
        for server in lanmesh dnsmasq unbound; do
            report=$(perf $server)
            rate=$(value 'Queries per second' <<<"$report")
            QPS[$server]+="$rate "
            LOST[$server]+="$(value 'Queries lost' <<<"$report") "
            say "round $round: $server $rate"
        done
    done
    half=$(median_of "${QPS[unbound]}" | awk '{ print int($1 / 2) }')
    say "latency at $half queries a second"
    for round in $(seq "$ROUNDS"); do
        for server in lanmesh dnsmasq unbound; do
            LATENCY[$server]+="$(perf $server -Q "$half" -v | p99) "
        done
    done
}

report() {
    local server
    cat <<PAGE
\`dnsperf\` asks for $NAMES names, from one address on the same cores: $ROUNDS rounds of $SECONDS_EACH s, taking turns. Half load is
half of what unbound answers.

| | queries/s | lost | p99 at half load, ms | resident, kB |
|---|---|---|---|---|
PAGE
    for server in lanmesh dnsmasq unbound; do
        printf '| %s | %.0f | %s | %s | %s |\n' "$server" "$(median_of "${QPS[$server]}")" \
            "$(median_of "${LOST[$server]}")" "$(median_of "${LATENCY[$server]}")" \
            "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/${PID[$server]}/status")"
    done
}
