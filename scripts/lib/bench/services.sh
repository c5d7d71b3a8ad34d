# shellcheck shell=bash
# A part of scripts/bench: services. What a service's address costs beside the endpoint itself, a published port beside a DNAT
# made by hand, both beside HAProxy and rules as kube-proxy makes them; how long new connections fail when an endpoint goes; what
# an update costs.

ROUNDS=${BENCH_ROUNDS:-5}
SECONDS_EACH=${BENCH_SECONDS:-3}
DEATHS=${BENCH_DEATHS:-10}
DETECT=2000

title() { echo "Services and published ports"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 nft=nftables iperf3=iperf3 nginx=nginx-light wrk=wrk haproxy=haproxy ping=iputils-ping ||
        die "missing: ${MISSING[*]}"
    build_lanmesh release
    cargo build --quiet --locked --release --example services
}

versions() {
    printf '; %s; %s; wrk %s; HAProxy %s' "$(iperf3 --version | sed -n 1p | cut -d' ' -f1-2)" \
        "$(nginx -v 2>&1 | cut -d' ' -f3)" "$(dpkg-query --show --showformat '${Version}' wrk)" \
        "$(haproxy -v | awk 'NR == 1 { print $3 }')"
}

# in_background NETNS COMMAND...: what runs there until the end of the lab.
in_background() {
    local netns=$1
    shift
    nsenter --net="/run/netns/$LAB-$netns" "$@" >"$WORK/$netns.${1##*/}.log" 2>&1 9>&- &
    STARTED=$!
    lab_note "$STARTED" KILL
    disown "$STARTED"
}

# serve NETNS: nginx with an answer of 100 bytes, and iperf3.
serve() {
    local dir=$WORK/nginx-$1
    mkdir -p "$dir"
    cat >"$dir/conf" <<CONF
worker_processes 1;
pid $dir/pid;
error_log $dir/log;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    server { listen 8000 backlog=4096; location / { return 200 "$(printf '%0100d' 0)"; } }
}
CONF
    in_background "$1" nginx -c "$dir/conf" -e "$dir/log" -g 'daemon off; master_process off;'
    RUNS[$1]=$STARTED
    in_background "$1" iperf3 --server
    RUNS[$1]+=" $STARTED"
    until_ok 10 listens "$1" 8000 || die "nginx does not start in $1: $(cat "$WORK/$1.nginx.log")"
    until_ok 10 listens "$1" 5201 || die "iperf3 does not start in $1"
}

listens() { nsenter --net="/run/netns/$LAB-$1" ss -Hltn "sport = $2" | has_line .; }

# endpoint NODE NAME OPTION...: attaches a namespace to NETWORK; its first address.
endpoint() {
    local node=$1 name=$2
    shift 2
    ip netns add "$LAB-$name"
    on "$node" attach "${NETWORK:-bench}" --name "$name" --netns "/run/netns/$LAB-$name" --json "$@" |
        jq -r '.addresses[0] | split("/")[0]'
}

