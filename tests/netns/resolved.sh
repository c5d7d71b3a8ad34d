# Runs systemd-resolved ($0) with the name server as its only one, in a mount namespace of its own: with a user, a
# configuration and a /run that only it sees.
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/resolve /run/systemd/netif/links /run/etc
cp /etc/passwd /etc/group /run/etc/
grep -q ^systemd-resolve: /run/etc/passwd || echo 'systemd-resolve:x:994:994::/:/usr/sbin/nologin' >>/run/etc/passwd
grep -q ^systemd-resolve: /run/etc/group || echo 'systemd-resolve:x:994:' >>/run/etc/group
mount --bind /run/etc/passwd /etc/passwd
mount --bind /run/etc/group /etc/group
chown systemd-resolve:systemd-resolve /run/systemd/resolve
mkdir -p /etc/systemd
mount -t tmpfs tmpfs /etc/systemd
cat >/etc/systemd/resolved.conf <<END
[Resolve]
DNS=10.95.0.1
FallbackDNS=
Domains=net.lanmesh
LLMNR=no
MulticastDNS=no
DNSSEC=no
END
exec "$0"
