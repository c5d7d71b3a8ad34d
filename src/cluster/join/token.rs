//! The line that lets a node in: which CA to trust, and the secret that the manager asks for.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::{digest, hmac};
use zeroize::Zeroize;

use crate::cluster::JoinError;

const PREFIX: &str = "LMT1-";

/// `LMT1-`, the SHA-256 of the CA's certificate and the secret, in hexadecimal: one word in every shell.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Token {
    /// SHA-256 of the CA's certificate.
    pub fingerprint: [u8; 32],
    /// What the manager asks for.
    pub secret: [u8; 16],
}

/// What a cluster is called whose first CA has this fingerprint: the beginning of it.
pub(in crate::cluster) fn cluster_id(fingerprint: &[u8; 32]) -> String {
    HEXLOWER.encode(&fingerprint[..8])
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fingerprint, secret } = self;
        write!(f, "{PREFIX}{}-{}", HEXLOWER.encode_display(fingerprint), HEXLOWER.encode_display(secret))
    }
}

impl FromStr for Token {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let error = JoinError::MalformedToken;
        let rest = text.trim().strip_prefix(PREFIX).ok_or(error("it does not begin with LMT1-"))?;
        let (fingerprint, secret) = rest.split_once('-').ok_or(error("its second part is missing"))?;
        Ok(Self {
            fingerprint: unhex(fingerprint).ok_or(error("its first part is not 64 hexadecimal digits"))?,
            secret: unhex(secret).ok_or(error("its second part is not 32 hexadecimal digits"))?,
        })
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let length = HEXLOWER_PERMISSIVE.decode_len(text.len()).ok()?;
    if length != N {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

/// Whether two secrets are equal, in a time that does not depend on where they differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    // Tags under a random key say nothing about the secrets, and `verify` compares them in constant time.
    let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}

/// What is kept of a secret that was rotated out.
pub(super) fn hashed(secret: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_needs_no_quotes_in_a_shell() {
        let token = Token { fingerprint: [0xab; 32], secret: [7; 16] };
        let text = token.to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{text}");
        assert!(format!(" {text}\n").parse::<Token>().unwrap() == token);
    }

    #[test]
    fn a_damaged_token_says_which_part_is_damaged() {
        let good = Token { fingerprint: [1; 32], secret: [2; 16] }.to_string();
        for (text, why) in [
            ("", "begin with LMT1-"),
            ("SWMTKN-1-x", "begin with LMT1-"),
            (&good[..60], "second part is missing"),
            (&good[..good.len() - 1], "32 hexadecimal"),
            (&good.replacen("01", "0g", 1), "64 hexadecimal"),
        ] {
            let error = text.parse::<Token>().err().unwrap().to_string();
            assert!(error.contains(why) && error.contains("lanmesh token show"), "{error}");
        }
    }

    #[test]
    fn secrets_are_compared_by_value() {
        assert!(equal(&[1, 2], &[1, 2]));
        assert!(!equal(&[1, 2], &[1, 3]));
        assert!(!equal(&[1, 2], &[1]));
    }
}
