//! [`WebhookSender`]: one request to a target.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::keys::SigningKeys;
use crate::connector::{CaFileError, Connector, Networks};

/// The header with the id of a message.
pub const ID: &str = "webhook-id";

/// The header with the time of an attempt, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";

/// The header with the signatures of an attempt.
pub const SIGNATURE: &str = "webhook-signature";

/// What the relay calls itself.
const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The longest pause that a target may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Sends signed messages. It follows no redirects and uses no proxy.
#[derive(Debug, Clone)]
pub struct WebhookSender {
    /// For targets that operators name.
    trusted: Client,
    /// For targets that clients name: it connects to no address outside of these networks, and to the one that was checked.
    guarded: Client,
    networks: Networks,
    keys: SigningKeys,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The certificates cannot be read.
    #[error(transparent)]
    Ca(#[from] CaFileError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client for webhooks")]
    Client(#[from] reqwest::Error),
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAnswer {
    /// The target has accepted the message, with this status.
    Accepted(u16),
    /// The target is gone for good: 410.
    Gone,
    /// It has not.
    Refused {
        /// The status of its answer, if there was one.
        status: Option<u16>,
        /// What went wrong, without the address, which may hold a secret.
        reason: String,
        /// The pause that it asks for.
        retry_after: Option<Duration>,
    },
}

impl WebhookAnswer {
    /// The status with which the target has answered; `None` if it has not.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted(status) => Some(*status),
            Self::Gone => Some(StatusCode::GONE.as_u16()),
            Self::Refused { status, .. } => *status,
        }
    }
}

impl WebhookSender {
    /// A sender that trusts the authorities in `ca_file` beside the system's. An attempt may take as long as `timeout`.
    pub fn new(
        keys: SigningKeys,
        networks: Networks,
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, SenderError> {
        let connector = Connector::new(ca_file, true)?;
        let guarded = connector.clone().within(networks.clone());
        Ok(Self {
            trusted: connector.http_client().timeout(timeout).build()?,
            guarded: guarded.http_client().timeout(timeout).build()?,
            networks,
            keys,
        })
    }

    /// Sends a message once. `is_trusted` says that an operator has named the target.
    pub async fn send(&self, url: &Url, is_trusted: bool, id: &str, body: &str) -> WebhookAnswer {
        // An address that is no name is resolved by nobody, and checked by nobody else.
        if !is_trusted && !self.networks.may_contain(url) {
            return WebhookAnswer::Refused {
                status: None,
                reason: "its address is not a public one; name its network in WEBHOOK_NETWORKS"
                    .to_owned(),
                retry_after: None,
            };
        }
        let client = if is_trusted {
            &self.trusted
        } else {
            &self.guarded
        };
        let timestamp = Timestamp::now().as_second();
        let sending = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header(ID, id)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, self.keys.sign(id, timestamp, body))
            .body(body.to_owned())
            .send();
        match sending.await {
            Ok(response) => answer(&response),
            Err(error) => WebhookAnswer::Refused {
                status: None,
                reason: innermost(&error),
                retry_after: None,
            },
        }
    }
}

fn answer(response: &Response) -> WebhookAnswer {
    let status = response.status();
    if status.is_success() {
        return WebhookAnswer::Accepted(status.as_u16());
    }
    if status == StatusCode::GONE {
        return WebhookAnswer::Gone;
    }
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok());
    WebhookAnswer::Refused {
        status: Some(status.as_u16()),
        reason: format!("the target answered {status}"),
        retry_after: retry_after.and_then(|text| pause(text, Timestamp::now())),
    }
}

/// The pause that a `Retry-After` asks for: seconds, or a moment.
fn pause(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = rfc2822::parse(text).ok()?.timestamp();
            at.duration_since(now).try_into().ok()?
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// The reason at the end of a chain of errors, without the address.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the target did not answer in time".to_owned();
    }
    let mut reason: Option<&dyn Error> = error.source();
    while let Some(next) = reason.and_then(Error::source) {
        reason = Some(next);
    }
    reason.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_seconds_or_until_a_moment() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Mon, 30 Nov 2026 12:01:30 GMT", Some(90)),
            ("999999999", Some(86_400)),
            ("Mon, 30 Nov 2026 11:00:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let pause = pause(text, now).map(|pause| pause.as_secs());
            assert_eq!(pause, seconds, "{text}");
        }
    }
}
