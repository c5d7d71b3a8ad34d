//! The table of nf_tables that sends one client to the endpoints of services: in the client's own network namespace, where
//! its connections begin and the answers come back. So both ends see each other's own addresses but for the one that the
//! client asked for, every protocol that has addresses is translated, and no node in between knows of it.
//!
//! A chain at the hook of output, of the type `nat`, which sees the first packet of each connection: it looks the
//! destination up in a map, one for each family, whose value is a chain for each route. There the endpoint is drawn. A route
//! that changes is a chain that is filled anew, all or nothing; the maps change by elements. The first rule of each chain
//! carries what it was made of as a number, and how many rules there are, so that what somebody else took away is seen.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::super::nft::{
    self, NF_INET_LOCAL_OUT, NFT_MSG_GETRULE, NFT_MSG_GETSETELEM, NFT_MSG_NEWSETELEM, NFT_SET_MAP, number,
};
use super::super::raw::{self, attribute, attributes, nested, within};
use super::rules::{self, INET, Ruled, address, family, octets};
use crate::plan::{ObservedRoute, ObservedServices, Route, ServiceStep, interface_rules};

const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_DELRULE: u16 = 8;
/// NF_IP_PRI_NAT_DST.
const DESTINATION_NAT: i32 = -100;
/// NF_IP_PRI_FILTER.
const FILTER: i32 = 0;
/// The chain that translates.
const OUTPUT: &[u8] = b"output\0";
/// The chain behind it that refuses what nobody is there for.
const REFUSE: &[u8] = b"refuse\0";
/// What a chain of a route begins with; the octets of the address in hexadecimal follow.
const ROUTE: &str = "to-";
const MAPS: [(&[u8], bool); 2] = [(b"services\0", false), (b"services6\0", true)];
/// The most that is read of what is in there: its owner may have put anything in, and what is more is made anew.
const READ_MAX: usize = 32 << 20;

/// A table by name.
#[derive(Debug, Clone)]
pub(super) struct Table(pub String);

impl Table {
    fn attribute(&self) -> Vec<u8> {
        attribute(1, &[self.0.as_bytes(), b"\0"].concat())
    }

    /// Makes a step in the calling thread's namespace. Blocks. The answer is the kernel's refusal, if any.
    pub fn apply(&self, step: &ServiceStep) -> io::Result<Option<Errno>> {
        match step {
            ServiceStep::Make { ifname, routes } => {
                INET.put_table(&self.attribute(), &[], self.content(ifname.as_deref(), routes))
            }
            ServiceStep::Put(address, route) => self.put(*address, route),
            ServiceStep::Remove(address) => self.remove(*address),
            ServiceStep::Delete => {
                let removal = INET.remove(nft::NFT_MSG_DELTABLE, &self.attribute());
                gone(exchange([removal])?)
            }
        }
    }

    fn content(&self, ifname: Option<&str>, routes: &BTreeMap<IpAddr, Route>) -> Vec<Vec<u8>> {
        let table = self.attribute();
        let mut changes = Vec::new();
        for (id, (map, ipv6)) in (1..).zip(MAPS) {
            let (_, kind, length) = family(ipv6);
            let made = [
                table.clone(),
                attribute(2, map),
                number(3, NFT_SET_MAP),
                number(4, kind),
                number(5, length),
                number(6, nft::NFT_DATA_VERDICT),
                number(10, id),
            ];
            changes.push(INET.make(nft::NFT_MSG_NEWSET, &made.concat()));
        }
        let hook = [number(1, NF_INET_LOCAL_OUT), attribute(2, &DESTINATION_NAT.to_be_bytes())];
        let chain = [table.clone(), attribute(3, OUTPUT), nested(4, &hook), attribute(7, b"nat\0")];
        changes.push(INET.make(nft::NFT_MSG_NEWCHAIN, &chain.concat()));
        let rules = MAPS.iter().map(|(map, ipv6)| Ruled {
            needs: Vec::new(),
            expressions: ifname
                .into_iter()
                .flat_map(rules::leaves_by)
                .chain(rules::goes_where(map, *ipv6))
                .collect(),
        });
        changes.extend(self.rules(OUTPUT, rules.collect(), &mark(interface_rules(ifname), 2, None)));
        let hook = [number(1, NF_INET_LOCAL_OUT), attribute(2, &FILTER.to_be_bytes())];
        let chain = [table.clone(), attribute(3, REFUSE), nested(4, &hook), attribute(7, b"filter\0")];
        changes.push(INET.make(nft::NFT_MSG_NEWCHAIN, &chain.concat()));
        let refusals = rules::refusals().map(|expressions| Ruled { needs: Vec::new(), expressions });
        changes.extend(self.rules(REFUSE, refusals.into(), &[]));
        // The numbers of maps go on where those of the two end.
        let mut id = 2;
        for (address, route) in routes {
            changes.push(self.chain(*address));
            changes.extend(self.filling(*address, route, &mut id));
        }
        for address in routes.keys() {
            changes.push(self.element(NFT_MSG_NEWSETELEM, *address));
        }
        changes
    }

