//! Who has which name: what this node says of its endpoints, and which of the others' facts count.

use std::collections::{BTreeMap, BTreeSet};

use super::links::Links;
use super::names::{self, Meaning, meaning};
use super::{Contest, Facts, Offer, Registry, RemoteNode};
use lanmesh_model::zeroconf::fold;
use lanmesh_model::{EndpointName, Found, NodeId, ZeroconfFact, ZeroconfKey};

/// The most that is published of one endpoint.
const SERVICES_MAX: usize = 256;
const HOSTS_MAX: usize = 16;
const RECORDS_MAX: usize = 256;
/// The most bytes that are published of one endpoint, and of all of a node together.
const ENDPOINT_BYTES: usize = 64 << 10;
const NODE_BYTES: usize = 1 << 20;

/// The type of aliases (RFC 1035 section 3.2.2).
const CNAME: u16 = 5;

/// What one node says, and what became of its endpoints' wishes.
#[derive(Debug, Default)]
pub struct Settled {
    /// What it says.
    pub facts: Facts,
    /// Names that an endpoint of this node took although an endpoint of another node has them.
    pub lost: Vec<Lost>,
    /// What is announced, here or there, under names that were declared for another endpoint.
    pub contested: Vec<Contest>,
}

/// A name that is not this endpoint's.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    /// Who took it.
    pub endpoint: EndpointName,
    /// The name.
    pub key: ZeroconfKey,
    /// Whether it was declared for it; else the endpoint announced it.
    pub declared: bool,
}

type Remote = BTreeMap<NodeId, RemoteNode>;

/// Higher wins, where two nodes say that a name is their endpoint's: a host name is first of all that of the endpoint
/// of that name; then what was declared comes before what an endpoint announces; and then it is that of the node with the
/// higher id, as with claims on addresses.
fn rank(links: &Links, key: &ZeroconfKey, fact: &ZeroconfFact, node: NodeId) -> (bool, bool, NodeId) {
    let own = matches!(key, ZeroconfKey::Host(host) if links.is_own(host, &fact.endpoint));
    (own, fact.declared, node)
}

/// The best of what other nodes say about a name. What they say of an endpoint that is on this node is out of date:
/// it has moved here.
fn best<'a>(links: &Links, remote: &'a Remote, key: &ZeroconfKey) -> Option<(NodeId, &'a ZeroconfFact)> {
    let all = remote.iter().filter_map(|(node, said)| Some((*node, said.facts.get(key)?)));
    let there = all.filter(|(_, fact)| !links.local().contains_key(&fact.endpoint));
    there.max_by_key(|(node, fact)| rank(links, key, fact, *node))
}

/// Settles what this node says. `candidates` is what its endpoints announce or have declared; `before` what it said
/// until now: who has a name keeps it.
pub fn settle(
    me: NodeId,
    links: &Links,
    mut candidates: Vec<ZeroconfFact>,
    before: &Facts,
    remote: &Remote,
) -> Settled {
    let class = |found: &Found| match found {
        Found::Host(_) => 0,
        Found::Service(_) => 1,
        Found::Records(_) => 2,
    };
    let declared: BTreeSet<(EndpointName, ZeroconfKey)> = candidates
        .iter()
        .filter(|fact| fact.declared)
        .map(|fact| (fact.endpoint.clone(), fact.found.key()))
        .collect();
    // Hosts first, for services need theirs. Then what was declared, of which an endpoint's own word counts for more; and
    // then what endpoints announce by themselves.
    candidates.sort_by_cached_key(|fact| {
        let key = fact.found.key();
        let had = before.get(&key).is_some_and(|old| old.endpoint == fact.endpoint);
        let of_declared = declared.contains(&(fact.endpoint.clone(), key));
        (class(&fact.found), !of_declared, !had, fact.declared, fact.endpoint.clone())
    });
    let mut settled = Settled::default();
    let mut used: BTreeMap<EndpointName, Used> = BTreeMap::new();
    let share = NODE_BYTES / links.local().len().max(1);
    for fact in candidates {
        let key = fact.found.key();
        if !fact.is_sound(&key) || !may_have(links, &settled.facts, &fact) {
            continue;
        }
        let contest = |endpoint: &EndpointName, by: &EndpointName| Contest {
            key: key.clone(),
            endpoint: endpoint.clone(),
            by: by.clone(),
        };
        if let Some(holder) = holder(links, &settled.facts, remote, &fact) {
            if holder.declared {
                let key = holder.found.key();
                settled.contested.push(Contest { key, ..contest(&holder.endpoint, &fact.endpoint) });
            }
            settled.lost.push(Lost { endpoint: fact.endpoint, key, declared: fact.declared });
            continue;
        }
        if let Some(there) = settled.facts.get(&key) {
            if there.declared && !fact.declared && there.endpoint != fact.endpoint {
                settled.contested.push(contest(&there.endpoint, &fact.endpoint));
            }
            continue;
        }
        // What others may have too takes nothing from anybody.
        let is_unique = !matches!(key, ZeroconfKey::Records { shared: Some(_), .. });
        if let Some((node, rival)) =
            best(links, remote, &key).filter(|(_, rival)| is_unique && rival.endpoint != fact.endpoint)
        {
            let had = before.get(&key).is_some_and(|old| old.endpoint == fact.endpoint);
            let lost = match (fact.declared, rival.declared) {
                (true, false) => {
                    settled.contested.push(contest(&fact.endpoint, &rival.endpoint));
                    false
                }
                (false, true) => {
                    settled.contested.push(contest(&rival.endpoint, &fact.endpoint));
                    true
                }
                _ => !had || rank(links, &key, rival, node) > rank(links, &key, &fact, me),
            };
            if lost {
                settled.lost.push(Lost { endpoint: fact.endpoint, key, declared: fact.declared });
                continue;
            }
        }
        if used.entry(fact.endpoint.clone()).or_default().take(&fact.found, share.min(ENDPOINT_BYTES)) {
            settled.facts.insert(key, fact);
        }
    }
    settled
}

