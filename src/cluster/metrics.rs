//! The metrics of the cluster's own traffic.

use super::event::Stats;
use crate::metrics::{Collect, Page};

impl Collect for Stats {
    fn collect(&self, page: &mut Page) {
        let Self {
            datagrams_in,
            bytes_in,
            datagrams_out,
            bytes_out,
            dropped_malformed,
            dropped_version,
            dropped_unknown_key,
            dropped_tampered,
            dropped_replayed,
            dropped_refused,
            dropped_excess,
            facts_unsound,
            syncs,
            syncs_failed,
            syncs_served,
            streams_refused,
            stream_bytes,
            joins,
            joins_refused,
            rejoins,
            members,
        } = self;
        page.gauge("lanmesh_members", "Other nodes that are alive or suspect.").value(members);

        let mut datagrams = page.counter("lanmesh_gossip_datagrams_total", "Datagrams of gossip.");
        datagrams.sample(&[("direction", "received")], datagrams_in);
        datagrams.sample(&[("direction", "sent")], datagrams_out);
        let mut bytes = page.counter("lanmesh_gossip_bytes_total", "Bytes of gossip, sealed.");
        bytes.sample(&[("direction", "received")], bytes_in);
        bytes.sample(&[("direction", "sent")], bytes_out);

        let help = "Datagrams that were dropped; excess: documents and records of writers that publish more than they may.";
        let mut dropped = page.counter("lanmesh_gossip_dropped_total", help);
        for (reason, count) in [
            ("malformed", dropped_malformed),
            ("version", dropped_version),
            ("unknown_key", dropped_unknown_key),
            ("tampered", dropped_tampered),
            ("replayed", dropped_replayed),
            ("refused", dropped_refused),
            ("excess", dropped_excess),
        ] {
            dropped.sample(&[("reason", reason)], count);
        }
        page.counter("lanmesh_facts_unsound_total", "Facts of others that are carried and not believed.")
            .value(facts_unsound);

        let help =
            "Exchanges over streams: begun here and done, begun here and failed, begun by others and done.";
        let mut exchanges = page.counter("lanmesh_exchanges_total", help);
        for (result, count) in [("done", syncs), ("failed", syncs_failed), ("served", syncs_served)] {
            exchanges.sample(&[("result", result)], count);
        }
        let help = "Streams without a valid certificate, too many at once, or with a broken message.";
        page.counter("lanmesh_streams_refused_total", help).value(streams_refused);
        page.counter("lanmesh_stream_bytes_total", "Bytes that streams carried, both ways, without TLS.")
            .value(stream_bytes);

        let mut let_in = page.counter("lanmesh_joins_total", "Nodes that asked this one to be let in.");
        let_in.sample(&[("result", "let_in")], joins);
        let_in.sample(&[("result", "refused")], joins_refused);
        page.counter(
            "lanmesh_rejoins_total",
            "Times that this node found itself declared dead, and came back.",
        )
        .value(rejoins);
    }
}
