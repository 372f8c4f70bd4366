//! Sends what is due to webhooks, until the relay stops. What waits lies in the database; memory holds what is being sent.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::attempt::attempt;
use crate::relay::Relay;
use crate::relay::tracker::Tracker;
use crate::store::StoreError;

/// How many messages are sent at a time.
const MAX_SENDING: usize = 64;

/// How many of them go to one server that has answered the last one, however many addresses there are named. To any other
/// goes one: servers that hang must not hold up the others.
const MAX_TO_ORIGIN: usize = 4;

/// How many servers are remembered that have answered.
const MAX_ANSWERING: usize = 1_024;

/// How often it is looked what is due again. What this relay adds itself is sent at once.
const INTERVAL: Duration = Duration::from_secs(1);

/// How much longer than an attempt the claim on a message lasts: the database may be slow to record the result.
const CLAIM_RESERVE: Duration = Duration::from_secs(45);

/// How long deliveries are shown after their end.
const SHOWN_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How long a stop waits for the database to end our claims. They end by themselves, later.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many of the intervals lie between two looks at what is not urgent.
const SELDOM: u64 = 5;

/// What is being sent: to which origin each task sends, and whether that has answered.
#[derive(Default)]
struct Sending {
    tasks: JoinSet<(String, bool)>,
    origins: HashMap<String, usize>,
    /// The origins that have answered the last message.
    answering: HashSet<String>,
}

impl Sending {
    /// Begins to send. `attempt` yields whether there was an answer.
    fn begin(&mut self, origin: String, attempt: impl Future<Output = bool> + Send + 'static) {
        *self.origins.entry(origin.clone()).or_default() += 1;
        self.tasks.spawn(async move {
            let is_answered = attempt.await;
            (origin, is_answered)
        });
    }

    /// Waits until something was sent. `None` if nothing is being sent.
    async fn next(&mut self) -> Option<()> {
        match self.tasks.join_next().await? {
            Ok((origin, is_answered)) => {
                if let Some(count) = self.origins.get_mut(&origin) {
                    *count -= 1;
                    if *count == 0 {
                        self.origins.remove(&origin);
                    }
                }
                if !is_answered {
                    self.answering.remove(&origin);
                } else if self.answering.len() < MAX_ANSWERING {
                    self.answering.insert(origin);
                }
            }
            // A panic was logged. Its target keeps its place, which others have as well.
            Err(error) => tracing::error!(%error, "a task that sends to a webhook has failed"),
        }
        Some(())
    }

    /// The origins to which nothing more is sent for the moment.
    fn busy(&self) -> Vec<&str> {
        let busy = self
            .origins
            .iter()
            .filter(|&(origin, &count)| count >= MAX_TO_ORIGIN || !self.answering.contains(origin));
        busy.map(|(origin, _)| origin.as_str()).collect()
    }
}

impl Relay {
    /// Sends what is due until the relay stops.
    pub(in crate::relay) async fn deliver_webhooks(self) {
        let tracker = &self.0.tracker;
        if tracker.webhooks.sender.is_none() {
            return;
        }
        let store = tracker.recorder.store();
        tokio::select! {
            () = self.0.stop.cancelled() => return,
            () = tracker.recorder.ready() => {}
        }
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sending, mut ticks, mut is_failing) = (Sending::default(), 0_u64, false);
        let mut is_revived = false;
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => break,
                _ = tick.tick() => {
                    let is_seldom = ticks % SELDOM == 0;
                    ticks += 1;
                    let looked = tracker.look_after_deliveries(&mut is_revived, is_seldom);
                    if let Err(error) = looked.await {
                        tracing::debug!(%error, "cannot look after the deliveries, retrying");
                    }
                }
                () = store.deliveries_added() => {}
                Some(()) = sending.next() => {}
            }
            let claimed = tracker.send_due(&mut sending).await;
            if let Err(error) = &claimed
                && !is_failing
            {
                let error = error as &dyn Error;
                tracing::warn!(
                    error,
                    "cannot read what is to be sent to webhooks, retrying"
                );
            }
            is_failing = claimed.is_err();
        }
        // They are sent again under the same ids.
        sending.tasks.shutdown().await;
        let released = store.release_deliveries(Some(&tracker.owner));
        let _ = timeout(RELEASE_TIMEOUT, released).await;
    }
}

impl Tracker {
    /// Begins to send what is due, as much as there is room for.
    async fn send_due(self: &Arc<Self>, sending: &mut Sending) -> Result<(), StoreError> {
        let lasts = self.webhooks.config.timeout + CLAIM_RESERVE;
        while sending.tasks.len() < MAX_SENDING {
            let busy = sending.busy();
            let store = self.recorder.store();
            // One by one: several might all go to a server that has room for one.
            let claimed = store.claim_delivery(&self.owner, lasts, &busy).await?;
            let Some(delivery) = claimed else {
                return Ok(());
            };
            let origin = origin(&delivery.url).to_owned();
            sending.begin(origin, attempt(self.clone(), delivery));
        }
        Ok(())
    }

    async fn look_after_deliveries(
        &self,
        is_revived: &mut bool,
        is_seldom: bool,
    ) -> Result<(), StoreError> {
        let store = self.recorder.store();
        if !*is_revived {
            // The operator has started the relay with this target: it is not gone any more.
            if let Some(url) = &self.webhooks.config.url {
                store.revive_target(url.as_str()).await?;
            }
            *is_revived = true;
        }
        if is_seldom {
            store.release_deliveries(None).await?;
            self.webhooks
                .metrics
                .set_backlog(store.pending_deliveries().await?);
        }
        Ok(())
    }

    /// Deletes deliveries that ended long ago.
    pub(in crate::relay) async fn delete_old_deliveries(&self) -> Result<(), StoreError> {
        self.recorder.store().delete_deliveries(SHOWN_FOR).await
    }
}

/// How a target begins: its scheme, host and port, with the slash behind them.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at + 1);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn targets_of_one_server_begin_alike() {
        for url in ["https://app.example/", "https://app.example/done?job=1"] {
            assert_eq!(origin(url), "https://app.example/");
        }
        assert_eq!(origin("http://10.0.0.1:8080/a/b"), "http://10.0.0.1:8080/");
    }
}
