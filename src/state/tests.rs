use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

fn state() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = State::open(&dir.path().join("data")).expect("opens");
    (dir, state)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn what_was_written_is_there_after_it_is_opened_again() {
    let (dir, state) = state();
    state.put("a/1", &"one").expect("writes");
    state.put("b/1", &2).expect("writes");
    drop(state);
    let state = State::open(&dir.path().join("data")).expect("opens again");
    assert_eq!(state.get::<String>("a/1").expect("reads"), Some("one".to_owned()));
    assert_eq!(state.list::<u32>("b/").expect("lists"), [("b/1".to_owned(), 2)]);
    state.delete("a/1").expect("deletes");
    assert_eq!(state.get::<String>("a/1").expect("reads"), None);
    state.clear().expect("clears");
    assert!(state.list::<u32>("").expect("lists").is_empty());
}

#[test]
fn two_agents_cannot_share_one_state_and_are_told_so() {
    let (dir, _state) = state();
    let error = State::open(&dir.path().join("data")).err().expect("is refused");
    assert!(matches!(error, StateError::InUse { .. }) && error.to_string().contains("--data-dir"), "{error}");
}

#[test]
fn a_value_of_another_shape_is_an_error_that_names_its_key() {
    let (_dir, state) = state();
    state.put("a", &"text").expect("writes");
    let error = state.get::<u32>("a").expect_err("is no number");
    assert!(error.to_string().contains("\"a\""), "{error}");
}

#[test]
fn nobody_else_may_read_the_file() {
    let (dir, _state) = state();
    let data = dir.path().join("data");
    assert_eq!((mode(&data), mode(&data.join("state.redb"))), (0o700, 0o600));
}

#[test]
fn a_directory_that_is_there_is_closed_to_others_unless_it_is_theirs_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |name: &str| {
        let data = dir.path().join(name);
        std::fs::create_dir(&data).expect("is made");
        std::fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("is opened");
        data
    };
    let empty = open("empty");
    drop(State::open(&empty).expect("opens"));
    assert_eq!(mode(&empty), 0o700);
    std::fs::set_permissions(&empty, Permissions::from_mode(0o750)).expect("is opened");
    std::fs::set_permissions(empty.join("state.redb"), Permissions::from_mode(0o644)).expect("is opened");
    drop(State::open(&empty).expect("opens again"));
    assert_eq!((mode(&empty), mode(&empty.join("state.redb"))), (0o700, 0o600));
    let shared = open("shared");
    std::fs::write(shared.join("theirs"), "").expect("writes");
    drop(State::open(&shared).expect("opens"));
    assert_eq!((mode(&shared), mode(&shared.join("state.redb"))), (0o755, 0o600));
}

#[test]
fn a_link_or_a_directory_in_the_place_of_the_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, victim) = (dir.path().join("data"), dir.path().join("victim"));
    std::fs::create_dir(&data).expect("is made");
    std::fs::write(&victim, "theirs").expect("writes");
    symlink(&victim, data.join("state.redb")).expect("a link");
    let error = State::open(&data).err().expect("is refused").to_string();
    assert!(error.contains("a link"), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).expect("reads"), "theirs");
    std::fs::remove_file(data.join("state.redb")).expect("removes");
    std::fs::create_dir(data.join("state.redb")).expect("is made");
    assert!(State::open(&data).err().expect("is refused").to_string().contains("a directory"));
}

/// A state with some hundred entries, closed, and the path of its file.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let (dir, state) = state();
    state.put("cluster/identity", &"me").expect("writes");
    for number in 0..300 {
        state.put(&format!("endpoint/net/{number}"), &"x".repeat(100)).expect("writes");
    }
    let file = dir.path().join("data/state.redb");
    (dir, file)
}

