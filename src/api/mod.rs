//! The local socket: HTTP/JSON under `/v1` over a unix socket.
//!
//! Owns: the requests and answers, who may do what, the server with its limits, the OpenAPI document and the
//! client. Does not own: what a request means, which is the [`Backend`]'s business.

pub mod access;
pub mod address;
pub mod backend;
mod call;
mod caller;
pub mod check;
pub mod client;
mod desired;
pub mod error;
pub mod events;
mod listener;
mod openapi;
mod peer;
pub mod ranges;
mod routes;
mod schema;
mod scrape;
mod server;
mod shared;
mod table;
pub mod types;
mod visitors;

pub use access::Access;
pub use backend::{Answer, Backend};
pub use error::{ApiError, ErrorBody, ErrorDetail, ErrorKind};
pub use events::{Event, EventKind, EventLog, EventObject, EventReader, Watch, Watched};
pub use listener::{BindError, Socket, passed_on};
pub use scrape::serve_metrics;
pub use server::{Limits, serve};
pub use visitors::{Place, Visitors, listen};

#[cfg(test)]
pub(crate) mod tests;
