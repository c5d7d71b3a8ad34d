//! What a runtime is answered.

use serde_json::{Map, Value, json};

use super::config::Config;
use super::version::Version;
use crate::made::Made;

/// What is answered to VERSION. `asked` is the version that the question says.
pub fn supported(asked: &str) -> Value {
    let all: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
    // A runtime before 0.3.0 asks without a word of its own.
    let own = if asked.is_empty() { Version::V1_1_0.as_str() } else { asked };
    json!({ "cniVersion": own, "supportedVersions": all })
}

/// What is answered to ADD: what was made, behind what other plugins had made before.
pub fn reply(config: &Config, made: &Made) -> Value {
    let mut reply = match &config.previous {
        Some(Value::Object(previous)) => previous.clone(),
        _ => Map::new(),
    };
    let before = reply.get("interfaces").and_then(Value::as_array).map_or(0, Vec::len);
    let mut interface = json!({ "name": made.ifname, "mac": made.mac.to_string(), "sandbox": made.sandbox });
    if config.version >= Version::V1_1_0 {
        interface["mtu"] = made.mtu.into();
    }
    push(&mut reply, "interfaces", interface);
    for (address, gateway) in &made.addresses {
        let mut ip =
            json!({ "address": address.to_string(), "gateway": gateway.to_string(), "interface": before });
        if config.version < Version::V1_0_0 {
            ip["version"] = if address.is_ipv4() { "4" } else { "6" }.into();
        }
        push(&mut reply, "ips", ip);
        if config.is_default_gateway {
            let all = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            push(&mut reply, "routes", json!({ "dst": all, "gw": gateway.to_string() }));
        }
    }
    let dns = reply.entry("dns").or_insert_with(|| json!({}));
    if !made.dns.is_empty()
        && let Value::Object(dns) = dns
    {
        // Ours first: others do not know our names, and ours asks others for theirs.
        let servers = made.dns.iter().map(ToString::to_string).collect::<Vec<_>>();
        prepend(dns, "nameservers", &servers);
        prepend(dns, "search", &made.search);
    }
    reply.insert("cniVersion".to_owned(), config.version.as_str().into());
    Value::Object(reply)
}

fn push(object: &mut Map<String, Value>, key: &str, value: Value) {
    match object.get_mut(key) {
        Some(Value::Array(list)) => list.push(value),
        _ => drop(object.insert(key.to_owned(), json!([value]))),
    }
}

fn prepend(dns: &mut Map<String, Value>, key: &str, ours: &[String]) {
    let mut all: Vec<Value> = ours.iter().map(|text| text.as_str().into()).collect();
    if let Some(Value::Array(theirs)) = dns.get(key) {
        let new = theirs.iter().filter(|there| !all.contains(there)).cloned().collect::<Vec<_>>();
        all.extend(new);
    }
    dns.insert(key.to_owned(), Value::Array(all));
}
