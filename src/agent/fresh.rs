//! What takes time to find out: it is found out once for all who ask meanwhile, and who cannot wait gets what was found
//! last, with its age.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A value and when finding it out began.
type Found<T> = (Instant, Arc<T>);

/// What was found out last. Clones share it.
pub struct Fresh<T>(Arc<Inner<T>>);

struct Inner<T> {
    last: watch::Sender<Option<Found<T>>>,
    running: AtomicBool,
}

impl<T> Clone for Fresh<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(Arc::new(Inner { last: watch::Sender::new(None), running: AtomicBool::new(false) }))
    }
}

/// Lets the next one begin, however this one ended.
struct Running<T>(Arc<Inner<T>>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
        // Whoever waits looks again.
        self.0.last.send_modify(|_| {});
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    /// What was found out last, however old it is.
    pub fn last(&self) -> Option<Arc<T>> {
        self.0.last.borrow().as_ref().map(|(_, found)| Arc::clone(found))
    }

    /// What was found out no longer than `max_age` ago, or is now by `find`, which takes as long as it takes; after
    /// `patience` what was found last, if anything, with its age.
    pub async fn get<F>(
        &self,
        max_age: Duration,
        patience: Duration,
        find: impl Fn() -> F,
    ) -> Option<(Arc<T>, Duration)>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let begin = Instant::now();
        let mut last = self.0.last.subscribe();
        let is_new = |found: &Found<T>| found.0 + max_age >= begin;
        loop {
            if last.borrow_and_update().as_ref().is_some_and(is_new) {
                break;
            }
            if !self.0.running.swap(true, Ordering::AcqRel) {
                let running = Running(Arc::clone(&self.0));
                let found = find();
                tokio::spawn(async move {
                    let began = Instant::now();
                    let found = found.await;
                    running.0.last.send_replace(Some((began, Arc::new(found))));
                });
            }
            match timeout_at(begin + patience, last.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives as long as this.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let found = last.borrow().clone();
        found.map(|(began, found)| (found, began.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const SOON: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_search_and_who_wants_it_newer_begins_another() {
        let fresh = Fresh::default();
        let searches = Arc::new(AtomicU32::new(0));
        let find = || {
            let searches = Arc::clone(&searches);
            async move {
                tokio::time::sleep(SOON).await;
                searches.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let (a, b) = tokio::join!(fresh.get(LONG, LONG, find), fresh.get(LONG, LONG, find));
        assert_eq!((*a.unwrap().0, *b.unwrap().0), (1, 1));
        assert_eq!(*fresh.get(LONG, LONG, find).await.unwrap().0, 1);
        assert_eq!(*fresh.get(Duration::ZERO, LONG, find).await.unwrap().0, 2);
    }

    #[tokio::test]
    async fn a_search_that_was_begun_before_it_was_asked_for_is_not_new() {
        let fresh = Fresh::default();
        let searches = Arc::new(AtomicU32::new(0));
        let find = || {
            let searches = Arc::clone(&searches);
            async move {
                tokio::time::sleep(3 * SOON).await;
                searches.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        assert!(fresh.get(Duration::ZERO, SOON, find).await.is_none());
        assert_eq!(*fresh.get(Duration::ZERO, LONG, find).await.unwrap().0, 2);
    }

    #[tokio::test]
    async fn who_cannot_wait_gets_what_was_found_last_with_its_age() {
        let stuck = || std::future::pending::<u32>();
        let fresh = Fresh::default();
        assert!(fresh.get(LONG, SOON, stuck).await.is_none());
        let fresh = Fresh::default();
        fresh.get(LONG, LONG, || async { 1 }).await;
        tokio::time::sleep(SOON).await;
        let (found, age) = fresh.get(Duration::ZERO, SOON, stuck).await.unwrap();
        assert!(*found == 1 && age >= 2 * SOON);
    }

    #[tokio::test]
    async fn a_search_that_breaks_blocks_nobody() {
        let fresh: Fresh<u32> = Fresh::default();
        let breaks = Arc::new(AtomicBool::new(true));
        let find = || {
            let breaks = Arc::clone(&breaks);
            async move {
                assert!(!breaks.swap(false, Ordering::Relaxed), "as it is to");
                7
            }
        };
        assert_eq!(*fresh.get(LONG, LONG, find).await.unwrap().0, 7);
    }
}
