//! Virtual addresses of a swarm's services: which of them are to be real, and what has to be done for that.
//!
//! A swarm gives each service in the default mode an address of each of its networks, which its name servers then answer with. In
//! a network of ours that address is made that of a service of ours, by the one manager that leads. Which addresses were made so
//! is noted in labels of nodes, for whoever leads next; what is not noted somebody made by hand, and is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lanmesh_model::{LABEL_VALUE_MAX, NetworkName, ServiceName};

use crate::container::service_name;
use crate::engine::Service;

/// What begins a label that notes addresses; the swarm's id, the network and a number follow.
const NOTE: &str = "docker.vip/";
/// How many labels notes may take of those that a node can have.
const LABELS: usize = 48;

/// A service of a network of ours.
pub type Key = (NetworkName, ServiceName);
/// Services with the virtual address of each.
pub type Addresses = BTreeMap<Key, IpAddr>;

/// What a swarm wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These are to be real.
    pub addresses: Addresses,
    /// These cannot be, and why; by what Docker calls the service.
    pub refused: BTreeMap<String, String>,
}

/// The virtual addresses of a swarm's services in networks of ours, which `network_of` knows by Docker's ids.
///
/// Where several count to one service of ours, the oldest has its name: a service has one address.
pub fn wanted<'a>(services: &[Service], network_of: impl Fn(&str) -> Option<&'a NetworkName>) -> Wanted {
    let mut wanted = Wanted::default();
    let mut holders: BTreeMap<Key, &str> = BTreeMap::new();
    let mut by_age: Vec<&Service> = services.iter().collect();
    by_age.sort_by_key(|service| service.age());
    for service in by_age {
        let docker = service.spec.name.as_str();
        for vip in &service.endpoint.virtual_ips {
            let Some(network) = network_of(&vip.network_id) else { continue };
            // While it has none yet Docker says nothing here.
            let Some(address) = vip.address() else { continue };
            let name = match service_name(&service.spec.task_template.container_spec.labels, docker) {
                Ok(name) => name,
                Err(error) => {
                    wanted.refused.insert(docker.to_owned(), error.to_string());
                    continue;
                }
            };
            let key = (network.clone(), name);
            match holders.get(&key) {
                None => {
                    holders.insert(key.clone(), docker);
                    wanted.addresses.insert(key, address);
                }
                Some(other) => {
                    let why = format!(
                        "Docker's service {other} counts to service {} of network {network} too, and is older: give one of \
                         the two another label lanmesh.service, or use --endpoint-mode dnsrr",
                        key.1
                    );
                    wanted.refused.insert(docker.to_owned(), why);
                }
            }
        }
    }
    wanted
}

/// What has to be done, in this order: `remove`, then the notes, then `set`. Whoever is killed in between leaves nothing of which
/// the next cannot tell whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Their addresses are taken away: Docker has the service no more, or has another address for it.
    pub remove: BTreeSet<Key>,
    /// What is to be noted from then on.
    pub notes: Addresses,
    /// These get their addresses.
    pub set: Addresses,
    /// These are left as they are, and why.
    pub left: BTreeMap<Key, String>,
}

/// What has to be done where these are `wanted`, those were `noted` before, and `there` are the addresses of all services.
pub fn plan(wanted: &Addresses, noted: &Addresses, there: &BTreeMap<Key, Vec<IpAddr>>) -> Plan {
    let mut plan = Plan::default();
    // One that was noted, and has an address that was not, has been changed by hand since.
    let is_ours = |key: &Key| match (noted.get(key), there.get(key)) {
        (Some(address), Some(has)) => has.contains(address),
        (Some(_), None) | (None, _) => false,
    };
    plan.remove
        .extend(noted.keys().filter(|key| is_ours(key) && wanted.get(*key) != noted.get(*key)).cloned());
    for (key, address) in wanted {
        let stays = there.get(key).filter(|_| !plan.remove.contains(key));
        match stays {
            None => {
                plan.notes.insert(key.clone(), *address);
                plan.set.insert(key.clone(), *address);
            }
            Some(_) if is_ours(key) => drop(plan.notes.insert(key.clone(), *address)),
            // Made by hand, as Docker would have it.
            Some(has) if has.contains(address) => {}
            Some(has) => {
                let has: Vec<String> = has.iter().map(ToString::to_string).collect();
                let (network, service) = key;
                let why = format!(
                    "service {service} of network {network} has {} by hand, and not Docker's {address}: `lanmesh service rm \
                     {network} {service}` lets it have that, or use --endpoint-mode dnsrr",
                    has.join(" and ")
                );
                plan.left.insert(key.clone(), why);
            }
        }
    }
    for key in pack("", &plan.notes).1 {
        plan.notes.remove(&key);
        // One that is there already stays, and is taken for one that was made by hand.
        plan.set.remove(&key);
        plan.left.insert(key, format!("no more than {LABELS} labels can note addresses of services"));
    }
    plan
}

