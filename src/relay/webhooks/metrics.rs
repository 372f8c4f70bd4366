//! What is counted of webhooks.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::store::DeliveryState;

/// The upper bounds of the buckets for the time until a message is accepted, in seconds: from one that is accepted at once to one
/// whose target was away for most of a day.
const SECONDS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 10_800.0, 43_200.0,
];

/// The label of a state.
type StateLabel = [(&'static str, &'static str); 1];

/// What is counted of webhooks. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct WebhookMetrics {
    ended: Family<StateLabel, Counter>,
    refused: Counter,
    latency: Histogram,
    backlog: Gauge,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        let metrics = Self {
            ended: Family::default(),
            refused: Counter::default(),
            latency: Histogram::new(SECONDS),
            backlog: Gauge::default(),
        };
        // Start at zero: a rate cannot be computed from a counter that appears with its first event.
        for state in DeliveryState::ALL {
            if state != DeliveryState::Pending {
                metrics.ended.get_or_create_owned(&label(state));
            }
        }
        metrics
    }
}

impl WebhookMetrics {
    /// Adds them to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_deliveries",
            "Messages to webhooks that were delivered or given up",
            self.ended.clone(),
        );
        registry.register(
            "webhook_attempts_refused",
            "Attempts to send a message to a webhook that have failed",
            self.refused.clone(),
        );
        registry.register(
            "webhook_latency_seconds",
            "How long a message to a webhook was on its way from its event until it was accepted",
            self.latency.clone(),
        );
        registry.register(
            "webhook_backlog",
            "Messages to webhooks that are not delivered yet, those of other relays on the database included",
            self.backlog.clone(),
        );
    }

    /// A message was delivered or given up.
    pub(super) fn ended(&self, state: DeliveryState) {
        self.ended.get_or_create(&label(state)).inc();
    }

    /// A message was accepted so many seconds after its event.
    pub(super) fn accepted(&self, seconds: f64) {
        self.ended(DeliveryState::Delivered);
        self.latency.observe(seconds);
    }

    /// An attempt has failed.
    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    /// So many messages are not delivered yet.
    pub(super) fn set_backlog(&self, pending: usize) {
        self.backlog.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }
}

fn label(state: DeliveryState) -> StateLabel {
    [("state", state.as_str())]
}
