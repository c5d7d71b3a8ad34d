//! Expressions of nf_tables that translate addresses, and the rules of one route.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::nft::{
    self, Base, Compare, Expression, Family, Refusal, bytes, compare, expression, layer_4, nested_elements,
    number,
};
use super::super::raw::{attribute, nested};
use crate::plan::Route;

pub(in crate::kernel) const INET: Family = Family::Inet;
const TCP: u8 = 6;
const UDP: u8 = 17;
const REGISTER: u32 = 1;
/// Behind the sixteen bytes of the first.
pub(in crate::kernel) const PORT_REGISTER: u32 = 2;
/// NFPROTO_IPV4 and NFPROTO_IPV6 (linux/netfilter.h).
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ANONYMOUS_CONSTANT_MAP: u32 = 0x1 | 0x2 | 0x8;
/// What nf_tables gives a number of its own.
const ANONYMOUS: &[u8] = b"__map%d\0";

/// The octets of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address that has these octets.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(*octets.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*octets.first_chunk::<16>()?)),
        _ => None,
    }
}

/// What the kernel calls the addresses of a family: NFPROTO, type of a key (TYPE_IPADDR and TYPE_IP6ADDR of nft), length.
pub(super) fn family(ipv6: bool) -> (u8, u32, u32) {
    if ipv6 { (IPV6, 8, 16) } else { (IPV4, 7, 4) }
}

/// Goes on only with packets that leave by this device.
pub(super) fn leaves_by(ifname: &str) -> [Expression; 2] {
    const NFT_META_OIFNAME: u32 = 7;
    let mut name = ifname.as_bytes().to_vec();
    name.resize(16, 0);
    [
        expression(b"meta\0", &[number(2, NFT_META_OIFNAME), number(1, REGISTER)]),
        compare(Compare::Equal, &name),
    ]
}

/// Goes on only with packets of a family, and where the map has their destination, in the chain that it says.
pub(super) fn goes_where(map: &[u8], ipv6: bool) -> Vec<Expression> {
    const NFT_META_NFPROTO: u32 = 15;
    let (proto, _, length) = family(ipv6);
    // RFC 791 section 3.1, RFC 8200 section 3.
    let offset = if ipv6 { 24 } else { 16 };
    vec![
        expression(b"meta\0", &[number(2, NFT_META_NFPROTO), number(1, REGISTER)]),
        compare(Compare::Equal, &[proto]),
        bytes(Base::Network, offset, length),
        // The verdict is register 0.
        nft::led_by(map),
    ]
}

/// The rules of a route, and before each what it needs: `id` counts the maps of one transaction.
pub(super) fn route(table: &[u8], route: &Route, ipv6: bool, id: &mut u32) -> Vec<Ruled> {
    if route.to.is_empty() {
        return vec![Ruled { needs: Vec::new(), expressions: marks_as_refused() }];
    }
    let mut rules = Vec::new();
    for map in &route.ports {
        for protocol in [TCP, UDP] {
            let (needs, choice) = choose(table, &route.to, ipv6, id);
            let mut expressions = vec![
                layer_4(),
                compare(Compare::Equal, &[protocol]),
                bytes(Base::Transport, 2, 2),
                compare(Compare::Equal, &map.port.to_be_bytes()),
            ];
            expressions.extend(choice);
            expressions.push(load(PORT_REGISTER, &map.to.to_be_bytes()));
            expressions.push(translate(ipv6, true));
            rules.push(Ruled { needs, expressions });
        }
    }
    let (needs, mut expressions) = choose(table, &route.to, ipv6, id);
    expressions.push(translate(ipv6, false));
    rules.push(Ruled { needs, expressions });
    rules
}

/// A rule, and the changes that have to come before it.
pub(super) struct Ruled {
    pub needs: Vec<Vec<u8>>,
    pub expressions: Vec<Expression>,
}

/// What the packets carry that are for a service without endpoints, from the chain that translates to the one that refuses.
const REFUSED: u32 = 0x6c61_6e72;

/// To be refused behind the translation: an answer that is made within it is taken for a part of the connection, and goes
/// nowhere.
fn marks_as_refused() -> Vec<Expression> {
    vec![load(REGISTER, &REFUSED.to_ne_bytes()), nft::set_mark()]
}

/// Refuses what is marked so. Nothing of it is remembered by the connection tracking, which confirms what leaves.
pub(super) fn refusals() -> [Vec<Expression>; 2] {
    const NFT_CT_STATE: u32 = 0;
    // Without a rule that asks for it no connection is followed, and the chain that translates sees none.
    let followed = || expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_STATE)]);
    let marked = || [followed(), nft::mark(), compare(Compare::Equal, &REFUSED.to_ne_bytes())];
    let tcp = [layer_4(), compare(Compare::Equal, &[TCP]), nft::refuse(Refusal::Reset)];
    let any = [nft::refuse(Refusal::NoPort)];
    [marked().into_iter().chain(tcp).collect(), marked().into_iter().chain(any).collect()]
}

/// Loads the address of one of the endpoints, each as often.
pub(in crate::kernel) fn choose(
    table: &[u8],
    from: &BTreeSet<IpAddr>,
    ipv6: bool,
    id: &mut u32,
) -> (Vec<Vec<u8>>, Vec<Expression>) {
    const NFT_NG_RANDOM: u32 = 1;
    let mut to = from.iter();
    if let (Some(only), None) = (to.next(), to.next()) {
        return (Vec::new(), vec![load(REGISTER, &octets(*only))]);
    }
    *id += 1;
    let (_, kind, length) = family(ipv6);
    let map = [
        table.to_vec(),
        attribute(2, ANONYMOUS),
        number(3, ANONYMOUS_CONSTANT_MAP),
        // TYPE_INTEGER of nft.
        number(4, 4),
        number(5, 4),
        number(6, kind),
        number(7, length),
        number(10, *id),
    ];
    let mut needs = vec![INET.make(nft::NFT_MSG_NEWSET, &map.concat())];
    // The register has the number in the order of the machine.
    let pairs = (0_u32..).zip(from).map(|(at, to)| (at.to_ne_bytes().to_vec(), octets(*to)));
    for elements in nested_elements(pairs) {
        let list = [table.to_vec(), attribute(2, ANONYMOUS), number(4, *id), elements].concat();
        needs.push(INET.make(nft::NFT_MSG_NEWSETELEM, &list));
    }
    let count = u32::try_from(from.len()).unwrap_or(u32::MAX);
    let drawn = [number(1, REGISTER), number(2, count), number(3, NFT_NG_RANDOM), number(4, 0)];
    let found = [attribute(1, ANONYMOUS), number(2, REGISTER), number(3, REGISTER), number(4, *id)];
    (needs, vec![expression(b"numgen\0", &drawn), expression(b"lookup\0", &found)])
}

/// Loads a value into a register.
pub(in crate::kernel) fn load(register: u32, value: &[u8]) -> Expression {
    expression(b"immediate\0", &[number(1, register), nested(2, &[attribute(1, value)])])
}

/// Sends the connection to the address that was loaded, and to the port, if one was too (in [`PORT_REGISTER`]).
pub(in crate::kernel) fn translate(ipv6: bool, port: bool) -> Expression {
    const NFT_NAT_DNAT: u32 = 1;
    let (proto, ..) = family(ipv6);
    let mut from = vec![number(1, NFT_NAT_DNAT), number(2, proto.into()), number(3, REGISTER)];
    from.extend(port.then(|| number(5, PORT_REGISTER)));
    expression(b"nat\0", &from)
}
