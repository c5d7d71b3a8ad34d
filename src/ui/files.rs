//! The bundle: what a browser takes first. Built from `ui/` by `scripts/ui`, and kept built, so that building lanmesh takes no npm.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};

/// A file of the bundle.
pub struct File {
    /// Where it is.
    pub path: &'static str,
    media: &'static str,
    /// As it is.
    pub plain: &'static [u8],
    /// Packed by gzip.
    pub packed: &'static [u8],
    /// The beginning of the SHA-256 of `plain`.
    tag: &'static str,
}

macro_rules! file {
    ($path:literal, $name:literal, $media:literal) => {
        File {
            path: $path,
            media: $media,
            plain: include_bytes!(concat!("../../ui/dist/", $name)),
            packed: include_bytes!(concat!("../../ui/dist/", $name, ".gz")),
            tag: include_str!(concat!("../../ui/dist/", $name, ".tag")),
        }
    };
}

/// All of them.
pub static FILES: [File; 3] = [
    file!("/", "index.html", "text/html; charset=utf-8"),
    file!("/app.js", "app.js", "text/javascript; charset=utf-8"),
    file!("/app.css", "app.css", "text/css; charset=utf-8"),
];

/// The file at a path.
pub fn at(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    /// It, as whoever asks takes it.
    pub fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.tag.trim());
        let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        let is_known = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
        let packs = takes_gzip(headers);
        let bytes = if packs { self.packed } else { self.plain };
        let mut response = Response::new(Body::from(if is_known { &[][..] } else { bytes }));
        let head = response.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        // It is asked for each time, and sent where it is another one: after an upgrade nobody sees the old one.
        head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        head.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            head.insert(ETAG, tag);
        }
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if packs {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Whether whoever asks takes gzip (RFC 9110, section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        gzip && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_packed_file_is_the_plain_one_and_its_tag_that_of_its_bytes() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        for file in &FILES {
            let digest = ring::digest::digest(&ring::digest::SHA256, file.plain);
            let tag = data_encoding::HEXLOWER.encode(&digest.as_ref()[..8]);
            assert_eq!(file.tag.trim(), tag, "{}: run scripts/ui", file.path);
            let mut gzip =
                Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut input = gzip.stdin.take().unwrap();
            let packed = file.packed;
            let writer = std::thread::spawn(move || input.write_all(packed).unwrap());
            let unpacked = gzip.wait_with_output().unwrap().stdout;
            writer.join().unwrap();
            assert!(unpacked == file.plain, "{}: run scripts/ui", file.path);
        }
    }

    #[test]
    fn a_file_is_sent_packed_to_who_takes_that_and_not_again_to_who_has_it() {
        let file = at("/app.js").unwrap();
        for (value, packed) in [
            ("gzip, br", true),
            ("br;q=1, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let response = file.answer(&asked(&[(ACCEPT_ENCODING, value)]));
            assert_eq!(response.headers().contains_key(CONTENT_ENCODING), packed, "{value}");
            assert_eq!(response.status(), 200);
        }
        let tag = file.answer(&HeaderMap::new()).headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(file.answer(&asked(&[(IF_NONE_MATCH, &format!("\"x\", {tag}"))])).status(), 304);
        assert_eq!(file.answer(&asked(&[(IF_NONE_MATCH, "\"x\"")])).status(), 200);
        assert!(at("/../etc/passwd").is_none() && at("/app.js/").is_none());
    }
}
