//! Who may see the page, and who may change something by it: a decision over a request's head, without I/O.
//!
//! Whoever reaches the address can send what he likes; a browser that shows somebody else's site is among them. So a name that was
//! bent to lead here (DNS rebinding) is refused by `Host`, another site by `Origin` and `Sec-Fetch-Site`, and what changes something
//! needs a header that no form and no link can have.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};

use super::token::Token;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The page itself, which says nothing of the cluster.
    Page,
    /// What is going on.
    See,
    /// To change something.
    Change,
}

/// Whom the page is for.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// What lets one change something; without it nobody may.
    pub token: Option<Token>,
    /// Seeing needs it too.
    pub closed: bool,
    /// Names by which the page is reached, beside addresses and `localhost`.
    pub names: Vec<String>,
}

/// Why not: a status, and a sentence.
pub type No = (StatusCode, &'static str);

impl Door {
    /// Whether anybody may change something.
    pub fn may_change(&self) -> bool {
        self.token.is_some()
    }

    /// Lets a request in, or says why not.
    ///
    /// # Errors
    /// It comes by a name that is not ours, from another site, or lacks the token.
    pub fn admit(&self, headers: &HeaderMap, need: Need) -> Result<(), No> {
        let one = |name| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().ok(),
                _ => None,
            }
        };
        let host = one(HOST).ok_or((StatusCode::BAD_REQUEST, "a request names one host"))?;
        if !self.is_ours(host) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "the page is reached by an address, by localhost, or by a name in ui_names of the agent's configuration",
            ));
        }
        let other = (StatusCode::FORBIDDEN, "another site may not ask here");
        if headers.contains_key(ORIGIN) {
            let origin = one(ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
            if !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
                return Err(other);
            }
        }
        // Sent by every browser of today; whoever is none needs no protection from other sites.
        if let Some(site) = headers.get("sec-fetch-site")
            && need != Need::Page
            && site != "same-origin"
        {
            return Err(other);
        }
        let needed = match need {
            Need::Page => return Ok(()),
            Need::See => self.closed,
            Need::Change => true,
        };
        if !needed {
            return Ok(());
        }
        let Some(token) = &self.token else {
            return Err((
                StatusCode::FORBIDDEN,
                "the page is read-only here: set ui_token_file in the agent's configuration, or use `lanmesh ui`",
            ));
        };
        let given = one(AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        match given {
            Some(given) if token.is(given) => Ok(()),
            Some(_) => Err((StatusCode::UNAUTHORIZED, "this is not the page's token")),
            None => Err((StatusCode::UNAUTHORIZED, "it takes the page's token")),
        }
    }

    /// Whether a browser that asks for this host means us.
    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, port)) => (name, port),
                None => return false,
            },
            None => match host.split_once(':') {
                Some((name, _)) => (name, &host[name.len()..]),
                None => (host, ""),
            },
        };
        let is_port =
            port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        let name = name.strip_suffix('.').unwrap_or(name);
        is_port
            && (name.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn head(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn said(door: &Door, pairs: &[(&str, &str)], need: Need) -> u16 {
        door.admit(&head(pairs), need).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn a_name_that_was_bent_to_lead_here_is_refused_whatever_is_asked_for() {
        let door = Door { names: vec!["mesh.example.org".to_owned()], ..Door::default() };
        for host in
            ["127.0.0.1:9643", "127.0.0.1", "[::1]:9643", "localhost:1", "LOCALHOST.", "Mesh.example.org:80"]
        {
            assert_eq!(said(&door, &[("host", host)], Need::See), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "",
            "a:b",
            "127.0.0.1:x",
            "mesh.example.org.evil",
        ] {
            assert_eq!(said(&door, &[("host", host)], Need::Page), 421, "{host}");
        }
        assert_eq!(said(&door, &[], Need::Page), 400);
        assert_eq!(said(&door, &[("host", "localhost"), ("host", "evil.example")], Need::Page), 400);
    }

    #[test]
    fn another_site_may_neither_read_nor_change() {
        let door = Door { token: Some(Token::of(TOKEN)), ..Door::default() };
        let host = ("host", "127.0.0.1:9643");
        let token = ("authorization", "Bearer 0123456789abcdef");
        for (pair, status) in [
            (("origin", "http://127.0.0.1:9643"), 200),
            (("origin", "https://127.0.0.1:9643"), 200),
            (("origin", "http://127.0.0.1:9644"), 403),
            (("origin", "http://evil.example"), 403),
            (("origin", "null"), 403),
            (("sec-fetch-site", "same-origin"), 200),
            (("sec-fetch-site", "same-site"), 403),
            (("sec-fetch-site", "cross-site"), 403),
            (("sec-fetch-site", "none"), 403),
        ] {
            assert_eq!(said(&door, &[host, pair], Need::See), status, "{pair:?}");
            assert_eq!(said(&door, &[host, token, pair], Need::Change), status, "{pair:?}");
        }
        // Somebody who types the address, or follows a link to it.
        for site in ["none", "cross-site"] {
            assert_eq!(said(&door, &[host, ("sec-fetch-site", site)], Need::Page), 200);
        }
    }

    #[test]
    fn what_changes_something_takes_the_token_and_without_one_nobody_may() {
        let host = ("host", "localhost");
        let open = Door { token: Some(Token::of(TOKEN)), ..Door::default() };
        let closed = Door { closed: true, ..open.clone() };
        let none = Door::default();
        for (given, see, change) in [
            (None, 401, 401),
            (Some("Bearer 0123456789abcdef"), 200, 200),
            (Some("Bearer 0123456789abcdeg"), 401, 401),
            (Some("Bearer "), 401, 401),
            (Some("Basic 0123456789abcdef"), 401, 401),
        ] {
            let mut pairs = vec![host];
            pairs.extend(given.map(|given| ("authorization", given)));
            assert_eq!(said(&open, &pairs, Need::See), 200, "{given:?}");
            assert_eq!(said(&closed, &pairs, Need::Page), 200, "{given:?}");
            assert_eq!(said(&closed, &pairs, Need::See), see, "{given:?}");
            assert_eq!(said(&closed, &pairs, Need::Change), change, "{given:?}");
            assert_eq!(said(&open, &pairs, Need::Change), change, "{given:?}");
            assert_eq!(said(&none, &pairs, Need::Change), 403, "{given:?}");
        }
        assert!(!none.may_change() && open.may_change());
    }
}
