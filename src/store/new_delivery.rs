//! [`NewDelivery`]: what is to be sent to a webhook.

use serde::Serialize;

/// Something to be sent to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewDelivery {
    /// The header `webhook-id`. Of two with one id, the first is sent.
    pub id: String,
    /// Where it is sent; `None` for the webhook of the job, if it has one that wants it.
    pub url: Option<String>,
    /// The type of the event.
    pub event: &'static str,
    /// The event as the webhooks of jobs name it: that of progress with its percentage.
    pub topic: String,
    /// The job that it is about, if it is about one.
    pub job_key: Option<String>,
    /// The body.
    pub payload: String,
}
