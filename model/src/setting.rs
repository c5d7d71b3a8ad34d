//! What may change on a living network, and what an operator says of a node.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Pool};

use crate::{NetworkOptions, NetworkSpec, OptionError};

/// What the plan of addresses is called among the settings; the others have the names of their options.
pub const PLAN: &str = "plan";

/// A setting of a network, as it was changed after the network was created. Two different ones that are changed at once on
/// two sides of a cut do not undo each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// An option, as a person writes it.
    Option(String),
    /// Added subnets, pools and reservations: one setting, as they have to fit each other.
    Plan(AddressPlan),
}

/// What may change in a network's plan of addresses: everything but the subnets it was created with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPlan {
    /// Subnets that were added, in the order in which they were.
    pub added: Vec<AddedSubnet>,
    /// All pools.
    pub pools: Vec<Pool>,
    /// All reservations.
    pub reserved: Vec<AddrRange>,
}

/// A subnet that was added to a living network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedSubnet {
    /// The subnet.
    pub subnet: IpNetwork,
    /// Its gateway.
    pub gateway: IpAddr,
}

impl Setting {
    /// Changes a spec to what the setting of this name says. An option that is not known here changes nothing.
    ///
    /// # Errors
    /// The option cannot be that; nothing was changed.
    pub fn apply(&self, name: &str, spec: &mut NetworkSpec) -> Result<(), OptionError> {
        match self {
            Self::Option(text) => {
                let Some(option) = NetworkOptions::find(name).filter(|option| option.changes) else {
                    return Ok(());
                };
                let mut options = spec.options;
                option.set(&mut options, text)?;
                options.check()?;
                spec.options = options;
            }
            Self::Plan(AddressPlan { added, pools, reserved }) => {
                for AddedSubnet { subnet, gateway } in added {
                    if !spec.subnets.contains(subnet) {
                        spec.subnets.push(*subnet);
                        spec.gateways.push(*gateway);
                    }
                }
                spec.pools.clone_from(pools);
                spec.reserved.clone_from(reserved);
            }
        }
        Ok(())
    }
}

/// The most labels that a node has.
pub const LABELS_MAX: usize = 64;
/// The longest name of a label, in bytes.
pub const LABEL_NAME_MAX: usize = 128;
/// The longest value of a label, in bytes.
pub const LABEL_VALUE_MAX: usize = 256;

/// Whether `text` can name a label: letters, digits, `.`, `_`, `-` and `/`, with a letter or digit at both ends.
pub fn is_label_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= LABEL_NAME_MAX
        && text.bytes().all(inner)
        && ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}

/// Whether `text` can be the value of a label: any text of some length, without control characters.
pub fn is_label_value(text: &str) -> bool {
    text.len() <= LABEL_VALUE_MAX && !text.chars().any(char::is_control)
}
