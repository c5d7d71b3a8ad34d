//! What `--help` says besides what the flags say of themselves: how each command is used, which flags can be given several
//! times, and which are the same for every command.

use clap::builder::StyledStr;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches};

use super::Cli;

/// Every command that does something, by its words, with lines that show how it is used.
const EXAMPLES: [(&str, &[&str]); 54] = [
    ("agent", &["lanmesh agent", "lanmesh agent --config /etc/lanmesh/lanmesh.toml"]),
    ("init", &["lanmesh init", "lanmesh init --advertise 192.0.2.1 --name n1"]),
    (
        "join",
        &[
            "lanmesh join --token-file /run/token manager.example.org",
            "lanmesh join --token-file /run/token 192.0.2.1 192.0.2.2:7979 --wait",
        ],
    ),
    ("leave", &["lanmesh leave"]),
    ("reclaim", &["lanmesh reclaim"]),
    ("reload", &["lanmesh reload"]),
    ("token show", &["lanmesh token show"]),
    ("token rotate", &["lanmesh token rotate"]),
    ("manager recover", &["lanmesh manager recover"]),
    ("manager rotate-keys", &["lanmesh manager rotate-keys"]),
    ("node ls", &["lanmesh node ls", "lanmesh node ls --filter label=storage=ssd"]),
    ("node drops", &["lanmesh node drops", "lanmesh node drops n2 --all"]),
    ("node paths", &["lanmesh node paths", "lanmesh node paths n2"]),
    ("node inspect", &["lanmesh node inspect n2"]),
    (
        "node set",
        &[
            "lanmesh node set n2 --label storage=ssd --label region=us-east",
            "lanmesh node set n2 --label storage=",
        ],
    ),
    ("node rm", &["lanmesh node rm n2"]),
    (
        "network create",
        &[
            "lanmesh network create buildnet --subnet 10.10.0.0/24",
            "lanmesh network create buildnet --subnet 10.10.0.0/24 --subnet fd00:10::/64 --encrypt wireguard",
            "lanmesh network create buildnet --subnet 10.10.0.0/24 --pool distcc=10.10.0.100-10.10.0.119 --zeroconf proxy",
        ],
    ),
    ("network ls", &["lanmesh network ls"]),
    ("network inspect", &["lanmesh network inspect buildnet"]),
    (
        "network set",
        &[
            "lanmesh network set buildnet --zeroconf proxy",
            "lanmesh network set buildnet --add-subnet fd00:10::/64",
            "lanmesh network set buildnet --node-addresses 10.10.0.240/28",
        ],
    ),
    ("network rm", &["lanmesh network rm buildnet"]),
    ("network exec", &["lanmesh network exec buildnet -- bridge fdb show"]),
    (
        "attach",
        &[
            "lanmesh attach buildnet --name cc1 --netns /run/netns/cc1",
            "lanmesh attach buildnet --name cc2 --pid 4242 --service distcc --slot 2 --advertise-service _distcc._tcp:3632",
            "lanmesh attach buildnet --name n1 --host",
            "lanmesh attach buildnet --name web1 --pid 4242 --publish 8080:80 --publish-mode mesh --publish-source node",
        ],
    ),
    (
        "run",
        &[
            "lanmesh run buildnet -- ping -c 3 cc1",
            "lanmesh run buildnet --name web --alias www -- python3 -m http.server",
        ],
    ),
    ("detach", &["lanmesh detach buildnet cc1"]),
    ("endpoint ls", &["lanmesh endpoint ls", "lanmesh endpoint ls buildnet --node n2"]),
    ("endpoint inspect", &["lanmesh endpoint inspect buildnet cc1"]),
    (
        "endpoint drain",
        &["lanmesh endpoint drain buildnet web1", "lanmesh endpoint drain buildnet web1 --undo"],
    ),
    (
        "service create",
        &[
            "lanmesh service create buildnet web --port 80:8080",
            "lanmesh service create buildnet web --publish 8080:80 --publish-mode mesh",
        ],
    ),
    ("service ls", &["lanmesh service ls", "lanmesh service ls buildnet"]),
    ("service inspect", &["lanmesh service inspect buildnet web"]),
    ("service rm", &["lanmesh service rm buildnet web"]),
    ("whois", &["lanmesh whois 10.10.0.17", "lanmesh whois cc1"]),
    (
        "trace",
        &[
            "lanmesh trace cc1 cc2",
            "lanmesh trace cc1 web --port 80",
            "lanmesh trace cc1 cc2 --group 239.1.1.1",
            "lanmesh trace outside n1 --port 8080",
        ],
    ),
    (
        "capture",
        &["lanmesh capture cc1 --count 20 --write cc1.pcap", "lanmesh capture buildnet udp port 5353"],
    ),
    ("facts", &["lanmesh facts"]),
    ("multicast ls", &["lanmesh multicast ls", "lanmesh multicast ls buildnet"]),
    (
        "discover",
        &[
            "lanmesh discover buildnet",
            "lanmesh discover buildnet _ipp._tcp",
            "lanmesh discover buildnet --format distcc",
        ],
    ),
    (
        "ipam plan",
        &[
            "lanmesh ipam plan buildnet",
            "lanmesh ipam plan buildnet --node-index 2 --name cc1",
            "lanmesh ipam plan --subnet 10.10.0.0/24 --pool distcc=10.10.0.100/30 --service distcc --slot 2",
        ],
    ),
    ("plan", &["lanmesh plan"]),
    ("desired get", &["lanmesh desired get"]),
    ("desired put", &["lanmesh desired put --file desired.json --dry-run", "lanmesh desired put --file -"]),
    ("doctor", &["lanmesh doctor"]),
    ("docker setup", &["lanmesh docker setup"]),
    (
        "cni install",
        &["lanmesh cni install buildnet", "lanmesh cni install buildnet --prefix 10- --default-gateway"],
    ),
    ("netavark install", &["lanmesh netavark install"]),
    ("resolve", &["lanmesh resolve", "lanmesh resolve buildnet", "lanmesh resolve --undo"]),
    ("cleanup", &["lanmesh cleanup --dry-run", "lanmesh cleanup"]),
    ("status", &["lanmesh status", "lanmesh status --verbose"]),
    ("metrics", &["lanmesh metrics"]),
    ("ui", &["lanmesh ui", "lanmesh ui --listen 127.0.0.1:9643 --no-open"]),
    ("events", &["lanmesh events --follow", "lanmesh events --kind alarm --since 1h"]),
    ("version", &["lanmesh version"]),
    ("help", &["lanmesh help network create"]),
];