    /// Fills a route's chain anew. Tried first as if the route were there, which most are.
    fn put(&self, address: IpAddr, route: &Route) -> io::Result<Option<Errno>> {
        let chain = chain_name(address);
        let rules = [self.attribute(), attribute(2, &chain)].concat();
        let mut id = 0;
        let mut changes = vec![INET.remove(NFT_MSG_DELRULE, &rules)];
        changes.extend(self.filling(address, route, &mut id));
        // Refused by nobody where it is there already.
        changes.push(self.element(NFT_MSG_NEWSETELEM, address));
        match exchange(changes.clone())? {
            Some(Errno::ENOENT) => {
                changes.insert(0, self.chain(address));
                exchange(changes)
            }
            refusal => Ok(refusal),
        }
    }

    fn remove(&self, address: IpAddr) -> io::Result<Option<Errno>> {
        let chain = [self.attribute(), attribute(3, &chain_name(address))].concat();
        let rules = [self.attribute(), attribute(2, &chain_name(address))].concat();
        let element = self.element(nft::NFT_MSG_DELSETELEM, address);
        let changes =
            [element.clone(), INET.remove(NFT_MSG_DELRULE, &rules), INET.remove(NFT_MSG_DELCHAIN, &chain)];
        match exchange(changes.clone())? {
            // A part of it is missing: each by itself, for what there is of them.
            Some(Errno::ENOENT) => {
                let mut left = None;
                for change in changes {
                    left = left.or(gone(exchange([change])?)?);
                }
                Ok(left)
            }
            refusal => Ok(refusal),
        }
    }

    fn chain(&self, address: IpAddr) -> Vec<u8> {
        let chain = [self.attribute(), attribute(3, &chain_name(address))].concat();
        INET.make(nft::NFT_MSG_NEWCHAIN, &chain)
    }

    fn filling(&self, address: IpAddr, route: &Route, id: &mut u32) -> Vec<Vec<u8>> {
        let rules = rules::route(&self.attribute(), route, address.is_ipv6(), id);
        let ObservedRoute { rules: number, chosen } = route.observed();
        let mark = mark(number, rules.len(), chosen);
        self.rules(&chain_name(address), rules, &mark)
    }

    /// The changes that put rules into a chain, the first with a mark.
    fn rules(&self, chain: &[u8], rules: Vec<Ruled>, mark: &[u8]) -> Vec<Vec<u8>> {
        let mut changes = Vec::new();
        for (at, Ruled { needs, expressions }) in rules.into_iter().enumerate() {
            changes.extend(needs);
            let mut rule = [self.attribute(), attribute(2, chain), nested(4, &expressions)].concat();
            if at == 0 {
                rule.extend(attribute(7, &nft::as_note(mark)));
            }
            changes.push(INET.append(nft::NFT_MSG_NEWRULE, &rule));
        }
        changes
    }

    /// A change of the element that leads to a route.
    fn element(&self, change: u16, address: IpAddr) -> Vec<u8> {
        let (map, _) = MAPS[usize::from(address.is_ipv6())];
        let key = nested(1, &[attribute(1, &octets(address))]);
        let element = match change {
            nft::NFT_MSG_DELSETELEM => nested(1, &[key]),
            _ => nested(1, &[key, nft::leads_to(&chain_name(address))]),
        };
        let message = [self.attribute(), attribute(2, map), nested(3, &[element])].concat();
        match change {
            nft::NFT_MSG_DELSETELEM => INET.remove(change, &message),
            _ => INET.make(change, &message),
        }
    }

