//! Frames for whoever wants to look at them: which of them (`filter`), and as a file that other programs read (`pcap`). Pure.
//!
//! Does not own where they come from (`kernel/capture.rs`), nor who may have them.

mod filter;
mod parts;
mod pcap;

pub use filter::{Filter, FilterError};
pub use pcap::{Packet, SNAPLEN, header};
