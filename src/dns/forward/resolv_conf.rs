//! The node's resolver configuration, and what it is after a change.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::net::if_::if_nametoindex;
use tokio::sync::Mutex;

/// How often it is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// A file that was written so shortly before it was read may be written once more without another stamp: the kernel's
/// clock for files ticks some hundred times a second.
const FRESH: Duration = Duration::from_millis(100);

/// How many servers are asked at most; the C library asks three.
const MOST: usize = 16;

const PORT: u16 = 53;

/// The name servers that the text of a `resolv.conf` names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::dns) struct Named {
    /// The first of them, in order.
    pub servers: Vec<SocketAddr>,
    /// Whether one is on a link that is not there now.
    pub elsewhere: bool,
}

/// Reads the text of a `resolv.conf`. `link` gives the index of the link with a name, where there is one.
pub(in crate::dns) fn name_servers(text: &str, link: impl Fn(&str) -> Option<u32>) -> Named {
    let mut named = Named::default();
    for line in text.lines() {
        if named.servers.len() == MOST {
            break;
        }
        let mut words = line.split_whitespace();
        let Some(word) = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next()) else {
            continue;
        };
        let server = match word.split_once('%') {
            // RFC 4007 section 11.
            Some((address, scope)) => match address.parse::<Ipv6Addr>() {
                Ok(address) => {
                    let index = scope.parse().ok().or_else(|| link(scope));
                    named.elsewhere |= index.is_none();
                    index.map(|index| SocketAddrV6::new(address, PORT, 0, index).into())
                }
                Err(_) => None,
            },
            None => word.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT)),
        };
        named.servers.extend(server.filter(|server| !named.servers.contains(server)));
    }
    named
}

fn link_here(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Why nobody outside can be asked where this is the resolver configuration, if so. Blocks, but for nothing that is no file.
pub fn without_resolvers(path: &Path) -> Option<String> {
    let shown = path.display();
    let text = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Some(format!("{shown} is no file")),
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Err(error) => Some(format!("{shown}: {error}")),
        Ok(text) if name_servers(&text, link_here).servers.is_empty() => {
            Some(format!("{shown} names no server that can be asked"))
        }
        Ok(_) => None,
    }
}

/// What tells two states of a file apart.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A `resolv.conf` that is read again when it has changed.
#[derive(Debug)]
pub(super) struct Followed {
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    path: PathBuf,
    looked: Option<Instant>,
    stamp: Stamp,
    servers: Vec<SocketAddr>,
    /// How often they became others.
    changes: u64,
}

impl Followed {
    pub fn new(path: PathBuf) -> Self {
        Self { read: Mutex::new(Read { path, ..Read::default() }) }
    }

    /// Follows another file from now on. Until it names servers those of the one before are asked.
    pub async fn follow(&self, path: PathBuf) {
        let mut read = self.read.lock().await;
        if read.path != path {
            (read.path, read.stamp, read.looked) = (path, None, None);
        }
    }

    /// The servers it names now, or named at the last look within the last second; and how often they had become others
    /// by then.
    pub async fn servers(&self) -> (Vec<SocketAddr>, u64) {
        let mut read = self.read.lock().await;
        if read.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            read.look().await;
            read.looked = Some(Instant::now());
        }
        (read.servers.clone(), read.changes)
    }
}

