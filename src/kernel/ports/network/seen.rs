//! The rules in a network's namespace for published ports whose endpoints see the node in the place of who asks: its own address in the
//! network, to which everybody there has a way.
//!
//! Which connections those are says a mark of the connection, which is given where its endpoint is chosen. What is handed on from node
//! to node has another.

use std::net::IpAddr;

use super::super::super::nft::{Compare, Expression, compare, expression, number, set_mark};
use super::super::super::routing::octets;
use super::super::expr::{is_of, load, mark_connection, marked_by_connection, to_link};

const REGISTER: u32 = 1;
/// The bytes of the mark. That of a node's connections begins with another one.
const SEEN_AS_NODE: [u8; 4] = *b"s\0lm";

/// Marks the connection.
pub(super) fn marked() -> [Expression; 2] {
    [load(REGISTER, &SEEN_AS_NODE), mark_connection()]
}

/// What such a connection sends to an endpoint bears the node's address.
pub(super) fn as_the_node(bridge: u32, own: IpAddr) -> Vec<Expression> {
    const NFT_NAT_SNAT: u32 = 0;
    let family = if own.is_ipv6() { 10 } else { 2 };
    let mut rule = Vec::from(is_of(own.is_ipv6()));
    rule.extend(goes_to_an_endpoint(bridge));
    rule.push(load(REGISTER, &octets(own)));
    rule.push(expression(b"nat\0", &[number(1, NFT_NAT_SNAT), number(2, family), number(3, REGISTER)]));
    rule
}

/// And goes over the bridge as what an endpoint sends: nobody has to know by whom it came, whose address it bears.
pub(super) fn as_from_any_endpoint(bridge: u32) -> Vec<Expression> {
    goes_to_an_endpoint(bridge).chain([load(REGISTER, &[0; 4]), set_mark()]).collect()
}

/// Goes on only with what such a connection sends to an endpoint.
fn goes_to_an_endpoint(bridge: u32) -> impl Iterator<Item = Expression> {
    to_link(bridge).into_iter().chain([marked_by_connection(), compare(Compare::Equal, &SEEN_AS_NODE)])
}
