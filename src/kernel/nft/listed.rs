//! Tables as they are: their names, what is noted with one, and how many rules it has.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::super::raw::{self, within};
use super::{
    Family, NFT_MSG_GETRULE, NFT_MSG_GETTABLE, NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE, answer, table_mark,
};

/// The most that is read of the rules of a table.
const READ_MAX: usize = 16 << 20;

/// A table that is there.
pub(in crate::kernel) struct Listed {
    mark: Vec<u8>,
    /// How many rules it has.
    pub rules: u64,
}

impl Listed {
    /// What is noted with it.
    pub fn mark(&self) -> &[u8] {
        &self.mark
    }

    /// The first words of what is noted; `None` where there are not so many.
    pub fn words<const N: usize>(&self) -> Option<[u64; N]> {
        let (words, _) = self.mark.as_chunks();
        words.first_chunk().map(|words: &[[u8; 8]; N]| words.map(u64::from_be_bytes))
    }
}

impl Family {
    /// The tables of this family in the calling thread's namespace, a message each. Blocks.
    pub fn tables(self) -> io::Result<Vec<Vec<u8>>> {
        raw::dump(NETLINK_NETFILTER, &self.question(NFT_MSG_GETTABLE, &[]), &[answer(NFT_MSG_NEWTABLE)])
    }

    /// The table that the attribute `table` names, in the calling thread's namespace, if there is one. Blocks.
    pub fn table(self, table: &[u8]) -> io::Result<Option<Listed>> {
        let name = within(table, 1);
        let is_it = |message: &[u8]| table_name(message) == name;
        let tables = self.tables()?;
        let Some(found) = tables.iter().find(|message| is_it(message)) else { return Ok(None) };
        let mark = table_mark(found).unwrap_or_default().to_vec();
        let mut rules = 0;
        // A kernel that does not look at what was asked for lists those of all tables.
        let mut note = |message: &[u8]| rules += u64::from(is_it(message));
        let question = self.question(NFT_MSG_GETRULE, table);
        match raw::each_of(NETLINK_NETFILTER, &question, &[answer(NFT_MSG_NEWRULE)], READ_MAX, &mut note) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read?,
        }
        Ok(Some(Listed { mark, rules }))
    }
}

/// The name of the table that a message is about, or that its rule is in, with its final 0.
pub(in crate::kernel) fn table_name(message: &[u8]) -> Option<&[u8]> {
    within(message.get(4..)?, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_where_there_are_so_many() {
        let listed =
            Listed { mark: [&7_u64.to_be_bytes()[..], &9_u64.to_be_bytes(), &[1, 2]].concat(), rules: 0 };
        assert_eq!(listed.words(), Some([7]));
        assert_eq!(listed.words(), Some([7, 9]));
        assert_eq!(listed.words::<3>(), None);
    }
}
