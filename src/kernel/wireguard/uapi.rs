//! The text that a WireGuard device in a process is spoken to with: the cross-platform userspace interface of
//! wireguard.com/xplatform, lines of `key=value` that an empty one ends. Pure.

use std::time::{Duration, SystemTime};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use wireguard_control::Key;
use zeroize::Zeroizing;

use super::{PeerChange, PeerStatus, PeerUpdate, Public, Secret, Status, Update};

/// The question how the device is.
pub(super) const GET: &str = "get=1\n\n";

/// An answer that cannot be understood, or that says that the device refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// The device said no.
    #[error("it answered with error {0}")]
    Refused(i32),
    /// What it said has not the form of an answer.
    #[error("its answer has no sense at `{0}`")]
    Garbled(String),
}

/// What to send to change a device so.
pub(super) fn set(update: &Update) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(256 + 512 * update.peers.len()));
    text.push_str("set=1\n");
    if let Some(key) = &update.private_key {
        line(&mut text, "private_key", &hex(key));
    }
    if let Some(port) = update.port {
        line(&mut text, "listen_port", &port.to_string());
    }
    for PeerUpdate { public_key, change } in &update.peers {
        line(&mut text, "public_key", &hex(public_key));
        match change {
            PeerChange::Remove => line(&mut text, "remove", "true"),
            PeerChange::Set { preshared, endpoint, allowed, keepalive } => {
                if let Some(key) = preshared {
                    line(&mut text, "preshared_key", &hex(key));
                }
                if let Some(endpoint) = endpoint {
                    line(&mut text, "endpoint", &endpoint.to_string());
                }
                if let Some(seconds) = keepalive {
                    line(&mut text, "persistent_keepalive_interval", &seconds.to_string());
                }
                if let Some(allowed) = allowed {
                    line(&mut text, "replace_allowed_ips", "true");
                    allowed.iter().for_each(|range| line(&mut text, "allowed_ip", &range.to_string()));
                }
            }
        }
    }
    text.push('\n');
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    text.push_str(value);
    text.push('\n');
}

/// The answer to a change.
pub(super) fn changed(answer: &str) -> Result<(), AnswerError> {
    for line in answer.lines().filter(|line| !line.is_empty()) {
        errno(line)?;
    }
    Ok(())
}

fn errno(line: &str) -> Result<(), AnswerError> {
    match line.strip_prefix("errno=").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(AnswerError::Refused(code)),
        _ => Err(garbled(line)),
    }
}

/// The answer to [`GET`]. Lines of kinds that we know nothing of are left out.
pub(super) fn status(answer: &str) -> Result<Status, AnswerError> {
    let mut status = Status { public_key: None, port: 0, peers: Vec::new() };
    let mut peer: Option<PeerStatus> = None;
    let mut seconds = 0;
    for line in answer.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| garbled(line))?;
        let bad = || garbled(key);
        match (key, &mut peer) {
            ("private_key", None) => status.public_key = public_of(&unhex(value).ok_or_else(bad)?),
            ("listen_port", None) => status.port = value.parse().map_err(|_| bad())?,
            ("public_key", _) => {
                let public_key = *unhex(value).ok_or_else(bad)?;
                status.peers.extend(peer.replace(PeerStatus {
                    public_key,
                    preshared: None,
                    endpoint: None,
                    allowed: Vec::new(),
                    keepalive: 0,
                    handshake: None,
                    received: 0,
                    sent: 0,
                }));
                seconds = 0;
            }
            ("preshared_key", Some(peer)) => {
                // All zeros is how some say that there is none.
                peer.preshared = Some(unhex(value).ok_or_else(bad)?).filter(|key| **key != [0; 32]);
            }
            ("endpoint", Some(peer)) => peer.endpoint = Some(value.parse().map_err(|_| bad())?),
            ("allowed_ip", Some(peer)) => peer.allowed.push(value.parse().map_err(|_| bad())?),
            ("persistent_keepalive_interval", Some(peer)) => {
                peer.keepalive = value.parse().map_err(|_| bad())?;
            }
            ("last_handshake_time_sec", Some(peer)) => {
                seconds = value.parse().map_err(|_| bad())?;
                peer.handshake = since_1970(seconds, 0);
            }
            ("last_handshake_time_nsec", Some(peer)) => {
                peer.handshake = since_1970(seconds, value.parse().map_err(|_| bad())?);
            }
            ("rx_bytes", Some(peer)) => peer.received = value.parse().map_err(|_| bad())?,
            ("tx_bytes", Some(peer)) => peer.sent = value.parse().map_err(|_| bad())?,
            ("errno", _) => errno(line)?,
            _ => {}
        }
    }
    status.peers.extend(peer);
    Ok(status)
}

