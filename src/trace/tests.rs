//! A path on which all is well, and each thing that can be wrong of it, with its sentence.

mod tunnel;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::*;
use crate::mesh::DesiredMesh;
use crate::model::{
    Also, Cast, Errand, Group, GroupMember, Hop, Inside, Leaving, Mac, MeshEpoch, MulticastMode, NetworkId,
    NodeId, Placement, PortEnds, PublicKey, Vni, WayOut, Weight, Wrong,
};
use crate::plan::{
    Action, DesiredNetwork, DesiredPort, DeviceName, GuardStep, MeshAction, ObservedBridge, ObservedDevice,
    ObservedGuard, ObservedMesh, ObservedNetwork, ObservedPeer, ObservedPort, ObservedTunnel, ObservedVxlan,
    UnderlayGuard, mesh_vtep, plan, plan_mesh,
};

const NET: NetworkId = NetworkId::from_bytes([1; 8]);
const C1: Mac = Mac([2, 0x4c, 10, 0, 0, 1]);
const C2: Mac = Mac([2, 0x4c, 10, 0, 0, 2]);
const PROBE: Mac = Mac([2, 0x6c, 0x70, 0, 0, 2]);
const OTHER: [u8; 4] = [192, 0, 2, 2];
const THIRD: [u8; 4] = [192, 0, 2, 3];
const GROUP: &str = "239.1.1.1";

fn net(text: &str) -> IpNetwork {
    text.parse().expect("a subnet")
}

fn group() -> Group {
    Group::any_source(GROUP.parse().expect("a group"))
}

/// What a node sees, as values that can be changed.
struct Scene {
    errand: Errand,
    other: Other,
    same_node: bool,
    want: Option<DesiredNetwork>,
    have: ObservedNetwork,
    guard: Option<GuardStep>,
    services: Vec<String>,
    published: Option<Published>,
    mesh: Option<(Option<DesiredMesh>, ObservedMesh)>,
    port: PortEnds,
    inside: Inside,
    hidden: Option<String>,
    held: bool,
    members: BTreeSet<GroupMember>,
    way: Way,
}

fn address() -> Ipv6Addr {
    "fd00::2".parse().expect("an address")
}

