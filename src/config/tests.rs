//! What is read of files and flags, and which line of which file an error names.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(Path::new("agent.toml"), text)
}

#[test]
fn a_file_that_says_nothing_gives_the_defaults() {
    assert_eq!(parse("# nothing\n").unwrap(), Config::default());
}

#[test]
fn every_key_is_taken_as_it_is_written() {
    let config = parse(
        r#"
        data_dir = "/d"
        run_dir = "/r"
        port = 1
        vxlan_port = 8472
        detect_ms = 500
        grace_s = 0
        rotate_s = 3600
        wireguard_port = 65532
        outward_ports = "2000-2999"
        follow_address = false
        captures_for_others = false
        write_group = "root"
        read = "group"
        max_body = 4096
        log = "warn,lanmesh=debug"
        log_format = "json"
        dns_ttl_s = 0
        dns_rate = 100
        metrics = "[::1]:9642"
        ui = "127.0.0.1:9643"
        ui_token_file = "/etc/t"
        ui_names = ["mesh.example.org"]
        resolv_conf = "/c"
        "#,
    )
    .unwrap();
    let expected = Config {
        data_dir: "/d".into(),
        run_dir: "/r".into(),
        socket: "/r/lanmesh.sock".into(),
        port: 1,
        vxlan_port: 8472,
        detect: Duration::from_millis(500),
        grace: Duration::ZERO,
        rotate: Duration::from_secs(3600),
        wireguard_port: 65532,
        outward_ports: OutwardPorts { first: 2000, last: 2999 },
        follow_address: false,
        captures_for_others: false,
        write_group: Some(0),
        read: ReadAccess::Group,
        max_body: 4096,
        log: "warn,lanmesh=debug".to_owned(),
        log_format: LogFormat::Json,
        dns_ttl: Duration::ZERO,
        dns_rate: 100,
        metrics: "[::1]:9642".parse().ok(),
        ui: "127.0.0.1:9643".parse().ok(),
        ui_token_file: Some("/etc/t".into()),
        ui_names: vec!["mesh.example.org".to_owned()],
        resolv_conf: "/c".into(),
        protocols: Protocols::SPOKEN,
        unknown_kind: None,
        without: Vec::new(),
    };
    assert_eq!(config, expected);
    assert_eq!(parse("write_group = 50").unwrap().write_group, Some(50));
}

#[test]
fn what_is_wrong_is_named_by_its_line_and_key() {
    for (text, parts) in [
        ("port 7979", &["agent.toml:1: "][..]),
        ("\nprot = 1", &[":2: prot: ", "unknown field", "`port`", "`log_format`"]),
        ("\n\nport = 0", &[":3: port: 0 is not 1 to 65535"]),
        ("port = 70000", &[":1: port: "]),
        ("port = \"7979\"", &[":1: port: ", "expected i64"]),
        ("wireguard_port = 65533", &[":1: wireguard_port: 65533 is not 1 to 65532"]),
        ("outward_ports = \"9-99\"", &[":1: outward_ports: \"9-99\" is not a range of 256 ports"]),
        ("follow_address = 1", &[":1: follow_address: ", "expected a boolean"]),
        ("rotate_s = 1", &[":1: rotate_s: 1 is not 10"]),
        ("detect_ms = 1", &[":1: detect_ms: 1 is not 200"]),
        ("data_dir = \"here\"", &[":1: data_dir: here is not an absolute path"]),
        ("dns_ttl_s = 86401", &[":1: dns_ttl_s: 86401 is not 0 to 86400"]),
        ("dns_rate = 99", &[":1: dns_rate: 99 is not 100 to 1000000"]),
        ("resolv_conf = \"resolv.conf\"", &[":1: resolv_conf: "]),
        ("metrics = \":9642\"", &[":1: metrics: \":9642\" is not IP:PORT"]),
        ("metrics = \"127.0.0.1:0\"", &[":1: metrics: "]),
        ("ui = \"localhost:9643\"", &[":1: ui: ", "IP:PORT"]),
        ("ui_token_file = \"t\"", &[":1: ui_token_file: ", "absolute"]),
        ("ui_names = [\"a\", \"http://b\"]", &[":1: ui_names: ", "http://b"]),
        ("read = \"group\"\nui = \"127.0.0.1:9643\"", &[":2: ui: ", "ui_token_file"]),
        ("read = \"all\"", &[":1: read: ", "`anyone`", "`group`"]),
        ("write_group = \"no-such-group\"", &[":1: write_group: ", "groupadd"]),
        ("write_group = -1", &[":1: write_group: "]),
        ("log = \"lanmesh=loud\"", &[":1: log: "]),
        ("log = \"verbose\"", &[":1: log: \"verbose\" is no level", "debug"]),
        ("log = \"info,verbos\"", &[":1: log: \"verbos\""]),
        ("log = \"\"", &[":1: log: \"\" is no level"]),
        ("\nvxlan_port = 7979", &[":2: vxlan_port: 7979 is taken by port"]),
        ("port = 51842", &[":1: wireguard_port: 51840 to 51843 is taken by port"]),
        ("port = 9\nvxlan_port = 9", &[":2: vxlan_port: 9 is taken by port"]),
        ("port = 1\nport = 2", &[":2: "]),
    ] {
        let error = parse(text).expect_err(text).to_string();
        for part in parts {
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

#[test]
fn a_flag_goes_before_the_file_and_a_run_directory_takes_the_socket_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, "data_dir = \"/d\"\nsocket = \"/s\"\nport = 7000\n").unwrap();
    let flags = Flags { config: Some(file), run_dir: Some("run".into()), ..Flags::default() };
    let config = Config::load(&flags).unwrap();
    let run_dir = std::env::current_dir().unwrap().join("run");
    assert_eq!(config.socket, run_dir.join("lanmesh.sock"));
    assert_eq!((config.run_dir, config.data_dir, config.port), (run_dir, "/d".into(), 7000));
    let flags = Flags { socket: Some("/x/s".into()), ..flags };
    assert_eq!(Config::load(&flags).unwrap().socket, PathBuf::from("/x/s"));
    let missing = Flags { config: Some(dir.path().join("absent")), ..Flags::default() };
    assert!(Config::load(&missing).unwrap_err().to_string().contains("--config"));
}
