//! The events of servers and of the queue, which no state of a job shows: their conditions are compared once a second.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;
use uuid::Uuid;

use crate::relay::Relay;
use crate::relay::backend::condition::Condition;
use crate::store::{NewDelivery, StoreError};
use crate::webhook::{self, ApiEvent};

/// How often conditions are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// The fields of an event of a server.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct BackendData<'a> {
    /// Its name.
    backend: &'a str,
    #[schemars(with = "Condition")]
    status: &'static str,
    /// Why it runs nothing, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The fields of the event of an empty queue.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct QueueData {
    /// How many jobs run.
    processing: usize,
}

/// What was announced of the servers and of the queue.
#[derive(Debug, Default)]
struct AnnouncedFarm {
    sick: HashSet<String>,
    has_waiting: bool,
}

impl Relay {
    /// Announces what becomes of servers and of the queue until the relay stops.
    pub(in crate::relay) async fn watch_for_webhooks(self) {
        let Some(url) = self.0.tracker.webhooks.config.url.clone() else {
            return;
        };
        let mut watched = AnnouncedFarm::default();
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let announced = async {
                self.announce_backends(&url, &mut watched.sick).await?;
                self.announce_queue(&url, &mut watched.has_waiting).await
            };
            // What could not be written is compared, and announced, again.
            if let Err(error) = announced.await {
                tracing::debug!(%error, "cannot write an event of a server, retrying");
            }
        }
    }

    async fn announce_backends(
        &self,
        url: &Url,
        sick: &mut HashSet<String>,
    ) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let now = tracker.now();
        for backend in tracker.backends.iter() {
            let (condition, reason) = backend.condition(now);
            let name = backend.name();
            let event = match condition {
                Condition::Sick | Condition::Stalled if !sick.contains(name) => {
                    ApiEvent::BackendSick
                }
                Condition::Connected if sick.contains(name) => ApiEvent::BackendRecovered,
                // The relay that follows it now announces the rest.
                Condition::HeldElsewhere => {
                    sick.remove(name);
                    continue;
                }
                _ => continue,
            };
            let data = BackendData {
                backend: name,
                status: condition.as_str(),
                reason,
            };
            let id = webhook::message_id(&[event.as_str(), name, &Uuid::new_v4().to_string()]);
            self.add_event(url, event, id, &data).await?;
            match event {
                ApiEvent::BackendSick => sick.insert(name.to_owned()),
                _ => sick.remove(name),
            };
        }
        Ok(())
    }

    async fn announce_queue(&self, url: &Url, has_waiting: &mut bool) -> Result<(), StoreError> {
        let waiting = {
            // A job that is being registered is in the queue when the lock is free.
            let _jobs = self.0.tracker.registry();
            let webhooks = &self.0.tracker.webhooks;
            *has_waiting |= webhooks.has_waited.swap(false, Ordering::Relaxed);
            self.queue_length()
        };
        if waiting == 0 && *has_waiting {
            // Relays that share the queue announce it under one id.
            let mark = self.0.tracker.recorder.store().queue_mark().await?;
            let event = ApiEvent::QueueEmpty;
            let id = webhook::message_id(&[event.as_str(), url.as_str(), &mark]);
            let data = QueueData {
                processing: self.job_counts().active,
            };
            self.add_event(url, event, id, &data).await?;
        }
        *has_waiting = waiting > 0;
        Ok(())
    }

    async fn add_event(
        &self,
        url: &Url,
        event: ApiEvent,
        id: String,
        data: &impl Serialize,
    ) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let delivery = NewDelivery {
            id,
            url: Some(url.to_string()),
            event: event.as_str(),
            topic: event.as_str().to_owned(),
            job_key: None,
            payload: webhook::body(event, tracker.now(), data)?,
        };
        tracker.recorder.store().add_deliveries(&[delivery]).await
    }
}
