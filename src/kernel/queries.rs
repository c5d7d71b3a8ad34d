//! Keeps what one endpoint asks the network's name server to a rate, before it gets as far as the server's socket: the
//! queue there is one for all, and a server that throws queries away has read them first.
//!
//! A table of nf_tables in the network's namespace, in the family of bridges, where frames leave the bridge for the
//! network's own address. There the port that each came in by is known, which no endpoint can choose, and IPv4 and IPv6
//! go by alike. What endpoints send each other does not pass.
//!
//! The rate is held against a port only while others ask too: whoever is alone hurts nobody. The first that asks takes a
//! set with room for one; a query of any other finds it full, and notes that there are others.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;

use super::nft::{
    self, Base, Compare, Each, Expression, Family, NF_ACCEPT, NF_DROP, bytes, compare, constant, device,
    device_name, goto, layer_4, not_in, note_in, verdict,
};
use super::raw::{Lister, attribute, nested};
use crate::plan::PortName;

const TABLE: &[u8] = b"lanmesh-names\0";
/// Raised when other rules or sets are made for the same rate.
const VERSION: u32 = 2;

/// For how long one counts as being there after its last query, in milliseconds: longer than the five seconds after which
/// a client asks again.
const PRESENT: u64 = 10_000;
/// How often the kernel looks for elements whose time is over, in milliseconds.
const SWEEP: u32 = 1_000;
/// After a minute every bucket is full again, in milliseconds.
const BUCKET: u64 = 60_000;
/// More than the ports of a bridge, which are at most 1023, of those of a while ago too. The kernel makes as many buckets at once, and
/// goes through all of them whenever the set is listed.
const ROOM: u32 = 8_192;

/// The sets: name, type of the key in the words of nft, its length in bytes, how many elements it holds, and whether
/// they go after a time.
const SETS: [(&[u8], u32, u32, u32, bool); 4] = [
    (ALONE, 20, 4, 1, true),
    (OTHERS, 19, 4, 1, true),
    (ASKING, 20, 4, ROOM, true),
    (DROPPED, 41, 16, ROOM, false),
];

/// The port that asked first.
const ALONE: &[u8] = b"alone\0";
/// Has an element while there are others than that.
const OTHERS: &[u8] = b"others\0";
/// The bucket of each port.
const ASKING: &[u8] = b"asking\0";
/// How much of what each port asked was dropped.
const DROPPED: &[u8] = b"dropped\0";

/// Which queries, and on to the next.
const INPUT: &[u8] = b"input\0";
const QUERY: &[u8] = b"query\0";
const FIRST: &[u8] = b"first\0";
const EXCESS: &[u8] = b"excess\0";
const DROP: &[u8] = b"drop\0";

/// How many queries of one port reach the name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueryLimit {
    /// Each second.
    pub per_s: u32,
}

impl QueryLimit {
    /// How many at once after a quiet time: fewer than the server's socket can hold.
    fn burst(self) -> u32 {
        (self.per_s / 5).clamp(20, 4_000)
    }

    /// A number that is another one where the rules are.
    fn mark(self) -> [u8; 8] {
        (u64::from(VERSION) << 32 | u64::from(self.per_s)).to_be_bytes()
    }

