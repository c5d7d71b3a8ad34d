//! Real nodes in real network namespaces, for tests.
//!
//! Owns: the underlay, the nodes and their agents, containers, packet captures, and that all of it is gone
//! when a test ends. Does not own: what a test claims.
//!
//! Each test's thread gets a mount namespace of its own with an empty `/run`, so that tests meet neither each
//! other nor the host. What should happen is asked for until it is so or a deadline has passed (`wait_until`); that
//! something does not happen can only be waited for (`stays`). All times are longer where `slowness` says so.

mod capture;
mod container;
mod guest;
pub mod http;

mod names;
mod netns;
mod node;
mod program;
mod requirements;
mod slots;
mod traffic;
mod underlay;
mod wait;

pub use capture::Capture;
pub use container::Container;
pub use guest::{Guest, Running};
pub use names::{Answered, Asker, Resolver, Watch};
pub use netns::{Netns, within};
pub use node::Node;
pub use program::{Place, Program};
pub use requirements::missing;
pub use traffic::{Listener, Pings, Responder, ask, ping, ping_exactly, send};
pub use underlay::{Lab, LabConfig};
pub use wait::{LATER, SOON, slowness, stays, wait_until};

/// The full path of the test function that this is written in, without the crate.
macro_rules! test_name {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.trim_end_matches("::here").split_once("::").map_or(name, |(_, rest)| rest)
    }};
}
pub(crate) use test_name;

/// Ends the test as skipped when something it needs is not on this machine (or as failed, under CI).
///
/// `need!("tcpdump")` takes the commands beyond those that every test needs.
macro_rules! need {
    ($($command:literal),*) => {
        if $crate::harness::missing($crate::harness::test_name!(), &[$($command),*]) {
            return;
        }
    };
}
pub(crate) use need;

/// A lab of so many nodes, with a running agent each and no cluster yet; or the end of the test where this
/// machine cannot have one. `lab!(config)` takes a [`LabConfig`].
macro_rules! lab {
    ($config:expr) => {{
        $crate::harness::need!();
        $crate::harness::Lab::start($crate::harness::test_name!(), $config.into())
    }};
}
pub(crate) use lab;
