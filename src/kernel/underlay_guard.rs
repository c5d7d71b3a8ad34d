//! Keeps strangers on the underlay out of plain networks: VXLAN packets with the VNI of one of them that are from
//! no node of the cluster are dropped and counted before they reach the VXLAN socket. Keeps the node's own users and
//! containers from sending such packets in its name: the kernel's VXLAN devices do, and nobody else. And keeps everybody off the
//! node's address in the mesh but who comes out of the mesh, or is the node itself.
//!
//! One table of nf_tables in the node's own namespace, of the family `inet`. Other tables are not looked at: what
//! ours accepts they may still drop. Its name follows from the run directory, so that two agents have two, and it
//! carries a number that follows from the rules. VNIs and VTEPs are sets in it, and change without the rules.
//!
//! The hook at input sees IPv4 datagrams whole. Of IPv6 it sees fragments: the first one always has the UDP header
//! (RFC 7112), but where it ends before the VNI the datagram is dropped, as nobody cuts VXLAN headers in two.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use lanmesh_ipam::stable_hash;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::filter::{BAND, SENT_BY_US};
use super::links::NODE_LINK;
use super::nft::{
    self, Base, Compare, ETH_P_IP, ETH_P_IPV6, Expression, Family, NF_ACCEPT, NF_DROP, NF_INET_FORWARD,
    NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, bytes, compare, count, device_name,
    fragment_place, is_from_there, is_in, layer_4, masked_with, priority, protocol, user, verdict,
};
use super::raw::{self, attribute, nested, within};
use crate::model::Vni;
use crate::plan::{GuardStep, ObservedUnderlayGuard, UnderlayGuard};

const INET: Family = Family::Inet;
const UDP: u8 = 17;
/// Before whatever else is at the hooks. What is dropped gets no entry in the connection tracking, which confirms it last.
const EARLY: i32 = -300;

/// What keeps strangers out of plain networks.
const VXLAN: &[u8] = b"vxlan\0";
/// What keeps processes of the node from sending into plain networks.
const FORGED: &[u8] = b"vxlan-sent\0";
/// What keeps those from it whose packets the node passes on, perhaps under its own address.
const FORGED_BY_OTHERS: &[u8] = b"vxlan-passed\0";
/// What keeps others off the node's address in the mesh.
const MESH: &[u8] = b"mesh\0";
/// What keeps others from sending as a node in the mesh, also through this node.
const MESH_SENDERS: &[u8] = b"mesh-senders\0";

const VNIS: &[u8] = b"vnis\0";
const VTEPS: &[u8] = b"vteps\0";
const VTEPS6: &[u8] = b"vteps6\0";

/// What was dropped since the rules were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Packets for plain networks that were from no node.
    pub vxlan: u64,
    /// Packets for plain networks that a process of this node sent, or somebody whose packets this node passes on.
    pub forged: u64,
    /// Packets from or for addresses in the mesh that did not come out of it.
    pub mesh: u64,
}

/// A table of nf_tables by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table(String);

impl Table {
    /// That of the agent with this run directory.
    pub fn of(run_dir: &Path) -> Self {
        let hash = stable_hash(run_dir.as_os_str().as_encoded_bytes()) >> 32;
        Self(format!("lanmesh-{hash:08x}"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn attribute(&self, kind: u16) -> Vec<u8> {
        attribute(kind, &[self.0.as_bytes(), b"\0"].concat())
    }

    /// Makes a step in the calling thread's namespace. Blocks. The answer is the kernel's refusal, if any.
    pub fn apply(&self, step: &GuardStep) -> io::Result<Option<Errno>> {
        let changes = match step {
            GuardStep::Put(guard) => return self.put(guard),
            GuardStep::Change { add_vnis, remove_vnis, add_vteps, remove_vteps } => {
                let mut changes = self.elements(nft::NFT_MSG_NEWSETELEM, add_vnis, add_vteps);
                changes.extend(self.elements(nft::NFT_MSG_DELSETELEM, remove_vnis, remove_vteps));
                changes
            }
            GuardStep::Delete => {
                let removal = INET.remove(nft::NFT_MSG_DELTABLE, &self.attribute(1));
                let gone = raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]))?;
                return Ok(gone.filter(|errno| *errno != Errno::ENOENT));
            }
        };
        raw::exchange(NETLINK_NETFILTER, &nft::transaction(changes))
    }

