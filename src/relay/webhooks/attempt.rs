//! One attempt to deliver a message, and what follows from it.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::config::WebhookConfig;
use crate::relay::tracker::Tracker;
use crate::store::{AttemptResult, ClaimedDelivery, DeliveryState};
use crate::webhook::WebhookAnswer;

/// How many times as long as the one before each pause is.
const BACKOFF_FACTOR: f64 = 3.0;

/// Sends a message that was claimed once, and records the result. Returns whether the target has answered.
pub(super) async fn attempt(tracker: Arc<Tracker>, delivery: ClaimedDelivery) -> bool {
    let began = Instant::now();
    let answer = send(&tracker, &delivery).await;
    let is_answered = answer.status().is_some();
    let age = Duration::from_millis(delivery.age.try_into().unwrap_or_default()) + began.elapsed();
    let (metrics, store) = (&tracker.webhooks.metrics, tracker.recorder.store());
    let recorded = match answer {
        WebhookAnswer::Accepted(status) => {
            metrics.accepted(age.as_secs_f64());
            let result = AttemptResult {
                status: Some(status),
                error: None,
                retry_after: None,
            };
            store
                .finish_attempt(&delivery.id, &tracker.owner, &result)
                .await
        }
        WebhookAnswer::Gone => {
            metrics.ended(DeliveryState::Gone);
            let target = target(&delivery.url);
            tracing::warn!(
                target,
                "a webhook is gone (410): nothing more is sent to it"
            );
            store.end_target(&delivery.url).await
        }
        WebhookAnswer::Refused {
            status,
            reason,
            retry_after,
        } => {
            metrics.refused();
            let config = &tracker.webhooks.config;
            let retry_after = next_pause(config, &delivery, age, retry_after);
            if retry_after.is_none() {
                metrics.ended(DeliveryState::Failed);
                let (id, event, target) = (&delivery.id, &delivery.event, target(&delivery.url));
                tracing::warn!(
                    id,
                    event,
                    target,
                    reason,
                    "a message to a webhook was given up"
                );
            }
            let result = AttemptResult {
                status,
                error: Some(reason),
                retry_after,
            };
            store
                .finish_attempt(&delivery.id, &tracker.owner, &result)
                .await
        }
    };
    if let Err(error) = recorded {
        let error = &error as &dyn Error;
        tracing::debug!(
            id = delivery.id,
            error,
            "cannot record the result of an attempt; the message is sent again"
        );
    }
    is_answered
}

async fn send(tracker: &Tracker, delivery: &ClaimedDelivery) -> WebhookAnswer {
    let webhooks = &tracker.webhooks;
    let refused = |reason: &str| WebhookAnswer::Refused {
        status: None,
        reason: reason.to_owned(),
        retry_after: None,
    };
    let (Some(sender), Ok(url)) = (&webhooks.sender, Url::parse(&delivery.url)) else {
        return refused("its target is no URL");
    };
    let is_trusted = webhooks.config.url.as_ref() == Some(&url);
    if !is_trusted && !webhooks.config.allows(&url) {
        return refused("its host is not in WEBHOOK_HOSTS");
    }
    sender
        .send(&url, is_trusted, &delivery.id, &delivery.payload)
        .await
}

/// How long to wait before the next attempt; `None` if the message is too old by then.
fn next_pause(
    config: &WebhookConfig,
    delivery: &ClaimedDelivery,
    age: Duration,
    asked: Option<Duration>,
) -> Option<Duration> {
    let failures = i32::try_from(delivery.attempts).unwrap_or(i32::MAX);
    let grown = config.min_backoff.as_secs_f64() * BACKOFF_FACTOR.powi(failures.min(64));
    let grown = grown.min(config.max_backoff.as_secs_f64());
    // Messages that failed together must not come back together.
    let mut hasher = DefaultHasher::new();
    (&delivery.id, delivery.attempts).hash(&mut hasher);
    let jitter = 0.5 + (hasher.finish() % 1_000) as f64 / 1_000.0;
    let pause = Duration::from_secs_f64(grown * jitter);
    // However long it asks for, a last attempt is made in time.
    let left = config.give_up_after.saturating_sub(age);
    let asked = asked.map(|asked| asked.min(left.saturating_sub(config.min_backoff)));
    let pause = pause.max(asked.unwrap_or_default());
    (age + pause < config.give_up_after).then_some(pause)
}

/// A target without its path, which may hold a secret.
fn target(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(attempts: i64) -> ClaimedDelivery {
        ClaimedDelivery {
            id: "msg_1".to_owned(),
            url: "https://app.example/".to_owned(),
            event: "job.queued".to_owned(),
            payload: "{}".to_owned(),
            age: 0,
            attempts,
        }
    }

    #[test]
    fn a_message_is_tried_for_a_day_with_growing_pauses() {
        let config = WebhookConfig::default();
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        let mut before = Duration::ZERO;
        loop {
            let pause = next_pause(&config, &delivery(attempts), age, None);
            let Some(pause) = pause else {
                break;
            };
            let usual = (5.0 * 3_f64.powi(attempts as i32)).min(10_800.0);
            let share = pause.as_secs_f64() / usual;
            assert!((0.5..1.5).contains(&share), "{attempts}: {pause:?}");
            (before, age) = (pause, age + pause);
            attempts += 1;
        }
        assert!(before > Duration::from_secs(5_000));
        assert!((10..=30).contains(&attempts), "{attempts}");
        assert!(age > Duration::from_secs(65_000), "{age:?}");
    }

    #[test]
    fn the_pause_that_a_target_asks_for_is_kept() {
        let config = WebhookConfig::default();
        let asked = Some(Duration::from_secs(600));
        let pause = next_pause(&config, &delivery(0), Duration::ZERO, asked);
        assert_eq!(pause, asked);
        let endless = Some(Duration::from_secs(86_400));
        let pause = next_pause(&config, &delivery(0), Duration::ZERO, endless);
        assert_eq!(pause, Some(Duration::from_secs(86_395)));
        let short = Some(Duration::from_secs(1));
        let pause = next_pause(&config, &delivery(9), Duration::ZERO, short);
        assert!(pause.unwrap() > Duration::from_secs(5_000));
        let day = Duration::from_secs(86_399);
        assert_eq!(next_pause(&config, &delivery(2), day, None), None);
    }
}
