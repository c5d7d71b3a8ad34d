//! What somebody gave, as it is repeated to him: not all of it where it is long.

/// How many characters.
const SHOWN: usize = 64;

/// As much of a text as is repeated to who gave it.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
