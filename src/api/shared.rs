//! Reads that many ask for at once are done once, and what readers cost is bounded whoever they are.
//!
//! An answer may be some time old, but never from before that: who asks while the same is being found out gets what comes
//! of it only if it was begun recently enough.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend::Answer;
use super::error::ApiError;

/// So many reads of users who may not write are under way at once, and so many of one of them.
const READS: usize = 4;
const READS_OF_ONE: usize = 2;
/// So many different reads are remembered.
const MOST: usize = 64;
/// An answer that is as old as this is forgotten when there is something else to be remembered.
const OLD: Duration = Duration::from_secs(10);

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    /// For who may not write.
    pub reader: Duration,
    /// For who may; `None`: each asks anew.
    pub writer: Option<Duration>,
}

/// Of most reads: a writer sees his own writes at once.
pub(super) const USUAL: Freshness = Freshness { reader: Duration::from_secs(1), writer: None };

struct Kept {
    begun: Instant,
    answer: Answer<Bytes>,
}

type Entry = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The reads that are under way, and what came of the last ones.
#[derive(Default)]
pub(super) struct SharedReads {
    entries: Mutex<HashMap<String, Entry>>,
    readers: Mutex<HashMap<u32, Arc<Semaphore>>>,
    all: Places,
}

/// The places of all readers.
struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedReads {
    /// What `read` gives, or gave to somebody else who asked for `key` no longer than `age` ago. `reader` is the user, if he
    /// may not write. Goes on when the caller hangs up: who does so again and again begins nothing new.
    pub async fn read(
        &self,
        key: String,
        reader: Option<u32>,
        age: Duration,
        read: impl Future<Output = Answer<Bytes>> + Send + 'static,
    ) -> Answer<Bytes> {
        let arrived = Instant::now();
        let mut kept = self.entry(key).lock_owned().await;
        if let Some(kept) = &*kept
            && kept.begun + age >= arrived
        {
            return kept.answer.clone();
        }
        let places = self.places(reader).await;
        let task = tokio::spawn(async move {
            let _places = places;
            let begun = Instant::now();
            let answer = AssertUnwindSafe(read).catch_unwind().await;
            let answer = answer.unwrap_or_else(|_| Err(failed()));
            *kept = Some(Kept { begun, answer: answer.clone() });
            answer
        });
        task.await.unwrap_or_else(|_| Err(failed()))
    }

    fn entry(&self, key: String) -> Entry {
        let mut entries = lock(&self.entries);
        if entries.len() >= MOST && !entries.contains_key(&key) {
            entries.retain(|_, entry| match entry.try_lock() {
                Ok(kept) => kept.as_ref().is_some_and(|kept| kept.begun.elapsed() < OLD),
                Err(_) => true,
            });
            if entries.len() >= MOST {
                // Under way for others, or just asked for: this one is shared with nobody.
                return Entry::default();
            }
        }
        entries.entry(key).or_default().clone()
    }

    /// First his own place, then one of all: who waits for his own keeps nobody out.
    async fn places(&self, reader: Option<u32>) -> Vec<OwnedSemaphorePermit> {
        let Some(uid) = reader else { return Vec::new() };
        let own = {
            let mut readers = lock(&self.readers);
            readers.retain(|_, places| Arc::strong_count(places) > 1);
            readers.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(READS_OF_ONE))).clone()
        };
        let mut places = Vec::with_capacity(2);
        // Neither is ever closed.
        places.extend(own.acquire_owned().await);
        places.extend(self.all.0.clone().acquire_owned().await);
        places
    }
}

fn failed() -> ApiError {
    ApiError::internal("the request failed inside the agent").hint("its log says where")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A read that takes a while; how often it was done, and how often at most at once.
    #[derive(Clone, Default)]
    struct Slow(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>);

    impl Slow {
        async fn read(self) -> Answer<Bytes> {
            let Self(done, now, most) = self;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(done.fetch_add(1, Ordering::SeqCst).to_string().into())
        }

        fn done(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    const AGE: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn what_sixty_ask_for_at_once_is_done_once_and_again_when_it_is_old() {
        let (reads, slow) = (SharedReads::default(), Slow::default());
        let ask = |age| reads.read("/v1/plan".to_owned(), Some(1000), age, slow.clone().read());
        let all = futures_util::future::join_all((0..60).map(|_| ask(AGE))).await;
        assert!(all.iter().all(|answer| answer.as_deref() == Ok(b"0")));
        assert_eq!(slow.done(), 1);
        tokio::time::sleep(AGE + Duration::from_millis(100)).await;
        assert_eq!(ask(AGE).await.as_deref(), Ok(&b"1"[..]));
        // Whoever wants it as it is now does not get what was found out before he asked.
        assert_eq!(ask(Duration::ZERO).await.as_deref(), Ok(&b"2"[..]));
    }

    #[tokio::test]
    async fn who_hangs_up_again_and_again_begins_one_read_and_not_many() {
        let (reads, slow) = (SharedReads::default(), Slow::default());
        for _ in 0..20 {
            let ask = reads.read("/v1/doctor".to_owned(), Some(1000), AGE, slow.clone().read());
            let _ = tokio::time::timeout(Duration::from_millis(1), ask).await;
        }
        let ask = reads.read("/v1/doctor".to_owned(), Some(1000), AGE, slow.clone().read());
        assert_eq!(ask.await.as_deref(), Ok(&b"0"[..]));
    }

    #[tokio::test]
    async fn different_reads_of_one_user_are_few_at_once_and_leave_places_to_others() {
        let (reads, slow, other) = (SharedReads::default(), Slow::default(), Slow::default());
        let many = (0..100).map(|n| reads.read(format!("/v1/{n}"), Some(1000), AGE, slow.clone().read()));
        let flood = futures_util::future::join_all(many);
        let begun = Instant::now();
        let others = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            reads.read("/v1/other".to_owned(), Some(1001), AGE, other.clone().read()).await.expect("is done");
            begun.elapsed()
        };
        let writers = reads.read("/v1/status".to_owned(), None, Duration::ZERO, Slow::default().read());
        let (_, took, _) = tokio::join!(flood, others, writers);
        assert_eq!((slow.done(), slow.2.load(Ordering::SeqCst)), (100, READS_OF_ONE));
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(lock(&reads.entries).len() <= MOST);
    }

    #[tokio::test]
    async fn a_read_that_panics_is_an_answer_and_the_next_one_is_tried() {
        let reads = SharedReads::default();
        let panics = async { panic!("inside") };
        let error = reads.read("/v1/plan".to_owned(), None, Duration::ZERO, panics).await.expect_err("fails");
        assert!(error.hint.is_some());
        let again = reads.read("/v1/plan".to_owned(), None, Duration::ZERO, Slow::default().read()).await;
        assert!(again.is_ok());
    }
}