impl Read {
    async fn look(&mut self) {
        let stamp = match tokio::fs::metadata(&self.path).await {
            // Anything else may be waited for without end: a FIFO.
            Ok(metadata) if !metadata.is_file() => return,
            Ok(metadata) => metadata.modified().ok().map(|time| (time, metadata.len(), metadata.ino())),
            Err(_) => None,
        };
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        match tokio::fs::read_to_string(&self.path).await {
            // While it is being replaced it may be empty or not be there: what was in it holds until it is again.
            Ok(text) if text.is_empty() => self.stamp = None,
            Ok(text) => {
                let Named { servers, elsewhere } = name_servers(&text, link_here);
                if servers != self.servers || self.changes == 0 {
                    self.changes += 1;
                    if servers.is_empty() {
                        let path = self.path.display();
                        tracing::warn!(%path, "no server is named that can be asked: names from outside are not answered");
                    }
                }
                self.servers = servers;
                // A link may come without a change of the file.
                let settled = |(time, ..): &(SystemTime, u64, u64)| {
                    !elsewhere && time.elapsed().is_ok_and(|age| age >= FRESH)
                };
                self.stamp = stamp.filter(settled);
            }
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "no resolver configuration");
                self.stamp = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_in_order_and_anything_else_is_passed_over() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1\n nameserver\tfd00::1 # why\n\
                    nameserver 192.0.2.1\nnameserver nobody\noptions ndots:1\n";
        let Named { servers, elsewhere } = name_servers(text, |_| None);
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!((servers, elsewhere), (vec!["192.0.2.1:53".into(), "[fd00::1]:53".into()], false));
    }

    #[test]
    fn a_server_on_a_link_is_named_with_it() {
        let read = |text: &str| {
            let Named { servers, elsewhere } = name_servers(text, |name| (name == "eth0").then_some(7));
            (servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), elsewhere)
        };
        assert_eq!(read("nameserver fe80::1%eth0\n"), ("[fe80::1%7]:53".into(), false));
        assert_eq!(read("nameserver fe80::1%3\n"), ("[fe80::1%3]:53".into(), false));
        assert_eq!(read("nameserver fe80::1%wlan0\nnameserver 192.0.2.1\n"), ("192.0.2.1:53".into(), true));
        assert_eq!(read("nameserver 192.0.2.1%eth0\n"), (String::new(), false));
    }

    #[test]
    fn a_configuration_without_a_server_is_told_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        assert!(without_resolvers(&path).is_some_and(|why| why.contains("No such file")));
        std::fs::write(&path, "search example.org\n").expect("writes");
        assert!(without_resolvers(&path).is_some_and(|why| why.contains("names no server")));
        std::fs::write(&path, "nameserver 192.0.2.1\n").expect("writes");
        assert_eq!(without_resolvers(&path), None);
        assert!(without_resolvers(dir.path()).is_some_and(|why| why.contains("is no file")));
    }

    #[tokio::test]
    async fn a_change_is_noticed_and_a_missing_file_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").expect("writes");
        let followed = Followed::new(path.clone());
        let told = followed.servers().await;
        assert_eq!((told.0.len(), told.1), (1, 1));
        assert_eq!(followed.servers().await, told);
        std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").expect("writes");
        tokio::time::sleep(LOOK + Duration::from_millis(50)).await;
        let two = followed.servers().await;
        assert_eq!((two.0.len(), two.1), (2, 2));
        // Empty for a moment while somebody writes it, or not there at all.
        std::fs::write(&path, "").expect("writes");
        tokio::time::sleep(LOOK + Duration::from_millis(50)).await;
        assert_eq!(followed.servers().await, two);
        std::fs::remove_file(&path).expect("removes");
        tokio::time::sleep(LOOK + Duration::from_millis(50)).await;
        assert_eq!(followed.servers().await, two);
    }

    #[tokio::test]
    async fn a_file_that_is_written_twice_in_one_moment_is_read_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        let followed = Followed::new(path.clone());
        for last in [1, 2] {
            let file = std::fs::File::create(&path).expect("opens");
            std::io::Write::write_all(&mut &file, format!("nameserver 192.0.2.{last}\n").as_bytes())
                .expect("writes");
            // One tick of the kernel's clock for both.
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
            file.set_modified(now).expect("is set");
            followed.read.lock().await.looked = None;
            assert_eq!(
                followed.servers().await.0,
                name_servers(&format!("nameserver 192.0.2.{last}"), |_| None).servers
            );
        }
    }
}
