//! Addresses that move by themselves from one endpoint to another: what this node says of those that are at its endpoints.
//!
//! Owns: what of that which endpoints say is believed, for how long, and which of it moves (`book`). Pure: time, what was
//! said and what is known in, what is to be published, asked and told out. Does not own how it is heard and asked
//! (`kernel`), nor what follows from what all nodes say (`reconcile`).

mod book;
mod given;

pub use book::{Around, Book, News, OF_ENDPOINT, OF_NETWORK, Question};
pub use given::Given;
