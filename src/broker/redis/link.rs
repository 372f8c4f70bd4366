//! [`Link`]: whether a connection is up, and when it is made again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use redis::RedisError;
use tokio::time::sleep;

use crate::broker::BrokerMetrics;
use crate::config::RedisConfig;

/// The longest reason that is shown, in characters.
const MAX_REASON: usize = 200;

/// One connection to Redis, over all its attempts.
#[derive(Debug)]
pub(super) struct Link {
    /// What it is for, for the log.
    purpose: &'static str,
    /// The server, without its password.
    server: String,
    state: Mutex<LinkState>,
    backoff: ExponentialBuilder,
    max_pause: Duration,
    metrics: BrokerMetrics,
}

#[derive(Debug, Default)]
struct LinkState {
    is_up: bool,
    /// Why the last attempt has failed, or the connection was lost.
    failure: Option<String>,
    pauses: Option<ExponentialBackoff>,
}

impl Link {
    pub(super) fn new(
        purpose: &'static str,
        config: &RedisConfig,
        metrics: &BrokerMetrics,
    ) -> Self {
        // With jitter: all relays lose one server at the same moment.
        let backoff = ExponentialBuilder::new()
            .with_min_delay(config.min_backoff)
            .with_max_delay(config.max_backoff)
            .with_jitter()
            .without_max_times();
        Self {
            purpose,
            server: config.to_string(),
            state: Mutex::default(),
            backoff,
            max_pause: config.max_backoff,
            metrics: metrics.clone(),
        }
    }

    /// The connection is made, and can be used.
    pub(super) fn up(&self) {
        let mut state = self.state();
        state.is_up = true;
        state.pauses = None;
        if state.failure.take().is_some() {
            tracing::info!("can {} at {} again", self.purpose, self.server);
        }
    }

    /// The connection is lost, or could not be made. Waits before the next attempt.
    pub(super) async fn down(&self, error: &RedisError) {
        self.metrics.errors.inc();
        let pause = {
            let mut state = self.state();
            if state.failure.is_none() {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "cannot {} at {}, retrying",
                    self.purpose,
                    self.server
                );
            }
            state.is_up = false;
            state.failure = Some(error.to_string().chars().take(MAX_REASON).collect());
            let pauses = state.pauses.get_or_insert_with(|| self.backoff.build());
            pauses.next().unwrap_or(self.max_pause)
        };
        sleep(pause).await;
    }

    pub(super) fn is_up(&self) -> bool {
        self.state().is_up
    }

    /// Why it is not up, once it was tried.
    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// The state is consistent at any moment, also after a panic elsewhere.
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
