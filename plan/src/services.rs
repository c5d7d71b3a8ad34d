//! What sends a client of services to their endpoints: as it should be, as it is, and the steps between. A client is an
//! endpoint of this node; each has its own, in its own network namespace. `kernel` knows how it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use lanmesh_ipam::stable_hash;
use lanmesh_model::PortMap;

/// Where what is sent to one address of a service goes: the same for all clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balance {
    /// The addresses of the endpoints that get new connections, of the family of the service's address.
    pub live: BTreeSet<IpAddr>,
    /// Those of endpoints that get none any more, and keep those that they have.
    pub draining: BTreeSet<IpAddr>,
    /// Ports that are another one at the endpoints.
    pub ports: Vec<PortMap>,
    /// Whether a client is sent to one of them alone.
    pub sticky: bool,
}

/// Where what one client sends to one address of a service goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// One of these, each as often; none: it is refused.
    pub to: BTreeSet<IpAddr>,
    /// Where connections that are there may lead, these included.
    pub keeps: BTreeSet<IpAddr>,
    /// Ports that are another one there.
    pub ports: Vec<PortMap>,
    /// Whether the choice of one among several is kept as long as that one is there.
    pub sticky: bool,
}

/// What there is of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRoute {
    /// The number of its rules ([`Route::fingerprint`]).
    pub rules: u64,
    /// Where it leads, of one that was chosen to be kept.
    pub chosen: Option<IpAddr>,
}

/// What should send a client to the endpoints of the services of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredServices {
    /// The name of its interface in the network; `None` where whoever took that may call it anything.
    pub ifname: Option<String>,
    /// Its own addresses, which a choice that is kept follows from.
    pub client: Vec<IpAddr>,
    /// By the address of a service, shared by all clients in the network.
    pub balances: Arc<BTreeMap<IpAddr, Arc<Balance>>>,
}

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedServices {
    /// The number of what is the same for all its routes ([`interface_rules`]).
    pub rules: u64,
    /// By the address of a service. One that is not whole has the number 0.
    pub routes: BTreeMap<IpAddr, ObservedRoute>,
}

/// A step towards it. Each is made whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceStep {
    /// Puts all of it in the place of whatever is there.
    Make {
        /// The name of the client's interface; `None`: by whichever.
        ifname: Option<String>,
        /// All routes.
        routes: BTreeMap<IpAddr, Route>,
    },
    /// Makes a route, or puts it in the place of the one that is there. Connections that it does not keep end.
    Put(IpAddr, Route),
    /// Removes a route. Connections through it end.
    Remove(IpAddr),
    /// Removes all of it.
    Delete,
}

/// Raised when other rules are made for the same values.
const VERSION: u8 = 1;

/// A number that is another one where what is the same for all routes of a client is.
pub fn interface_rules(ifname: Option<&str>) -> u64 {
    let ifname = ifname.unwrap_or_default();
    stable_hash(format!("{VERSION} {ifname}").as_bytes())
}

impl Route {
    /// A number that is another one where the route is; never 0.
    pub fn fingerprint(&self) -> u64 {
        let Self { to, keeps, ports, sticky } = self;
        let text = format!("{VERSION} {to:?} {keeps:?} {ports:?} {sticky}");
        stable_hash(text.as_bytes()).max(1)
    }

    /// How it looks once it is there.
    pub fn observed(&self) -> ObservedRoute {
        let chosen = self.to.first().filter(|_| self.sticky).copied();
        ObservedRoute { rules: self.fingerprint(), chosen }
    }
}

impl Balance {
    /// The route of a client with these addresses. What was `chosen` before is kept while it gets new connections.
    pub fn route(&self, client: &[IpAddr], chosen: Option<IpAddr>) -> Route {
        let Self { live, draining, ports, sticky } = self;
        let to = match sticky {
            false => live.clone(),
            true => {
                let kept = chosen.filter(|address| live.contains(address));
                kept.or_else(|| nearest(client, live)).into_iter().collect()
            }
        };
        // Also of a sticky one all live ones are kept: before it was that, connections led to any of them.
        let keeps = live.union(draining).copied().collect();
        Route { to, keeps, ports: ports.clone(), sticky: *sticky }
    }
}

