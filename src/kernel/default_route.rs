//! The default route of an endpoint: whether its namespace has one already, and the messages that make one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::links::ROUTE_PROTOCOL;
use super::session::{Failure, Session};

/// Whatever there is no other route for, by a gateway beyond link `index`.
pub(super) fn by(index: u32, gateway: IpAddr) -> RouteMessage {
    let protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    match gateway {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .gateway(v4)
            .protocol(protocol)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .gateway(v6)
            .priority(1024)
            .protocol(protocol)
            .build(),
    }
}

/// Where a namespace leads what it has no other route for, over one family; `None` where nowhere.
pub(super) async fn find(session: &Session, ipv6: bool) -> Result<Option<String>, Failure> {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let Some(route) = session.routes(message).await?.into_iter().find(is_default) else { return Ok(None) };
    let mut words = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => words.push(format!("via {v4}")),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => words.push(format!("via {v6}")),
            RouteAttribute::Oif(index) => {
                let link = session.link_at(*index).await?;
                words.extend(link.map(|link| format!("by {}", link.name)));
            }
            _ => {}
        }
    }
    words.sort_by_key(|word| word.starts_with("by"));
    Ok(Some(words.join(" ")))
}

fn is_default(route: &RouteMessage) -> bool {
    let header = &route.header;
    header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_a_default_route_of_ours() {
        for gateway in ["10.0.0.254", "fd00::254"] {
            let route = by(3, gateway.parse().unwrap());
            assert!(is_default(&route), "{route:?}");
            assert_eq!(route.header.protocol, RouteProtocol::Other(ROUTE_PROTOCOL));
        }
        assert!(!is_default(&super::super::links::routes_to_all(3)[0]));
    }
}
