//! The page: what goes on in the cluster, for people to look at in a browser.
//!
//! Owns: HTTP at an address, who may see and change what there, what is read of the agent and how often, and how changes are
//! sent on. Does not own: what is shown of it, which is in `ui/` and comes built; what any of it means. It is a client of the
//! agent's socket like every other, so whatever it can show or do is what the socket has.

mod door;
mod files;
mod foretell;
mod page;
mod picture;
mod server;
mod source;
#[cfg(test)]
mod tests;
mod token;

pub use page::Page;
pub use server::serve;
pub use token::{Token, TokenError};
