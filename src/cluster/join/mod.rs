//! How a node gets into a cluster: the token, what is said over the stream, and who decides.
//!
//! Owns: both sides of a join. Does not own: the streams (`streams`), what a member does afterwards (`core`).

pub(super) mod client;
pub(super) mod gate;
pub(super) mod token;

use std::time::Duration;

use super::Refusal;

/// How far the clocks of a joining node and the manager may be apart.
pub(super) const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(60);

/// `ms` since 1970 as `YYYY-MM-DD hh:mm:ss UTC`.
pub(super) fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day number: years of the 400-year cycle that begins on 1 March 0000, so that the
    // leap day is the last of its year.
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_written_as_a_date_that_people_read() {
        for (ms, want) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_795_248_362_999, "2026-11-21 08:06:02 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(ms), want);
        }
    }
}
