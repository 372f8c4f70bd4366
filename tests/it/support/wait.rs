//! Waiting for a condition instead of sleeping.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(25);

/// Waits until a condition holds; fails the test with `what` when it does not within [`PATIENCE`].
pub(crate) async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = timeout(PATIENCE, async {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !condition().await {
            ticks.tick().await;
        }
    });
    assert!(waiting.await.is_ok(), "timed out waiting: {what}");
}
