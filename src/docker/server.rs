//! The plugin's socket: Docker posts a body to a path that is the call's name, and gets a body back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lanmesh_docker::protocol::Failure;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::driver::Driver;

/// The largest call, in bytes: they take some hundred.
const MAX_CALL: usize = 1 << 20;
/// After this a call is answered with an error. Docker waits for 30 s, and a swarm's leader does nothing else meanwhile.
const LIMIT: Duration = Duration::from_secs(20);
/// What Docker's plugins speak.
const SPOKEN: &str = "application/vnd.docker.plugins.v1.2+json";

/// Answers calls until SIGTERM or SIGINT.
pub(super) async fn serve(path: &Path, driver: Arc<Driver>) -> io::Result<()> {
    // That of the last process of the plugin, which is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    tracing::info!(path = %path.display(), "answers Docker");
    tokio::select! {
        served = axum::serve(listener, router(driver)) => served,
        () = stop => Ok(()),
    }
}

/// Every call.
pub(super) fn router(driver: Arc<Driver>) -> Router {
    Router::new().fallback(post(call)).layer(DefaultBodyLimit::max(MAX_CALL)).with_state(driver)
}

async fn call(State(driver): State<Arc<Driver>>, uri: Uri, body: Bytes) -> Response {
    // In a task of its own: a caller that hangs up does not stop it half-way.
    let name = uri.path().to_owned();
    let answer = tokio::spawn(async move {
        let answer = tokio::time::timeout(LIMIT, driver.answer(&name, &body)).await;
        let late =
            |_| Some(Err(format!("it takes longer than {} s: `lanmesh status` tells more", LIMIT.as_secs())));
        let answer = answer.unwrap_or_else(late);
        match &answer {
            Some(Err(error)) => tracing::warn!(call = name, error, "refused"),
            _ => tracing::debug!(call = name, "done"),
        }
        answer
    });
    let text = match answer.await {
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Ok(Some(Ok(text))) => text,
        Ok(Some(Err(err))) => failure(err),
        Err(_) => failure("the call failed inside the plugin: its log says where".to_owned()),
    };
    ([(CONTENT_TYPE, SPOKEN)], text).into_response()
}

fn failure(err: String) -> Vec<u8> {
    serde_json::to_vec(&Failure { err: format!("lanmesh: {err}") }).unwrap_or_default()
}
