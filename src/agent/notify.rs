//! What a service manager is told (sd_notify(3)): that the agent serves, that it lives, that it stops.
//!
//! Where `NOTIFY_SOCKET` is not set nobody wants to know, and nothing is sent.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::ClockId;
use tokio_util::sync::CancellationToken;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the agent lives.
    watchdog: Option<Duration>,
}

impl Notify {
    /// The one that the environment names. One that cannot be reached is as none, with a warning.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let usec = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        // It may be meant for the process that started this one.
        let pid = std::env::var("WATCHDOG_PID").ok();
        let ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = usec.filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        match Self::connect(&name) {
            Ok(to) => Self { to: Some(to), watchdog },
            Err(error) => {
                tracing::warn!(%error, socket = ?name, "cannot reach the service manager");
                Self::default()
            }
        }
    }

    fn connect(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    }

    fn send(&self, text: &str) {
        let Some((socket, to)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), to) {
            tracing::warn!(%error, text, "cannot tell the service manager");
        }
    }

    /// The agent serves.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// The agent reads its configuration again; [`Notify::ready`] says that it has.
    pub fn reloading(&self) {
        // What tells this reload from one before, for a unit of Type=notify-reload.
        let usec = ClockId::CLOCK_MONOTONIC.now().map_or(0, |now| Duration::from(now).as_micros());
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The agent stops, as it was told.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping; the networks go on");
    }

    /// Says that the agent lives, twice as often as is asked for, until `stop`. For as long as the runtime turns:
    /// `alive` is asked each time and has to answer.
    pub async fn watch<F: Future<Output = ()>>(&self, stop: CancellationToken, alive: impl Fn() -> F) {
        let Some(within) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(within / 2);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            alive().await;
            self.send("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let name = format!("lanmesh-test-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("is short");
        let at = [
            (UnixDatagram::bind(&path).expect("binds"), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).expect("binds"), format!("@{name}").into()),
        ];
        for (socket, name) in at {
            let to = Some(Notify::connect(&name).expect("is an address"));
            let notify = Notify { to, watchdog: None };
            notify.ready();
            notify.reloading();
            notify.stopping();
            let mut buffer = [0; 128];
            for begin in ["READY=1\n", "RELOADING=1\nMONOTONIC_USEC=", "STOPPING=1\n"] {
                let length = socket.recv(&mut buffer).expect("a message");
                assert!(buffer[..length].starts_with(begin.as_bytes()), "{:?}", &buffer[..length]);
            }
        }
    }

    #[tokio::test]
    async fn the_watchdog_hears_again_and_again_and_nothing_while_the_agent_hangs() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = tokio::net::UnixDatagram::bind(&path).expect("binds");
        let to = Some(Notify::connect(&path.into_os_string()).expect("is an address"));
        let notify = Notify { to, watchdog: Some(Duration::from_millis(100)) };
        let stop = CancellationToken::new();
        let hear = async {
            let mut buffer = [0; 128];
            for _ in 0..3 {
                let length = socket.recv(&mut buffer).await.expect("a message");
                assert_eq!(&buffer[..length], b"WATCHDOG=1");
            }
            stop.cancel();
        };
        tokio::join!(notify.watch(stop.clone(), async || {}), hear);
        let hangs = notify.watch(CancellationToken::new(), std::future::pending);
        assert!(tokio::time::timeout(Duration::from_millis(300), hangs).await.is_err());
        assert_eq!(
            socket.try_recv(&mut [0; 128]).map_err(|error| error.kind()),
            Err(io::ErrorKind::WouldBlock)
        );
    }
}
