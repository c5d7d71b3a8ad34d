//! The `lanmesh` command: parse, start tracing, run.

fn main() {}
