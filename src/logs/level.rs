//! What is let into the log, and may be another while it is written.

use std::fmt;

use tracing_subscriber::{EnvFilter, Registry, reload};

type Set = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// The way to what is let into the log.
#[derive(Default)]
pub struct Filter(Option<Box<Set>>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.is_some()).finish()
    }
}

impl Filter {
    /// A filter to be put right above the registry, and the way to it.
    pub fn layer(filter: EnvFilter) -> (reload::Layer<EnvFilter, Registry>, Self) {
        let (layer, handle) = reload::Layer::new(filter);
        (layer, Self(Some(Box::new(move |filter| handle.reload(filter)))))
    }

    /// The same that nobody changes any more: something else than the configuration decides.
    pub fn fixed(self) -> Self {
        Self(None)
    }

    /// Whether something else than the configuration decides.
    pub fn is_fixed(&self) -> bool {
        self.0.is_none()
    }

    /// Lets in what `filter` lets in, from now on.
    ///
    /// # Errors
    /// The log has ended.
    pub fn set(&self, filter: EnvFilter) -> Result<(), reload::Error> {
        self.0.as_ref().map_or(Ok(()), |set| set(filter))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::tests::Counter;
    use super::*;

    #[test]
    fn what_is_let_in_becomes_another_while_the_log_is_written() {
        let count = Arc::new(AtomicUsize::new(0));
        let (layer, filter) = Filter::layer(EnvFilter::new("info"));
        let subscriber = tracing_subscriber::registry().with(layer).with(Counter(count.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let say = || {
                tracing::debug!("a detail");
                tracing::info!("a line");
                count.swap(0, Ordering::SeqCst)
            };
            assert_eq!(say(), 1);
            filter.set(EnvFilter::new("debug")).expect("the log is there");
            assert_eq!(say(), 2);
            filter.set(EnvFilter::new("warn")).expect("the log is there");
            assert_eq!(say(), 0);
            let fixed = filter.fixed();
            assert!(fixed.is_fixed());
            fixed.set(EnvFilter::new("debug")).expect("is none of its business");
            assert_eq!(say(), 0);
        });
    }
}
