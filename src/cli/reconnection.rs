//! [`Reconnection`]: for how long a command goes on without its relay.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api_client::ApiClient;

/// How long a command tries to reconnect to a relay that went away.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts to reconnect.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// When the relay was lost, if it was reached before.
#[derive(Debug, Default)]
pub(super) struct Reconnection {
    was_reached: bool,
    lost_at: Option<Instant>,
}

impl Reconnection {
    /// The relay has sent a message.
    pub(super) fn reached(&mut self) {
        (self.was_reached, self.lost_at) = (true, None);
    }

    /// Waits before the next attempt. A relay that was never reached, or is away for too long, is an error: a sentence
    /// that says so.
    pub(super) async fn wait(&mut self, relay: &ApiClient, reason: &str) -> Result<(), String> {
        let lost_for = self.lost_at.get_or_insert_with(Instant::now).elapsed();
        if !self.was_reached || lost_for >= RECONNECT_TIMEOUT {
            let address = relay.address();
            return Err(format!(
                "the relay at {address} cannot be reached: {reason} (--relay, RELAY_URL)"
            ));
        }
        sleep(RETRY_PAUSE).await;
        Ok(())
    }
}
