# shellcheck shell=bash
# Services in Docker's default mode, whose virtual addresses lanmesh makes real: in the swarm that is up. Sourced by
# tests/docker/run.

# Each task says its name, and who asks.
# shellcheck disable=SC2016
FRONT='mkdir -p /www/cgi-bin
printf "#!/bin/sh\necho\necho \$(hostname) \$REMOTE_ADDR\n" >/www/cgi-bin/who
chmod +x /www/cgi-bin/who
exec httpd -f -p 80 -h /www'
# shellcheck disable=SC2016
ASK='n=0
while [ $n -lt 32 ]; do
    printf "GET /cgi-bin/who HTTP/1.0\r\n\r\n" | nc -w 2 "$1" 80 || exit 1
    n=$((n + 1))
done'

# vip_create NODE NAME REPLICAS [OPTION...]: from this node, which manages.
vip_create() {
    service "$1" "$2" --replicas "$3" "${@:4}" --network buildnet "$IMAGE" sh -c "$FRONT"
}
vip_begin() {
    lanmesh n1 network set buildnet --reserve 10.10.0.90 >/dev/null
    lanmesh n1 service create buildnet hand --address 10.10.0.90 >/dev/null
    vip_create n1 front 2
    holds "Docker's DNS and lanmesh's answer with the virtual address of a service in the default mode" vip_named
    holds "which reaches both its tasks from every node, and they see who asks" answers front 2 n1 n2 n3
    holds "and 'lanmesh docker setup' says that it is real" setup_says
}
setup_says() { lanmesh n1 docker setup | grep 'virtual addresses' | has_line -w '1 real'; }
# vip NODE NAME: as the swarm has it.
vip() { docker_on "$1" service inspect "$2" --format '{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}' | cut -d/ -f1; }
vip_named() {
    local vip
    vip=$(vip n1 front)
    [[ -n $vip ]] && inside n1 each nslookup front 127.0.0.11 | has_line -w "$vip" &&
        inside n1 each nslookup front.buildnet.lanmesh 10.10.0.1 | has_line -w "$vip"
}

# answers NAME COUNT NODE...: whether so many tasks of the service answer at its name to a container of each node.
answers() {
    local name=$1 count=$2 node own vip heard
    shift 2
    for node in "$@"; do
        own=$(own "$node")
        # Debian 12's busybox has a wget that dies, and looks up no name by itself.
        vip=$(inside "$node" each nslookup "$name" 127.0.0.11 | grep -oE '10\.10\.0\.[0-9]+' | tail -n 1)
        heard=$(inside "$node" each sh -c "$ASK" ask "$vip" | sed -nE 's/^([0-9a-f]{12}) \[?(::ffff:)?([0-9.]+).*/\1 \3/p')
        printf '%s, whose address is %s, hears at %s:\n%s\n' "$node" "$own" "$vip" "$(sort <<<"$heard" | uniq -c)"
        [[ -n $own && $(cut -d' ' -f2 <<<"$heard" | sort -u) == "$own" ]] || return 1
        [[ $(cut -d' ' -f1 <<<"$heard" | sort -u | wc -l) == "$count" ]] || return 1
    done
}

# services NAME=ADDRESS...: whether these are all that have addresses.
services() {
    local found
    found=$(lanmesh n3 service ls --json | jq -r '.[] | "\(.name)=\(.addresses[0])"' | sort | xargs)
    echo "there are $found"
    [[ $found == "$(printf '%s\n' "$@" | sort | xargs)" ]]
}

# vip_new_leader: n2 leads from here on, and n1 manages no more.
vip_new_leader() {
    local back
    docker_on n1 node promote n2 >/dev/null
    until_ok 30 reachable || die "n2 does not become a manager"
    docker_on n2 node demote n1 >/dev/null
    # A manager that is asked to lead just before it can is asked again after half a minute.
    until_ok 90 leads n2 || die "n2 does not lead"
    vip_create n2 back 2 --container-label lanmesh.service=rear
    until_ok 30 has_vip n2 back || die "the service has no virtual address"
    back=$(vip n2 back)
    holds "a new leader makes those of new services real" answers back 2 n1 n2 n3
    holds "under the names of their labels, and keeps the others" services "hand=10.10.0.90" "front=$(vip n2 front)" "rear=$back"
    docker_on n2 service rm front >/dev/null
    holds "and takes away one that the old leader had made" services "hand=10.10.0.90" "rear=$back"
    docker_on n2 service rm back >/dev/null
    holds "and leaves alone what was made by hand" services "hand=10.10.0.90"
    lanmesh n1 service rm buildnet hand >/dev/null
}
reachable() { docker_on n2 node inspect n2 --format '{{.ManagerStatus.Reachability}}' 2>/dev/null | has_line -x reachable; }
leads() { [[ $(docker_on "$1" node inspect "$1" --format '{{.ManagerStatus.Leader}}' 2>/dev/null) == true ]]; }
has_vip() { [[ -n $(vip "$1" "$2") ]]; }
