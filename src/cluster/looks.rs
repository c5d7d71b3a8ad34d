//! What is asked for elsewhere of this node's endpoints by mDNS: what others tell of it, and its bytes. Does not own what is
//! made of it (the agent).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};

use super::v2;
use super::wire::Question;
use crate::model::NetworkId;

/// Asked: a [`v2::Look`]; answered: that it was heard.
const LOOK: u16 = 7;
/// How many other nodes are told at once; what is more is left out.
const AT_ONCE: usize = 8;
/// How many wait for an agent that is busy; the oldest are left out.
const WAITING: usize = 64;
/// How much one may hold.
const SOUGHT_MAX: usize = 32;

/// What somebody has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// In which network.
    pub network: NetworkId,
    /// The labels of each name, and the number of the type in DNS.
    pub sought: Vec<(Vec<Vec<u8>>, u16)>,
}

/// What others tell and are told.
#[derive(Debug)]
pub(super) struct Looks {
    pub heard: broadcast::Sender<Arc<Look>>,
    pub telling: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { heard: broadcast::channel(WAITING).0, telling: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Looks {
    /// Takes what a member tells; `None` where it is something else.
    pub fn answer(&self, question: &Question) -> Option<Bytes> {
        if question.number != LOOK {
            return None;
        }
        let v2::Look { network, mut sought } = v2::unpack(&question.body)?;
        sought.truncate(SOUGHT_MAX);
        // Nobody may have a network to look in.
        let _ = self.heard.send(Arc::new(Look { network: NetworkId::from_bytes(network), sought }));
        Some(v2::pack(&true))
    }
}

/// What a node is told.
pub(super) fn question(look: Look) -> Question {
    let look = v2::Look { network: *look.network.as_bytes(), sought: look.sought };
    Question { number: LOOK, body: v2::pack(&look) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_by_who_listens_and_no_more_than_may_be() {
        let looks = Looks::default();
        let mut heard = looks.heard.subscribe();
        let name = vec![b"a".to_vec(), b"local".to_vec()];
        let sought = vec![(name.clone(), 33); 100];
        let body = v2::pack(&v2::Look { network: [7; 8], sought });
        assert!(looks.answer(&Question { number: LOOK, body: body.clone() }).is_some());
        let look = heard.try_recv().expect("it was heard");
        assert_eq!((look.network, look.sought.len()), (NetworkId::from_bytes([7; 8]), SOUGHT_MAX));
        assert_eq!(look.sought[0], (name, 33));
        assert_eq!(looks.answer(&Question { number: LOOK - 1, body }), None);
        assert_eq!(looks.answer(&Question { number: LOOK, body: Bytes::from_static(b"x") }), None);
    }
}
