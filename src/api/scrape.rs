//! The metrics at an address, for a Prometheus that is on another machine. Nothing else is there, and nothing can be changed.
//!
//! Owns: how many may ask at once, and for how long. Whoever reaches the address may read: nothing of it is secret, and what it
//! costs is bounded, since the page is made once a second at most.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use crate::errno::InWords;
use crate::metrics::CONTENT_TYPE as TEXT;

/// So many connections are open at once, and so many of one address. Each is for one question.
const CONNECTIONS: usize = 32;
const OF_ONE: usize = 8;
/// How long one may last: a page of a thousand endpoints is half a megabyte.
const LASTS: Duration = Duration::from_secs(10);
/// How soon it is tried again to listen: the address may come later than the agent.
const AGAIN: Duration = Duration::from_secs(10);

/// Who is connected.
#[derive(Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

/// One connection; dropping it gives its place back.
struct Place(Arc<Open>, IpAddr);

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counters that are changed in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let room =
            open.values().sum::<usize>() < CONNECTIONS && open.get(&from).copied().unwrap_or(0) < OF_ONE;
        room.then(|| {
            *open.entry(from).or_default() += 1;
            Place(self.clone(), from)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// Answers `GET /metrics` and `GET /v1/metrics` at `address` until `stop`.
pub async fn serve_metrics<B: Backend>(address: SocketAddr, backend: Arc<B>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let listener = listen(address).await;
        let open = Arc::new(Open::default());
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection for metrics");
                    // Out of file descriptors, most likely.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = open.take(from.ip().to_canonical()) else { continue };
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

async fn listen(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics can be read");
                return listener;
            }
            Err(error) if !told => {
                told = true;
                let error = InWords(&error);
                tracing::warn!(
                    %address, %error,
                    "metrics cannot be read at this address: set `metrics` to one that this node has and nothing else uses; \
                     it is tried again"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_the_places_of_others_and_all_together_are_few() {
        let open = Arc::new(Open::default());
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut places: Vec<_> = (0..OF_ONE).map(|_| open.take(address(1)).expect("has room")).collect();
        assert!(open.take(address(1)).is_none());
        places.pop();
        places.push(open.take(address(1)).expect("a place was given back"));
        for n in 2..=4 {
            places.extend((0..OF_ONE).map(|_| open.take(address(n)).expect("has room")));
        }
        assert!(places.len() == CONNECTIONS && open.take(address(9)).is_none());
        drop(places);
        assert!(open.lock().is_empty());
    }
}
