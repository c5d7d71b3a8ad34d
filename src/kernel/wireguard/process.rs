//! A WireGuard device without the kernel's module: gotatun over a TUN device, in a process of its own, so that it
//! goes on while the agent is down.
//!
//! Its UDP socket is in the namespace that the process was started in, its TUN device in another. It is told
//! what to do over a unix socket, and ends by a signal or when its device goes. What it knows is gone with it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use gotatun::device::Device;
use gotatun::device::DeviceBuilder;
use gotatun::device::uapi::{UapiClient, UapiServer};
use gotatun::tun::tun::{self, AsyncDevice};
use gotatun::tun::tun_async_device::TunDevice;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::setsid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::udp::Sockets;

/// Enough for a burst of packets between two turns of the process.
const SOCKET_BUFFER: usize = 4 << 20;

/// Why the process ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Something of the system's could not be had.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The TUN device could not be made.
    #[error("cannot make the device {device}: {why}")]
    Device {
        /// Its name.
        device: String,
        /// What is in the way.
        why: String,
    },
    /// It ran, and its device is gone or broken.
    #[error("the device {device} is gone")]
    Gone {
        /// Its name.
        device: String,
    },
}

/// Runs the device `device` in the network namespace at `netns`, to be spoken to at `socket`. Returns only when it
/// cannot go on.
///
/// # Errors
/// Why it cannot.
pub fn serve(device: &str, socket: &Path, netns: &Path) -> Result<(), ProcessError> {
    // What ends the agent is not to end this. Fails only for the leader of a group, which needs it not.
    let _ = setsid();
    // No core dump and no debugger shows the keys.
    let _ = prctl::set_dumpable(false);
    let system = |what| move |source: io::Error| ProcessError::System { what, source };
    let tun = open_tun(device, netns)?;
    // While there is one thread: each has its own. The rest needs none.
    let nothing = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
    set_capabilities(None, nothing).map_err(|errno| system("give up capabilities")(errno.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("start a runtime"))?;
    let tun = {
        let _entered = runtime.enter();
        let failed = |why: String| ProcessError::Device { device: device.to_owned(), why };
        let tun = AsyncDevice::new(tun).map_err(|error| failed(error.to_string()))?;
        TunDevice::from_tun_device(tun).map_err(|error| failed(error.to_string()))?
    };
    let (client, server) = UapiServer::new();
    let built = runtime.block_on(
        DeviceBuilder::new().with_udp(Sockets::new(SOCKET_BUFFER)).with_ip(tun).with_uapi(server).build(),
    );
    let broken = |error: gotatun::device::Error| ProcessError::Device {
        device: device.to_owned(),
        why: error.to_string(),
    };
    let mut running: Device<_> = built.map_err(broken)?;
    // Last: who can reach it finds it ready.
    let listener = listen(socket)?;
    std::thread::Builder::new()
        .name("uapi".to_owned())
        .spawn(move || answer(&listener, &client))
        .map_err(system("start a thread"))?;
    runtime.block_on(running.wait());
    // Nobody is to find it who could not use it.
    let _ = fs::remove_file(socket);
    Err(ProcessError::Gone { device: device.to_owned() })
}

/// Makes the TUN device, on a thread that enters its namespace and ends.
fn open_tun(device: &str, netns: &Path) -> Result<tun::Device, ProcessError> {
    let failed = |why: String| ProcessError::Device { device: device.to_owned(), why };
    let file = File::open(netns).map_err(|source| ProcessError::File {
        what: "open",
        path: netns.to_owned(),
        source,
    })?;
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.desc().to_owned()))?;
            let mut wanted = tun::Configuration::default();
            wanted.tun_name(device);
            tun::create(&wanted).map_err(|error| failed(error.to_string()))
        });
        opening.join()
    });
    opened.map_err(|_| failed("its thread broke".to_owned()))?
}

/// The socket, for this user alone, in the place of one that is there.
fn listen(path: &Path) -> Result<UnixListener, ProcessError> {
    let failed = |what| move |source| ProcessError::File { what, path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(failed("listen at"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    Ok(listener)
}

fn answer(listener: &UnixListener, client: &UapiClient) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => client.clone().wrap_read_write(stream),
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
}
