# shellcheck shell=bash
# A part of scripts/bench: what mDNS costs the underlay, proxied and as it is, with eight nodes and 200 services.

NODES=8
SERVICES_EACH=25
# How often each node's browser asks anew, and for how long it is counted, in seconds.
BROWSE_EVERY=${BENCH_BROWSE_EVERY:-10}
COUNTED=${BENCH_COUNTED:-60}

title() { echo "Zeroconf"; }

needs() {
    ensure ip=iproute2 jq=jq tcpdump=tcpdump avahi-daemon=avahi-daemon avahi-browse=avahi-utils dbus-daemon=dbus ||
        die "missing: ${MISSING[*]}"
    build_lanmesh release
    cargo build --quiet --locked --release --example zeroconf
    ENGINE=${LANMESH%/*}/examples/zeroconf
}

versions() { printf '; %s' "$(avahi-daemon --version)"; }

# The first process of a container: Avahi with so many services, and a browser that begins anew again and again.
# shellcheck disable=SC2016 # for the shell in there
AVAHI='
set -eu
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon /run/services
chown avahi:avahi /run/avahi-daemon
ip link set lo up
for ((i = 1; i <= $2; i++)); do
    printf "<service-group><name>service %s on %s</name><service><type>_bench._tcp</type><port>%s</port>%s\n" \
        "$i" "$1" "$((8000 + i))" "<txt-record>txtvers=1</txt-record></service></service-group>" >"/run/services/$i.service"
done
mount --bind /run/services /etc/avahi/services
printf "[server]\nhost-name=%s\nallow-interfaces=eth0\n[publish]\npublish-hinfo=no\npublish-workstation=no\n" "$1" >/run/avahi.conf
dbus-daemon --system --fork --nopidfile
avahi-daemon --file /run/avahi.conf --daemonize --no-chroot
until [ -S /run/avahi-daemon/socket ]; do sleep 0.1; done
until [ -e "$4/go" ]; do sleep 0.2; done
while :; do
    avahi-browse --resolve --parsable --terminate _bench._tcp 2>/dev/null | grep -c "^=;eth0;IPv4" >"$4/next-$1" || true
    mv "$4/next-$1" "$4/found-$1"
    sleep "$3" &
    wait $!
done
'

# containers: one on each node.
containers() {
    local i
    rm -f "$WORK"/found-* "$WORK/go"
    for ((i = 1; i <= NODES; i++)); do
        ip netns add "$LAB-z$i"
        on "n$i" attach bench --name "z$i" --netns "/run/netns/$LAB-z$i" >/dev/null
        setsid nsenter --net="/run/netns/$LAB-z$i" -- unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc -- \
            bash -c "$AVAHI" bench "h$i" "$SERVICES_EACH" "$BROWSE_EVERY" "$WORK" >"$WORK/avahi$i.log" 2>&1 </dev/null 9>&- &
        lab_note $! KILL
        CONTAINERS+=($!)
        disown $!
    done
}

# found: whether every browser sees all services.
found() {
    local i
    for ((i = 1; i <= NODES; i++)); do
        [[ $(cat "$WORK/found-h$i" 2>/dev/null) == $((NODES * SERVICES_EACH)) ]] || return 1
    done
}

# count WORD FILTER: starts to count what the nodes send into the underlay, into WORK/WORD-nN.
count() {
    local i
    for ((i = 1; i <= NODES; i++)); do
        ip netns exec "$LAB-ul" tcpdump --immediate-mode -n -p -Q in -i "n$i" -w /dev/null "$2" 2>"$WORK/$1-n$i" 9>&- &
        PIDS+=($!)
    done
    for ((i = 1; i <= NODES; i++)); do
        until_ok 10 grep -q 'listening on' "$WORK/$1-n$i" || die "tcpdump does not start"
    done
}

# counted WORD: their sum in a minute.
counted() {
    cat "$WORK/$1"-n* | awk -v s="$COUNTED" '/packets captured/ { n += $1 } END { printf "%.0f", n * 60 / s }'
}

# The inner packet is 30 bytes behind the UDP header: VXLAN and Ethernet; its group is 16 (IPv4) or 24 (IPv6) further on.
MDNS='udp port 4789 and ((udp[28:2] = 0x0800 and udp[46:4] = 0xe00000fb) or
      (udp[28:2] = 0x86dd and udp[54:4] = 0xff020000 and udp[66:4] = 0xfb))'

# mode MODE: everything in one mode of zeroconf.
mode() {
    section "$1: $NODES nodes, $((NODES * SERVICES_EACH)) services"
    local i begin pid
    CONTAINERS=() PIDS=()
    on n1 network create bench --subnet 10.97.0.0/20 --zeroconf "$1" >/dev/null
    for ((i = 1; i <= NODES; i++)); do
        until_ok 10 on "n$i" network inspect bench >/dev/null 2>&1 || die "n$i never hears of the network"
    done
    count "starting-$1" "$MDNS"
    containers
    touch "$WORK/go"
    begin=$SECONDS
    until_ok 120 found || die "not every browser sees every service: $(cat "$WORK"/found-* | tr '\n' ' ')"
    for pid in "${PIDS[@]}"; do kill -INT "$pid"; done
    wait "${PIDS[@]}" || true
    say "every browser sees all of them after $((SECONDS - begin)) s"
    echo "$((SECONDS - begin))" >"$WORK/took-$1"
    # What is only said at the start is over by then.
    sleep 20
    PIDS=()
    count "mdns-$1" "$MDNS"
    count "cluster-$1" "port $CLUSTER_PORT"
    sleep "$COUNTED"
    for pid in "${PIDS[@]}"; do kill -INT "$pid"; done
    wait "${PIDS[@]}" || true
    found || die "a browser lost services meanwhile: $(cat "$WORK"/found-* | tr '\n' ' ')"
    good "$(counted "mdns-$1") datagrams of mDNS in a minute, $(counted "cluster-$1") packets between the agents"
    for pid in "${CONTAINERS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    for ((i = 1; i <= NODES; i++)); do
        on "n$i" detach bench "z$i" >/dev/null
        ip netns delete "$LAB-z$i"
    done
    until_ok 20 on n1 network rm bench >/dev/null 2>&1 || die "the network cannot be removed"
}

# started MODE: the datagrams of the start.
started() { cat "$WORK/starting-$1"-n* | awk '/packets captured/ { n += $1 } END { print n + 0 }'; }

measure() {
    section "The engine alone"
    "$ENGINE" >"$WORK/engine" || die "the engine does not find all services"
    sed 's/^/   /' "$WORK/engine"
    lab_underlay 1500
    lab_cluster "$NODES"
    CLUSTER_PORT=$(on n1 node inspect n1 --json | jq -r '.address' | sed 's/.*://')
    mode transparent
    mode proxy
    promise "datagrams of mDNS on the underlay in proxy mode" "$(counted mdns-proxy)" 0
}

report() {
    cat <<PAGE
$NODES nodes with one container each, in which Avahi announces $SERVICES_EACH services: $((NODES * SERVICES_EACH)) in all. In each container
\`avahi-browse --resolve\` asks for all of them again every $BROWSE_EVERY s, and finds all of them each time. Counted is what the
nodes send into the underlay, a copy for each node that it goes to, from the start until every browser had seen every service, and
then for $COUNTED s.

| | transparent | proxy |
|---|---|---|
| datagrams of mDNS on the underlay, per minute | $(counted mdns-transparent) | $(counted mdns-proxy) |
| packets between the agents, per minute (gossip, facts) | $(counted cluster-transparent) | $(counted cluster-proxy) |
| datagrams of mDNS until every browser had seen everything | $(started transparent) | $(started proxy) |
| that took, s | $(<"$WORK/took-transparent") | $(<"$WORK/took-proxy") |

## The engine alone

What one node of eight computes (\`examples/zeroconf.rs\`, in virtual time), by the number of services in the network, 25 on each
endpoint: until all is known, 20 s, and in a minute in which every endpoint asks for all services each 10 s and says what it
knows, in transparent mode those of all nodes. Packets are those that arrive.

$(<"$WORK/engine")
PAGE
}