/// The endpoint that a client is sent to: the one with the highest hash together with it (rendezvous hashing), so that of
/// many clients as many go to each, and those of one that goes are all that move.
fn nearest(client: &[IpAddr], live: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let weight = |address: &IpAddr| stable_hash(format!("{client:?} {address}").as_bytes());
    live.iter().copied().max_by_key(|address| (weight(address), *address))
}

impl DesiredServices {
    /// The step to a route as it should be, where what is there is `have`; `None` if it is so already.
    pub fn step(&self, address: IpAddr, have: Option<&ObservedRoute>) -> Option<ServiceStep> {
        let Some(balance) = self.balances.get(&address) else {
            return have.map(|_| ServiceStep::Remove(address));
        };
        let route = balance.route(&self.client, have.and_then(|have| have.chosen));
        (have != Some(&route.observed())).then_some(ServiceStep::Put(address, route))
    }

    fn make(&self, have: Option<&ObservedServices>) -> ServiceStep {
        let chosen = |address: &IpAddr| have?.routes.get(address)?.chosen;
        let route = |(address, balance): (&IpAddr, &Arc<Balance>)| {
            (*address, balance.route(&self.client, chosen(address)))
        };
        let routes = self.balances.iter().map(route).collect();
        ServiceStep::Make { ifname: self.ifname.clone(), routes }
    }
}

/// The steps that make `have` into `want`; none if it is so already. Nothing is wanted where there is no service.
pub fn plan_services(want: Option<&DesiredServices>, have: Option<&ObservedServices>) -> Vec<ServiceStep> {
    let want = want.filter(|want| !want.balances.is_empty());
    let (want, have) = match (want, have) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![ServiceStep::Delete],
        (Some(want), None) => return vec![want.make(None)],
        (Some(want), Some(have)) => (want, have),
    };
    if have.rules != interface_rules(want.ifname.as_deref()) {
        return vec![want.make(Some(have))];
    }
    let addresses: BTreeSet<IpAddr> = want.balances.keys().chain(have.routes.keys()).copied().collect();
    addresses.into_iter().filter_map(|address| want.step(address, have.routes.get(&address))).collect()
}

impl ServiceStep {
    /// Does with what is there what a kernel does.
    pub fn carry_out(&self, have: &mut Option<ObservedServices>) {
        match self {
            Self::Make { ifname, routes } => {
                let routes = routes.iter().map(|(address, route)| (*address, route.observed())).collect();
                *have = Some(ObservedServices { rules: interface_rules(ifname.as_deref()), routes });
            }
            Self::Put(address, route) => {
                if let Some(have) = have {
                    have.routes.insert(*address, route.observed());
                }
            }
            Self::Remove(address) => {
                if let Some(have) = have {
                    have.routes.remove(address);
                }
            }
            Self::Delete => *have = None,
        }
    }
}

