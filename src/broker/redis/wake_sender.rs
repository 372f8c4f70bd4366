//! The task that sends wake-ups and previews.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::connect::{closed, connect};
use super::node::RedisNode;
use crate::broker::preview::JobPreview;
use crate::broker::wake::WakeUp;

/// How long the sender rests after each wake-up: the hints that come meanwhile go in one.
const PAUSE: Duration = Duration::from_millis(10);

impl RedisShared {
    /// Sends until `stop`. What is not sent then is found in the database.
    pub(super) async fn keep_waking(&self, stop: &CancellationToken) {
        let sending = async {
            for attempt in 0.. {
                let node = self.any_node(attempt).await;
                let Err(error) = self.wake_until_lost(&node).await;
                self.signals.sending.down(&error).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sending => {}
        }
    }

    async fn wake_until_lost(&self, node: &RedisNode) -> RedisResult<Infallible> {
        let mut connection = connect(&node.config).await?;
        // A user without the permission to publish has no connection that can be used.
        let empty = WakeUp::empty(&self.owner);
        self.publish_wake_up(&mut connection, &empty).await?;
        self.signals.sending.up();
        loop {
            tokio::select! {
                // A picture waits for hints, not the other way round.
                biased;
                wake_up = self.signals.outbox.take(&self.owner) => {
                    self.send_wake_up(&mut connection, wake_up).await?;
                    sleep(PAUSE).await;
                }
                previews = self.signals.previews_out.take(1) => {
                    for preview in previews {
                        self.send_preview(&mut connection, preview).await?;
                    }
                }
                // A node that has left the cluster passes nothing on to others.
                () = node.left.cancelled() => return Err(closed()),
                () = sleep(node.config.ping_interval) => {
                    cmd("PING").exec_async(&mut connection).await?;
                }
            }
        }
    }

    /// Sends a wake-up. One that Redis has not taken is sent later.
    async fn send_wake_up(
        &self,
        connection: &mut MultiplexedConnection,
        wake_up: WakeUp,
    ) -> RedisResult<()> {
        let sent = self.publish_wake_up(connection, &wake_up).await;
        match &sent {
            Ok(()) => _ = self.metrics.wake_ups_sent.inc(),
            Err(_) => self.signals.outbox.put_back(wake_up),
        }
        sent
    }

    async fn publish_wake_up(
        &self,
        connection: &mut MultiplexedConnection,
        wake_up: &WakeUp,
    ) -> RedisResult<()> {
        let message = wake_up.encode().map_err(io::Error::from)?;
        let mut publish = cmd("PUBLISH");
        publish.arg(self.names.wake()).arg(message);
        publish.exec_async(connection).await
    }

    /// Sends a preview. One that Redis has not taken is sent later, unless a newer one waits.
    async fn send_preview(
        &self,
        connection: &mut MultiplexedConnection,
        preview: JobPreview,
    ) -> RedisResult<()> {
        let message = preview.encode(&self.owner).map_err(io::Error::from)?;
        let mut publish = cmd("PUBLISH");
        publish.arg(self.names.previews(&preview.job)).arg(message);
        let sent = publish.exec_async(connection).await;
        match &sent {
            Ok(()) => _ = self.metrics.previews_sent.inc(),
            Err(_) => self.signals.previews_out.put_back(preview),
        }
        sent
    }
}
