//! distcc farms that find themselves by zeroconf.

use crate::avahi::{discover, guests};
use crate::harness::{Guest, Lab, Node, Running, SOON, lab, need, wait_until, within};

const SUBNET: [&str; 2] = ["--subnet", "10.82.0.0/24"];

/// Starts a distccd that allows so many jobs, and announces itself if `zeroconf` says so.
fn serve(guest: &Guest, jobs: u32, zeroconf: bool) -> Running {
    let announce = if zeroconf { "--zeroconf" } else { "" };
    guest.start_sh(&format!(
        "exec distccd --no-detach --daemon {announce} --allow 10.82.0.0/24 --jobs {jobs} --user distccd \
         --log-file /run/tmp/distccd.log --log-level info"
    ))
}

/// The first IPv4 address of an endpoint.
fn address(lab: &Lab, node: usize, endpoint: &str) -> String {
    let list = lab.node(node).lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().and_then(|list| list.iter().find(|found| found["name"] == endpoint).cloned());
    let found = found.expect("it is attached");
    let text = found["addresses"][0].as_str().expect("is text");
    text.split('/').next().expect("an address").to_owned()
}

/// Waits until distcc in `guest`, told nothing but `+zeroconf`, has found exactly these hosts.
fn wait_hosts(guest: &Guest, expected: &[String]) {
    wait_until(&format!("distcc finds {expected:?}"), SOON * 2, || {
        let text = guest.sh(
            "export DISTCC_DIR=/run/tmp/distcc; mkdir -p $DISTCC_DIR; echo +zeroconf >$DISTCC_DIR/hosts; \
             distcc --show-hosts",
        )?;
        let mut found: Vec<_> = text.lines().map(str::to_owned).collect();
        found.sort();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Compiles one file, on other hosts or not at all.
fn compile(guest: &Guest, environment: &str) -> Result<String, String> {
    guest.sh(&format!(
        "cd /run/tmp; echo 'int one(void) {{ return 1; }}' >one.c; export DISTCC_FALLBACK=0 {environment}; \
         distcc gcc -c one.c -o one.o && test -s one.o"
    ))
}

fn compiled(guest: &Guest) -> bool {
    guest.sh("grep -q COMPILE_OK /run/tmp/distccd.log").is_ok()
}

/// The server writes that down after it has answered.
fn has_compiled(guest: &Guest, place: &str) {
    wait_until(&format!("it was compiled {place}"), SOON, || {
        if compiled(guest) { Ok(()) } else { Err("its log has nothing of it".to_owned()) }
    });
}

fn farm(mode: &str) {
    let lab = lab!(3).cluster();
    let guests = guests(&lab, mode, &SUBNET, 3);
    let _server = serve(&guests[0], 3, true);
    let expected = [format!("{}:3632/3", address(&lab, 1, "c1"))];
    wait_hosts(&guests[1], &expected);
    wait_hosts(&guests[2], &expected);
    compile(&guests[2], "DISTCC_DIR=/run/tmp/distcc").expect("it is compiled elsewhere");
    has_compiled(&guests[0], "on the server of another node");
}

#[test]
fn with_zeroconf_proxied_distcc_finds_a_server_on_another_node_and_compiles_there() {
    need!("distcc", "distccd", "avahi-daemon", "dbus-daemon", "gcc");
    farm("proxy");
}

/// The subtype by which a distcc of this machine's compiler browses: as a distccd with Avahi announces it.
fn subtype(lab: &Lab) -> String {
    wait_until("the distccd with Avahi is listed", SOON, || {
        let services = discover(lab.node(1), "_distcc._tcp")?;
        let announced = services.iter().find(|service| service["declared"] == false);
        let subtype = announced.and_then(|service| service["subtypes"][0].as_str());
        subtype.map(str::to_owned).ok_or_else(|| format!("{services:?}"))
    })
}

#[test]
fn distcc_finds_a_declared_server_that_runs_without_avahi_and_a_client_without_it_is_told_the_hosts() {
    need!("distcc", "distccd", "avahi-daemon", "dbus-daemon", "gcc");
    let lab = lab!(3).cluster();
    let guests = guests(&lab, "proxy", &SUBNET, 3);
    let server = serve(&guests[0], 2, true);
    let subtype = subtype(&lab);
    server.finish();
    let silent = Guest::plain("silent");
    let declare = format!("_distcc._tcp,{subtype}:3632,txtvers=1,cpus=2,jobs=5");
    let declare = ["--advertise-service", &declare];
    lab.node(2).try_attach("net", "silent", silent.container(), &declare).success();
    let _daemon = serve(&silent, 5, false);
    let host = format!("{}:3632/5", address(&lab, 2, "silent"));
    wait_hosts(&guests[2], std::slice::from_ref(&host));
    compile(&guests[2], "DISTCC_DIR=/run/tmp/distcc").expect("it is compiled elsewhere");
    has_compiled(&silent, "on the server that was declared");

    let client = Guest::plain("client");
    lab.node(1).attach("net", "client", client.container());
    let line = lab.node(1).lanmesh(["discover", "net", "--format", "distcc"]).success();
    assert_eq!(line, format!("{host}\n"));
    compile(&client, &format!("DISTCC_HOSTS='{}'", line.trim())).expect("it is compiled elsewhere");
}

#[test]
fn with_zeroconf_off_distcc_finds_nobody_elsewhere_and_can_be_told_the_hosts_that_were_declared() {
    need!("distcc", "distccd", "avahi-daemon", "dbus-daemon", "gcc");
    let lab = lab!(2).cluster();
    let guests = guests(&lab, "off", &SUBNET, 2);
    let beside = Guest::with_avahi("beside");
    lab.node(1).attach("net", "beside", beside.container());
    let _server = serve(&guests[0], 3, true);
    let found = || {
        // It may well fail where it finds nobody.
        guests[1].sh(
            "export DISTCC_DIR=/run/tmp/distcc; mkdir -p $DISTCC_DIR; echo +zeroconf >$DISTCC_DIR/hosts; \
             distcc --show-hosts 2>/dev/null || true",
        )
    };
    found().expect("distcc can be run");
    // Who is on its node finds it, so that it is there to be found.
    wait_hosts(&beside, &[format!("{}:3632/3", address(&lab, 1, "c1"))]);
    assert_eq!(found(), Ok(String::new()), "nothing is found on the other node");
    let fails = compile(&guests[1], "DISTCC_DIR=/run/tmp/distcc");
    assert!(fails.is_err(), "there is nobody to compile elsewhere: {fails:?}");
    compile(&guests[1], "DISTCC_DIR=/run/tmp/distcc DISTCC_FALLBACK=1").expect("it is compiled here");
    assert!(!compiled(&guests[0]));

    let silent = Guest::plain("silent");
    let declare = ["--advertise-service", "_distcc._tcp:3632,jobs=5"];
    lab.node(1).try_attach("net", "silent", silent.container(), &declare).success();
    let _daemon = serve(&silent, 5, false);
    let host = format!("{}:3632/5", address(&lab, 1, "silent"));
    let line = wait_until("what was declared is told on the other node, and nothing else", SOON, || {
        let line = lab.node(2).lanmesh(["discover", "net", "--format", "distcc"]).success();
        if line == format!("{host}\n") { Ok(line) } else { Err(line) }
    });
    compile(&guests[1], &format!("DISTCC_HOSTS='{}'", line.trim())).expect("it is compiled elsewhere");
    has_compiled(&silent, "on the server that was declared");
}

#[test]
fn distcc_finds_a_server_on_another_node_and_compiles_there() {
    need!("distcc", "distccd", "avahi-daemon", "dbus-daemon", "gcc");
    farm("transparent");
}

/// The ports of UDP and TCP at which something in the node's own namespace listens.
fn ports(node: &Node) -> Vec<u16> {
    let tables = within(&node.netns().path(), || {
        ["udp", "udp6", "tcp", "tcp6"].map(|table| {
            std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).expect("/proc is mounted")
        })
    });
    let local = |line: &str| {
        let port = line.split_whitespace().nth(1)?.rsplit_once(':')?.1;
        u16::from_str_radix(port, 16).ok()
    };
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(local)).collect()
}

#[test]
fn a_server_on_a_plain_machine_is_found_from_a_container_and_one_in_a_container_from_the_machine() {
    need!("distcc", "distccd", "avahi-daemon", "dbus-daemon", "gcc");
    let lab = lab!(2).cluster();
    let guests = guests(&lab, "proxy", &SUBNET, 2);
    let node = lab.node(1);
    node.lanmesh(["attach", "net", "--name", "builder", "--host"]).success();
    // The ports of names are the machine's own: its Avahi and its resolver have them.
    let taken = ports(node);
    assert!(taken.contains(&7979) && !taken.contains(&53) && !taken.contains(&5353), "{taken:?}");
    let machine = Guest::on_machine("builder", node.netns(), "lm-net");
    let server = serve(&machine, 3, true);
    wait_hosts(&guests[1], &[format!("{}:3632/3", address(&lab, 1, "builder"))]);
    compile(&guests[1], "DISTCC_DIR=/run/tmp/distcc").expect("it is compiled elsewhere");
    has_compiled(&machine, "on the machine");
    server.finish();
    let _server = serve(&guests[1], 5, true);
    wait_hosts(&machine, &[format!("{}:3632/5", address(&lab, 2, "c2"))]);
    compile(&machine, "DISTCC_DIR=/run/tmp/distcc").expect("it is compiled elsewhere");
    has_compiled(&guests[1], "in the container");
}
