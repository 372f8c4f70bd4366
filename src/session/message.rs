use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Token;
use crate::job::{JobError, JobId};

/// The largest message that a client may send, in bytes. All documented ones are short.
pub(crate) const MAX_CLIENT_MESSAGE: usize = 64 << 10;

/// A message of the server about the connection. States of jobs are `progress` messages, the relay's own
/// are `system_status`: they are encoded elsewhere.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The first message on every socket; sent again while nobody has registered the job.
    Connection {
        /// Always `connected`.
        #[schemars(extend("const" = "connected"))]
        status: &'static str,
        /// The job that the socket was opened for; `monitor` for the system monitor.
        job_id: &'a str,
        /// A sentence for a person.
        message: &'a str,
        /// For how many seconds the relay waits for a job that nobody has registered yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_wait: Option<u64>,
        /// When it was sent.
        timestamp: Timestamp,
    },
    /// A request or a job failed, or the session ends.
    Error {
        /// The job that it is about.
        job_id: &'a str,
        /// A sentence for a person.
        error: &'a str,
        /// A stable word for programs.
        code: &'a str,
        /// When it was sent.
        timestamp: Timestamp,
    },
    /// A newer token was accepted.
    Auth {
        /// When it expires; `null` if the relay asks for no tokens.
        expires_at: Option<Timestamp>,
        /// When it was sent.
        timestamp: Timestamp,
    },
    /// Keeps the connection alive.
    Ping {
        /// When it was sent.
        timestamp: Timestamp,
    },
    /// The answer to a client's ping.
    Pong {
        /// When it was sent.
        timestamp: Timestamp,
    },
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientMessage {
    /// Replace the token with a newer one.
    Auth {
        /// The token.
        #[schemars(with = "String")]
        token: Token,
    },
    /// Answer with a `pong`.
    Ping,
    /// The answer to the server's `ping`.
    Pong,
    /// Subscribe to a further job on this socket.
    Subscribe {
        /// The job, not checked yet.
        job_id: String,
    },
    /// End the subscription to a job.
    Unsubscribe {
        /// The job, not checked yet.
        job_id: String,
    },
    /// Cancel a job.
    Cancel {
        /// The job, not checked yet; without it the one that the socket was opened for.
        job_id: Option<String>,
    },
}

impl ClientMessage {
    /// Parses a text message. Fails if it is none of the documented ones.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        // serde reads an array as an enum, too: its first element would be the type.
        if !text.trim_start().starts_with('{') {
            let expected = r#"expected an object such as {"type": "ping"}"#;
            return Err(serde::de::Error::custom(expected));
        }
        serde_json::from_str(text)
    }
}

impl<'a> ServerMessage<'a> {
    /// The greeting.
    pub fn connection(job_id: &'a str, message: &'a str) -> Self {
        Self::Connection {
            status: "connected",
            job_id,
            message,
            job_wait: None,
            timestamp: now(),
        }
    }

    /// That nobody has registered a job yet, for which the relay waits `seconds` more.
    pub fn unregistered(job_id: &'a str, message: &'a str, seconds: u64) -> Self {
        Self::Connection {
            status: "connected",
            job_id,
            message,
            job_wait: Some(seconds),
            timestamp: now(),
        }
    }

    /// An error of any kind.
    pub fn error(job_id: &'a str, code: &'a str, error: &'a str) -> Self {
        Self::Error {
            job_id,
            error,
            code,
            timestamp: now(),
        }
    }

    /// Why a job failed.
    pub fn job_failed(job_id: &'a JobId, error: &'a JobError) -> Self {
        Self::error(job_id.as_str(), error.code.as_str(), &error.message)
    }

    /// A newer token was accepted.
    pub fn auth(expires_at: Option<Timestamp>) -> Self {
        Self::Auth {
            expires_at,
            timestamp: now(),
        }
    }

    /// Keeps the connection alive.
    pub fn ping() -> Self {
        Self::Ping { timestamp: now() }
    }

    /// The answer to a ping.
    pub fn pong() -> Self {
        Self::Pong { timestamp: now() }
    }

    /// The message as JSON.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys and finite numbers only")
    }
}

/// The current time in whole milliseconds.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_message_is_an_object_and_nothing_else() {
        let subscribe = ClientMessage::parse(r#" {"type": "subscribe", "job_id": "j", "new": 1}"#);
        let wanted = ClientMessage::Subscribe {
            job_id: "j".to_owned(),
        };
        assert_eq!(subscribe.unwrap(), wanted);
        for wrong in [
            r#"["ping"]"#,
            r#"["cancel", null]"#,
            r#"["cancel", "j"]"#,
            r#"["cancel", {"job_id": "j"}]"#,
            r#""ping""#,
            "{}",
            "",
        ] {
            assert!(ClientMessage::parse(wrong).is_err(), "{wrong}");
        }
    }
}
