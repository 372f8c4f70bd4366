//! States as relays exchange them: the documented message, and before it what only relays need.
//!
//! ```text
//! {"epoch":1,"owner":"…","created_at":"…"}\n{"type":"progress","job_id":"shot-12",…}
//! ```
//!
//! Every client with access to Redis can send anything: what is read is bounded, and checked before any of it is used.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::job_state::{JobState, ReceivedState};
use crate::job::{ErrorCode, JobId, Output, Status, StoredJob, Tags};

/// The largest message that is read, in bytes: the final state of a job with thousands of files.
const MAX_MESSAGE: usize = 8 << 20;

/// The longest text of an identifier that is read, in bytes.
pub(super) const MAX_NAME: usize = 512;

/// The largest number of a state or an epoch: what the database holds.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64;

/// Separates the two parts. Neither has it: it is escaped in JSON.
pub(super) const SEPARATOR: u8 = b'\n';

/// Why a message is no state of its job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// It is too large.
    #[error("it has {0} bytes, more than {1}")]
    TooLarge(usize, usize),
    /// It does not begin as a file of its type.
    #[error("it is no image of its type")]
    NoImage,
    /// It is not made of two parts.
    #[error("it has no second line")]
    NoState,
    /// A control character would break the frames of an event stream.
    #[error("it is not UTF-8 without control characters")]
    NotText,
    /// It is not JSON, or a field is missing or has another type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A field has a value that no relay sends.
    #[error("the field {0} is wrong")]
    Field(&'static str),
}

/// What relays need beside the documented message.
#[derive(Debug, Serialize, Deserialize)]
struct RelayHead<'a> {
    epoch: u64,
    #[serde(borrow)]
    owner: Cow<'a, str>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_code: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learned_from: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    output_urls: Vec<Cow<'a, str>>,
}

/// What is read of the documented message. Unknown fields are for subscribers alone.
#[derive(Debug, Deserialize)]
struct ProgressMessage<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    job_id: Cow<'a, str>,
    status: Status,
    progress: u8,
    estimated_remaining: Option<u64>,
    message: String,
    output_path: Option<String>,
    error: Option<String>,
    timestamp: Timestamp,
    prompt_id: Option<String>,
    seq: u64,
    #[serde(default)]
    cancelling: bool,
    waiting_for: Option<Cow<'a, str>>,
    #[serde(default)]
    outputs: Vec<Output>,
    backend: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    group: Option<String>,
    workflow: Option<String>,
}

/// What relays need beside the message of a state, as one line of JSON.
pub(crate) fn head(state: &JobState, owner: &str) -> serde_json::Result<String> {
    serde_json::to_string(&RelayHead {
        epoch: state.position.epoch,
        owner: owner.into(),
        created_at: state.created_at,
        started_at: state.started_at,
        ended_at: state.ended_at,
        error_code: state.error_code.map(Cow::from),
        learned_from: state.learned_from.map(Cow::from),
        output_urls: state.output_urls.iter().map(Cow::from).collect(),
    })
}

/// Reads what came on the channel of a job.
pub(crate) fn read(job: &JobId, message: &[u8]) -> Result<ReceivedState, MessageError> {
    let end = message.iter().position(|&byte| byte == SEPARATOR);
    let end = end.ok_or(MessageError::NoState)?;
    read_parts(job, &message[..end], &message[end + 1..])
}

/// Reads what is kept of a job.
pub(super) fn read_parts(
    job: &JobId,
    head: &[u8],
    payload: &[u8],
) -> Result<ReceivedState, MessageError> {
    let size = head.len() + payload.len();
    if size > MAX_MESSAGE {
        return Err(MessageError::TooLarge(size, MAX_MESSAGE));
    }
    let head: RelayHead<'_> = serde_json::from_str(text(head)?)?;
    let payload = text(payload)?;
    let message: ProgressMessage<'_> = serde_json::from_str(payload)?;
    if message.r#type != "progress" {
        return Err(MessageError::Field("type"));
    }
    if message.job_id != job.as_str() {
        return Err(MessageError::Field("job_id"));
    }
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let stored = stored_job(job, head, message)?;
    Ok(ReceivedState { stored, payload })
}

