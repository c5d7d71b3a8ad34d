//! The table of routes: each entry is at once a handler, its permission and its documentation, so that none
//! of the three can be forgotten.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use super::access::{Access, Need, Peer};
use super::backend::{Answer, Backend};
use super::call::{Call, discard, read_json};
use super::check::Checked;
use super::error::{ApiError, ErrorBody, ErrorKind};
use super::openapi::{QueryDoc, RouteDoc, Shape};
use super::shared::{Freshness, SharedReads, USUAL};
use crate::logs::AUDIT;

/// What every handler has at hand.
pub(super) struct Api<B> {
    pub(super) backend: Arc<B>,
    pub(super) access: Access,
    pub(super) max_body: usize,
    pub(super) body_timeout: Duration,
    /// Cancelled when the server begins to stop.
    pub(super) stopping: CancellationToken,
    /// What changes something and is under way: it runs to its end whoever hangs up.
    pub(super) writes: TaskTracker,
    /// One whole desired state at a time.
    pub(super) desired: tokio::sync::Mutex<()>,
    pub(super) openapi: utoipa::openapi::OpenApi,
    /// What is being read, and was just now.
    pub(super) reads: SharedReads,
}

/// The longest path and query of a read, in bytes: names have 63.
const KEY_MAX: usize = 1024;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(ErrorBody { error: self.into() })).into_response()
    }
}

/// The routes, and what is documented of them.
pub(super) struct Table<B> {
    pub(super) router: Router<Arc<Api<B>>>,
    pub(super) docs: Vec<RouteDoc>,
}

/// What a route is, but for its handler.
pub(super) struct Route {
    method: Method,
    path: &'static str,
    summary: &'static str,
    need: Need,
    query: &'static [QueryDoc],
    body_factor: usize,
    freshness: Freshness,
}

/// A route that reads.
pub(super) fn get(path: &'static str, summary: &'static str) -> Route {
    Route {
        method: Method::GET,
        path,
        summary,
        need: Need::Read,
        query: &[],
        body_factor: 1,
        freshness: USUAL,
    }
}

/// A route that makes something be.
pub(super) fn put(path: &'static str, summary: &'static str) -> Route {
    Route { method: Method::PUT, need: Need::Write, ..get(path, summary) }
}

/// A route that makes something not be.
pub(super) fn delete(path: &'static str, summary: &'static str) -> Route {
    Route { method: Method::DELETE, need: Need::Write, ..get(path, summary) }
}

impl Route {
    /// What it reads is a secret.
    pub(super) fn secret(self) -> Self {
        Self { need: Need::Secret, ..self }
    }

    /// It knows these query parameters.
    pub(super) fn query(self, query: &'static [QueryDoc]) -> Self {
        Self { query, ..self }
    }

    /// Its body may be so many times as large as others.
    pub(super) fn body_factor(self, body_factor: usize) -> Self {
        Self { body_factor, ..self }
    }

    /// What it finds out is so costly that an answer may be older than others, also for who may write.
    pub(super) fn costly(self, reader: Duration, writer: Duration) -> Self {
        Self { freshness: Freshness { reader, writer: Some(writer) }, ..self }
    }

    fn filter(&self) -> MethodFilter {
        match self.method {
            Method::PUT => MethodFilter::PUT,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        }
    }

    /// Who calls, if they may.
    fn admit(&self, parts: &axum::http::request::Parts, access: &Access) -> Answer<Peer> {
        let peer = parts
            .extensions
            .get::<Peer>()
            .cloned()
            .ok_or_else(|| ApiError::internal("the connection has no credentials"))?;
        access.decide(&peer, self.need)?;
        Ok(peer)
    }

    fn known(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.query.iter().map(|query| query.name)
    }

    fn doc(&self, request: Option<Shape>, answer: Shape) -> RouteDoc {
        RouteDoc {
            method: self.method.clone(),
            path: self.path,
            summary: self.summary,
            secret: self.need == Need::Secret,
            query: self.query,
            request,
            answer,
        }
    }
}

