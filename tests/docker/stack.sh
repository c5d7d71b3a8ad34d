# shellcheck shell=bash
# A stack file, as docs/guides/docker.md has it, in the swarm that is up, which n2 leads. Sourced by tests/docker/run.

stack_deploy() {
    cat >"$LAB_DIR/n2/log/stack.yml" <<YAML
version: "3.8"
services:
  server:
    image: $IMAGE
    networks: [buildnet]
    deploy: {replicas: 2}
    labels:
      lanmesh.service: farm
      lanmesh.advertise: "_farm._tcp:3632,jobs=4"
  client:
    image: $IMAGE
    networks: [buildnet]
    deploy: {mode: global}
networks:
  buildnet: {external: true}
YAML
    docker_on n2 stack deploy --resolve-image never --compose-file /log/stack.yml one >/dev/null 2>&1
    holds "a stack's service is reached at its name by a task on every node" stack_reached
    holds "and is found by what its labels announce" stack_found
}
stack_reached() {
    local node
    for node in n1 n2 n3; do inside "$node" one_client ping -c 1 -W 2 server || return 1; done
}
stack_found() { [[ $(lanmesh n2 discover buildnet _farm._tcp --format json | jq length) == 2 ]]; }
stack_rm() {
    docker_on n2 stack rm one >/dev/null 2>&1
    holds "its virtual addresses go with it" services
}
