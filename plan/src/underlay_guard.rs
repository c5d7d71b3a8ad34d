//! What keeps strangers on the underlay out of a node's plain networks, and everybody there off its address in the
//! mesh: as it should be, as it is, and the step between. `kernel` knows how it is done.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::Ipv6Network;
use lanmesh_ipam::stable_hash;
use lanmesh_model::Vni;

/// Who may put packets into what of this node from the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderlayGuard {
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The plain networks on this node. VXLAN with other VNIs on the port is somebody else's, and passes.
    pub vnis: BTreeSet<Vni>,
    /// Where VXLAN packets of these networks may come from: the VTEPs of the other nodes.
    pub vteps: BTreeSet<IpAddr>,
    /// The prefix of the mesh, of 48 bits, if this node is in it: what is from or for an address in there and does not
    /// come out of the mesh is dropped.
    pub mesh: Option<Ipv6Network>,
}

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedUnderlayGuard {
    /// The number of its rules ([`UnderlayGuard::fingerprint`]).
    pub rules: u64,
    /// The VNIs that it looks at.
    pub vnis: BTreeSet<Vni>,
    /// The addresses that it lets through.
    pub vteps: BTreeSet<IpAddr>,
}

/// A step towards an [`UnderlayGuard`]. Each is made whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardStep {
    /// Puts it in the place of whatever is there.
    Put(UnderlayGuard),
    /// Changes what it looks at and whom it lets through; what was counted stays.
    Change {
        /// VNIs that are new.
        add_vnis: BTreeSet<Vni>,
        /// VNIs that are no more.
        remove_vnis: BTreeSet<Vni>,
        /// VTEPs that are new.
        add_vteps: BTreeSet<IpAddr>,
        /// VTEPs that are no more.
        remove_vteps: BTreeSet<IpAddr>,
    },
    /// Removes it.
    Delete,
}

impl UnderlayGuard {
    /// Raised when other rules are made for the same values.
    const VERSION: u8 = 3;

    /// A number that is another one where the rules are; the VNIs and VTEPs are in sets, and change without them.
    pub fn fingerprint(&self) -> u64 {
        let Self { port, vnis: _, vteps: _, mesh } = self;
        let mesh = mesh.map_or_else(String::new, |mesh| mesh.to_string());
        stable_hash(format!("{} {port} {mesh}", Self::VERSION).as_bytes())
    }

    /// How it looks once it is there.
    pub fn observed(&self) -> ObservedUnderlayGuard {
        ObservedUnderlayGuard {
            rules: self.fingerprint(),
            vnis: self.vnis.clone(),
            vteps: self.vteps.clone(),
        }
    }
}

/// The step that makes `have` into `want`; `None` if it is so already.
pub fn plan_underlay_guard(
    want: Option<&UnderlayGuard>,
    have: Option<&ObservedUnderlayGuard>,
) -> Option<GuardStep> {
    let (want, have) = match (want, have) {
        (None, None) => return None,
        (None, Some(_)) => return Some(GuardStep::Delete),
        (Some(want), None) => return Some(GuardStep::Put(want.clone())),
        (Some(want), Some(have)) => (want, have),
    };
    if want.fingerprint() != have.rules {
        return Some(GuardStep::Put(want.clone()));
    }
    if want.vnis == have.vnis && want.vteps == have.vteps {
        return None;
    }
    Some(GuardStep::Change {
        add_vnis: &want.vnis - &have.vnis,
        remove_vnis: &have.vnis - &want.vnis,
        add_vteps: &want.vteps - &have.vteps,
        remove_vteps: &have.vteps - &want.vteps,
    })
}

impl fmt::Display for GuardStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("underlay ")?;
        match self {
            Self::Put(UnderlayGuard { port, vnis, vteps, mesh }) => {
                write!(f, "put guard: port {port}")?;
                each(f, "vni", vnis)?;
                each(f, "from", vteps)?;
                mesh.map_or(Ok(()), |mesh| write!(f, " mesh {mesh}"))
            }
            Self::Change { add_vnis, remove_vnis, add_vteps, remove_vteps } => {
                f.write_str("change guard:")?;
                each(f, "add vni", add_vnis)?;
                each(f, "add", add_vteps)?;
                each(f, "remove vni", remove_vnis)?;
                each(f, "remove", remove_vteps)
            }
            Self::Delete => f.write_str("delete guard"),
        }
    }
}

fn each<T: fmt::Display>(f: &mut fmt::Formatter<'_>, what: &str, values: &BTreeSet<T>) -> fmt::Result {
    values.iter().try_for_each(|value| write!(f, " {what} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(vnis: &[u32], vteps: &[&str]) -> UnderlayGuard {
        UnderlayGuard {
            port: 4789,
            vnis: vnis.iter().map(|vni| Vni::try_from(0x80_0000 + vni).unwrap()).collect(),
            vteps: vteps.iter().map(|vtep| vtep.parse().unwrap()).collect(),
            mesh: None,
        }
    }

    #[test]
    fn it_is_made_once_changed_by_the_difference_and_removed() {
        let one = guard(&[1, 2], &["192.0.2.1", "192.0.2.2"]);
        assert_eq!(plan_underlay_guard(None, None), None);
        assert_eq!(plan_underlay_guard(Some(&one), None), Some(GuardStep::Put(one.clone())));
        assert_eq!(plan_underlay_guard(Some(&one), Some(&one.observed())), None);
        assert_eq!(plan_underlay_guard(None, Some(&one.observed())), Some(GuardStep::Delete));
        let two = guard(&[2, 3], &["192.0.2.2", "2001:db8::3"]);
        let step = plan_underlay_guard(Some(&two), Some(&one.observed())).unwrap();
        assert_eq!(
            step.to_string(),
            "underlay change guard: add vni 8388611 add 2001:db8::3 remove vni 8388609 remove 192.0.2.1"
        );
    }

    #[test]
    fn other_rules_take_the_place_of_those_that_are_there() {
        let one = guard(&[1], &["192.0.2.1"]);
        let meshed = UnderlayGuard { mesh: Some("fd01:203:405::/48".parse().unwrap()), ..one.clone() };
        let moved = UnderlayGuard { port: 8472, ..one.clone() };
        for other in [meshed, moved] {
            let step = plan_underlay_guard(Some(&other), Some(&one.observed()));
            assert_eq!(step, Some(GuardStep::Put(other)));
        }
    }
}
