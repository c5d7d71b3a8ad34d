//! Answers at the page's address, within limits that no visitor can exceed.
//!
//! Each connection is for one request. One that looks stays, and is sent what changes; for it no more is kept than the number of
//! what it has seen.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use futures_util::stream;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::door::{Door, Need};
use super::files;
use super::page::{Limits, Page};
use super::source::{Looker, Source};
use crate::api::Visitors;
use crate::api::client::ClientError;
use crate::api::types::DrainRequest;
use crate::clock::now_ms;
use crate::logs::AUDIT;

/// The largest body that is read, in bytes.
const BODY: usize = 1024;

/// What every answer says to a browser: nothing is loaded from elsewhere, nothing is embedded, no address is told to others.
const SAID: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
];

struct Shared {
    source: Arc<Source>,
    door: Door,
    limits: Limits,
    lookers: Arc<Semaphore>,
}

/// How long a connection may last: until what is in here.
type Lasts = watch::Sender<Duration>;

/// Serves a page to whoever comes to `listener`, until `stop`.
pub async fn serve(listener: TcpListener, page: Page, stop: CancellationToken) {
    let Page { client, door, limits } = page;
    let source = Source::new(client);
    let _reading = AbortOnDropHandle::new(tokio::spawn(source.clone().run()));
    let visitors = Visitors::new(limits.connections, limits.of_one);
    let lookers = Arc::new(Semaphore::new(limits.lookers));
    let shared = Arc::new(Shared { source, door, limits, lookers });
    while let Some((stream, place)) = stop.run_until_cancelled(visitors.next(&listener)).await {
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            // Who hangs up, is slow or sends no HTTP is no news.
            stop.run_until_cancelled(connection(stream, shared)).await;
        });
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A line that somebody waits for is small.
    let _ = stream.set_nodelay(true);
    let lasts: Lasts = watch::Sender::new(shared.limits.lasts);
    let mut until = lasts.subscribe();
    let head_timeout = shared.limits.lasts;
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, lasts) = (shared.clone(), lasts.clone());
        async move { Ok::<_, Infallible>(respond(request, &shared, lasts).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_headers(64).keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), service);
    let begun = tokio::time::Instant::now();
    let too_long = async {
        loop {
            let end = begun + *until.borrow_and_update();
            match tokio::time::timeout_at(end, until.changed()).await {
                Err(_) => return,
                // Whoever could change it has gone: it ends when it ends.
                Ok(Err(_)) => std::future::pending().await,
                Ok(Ok(())) => {}
            }
        }
    };
    tokio::select! {
        _ = served => {}
        () = too_long => {}
    }
}

async fn respond(request: Request<Incoming>, shared: &Arc<Shared>, lasts: Lasts) -> Response<Body> {
    let mut response = match answer(request, shared, lasts).await {
        Ok(response) => response,
        Err(No { status, body }) => {
            let mut response = documents(body.to_string().into());
            *response.status_mut() = status;
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            response
        }
    };
    for (name, value) in SAID {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Why not.
struct No {
    status: StatusCode,
    body: Value,
}

impl No {
    fn new(status: StatusCode, message: &str) -> Self {
        Self { status, body: json!({"error": {"message": message}}) }
    }
}

impl From<(StatusCode, &'static str)> for No {
    fn from((status, message): (StatusCode, &'static str)) -> Self {
        Self::new(status, message)
    }
}

impl From<ClientError> for No {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) => Self {
                status: StatusCode::from_u16(error.kind.status())
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                body: json!({"error": {"message": error.message, "hint": error.hint}}),
            },
            other => Self::new(StatusCode::BAD_GATEWAY, &other.to_string()),
        }
    }
}

