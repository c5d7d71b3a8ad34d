//! What the value of a network's option is, whatever its type: words, a number, ranges.

use std::num::{IntErrorKind, ParseIntError};

use crate::Word;

/// A word that an option may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// What it means, in a few words without a full stop.
    pub help: &'static str,
}

/// What an option of a network is.
pub trait OptionValue: Sized {
    /// What stands for it in a command's help, where it is none of some words: `N` is a number.
    const VALUE: &'static str = "N";

    /// The words that it may be; none where it is a number.
    fn choices() -> Vec<Choice>;

    /// What it is, as a person writes it; `None` where it is left to others.
    fn text(&self) -> Option<String>;

    /// What a person wrote. An optional number is left to others again by `auto`.
    fn read(text: &str) -> Result<Self, String>;

    /// The number that it is, where it is one.
    fn number(&self) -> Option<u32> {
        None
    }
}

impl<T: Word> OptionValue for T {
    fn choices() -> Vec<Choice> {
        T::ALL.iter().map(|value| Choice { word: value.word(), help: value.help() }).collect()
    }

    fn text(&self) -> Option<String> {
        Some(self.word().to_owned())
    }

    fn read(text: &str) -> Result<Self, String> {
        crate::words::parse(text).map_err(|error| error.to_string())
    }
}

impl OptionValue for Option<u32> {
    fn choices() -> Vec<Choice> {
        Vec::new()
    }

    fn text(&self) -> Option<String> {
        self.map(|number| number.to_string())
    }

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(None),
            _ => text.parse().map(Some).map_err(|error: ParseIntError| match error.kind() {
                IntErrorKind::PosOverflow => format!("{text:?} is more than {}", u32::MAX),
                _ => format!("{text:?} is neither a number nor auto"),
            }),
        }
    }

    fn number(&self) -> Option<u32> {
        *self
    }
}
