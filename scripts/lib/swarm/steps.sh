# shellcheck shell=bash
# The steps of the demo of a swarm. Sourced by swarm/demo.

SUBNET=10.10.0.0/24 NET=10.10.0.
PLAIN_SUBNET=10.30.0.0/24 PLAIN_NET=10.30.0.
NODES=(n1 n2 n3)
# How the sources are configured.
CONFIG=defconfig

machines() {
    step "Three machines with a Docker each, in one swarm and one cluster"
    swarm_up "$CHROOT" 3
    say "Docker $(docker_on n1 version --format '{{.Server.Version}}')"
    plugins global "${NODES[@]}"
    docker_on n1 node ls | sed 's/^/   /'
    lanmesh n1 node ls | sed 's/^/   /'
    check "'lanmesh docker setup' misses nothing" lanmesh n1 docker setup
    step "The image on each machine"
    local node jobs=()
    for node in "${NODES[@]}"; do
        farm_image "$node" &
        jobs+=($!)
    done
    for node in "${jobs[@]}"; do wait "$node" || die "the image cannot be imported"; done
}

# lanmesh_network NAME SUBNET [OPTION...]: through Docker, as a user does.
lanmesh_network() {
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt "network=$1" --subnet "$2" "${@:3}" "$1" >/dev/null
}

networks() {
    step "Networks interlink and buildnet, and what the plan says"
    lanmesh_network interlink 10.20.0.0/24
    lanmesh_network buildnet "$SUBNET" --opt pool.distcc="${NET}100-${NET}119" --opt zeroconf=proxy --attachable
    local node
    for node in "${NODES[@]}"; do printf '   distcc on %s: %s\n' "$node" "$(foretold "$node")"; done
}
index_of() { lanmesh n1 node ls --json | jq --arg name "$1" '.[] | select(.name == $name).index'; }
# foretold NODE: the address of the distcc there, before there is one.
foretold() {
    lanmesh n1 ipam plan buildnet --service distcc --slot "$(index_of "$1")" --json | jq -r '.subnets[0].address' | cut -d/ -f1
}

stack() {
    step "The stack"
    deploy farm interlink buildnet "$NET"
    docker_on n1 stack services farm | sed 's/^/   /'
    check "each node's distcc has the address that the plan gave it" as_foretold "${NODES[@]}"
    lanmesh n1 endpoint ls | sed 's/^/   /'
}
# deploy STACK INTERLINK BUILDNET NET: the stack, in these networks, of which the second's addresses begin so.
deploy() {
    on n1 env INTERLINK="$2" BUILDNET="$3" NET="$4" docker stack deploy --resolve-image never --compose-file /src/scripts/lib/swarm/stack.yml "$1" >/dev/null 2>&1
}
# distcc_on NODE: the address of the distcc there.
distcc_on() {
    lanmesh n1 endpoint ls buildnet --json |
        jq -r --arg node "$1" '.[] | select(.service == "distcc" and .node == $node and .state == "up") | .addresses[0] | split("/")[0]'
}
as_foretold() {
    local node
    for node in "$@"; do [[ $(distcc_on "$node") == "$(foretold "$node")" ]] || return 1; done
}

# task_of NODE SERVICE: its running container there.
task_of() { docker_on "$1" ps --quiet --filter "label=com.docker.swarm.service.name=$2" | sed -n 1p; }
# builder STACK COMMAND...: in the builder of the stack.
builder() { docker_on n1 exec "$(task_of n1 "$1_builder")" env DISTCC_DIR=/tmp/distcc "${@:2}"; }
# found STACK: the servers that its builder finds.
found() { builder "$1" distcc --show-hosts 2>/dev/null | sed 's/:.*//' | sort -V | xargs; }
finds() { [[ $(found "$1") == "${*:2}" ]]; }

search() {
    step "What zeroconf finds"
    until_ok 60 builder farm true 2>/dev/null || die "there is no builder: $(docker_on n1 service ps --no-trunc farm_builder)"
    say "DISTCC_HOSTS of the builder is '$(builder farm cat /tmp/distcc/hosts)'"
    local begin=$SECONDS
    check "it finds the three servers, on three nodes, and nothing else" finds farm "$(foretold n1)" "$(foretold n2)" "$(foretold n3)"
    SEARCH=$((SECONDS - begin))
    builder farm distcc --show-hosts | sed 's/^/      /'
}