/// c1 on this node, n1, and c2 on n2; all is well.
fn scene() -> Scene {
    let port = DesiredPort {
        name: "c1".parse().unwrap(),
        placement: Placement::Netns("/run/netns/c1".into()),
        ifname: "eth0".to_owned(),
        mac: C1,
        addresses: vec![net("10.0.0.1/24")],
        mtu: 1450,
        guarded: true,
        also: Also::default(),
        gateways: Vec::new(),
    };
    let guard = ObservedGuard::Present(port.guard().fingerprint());
    let want = DesiredNetwork {
        id: NET,
        name: "net".to_owned(),
        vni: Vni::try_from(0x80_0001).unwrap(),
        port: 4789,
        local: [192, 0, 2, 1].into(),
        encrypted: false,
        mtu: 1450,
        mac: Mac([0x0a, 0, 0, 0, 0, 1]),
        probe: Mac([2, 0x6c, 0x70, 0, 0, 1]),
        gateways: vec![net("10.0.0.254/24")],
        multicast: MulticastMode::Snoop,
        broadcast: true,
        mdns: true,
        remotes: [(C2, OTHER.into()), (PROBE, OTHER.into())].into(),
        neighbours: [(IpAddr::from([10, 0, 0, 1]), C1), ([10, 0, 0, 2].into(), C2)].into(),
        flood: [OTHER.into()].into(),
        groups: [(group(), [OTHER.into()].into())].into(),
        ports: [(port.name.clone(), port.clone())].into(),
    };
    let have = ObservedNetwork {
        bridge: Some(ObservedBridge {
            mac: want.mac,
            mtu: 1450,
            snooping: true,
            probe: Some(want.probe),
            ready: true,
            gateways: want.gateways.iter().copied().collect(),
        }),
        vxlan: Some(ObservedVxlan {
            vni: want.vni.into(),
            port: 4789,
            local: Some(want.local),
            mtu: 1450,
            multicast: MulticastMode::Snoop,
            broadcast: true,
            mdns: true,
            ready: true,
        }),
        remotes: want.remotes.iter().map(|(mac, vtep)| (*mac, Some(*vtep))).collect(),
        neighbours: want.neighbours.clone(),
        flood: want.flood.clone(),
        groups: [(group(), [Some(OTHER.into())].into())].into(),
        ports: [(
            port.name.clone(),
            ObservedPort { mac: C1, addresses: [net("10.0.0.1/24")].into(), mtu: 1450, ready: true, guard },
        )]
        .into(),
        half_made: BTreeSet::new(),
    };
    let errand = Errand {
        network: NET,
        here: Some("c1".parse().unwrap()),
        node: NodeId::from_bytes([2; 16]),
        there: Some("c2".parse().unwrap()),
        cast: Cast::One,
        inward: false,
        port: None,
    };
    let other = Other {
        node: "n2".to_owned(),
        vtep: OTHER.into(),
        probe: PROBE,
        endpoint: Some((C2, vec![net("10.0.0.2/24")])),
        floating: Vec::new(),
    };
    Scene {
        errand,
        other,
        same_node: false,
        want: Some(want),
        have,
        guard: None,
        services: Vec::new(),
        published: None,
        mesh: None,
        port: PortEnds {
            device: "lm1".to_owned(),
            up: true,
            on_bridge: true,
            forwarding: true,
            far_up: Some(true),
            far_name: Some("eth0".to_owned()),
        },
        inside: Inside {
            leaves: Leaving::By("eth0".to_owned()),
            source: Some([10, 0, 0, 1].into()),
            knows: Some(C2),
            ..Inside::default()
        },
        hidden: None,
        held: false,
        members: BTreeSet::new(),
        way: Way { to: OTHER.into(), out: Some(WayOut { device: "eth0".to_owned(), mtu: 1500 }) },
    }
}

impl Scene {
    fn hops(&self) -> Vec<Hop> {
        let steps: Vec<Action> = self.want.as_ref().map_or_else(Vec::new, |want| {
            let desired = crate::plan::Desired { networks: [(NET, want.clone())].into() };
            let observed = crate::plan::Observed { networks: [(NET, self.have.clone())].into() };
            plan(&desired, &observed).ops.into_iter().map(|op| op.action).collect()
        });
        let mesh_steps: Vec<MeshAction> = self
            .mesh
            .as_ref()
            .map_or_else(Vec::new, |(want, have)| plan_mesh(want.as_ref(), have, &BTreeSet::new()));
        hops(&Sight {
            errand: &self.errand,
            network: "net",
            node: "n1",
            other: &self.other,
            same_node: self.same_node,
            want: self.want.as_ref(),
            have: Some(&self.have),
            steps: &steps,
            guard: self.guard.as_ref(),
            services: &self.services,
            published: self.published.as_ref(),
            mesh: self.mesh.as_ref().map(|(want, have)| (want.as_ref(), have, mesh_steps.as_slice())),
            mesh_address: address(),
            port: Some(&self.port),
            inside: Some(&self.inside),
            hidden: self.hidden.as_deref(),
            held: self.held,
            dropped: &[],
            members: &self.members,
            way: Some(&self.way),
        })
    }

    fn wrong(&self) -> Vec<Wrong> {
        self.hops().into_iter().flat_map(|hop| hop.wrong).collect()
    }

    fn want(&mut self) -> &mut DesiredNetwork {
        self.want.as_mut().unwrap()
    }

    fn port_there(&mut self) -> &mut ObservedPort {
        self.have.ports.values_mut().next().unwrap()
    }

    fn bridge(&mut self) -> &mut ObservedBridge {
        self.have.bridge.as_mut().unwrap()
    }

    fn vxlan(&mut self) -> &mut ObservedVxlan {
        self.have.vxlan.as_mut().unwrap()
    }
}

