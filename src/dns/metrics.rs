//! The name servers' metrics.

use super::counters::RCODES;
use super::service::Dns;
use crate::metrics::{Collect, Page};

impl Collect for Dns {
    fn collect(&self, page: &mut Page) {
        let counting = self.counting();
        let counters = counting.snapshot();
        let mut queries =
            page.counter("lanmesh_dns_queries_total", "Queries that the name servers of this node took.");
        queries.sample(&[("transport", "udp")], counters.udp);
        queries.sample(&[("transport", "tcp")], counters.tcp);

        let mut answers = page.counter("lanmesh_dns_answers_total", "Answers, by where they are from.");
        for (source, count) in
            [("zone", counters.zone), ("cache", counters.cached), ("resolvers", counters.forwarded)]
        {
            answers.sample(&[("source", source)], count);
        }

        let help = "Answers by their code (RFC 1035 section 4.1.1).";
        let mut responses = page.counter("lanmesh_dns_responses_total", help);
        let answered = &counting.answered;
        for (rcode, count) in RCODES.iter().map(|(_, name)| *name).chain(["other"]).zip(answered.rcodes()) {
            responses.sample(&[("rcode", rcode)], count);
        }
        let help = "From when a query was read to when its answer was sent.";
        page.histogram("lanmesh_dns_response_seconds", help, &answered.took);

        let help = "Queries for other names that the node's resolvers did not answer in time, or that were too many at once.";
        let mut failures = page.counter("lanmesh_dns_forward_failures_total", help);
        failures.sample(&[("reason", "unanswered")], counters.unanswered);
        failures.sample(&[("reason", "overloaded")], counters.overloaded);

        let help = "Queries and connections that were dropped, or answered with nothing but a code.";
        let mut dropped = page.counter("lanmesh_dns_dropped_total", help);
        for (reason, count) in [
            ("limited", counters.limited),
            ("malformed", counters.malformed),
            ("refused", counters.refused),
            ("closed", counters.closed),
        ] {
            dropped.sample(&[("reason", reason)], count);
        }
        page.counter("lanmesh_dns_truncated_total", "Answers that were cut to what fits a datagram.")
            .value(counters.truncated);
    }
}
