//! The manager's decision: who is let in, under which name and index. No I/O.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::Refusal;
use super::token::{self, Token};
use crate::cluster::ClusterError;
use crate::cluster::authority::{StoredAuthority, TakenOver};
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::ledger::{Admission, Ledger};
use crate::cluster::pki::{self, Authority};
use crate::cluster::timing::MAX_CLOCK_OFFSET;
use crate::cluster::wire::JoinRequest;
use crate::model::{NodeId, NodeIndex, NodeName};

/// The largest index of a node. No plan of addresses has room for more.
pub(in crate::cluster) const MAX_INDEX: NodeIndex = NodeIndex(65_535);
/// How many rotated secrets are recognised.
const REMEMBERED: usize = 16;

/// A node that wants in, whose secret and clock are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Candidate {
    /// Under which name.
    pub name: NodeName,
    /// The index it wants.
    pub index: Option<NodeIndex>,
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
}

/// What decides, beside the ledger, which index a node gets.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Indexes {
    /// Those of whose blocks something is lent.
    pub lent: Vec<RangeInclusive<u32>>,
    /// The nodes that are gone of which no node knows anything any more, and of whose blocks is known what is lent.
    pub forgotten: BTreeSet<NodeId>,
}

/// What makes a node the manager: the CA, the secret of the token, and those that were rotated out.
pub(in crate::cluster) struct Gate {
    authority: Authority,
    secret: [u8; 16],
    rotated: Vec<[u8; 32]>,
    taken_over: Option<TakenOver>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

impl Gate {
    /// With a new secret.
    pub fn new(authority: Authority) -> Self {
        Self { authority, secret: rand::random(), rotated: Vec::new(), taken_over: None }
    }

    /// Of a node that takes the role over: with a new CA, which gives this node, whose key (PKCS #8) is given, a
    /// certificate too.
    pub fn take_over(node: NodeId, name: &NodeName, key: &[u8]) -> Result<Self, ClusterError> {
        let authority = Authority::generate(&format!("{name} {}", node.short()))?;
        let certificate = authority.sign(node, &pki::request(key)?)?;
        let taken_over = Some(TakenOver { ca: authority.certificate().to_vec(), certificate });
        let mut gate = Self::new(authority);
        gate.taken_over = taken_over;
        Ok(gate)
    }

    /// As it was stored; `ca` is the one that this node's own certificate is from.
    pub fn restore(ca: Vec<u8>, mut stored: StoredAuthority) -> Result<Self, ClusterError> {
        let taken_over = stored.taken_over.take();
        let ca = taken_over.as_ref().map_or(ca, |taken_over| taken_over.ca.clone());
        let authority = Authority::restore(ca, &stored.key)?;
        Ok(Self { authority, secret: stored.secret, rotated: stored.rotated, taken_over })
    }

    /// To be stored.
    pub fn to_store(&self) -> StoredAuthority {
        StoredAuthority {
            key: self.authority.key(),
            secret: self.secret,
            rotated: self.rotated.clone(),
            taken_over: self.taken_over.clone(),
        }
    }

    /// The CA's certificate and this node's by it, both in DER, where that is not the one it came into the cluster
    /// with.
    pub fn chain(&self) -> Option<&TakenOver> {
        self.taken_over.as_ref()
    }

    /// The CA.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The token.
    pub fn token(&self) -> Token {
        Token { fingerprint: pki::fingerprint(self.authority.certificate()), secret: self.secret }
    }

    /// What it would be with a new secret; the old one is among those that were rotated out.
    pub fn with_new_secret(&self) -> StoredAuthority {
        let mut next = self.to_store();
        next.rotated.push(token::hashed(&next.secret));
        if next.rotated.len() > REMEMBERED {
            next.rotated.remove(0);
        }
        next.secret = rand::random();
        next
    }

    /// Takes the secrets of [`Gate::with_new_secret`], which are kept by now.
    pub fn rotate(&mut self, next: &StoredAuthority) {
        self.secret = next.secret;
        self.rotated.clone_from(&next.rotated);
    }

    /// The gossip key after the one of `epoch`. `void`: nobody may use an older one from now on; else those may be
    /// used that may be now, from `floor` on.
    pub fn next_key(&self, (epoch, floor): (u32, u32), void: bool) -> Result<GossipKey, ClusterError> {
        let epoch = epoch.saturating_add(1);
        let floor = if void { epoch } else { floor };
        GossipKey::generate(epoch, floor, |message| self.authority.sign_message(message))
    }

