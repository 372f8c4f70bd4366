//! Wake-ups: a relay that has written into the database what another one has to act on says which kind of thing to look at.
//!
//! ```text
//! {"from":"…","look_at":[{"what":"cancel","job":"shot-12"},{"what":"queue"}]}
//! ```
//!
//! They carry nothing that is acted on: what is to be done is read from the database. A message that is lost costs the time
//! until the next look, and a wrong one a look.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::message::{MAX_NAME, MessageError, text};
use crate::job::JobId;

/// The largest message that is read, in bytes.
const MAX_WAKE_UP: usize = 256 << 10;

/// How many hints one message has at most.
pub(super) const MAX_HINTS: usize = 200;

/// Of how many jobs a relay wants previews at most.
pub(super) const MAX_PREVIEWED: usize = 500;

/// What is to be looked at in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// The relay that has this job is asked to cancel it.
    Cancel(JobId),
    /// An operator has stopped something or let it go on, or has added or removed a server.
    Operations,
    /// Jobs wait for a server.
    Queue,
    /// There are new jobs.
    NewJobs,
    /// Another relay has this job now.
    Owner(JobId),
    /// A job was registered on this server by a relay that does not follow it.
    Registered(String),
}

/// What another relay has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeUp {
    /// That relay.
    pub from: String,
    /// What it has written.
    pub hints: Vec<Hint>,
    /// The jobs of which it wants previews, in place of those before; `None` if it says nothing of them.
    pub previews: Option<Vec<JobId>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WakeMessage<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    look_at: Vec<HintMessage<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previews: Option<Vec<Cow<'a, str>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HintMessage<'a> {
    #[serde(borrow)]
    what: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend: Option<Cow<'a, str>>,
}

impl WakeUp {
    /// One that wakes nobody: it shows that the relay can send.
    pub(super) fn empty(from: &str) -> Self {
        Self {
            from: from.to_owned(),
            hints: Vec::new(),
            previews: None,
        }
    }

    /// Whether it wakes nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.hints.is_empty() && self.previews.is_none()
    }

    /// The message that is sent.
    pub(super) fn encode(&self) -> serde_json::Result<String> {
        let previews = self.previews.as_ref();
        let previews = previews.map(|jobs| jobs.iter().map(|job| job.as_str().into()).collect());
        serde_json::to_string(&WakeMessage {
            from: self.from.as_str().into(),
            look_at: self.hints.iter().map(HintMessage::of).collect(),
            previews,
        })
    }

    /// Reads a message. What a newer release hints at is left out.
    pub(super) fn read(message: &[u8]) -> Result<Self, MessageError> {
        if message.len() > MAX_WAKE_UP {
            return Err(MessageError::TooLarge(message.len(), MAX_WAKE_UP));
        }
        let message: WakeMessage<'_> = serde_json::from_str(text(message)?)?;
        if message.from.len() > MAX_NAME {
            return Err(MessageError::Field("from"));
        }
        if message.look_at.len() > MAX_HINTS {
            return Err(MessageError::Field("look_at"));
        }
        let mut hints = Vec::new();
        for hint in message.look_at {
            hints.extend(hint.read()?);
        }
        let previews = message.previews;
        if previews.as_ref().is_some_and(|it| it.len() > MAX_PREVIEWED) {
            return Err(MessageError::Field("previews"));
        }
        let jobs = |jobs: Vec<Cow<'_, str>>| jobs.iter().map(|id| job(id, "previews")).collect();
        Ok(Self {
            from: message.from.into_owned(),
            hints,
            previews: previews.map(jobs).transpose()?,
        })
    }
}

impl<'a> HintMessage<'a> {
    fn of(hint: &'a Hint) -> Self {
        let (what, job, backend) = match hint {
            Hint::Cancel(job) => ("cancel", Some(job), None),
            Hint::Operations => ("operations", None, None),
            Hint::Queue => ("queue", None, None),
            Hint::NewJobs => ("new_jobs", None, None),
            Hint::Owner(job) => ("owner", Some(job), None),
            Hint::Registered(backend) => ("registered", None, Some(backend)),
        };
        Self {
            what: what.into(),
            job: job.map(|job| job.as_str().into()),
            backend: backend.map(|backend| backend.as_str().into()),
        }
    }

    /// `None` for one that is not known here.
    fn read(self) -> Result<Option<Hint>, MessageError> {
        let named = || job(self.job.as_deref().unwrap_or_default(), "job");
        Ok(Some(match &*self.what {
            "cancel" => Hint::Cancel(named()?),
            "operations" => Hint::Operations,
            "queue" => Hint::Queue,
            "new_jobs" => Hint::NewJobs,
            "owner" => Hint::Owner(named()?),
            "registered" => {
                let backend = self.backend.filter(|name| name.len() <= MAX_NAME);
                let backend = backend.ok_or(MessageError::Field("backend"))?;
                Hint::Registered(backend.into_owned())
            }
            _ => return Ok(None),
        }))
    }
}

fn job(id: &str, field: &'static str) -> Result<JobId, MessageError> {
    JobId::parse(id).map_err(|_| MessageError::Field(field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn id(name: &str) -> JobId {
        JobId::parse(name).unwrap()
    }

    #[test]
    fn what_is_sent_is_read() {
        let wake_up = WakeUp {
            from: "relay-a".to_owned(),
            hints: vec![
                Hint::Cancel(id("shot-12")),
                Hint::Operations,
                Hint::Queue,
                Hint::NewJobs,
                Hint::Owner(id("shot-13")),
                Hint::Registered("127.0.0.1:8188".to_owned()),
            ],
            previews: Some(vec![id("shot-14")]),
        };
        let message = wake_up.encode().unwrap();
        assert_eq!(WakeUp::read(message.as_bytes()).unwrap(), wake_up);
    }

    #[test]
    fn one_that_wakes_nobody_is_read() {
        let empty = WakeUp::empty("relay-a");
        let read = WakeUp::read(empty.encode().unwrap().as_bytes()).unwrap();
        assert_eq!(read, empty);
        assert!(read.is_empty());
    }

    #[test]
    fn a_hint_of_a_newer_release_is_left_out() {
        let message =
            json!({"from": "a", "look_at": [{"what": "moon"}, {"what": "queue"}], "more": 1});
        let read = WakeUp::read(message.to_string().as_bytes()).unwrap();
        assert_eq!((read.hints, read.previews), (vec![Hint::Queue], None));
    }

    #[test]
    fn what_no_relay_sends_is_refused() {
        let many = vec![json!({"what": "queue"}); MAX_HINTS + 1];
        for message in [
            json!({"look_at": []}),
            json!({"from": "a", "look_at": [{"what": "cancel"}]}),
            json!({"from": "a", "look_at": [{"what": "owner", "job": "not an id"}]}),
            json!({"from": "a", "look_at": [{"what": "registered"}]}),
            json!({"from": "a", "look_at": many}),
            json!({"from": "a".repeat(MAX_NAME + 1)}),
            json!({"from": "a", "previews": vec!["job"; MAX_PREVIEWED + 1]}),
            json!({"from": "a", "previews": ["not an id"]}),
            json!({"from": "a", "more": "x".repeat(MAX_WAKE_UP)}),
        ] {
            let read = WakeUp::read(message.to_string().as_bytes());
            assert!(read.is_err(), "{read:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = WakeUp::read(&bytes);
        }
    }
}
