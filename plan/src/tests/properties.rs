//! From any state to any other, over small domains so that everything collides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;
use proptest::{option, sample};

use super::super::{
    Action, Desired, DesiredNetwork, DesiredPort, Observed, ObservedBridge, ObservedGuard, ObservedNetwork,
    ObservedPort, ObservedVxlan, PortName, plan, plan_groups,
};
use super::execute;
use lanmesh_model::{Also, EndpointName, Group, Mac, MulticastMode, NetworkId, Placement, Vni};

fn id() -> impl Strategy<Value = NetworkId> {
    (1..4_u8).prop_map(|n| NetworkId::from_bytes([n; 8]))
}

fn mac() -> impl Strategy<Value = Mac> {
    (1..4_u8).prop_map(|n| Mac([2, 0, 0, 0, 0, n]))
}

fn vtep() -> impl Strategy<Value = IpAddr> {
    sample::select(["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|a| a.parse().expect("an address")).to_vec())
}

fn gateway() -> impl Strategy<Value = IpNetwork> {
    sample::select(
        ["10.0.0.1/24", "10.0.0.1/25", "fd00::1/64"].map(|g| g.parse().expect("a network")).to_vec(),
    )
}

fn endpoint() -> impl Strategy<Value = EndpointName> {
    sample::select(["a", "b", "c"].map(|n| n.parse().expect("a name")).to_vec())
}

fn mtu() -> impl Strategy<Value = u32> {
    sample::select(vec![1400, 1450])
}

fn group() -> impl Strategy<Value = Group> {
    sample::select(["239.1.1.1", "239.1.1.2", "ff02::fb"].map(|g| g.parse().expect("a group")).to_vec())
        .prop_map(Group::any_source)
}

fn multicast() -> impl Strategy<Value = MulticastMode> {
    sample::select(vec![MulticastMode::Snoop, MulticastMode::Flood, MulticastMode::Off])
}

prop_compose! {
    fn desired_port()(
        name in endpoint(), mac in mac(), mtu in mtu(), addresses in btree_set(gateway(), 0..3), guarded in any::<bool>(),
        also in btree_set(vtep(), 0..2), routes in any::<bool>(),
    ) -> (EndpointName, DesiredPort) {
        let addresses = addresses.into_iter().collect();
        let port = DesiredPort {
            name: name.clone(), placement: Placement::Host, ifname: "eth0".to_owned(), mac, addresses, mtu,
            guarded, also: Also { addresses: also, routes, ..Also::default() }, gateways: Vec::new(),
        };
        (name, port)
    }
}

prop_compose! {
    fn desired_network()(
        id in id(), local in vtep(), mtu in mtu(), mac in mac(), probe in mac(), gateways in btree_set(gateway(), 0..3),
        multicast in multicast(), broadcast in any::<bool>(), mdns in any::<bool>(), remotes in btree_map(mac(), vtep(), 0..4),
        neighbours in btree_map(vtep(), mac(), 0..4), flood in btree_set(vtep(), 0..3),
        groups in btree_map(group(), btree_set(vtep(), 0..3), 0..3),
        ports in proptest::collection::vec(desired_port(), 0..3),
    ) -> DesiredNetwork {
        DesiredNetwork {
            id, name: "net".to_owned(), vni: Vni::try_from(0x80_0000).expect("a VNI"), port: 4789, local,
            encrypted: false, mtu, mac, probe, gateways: gateways.into_iter().collect(),
            multicast, broadcast, mdns, remotes, neighbours, flood, groups, ports: ports.into_iter().collect(),
        }
    }
}

fn desired() -> impl Strategy<Value = Desired> {
    proptest::collection::vec(desired_network(), 0..3).prop_map(|networks| Desired {
        networks: networks.into_iter().map(|network| (network.id, network)).collect(),
    })
}

prop_compose! {
    fn observed_vxlan()(
        vni in sample::select(vec![0x80_0000, 7]), port in sample::select(vec![4789, 8472]),
        local in option::of(vtep()), mtu in mtu(), multicast in multicast(),
        broadcast in any::<bool>(), mdns in any::<bool>(), ready in any::<bool>(),
    ) -> ObservedVxlan {
        ObservedVxlan { vni, port, local, mtu, multicast, broadcast, mdns, ready }
    }
}

fn guard() -> impl Strategy<Value = ObservedGuard> {
    sample::select(vec![ObservedGuard::Impossible, ObservedGuard::Absent, ObservedGuard::Present(7)])
}

prop_compose! {
    fn observed_port()(
        mac in mac(), addresses in btree_set(gateway(), 0..3), mtu in mtu(), ready in any::<bool>(), guard in guard(),
    ) -> ObservedPort {
        ObservedPort { mac, addresses, mtu, ready, guard }
    }
}

prop_compose! {
    fn observed_network()(
        bridge in option::of((mac(), mtu(), any::<bool>(), option::of(mac()), any::<bool>(), btree_set(gateway(), 0..3))),
        vxlan in option::of(observed_vxlan()), remotes in btree_map(mac(), option::of(vtep()), 0..4),
        neighbours in btree_map(vtep(), mac(), 0..4), flood in btree_set(vtep(), 0..3),
        groups in btree_map(group(), btree_set(option::of(vtep()), 1..3), 0..3),
        ports in btree_map(endpoint(), observed_port(), 0..3), half_made in btree_set(endpoint(), 0..2),
    ) -> ObservedNetwork {
        // Only what can be: entries need their device, and a device name is taken once.
        let (remotes, flood, groups) = if vxlan.is_some() { (remotes, flood, groups) } else { Default::default() };
        let half_made = half_made.iter().filter(|name| !ports.contains_key(name)).map(PortName::of).collect();
        ObservedNetwork {
            neighbours: if bridge.is_some() { neighbours } else { BTreeMap::new() },
            bridge: bridge.map(|(mac, mtu, snooping, probe, ready, gateways)| {
                ObservedBridge { mac, mtu, snooping, probe, ready, gateways }
            }),
            vxlan, remotes, flood, groups, ports, half_made,
        }
    }
}

fn observed() -> impl Strategy<Value = Observed> {
    btree_map(id(), observed_network(), 0..3).prop_map(|networks| Observed { networks })
}

/// The remote endpoints of `network` that are reached as they should be.
fn right(desired: &DesiredNetwork, observed: &Observed) -> BTreeSet<Mac> {
    let there = observed.networks.get(&desired.id).map(|network| &network.remotes);
    let is_right = |(mac, vtep): (&Mac, &IpAddr)| {
        there.is_some_and(|there| there.get(mac) == Some(&Some(*vtep))).then_some(*mac)
    };
    desired.remotes.iter().filter_map(is_right).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_leads_to_what_is_desired_from_wherever_it_starts(desired in desired(), mut state in observed()) {
        let todo = plan(&desired, &state);
        for op in &todo.ops {
            execute(&mut state, op);
        }
        let again = plan(&desired, &state);
        prop_assert!(again.is_empty(), "after\n{}there is still\n{}", todo, again);
        prop_assert_eq!(state.networks.keys().collect::<Vec<_>>(), desired.networks.keys().collect::<Vec<_>>());
        for (id, want) in &desired.networks {
            let have = &state.networks[id];
            prop_assert_eq!(&have.neighbours, &want.neighbours);
            prop_assert_eq!(&have.flood, &want.flood);
            prop_assert_eq!(have.groups.keys().collect::<Vec<_>>(), want.groups.keys().collect::<Vec<_>>());
            for (group, there) in &have.groups {
                let vteps: BTreeSet<IpAddr> = there.iter().flatten().copied().collect();
                prop_assert_eq!(&vteps, &want.groups[group]);
                // An entry that leads nowhere is there where there is no other, and only there.
                prop_assert_eq!(there.contains(&None), vteps.is_empty());
            }
            prop_assert_eq!(right(want, &state).len(), want.remotes.len());
            prop_assert_eq!(have.remotes.len(), want.remotes.len());
            prop_assert!(have.half_made.is_empty());
        }
    }

    #[test]
    fn what_is_right_stays_right_at_every_step(desired in desired(), mut state in observed()) {
        let todo = plan(&desired, &state);
        let recreated: BTreeSet<_> =
            todo.ops.iter().filter(|op| op.action == Action::DeleteVxlan).map(|op| op.network).collect();
        let kept = desired.networks.values().filter(|network| !recreated.contains(&network.id));
        let kept: Vec<_> = kept.map(|network| (network, right(network, &state))).collect();
        for op in &todo.ops {
            execute(&mut state, op);
            for (network, before) in &kept {
                prop_assert!(before.is_subset(&right(network, &state)), "lost by {}", op);
            }
        }
    }

    #[test]
    fn a_group_that_stays_joined_never_goes_to_the_whole_network_in_between(
        desired in desired(), mut state in observed(),
    ) {
        let todo = plan(&desired, &state);
        let recreated: BTreeSet<_> =
            todo.ops.iter().filter(|op| op.action == Action::DeleteVxlan).map(|op| op.network).collect();
        let mut joined = Vec::new();
        for (id, want) in desired.networks.iter().filter(|(id, _)| !recreated.contains(id)) {
            let there = state.networks.get(id).into_iter().flat_map(|network| network.groups.keys());
            joined.extend(there.filter(|group| want.groups.contains_key(group)).map(|group| (*id, *group)));
        }
        for op in &todo.ops {
            execute(&mut state, op);
            for (id, group) in &joined {
                prop_assert!(state.networks[id].groups.contains_key(group), "{} floods {}", op, group);
            }
        }
    }

    #[test]
    fn planning_only_the_groups_leads_to_the_same_groups(desired in desired(), mut state in observed()) {
        for (id, want) in &desired.networks {
            let Some(have) = state.networks.get_mut(id).filter(|have| have.vxlan.is_some()) else { continue };
            have.bridge.get_or_insert(ObservedBridge {
                mac: want.mac, mtu: want.mtu, snooping: true, probe: Some(want.probe), ready: true,
                gateways: BTreeSet::new(),
            });
            let groups = have.groups.clone();
            for op in plan_groups(want, &groups).ops {
                execute(&mut state, &op);
            }
            prop_assert!(plan_groups(want, &state.networks[id].groups).is_empty());
        }
    }

    #[test]
    fn a_plan_only_names_networks_that_are_desired_or_observed(desired in desired(), state in observed()) {
        for op in plan(&desired, &state).ops {
            let (wanted, there) =
                (desired.networks.contains_key(&op.network), state.networks.contains_key(&op.network));
            prop_assert_eq!(op.action == Action::DeleteNetwork, there && !wanted);
            prop_assert!(wanted || there);
        }
    }
}
