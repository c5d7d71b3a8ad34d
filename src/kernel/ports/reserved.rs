//! Published ports are none that the node gives to connections of its own: what is answered at one would go to an endpoint.
//!
//! They are reserved among those of others (`net.ipv4.ip_local_reserved_ports`, which is for IPv6 too). Which of them were not there before
//! is noted in the run directory, before and after a change, so that they alone are taken back; and which are to be there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::super::notes;

/// In the calling thread's network namespace.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// More than a list of every second port is long. The kernel shows it once, and no more of it than is asked for.
const LONGEST: usize = 512 << 10;

type Ports = BTreeSet<u16>;

/// Those that an agent has reserved.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    note: PathBuf,
}

impl Reserved {
    /// Those of the agent with this run directory.
    pub fn of(run_dir: &Path) -> Self {
        Self { note: run_dir.join("reserved-ports") }
    }

    /// Reserves these, and no others any more, in the calling thread's namespace. Blocks.
    pub fn set(&self, wanted: &Ports) -> io::Result<()> {
        let (noted, there) = (self.noted(), there()?);
        let others: Ports = there.difference(&noted.ours).copied().collect();
        let ours: Ports = wanted.difference(&others).copied().collect();
        let all: Ports = others.union(&ours).copied().collect();
        if all != there {
            let either = noted.ours.union(&ours).copied().collect();
            self.write(&Noted { ours: either, wanted: wanted.clone() })?;
            std::fs::write(RESERVED, listed(&all) + "\n")?;
        }
        let now = Noted { ours, wanted: wanted.clone() };
        if now == noted { Ok(()) } else { self.write(&now) }
    }

    /// Whether those that were to be reserved in the calling thread's namespace are, by whomever; `None` where none were. Blocks.
    pub fn find(&self) -> Option<bool> {
        let noted = self.noted();
        // Where it cannot be seen it could not be mended either.
        let whole = || there().map_or(true, |there| noted.wanted.is_subset(&there));
        (noted != Noted::default()).then(whole)
    }

    /// What cannot be read was somebody else's.
    fn noted(&self) -> Noted {
        let read = |text: String| {
            let mut lines = text.lines();
            Some(Noted { ours: parse(lines.next()?)?, wanted: parse(lines.next()?)? })
        };
        std::fs::read_to_string(&self.note).ok().and_then(read).unwrap_or_default()
    }

    fn write(&self, noted: &Noted) -> io::Result<()> {
        let Noted { ours, wanted } = noted;
        match *noted == Noted::default() {
            false => notes::write(&self.note, format!("{}\n{}\n", listed(ours), listed(wanted)).as_bytes()),
            true => notes::remove(&self.note),
        }
    }
}

/// What is written down.
#[derive(Debug, Default, PartialEq, Eq)]
struct Noted {
    /// Those that were not there before.
    ours: Ports,
    /// Those that are to be there, whoever else reserved them.
    wanted: Ports,
}

fn there() -> io::Result<Ports> {
    let mut text = vec![0; LONGEST];
    let length = File::open(RESERVED)?.read(&mut text)?;
    let text = text.get(..length).and_then(|text| str::from_utf8(text).ok());
    text.and_then(parse).ok_or_else(|| io::Error::other(format!("{RESERVED} cannot be read")))
}

/// Ports and ranges of them, with commas between.
fn parse(text: &str) -> Option<Ports> {
    let mut ports = Ports::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        ports.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(ports)
}

fn listed(ports: &Ports) -> String {
    let mut text = String::new();
    let mut ports = ports.iter().copied().peekable();
    while let Some(first) = ports.next() {
        let mut last = first;
        while let Some(next) = ports.next_if(|next| Some(*next) == last.checked_add(1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let written = match first == last {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}-{last}"),
        };
        debug_assert!(written.is_ok(), "a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse("\n"), Some(Ports::new()));
        assert_eq!(parse("80,8080-8082,65535\n"), Some([80, 8080, 8081, 8082, 65535].into()));
        assert_eq!(listed(&[80, 8080, 8081, 8082, 65535].into()), "80,8080-8082,65535");
        for broken in ["x", "1-", "-1", "70000", "1 2"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(ports in prop::collection::btree_set(any::<u16>(), 0..200)) {
            prop_assert_eq!(parse(&listed(&ports)), Some(ports));
        }
    }
}
