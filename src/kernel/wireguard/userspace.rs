//! WireGuard devices in processes of ours, each found again by its socket: the agent starts one, asks it, changes
//! it and ends it, and may itself have been started anew in between.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::thread::{CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::uapi::{self, AnswerError};
use super::{Backend, Status, Update};
use crate::kernel::KernelError;
use crate::kernel::netns::Netns;

/// This very program, also when its file was replaced meanwhile.
const MYSELF: &str = "/proc/self/exe";
/// The hidden subcommand that runs [`super::serve`].
const SUBCOMMAND: &str = "wireguard-userspace";
/// How long a process may take to start, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it does.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest answer: some 10,000 peers.
const ANSWER_MAX: u64 = 8 << 20;

/// WireGuard devices in processes.
pub(crate) struct Userspace {
    /// Where their sockets are.
    dir: PathBuf,
    /// The namespace that their TUN devices are in.
    mesh: Netns,
}

impl Userspace {
    /// Those of the agent with this run directory, whose devices are in the namespace `mesh`.
    pub fn new(run_dir: &Path, mesh: Netns) -> Self {
        Self { dir: run_dir.join("wireguard"), mesh }
    }

    /// The devices that have a process, or had one.
    pub fn devices(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".sock")?.to_owned());
        entries.filter_map(name).collect()
    }

    fn socket(&self, device: &str) -> PathBuf {
        self.dir.join(format!("{device}.sock"))
    }

    /// A connection to the process of `device`; `None` where there is none.
    async fn connect(&self, device: &str) -> Result<Option<UnixStream>, KernelError> {
        match UnixStream::connect(self.socket(device)).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(source) => Err(refused(device, "reach", source)),
        }
    }

    /// What the process of `device` answers; `None` where there is none that answers.
    async fn ask(&self, device: &str, request: &str) -> Result<Option<String>, KernelError> {
        let Some(mut stream) = self.connect(device).await? else { return Ok(None) };
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.take(ANSWER_MAX).read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
            Ok(Err(source)) => Err(refused(device, "speak to", source)),
            Err(_) => Err(refused(device, "speak to", io::ErrorKind::TimedOut.into())),
        }
    }

    /// Ends the process of `device`, and waits until it is gone.
    async fn end(&self, device: &str) -> Result<(), KernelError> {
        let Some(stream) = self.connect(device).await? else { return Ok(()) };
        let peer = stream.peer_cred().map_err(|source| refused(device, "know", source))?;
        drop(stream);
        let Some(pid) = peer.pid().map(Pid::from_raw) else { return Ok(()) };
        let started = Instant::now();
        let mut signal = Signal::SIGTERM;
        loop {
            match kill(pid, signal) {
                Ok(()) => {}
                Err(Errno::ESRCH) => return Ok(()),
                Err(errno) => return Err(refused(device, "end", errno.into())),
            }
            // It is another's number by now if nobody answers any more.
            if self.connect(device).await?.is_none() {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(refused(device, "end", io::ErrorKind::TimedOut.into()));
            }
            if started.elapsed() > PATIENCE / 2 {
                signal = Signal::SIGKILL;
            }
            sleep(PAUSE).await;
        }
    }

    async fn start(&self, device: &str) -> Result<(), KernelError> {
        let failed = |source| KernelError::File { what: "make", path: self.dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        // Open already: whatever mount namespace its file is in, it leads there.
        let netns = self.mesh.file().map_err(|source| refused(device, "start", source))?;
        let mut command = Command::new(MYSELF);
        command.arg0("lanmesh").arg(SUBCOMMAND).arg(device);
        command.arg("--at").arg(self.socket(device)).arg("--netns").arg("/proc/self/fd/0");
        command.stdin(netns).stdout(Stdio::null());
        let mut child = spawn(command).map_err(|source| refused(device, "start", source))?;
        let started = Instant::now();
        loop {
            if self.connect(device).await?.is_some() {
                // The runtime waits for its end, whenever that is.
                tokio::spawn(async move { child.wait().await });
                return Ok(());
            }
            let ended = child.try_wait().map_err(|source| refused(device, "wait for", source))?;
            if let Some(status) = ended {
                return Err(refused(device, "start", io::Error::other(format!("it ended with {status}"))));
            }
            if started.elapsed() > PATIENCE {
                let _ = child.kill().await;
                return Err(refused(device, "start", io::ErrorKind::TimedOut.into()));
            }
            sleep(PAUSE).await;
        }
    }
}

/// Starts a program that may make and enter what a device needs, whoever the agent runs as. It gives that up itself.
fn spawn(mut command: Command) -> io::Result<Child> {
    const NEEDED: [CapabilitySet; 2] = [CapabilitySet::NET_ADMIN, CapabilitySet::SYS_ADMIN];
    let runtime = Handle::current();
    let start = move || {
        let _entered = runtime.enter();
        // Of this thread alone, which ends with this: no other program of ours gets them.
        let mut sets = capabilities(None)?;
        NEEDED.into_iter().for_each(|bit| sets.inheritable |= bit & sets.permitted);
        set_capabilities(None, sets)?;
        for bit in NEEDED.into_iter().filter(|bit| sets.inheritable.contains(*bit)) {
            configure_capability_in_ambient_set(bit, true)?;
        }
        command.spawn()
    };
    let thread = std::thread::Builder::new().name("lanmesh-spawn".to_owned()).spawn(start)?;
    thread.join().map_err(|_| io::Error::other("its thread broke"))?
}

fn refused(device: &str, verb: &str, source: io::Error) -> KernelError {
    KernelError::Refused { what: format!("{verb} the process of {device}"), source }
}

fn misunderstood(device: &str, error: AnswerError) -> KernelError {
    match error {
        // Some give it as the kernel does, below zero.
        AnswerError::Refused(code) => {
            refused(device, "set", io::Error::from_raw_os_error(code.saturating_abs()))
        }
        garbled => refused(device, "understand", io::Error::other(garbled)),
    }
}

#[async_trait]
impl Backend for Userspace {
    async fn make(&self, device: &str) -> Result<(), KernelError> {
        match self.status(device).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            // It is there and of no use.
            Err(_) => self.end(device).await?,
        }
        self.start(device).await
    }

    async fn status(&self, device: &str) -> Result<Option<Status>, KernelError> {
        let Some(answer) = self.ask(device, uapi::GET).await? else { return Ok(None) };
        uapi::status(&answer).map(Some).map_err(|error| misunderstood(device, error))
    }

    async fn update(&self, device: &str, update: Update) -> Result<(), KernelError> {
        let answer = self.ask(device, &uapi::set(&update)).await?;
        let answer = answer.ok_or_else(|| refused(device, "reach", io::ErrorKind::NotFound.into()))?;
        uapi::changed(&answer).map_err(|error| misunderstood(device, error))
    }

    async fn remove(&self, device: &str) -> Result<(), KernelError> {
        self.end(device).await?;
        match fs::remove_file(self.socket(device)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(KernelError::File { what: "remove", path: self.socket(device), source })
            }
            _ => Ok(()),
        }
    }
}