impl<B: Backend> Table<B> {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), docs: Vec::new() }
    }

    fn add<F, Fut>(mut self, route: Route, request: Option<Shape>, answer: Shape, handler: F) -> Self
    where
        F: Fn(Arc<Route>, Arc<Api<B>>, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<Response>> + Send + 'static,
    {
        self.docs.push(route.doc(request, answer));
        let (path, filter, route) = (route.path, route.filter(), Arc::new(route));
        let handler = move |State(api): State<Arc<Api<B>>>, request: Request| {
            let done = handler(route.clone(), api, request);
            async move { done.await.unwrap_or_else(IntoResponse::into_response) }
        };
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// Adds a route that answers with something other than one JSON document.
    pub(super) fn raw<F, Fut>(self, route: Route, answer: Shape, handler: F) -> Self
    where
        F: Fn(Arc<Api<B>>, Call) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<Response>> + Send + 'static,
    {
        self.add(route, None, answer, move |route, api, request| {
            let handler = handler.clone();
            async move {
                let (mut parts, _) = request.into_parts();
                let peer = route.admit(&parts, &api.access)?;
                handler(api, Call::read(&mut parts, peer, route.known()).await?).await
            }
        })
    }

    /// Adds a route that answers with a text of its own kind, which many share.
    pub(super) fn text<F, Fut>(self, route: Route, media: &'static str, handler: F) -> Self
    where
        F: Fn(Arc<Api<B>>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<Arc<String>>> + Send + 'static,
    {
        self.add(route, None, Shape::of_media(media), move |route, api, request| {
            let handler = handler.clone();
            async move {
                let (mut parts, _) = request.into_parts();
                let peer = route.admit(&parts, &api.access)?;
                Call::read(&mut parts, peer, route.known()).await?;
                let text = handler(api).await?;
                Ok(([(CONTENT_TYPE, media)], text.as_ref().clone()).into_response())
            }
        })
    }

    /// Adds a route without a body.
    pub(super) fn without_body<T, F, Fut>(self, route: Route, answer: Shape, handler: F) -> Self
    where
        T: Serialize + Send + 'static,
        F: Fn(Arc<Api<B>>, Call) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<T>> + Send + 'static,
    {
        self.add(route, None, answer, move |route, api, request| {
            let handler = handler.clone();
            async move {
                let (mut parts, _) = request.into_parts();
                let peer = route.admit(&parts, &api.access)?;
                let call = Call::read(&mut parts, peer.clone(), route.known()).await?;
                let done = handler(api.clone(), call);
                if route.need == Need::Write {
                    to_the_end(&api, &route, parts.uri.path(), &peer, done).await
                } else {
                    read(&api, &route, &parts.uri, &peer, done).await
                }
            }
        })
    }

    /// Adds a route with a JSON body.
    pub(super) fn with_body<R, T, F, Fut>(self, route: Route, handler: F) -> Self
    where
        R: DeserializeOwned + Checked + ToSchema + Send + 'static,
        T: Serialize + ToSchema + Send + 'static,
        F: Fn(Arc<Api<B>>, Call, R) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer<T>> + Send + 'static,
    {
        self.add(route, Some(Shape::one::<R>()), Shape::one::<T>(), move |route, api, request| {
            let handler = handler.clone();
            async move {
                let (mut parts, mut body): (_, Body) = request.into_parts();
                let read = async {
                    let peer = route.admit(&parts, &api.access)?;
                    let call = Call::read(&mut parts, peer.clone(), route.known()).await?;
                    let limit = api.max_body.saturating_mul(route.body_factor);
                    let request: R = read_json(&parts, &mut body, limit, api.body_timeout).await?;
                    request.check()?;
                    Ok::<_, ApiError>((peer, call, request))
                };
                let (peer, call, request) = match read.await {
                    Ok(read) => read,
                    Err(error) => {
                        if error.kind != ErrorKind::Timeout {
                            discard(&parts, body, api.body_timeout).await;
                        }
                        return Err(error);
                    }
                };
                let done = handler(api.clone(), call, request);
                to_the_end(&api, &route, parts.uri.path(), &peer, done).await
            }
        })
    }
}

/// Reads, or takes what somebody else has just read. A secret is shared with nobody.
async fn read<B: Backend, T: Serialize + Send + 'static>(
    api: &Api<B>,
    route: &Route,
    uri: &Uri,
    peer: &Peer,
    done: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<Response> {
    let path = uri.path().to_owned();
    let done = async move {
        let answer = AssertUnwindSafe(done).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(failed_inside(&path)))?;
        let text = serde_json::to_vec(&answer).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(Bytes::from(text))
    };
    let reader = (!api.access.may_write(peer)).then_some(peer.uid);
    let age = if reader.is_some() { Some(route.freshness.reader) } else { route.freshness.writer };
    let key = uri.path_and_query().map(ToString::to_string).filter(|key| key.len() <= KEY_MAX);
    let text = match (age, key) {
        (Some(age), Some(key)) if route.need == Need::Read => api.reads.read(key, reader, age, done).await?,
        // Longer than any name there is: it will not be found.
        (Some(_), None) if reader.is_some() => {
            return Err(ApiError::not_found(format!(
                "there is nothing at a path of more than {KEY_MAX} bytes"
            )));
        }
        _ => done.await?,
    };
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// Runs what changes something in a task of its own: a caller that hangs up must not stop it half-way.
async fn to_the_end<B: Backend, T: Serialize + Send + 'static>(
    api: &Api<B>,
    route: &Route,
    path: &str,
    peer: &Peer,
    done: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<Response> {
    let answer = api.writes.spawn(done).await.unwrap_or_else(|_| Err(failed_inside(path)));
    match &answer {
        Ok(_) => tracing::info!(target: AUDIT, method = %route.method, path, %peer, "done"),
        Err(error) => tracing::info!(target: AUDIT, method = %route.method, path, %peer, %error, "refused"),
    }
    Ok(axum::Json(answer?).into_response())
}

/// A panic, whose message is in the log: the caller gets an answer all the same, and the server goes on.
fn failed_inside(path: &str) -> ApiError {
    tracing::error!(path, "a request failed inside the agent");
    ApiError::internal("the request failed inside the agent").hint("its log says where")
}
