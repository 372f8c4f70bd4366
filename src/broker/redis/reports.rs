//! The task that reads reports of producers, which any relay may take.

use std::convert::Infallible;

use futures_util::StreamExt;
use redis::{Msg, RedisResult, Value};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::connect::{closed, connect_for_messages, in_time};
use super::node::RedisNode;
use crate::broker::ReceivedReport;
use crate::job::{JobId, NewReport};

/// The largest report that is read, in bytes: what subscribers see of one has a few hundred.
const MAX_REPORT: usize = 64 << 10;

impl RedisShared {
    /// Reads reports until `stop`. Of a Redis Cluster, any node has them: another one is asked after each failure.
    pub(super) async fn keep_reading_reports(&self, stop: &CancellationToken) {
        let reading = async {
            for attempt in 0.. {
                let node = self.any_node(attempt).await;
                let Err(error) = self.read_reports_until_lost(&node).await;
                self.reporting.down(&error).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = reading => {}
        }
    }

    async fn read_reports_until_lost(&self, node: &RedisNode) -> RedisResult<Infallible> {
        let config = &node.config;
        let (mut sink, mut messages) = connect_for_messages(config).await?.split();
        in_time(config, sink.psubscribe(self.names.reports())).await?;
        self.reporting.up();
        let mut ping = interval(config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.read_report(&message),
                    None => return Err(closed()),
                },
                // A node that has left the cluster receives nothing that is published at others.
                () = node.left.cancelled() => return Err(closed()),
                _ = ping.tick() => {
                    in_time(config, sink.ping::<Value>()).await?;
                }
            }
        }
    }

    fn read_report(&self, message: &Msg) {
        let channel = message.get_channel_name();
        let job = self.names.reported(channel);
        match checked(job, message.get_payload_bytes()) {
            Ok(report) => self.reports.put(report),
            Err(reason) => self.reports.reject(job, &reason),
        }
    }
}

/// A report, checked as one that comes over HTTP.
fn checked(job: &str, body: &[u8]) -> Result<ReceivedReport, String> {
    if body.len() > MAX_REPORT {
        let size = body.len();
        return Err(format!("it has {size} bytes, more than {MAX_REPORT}"));
    }
    let job = JobId::parse(job).map_err(|error| error.to_string())?;
    job.check_job().map_err(|error| error.to_string())?;
    let report = NewReport::read(body).and_then(NewReport::check);
    let (report, tags) = report.map_err(|error| error.to_string())?;
    Ok(ReceivedReport { job, report, tags })
}
