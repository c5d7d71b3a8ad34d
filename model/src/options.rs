//! A network's options: the one place where each is named, explained and given its type and default.
//!
//! Owns: [`network_options!`](crate::network_options), the table, and [`NetworkOptions`], a value for each of its lines. All
//! else follows from them: the fields of the JSON types, the arguments of the command line, the OpenAPI document, and what is
//! said of two networks that differ. Does not own: where a network's addresses are (its subnets, gateways, pools,
//! reservations and blocks), which are no options but what it is.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::words::words;
use crate::{Choice, OptionValue};

words! {
    /// How multicast of a network travels between the nodes.
    pub enum MulticastMode {
        /// To the nodes that have a member of the group.
        Snoop = "snoop",
        /// To every node of the network.
        Flood = "flood",
        /// Not at all.
        Off = "off",
    }

    /// Whether broadcast of a network travels between the nodes.
    pub enum BroadcastMode {
        /// To every node of the network.
        On = "on",
        /// Not at all.
        Off = "off",
    }

    /// How zeroconf of a network travels between the nodes.
    pub enum ZeroconfMode {
        /// As any other multicast.
        Transparent = "transparent",
        /// The agents answer.
        Proxy = "proxy",
        /// It does not leave a node.
        Off = "off",
    }

    /// What a network's VXLAN travels through.
    pub enum Encryption {
        /// The underlay, in the clear.
        None = "none",
        /// The WireGuard mesh between the nodes.
        Wireguard = "wireguard",
    }

    /// Whether an endpoint of a network may send from addresses that are not its own.
    pub enum SpoofingMode {
        /// Dropped on the endpoint's node.
        Deny = "deny",
        /// For containers that route, bridge or take over addresses.
        Allow = "allow",
    }

    /// Whether a network's name servers ask the node's resolvers for names that are not their own.
    pub enum DnsForward {
        /// They do.
        On = "on",
        /// They refuse them.
        Off = "off",
    }
}

/// The longest that an answer of a name server may be kept, in seconds: a name that is gone for a day is gone.
pub const DNS_TTL_MAX: u32 = 86_400;

/// The smallest MTU of IPv4 (RFC 791 section 3.2: 576 octets must be accepted).
pub const MTU_MIN: u32 = 576;
/// The largest there is: what the length field of an IP header can say.
pub const MTU_MAX: u32 = 65_535;

/// Every option of a network, one after the other, given to the macro `then` after its own arguments in braces.
///
/// Of each: what it is, as one documented sentence; its name in JSON (on the command line with `-` for `_`); its type;
/// `now` if it may be set on a network that is there, `once` if only when one is created; the numbers that it may be.
/// An option has an enumeration of words, the first of which is the default, or it is an optional number or text.
#[macro_export]
macro_rules! network_options {
    ($then:ident! { $($arguments:tt)* }) => {
        $then! {
            { $($arguments)* }

            /// The MTU inside, in bytes; by default derived from the underlay.
            mtu: Option<u32> = now in $crate::MTU_MIN..=$crate::MTU_MAX;
            /// How multicast travels.
            multicast: $crate::MulticastMode = now;
            /// Whether broadcast travels.
            broadcast: $crate::BroadcastMode = now;
            /// How zeroconf travels.
            zeroconf: $crate::ZeroconfMode = now;
            /// What the VXLAN travels through.
            encrypt: $crate::Encryption = once;
            /// Whether endpoints may send from addresses that are not their own.
            spoofing: $crate::SpoofingMode = now;
            /// Whether its name servers ask the node's resolvers for names that are not their own.
            dns_forward: $crate::DnsForward = now;
            /// How long an answer of its name servers may be kept, in seconds; by default what each node's configuration says.
            dns_ttl: Option<u32> = now in 0..=$crate::DNS_TTL_MAX;
            /// Where its services get addresses, every one of them: a range, or one of each family with a comma between.
            service_addresses: Option<$crate::AddressRanges> = now;
            /// Where its nodes get an address of their own, by their index: a range, or one of each family with a comma between.
            node_addresses: Option<$crate::AddressRanges> = now;
        }
    };
}

/// One option: a line of [`NetworkOptions::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct NetworkOption {
    /// What it is called in JSON.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Whether it may be set on a network that is there; else it is what it was created with.
    pub changes: bool,
    /// The words that it may be, and what each means; none where it is a number or a text.
    pub choices: fn() -> Vec<Choice>,
    /// What stands for it in a command's help, where there are no such words.
    pub value: &'static str,
    get: fn(&NetworkOptions) -> Option<String>,
    set: fn(&mut NetworkOptions, &str) -> Result<(), String>,
    copy: fn(&NetworkOptions, &mut NetworkOptions),
}

/// An option has a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OptionError {
    /// The option's name.
    pub option: &'static str,
    /// What is wrong with the value.
    pub message: String,
}

fn within<T: OptionValue>(value: &T, limits: Option<RangeInclusive<u32>>) -> Result<(), String> {
    match (value.number(), limits) {
        (Some(number), Some(limits)) if !limits.contains(&number) => {
            Err(format!("{number} is not {} to {}", limits.start(), limits.end()))
        }
        _ => Ok(()),
    }
}

