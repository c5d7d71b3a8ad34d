//! The ports of a node from which endpoints are seen that reach what is outside by way of it.

use std::fmt;
use std::str::FromStr;

/// Ports, and in the same place the ids of pings: from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutwardPorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl OutwardPorts {
    /// How many networks of one node share them.
    pub const SHARES: u8 = 4;

    /// The part of one network, of [`Self::SHARES`] that are equal; `None` where there is no such part.
    pub fn share(self, number: u8) -> Option<Self> {
        let each = (u32::from(self.last) + 1).checked_sub(self.first.into())? / u32::from(Self::SHARES);
        if number >= Self::SHARES || each == 0 {
            return None;
        }
        let first = u32::from(self.first) + each * u32::from(number);
        let last = first + each - 1;
        Some(Self { first: first.try_into().ok()?, last: last.try_into().ok()? })
    }
}

impl fmt::Display for OutwardPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// It is not a range of ports that can be shared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of {LEAST} ports or more from 1024 on, such as 61000-65535")]
pub struct OutwardPortsError(String);

/// How many there have to be.
const LEAST: u16 = 256;

impl FromStr for OutwardPorts {
    type Err = OutwardPortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        let fits = |ports: &Self| ports.first >= 1024 && ports.last.saturating_sub(ports.first) >= LEAST - 1;
        read.filter(fits).ok_or_else(|| OutwardPortsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_apart_and_within_and_too_few_ports_have_none() {
        let all = OutwardPorts { first: 61_000, last: 65_535 };
        let shares: Vec<OutwardPorts> =
            (0..OutwardPorts::SHARES).filter_map(|number| all.share(number)).collect();
        assert_eq!(shares.len(), usize::from(OutwardPorts::SHARES));
        assert!(shares.iter().all(|share| share.last - share.first == 1133 && share.last <= all.last));
        assert!(shares.windows(2).all(|two| two[0].last + 1 == two[1].first));
        assert_eq!(all.share(OutwardPorts::SHARES), None);
        assert_eq!(OutwardPorts { first: 9, last: 10 }.share(0), None);
        assert_eq!(OutwardPorts { first: 9, last: 8 }.share(0), None);
    }

    #[test]
    fn a_range_is_read_as_it_is_written_and_one_that_is_none_is_named() {
        assert_eq!("61000-65535".parse(), Ok(OutwardPorts { first: 61_000, last: 65_535 }));
        for text in ["", "61000", "9-65535", "61000-61009", "65535-61000", "61000-70000", "a-b"] {
            let told = text.parse::<OutwardPorts>().unwrap_err().to_string();
            assert!(told.contains(&format!("{text:?}")), "{told}");
        }
        let all = OutwardPorts { first: 61_000, last: 65_535 };
        assert_eq!(all.to_string().parse(), Ok(all));
    }
}
