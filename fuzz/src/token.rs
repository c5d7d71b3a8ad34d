//! The line that lets a node in.

use lanmesh::cluster::fuzzing;

use crate::text;

/// What is a token is written as it was read, but for case and space around it.
pub fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Some(written) = fuzzing::token(text) {
        assert!(written.eq_ignore_ascii_case(text.trim()), "{text:?} is read as {written}");
        assert_eq!(fuzzing::token(&written).as_deref(), Some(&*written));
    }
}

/// A token, and one whose end is missing.
pub fn seeds() -> Vec<Vec<u8>> {
    let token = format!("LMT1-{}-{}", "0123456789abcdef".repeat(4), "fedcba9876543210".repeat(2));
    vec![token.clone().into_bytes(), token.as_bytes()[..70].to_vec(), format!(" {token}\n").into_bytes()]
}