# redis COMMAND...: asks it.
redis() { docker_on n1 exec "$(task_of n1 farm_redis)" redis-cli "$@"; }
# give_jobs FROM TO: into redis.
give_jobs() {
    # shellcheck disable=SC2046
    redis RPUSH jobs $(seq "$1" "$2") >/dev/null
}
documents() { docker_on n1 exec "$(task_of n1 farm_documents)" etcdctl get --prefix jobs/ --print-value-only; }
done_jobs() { [[ $(documents | jq -s length) == "$1" ]]; }
# by_workers COUNT: whether so many have written something down.
by_workers() { (($(documents | jq -r .worker | sort -u | wc -l) >= $1)); }
workers() { documents | jq -r .worker | sort | uniq -c | awk '{ printf "      worker %s: %s jobs\n", $2, $1 }'; }

jobs_done() {
    step "Jobs through redis, workers and etcd, which has mongo's place"
    until_ok 60 give_jobs 1 40 2>/dev/null || die "redis takes no jobs"
    check "40 jobs were compiled behind the one name 'distcc', and written down" done_jobs 40
    check "by both workers" by_workers 2
    workers
}

# compiled NET NODE: how many units the distccd there has compiled.
compiled() { grep -c COMPILE_OK "$LAB_DIR/$2/log/distccd-$1$2" 2>/dev/null || true; }
compiled_by_all() {
    local node sum=0
    for node in "${NODES[@]}"; do sum=$((sum + $(compiled "$1" "$node"))); done
    echo "$sum"
}
objects() { builder farm sh -c 'find /tmp/src -name "*.o" -not -name "built-in.o" 2>/dev/null | wc -l' 2>/dev/null || echo 0; }
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

build_quietly() {
    step "busybox, built on the farm"
    local begin=$EPOCHREALTIME before node
    before=$(compiled_by_all "$NET")
    check_now "every unit compiles, DISTCC_FALLBACK=0" build
    UNITS=$(($(compiled_by_all "$NET") - before))
    say "$UNITS units in $(seconds_since "$begin") s; $(tail -n 1 "$LAB_DIR/build.log")"
    for node in "${NODES[@]}"; do printf '   %-5s %-14s %s\n' "$node" "$(distcc_on "$node")" "$(compiled "$NET" "$node") compiled since the start"; done
    check_now "every server had a share" everybody_had_some
    check_now "and it runs" builder farm /tmp/src/busybox true
}
build() { builder farm /role build "$CONFIG" >"$LAB_DIR/build.log" 2>&1; }
everybody_had_some() {
    local node
    for node in "${NODES[@]}"; do (($(compiled "$NET" "$node") > 0)) || return 1; done
}
beside() {
    step "The same stack with Docker's own overlay beside it"
    docker_on n1 network create --driver overlay plain-interlink >/dev/null
    docker_on n1 network create --driver overlay --subnet "$PLAIN_SUBNET" plain >/dev/null
    deploy plain plain-interlink plain "$PLAIN_NET"
    # What is on the builder's own machine needs no network.
    docker_on n1 service update --detach --constraint-add node.role==worker plain_distcc >/dev/null 2>&1
    check "two servers run, on n2 and n3" plain_servers_run
    until_ok 60 builder plain true 2>/dev/null || die "there is no builder: $(docker_on n1 service ps --no-trunc plain_builder)"
    local seconds=$((SEARCH * 2 + 10))
    say "looking for servers for $seconds s"
    until_ok "$seconds" found_some || true
    check "its builder finds none" finds plain
    # The counter-proof: it is the finding that failed, not the farm.
    check "told the address by hand, it compiles there" plain_compiles
    docker_on n1 stack rm plain >/dev/null 2>&1
}
found_some() { [[ -n $(found plain) ]]; }
plain_servers_run() { [[ -z $(task_of n1 plain_distcc) && -n $(plain_server n2) && -n $(plain_server n3) ]]; }
plain_server() {
    local task
    task=$(task_of "$1" plain_distcc)
    [[ -z $task ]] || docker_on "$1" inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$task"
}
plain_compiles() {
    local server
    server=$(plain_server n2)
    # shellcheck disable=SC2016
    builder plain sh -c 'echo "int one(void) { return 1; }" >/tmp/one.c
        DISTCC_FALLBACK=0 DISTCC_HOSTS=$0 distcc gcc -c /tmp/one.c -o /tmp/one.o && test -s /tmp/one.o' "${server% *}"
}

