//! Names as keys: labels in wire format, in lower case, without the root.

use hickory_proto::rr::Name;

/// A name in lower case, for comparing and looking up (RFC 4343: only ASCII letters have a case).
pub(super) struct Lower {
    bytes: [u8; 256],
    len: usize,
}

impl Lower {
    pub fn of(name: &Name) -> Self {
        let mut lower = Self { bytes: [0; 256], len: 0 };
        for label in name {
            let end = lower.len + 1 + label.len();
            // RFC 1035 section 2.3.4: 255 bytes with the root; the codec lets nothing longer through.
            let Some(room) = lower.bytes.get_mut(lower.len..end) else { break };
            room[0] = label.len() as u8;
            room[1..].copy_from_slice(label);
            room[1..].make_ascii_lowercase();
            lower.len = end;
        }
        lower
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What stands to the left of `zone`, if the name is in it.
    pub fn under(&self, zone: &[u8]) -> Option<&[u8]> {
        let head = self.as_bytes().strip_suffix(zone)?;
        // The end of the head must be the end of a label, not a place inside one.
        let mut at = 0;
        while at < head.len() {
            at += 1 + usize::from(head[at]);
        }
        (at == head.len()).then_some(head)
    }
}

/// The key with these labels.
pub(super) fn key<L: AsRef<[u8]>>(labels: impl IntoIterator<Item = L>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(32);
    for label in labels {
        let label = label.as_ref();
        bytes.push(label.len() as u8);
        bytes.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    bytes.into_boxed_slice()
}

/// The labels of a key, from the left.
pub(super) fn labels(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first()?;
        let (label, after) = after.split_at_checked(usize::from(*len))?;
        rest = after;
        Some(label)
    })
}
