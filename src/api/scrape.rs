//! The metrics at an address, for a Prometheus that is on another machine. Nothing else is there, and nothing can be changed.
//!
//! Owns: how many may ask at once, and for how long. Whoever reaches the address may read: nothing of it is secret, and what it
//! costs is bounded, since the page is made once a second at most.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::visitors::{Visitors, listen};
use crate::metrics::CONTENT_TYPE as TEXT;

/// So many connections are open at once, and so many of one address. Each is for one question.
const CONNECTIONS: usize = 32;
const OF_ONE: usize = 8;
/// How long one may last: a page of a thousand endpoints is half a megabyte.
const LASTS: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` and `GET /v1/metrics` at `address` until `stop`.
pub async fn serve_metrics<B: Backend>(address: SocketAddr, backend: Arc<B>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let listener = listen(address, "metrics", "metrics").await;
        let visitors = Visitors::new(CONNECTIONS, OF_ONE);
        loop {
            let (stream, place) = visitors.next(&listener).await;
            let (backend, stop) = (backend.clone(), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                let answer = tokio::time::timeout(LASTS, answer(stream, backend));
                // Who hangs up, is slow or sends no HTTP is no news.
                stop.run_until_cancelled(answer).await;
            });
        }
    })
    .await;
}

async fn answer<B: Backend>(stream: TcpStream, backend: Arc<B>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let backend = backend.clone();
        async move { Ok::<_, Infallible>(respond(&request, &*backend).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(LASTS).max_headers(64).keep_alive(false);
    http.serve_connection(TokioIo::new(stream), service).await
}

async fn respond<B: Backend>(request: &Request<Incoming>, backend: &B) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(TEXT));
        response
    };
    if !matches!(request.uri().path(), "/metrics" | "/v1/metrics") {
        return plain(StatusCode::NOT_FOUND, "only /metrics is here\n".to_owned());
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "it can only be read\n".to_owned());
        response.headers_mut().insert(ALLOW, axum::http::HeaderValue::from_static("GET"));
        return response;
    }
    match backend.metrics().await {
        Ok(page) => plain(StatusCode::OK, page.as_ref().clone()),
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
