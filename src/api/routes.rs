//! What is under `/v1`: one entry for each path and method.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::backend::{Answer, Backend};
use super::call::Call;
use super::caller::OfCaller;
use super::desired;
use super::error::{ApiError, ErrorKind};
use super::events::{Event, EventKind, Watch};
use super::openapi::{QueryDoc, QueryKind, Shape};
use super::table::{Api, Table, delete, get, put};
use super::types::{
    AttachRequest, CapturePart, CaptureQuery, CarriedAnswer, ChangeAnswer, DesiredDocument, DoctorAnswer,
    DrainRequest, EndpointAnswer, GroupAnswer, InitRequest, JoinRequest, KeysAnswer, LabelsRequest,
    NetworkAnswer, NetworkRequest, NodeAnswer, NodeDropsAnswer, NodePathsAnswer, PlanAnswer, ReclaimRequest,
    RecoverRequest, ReloadRequest, RemovedAnswer, RotateKeysRequest, RotateRequest, ServiceAddressAnswer,
    ServiceAddressRequest, ServiceAnswer, SettingsRequest, StatusAnswer, TokenAnswer, TraceAnswer,
    TraceQuery, VersionAnswer,
};
use crate::capture::{FilterError, SNAPLEN};
use crate::logs::AUDIT;
use crate::model::NodeName;

const FOLLOW: &[QueryDoc] = &[
    QueryDoc {
        name: "follow",
        kind: QueryKind::Flag,
        description: "Go on with what happens from now on, until the caller hangs up.",
    },
    QueryDoc {
        name: "since",
        kind: QueryKind::Number,
        description: "Begin after the event with this number of this node; without it, with the oldest that is kept.",
    },
    QueryDoc {
        name: "since_ms",
        kind: QueryKind::Number,
        description: "None that are older than this time, in milliseconds since 1970.",
    },
    QueryDoc {
        name: "node",
        kind: QueryKind::Text,
        description: "Whose: `self` (the default), `all`, or a node's name.",
    },
];

const CHANGES: &[QueryDoc] = &[QueryDoc {
    name: "follow",
    kind: QueryKind::Flag,
    description: "Go on with one after each change, until the caller hangs up; without it there is the first alone.",
}];

const SERVICE_TYPE: &[QueryDoc] = &[QueryDoc {
    name: "type",
    kind: QueryKind::Text,
    description: "Only services of this type: `_distcc._tcp`, or `_subtype._sub._distcc._tcp`.",
}];

const TRACE: &[QueryDoc] = &[
    QueryDoc {
        name: "from",
        kind: QueryKind::Text,
        description: "One end: an endpoint or a node, by its name (NETWORK/NAME where several have it) or an address of its.",
    },
    QueryDoc {
        name: "to",
        kind: QueryKind::Text,
        description: "The other: an endpoint, a service, a node, a group's address, or `broadcast`.",
    },
    QueryDoc {
        name: "group",
        kind: QueryKind::Text,
        description: "The group that is sent to, where `to` is one of its members.",
    },
    QueryDoc { name: "port", kind: QueryKind::Number, description: "The TCP or UDP port that it is for." },
];

const CAPTURE: &[QueryDoc] = &[
    QueryDoc {
        name: "of",
        kind: QueryKind::Text,
        description: "An endpoint of any node (NETWORK/NAME where several have it), or a network: what comes into it on this node.",
    },
    QueryDoc {
        name: "filter",
        kind: QueryKind::Text,
        description: "Only such frames: words of pcap-filter(7).",
    },
    QueryDoc {
        name: "snaplen",
        kind: QueryKind::Number,
        description: "How many bytes of each are kept; 65535 by default.",
    },
    QueryDoc { name: "count", kind: QueryKind::Number, description: "After how many frames it ends." },
    QueryDoc { name: "seconds", kind: QueryKind::Number, description: "After how many seconds it ends." },
];

/// What a file of libpcap's is called.
const PCAP: &str = "application/vnd.tcpdump.pcap";

const DRY_RUN: &[QueryDoc] =
    &[QueryDoc { name: "dry_run", kind: QueryKind::Flag, description: "Only say what would be done." }];

/// How old the answer to a costly question may be: what the kernel can do changes with a module that is loaded, what is in
/// it at any time. With none it is still found out once for all who ask at once.
const MINUTES: Duration = Duration::from_secs(300);
const SECONDS: Duration = Duration::from_secs(2);
const NOW: Duration = Duration::ZERO;