    /// What there is of it in the calling thread's namespace. Blocks.
    pub fn find(&self) -> io::Result<Option<ObservedServices>> {
        let question = INET.question(NFT_MSG_GETRULE, &self.attribute());
        let mut chains: BTreeMap<Vec<u8>, Chain> = BTreeMap::new();
        let mut note = |message: &[u8]| {
            let message = message.get(4..).unwrap_or_default();
            // A kernel that does not look at what was asked for lists those of all tables.
            if within(message, 1).and_then(|name| name.strip_suffix(b"\0")) == Some(self.0.as_bytes())
                && let Some(name) = within(message, 2)
            {
                let chain = chains.entry(name.to_vec()).or_default();
                chain.rules += 1;
                if chain.mark.is_none() {
                    chain.mark = within(message, 7).and_then(nft::noted).map(<[u8]>::to_vec);
                }
            }
        };
        let answers = [nft::answer(nft::NFT_MSG_NEWRULE)];
        match raw::each_of(NETLINK_NETFILTER, &question, &answers, READ_MAX, &mut note) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(output) = chains.remove(OUTPUT) else { return Ok(None) };
        let mut routes = BTreeMap::new();
        let elements = self.elements()?;
        for (name, chain) in chains {
            let Some(address) = route_of(&name) else { continue };
            let whole = elements.contains(&address);
            let seen = chain.seen().filter(|_| whole);
            routes.insert(address, seen.unwrap_or(ObservedRoute { rules: 0, chosen: None }));
        }
        for address in elements {
            routes.entry(address).or_insert(ObservedRoute { rules: 0, chosen: None });
        }
        let rules = output.seen().map_or(0, |seen| seen.rules);
        Ok(Some(ObservedServices { rules, routes }))
    }

    /// The addresses in both maps.
    fn elements(&self) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        for (map, _) in MAPS {
            let asked = [self.attribute(), attribute(2, map)].concat();
            let question = INET.question(NFT_MSG_GETSETELEM, &asked);
            let mut note = |message: &[u8]| {
                found.extend(nft::elements(message).filter_map(|(key, _)| address(key)));
            };
            let answers = [nft::answer(NFT_MSG_NEWSETELEM)];
            match raw::each_of(NETLINK_NETFILTER, &question, &answers, READ_MAX, &mut note) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// What was read of a chain.
#[derive(Default)]
struct Chain {
    rules: usize,
    mark: Option<Vec<u8>>,
}

impl Chain {
    /// What it is, if all of it is there.
    fn seen(&self) -> Option<ObservedRoute> {
        let mark = self.mark.as_ref()?;
        let rules = u64::from_be_bytes(*mark.first_chunk()?);
        let count = u16::from_be_bytes(*mark.get(8..)?.first_chunk()?);
        (usize::from(count) == self.rules)
            .then(|| ObservedRoute { rules, chosen: mark.get(10..).and_then(address) })
    }
}

/// What the first rule of a chain carries: a number that says what it was made of, how many rules there are, and the
/// endpoint that was chosen to be kept.
fn mark(number: u64, rules: usize, chosen: Option<IpAddr>) -> Vec<u8> {
    let count = u16::try_from(rules).unwrap_or(u16::MAX);
    [number.to_be_bytes().to_vec(), count.to_be_bytes().to_vec(), chosen.map(octets).unwrap_or_default()]
        .concat()
}

fn chain_name(address: IpAddr) -> Vec<u8> {
    let hex: String = octets(address).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{ROUTE}{hex}\0").into_bytes()
}

fn route_of(name: &[u8]) -> Option<IpAddr> {
    let hex = std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?.strip_prefix(ROUTE)?;
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let octets: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    address(&octets?)
}

fn exchange(changes: impl IntoIterator<Item = Vec<u8>>) -> io::Result<Option<Errno>> {
    raw::exchange(NETLINK_NETFILTER, &nft::transaction(changes))
}

/// What is not there was not to be there.
fn gone(refusal: Option<Errno>) -> io::Result<Option<Errno>> {
    Ok(refusal.filter(|errno| *errno != Errno::ENOENT))
}

/// The attributes of a message of the connection tracking that begin behind its header.
pub(super) fn behind_header(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(message.get(4..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_whose_route_it_is_and_whether_it_is_whole() {
        for text in ["10.0.0.250", "fd00::1:2"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(route_of(&chain_name(address)), Some(address));
            let chain = Chain { rules: 3, mark: Some(mark(7, 3, Some(address))) };
            assert_eq!(chain.seen(), Some(ObservedRoute { rules: 7, chosen: Some(address) }));
            assert_eq!(Chain { rules: 2, ..chain }.seen(), None);
        }
        for name in ["to-", "to-0a", "to-0a0000fg", "output", "to-0a0000f"] {
            assert_eq!(route_of(format!("{name}\0").as_bytes()), None, "{name}");
        }
        assert_eq!(Chain { rules: 1, mark: Some(vec![1, 2]) }.seen(), None);
    }
}
