//! What a page is told at its start.

use std::time::Duration;

use super::door::Door;
use super::token::Token;
use crate::api::client::Client;

/// A page, for whom it is, and what it may take.
#[derive(Debug, Clone)]
pub struct Page {
    pub(super) client: Client,
    pub(super) door: Door,
    pub(super) limits: Limits,
}

/// What visitors may take.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// So many connections at once, and so many of one address.
    pub connections: usize,
    pub of_one: usize,
    /// So many of them look, and stay.
    pub lookers: usize,
    /// How long a connection may last that does not look, and how long one that does.
    pub lasts: Duration,
    pub looks: Duration,
    /// How long somebody who looks may take to take what he is sent.
    pub patience: Duration,
    /// How often he is told that he is still connected.
    pub beat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            of_one: 24,
            lookers: 16,
            lasts: Duration::from_secs(30),
            looks: Duration::from_secs(3600),
            patience: Duration::from_secs(20),
            beat: Duration::from_secs(2),
        }
    }
}

impl Page {
    /// One that shows what the agent of this client says, to everybody who reaches it.
    pub fn new(client: Client) -> Self {
        Self { client, door: Door::default(), limits: Limits::default() }
    }

    /// Whoever has this token may change something.
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.door.token = token;
        self
    }

    /// Nobody sees anything without the token.
    pub fn closed(mut self, closed: bool) -> Self {
        self.door.closed = closed;
        self
    }

    /// It is also reached by these names.
    pub fn with_names(mut self, names: Vec<String>) -> Self {
        self.door.names = names;
        self
    }
}