    /// All of it, in the place of what is there. Where the kernel cannot tell by which device a sender is reached, whoever
    /// takes the address of another node may have his packets passed on.
    fn put(&self, guard: &UnderlayGuard) -> io::Result<Option<Errno>> {
        match self.put_with(guard, is_from_there().to_vec())? {
            None => Ok(None),
            Some(_) => self.put_with(guard, Vec::new()),
        }
    }

    fn put_with(&self, guard: &UnderlayGuard, is_from_there: Vec<Expression>) -> io::Result<Option<Errno>> {
        let name = self.attribute(1);
        let mut changes = Vec::new();
        // The type of the keys in the words of nft: a mark of four bytes, addresses.
        for (id, set, kind, length) in [(1, VNIS, 19, 4), (2, VTEPS, 7, 4), (3, VTEPS6, 8, 16)] {
            changes.extend(INET.make_set(&name, set, (kind, length), id, std::iter::empty()));
        }
        changes.extend(self.elements(nft::NFT_MSG_NEWSETELEM, &guard.vnis, &guard.vteps));
        let mut chains = vec![
            (VXLAN, NF_INET_LOCAL_IN, vxlan_rules(guard.port)),
            (FORGED, NF_INET_LOCAL_OUT, sent_rules(guard.port)),
            (FORGED_BY_OTHERS, NF_INET_FORWARD, passed_rules(guard.port, &is_from_there)),
        ];
        if let Some(mesh) = guard.mesh {
            let [a, b, c, d, e, f, ..] = mesh.network().octets();
            let prefix = [a, b, c, d, e, f];
            chains.push((MESH, NF_INET_LOCAL_IN, vec![mesh_rule(DESTINATION, prefix)]));
            chains.push((MESH_SENDERS, NF_INET_PRE_ROUTING, vec![mesh_rule(SOURCE, prefix)]));
        }
        for (chain, hook, rules) in chains {
            let hook = nested(4, &[nft::number(1, hook), attribute(2, &EARLY.to_be_bytes())]);
            let made = [name.clone(), attribute(3, chain), hook, attribute(7, b"filter\0")].concat();
            changes.push(INET.make(nft::NFT_MSG_NEWCHAIN, &made));
            changes.extend(rules.iter().map(|expressions| {
                let rule = [name.clone(), attribute(2, chain), nested(4, expressions)].concat();
                INET.append(nft::NFT_MSG_NEWRULE, &rule)
            }));
        }
        INET.put_table(&name, &guard.fingerprint().to_be_bytes(), changes)
    }

    /// The changes that add these to the sets, or take them away.
    fn elements(&self, change: u16, vnis: &BTreeSet<Vni>, vteps: &BTreeSet<IpAddr>) -> Vec<Vec<u8>> {
        let vnis = vnis.iter().map(|vni| key_of(*vni).to_vec()).collect();
        let (four, six): (Vec<&IpAddr>, Vec<&IpAddr>) = vteps.iter().partition(|vtep| vtep.is_ipv4());
        let mut changes = Vec::new();
        for (set, keys) in [(VNIS, vnis), (VTEPS, octets(four)), (VTEPS6, octets(six))] {
            for list in nft::nested_keys(keys.into_iter()) {
                let message = [self.attribute(1), attribute(2, set), list].concat();
                changes.push(match change {
                    nft::NFT_MSG_DELSETELEM => INET.remove(change, &message),
                    _ => INET.make(change, &message),
                });
            }
        }
        changes
    }

    /// What there is of it in the calling thread's namespace. Blocks.
    pub fn find(&self) -> io::Result<Option<ObservedUnderlayGuard>> {
        let tables = INET.tables()?;
        let Some(table) = tables.iter().find(|message| self.is_of(message, 1)) else { return Ok(None) };
        let number = nft::table_mark(table).and_then(|value| value.first_chunk());
        let vnis = self.keys(VNIS)?;
        let vteps = [self.keys(VTEPS)?, self.keys(VTEPS6)?].concat();
        Ok(Some(ObservedUnderlayGuard {
            // One that we cannot read is wrong, and made anew.
            rules: number.map_or(0, |number| u64::from_be_bytes(*number)),
            vnis: vnis.iter().filter_map(|key| vni_of(key)).collect(),
            vteps: vteps.iter().filter_map(|key| address_of(key)).collect(),
        }))
    }

