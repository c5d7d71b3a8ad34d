//! Listens to Docker, so that what happens is looked at soon and not only now and then.

use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;

/// How long Docker is left alone when it does not say what happens: it is stopped, or starts.
const AGAIN: Duration = Duration::from_secs(2);

/// Listens for as long as it is not stopped.
pub(super) async fn run(driver: Arc<Driver>) {
    loop {
        match driver.engine.events().await {
            Ok(mut events) => {
                // Nobody told what happened before.
                driver.news.unknown();
                while let Some(event) = events.next().await {
                    driver.news.note(&event);
                }
            }
            Err(error) => tracing::debug!(%error, "Docker does not say what happens"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