/// The fewest bytes of a frame that are kept.
const SNAPLEN_MIN: u32 = 64;
/// What stands behind a capture: how many frames were lost, and why it ended where nobody asked for that.
pub(super) const LOST: &str = "x-lanmesh-lost";
pub(super) const WHY: &str = "x-lanmesh-ended";
const TRAILERS: &str = "x-lanmesh-lost, x-lanmesh-ended";

/// How many times as large as other bodies a whole desired state may be.
const DESIRED_BODY_FACTOR: usize = 16;

fn removed(removed: bool) -> RemovedAnswer {
    RemovedAnswer { removed }
}

/// Every route.
pub(super) fn table<B: Backend>() -> Table<B> {
    let table = cluster(agent(Table::new()));
    networks(table)
}

fn agent<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .without_body(
            get("/v1/version", "Which agent answers"),
            Shape::one::<VersionAnswer>(),
            |_, _| async {
                Ok(VersionAnswer { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned() })
            },
        )
        .without_body(get("/v1/openapi.json", "This document"), Shape::any_object(), |api, _| async move {
            serde_json::to_value(&api.openapi).map_err(|error| ApiError::internal(error.to_string()))
        })
        .without_body(
            get("/v1/status", "How the agent is"),
            Shape::one::<StatusAnswer>(),
            |api, _| async move { api.backend.status().await },
        )
        .text(
            get("/v1/metrics", "What is counted, as Prometheus reads it"),
            crate::metrics::CONTENT_TYPE,
            |api| async move { api.backend.metrics().await },
        )
        .without_body(
            get("/v1/doctor", "What this machine can do").costly(MINUTES, SECONDS),
            Shape::one::<DoctorAnswer>(),
            |api, _| async move { api.backend.doctor().await },
        )
        .with_body(
            put("/v1/configuration", "Read the agent's configuration again"),
            |api, _, _: ReloadRequest| async move { api.backend.reload().await },
        )
        .without_body(
            get("/v1/plan", "What a full pass would change now").secret().costly(SECONDS, NOW),
            Shape::one::<PlanAnswer>(),
            |api, _| async move { api.backend.plan().await },
        )
        .without_body(
            get("/v1/trace", "What stands in the way between two ends").query(TRACE).costly(SECONDS, NOW),
            Shape::one::<TraceAnswer>(),
            |api, call| async move { api.backend.trace(trace(&call)?).await },
        )
        .raw(
            get("/v1/events", "What happened, one event in a line").query(FOLLOW),
            Shape::lines::<Event>(),
            events,
        )
        .raw(
            get("/v1/changes", "That something changed, one notice in a line").query(CHANGES),
            Shape::lines::<ChangeAnswer>(),
            |api, call| async move { Ok(changes(&api, call.flag("follow")?)) },
        )
        .raw(
            get("/v1/capture", "Frames of an endpoint or a network, as they come").secret().query(CAPTURE),
            Shape::of_media(PCAP),
            |api, call| async move { capture(&api, &call).await },
        )
        .without_body(
            get("/v1/desired", "What this node is to have"),
            Shape::one::<DesiredDocument>(),
            |api, _| async move { api.backend.desired().await },
        )
        .with_body(
            put("/v1/desired", "Make this node have what is named, and nothing else")
                .query(DRY_RUN)
                .body_factor(DESIRED_BODY_FACTOR),
            |api, call, wanted: DesiredDocument| async move {
                let wanted = wanted.of_caller(&call.peer)?;
                let dry_run = call.flag("dry_run")?;
                let _alone = api.desired.lock().await;
                desired::put(api.backend.as_ref(), &wanted, dry_run).await
            },
        )
}

