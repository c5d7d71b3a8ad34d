//! What a runtime is told of a failure ("Error" in the specification).

use serde_json::{Value, json};

/// The codes: those below 100 are the specification's.
pub mod code {
    /// The version of the configuration is none that is spoken.
    pub const VERSION: u32 = 1;
    /// The container is not known, or has nothing here.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A variable of the environment is missing or wrong.
    pub const ENVIRONMENT: u32 = 4;
    /// Something could not be read or written.
    pub const IO: u32 = 5;
    /// What came on standard input is no JSON.
    pub const DECODE: u32 = 6;
    /// The network's configuration is wrong.
    pub const CONFIG: u32 = 7;
    /// Not now; the same may succeed later.
    pub const LATER: u32 = 11;
    /// STATUS: nothing can be attached.
    pub const UNAVAILABLE: u32 = 50;
    /// STATUS: what is attached may not reach everybody.
    pub const LIMITED: u32 = 51;
    /// The agent refused; what it says is in the message.
    pub const REFUSED: u32 = 100;
    /// The interface is attached already.
    pub const ATTACHED: u32 = 101;
    /// What is there is not what CHECK was told to expect.
    pub const DIFFERS: u32 = 102;
}

/// Why a call failed, for the runtime and for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct Error {
    /// One of [`code`].
    pub code: u32,
    /// In one line.
    pub msg: String,
    /// What to do about it; may be empty.
    pub details: String,
}

impl Error {
    /// A failure, and nothing more to say of it.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// As it is printed; `version` is that of the configuration, as it was written there.
    pub fn reply(&self, version: &str) -> Value {
        let mut reply = json!({ "cniVersion": version, "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            reply["details"] = self.details.clone().into();
        }
        reply
    }
}
