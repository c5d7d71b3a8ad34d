# shellcheck shell=bash
# What the parts of scripts/bench have in common. Sourced by it, after lib/common.sh and lib/lab.sh.
#
# A part is a file PART.sh here that defines:
#   title     prints the heading of its page
#   needs     installs and builds what it takes; dies where something cannot be had
#   measure   does the work in a lab of its own, with its files in $WORK; everything noted with lab_note is ended
#   report    prints its page from what was measured, without heading, date and machine
#   versions  may print further versions, ', '-separated, each preceded by '; '
#   second_kernel, second_kernel_report    may measure on the second kernel, and print that as the page's last section

# For lab.sh.
# shellcheck disable=SC2034
LAB=lmbench LAB_DIR=/var/lib/lanmesh-bench
MISSED=0

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
# percentile P: of the numbers on the lines of the input, by the nearest rank.
percentile() { sort -n | awk -v p="$1" '{ v[NR] = $1 } END { i = int(NR * p / 100); if (i < NR * p / 100) i++; print v[i < 1 ? 1 : i] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# promise DESCRIPTION VALUE LIMIT: whether VALUE is at most LIMIT.
promise() {
    if awk -v a="$2" -v b="$3" 'BEGIN { exit !(a <= b) }'; then
        good "$1: $2, at most $3 promised"
    else
        bad "$1: $2, at most $3 promised"
        MISSED=$((MISSED + 1))
    fi
}

# promise_least DESCRIPTION VALUE LIMIT: whether VALUE is at least LIMIT.
promise_least() {
    if awk -v a="$2" -v b="$3" 'BEGIN { exit !(a >= b) }'; then
        good "$1: $2, at least $3 promised"
    else
        bad "$1: $2, at least $3 promised"
        MISSED=$((MISSED + 1))
    fi
}

# machine: what it was measured on, as a list.
machine() {
    printf -- '- %s, %s cores, %s of memory%s\n' "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" \
        "$(nproc)" "$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)" \
        "$(if grep -q hypervisor /proc/cpuinfo; then echo ', a virtual machine'; fi)"
    # shellcheck disable=SC1091
    printf -- '- Linux %s, %s\n' "$(uname -r)" "$(. /etc/os-release && echo "$PRETTY_NAME")"
    printf -- '- %s, release build%s\n' "$(rustc --version)" "$(if declare -F versions >/dev/null; then versions; fi)"
    printf -- '- load average before the run: %s%s\n' "$LOAD" \
        "$(awk -v load="${LOAD%% *}" 'BEGIN { if (load > 0.5) print ": the machine was not idle, so the figures scatter" }')"
}

bench_finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    lab_end || true
    [[ -z ${WORK:-} ]] || rm -rf "$WORK"
    exit "$status"
}

# bench_part PART: measures one part and writes its page.
bench_part() {
    local page=docs/benchmarks/$1.md
    # shellcheck source=/dev/null
    . "scripts/lib/bench/$1.sh"
    section "$(title)"
    needs
    LOAD=$(cut -d' ' -f1-3 /proc/loadavg)
    lab_begin
    trap bench_finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    WORK=$(mktemp -d)
    if ((SECOND_ONLY)); then
        declare -F second_kernel >/dev/null || die "$1 measures nothing on the second kernel"
    else
        measure
    fi
    if declare -F second_kernel >/dev/null; then second_kernel; fi
    {
        if ((!SECOND_ONLY)); then
            echo "# $(title)"
            echo
            echo "Made by \`scripts/bench $1\` on $(date -u +%Y-%m-%d), all of it in one run."
            echo
            machine
            printf '\n'
            report
        elif [[ -e $page ]]; then
            sed '/^## Second kernel/,$d' "$page" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
        else
            echo "# $(title)"
        fi
        if declare -F second_kernel >/dev/null; then second_kernel_report; fi
    } >"$WORK/page"
    mkdir -p docs/benchmarks
    cp "$WORK/page" "$page"
    good "written to $page"
    ((MISSED == 0)) || die "$1: $MISSED promises were not kept"
}

# on_second_kernel GUEST TIME SECONDS TOOL...: runs the script GUEST of this folder on the second kernel with the program, $ROUNDS rounds of
# SECONDS each, for TIME seconds at most. What it printed is in $WORK/guest then, and the kernel's release in $WORK/release. Fails where
# that kernel cannot run, and says why.
on_second_kernel() {
    local guest=$1 time=$2 seconds=$3 arguments=() tool status=0
    shift 3
    for tool in "$@"; do arguments+=(--tool "$tool"); done
    "$ROOT/scripts/lib/second-kernel" --time "$time" "${arguments[@]}" --file "$LANMESH" --file "$ROOT/scripts/lib" \
        --set "LANMESH=$LANMESH" --set "BENCH_ROUNDS=$ROUNDS" --set "BENCH_SECONDS=$seconds" --set LANMESH_TEST_SLOW=4 \
        -- bash "$ROOT/scripts/lib/bench/$guest" >"$WORK/guest" || status=$?
    if ((status == 77)); then
        say "SKIP: $(tail -n 1 "$WORK/guest")"
        return 1
    elif ((status)); then
        tail -n 20 "$WORK/guest"
        die "the second kernel's part ended with $status"
    fi
    grep '^   ' "$WORK/guest" || true
    sed -n 's/^kernel: //p' "$WORK/guest" >"$WORK/release"
}

# hand_made_pair MTU PREFIX: a VXLAN between n1 and n2, whose addresses begin with PREFIX, as one makes it by hand: bridge,
# device, one veth, flooding to the other node.
hand_made_pair() {
    local mtu=$1 prefix=$2 i
    for i in 1 2; do
        ip netns add "$LAB-h$i"
        ip -n "$LAB-n$i" link add brh type bridge
        ip -n "$LAB-n$i" link add vxh type vxlan id 4242 dstport 4790 local "$prefix$i"
        ip -n "$LAB-n$i" link set vxh mtu "$mtu" master brh up
        bridge -n "$LAB-n$i" fdb append 00:00:00:00:00:00 dev vxh dst "$prefix$((3 - i))"
        ip -n "$LAB-n$i" link add vh mtu "$mtu" type veth peer name eth0 mtu "$mtu" netns "$LAB-h$i"
        ip -n "$LAB-n$i" link set vh master brh up
        ip -n "$LAB-n$i" link set brh up
        ip -n "$LAB-h$i" address add "10.98.0.$i/24" dev eth0
        ip -n "$LAB-h$i" link set eth0 up
    done
}

# Where Debian has the reference plugins of the CNI.
CNI=/usr/lib/cni
needs_cni() {
    ensure ip=iproute2 jq=jq python3=python3 || die "missing: ${MISSING[*]}"
    [[ -x $CNI/bridge ]] || install_packages containernetworking-plugins ||
        die "missing: $CNI/bridge (package containernetworking-plugins)"
    build_lanmesh release
}

# many_on_n1: two nodes and the network 'bench', with an endpoint on n2 and room for many on n1.
many_on_n1() {
    lab_underlay 1500
    lab_cluster 2
    # A block has room for all of a node's endpoints.
    on n1 network create bench --subnet 10.97.0.0/18 --block-size 1024 >/dev/null
    until_ok 10 on n2 network inspect bench >/dev/null 2>&1 || die "n2 never hears of the network"
    ip netns add "$LAB-o2"
    on n2 attach bench --name o2 --netns "/run/netns/$LAB-o2" >/dev/null
}
