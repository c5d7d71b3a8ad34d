//! The manager's decision: who is let in, under which name and index. No I/O.

use super::token::{self, Token};
use super::{MAX_CLOCK_OFFSET, Refusal};
use crate::cluster::ClusterError;
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::ledger::{Admission, Ledger};
use crate::cluster::pki::{self, Authority};
use crate::cluster::store::{StoredAuthority, TakenOver};
use crate::cluster::wire::JoinRequest;
use crate::model::{NodeId, NodeName};

/// How many rotated secrets are recognised.
const REMEMBERED: usize = 16;

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

    /// Replaces the secret.
    pub fn rotate(&mut self) {
        self.rotated.push(token::hashed(&self.secret));
        if self.rotated.len() > REMEMBERED {
            self.rotated.remove(0);
        }
        self.secret = rand::random();
    }

    /// The gossip key after the one of `epoch`. `void`: nobody may use an older one from now on; else those may be
    /// used that may be now, from `floor` on.
    pub fn next_key(&self, (epoch, floor): (u32, u32), void: bool) -> Result<GossipKey, ClusterError> {
        let epoch = epoch.saturating_add(1);
        let floor = if void { epoch } else { floor };
        GossipKey::generate(epoch, floor, |message| self.authority.sign_message(message))
    }

    /// Whether the request may be looked at: its secret and its clock are right.
    pub fn check(&self, request: &JoinRequest, now_ms: u64) -> Result<(), Refusal> {
        if !token::equal(&request.secret, &self.secret) {
            let hash = token::hashed(&request.secret);
            let rotated = self.rotated.contains(&hash);
            return Err(if rotated { Refusal::RotatedToken } else { Refusal::WrongToken });
        }
        if u128::from(request.clock_ms.abs_diff(now_ms)) > MAX_CLOCK_OFFSET.as_millis() {
            return Err(Refusal::ClockOff { theirs_ms: request.clock_ms, ours_ms: now_ms });
        }
        Ok(())
    }
}

/// Under which name and index a node is let in. The place of one that left may be taken; an index of one that was
/// removed only by asking for it.
pub(in crate::cluster) fn place(request: &JoinRequest, ledger: &Ledger) -> Result<Admission, Refusal> {
    if ledger.is_removed(request.node) {
        return Err(Refusal::Removed);
    }
    let others = || ledger.nodes().filter(|other| !ledger.has_left(other.node));
    if let Some(other) = others().find(|other| other.name == request.name) {
        return Err(Refusal::NameTaken { name: other.name.clone() });
    }
    // One socket serves one family.
    if let Some(other) = others().find(|other| other.address.is_ipv4() != request.address.is_ipv4()) {
        return Err(Refusal::Family { theirs: request.address, ours: other.address });
    }
    let index = match request.index {
        Some(index) => match others().find(|other| other.index == index) {
            Some(owner) => return Err(Refusal::IndexTaken { index, owner: owner.name.clone() }),
            None => index,
        },
        None => ledger.free_index(),
    };
    let term = ledger.manager().map_or(0, |(term, _)| term);
    Ok(Admission { node: request.node, name: request.name.clone(), index, address: request.address, term })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ledger::Claim;
    use crate::model::NodeIndex;

    fn request(n: u8, index: Option<u32>) -> JoinRequest {
        JoinRequest {
            secret: [0; 16],
            node: NodeId::from_bytes([n; 16]),
            name: NodeName::new(format!("n{n}")).unwrap(),
            index: index.map(NodeIndex),
            address: ([10, 0, 0, n], 7979).into(),
            csr: Vec::new(),
            clock_ms: 1_000_000,
        }
    }

    fn let_in(ledger: &mut Ledger, n: u8, index: Option<u32>) -> Result<u32, Refusal> {
        let admission = place(&request(n, index), ledger)?;
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
        let other_family = JoinRequest { address: "[fd00::5]:7979".parse().unwrap(), ..request(5, None) };
        let refused = place(&other_family, &ledger).unwrap_err();
        assert!(refused.to_string().contains("one family of addresses"), "{refused}");
    }

    #[test]
    fn the_index_of_a_removed_node_is_given_again_only_on_demand() {
        let mut ledger = Ledger::default();
        let_in(&mut ledger, 1, None).unwrap();
        ledger.merge(Claim::Removed(NodeId::from_bytes([1; 16])));
        assert_eq!(let_in(&mut ledger, 1, None), Err(Refusal::Removed));
        assert_eq!(let_in(&mut ledger, 2, None), Ok(1));
        assert_eq!(let_in(&mut ledger, 3, Some(0)), Ok(0));
    }

    #[test]
    fn only_the_present_token_and_a_clock_within_a_minute_are_good() {
        let mut gate = Gate::new(Authority::generate("test").unwrap());
        let mut ask = request(1, None);
        assert_eq!(gate.check(&ask, ask.clock_ms), Err(Refusal::WrongToken));
        ask.secret = gate.token().secret;
        assert_eq!(gate.check(&ask, ask.clock_ms + 60_000), Ok(()));
        let refused = gate.check(&ask, ask.clock_ms + 61_000).unwrap_err().to_string();
        for part in ["61 s apart", "1970-01-01 00:16:40 UTC", "1970-01-01 00:17:41 UTC"] {
            assert!(refused.contains(part), "{refused}");
        }
        gate.rotate();
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
