//! The task that receives wake-ups and previews.

use std::collections::HashSet;
use std::convert::Infallible;

use futures_util::StreamExt;
use redis::aio::PubSubSink;
use redis::{Msg, RedisResult};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::connect::{closed, connect_for_messages, in_time};
use super::kept::MAX_KEYS;
use super::node::RedisNode;
use crate::broker::message::MessageError;
use crate::broker::preview::JobPreview;
use crate::broker::wake::WakeUp;
use crate::config::RedisConfig;
use crate::job::JobId;

impl RedisShared {
    /// Receives until `stop`.
    pub(super) async fn keep_listening(&self, stop: &CancellationToken) {
        let receiving = async {
            for attempt in 0.. {
                let node = self.any_node(attempt).await;
                let Err(error) = self.listen_until_lost(&node, attempt).await;
                self.signals.receiving.down(&error).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = receiving => {}
        }
    }

    async fn listen_until_lost(&self, node: &RedisNode, attempt: usize) -> RedisResult<Infallible> {
        let config = &node.config;
        let (mut sink, mut messages) = connect_for_messages(config).await?.split();
        in_time(config, sink.subscribe(self.names.wake())).await?;
        // Unknown is what was sent to the connection before, if there was one.
        let mut subscribed = (attempt == 0).then(HashSet::new);
        let mut ping = interval(config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.sync_previews(config, &mut sink, &mut subscribed)
                .await?;
            self.signals.receiving.up();
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some(message) => self.take_signal(&message),
                        None => return Err(closed()),
                    },
                    () = node.left.cancelled() => return Err(closed()),
                    () = self.signals.wanted_renewed.notified() => break,
                    _ = ping.tick() => {
                        let pinging = sink.ping::<redis::Value>();
                        in_time(config, pinging).await?;
                    }
                }
            }
        }
    }

    /// Subscribes to the previews that are wanted, and leaves the others. The owners learn of it when they can be received:
    /// each sends the newest one then.
    async fn sync_previews(
        &self,
        config: &RedisConfig,
        sink: &mut PubSubSink,
        subscribed: &mut Option<HashSet<JobId>>,
    ) -> RedisResult<()> {
        let wanted = self.signals.wanted();
        let is_anew = subscribed.is_none();
        let before = subscribed.take().unwrap_or_default();
        let added: Vec<JobId> = wanted.difference(&before).cloned().collect();
        let left: Vec<JobId> = before.difference(&wanted).cloned().collect();
        for jobs in added.chunks(MAX_KEYS) {
            in_time(config, sink.subscribe(self.preview_channels(jobs))).await?;
        }
        for jobs in left.chunks(MAX_KEYS) {
            in_time(config, sink.unsubscribe(self.preview_channels(jobs))).await?;
        }
        if is_anew && !wanted.is_empty() {
            self.signals.outbox.put_previews_anew(wanted.clone());
        } else if !wanted.is_empty() || !left.is_empty() {
            self.signals.outbox.put_previews(wanted.clone());
        }
        *subscribed = Some(wanted);
        Ok(())
    }

    fn preview_channels(&self, jobs: &[JobId]) -> Vec<String> {
        jobs.iter().map(|job| self.names.previews(job)).collect()
    }

    fn take_signal(&self, message: &Msg) {
        let (channel, payload) = (message.get_channel_name(), message.get_payload_bytes());
        let taken = match self.names.previewed(channel) {
            Some(job) => self.take_preview(&job, payload),
            None => self.take_wake_up(payload),
        };
        if let Err(error) = taken {
            self.metrics.rejected.inc();
            tracing::debug!(channel, %error, "a message of Redis is not from a relay");
        }
    }

    fn take_preview(&self, job: &JobId, payload: &[u8]) -> Result<(), MessageError> {
        let (owner, preview) = JobPreview::read(job, payload)?;
        if owner != self.owner {
            self.metrics.previews_received.inc();
            self.signals.previews_in.put(preview);
        }
        Ok(())
    }

    /// What this relay sends comes back to it.
    fn take_wake_up(&self, payload: &[u8]) -> Result<(), MessageError> {
        let wake_up = WakeUp::read(payload)?;
        if wake_up.from != self.owner && !wake_up.is_empty() {
            self.metrics.wake_ups_received.inc();
            self.signals.inbox.put(wake_up);
        }
        Ok(())
    }
}
