//! Zeroconf in proxy mode where it is hard: names that two hosts want, nodes that die, and software that is not Avahi.

use std::time::{Duration, Instant};

use crate::avahi::{browse, discover, guests, wait_seen};
use crate::harness::{Guest, LabConfig, SOON, lab, need, slowness, stays, wait_until};

const SUBNET: [&str; 2] = ["--subnet", "10.82.0.0/24"];

/// How often the Avahi of these guests took another host name.
pub fn renamings(guests: &[Guest]) -> usize {
    guests.iter().map(|guest| guest.avahi_log().matches("Host name conflict, retrying with").count()).sum()
}

fn resolved(guest: &Guest, name: &str) -> Result<String, String> {
    let line = guest.sh(&format!("timeout 6 avahi-resolve -4 --name {name}"))?;
    line.split_whitespace().last().map(str::to_owned).ok_or(format!("{name} is not known"))
}

#[test]
fn of_two_hosts_with_one_name_one_takes_another_once_and_then_it_is_quiet() {
    need!("avahi-daemon", "avahi-resolve", "dbus-daemon");
    let lab = lab!(3).cluster();
    lab.network("net", &[&SUBNET[..], &["--zeroconf", "proxy"]].concat());
    let mut addresses = Vec::new();
    let twins: Vec<_> = (1..=2)
        .map(|i| {
            let twin = Guest::with_avahi("twin");
            let answer = lab.node(i).attach("net", &format!("c{i}"), twin.container());
            let address = answer["addresses"][0].as_str().and_then(|text| text.split('/').next());
            addresses.push(address.expect("an address").to_owned());
            twin
        })
        .collect();
    let third = Guest::with_avahi("third");
    lab.node(3).attach("net", "c3", third.container());
    addresses.sort();
    wait_until("both are found, under two names", SOON * 2, || {
        let mut found = vec![resolved(&third, "twin.local")?, resolved(&third, "twin-2.local")?];
        found.sort();
        if found == addresses { Ok(()) } else { Err(format!("{found:?}")) }
    });
    stays("one of the two took another name, once", Duration::from_secs(6), || {
        match (renamings(&twins), renamings(std::slice::from_ref(&third))) {
            (1, 0) => Ok(()),
            other => Err(format!("{other:?} of the two and of the third")),
        }
    });
}

#[test]
fn a_node_that_dies_takes_its_services_with_it_and_one_that_comes_back_brings_them() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon");
    let lab = lab!(LabConfig::alone(3)).cluster();
    let guests = guests(&lab, "proxy", &SUBNET, 3);
    let plain = Guest::plain("plain");
    let declare = ["--advertise-service", "Declared=_http._tcp:80,path=/"];
    lab.node(2).try_attach("net", "plain", plain.container(), &declare).success();
    let publish = "exec avahi-publish --service printer _ipp._tcp 631 --subtype _color._sub._ipp._tcp";
    let _printer = guests[1].start_sh(publish);
    let seen = || -> Result<(), String> {
        // By its subtype: nobody can be asked for his, so a restarted agent has to remember it.
        let printer = browse(&guests[0], "_color._sub._ipp._tcp")?;
        let declared = browse(&guests[0], "_http._tcp")?;
        let listed = discover(lab.node(3), "_ipp._tcp")?.len() + discover(lab.node(3), "_http._tcp")?.len();
        let both = printer.iter().any(|line| line.starts_with("IPv4 printer h2.local"))
            && declared.iter().any(|line| line.starts_with("IPv4 Declared"));
        if both && listed == 2 { Ok(()) } else { Err(format!("{printer:?} {declared:?} {listed} listed")) }
    };
    wait_until("the services of n2 are seen", SOON, seen);
    let watching = guests[0].start_sh("exec avahi-browse --parsable _ipp._tcp");
    lab.cut(lab.node(2));
    lab.node(2).kill();
    let begin = Instant::now();
    wait_until("they are listed no more", SOON, || {
        match discover(lab.node(3), "_ipp._tcp")?.len() + discover(lab.node(3), "_http._tcp")?.len() {
            0 => Ok(()),
            other => Err(format!("{other} are listed")),
        }
    });
    // Half a second for the command that asks.
    assert!(
        begin.elapsed() < Duration::from_millis(2500) * slowness(),
        "listed no more after {:?}",
        begin.elapsed()
    );
    wait_seen(&guests[0], "_ipp._tcp", &[]);
    wait_seen(&guests[0], "_http._tcp", &[]);
    // A goodbye counts after a second (RFC 6762 section 10.1), and the command that asks takes one, too.
    assert!(
        begin.elapsed() < Duration::from_millis(6500) * slowness(),
        "seen no more after {:?}",
        begin.elapsed()
    );
    let text = watching.finish();
    assert!(text.contains("-;eth0;IPv4;printer"), "whoever browses is told: {text}");
    lab.heal(lab.node(2));
    lab.node(2).start_and_wait();
    wait_until("they are seen again", SOON, seen);
}

/// A browser that knows nothing of Avahi: prints `INSTANCE HOST ADDRESSES PORT TXT` of each service of a type.
const BROWSER: &str = r#"
import sys, time
from zeroconf import ServiceBrowser, Zeroconf
class Listener:
    def add_service(self, zc, kind, name):
        info = zc.get_service_info(kind, name, 5000)
        if info:
            print(name[:-len(kind) - 1], info.server, ','.join(sorted(info.parsed_addresses())), info.port,
                  dict(info.properties), flush=True)
    def update_service(self, zc, kind, name): pass
    def remove_service(self, zc, kind, name): print('gone', name[:-len(kind) - 1], flush=True)
zc = Zeroconf(interfaces=[sys.argv[2]])
ServiceBrowser(zc, sys.argv[1], Listener())
time.sleep(60)
"#;

#[test]
fn another_implementation_of_mdns_sees_what_is_heard_and_what_is_declared_and_when_it_goes() {
    need!("avahi-daemon", "dbus-daemon", "python3-zeroconf");
    for mode in ["proxy", "transparent"] {
        let lab = lab!(2).cluster();
        let guests = guests(&lab, mode, &SUBNET, 1);
        let silent = Guest::plain("silent");
        let declare = ["--advertise-service", "Declared one=_http._tcp,_api:8080,path=/x,flag"];
        lab.node(1).try_attach("net", "silent", silent.container(), &declare).success();
        let _page = guests[0].start_sh("exec avahi-publish --service Heard _http._tcp 80 path=/");
        let browser = Guest::plain("browser");
        let answer = lab.node(2).attach("net", "browser", browser.container());
        let me = answer["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
        let watch = |out: &str| {
            format!(
                "cat >/run/tmp/browse.py <<'END'\n{BROWSER}\nEND\n\
                 exec /usr/bin/python3 /run/tmp/browse.py _http._tcp.local. {me} >/run/tmp/{out}"
            )
        };
        let watching = browser.start_sh(&watch("seen"));
        let printed = |parts: &[&str]| {
            let text = browser.sh("cat /run/tmp/seen")?;
            let all = parts.iter().all(|part| text.contains(part));
            if all { Ok(()) } else { Err(text) }
        };
        wait_until("both are seen", SOON, || {
            printed(&[
                "Heard h1.local.",
                "Declared one silent.local.",
                " 8080 ",
                "b'path': b'/x'",
                "b'flag': None",
            ])
        });
        lab.node(1).detach("net", "silent");
        wait_until("one is gone", SOON, || printed(&["gone Declared one"]));
        drop(watching);
    }
}
