//! What the guides print, typed as it is printed. tests/printed/mod.rs has the list of all blocks, and which are typed elsewhere.
//!
//! Programs that a test cannot have are stood in for: systemd-nspawn wants an image and systemd, lxc-info and incus containers of
//! theirs, ssh a server, resolvectl systemd-resolved on the system's bus, and apt-get the package, which tests/packages/run installs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use crate::harness::{Container, LATER, Node, SOON, lab, need, wait_until, within};
use crate::printed::block;
use crate::typing::{done, machine, own, shell, stand_in, tried};

const NETWORK: [&str; 2] = ["--subnet", "10.10.0.0/24"];

/// What stands in a text between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to:?} in {rest}")).0
}

/// The first address of an endpoint.
fn address(node: &Node, name: &str) -> String {
    let there = node.lanmesh(["endpoint", "inspect", "buildnet", name, "--json"]).json();
    let text = there["addresses"][0].as_str().unwrap_or_else(|| panic!("no address: {there}"));
    text.split('/').next().expect("has a first part").to_owned()
}

#[test]
fn programs_of_their_own_and_whatever_has_a_namespace() {
    need!("jq");
    let lab = lab!(2).cluster();
    lab.network("buildnet", &NETWORK);
    let (node, cc1) = (lab.node(1), Container::named("cc1"));
    lab.node(2).attach("buildnet", "cc1", &cc1);
    node.wait_endpoints("buildnet", &["cc1@n2"]);
    let run = block("alone", "lanmesh run buildnet").text();
    wait_until("the program reaches the container by its name", LATER, || {
        let said = tried(node, &run)?;
        if said.contains(" 3 received") { Ok(()) } else { Err(said) }
    });

    stand_in(node, "systemd-nspawn", "exec nsenter --net=\"${1#--network-namespace-path=}\" ip -br address");
    let said = done(node, &block("alone", "ip netns add box").text());
    assert!(said.contains(&format!("{}/24", address(node, "box"))), "{said}");
    node.detach("buildnet", "box");

    let lxc = block("alone", "lanmesh attach buildnet --name box --pid \"$(lxc-info");
    let incus = block("alone", "lanmesh attach buildnet --name box --pid \"$(incus");
    let as_json = "echo '{\"pid\":PID,\"status\":\"Running\"}'";
    for (program, script, block) in [("lxc-info", "echo PID", lxc), ("incus", as_json, incus)] {
        let container = Container::process();
        stand_in(node, program, &script.replace("PID", &container.pid().to_string()));
        done(node, &block.text());
        assert_eq!(container.links(), ["eth0"], "{program}");
        node.detach("buildnet", "box");
    }
}

