//! Names that people give: to nodes, networks, endpoints and services. All of them become DNS labels.

use std::fmt;
use std::str::FromStr;

use lanmesh_ipam::stable_hash;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a text cannot be a name. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or longer than a DNS label may be (63 octets, RFC 1035 section 2.3.4).
    #[error("the {what} {text:?} has {len} characters: give it between 1 and {max}")]
    Length {
        /// What was to be named.
        what: &'static str,
        /// The text that was given, cut at 80 characters.
        text: String,
        /// Its length in bytes.
        len: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// A character that a host name cannot hold, or one in a place where it cannot stand.
    #[error(
        "the {what} {text:?} is not a host name: use letters, digits, '-' and '_', with a letter or digit at both ends"
    )]
    Alphabet {
        /// What was to be named.
        what: &'static str,
        /// The text that was given.
        text: String,
    },
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() || text.len() > max {
        let len = text.len();
        return Err(NameError::Length { what, text: text.chars().take(80).collect(), len, max });
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let bytes = text.as_bytes();
    let ends = [bytes[0], bytes[bytes.len() - 1]];
    if !bytes.iter().all(|b| inner(*b)) || !ends.iter().all(u8::is_ascii_alphanumeric) {
        return Err(NameError::Alphabet { what, text: text.to_owned() });
    }
    Ok(())
}

/// A text that [`check`] takes, made of any.
fn like(text: &str, max: usize) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '_']);
    // Sixteen digits.
    let hash = || format!("{:016x}", stable_hash(text.as_bytes()));
    if plain.is_empty() {
        format!("c-{}", hash())
    } else if plain.len() > max {
        format!("{}-{}", plain[..max - 17].trim_end_matches(['-', '_']), hash())
    } else {
        plain.to_owned()
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it in lower case: names that differ in case are one name, as they are in the DNS
            /// (RFC 4343).
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let mut text = text.into();
                check($what, &text, $max)?;
                text.make_ascii_lowercase();
                Ok(Self(text))
            }

            /// A name made of any text: what a name cannot hold becomes `-`, and of one that is too long the end becomes
            /// its hash. The same text gives the same name.
            pub fn of_text(text: &str) -> Self {
                Self(like(text, $max).to_ascii_lowercase())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// A node's name, unique in the cluster.
    NodeName, "node name", 63
);
name!(
    /// A network's name. The older of two networks with one name owns it.
    NetworkName, "network name", 63
);
name!(
    /// An endpoint's name, or an alias of one, unique in its network.
    EndpointName, "endpoint name", 63
);
name!(
    /// A service: what several endpoints are together, each in a slot of its own.
    ServiceName, "service name", 63
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_taken_and_anything_else_is_refused() {
        for good in ["a", "cc-1", "Build_7", "0", &"x".repeat(63)] {
            assert!(EndpointName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a b", "ü", "_x", &"x".repeat(64)] {
            assert!(EndpointName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_text_gives_a_name_and_two_that_are_cut_differ() {
        for text in ["", ".", "a.", "_a_", &"x".repeat(200), "ü", "a/b", "A.B", &"é".repeat(90)] {
            let name = EndpointName::of_text(text);
            assert_eq!(EndpointName::new(name.as_str()), Ok(name), "{text}");
        }
        let long = |end: &str| EndpointName::of_text(&format!("{}{end}", "x".repeat(70)));
        assert_ne!(long("a"), long("b"));
        assert_eq!(EndpointName::of_text("My.app-1").as_str(), "my-app-1");
    }

    #[test]
    fn names_that_differ_in_case_are_one_name_however_they_come() {
        let name = NetworkName::new("BuildNet").expect("is one");
        assert_eq!((name.as_str(), Ok(&name)), ("buildnet", "BUILDNET".parse().as_ref()));
        assert_eq!(serde_json::from_str::<NetworkName>("\"buildNET\"").expect("is one"), name);
    }

    #[test]
    fn a_bad_name_in_json_says_what_was_to_be_named() {
        let error = serde_json::from_str::<NetworkName>("\"a b\"").expect_err("has a space");
        assert!(error.to_string().contains("network name"), "{error}");
    }
}
