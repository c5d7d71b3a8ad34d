# shellcheck shell=bash
# The image of the demo of a swarm, made of Debian's packages alone. Sourced by swarm/demo, after lib/machines.sh.

FARM=$CHROOTS/farm
FARM_PACKAGES=gcc,libc6-dev,linux-libc-dev,make,bzip2,distcc,avahi-daemon,dbus,iproute2,redis-server,redis-tools,etcd-server,etcd-client

# farm_files: has them in $FARM, with the sources of busybox; 1 where they cannot be had, with the reason in FARM_WHY.
farm_files() {
    [[ ! -e $FARM.rc ]] || return 0
    command -v debootstrap >/dev/null || install_packages debootstrap || {
        FARM_WHY="no debootstrap"
        return 1
    }
    rm -rf "$FARM" && mkdir -p "$FARM"
    if ! debootstrap --variant=minbase --include="$FARM_PACKAGES" trixie "$FARM" >"$FARM.log" 2>&1 ||
        ! farm_sources >>"$FARM.log" 2>&1; then
        # For swarm/demo.
        # shellcheck disable=SC2034
        FARM_WHY="Debian's packages cannot be had: see $FARM.log"
        return 1
    fi
    echo 0 >"$FARM.rc"
}

# The sources of busybox, from where the packages came.
farm_sources() {
    sed 's/^deb /deb-src /' "$FARM/etc/apt/sources.list" >"$FARM/etc/apt/sources.list.d/sources.list"
    # As root it is apt's own user that would write there.
    # shellcheck disable=SC2016
    chroot "$FARM" /bin/bash -euc 'cd /usr/src && apt-get update
        apt-get --option APT::Sandbox::User=root source --download-only busybox
        tar xf busybox_*.orig.tar.*
        mv busybox-* busybox
        rm busybox_*
        apt-get clean'
}

# farm_image NODE: the image `farm` on the machine, with what its containers do.
farm_image() {
    on "$1" tar --create --directory "/src/${FARM#"$ROOT"/}" --exclude=./usr/share/{doc,man,locale} --exclude=./var/{cache,lib}/apt \
        --exclude=./dev . --directory /src/scripts/lib/swarm role | docker_on "$1" import - farm >/dev/null
}