/// Notes as labels of a node, by name. Those that cannot be noted are left out.
pub fn labels(swarm: &str, notes: &Addresses) -> BTreeMap<String, String> {
    pack(swarm, notes).0
}

fn pack(swarm: &str, notes: &Addresses) -> (BTreeMap<String, String>, Vec<Key>) {
    let mut packed: BTreeMap<String, String> = BTreeMap::new();
    let mut over = Vec::new();
    let mut last: Option<(&NetworkName, usize)> = None;
    for (key, address) in notes {
        let (network, service) = key;
        let note = format!("{service}={address}");
        let mut number = last.filter(|(of, _)| *of == network).map_or(0, |(_, number)| number);
        let label = |number: usize| format!("{NOTE}{swarm}/{network}/{number}");
        let full =
            packed.get(&label(number)).is_some_and(|text| text.len() + 1 + note.len() > LABEL_VALUE_MAX);
        number += usize::from(full);
        if packed.len() >= LABELS && !packed.contains_key(&label(number)) {
            over.push(key.clone());
            continue;
        }
        let text = packed.entry(label(number)).or_default();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&note);
        last = Some((network, number));
    }
    (packed, over)
}

/// Whether a label notes addresses of this swarm's services.
pub fn is_note(swarm: &str, label: &str) -> bool {
    label
        .strip_prefix(NOTE)
        .and_then(|rest| rest.strip_prefix(swarm))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// What is noted in the labels of a node for this swarm; what is no note of ours is not read.
pub fn noted(swarm: &str, labels: &BTreeMap<String, String>) -> Addresses {
    let of_label = |(label, value): (&String, &String)| {
        let network =
            label[NOTE.len() + swarm.len() + 1..].rsplit_once('/')?.0.parse::<NetworkName>().ok()?;
        let one = move |note: &str| {
            let (service, address) = note.split_once('=')?;
            Some(((network.clone(), service.parse().ok()?), address.parse().ok()?))
        };
        Some(value.split(',').filter_map(one).collect::<Vec<_>>())
    };
    let ours = labels.iter().filter(|(label, _)| is_note(swarm, label));
    ours.filter_map(of_label).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str) -> Key {
        ("net".parse().unwrap(), service.parse().unwrap())
    }

    fn addresses(pairs: &[(&str, &str)]) -> Addresses {
        pairs.iter().map(|(service, address)| (key(service), address.parse().unwrap())).collect()
    }

    fn service(name: &str, created: &str, label: Option<&str>, vips: &[(&str, &str)]) -> Service {
        let vips: Vec<_> =
            vips.iter().map(|(id, at)| serde_json::json!({"NetworkID": id, "Addr": at})).collect();
        let labels =
            label.map_or(serde_json::json!({}), |label| serde_json::json!({"lanmesh.service": label}));
        serde_json::from_value(serde_json::json!({"ID": name, "CreatedAt": created,
            "Spec": {"Name": name, "TaskTemplate": {"ContainerSpec": {"Labels": labels}}},
            "Endpoint": {"VirtualIPs": vips}}))
        .unwrap()
    }

    /// Does what a plan says, up to a number of steps.
    fn carry_out(plan: &Plan, noted: &mut Addresses, there: &mut BTreeMap<Key, Vec<IpAddr>>, steps: usize) {
        let mut left = steps;
        for key in &plan.remove {
            if left == 0 {
                return;
            }
            left -= 1;
            there.remove(key);
        }
        if left > 0 {
            noted.clone_from(&plan.notes);
            let sets = plan.set.iter().take(left - 1);
            there.extend(sets.map(|(key, address)| (key.clone(), vec![*address])));
        }
    }

    #[test]
    fn a_service_counts_under_its_name_or_its_label_and_in_networks_of_ours_alone() {
        let ours: NetworkName = "net".parse().unwrap();
        let network_of = |id: &str| (id == "n1").then_some(&ours);
        let found = wanted(
            &[
                service(
                    "my.web",
                    "2026-01-02T00:00:00Z",
                    None,
                    &[("n1", "10.0.0.200/24"), ("other", "10.9.0.2/24")],
                ),
                service("stack_db", "2026-01-02T00:00:00Z", Some("db"), &[("n1", "10.0.0.201/24")]),
                service("dnsrr", "2026-01-02T00:00:00Z", None, &[]),
                service("not-yet", "2026-01-02T00:00:00Z", None, &[("n1", "")]),
                service("bad", "2026-01-02T00:00:00Z", Some("a b"), &[("n1", "10.0.0.202/24")]),
            ],
            network_of,
        );
        assert_eq!(found.addresses, addresses(&[("my-web", "10.0.0.200"), ("db", "10.0.0.201")]));
        assert_eq!(found.refused.keys().collect::<Vec<_>>(), ["bad"]);
    }

    #[test]
    fn of_two_that_count_to_one_service_the_oldest_has_it_whatever_the_order() {
        let ours: NetworkName = "net".parse().unwrap();
        let old = service("a_db", "2026-01-02T00:00:00.12Z", Some("db"), &[("n1", "10.0.0.200/24")]);
        let new = service("b_db", "2026-01-02T00:00:00.1203Z", Some("db"), &[("n1", "10.0.0.201/24")]);
        for both in [[old.clone(), new.clone()], [new, old]] {
            let found = wanted(&both, |_| Some(&ours));
            assert_eq!(found.addresses, addresses(&[("db", "10.0.0.200")]));
            assert!(found.refused["b_db"].contains("a_db"), "{:?}", found.refused);
        }
    }

    #[test]
    fn what_was_made_by_hand_is_never_touched() {
        let there = BTreeMap::from([
            (key("other"), vec!["10.0.0.7".parse().unwrap()]),
            (key("web"), vec!["10.0.0.8".parse().unwrap()]),
            (key("same"), vec!["fd00::1".parse().unwrap(), "10.0.0.202".parse().unwrap()]),
            (key("changed"), vec!["10.0.0.9".parse().unwrap()]),
        ]);
        let wanted = addresses(&[("web", "10.0.0.201"), ("same", "10.0.0.202")]);
        let made = plan(&wanted, &addresses(&[("changed", "10.0.0.203")]), &there);
        assert_eq!((made.remove.len(), made.set.len(), made.notes.len()), (0, 0, 0), "{made:?}");
        assert!(made.left[&key("web")].contains("lanmesh service rm net web"), "{made:?}");
        // Also once Docker has them no more.
        assert_eq!(plan(&Addresses::new(), &made.notes, &there), Plan::default());
    }

    #[test]
    fn whoever_is_killed_between_any_two_steps_leaves_what_the_next_brings_to_the_same_end() {
        let hand = (key("hand"), vec!["10.0.0.7".parse().unwrap()]);
        let stages = [
            addresses(&[("web", "10.0.0.200"), ("db", "10.0.0.201")]),
            addresses(&[("web", "10.0.0.210"), ("api", "10.0.0.202"), ("hand", "10.0.0.203")]),
            addresses(&[("web", "10.0.0.210")]),
            Addresses::new(),
        ];
        for steps in 0..6 {
            let (mut noted, mut there) = (Addresses::new(), BTreeMap::from([hand.clone()]));
            for wanted in &stages {
                carry_out(&plan(wanted, &noted, &there), &mut noted, &mut there, steps);
                carry_out(&plan(wanted, &noted, &there), &mut noted, &mut there, 99);
                let mut expected: BTreeMap<Key, Vec<IpAddr>> =
                    wanted.iter().map(|(key, address)| (key.clone(), vec![*address])).collect();
                expected.extend([hand.clone()]);
                assert_eq!(there, expected, "killed after {steps} steps");
                let again = plan(wanted, &noted, &there);
                assert!(again.remove.is_empty() && again.set.is_empty() && again.notes == noted, "{again:?}");
            }
            assert_eq!(noted, Addresses::new());
        }
    }

    #[test]
    fn notes_read_back_as_they_were_and_those_of_another_swarm_are_not_read() {
        let many: Addresses = (0..200_u8)
            .map(|n| {
                let network = if n % 2 == 0 { "net" } else { "other_net" };
                let name = format!("service-with-a-rather-long-name-{n}");
                ((network.parse().unwrap(), name.parse().unwrap()), IpAddr::from([10, 0, 0, n]))
            })
            .collect();
        let mut packed = labels("swarm1", &many);
        assert!(packed.len() > 30 && packed.values().all(|text| text.len() <= LABEL_VALUE_MAX), "{packed:?}");
        assert!(packed.keys().all(|name| lanmesh_model::is_label_name(name)), "{packed:?}");
        packed.insert("docker.vip/swarm12/net/0".to_owned(), "web=10.0.0.1".to_owned());
        packed.insert("docker.vip/swarm1/net/x/y".to_owned(), "web=10.0.0.1".to_owned());
        packed.insert("docker.vip/swarm1".to_owned(), "web=10.0.0.1".to_owned());
        packed.insert("docker.network/n1".to_owned(), "net".to_owned());
        packed.insert("docker.vip/swarm1/net/99".to_owned(), "web,=,a b=10.0.0.1,c=d".to_owned());
        assert_eq!(noted("swarm1", &packed), many);
    }

    #[test]
    fn what_cannot_be_noted_gets_no_address_and_it_is_said() {
        let wanted: Addresses = (0..1000_u32)
            .map(|n| {
                (key(&format!("s{n:04}-{}", "x".repeat(50))), IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
            })
            .collect();
        let made = plan(&wanted, &Addresses::new(), &BTreeMap::new());
        assert_eq!(made.notes, made.set);
        assert_eq!(noted("s", &labels("s", &made.notes)), made.notes);
        assert_eq!((made.notes.len(), made.left.len()), (48 * 3, 1000 - 48 * 3));
    }
}
