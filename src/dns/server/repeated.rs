//! Answers that are given again, byte for byte, to whoever asks the same in the same words.
//!
//! Programs ask the same few questions again and again. Only what cannot differ is kept: an authoritative answer
//! with at most one record, for as long as its zone is the current one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dns::zone::Zone;

/// How many answers are kept; when there are more it begins anew.
const MOST: usize = 4096;
/// The longest query that is worth keeping, in bytes.
const QUERY_MAX: usize = 256;

/// The answers that one socket gave from one zone.
#[derive(Debug)]
pub(super) struct Repeated {
    zone: Arc<Zone>,
    /// By all of the query but its id.
    answers: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl Repeated {
    pub fn new(zone: Arc<Zone>) -> Self {
        Self { zone, answers: HashMap::new() }
    }

    /// Forgets everything if `zone` is another one.
    pub fn keep_to(&mut self, zone: &Arc<Zone>) {
        if !Arc::ptr_eq(&self.zone, zone) {
            *self = Self::new(zone.clone());
        }
    }

    /// The answer to a query, if it was given before: without its id, which is the query's.
    pub fn get(&self, query: &[u8]) -> Option<&[u8]> {
        self.answers.get(query.get(2..)?).map(|answer| &**answer)
    }

    /// Keeps an answer, if it is one that can be given again.
    pub fn put(&mut self, query: &[u8], answer: &[u8]) {
        let (Some(question), [_, _, flags, _, _, _, several, one, ..]) = (query.get(2..), answer) else {
            return;
        };
        // AA and not TC (RFC 1035 section 4.1.1); several records are in another order each time.
        let same_again = flags & 0b110 == 0b100 && *several == 0 && *one <= 1;
        if !same_again || query.len() > QUERY_MAX {
            return;
        }
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        self.answers.insert(question.into(), answer[2..].into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::zone::testing::Lab;

    fn answer(flags: u8, records: u8) -> Vec<u8> {
        vec![9, 9, flags, 0, 0, 1, 0, records, 0, 0, 0, 0, 42]
    }

    #[test]
    fn only_an_answer_that_cannot_differ_is_given_again_and_only_from_its_zone() {
        let zone = Arc::new(Lab::new(&["10.0.0.0/24"]).zone());
        let mut repeated = Repeated::new(zone.clone());
        for (query, flags, records) in
            [(b"..forwarded", 0x80, 1), (b"..truncated", 0x86, 1), (b"..seve-ral.", 0x84, 2)]
        {
            repeated.put(query, &answer(flags, records));
            assert_eq!(repeated.get(query), None);
        }
        repeated.put(b"12a query", &answer(0x84, 1));
        assert_eq!(repeated.get(b"34a query"), Some(&answer(0x84, 1)[2..]));
        assert_eq!(repeated.get(b"34A query"), None);
        repeated.keep_to(&zone);
        assert!(repeated.get(b"12a query").is_some());
        repeated.keep_to(&Arc::new(Lab::new(&["10.0.0.0/24"]).zone()));
        assert_eq!(repeated.get(b"12a query"), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut repeated = Repeated::new(Arc::new(Lab::new(&["10.0.0.0/24"]).zone()));
        for i in 0..3 * MOST {
            repeated.put(format!("..{i}").as_bytes(), &answer(0x84, 0));
            assert!(repeated.answers.len() <= MOST);
        }
    }
}