fn cluster<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .with_body(
            put("/v1/cluster", "Make a cluster with this node"),
            |api, _, request: InitRequest| async move { api.backend.init(request).await },
        )
        .with_body(
            put("/v1/cluster/membership", "Join a cluster"),
            |api, _, request: JoinRequest| async move { api.backend.join(request).await },
        )
        .with_body(
            put("/v1/cluster/here", "Go on here as the node that stepped aside for a copy of itself"),
            |api, _, _: ReclaimRequest| async move { api.backend.reclaim().await },
        )
        .without_body(
            delete("/v1/cluster", "Leave the cluster"),
            Shape::one::<RemovedAnswer>(),
            |api, _| async move { api.backend.leave().await.map(removed) },
        )
        .without_body(
            get("/v1/token", "The token that admits nodes").secret(),
            Shape::one::<TokenAnswer>(),
            |api, _| async move { api.backend.token().await },
        )
        .with_body(put("/v1/token", "Replace the token"), |api, _, request: RotateRequest| async move {
            api.backend.rotate_token(request).await
        })
        .without_body(
            get("/v1/keys", "Which keys of the cluster are current"),
            Shape::one::<KeysAnswer>(),
            |api, _| async move { api.backend.keys().await },
        )
        .with_body(
            put("/v1/keys", "Replace the keys of the cluster and its mesh"),
            |api, _, request: RotateKeysRequest| async move { api.backend.rotate_keys(request).await },
        )
        .with_body(
            put("/v1/manager", "Make this node the manager"),
            |api, _, request: RecoverRequest| async move { api.backend.recover(request).await },
        )
        .without_body(get("/v1/nodes", "Every node"), Shape::many::<NodeAnswer>(), |api, _| async move {
            api.backend.nodes().await
        })
        .without_body(
            get("/v1/nodes/{node}", "One node, by name or id"),
            Shape::one::<NodeAnswer>(),
            |api, call| async move { api.backend.node(call.param("node")?).await },
        )
        .without_body(
            get("/v1/paths", "How the ways between the nodes are, as each of them says").costly(SECONDS, NOW),
            Shape::many::<NodePathsAnswer>(),
            |api, _| async move { api.backend.node_paths().await },
        )
        .without_body(
            get("/v1/drops", "What the nodes dropped, by why, as each of them says").costly(SECONDS, NOW),
            Shape::many::<NodeDropsAnswer>(),
            |api, _| async move { api.backend.node_drops().await },
        )
        .with_body(
            put("/v1/nodes/{node}/labels", "Say something of a node"),
            |api, call, request: LabelsRequest| async move {
                api.backend.set_labels(call.param("node")?, request).await
            },
        )
        .without_body(
            get("/v1/facts", "What this node carries, of which kinds and writers"),
            Shape::many::<CarriedAnswer>(),
            |api, _| async move { api.backend.carried().await },
        )
        .without_body(
            delete("/v1/nodes/{node}", "Shut a node out"),
            Shape::one::<RemovedAnswer>(),
            |api, call| async move { api.backend.remove_node(call.param("node")?).await.map(removed) },
        )
}

