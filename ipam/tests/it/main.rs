//! Tests of the address plan through its public interface, by subject.

mod golden;
mod lending;
mod limits;
mod model;
mod network;
mod node;
mod parity;
mod properties;
mod rules;
mod shape;
