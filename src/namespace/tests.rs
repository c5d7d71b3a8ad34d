use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

/// What is said of `path`, which has to be said at once.
fn told(path: impl AsRef<Path>) -> NamespaceError {
    let begun = Instant::now();
    let error = Namespace::open(path.as_ref()).expect_err("is refused");
    assert!(begun.elapsed() < PATIENCE / 2, "{error} after {:?}", begun.elapsed());
    error
}

#[test]
fn what_is_no_namespace_is_refused_at_once_and_called_what_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    mkfifo(&at("fifo"), Mode::S_IRWXU).expect("a FIFO");
    std::fs::write(at("file"), "").expect("a file");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    symlink(at("fifo"), at("link")).expect("a link");
    symlink(at("circle"), at("circle")).expect("a circle");
    for (path, what) in [
        (at("fifo"), "is a FIFO and not"),
        (at("link"), "is a FIFO and not"),
        (at("file"), "is a file and not"),
        (at("socket"), "is a socket and not"),
        (at(""), "is a directory and not"),
        ("/dev/zero".into(), "is a device and not"),
        ("/dev/ptmx".into(), "is a device and not"),
        (at("absent"), "there is no network namespace at"),
        (at("file/below"), "there is no network namespace at"),
        (at("circle"), "links go in a circle"),
        (at(&"x".repeat(300)), "longer than a path can be"),
        (OsString::from(format!("/{}", "x/".repeat(4096))).into(), "longer than a path can be"),
        ("/proc/4194305/ns/net".into(), "process 4194305 is gone"),
    ] {
        let error = told(&path).to_string();
        assert!(error.contains(what) && error.len() < 500, "{error}");
    }
}

#[test]
fn a_namespace_of_another_kind_is_told_from_one_of_the_network() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP a_namespace_of_another_kind_is_told_from_one_of_the_network: not root");
        return;
    }
    for kind in ["mnt", "uts", "pid"] {
        let error = told(format!("/proc/self/ns/{kind}")).to_string();
        assert!(error.contains("a namespace of another kind"), "{error}");
    }
    let one = Namespace::open("/proc/self/ns/net".as_ref()).expect("is one").id;
    assert_eq!(Some(one), NamespaceId::of("/proc/thread-self/ns/net".as_ref()).ok());
}

/// The identity of a namespace that ends with this.
fn passing() -> NamespaceId {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let path = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
        NamespaceId::of(path.as_ref()).expect("is one")
    })
    .join()
    .expect("ends well")
}

#[test]
fn one_that_is_made_anew_with_the_same_inode_is_another_one() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP one_that_is_made_anew_with_the_same_inode_is_another_one: not root");
        return;
    }
    let first = passing();
    if first.cookie.is_none() {
        return;
    }
    // The kernel gives the inode again when the last one is gone, which takes it a moment.
    let again = (0..200).map(|_| passing()).find(|again| again.inode == first.inode);
    if let Some(again) = again {
        assert!(!first.is(&again));
    }
    let older = NamespaceId { cookie: None, ..first };
    assert!(older.is(&first) && first.is(&older), "what an older agent wrote down is compared by the rest");
    assert!(!NamespaceId { cookie: first.cookie.map(|cookie| cookie + 1), ..first }.is(&first));
}

/// A namespace that lives as long as its file, and its inode.
fn another() -> (File, u64) {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let file = File::open("/proc/thread-self/ns/net").expect("is there");
        (file, here())
    })
    .join()
    .expect("ends well")
}

/// The inode of the calling thread's.
fn here() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/thread-self/ns/net").expect("is there").ino()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_alone_on_a_thread_is_in_namespaces_by_himself_and_back_home_and_his_runtime_ends_with_him() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP who_is_alone_on_a_thread_is_in_namespaces_by_himself: not root");
        return;
    }
    let (file, there) = another();
    let (home, gettid) = (here(), || nix::unistd::gettid().as_raw());
    let file = std::sync::Arc::new(file);
    let entered = file.clone();
    let (own, inside, beside, late) = enter::alone(move || async move {
        let own = (gettid(), here());
        let late = tokio::spawn(async { tokio::time::sleep(PATIENCE).await });
        let inside = enter::within(entered.clone(), move || (gettid(), here())).await.expect("entered");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let back = (gettid(), here());
        assert_eq!(own, back);
        let beside = enter::beside(entered, move || (gettid(), here())).await.expect("entered");
        (own, inside, beside, late)
    })
    .await
    .expect("there are threads");
    assert_eq!((own.1, inside, beside.1), (home, (own.0, there), there));
    assert_ne!(beside.0, own.0, "another thread");
    assert!(late.await.expect_err("it ended").is_cancelled());
    // From a thread of the runtime another one is sent in, and one that breaks off is an error.
    let sent = enter::within(file, move || (gettid(), here())).await.expect("entered");
    assert_eq!(sent.1, there);
    let broken = enter::alone(|| async { panic!("on purpose") }).await;
    assert!(broken.is_err_and(|error: std::io::Error| error.to_string().contains("ended early")));
}
