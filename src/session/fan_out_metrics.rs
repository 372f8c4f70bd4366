//! What the fan-out threads count, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::hub::Update;

/// The upper bounds of the buckets for the time until a state is on its way, in seconds. The last bucket has none.
const DELIVERY_TIMES: [f64; 12] = [
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    f64::INFINITY,
];

/// Counts of all fan-out threads. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct FanOutMetrics {
    sent: Counter,
    bytes: Counter,
    skipped: Counter,
    times: DeliveryTimes,
}

/// How long states took from ComfyUI's event to the sockets. The histogram of the crate takes a lock for each observation; of one
/// state there can be 10,000.
#[derive(Debug, Clone, Default)]
struct DeliveryTimes(Arc<TimeCounts>);

#[derive(Debug, Default)]
struct TimeCounts {
    buckets: [AtomicU64; DELIVERY_TIMES.len()],
    microseconds: AtomicU64,
}

/// What one batch of writes adds. It is counted when it is dropped.
#[derive(Debug)]
pub(super) struct SentBatch<'a> {
    metrics: &'a FanOutMetrics,
    written_at: Instant,
    sent: u64,
    bytes: u64,
    /// The event of the newest frames of the batch, and how many there are of it: most batches are of one state.
    run: Option<(Instant, u64)>,
}

impl FanOutMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "states_sent",
            "States that were written to WebSockets of single jobs",
            self.sent.clone(),
        );
        registry.register(
            "sent_bytes",
            "Bytes of states and previews that were written to these WebSockets, before TLS",
            self.bytes.clone(),
        );
        registry.register(
            "states_skipped",
            "States that were not written at once, because the client's WebSocket accepted nothing; it gets the newest one later",
            self.skipped.clone(),
        );
        registry.register(
            "delivery_seconds",
            "From an event of ComfyUI until the state that shows it was written to a subscriber's WebSocket",
            self.times.clone(),
        );
    }

    /// Counts a state that a subscriber's socket did not accept.
    pub(super) fn skip(&self, update: &Update) {
        self.skipped
            .inc_by(u64::from(matches!(update, Update::State(_))));
    }

    /// Of a batch that was written just now.
    pub(super) fn written(&self) -> SentBatch<'_> {
        SentBatch {
            metrics: self,
            written_at: Instant::now(),
            sent: 0,
            bytes: 0,
            run: None,
        }
    }
}

impl SentBatch<'_> {
    /// Adds the frame of an update.
    pub(super) fn add(&mut self, update: &Update, bytes: usize) {
        self.bytes += bytes as u64;
        let Update::State(state) = update else {
            return;
        };
        self.sent += 1;
        let Some(event_at) = state.event_at else {
            return;
        };
        match &mut self.run {
            Some((at, count)) if *at == event_at => *count += 1,
            _ => {
                self.count_run();
                self.run = Some((event_at, 1));
            }
        }
    }

    fn count_run(&mut self) {
        if let Some((event_at, count)) = self.run.take() {
            let time = self.written_at.saturating_duration_since(event_at);
            self.metrics.times.observe(time, count);
        }
    }
}

impl Drop for SentBatch<'_> {
    fn drop(&mut self) {
        self.count_run();
        self.metrics.sent.inc_by(self.sent);
        self.metrics.bytes.inc_by(self.bytes);
    }
}

impl DeliveryTimes {
    fn observe(&self, time: Duration, count: u64) {
        let seconds = time.as_secs_f64();
        let bucket = DELIVERY_TIMES.partition_point(|&bound| bound < seconds);
        self.0.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let sum = microseconds.saturating_mul(count);
        self.0.microseconds.fetch_add(sum, Ordering::Relaxed);
    }
}

impl TypedMetric for DeliveryTimes {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DeliveryTimes {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let counts = (self.0.buckets.iter()).map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = DELIVERY_TIMES.into_iter().zip(counts).collect();
        // The count is that of the buckets, also while a thread adds to them.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    #[test]
    fn times_are_counted_in_their_buckets() {
        let metrics = FanOutMetrics::default();
        for (milliseconds, count) in [(0, 2), (3, 1), (100, 4), (90_000, 1)] {
            let time = Duration::from_millis(milliseconds);
            metrics.times.observe(time, count);
        }
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "delivery_seconds_bucket{le=\"0.0005\"} 2",
            "delivery_seconds_bucket{le=\"0.0025\"} 2",
            "delivery_seconds_bucket{le=\"0.005\"} 3",
            "delivery_seconds_bucket{le=\"0.1\"} 7",
            "delivery_seconds_bucket{le=\"1\"} 7",
            "delivery_seconds_bucket{le=\"+Inf\"} 8",
            "delivery_seconds_count 8",
            "delivery_seconds_sum 90.403",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }
}
