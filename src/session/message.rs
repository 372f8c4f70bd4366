//! The documented messages of sockets and event streams, but `progress` and `system_status`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::auth::Token;
use crate::job::{JobError, JobId};

/// The largest message that a client may send, in bytes: they are all short.
pub(crate) const MAX_CLIENT_MESSAGE: usize = 64 << 10;

/// What the server says of a connection, not of a job's state.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The first message on every socket.
    Connection {
        /// Always `connected`.
        status: &'static str,
        /// The job that the socket was opened for; `monitor` for the system monitor.
        job_id: &'a str,
        /// A sentence for a person.
        message: &'a str,
        /// When it was said.
        timestamp: Timestamp,
    },
    /// Something is wrong.
    Error {
        /// The job that it is about.
        job_id: &'a str,
        /// A sentence for a person.
        error: &'a str,
        /// A stable word for programs.
        code: &'a str,
        /// When it was said.
        timestamp: Timestamp,
    },
    /// A newer token was taken.
    Auth {
        /// Until when; `null` where nobody is asked for one.
        expires_at: Option<Timestamp>,
        /// When it was said.
        timestamp: Timestamp,
    },
    /// A sign of life.
    Ping {
        /// When it was given.
        timestamp: Timestamp,
    },
    /// The answer to a client's ping.
    Pong {
        /// When it was given.
        timestamp: Timestamp,
    },
}

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientMessage {
    /// Go on with a newer token.
    Auth {
        /// The token.
        token: Token,
    },
    /// Answered by a `pong`.
    Ping,
    /// The answer to our `ping`.
    Pong,
    /// JobSubscription one more job on this socket.
    Subscribe {
        /// The job, not checked yet.
        job_id: String,
    },
    /// JobSubscription a job no longer.
    Unsubscribe {
        /// The job, not checked yet.
        job_id: String,
    },
    /// Call a job off.
    Cancel {
        /// The job, not checked yet; without it the one that the socket was opened for.
        job_id: Option<String>,
    },
}

impl ClientMessage {
    /// Reads a text message. Fails where it is none of the documented ones.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        // A list would be taken for one as well, with its first entry for the type.
        if !text.trim_start().starts_with('{') {
            let wanted = r#"expected an object such as {"type": "ping"}"#;
            return Err(serde::de::Error::custom(wanted));
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
            timestamp: now(),
        }
    }

    /// A failure of any kind.
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

    /// A newer token was taken.
    pub fn auth(expires_at: Option<Timestamp>) -> Self {
        Self::Auth {
            expires_at,
            timestamp: now(),
        }
    }

    /// A sign of life.
    pub fn ping() -> Self {
        Self::Ping { timestamp: now() }
    }

    /// The answer to a ping.
    pub fn pong() -> Self {
        Self::Pong { timestamp: now() }
    }

    /// The message as text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys and finite numbers only")
    }
}

/// The present moment in whole milliseconds.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_objects_and_nothing_else() {
        let follow = ClientMessage::parse(r#" {"type": "subscribe", "job_id": "j", "new": 1}"#);
        let wanted = ClientMessage::Subscribe {
            job_id: "j".to_owned(),
        };
        assert_eq!(follow.unwrap(), wanted);
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
