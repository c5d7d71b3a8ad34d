//! Paths that mean something else to everybody who follows them: `/proc/self` is the caller's, and not the agent's.

use std::path::{Component, Path, PathBuf};

use super::access::Peer;
use super::backend::Answer;
use super::error::ApiError;
use super::types::{AttachRequest, DesiredDocument};

/// What a request may name that is the caller's.
pub(super) trait OfCaller {
    /// The same, with the caller's own names in place of those that mean whoever follows them.
    fn of_caller(self, caller: &Peer) -> Answer<Self>
    where
        Self: Sized;
}

impl OfCaller for AttachRequest {
    fn of_caller(mut self, caller: &Peer) -> Answer<Self> {
        if let Some(path) = self.netns.take() {
            self.netns = Some(of_caller(path, caller).map_err(|error| error.at("netns"))?);
        }
        Ok(self)
    }
}

impl OfCaller for DesiredDocument {
    fn of_caller(mut self, caller: &Peer) -> Answer<Self> {
        for (network, endpoints) in &mut self.endpoints {
            for (name, request) in endpoints {
                let seen = std::mem::take(request).of_caller(caller);
                *request = seen.map_err(|error| error.within(&format!("endpoints.{network}.{name}")))?;
            }
        }
        Ok(self)
    }
}

fn of_caller(path: PathBuf, caller: &Peer) -> Answer<PathBuf> {
    let mut parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let first = parts.next().map(Component::as_os_str);
    let second = parts.next().map(Component::as_os_str);
    let (Some(first), Some(second)) = (first, second) else { return Ok(path) };
    let rest: PathBuf = match (first.to_str(), second.to_str()) {
        (Some("proc"), Some("self")) => parts.collect(),
        (Some("dev"), Some("fd")) => Path::new("fd").join(parts.collect::<PathBuf>()),
        (Some("proc"), Some("thread-self")) => {
            return Err(ApiError::conflict(
                "/proc/thread-self is another thread to everybody who follows it",
            )
            .hint("give /proc/PID/task/TID/ns/net, or /proc/self/ns/net for your own process"));
        }
        _ => return Ok(path),
    };
    let pid = caller.pid.ok_or_else(|| {
        ApiError::conflict("the agent cannot see your process, so it does not know what /proc/self is to you")
            .hint("give a path like /run/netns/NAME")
    })?;
    Ok(Path::new("/proc").join(pid.to_string()).join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, pid: Option<u32>) -> Answer<String> {
        let caller = Peer { uid: 0, gid: 0, groups: vec![], pid };
        let request = AttachRequest { netns: Some(path.into()), ..AttachRequest::default() };
        Ok(request.of_caller(&caller)?.netns.expect("a path").display().to_string())
    }

    #[test]
    fn what_is_the_callers_is_not_the_agents() {
        for (path, there) in [
            ("/proc/self/ns/net", "/proc/77/ns/net"),
            ("//proc/./self//ns/net", "/proc/77/ns/net"),
            ("/proc/self/task/78/ns/net", "/proc/77/task/78/ns/net"),
            ("/dev/fd/5", "/proc/77/fd/5"),
            ("/proc/1/ns/net", "/proc/1/ns/net"),
            ("/run/netns/self", "/run/netns/self"),
            ("/proc/selfish", "/proc/selfish"),
            ("/", "/"),
        ] {
            assert_eq!(seen(path, Some(77)).expect(path), there);
        }
        for (path, pid) in [("/proc/thread-self/ns/net", Some(77)), ("/proc/self/ns/net", None)] {
            let error = seen(path, pid).expect_err(path);
            assert_eq!(error.field.as_deref(), Some("netns"));
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn in_a_whole_desired_state_the_field_that_cannot_be_is_named() {
        let text = r#"{"endpoints": {"net": {"a": {"netns": "/proc/self/ns/net"}}}}"#;
        let document: DesiredDocument = serde_json::from_str(text).expect("is one");
        let caller = Peer { uid: 0, gid: 0, groups: vec![], pid: None };
        let error = document.of_caller(&caller).expect_err("nobody knows");
        assert_eq!(error.field.as_deref(), Some("endpoints.net.a.netns"));
    }
}
