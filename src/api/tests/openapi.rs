//! Holds the OpenAPI document against the running server.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use super::*;
use crate::api::routes;

/// Says where `value` does not follow `schema`, for as much of JSON Schema as the document uses.
fn validate(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let known = [
        "$ref",
        "additionalProperties",
        "allOf",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "minimum",
        "oneOf",
        "properties",
        "propertyNames",
        "required",
        "type",
    ];
    let schema_object = schema.as_object().ok_or(format!("{at}: the schema is no object: {schema}"))?;
    if let Some(key) = schema_object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("{at}: this validator does not know {key}"));
    }
    if let Some(path) = schema["$ref"].as_str() {
        let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
        return validate(root, target.ok_or(format!("{at}: {path} leads nowhere"))?, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let good = choices.iter().filter(|choice| validate(root, choice, value, at).is_ok()).count();
        return if good == 1 { Ok(()) } else { Err(format!("{at}: {good} choices fit {value}")) };
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        validate(root, part, value, at)?;
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        return Err(format!("{at}: {value} is none of {choices:?}"));
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        return Err(format!("{at}: {value} is not of type {}", schema["type"]));
    }
    if let Some(items) = value.as_array() {
        for (i, item) in items.iter().enumerate() {
            validate(root, &schema["items"], item, &format!("{at}[{i}]"))?;
        }
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(field) {
            return Err(format!("{at}: {field} is required and missing"));
        }
    }
    for (field, value) in fields {
        let at = format!("{at}.{field}");
        match (&schema["properties"][field], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) if schema["properties"].is_null() => {}
            (Value::Null, Value::Null | Value::Bool(false)) => {
                return Err(format!("{at}: is not documented"));
            }
            (Value::Null, additional) => validate(root, additional, value, &at)?,
            (documented, _) => validate(root, documented, value, &at)?,
        }
    }
    Ok(())
}