    /// Whether the request may be looked at: its secret and its clock are right, and what it asks for makes sense.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, request: &JoinRequest, now_ms: u64) -> Result<Candidate, Refusal> {
        if !token::equal(&request.secret, &self.secret) {
            let hash = token::hashed(&request.secret);
            let rotated = self.rotated.contains(&hash);
            return Err(if rotated { Refusal::RotatedToken } else { Refusal::WrongToken });
        }
        if u128::from(request.clock_ms.abs_diff(now_ms)) > MAX_CLOCK_OFFSET.as_millis() {
            return Err(Refusal::ClockOff { theirs_ms: request.clock_ms, ours_ms: now_ms });
        }
        let bad_name = |_| Refusal::BadName(request.name.chars().take(80).collect());
        let key = pki::key_of_request(&request.csr).map_err(|error| Refusal::Failed(error.to_string()))?;
        let index = request.index.map(NodeIndex);
        if let Some(index) = index.filter(|index| *index > MAX_INDEX) {
            return Err(Refusal::IndexTooLarge { index, max: MAX_INDEX });
        }
        let address = request.address;
        if let Some(why) = unreachable(address) {
            return Err(Refusal::Address { address, why: why.to_owned() });
        }
        Ok(Candidate { name: NodeName::new(request.name.clone()).map_err(bad_name)?, index, address, key })
    }
}

/// Why nobody can send to one node at an address; `None`: one may.
fn unreachable(address: SocketAddr) -> Option<&'static str> {
    let ip = address.ip();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    [
        (address.port() == 0, "its port is 0"),
        (ip.is_unspecified(), "it means every address"),
        (ip.is_multicast() || broadcast, "it means many hosts"),
        (link_local, "it is good on one link only"),
        (ip.to_canonical() != ip, "it is an IPv4 address in the form of an IPv6 one"),
    ]
    .into_iter()
    .find(|(wrong, _)| *wrong)
    .map(|(_, why)| why)
}

/// Under which id, name and index a node is let in. The id is drawn here, so that nobody comes in as somebody else.
///
/// # Errors
/// Why it is not.
pub(in crate::cluster) fn place(
    candidate: &Candidate,
    ledger: &Ledger,
    indexes: &Indexes,
) -> Result<Admission, Refusal> {
    place_as(candidate, ledger, indexes, NodeId::random())
}

/// The same with an id that was drawn for it. The place of one that left may be taken; an index of one that is gone
/// by asking for it, and where all have forgotten that node without. No node gets an index of whose block something is lent. Whoever was let in with this key and this name already did not hear of it, and is told again.
///
/// # Errors
/// Why it is not let in.
pub(in crate::cluster) fn place_as(
    candidate: &Candidate,
    ledger: &Ledger,
    indexes: &Indexes,
    node: NodeId,
) -> Result<Admission, Refusal> {
    let Candidate { name, index, address, key } = candidate;
    let others = || ledger.nodes().filter(|other| !ledger.has_left(other.node));
    let again = |other: &&Admission| other.key == Some(*key) && other.name == *name;
    if let Some(again) = others().find(again).filter(|again| index.is_none_or(|index| index == again.index)) {
        return Ok(again.clone());
    }
    // Ever, not only now: what was said of a node that is gone is not said of this one.
    if ledger.admission(node).is_some() || ledger.admissions().any(|other| other.key == Some(*key)) {
        return Err(Refusal::Failed("its id or its key was another node's: try again".to_owned()));
    }
    if let Some(other) = others().find(|other| is_one_name(&other.name, name)) {
        return Err(Refusal::NameTaken { name: other.name.clone() });
    }
    if let Some(other) = others().find(|other| other.address == *address) {
        return Err(Refusal::Address { address: *address, why: format!("{} has it", other.name) });
    }
    // One socket serves one family.
    if let Some(other) = others().find(|other| other.address.is_ipv4() != address.is_ipv4()) {
        return Err(Refusal::Family { theirs: *address, ours: other.address });
    }
    let is_lent = |index: NodeIndex| indexes.lent.iter().any(|blocks| blocks.contains(&index.0));
    let index = match *index {
        Some(index) => match others().find(|other| other.index == index) {
            Some(owner) => return Err(Refusal::IndexTaken { index, owner: owner.name.clone() }),
            None if is_lent(index) => return Err(Refusal::IndexLent { index }),
            None => index,
        },
        None => ledger.free_index(&indexes.forgotten, is_lent),
    };
    let term = ledger.manager().map_or(0, |(term, _)| term);
    Ok(Admission { term, node, name: name.clone(), index, address: *address, key: Some(*key) })
}

