# shellcheck shell=bash
# A part of scripts/bench: encrypted networks. One TCP flow through one, against a VXLAN that was made by hand through the
# same kind of WireGuard, against that WireGuard alone, and against others that work without the kernel's module. Then the
# first three on the second kernel, which has a WireGuard of its own: wireguard-guest does that in the emulated machine.

ROUNDS=${BENCH_ROUNDS:-7}
SECONDS_EACH=${BENCH_SECONDS:-4}
SECOND_SECONDS=${BENCH_SECONDS:-8}
# What is compared: from which namespace, and to which address.
declare -A AT CLIENT
WHATS=()

title() { echo "Encrypted networks"; }

needs() {
    ensure ip=iproute2 jq=jq python3=python3 iperf3=iperf3 ping=iputils-ping wg=wireguard-tools \
        wireguard-go=wireguard-go || die "missing: ${MISSING[*]}"
    build_lanmesh release
    ((!SECOND_ONLY)) || return 0
    KIND=userspace
    if unshare --net ip link add type wireguard 2>/dev/null; then KIND=kernel; fi
    BORINGTUN=$ROOT/target/tools/boringtun/bin/boringtun-cli
    if [[ ! -x $BORINGTUN ]]; then
        say "building boringtun-cli"
        cargo install --quiet --locked --root "$ROOT/target/tools/boringtun" boringtun-cli >"$ROOT/target/boringtun.log" 2>&1 ||
            say "boringtun-cli does not build here (target/boringtun.log): it is left out"
    fi
}

versions() {
    printf '; %s; wireguard-go %s' "$(iperf3 --version | sed -n 1p | cut -d' ' -f1-2)" \
        "$(dpkg-query -W -f '${Version}' wireguard-go 2>/dev/null || echo 'of unknown version')"
    [[ ! -x $BORINGTUN ]] || printf '; %s' "$("$BORINGTUN" --version)"
}

# tunnel NAME PORT NET START...: a WireGuard device NAME1 and NAME2 in n1 and n2, each started with START NAME, with the
# addresses NET::1 and NET::2.
tunnel() {
    local name=$1 port=$2 net=$3 i at
    shift 3
    for i in 1 2; do
        (umask 077 && wg genkey >"$WORK/$name$i.key")
        wg pubkey <"$WORK/$name$i.key" >"$WORK/$name$i.pub"
        if [[ $1 == kernel ]]; then
            ip -n "$LAB-n$i" link add "$name$i" type wireguard
        else
            mkdir -p /var/run/wireguard
            at=()
            if [[ $1 == "$LANMESH" ]]; then
                at=(--at "/var/run/wireguard/$name$i.sock" --netns "/run/netns/$LAB-n$i")
            fi
            nsenter --net="/run/netns/$LAB-n$i" "$@" "$name$i" "${at[@]}" \
                >/dev/null 2>&1 </dev/null 9>&- &
            lab_note $!
            disown $!
            until_ok 10 test -S "/var/run/wireguard/$name$i.sock" || die "$1 makes no device"
        fi
    done
    for i in 1 2; do
        until_ok 5 nsenter --net="/run/netns/$LAB-n$i" wg set "$name$i" private-key "$WORK/$name$i.key" listen-port "$port" \
            peer "$(<"$WORK/$name$((3 - i)).pub")" endpoint "192.0.2.$((3 - i)):$port" allowed-ips "$net::$((3 - i))/128" ||
            die "cannot set $name$i"
        ip -n "$LAB-n$i" link set "$name$i" mtu 1440 up
        ip -n "$LAB-n$i" address add "$net::$i/64" dev "$name$i" nodad
    done
}