/// The sentence that a change leads to, which is the only one, with its hint.
fn said(change: impl FnOnce(&mut Scene)) -> (String, Weight) {
    let mut scene = scene();
    change(&mut scene);
    let wrong = scene.wrong();
    let [one] = wrong.as_slice() else { panic!("one sentence: {wrong:?}") };
    assert!(!one.hint.is_empty(), "{one:?}");
    (format!("{}: {}", one.what, one.hint), one.weight)
}

#[test]
fn what_is_well_is_told_part_by_part_in_the_order_of_the_way() {
    let parts = |scene: &Scene| scene.hops().into_iter().map(|hop| hop.part).collect::<Vec<_>>();
    let mut there = scene();
    assert_eq!(there.wrong(), []);
    let outward = ["attached", "guard", "bridge", "neighbour", "fdb", "vxlan", "underlay guard", "underlay"];
    assert_eq!(parts(&there), outward);
    there.errand.inward = true;
    there.errand.port = Some(80);
    there.inside.listens = vec!["TCP 0.0.0.0:80".to_owned()];
    let inward: Vec<&str> = outward.iter().rev().copied().chain(["port"]).collect();
    assert_eq!((parts(&there), there.wrong()), (inward.into_iter().map(str::to_owned).collect(), Vec::new()));
    let mut same = scene();
    same.same_node = true;
    assert_eq!(
        (parts(&same), same.wrong()),
        (["attached", "guard", "bridge"].map(str::to_owned).to_vec(), vec![])
    );
    for (cast, part) in
        [(Cast::Group(group().address()), "mdb"), (Cast::All, "flood"), (Cast::Service, "service")]
    {
        let mut many = scene();
        many.errand.cast = cast;
        assert!(parts(&many).iter().any(|found| found == part), "{part}");
        assert_eq!(many.wrong(), [], "{part}");
    }
}

