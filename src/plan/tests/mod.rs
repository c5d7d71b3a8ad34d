//! The plan's text for pairs of states, and its properties against a model of the kernel.

mod golden;
mod mesh;
mod model;
mod properties;
