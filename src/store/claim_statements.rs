//! The statements that take a job which waits for one backend.
//!
//! SQL text, because diesel cannot say it: on PostgreSQL a claim is one statement that passes over a row which another relay
//! is just claiming. SQLite has one writer at a time, and no statement that changes two tables.

use super::names::Names;
use super::submission_state::{HANDED_IN, WAITING, WITHDRAWN};

/// The statements of claims. Their parameters: the backend, the job, the relay.
#[derive(Debug)]
pub(super) struct ClaimStatements {
    /// Claims a job that no other relay publishes.
    pub(super) own: Vec<String>,
    /// Claims a job whichever relay publishes it: this one does then. Each statement must find a row.
    pub(super) any: Vec<String>,
    /// As `any`, to cancel it.
    pub(super) withdraw: Vec<String>,
}

/// The columns of a submission, in any order.
const COLUMNS: &str = "job_key, state, place, priority, share, backend, prompt_id, attempt, retries, lost, digest, \
    retry_of, request, secrets";

/// The relay follows the backend.
const FOLLOWS: &str = "EXISTS (SELECT 1 FROM comfy_relay.leases l WHERE l.backend = $1 AND l.holder = $3 \
    AND l.held_until >= {now})";

/// No other relay publishes the job.
const IS_OWN: &str =
    "NOT EXISTS (SELECT 1 FROM comfy_relay.jobs j WHERE j.job_key = $2 AND j.owner <> $3)";

/// No backend has the job. Its row must show the prompt of the submission too: an older one has yet to be written by its owner.
const IS_OPEN: &str = "j.backend IS NULL AND j.status IN ('queued', 'processing')";

/// A change of the owner is a new epoch.
const OWN: &str = "epoch = epoch + CASE WHEN owner = $3 THEN 0 ELSE 1 END, owner = $3";

impl ClaimStatements {
    /// The statements for one database.
    pub(super) fn new(names: &Names) -> Self {
        let takes_over = match names {
            Names::Postgres(_) => Self::postgres,
            Names::Sqlite => Self::sqlite,
        };
        let texts = |texts: Vec<String>| {
            let named = |text: String| names.numbered(&text.replace("{now}", names.now()));
            texts.into_iter().map(named).collect()
        };
        Self {
            own: texts(vec![Self::own(names)]),
            any: texts(takes_over(HANDED_IN, FOLLOWS)),
            withdraw: texts(takes_over(WITHDRAWN, "true")),
        }
    }

    fn own(names: &Names) -> String {
        let lock = match names {
            Names::Postgres(_) => "FOR UPDATE SKIP LOCKED",
            Names::Sqlite => "",
        };
        format!(
            "UPDATE comfy_relay.submissions SET state = '{HANDED_IN}', backend = $1 WHERE job_key IN \
             (SELECT s.job_key FROM comfy_relay.submissions s WHERE s.job_key = $2 AND s.state = '{WAITING}' \
              AND {FOLLOWS} AND {IS_OWN} {lock}) RETURNING {COLUMNS}"
        )
    }

    fn postgres(state: &str, fence: &str) -> Vec<String> {
        vec![format!(
            "WITH waits AS (SELECT s.job_key, s.prompt_id FROM comfy_relay.submissions s \
                 WHERE s.job_key = $2 AND s.state = '{WAITING}' AND {fence} FOR UPDATE SKIP LOCKED), \
             taken AS (UPDATE comfy_relay.jobs AS j SET {OWN} FROM waits \
                 WHERE j.job_key = waits.job_key AND j.prompt_id = waits.prompt_id AND {IS_OPEN} \
                 RETURNING j.job_key) \
             UPDATE comfy_relay.submissions SET state = '{state}', backend = $1 \
                 WHERE job_key IN (SELECT job_key FROM taken) RETURNING {COLUMNS}"
        )]
    }

    fn sqlite(state: &str, fence: &str) -> Vec<String> {
        vec![
            format!(
                "UPDATE comfy_relay.jobs AS j SET {OWN} WHERE j.job_key = $2 AND {IS_OPEN} AND {fence} \
                 AND j.prompt_id = (SELECT s.prompt_id FROM comfy_relay.submissions s \
                     WHERE s.job_key = $2 AND s.state = '{WAITING}')"
            ),
            format!(
                "UPDATE comfy_relay.submissions SET state = '{state}', backend = $1 \
                 WHERE job_key = $2 AND {IS_OWN} RETURNING {COLUMNS}"
            ),
        ]
    }
}
