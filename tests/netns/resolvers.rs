//! The resolvers that people have, as clients of a network's name server: glibc's and musl's, busybox's, a caching
//! forwarder, systemd-resolved, dig and kdig.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::harness::{Container, Lab, Place, Program, SOON, lab, need, slowness, wait_until};
use crate::unicast::address;

const GATEWAY: &str = "10.95.0.1";

/// A client in a container on n1, and what it may ask for: `two` on n2, in slot 1 of `web`, with a service.
struct Room {
    lab: Lab,
    client: Container,
    _two: Container,
    /// The client's, written by attaching.
    resolv_conf: String,
    /// Those of `two`.
    addresses: Vec<String>,
}

impl Room {
    fn new(lab: Lab, subnets: &[&str]) -> Self {
        let flags: Vec<&str> = subnets.iter().flat_map(|subnet| ["--subnet", subnet]).collect();
        lab.network("net", &flags);
        let (client, two) = (Container::named("one"), Container::named("two"));
        let more = ["--service", "web", "--slot", "1", "--advertise-service", "_distcc._tcp:3632,jobs=4"];
        let answer = lab.node(2).try_attach("net", "two", &two, &more).json();
        let file = lab.dir().join("resolv.conf");
        let resolv_conf = file.to_str().expect("a plain path").to_owned();
        lab.node(1).try_attach("net", "one", &client, &["--resolv-conf", &resolv_conf]).success();
        let addresses = (0..subnets.len()).map(|i| address(&answer, i)).collect();
        let room = Self { lab, client, _two: two, resolv_conf, addresses };
        room.is("dig", &["@10.95.0.1", "+short", "two.net.lanmesh"], &room.addresses[0]);
        room
    }

