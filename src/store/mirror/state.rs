//! [`MirroredState`]: what a pipeline's table shows of a job.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::job::{Output, Status};
use crate::store::rows::{JobRecord, batch, timestamp};

/// A job's state, as the pipeline's table shows it.
#[derive(Debug, Clone)]
pub(in crate::store) struct MirroredState {
    pub(in crate::store) job_key: String,
    pub(in crate::store) status: Status,
    pub(in crate::store) output_path: Option<String>,
    pub(in crate::store) error_message: Option<String>,
    pub(in crate::store) created_at: Timestamp,
    pub(in crate::store) completed_at: Option<Timestamp>,
    pub(in crate::store) metadata: MirroredKeys,
}

/// The keys of `metadata` that the relay writes. All others are the pipeline's.
#[derive(Debug, Clone, Serialize)]
pub(in crate::store) struct MirroredKeys {
    pub(in crate::store) progress: i64,
    pub(in crate::store) estimated_remaining: Option<i64>,
    pub(in crate::store) last_updated: String,
    pub(in crate::store) outputs: Vec<Output>,
}

impl MirroredState {
    pub(in crate::store) fn of(record: &JobRecord) -> Self {
        let row = record.row(false);
        Self {
            job_key: row.job_key.to_owned(),
            status: row.status,
            output_path: row.output_path.map(without_nul),
            error_message: row.error_message.map(without_nul),
            created_at: record.created_at,
            completed_at: record.completed_at,
            metadata: MirroredKeys {
                progress: row.progress.into(),
                estimated_remaining: row.estimated_remaining,
                last_updated: timestamp(record.progress.timestamp),
                outputs: row.outputs.to_vec(),
            },
        }
    }

    /// The states that a trial writes: one in each status, and the first with an output and an error.
    pub(super) fn samples() -> impl Iterator<Item = Self> {
        Status::ALL.into_iter().map(|status| Self {
            job_key: String::new(),
            status,
            output_path: Some("a.png".to_owned()),
            error_message: Some("a".to_owned()),
            created_at: Timestamp::UNIX_EPOCH,
            completed_at: Some(Timestamp::UNIX_EPOCH),
            metadata: MirroredKeys {
                progress: 0,
                estimated_remaining: None,
                last_updated: timestamp(Timestamp::UNIX_EPOCH),
                outputs: Vec::new(),
            },
        })
    }
}

impl MirroredKeys {
    pub(super) fn json(&self) -> serde_json::Result<String> {
        batch(self)
    }

    /// The text of an object with these keys in place of its own of the same names; the others keep every byte of their
    /// values. `None` if the text is not an object.
    pub(super) fn merged_into(&self, text: Option<&str>) -> Option<String> {
        let text = text.map_or("{}", str::trim);
        let text = if text == "null" || text.is_empty() {
            "{}"
        } else {
            text
        };
        let mut keys: IndexMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
        let own: IndexMap<String, Box<RawValue>> = serde_json::from_str(&self.json().ok()?).ok()?;
        keys.extend(own);
        serde_json::to_string(&keys).ok()
    }
}

/// PostgreSQL's `text` cannot hold NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_keys_keep_every_byte() {
        let keys = MirroredKeys {
            progress: 75,
            estimated_remaining: Some(30),
            last_updated: "t".to_owned(),
            outputs: Vec::new(),
        };
        let text =
            r#" { "b": [1.50,  2], "progress": 3, "a": "\u00e4", "n": 12345678901234567890 } "#;
        assert_eq!(
            keys.merged_into(Some(text)).unwrap(),
            r#"{"b":[1.50,  2],"progress":75,"a":"\u00e4","n":12345678901234567890,"estimated_remaining":30,"last_updated":"t","outputs":[]}"#
        );
        for nothing in [None, Some("null"), Some("")] {
            assert!(
                keys.merged_into(nothing)
                    .unwrap()
                    .starts_with(r#"{"progress":75"#)
            );
        }
        for other in ["[1]", "7", "a note", "{"] {
            assert_eq!(keys.merged_into(Some(other)), None, "{other}");
        }
    }
}