over_lanmesh() {
    local i target
    on n1 network create bench --subnet 10.97.0.0/24 --encrypt wireguard >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    for i in 1 2; do
        ip netns add "$LAB-o$i"
        target=$(on "n$i" attach bench --name "o$i" --netns "/run/netns/$LAB-o$i" --json | jq -r '.addresses[0]')
    done
    AT[lanmesh]=${target%/*} CLIENT[lanmesh]=o1
}

serve() {
    nsenter --net="/run/netns/$LAB-$1" iperf3 --server >/dev/null 2>&1 9>&- &
    lab_note $!
    disown $!
}

# busy: processor time that all cores have spent so far, in seconds.
busy() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / hz; exit }' /proc/stat; }

# flow WHAT: Gbit/s of one TCP flow, and the seconds of processor time that each gigabit took.
flow() {
    local before after
    before=$(busy)
    nsenter --net="/run/netns/$LAB-${CLIENT[$1]}" iperf3 --client "${AT[$1]}" --time "$SECONDS_EACH" --json >"$WORK/flow"
    after=$(busy)
    jq -r --argjson cpu "$(awk -v a="$after" -v b="$before" 'BEGIN { print a - b }')" \
        '[.end.sum_received.bits_per_second / 1e9, $cpu / (.end.sum_received.bytes * 8 / 1e9)] | @tsv' "$WORK/flow"
}

# same_kind: an encrypted network, a VXLAN by hand through a WireGuard of the same kind, and that WireGuard alone.
same_kind() {
    lab_underlay 1500
    lab_cluster 2
    over_lanmesh
    if [[ $KIND == kernel ]]; then
        tunnel wgh 52001 fd77:1 kernel
    else
        tunnel wgh 52001 fd77:1 "$LANMESH" wireguard-userspace
    fi
    hand_made_pair 1370 fd77:1::
    AT[hand]=10.98.0.2 CLIENT[hand]=h1
    AT[alone]=fd77:1::2 CLIENT[alone]=n1
    WHATS=(lanmesh hand alone)
    serve o2
    serve h2
    serve n2
}

# rounds: ROUNDS times one flow of each, with what was measured in $WORK.
rounds() {
    local what i j
    for what in "${WHATS[@]}"; do
        until_ok 10 nsenter --net="/run/netns/$LAB-${CLIENT[$what]}" ping -q -c 1 -W 1 "${AT[$what]}" >/dev/null ||
            die "nothing passes: $what"
    done
    say "one TCP flow, $ROUNDS rounds of $SECONDS_EACH s each, taking turns"
    for ((i = 0; i < ROUNDS; i++)); do
        # Each round begins with another one.
        for ((j = 0; j < ${#WHATS[@]}; j++)); do
            what=${WHATS[(i + j) % ${#WHATS[@]}]}
            flow "$what" >"$WORK/one"
            cut -f1 "$WORK/one" >>"$WORK/$what.rate"
            cut -f2 "$WORK/one" >>"$WORK/$what.cpu"
        done
        paste "$WORK/lanmesh.rate" "$WORK/hand.rate" | tail -n 1 | awk '{ print $1 / $2 }' >>"$WORK/ratios"
    done
    RATIO=$(median <"$WORK/ratios")
    for what in "${WHATS[@]}"; do
        say "$what: $(printf %.3f "$(median <"$WORK/$what.rate")") Gbit/s"
    done
}

measure() {
    same_kind
    tunnel wgg 52002 fd77:2 wireguard-go --foreground
    AT[go]=fd77:2::2 CLIENT[go]=n1
    WHATS+=(go)
    if [[ -x $BORINGTUN ]]; then
        tunnel wgb 52003 fd77:3 "$BORINGTUN" --foreground --disable-drop-privileges
        AT[boring]=fd77:3::2 CLIENT[boring]=n1
        WHATS+=(boring)
    fi
    rounds
    peers
    promise_least "an encrypted network against a VXLAN by hand through the same WireGuard" "$(printf %.3f "$RATIO")" 0.97
}

# peers: how long it takes to give the device of n1 in the mesh its 100th peer: a look at it and one change, as the agent
# does it. The flow goes on meanwhile.
peers() {
    [[ $KIND == userspace ]] || return 0
    local socket=("$LAB_DIR"/n1/run/wireguard/*.sock)
    python3 - "${socket[0]}" >"$WORK/peers" <<'PYTHON'
import os, socket, sys, time

def ask(text):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        s.sendall(text.encode())
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    return answer.decode()

def peer(n, key):
    return f"public_key={key}\npreshared_key={'11' * 32}\nendpoint=192.0.2.200:{10000 + n}\nreplace_allowed_ips=true\nallowed_ip=fdff::{n:x}/128\n"

keys = [os.urandom(32).hex() for _ in range(99)]
assert "errno=0" in ask("set=1\n" + "".join(peer(n, key) for n, key in enumerate(keys)) + "\n")
for _ in range(50):
    key = os.urandom(32).hex()
    begin = time.perf_counter()
    ask("get=1\n\n")
    assert "errno=0" in ask("set=1\n" + peer(99, key) + "\n")
    print((time.perf_counter() - begin) * 1000)
    ask(f"set=1\npublic_key={key}\nremove=true\n\n")
ask("set=1\n" + "".join(f"public_key={key}\nremove=true\n" for key in keys) + "\n")
PYTHON
}

row() { printf '| %s | %.3g | %.1f |\n' "$2" "$(median <"$WORK/$1.rate")" "$(median <"$WORK/$1.cpu")"; }

# table: what was measured, and the ratio that it is about.
table() {
    cat <<TABLE
| | Gbit/s, median | processor seconds for each gigabit |
|---|---|---|
$(row lanmesh "encrypted network")
$(row hand "VXLAN by hand through the same kind of WireGuard")
$(row alone "that WireGuard alone")
$([[ ! -s $WORK/go.rate ]] || row go "wireguard-go alone")
$([[ ! -s $WORK/boring.rate ]] || row boring "boringtun alone")

Median of the rounds' ratios, encrypted network to VXLAN by hand: $(printf %.3f "$RATIO").
TABLE
}

# second_kernel: the same on the second kernel; leaves what it prints in $WORK/second, or nothing where it cannot run.
second_kernel() {
    say "the same on the second kernel"
    on_second_kernel wireguard-guest 900 "$SECOND_SECONDS" bash install paste ip bridge nsenter ping wg iperf3 jq getconf nproc \
        flock ||
        return 0
    sed -n '/^|/p; /^Median/p' "$WORK/guest" >"$WORK/second"
}

second_kernel_report() {
    [[ -s $WORK/second ]] || return 0
    cat <<PAGE

## Second kernel (emulated)

Made on $(date -u +%Y-%m-%d). Linux $(<"$WORK/release") with WireGuard of the kernel's, in a machine that qemu emulates without KVM on
$(nproc) processors, so only the figures among themselves say something. One TCP flow, $ROUNDS rounds of $SECOND_SECONDS s, as on the host;
load average of the host before: $LOAD.

$(grep '^|' "$WORK/second")

$(grep '^Median' "$WORK/second")
PAGE
}

report() {
    local kind="gotatun, in a process"
    [[ $KIND == userspace ]] || kind="the kernel's module"
    cat <<PAGE
One TCP flow between two endpoints on two nodes, underlay MTU 1500, $ROUNDS rounds of $SECONDS_EACH s, taking turns. Both ends, and all that is
between them, share the processors. WireGuard is $kind.

$(table)
$([[ ! -s $WORK/peers ]] || printf '\nTo give a device that has 99 peers another one takes %.1f ms (median of 50; worst %.1f ms): one look, one change.' \
    "$(median <"$WORK/peers")" "$(percentile 100 <"$WORK/peers")")
PAGE
}
