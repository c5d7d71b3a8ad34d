//! A text of another node that goes to a person.

/// One line of it, and no more than `most` characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(most).collect()
}