fn networks<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .without_body(
            get("/v1/networks", "Every network"),
            Shape::many::<NetworkAnswer>(),
            |api, call| async move {
                let networks = api.backend.networks().await?;
                Ok(networks.into_iter().map(|network| shown(network, &api, &call)).collect::<Vec<_>>())
            },
        )
        .without_body(
            get("/v1/networks/{name}", "One network"),
            Shape::one::<NetworkAnswer>(),
            |api, call| async move {
                let network = api.backend.network(call.param("name")?).await?;
                Ok(shown(network, &api, &call))
            },
        )
        .with_body(
            put("/v1/networks/{name}", "Create a network"),
            |api, call, request: NetworkRequest| async move {
                api.backend.create_network(call.param("name")?, request).await
            },
        )
        .with_body(
            put("/v1/networks/{name}/settings", "Change settings of a network"),
            |api, call, request: SettingsRequest| async move {
                api.backend.set_network(call.param("name")?, request).await
            },
        )
        .without_body(
            delete("/v1/networks/{name}", "Delete a network"),
            Shape::one::<RemovedAnswer>(),
            |api, call| async move { api.backend.remove_network(call.param("name")?).await.map(removed) },
        )
        .without_body(
            get("/v1/endpoints", "Every endpoint that this node knows"),
            Shape::many::<EndpointAnswer>(),
            |api, _| async move { api.backend.endpoints(None).await },
        )
        .without_body(
            get("/v1/networks/{name}/endpoints", "The endpoints of one network"),
            Shape::many::<EndpointAnswer>(),
            |api, call| async move { api.backend.endpoints(Some(call.param("name")?)).await },
        )
        .without_body(
            get("/v1/networks/{name}/endpoints/{endpoint}", "One endpoint"),
            Shape::one::<EndpointAnswer>(),
            |api, call| async move { api.backend.endpoint(call.param("name")?, call.param("endpoint")?).await },
        )
        .without_body(
            get("/v1/multicast", "Every multicast group that has members").costly(SECONDS, NOW),
            Shape::many::<GroupAnswer>(),
            |api, _| async move { api.backend.multicast(None).await },
        )
        .without_body(
            get("/v1/networks/{name}/multicast", "The multicast groups of one network").costly(SECONDS, NOW),
            Shape::many::<GroupAnswer>(),
            |api, call| async move { api.backend.multicast(Some(call.param("name")?)).await },
        )
        .without_body(
            get("/v1/networks/{name}/services", "The DNS-SD services of one network").query(SERVICE_TYPE),
            Shape::many::<ServiceAnswer>(),
            |api, call| async move {
                let filter = call.query("type", "a type of services such as _distcc._tcp")?;
                api.backend.services(call.param("name")?, filter).await
            },
        )
        .with_body(
            put("/v1/networks/{name}/endpoints/{endpoint}", "Attach an endpoint"),
            |api, call, request: AttachRequest| async move {
                let request = request.of_caller(&call.peer)?;
                api.backend.attach(call.param("name")?, call.param("endpoint")?, request).await
            },
        )
        .without_body(
            delete("/v1/networks/{name}/endpoints/{endpoint}", "Detach an endpoint"),
            Shape::one::<RemovedAnswer>(),
            |api, call| async move {
                api.backend.detach(call.param("name")?, call.param("endpoint")?).await.map(removed)
            },
        )
        .without_body(
            get("/v1/service-addresses", "Every service that has an address"),
            Shape::many::<ServiceAddressAnswer>(),
            |api, _| async move { api.backend.service_addresses(None).await },
        )
        .without_body(
            get("/v1/networks/{name}/service-addresses", "The services of one network that have addresses"),
            Shape::many::<ServiceAddressAnswer>(),
            |api, call| async move { api.backend.service_addresses(Some(call.param("name")?)).await },
        )
        .without_body(
            get("/v1/networks/{name}/service-addresses/{service}", "One service that has an address"),
            Shape::one::<ServiceAddressAnswer>(),
            |api, call| async move {
                api.backend.service_address(call.param("name")?, call.param("service")?).await
            },
        )
        .with_body(
            put("/v1/networks/{name}/service-addresses/{service}", "Give a service an address"),
            |api, call, request: ServiceAddressRequest| async move {
                api.backend.set_service(call.param("name")?, call.param("service")?, request).await
            },
        )
        .without_body(
            delete("/v1/networks/{name}/service-addresses/{service}", "Take a service's address away"),
            Shape::one::<RemovedAnswer>(),
            |api, call| async move {
                api.backend.remove_service(call.param("name")?, call.param("service")?).await.map(removed)
            },
        )
        .with_body(
            put("/v1/networks/{name}/endpoints/{endpoint}/drain", "Send an endpoint no new connections"),
            |api, call, request: DrainRequest| async move {
                api.backend.drain(call.param("name")?, call.param("endpoint")?, request).await
            },
        )
}

async fn capture<B: Backend>(api: &Arc<Api<B>>, call: &Call) -> Answer<Response> {
    let of: Option<String> = call.query("of", "a name")?;
    let filter: String = call.query("filter", "a text")?.unwrap_or_default();
    let snaplen: Option<u32> = call.query("snaplen", "a number of bytes")?;
    let query = CaptureQuery {
        of: of.filter(|of| !of.is_empty()).ok_or_else(|| ApiError::bad_field("of", "it is missing"))?,
        filter: filter
            .parse()
            .map_err(|error: FilterError| ApiError::bad_field("filter", error.to_string()))?,
        snaplen: snaplen.unwrap_or(SNAPLEN).clamp(SNAPLEN_MIN, SNAPLEN),
        count: call.query("count", "a number from 1 on")?,
        seconds: call.query("seconds", "a number from 1 on")?,
    };
    tracing::info!(target: AUDIT, of = query.of, peer = %call.peer, "captures");
    let parts = api.backend.capture(query).await?;
    let parts = parts.take_until(api.stopping.clone().cancelled_owned());
    let frames = parts.map(|part| {
        Ok::<_, Infallible>(match part {
            CapturePart::Bytes(bytes) => Frame::data(bytes),
            CapturePart::End { lost, why } => Frame::trailers(ending(lost, why)),
        })
    });
    let headers = [(CONTENT_TYPE, PCAP), (CACHE_CONTROL, "no-store"), (TRAILER, TRAILERS)];
    Ok((headers, Body::new(StreamBody::new(frames))).into_response())
}

/// How a capture ended, behind it.
fn ending(lost: u64, why: Option<String>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(LOST, HeaderValue::from(lost));
    // What no header may have in it is nothing that helps.
    if let Some(why) = why.and_then(|why| HeaderValue::from_str(&why).ok()) {
        trailers.insert(WHY, why);
    }
    trailers
}