#[test]
fn machines_that_come_and_go() {
    need!("dig");
    let lab = lab!(5);
    lab.join_all(&[1, 2]);
    own(&lab, "/etc");
    std::fs::create_dir_all("/etc/lanmesh").expect("it is ours");
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    // Of two seeds one never answers.
    let seeds = "\n192.0.2.77 seed-1.example.org\n192.0.2.1 seed-2.example.org\n";
    std::fs::write("/etc/hosts", hosts + seeds).expect("it is ours");
    let first = lab.node(1);
    let token = first.lanmesh(["token", "show", "--json"]).json();
    let token = token["token"].as_str().expect("is shown");
    for number in [3, 4, 5] {
        machine(lab.node(number));
    }

    // As cloud-init reads it, on a machine that is there before its seeds.
    let data = block("hosts", "#cloud-config");
    let text = data.text();
    let value = |key: &str| between(&text, &format!(" {key}: "), "\n");
    assert_eq!(value("permissions"), "'0600'");
    std::fs::write(value("path"), value("content").replace("LMT1-…", token)).expect("it is ours");
    let cloud = lab.node(4);
    stand_in(cloud, "apt-get", "[ \"$*\" = 'install -y /root/lanmesh.deb' ]");
    let commands = data.lines.iter().skip_while(|line| *line != "runcmd:").skip(1);
    let commands: Vec<_> =
        commands.map(|line| line.trim().strip_prefix("- ").expect("is one of a list")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    first.kill();
    let mut starting = shell(cloud, &commands.join("\n")).stdout(Stdio::piped()).spawn().expect("is started");
    std::thread::sleep(SOON / 10);
    assert!(starting.try_wait().expect("is ours").is_none(), "it waits for a seed");
    first.start_and_wait();
    let joined = wait_until("the machine has joined", LATER, || {
        starting.try_wait().expect("is ours").ok_or_else(|| "it waits".to_owned())
    });
    assert!(joined.success(), "{joined}");
    first.wait_alive(3);

    let join = block("hosts", "lanmesh join --wait").text();
    let said = done(lab.node(3), &join);
    assert!(said.contains("joined as n3, with index 3"), "{said}");
    // As Ansible's tasks say it, a second time.
    let tasks = block("hosts", "- ansible.builtin.apt").text();
    let again = between(&tasks, "cmd: ", "\n");
    let seeds = "seed-1.example.org seed-2.example.org";
    let again = again.replace("{{ groups['lanmesh_seeds'] | join(' ') }}", seeds);
    assert_eq!(done(lab.node(3), &again), said);

    first.create_network("buildnet", &NETWORK);
    for number in [2, 3, 4] {
        wait_until("all know the network", SOON, || lab.node(number).endpoints("buildnet"));
    }
    done(first, &block("hosts", "lanmesh attach buildnet").text());
    assert!(first.netns().links().contains(&"lm-buildnet".to_owned()), "{:?}", first.netns().links());
    let cc1 = Container::named("cc1");
    lab.node(2).attach("buildnet", "cc1", &cc1);
    let dig = block("hosts", "dig +short").text();
    wait_until("the machine is told where the container is", SOON, || {
        let said = tried(first, &dig)?;
        if said.trim() == address(lab.node(2), "cc1") { Ok(()) } else { Err(said) }
    });
    let noted = lab.dir().join("noted");
    stand_in(first, "resolvectl", &format!("echo \"$@\" >>{}", noted.display()));
    done(first, &block("hosts", "lanmesh resolve").text());
    let noted = std::fs::read_to_string(noted).expect("it was asked");
    assert!(noted.contains("dns lm-buildnet 10.10.0.1\ndomain lm-buildnet buildnet.lanmesh\n"), "{noted}");

    // An instance that is replaced.
    let (old, new) = (lab.node(3), lab.node(5));
    let replaced = Container::named("old");
    old.attach("buildnet", "cc9", &replaced);
    let before = address(old, "cc9");
    old.kill();
    let block = block("hosts", "lanmesh node rm");
    let [remove, join] = &block.lines[..] else { panic!("{block:?}") };
    wait_until("the old one can be removed", LATER, || tried(first, remove));
    let join = join.replacen('…', "/etc/lanmesh/token", 1).replacen('…', "seed-2.example.org", 1);
    done(new, &join);
    wait_until("the new one knows the network", SOON, || new.endpoints("buildnet"));
    let container = Container::named("new");
    new.attach("buildnet", "cc9", &container);
    assert_eq!(address(new, "cc9"), before);
}

#[test]
fn programs_that_find_each_other() {
    let lab = lab!(3).cluster();
    lab.network("buildnet", &NETWORK);
    let (node, cc1) = (lab.node(1), Container::process());
    let announced = block("programs", "lanmesh attach buildnet --name cc1 --pid");
    let [attach, export] = &announced.lines[..] else { panic!("{announced:?}") };
    done(node, &attach.replacen('…', &cc1.pid().to_string(), 1));
    let expected = format!("{}:3632/4\n", address(node, "cc1"));
    for asked in lab.nodes() {
        wait_until("the server is found from everywhere", SOON, || {
            let said = tried(asked, &format!("{export}\necho \"$DISTCC_HOSTS\""))?;
            if said == expected { Ok(()) } else { Err(said) }
        });
    }
    node.detach("buildnet", "cc1");

    let said = done(node, &block("programs", "lanmesh ipam plan").text());
    let cc7 = Container::named("cc7");
    lab.node(3).attach("buildnet", "cc7", &cc7);
    assert!(said.contains(&address(lab.node(3), "cc7")), "{said}");

    node.netns().ip("route add default via 192.0.2.99");
    let outside = block("programs", "lanmesh attach buildnet --name cc1 --netns").text();
    done(node, &format!("ip netns add cc1\n{outside}"));
    let route = done(node, "ip -n cc1 route show default");
    assert!(route.contains("via 10.10.0.1"), "{route}");
}

#[test]
fn where_runtimes_look_for_their_lists() {
    let lab = lab!(1).cluster();
    lab.network("buildnet", &NETWORK);
    for directory in ["/etc", "/opt"] {
        own(&lab, directory);
    }
    let blocks = [
        (block("cni", "lanmesh cni install buildnet --dir /opt"), "/opt/cni/config"),
        (block("cni", "lanmesh cni install buildnet --dir /etc"), "/etc/cni/multus/net.d"),
    ];
    for (block, directory) in blocks {
        done(lab.node(1), &block.text());
        let file = std::fs::read(format!("{directory}/lanmesh-buildnet.conflist")).expect("was written");
        let list: serde_json::Value = serde_json::from_slice(&file).expect("is JSON");
        assert_eq!((&list["name"], &list["plugins"][0]["type"]), (&"buildnet".into(), &"lanmesh-cni".into()));
        let plugin = std::fs::read_link("/opt/cni/bin/lanmesh-cni").expect("is a link");
        assert_eq!(plugin.file_name(), Some("lanmesh".as_ref()));
    }
}

/// A command that goes on until it is dropped.
struct Going {
    child: Child,
    first_line: String,
}

impl Going {
    /// Starts the lines, and waits for the first that they print.
    fn start(node: &Node, lines: &str) -> Self {
        let mut command = shell(node, lines);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a shell can be started");
        let output = child.stdout.take().expect("is piped");
        let mut this = Self { child, first_line: String::new() };
        BufReader::new(output).read_line(&mut this.first_line).expect("it prints text");
        this
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).expect("pids are small");
        // It may have ended by itself.
        let _ =
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The status that the page there answers with.
fn page(node: &Node, at: &str, request: &str, headers: &str) -> Result<u16, String> {
    let text = within(&node.netns().path(), || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "{request} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}\r\n")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    });
    let text = text.map_err(|error| error.to_string())?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| format!("no status: {text}"))
}