/// Under which the flags stand that every command has.
const GLOBAL: &str = "Options of every command";

/// The whole command line, as it is shown and read.
pub fn command() -> Command {
    let command =
        Cli::command().mut_args(|arg| if arg.is_global_set() { arg.help_heading(GLOBAL) } else { arg });
    decorate(command, "")
}

impl Cli {
    /// The arguments of this process.
    ///
    /// # Errors
    /// What clap says of them; also where help or the version was asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Adds to a command, and those below it, what can be said of it by its words and its flags alone.
fn decorate(command: Command, words: &str) -> Command {
    let command = command.mut_args(|arg| match (arg.get_action(), arg.get_help()) {
        (ArgAction::Append, Some(help)) if !arg.is_positional() => {
            let help = StyledStr::from(format!("{help} [repeatable]"));
            arg.help(help)
        }
        _ => arg,
    });
    // Of a number below zero it is said what is wrong with it, and not that there is no such flag.
    let command = command
        .mut_args(|arg| if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg });
    let command = match EXAMPLES.iter().find(|(of, _)| *of == words) {
        Some((_, lines)) => command.after_help(format!("Examples:\n  {}", lines.join("\n  "))),
        None => command,
    };
    command.mut_subcommands(|below| {
        let words = format!("{words} {}", below.get_name());
        decorate(below, words.trim_start())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands without commands of their own that people see, by their words.
    fn leaves(command: &Command, words: &str) -> Vec<String> {
        let below: Vec<_> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
        if below.is_empty() {
            return vec![words.to_owned()];
        }
        let name = |below: &Command| format!("{words} {}", below.get_name()).trim_start().to_owned();
        below.into_iter().flat_map(|below| leaves(below, &name(below))).collect()
    }

    #[test]
    fn every_command_has_an_example_and_every_example_is_read() {
        for words in leaves(&command(), "") {
            assert!(
                EXAMPLES.iter().any(|(of, lines)| *of == words && !lines.is_empty()),
                "no example of {words}"
            );
        }
        for (words, lines) in EXAMPLES {
            for line in lines {
                assert!(line.starts_with(&format!("lanmesh {words}")), "{line}: not of {words}");
                let read = command().try_get_matches_from(line.split_whitespace());
                if let Err(error) = read {
                    assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_number_below_zero_is_wrong_by_itself() {
        for line in [
            "lanmesh network create net --subnet 10.1.0.0/24 --block-size -1",
            "lanmesh attach net --name a --pid -1",
        ] {
            let error = command().try_get_matches_from(line.split(' ')).expect_err(line).to_string();
            assert!(error.contains("invalid value '-1' for '--"), "{error}");
        }
    }

    #[test]
    fn flags_that_can_be_repeated_say_so() {
        let mut command = command();
        let create =
            command.find_subcommand_mut("network").and_then(|network| network.find_subcommand_mut("create"));
        let create = create.expect("there is one");
        for (flag, marked) in [("pools", true), ("subnets", true), ("mtu", false)] {
            let arg = create.get_arguments().find(|arg| arg.get_id() == flag).expect(flag);
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert_eq!(help.ends_with("[repeatable]"), marked, "{flag}: {help}");
        }
    }
}