#[test]
fn damage_anywhere_in_the_file_is_said_in_words_or_does_no_harm() {
    let (dir, file) = filled();
    let data = dir.path().join("data");
    let whole = std::fs::read(&file).expect("reads");
    let mut damaged = 0;
    for at in (0..whole.len()).step_by(1021) {
        std::fs::write(&file, &whole).expect("writes");
        let open = std::fs::OpenOptions::new().write(true).open(&file).expect("opens");
        let junk: Vec<u8> = whole[at..whole.len().min(at + 64)].iter().map(|byte| !byte).collect();
        open.write_all_at(&junk, at as u64).expect("damages");
        match State::open(&data) {
            Ok(state) => {
                let found = state.list::<String>("endpoint/").expect("is as it was");
                assert_eq!(found.len(), 300, "at {at}");
                assert!(found.iter().all(|(_, value)| *value == "x".repeat(100)), "at {at}");
            }
            Err(error @ StateError::Damaged { .. }) => {
                damaged += 1;
                let told = error.to_string();
                for part in ["is damaged", "be read", "backup", "join again"] {
                    assert!(told.contains(part), "at {at}: {told}");
                }
                assert!(!told.contains("panicked") && !told.contains(".rs:"), "at {at}: {told}");
            }
            Err(other) => panic!("at {at}: {other}"),
        }
    }
    assert!(damaged > 0, "nothing of {} bytes matters", whole.len());
}

#[test]
fn a_file_that_was_cut_short_is_called_damaged_and_not_made_anew() {
    let (dir, file) = filled();
    let whole = std::fs::read(&file).expect("reads");
    for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).expect("writes");
        let error = State::open(&dir.path().join("data")).err().expect("is refused");
        assert!(matches!(error, StateError::Damaged { .. }), "{length}: {error}");
        assert_eq!(std::fs::metadata(&file).expect("is there").len(), length as u64, "it is left as it is");
    }
    std::fs::write(&file, "x".repeat(100_000)).expect("writes");
    let error = State::open(&dir.path().join("data")).err().expect("is refused");
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
}

/// Runs `work` with a directory on a disk of one megabyte.
fn on_a_small_disk(work: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("root may have mounts of its own");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts stay here");
        let dir = tempfile::tempdir().expect("a directory");
        let size = Some("size=2m,mode=0700");
        mount(Some("small"), dir.path(), Some("tmpfs"), MsFlags::empty(), size).expect("a small disk");
        work(dir.path());
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).expect("is unmounted");
    });
    thread.join().expect("ends well");
}

#[test]
fn a_disk_that_is_full_and_free_again_is_used_again_without_a_restart() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP a_disk_that_is_full_and_free_again_is_used_again_without_a_restart: not root");
        return;
    }
    on_a_small_disk(|dir| {
        let data = dir.join("data");
        let state = State::open(&data).expect("opens");
        state.put("before", &1).expect("writes");
        let fill = || {
            let mut ballast = std::fs::File::create(dir.join("ballast")).expect("is made");
            while std::io::Write::write_all(&mut ballast, &[0; 4096]).is_ok() {}
        };
        fill();
        let mut kept = 0;
        // What is free inside of the file takes some writes first.
        let error = loop {
            match state.put(&format!("big/{kept}"), &"x".repeat(20_000)) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 1000, "the disk is never full");
        };
        assert!(matches!(error, StateError::Full { .. }), "{error}");
        let again = state.put("big/again", &"x".repeat(20_000)).expect_err("is full");
        assert!(matches!(again, StateError::Full { .. }), "{again}");
        assert_eq!(
            state.get::<u32>("before").expect("reads"),
            Some(1),
            "what was there can be read meanwhile"
        );
        assert_eq!(state.get::<String>(&format!("big/{kept}")).expect("reads"), None, "nothing was changed");
        std::fs::remove_file(dir.join("ballast")).expect("removes");
        state.put("after", &2).expect("writes again");
        drop(state);
        let state = State::open(&data).expect("opens");
        assert_eq!(state.get::<u32>("after").expect("reads"), Some(2));
        assert_eq!(state.list::<String>("big/").expect("lists").len(), kept);
    });
}

#[test]
fn who_writes_to_a_slow_disk_on_the_runtime_keeps_no_other_task_waiting() {
    let (_dir, state) = state();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    // The disk stands still for as long as somebody else has it.
    let disk = state.0.disk();
    let slow = state.clone();
    let writes = runtime.spawn(async move { slow.put("a", &1) });
    // The only thread of the runtime is with the disk now, and yet this is done.
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..10 {
        let sender = sender.clone();
        runtime.spawn(async move { sender.send(()) });
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for _ in 0..10 {
        receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("the other tasks go on");
    }
    assert!(!writes.is_finished());
    drop(disk);
    runtime.block_on(writes).expect("it ends").expect("it is written");
    assert_eq!(state.get::<u32>("a").expect("reads"), Some(1));
}