/// JSON that nobody keeps.
fn documents(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn answer(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    lasts: Lasts,
) -> Result<Response<Body>, No> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let not_here = || No::new(StatusCode::NOT_FOUND, "there is nothing here; the page is at /");
    if let Some(file) = files::at(path) {
        shared.door.admit(&parts.headers, Need::Page)?;
        if !reads {
            return Err(No::new(StatusCode::METHOD_NOT_ALLOWED, "it can only be read"));
        }
        return Ok(file.answer(&parts.headers));
    }
    if path == "/live" {
        shared.door.admit(&parts.headers, Need::See)?;
        if parts.method != Method::GET {
            return Err(No::new(StatusCode::METHOD_NOT_ALLOWED, "it can only be read"));
        }
        return live(shared, lasts);
    }
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match (&parts.method, words.as_slice()) {
        (&Method::PUT, ["networks", network, "endpoints", endpoint, "drain"]) => {
            shared.door.admit(&parts.headers, Need::Change)?;
            let DrainRequest { draining } = json_of(&parts.headers, body).await?;
            let (network, endpoint) = (name(network)?, name(endpoint)?);
            let client = shared.source.client();
            let answer = client.drain(&network, &endpoint, draining).await?;
            tracing::info!(target: AUDIT, %network, %endpoint, draining, "drained by the page");
            Ok(documents(serde_json::to_vec(&answer).unwrap_or_default().into()))
        }
        (&Method::DELETE, ["nodes", node]) => {
            shared.door.admit(&parts.headers, Need::Change)?;
            let node = name(node)?;
            let removed = shared.source.client().remove_node(&node).await?;
            tracing::info!(target: AUDIT, %node, removed, "shut out by the page");
            Ok(documents(json!({"removed": removed}).to_string().into()))
        }
        // Whoever may not come in is not told what there is.
        _ => {
            shared.door.admit(&parts.headers, Need::See)?;
            Err(not_here())
        }
    }
}

fn name<T: std::str::FromStr>(text: &str) -> Result<T, No> {
    text.parse().map_err(|_| No::new(StatusCode::BAD_REQUEST, "this is no name"))
}

async fn json_of<T: DeserializeOwned>(headers: &axum::http::HeaderMap, body: Incoming) -> Result<T, No> {
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|media| media == "application/json");
    if !is_json {
        return Err(No::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is to be application/json"));
    }
    let read = Limited::new(body, BODY).collect().await;
    let bytes = read.map_err(|_| No::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| No::new(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// What there is, and what changes, one JSON document in a line.
fn live(shared: &Arc<Shared>, lasts: Lasts) -> Result<Response<Body>, No> {
    let full = || No::new(StatusCode::SERVICE_UNAVAILABLE, "too many look already: close the page elsewhere");
    let place = shared.lookers.clone().try_acquire_owned().map_err(|_| full())?;
    let limits = shared.limits.clone();
    // From now on it lasts for as long as it takes what it is sent.
    lasts.send_replace(limits.looks);
    let (sender, lines) = mpsc::channel::<Bytes>(2);
    let (looker, may_change) = (shared.source.look(), shared.door.may_change());
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = sender.closed() => {}
            () = tell(&looker, &sender, &limits, may_change) => {}
        }
        // Who did not take it in time is not waited for any more.
        lasts.send_replace(Duration::ZERO);
    });
    let body = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let mut response = documents(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

async fn tell(looker: &Looker, sender: &mpsc::Sender<Bytes>, limits: &Limits, may_change: bool) {
    let send = async |text: String| {
        matches!(tokio::time::timeout(limits.patience, sender.send(Bytes::from(text))).await, Ok(Ok(())))
    };
    let mut changes = looker.source().changes();
    let hello = json!({
        "topic": "hello",
        "version": env!("CARGO_PKG_VERSION"),
        "now_ms": now_ms(),
        "may_change": may_change,
    });
    if !send(format!("{hello}\n")).await {
        return;
    }
    let (mut seen, mut beat) = (0, tokio::time::Instant::now() + limits.beat);
    loop {
        changes.borrow_and_update();
        let (mut text, number) = {
            let picture = looker.source().picture();
            (picture.since(seen), picture.number())
        };
        seen = number;
        if tokio::time::Instant::now() >= beat {
            text.push_str(&looker.source().picture().beat(now_ms()));
            beat = tokio::time::Instant::now() + limits.beat;
        }
        if !text.is_empty() && !send(text).await {
            return;
        }
        // An error of the second kind: the source has gone.
        if let Ok(Err(_)) = tokio::time::timeout_at(beat, changes.changed()).await {
            return;
        }
    }
}