impl fmt::Display for ServiceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make { ifname, routes } => {
                let ifname = ifname.as_deref().unwrap_or("any interface");
                write!(f, "services make {} routes from {ifname}", routes.len())
            }
            Self::Put(address, Route { to, keeps, ports, sticky }) => {
                write!(f, "services put route {address} to")?;
                if to.is_empty() {
                    f.write_str(" nobody")?;
                }
                to.iter().try_for_each(|to| write!(f, " {to}"))?;
                keeps.difference(to).try_for_each(|kept| write!(f, " keep {kept}"))?;
                ports.iter().try_for_each(|map| write!(f, " port {map}"))?;
                if *sticky { f.write_str(" sticky") } else { Ok(()) }
            }
            Self::Remove(address) => write!(f, "services remove route {address}"),
            Self::Delete => f.write_str("services delete routes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn balance() -> impl Strategy<Value = Arc<Balance>> {
        let some = || prop::collection::btree_set((1_u8..9).prop_map(address), 0..5);
        let port = (1_u16..4, 1_u16..4).prop_map(|(port, to)| PortMap { port, to });
        let ports = prop::collection::vec(port, 0..2);
        (some(), some(), ports, any::<bool>())
            .prop_map(|(live, draining, ports, sticky)| Arc::new(Balance { live, draining, ports, sticky }))
    }

    fn desired() -> impl Strategy<Value = Option<DesiredServices>> {
        let balances = prop::collection::btree_map((200_u8..206).prop_map(address), balance(), 0..4);
        let some = (balances, prop::option::of("eth[01]"), 1_u8..4).prop_map(|(balances, ifname, client)| {
            DesiredServices { ifname, client: vec![address(client)], balances: Arc::new(balances) }
        });
        prop::option::of(some)
    }

    fn brought_about(want: Option<&DesiredServices>, have: &mut Option<ObservedServices>) -> usize {
        let steps = plan_services(want, have.as_ref());
        steps.iter().for_each(|step| step.carry_out(have));
        steps.len()
    }

    proptest! {
        #[test]
        fn from_any_state_to_any_other_the_steps_lead_there_and_then_none_are_left(
            states in prop::collection::vec(desired(), 1..5)
        ) {
            let mut have = None;
            for want in &states {
                brought_about(want.as_ref(), &mut have);
                prop_assert_eq!(plan_services(want.as_ref(), have.as_ref()), Vec::new());
            }
        }

        #[test]
        fn what_is_not_whole_or_is_too_much_is_mended_alone(
            want in desired(), at in 0_usize..4, other in 210_u8..212
        ) {
            let mut have = None;
            brought_about(want.as_ref(), &mut have);
            let Some(there) = have.as_mut().filter(|there| !there.routes.is_empty()) else { return Ok(()) };
            let broken = *there.routes.keys().nth(at % there.routes.len()).unwrap();
            there.routes.get_mut(&broken).unwrap().rules = 0;
            there.routes.insert(address(other), ObservedRoute { rules: 1, chosen: None });
            prop_assert_eq!(brought_about(want.as_ref(), &mut have), 2);
            prop_assert_eq!(plan_services(want.as_ref(), have.as_ref()), Vec::new());
        }

        #[test]
        fn a_client_that_is_kept_moves_only_when_its_endpoint_gets_no_more(
            before in balance(), after in balance(), client in 1_u8..9
        ) {
            let sticky = |one: &Balance| Balance { sticky: true, ..one.clone() };
            let client = [address(client)];
            let first = sticky(&before).route(&client, None);
            prop_assert_eq!(first.to.len(), before.live.len().min(1));
            let chosen = first.observed().chosen;
            let then = sticky(&after).route(&client, chosen);
            match chosen.filter(|chosen| after.live.contains(chosen)) {
                Some(kept) => prop_assert_eq!(then.to, BTreeSet::from([kept])),
                None => prop_assert_eq!(then, sticky(&after).route(&client, None)),
            }
        }
    }

    #[test]
    fn kept_clients_are_spread_over_all() {
        let live: BTreeSet<IpAddr> = (1..=10).map(address).collect();
        let balance = Balance { live, sticky: true, ..Balance::default() };
        let mut counts: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for n in 0..1000_u16 {
            let [high, low] = n.to_be_bytes();
            let route = balance.route(&[[10, 1, high, low].into()], None);
            *counts.entry(*route.to.first().unwrap()).or_default() += 1;
        }
        // Chi-square with nine degrees of freedom: 27.9 is exceeded once in a thousand.
        let chi: f64 = counts.values().map(|n| (f64::from(*n) - 100.0).powi(2) / 100.0).sum();
        assert!(counts.len() == 10 && chi < 27.9, "{chi} {counts:?}");
    }

    #[test]
    fn a_step_reads_as_a_line() {
        let balance = Balance {
            live: [address(1), address(2)].into(),
            draining: [address(3)].into(),
            ports: vec![PortMap { port: 80, to: 8080 }],
            sticky: false,
        };
        assert_eq!(
            ServiceStep::Put(address(200), balance.route(&[], None)).to_string(),
            "services put route 10.0.0.200 to 10.0.0.1 10.0.0.2 keep 10.0.0.3 port 80:8080"
        );
        let nobody = Balance::default().route(&[], None);
        assert_eq!(
            ServiceStep::Put(address(200), nobody).to_string(),
            "services put route 10.0.0.200 to nobody"
        );
    }
}
