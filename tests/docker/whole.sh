# shellcheck shell=bash
# The plugin with the agent in it, on two machines that have nothing else. Sourced by tests/docker/run.

# whole SUITE
whole() {
    local chroot begun=$SECONDS node
    chroot=$(chroot_of "$1")
    section "Two machines with the agent in the plugin: Debian's $1"
    lab_begin
    "$ROOT/scripts/docker-plugin" --all-in-one --scope local --binary "$BINARY" --only "$LAB_DIR/plugin-whole"
    for node in 1 2; do
        node_up "n$node" "10.99.0.$node" "$chroot"
        start_docker "n$node"
        image "n$node"
        guide_reader "n$node"
        cp -a "$LAB_DIR/plugin-whole" "$LAB_DIR/n$node/log/plugin"
    done
    shows "the guide: the plugin, with the agent in it" whole_guide n1 '/JOIN=new/!d'
    holds "the plugin makes a cluster" in_cluster n1 n1
    # Of two that it may join by one never answers.
    shows "the guide: and on another" whole_guide n2 '/JOIN=new/d' 's/JOIN=/JOIN=192.0.2.9,/' "s/LMT1-…/$(lanmesh n1 token show --json | jq -r .token)/"
    holds "and another joins it, under the machine's name" in_cluster n2 n2
    # For networks of one machine: there is no swarm.
    for node in n1 n2; do
        whole_plugin "$node"
        holds "$node is what it was, with another plugin" in_cluster "$node" "$node"
    done
    docker_on n1 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --subnet 10.10.0.0/24 \
        --ipam-opt network=buildnet buildnet >/dev/null
    until_ok 20 lanmesh n2 network inspect buildnet >/dev/null 2>&1 || die "n2 never hears of the network"
    docker_on n2 network create --driver lanmesh:latest --ipam-driver lanmesh:latest --ipam-opt network=buildnet buildnet >/dev/null
    for node in n1 n2; do docker_on "$node" run --detach --name "c-$node" --network buildnet lab >/dev/null; done
    holds "containers of both machines reach each other" whole_reaches n1 n2
    holds "by the names of lanmesh's name server, too" docker_on n1 exec c-n1 nslookup c-n2.buildnet.lanmesh 10.10.0.1
    holds "the agent has the capabilities that it needs, and no more" whole_capabilities
    # From here on somebody counts what is lost.
    nsenter --net="$(netns_of n1 c-n1)" ping -i 0.1 "$(whole_address n2)" >"$LAB_DIR/n1/log/ping" 2>&1 &
    local ping=$!
    stop_on n2 KILL lanmesh-docker-plugin
    holds "the plugin comes back after a kill" in_cluster n2 n2
    whole_plugin n2
    holds "and after it was replaced, without being told again" in_cluster n2 n2
    docker_on n2 run --detach --name after --network buildnet lab >/dev/null
    holds "a container can start again" whole_reaches_after
    # The shell has background processes ignore SIGINT; ping sums up at SIGQUIT, and goes on.
    kill -QUIT "$ping"
    sleep 0.2
    kill "$ping"
    wait "$ping" 2>/dev/null || true
    holds "no packet was lost meanwhile" grep -E '[0-9]{2,}/[0-9]+ packets, 0% loss' "$LAB_DIR/n1/log/ping"
    docker_on n1 rm --force c-n1 >/dev/null
    docker_on n2 rm --force c-n2 after >/dev/null
    holds "no endpoint is left" no_endpoint
    for node in n2 n1; do docker_on "$node" network rm buildnet >/dev/null; done
    holds "nor the network, nor a mount of it on the machines" whole_gone
    lab_end
    say "$((SECONDS - begun)) s"
}
# whole_guide NODE SED...: a line of the guide, with the addresses of these machines.
whole_guide() { types "$1" docker 'scripts/docker-plugin --all-in-one' '1i cd /src' "${@:2}" 's/192\.0\.2\./10.99.0./g'; }
# whole_plugin NODE [SETTING...]: the plugin anew, with these settings or those that it had.
whole_plugin() {
    local node=$1
    shift
    if docker_on "$node" plugin inspect lanmesh:latest >/dev/null 2>&1; then
        docker_on "$node" plugin disable --force lanmesh:latest >/dev/null
        docker_on "$node" plugin rm --force lanmesh:latest >/dev/null
    fi
    docker_on "$node" plugin create lanmesh:latest /log/plugin >/dev/null
    (($# == 0)) || docker_on "$node" plugin set lanmesh:latest "$@"
    docker_on "$node" plugin enable lanmesh:latest >/dev/null || die "the plugin cannot be enabled: $(tail -n 5 "$LAB_DIR/$node/log/dockerd")"
}
# in_cluster NODE NAME: whether the agent there answers, and the node has this name.
in_cluster() { [[ $(lanmesh "$1" status --json | jq -r .cluster.name) == "$2" ]]; }
whole_address() { lanmesh n1 endpoint ls buildnet --json | jq -r --arg node "$1" '.[] | select(.node == $node) | .addresses[0] | split("/")[0]' | sed -n 1p; }
whole_reaches() { docker_on "$1" exec "c-$1" ping -c 1 -W 2 "$(whole_address "$2")"; }
whole_reaches_after() {
    docker_on n1 exec c-n1 ping -c 1 -W 2 "$(lanmesh n1 endpoint ls buildnet --json | jq -r '.[] | select(.name == "after") | .addresses[0] | split("/")[0]')"
}
whole_gone() { no_network && ! on n1 grep -E 'nsfs .*lanmesh' /proc/mounts && ! on n2 grep -E 'nsfs .*lanmesh' /proc/mounts; }
# shellcheck disable=SC2016
whole_capabilities() {
    # NET_ADMIN, SYS_ADMIN, SYS_NICE, and of those that Docker gives every plugin NET_BIND_SERVICE, NET_RAW and SYS_CHROOT.
    local status
    status=$(on n1 /bin/bash -c 'for p in /proc/[0-9]*; do
        [[ $(readlink "$p/exe") != */lanmesh-docker-plugin ]] || cat "$p/status"; done')
    echo "$status" | grep -E '^Cap|^NoNewPrivs'
    [[ $(awk '/^CapEff/ { print $2 }' <<<"$status") == 0000000000a43400 && $(awk '/^CapBnd/ { print $2 }' <<<"$status") == 0000000000a43400 ]]
}
