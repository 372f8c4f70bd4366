//! Webhooks: which events of jobs are sent, to which target.
//!
//! What is to be sent goes to the database with the state that it reports, so a relay that is killed loses none. Each message
//! has an id that follows from what it is about: a state that is recorded again, by whichever relay, adds no second one.

pub(super) mod announced;
mod attempt;
pub(super) mod backend_watch;
mod deliver;
mod metrics;

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use prometheus_client::registry::Registry as MetricsRegistry;
use url::Url;

use super::RelayError;
use crate::config::WebhookConfig;
use crate::connector::Networks;
use crate::job::{Job, Progress, Status};
use crate::store::NewDelivery;
use crate::webhook::{self, ApiEvent, KeyError, SenderError, SigningKeys, WebhookSender};
use announced::Announced;
use metrics::WebhookMetrics;

/// The percentages at which progress can be sent are multiples of it.
const PERCENT_STEP: u8 = 5;

/// Why webhooks cannot be sent with the settings.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSetupError {
    /// Nothing could be signed.
    #[error(
        "webhooks are to be sent (WEBHOOK_URL, WEBHOOK_HOSTS), but there is no secret to sign them with (--webhook-secret, \
         WEBHOOK_SECRET)"
    )]
    NoSecret,
    /// The secret is none.
    #[error("{0} (--webhook-secret, WEBHOOK_SECRET)")]
    Secret(#[from] KeyError),
    /// The HTTP client cannot be made.
    #[error("{0} (--webhook-ca-file, WEBHOOK_CA_FILE)")]
    Sender(#[from] SenderError),
}

/// What is sent where.
#[derive(Debug)]
pub(super) struct Webhooks {
    config: WebhookConfig,
    /// `None` if nothing is ever sent.
    sender: Option<WebhookSender>,
    networks: Networks,
    metrics: WebhookMetrics,
    /// A job of ours waits, or has waited since the queue was last announced to be empty.
    has_waited: AtomicBool,
}

/// An event of a job that is to be announced.
struct NewEvent {
    event: ApiEvent,
    /// Its name, for progress with the percentage.
    topic: String,
    at: Timestamp,
    /// The percentage of progress.
    percent: Option<u8>,
}

impl Webhooks {
    pub(super) fn new(config: WebhookConfig) -> Result<Self, WebhookSetupError> {
        let networks = Networks::with_public(&config.networks);
        let sender = if config.is_on() {
            let secret = config.secret.as_ref().ok_or(WebhookSetupError::NoSecret)?;
            let (ca_file, timeout) = (config.ca_file.as_deref(), config.timeout);
            let keys = SigningKeys::parse(secret)?;
            Some(WebhookSender::new(
                keys,
                networks.clone(),
                ca_file,
                timeout,
            )?)
        } else {
            None
        };
        Ok(Self {
            config,
            sender,
            networks,
            metrics: WebhookMetrics::default(),
            has_waited: AtomicBool::new(false),
        })
    }

    /// Whether anything is ever sent.
    pub(super) fn are_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Whether jobs may have webhooks of their own.
    pub(super) fn are_for_jobs(&self) -> bool {
        !self.config.hosts.is_empty()
    }

    /// Checks that the webhook of a job may be sent to a target. Its name is resolved, and its address checked, when it is sent.
    pub(super) fn check(&self, url: &Url) -> Result<(), RelayError> {
        if self.config.hosts.is_empty() {
            return Err(RelayError::WebhooksOff);
        }
        if !self.config.allows(url) || !self.networks.may_contain(url) {
            let host = url.host_str().unwrap_or_default();
            return Err(RelayError::WebhookNotAllowed(host.to_owned()));
        }
        Ok(())
    }

    /// What is to be sent because of a state of a job that is recorded now: the events that have not been announced.
    pub(super) fn announce(
        &self,
        job: &Job,
        announced: &mut Announced,
        progress: &Progress,
    ) -> Vec<NewDelivery> {
        if !self.config.is_on() {
            return Vec::new();
        }
        if progress.waiting_for.is_some() {
            self.has_waited.store(true, Ordering::Relaxed);
        }
        let mut deliveries = Vec::new();
        for new in new_events(job, announced, progress) {
            let body = match webhook::body(new.event, new.at, progress) {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(job_id = %progress.job_id, %error, "cannot encode a webhook");
                    continue;
                }
            };
            let created_at = job.created_at().as_millisecond().to_string();
            let delivery = |whose: &str, url: Option<&Url>| NewDelivery {
                id: webhook::message_id(&[
                    progress.job_id.as_str(),
                    &created_at,
                    &new.topic,
                    whose,
                    url.map_or("", Url::as_str),
                ]),
                url: url.map(Url::to_string),
                event: new.event.as_str(),
                topic: new.topic.clone(),
                job_key: Some(progress.job_id.to_string()),
                payload: body.clone(),
            };
            let is_asked = |percent| self.config.progress.contains(&percent);
            if let Some(url) = &self.config.url
                && new.percent.is_none_or(is_asked)
            {
                deliveries.push(delivery("relay", Some(url)));
            }
            if !self.config.hosts.is_empty() {
                deliveries.push(delivery("job", None));
            }
        }
        deliveries
    }

    pub(super) fn register_metrics(&self, registry: &mut MetricsRegistry) {
        if self.config.is_on() {
            self.metrics.register(registry);
        }
    }
}

/// The events up to a state of a job that have not been announced. From now on they are.
fn new_events(job: &Job, announced: &mut Announced, progress: &Progress) -> Vec<NewEvent> {
    let mut events = Vec::new();
    let mut add = |event: ApiEvent, at| {
        events.push(NewEvent {
            event,
            topic: event.as_str().to_owned(),
            at,
            percent: None,
        });
    };
    if !std::mem::replace(&mut announced.is_queued, true) {
        add(ApiEvent::JobQueued, job.created_at());
    }
    if let Some(started_at) = job.started_at()
        && !std::mem::replace(&mut announced.is_started, true)
    {
        add(ApiEvent::JobStarted, started_at);
    }
    let ended = match progress.status {
        Status::Queued | Status::Processing => None,
        Status::Completed => Some(ApiEvent::JobCompleted),
        Status::Failed => Some(ApiEvent::JobFailed),
        Status::Cancelled => Some(ApiEvent::JobCancelled),
    };
    if let Some(ended) = ended {
        if !std::mem::replace(&mut announced.has_ended, true) {
            add(ended, job.ended_at().unwrap_or(progress.timestamp));
        }
        return events;
    }
    let passed = (announced.percent / PERCENT_STEP + 1)..=(progress.progress / PERCENT_STEP);
    for percent in passed.map(|steps| steps * PERCENT_STEP) {
        let event = ApiEvent::JobProgress;
        events.push(NewEvent {
            event,
            topic: progress_topic(percent),
            at: progress.timestamp,
            percent: Some(percent),
        });
    }
    announced.percent = announced.percent.max(progress.progress);
    events
}

/// The name of progress at a percentage.
pub(super) fn progress_topic(percent: u8) -> String {
    format!("{}:{percent}", ApiEvent::JobProgress.as_str())
}