fn trace(call: &Call) -> Answer<TraceQuery> {
    let end = |name: &str| {
        let given: Option<String> = call.query(name, "a text")?;
        given.filter(|text| !text.is_empty()).ok_or_else(|| ApiError::bad_field(name, "it is missing"))
    };
    Ok(TraceQuery {
        from: end("from")?,
        to: end("to")?,
        group: call.query("group", "the address of a multicast group")?,
        port: call.query("port", "a port from 1 on")?,
    })
}

/// A network as its caller may see it.
fn shown<B: Backend>(network: NetworkAnswer, api: &Api<B>, call: &Call) -> NetworkAnswer {
    NetworkAnswer { vni: network.vni.filter(|_| call.may_write(&api.access)), ..network }
}

async fn events<B: Backend>(api: Arc<Api<B>>, call: Call) -> Answer<Response> {
    let since = call.query("since", "a number")?;
    let since_ms = call.query("since_ms", "a number")?.unwrap_or(0);
    let follow = call.flag("follow")?;
    let node: Option<String> = call.query("node", "self, all or the name of a node")?;
    let node = node.filter(|node| node != "self");
    let stopping = follow.then(|| api.stopping.clone());
    let Some(node) = node else {
        let reader = api.backend.events().read(since);
        return Ok(streamed(stream::unfold((reader, stopping), move |(mut reader, stopping)| async move {
            let event = match &stopping {
                Some(stopping) => stopping.run_until_cancelled(reader.next()).await.flatten(),
                None => reader.try_next(),
            }?;
            let next = || reader.try_next();
            Some((Ok(lines(event, since_ms, next)), (reader, stopping)))
        })));
    };
    if since.is_some() {
        let message = "each node has its own numbers";
        return Err(ApiError::bad_field("since", message).hint("give since_ms, or node=self"));
    }
    let node = match node.as_str() {
        "all" => None,
        name => Some(NodeName::new(name).map_err(|error| ApiError::bad_field("node", error.to_string()))?),
    };
    let watch = Watch { node, since_ms, follow, writer: call.may_write(&api.access) };
    let watched = api.backend.watch(watch).await?;
    let stopping = api.stopping.clone();
    Ok(streamed(stream::unfold((watched, stopping), move |(mut watched, stopping)| async move {
        let event = stopping.run_until_cancelled(watched.recv()).await.flatten()?;
        let next = || watched.try_recv().ok();
        Some((Ok(lines(event, since_ms, next)), (watched, stopping)))
    })))
}

/// Notices until the agent stops. Whoever is slow finds one where there were several.
fn changes<B: Backend>(api: &Arc<Api<B>>, follow: bool) -> Response {
    let notices = api.backend.changes().take(if follow { usize::MAX } else { 1 });
    let notices = notices.take_until(api.stopping.clone().cancelled_owned());
    let lines = notices.enumerate().map(|(i, ())| {
        let number = u64::try_from(i).unwrap_or(u64::MAX).saturating_add(1);
        let mut line = serde_json::to_vec(&ChangeAnswer { number }).unwrap_or_default();
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    streamed(lines)
}

/// One document in a line, as they come.
fn streamed(lines: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

/// `first` and what else is already there, up to a few dozen: one write for a burst instead of one for each. None that are
/// older than `since_ms`.
fn lines(first: Event, since_ms: u64, next: impl FnMut() -> Option<Event>) -> Bytes {
    let mut text = Vec::new();
    let rest = std::iter::from_fn(next).take(63);
    let new = |event: &Event| event.time_ms >= since_ms || event.kind == EventKind::Lagged;
    for event in std::iter::once(first).chain(rest).filter(new) {
        // Plain values with text keys: there is nothing in an event that JSON cannot hold.
        if serde_json::to_writer(&mut text, &event).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

/// The router: every route, and JSON errors for everything else.
pub(super) fn router<B: Backend>(table: Table<B>, api: Arc<Api<B>>) -> Router {
    table
        .router
        .method_not_allowed_fallback(async |request: Request| {
            let message = format!("{} has no {}", request.uri().path(), request.method());
            ApiError::new(ErrorKind::MethodNotAllowed, message)
                .hint("GET reads, PUT makes, DELETE removes; GET /v1/openapi.json has them all")
        })
        .fallback(async |uri: Uri| {
            ApiError::not_found(format!("there is nothing at {}", uri.path()))
                .hint("GET /v1/openapi.json lists every path")
        })
        .with_state(api)
}