/// A change, and what of the sentence that it leads to must be there.
type Fault = (&'static str, Weight, fn(&mut Scene));

const FAULTS: &[Fault] = &[
    ("network net is not on node n1, and endpoint c1 should be there", Weight::Cause, |scene| {
        scene.want = None;
    }),
    ("node n1 has no endpoint in network net", Weight::Cause, |scene| {
        scene.want = None;
        scene.errand.here = None;
    }),
    ("node n1 has no endpoint c1 in network net", Weight::Cause, |scene| scene.want().ports.clear()),
    ("the interface of endpoint c1 is not there on node n1", Weight::Cause, |scene| scene.have.ports.clear()),
    (
        "endpoint c1 is down in its container: set it up there: `ip link set eth0 up`",
        Weight::Cause,
        |scene| {
            scene.port.far_up = Some(false);
        },
    ),
    ("the port lm1 of endpoint c1 on node n1 is down", Weight::Cause, |scene| {
        scene.port.up = false;
        scene.port_there().ready = false;
    }),
    ("the port lm1 of endpoint c1 is not on the bridge of network net", Weight::Cause, |scene| {
        scene.port.on_bridge = false;
        scene.port_there().ready = false;
    }),
    ("does not forward at the port lm1 of endpoint c1", Weight::Cause, |scene| scene.port.forwarding = false),
    (
        "the port of endpoint c1 is not set as it should be, or its MAC is not pinned",
        Weight::Cause,
        |scene| {
            scene.port_there().ready = false;
        },
    ),
    ("endpoint c1 has the MAC 02:4c:0a:00:00:02 in its container, and should have", Weight::Cause, |scene| {
        scene.port_there().mac = C2;
    }),
    ("endpoint c1 lacks its address 10.0.0.1/24 in its container", Weight::Cause, |scene| {
        scene.port_there().addresses.clear();
    }),
    ("the interface of endpoint c1 takes packets of 1400 bytes", Weight::Cause, |scene| {
        scene.port_there().mtu = 1400;
    }),
    (
        "the container of endpoint c1 has no route to 10.0.0.2: in it: `ip route add 10.0.0.0/24 dev eth0`",
        Weight::Cause,
        |scene| {
            scene.inside.leaves = Leaving::Nowhere;
        },
    ),
    (
        "a route or a rule in the container of endpoint c1 says that nothing goes to 10.0.0.2",
        Weight::Cause,
        |scene| {
            scene.inside.leaves = Leaving::Refused;
        },
    ),
    (
        "what endpoint c1 sends to 10.0.0.2 goes by 10.0.0.250, and not straight there",
        Weight::Cause,
        |scene| {
            scene.inside.gateway = Some([10, 0, 0, 250].into());
        },
    ),
    ("goes by 10.0.0.254, and not straight there", Weight::Aside, |scene| {
        scene.inside.gateway = Some([10, 0, 0, 254].into());
    }),
    ("sends to 10.0.0.2 comes from 10.0.0.200, which is none of its addresses", Weight::Cause, |scene| {
        scene.inside.source = Some([10, 0, 0, 200].into());
    }),
    (
        "asks nobody for a MAC in its container (NOARP): in it: `ip link set eth0 arp on`",
        Weight::Cause,
        |scene| {
            scene.inside.no_arp = true;
        },
    ),
    ("set it up there: `ip link set lan up`", Weight::Cause, |scene| {
        scene.port.far_up = Some(false);
        scene.port.far_name = Some("lan".to_owned());
        scene.inside.leaves = Leaving::By("lan".to_owned());
    }),
    ("leaves its container by tun0, and not by eth0", Weight::Cause, |scene| {
        scene.inside.leaves = Leaving::By("tun0".to_owned());
    }),
    (
        "the container of endpoint c1 has 10.0.0.2 itself: what it sends there stays in it",
        Weight::Cause,
        |scene| {
            scene.inside.leaves = Leaving::Stays { loopback_up: true };
        },
    ),
    (
        "endpoint c1 does not reach its own addresses: lo is down in its container: in it: `ip link set lo up`",
        Weight::Cause,
        |scene| {
            let own = scene.want().ports.values().next().unwrap().addresses.clone();
            scene.other.endpoint = Some((C1, own));
            scene.inside.leaves = Leaving::Stays { loopback_up: false };
            scene.inside.knows = None;
        },
    ),
    (
        "the container of endpoint c1 takes 02:4c:0a:00:00:01 for the MAC of 10.0.0.2",
        Weight::Cause,
        |scene| {
            scene.inside.knows = Some(C1);
        },
    ),
    ("have no addresses of one family", Weight::Cause, |scene| {
        let six = "fd01::2/64".parse().unwrap();
        scene.other.endpoint = Some((C2, vec![six]));
        scene.want().neighbours.insert(six.ip(), C2);
        scene.have.neighbours.insert(six.ip(), C2);
    }),
    ("of endpoint c1 only the name and the addresses are held", Weight::Cause, |scene| {
        scene.held = true;
        scene.want().ports.clear();
    }),
    ("the namespace of endpoint c1 cannot be looked at: it hangs", Weight::Aside, |scene| {
        scene.hidden = Some("it hangs".to_owned());
    }),
    ("the rules that keep endpoint c1 to its own addresses are gone from node n1", Weight::Aside, |scene| {
        scene.port_there().guard = ObservedGuard::Absent;
    }),
    ("the rules of endpoint c1 on node n1 are not those of its addresses", Weight::Cause, |scene| {
        scene.port_there().guard = ObservedGuard::Present(7);
    }),
    ("the rules of endpoint c1 on node n1 are not those of its addresses", Weight::Cause, |scene| {
        scene.want().ports.values_mut().next().unwrap().guarded = false;
    }),
    ("the rules in the container of endpoint c1 that lead to services are missing", Weight::Cause, |scene| {
        scene.errand.cast = Cast::Service;
        scene.services = vec!["services: make".to_owned()];
    }),
    ("node n1 publishes nothing of network net at port 8080", Weight::Cause, |scene| {
        published(scene, |it| it.holder = None);
    }),
    (
        "port 8080 of node n1 leads to service old of network net, and not to endpoint c2",
        Weight::Cause,
        |scene| {
            published(scene, |it| it.holder = Some(("service old of network net".to_owned(), false)));
        },
    ),
    ("the rules of node n1 that lead its port 8080 to network net are missing", Weight::Cause, |scene| {
        published(scene, |it| it.steps = vec!["doors put".to_owned()]);
    }),
    ("what endpoint c1 answers finds no way back to node n2", Weight::Cause, |scene| {
        published(scene, |it| it.steps = vec!["ports put way of c1".to_owned()]);
        scene.errand.inward = true;
    }),
    ("nothing listens at port 80 in the container of endpoint c1", Weight::Cause, |scene| {
        published(scene, |it| it.to = Some(80));
        scene.errand.inward = true;
        scene.errand.port = Some(8080);
    }),
    ("the bridge of network net is not there on node n1", Weight::Cause, |scene| scene.have.bridge = None),
    ("the bridge of network net on node n1 has the MAC 02:4c:0a:00:00:01", Weight::Cause, |scene| {
        scene.bridge().mac = C1;
    }),
    ("the bridge of network net on node n1 takes packets of 1000 bytes", Weight::Cause, |scene| {
        scene.bridge().mtu = 1000;
    }),
    ("the bridge of network net on node n1 is down", Weight::Cause, |scene| scene.bridge().ready = false),
    ("the bridge of network net on node n1 does not hear probes", Weight::Aside, |scene| {
        scene.bridge().probe = None;
    }),
    ("the gateway address 10.0.0.254/24 of network net is missing on node n1", Weight::Aside, |scene| {
        scene.bridge().gateways.clear();
    }),
    ("node n1 does not know the MAC of 10.0.0.2", Weight::Cause, |scene| {
        scene.have.neighbours.remove(&IpAddr::from([10, 0, 0, 2]));
    }),
    ("node n1 does not know the MAC of 10.0.0.9", Weight::Cause, |scene| {
        scene.other.floating.push(([10, 0, 0, 9].into(), C2));
        scene.want().neighbours.insert([10, 0, 0, 9].into(), C2);
    }),
    (
        "the FDB of node n1 has no entry for what has 10.0.0.9 now (00:00:5e:00:01:01)",
        Weight::Cause,
        |scene| {
            let (address, mac) = ([10, 0, 0, 9].into(), Mac([0, 0, 0x5e, 0, 1, 1]));
            scene.other.floating.push((address, mac));
            scene.want().neighbours.insert(address, mac);
            scene.have.neighbours.insert(address, mac);
            scene.want().remotes.insert(mac, OTHER.into());
        },
    ),
    ("for 10.0.0.2 with the MAC 02:4c:0a:00:00:01, and it is 02:4c:0a:00:00:02", Weight::Cause, |scene| {
        scene.have.neighbours.insert([10, 0, 0, 2].into(), C1);
    }),
    ("another endpoint has the higher claim on that address: `lanmesh whois`", Weight::Cause, |scene| {
        scene.want().neighbours.insert([10, 0, 0, 2].into(), C1);
        scene.have.neighbours.insert([10, 0, 0, 2].into(), C1);
    }),
    ("node n1 has not heard of the endpoint with 10.0.0.2", Weight::Cause, |scene| {
        scene.want().neighbours.remove(&IpAddr::from([10, 0, 0, 2]));
    }),
    ("the FDB of node n1 has no entry for the endpoint (02:4c:0a:00:00:02)", Weight::Cause, |scene| {
        scene.have.remotes.remove(&C2);
    }),
    ("the FDB of node n1 has no entry for the endpoint (02:4c:0a:00:00:02)", Weight::Cause, |scene| {
        scene.have.remotes.insert(C2, None);
    }),
    ("to 192.0.2.3, and node n2 is at 192.0.2.2", Weight::Cause, |scene| {
        scene.have.remotes.insert(C2, Some(THIRD.into()));
    }),
    ("the FDB of node n1 has no entry for probes of node n2", Weight::Cause, |scene| {
        scene.have.remotes.remove(&PROBE);
    }),
    ("the MDB of node n1 does not send 239.1.1.1 to node n2, which has a member", Weight::Cause, |scene| {
        scene.errand.cast = Cast::Group(group().address());
        scene.have.groups.clear();
    }),
    ("node n1 knows of no member of 239.1.1.1 on node n2", Weight::Cause, |scene| {
        scene.errand.cast = Cast::Group(group().address());
        scene.want().groups.insert(group(), BTreeSet::new());
        scene.have.groups.insert(group(), [None].into());
    }),
    (
        "the MDB of node n1 sends 239.1.1.1 to 192.0.2.3 too, where nobody has joined",
        Weight::Aside,
        |scene| {
            scene.errand.cast = Cast::Group(group().address());
            scene.have.groups.get_mut(&group()).unwrap().insert(Some(THIRD.into()));
        },
    ),
    (
        "network net keeps multicast on its node (--multicast off): `lanmesh network set net --multicast snoop`",
        Weight::Cause,
        |scene| {
            scene.errand.cast = Cast::Group(group().address());
            scene.want().multicast = MulticastMode::Off;
            scene.vxlan().multicast = MulticastMode::Off;
        },
    ),
    ("endpoint c1 has not joined 239.1.1.1", Weight::Cause, |scene| {
        scene.errand.cast = Cast::Group(group().address());
        scene.errand.inward = true;
    }),
    ("node n2 is missing in the list of node n1 by which broadcast goes to all", Weight::Cause, |scene| {
        scene.errand.cast = Cast::All;
        scene.have.flood.clear();
    }),
    ("node n1 sends broadcast to node n2 no more", Weight::Cause, |scene| {
        scene.errand.cast = Cast::All;
        scene.want().flood.clear();
    }),
    ("network net keeps broadcast on its node (--broadcast off)", Weight::Cause, |scene| {
        scene.errand.cast = Cast::All;
        scene.want().broadcast = false;
        scene.vxlan().broadcast = false;
    }),
    ("the VXLAN device of network net is not there on node n1", Weight::Cause, |scene| {
        scene.have.vxlan = None;
    }),
    (
        "the VXLAN device of network net on node n1 has another number than the network",
        Weight::Cause,
        |scene| {
            scene.vxlan().vni = 7;
        },
    ),
    ("on node n1 uses port 8472, and should use 4789", Weight::Cause, |scene| scene.vxlan().port = 8472),
    ("comes from 192.0.2.3 on node n1, and should come from 192.0.2.1", Weight::Cause, |scene| {
        scene.vxlan().local = Some(THIRD.into());
    }),
    ("the VXLAN device of network net on node n1 takes packets of 1000 bytes", Weight::Cause, |scene| {
        scene.vxlan().mtu = 1000;
    }),
    ("the VXLAN device of network net on node n1 is down, off its bridge", Weight::Cause, |scene| {
        scene.vxlan().ready = false;
    }),
    ("does not carry broadcast and multicast as the network is set", Weight::Cause, |scene| {
        scene.vxlan().broadcast = false;
    }),
    ("the VXLAN device of network net on node n1 is not set as it should be", Weight::Aside, |scene| {
        scene.vxlan().mdns = false;
    }),
    ("the rules that keep VXLAN of strangers off node n1 are gone", Weight::Aside, |scene| {
        scene.guard = Some(GuardStep::Put(UnderlayGuard {
            port: 4789,
            vnis: BTreeSet::new(),
            vteps: BTreeSet::new(),
            mesh: None,
        }));
    }),
    (
        "node n1 drops the VXLAN packets of node n2: its address 192.0.2.2 is missing",
        Weight::Cause,
        |scene| {
            scene.guard = Some(change([OTHER.into()].into()));
        },
    ),
    ("the guard of the underlay on node n1 is not as it should be", Weight::Aside, |scene| {
        scene.guard = Some(change([THIRD.into()].into()));
    }),
    ("node n1 has no route to node n2 (192.0.2.2): `ip route get 192.0.2.2`", Weight::Cause, |scene| {
        scene.way.out = None;
    }),
    (
        "takes packets of 1400 bytes, and network net needs 1500: raise that MTU, or `lanmesh network set net --mtu 1350`",
        Weight::Cause,
        |scene| {
            scene.way.out = Some(WayOut { device: "eth1".to_owned(), mtu: 1400 });
        },
    ),
    ("nothing listens at port 80 in the container of endpoint c1", Weight::Cause, |scene| {
        scene.errand.inward = true;
        scene.errand.port = Some(80);
    }),
];

/// Has the path begin at port 8080 of a node, with something about it that is not as it should be.
fn published(scene: &mut Scene, fault: impl FnOnce(&mut Published)) {
    let mut it =
        Published { holder: Some(("service web of network net".to_owned(), true)), ..Published::default() };
    fault(&mut it);
    scene.published = Some(it);
    scene.errand.cast = Cast::Published;
    scene.errand.port = Some(8080);
}

fn change(add_vteps: BTreeSet<IpAddr>) -> GuardStep {
    GuardStep::Change {
        add_vnis: BTreeSet::new(),
        remove_vnis: BTreeSet::new(),
        add_vteps,
        remove_vteps: BTreeSet::new(),
    }
}

#[test]
fn each_thing_that_is_wrong_has_one_sentence_with_what_mends_it() {
    for (sentence, weight, fault) in FAULTS {
        let (said, of) = said(fault);
        assert!(said.contains(sentence), "{sentence:?} in {said:?}");
        assert_eq!(of, *weight, "{said}");
    }
}

#[test]
fn nobody_reads_the_numbers_of_networks_in_it() {
    for (_, _, fault) in FAULTS {
        let mut scene = scene();
        fault(&mut scene);
        let text = format!("{:?}", scene.hops());
        assert!(!text.contains(&0x80_0001.to_string()), "{text}");
    }
}

#[test]
fn a_member_that_has_joined_is_well() {
    let mut there = scene();
    there.errand.cast = Cast::Group(group().address());
    there.errand.inward = true;
    there.members = [GroupMember { group: group(), endpoint: Some("c1".parse().unwrap()) }].into();
    assert_eq!(there.wrong(), []);
}

#[test]
fn what_keeps_frames_from_passing_is_named_before_that_they_do_not_and_the_first_on_the_way_before_others() {
    let hop = |part: &str, wrong: &[(&str, Weight)]| {
        let mut hop = Hop::new(part, "");
        wrong.iter().for_each(|(what, weight)| hop.wrong(*weight, *what, "hint"));
        hop
    };
    let leg = |end: Vec<Hop>| Leg {
        begin: (
            "n1".to_owned(),
            vec![hop("fdb", &[]), hop("probe", &[("vague", Weight::Vague), ("aside", Weight::Aside)])],
        ),
        end: ("n2".to_owned(), end),
    };
    let named = |legs: Vec<Leg>| first(&conclude(legs)).map(|wrong| wrong.what.clone());
    assert_eq!(named(vec![]), None);
    assert_eq!(named(vec![leg(vec![])]).as_deref(), Some("vague"));
    let symptom = hop("probe", &[("symptom", Weight::Symptom)]);
    assert_eq!(named(vec![leg(vec![symptom.clone()])]).as_deref(), Some("symptom"));
    let causes = hop("vxlan", &[("first", Weight::Cause), ("second", Weight::Cause)]);
    assert_eq!(named(vec![leg(vec![symptom, causes.clone()])]).as_deref(), Some("first"));
    // What several paths have in common is said once.
    let steps = conclude(vec![leg(vec![causes.clone()]), leg(vec![causes])]);
    assert_eq!(steps.len(), 3);
}