# Two containers that were made by hand, a subnet on each node and a VXLAN between the nodes, as Kubernetes has it; on n1 a
# service's address as kube-proxy's rules for nf_tables make it, on n2 a published port.
by_hand() {
    local i other
    for i in 1 2; do
        other=$((3 - i))
        ip netns add "$LAB-h$i"
        ip -n "$LAB-n$i" link add brh type bridge
        ip -n "$LAB-n$i" link add vh mtu 1450 type veth peer name eth0 mtu 1450 netns "$LAB-h$i"
        ip -n "$LAB-n$i" link set vh master brh up
        ip -n "$LAB-n$i" address add "10.98.$i.1/24" dev brh
        ip -n "$LAB-n$i" link set brh up
        ip -n "$LAB-h$i" address add "10.98.$i.2/24" dev eth0
        ip -n "$LAB-h$i" link set eth0 up
        ip -n "$LAB-h$i" route add default via "10.98.$i.1"
        ip -n "$LAB-n$i" link add vxh address "02:00:00:00:00:0$i" type vxlan id 4242 dstport 4790 local "192.0.2.$i"
        ip -n "$LAB-n$i" address add "10.98.0.$i/32" dev vxh
        ip -n "$LAB-n$i" link set vxh mtu 1450 up
        bridge -n "$LAB-n$i" fdb append "02:00:00:00:00:0$other" dev vxh dst "192.0.2.$other"
        ip -n "$LAB-n$i" neigh add "10.98.0.$other" lladdr "02:00:00:00:00:0$other" dev vxh nud permanent
        ip -n "$LAB-n$i" route add "10.98.$other.0/24" via "10.98.0.$other" dev vxh onlink
        nsenter --net="/run/netns/$LAB-n$i" sysctl -qw net.ipv4.ip_forward=1
    done
    nsenter --net="/run/netns/$LAB-n1" nft -f - <<'RULES'
table ip hand {
    map ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.99.0.1 . tcp . 8000 : goto web, 10.99.0.1 . tcp . 5201 : goto iperf, 10.99.0.1 . udp . 5201 : goto iperf }
    }
    chain web {
        numgen random mod 1 vmap { 0 : goto web-1 }
    }
    chain web-1 {
        meta l4proto tcp dnat to 10.98.2.2:8000
    }
    chain iperf {
        numgen random mod 1 vmap { 0 : goto iperf-1 }
    }
    chain iperf-1 {
        meta l4proto { tcp, udp } dnat to 10.98.2.2:5201
    }
    chain services {
        ip daddr . meta l4proto . th dport vmap @ips
    }
    chain prerouting {
        type nat hook prerouting priority dstnat;
        jump services
    }
    chain output {
        type nat hook output priority -100;
        jump services
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        meta mark & 0x4000 != 0 masquerade
    }
}
RULES
    nsenter --net="/run/netns/$LAB-n2" nft -f - <<'RULES'
table ip hand {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport 8090 dnat to 10.98.2.2:8000
        fib daddr type local tcp dport 8291 dnat to 10.98.2.2:5201
        fib daddr type local udp dport 8291 dnat to 10.98.2.2:5201
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 10.98.0.0/16 ip daddr != 10.98.0.0/16 oifname "eth0" masquerade
    }
}
RULES
}

# An address that one rule in a client's namespace translates, and nothing else is done about it: BARE.
bare_rule() {
    BARE=10.97.0.250
    nsenter --net="/run/netns/$LAB-c2" nft -f - <<RULES
table ip bare {
    chain output {
        type nat hook output priority -100;
        ip daddr $BARE dnat to $TARGET
    }
}
RULES
}

haproxy_in() {
    cat >"$WORK/haproxy.conf" <<CONF
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen web
    bind :8000
    server one $TARGET:8000
listen iperf
    bind :5201
    server one $TARGET:5201
CONF
    in_background "$1" haproxy -db -f "$WORK/haproxy.conf"
    until_ok 10 listens "$1" 8000 || die "HAProxy does not start: $(cat "$WORK/$1.haproxy.log")"
}

# way WAY: where from, where to, the ports of nginx and iperf3.
way() {
    case $1 in
    direct) echo "c1 $TARGET 8000 5201" ;;
    service) echo "c1 $SERVICE 8000 5201" ;;
    bare) echo "c2 $BARE 8000 5201" ;;
    haproxy) echo "c1 $PROXY 8000 5201" ;;
    pod) echo "h1 10.98.2.2 8000 5201" ;;
    kube) echo "h1 10.99.0.1 8000 5201" ;;
    published) echo "out 192.0.2.2 8070 8170" ;;
    served) echo "out 192.0.2.2 8080 8201" ;;
    dnat) echo "out 192.0.2.2 8090 8291" ;;
    esac
}

# Those that have UDP, and all.
WITH_UDP=(direct service bare pod kube published served dnat)
WAYS=("${WITH_UDP[@]}" haproxy)
# What is measured: kind, unit.
KINDS=("tcp Gbit/s" "requests 1/s" "connections 1/s" "udp thousand/s")
# Which is compared with which.
PAIRS=("service direct 0.97" "bare direct" "haproxy direct" "kube pod" "published dnat 0.97" "served dnat")

# ports WAY: where the client's ports of new connections are. The two ways of a pair end at one server, which has for a minute the end
# of each connection; one from the same address and port is refused there for a second if its clock (TCP's timestamps) is another, as
# it is for another address asked.
ports() {
    case $1 in
    service | bare | kube | dnat | vip) echo "33000 64999" ;;
    *) echo "1024 32999" ;;
    esac
}