/// A request for each path that answers 200 once those before it were made, in this order.
const REQUESTS: &[(&str, &str, &str, &str)] = &[
    ("put", "/v1/cluster", "/v1/cluster", r#"{"advertise":"192.0.2.1:7979","name":"n1"}"#),
    ("put", "/v1/cluster/membership", "/v1/cluster/membership", r#"{"token":"t","manager":"m","index":3}"#),
    ("put", "/v1/cluster/here", "/v1/cluster/here", "{}"),
    ("get", "/v1/token", "/v1/token", ""),
    ("put", "/v1/token", "/v1/token", r#"{"replaces":"token-0"}"#),
    ("get", "/v1/keys", "/v1/keys", ""),
    ("put", "/v1/keys", "/v1/keys", r#"{"replaces":0}"#),
    ("put", "/v1/manager", "/v1/manager", r#"{"force":true}"#),
    ("get", "/v1/version", "/v1/version", ""),
    ("put", "/v1/configuration", "/v1/configuration", "{}"),
    ("get", "/v1/openapi.json", "/v1/openapi.json", ""),
    ("get", "/v1/status", "/v1/status", ""),
    ("get", "/v1/changes", "/v1/changes", ""),
    ("get", "/v1/metrics", "/v1/metrics", ""),
    ("get", "/v1/doctor", "/v1/doctor", ""),
    ("get", "/v1/plan", "/v1/plan", ""),
    ("get", "/v1/nodes", "/v1/nodes", ""),
    ("get", "/v1/paths", "/v1/paths", ""),
    ("get", "/v1/drops", "/v1/drops", ""),
    ("get", "/v1/nodes/{node}", "/v1/nodes/n1", ""),
    ("put", "/v1/nodes/{node}/labels", "/v1/nodes/n1/labels", r#"{"labels":{"storage":"ssd","old":null}}"#),
    ("get", "/v1/facts", "/v1/facts", ""),
    ("delete", "/v1/nodes/{node}", "/v1/nodes/n9", ""),
    (
        "put",
        "/v1/networks/{name}",
        "/v1/networks/net",
        r#"{"subnets":["10.0.0.0/24","fd00::/64"],"pools":{"web":["10.0.0.8/29","fd00::8/125"],"db":"10.0.0.16/29"},"reserve":["10.0.0.5"],"mtu":1400}"#,
    ),
    (
        "put",
        "/v1/networks/{name}/settings",
        "/v1/networks/net/settings",
        r#"{"options":{"multicast":"flood","mtu":"auto"},"pools":{"db":[]},"reserve":["10.0.0.6"],"add_subnets":["10.9.0.0/24"]}"#,
    ),
    (
        "put",
        "/v1/networks/{name}/service-addresses/{service}",
        "/v1/networks/net/service-addresses/web",
        r#"{"addresses":["10.0.0.250"],"ports":["80:8080"],"affinity":"source"}"#,
    ),
    ("get", "/v1/service-addresses", "/v1/service-addresses", ""),
    ("get", "/v1/networks/{name}/service-addresses", "/v1/networks/net/service-addresses", ""),
    ("get", "/v1/networks/{name}/service-addresses/{service}", "/v1/networks/net/service-addresses/web", ""),
    (
        "delete",
        "/v1/networks/{name}/service-addresses/{service}",
        "/v1/networks/net/service-addresses/web",
        "",
    ),
    ("get", "/v1/networks", "/v1/networks", ""),
    ("get", "/v1/networks/{name}", "/v1/networks/net", ""),
    (
        "put",
        "/v1/networks/{name}/endpoints/{endpoint}",
        "/v1/networks/net/endpoints/e",
        r#"{"host":true,"service":"web","slot":1,"aliases":["f"],"addresses":["10.0.0.9"],"take":true,
            "advertise":[{"kind":"_distcc._tcp","port":3632,"txt":{"jobs":"4"}}]}"#,
    ),
    ("get", "/v1/networks/{name}/endpoints", "/v1/networks/net/endpoints", ""),
    ("get", "/v1/networks/{name}/endpoints/{endpoint}", "/v1/networks/net/endpoints/e", ""),
    (
        "put",
        "/v1/networks/{name}/endpoints/{endpoint}/drain",
        "/v1/networks/net/endpoints/e/drain",
        r#"{"draining":true}"#,
    ),
    ("get", "/v1/endpoints", "/v1/endpoints", ""),
    ("get", "/v1/networks/{name}/multicast", "/v1/networks/net/multicast", ""),
    ("get", "/v1/multicast", "/v1/multicast", ""),
    ("get", "/v1/capture", "/v1/capture?of=a&filter=udp&count=1", ""),
    ("get", "/v1/trace", "/v1/trace?from=a&to=b&port=80&group=239.1.1.1", ""),
    ("get", "/v1/networks/{name}/services", "/v1/networks/net/services?type=_distcc._tcp", ""),
    ("get", "/v1/desired", "/v1/desired", ""),
    (
        "put",
        "/v1/desired",
        "/v1/desired",
        r#"{"networks":{"new":{"subnets":["10.1.0.0/24"]}},"endpoints":{"new":{"g":{"host":true}},"x":{"h":{"host":true}}}}"#,
    ),
    ("get", "/v1/events", "/v1/events?follow=false", ""),
    ("delete", "/v1/networks/{name}/endpoints/{endpoint}", "/v1/networks/net/endpoints/e", ""),
    ("delete", "/v1/networks/{name}", "/v1/networks/net", ""),
    ("delete", "/v1/cluster", "/v1/cluster", ""),
];

async fn document(served: &Served) -> Value {
    served.raw("GET", "/v1/openapi.json", "", "").await.body
}

#[tokio::test]
async fn every_documented_call_is_answered_as_documented() {
    let served = Served::start();
    let document = document(&served).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut seen = BTreeSet::new();
    for (method, template, path, body) in REQUESTS {
        seen.insert((template.to_string(), method.to_string()));
        let documented = &document["paths"][template][method];
        let content = &documented["responses"]["200"]["content"];
        let upper = method.to_ascii_uppercase();
        if let Some(line) = content.get("application/x-ndjson")
            && *template == "/v1/changes"
        {
            let mut changes = served.client.changes().await.unwrap();
            let first = changes.line().await.unwrap().expect("there is one at the beginning");
            validate(&document, &line["schema"], &serde_json::from_slice(&first).unwrap(), template).unwrap();
            served.publish("something happened");
            assert_eq!(changes.line().await.unwrap().unwrap(), "{\"number\":2}\n");
            // Whoever does not follow gets the first alone.
            assert_eq!(served.raw("GET", path, "", "").await.status, 200);
            continue;
        }
        if let Some(line) = content.get("application/x-ndjson") {
            let mut events = served.client.events(None, false).await.unwrap();
            let event = events.next().await.unwrap().expect("creating a network is an event");
            let event = serde_json::to_value(event).unwrap();
            validate(&document, &line["schema"], &event, template).unwrap();
            continue;
        }
        if content.get(crate::metrics::CONTENT_TYPE).is_some() {
            assert_eq!(served.client.metrics().await.unwrap(), "# TYPE a gauge\na 1\n");
            continue;
        }
        if content.get("application/vnd.tcpdump.pcap").is_some() {
            let query = crate::api::types::CaptureQuery {
                of: "a".into(),
                filter: "udp port 53".parse().unwrap(),
                snaplen: 96,
                count: NonZeroU64::new(1),
                seconds: None,
            };
            let mut capture = served.client.capture(&query).await.unwrap();
            assert_eq!(capture.next().await.unwrap().unwrap(), crate::capture::header(96));
            assert_eq!(capture.next().await.unwrap(), None);
            assert_eq!((capture.lost, capture.why.as_deref()), (7, Some("gone")));
            continue;
        }
        if let Some(request) = documented.get("requestBody") {
            let schema = &request["content"]["application/json"]["schema"];
            validate(&document, schema, &serde_json::from_str(body).unwrap(), template).unwrap();
        }
        let answer = served.raw(&upper, path, "content-type: application/json\r\n", body).await;
        assert_eq!(answer.status, 200, "{upper} {path}: {answer:?}");
        validate(&document, &content["application/json"]["schema"], &answer.body, template)
            .unwrap_or_else(|error| panic!("{upper} {path}: {error}\n{}", answer.body));
    }
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        documented.extend(methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())));
    }
    assert_eq!(seen, documented, "each call that is documented is tried, and no other");
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_route_is_there() {
    let served = Served::start();
    let document = document(&served).await;
    let routes: BTreeSet<(String, String)> = routes::table::<Fake>()
        .docs
        .iter()
        .map(|doc| (doc.path.to_owned(), doc.method.as_str().to_ascii_lowercase()))
        .collect();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "delete", "post", "patch"] {
            if methods.get(method).is_some() {
                documented.insert((path.clone(), method.to_owned()));
            }
            let concrete = path.replace("{node}", "n").replace("{name}", "n").replace("{endpoint}", "e");
            let answer = served.raw(&method.to_ascii_uppercase(), &concrete, "", "").await;
            let there = answer.code() != "method_not_allowed" && !answer.message().contains("nothing at");
            assert_eq!(there, methods.get(method).is_some(), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(routes, documented);
}

#[tokio::test]
async fn errors_follow_their_schema_and_their_status_is_documented() {
    let served = Served::start();
    let document = document(&served).await;
    for (method, template, path, body) in [
        ("put", "/v1/networks/{name}", "/v1/networks/net", "{}"),
        ("get", "/v1/networks/{name}", "/v1/networks/net", ""),
        (
            "put",
            "/v1/networks/{name}/endpoints/{endpoint}",
            "/v1/networks/net/endpoints/e",
            r#"{"host":true}"#,
        ),
        ("put", "/v1/token", "/v1/token", r#"{"replaces":"other"}"#),
        ("put", "/v1/keys", "/v1/keys", r#"{"replaces":7}"#),
    ] {
        let answer =
            served.raw(&method.to_ascii_uppercase(), path, "content-type: application/json\r\n", body).await;
        let response = &document["paths"][template][method]["responses"][answer.status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        validate(&document, schema, &answer.body, path).unwrap();
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn walk(root: &Value, value: &Value, found: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(root.pointer(&path[1..]).is_some(), "{path}");
                    *found += 1;
                }
                fields.values().for_each(|value| walk(root, value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(root, value, found)),
            _ => {}
        }
    }
    let served = Served::start();
    let document = document(&served).await;
    let mut found = 0;
    walk(&document, &document, &mut found);
    assert!(found > 50, "{found}");
}
