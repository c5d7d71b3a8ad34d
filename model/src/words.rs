//! Enumerations whose values are words, the same in JSON, on the command line and in every text.

/// A value that is one of a few words.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value, in the order in which they are told to people.
    const ALL: &'static [Self];

    /// How it is written.
    fn word(self) -> &'static str;

    /// What it means, in a few words without a full stop.
    fn help(self) -> &'static str;
}

/// A text is none of the words of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is none of {}", .words.join(", "))]
pub struct WordError {
    /// What was there.
    pub given: String,
    /// What could have been there.
    pub words: Vec<&'static str>,
}

/// Whether a value is the one that stands where nothing is said.
pub fn is_usual<T: Word + Default>(value: &T) -> bool {
    *value == T::default()
}

/// The value that is written so.
pub(crate) fn parse<T: Word>(text: &str) -> Result<T, WordError> {
    T::ALL.iter().copied().find(|value| value.word() == text).ok_or_else(|| WordError {
        given: text.to_owned(),
        words: T::ALL.iter().map(|value| value.word()).collect(),
    })
}

/// Defines an enumeration of words. The first is the default; the line that documents a value is what the command line says
/// of it too.
macro_rules! words {
    ($(
        $(#[$about:meta])*
        pub enum $name:ident {
            $(#[doc = $help:literal] $value:ident = $word:literal,)+
        }
    )+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $(
                #[doc = $help]
                #[serde(rename = $word)]
                $value,
            )+
        }

        impl $crate::Word for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }

            fn help(self) -> &'static str {
                let help = match self {
                    $(Self::$value => $help,)+
                };
                help.trim().trim_end_matches('.')
            }
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::Word>::ALL[0]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::Word::word(*self))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::WordError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::words::parse(text)
            }
        }
    )+};
}

pub(crate) use words;