/// Whether two names are one in DNS, which does not tell upper from lower case (RFC 4343).
fn is_one_name(a: &NodeName, b: &NodeName) -> bool {
    a.as_str().eq_ignore_ascii_case(b.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ledger::Claim;

    fn request(n: u8, csr: Vec<u8>) -> JoinRequest {
        JoinRequest {
            secret: [0; 16],
            name: format!("n{n}"),
            index: None,
            address: ([10, 0, 0, n], 7979).into(),
            csr,
            clock_ms: 1_000_000,
        }
    }

    fn candidate(n: u8, index: Option<u32>) -> Candidate {
        Candidate {
            name: NodeName::new(format!("n{n}")).unwrap(),
            index: index.map(NodeIndex),
            address: ([10, 0, 0, n], 7979).into(),
            key: rand::random(),
        }
    }

    fn let_in(ledger: &mut Ledger, n: u8, index: Option<u32>) -> Result<u32, Refusal> {
        let admission = place(&candidate(n, index), ledger, &Indexes::default())?;
        let index = admission.index.0;
        ledger.merge(Claim::Admitted(admission));
        Ok(index)
    }

    #[test]
    fn indexes_count_up_and_a_taken_one_or_a_taken_name_is_refused_by_its_owners_name() {
        let mut ledger = Ledger::default();
        assert_eq!(let_in(&mut ledger, 1, None), Ok(0));
        assert_eq!(let_in(&mut ledger, 2, Some(5)), Ok(5));
        assert_eq!(let_in(&mut ledger, 3, None), Ok(1));
        let refused = let_in(&mut ledger, 4, Some(5)).unwrap_err();
        assert!(refused.to_string().contains("index 5 belongs to n2"), "{refused}");
        let refused = let_in(&mut ledger, 2, None).unwrap_err();
        assert!(refused.to_string().contains("a node named n2 exists"), "{refused}");
        let other_family = Candidate { address: "[fd00::5]:7979".parse().unwrap(), ..candidate(5, None) };
        let refused = place(&other_family, &ledger, &Indexes::default()).unwrap_err();
        assert!(refused.to_string().contains("one family of addresses"), "{refused}");
    }

    #[test]
    fn the_index_of_a_removed_node_is_given_again_on_demand_and_once_all_have_forgotten_it() {
        let mut ledger = Ledger::default();
        let_in(&mut ledger, 1, None).unwrap();
        let first = ledger.nodes().next().unwrap().node;
        ledger.merge(Claim::Removed(first));
        assert_eq!(let_in(&mut ledger, 2, None), Ok(1));
        let forgotten = Indexes { forgotten: [first].into(), ..Indexes::default() };
        let given = |ledger: &Ledger| place(&candidate(4, None), ledger, &forgotten).unwrap().index.0;
        assert_eq!(given(&ledger), 0);
        assert_eq!(let_in(&mut ledger, 3, Some(0)), Ok(0));
        assert_eq!(given(&ledger), 2, "it is another node's by now");
    }

    #[test]
    fn an_index_of_whose_block_something_is_lent_is_given_to_nobody() {
        let mut ledger = Ledger::default();
        let_in(&mut ledger, 1, None).unwrap();
        let indexes = Indexes { lent: vec![1..=1, 3..=4], ..Indexes::default() };
        let place =
            |n, index| place(&candidate(n, index), &ledger, &indexes).map(|admission| admission.index.0);
        assert_eq!(place(2, None), Ok(2));
        assert_eq!(place(2, Some(5)), Ok(5));
        let refused = place(2, Some(4)).unwrap_err();
        assert!(
            refused.to_string().contains("index 4") && refused.to_string().contains("--index"),
            "{refused}"
        );
    }

    #[test]
    fn nobody_is_let_in_under_an_id_that_was_ever_given_nor_with_a_key_that_was() {
        let mut ledger = Ledger::default();
        let first = place(&candidate(1, None), &ledger, &Indexes::default()).unwrap();
        ledger.merge(Claim::Admitted(first.clone()));
        for gone in [Claim::Left(first.node), Claim::Removed(first.node)] {
            let refused =
                place_as(&candidate(2, None), &ledger, &Indexes::default(), first.node).unwrap_err();
            assert!(matches!(refused, Refusal::Failed(_)), "{refused}");
            let same_key = Candidate { key: first.key.unwrap(), ..candidate(2, None) };
            assert!(matches!(place(&same_key, &ledger, &Indexes::default()), Err(Refusal::Failed(_))));
            ledger.merge(gone);
        }
        assert_ne!(place(&candidate(2, None), &ledger, &Indexes::default()).unwrap().node, first.node);
    }

    #[test]
    fn a_join_whose_answer_was_lost_is_taken_up_again_by_its_own_node_alone() {
        let mut ledger = Ledger::default();
        let asks = candidate(1, None);
        let first = place(&asks, &ledger, &Indexes::default()).unwrap();
        ledger.merge(Claim::Admitted(first.clone()));
        assert_eq!(place(&asks, &ledger, &Indexes::default()), Ok(first.clone()));
        let elsewhere = Candidate { address: ([10, 0, 0, 99], 7979).into(), ..asks.clone() };
        assert_eq!(place(&elsewhere, &ledger, &Indexes::default()), Ok(first.clone()));
        let other = Candidate { key: [9; 32], ..asks.clone() };
        assert_eq!(
            place(&other, &ledger, &Indexes::default()),
            Err(Refusal::NameTaken { name: first.name.clone() })
        );
        let shouted = Candidate { name: "N1".parse().unwrap(), ..other };
        assert_eq!(
            place(&shouted, &ledger, &Indexes::default()),
            Err(Refusal::NameTaken { name: first.name })
        );
    }

    #[test]
    fn what_a_node_asks_for_that_cannot_be_is_refused_with_what_to_change() {
        let gate = Gate::new(Authority::generate("test").unwrap());
        let (_, csr) = pki::new_key().unwrap();
        let ask = JoinRequest { secret: gate.token().secret, ..request(1, csr) };
        let refused = |ask: &JoinRequest| gate.check(ask, ask.clock_ms).unwrap_err().to_string();
        for address in ["224.0.0.1:7979", "0.0.0.0:7979", "10.0.0.1:0", "255.255.255.255:1", "[fe80::1]:7979"]
        {
            let text = refused(&JoinRequest { address: address.parse().unwrap(), ..ask.clone() });
            assert!(text.contains(address) && text.contains("--advertise"), "{text}");
        }
        let text = refused(&JoinRequest { index: Some(99_999_999), ..ask.clone() });
        assert!(text.contains("99999999") && text.contains("--index"), "{text}");
        let text = refused(&JoinRequest { name: "a b\n".into(), ..ask.clone() });
        assert!(text.contains("--name"), "{text}");
        refused(&JoinRequest { csr: b"none".to_vec(), ..ask });
    }

    #[test]
    fn only_the_present_token_and_a_clock_within_a_minute_are_good() {
        let mut gate = Gate::new(Authority::generate("test").unwrap());
        let (_, csr) = pki::new_key().unwrap();
        let mut ask = request(1, csr);
        assert_eq!(gate.check(&ask, ask.clock_ms), Err(Refusal::WrongToken));
        ask.secret = gate.token().secret;
        assert!(gate.check(&ask, ask.clock_ms + 60_000).is_ok());
        let refused = gate.check(&ask, ask.clock_ms + 61_000).unwrap_err().to_string();
        for part in ["61 s apart", "1970-01-01T00:16:40.000Z", "1970-01-01T00:17:41.000Z"] {
            assert!(refused.contains(part), "{refused}");
        }
        let shown = gate.token().to_string();
        let next = gate.with_new_secret();
        assert_eq!(gate.token().to_string(), shown, "nothing is changed before it is kept");
        gate.rotate(&next);
        assert_eq!(gate.check(&ask, ask.clock_ms), Err(Refusal::RotatedToken));
        let restored = Gate::restore(gate.authority().certificate().to_vec(), gate.to_store()).unwrap();
        assert!(restored.token() == gate.token());
        let (node, (key, _)) = (NodeId::from_bytes([1; 16]), pki::new_key().unwrap());
        let other = Gate::take_over(node, &NodeName::new("n1").unwrap(), &key).unwrap();
        let certificate = gate.authority().certificate().to_vec();
        let again = Gate::restore(certificate.clone(), other.to_store()).unwrap();
        assert!(again.token() == other.token() && other.token().fingerprint != gate.token().fingerprint);
        assert_eq!(other.chain().and_then(|chain| pki::node_of(&chain.certificate)), Some(node));
        assert_eq!(restored.check(&ask, ask.clock_ms), Err(Refusal::RotatedToken));
    }
}