/// Bytes as a text that breaks no frame.
pub(super) fn text(bytes: &[u8]) -> Result<&str, MessageError> {
    let text = std::str::from_utf8(bytes).ok();
    let text = text.filter(|text| !text.bytes().any(|byte| byte.is_ascii_control()));
    text.ok_or(MessageError::NotText)
}

fn stored_job(
    job: &JobId,
    head: RelayHead<'_>,
    message: ProgressMessage<'_>,
) -> Result<StoredJob, MessageError> {
    if message.progress > 100 {
        return Err(MessageError::Field("progress"));
    }
    if head.epoch > MAX_NUMBER || message.seq > MAX_NUMBER {
        return Err(MessageError::Field("seq"));
    }
    let names = [&message.prompt_id, &message.backend, &message.workflow];
    let is_long = |name: &&Option<String>| name.as_ref().is_some_and(|it| it.len() > MAX_NAME);
    if names.iter().any(is_long) || head.owner.len() > MAX_NAME {
        return Err(MessageError::Field("prompt_id"));
    }
    if message.outputs.len() != head.output_urls.len() {
        return Err(MessageError::Field("outputs"));
    }
    let tags = Tags::check(&message.labels, message.group);
    let tags = tags.map_err(|_| MessageError::Field("labels"))?;
    let outputs = message.outputs.into_iter().zip(head.output_urls);
    let outputs = outputs.map(|(output, url)| Output {
        url: url.into_owned(),
        ..output
    });
    // Of a job that waits in the owner's queue, the message names the server that is planned.
    let backend = message.backend.filter(|_| message.waiting_for.is_none());
    let code = head.error_code.as_deref().and_then(ErrorCode::from_word);
    Ok(StoredJob {
        id: job.clone(),
        backend,
        status: message.status,
        progress: message.progress,
        seq: message.seq,
        message: Some(message.message).filter(|_| message.prompt_id.is_none()),
        prompt_id: message.prompt_id,
        outputs: outputs.collect(),
        output_path: message.output_path,
        error: (message.error).map(|text| (code.map(|code| code.as_str().to_owned()), text)),
        end_source: head.learned_from.map(Cow::into_owned),
        created_at: head.created_at,
        started_at: head.started_at,
        ended_at: head.ended_at,
        estimated_remaining: message.estimated_remaining,
        updated_at: message.timestamp,
        owner: Some(head.owner.into_owned()),
        epoch: head.epoch,
        is_cancelling: message.cancelling,
        tags: Tags {
            workflow: message.workflow,
            ..tags
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::Position;
    use crate::job::{Event, Job, Outcome};

    fn job_state(job: &mut Job) -> JobState {
        let now: Timestamp = "2026-11-30T04:00:00.123Z".parse().unwrap();
        let progress = job.publish(0.5, None, now);
        JobState {
            job: job.id().clone(),
            position: Position {
                epoch: 3,
                seq: progress.seq,
            },
            is_final: progress.status.is_final(),
            payload: serde_json::to_vec(&progress).unwrap().into(),
            created_at: job.created_at(),
            started_at: job.stored_start(),
            ended_at: job.ended_at(),
            error_code: job.error().map(|error| error.code.as_str()),
            learned_from: job.end_source().map(|source| source.as_str()),
            output_urls: job.stored_outputs().into_iter().map(|it| it.url).collect(),
        }
    }

    fn job() -> Job {
        let now: Timestamp = "2026-11-30T03:00:00Z".parse().unwrap();
        let mut job = Job::new(JobId::parse("shot-12").unwrap(), now).on_backend("gpu:8188", "p");
        job.apply(Event::Started, now);
        let output = Output {
            node: "9".into(),
            kind: "images".into(),
            filename: "a\nb.png".into(),
            subfolder: String::new(),
            r#type: "output".into(),
            url: "http://gpu:8188/view?filename=a".into(),
            text: None,
            truncated: false,
        };
        job.apply(Event::Outputs(vec![output]), now);
        job
    }

    fn message(state: &JobState) -> Vec<u8> {
        let head = head(state, "relay-1").unwrap();
        [head.as_bytes(), b"\n", &state.payload].concat()
    }

    #[test]
    fn a_state_is_read_as_it_was_published() {
        let mut job = job();
        let state = job_state(&mut job);
        let received = read(&state.job, &message(&state)).unwrap();
        assert_eq!(received.payload, state.payload);
        let stored = received.stored;
        assert_eq!((stored.epoch, stored.seq), (3, state.position.seq));
        assert_eq!(stored.owner.as_deref(), Some("relay-1"));
        assert_eq!(stored.backend.as_deref(), Some("gpu:8188"));
        assert_eq!(stored.outputs, job.stored_outputs());
        assert_eq!(stored.created_at, job.created_at());
        let text = String::from_utf8(state.payload.to_vec()).unwrap();
        let copy = Job::stored(stored).progress(None, "2026-11-30T04:00:00.123Z".parse().unwrap());
        assert_eq!(copy.progress, 50, "{text}");
    }

    #[test]
    fn the_end_is_read_with_its_reason() {
        let mut job = job();
        let failure = crate::job::JobError::reported(Some("out of memory"));
        job.apply(Event::Closed(Outcome::Failed(failure)), job.created_at());
        let state = job_state(&mut job);
        assert!(state.is_final);
        let stored = read(&state.job, &message(&state)).unwrap().stored;
        assert_eq!(
            stored.error.as_ref().unwrap().0.as_deref(),
            Some("reported")
        );
        assert_eq!(Job::stored(stored).outcome(), job.outcome());
    }

    #[test]
    fn what_no_relay_sends_is_refused() {
        let state = job_state(&mut job());
        let good = String::from_utf8(message(&state)).unwrap();
        let other = JobId::parse("shot-13").unwrap();
        assert!(read(&other, good.as_bytes()).is_err());
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            read(&state.job, good.replacen(from, to, 1).as_bytes())
        };
        assert!(changed("progress\"", "progress\"").is_ok());
        for (from, to) in [
            ("\n", " "),
            ("\"progress\":50", "\"progress\":101"),
            ("\"progress\":50", "\"progress\":-1"),
            ("\"type\":\"progress\"", "\"type\":\"error\""),
            ("\"processing\"", "\"stuck\""),
            ("\"epoch\":3", "\"epoch\":18446744073709551615"),
            ("\"epoch\":3", "\"epoch\":\"3\""),
            (",\"output_urls\":[\"http://gpu:8188/view?filename=a\"]", ""),
            ("\"message\":\"", "\"message\":\"\u{1}"),
            ("\"type\"", "\n\"type\""),
            ("\"job_id\"", "\"labels\":{\"a b\":\"c\"},\"job_id\""),
        ] {
            assert!(changed(from, to).is_err(), "{from} as {to}");
        }
        let mut broken = good.clone().into_bytes();
        let at = good.find("gpu").unwrap();
        broken[at] = 0xff;
        assert!(read(&state.job, &broken).is_err());
        let large = vec![b' '; MAX_MESSAGE + 1];
        assert!(matches!(
            read_parts(&state.job, b"{}", &large),
            Err(MessageError::TooLarge(..))
        ));
    }

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..400, byte: u8) {
            let state = job_state(&mut job());
            let _ = read(&state.job, &bytes);
            let mut changed = message(&state);
            let at = at % changed.len();
            changed[at] = byte;
            let _ = read(&state.job, &changed);
        }
    }
}