    /// The rules of each chain. A chain at whose end nothing is said lets pass.
    fn chains(self) -> [(&'static [u8], Vec<Vec<Expression>>); 5] {
        const UDP: u8 = 17;
        const DNS: [u8; 2] = 53_u16.to_be_bytes();
        const KEY: [u8; 4] = [0; 4];
        let over = || Each::Over { packets_per_s: self.per_s, burst: self.burst() };
        let over = |then| vec![device(), note_in(ASKING, Some(BUCKET), Some(over())), goto(then)];
        let to_server = vec![
            layer_4(),
            compare(Compare::Equal, &[UDP]),
            bytes(Base::Transport, 2, 2),
            compare(Compare::Equal, &DNS),
            goto(QUERY),
        ];
        [
            (
                DROP,
                vec![vec![device_name(), note_in(DROPPED, None, Some(Each::Count))], vec![verdict(NF_DROP)]],
            ),
            (EXCESS, vec![vec![constant(&KEY), not_in(OTHERS), verdict(NF_ACCEPT)], vec![goto(DROP)]]),
            (FIRST, vec![over(EXCESS)]),
            (
                QUERY,
                vec![
                    vec![device(), note_in(ALONE, Some(PRESENT), None), goto(FIRST)],
                    vec![constant(&KEY), note_in(OTHERS, Some(PRESENT), None)],
                    over(DROP),
                ],
            ),
            (INPUT, vec![to_server]),
        ]
    }
}

/// Puts the rules in the place of those that are there, in the calling thread's namespace. Blocks. The answer is the
/// kernel's refusal, if any.
pub(super) fn put(limit: QueryLimit) -> io::Result<Option<Errno>> {
    let mut content: Vec<_> = sets().collect();
    let chains = limit.chains();
    // A rule may lead to a chain only if it is there.
    content.extend(chains.iter().map(|(name, _)| Family::Bridge.make(nft::NFT_MSG_NEWCHAIN, &chain(name))));
    for (name, rules) in &chains {
        content.extend(rules.iter().map(|expressions| {
            let rule = [attribute(1, TABLE), attribute(2, name), nested(4, expressions)].concat();
            Family::Bridge.append(nft::NFT_MSG_NEWRULE, &rule)
        }));
    }
    Family::Bridge.put_table(&attribute(1, TABLE), &limit.mark(), content)
}

fn sets() -> impl Iterator<Item = Vec<u8>> {
    const NFT_SET_TIMEOUT: u32 = 0x10;
    const NFT_SET_EVAL: u32 = 0x20;
    (1..).zip(SETS).map(|(id, (name, kind, length, room, passing))| {
        let mut set = vec![
            attribute(1, TABLE),
            attribute(2, name),
            nft::number(3, NFT_SET_EVAL | if passing { NFT_SET_TIMEOUT } else { 0 }),
            nft::number(4, kind),
            nft::number(5, length),
            nested(9, &[nft::number(1, room)]),
            nft::number(10, id),
        ];
        if passing {
            set.push(nft::number(12, SWEEP));
        }
        Family::Bridge.make(nft::NFT_MSG_NEWSET, &set.concat())
    })
}

/// The chain with this name: the first one sees what leaves the bridge for the network's own address.
fn chain(name: &[u8]) -> Vec<u8> {
    const NF_BR_LOCAL_IN: u32 = 1;
    let mut chain = vec![attribute(1, TABLE), attribute(3, name)];
    if name == INPUT {
        chain.push(nested(4, &[nft::number(1, NF_BR_LOCAL_IN), nft::number(2, 0)]));
        chain.push(attribute(7, b"filter\0"));
    }
    chain.concat()
}

/// Whether the rules that are there, in the calling thread's namespace, are these. Blocks.
pub(super) fn is_there(limit: QueryLimit) -> io::Result<bool> {
    Ok(Family::Bridge.tables()?.iter().any(|table| is_marked(table, limit)))
}

/// Whether a table is ours and has these rules, behind struct nfgenmsg.
fn is_marked(table: &[u8], limit: QueryLimit) -> bool {
    nft::table_name(table) == Some(TABLE) && nft::table_mark(table) == Some(&limit.mark())
}

/// How many queries of each port were dropped, in the calling thread's namespace. `lister` asks nf_tables. Blocks.
pub(super) fn dropped(lister: &mut Lister) -> io::Result<BTreeMap<PortName, u64>> {
    let set = [attribute(1, TABLE), attribute(2, DROPPED)].concat();
    let question = Family::Bridge.question(nft::NFT_MSG_GETSETELEM, &set);
    let answers = [nft::answer(nft::NFT_MSG_NEWSETELEM)];
    lister.collect(&question, &answers, &mut |found: &mut BTreeMap<_, _>, message| {
        found.extend(elements(message));
    })
}

/// The elements of the set of those dropped in one message, behind struct nfgenmsg.
fn elements(message: &[u8]) -> Vec<(PortName, u64)> {
    let port = |(key, element): (&[u8], &[u8])| {
        let name = std::str::from_utf8(key.split(|byte| *byte == 0).next()?).ok()?;
        Some((PortName::recognise(name)?, nft::counted_of(element)?.packets))
    };
    nft::elements(message).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_read_and_broken_messages_are_passed_over() {
        let counter = [attribute(1, &700_u64.to_be_bytes()), attribute(2, &7_u64.to_be_bytes())];
        let counted = nested(7, &[attribute(1, b"counter\0"), nested(2, &counter)]);
        let element = |name: &[u8]| nested(1, &[nested(1, &[attribute(1, name)]), counted.clone()]);
        let name = "lm0123456789abc";
        let all = [element(b"vx0\0\0\0\0\0\0\0\0\0\0\0\0\0"), element(&[name.as_bytes(), b"\0"].concat())];
        let message = [vec![7, 0, 0, 0], attribute(1, TABLE), nested(3, &all)].concat();
        assert_eq!(elements(&message), [(PortName::recognise(name).unwrap(), 7)]);
        for end in 0..message.len() {
            elements(&message[..end]);
        }
    }

    #[test]
    fn rules_for_another_rate_are_others() {
        let limit = QueryLimit { per_s: 20_000 };
        let table = |name: &[u8]| {
            [vec![7, 0, 0, 0], attribute(1, name), attribute(6, &nft::as_note(&limit.mark()))].concat()
        };
        assert!(is_marked(&table(TABLE), limit));
        assert!(!is_marked(&table(TABLE), QueryLimit { per_s: 20_001 }));
        assert!(!is_marked(&table(b"lanmesh\0"), limit));
        assert!(!is_marked(&table(TABLE)[..12], limit));
    }

    #[test]
    fn a_burst_is_less_than_a_socket_holds_and_enough_for_a_client() {
        let burst = |per_s| QueryLimit { per_s }.burst();
        assert_eq!([1, 1_000, 20_000, u32::MAX].map(burst), [20, 200, 4_000, 4_000]);
    }
}
