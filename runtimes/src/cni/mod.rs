//! The Container Network Interface, versions 0.3.0 to 1.1.0 of the specification: what a runtime says in the environment and on
//! standard input, and what it is answered.

mod args;
mod call;
mod config;
mod error;
mod reply;
#[cfg(test)]
mod tests;
mod version;

pub use args::Args;
pub use call::{Call, Command};
pub use config::{Attachment, Config, version_in};
pub use error::{Error, code};
pub use reply::{reply, supported};
pub use version::Version;