macro_rules! network_options_struct {
    ({} $(
        #[doc = $about:literal]
        $name:ident: $kind:ty = $when:ident $(in $limits:expr)?;
    )+) => {
        /// A value for each option of a network.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub struct NetworkOptions {
            $(
                #[doc = $about]
                pub $name: $kind,
            )+
        }

        impl NetworkOptions {
            /// Every option there is.
            pub const ALL: &'static [NetworkOption] = &[$(NetworkOption {
                name: stringify!($name),
                about: $about,
                changes: matches!(stringify!($when).as_bytes(), b"now"),
                choices: <$kind as OptionValue>::choices,
                value: <$kind as OptionValue>::VALUE,
                get: |options| options.$name.text(),
                set: |options, text| OptionValue::read(text).map(|value| options.$name = value),
                copy: |from, to| to.$name = from.$name,
            }),+];

            /// Finds the first option whose value is out of its limits.
            pub fn check(&self) -> Result<(), OptionError> {
                $(
                    within(&self.$name, None$(.or(Some($limits)))?)
                        .map_err(|message| OptionError { option: stringify!($name), message })?;
                )+
                Ok(())
            }
        }
    };
}

crate::network_options!(network_options_struct! {});

impl NetworkOption {
    /// What it is called on the command line, without `--`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// What it is in `options`, as a person writes it; `None` where it is left to others.
    pub fn get(&self, options: &NetworkOptions) -> Option<String> {
        (self.get)(options)
    }

    /// Sets it in `options` to what a person wrote; [`NetworkOptions::check`] then says whether it is within its limits.
    pub fn set(&self, options: &mut NetworkOptions, text: &str) -> Result<(), OptionError> {
        (self.set)(options, text).map_err(|message| OptionError { option: self.name, message })
    }

    /// Sets it in `to` to what it is in `from`.
    pub fn copy(&self, from: &NetworkOptions, to: &mut NetworkOptions) {
        (self.copy)(from, to);
    }
}

impl NetworkOptions {
    /// The option of this name.
    pub fn find(name: &str) -> Option<&'static NetworkOption> {
        Self::ALL.iter().find(|option| option.name == name)
    }

    /// The options in which the two differ.
    pub fn differences(&self, other: &Self) -> impl Iterator<Item = &'static NetworkOption> {
        Self::ALL.iter().filter(|option| option.get(self) != option.get(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_be_set_to_each_of_its_words_and_says_so() {
        for option in NetworkOptions::ALL {
            let mut options = NetworkOptions::default();
            let texts: Vec<String> = match (option.choices)() {
                words if words.is_empty() && option.value == "N" => {
                    vec!["auto".to_owned(), "1400".to_owned()]
                }
                words if words.is_empty() => {
                    vec!["auto".to_owned(), "10.0.0.8-10.0.0.9,fd00::8-fd00::9".to_owned()]
                }
                words => words.iter().map(|choice| choice.word.to_owned()).collect(),
            };
            assert!(texts.len() > 1, "{}: an option has a choice", option.name);
            assert_ne!(
                option.get(&options).as_ref(),
                texts.last(),
                "{}: the first is the default",
                option.name
            );
            for text in &texts {
                option.set(&mut options, text).unwrap();
                assert_eq!(option.get(&options).unwrap_or_else(|| "auto".to_owned()), *text);
                assert_eq!(options.check(), Ok(()));
            }
            let names = |found: &mut dyn Iterator<Item = &'static NetworkOption>| {
                found.map(|option| option.name).collect::<Vec<_>>()
            };
            let usual = NetworkOptions::default();
            assert_eq!(names(&mut usual.differences(&options)), [option.name]);
            let mut copy = usual;
            option.copy(&options, &mut copy);
            assert_eq!(copy, options, "nothing else was copied or left");
            let error = option.set(&mut options, "nonsense").unwrap_err();
            assert_eq!((error.option, error.message.contains("nonsense")), (option.name, true), "{error}");
            assert_eq!(copy, options, "what is refused changes nothing");
            assert_eq!(NetworkOptions::find(option.name).map(|found| found.name), Some(option.name));
        }
        assert!(NetworkOptions::find("colour").is_none());
    }

    #[test]
    fn the_names_in_json_are_the_names_of_the_table() {
        let json = serde_json::to_value(NetworkOptions::default()).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut table: Vec<_> = NetworkOptions::ALL.iter().map(|option| option.name).collect();
        table.sort_unstable();
        assert_eq!(names, table);
        for option in NetworkOptions::ALL {
            let text = option.get(&NetworkOptions::default());
            assert_eq!(json[option.name].as_str(), text.as_deref(), "{}: one word everywhere", option.name);
        }
    }

    #[test]
    fn a_number_out_of_its_limits_is_named() {
        for (option, text, good) in [
            ("mtu", "575", false),
            ("mtu", "576", true),
            ("mtu", "65535", true),
            ("mtu", "65536", false),
            ("dns_ttl", "0", true),
            ("dns_ttl", "86400", true),
            ("dns_ttl", "86401", false),
        ] {
            let mut options = NetworkOptions::default();
            NetworkOptions::find(option).unwrap().set(&mut options, text).unwrap();
            assert_eq!(
                options.check().map_err(|error| error.option),
                if good { Ok(()) } else { Err(option) },
                "{text}"
            );
        }
    }

    #[test]
    fn the_bytes_of_the_options_are_those_that_are_stored() {
        // Other versions read them: an option that comes goes to the end of the frozen types, not in between.
        let options = NetworkOptions {
            mtu: Some(1400),
            multicast: MulticastMode::Flood,
            zeroconf: ZeroconfMode::Off,
            encrypt: Encryption::Wireguard,
            dns_ttl: Some(5),
            ..NetworkOptions::default()
        };
        assert_eq!(postcard::to_stdvec(&options).unwrap(), [1, 0xf8, 0x0a, 1, 0, 2, 1, 0, 0, 1, 5, 0, 0]);
    }
}