build_through_changes() {
    step "Built again and again, while the swarm changes"
    local begin=$EPOCHREALTIME status=0
    builder farm /role builds "$CONFIG" >"$LAB_DIR/build.log" 2>&1 9>&- &
    local building=$!
    until_ok 180 under_way || die "the build does not begin: $(tail -n 3 "$LAB_DIR/build.log")"
    docker_on n1 service scale --detach farm_worker=6 >/dev/null
    give_jobs 41 100
    say "$(objects) units: scaled up, from 2 workers to 6"
    docker_on n1 node update --availability drain n2 >/dev/null
    say "$(objects) units: n2 is drained"
    check "the builder has lost sight of its server" finds farm "$(foretold n1)" "$(foretold n3)"
    docker_on n1 node update --availability active n2 >/dev/null
    say "$(objects) units: n2 is back"
    check "and found it again, at its address" finds farm "$(foretold n1)" "$(foretold n2)" "$(foretold n3)"
    until_ok 180 under_way || die "the build does not go on: $(tail -n 3 "$LAB_DIR/build.log")"
    node_lost n3
    say "$(objects) units: n3 has lost its power"
    builder farm touch /tmp/enough
    check_now "the build was going on" kill -0 "$building"
    wait "$building" || status=$?
    check_now "it ended well: $(grep -c '^BusyBox' "$LAB_DIR/build.log" || true) of busybox in $(seconds_since "$begin") s" [ "$status" -eq 0 ]
    say "$(grep -c 'distcc.*ERROR' "$LAB_DIR/build.log" || true) tries failed, and were made elsewhere"
    check_now "and what it built runs" builder farm /tmp/src/busybox true
    check "the lost node's server is not found any more" finds farm "$(foretold n1)" "$(foretold n2)"
}
# Neither at its beginning nor near its end.
under_way() {
    local there
    there=$(objects)
    grep -q ' CC ' "$LAB_DIR/build.log" && ((there > 40 && there < UNITS * 3 / 4))
}

jobs_through_changes() {
    step "And the jobs that were given meanwhile"
    until_ok 60 nothing_waits || true
    say "$(taken_again) were in the hands of workers that went, and are given again"
    check "all 100 are written down" done_jobs 100
    workers
    WITHIN=120 check "six workers run, on the two nodes that are left" six_workers
}
nothing_waits() { [[ $(redis LLEN jobs) == 0 ]]; }
# taken_again: gives those again that were taken and never written down, and prints how many.
taken_again() {
    # What those that live are at takes a moment.
    sleep 3
    local count=0
    while [[ -n $(redis LMOVE taken jobs LEFT RIGHT) ]]; do count=$((count + 1)); done
    echo "$count"
}
six_workers() {
    local node
    [[ $(for node in n1 n2; do docker_on "$node" ps --quiet --filter label=com.docker.swarm.service.name=farm_worker; done | wc -l) == 6 ]]
}

take_down() {
    [[ ! $KEEP ]] || return 0
    step "The stack and the networks removed"
    docker_on n1 stack rm farm >/dev/null 2>&1
    docker_on n1 node rm --force n3 >/dev/null
    lanmesh n1 node rm n3 >/dev/null
    check "no endpoint is left" no_endpoint_left
    check "the networks can be removed" remove_networks
    check "and go from lanmesh" no_network_left
}
no_endpoint_left() { [[ $(lanmesh n1 endpoint ls --json | jq length) == 0 ]]; }
remove_networks() {
    local name
    for name in interlink buildnet plain plain-interlink; do
        ! docker_on n1 network inspect "$name" >/dev/null 2>&1 || docker_on n1 network rm "$name" || return 1
    done
}
no_network_left() { [[ $(lanmesh n1 network ls --json | jq length) == 0 ]]; }