#[derive(Default)]
struct Used {
    hosts: usize,
    services: usize,
    records: usize,
    bytes: usize,
}

impl Used {
    fn take(&mut self, found: &Found, bytes: usize) -> bool {
        let (count, max) = match found {
            Found::Host(_) => (&mut self.hosts, HOSTS_MAX),
            Found::Service(_) => (&mut self.services, SERVICES_MAX),
            Found::Records(_) => (&mut self.records, RECORDS_MAX),
        };
        if *count >= max || self.bytes + weight(found) > bytes {
            return false;
        }
        *count += 1;
        self.bytes += weight(found);
        true
    }
}

/// Roughly the bytes of a fact, its key included.
fn weight(found: &Found) -> usize {
    64 + match found {
        Found::Host(host) => 2 * host.name.len() + 17 * host.addresses.len(),
        Found::Service(service) => {
            let names = 2 * (service.instance.len() + service.kind.len()) + service.host.len();
            let subtypes: usize = service.subtypes.iter().map(|subtype| subtype.len() + 1).sum();
            names + subtypes + service.txt.iter().map(|text| text.len() + 2).sum::<usize>()
        }
        Found::Records(records) => {
            let labels: usize = records.name.iter().map(|label| 2 * (label.len() + 1)).sum();
            let data: usize = records.data.iter().map(|data| data.len() + 2).sum();
            labels + if records.unique { data } else { 2 * data }
        }
    }
}

/// The service or host of another endpoint, here or elsewhere, under whose name a fact has further records.
fn holder<'a>(
    links: &Links,
    facts: &'a Facts,
    remote: &'a Remote,
    fact: &ZeroconfFact,
) -> Option<&'a ZeroconfFact> {
    let Found::Records(records) = &fact.found else { return None };
    let key = match meaning(&names::labels(&records.name)?) {
        Meaning::Instance(instance, kind) => ZeroconfKey::service(&instance, &kind),
        Meaning::Host(host) => ZeroconfKey::Host(fold(&host)),
        _ => return None,
    };
    let holder = facts.get(&key).or_else(|| best(links, remote, &key).map(|(_, fact)| fact));
    holder.filter(|holder| holder.endpoint != fact.endpoint)
}

/// Whether the names in a fact are such that its endpoint may have them; `facts` are those that it was given before.
fn may_have(links: &Links, facts: &Facts, fact: &ZeroconfFact) -> bool {
    let endpoint = &fact.endpoint;
    let is_its = |host: &str| {
        let key = ZeroconfKey::Host(fold(host));
        facts.get(&key).is_some_and(|host| host.endpoint == *endpoint)
    };
    match &fact.found {
        Found::Host(host) => !links.is_anothers(&fold(&host.name), endpoint),
        Found::Service(service) => is_its(&service.host),
        Found::Records(records) => {
            let Some(Meaning::Host(host)) = names::labels(&records.name).map(|name| meaning(&name)) else {
                return true;
            };
            let host = fold(&host);
            // An alias has nothing beside itself (RFC 1034 section 3.6.2).
            let is_beside = records.kind == CNAME && is_its(&host);
            !is_beside && !links.is_anothers(&host, endpoint)
        }
    }
}

