//! The node's resolver configuration, and what it is after a change.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

/// How often it is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// A file that was written so shortly before it was read may be written once more without another stamp: the kernel's
/// clock for files ticks some hundred times a second.
const FRESH: Duration = Duration::from_millis(100);

/// How many servers are asked at most; the C library asks three.
const MOST: usize = 16;

/// The first name servers in the text of a `resolv.conf`, in order.
pub(in crate::dns) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        if servers.len() == MOST {
            break;
        }
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        let server = server.map(|ip| SocketAddr::new(ip, 53));
        servers.extend(server.filter(|server| !servers.contains(server)));
    }
    servers
}

/// What tells two states of a file apart.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A `resolv.conf` that is read again when it has changed.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    looked: Option<Instant>,
    stamp: Stamp,
    servers: Vec<SocketAddr>,
    /// How often they became others.
    changes: u64,
}

impl Followed {
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The servers it names now, or named at the last look within the last second; and how often they had become others
    /// by then.
    pub async fn servers(&self) -> (Vec<SocketAddr>, u64) {
        let mut read = self.read.lock().await;
        if read.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.look(&mut read).await;
            read.looked = Some(Instant::now());
        }
        (read.servers.clone(), read.changes)
    }

    async fn look(&self, read: &mut Read) {
        let stamp = match tokio::fs::metadata(&self.path).await {
            // Anything else may be waited for without end: a FIFO.
            Ok(metadata) if !metadata.is_file() => return,
            Ok(metadata) => metadata.modified().ok().map(|time| (time, metadata.len(), metadata.ino())),
            Err(_) => None,
        };
        if stamp.is_some() && stamp == read.stamp {
            return;
        }
        match tokio::fs::read_to_string(&self.path).await {
            // While it is being replaced it may be empty or not be there: what was in it holds until it is again.
            Ok(text) if text.is_empty() => read.stamp = None,
            Ok(text) => {
                let servers = name_servers(&text);
                read.changes += u64::from(servers != read.servers);
                read.servers = servers;
                read.stamp = stamp.filter(|(time, ..)| time.elapsed().is_ok_and(|age| age >= FRESH));
            }
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "no resolver configuration");
                read.stamp = None;
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
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fd00::1]:53"]);
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
            assert_eq!(followed.servers().await.0, name_servers(&format!("nameserver 192.0.2.{last}")));
        }
    }
}
