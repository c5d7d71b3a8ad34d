# shellcheck shell=bash
# dockerd, plugin and agent are killed at random moments, in the swarm that is up, which n2 leads. Sourced by tests/docker/run.

# kills COUNT: so many, while two services are scaled up and down; then nothing is double, stuck, or left.
kills() {
    local round node victim begun=$SECONDS
    RANDOM=$SEED
    say "kills at random moments: --seed $SEED repeats them"
    vip_create n2 kept 3
    for ((round = 1; round <= $1; round++)); do
        until_ok 60 scale web=$((1 + RANDOM % 10)) kept=$((1 + RANDOM % 6)) || die "the swarm takes no orders any more"
        rest 3000
        node=n$((1 + RANDOM % 3))
        case $((RANDOM % 3)) in
        0) victim=dockerd ;;
        1) victim=lanmesh-docker-plugin ;;
        2) victim=lanmesh ;;
        esac
        stop_on "$node" KILL "$victim"
        printf '%s ' "$victim@$node" >>"$LAB_DIR/n1/log/kills"
        rest 2000
        case $victim in
        dockerd) start_docker "$node" ;;
        lanmesh) start_agent "$node" ;;
        esac
    done
    say "$(<"$LAB_DIR/n1/log/kills")in $((SECONDS - begun)) s"
    until_ok 60 scale web=8 kept=4 || die "the swarm takes no orders any more"
    # What a killed dockerd had said nothing about is found by comparison, within two minutes.
    WITHIN=180 holds "after $1 kills every slot has its address, once" slots_at_and_count 8
    WITHIN=180 holds "every endpoint has its container, and every container its endpoint" one_to_one
    holds "every node's task reaches every slot" reaches_all
    WITHIN=60 holds "the virtual address reaches its tasks, and no others" answers kept 4 n1 n2 n3
    docker_on n2 service rm kept >/dev/null
    holds "and goes with its service" services
}
scale() { docker_on n2 service scale --detach "$@" >/dev/null 2>&1; }
# rest MILLISECONDS: at most so long.
rest() { sleep "$(awk -v most="$1" -v r="$RANDOM" 'BEGIN { print most * r / 32768 / 1000 }')"; }

# one_to_one: whether on each node the addresses of Docker's containers in the network are those of our endpoints, each once, and
# no interface is left on the node that nobody took.
one_to_one() {
    local node theirs ours
    for node in n1 n2 n3; do
        theirs=$(docker_on "$node" ps --quiet | while read -r id; do
            docker_on "$node" inspect --format '{{with .NetworkSettings.Networks.buildnet}}{{.IPAddress}}{{end}}' "$id"
        done | grep . | sort)
        ours=$(lanmesh n1 endpoint ls buildnet --json |
            jq -r --arg node "$node" '.[] | select(.node == $node) | .addresses[] | select(startswith("10.10.")) | split("/")[0]' | sort)
        echo "$node: Docker has $(xargs <<<"$theirs"), lanmesh $(xargs <<<"$ours")"
        [[ -n $ours && $theirs == "$ours" && -z $(uniq -d <<<"$ours") ]] || return 1
        ! on "$node" ip -o link show | grep -E ': lmd' || return 1
    done
}
