//! A program in a network namespace of its own, which is an endpoint for as long as it runs.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::client::{Client, ClientError};
use crate::api::types::{AttachAnswer, AttachRequest};
use crate::dns;
use crate::model::{EndpointName, NetworkName};

/// What a thread is called that a program begins in.
const THREAD: &str = "lanmesh-run";
/// Where programs look how names are asked for.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where they may ask before that, outside of their network.
const OTHER_RESOLVERS: [&str; 2] = ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"];

/// A program, and what it is in the network.
#[derive(Debug, Clone)]
pub struct Program {
    /// The network.
    pub network: NetworkName,
    /// The endpoint's name.
    pub name: EndpointName,
    /// What it is to be; where is filled in here.
    pub request: AttachRequest,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The agent does not attach it.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The system refuses.
    #[error("cannot {what}: {source}{hint}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
        /// What to do, behind a semicolon, or nothing.
        hint: &'static str,
    },
}

fn cannot(what: impl Into<String>) -> impl FnOnce(io::Error) -> AloneError {
    let what = what.into();
    move |source| {
        let hint = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => "; run it as root",
            _ => "",
        };
        AloneError::Io { what, source, hint }
    }
}

/// Runs a program, and returns its status when it has ended and its endpoint is gone. What it gets is what this process has, but
/// for its network and its `/etc/resolv.conf`.
///
/// # Errors
/// It did not begin.
pub fn run_alone(client: &Client, program: Program) -> Result<ExitStatus, AloneError> {
    let client = client.clone();
    // What a thread leaves it can never enter again with certainty: so one that ends with it.
    let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(cannot("start"))?.block_on(run(&client, program))
    });
    let joined = thread.map_err(cannot("start"))?.join();
    joined.unwrap_or_else(|_| Err(cannot("start")(io::Error::other("the thread of it broke off"))))
}

async fn run(client: &Client, program: Program) -> Result<ExitStatus, AloneError> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| cannot("make a network namespace")(errno.into()))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|errno| cannot("keep mounts to itself")(errno.into()))?;
    loopback_up().await.map_err(cannot("set the loopback up"))?;
    let netns = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    let Program { network, name, request, command } = program;
    let request = AttachRequest { netns: Some(PathBuf::from(netns)), ..request };
    let answer = client.attach(&network, &name, &request).await?;
    let ended = within(&answer, &command).await;
    let gone = client.detach(&network, &name).await;
    let ended = ended?;
    if let Err(error) = gone {
        // It has run: its status is what counts.
        let _ = writeln!(io::stderr(), "lanmesh: {name} is not detached: {error}");
    }
    Ok(ended)
}

/// Runs the program where this thread is by now.
async fn within(answer: &AttachAnswer, command: &[OsString]) -> Result<ExitStatus, AloneError> {
    if !answer.dns.is_empty() {
        resolve_by(&dns::resolv_conf(&answer.network, &answer.dns))
            .map_err(cannot(format!("put another file in the place of {RESOLV_CONF}")))?;
    }
    let mut heard = [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ]
    .map(signal);
    // Those of a terminal reach the program by themselves: they are only not to end this.
    let _of_terminal = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
    let [term, hup, usr1, usr2] = &mut heard;
    let (Ok(term), Ok(hup), Ok(usr1), Ok(usr2)) = (term, hup, usr1, usr2) else {
        return Err(cannot("listen for signals")(io::Error::other("the system refuses")));
    };
    let Some((program, rest)) = command.split_first() else {
        return Err(cannot("run nothing")(io::ErrorKind::InvalidInput.into()));
    };
    let begun = Command::new(program).args(rest).spawn();
    let mut child = begun.map_err(cannot(format!("run {}", Path::new(program).display())))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    loop {
        let passed_on = tokio::select! {
            ended = child.wait() => return ended.map_err(cannot("wait for it")),
            _ = term.recv() => Signal::SIGTERM,
            _ = hup.recv() => Signal::SIGHUP,
            _ = usr1.recv() => Signal::SIGUSR1,
            _ = usr2.recv() => Signal::SIGUSR2,
        };
        // It may have ended just now.
        let _ = pid.map(|pid| kill(pid, passed_on));
    }
}

async fn loopback_up() -> io::Result<()> {
    let index = if_nametoindex("lo")?;
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(io::Error::other)
}

/// Has names asked for as `text` says, in this thread's mounts alone.
fn resolve_by(text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let none: Option<&str> = None;
    if Path::new(RESOLV_CONF).exists() {
        mount(Some(file.path()), RESOLV_CONF, none, MsFlags::MS_BIND, none)?;
    } else {
        let _ = writeln!(
            io::stderr(),
            "lanmesh: there is no {RESOLV_CONF}, so the network's name server is not asked"
        );
    }
    for other in OTHER_RESOLVERS.iter().filter(|path| Path::new(path).exists()) {
        mount(Some("/dev/null"), *other, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// The exit status of a program as a shell tells it.
pub fn as_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_as_a_shell_would() {
        assert_eq!(as_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(as_code(ExitStatus::from_raw(15)), 143);
    }
}
