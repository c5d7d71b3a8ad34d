//! OpenAPI schemas of the model's enumerations, which know nothing of OpenAPI themselves.

use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::model::{
    BroadcastMode, DnsForward, Encryption, MulticastMode, NodeState, SpoofingMode, ZeroconfMode,
};

/// A string that is one of `values` as they are written in JSON.
fn one_of<T: Serialize>(values: &[T]) -> Object {
    let values = values.iter().filter_map(|value| serde_json::to_value(value).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)).build()
}

/// The states of a node.
pub fn node_state() -> Object {
    one_of(&[NodeState::Alive, NodeState::Suspect, NodeState::Dead, NodeState::Left])
}

/// The ways of multicast.
pub fn multicast_mode() -> Object {
    one_of(&[MulticastMode::Snoop, MulticastMode::Flood, MulticastMode::Off])
}

/// Whether there is broadcast.
pub fn broadcast_mode() -> Object {
    one_of(&[BroadcastMode::On, BroadcastMode::Off])
}

/// Whether endpoints may send from others' addresses.
pub fn spoofing_mode() -> Object {
    one_of(&[SpoofingMode::Deny, SpoofingMode::Allow])
}

/// The ways of zeroconf.
pub fn zeroconf_mode() -> Object {
    one_of(&[ZeroconfMode::Transparent, ZeroconfMode::Proxy, ZeroconfMode::Off])
}

/// What becomes of names from outside.
pub fn dns_forward() -> Object {
    one_of(&[DnsForward::On, DnsForward::Off])
}

/// The kinds of encryption.
pub fn encryption() -> Object {
    one_of(&[Encryption::None, Encryption::Wireguard])
}

/// Pools as a request may have them: service to range or to several.
pub fn pools() -> Object {
    let text = || Object::with_type(Type::String);
    let ranges = OneOfBuilder::new().item(text()).item(ArrayBuilder::new().items(text()));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(Schema::OneOf(ranges.build())))
        .build()
}