# figure KIND WAY: one round.
figure() {
    local netns address http iperf options=()
    read -r netns address http iperf <<<"$(way "$2")"
    nsenter --net="/run/netns/$LAB-$netns" sysctl -qw "net.ipv4.ip_local_port_range=$(ports "$2")"
    case $1 in
    tcp | udp)
        local result='.end.sum_received.bits_per_second / 1e9'
        if [[ $1 == udp ]]; then
            options=(--udp --bitrate 0 --length 64)
            result='(.end.sum.packets - .end.sum.lost_packets) / .end.sum.seconds / 1e3'
        fi
        nsenter --net="/run/netns/$LAB-$netns" iperf3 --client "$address" --port "$iperf" --time "$SECONDS_EACH" --omit 1 --json \
            "${options[@]}" | jq "$result"
        ;;
    requests | connections)
        [[ $1 == requests ]] || options=(--header 'Connection: close')
        nsenter --net="/run/netns/$LAB-$netns" wrk --threads 1 --connections 16 --duration "$SECONDS_EACH" "${options[@]}" \
            "http://$address:$http/" >"$WORK/wrk"
        # Non-2xx answers or socket errors would flatter whoever has them; wrk counts the end of each connection among these.
        ! grep -q 'Non-2xx' "$WORK/wrk" || die "$2: $(cat "$WORK/wrk")"
        awk '/^Requests\/sec/ { print $2 }' "$WORK/wrk"
        ;;
    esac
}