    /// What a command prints in the client's container, whose `/etc/resolv.conf` is the one that attaching wrote.
    fn output(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Output {
        // A mount namespace of its own, so that the file is this container's alone.
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = self.client.command("unshare");
        command.args(["--mount", "sh", "-c", script, &self.resolv_conf]).arg(program.as_ref());
        command.args(arguments).output().expect("unshare can be started")
    }

    /// Waits until a command's output, with single spaces between all words, contains `expected`.
    fn is(&self, program: impl AsRef<Path>, arguments: &[&str], expected: &str) {
        let program = program.as_ref();
        wait_until(&format!("{} {arguments:?}: {expected}", program.display()), SOON, || {
            let Output { stdout, stderr, .. } = self.output(program, arguments);
            let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if words.contains(expected) { Ok(()) } else { Err(text) }
        });
    }
}

/// Starts a program in the client's container.
fn daemon<const N: usize>(room: &Room, command: [&str; N]) -> Program {
    Program::start(Place { container: &room.client, hostname: "one", own: &[] }, command)
}

/// A program that asks its C library, linked with musl.
fn with_musl(room: &Room) -> PathBuf {
    let (source, program) = (room.lab.dir().join("ask.c"), room.lab.dir().join("ask"));
    std::fs::write(&source, include_str!("ask.c")).expect("a file can be written");
    let compiled = Command::new("musl-gcc").args(["-static", "-o"]).args([&program, &source]).output();
    let compiled = compiled.expect("musl-gcc can be started");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

#[test]
fn c_libraries_find_names_through_the_resolv_conf_that_attaching_writes() {
    need!("dig", "getent", "musl-gcc", "busybox");
    let room = Room::new(lab!(2).cluster(), &["10.95.0.0/24"]);
    let to = room.addresses[0].as_str();
    // Short names and those with a dot, through the search domain; of both kinds of addresses where there is one.
    for name in ["two", "web", "tasks.web", "1.web", "two.net.lanmesh", "TWO.net.lanmesh."] {
        room.is("getent", &["ahosts", name], &format!("{to} STREAM"));
    }
    room.is("getent", &["hosts", to], &format!("{to} two.net.lanmesh"));
    let musl = with_musl(&room);
    for name in ["two", "web", "tasks.web", "1.web", "two.net.lanmesh", "TWO.net.lanmesh."] {
        room.is(&musl, &["any", name], &format!("= {to} ."));
    }
    room.is(&musl, &["v6", "two"], "= none .");
    room.is(&musl, &["any", "nobody"], "= none .");
    room.is(&musl, &["name", to], "= two.net.lanmesh .");
    // Busybox asks for itself, for both types at once.
    let answer = format!("Name: two.net.lanmesh Address: {to}");
    room.is("busybox", &["nslookup", "two.net.lanmesh", GATEWAY], &answer);
    room.is("busybox", &["nslookup", to, GATEWAY], "name = two.net.lanmesh");
    room.is("busybox", &["nslookup", "nobody.net.lanmesh", GATEWAY], "NXDOMAIN");
}

#[test]
fn c_libraries_find_addresses_of_both_kinds() {
    need!("dig", "getent", "musl-gcc");
    let room = Room::new(lab!(2).cluster(), &["10.95.0.0/24", "fd00:95::/64"]);
    let [v4, v6] = [0, 1].map(|i| room.addresses[i].as_str());
    let musl = with_musl(&room);
    room.is("getent", &["ahostsv6", "two"], &format!("{v6} STREAM"));
    room.is("getent", &["hosts", v6], &format!("{v6} two.net.lanmesh"));
    room.is(&musl, &["v6", "two"], &format!("= {v6} ."));
    room.is(&musl, &["v4", "two"], &format!("= {v4} ."));
    room.is(&musl, &["name", v6], "= two.net.lanmesh .");
    // Over IPv6 too.
    room.is("dig", &["@fd00:95::1", "+short", "two.net.lanmesh"], v4);
}

#[test]
fn dig_and_kdig_browse_for_services_without_anybodys_help() {
    need!("dig", "kdig");
    let room = Room::new(lab!(2).cluster(), &["10.95.0.0/24"]);
    for program in ["dig", "kdig"] {
        for (question, answer) in [
            (["PTR", "lb._dns-sd._udp.net.lanmesh"], "net.lanmesh."),
            (["PTR", "b._dns-sd._udp.0.0.95.10.in-addr.arpa"], "net.lanmesh."),
            (["PTR", "_services._dns-sd._udp.net.lanmesh"], "_distcc._tcp.net.lanmesh."),
            (["PTR", "_distcc._tcp.net.lanmesh"], "two._distcc._tcp.net.lanmesh."),
            (["SRV", "two._distcc._tcp.net.lanmesh"], "0 0 3632 two.net.lanmesh."),
            (["TXT", "two._distcc._tcp.net.lanmesh"], "\"jobs=4\""),
            (["A", "two.net.lanmesh"], &room.addresses[0]),
        ] {
            for way in ["+notcp", "+tcp"] {
                let [kind, name] = question;
                room.is(program, &["@10.95.0.1", "+short", way, "-t", kind, name], answer);
            }
        }
    }
}

/// What a caching resolver at `server` of the client's own answers, in the end also that a name is gone.
fn through(room: &Room, server: &[&str]) {
    let ask = |question: &[&str], expected: &str| room.is("dig", &[server, question].concat(), expected);
    let to = room.addresses[0].as_str();
    ask(&["+short", "two.net.lanmesh"], to);
    ask(&["+short", "tasks.web.net.lanmesh"], to);
    ask(&["+short", "-t", "SRV", "two._distcc._tcp.net.lanmesh"], "0 0 3632 two.net.lanmesh.");
    ask(&["two.net.lanmesh", "AAAA"], "status: NOERROR");
    ask(&["nobody.net.lanmesh"], "status: NXDOMAIN");
    room.lab.node(2).detach("net", "two");
    let begun = Instant::now();
    ask(&["two.net.lanmesh"], "status: NXDOMAIN");
    // The TTL is five seconds; the rest is for a machine that is busy.
    assert!(begun.elapsed() < Duration::from_secs(8) * slowness(), "{:?}", begun.elapsed());
}

#[test]
fn a_forwarder_that_changes_the_case_of_what_it_asks_gets_answers_and_keeps_them_for_their_ttl() {
    need!("dig", "unbound");
    let room = Room::new(lab!(2).cluster(), &["10.95.0.0/24"]);
    let conf = room.lab.dir().join("unbound.conf");
    let text = format!(
        "server:\n interface: 127.0.0.1\n port: 5300\n do-daemonize: no\n use-syslog: no\n username: \"\"\n \
         chroot: \"\"\n pidfile: \"\"\n use-caps-for-id: yes\n module-config: \"iterator\"\n \
         local-zone: \"10.in-addr.arpa.\" nodefault\nremote-control:\n control-enable: no\n\
         forward-zone:\n name: \".\"\n forward-addr: {GATEWAY}\n"
    );
    std::fs::write(&conf, text).expect("a file can be written");
    let _unbound = daemon(&room, ["unbound", "-d", "-c", conf.to_str().expect("a plain path")]);
    let server = ["@127.0.0.1", "-p", "5300", "+timeout=1", "+tries=1"];
    room.is("dig", &[&server[..], &["+short", "-x", &room.addresses[0]]].concat(), "two.net.lanmesh.");
    through(&room, &server);
}

/// Where systemd-resolved is: installed, or unpacked by `scripts/test`, because installing it takes over the machine's
/// own `/etc/resolv.conf`.
fn resolved() -> Option<PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/systemd-resolved");
    let places = ["", unpacked].map(|root| PathBuf::from(format!("{root}/lib/systemd/systemd-resolved")));
    places.into_iter().find(|path| path.is_file())
}

#[test]
fn systemd_resolved_takes_the_name_server_for_its_own() {
    need!("dig");
    let Some(program) = resolved() else {
        need!("systemd-resolved");
        return;
    };
    let room = Room::new(lab!(2).cluster(), &["10.95.0.0/24"]);
    let program = program.to_str().expect("a plain path");
    let _resolved = daemon(&room, ["sh", "-c", include_str!("resolved.sh"), program]);
    let server = ["@127.0.0.53", "+timeout=1", "+tries=1"];
    room.is("dig", &[&server[..], &["+short", "two.net.lanmesh"]].concat(), &room.addresses[0]);
    through(&room, &server);
}
