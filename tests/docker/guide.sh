# shellcheck shell=bash
# What docs/guides/docker.md prints for a swarm, as it is printed, in the one that is up and has no network yet. Sourced by
# tests/docker/run.

# guide_reader NODE: what the guide takes for granted there. The program that is tested is the one that is found, and not what may
# have been built beside the source.
guide_reader() {
    on "$1" ln -sf /opt/lanmesh/lanmesh /usr/local/bin/lanmesh
    on "$1" /bin/bash -c '[[ ! -d /src/target ]] || mount -t tmpfs tmpfs /src/target'
}
# guide_plugin NODE: the plugin on this node, which has none yet, as the guide has it.
guide_plugin() {
    guide_reader "$1"
    shows "the guide: $1 gets the plugin, and has all that is needed" types "$1" docker 'scripts/docker-plugin   ' '1i cd /src'
}
guide() {
    guide_reader n1
    shows "the guide: a network and a service" types n1 docker 'docker network create' "s/IMAGE/$IMAGE/"
    holds "whose tasks have the addresses of the pool" slots_at distcc 4 10.10.0.
    docker_on n1 service rm distcc >/dev/null
    holds "which are gone with it" no_endpoint
    printed docker 'version:' | sed "s/IMAGE/$IMAGE/" >"$LAB_DIR/n1/log/guide.yml"
    shows "the guide: a stack" docker_on n1 stack deploy --resolve-image never --compose-file /log/guide.yml guide
    holds "whose tasks have these addresses too, by their label" slots_at distcc 4 10.10.0.
    holds "and announce what it says" guide_found
    docker_on n1 stack rm guide >/dev/null 2>&1
    holds "all of it goes" no_endpoint
    holds "and the network" docker_on n1 network rm buildnet
    holds "from lanmesh too" no_network
}
guide_found() { [[ $(lanmesh n3 discover buildnet _distcc._tcp --format json | jq 'map(select(.port == 3632)) | length') == 4 ]]; }