#[test]
fn the_page_of_a_cluster() {
    const PAGE: &str = "127.0.0.1:9643";
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    let by_hand = Going::start(node, &block("ui", "lanmesh ui").text());
    let at = between(&by_hand.first_line, "http://", "/#token=");
    assert_eq!(page(node, at, "GET /", ""), Ok(200));
    drop(by_hand);
    // What is behind the host is run there.
    stand_in(node, "ssh", "[ \"$1 $3\" = '-L n1' ] && shift 3 && exec \"$@\"");
    let by_ssh = Going::start(node, &block("ui", "ssh -L").text());
    assert!(by_ssh.first_line.contains("http://127.0.0.1:9643/#token="), "{}", by_ssh.first_line);
    assert_eq!(page(node, PAGE, "GET /", ""), Ok(200));
    drop(by_ssh);

    let again = |toml: &str| {
        node.configure(&format!("{toml}\n"));
        node.stop();
        node.start_and_wait();
    };
    let shown = block("ui", "# /etc/lanmesh/lanmesh.toml").text();
    again(&shown);
    assert_eq!(done(node, &block("ui", "lanmesh ui").text()), format!("http://{PAGE}/\n"));
    assert_eq!(page(node, PAGE, "GET /", ""), Ok(200));
    let remove = "DELETE /nodes/n9";
    assert_eq!(page(node, PAGE, remove, ""), Ok(403), "nobody may");

    own(&lab, "/etc");
    std::fs::create_dir_all("/etc/lanmesh").expect("it is ours");
    done(node, &block("ui", "head -c 24").text());
    again(&format!("{shown}\n{}", block("ui", "# beside `ui`").text()));
    assert_eq!(page(node, PAGE, remove, ""), Ok(401));
    let token = std::fs::read_to_string("/etc/lanmesh/ui-token").expect("was made");
    let bearer = format!("authorization: Bearer {}\r\n", token.trim());
    assert_eq!(page(node, PAGE, remove, &bearer), Ok(200));
}