/// 0 means never.
fn since_1970(seconds: u64, nanoseconds: u32) -> Option<SystemTime> {
    if seconds == 0 {
        return None;
    }
    let since = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanoseconds.into()))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

fn public_of(private: &Secret) -> Option<Public> {
    let mut key = Key(**private);
    let public = key.get_public().0;
    zeroize::Zeroize::zeroize(&mut key.0);
    (**private != [0; 32]).then_some(public)
}

fn garbled(what: &str) -> AnswerError {
    // A line may hold a secret: its beginning does not.
    AnswerError::Garbled(what.chars().take_while(|c| *c != '=').take(40).collect())
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(64));
    HEXLOWER.encode_append(bytes, &mut text);
    text
}

fn unhex(text: &str) -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    if HEXLOWER_PERMISSIVE.decode_len(text.len()) != Ok(bytes.len()) {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), bytes.as_mut()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(byte: u8) -> Secret {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn a_change_names_only_what_changes_and_never_replaces_all_peers() {
        let update = Update {
            private_key: Some(secret(1)),
            port: Some(51820),
            peers: vec![
                PeerUpdate { public_key: [2; 32], change: PeerChange::Remove },
                PeerUpdate {
                    public_key: [3; 32],
                    change: PeerChange::Set {
                        preshared: Some(secret(4)),
                        endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
                        allowed: Some(vec!["fd00::1/128".parse().unwrap()]),
                        keepalive: Some(25),
                    },
                },
                PeerUpdate {
                    public_key: [5; 32],
                    change: PeerChange::Set {
                        preshared: None,
                        endpoint: Some("192.0.2.1:1".parse().unwrap()),
                        allowed: None,
                        keepalive: None,
                    },
                },
            ],
        };
        let expected = format!(
            "set=1\nprivate_key={}\nlisten_port=51820\npublic_key={}\nremove=true\npublic_key={}\npreshared_key={}\n\
             endpoint=[2001:db8::1]:51820\npersistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=fd00::1/128\npublic_key={}\n\
             endpoint=192.0.2.1:1\n\n",
            "01".repeat(32),
            "02".repeat(32),
            "03".repeat(32),
            "04".repeat(32),
            "05".repeat(32)
        );
        assert_eq!(*set(&update), expected);
        assert_eq!(*set(&Update::default()), "set=1\n\n");
    }

    #[test]
    fn an_answer_is_read_peer_by_peer_and_unknown_lines_are_left_out() {
        let answer = format!(
            "private_key={}\nlisten_port=7\nfwmark=0\npublic_key={}\npreshared_key={}\nendpoint=192.0.2.9:5\n\
             allowed_ip=fd00::2/128\nallowed_ip=10.0.0.0/8\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=6\n\
             persistent_keepalive_interval=25\n\
             rx_bytes=8\ntx_bytes=9\nsomething_new=1\npublic_key={}\npreshared_key={}\nlast_handshake_time_sec=0\n\
             errno=0\n\n",
            "a8".repeat(32),
            "02".repeat(32),
            "03".repeat(32),
            "04".repeat(32),
            "00".repeat(32)
        );
        let status = status(&answer).unwrap();
        assert_eq!(status.port, 7);
        assert_eq!(status.public_key, Some(Key([0xa8; 32]).get_public().0));
        let [first, second] = status.peers.as_slice() else { panic!("two peers") };
        assert_eq!(first.public_key, [2; 32]);
        assert_eq!(first.preshared.as_deref(), Some(&[3; 32]));
        assert_eq!(first.endpoint, Some("192.0.2.9:5".parse().unwrap()));
        assert_eq!(first.allowed.len(), 2);
        assert_eq!(first.handshake, SystemTime::UNIX_EPOCH.checked_add(Duration::new(5, 6)));
        assert_eq!((first.received, first.sent, first.keepalive), (8, 9, 25));
        assert_eq!((second.preshared.is_some(), second.handshake), (false, None));
    }

    #[test]
    fn a_refusal_is_an_error_and_a_garbled_answer_tells_no_secret() {
        assert_eq!(changed("errno=0\n\n"), Ok(()));
        assert_eq!(changed("errno=22\n\n"), Err(AnswerError::Refused(22)));
        assert_eq!(status("errno=1\n\n"), Err(AnswerError::Refused(1)));
        let error = status("private_key=5e5e5e\n\n").unwrap_err();
        assert_eq!(error, AnswerError::Garbled("private_key".to_owned()));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in "([a-z_]{0,12}=?[0-9a-f:./]{0,70}\n){0,12}", any in ".{0,200}") {
            let _ = (status(&answer), status(&any), changed(&any));
        }
    }
}
