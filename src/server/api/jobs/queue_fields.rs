//! The fields of a submission that say how it waits in the relay's own queue.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Permissions;
use crate::job::Tags;
use crate::relay::BackendChoice;
use crate::server::api::backend_field::{BackendField, backend_choices};
use crate::server::error::ApiError;

/// The label that says for whom a job is, where waiting jobs are shared out fairly.
const FAIR_SHARE: &str = "fair_share";

/// How often a job may be handed in again, if a submission does not say.
pub(in crate::server::api) const DEFAULT_RETRIES: u32 = 1;

/// The highest priority, and the lowest one below zero.
const MAX_PRIORITY: i64 = 1_000_000;

/// How often a job is handed in again at most.
const MAX_RETRIES: u64 = 10;

/// The fields as the body has them.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
pub(in crate::server::api) struct QueueFields {
    #[schemars(with = "Option<BackendField>")]
    backend: Option<Value>,
    /// Jobs of a higher one are handed in first.
    #[schemars(with = "Option<i64>", range(min = -MAX_PRIORITY, max = MAX_PRIORITY))]
    priority: Option<Value>,
    /// How often it may run again after it is lost with its server.
    #[schemars(with = "Option<u64>", range(max = MAX_RETRIES))]
    retries: Option<Value>,
}

impl QueueFields {
    /// Their names.
    pub(in crate::server::api) const NAMES: [&str; 3] = ["backend", "priority", "retries"];

    /// The name of one that the body has, and that only a workflow takes.
    pub(in crate::server::api) fn given(&self) -> Option<&'static str> {
        let fields = [("priority", &self.priority), ("retries", &self.retries)];
        let mut given = fields.into_iter().filter(|(_, value)| value.is_some());
        given.next().map(|(name, _)| name)
    }

    /// The backends that may run it; none for all of them.
    pub(in crate::server::api) fn backends(&self) -> Result<Vec<BackendChoice>, ApiError> {
        backend_choices(self.backend.as_ref())
    }

    /// Jobs of a higher priority are handed in first.
    pub(in crate::server::api) fn priority(&self) -> Result<i64, ApiError> {
        Ok(self.given_priority()?.unwrap_or_default())
    }

    /// The same; `None` if the body does not say.
    pub(in crate::server::api) fn given_priority(&self) -> Result<Option<i64>, ApiError> {
        let Some(value) = &self.priority else {
            return Ok(None);
        };
        let priority = value.as_i64();
        let priority = priority.filter(|it| (-MAX_PRIORITY..=MAX_PRIORITY).contains(it));
        priority.map(Some).ok_or_else(|| {
            ApiError::bad_request(
                "bad_priority",
                format!("priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}"),
            )
        })
    }

    /// How often it may be handed in again after it is lost; `None` if it does not say.
    pub(in crate::server::api) fn retries(&self) -> Result<Option<u32>, ApiError> {
        let Some(value) = &self.retries else {
            return Ok(None);
        };
        let retries = value.as_u64().filter(|it| *it <= MAX_RETRIES);
        let retries = retries.and_then(|it| u32::try_from(it).ok());
        retries.map(Some).ok_or_else(|| {
            ApiError::bad_request(
                "bad_retries",
                format!("retries is a whole number from 0 to {MAX_RETRIES}"),
            )
        })
    }
}

/// For whom a job is, where waiting jobs are shared out fairly.
pub(in crate::server) fn share(tags: &Tags, permissions: &Permissions) -> Option<String> {
    let label = tags.labels.get(FAIR_SHARE).map(String::as_str);
    let share = label.or(permissions.sub().map(|sub| &**sub));
    share.map(str::to_owned)
}
