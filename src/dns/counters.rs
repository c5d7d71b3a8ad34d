//! What the name servers of a node have done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;
use serde::Serialize;

use crate::metrics::Histogram;

/// The codes that are counted by themselves, and what they are called.
pub(super) const RCODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "noerror"),
    (ResponseCode::FormErr, "formerr"),
    (ResponseCode::ServFail, "servfail"),
    (ResponseCode::NXDomain, "nxdomain"),
    (ResponseCode::NotImp, "notimp"),
    (ResponseCode::Refused, "refused"),
    (ResponseCode::BADVERS, "badvers"),
];

/// What was answered, and how soon.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// In the order of [`RCODES`]; the last is of all others.
    rcodes: [Count; RCODES.len() + 1],
    /// From when a query was read to when its answer was sent.
    pub took: Histogram,
}

impl Answered {
    /// One more with this code.
    pub fn add(&self, rcode: ResponseCode) {
        let place = RCODES.iter().position(|(code, _)| *code == rcode).unwrap_or(RCODES.len());
        self.rcodes[place].add();
    }

    /// How many had each code, in the order of [`RCODES`]; then all others.
    pub fn rcodes(&self) -> impl Iterator<Item = u64> {
        self.rcodes.iter().map(|count| count.0.load(Ordering::Relaxed))
    }
}

/// Defines a set of counters and its snapshot side by side.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the name servers of a node have done since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters as they are counted.
        #[derive(Debug, Default)]
        pub(super) struct Counting {
            $(pub $name: Count,)*
            /// What was answered, and how soon.
            pub answered: Answered,
        }

        impl Counting {
            /// The numbers at this moment.
            pub fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Queries over UDP.
    udp,
    /// Queries over TCP.
    tcp,
    /// Answered from a zone of ours.
    zone,
    /// Of these: names that do not exist.
    nxdomain,
    /// Sent to the node's resolvers.
    forwarded,
    /// Answered from what the node's resolvers said before.
    cached,
    /// Not answered by any of the node's resolvers in time.
    unanswered,
    /// Not forwarded because too many were under way.
    overloaded,
    /// Refused: asked from outside the network, or for something that is not served.
    refused,
    /// Malformed.
    malformed,
    /// Dropped because their sender asked too much.
    limited,
    /// Cut to what fits a datagram.
    truncated,
    /// TCP connections that were closed because there were too many or they were too slow.
    closed,
}

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// So many more.
    pub fn add_many(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}
