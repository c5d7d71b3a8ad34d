//! One request, taken apart: the caller, the parts of the path, the query and the body, each with its errors.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::access::{Access, Peer};
use super::backend::Answer;
use super::error::{ApiError, ErrorKind};
use super::types::Object;

/// What a handler is given besides the body.
#[derive(Debug)]
pub(super) struct Call {
    /// Who calls.
    pub(super) peer: Peer,
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

impl Call {
    /// Takes path and query apart; a query parameter that is not in `known` is refused.
    pub(super) async fn read<'a>(
        parts: &mut Parts,
        peer: Peer,
        known: impl Iterator<Item = &'a str> + Clone,
    ) -> Answer<Self> {
        let params = RawPathParams::from_request_parts(parts, &())
            .await
            .map_err(|error| ApiError::new(ErrorKind::BadRequest, error.to_string()))?;
        let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let query: Vec<(String, String)> = Query::try_from_uri(&parts.uri)
            .map(|Query(query)| query)
            .map_err(|error| ApiError::new(ErrorKind::BadRequest, error.to_string()))?;
        for (i, (name, _)) in query.iter().enumerate() {
            if !known.clone().any(|known| known == name) {
                let known: Vec<_> = known.collect();
                let message = if known.is_empty() {
                    "there is no query parameter here".to_owned()
                } else {
                    format!("no such query parameter: there are {}", known.join(", "))
                };
                return Err(ApiError::bad_field(name, message));
            }
            if query[..i].iter().any(|(other, _)| other == name) {
                return Err(ApiError::bad_field(name, "the query has it twice"));
            }
        }
        Ok(Self { peer, params, query })
    }

    /// Whether the caller may change anything.
    pub(super) fn may_write(&self, access: &Access) -> bool {
        access.may_write(&self.peer)
    }

    /// The part of the path with this name.
    pub(super) fn param<T: FromStr<Err: Display>>(&self, name: &str) -> Answer<T> {
        let (_, text) = self
            .params
            .iter()
            .find(|(param, _)| param == name)
            .ok_or_else(|| ApiError::internal(format!("the path has no {name}")))?;
        text.parse().map_err(|error: T::Err| ApiError::bad_field(name, error.to_string()))
    }

    /// The query parameter with this name, read as `T`; `what` says what it must be.
    pub(super) fn query<T: FromStr>(&self, name: &str, what: &str) -> Answer<Option<T>> {
        let Some((_, text)) = self.query.iter().find(|(key, _)| key == name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ApiError::bad_field(name, format!("{text:?} is not {what}")))
    }

    /// A query parameter that is `true` or `false`; false when it is not there.
    pub(super) fn flag(&self, name: &str) -> Answer<bool> {
        Ok(self.query(name, "true or false")?.unwrap_or(false))
    }
}

/// Reads a whole JSON body of at most `limit` bytes within `timeout`.
pub(super) async fn read_json<T: DeserializeOwned>(
    parts: &Parts,
    body: &mut Body,
    limit: usize,
    timeout: Duration,
) -> Answer<T> {
    let declared = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = format!("the body is declared as {essence:?}");
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message)
            .hint("send content-type: application/json"));
    }
    let collected = tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await;
    let bytes = match collected {
        Err(_) => {
            let message = format!("the body did not arrive within {} s", timeout.as_secs());
            return Err(ApiError::new(ErrorKind::Timeout, message).hint("send it at once"));
        }
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            return Err(ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes"))
                .hint("raise max_body in the agent's configuration"));
        }
        Ok(Err(error)) => {
            return Err(ApiError::new(ErrorKind::BadRequest, format!("the body broke off: {error}")));
        }
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    parse_json(&bytes)
}

/// How much of a refused body is read all the same.
const DISCARD: usize = 64 << 20;

/// Reads what is left of a body that is refused. A caller that is still sending it when the connection is
/// closed sees a broken pipe instead of the answer. One that waits to be asked for it (RFC 9110 section
/// 10.1.1) is not asked.
pub(super) async fn discard(parts: &Parts, body: Body, timeout: Duration) {
    if parts.headers.contains_key(EXPECT) {
        return;
    }
    let mut body = Limited::new(body, DISCARD);
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whatever has not come by then is cut off: the answer was given every chance.
    let _ = tokio::time::timeout(timeout, read).await;
}

/// Reads JSON text; an error names the field by its path.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let error = error.into_inner();
        let message = error.to_string();
        if !error.is_data() {
            return ApiError::new(ErrorKind::BadRequest, format!("the body is not JSON: {message}"));
        }
        // serde gives an error of a missing or doubled field to the object around it, and one of an unknown
        // field to that field; all are put as the path of the field.
        let inner = ["missing field `", "duplicate field `"]
            .iter()
            .find_map(|start| message.strip_prefix(start)?.split_once('`'));
        let field = match inner {
            Some((field, _)) if path.is_empty() => field.to_owned(),
            Some((field, _)) => format!("{path}.{field}"),
            None => path,
        };
        if field.is_empty() {
            return ApiError::new(ErrorKind::BadRequest, message);
        }
        // The field says where it is better than serde_json's line and column.
        let place = format!(" at line {} column {}", error.line(), error.column());
        ApiError::bad_field(field, message.strip_suffix(&place).unwrap_or(&message))
    })?;
    json.end().map_err(|error| {
        ApiError::new(ErrorKind::BadRequest, format!("the body goes on after its JSON: {error}"))
    })?;
    Ok(value)
}