/// What other nodes say and this one does not say itself.
pub fn others<'a>(
    links: &Links,
    mine: &Facts,
    remote: &'a Remote,
) -> BTreeMap<&'a ZeroconfKey, (NodeId, &'a ZeroconfFact)> {
    let keys = remote.values().flat_map(|node| node.facts.keys());
    let mut winners: BTreeMap<_, _> = keys
        .filter(|key| !mine.contains_key(key))
        .filter_map(|key| Some((key, best(links, remote, key)?)))
        .collect();
    // A service is where its host is: where the name went to another node, the service is not there.
    let hosts: BTreeMap<&ZeroconfKey, NodeId> =
        winners.iter().map(|(key, (node, _))| (*key, *node)).collect();
    winners.retain(|_, (node, fact)| match &fact.found {
        Found::Service(service) => hosts.get(&ZeroconfKey::Host(fold(&service.host))) == Some(node),
        _ => true,
    });
    winners
}

/// All there is.
pub fn registry(me: NodeId, links: &Links, mine: &Facts, remote: &Remote) -> Registry {
    let others = others(links, mine, remote).into_iter();
    let others = others.map(|(key, (node, fact))| (key.clone(), Offer { node, fact: fact.clone() }));
    let mine = mine.iter().map(|(key, fact)| (key.clone(), Offer { node: me, fact: fact.clone() }));
    Registry { offers: others.chain(mine).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{endpoint, host, local, name, node, remote, service};
    use super::*;

    fn links(endpoints: &[(&str, u8)], remote: &Remote) -> Links {
        let mut links = Links::new(Default::default());
        links.set_local(endpoints.iter().map(|(n, last)| (name(n), local(n, *last))).collect());
        links.set_remote(&BTreeMap::new(), remote);
        links
    }

    fn keys(settled: &Settled) -> Vec<ZeroconfKey> {
        settled.facts.keys().cloned().collect()
    }

    #[test]
    fn nobody_takes_the_name_of_another_endpoint() {
        let remote = BTreeMap::from([remote(9, [endpoint("there", 9)], [])]);
        let links = links(&[("a", 2), ("b", 3)], &remote);
        let candidates = vec![
            host("a", "b", 2),
            host("a", "there", 2),
            host("a", "a", 2),
            service("a", "x", "_x._tcp", "there"),
            service("a", "y", "_x._tcp", "a"),
        ];
        let settled = settle(node(1), &links, candidates, &Facts::new(), &remote);
        let expected = [ZeroconfKey::service("y", "_x._tcp"), ZeroconfKey::Host("a".into())];
        assert_eq!(keys(&settled), expected);
    }

    #[test]
    fn a_name_that_another_node_has_is_lost_unless_it_was_had_before_and_ranks_higher() {
        let theirs = [host("z", "foo", 9)];
        for (me, before, wins) in
            [(1, false, false), (1, true, false), (200, false, false), (200, true, true)]
        {
            let remote = BTreeMap::from([remote(100, [endpoint("z", 9)], theirs.clone())]);
            let links = links(&[("a", 2)], &remote);
            let mine = host("a", "foo", 2);
            let had = before.then(|| (mine.found.key(), mine.clone())).into_iter().collect();
            let settled = settle(node(me), &links, vec![mine], &had, &remote);
            assert_eq!((settled.facts.len(), settled.lost.len()), if wins { (1, 0) } else { (0, 1) }, "{me}");
            // Everybody else sees the same one winner as soon as both say so.
            assert_eq!(others(&links, &settled.facts, &remote).is_empty(), wins);
        }
    }

    #[test]
    fn an_endpoint_that_moved_here_is_not_its_own_rival() {
        let remote = BTreeMap::from([remote(100, [endpoint("a", 2)], [host("a", "foo", 2)])]);
        let links = links(&[("a", 2)], &remote);
        let settled = settle(node(1), &links, vec![host("a", "foo", 2)], &Facts::new(), &remote);
        assert_eq!((settled.facts.len(), settled.lost.len()), (1, 0));
        assert!(others(&links, &settled.facts, &remote).is_empty());
        // Nor when it has not spoken here yet.
        assert!(others(&links, &Facts::new(), &remote).is_empty());
    }

    #[test]
    fn one_endpoint_cannot_take_the_room_of_another() {
        let remote = Remote::new();
        let links = links(&[("a", 2), ("b", 3)], &remote);
        let mut candidates: Vec<_> =
            (0..5000).map(|i| service("a", &format!("{i}"), "_x._tcp", "a")).collect();
        candidates.extend([host("a", "a", 2), host("b", "b", 3), service("b", "zz", "_x._tcp", "b")]);
        let settled = settle(node(1), &links, candidates, &Facts::new(), &remote);
        assert_eq!(settled.facts.len(), SERVICES_MAX + 3);
        assert!(settled.facts.contains_key(&ZeroconfKey::service("zz", "_x._tcp")));
    }
}
