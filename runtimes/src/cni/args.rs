//! `CNI_ARGS`: pairs that a runtime passes from its user.

use std::collections::BTreeMap;

use lanmesh_model::Extras;

use super::error::{Error, code};

/// Begins those that are for lanmesh.
const OURS: &str = "LANMESH_";
/// Those for lanmesh.
const OUR_KEYS: [&str; 4] = ["LANMESH_NAME", "LANMESH_SERVICE", "LANMESH_SLOT", "LANMESH_ALIAS"];
/// Those of others that are understood, or begin with these.
const THEIRS: [&str; 5] = ["IgnoreUnknown", "IP", "MAC", "K8S_POD_", "NOMAD_"];

/// The key for one of the words that every runtime has.
pub(super) fn key_of(word: &str) -> String {
    format!("{OURS}{}", word.to_ascii_uppercase().replace('-', "_"))
}

/// What `CNI_ARGS` has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads `KEY=VALUE;KEY=VALUE`.
    ///
    /// # Errors
    /// A part is no pair, or its key is not known and `IgnoreUnknown` is not among them. One that begins with `LANMESH_` has to
    /// be known in any case.
    pub fn read(text: &str) -> Result<Self, Error> {
        let mut found = BTreeMap::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(code::ENVIRONMENT, format!("CNI_ARGS has {pair:?}, which is not KEY=VALUE"))
            })?;
            found.insert(key.to_owned(), value.to_owned());
        }
        let args = Self(found);
        let lenient = args
            .get("IgnoreUnknown")
            .is_some_and(|value| matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T"));
        for key in args.0.keys() {
            let known = OUR_KEYS.contains(&key.as_str())
                || Extras::WORDS.iter().any(|word| key_of(word) == *key)
                || THEIRS.iter().any(|theirs| key.starts_with(theirs));
            if !known && (!lenient || key.starts_with(OURS)) {
                return Err(Error::new(code::ENVIRONMENT, format!("CNI_ARGS has {key}, which is not known"))
                    .hint(format!("there are IP, MAC, K8S_POD_NAME and others of its kind, NOMAD_*, {}, {}; IgnoreUnknown=1 lets others pass", OUR_KEYS.join(", "), Extras::WORDS.map(key_of).join(", "))));
            }
        }
        Ok(args)
    }

    /// The value of a key, unless it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}