figures() {
    local kind unit name other least i j value
    for kind in "${KINDS[@]}"; do
        read -r kind unit <<<"$kind"
        say "$kind: $ROUNDS rounds of $SECONDS_EACH s each, taking turns"
        local ways=("${WAYS[@]}")
        [[ $kind != udp ]] || ways=("${WITH_UDP[@]}")
        for ((i = 0; i < ROUNDS; i++)); do
            for ((j = 0; j < ${#ways[@]}; j++)); do
                # Another one is first each time.
                name=${ways[$(((i + j) % ${#ways[@]}))]}
                value=$(figure "$kind" "$name")
                echo "$value" >>"$WORK/$kind.$name"
            done
        done
        for name in "${ways[@]}"; do say "   $name: $(median <"$WORK/$kind.$name") $unit"; done
        for pair in "${PAIRS[@]}"; do
            read -r name other least <<<"$pair"
            [[ -e $WORK/$kind.$name ]] || continue
            paste "$WORK/$kind.$name" "$WORK/$kind.$other" | awk '{ printf "%.3f\n", $1 / $2 }' >"$WORK/$kind.$name.ratios"
            value=$(median <"$WORK/$kind.$name.ratios")
            if [[ $least ]]; then
                promise_least "$kind, $name: the median of the ratios to $other" "$value" "$least"
            else
                say "   $kind, $name: the median of the ratios to $other is $value"
            fi
        done
    done
}

ha_up() { [[ $(on n1 service inspect bench ha --json | jq '[.endpoints[] | select(.state == "up")] | length') -eq $1 ]]; }

# A service with two endpoints on n2 and two on n3, of which something goes.
deaths() {
    local i name
    on n1 service create bench ha >/dev/null
    HA=$(on n1 service inspect bench ha --json | jq -r '.addresses[0]')
    for i in 2 3; do
        for name in "a$i" "b$i"; do
            endpoint "n$i" "$name" --service ha >/dev/null
            serve "$name"
        done
    done
    until_ok 10 ha_up 4 || die "the endpoints do not come: $(on n1 service inspect bench ha)"
    say "$DEATHS times a node with two of four endpoints goes"
    for ((i = 0; i < DEATHS; i++)); do
        nsenter --net="/run/netns/$LAB-c1" python3 scripts/lib/bench/services.py "$HA" 8000 6 \
            ip -n "$LAB-ul" link set n3 down >>"$WORK/node"
        ip -n "$LAB-ul" link set n3 up
        until_ok 30 nodes_alive n1 3 || die "n3 does not come back"
        until_ok 30 ha_up 4 || die "the endpoints do not come back"
        # That the rules are there is more than that they are known.
        sleep 1
    done
    say "   ms until the last failed connection was begun: $(cut -d' ' -f1 "$WORK/node" | tr '\n' ' ')"
    promise "p99 in ms until a node's death is noticed" "$(cut -d' ' -f1 "$WORK/node" | percentile 99)" $((DETECT + 100))
    say "$DEATHS times a container goes"
    for ((i = 0; i < DEATHS; i++)); do
        nsenter --net="/run/netns/$LAB-c1" python3 scripts/lib/bench/services.py "$HA" 8000 2 \
            bash -c "kill -KILL ${RUNS[a2]}; ip netns delete $LAB-a2" >>"$WORK/container"
        until_ok 10 ha_up 3 || die "nobody notices that a container is gone"
        endpoint n2 a2 --service ha >/dev/null
        serve a2
        until_ok 30 ha_up 4 || die "the endpoint does not come back"
        sleep 1
    done
    say "   ms until the last failed connection was begun: $(cut -d' ' -f1 "$WORK/container" | tr '\n' ' ')"
    promise "p99 in ms until a container's end is noticed" "$(cut -d' ' -f1 "$WORK/container" | percentile 99)" 500
}

updates() {
    say "one update, with few services and with many"
    cargo run --quiet --locked --release --example services >"$WORK/updates" || MISSED=$((MISSED + 1))
    sed 's/^/   /' "$WORK/updates"
}

measure() {
    # What runs in a container.
    declare -gA RUNS=()
    updates
    lab_underlay 1500
    lab_cluster 3
    on n1 network create bench --subnet 10.97.0.0/24 >/dev/null
    until_ok 10 on n3 network inspect bench >/dev/null 2>&1 || die "n3 never hears of the network"
    TARGET=$(endpoint n2 s2 --service web --publish 8080:8000 --publish 8201:5201 --publish 8201:5201/udp)
    # A port of an endpoint in a network that has no service with an address.
    on n1 network create ports --subnet 10.96.0.0/24 >/dev/null
    until_ok 10 on n2 network inspect ports >/dev/null 2>&1 || die "n2 never hears of the network"
    NETWORK=ports endpoint n2 p2 --publish 8070:8000 --publish 8170:5201 --publish 8170:5201/udp >/dev/null
    endpoint n1 c1 >/dev/null
    endpoint n1 c2 >/dev/null
    bare_rule
    PROXY=$(endpoint n1 proxy)
    on n1 service create bench web >/dev/null
    SERVICE=$(on n1 service inspect bench web --json | jq -r '.addresses[0]')
    serve s2
    serve p2
    haproxy_in proxy
    by_hand
    serve h2
    ip netns add "$LAB-out"
    ip -n "$LAB-ul" link add out mtu 1500 type veth peer name eth0 mtu 1500 netns "$LAB-out"
    ip -n "$LAB-ul" link set out master br0 up
    ip -n "$LAB-out" address add 192.0.2.200/24 dev eth0
    ip -n "$LAB-out" link set eth0 up
    local name netns address http iperf
    for name in "${WAYS[@]}"; do
        read -r netns address http iperf <<<"$(way "$name")"
        until_ok 10 nsenter --net="/run/netns/$LAB-$netns" python3 -c 'import socket, sys
for port in sys.argv[2:]: socket.create_connection((sys.argv[1], int(port)), 1).close()' "$address" "$http" ||
            die "$name: nobody answers at $address:$http"
    done
    figures
    deaths
}

# row TITLE FILES: the medians of the numbers in these, one file for each kind, where it was measured.
row() {
    local kind
    printf '| %s |' "$1"
    for kind in "${KINDS[@]}"; do
        read -r kind _ <<<"$kind"
        if [[ -e $WORK/$kind.$2 ]]; then
            printf ' %s |' "$(median <"$WORK/$kind.$2" | awk -v form="$3" '{ printf form ? form : ($1 < 100) ? "%.2f" : "%.0f", $1 }')"
        else
            printf ' - |'
        fi
    done
    printf '\n'
}

# medians ROW...: the table of what was measured; the last word of each ROW is the way, all of it what the row is called.
medians() {
    local kind unit row
    printf '| | '
    for kind in "${KINDS[@]}"; do
        read -r kind unit <<<"$kind"
        printf '%s, %s | ' "$kind" "$unit"
    done
    printf '\n|---|'
    printf -- '---|%.0s' "${KINDS[@]}"
    printf '\n'
    for row in "$@"; do row "${row% *}" "${row##* }" ''; done
}

# ratios ROW...: the same of the ratios to what a way was compared with.
ratios() {
    local row
    printf '| | '
    printf '%s | ' "${KINDS[@]%% *}"
    printf '\n|---|'
    printf -- '---|%.0s' "${KINDS[@]}"
    printf '\n'
    for row in "$@"; do row "${row% *}" "${row##* }.ratios" %.3f; done
}

# second_kernel: services beside Docker's VIP, on a kernel that has IPVS; leaves what it prints in $WORK/second, or nothing where that cannot run.
second_kernel() {
    ensure ipvsadm=ipvsadm || die "missing: ${MISSING[*]}"
    say "beside Docker's VIP, on the second kernel"
    on_second_kernel services-guest 1500 "$SECONDS_EACH" bash install paste ip bridge nsenter ping ss sysctl nft ipvsadm iperf3 nginx wrk \
        jq getconf nproc flock ||
        return 0
    sed -n '/^|/p; /^$/p' "$WORK/guest" >"$WORK/second"
}

second_kernel_report() {
    [[ -s $WORK/second ]] || return 0
    cat <<PAGE

## Second kernel (emulated)

Made on $(date -u +%Y-%m-%d). Linux $(<"$WORK/release") with IPVS, in a machine that qemu emulates without KVM on $(nproc) processors, so only the figures among
themselves say something. *endpoint* and *service* as above. *by hand*: two containers on a bridge and a VXLAN made by hand. *Docker's VIP*: the same by an
address that a namespace beside the client's has, where IPVS (by a mark, in turn) translates it and the source is masqueraded, as Docker's load balancer of a
network does; with rules of nf_tables in the place of iptables'.

$(<"$WORK/second")
PAGE
}

report() {
    cat <<PAGE
Three nodes, underlay MTU 1500. $ROUNDS rounds of $SECONDS_EACH s each, all ways taking turns. TCP is one flow of iperf3, datagrams have 64 bytes and those
count that arrive; requests are wrk's against nginx, 16 at once on connections that stay, and on a connection of its own each (the two ways of a pair from
different client ports: a server that remembers a connection from one of them refuses another there for a while).

- *endpoint*: from a container on n1 straight to one on n2. *service*: the same by the service's address. *one rule by hand*: the same by an address
  for which the client's namespace has one rule, made by hand, that translates it: what that costs at least. *HAProxy*: the same by way of
  a HAProxy in TCP mode in a container on n1.
- *pod*: two containers made by hand, routed through a VXLAN between their nodes. *kube-proxy's rules*: the same by an address that a
  verdict map on n1 translates.
- *published*: from outside to a published port of n2. *in a network with a service*: the same of an endpoint that reaches an address of a
  service, so that the connections of its namespace are followed there too. *DNAT*: from outside to a port of n2 that a rule made by hand translates to
  the container made by hand, which n2 routes to.

$(medians "endpoint direct" service "one rule by hand bare" "HAProxy haproxy" pod "kube-proxy's rules kube" published \
    "in a network with a service served" "DNAT dnat")

The medians of the rounds' ratios; 0.97 is promised of *service* and of *published*.

$(ratios "service to endpoint service" "one rule by hand to endpoint bare" "HAProxy to endpoint haproxy" "kube-proxy's rules to pod kube" \
    "published to DNAT published" "in a network with a service, to DNAT served")

## When an endpoint goes

A service with four endpoints, two of them on a node of its own; a client opens a connection every 5 ms. From the moment that
something goes to the beginning of the last connection that failed, in ms, $DEATHS times each. The detection time is $DETECT ms.

| | median | p99 | failed, of all |
|---|---|---|---|
| the node with two of them | $(cut -d' ' -f1 "$WORK/node" | median) | $(cut -d' ' -f1 "$WORK/node" | percentile 99) | $(awk '{ f += $3; n += $2 } END { print f ", " n }' "$WORK/node") |
| one container | $(cut -d' ' -f1 "$WORK/container" | median) | $(cut -d' ' -f1 "$WORK/container" | percentile 99) | $(awk '{ f += $3; n += $2 } END { print f ", " n }' "$WORK/container") |

## What an update costs

\`examples/services.rs\`: an endpoint is drained, or is there again, and a client on this node is told, from the view to the kernel.

\`\`\`
$(cat "$WORK/updates")
\`\`\`
PAGE
}