    /// The keys in a set; none where it is not there.
    fn keys(&self, set: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let asked = [self.attribute(1), attribute(2, set)].concat();
        let question = INET.question(nft::NFT_MSG_GETSETELEM, &asked);
        match raw::dump(NETLINK_NETFILTER, &question, &[nft::answer(nft::NFT_MSG_NEWSETELEM)]) {
            Ok(messages) => Ok(messages.iter().flat_map(|message| parse(message)).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What was dropped since the rules were made. Blocks.
    pub fn refused(&self) -> io::Result<Refused> {
        let rules = raw::dump(
            NETLINK_NETFILTER,
            &INET.question(nft::NFT_MSG_GETRULE, &self.attribute(1)),
            &[nft::answer(nft::NFT_MSG_NEWRULE)],
        )?;
        let mut refused = Refused::default();
        // A kernel that does not look at what was asked for lists those of all tables.
        for message in rules.iter().filter(|message| self.is_of(message, 1)) {
            let count = nft::counted(message).unwrap_or(0);
            match within(message.get(4..).unwrap_or_default(), 2) {
                Some(VXLAN) => refused.vxlan += count,
                Some(FORGED | FORGED_BY_OTHERS) => refused.forged += count,
                Some(MESH | MESH_SENDERS) => refused.mesh += count,
                _ => {}
            }
        }
        Ok(refused)
    }

    /// Whether an attribute of a message behind struct nfgenmsg names this table.
    fn is_of(&self, message: &[u8], kind: u16) -> bool {
        let name = message.get(4..).and_then(|rest| within(rest, kind));
        name.and_then(|name| name.strip_suffix(b"\0")) == Some(self.0.as_bytes())
    }
}

/// A VNI as the VXLAN header has it (RFC 7348 section 5): 24 bits, and 8 that are reserved.
fn key_of(vni: Vni) -> [u8; 4] {
    (u32::from(vni) << 8).to_be_bytes()
}

fn vni_of(key: &[u8]) -> Option<Vni> {
    Vni::try_from(u32::from_be_bytes(*key.first_chunk()?) >> 8).ok()
}

fn octets(addresses: Vec<&IpAddr>) -> Vec<Vec<u8>> {
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    addresses.into_iter().map(octets).collect()
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    match key.len() {
        4 => Some((*key.first_chunk::<4>()?).into()),
        16 => Some((*key.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The keys of the elements in one message, behind struct nfgenmsg.
fn parse(message: &[u8]) -> Vec<Vec<u8>> {
    nft::elements(message).map(|(key, _)| key.to_vec()).collect()
}

/// The header of VXLAN is behind the eight bytes of UDP's; in the middle of it is the VNI.
fn vni() -> Expression {
    bytes(Base::Transport, 12, 4)
}

/// Goes on only with the VNI of one of our plain networks.
fn has_our_vni() -> [Expression; 3] {
    [vni(), masked_with([0xff, 0xff, 0xff, 0]), is_in(VNIS)]
}

fn dropped() -> [Expression; 2] {
    [count(), verdict(NF_DROP)]
}

/// What is not for the port of VXLAN passes.
fn others_pass(port: [u8; 2]) -> [Vec<Expression>; 2] {
    [
        vec![layer_4(), compare(Compare::Unequal, &[UDP]), verdict(NF_ACCEPT)],
        vec![bytes(Base::Transport, 2, 2), compare(Compare::Unequal, &port), verdict(NF_ACCEPT)],
    ]
}

fn is_for(port: [u8; 2]) -> [Expression; 2] {
    [bytes(Base::Transport, 2, 2), compare(Compare::Equal, &port)]
}

/// What is from a VTEP of another node, and passes a further test, passes; of each family.
fn nodes_pass(test: &[Expression]) -> [Vec<Expression>; 2] {
    [(ETH_P_IP, 12, 4, VTEPS), (ETH_P_IPV6, SOURCE, 16, VTEPS6)].map(|(family, offset, length, set)| {
        let mut rule = vec![
            protocol(),
            compare(Compare::Equal, &family),
            bytes(Base::Network, offset, length),
            is_in(set),
        ];
        rule.extend_from_slice(test);
        rule.push(verdict(NF_ACCEPT));
        rule
    })
}

/// The rules for VXLAN that comes in. First what is most: one look at who sent it.
fn vxlan_rules(port: u16) -> Vec<Vec<Expression>> {
    let port = port.to_be_bytes();
    let mut rules = Vec::from(nodes_pass(&[]));
    rules.extend(others_pass(port));
    rules.push([&is_for(port)[..], &has_our_vni(), &dropped()].concat());
    // Who has no VNI does not come so far.
    rules.push([&is_for(port)[..], &[vni(), verdict(NF_ACCEPT)]].concat());
    rules.push([is_for(port), dropped()].concat());
    rules
}

/// The rule for VXLAN that a process of this node sends: from here only the kernel sends into our networks. What a VXLAN
/// device sends has no socket of this namespace with a user, which is the second thing that is looked at; unless the
/// sender is an endpoint on the node itself, whose socket may stay with the packet all the way, and then it has the priority
/// that our devices give.
fn sent_rules(port: u16) -> Vec<Vec<Expression>> {
    let udp = [layer_4(), compare(Compare::Equal, &[UDP]), user()];
    let by_none_of_ours = [
        priority(),
        masked_with((!BAND).to_ne_bytes()),
        compare(Compare::Unequal, &SENT_BY_US.to_ne_bytes()),
    ];
    vec![[&udp[..], &is_for(port.to_be_bytes()), &by_none_of_ours, &has_our_vni(), &dropped()].concat()]
}

/// The rules for VXLAN that this node passes on, perhaps under its own address: another node may be behind it, and it comes
/// from where that is.
fn passed_rules(port: u16, is_from_there: &[Expression]) -> Vec<Vec<Expression>> {
    let port = port.to_be_bytes();
    let mut rules = Vec::from(others_pass(port));
    rules.extend(nodes_pass(is_from_there));
    rules.push([&is_for(port)[..], &has_our_vni(), &dropped()].concat());
    // A first fragment that ends before the VNI: nobody cuts the header of VXLAN in two. The last bit of the place is the
    // flag that more follow (RFC 791 section 3.1, RFC 8200 section 4.5).
    let more = [bytes(Base::Network, 6, 2), masked_with([0x3f, 0xff]), compare(Compare::Unequal, &[0; 2])];
    let four = [protocol(), compare(Compare::Equal, &ETH_P_IP)];
    rules.push([&is_for(port)[..], &[vni(), verdict(NF_ACCEPT)]].concat());
    rules.push([&is_for(port)[..], &four, &more, &dropped()].concat());
    rules.push([&is_for(port)[..], &[fragment_place()], &dropped()].concat());
    rules
}

/// Where the header of IPv6 has the sender's address and the receiver's.
const SOURCE: u32 = 8;
const DESTINATION: u32 = 24;

/// Drops what has the mesh's prefix in the address at `offset` and comes from elsewhere.
fn mesh_rule(offset: u32, prefix: [u8; 6]) -> Vec<Expression> {
    let mut rule = vec![
        protocol(),
        compare(Compare::Equal, &ETH_P_IPV6),
        bytes(Base::Network, offset, 6),
        compare(Compare::Equal, &prefix),
        device_name(),
    ];
    rule.extend([NODE_LINK, "lo"].map(|name| {
        let mut device = [0; 16];
        device.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        compare(Compare::Unequal, &device)
    }));
    rule.extend(dropped());
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_back_as_they_are_written_and_broken_ones_passed_over() {
        let table = Table::of(Path::new("/run/lanmesh"));
        let vnis = [0x80_0001, 0xff_ffff].map(|vni| Vni::try_from(vni).unwrap()).into();
        let vteps = ["192.0.2.1", "2001:db8::1"].map(|vtep| vtep.parse().unwrap()).into();
        let messages = table.elements(nft::NFT_MSG_NEWSETELEM, &vnis, &vteps);
        let keys: Vec<_> = messages.iter().map(|message| parse(&message[raw::HEADER..])).collect();
        assert_eq!(keys[0].iter().filter_map(|key| vni_of(key)).collect::<BTreeSet<_>>(), vnis);
        let found = keys[1..].concat();
        assert_eq!(found.iter().filter_map(|key| address_of(key)).collect::<BTreeSet<_>>(), vteps);
        let message = &messages[2][raw::HEADER..];
        for end in 0..message.len() {
            parse(&message[..end]);
        }
    }

    #[test]
    fn many_elements_go_into_several_messages() {
        let table = Table::of(Path::new("/run/lanmesh"));
        let vteps: BTreeSet<IpAddr> = (0..2500_u32).map(|n| IpAddr::from((n + 1).to_be_bytes())).collect();
        let messages = table.elements(nft::NFT_MSG_NEWSETELEM, &BTreeSet::new(), &vteps);
        let keys: Vec<_> = messages.iter().map(|message| parse(&message[raw::HEADER..]).len()).collect();
        assert_eq!(keys, [1000, 1000, 500]);
    }
}
