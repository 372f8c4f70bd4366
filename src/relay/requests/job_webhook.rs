//! The webhook of a job: where its events are sent, and what is known of that.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use crate::job::JobId;
use crate::relay::webhooks::progress_topic;
use crate::relay::{Relay, RelayError};
use crate::store::{DeliveryFilter, DeliveryState, StoredDelivery};
use crate::webhook::ApiEvent;

/// How long a job that is shown waits for the database: without it, all the rest is known.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many deliveries of a job are shown.
const MAX_SHOWN: usize = 100;

/// Where the events of a job are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobWebhook {
    /// The target.
    pub url: String,
    /// The events, those of progress with their percentages.
    pub events: Vec<String>,
}

/// A message to a webhook, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct DeliveryView {
    /// The header `webhook-id`.
    pub id: String,
    /// Scheme, host and port of the target: its path may hold a secret.
    pub target: String,
    /// The type of the event.
    #[schemars(with = "ApiEvent")]
    pub event: String,
    /// The job that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// `pending`, `delivered`, `failed` or `gone`.
    #[schemars(with = "DeliveryState")]
    pub state: String,
    /// How often it was sent.
    pub attempts: i64,
    /// When the event was written.
    pub created_at: Timestamp,
    /// When it is sent again, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl JobWebhook {
    /// These events, and progress at these percentages, sent to a target. Without events: all but progress.
    pub fn new(url: &Url, events: Option<Vec<ApiEvent>>, progress: &[u8]) -> Self {
        let events = events.unwrap_or_else(|| ApiEvent::OF_JOBS.to_vec());
        let mut events: Vec<String> = events.iter().map(|it| it.as_str().to_owned()).collect();
        events.extend(progress.iter().map(|percent| progress_topic(*percent)));
        events.sort_unstable();
        events.dedup();
        Self {
            url: url.to_string(),
            events,
        }
    }
}

impl Relay {
    /// Checks that the webhook of a job may be sent to a target.
    pub fn check_webhook(&self, url: &Url) -> Result<(), RelayError> {
        self.0.tracker.webhooks.check(url)
    }

    /// At most `limit` deliveries, the newest first.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        limit: usize,
    ) -> Result<Vec<DeliveryView>, RelayError> {
        let found = self.recorder().store().deliveries(filter, limit).await?;
        Ok(found.into_iter().map(DeliveryView::new).collect())
    }

    /// The deliveries about a job; none while the database is away.
    pub async fn job_deliveries(&self, job: &JobId) -> Vec<DeliveryView> {
        if !self.0.tracker.webhooks.are_on() || !self.database_health().is_connected {
            return Vec::new();
        }
        let filter = DeliveryFilter {
            jobs: Some(vec![job.clone()]),
            ..DeliveryFilter::default()
        };
        let found = timeout(PATIENCE, self.deliveries(&filter, MAX_SHOWN)).await;
        let mut found = found.ok().and_then(Result::ok).unwrap_or_default();
        found.reverse();
        found
    }

    /// Stores the webhook of jobs that are about to be made, or that they have none: one that failed half-way may have left one
    /// under such an id. It is on the disk before any state of theirs.
    pub(in crate::relay) async fn store_webhook(
        &self,
        jobs: &[JobId],
        webhook: Option<&JobWebhook>,
    ) -> Result<(), RelayError> {
        let store = self.recorder().store();
        match webhook {
            Some(JobWebhook { url, events }) => store.set_job_webhook(jobs, url, events).await?,
            None if self.0.tracker.webhooks.are_for_jobs() => {
                store.remove_job_webhooks(jobs).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Forgets the webhook of jobs that were refused, for certain: what failed otherwise may have been made all the same.
    pub(in crate::relay) async fn drop_webhook(
        &self,
        jobs: &[JobId],
        webhook: Option<&JobWebhook>,
        refusal: &RelayError,
    ) {
        if webhook.is_none() || !refusal.is_certain() {
            return;
        }
        if let Err(error) = self.recorder().store().remove_job_webhooks(jobs).await {
            tracing::debug!(%error, "cannot forget the webhook of jobs that were refused");
        }
    }

    /// The webhook of a job.
    pub(in crate::relay) async fn job_webhook(
        &self,
        job: &JobId,
    ) -> Result<Option<JobWebhook>, RelayError> {
        let stored = self.recorder().store().job_webhook(job).await?;
        Ok(stored.map(|(url, events)| JobWebhook { url, events }))
    }
}

impl DeliveryView {
    fn new(stored: StoredDelivery) -> Self {
        let moment = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
        let url = Url::parse(&stored.url).ok();
        let is_pending = stored.state == DeliveryState::Pending.as_str();
        Self {
            id: stored.id,
            target: url.map_or_else(String::new, |url| url.origin().ascii_serialization()),
            event: stored.event,
            job_id: stored.job_key,
            state: stored.state,
            attempts: stored.attempts,
            created_at: moment(stored.created_at),
            next_attempt: is_pending.then(|| moment(stored.due_at)),
            ended_at: stored.ended_at.map(moment),
            last_status: stored.last_status,
            last_error: stored.last_error,
        }
    }
}
